"""The command tree of `consilium`. Command modules import only typer; work is imported when it runs."""

from __future__ import annotations

import typer

from consilium.cli import audit, demo, privacy, serve, simulate, study

app = typer.Typer(
    name="consilium",
    help="Train one brain-tumour model across hospitals; no scan leaves home.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
demo.register(app)
simulate.register(app)
serve.register(app)
app.add_typer(study.app, name="study", help="Create, launch, watch and stop studies.")
audit.register(privacy.app)
app.add_typer(privacy.app, name="privacy", help="Plan and audit a study's differential privacy.")
