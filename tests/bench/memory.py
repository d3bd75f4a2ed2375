"""Peak memory of the aggregator as uploads grow: the real `Run` in a process of its own, real vaults here.

Orders and answers travel as files, so that what a hospital holds is not counted. One masked round of a toy
study with 5M parameters, keys, unmasking and checkpoint included.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from common import peak_mb  # noqa: E402

from consilium.contracts.charter import read_charter  # noqa: E402
from consilium.contracts.envelope import Envelope, unpack  # noqa: E402
from consilium.privacy.signatures import public_hex  # noqa: E402
from consilium_aggregator.ports import Answer, Tag  # noqa: E402
from consilium_aggregator.run import Run  # noqa: E402
from support import MemoryJournal, MemorySite, toy_charter, toy_model  # noqa: E402

SIZE = 5_000_000
SECONDS = 600.0


class Spool:
    """A transport of files: an order is `<site>~<round>~<attempt>~<kind>.order`, its answer `.answer`."""

    def __init__(self, folder: Path, sites: tuple[str, ...]) -> None:
        self.folder, self.sites = folder, sites

    def online(self) -> frozenset[str]:
        """Every site."""
        return frozenset(self.sites)

    def send(self, tag: Tag, orders: Mapping[str, Envelope], seconds: float) -> None:
        """Write the orders, one at a time."""
        for site, order in orders.items():
            put(self.folder / f"{site}~{tag[0]}~{tag[1]}~{tag[2]}.order", order.pack())

    def poll(self) -> Iterator[Answer]:
        """Read what answers there are, one at a time."""
        for path in sorted(self.folder.glob("*.answer")):
            site, number, attempt, kind = path.stem.split("~")
            blob = path.read_bytes()
            path.unlink()
            yield Answer(site, (int(number), int(attempt), kind), unpack(blob, path.name))


def put(path: Path, content: bytes) -> None:
    """Write a file that nobody sees half."""
    part = path.with_suffix(".part")
    part.write_bytes(content)
    part.replace(path)


def aggregate(root: Path) -> None:
    """The process that is measured; prints its peak resident memory in MB."""
    charter = read_charter((root / "charter.json").read_bytes())
    sites = tuple(member.site for member in charter.roster)
    run = Run(charter, "run-1", root / "run", Spool(root / "spool", sites), MemoryJournal())
    run.attempt(time.monotonic())
    if run.state.round != 2:
        raise SystemExit("the round did not close")
    print(peak_mb(os.getpid()))  # not ru_maxrss, which a child inherits from its parent


def aggregator_mb(sites: int, size: int = SIZE) -> float:
    """Peak memory of the aggregator's process in a round of so many uploads."""
    with tempfile.TemporaryDirectory(prefix="consilium-bench-") as name:
        root = Path(name)
        vaults = {f"site-{i:03d}": MemorySite(root / "sites", f"site-{i:03d}") for i in range(sites)}
        keys = {site: public_hex(vault.key) for site, vault in vaults.items()}
        charter = toy_charter(keys, size=size, rounds=1, deadline=SECONDS, slots=1)
        for vault in vaults.values():
            vault.approve(charter)
        for folder in ("run", "spool"):
            (root / folder).mkdir()
        (root / "charter.json").write_bytes(charter.canonical())
        (root / "run" / "initial.safetensors").write_bytes(toy_model(size))
        command = [sys.executable, __file__, str(root)]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        while child.poll() is None:
            for path in sorted((root / "spool").glob("*.order")):
                vault = vaults[path.stem.partition("~")[0]]
                put(path.with_suffix(".answer"), vault.answer(path.read_bytes()))
                vault.jobs._held = None
                path.unlink()
            time.sleep(0.05)
        if child.returncode != 0 or child.stdout is None:
            raise RuntimeError(f"the aggregator of {sites} sites ended with {child.returncode}")
        return float(child.stdout.read())


if __name__ == "__main__":
    aggregate(Path(sys.argv[1]))
