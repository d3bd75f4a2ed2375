"""Runs under a privacy plan, without a network: real vault code, real aggregator code, real ledgers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from consilium.contracts.charter import Charter
from consilium.contracts.envelope import Envelope
from consilium.contracts.messages import Order, SignedReply
from consilium.contracts.reports import ModelScored, RoundClosed, RunFailed, RunFinished, SiteAnswered
from consilium.contracts.sums import Sums
from consilium.errors import Refused
from consilium.learning.parameters import read_model
from consilium.privacy import accounting
from consilium.privacy.noise import stream
from consilium.privacy.plan import TAIL
from consilium.vocabulary import Reason
from consilium_aggregator.central import with_central_noise
from consilium_site.budget import Budget
from support import SITES, MemoryConsortium

SIZE = 200
LAX = {"epsilon": 500.0, "noise": 0.3, "cohort": 10, "cohort_cap": 32, "clip": 40.0, "tick_seconds": 0.0}
"""So little noise that a run of the toy ends where the mean of the sites' points is."""


def private(
    root: Path,
    rounds: int = 4,
    masked: bool = True,
    steps: int = 1,
    bits: int = 8,
    size: int = SIZE,
    **privacy: Any,
) -> MemoryConsortium:
    dp = {"mechanism": "distributed", "evaluations": 2, **LAX, **privacy}
    names = {"threshold": 3, "colluding": 1, "weight_cap": 64}
    consortium = MemoryConsortium(
        root,
        size=size,
        rounds=rounds,
        training={"loss": "toy", "steps": steps, "learning_rate": 0.5},
        strategy={"learning_rate": 0.5},
        release={"site_metrics": False},
        secure_aggregation={"masked": masked, "slots": 24, "scale_bits": bits, **names},
        privacy=dp,
    )
    for site in SITES:
        budget(consortium, site).set_ceiling(1000.0, 0.01)
    return consortium


def final(consortium: MemoryConsortium) -> Any:
    finished = consortium.journal.of(RunFinished)[0]
    return read_model(consortium.folder / "checkpoints" / f"{finished.file}.safetensors").parameters


def target(consortium: MemoryConsortium) -> Any:
    benches = (each.jobs.workbenches(consortium.charter) for each in consortium.sites.values())
    return np.mean([bench.point for bench in benches], axis=0)  # type: ignore[attr-defined]


def budget(consortium: MemoryConsortium, site: str) -> Budget:
    return consortium.sites[site].jobs.budget


def refusals(consortium: MemoryConsortium) -> list[tuple[str, int]]:
    return [
        (event.site, event.round)
        for event in consortium.journal.of(SiteAnswered)
        if event.reason is Reason.BUDGET_SPENT
    ]


@pytest.mark.parametrize(
    "how",
    [
        {"mechanism": "distributed"},
        {"mechanism": "central"},
        {"mechanism": "local", "steps": 2, "noise": 0.4, "bits": 14, "clip": 3.0, "size": 20},
        {"mechanism": "local", "masked": False},
        {"mechanism": "local", "unit": "site", "bits": 14, "clip": 2.5, "size": 20, "noise": 0.15},
        {"mechanism": "distributed", "unit": "site", "bits": 14, "clip": 2.5, "size": 20, "noise": 0.15},
    ],
    ids=lambda how: "-".join(str(value) for value in how.values()),
)
def test_every_mechanism_moves_the_model_and_counts_epsilon(tmp_path: Path, how: dict[str, Any]) -> None:
    consortium = private(tmp_path, rounds=6, **how)
    assert consortium.run().go(), consortium.journal.events[-1]
    start, end = np.linalg.norm(target(consortium)), np.linalg.norm(final(consortium) - target(consortium))
    assert end < 0.75 * start
    plan = consortium.charter.plan
    assert plan is not None
    epsilons = [event.epsilon for event in consortium.journal.of(RoundClosed)]
    assert epsilons == sorted(epsilons)
    assert epsilons[0] > 0
    assert epsilons[-1] == pytest.approx(accounting.promised(plan))
    assert epsilons[-1] <= plan.epsilon
    if plan.unit == "patient":
        last = consortium.journal.of(ModelScored)[-1]
        assert (last.round, last.epsilon) == (6, epsilons[-1])


