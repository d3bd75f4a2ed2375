"""A whole federation without a network: the same state machines, vault code and aggregator code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium.contracts.envelope import Envelope, unpack
from consilium.contracts.messages import Order, SignedReply
from consilium.contracts.reports import ModelScored, RoundClosed, RunFailed, RunFinished
from consilium.learning.parameters import read_model
from consilium.vocabulary import Reason
from consilium_aggregator.ports import Answer
from support import SITES, MemoryConsortium


def final_model(consortium: MemoryConsortium) -> Any:
    finished = consortium.journal.of(RunFinished)[0]
    return read_model(consortium.folder / "checkpoints" / f"{finished.file}.safetensors").parameters


def expected_model(consortium: MemoryConsortium, rounds: int) -> Any:
    """The same training without federation: half a step a round towards the mean of the sites' points."""
    points = [
        each.jobs.workbenches(consortium.charter).point  # type: ignore[attr-defined]
        for each in consortium.sites.values()
    ]
    model = np.zeros(consortium.charter.model.parameters)
    for _ in range(rounds):
        model = model + 0.5 * (np.mean(points, axis=0) - model)
    return model


def test_federation_equals_plain_averaging(tmp_path: Path) -> None:
    consortium = MemoryConsortium(tmp_path)
    assert consortium.run().go()
    assert np.allclose(final_model(consortium), expected_model(consortium, 3), atol=1e-4)
    scored = consortium.journal.of(ModelScored)
    assert [event.round for event in scored] == [0, 1, 2, 3]
    assert scored[-1].dice_tc > scored[0].dice_tc
    assert all(event.scored == 8 for event in scored)
    closed = consortium.journal.of(RoundClosed)
    assert [event.participants for event in closed] == [SITES] * 3
    assert consortium.journal.of(RunFinished)[0].signed_by == SITES


def test_every_site_holds_the_same_model(tmp_path: Path) -> None:
    consortium = MemoryConsortium(tmp_path)
    consortium.run().go()
    files = [each.home.runs / "run-1" / "model-00004.safetensors" for each in consortium.sites.values()]
    models = {unpack(file.read_bytes(), "model").arrays["model"].tobytes() for file in files}
    assert models == {final_model(consortium).tobytes()}


def test_absent_site_is_named_and_comes_back_by_a_signed_checkpoint(tmp_path: Path) -> None:
    consortium = MemoryConsortium(tmp_path, rounds=4)
    run = consortium.run()
    consortium.transport.away = {"site-c"}
    run.attempt(0.0)
    run.attempt(0.0)
    consortium.transport.away = set()
    assert run.go()
    closed = consortium.journal.of(RoundClosed)
    assert [[(m.site, m.reason) for m in event.missing] for event in closed] == [
        [("site-c", Reason.OFFLINE)],
        [("site-c", Reason.OFFLINE)],
        [],
        [],
    ]
    sent = {
        site: set(order.arrays) for site, tag, order in consortium.transport.orders if tag == (3, 1, "train")
    }
    assert sent["site-c"] == {"sum", "model", "masks", "boxes"}, "and the keys of a new window for all"
    assert sent["site-a"] == {"sum", "masks", "boxes"}


@pytest.mark.parametrize(("masked", "seconds"), [(False, 30.0), (True, 5.0)])
def test_silent_site_is_left_behind_at_the_deadline(tmp_path: Path, masked: bool, seconds: float) -> None:
    """With masks it is left behind at the keys already, a few seconds after the others gave theirs."""
    consortium = MemoryConsortium(tmp_path, rounds=1, masked=masked)
    consortium.transport.silent = {"site-b"}
    assert consortium.run().go()
    closed = consortium.journal.of(RoundClosed)[0]
    assert [(m.site, m.reason) for m in closed.missing] == [("site-b", Reason.NO_ANSWER)]
    assert closed.seconds == pytest.approx(seconds, abs=1.0)


def test_refusing_site_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    consortium = MemoryConsortium(tmp_path, rounds=1)
    consortium.sites["site-d"].approve(consortium.charter, "refused")
    assert consortium.run().go()
    missing = consortium.journal.of(RoundClosed)[0].missing
    assert [(m.site, m.reason) for m in missing] == [("site-d", Reason.REFUSED_BY_SITE)]
    assert consortium.sites["site-d"].trainings == 0


def test_too_few_sites_ends_with_a_reason_and_no_hang(tmp_path: Path) -> None:
    consortium = MemoryConsortium(tmp_path, rounds=1)
    for site in SITES[1:]:
        consortium.sites[site].approve(consortium.charter, "refused")
    assert not consortium.run().go()
    assert "refused this charter" in consortium.journal.of(RunFailed)[0].text


@pytest.mark.parametrize("crash_after", [1, 2])
def test_a_new_launch_resumes_from_the_checkpoint(tmp_path: Path, crash_after: int) -> None:
    plain = MemoryConsortium(tmp_path / "plain")
    plain.run().go()
    consortium = MemoryConsortium(tmp_path / "crashed")
    first = consortium.run()
    for _ in range(crash_after):
        first.attempt(0.0)
    for each in consortium.sites.values():
        each.open()
    assert consortium.run().go()
    assert final_model(consortium).tobytes() == final_model(plain).tobytes()
    assert [event.round for event in consortium.journal.of(RoundClosed)] == [1, 2, 3]


def test_a_crash_between_sending_and_closing_uses_a_new_attempt(tmp_path: Path) -> None:
    consortium = MemoryConsortium(tmp_path)
    first = consortium.run()
    first.attempt(0.0)
    first.checkpoints.note_attempt(2, 1)
    second = consortium.run()
    assert (second.state.round, second.state.attempt) == (2, 1)
    assert second.go()
    assert all(tag != (2, 1) for _, tag, _ in consortium.transport.orders)


