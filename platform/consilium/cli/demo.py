"""`consilium demo`: a whole consortium on this machine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer


class Unit(StrEnum):
    """The unit of privacy, or none."""

    NONE = "none"
    PATIENT = "patient"
    SITE = "site"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(demo)


Cases = Annotated[
    int | None, typer.Option(help="Phantom cases a hospital (default: 12; 40 with --privacy).", min=1)
]
Size = Annotated[
    int | None,
    typer.Option(help="Phantom side, voxels, a multiple of 8 (default: 48; 32 with --privacy).", min=32),
]
Backbone = Annotated[
    Path | None,
    typer.Option(
        help="Trained model to freeze, with --privacy (default: trained here on other phantoms).",
        dir_okay=False,
        exists=True,
    ),
]


def demo(
    home: Annotated[
        Path | None, typer.Option(help="An empty folder for everything (default: a new one).")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="BraTS case folders, grouped into hospitals by institution.", file_okay=False, exists=True
        ),
    ] = None,
    hospitals: Annotated[int, typer.Option(help="Number of hospitals.", min=2, max=8)] = 4,
    rounds: Annotated[
        int | None, typer.Option(help="Rounds (default: 8 on phantoms, 5 on real scans).", min=1)
    ] = None,
    cases: Cases = None,
    size: Size = None,
    privacy: Annotated[
        Unit, typer.Option(help="Whose part in the model gets a proven bound; trains a head only.")
    ] = Unit.NONE,
    epsilon: Annotated[
        float, typer.Option(help="The most ε that the run may spend, with --privacy.", min=0.1, max=100.0)
    ] = 8.0,
    backbone: Backbone = None,
    seed: Annotated[int, typer.Option(help="Seed of phantoms, model and training.", min=0)] = 0,
    port: Annotated[int, typer.Option(help="The portal's port.")] = 8501,
    headless: Annotated[
        bool, typer.Option(help="No portal; end by itself, 0 only if the run finished.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write the run's report here as JSON.")] = None,
) -> None:
    """Train one model across hospitals on this machine, through real Flower processes, and show it."""
    from rich.console import Console

    from consilium.demo.run import Demo, Options

    private: Literal["patient", "site"] | None = None
    if privacy is not Unit.NONE:
        private = "patient" if privacy is Unit.PATIENT else "site"
    options = Options(
        home=home,
        data=data,
        hospitals=hospitals,
        rounds=rounds,
        cases=cases or (40 if private else 12),
        size=size or (32 if private else 48),
        seed=seed,
        port=port,
        headless=headless,
        report=report,
        privacy=private,
        epsilon=epsilon,
        backbone=backbone,
    )
    raise typer.Exit(Demo(options, Console()).go())
