"""`consilium study`: create, launch, watch and stop studies over the API."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True)


@app.callback()
def study() -> None:
    """Create, launch, watch and stop studies."""
