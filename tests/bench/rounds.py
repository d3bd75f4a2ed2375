"""Whole rounds through real processes: ours and Flower's own FedAvg on the same job, deployed and simulated.

5M parameters, four sites, no training. A round is the time from its opening to the next one's opening.
"""

from __future__ import annotations

import datetime
import json
import re
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from common import Row, peak_mb
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from consilium.contracts.home import Home
from consilium.contracts.reports import RoundOpened, SiteAnswered
from consilium.demo.consortium import Consortium
from consilium.demo.hospitals import Hospital
from consilium.flower.processes import (
    BIN,
    CONNECTION,
    Simulated,
    Tls,
    environment,
    flwr_json,
    register_node,
    superlink_command,
    supernode_arguments,
    write_connection,
)
from consilium.services.certificates import make_authority, make_server
from consilium.services.folder import read_journal
from consilium.services.supervision import Child, descendants, free_ports, listens, wait_until
from deployment import Deployed, toy_hospitals
from support import SITES, toy_charter

SIZE = 5_000_000
FIRST = 3
"""Rounds before this one warm up."""
PARTS = ("waiting", "process start", "transfer", "our own work")


@dataclass
class Figures:
    """What one way of running rounds showed."""

    seconds: float
    server_mb: float = 0.0
    superlink_mb: float = 0.0
    split: dict[str, float] = field(default_factory=dict)


class StockConsortium(Consortium):
    """Our vault behind Flower's own SuperNode and executor: polls every 3 s, a process for each message."""

    def _start_agent(self, hospital: Hospital, runtime_port: int) -> None:
        home = self.home.site(hospital.site)
        at = ["--home", str(home)]
        variables = environment(home / "supernode" / "flower", OMP_NUM_THREADS="1")
        runtime = Tls(home / "tls" / "ca.pem", home / "tls" / "runtime.pem", home / "tls" / "runtime.key")
        supernode = supernode_arguments(
            superlink=f"127.0.0.1:{self.superlink_port}",
            root_ca=self.tls.ca,
            node_key=home / "supernode" / "node.key",
            runtime_port=runtime_port,
            runtime_tls=runtime,
            secret=home / "supernode" / "runtime.secret",
        )
        control = ["--api", self.api_url, "--api-token", str(self.home.token), "--ca", str(self.tls.ca)]
        relay = ["relay", *at, "--runtime-port", str(runtime_port), *control, "--stock-executor"]
        ours = str(BIN / "consilium-site")
        commands = {
            "vault": [ours, "vault", *at, "--data", str(hospital.data), "--threads", "1"],
            "supernode": [str(BIN / "flower-supernode"), *supernode],
            "relay": [ours, *relay],
        }
        for name, command in commands.items():
            child = Child(f"{hospital.site}-{name}", command, home / "logs" / f"{name}.log", variables)
            self.children[child.name] = child
            child.start()


def deployed(rounds: int, kind: type[Consortium] = Consortium, *, masked: bool = False) -> Figures:
    """Ours, deployed: SuperLink, API, four site agents, TLS, node authentication, approvals."""
    with tempfile.TemporaryDirectory(prefix="consilium-bench-") as name:
        home = Home(Path(name))
        consortium = kind(home, toy_hospitals(home.root), told=lambda _: None)
        consortium.start()
        try:
            running = Deployed(consortium, consortium.client())
            charter = running.study("bench", size=SIZE, rounds=rounds, deadline=300.0, masked=masked)
            with watching(consortium.children["superlink"], "flwr-serverapp") as peaks:
                run = running.client.launch(charter.id).run
                detail = running.finish(run, 60.0 + 30.0 * rounds)
            assert detail.run.status == "finished", detail.run
            running.client.close()
        finally:
            consortium.stop()
        logs = {site: home.site(site) / "logs" / "relay.log" for site in SITES}
        return figures_of(home.run(run), logs, peaks)


def figures_of(folder: Path, relay_logs: dict[str, Path], peaks: dict[str, float]) -> Figures:
    """Median round and where its seconds went, along the site that answered last."""
    events = read_journal(folder)
    opened = {each.event.round: _epoch(each.at) for each in events if isinstance(each.event, RoundOpened)}
    last = {e.event.round: e.event for e in events if isinstance(e.event, SiteAnswered)}
    timings = {
        row["round"]: row for row in map(json.loads, (folder / "timings.jsonl").read_text().splitlines())
    }
    stamps = {site: _stamps(log) for site, log in relay_logs.items() if log.exists()}
    final = max(opened)
    wholes, splits = [], []
    for number in range(FIRST, final):
        whole = opened[number + 1] - opened[number]
        wholes.append(whole)
        timing, answered = timings[number], last[number]
        mine = [
            row for row in stamps.get(answered.site, []) if opened[number] < row["taken"] < opened[number + 1]
        ]
        if mine:
            splits.append({**_split(timing, mine[0], answered.seconds), "whole": whole})
    split = {key: statistics.median(row[key] for row in splits) for key in splits[0]} if splits else {}
    return Figures(statistics.median(wholes), peaks.get("server", 0.0), peaks.get("superlink", 0.0), split)


