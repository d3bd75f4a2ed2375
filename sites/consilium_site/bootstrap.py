"""Chooses the real things and starts a process of the site. The one place that wires the rooms together."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from consilium.contracts.charter import Charter
from consilium.errors import InputError
from consilium_site.home import SiteHome
from consilium_site.keys import read_bundle, read_identity
from consilium_site.workbench import ToyWorkbench, Workbench


def workbenches(site: str, data: Path, cache: Path, threads: int | None) -> Callable[[Charter], Workbench]:
    """What opens a site's data for a charter: MONAI, or numpy for the toy model. Imports torch only then."""

    def open_data(charter: Charter) -> Workbench:
        if charter.model.name == "toy":
            return ToyWorkbench(charter, site, data)
        from consilium_site.training import MonaiWorkbench

        return MonaiWorkbench(charter, data, cache, threads)

    return open_data


def run_vault(home: SiteHome, data: Path, threads: int | None) -> None:
    """Serve the vault until it is told to stop. Refuses to start without keys."""
    from consilium_site.job import Jobs
    from consilium_site.ledger import Ledger
    from consilium_site.vault import Vault, serve

    _log_to_stderr()
    bundle, key = read_bundle(home), read_identity(home)

    ledger = Ledger(home.database)
    benches = workbenches(bundle.site, data, home.cache, threads)
    vault = Vault(Jobs(home, bundle.site, key, ledger, benches))
    threading.Thread(target=vault.prepare_approved, daemon=True).start()
    serve(vault, home.vault_socket, home.admin_socket, lambda: print("vault ready", flush=True))
    ledger.close()


def run_supernode(home: SiteHome, superlink: str, ca: Path, runtime_port: int) -> None:
    """Run the SuperNode in this process, with FLWR_HOME of its own."""
    import os

    from consilium.flower import supernode
    from consilium.flower.processes import Tls, environment, supernode_arguments

    os.environ.update(environment(home.flower))
    runtime = Tls(home.tls / "ca.pem", home.tls / "runtime.pem", home.tls / "runtime.key")
    supernode.run(
        supernode_arguments(
            superlink=superlink,
            root_ca=ca,
            node_key=home.node_key,
            runtime_port=runtime_port,
            runtime_tls=runtime,
            secret=home.runtime_secret,
        )
    )


def run_relay(
    home: SiteHome, runtime_port: int, api: str | None, token: Path | None, ca: Path | None, *, stock: bool
) -> None:
    """Run the relay; with `api` it also carries heartbeats, charters and decisions."""
    from consilium.services.client import ApiClient
    from consilium_site import relay

    _log_to_stderr()
    client = None
    if api is not None:
        if token is None or ca is None:
            raise InputError("relay: --api needs --api-token FILE and --ca FILE as well")
        client = ApiClient(api, token.read_text().strip(), ca)
    runtime = relay.RuntimeApi(f"127.0.0.1:{runtime_port}", home.tls / "ca.pem", home.runtime_secret)
    relay.run(runtime, home.vault_socket, client, stock=stock)


def run_up(
    home: SiteHome,
    data: Path,
    superlink: str,
    ca: Path,
    runtime_port: int,
    api: str | None,
    token: Path | None,
    threads: int | None,
) -> None:
    """Start vault, SuperNode and relay, restart what ends, stop all three on SIGTERM or Ctrl-C."""
    from consilium.services.supervision import Child, stop_on_signals, supervise

    read_bundle(home)
    program = [str(Path(sys.executable).parent / "consilium-site")]
    at, port = ["--home", str(home.root)], ["--runtime-port", str(runtime_port)]
    connection = ["--superlink", superlink, "--ca", str(ca)]
    control = ["--api", api, "--api-token", str(token), "--ca", str(ca)] if api else []
    workers = ["--threads", str(threads)] if threads else []
    children = [
        Child("vault", [*program, "vault", *at, "--data", str(data), *workers], home.logs / "vault.log"),
        Child("supernode", [*program, "supernode", *at, *port, *connection], home.logs / "supernode.log"),
        Child("relay", [*program, "relay", *at, *port, *control], home.logs / "relay.log"),
    ]
    stop = stop_on_signals()
    for child in children:
        child.start()
    print(f"site agent up: vault, SuperNode and relay; logs in {home.logs}", flush=True)
    supervise(children, stop.is_set, lambda text: print(text, flush=True))


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
