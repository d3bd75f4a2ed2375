"""Masked rounds through real vaults and the real aggregator, without a network."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from consilium.contracts.envelope import Envelope, unpack
from consilium.contracts.messages import Order, SignedReply
from consilium.contracts.reports import RoundClosed, RunFailed, RunFinished
from consilium.learning.parameters import read_model
from consilium.vocabulary import Reason, Refusal
from consilium_aggregator import masked
from support import SITES, MemoryConsortium

SEVEN = tuple(f"site-{letter}" for letter in "abcdefg")


def final(consortium: MemoryConsortium) -> bytes:
    finished = consortium.journal.of(RunFinished)[-1]
    file = consortium.folder / "checkpoints" / f"{finished.file}.safetensors"
    return read_model(file).parameters.tobytes()


def silence(
    consortium: MemoryConsortium, kind: str, *sites: str, rounds: tuple[int, ...] = (1, 2, 3)
) -> None:
    """These sites never get orders of this kind (a prefix) in these rounds."""
    honest = consortium.transport.send

    def send(tag: Any, orders: Mapping[str, Envelope], seconds: float) -> None:
        lost = set(sites) if tag[2].startswith(kind) and tag[0] in rounds else set()
        honest(tag, {site: order for site, order in orders.items() if site not in lost}, seconds)

    consortium.transport.send = send  # type: ignore[method-assign]


def plain(root: Path, **changes: Any) -> MemoryConsortium:
    return MemoryConsortium(root, masked=False, **changes)


def test_masked_and_clear_rounds_give_the_same_model_bit_by_bit(tmp_path: Path) -> None:
    one, other = MemoryConsortium(tmp_path / "masked"), plain(tmp_path / "clear")
    assert one.run().go()
    assert other.run().go()
    assert final(one) == final(other)


def test_a_window_serves_its_slots_and_then_a_new_one_opens(tmp_path: Path) -> None:
    consortium = MemoryConsortium(tmp_path, rounds=5, slots=2)
    assert consortium.run().go()
    kinds = [tag[2] for site, tag, _ in consortium.transport.orders if site == "site-a"]
    steady = ["train", "unmask-0"] * 2
    assert kinds == [
        *("channel", "setup", *steady, "setup", *steady),
        "setup",
        "train",
        "unmask-0",
        "finish",
        "unmask-0",
    ]
    assert final(consortium) == final(run_plain(tmp_path / "clear", 5))


def run_plain(root: Path, rounds: int) -> MemoryConsortium:
    consortium = plain(root, rounds=rounds)
    assert consortium.run().go()
    return consortium


def test_what_leaves_a_vault_is_noise(tmp_path: Path) -> None:
    """The upload of a whole round, tail included, by chi-square over its bytes; a clear one fails it."""
    for secret in (True, False):
        consortium = MemoryConsortium(tmp_path / str(secret), masked=secret, size=20_000, rounds=1)
        taken: list[Any] = []
        honest = consortium.transport.poll

        def poll(honest: Callable[[], Any] = honest, taken: list[Any] = taken) -> Any:
            answers = list(honest())
            taken.extend(a.envelope.arrays["upload"] for a in answers if "upload" in a.envelope.arrays)
            return answers

        consortium.transport.poll = poll  # type: ignore[method-assign]
        assert consortium.run().go()
        assert len(taken) == 8
        for upload in taken[:4]:
            value = stats.chisquare(np.bincount(upload.view(np.uint8), minlength=256)).pvalue
            assert (value > 1e-6) == secret


@pytest.mark.parametrize("dropped", [(0,), (6,), (0, 1), (2, 5), (5, 6)])
def test_any_allowed_number_may_drop_before_they_upload(tmp_path: Path, dropped: tuple[int, ...]) -> None:
    """Seven hospitals, T = 5: one missing is answered at once, two after an agreement."""
    gone = [SEVEN[index] for index in dropped]
    one, other = (
        MemoryConsortium(tmp_path / name, sites=SEVEN, masked=name == "masked", rounds=1)
        for name in ("masked", "clear")
    )
    for each in (one, other):
        silence(each, "train", *gone)
        assert each.run().go()
        closed = each.journal.of(RoundClosed)[0]
        assert set(closed.participants) == set(SEVEN) - set(gone)
    assert final(one) == final(other)
    asked = {tag[2] for _, tag, _ in one.transport.orders if tag[0] == 1}
    assert ("agree-0" in asked) == (len(gone) > 1)


def test_one_drop_too_many_is_retried_and_named(tmp_path: Path) -> None:
    consortium = MemoryConsortium(tmp_path, rounds=1)
    silence(consortium, "train", "site-a", "site-b", rounds=(1,))
    assert not consortium.run().go()
    assert "fewer than 3 uploads in 3 attempts" in consortium.journal.of(RunFailed)[0].text
    assert not any(tag[2].startswith("unmask") for _, tag, _ in consortium.transport.orders)


def test_a_site_that_dies_between_upload_and_unmask_costs_nothing(tmp_path: Path) -> None:
    one, other = MemoryConsortium(tmp_path / "masked"), run_plain(tmp_path / "clear", 3)
    silence(one, "unmask", "site-d")
    assert one.run().go()
    assert [event.participants for event in one.journal.of(RoundClosed)] == [SITES] * 3
    assert final(one) == final(other)


def test_a_question_that_nobody_answers_fails_the_run_and_a_resumed_one_finishes_it(tmp_path: Path) -> None:
    consortium = MemoryConsortium(tmp_path)
    first = consortium.transport.send
    silence(consortium, "unmask", "site-c", "site-d", rounds=(2,))
    assert not consortium.run().go()
    assert "could not be opened" in consortium.journal.of(RunFailed)[0].text
    trained = {site: each.trainings for site, each in consortium.sites.items()}
    consortium.transport.send = first  # type: ignore[method-assign]
    for each in consortium.sites.values():
        each.open()
    assert consortium.run().go()
    assert [event.round for event in consortium.journal.of(RoundClosed)] == [1, 2, 3]
    assert {site: each.trainings - trained[site] for site, each in consortium.sites.items()} == dict.fromkeys(
        SITES, 1
    )
    assert final(consortium) == final(run_plain(tmp_path / "clear", 3))


def test_a_crash_after_the_question_was_written_finishes_that_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next launch asks about the same survivors, although all sites are there now."""
    consortium = MemoryConsortium(tmp_path)
    silence(consortium, "train", "site-b", rounds=(2,))
    run = consortium.run()
    run.attempt(0.0)
    with monkeypatch.context() as patch:
        patch.setattr(masked.MaskedSums, "open", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run.attempt(0.0)
    assert (consortium.folder / "checkpoints" / "question.safetensors").exists()
    assert consortium.run().go()
    closed = consortium.journal.of(RoundClosed)
    assert [len(event.participants) for event in closed] == [4, 3, 4]
    assert [(event.round, event.attempt) for event in closed] == [(1, 1), (2, 1), (3, 1)]
    assert not (consortium.folder / "checkpoints" / "question.safetensors").exists()


def test_a_site_told_another_attempt_counts_as_dropped(tmp_path: Path) -> None:
    """Its transcript differs, so its upload is not added: it would be noise."""
    consortium = MemoryConsortium(tmp_path, rounds=1)
    honest = consortium.transport.send

    def lie(tag: Any, orders: Mapping[str, Envelope], seconds: float) -> None:
        if tag[2] == "train":
            order = Order.parse(orders["site-b"].header, "order")
            other = order.model_copy(update={"slot": 7}).canonical().decode()
            orders = {**orders, "site-b": Envelope(other, orders["site-b"].arrays)}
        honest(tag, orders, seconds)

    consortium.transport.send = lie  # type: ignore[method-assign]
    assert consortium.run().go()
    missing = consortium.journal.of(RoundClosed)[0].missing
    assert [(m.site, m.reason) for m in missing] == [("site-b", Reason.BAD_MESSAGE)]


def test_a_vault_refuses_a_second_set_and_writes_it_down(tmp_path: Path) -> None:
    """S{a,b,c,d} − S{a,b,c} would be d's update."""
    consortium = MemoryConsortium(tmp_path, rounds=1)
    assert consortium.run().go()
    site = consortium.sites["site-a"]
    order = next(
        o for s, tag, o in consortium.transport.orders if s == "site-a" and tag == (1, 1, "unmask-0")
    )
    asked = Order.parse(order.header, "order")
    fewer = asked.model_copy(update={"survivors": SITES[:3], "claims": asked.claims[:3]})
    reply = reply_of(site.answer(Envelope(fewer.canonical().decode()).pack()))
    assert (reply.status, reply.reason, reply.refusal) == ("refused", Reason.NOT_DISCLOSED, Refusal.OTHER_SET)
    forged = asked.model_copy(update={"claims": asked.claims[:3]})
    reply = reply_of(site.answer(Envelope(forged.canonical().decode()).pack()))
    assert reply.refusal is Refusal.OTHER_TRANSCRIPT
    assert [reason for _, reason in site.ledger.refusals("run-1")] == ["other_set", "other_transcript"]
    again = reply_of(site.answer(order.pack()))
    assert again.refusal is Refusal.LATER_UPLOAD, "the closing exchange has used a later slot"


def test_secrets_are_gone_from_the_disk_once_their_slot_is_spent(tmp_path: Path) -> None:
    """Keys, seeds and shares of spent slots, the channel key, earlier windows: in no file of the vault."""
    consortium = MemoryConsortium(tmp_path, rounds=4, slots=3)
    seen: dict[str, list[str]] = {}
    run = consortium.run()
    site = consortium.sites["site-a"]

    def secrets_now() -> list[str]:
        rows = site.ledger.read("SELECT secrets FROM held UNION SELECT secrets FROM window")
        told = [json.loads(text) for (text,) in rows]
        found = [key for each in told for name in ("masks", "seeds") for key in each[name] if key]
        return found + [pair[0] for each in told for slot in each.get("shares", []) for pair in slot.values()]

    for attempt in range(4):
        run.attempt(0.0)
        seen[str(attempt)] = secrets_now()
    assert {key: len(value) for key, value in seen.items()} == {"0": 18, "1": 12, "2": 6, "3": 18}
    stored = b"".join(path.read_bytes() for path in site.home.database.parent.glob("vault.db*"))
    left = {text for text in seen["0"] if text.encode() in stored}
    assert left == set()
    assert all(text.encode() in stored for text in seen["3"])


def reply_of(blob: bytes) -> Any:
    return SignedReply.parse(unpack(blob, "answer").header, "reply").reply


@pytest.mark.parametrize("what", ["masks", "signature", "stranger", "twice"])
def test_swapped_or_unsigned_keys_are_refused_by_every_vault(tmp_path: Path, what: str) -> None:
    consortium = MemoryConsortium(tmp_path, rounds=1)
    honest = consortium.transport.send

    def lie(tag: Any, orders: Mapping[str, Envelope], seconds: float) -> None:
        if tag[2] == "train":
            orders = {site: swapped(order, what) for site, order in orders.items()}
        honest(tag, orders, seconds)

    consortium.transport.send = lie  # type: ignore[method-assign]
    assert not consortium.run().go()
    assert "one-time keys" in consortium.journal.of(RunFailed)[0].text
    assert all(each.trainings == 0 for each in consortium.sites.values())


def swapped(envelope: Envelope, what: str) -> Envelope:
    order, arrays = Order.parse(envelope.header, "order"), dict(envelope.arrays)
    setups = list(order.setups)
    if what == "masks":
        arrays["masks"] = arrays["masks"][::-1].copy()
    elif what == "signature":
        setups[0] = setups[0].model_copy(update={"signature": setups[1].signature})
    elif what == "stranger":
        body = setups[0].setup.model_copy(update={"site": "site-x"})
        setups[0] = setups[0].model_copy(update={"setup": body})
    else:
        setups[1] = setups[0]
    changed = order.model_copy(update={"setups": tuple(setups)})
    return Envelope(changed.canonical().decode(), arrays)


def test_no_count_loss_or_score_leaves_a_vault_in_the_clear(tmp_path: Path) -> None:
    """Everything that vaults answer is decoded; a charter that shares metrics is the counter-test."""
    for shared in (False, True):
        consortium = MemoryConsortium(tmp_path / str(shared), release={"site_metrics": shared}, rounds=2)
        said: list[str] = []
        honest = consortium.transport.poll

        def poll(honest: Callable[[], Any] = honest, said: list[str] = said) -> Any:
            answers = list(honest())
            said.extend(each.envelope.header for each in answers)
            return answers

        consortium.transport.poll = poll  # type: ignore[method-assign]
        assert consortium.run().go()
        reports = [report for header in said if (report := SignedReply.parse(header, "reply").reply.report)]
        assert len(reports) == 12
        for report in reports:
            told = report.model_dump(exclude={"site", "seconds_scoring", "seconds_training", "precision"})
            silent = {"scores": None, "cases_train": 0, "cases_test": 0, "skipped": {}}
            assert (told == silent) != shared
