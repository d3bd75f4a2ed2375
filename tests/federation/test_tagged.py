"""Vaults accept sums, never models: what a server may not hand over as the sum of a round."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium.contracts.envelope import Envelope
from consilium.contracts.messages import Order
from consilium.contracts.reports import RoundClosed, RunFailed, RunFinished
from consilium.learning.parameters import read_model
from consilium.privacy import window
from consilium.privacy.tags import LIMBS, Tagger
from consilium.vocabulary import Reason
from consilium_aggregator.ports import Tag
from support import SITES, MemoryConsortium

Change = Callable[[Order, dict[str, Any], MemoryConsortium], tuple[Order, dict[str, Any]]]


def lying(consortium: MemoryConsortium, change: Change, sites: tuple[str, ...] = SITES) -> None:
    """Change what these sites are sent in round 3."""
    honest = consortium.transport.send

    def send(tag: Tag, orders: Mapping[str, Envelope], seconds: float) -> None:
        sent = dict(orders)
        for site in set(sites) & set(orders):
            order = Order.parse(orders[site].header, "order")
            if order.kind in ("train", "finish") and order.round == 3:
                order, arrays = change(order, dict(orders[site].arrays), consortium)
                sent[site] = Envelope(order.canonical().decode(), arrays)
        honest(tag, sent, seconds)

    consortium.transport.send = send  # type: ignore[method-assign]


def sum_of_round(consortium: MemoryConsortium, number: int) -> tuple[Order, dict[str, Any]]:
    """What all were sent as the sum of an earlier round."""
    order = next(
        envelope for _, tag, envelope in consortium.transport.orders if tag == (number + 1, 1, "train")
    )
    return Order.parse(order.header, "order"), dict(order.arrays)


def one_more(order: Order, arrays: dict[str, Any], _: MemoryConsortium) -> tuple[Order, dict[str, Any]]:
    total = arrays["sum"].copy()
    total[0] += np.uint32(1)
    return order, {**arrays, "sum": total}


def flipped(order: Order, arrays: dict[str, Any], _: MemoryConsortium) -> tuple[Order, dict[str, Any]]:
    return order, {**arrays, "sum": (-arrays["sum"].view(np.int32)).view(np.uint32)}


def weightier(order: Order, arrays: dict[str, Any], _: MemoryConsortium) -> tuple[Order, dict[str, Any]]:
    total = arrays["sum"].copy()
    total[200] += np.uint32(1)
    return order, {**arrays, "sum": total}


def rolled_back(
    order: Order, arrays: dict[str, Any], consortium: MemoryConsortium
) -> tuple[Order, dict[str, Any]]:
    earlier, old = sum_of_round(consortium, 1)
    told = {"opened": earlier.opened, "survivors": earlier.survivors}
    return order.model_copy(update=told), {**arrays, "sum": old["sum"]}


def relabelled(
    order: Order, arrays: dict[str, Any], consortium: MemoryConsortium
) -> tuple[Order, dict[str, Any]]:
    """The sum of round 1 in the name of round 2's attempt."""
    return order, {**arrays, "sum": sum_of_round(consortium, 1)[1]["sum"]}


def fewer_named(order: Order, arrays: dict[str, Any], _: MemoryConsortium) -> tuple[Order, dict[str, Any]]:
    return order.model_copy(update={"survivors": order.survivors[:3]}), arrays


def stranger_named(order: Order, arrays: dict[str, Any], _: MemoryConsortium) -> tuple[Order, dict[str, Any]]:
    return order.model_copy(update={"survivors": (*order.survivors, "site-x")}), arrays


def other_attempt(order: Order, arrays: dict[str, Any], _: MemoryConsortium) -> tuple[Order, dict[str, Any]]:
    assert order.opened is not None
    opened = order.opened.model_copy(update={"attempt": 2})
    return order.model_copy(update={"opened": opened}), arrays


def other_slot(order: Order, arrays: dict[str, Any], _: MemoryConsortium) -> tuple[Order, dict[str, Any]]:
    assert order.opened is not None
    opened = order.opened.model_copy(update={"slot": 0})
    return order.model_copy(update={"opened": opened}), arrays


def other_participants(
    order: Order, arrays: dict[str, Any], _: MemoryConsortium
) -> tuple[Order, dict[str, Any]]:
    assert order.opened is not None
    opened = order.opened.model_copy(update={"setups": "0" * 64})
    return order.model_copy(update={"opened": opened}), arrays


LIES: list[Change] = [
    one_more,
    flipped,
    weightier,
    rolled_back,
    relabelled,
    fewer_named,
    stranger_named,
    other_attempt,
    other_slot,
    other_participants,
]


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_a_false_sum_is_refused_by_every_vault_and_nobody_trains(tmp_path: Path, lie: Change) -> None:
    consortium = MemoryConsortium(tmp_path)
    lying(consortium, lie)
    assert not consortium.run().go()
    assert "not what its survivors uploaded" in consortium.journal.of(RunFailed)[0].text
    assert {each.trainings for each in consortium.sites.values()} == {2}
    assert {each.ledger.state("run-1").holds for each in consortium.sites.values()} == {2}