def test_nothing_exact_leaves_a_site(tmp_path: Path) -> None:
    consortium = private(tmp_path)
    seen: list[SignedReply] = []
    answer = consortium.sites["site-a"].jobs.answer

    def listening(envelope: Any) -> Any:
        given = answer(envelope)
        seen.append(SignedReply.parse(given.header, "reply"))
        return given

    consortium.sites["site-a"].jobs.answer = listening  # type: ignore[method-assign]
    assert consortium.run().go()
    reports = [each.reply.report for each in seen if each.reply.report is not None]
    assert len(reports) == 5
    for report in reports:
        told = report.model_dump(exclude={"site", "precision"})
        assert not any(told.values()), told


def test_scores_are_few_and_near_the_truth(tmp_path: Path) -> None:
    consortium = private(tmp_path, evaluations=2, noise=0.25)
    assert consortium.run().go()
    scored = consortium.journal.of(ModelScored)
    assert [event.round for event in scored] == [0, 4]
    truth = np.mean(
        [
            np.exp(-np.sum((final(consortium) - each.jobs.workbenches(consortium.charter).point) ** 2) / SIZE)  # type: ignore[attr-defined]
            for each in consortium.sites.values()
        ]
    )
    assert scored[-1].dice_wt == pytest.approx(truth, abs=0.25)


def test_the_vault_that_would_overdraw_refuses_alone_and_the_study_goes_on(tmp_path: Path) -> None:
    consortium = private(tmp_path)
    plan = consortium.charter.plan
    assert plan is not None
    allowed = accounting.spent(plan, 2, plan.evaluated(2, False))
    budget(consortium, "site-b").set_ceiling(allowed, 1e-4)
    assert consortium.run().go()
    assert {site for site, _ in refusals(consortium)} == {"site-b"}
    closed = consortium.journal.of(RoundClosed)
    assert [len(event.participants) for event in closed] == [4, 4, 3, 3]
    spent = budget(consortium, "site-b").studies()[0]
    assert spent.rounds == 2
    assert spent.epsilon <= allowed
    assert budget(consortium, "site-a").studies()[0].rounds == 4


def test_a_charter_may_say_that_the_first_spent_budget_ends_the_run(tmp_path: Path) -> None:
    consortium = private(tmp_path, when_spent="stop")
    plan = consortium.charter.plan
    assert plan is not None
    budget(consortium, "site-b").set_ceiling(accounting.spent(plan, 2, 1), 1e-4)
    assert not consortium.run().go()
    assert "privacy budget is spent at site-b" in consortium.journal.of(RunFailed)[0].text


def test_a_second_study_starts_from_what_is_left(tmp_path: Path) -> None:
    consortium = private(tmp_path)
    plan = consortium.charter.plan
    assert plan is not None
    whole = accounting.promised(plan)
    for site in SITES:
        budget(consortium, site).set_ceiling(plan.epsilon + accounting.spent(plan, 1, 1), 1e-3)
    assert consortium.run().go()
    assert budget(consortium, "site-a").highest()[0] == pytest.approx(whole)
    second = consortium.charter.model_copy(update={"purpose": "Another study of the same patients."})
    for each in consortium.sites.values():
        each.approve(second)
    consortium.charter, consortium.folder = second, tmp_path / "runs" / "run-2"
    consortium.folder.mkdir()
    (consortium.folder / "initial.safetensors").write_bytes(
        (tmp_path / "runs" / "run-1" / "initial.safetensors").read_bytes()
    )
    run = consortium.run()
    run.run = "run-2"
    consortium.journal.events.clear()
    assert not run_named(consortium, "run-2")
    assert len(consortium.journal.of(RoundClosed)) == 1
    assert {site for site, _ in refusals(consortium)} == set(SITES)
    studies = {each.charter: each for each in budget(consortium, "site-a").studies()}
    assert studies[second.id].rounds == 1


def run_named(consortium: MemoryConsortium, name: str) -> bool:
    from consilium_aggregator.run import Run

    return Run(
        consortium.charter,
        name,
        consortium.folder,
        consortium.transport,
        consortium.journal,
        clock=consortium.clock,
        sleep=consortium.clock.sleep,
    ).go()


