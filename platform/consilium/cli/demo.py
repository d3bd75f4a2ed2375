"""`consilium demo`: a whole consortium on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(demo)


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
    cases: Annotated[int, typer.Option(help="Phantom cases a hospital.", min=1)] = 12,
    size: Annotated[int, typer.Option(help="Phantom side, voxels, a multiple of 8.", min=32)] = 48,
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

    options = Options(home, data, hospitals, rounds, cases, size, seed, port, headless, report)
    raise typer.Exit(Demo(options, Console()).go())