def test_a_fork_fools_nobody(tmp_path: Path) -> None:
    """Another sum for one site: that site drops out, the others go on with the true one."""
    consortium = MemoryConsortium(tmp_path)
    lying(consortium, one_more, ("site-b",))
    assert consortium.run().go()
    missing = [[(m.site, m.reason) for m in event.missing] for event in consortium.journal.of(RoundClosed)]
    assert missing == [[], [], [("site-b", Reason.BAD_SUM)]]


def test_a_model_in_place_of_a_sum_is_not_taken(tmp_path: Path) -> None:
    """Signed by nobody, and by a site that holds the true one not even looked at."""
    consortium = MemoryConsortium(tmp_path)

    def trap(order: Order, arrays: dict[str, Any], _: MemoryConsortium) -> tuple[Order, dict[str, Any]]:
        return order, {**arrays, "model": np.ones(200, np.float32)}

    lying(consortium, trap)
    assert consortium.run().go()
    honest = MemoryConsortium(tmp_path / "honest")
    assert honest.run().go()
    finals = [each.journal.of(RunFinished)[0].file for each in (consortium, honest)]
    models = [
        read_model(each.folder / "checkpoints" / f"{file}.safetensors").parameters.tobytes()
        for each, file in zip((consortium, honest), finals, strict=True)
    ]
    assert models[0] == models[1]


def test_with_a_helper_a_sum_is_still_bounded(tmp_path: Path) -> None:
    """Whoever has the tag key can forge a sum, but none longer than its survivors' clipped updates."""
    consortium = MemoryConsortium(tmp_path)
    helper = consortium.sites["site-d"]

    def forged(length: int) -> Change:
        def change(
            order: Order, arrays: dict[str, Any], consortium: MemoryConsortium
        ) -> tuple[Order, dict[str, Any]]:
            assert order.opened is not None
            windows = helper.jobs.masks.windows
            key = windows.tag_key(consortium.charter, "run-1", order.opened.window)
            slot = windows.state(consortium.charter, "run-1").orders[order.opened.slot]
            assert key is not None
            tagger = Tagger(key, bytes.fromhex(slot.transcript))
            vector = arrays["sum"][:-LIMBS].copy()
            vector[:200] = 0
            vector[0] = length
            nothing = np.zeros_like(vector)
            limbs = [tagger.tag(nothing if site else vector, site) for site in range(4)]
            return order, {**arrays, "sum": np.append(vector, np.sum(limbs, axis=0, dtype=np.uint32))}

        return change

    agg = consortium.charter.secure_aggregation
    bound = int(4 * agg.clip * 2**agg.scale_bits)
    lying(consortium, forged(bound + bound // 1000))
    assert not consortium.run().go()
    assert "too large" in consortium.journal.of(RunFailed)[0].text
    inside = MemoryConsortium(tmp_path / "inside")
    helper = inside.sites["site-d"]
    lying(inside, forged(bound - bound // 1000))
    assert not inside.run().go(), "the honest half of this server holds another model than the sites"
    holds = {each.ledger.state("run-1").holds for each in inside.sites.values()}
    assert holds == {3}, "the limit that the documentation states: one helper, one bounded step"


def test_a_site_that_joins_checks_the_last_sum_with_the_key_that_others_hand_on(tmp_path: Path) -> None:
    consortium = MemoryConsortium(tmp_path, rounds=4)
    run = consortium.run()
    consortium.transport.away = {"site-c"}
    run.attempt(0.0)
    run.attempt(0.0)
    consortium.transport.away = set()
    lying(consortium, one_more, ("site-c",))
    assert run.go()
    missing = [[(m.site, m.reason) for m in event.missing] for event in consortium.journal.of(RoundClosed)]
    assert missing[2] == [("site-c", Reason.BAD_SUM)]
    assert missing[3] == []


def deal_falsely(monkeypatch: pytest.MonkeyPatch, dealers: set[int], part: slice) -> None:
    """These sites seal noise for site-a where `part` of the key word should be."""
    honest = window._seal_row

    def seal(plan: Any, me: int, holder: int, shared: bytes, shares: Any, key_word: bytes) -> bytes:
        if me in dealers and holder == 0:
            false = bytearray(key_word)
            false[part] = os.urandom(len(false[part]))
            key_word = bytes(false)
        return honest(plan, me, holder, shared, shares, key_word)

    monkeypatch.setattr(window, "_seal_row", seal)


def test_a_part_of_the_tag_key_that_differs_from_its_signed_hash_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deal_falsely(monkeypatch, {1}, slice(0, 32))
    consortium = MemoryConsortium(tmp_path, rounds=1)
    assert consortium.run().go()
    missing = consortium.journal.of(RoundClosed)[0].missing
    assert [(m.site, m.reason) for m in missing] == [("site-a", Reason.BAD_SETUP)]


@pytest.mark.parametrize(("liars", "reason"), [({1}, None), ({1, 2}, Reason.NO_TAG_KEY)])
def test_a_joining_site_believes_what_more_than_c_others_hand_on_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, liars: set[int], reason: Reason | None
) -> None:
    deal_falsely(monkeypatch, liars, slice(36, None))
    consortium = MemoryConsortium(tmp_path, rounds=4)
    run = consortium.run()
    consortium.transport.away = {"site-a"}
    run.attempt(0.0)
    run.attempt(0.0)
    consortium.transport.away = set()
    assert run.go()
    missing = [[m.reason for m in event.missing] for event in consortium.journal.of(RoundClosed)]
    assert missing[2:] == [[reason] if reason else [], []]
