"""`consilium-site budget`: what patients have spent, and the ceiling that the site admin sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from consilium_site.cli.options import HomeOption, site_home

if TYPE_CHECKING:
    from consilium_site.home import SiteHome

WIDTH = 30


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(budget)


def budget(
    home: HomeOption = None,
    ceiling: Annotated[
        float | None, typer.Option(help="Set the most ε that all studies together may spend of a patient.")
    ] = None,
    delta: Annotated[float | None, typer.Option(help="Set the most δ, likewise.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the privacy budget of this site's patients; set its ceiling.

    The vault refuses a round that would spend more of any patient than the ceiling, whatever the study says.
    What is spent is never given back. Studies without a privacy mechanism spend nothing and prove nothing.
    """
    import json as codec

    told = ask_budget(site_home(home), ceiling, delta)
    if json:
        typer.echo(codec.dumps(told))
        return
    limit, highest = told["ceiling"], told["highest"]
    typer.echo(f"ceiling   ε {limit['epsilon']:g}, δ {limit['delta']:g} for one patient over all studies")
    typer.echo(f"spent     {_bar(highest['epsilon'], limit['epsilon'])} by the patient who has spent most")
    typer.echo(f"          δ {highest['delta']:g}")
    left = told["left"]
    typer.echo(f"left      ε {left['epsilon']:.2f}, δ {left['delta']:g} for a new study")
    if not told["studies"]:
        typer.echo("No study has spent anything yet.")
    for study in told["studies"]:
        typer.echo(
            f"  {study['charter'][:12]}  ε {study['epsilon']:.2f} of {study['reserved']:.2f} reserved, "
            f"{study['rounds']} rounds, {study['evaluations']} evaluations, {study['patients']} patients  "
            f"{study['title']}"
        )


def ask_budget(home: SiteHome, ceiling: float | None = None, delta: float | None = None) -> dict[str, Any]:
    """The vault's word on its budget, after setting what is given of its ceiling."""
    import json as codec

    from consilium_site.socket_client import VaultClient

    client = VaultClient(home.admin_socket)
    try:
        told: dict[str, Any] = client.get("/budget")
        if ceiling is None and delta is None:
            return told
        wanted = {
            "epsilon": told["ceiling"]["epsilon"] if ceiling is None else ceiling,
            "delta": told["ceiling"]["delta"] if delta is None else delta,
        }
        answer: dict[str, Any] = client.post("/budget", codec.dumps(wanted).encode())
        return answer
    finally:
        client.close()


def _bar(value: float, limit: float) -> str:
    """`ε 5.2 of 8 ████████░░░░`."""
    filled = round(WIDTH * min(1.0, value / limit)) if limit else WIDTH
    return f"ε {value:.2f} of {limit:g}  {'█' * filled}{'░' * (WIDTH - filled)}"
