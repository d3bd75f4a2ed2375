"""`consilium-site init | vault | supernode | relay | up`: keys and processes of the site agent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from consilium_site.cli.options import HomeOption, site_home

SuperLink = Annotated[str, typer.Option(help="SuperLink's address, host:port.")]
RootCa = Annotated[Path, typer.Option("--ca", help="The consortium's CA certificate (PEM).", exists=True)]
RuntimePort = Annotated[
    int, typer.Option("--runtime-port", help="Loopback port of the SuperNode's Runtime API.")
]
DataDir = Annotated[
    Path, typer.Option("--data", help="Folder with BraTS-named cases.", file_okay=False, exists=True)
]
ApiUrl = Annotated[
    str | None,
    typer.Option("--api", envvar="CONSILIUM_API_URL", help="The control plane's address, https://…"),
]
TokenFile = Annotated[Path | None, typer.Option("--api-token", help="File with the API's bearer token.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads for training (default: all cores).")]
Stock = Annotated[
    bool,
    typer.Option(
        "--stock-executor", help="Use Flower's own executor, which runs what a FAB brings. Fallback only."
    ),
]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (init, vault, supernode, relay, up):
        app.command()(command)


def init(
    site: Annotated[str, typer.Option(help="Machine name: a–z, 0–9 and '-'.")],
    hospital: Annotated[str, typer.Option(help="The hospital's name for people.")] = "",
    home: HomeOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print the public bundle as JSON.")] = False,
) -> None:
    """Make this site's keys. They never leave it; the public bundle goes to the coordinator."""
    import dataclasses
    import json as codec
    import re

    from consilium.errors import InputError
    from consilium.services.certificates import make_authority, make_server
    from consilium_site.keys import make_keys

    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", site):
        raise InputError(f"--site {site!r}: use 1 to 40 of a–z, 0–9 and '-', not starting with '-'")
    where = site_home(home)
    bundle = make_keys(where, site, hospital or site)
    make_authority(where.tls, f"{site} runtime CA")
    make_server(where.tls, "runtime")
    if json:
        typer.echo(codec.dumps({**dataclasses.asdict(bundle), "fingerprint": bundle.fingerprint()}))
        return
    typer.echo(f"Site {site} is ready in {where.root}")
    typer.echo(f"Fingerprint, to compare with the coordinator by telephone: {bundle.fingerprint()}")
    typer.echo(
        f"Public keys for the coordinator:\n  identity  {bundle.identity}\n  node      {bundle.node_key}"
    )


def vault(data: DataDir, home: HomeOption = None, threads: Threads = None) -> None:
    """Run the vault: holds scans and keys, listens on Unix sockets, dials nobody."""
    from consilium_site.bootstrap import run_vault

    run_vault(site_home(home), data.absolute(), threads)


def supernode(
    superlink: SuperLink, ca: RootCa, runtime_port: RuntimePort = 9094, home: HomeOption = None
) -> None:
    """Run Flower's SuperNode: outbound HTTPS only, TLS and node authentication on."""
    from consilium_site.bootstrap import run_supernode

    run_supernode(site_home(home), superlink, ca.absolute(), runtime_port)


def relay(
    runtime_port: RuntimePort = 9094,
    home: HomeOption = None,
    api: ApiUrl = None,
    api_token: TokenFile = None,
    ca: Annotated[Path | None, typer.Option("--ca", help="CA of the control plane (PEM).")] = None,
    stock_executor: Stock = False,
) -> None:
    """Run the relay: carries messages between SuperNode, vault and control plane."""
    from consilium_site.bootstrap import run_relay

    run_relay(site_home(home), runtime_port, api, api_token, ca, stock=stock_executor)


def up(
    data: DataDir,
    superlink: SuperLink,
    ca: RootCa,
    home: HomeOption = None,
    api: ApiUrl = None,
    api_token: TokenFile = None,
    runtime_port: RuntimePort = 9094,
    threads: Threads = None,
) -> None:
    """Run vault, SuperNode and relay together and restart what ends: the headless site agent."""
    from consilium_site.bootstrap import run_up

    run_up(site_home(home), data.absolute(), superlink, ca.absolute(), runtime_port, api, api_token, threads)
