"""Uploads with a proven bound on what one patient adds: sample, clip, round, add noise, charge, keep.

The noisy vector of a round is drawn once and charged once, before its first byte leaves; a later attempt of
the round sends the same vector again. Counts, times and scores of the site leave only inside the noise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from consilium.contracts.charter import Charter
from consilium.contracts.envelope import Envelope, unpack
from consilium.contracts.sums import Sums
from consilium.errors import InputError, Refused
from consilium.files import sha256_hex, write_atomic
from consilium.privacy import accounting
from consilium.privacy.clipping import clip_factor
from consilium.privacy.fixed_point import Tail
from consilium.privacy.noise import Words, chosen, private_stream
from consilium.privacy.patients import PatientSum
from consilium.privacy.plan import TAIL, PrivacyPlan
from consilium.vocabulary import Reason
from consilium_site.budget import WHOLE_SITE, Budget
from consilium_site.home import SiteHome
from consilium_site.workbench import People, Vector, Workbench

log = logging.getLogger(__name__)
Ring = NDArray[np.uint32]


class PrivateUploads:
    """One site's uploads under a privacy plan. `source` opens the stream that coins and noise come from."""

    def __init__(self, home: SiteHome, budget: Budget, source: Callable[[], Words] = private_stream) -> None:
        self.home, self.budget, self.source = home, budget, source

    def upload(self, charter: Charter, number: int, model: Vector, bench: Workbench, until: float) -> Ring:
        """This site's noisy vector for the order of round `number`: (P+6,), or (6,) after the last round.

        A vector that was drawn for this round and model before is given again, in another run too, and costs
        nothing.

        Raises:
            Refused: NOT_PRIVATE if the plan does not keep its promise, TOO_MANY_PATIENTS, BUDGET_SPENT, or
                what the workbench raises; nothing is charged then.
        """
        plan = charter.plan
        if plan is None or not accounting.keeps(plan):
            raise Refused(Reason.NOT_PRIVATE)
        digest, file = sha256_hex(model.data), self.home.private / f"{charter.id}.safetensors"
        kept = _kept(file, self.budget.charged(charter.id, number, digest))
        if kept is not None:
            return kept
        people = _taking_part(plan, bench.people(), number)
        due = self.budget.check(charter.id, plan, people.train, people.test)
        vector = self._drawn(charter, plan, number, model, bench, people, until)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        write_atomic(file, Envelope("private", {"upload": vector}).parts())
        self.budget.charge(charter.id, number, digest, sha256_hex(vector.data), due)
        return vector

    def _drawn(
        self,
        charter: Charter,
        plan: PrivacyPlan,
        number: int,
        model: Vector,
        bench: Workbench,
        people: People,
        until: float,
    ) -> Ring:
        words = self.source()
        training = number <= plan.rounds
        if plan.unit == "site":
            return _whole_site(charter, plan, number, model, bench, until, words)
        summed = PatientSum(plan, plan.parameters if training and plan.mechanism != "local" else 0)
        if people.test:
            for dice in bench.score_people(model, until):
                summed.evaluate(dice)
        if not training:
            return summed.noised(words)
        if plan.mechanism == "local":
            return _local(charter, plan, number, model, bench, people, until, words, summed)
        sampled = _sampled(plan, people.train, words)
        for descent, loss in bench.descents(model, sampled, number, until):
            summed.train(descent, loss)
        return summed.noised(words)


def _taking_part(plan: PrivacyPlan, people: People, number: int) -> People:
    """Who is charged for this round: trainees if it trains, held-out patients if it scores.

    Where the unit is the site, it is charged as one; its patients' own accounts are not touched.
    """
    if plan.unit == "site":
        return People((WHOLE_SITE,), ())
    if len(people.train) + len(people.test) > plan.cohort_cap:
        raise Refused(Reason.TOO_MANY_PATIENTS)
    train = people.train if number <= plan.rounds else ()
    return People(train, people.test if plan.evaluates(number) else ())


def _sampled(plan: PrivacyPlan, patients: tuple[str, ...], words: Words) -> list[str]:
    coins = chosen(plan.sampling, len(patients), words)
    return [patient for patient, drawn in zip(patients, coins, strict=True) if drawn]


def _local(
    charter: Charter,
    plan: PrivacyPlan,
    number: int,
    model: Vector,
    bench: Workbench,
    people: People,
    until: float,
    words: Words,
    summed: PatientSum,
) -> Ring:
    """Many noisy steps at home (DP-SGD, Abadi et al. 2016), so that the update itself is private."""
    point, losses = model.copy(), []
    for step in range(number * plan.steps, (number + 1) * plan.steps):
        one = PatientSum(plan, plan.parameters)
        for descent, loss in bench.descents(point, _sampled(plan, people.train, words), step, until):
            one.train(descent, loss)
        noisy = one.noised(words).view(np.int32).astype(np.float64)
        rate = charter.training.learning_rate / plan.divisor(1) / 2.0**plan.bits
        point += (noisy[: plan.parameters] * rate).astype(np.float32)
        losses.append(noisy[plan.parameters + 1])
    tail = summed.noised(words)
    tail[1:2] += np.array([round(float(np.mean(losses)))]).astype(np.uint32)
    return np.append(_coded(charter, point - model), tail)


def _coded(charter: Charter, update: Vector) -> Ring:
    """An update (P,) clipped and encoded as any site's is."""
    codec = Sums(charter).codec
    try:
        factor = clip_factor(update, codec.clip)
        return codec.encode(update, Tail(0, 0.0, 0, 0.0, 0.0, 0.0), factor)[:-TAIL]
    except ValueError as error:
        raise Refused(Reason.BAD_UPDATE, str(error)) from None


def _whole_site(
    charter: Charter,
    plan: PrivacyPlan,
    number: int,
    model: Vector,
    bench: Workbench,
    until: float,
    words: Words,
) -> Ring:
    """The site as one unit: its update, loss and mean scores share one bound."""
    training = number <= plan.rounds
    summed = PatientSum(plan, plan.parameters if training else 0)
    if plan.evaluates(number):
        rows = bench.score_people(model, until)
        if rows:
            tc, wt, et = np.mean(rows, axis=0).tolist()
            summed.evaluate((tc, wt, et))
    if not training:
        return summed.noised(words)
    try:
        trained = bench.train(model, number, until)
        summed.train(trained.update, trained.loss)
    except Refused as refused:
        if refused.reason != Reason.BAD_UPDATE:
            raise
        log.warning("training gave a non-finite update: it counts as zero")
    return summed.noised(words)


def _kept(file: Path, charged: str | None) -> Ring | None:
    """The vector that this round was charged for, if it is still there whole."""
    if charged is None:
        return None
    try:
        vector = unpack(file.read_bytes(), file.name).arrays["upload"]
    except (InputError, OSError, KeyError):
        log.warning("%s is gone or broken: the round is drawn and charged again", file.name)
        return None
    return vector if sha256_hex(vector.data) == charged else None
