"""Runs beside runs: no second sum of a model, no run of two charters; and who comes back when one is away."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from consilium.contracts.charter import Charter
from consilium.contracts.envelope import Envelope, unpack
from consilium.contracts.messages import Order, SignedReply
from consilium.contracts.reports import ModelScored, RoundClosed, RunFailed
from consilium.vocabulary import Reason, Refusal
from consilium_aggregator.ports import Tag
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


def test_a_run_belongs_to_one_charter(tmp_path: Path) -> None:
    """Vaults that approved both do not train one charter's model by the other's configuration."""
    consortium = MemoryConsortium(tmp_path, rounds=4)
    run = consortium.run()
    run.attempt(0.0)
    told = consortium.charter.model_dump()
    told["title"], told["training"]["steps"] = "Another study", 999
    other = Charter.model_validate(told)
    for site in consortium.sites.values():
        site.approve(other)
    header = next(o for s, tag, o in consortium.transport.orders if s == "site-a" and tag == (1, 1, "train"))
    order = Order.parse(header.header, "order")
    for kind in ("train", "channel", "setup", "unmask"):
        foreign = order.model_copy(update={"charter": other.id, "kind": kind, "attempt": 7, "window": 9})
        answer = consortium.sites["site-a"].answer(Envelope(foreign.canonical().decode()).pack())
        reply = SignedReply.parse(unpack(answer, "answer").header, "reply").reply
        assert (reply.status, reply.reason) == ("refused", Reason.OTHER_STUDY)
    assert run.go()


def test_a_site_comes_back_though_another_dies_between_two_windows(tmp_path: Path) -> None:
    """Round 1 without d; the others step in the next window, c dies there; a, b and d are enough."""
    consortium = MemoryConsortium(tmp_path, rounds=4, slots=1)
    transport, run = consortium.transport, consortium.run()
    transport.away = {"site-d"}
    run.attempt(0.0)
    honest = transport.send

    def lose(tag: Tag, orders: Mapping[str, Envelope], seconds: float) -> None:
        lost = "site-c" if tag[2] == "train" else ""
        honest(tag, {site: order for site, order in orders.items() if site != lost}, seconds)

    transport.send = lose  # type: ignore[method-assign]
    run.attempt(0.0)
    transport.send, transport.away = honest, {"site-c"}  # type: ignore[method-assign]
    assert run.go()
    assert [event.round for event in consortium.journal.of(RoundClosed)] == [1, 2, 3, 4]


def test_a_model_that_stops_moving_does_not_stop_the_run(tmp_path: Path) -> None:
    """What is opened once is a round's model: the same parameters in a later round are another."""
    consortium = MemoryConsortium(tmp_path, rounds=3, strategy={"learning_rate": 1e-60})
    assert consortium.run().go()
    models = {event.model for event in consortium.journal.of(ModelScored)}
    assert len(models) == 1
