"""`consilium-site simulated`: the sites of a simulation, with keys and phantom cases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

PART = 8
"""Phantom cases written in one go."""


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(simulated)


def simulated(
    plan: Annotated[Path, typer.Argument(help='JSON: {"site": {"hospital", "cases", "size", "seed"}}.')],
    sites: Annotated[Path, typer.Argument(help="Folder that gets one home a site.")],
) -> None:
    """Make the sites of a simulation: keys and phantom cases (none where a plan's cases are 0).

    `consilium simulate` calls this. Prints each site's public identity key as JSON.
    """
    import json
    import os
    from concurrent.futures import ProcessPoolExecutor

    from rich.console import Console
    from rich.progress import Progress

    from consilium_site.home import SiteHome
    from consilium_site.keys import make_keys

    entries: dict[str, Any] = json.loads(plan.read_text())
    identities = {
        site: make_keys(SiteHome(sites / site), site, str(entry["hospital"])).identity
        for site, entry in entries.items()
    }
    parts = [part for site, entry in entries.items() for part in _parts(sites, site, entry)]
    with (
        Progress(console=Console(stderr=True), transient=True) as bar,
        ProcessPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool,
    ):
        task = bar.add_task("writing phantom cases", total=sum(part.cases for part in parts) or None)
        for count in pool.map(_write, parts):
            bar.advance(task, count)
    typer.echo(json.dumps(identities))


@dataclass(frozen=True)
class _Part:
    """A share of one site's phantom cases, small enough to move a progress bar."""

    folder: Path
    site: str
    first: int
    cases: int
    size: int
    seed: int


def _parts(sites: Path, site: str, entry: dict[str, Any]) -> list[_Part]:
    cases = int(entry["cases"])
    return [
        _Part(
            sites / site / "data",
            site,
            first,
            min(PART, cases - first + 1),
            int(entry["size"]),
            int(entry["seed"]),
        )
        for first in range(1, cases + 1, PART)
    ]


def _write(part: _Part) -> int:
    from consilium_site.phantom.write import write_cases

    write_cases(part.folder, part.site, part.cases, part.size, part.seed, first=part.first)
    return part.cases