def _split(timing: dict[str, float], stamp: dict[str, float], answered: float) -> dict[str, float]:
    """Seconds by part. Every part is a difference of its own clock readings; none is what is left over.

    Sending counts whole, although other sites' orders travel while the first works: the sum may exceed.
    """
    sent = timing["started"] + timing["opening"] + timing["sending"]
    received = timing["started"] + answered
    per_answer = timing["receiving"] / len(SITES)
    adding = timing["adding"] / len(SITES)
    up = max(0.0, received - adding - stamp["pushed"])
    return {
        "waiting": max(0.0, stamp["taken"] - sent) + max(0.0, up - per_answer),
        "process start": 0.0,
        "transfer": timing["sending"]
        + (stamp["pulled"] - stamp["taken"])
        + (stamp["pushed"] - stamp["answered"])
        + min(up, per_answer),
        "our own work": timing["opening"]
        + (stamp["answered"] - stamp["pulled"])
        + adding
        + timing["closing"],
    }


def _stamps(log: Path) -> list[dict[str, float]]:
    """What the relay wrote of each task."""
    found = re.findall(
        r"taken ([\d.]+), pulled ([\d.]+), answered ([\d.]+), pushed ([\d.]+)",
        log.read_text(errors="replace"),
    )
    names = ("taken", "pulled", "answered", "pushed")
    return [dict(zip(names, map(float, row), strict=True)) for row in found]


def _epoch(at: str) -> float:
    return datetime.datetime.fromisoformat(at).timestamp()


def plain_deployed(rounds: int) -> Figures:
    """Flower's own FedAvg: SuperLink and four stock SuperNodes, TLS and node authentication."""
    with tempfile.TemporaryDirectory(prefix="flower-bench-") as name:
        home = Home(Path(name))
        superlink, tls, port = flower_superlink(home, None)
        children = [superlink]
        try:
            for number in range(4):
                folder = home.root / f"node{number}"
                key = node_key(folder)
                register_node(home.flower_home, key.with_suffix(".pub"), f"node{number}")
                (runtime,) = free_ports(1)
                command = [
                    str(BIN / "flower-supernode"),
                    *("--superlink", f"127.0.0.1:{port}", "--root-certificates", str(tls.ca)),
                    *("--auth-supernode-private-key", str(key)),
                    *("--host", "127.0.0.1", "--port", str(runtime)),
                    *("--ssl-certfile", str(tls.certificate), "--ssl-keyfile", str(tls.key)),
                    *("--ssl-ca-certfile", str(tls.ca)),
                ]
                variables = environment(folder / "flower", OMP_NUM_THREADS="1")
                children.append(Child(f"node{number}", command, folder / "log", variables))
                children[-1].start()
            told, peaks = plain_run(home, superlink, rounds)
        finally:
            for child in reversed(children):
                child.stop()
        return Figures(statistics.median(told["seconds"][FIRST - 2 :]), told["peak_mb"], peaks["superlink"])


def plain_simulated(rounds: int) -> Figures:
    """Flower's own FedAvg on its simulation runtime, two workers."""
    with tempfile.TemporaryDirectory(prefix="flower-bench-") as name:
        home = Home(Path(name))
        superlink, _, _ = flower_superlink(home, Simulated(4, 2))
        try:
            told, _ = plain_run(home, superlink, rounds)
        finally:
            superlink.stop()
        return Figures(statistics.median(told["seconds"][FIRST - 2 :]), told["peak_mb"])


