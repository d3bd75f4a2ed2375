"""Simulated nodes and slow hospitals at the aggregator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from consilium.contracts.reports import RoundClosed
from consilium.errors import ProcessFailed
from consilium.vocabulary import Reason
from consilium_aggregator import simulated
from consilium_aggregator.run import Run
from support import SITES, MemoryConsortium


class Grid:
    """Flower's grid with a fixed set of nodes."""

    def __init__(self, *nodes: int) -> None:
        self.nodes = nodes

    def get_node_ids(self) -> list[int]:
        return list(self.nodes)


def test_each_site_gets_a_node_and_workers_can_read_which(tmp_path: Path) -> None:
    dealt = simulated.deal_nodes(Grid(9, 4, 7), ("a", "b", "c"), tmp_path)
    assert dealt == {"a": 4, "b": 7, "c": 9}
    assert json.loads((tmp_path / "nodes.json").read_text()) == dealt


def test_too_few_nodes_fail_with_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated, "NODES_SECONDS", 0.0)
    with pytest.raises(ProcessFailed, match="1 nodes for 2 sites"):
        simulated.deal_nodes(Grid(4), ("a", "b"), tmp_path)


def test_a_slow_site_costs_its_seconds_and_one_beyond_the_deadline_is_missing(tmp_path: Path) -> None:
    consortium = MemoryConsortium(tmp_path, rounds=2, deadline=30.0, masked=False)
    slow = simulated.Slowed(consortium.transport, {"site-b": 10.0, "site-d": 45.0}, consortium.clock)
    clock = consortium.clock
    run = Run(
        consortium.charter,
        "run-1",
        consortium.folder,
        slow,
        consortium.journal,
        clock=clock,
        sleep=clock.sleep,
    )
    assert run.go()
    first, second = consortium.journal.of(RoundClosed)
    assert [(m.site, m.reason) for m in first.missing] == [("site-d", Reason.NO_ANSWER)]
    assert first.seconds == pytest.approx(30.0, abs=0.5)
    assert second.late_uploads == 1
    assert set(second.participants) == set(SITES) - {"site-d"}


def test_a_slow_site_costs_each_exchange_of_a_masked_round(tmp_path: Path) -> None:
    """Keys (twice), uploads, shares: ten seconds each for site-b; site-d gives no keys in time."""
    consortium = MemoryConsortium(tmp_path, rounds=2, deadline=30.0)
    slow = simulated.Slowed(consortium.transport, {"site-b": 10.0, "site-d": 45.0}, consortium.clock)
    clock = consortium.clock
    assert Run(
        consortium.charter,
        "run-1",
        consortium.folder,
        slow,
        consortium.journal,
        clock=clock,
        sleep=clock.sleep,
    ).go()
    first, second = consortium.journal.of(RoundClosed)
    assert [(m.site, m.reason) for m in first.missing] == [("site-d", Reason.NO_ANSWER)]
    assert first.seconds == pytest.approx(30.0 + 10.0 + 10.0 + 10.0, abs=1.0)
    assert second.seconds == pytest.approx(20.0, abs=1.0)