def order_blob(consortium: MemoryConsortium, **changes: Any) -> bytes:
    initial = (consortium.folder / "initial.safetensors").read_bytes()
    document = {
        "kind": "train",
        "charter": consortium.charter.id,
        "run": "run-1",
        "round": 1,
        "attempt": 1,
        "seconds": 20.0,
        **changes,
    }
    order = Order.model_validate(document)
    return Envelope(order.canonical().decode(), {"initial": np.frombuffer(initial, np.uint8)}).pack()


def reply_of(blob: bytes) -> Any:
    return SignedReply.parse(unpack(blob, "answer").header, "reply").reply


def test_the_same_job_twice_gives_the_same_bytes_computed_once(tmp_path: Path) -> None:
    consortium = MemoryConsortium(tmp_path, masked=False)
    site, blob = consortium.sites["site-a"], order_blob(consortium)
    first = site.answer(blob)
    site.open()
    assert site.answer(blob) == first
    assert site.trainings == 1


def test_the_same_name_with_other_content_is_refused(tmp_path: Path) -> None:
    consortium = MemoryConsortium(tmp_path, masked=False)
    site = consortium.sites["site-a"]
    site.answer(order_blob(consortium))
    reply = reply_of(site.answer(order_blob(consortium, seconds=21.0)))
    assert (reply.status, reply.reason) == ("refused", Reason.JOB_CONFLICT)


def test_unknown_unapproved_and_foreign_charters_are_refused(tmp_path: Path) -> None:
    consortium = MemoryConsortium(tmp_path, masked=False)
    other = MemoryConsortium(tmp_path / "other", title="Another study")
    site = consortium.sites["site-a"]
    unknown = reply_of(site.answer(order_blob(other)))
    assert unknown.reason == Reason.UNKNOWN_STUDY
    site.ledger.add_charter(other.charter, "2026-01-01T00:00:00+00:00")
    foreign = reply_of(site.answer(order_blob(other)))
    assert foreign.reason == Reason.NOT_IN_ROSTER
    fresh = MemoryConsortium(tmp_path / "fresh", masked=False)
    fresh.sites["site-a"].ledger.write("DELETE FROM decision")
    unapproved = reply_of(fresh.sites["site-a"].answer(order_blob(fresh)))
    assert unapproved.reason == Reason.NOT_APPROVED
    assert fresh.sites["site-a"].trainings == 0


def test_a_wrong_initial_model_is_refused(tmp_path: Path) -> None:
    consortium = MemoryConsortium(tmp_path, masked=False)
    envelope = unpack(order_blob(consortium), "order")
    changed = envelope.arrays["initial"].copy()
    changed[-1] ^= 1
    blob = Envelope(envelope.header, {"initial": changed}).pack()
    assert reply_of(consortium.sites["site-a"].answer(blob)).reason == Reason.WRONG_MODEL


def test_a_checkpoint_without_enough_signatures_is_refused(tmp_path: Path) -> None:
    consortium = MemoryConsortium(tmp_path, masked=False)
    run = consortium.run()
    consortium.transport.away = {"site-c"}
    run.attempt(0.0)
    run.attempt(0.0)
    consortium.transport.away = set()
    consortium.transport.silent = {"site-c"}
    run.attempt(0.0)
    order = next(o for site, tag, o in consortium.transport.orders if site == "site-c" and tag[0] == 3)
    header = json.loads(order.header)
    header["certificate"] = header["certificate"][:2]
    blob = Envelope(Order.model_validate(header).canonical().decode(), order.arrays).pack()
    assert reply_of(consortium.sites["site-c"].answer(blob)).reason == Reason.BAD_CERTIFICATE
    whole = reply_of(consortium.sites["site-c"].answer(order.pack()))
    assert whole.status == "done"


def test_a_slow_site_answers_too_slow(tmp_path: Path) -> None:
    consortium = MemoryConsortium(tmp_path, masked=False)
    site = consortium.sites["site-a"]
    (site.data / "delay").write_text("30")
    reply = reply_of(site.answer(order_blob(consortium, seconds=0.2)))
    assert reply.reason == Reason.TOO_SLOW


def alter(answer: Answer, _: list[Answer]) -> Envelope:
    assert answer.envelope is not None
    upload = answer.envelope.arrays["upload"].copy()
    upload[0] += 1
    return Envelope(answer.envelope.header, {"upload": upload})


def forge(_: Answer, answers: list[Answer]) -> Envelope:
    other = next(each for each in answers if each.site == "site-c").envelope
    assert other is not None
    return other


@pytest.mark.parametrize(("tamper", "reason"), [(alter, Reason.BAD_MESSAGE), (forge, Reason.BAD_SIGNATURE)])
def test_a_forged_or_altered_upload_never_enters_the_sum(
    tmp_path: Path, tamper: Callable[[Answer, list[Answer]], Envelope], reason: Reason
) -> None:
    consortium = MemoryConsortium(tmp_path, rounds=1)
    transport = consortium.transport
    honest = transport.send

    def lie(tag: Any, orders: Any, seconds: float) -> None:
        honest(tag, orders, seconds)
        for index, answer in enumerate(transport.answers):
            if answer.site == "site-a" and tag[2] == "train":
                changed = tamper(answer, transport.answers)
                transport.answers[index] = Answer(answer.site, answer.tag, changed)

    transport.send = lie  # type: ignore[method-assign]
    assert consortium.run().go()
    missing = {m.site: m.reason for m in consortium.journal.of(RoundClosed)[0].missing}
    assert missing == {"site-a": reason}
