"""`consilium privacy audit`: attacks a charter's privacy, and puts what it finds beside the claim."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from consilium.privacy.audit import Audit


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(audit)


def audit(
    charter: Annotated[Path, typer.Argument(help="The charter as JSON.", dir_okay=False, exists=True)],
    canaries: Annotated[
        int, typer.Option(help="Made-up patients; more can certify a larger ε.", min=10, max=5000)
    ] = 1000,
    rounds: Annotated[
        int | None, typer.Option(help="Audit the first so many rounds (default: all).", min=1)
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            help="A finished model, to test membership of --data in it.", dir_okay=False, exists=True
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A hospital's own case folders, with --model.", file_okay=False, exists=True),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="A run's report: the audited ε is written beside its claim.", dir_okay=False, exists=True
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Plant canaries into the charter's mechanism, guess who was in, and print the ε that this proves.

    Clipping, rounding, noise and sampling are the code that vaults run. With --model and --data, run at a
    hospital, also asks whether the finished model tells who trained it. An audit finds bugs; the proof is
    the accountant's.
    """
    import dataclasses
    import json as codec

    from rich.console import Console

    from consilium.contracts.charter import read_charter
    from consilium.errors import InputError
    from consilium.privacy.audit import audit as attack
    from consilium.privacy.noise import private_stream

    plan = read_charter(charter.read_bytes(), str(charter)).plan
    if plan is None:
        raise InputError(f"{charter}: its privacy.mechanism is 'none': there is no claim to audit")
    if (model is None) != (data is None):
        raise InputError("--model and --data belong together: a finished model, and cases to look for in it")
    try:
        with Console(stderr=True).status("planting canaries"):
            found = attack(plan, canaries, private_stream(), rounds=rounds)
    except ValueError as error:
        raise InputError(str(error)) from None
    members = _membership(model, data) if model is not None and data is not None else None
    if report is not None:
        _note(report, found)
    if json:
        typer.echo(codec.dumps({**dataclasses.asdict(found), "membership": members}))
    else:
        _print(found, plan.delta, members)
    raise typer.Exit(1 if found.lower_bound > found.claimed else 0)


def _membership(model: Path, data: Path) -> dict[str, Any]:
    """What the hospital's own program says: only it opens a scan."""
    import json as codec

    from consilium.demo.consortium import run_script

    told: dict[str, Any] = codec.loads(
        run_script("consilium-site", "membership", str(model), str(data), "--json", seconds=3600.0)
    )
    return told


def _note(report: Path, found: Audit) -> None:
    """Write the audited bound into a report's privacy part."""
    from consilium.contracts.reports import RunReport
    from consilium.errors import InputError
    from consilium.files import write_atomic

    told = RunReport.parse(report.read_bytes(), str(report))
    if told.privacy is None:
        raise InputError(f"{report}: its run promised no privacy; name the report of a run of this charter")
    audited = {"audited": found.lower_bound, "certifiable": found.certifiable}
    told = told.model_copy(update={"privacy": told.privacy.model_copy(update=audited)})
    write_atomic(report.absolute(), told.model_dump_json(indent=2).encode())


def _print(found: Audit, delta: float, members: dict[str, Any] | None) -> None:
    typer.echo(f"claimed    ε {found.claimed:.2f} at δ {delta:g} after {found.rounds} rounds")
    typer.echo(
        f"audited    ε ≥ {found.lower_bound:.2f} at 95 %: {found.right} of {found.guesses} guesses right, "
        f"{found.canaries} canaries"
    )
    typer.echo(f"           so many canaries can show ε {found.certifiable:.2f} at most")
    refuted = found.lower_bound > found.claimed
    typer.echo("verdict    " + ("REFUTED: a bug in clip, noise or accounting" if refuted else "not refuted"))
    if members is not None:
        typer.echo(
            f"membership AUC {members['auc']:.3f} ({members['low']:.3f}–{members['high']:.3f} at 95 %) over "
            f"{members['trained']} patients who trained, {members['held_out']} who did not; 0.5 tells nothing"
        )
