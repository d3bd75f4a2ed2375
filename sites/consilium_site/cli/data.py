"""`consilium-site data check` and `consilium-site phantom`: look at cases, or make some."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from consilium_site.imaging.catalogue import Catalogue

Folder = Annotated[Path, typer.Argument(help="Folder whose sub-folders are cases.", metavar="DIR")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    data = typer.Typer(help="Look at this site's cases.", no_args_is_help=True)
    data.command("check")(check)
    app.add_typer(data, name="data")
    app.command()(phantom)


def check(
    folder: Folder,
    labelled: Annotated[bool, typer.Option(help="Ask for a label map in every case.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read every case and say which can be used, and why others cannot. Nothing leaves the site.

    Exit code 0 if at least one case can be used, else 1.
    """
    import json as codec

    from rich.console import Console
    from rich.progress import Progress

    from consilium_site.imaging.catalogue import scan

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading cases", total=None)
        found = scan(
            folder,
            labelled=labelled,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if json:
        typer.echo(codec.dumps(_as_json(found)))
    else:
        _show(found)
    raise typer.Exit(0 if found.usable else 1)


def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write the cases into.")],
    site: Annotated[str, typer.Option(help="The site whose scanner and annotator are imitated.")],
    cases: Annotated[int, typer.Option(help="How many.", min=1)] = 12,
    size: Annotated[int, typer.Option(help="Voxels a side; always 192 mm.", min=32, max=240)] = 48,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal files.", min=0)] = 0,
) -> None:
    """Write brain-like MRI with tumours as BraTS folders: no person's data, made for trying things out."""
    from rich.console import Console
    from rich.progress import Progress

    from consilium_site.phantom.write import write_cases

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("writing cases", total=cases)
        folders = write_cases(
            out, site, cases, size, seed, progress=lambda done, _: bar.update(task, completed=done)
        )
    typer.echo(f"{len(folders)} cases in {out}")


def _as_json(found: Catalogue) -> dict[str, object]:
    return {
        "usable": [
            {"name": case.name, "patient": case.patient, "convention": case.convention.name}
            for case in found.usable
        ],
        "skipped": [
            {"name": each.name, "reason": each.reason, "detail": each.text} for each in found.skipped
        ],
        "counts": found.counts(),
    }


def _show(found: Catalogue) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from consilium.vocabulary import text_of

    table = Table("case", "state", "detail", title="Cases")
    for case in found.usable:
        table.add_row(escape(case.name), "[green]usable[/]", case.convention.name)
    for each in found.skipped:
        table.add_row(escape(each.name), f"[red]{text_of(each.reason)}[/]", escape(each.text))
    console = Console()
    console.print(table)
    console.print(f"{len(found.usable)} usable, {len(found.skipped)} skipped")