def test_a_round_that_is_tried_again_sends_the_same_noise_and_is_charged_once(tmp_path: Path) -> None:
    consortium = private(tmp_path, rounds=1, evaluations=1)
    drawn: list[bytes] = []
    uploads = consortium.sites["site-a"].jobs.private.upload

    def keeping(*arguments: Any) -> Any:
        vector = uploads(*arguments)
        drawn.append(vector.tobytes())
        return vector

    consortium.sites["site-a"].jobs.private.upload = keeping  # type: ignore[method-assign]
    send = consortium.transport.send

    def sending(tag: Any, orders: Any, seconds: float) -> None:
        lost = tag[1:] == (1, "train")
        consortium.transport.silent = {"site-b", "site-c"} if lost else set()
        send(tag, orders, seconds)

    consortium.transport.send = sending  # type: ignore[method-assign]
    assert consortium.run().go()
    assert consortium.journal.of(RoundClosed)[0].attempt == 2
    assert len(drawn) == 3
    assert drawn[0] == drawn[1]
    assert [(each.rounds, each.patients) for each in budget(consortium, "site-a").studies()] == [(1, 12)]


def test_a_lost_vector_is_drawn_and_charged_again(tmp_path: Path) -> None:
    consortium = private(tmp_path, rounds=2, evaluations=1)
    site = consortium.sites["site-a"]
    bench = site.jobs.workbenches(consortium.charter)
    arguments = (consortium.charter, 1, np.zeros(SIZE, np.float32), bench, 1e12)
    first = site.jobs.private.upload(*arguments)
    assert np.array_equal(first, site.jobs.private.upload(*arguments))
    next(site.home.private.iterdir()).unlink()
    assert not np.array_equal(first, site.jobs.private.upload(*arguments))
    assert site.jobs.budget.studies()[0].rounds == 2


def test_a_plan_that_breaks_its_promise_is_refused(tmp_path: Path) -> None:
    consortium = private(tmp_path, epsilon=1.0)
    assert not consortium.run().go()
    reasons = {event.reason for event in consortium.journal.of(SiteAnswered)}
    assert reasons == {Reason.NOT_PRIVATE}
    assert not budget(consortium, "site-a").studies()


def test_more_patients_than_the_cap_are_refused(tmp_path: Path) -> None:
    consortium = private(tmp_path, cohort_cap=11)
    assert not consortium.run().go()
    reasons = {event.reason for event in consortium.journal.of(SiteAnswered)}
    assert reasons == {Reason.TOO_MANY_PATIENTS}


def test_all_runs_of_a_study_spend_from_one_promise_and_a_kept_vector_costs_nothing(tmp_path: Path) -> None:
    consortium = private(tmp_path, rounds=2, evaluations=1, noise=1.0)
    plan = consortium.charter.plan
    assert plan is not None
    document = consortium.charter.model_dump(mode="json")
    document["privacy"]["epsilon"] = accounting.promised(plan) + 0.01
    charter = Charter.model_validate(document)
    site = consortium.sites["site-a"]
    bench = site.jobs.workbenches(charter)
    start, other = np.zeros(SIZE, np.float32), np.ones(SIZE, np.float32)
    first = site.jobs.private.upload(charter, 1, start, bench, 1e12)
    assert np.array_equal(first, site.jobs.private.upload(charter, 1, start, bench, 1e12))
    site.jobs.private.upload(charter, 1, other, bench, 1e12)
    with pytest.raises(Refused) as refused:
        site.jobs.private.upload(charter, 2, other, bench, 1e12)
    assert refused.value.reason is Reason.BUDGET_SPENT
    assert site.jobs.budget.studies()[0].rounds == 2


def test_a_model_opened_in_another_run_is_refused_before_anything_is_charged(tmp_path: Path) -> None:
    consortium = private(tmp_path, rounds=2, evaluations=1)
    assert consortium.run().go()
    before = budget(consortium, "site-a").studies()
    consortium.folder = tmp_path / "runs" / "run-2"
    consortium.folder.mkdir()
    initial = (tmp_path / "runs" / "run-1" / "initial.safetensors").read_bytes()
    (consortium.folder / "initial.safetensors").write_bytes(initial)
    assert not run_named(consortium, "run-2")
    assert budget(consortium, "site-a").studies() == before


def test_a_study_with_the_site_as_unit_is_charged_to_the_site(tmp_path: Path) -> None:
    consortium = private(tmp_path, rounds=1, unit="site")
    assert consortium.run().go()
    (study,) = budget(consortium, "site-a").studies()
    assert (study.patients, study.rounds) == (1, 2)


