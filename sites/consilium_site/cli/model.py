"""`consilium-site new-model` and `consilium-site predict`: model files in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("new-model")(new_model)
    app.command()(pretrain)
    app.command()(predict)
    app.command()(membership)


def new_model(
    out: Annotated[Path, typer.Argument(help="The safetensors file to write.")],
    model: Annotated[str, typer.Option(help="A name from the registry: unet, segresnet.")] = "unet",
    arguments: Annotated[str, typer.Option(help="The network's arguments as a JSON object.")] = "{}",
    backbone: Annotated[
        Path | None,
        typer.Option(help="A trained model file: keep it frozen and draw a new head only.", dir_okay=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the initial parameters.", min=0)] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Draw initial parameters for a study; its charter fixes them by this file's hash."""
    import json as codec

    from consilium.errors import InputError
    from consilium.learning import networks
    from consilium.learning.parameters import read_model, write_model

    try:
        if backbone is not None:
            drawn = networks.new_head(read_model(backbone), seed)
        else:
            drawn = networks.new_model(model, codec.loads(arguments), seed)
    except ValueError as error:
        raise InputError(str(error)) from None
    out.parent.mkdir(parents=True, exist_ok=True)
    digest = write_model(out, drawn)
    told = {"model": drawn.name, "parameters": drawn.parameters.size, "frozen": drawn.frozen.size}
    if json:
        typer.echo(codec.dumps({**told, "sha256": digest}))
        return
    kept = f" to train over {drawn.frozen.size:,} frozen ones" if drawn.frozen.size else ""
    typer.echo(f"{out}: {drawn.name}, {drawn.parameters.size:,} parameters{kept}, SHA-256 {digest}")


def pretrain(
    data: Annotated[
        Path, typer.Argument(help="BraTS case folders that you may use freely.", file_okay=False)
    ],
    out: Annotated[Path, typer.Argument(help="The safetensors file to write.")],
    model: Annotated[str, typer.Option(help="A name from the registry: unet, segresnet.")] = "segresnet",
    arguments: Annotated[str, typer.Option(help="The network's arguments as a JSON object.")] = "{}",
    spacing: Annotated[float, typer.Option(help="Voxel size in mm, as in the study's charter.")] = 1.0,
    patch: Annotated[int, typer.Option(help="Patch side in voxels, a multiple of 8.", min=16)] = 96,
    batch: Annotated[int, typer.Option(help="Patches a step.", min=1)] = 2,
    steps: Annotated[int, typer.Option(help="Training steps.", min=1)] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of parameters and patches.", min=0)] = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads (default: torch's).", min=1)] = None,
) -> None:
    """Train a backbone for a private study on public cases; `new-model --backbone` makes its head."""
    import json as codec
    import tempfile

    import torch
    from rich.progress import Progress

    from consilium.learning.parameters import write_model
    from consilium_site import pretrain as room

    if threads is not None:
        torch.set_num_threads(threads)
    with Progress(transient=True) as shown, tempfile.TemporaryDirectory() as cache:
        task = shown.add_task("training the backbone", total=steps)
        trained = room.pretrain(
            *(data, Path(cache), model, codec.loads(arguments)),
            spacing_mm=spacing,
            patch=patch,
            batch=batch,
            steps=steps,
            seed=seed,
            progress=lambda done, total: shown.update(task, completed=done, total=total),
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    digest = write_model(out, trained)
    typer.echo(f"{out}: {model}, {trained.parameters.size:,} parameters, SHA-256 {digest}")


def predict(
    model: Annotated[Path, typer.Argument(help="A model file.")],
    case: Annotated[Path, typer.Argument(help="A BraTS-named case folder; no label map needed.")],
    out: Annotated[Path, typer.Argument(help="The NIfTI label map to write.")],
) -> None:
    """Outline the tumour of one case, on the case's own grid. Research use only, not for diagnosis."""
    from rich.console import Console

    from consilium_site.predict import predict_case

    with Console(stderr=True).status("outlining the tumour"):
        volumes = predict_case(model, case, out)
    typer.echo(f"{out}: " + ", ".join(f"{name} {value:.1f} ml" for name, value in volumes.items()))


def membership(
    model: Annotated[Path, typer.Argument(help="A finished model file.", dir_okay=False)],
    data: Annotated[Path, typer.Argument(help="This hospital's case folders.", file_okay=False)],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Test whether a finished model tells who trained it, by the losses of training and held-out patients."""
    import dataclasses
    import json as codec
    import tempfile

    from rich.console import Console

    from consilium.learning.parameters import read_model
    from consilium_site.membership import membership as attack

    with Console(stderr=True).status("comparing losses"), tempfile.TemporaryDirectory() as cache:
        found = attack(read_model(model), data, Path(cache))
    if json:
        typer.echo(codec.dumps(dataclasses.asdict(found)))
    else:
        typer.echo(
            f"AUC {found.auc:.3f} ({found.low:.3f}–{found.high:.3f} at 95 %) over {found.trained} patients "
            f"who trained and {found.held_out} who did not; 0.5 tells nothing"
        )
