"""A whole consortium on one machine, as real processes: SuperLink, API, portal and site agents.

Everything is started as a console script, with TLS and node authentication, on loopback. The demo and
the deployed tests use the same class.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from consilium.contracts.api import NewSite
from consilium.contracts.home import Home
from consilium.demo.hospitals import Hospital
from consilium.errors import ProcessFailed
from consilium.flower.processes import (
    BIN,
    Tls,
    environment,
    register_node,
    superlink_command,
    write_connection,
)
from consilium.services.certificates import make_authority, make_server
from consilium.services.client import ApiClient
from consilium.services.supervision import Child, free_ports, listens, wait_until

START_SECONDS = 90.0
Told = Callable[[str], None]


@dataclass
class Consortium:
    """Processes of one consortium in `home`. `start` brings all up, `stop` ends all it started.

    `portal_port` None starts no portal. `threads` is each vault's share of the cores.
    """

    home: Home
    hospitals: Sequence[Hospital]
    portal_port: int | None = None
    threads: int = 1
    told: Told = print
    children: dict[str, Child] = field(default_factory=dict)
    bundles: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.superlink_port, self.api_port, *self.runtime_ports = free_ports(2 + len(self.hospitals))
        self.api_url = f"https://127.0.0.1:{self.api_port}"

    def start(self) -> None:
        """Bring everything up and wait until it answers.

        Raises:
            ProcessFailed: a process ended or was not ready in time; everything is stopped again.
        """
        try:
            self.told("making keys and certificates")
            self._make_tls()
            self._start_coordinator()
            self._make_sites()
            self._register_sites()
            self.told("starting the hospitals' agents")
            for hospital, port in zip(self.hospitals, self.runtime_ports, strict=True):
                self._start_agent(hospital, port)
            if self.portal_port is not None:
                self._start_portal(self.portal_port)
            wait_until(self._all_online, "every hospital's first heartbeat", START_SECONDS, self._all())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all processes, agents first; safe to call twice."""
        children = list(reversed(self.children.values()))
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(lambda child: child.stop(), children))

    def client(self) -> ApiClient:
        """A client of this consortium's API."""
        return ApiClient(self.api_url, self.home.token.read_text().strip(), self.home.tls / "ca.pem")

    def site(self, site: str, *arguments: str) -> str:
        """Run `consilium-site ARGUMENTS` for one site and return what it printed."""
        return run_script(
            "consilium-site",
            *arguments,
            environment={**os.environ, "CONSILIUM_SITE_HOME": str(self.home.site(site))},
        )

    def _make_tls(self) -> None:
        make_authority(self.home.tls)
        certificate, key = make_server(self.home.tls, "server")
        self.tls = Tls(self.home.tls / "ca.pem", certificate, key)
        write_connection(self.home.flower_home, f"127.0.0.1:{self.superlink_port}", self.tls.ca)

    def _start_coordinator(self) -> None:
        shared = {"CONSILIUM_HOME": str(self.home.root), "CONSILIUM_API_URL": self.api_url}
        self._start(
            "superlink",
            superlink_command(self.tls, self.home.flower / "superlink.db", self.superlink_port),
            environment(self.home.flower_home, **shared),
        )
        tls = ["--tls-cert", str(self.tls.certificate), "--tls-key", str(self.tls.key)]
        self._start(
            "api",
            [str(BIN / "consilium"), "api", "--port", str(self.api_port), *tls],
            environment(self.home.flower_home, **shared),
        )
        wait_until(
            lambda: listens(self.superlink_port) and listens(self.api_port),
            "SuperLink and API",
            START_SECONDS,
            self._all(),
        )

    def _make_sites(self) -> None:
        def make(hospital: Hospital) -> None:
            if not (self.home.site(hospital.site) / "site.json").exists():
                text = self.site(
                    hospital.site, "init", "--site", hospital.site, "--hospital", hospital.title, "--json"
                )
                self.bundles[hospital.site] = json.loads(text)

        with ThreadPoolExecutor(max_workers=2) as pool:
            list(pool.map(make, self.hospitals))

    def _register_sites(self) -> None:
        self.told("registering the hospitals' keys")

        def register(hospital: Hospital) -> NewSite:
            public = self.home.site(hospital.site) / "supernode" / "node.pub"
            node = register_node(self.home.flower_home, public, hospital.site)
            bundle = self.bundles[hospital.site]
            return NewSite(
                site=hospital.site,
                hospital=hospital.title,
                identity=bundle["identity"],
                node_key=bundle["node_key"],
                node_id=node,
            )

        with ThreadPoolExecutor(max_workers=2) as pool:
            sites = list(pool.map(register, self.hospitals))
        client = self.client()
        for site in sites:
            client.add_site(site)
        client.close()

    def _start_agent(self, hospital: Hospital, runtime_port: int) -> None:
        home = self.home.site(hospital.site)
        command = [
            str(BIN / "consilium-site"),
            "up",
            *("--home", str(home)),
            *("--data", str(hospital.data)),
            *("--superlink", f"127.0.0.1:{self.superlink_port}"),
            *("--ca", str(self.tls.ca)),
            *("--api", self.api_url),
            *("--api-token", str(self.home.token)),
            *("--runtime-port", str(runtime_port)),
            *("--threads", str(self.threads)),
        ]
        threads = str(self.threads)
        extra = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        self._start(hospital.site, command, environment(home / "supernode" / "flower", **extra))

    def _start_portal(self, port: int) -> None:
        shared = {"CONSILIUM_HOME": str(self.home.root), "CONSILIUM_API_URL": self.api_url}
        self._start(
            "portal", [str(BIN / "consilium"), "portal", "--port", str(port)], {**os.environ, **shared}
        )

    def _start(self, name: str, command: Sequence[str], variables: dict[str, str]) -> None:
        child = Child(name, command, self.home.logs / f"{name}.log", variables)
        self.children[name] = child
        child.start()

    def _all(self) -> list[Child]:
        return list(self.children.values())

    def _all_online(self) -> bool:
        client = self.client()
        try:
            return all(site.online for site in client.sites())
        finally:
            client.close()


def run_script(
    name: str, *arguments: str, environment: dict[str, str] | None = None, seconds: float = 300.0
) -> str:
    """Run one of our console scripts beside this Python; returns its standard output.

    Raises:
        ProcessFailed: it failed, or took longer than `seconds`; carries what it said on standard error.
    """
    script = Path(sys.executable).parent / name
    try:
        done = subprocess.run(
            [str(script), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProcessFailed(f"{name} {arguments[0]}: not done after {seconds:.0f} s") from None
    if done.returncode != 0:
        raise ProcessFailed(f"{name} {arguments[0]}: {done.stderr.strip()[-500:]}")
    return done.stdout
