"""`consilium simulate`: a study on this machine, without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(simulate)


def simulate(
    charter: Annotated[
        Path | None,
        typer.Argument(
            help="A charter; its keys are replaced. Default: the demo's.", dir_okay=False, exists=True
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="BraTS case folders, dealt to sites by institution.", file_okay=False, exists=True),
    ] = None,
    phantom: Annotated[
        int | None, typer.Option(help="Phantom cases a site (default 12); with --partition the mean.", min=1)
    ] = None,
    sites: Annotated[
        int | None, typer.Option(help="Number of sites (default: the charter's, or 4).", min=2, max=64)
    ] = None,
    partition: Annotated[
        Path | None,
        typer.Option(
            help="FeTS partitioning CSV: one site a partition, of its size.", dir_okay=False, exists=True
        ),
    ] = None,
    straggle: Annotated[
        float, typer.Option(help="Median extra seconds of a site; log-normal, fixed for each site.", min=0.0)
    ] = 0.0,
    rounds: Annotated[int | None, typer.Option(help="Rounds (default: the charter's).", min=1)] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Initial model file (default: drawn anew).", dir_okay=False, exists=True),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of phantoms, model and slowness.", min=0)] = 0,
    home: Annotated[
        Path | None, typer.Option(help="An empty folder for everything (default: a new one).")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the run's report here as JSON.")] = None,
) -> None:
    """Run a study with 2 to 64 simulated sites on this machine, through Flower's simulation runtime.

    Sites and aggregator run the code of a deployment; there is no network, portal or approval by people.
    """
    from rich.console import Console

    from consilium.demo.simulation import Options, Simulation

    options = Options(charter, data, phantom, sites, partition, straggle, rounds, model, seed, home, report)
    raise typer.Exit(Simulation(options, Console()).go())