def simulated(rounds: int, *, masked: bool = False) -> Figures:
    """Ours on the same runtime, by `consilium simulate`."""
    with tempfile.TemporaryDirectory(prefix="consilium-bench-") as name:
        root = Path(name)
        keys = {site: f"{index:064x}" for index, site in enumerate(SITES)}
        charter = toy_charter(keys, size=SIZE, rounds=rounds, deadline=300.0, masked=masked)
        (root / "charter.json").write_bytes(charter.canonical())
        command = [BIN / "consilium", "simulate", root / "charter.json", "--home", root / "home"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return figures_of(root / "home" / "runs" / "simulated", {}, {})


def flower_superlink(home: Home, simulation: Simulated | None) -> tuple[Child, Tls, int]:
    """A started SuperLink with TLS, and node authentication unless it simulates."""
    make_authority(home.tls)
    certificate, key = make_server(home.tls, "server")
    tls = Tls(home.tls / "ca.pem", certificate, key)
    (port,) = free_ports(1)
    write_connection(home.flower_home, f"127.0.0.1:{port}", tls.ca, simulation)
    command = superlink_command(tls, home.flower / "superlink.db", port, simulation=simulation is not None)
    variables = environment(home.flower_home, OMP_NUM_THREADS="1", RAY_USAGE_STATS_ENABLED="0")
    child = Child("superlink", command, home.logs / "superlink.log", variables)
    child.start()
    wait_until(lambda: listens(port), "SuperLink", 60.0, [child])
    return child, tls, port


def plain_run(home: Home, superlink: Child, rounds: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Run the FedAvg FAB to its end; what it told, and the processes' peak memory."""
    out = home.root / "out.json"
    with watching(superlink, "flwr-serverapp") as peaks:
        config = f'out="{out}" rounds={rounds} size={SIZE}'
        fab = Path(__file__).parent / "fedavg"
        flwr_json(home.flower_home, "run", str(fab), CONNECTION, "--run-config", config)
        wait_until(out.exists, "Flower's FedAvg", 60.0 + 40.0 * rounds, [superlink])
    time.sleep(0.2)
    return json.loads(out.read_text()), peaks


def node_key(folder: Path) -> Path:
    """A SuperNode's key pair as OpenSSH files."""
    folder.mkdir(parents=True)
    key = ec.generate_private_key(ec.SECP384R1())
    path = folder / "node.key"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    path.with_suffix(".pub").write_bytes(public + b"\n")
    return path


@contextmanager
def watching(superlink: Child, server: str) -> Iterator[dict[str, float]]:
    """Peak resident MB of SuperLink (`superlink`) and of the process below it named `server` (`server`)."""
    peaks = {"superlink": 0.0, "server": 0.0}
    over = threading.Event()
    assert superlink.process is not None
    pid = superlink.process.pid

    def look() -> None:
        while not over.wait(0.3):
            peaks["superlink"] = max(peaks["superlink"], peak_mb(pid))
            for below in descendants(pid):
                if server in _line(below):
                    peaks["server"] = max(peaks["server"], peak_mb(below))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def _line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def start_seconds() -> float:
    """From `consilium demo` to its first scored round: the wait of a person who tries it."""
    with tempfile.TemporaryDirectory(prefix="consilium-bench-") as name:
        small = ["--rounds", "1", "--cases", "4", "--size", "32", "--home", str(Path(name) / "home")]
        begun = time.monotonic()
        process = subprocess.Popen(
            [BIN / "consilium", "demo", "--headless", *small], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        first = next(time.monotonic() - begun for line in process.stdout if "round  0/" in line)
        process.communicate(timeout=300)
        return first


def superlink_seconds() -> float:
    """Flower alone: from starting SuperLink to its port answering."""
    with tempfile.TemporaryDirectory(prefix="flower-bench-") as name:
        begun = time.monotonic()
        child, _, _ = flower_superlink(Home(Path(name)), None)
        spent = time.monotonic() - begun
        child.stop()
        return spent


def rows(told: Callable[[str], None]) -> list[Row]:
    """All rows of this file; about eight minutes. In the clear beside Flower, masked beside in the clear."""
    told("deployed, warm relay")
    clear = deployed(8)
    told("deployed, masked")
    masked = deployed(8, masked=True)
    told("deployed, stock SuperNode and executor")
    stock = deployed(6, StockConsortium)
    told("Flower's FedAvg, deployed")
    plain = plain_deployed(6)
    told("simulated")
    ours, theirs, ours_masked = simulated(10), plain_simulated(10), simulated(10, masked=True)
    told("start of the demo")
    fedavg = "Flower FedAvg, stock SuperNodes"
    split = ", ".join(f"{part} {clear.split[part]:.2f} s" for part in PARTS)
    total, whole = sum(clear.split[part] for part in PARTS), clear.split["whole"]
    note = f"{split}; together {total:.2f} s of {whole:.2f} s"
    result = [
        Row("round.deployed_seconds", clear.seconds, "s", fedavg, plain.seconds, note),
        Row("round.deployed_stock_seconds", stock.seconds, "s", fedavg, plain.seconds),
        Row("round.deployed_masked_seconds", masked.seconds, "s", "ours, in the clear", clear.seconds),
        Row("round.deployed_split_sum", total, "s", "the whole round", whole),
        Row("round.simulated_seconds", ours.seconds, "s", "Flower FedAvg, simulated", theirs.seconds),
        Row("round.simulated_masked_seconds", ours_masked.seconds, "s", "ours, in the clear", ours.seconds),
        Row("round.server_rss_mb", masked.server_mb, "MB", fedavg, plain.server_mb),
        Row("round.superlink_rss_mb", masked.superlink_mb, "MB", fedavg, plain.superlink_mb),
        Row("start.demo_seconds", start_seconds(), "s", "SuperLink alone", superlink_seconds()),
    ]
    result += [
        Row(f"round.deployed_{part.replace(' ', '_')}", clear.split[part], "s", "the whole round", whole)
        for part in PARTS
    ]
    return result
