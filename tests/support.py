"""What tests of several rooms share: toy charters and a consortium in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from consilium.contracts.charter import Charter, colluding_bound, largest_scale_bits, threshold
from consilium.contracts.envelope import Envelope, unpack
from consilium.contracts.messages import SignedDecision, SiteDecision
from consilium.contracts.reports import Event
from consilium.files import sha256_hex
from consilium.learning.parameters import ModelFile
from consilium.privacy.signatures import public_hex, sign
from consilium_aggregator.ports import Answer, Tag
from consilium_aggregator.run import Run
from consilium_site.home import SiteHome
from consilium_site.job import Jobs
from consilium_site.ledger import Ledger
from consilium_site.workbench import ToyWorkbench

NOW = "2026-01-01T00:00:00+00:00"
SITES = ("site-a", "site-b", "site-c", "site-d")


def toy_model(size: int = 200) -> bytes:
    """The bytes of a toy model file of `size` zeros."""
    return ModelFile("toy", {"size": size}, (("point", (size,)),), np.zeros(size, np.float32)).pack()


def toy_charter(
    identities: Mapping[str, str],
    size: int = 200,
    rounds: int = 3,
    deadline: float = 30.0,
    masked: bool = True,
    slots: int = 24,
    **changes: Any,
) -> Charter:
    """A charter for the toy model; `identities` maps sites to public keys. Two sites cannot mask."""
    n = len(identities)
    document: dict[str, Any] = {
        "title": "Toy study",
        "purpose": "Prove the path.",
        "model": {
            "name": "toy",
            "arguments": {"size": size},
            "parameters": size,
            "initial": sha256_hex(toy_model(size)),
        },
        "training": {"loss": "toy"},
        "rounds": {"count": rounds, "deadline_seconds": deadline, "minimum_sites": threshold(n)},
        "secure_aggregation": {
            "masked": masked and n >= 3,
            "slots": slots,
            "threshold": threshold(n),
            "colluding": colluding_bound(n),
            "scale_bits": largest_scale_bits(n, 64.0),
            "weight_cap": 64,
        },
        "roster": [
            {"site": site, "hospital": f"Hospital {site[-1].upper()}", "identity": identities[site]}
            for site in sorted(identities)
        ],
    }
    document.update(changes)
    return Charter.model_validate(document)


class MemorySite:
    """A real `Jobs` with a toy workbench: a vault without its sockets."""

    def __init__(self, root: Path, site: str) -> None:
        self.home, self.site, self.key = SiteHome(root / site), site, Ed25519PrivateKey.generate()
        self.data = root / site / "data"
        self.data.mkdir(parents=True)
        self.trainings = 0
        self.open()

    def open(self) -> None:
        """Open the vault's store; called again, it is a restart."""
        self.ledger = Ledger(self.home.database)
        self.jobs = Jobs(self.home, self.site, self.key, self.ledger, self._bench)

    def answer(self, blob: bytes) -> bytes:
        """One order and its answer, packed as on the vault's socket."""
        return self.jobs.answer(unpack(blob, "order")).pack()

    def approve(self, charter: Charter, decision: str = "approved") -> None:
        """Receive and decide on a charter."""
        self.ledger.add_charter(charter, NOW)
        body = SiteDecision.model_validate(
            {"site": self.site, "charter": charter.id, "decision": decision, "at": NOW}
        )
        signed = SignedDecision(decision=body, signature=sign(self.key, "decision", body.canonical()))
        self.ledger.decide(signed)

    def _bench(self, charter: Charter) -> ToyWorkbench:
        site = self

        class Counting(ToyWorkbench):
            def train(self, parameters: Any, round_number: int, until: float) -> Any:
                site.trainings += 1
                return super().train(parameters, round_number, until)

        return Counting(charter, self.site, self.data)


class MemoryTransport:
    """Hands orders straight to `Jobs.answer`. `away` sites are offline, `silent` ones never answer."""

    def __init__(self, sites: Mapping[str, MemorySite]) -> None:
        self.sites = sites
        self.away: set[str] = set()
        self.silent: set[str] = set()
        self.answers: list[Answer] = []
        self.orders: list[tuple[str, Tag, Envelope]] = []

    def online(self) -> frozenset[str]:
        return frozenset(self.sites) - self.away

    def send(self, tag: Tag, orders: Mapping[str, Envelope], seconds: float) -> None:
        for site, order in orders.items():
            self.orders.append((site, tag, order))
            if site not in self.silent:
                blob = self.sites[site].answer(order.pack())
                self.answers.append(Answer(site, tag, unpack(blob, "answer")))

    def poll(self) -> Iterable[Answer]:
        answers, self.answers = self.answers, []
        return answers


class MemoryJournal:
    """Keeps events in a list."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def tell(self, event: Event) -> None:
        self.events.append(event)

    def deliver(self) -> None:
        pass

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


class FakeClock:
    """A clock that moves only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class MemoryConsortium:
    """Sites, a charter that all approve, and a way to run it."""

    def __init__(self, root: Path, sites: tuple[str, ...] = SITES, **charter: Any) -> None:
        self.root = root
        self.sites = {site: MemorySite(root / "sites", site) for site in sites}
        self.charter = toy_charter({s: public_hex(each.key) for s, each in self.sites.items()}, **charter)
        for each in self.sites.values():
            each.approve(self.charter)
        self.transport = MemoryTransport(self.sites)
        self.journal = MemoryJournal()
        self.clock = FakeClock()
        self.folder = root / "runs" / "run-1"
        self.folder.mkdir(parents=True)
        (self.folder / "initial.safetensors").write_bytes(toy_model(self.charter.model.parameters))

    def run(self) -> Run:
        """A new launch of the run: resumes from its checkpoints."""
        return Run(
            self.charter,
            "run-1",
            self.folder,
            self.transport,
            self.journal,
            clock=self.clock,
            sleep=self.clock.sleep,
        )


def descendants(pid: int) -> list[tuple[int, str]]:
    """(pid, command line) of all processes below `pid`."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            line = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            found += [(child, line), *descendants(child)]
    return found