def test_central_noise_is_the_same_for_the_same_sum_only_and_tags_do_not_tell(tmp_path: Path) -> None:
    charter = private(tmp_path, mechanism="central").charter
    total = np.arange(charter.upload_size(), dtype=np.uint32)
    once, again = (with_central_noise(charter, tmp_path, 1, total) for _ in range(2))
    assert np.array_equal(once, again)
    other = with_central_noise(charter, tmp_path, 1, total + np.uint32(1)) - np.uint32(1)
    later = with_central_noise(charter, tmp_path, 2, total)
    assert not np.array_equal(once[:SIZE], other[:SIZE])
    assert not np.array_equal(once[:SIZE], later[:SIZE])
    assert not once[SIZE + TAIL :].any(), "the tags are a hash of the exact sum under a key that sites have"
    assert (tmp_path / "central.key").stat().st_mode & 0o077 == 0


def test_what_hospitals_are_sent_of_a_central_sum_holds_no_exact_tag(tmp_path: Path) -> None:
    consortium = private(tmp_path, rounds=3, mechanism="central")
    assert consortium.run().go()
    sums = [order.arrays["sum"] for _, _, order in consortium.transport.orders if "sum" in order.arrays]
    assert len(sums) == 12
    assert not any(total[SIZE + TAIL :].any() for total in sums)


def test_a_time_limit_of_the_server_learns_nothing(tmp_path: Path) -> None:
    """The vault works by the charter's deadline: an order's own limit would probe its number of patients."""
    consortium = private(tmp_path, rounds=1)
    site, limits = consortium.sites["site-a"], []
    uploads = site.jobs.private.upload

    def noting(*arguments: Any) -> Any:
        limits.append(arguments[-1] - time.monotonic())
        return uploads(*arguments)

    site.jobs.private.upload = noting  # type: ignore[method-assign]
    send = consortium.transport.send

    def sending(tag: Any, orders: Any, seconds: float) -> None:
        changed = dict(orders)
        order = Order.parse(orders["site-a"].header, "order").model_copy(update={"seconds": 1e-6})
        changed["site-a"] = Envelope(order.canonical().decode(), orders["site-a"].arrays)
        send(tag, changed if tag[2] in ("train", "finish") else orders, seconds)

    consortium.transport.send = sending  # type: ignore[method-assign]
    assert consortium.run().go()
    deadline = consortium.charter.rounds.deadline_seconds
    assert limits == pytest.approx([deadline] * 2, abs=5.0)


def test_every_answer_leaves_on_the_tick_refusals_too(tmp_path: Path) -> None:
    consortium = private(tmp_path, rounds=1, tick_seconds=0.5, cohort_cap=11)
    site = consortium.sites["site-a"]
    answered: list[float] = []
    answer = site.jobs._computed

    def timing(*arguments: Any) -> Any:
        begun = time.monotonic()
        try:
            return answer(*arguments)
        finally:
            answered.append(time.monotonic() - begun)

    site.jobs._computed = timing  # type: ignore[method-assign]
    assert not consortium.run().go()
    assert answered
    assert all(0.5 <= seconds < 0.75 or seconds >= 1.0 for seconds in answered)


def test_scores_of_nobody_are_not_told(tmp_path: Path) -> None:
    consortium = private(tmp_path, rounds=1, evaluations=2, noise=20.0, epsilon=8.0, bits=4)
    assert consortium.run().go()
    assert not consortium.journal.of(ModelScored) or consortium.journal.of(ModelScored)[0].scored >= 40
    charter = consortium.charter
    nothing = np.zeros(charter.upload_size(), np.uint32)
    assert Sums(charter).told(nothing, 4, 1).scored == 0


@pytest.mark.parametrize(("kind", "number"), [("finish", 2), ("train", 5), ("train", 9)])
def test_orders_of_the_wrong_kind_for_their_round_get_nothing(tmp_path: Path, kind: str, number: int) -> None:
    consortium = private(tmp_path, masked=False, mechanism="local")
    send = consortium.transport.send
    changed: list[int] = []

    def sending(tag: Any, orders: Any, seconds: float) -> None:
        if tag[0] == 2 and not changed:
            changed.append(1)
            before = budget(consortium, "site-a").studies()
            order = Order.parse(orders["site-a"].header, "order")
            false = order.model_copy(update={"kind": kind, "round": number})
            envelope = Envelope(false.canonical().decode(), orders["site-a"].arrays)
            answer = consortium.sites["site-a"].jobs.answer(envelope)
            reply = SignedReply.parse(answer.header, "reply").reply
            assert (reply.status, list(answer.arrays)) == ("refused", [])
            assert budget(consortium, "site-a").studies() == before
        send(tag, orders, seconds)

    consortium.transport.send = sending  # type: ignore[method-assign]
    assert consortium.run().go()
    assert changed


