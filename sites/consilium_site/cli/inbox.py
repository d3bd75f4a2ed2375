"""`consilium-site inbox | approve | refuse | status`: the site admin's word, given to the vault alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from consilium_site.cli.options import HomeOption, site_home

if TYPE_CHECKING:
    from consilium_site.home import SiteHome

CharterId = Annotated[
    str, typer.Argument(metavar="ID", help="The charter's id, or its first 6 characters or more.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (inbox, approve, refuse, status):
        app.command()(command)


def inbox(home: HomeOption = None, json: Json = False) -> None:
    """Charters that name this site, and what the site said to each."""
    import json as codec

    rows = _ask(site_home(home), "/inbox")
    if json:
        typer.echo(codec.dumps(rows))
        return
    if not rows:
        typer.echo("The inbox is empty: charters arrive through the relay when a study names this site.")
    for row in rows:
        _show(row)


def approve(charter: CharterId, home: HomeOption = None) -> None:
    """Allow exactly this charter: the site will train and send updates under it and no other."""
    _decide(site_home(home), charter, "approved")


def refuse(charter: CharterId, home: HomeOption = None) -> None:
    """Refuse this charter, or withdraw an approval: no further update leaves under it."""
    _decide(site_home(home), charter, "refused")


def status(home: HomeOption = None, json: Json = False) -> None:
    """What the vault is doing now."""
    import json as codec

    answer = _ask(site_home(home), "/status")
    if json:
        typer.echo(codec.dumps(answer))
        return
    refused = answer.pop("refused")
    for key, value in answer.items():
        typer.echo(f"{key.replace('_', ' '):<12} {'–' if value in (None, {}) else value}")
    for each in refused:
        typer.echo(f"refused      {each['at'][:19]}  {each['job']}: {each['reason']}")


def _ask(home: SiteHome, path: str, body: bytes | None = None) -> Any:
    from consilium_site.socket_client import VaultClient

    client = VaultClient(home.admin_socket)
    try:
        return client.get(path) if body is None else client.post(path, body)
    finally:
        client.close()


def _decide(home: SiteHome, prefix: str, decision: str) -> None:
    import datetime

    from consilium.contracts.messages import SiteDecision
    from consilium.errors import InputError
    from consilium_site.keys import read_bundle

    rows = _ask(home, "/inbox")
    matches = [row for row in rows if len(prefix) >= 6 and row["id"].startswith(prefix)]
    if len(matches) != 1:
        raise InputError(
            f"charter {prefix!r}: {len(matches)} charters in the inbox start so; "
            "give 6 characters or more of one that `consilium-site inbox` lists"
        )
    _show(matches[0], brief=True)
    asked = matches[0]["charter"]["privacy"]
    if decision == "approved" and asked["mechanism"] != "none":
        _tell_budget(home, asked)
    body = SiteDecision.model_validate(
        {
            "site": read_bundle(home).site,
            "charter": matches[0]["id"],
            "decision": decision,
            "at": datetime.datetime.now(datetime.UTC).isoformat(),
        }
    )
    _ask(home, "/decisions", body.canonical())
    typer.echo(f"{decision}: {matches[0]['charter']['title']} ({matches[0]['id'][:12]})")


def _promise(privacy: dict[str, Any]) -> str:
    """What the charter proves of one patient, in a line."""
    if privacy["mechanism"] == "none":
        return "none: no proven bound on what one patient adds"
    who = "patient (all scans of one person here)" if privacy["unit"] == "patient" else "site, not patient"
    return (
        f"ε ≤ {privacy['epsilon']:g} at δ {privacy['delta']:g} over the run, {privacy['mechanism']} noise; "
        f"unit: {who}"
    )


def _tell_budget(home: SiteHome, asked: dict[str, Any]) -> None:
    from consilium_site.cli.budget import ask_budget

    left = ask_budget(home)["left"]
    typer.echo(
        f"  budget    the study may spend ε {asked['epsilon']:g}, δ {asked['delta']:g}; patients here have "
        f"ε {left['epsilon']:.2f}, δ {left['delta']:g} left"
    )
    if asked["epsilon"] > left["epsilon"] or asked["delta"] > left["delta"]:
        typer.echo(
            "            the vault will refuse rounds that would spend more: see `consilium-site budget`"
        )


def _show(row: dict[str, Any], *, brief: bool = False) -> None:
    charter = row["charter"]
    typer.echo(f"{row['id'][:12]}  {row['decision']:<9} {charter['title']}")
    if brief:
        return
    training, rounds = charter["training"], charter["rounds"]
    masked = charter["secure_aggregation"]["masked"]
    typer.echo(f"  purpose   {charter['purpose']}")
    typer.echo(f"  model     {charter['model']['name']}, {charter['model']['parameters']:,} parameters")
    typer.echo(
        f"  work      {rounds['count']} rounds of {training['steps']} steps, batch {training['batch']}"
    )
    typer.echo(f"  with      {', '.join(member['hospital'] for member in charter['roster'])}")
    updates = (
        "masked: the aggregator learns their sum only" if masked else "reach the aggregator in the clear"
    )
    typer.echo(f"  updates   {updates}")
    typer.echo(f"  privacy   {_promise(charter['privacy'])}")
    shared = charter["release"]["site_metrics"]
    typer.echo(
        f"  metrics   this site's own Dice is {'shared with the consortium' if shared else 'not shared'}"
    )
    typer.echo(
        f"  decide    consilium-site approve {row['id'][:12]}  |  consilium-site refuse {row['id'][:12]}"
    )
