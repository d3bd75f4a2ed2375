"""A site of a simulation: the vault's own `Jobs` over the site's own store, opened by any worker.

Flower's simulation runs no relay and no vault process: its workers call `answer`. What a vault checks is
checked here by the same code, and its store is the truth; what a worker keeps open only saves time.
"""

from __future__ import annotations

import fcntl
import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from consilium.contracts.charter import Charter, read_charter
from consilium.contracts.envelope import Envelope
from consilium.contracts.home import Home
from consilium.contracts.messages import SignedDecision, SiteDecision
from consilium.errors import InputError
from consilium.privacy.signatures import sign
from consilium.vocabulary import Decision
from consilium_site.bootstrap import workbenches
from consilium_site.home import SiteHome
from consilium_site.job import Jobs
from consilium_site.keys import read_bundle, read_identity
from consilium_site.ledger import Ledger, now

OPEN_SITES = 16
THREADS = 1
"""CPU threads of one worker: Flower gives each worker one core."""


def answer(home: Home, run: str, node: int, order: Envelope) -> Envelope:
    """The signed answer of the site that Flower's simulated node `node` stands for in `run`.

    The site approves the run's charter by itself the first time: a simulated hospital has no admin.

    Raises:
        InputError: the run names no site for this node, or the order is not one.
    """
    folder = home.run(run)
    nodes = json.loads((folder / "nodes.json").read_text())
    site = next((name for name, number in nodes.items() if int(number) == node), None)
    if site is None:
        raise InputError(f"simulated node {node}: run {run} names no site for it in nodes.json")
    where = home.site(site)
    with _alone(where):
        jobs = _open(where)
        _approve(jobs, _charter(folder / "charter.json"))
        return jobs.answer(order)


@contextmanager
def _alone(site: Path) -> Iterator[None]:
    """One worker at a time works for a site, as one vault does."""
    with (site / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@functools.lru_cache(maxsize=OPEN_SITES)
def _open(root: Path) -> Jobs:
    home = SiteHome(root)
    bundle = read_bundle(home)
    benches = workbenches(bundle.site, root / "data", home.cache, THREADS)
    return Jobs(home, bundle.site, read_identity(home), Ledger(home.database), benches)


@functools.lru_cache(maxsize=4)
def _charter(path: Path) -> Charter:
    return read_charter(path.read_bytes())


def _approve(jobs: Jobs, charter: Charter) -> None:
    if jobs.ledger.decision(charter.id) is not Decision.PENDING:
        return
    jobs.ledger.add_charter(charter, now())
    body = SiteDecision(site=jobs.site, charter=charter.id, decision="approved", at=now())
    jobs.ledger.decide(SignedDecision(decision=body, signature=sign(jobs.key, "decision", body.canonical())))
