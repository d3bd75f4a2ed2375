"""What an opened sum of a charter's uploads means: one reading for every vault and the aggregator.

A sum (U,) is P parameter coordinates, the tail, and the limbs of two tags if masked. Without privacy the
tail counts exactly. With it, counts are constants of the charter and everything in the sum is noisy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consilium.contracts.charter import TAIL, Charter
from consilium.learning import averaging
from consilium.privacy.fixed_point import FixedPoint, fits, reals
from consilium.privacy.plan import LOSS_MOST, LOSS_SHARE, PrivacyPlan

Vector = NDArray[np.float32]
COUNTED = 2.0
"""Deviations of its noise that a count of scored units must have: below, the scores would be noise."""


@dataclass(frozen=True)
class Told:
    """What a sum says beside the step: the mean training loss, and mean Dice over `scored` patients.

    `scored` is 0 where no model was scored; under privacy it is a noisy count and the means are noisy.
    """

    loss: float
    scored: int
    dice_tc: float
    dice_wt: float
    dice_et: float


class Sums:
    """Reads the sums of one charter."""

    def __init__(self, charter: Charter) -> None:
        agg = charter.secure_aggregation
        self.charter, self.plan = charter, charter.plan
        self.parameters = charter.model.parameters
        cap = agg.weight_cap if self.plan is None else 1
        self._codec = None
        if self.plan is None or (self.plan.mechanism == "local" and self.plan.unit == "patient"):
            self._codec = FixedPoint(len(charter.roster), agg.clip, agg.scale_bits, cap)

    @property
    def codec(self) -> FixedPoint:
        """The encoder of a site's update. Raises `ValueError` where sites send patients' sums instead."""
        if self._codec is None:
            raise ValueError("this charter's uploads are sums of patients, not updates")
        return self._codec

    def plausible(self, total: NDArray[Any], survivors: int) -> bool:
        """True if so many clipped uploads can sum to `total` (U,): exact norm, and weight."""
        survivors = min(survivors, len(self.charter.roster))
        step = total[: self.parameters]
        if self.plan is not None and self._codec is None:
            return fits(step, self.plan.longest(survivors))
        if not fits(step, self.codec.longest(step.size, survivors)):
            return False
        weight = int(self._tail(total, self.parameters)[0])
        return self.plan is not None or 0 <= weight <= self.codec.cap * survivors

    def step(self, model: Vector, total: NDArray[Any], survivors: int) -> Vector:
        """The model after the charter's server optimiser took this sum (U,) of so many sites.

        Plain float32 with constants of the charter, so it is bit-equal everywhere.
        """
        rate, plan = self.charter.strategy.learning_rate, self.plan
        summed = reals(total[: self.parameters], self.charter.secure_aggregation.scale_bits)
        if plan is None:
            weight = int(self._tail(total, self.parameters)[0])
            factor = averaging.fedavg_factor(weight, self.codec.cap, rate)
        elif self._codec is not None:
            factor = rate / survivors
        else:
            factor = rate / plan.divisor(survivors)
        return averaging.step(model, summed, factor)

    def told(self, total: NDArray[Any], survivors: int, order_round: int) -> Told:
        """The tail of a sum (U,) of so many sites that answered the order of this round."""
        finishing = order_round > self.charter.rounds.count
        tail = self._tail(total, 0 if finishing else self.parameters)
        if self.plan is not None:
            return _noisy(self.plan, tail, survivors, order_round)
        codec = self.codec
        exact = codec.decode_tail(tail.view(np.uint32))
        count = max(1, exact.scored)
        dice = [_unit(value / count) for value in (exact.dice_tc, exact.dice_wt, exact.dice_et)]
        return Told(exact.loss / max(1, survivors), exact.scored, *dice)

    def _tail(self, total: NDArray[Any], start: int) -> NDArray[np.int32]:
        return np.asarray(total[start : start + len(TAIL)].view(np.int32))


def _noisy(plan: PrivacyPlan, tail: NDArray[np.int32], survivors: int, order_round: int) -> Told:
    """Means out of noisy sums: every divisor but the count of scored units is a constant.

    No score is told where too few were held out to tell them from noise.
    """
    loss_unit = LOSS_SHARE * plan.bound / LOSS_MOST
    loss = min(LOSS_MOST, max(0.0, float(tail[1]) / loss_unit / plan.divisor(survivors)))
    if not plan.evaluates(order_round):
        return Told(loss, 0, 0.0, 0.0, 0.0)
    whole = plan.bound * plan.scores_share
    count, noise = float(tail[2]) / (whole / 2), plan.noise_of(survivors) / (whole / 2)
    if count < max(1.0, COUNTED * noise):
        return Told(loss, 0, 0.0, 0.0, 0.0)
    return Told(loss, round(count), *(_unit(0.5 + float(value) / whole / count) for value in tail[3:6]))


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))