def test_an_empty_sample_still_uploads_noise(tmp_path: Path) -> None:
    consortium = private(tmp_path, rounds=2, evaluations=1, sampling=1e-9)
    site = consortium.sites["site-a"]
    bench = site.jobs.workbenches(consortium.charter)
    vector = site.jobs.private.upload(consortium.charter, 1, np.zeros(SIZE, np.float32), bench, 1e12)
    plan = consortium.charter.plan
    assert plan is not None
    assert vector.size == SIZE + TAIL
    assert vector.view(np.int32).std() == pytest.approx(plan.share, rel=0.3)


def test_who_was_away_comes_back_and_the_others_pay_for_their_own_rounds(tmp_path: Path) -> None:
    consortium = private(tmp_path, rounds=5)
    send, missed = consortium.transport.send, []

    def sending(tag: Any, orders: Any, seconds: float) -> None:
        consortium.transport.away = {"site-d"} if tag[0] in (1, 2) else set()
        if tag[2] == "train" and "site-d" not in orders:
            missed.append(tag[0])
        send(tag, orders, seconds)

    consortium.transport.send = sending  # type: ignore[method-assign]
    assert consortium.run().go()
    assert missed
    spent = {site: budget(consortium, site).studies()[0].rounds for site in SITES}
    assert spent["site-a"] == 5
    assert spent["site-d"] == 5 - len(missed)


def test_patients_stand_in_the_ledger_under_pseudonyms_of_their_site(tmp_path: Path) -> None:
    consortium = private(tmp_path, rounds=1)
    assert consortium.run().go()
    names = [
        {row[0] for row in each.ledger.read("SELECT patient FROM spend")}
        for each in consortium.sites.values()
    ]
    assert all(len(found) == 12 for found in names)
    assert not any("toy" in name for found in names for name in found)
    assert not names[0] & names[1]


def test_the_sum_carries_the_promised_noise(tmp_path: Path) -> None:
    """What the aggregator opens differs from the exact sum by noise of the plan's deviation, as drawn."""
    consortium = private(tmp_path, rounds=1, evaluations=1)
    for number, each in enumerate(consortium.sites.values()):
        each.jobs.private.source = lambda number=number: stream(bytes([number]) * 32)
    assert consortium.run().go()
    plan = consortium.charter.plan
    assert plan is not None
    order = next(o for _, tag, o in consortium.transport.orders if tag[2] == "finish")
    assert Order.parse(order.header, "order").kind == "finish"
    total = order.arrays["sum"][: SIZE + TAIL].view(np.int32).astype(np.int64)
    exact = np.zeros(SIZE + TAIL, np.int64)
    for each in consortium.sites.values():
        bench = each.jobs.workbenches(consortium.charter)
        from consilium.privacy.patients import PatientSum

        summed = PatientSum(plan, SIZE)
        people = bench.people().train
        for descent, loss in bench.descents(np.zeros(SIZE, np.float32), people, 1, 1e12):
            summed.train(descent, loss)
        exact += summed.total
    noise = total - exact
    assert noise.std() == pytest.approx(plan.noise_of(4), rel=0.15)
    assert abs(noise.mean()) < 4 * plan.noise_of(4) / np.sqrt(noise.size)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"release": {"site_metrics": True}}, "outside ε"),
        ({"training": {"loss": "toy", "steps": 2}}, "one step a round"),
        ({"training": {"loss": "toy", "steps": 1, "batch": 1}}, "must be 2 or more"),
        ({"privacy": {"mechanism": "distributed", **LAX, "evaluations": 9}}, "evaluations 9"),
        ({"privacy": {"mechanism": "distributed", **LAX, "cohort": 33}}, "cohort_cap 32"),
        ({"privacy": {"mechanism": "distributed", **LAX, "unit": "site", "sampling": 0.5}}, "must be 1"),
        ({"privacy": {"mechanism": "distributed", **LAX, "noise": 1e5}}, "wrap the ring"),
        ({"privacy": {"mechanism": "distributed", **LAX, "tick_seconds": 100.0}}, "a quarter"),
        (
            {"secure_aggregation": {"masked": False, "threshold": 3, "colluding": 1, "scale_bits": 8}},
            "needs secure_aggregation.masked",
        ),
    ],
)
def test_charters_that_would_not_protect_are_refused(
    tmp_path: Path, changes: dict[str, Any], rule: str
) -> None:
    document = private(tmp_path).charter.model_dump(mode="json")
    with pytest.raises(ValueError, match=rule):
        Charter.model_validate({**document, **changes})
