"""A second run of a charter: from a model that was opened already no vault opens another sum."""

from __future__ import annotations

from pathlib import Path

from consilium.contracts.reports import RoundClosed, RunFailed
from consilium.vocabulary import Refusal
from consilium_aggregator.run import Run
from support import SITES, MemoryConsortium, toy_model


def run_named(consortium: MemoryConsortium, name: str) -> Run:
    folder = consortium.root / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "initial.safetensors").write_bytes(toy_model(consortium.charter.model.parameters))
    clock = consortium.clock
    journal, transport = consortium.journal, consortium.transport
    return Run(consortium.charter, name, folder, transport, journal, clock=clock, sleep=clock.sleep)


def test_a_second_run_with_one_site_fewer_shows_nobody(tmp_path: Path) -> None:
    """S{a,b,c,d} of one run less S{a,b,c} of another, both from the initial model, would be d's update."""
    consortium = MemoryConsortium(tmp_path, rounds=2)
    assert run_named(consortium, "run-1").go()
    closed = len(consortium.journal.of(RoundClosed))
    consortium.transport.away = {"site-d"}
    assert not run_named(consortium, "run-2").go()
    assert len(consortium.journal.of(RoundClosed)) == closed
    assert "refused to disclose" in consortium.journal.of(RunFailed)[-1].text
    for site in SITES[:3]:
        refused = consortium.sites[site].ledger.refusals("run-2")
        assert {reason for _, reason in refused} == {Refusal.MODEL_OPENED}


def test_a_run_that_opened_nothing_does_not_stand_in_the_way(tmp_path: Path) -> None:
    consortium = MemoryConsortium(tmp_path, rounds=1)
    first = run_named(consortium, "run-1")
    consortium.transport.silent = {"site-c", "site-d"}
    assert not first.go()
    consortium.transport.silent = set()
    assert run_named(consortium, "run-2").go()
