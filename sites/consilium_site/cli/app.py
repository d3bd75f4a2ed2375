"""The command tree of `consilium-site`. Command modules import only typer; work is imported when it runs."""

from __future__ import annotations

import typer

from consilium_site.cli import agent, budget, data, inbox, model, simulated

app = typer.Typer(
    name="consilium-site",
    help="The hospital's side: scans and keys stay here.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
agent.register(app)
inbox.register(app)
budget.register(app)
data.register(app)
model.register(app)
simulated.register(app)
