"""The sum of one site's units: each clipped, rounded and checked in integers, then noise, then the ring.

What a unit adds has an L2 norm of at most Δ whatever its gradient, loss or scores are (Abadi et al. 2016,
in integers as Kairouz, Liu and Steinke 2021).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from consilium.privacy.noise import Words, discrete_gaussian
from consilium.privacy.plan import LOSS_MOST, LOSS_SHARE, TAIL, PrivacyPlan

Vector = NDArray[np.float32]
Integers = NDArray[np.int64]
CHUNK = 1 << 16
"""Coordinates worked on at once, so that they stay in the processor's cache."""
SHRINK = 1.0 - 1e-6
"""Keeps float32 rounding of a product from lengthening a vector that is cut to its bound."""


def bounded(vector: Vector, scale: float, bound: int) -> Integers:
    """`vector` (P,) times `scale`, shortened to norm ≤ `bound` and rounded to integers (P,).

    The norm of the result, in exact integers, is at most `bound`. A vector with a NaN or infinite coordinate
    counts as zero. A vector within the bound is rounded to nearest; one that rounding would lengthen
    beyond it is cut towards zero.
    """
    norm = math.sqrt(_square(vector)) * scale
    if not math.isfinite(norm):
        return np.zeros(vector.size, np.int64)
    factor = scale * min(1.0, bound / norm) if norm else scale
    rounded, square = _whole(vector, factor, np.rint)
    if square <= bound * bound:
        return rounded
    cut, square = _whole(vector, factor * bound / math.sqrt(square) * SHRINK, np.trunc)
    return cut if square <= bound * bound else np.zeros(vector.size, np.int64)


def _whole(vector: Vector, factor: float, rounding: np.ufunc) -> tuple[Integers, int]:
    """`vector` times `factor`, rounded, and the exact square of its norm."""
    whole, square = np.empty(vector.size, np.int64), 0
    scaled = np.empty(min(CHUNK, vector.size), np.float32)
    for start in range(0, vector.size, CHUNK):
        part, into = vector[start : start + CHUNK], whole[start : start + CHUNK]
        held = np.multiply(part, np.float32(factor), out=scaled[: part.size])
        np.copyto(into, rounding(held, out=held), casting="unsafe")
        square += int(np.multiply(into, into).sum())
    return whole, square


class PatientSum:
    """Adds units of one site for one round. `parameters` is P, or 0 where only scores are summed.

    Raises:
        ValueError: sums of the plan's sites could leave the ring, or its noise is too coarse.
    """

    def __init__(self, plan: PrivacyPlan, parameters: int) -> None:
        plan.check_ring()
        self.plan, self.parameters = plan, parameters
        self.total = np.zeros(parameters + TAIL, np.int64)

    def train(self, descent: Vector, loss: float) -> None:
        """Add one unit's direction of descent (P,) and its loss; not finite counts as zero."""
        plan = self.plan
        bound = math.floor(plan.bound * plan.step_share)
        self.total[: self.parameters] += bounded(descent, 2.0**plan.bits, bound)
        told = min(max(loss, 0.0), LOSS_MOST) / LOSS_MOST if math.isfinite(loss) else 0.0
        self.total[self.parameters + 1] += math.floor(told * LOSS_SHARE * plan.bound)

    def evaluate(self, dice: tuple[float, float, float]) -> None:
        """Add one unit's Dice by region, each in [0, 1]: half of the bound counts the unit."""
        whole = math.floor(self.plan.bound * self.plan.scores_share)
        self.total[self.parameters + 2] += whole // 2
        for place, value in enumerate(dice):
            told = min(max(value, 0.0), 1.0) if math.isfinite(value) else 0.0
            self.total[self.parameters + 3 + place] += math.trunc((told - 0.5) * whole)

    def noised(self, words: Words) -> NDArray[np.uint32]:
        """The sum with this site's share of the noise on every coordinate, (P+6,) mod 2**32.

        The noise of a round is drawn here once: keep the result and never call this twice for one round.
        """
        return ring(self.total, self.plan.share, words)


def ring(total: Integers, std: float, words: Words) -> NDArray[np.uint32]:
    """Integers with noise of this deviation (none at 0) as words of Z_2^32."""
    noisy = total + discrete_gaussian(std, total.size, words) if std else total
    return noisy.astype(np.uint32)


def _square(vector: Vector) -> float:
    """The square of the norm, in float64; infinite or NaN if a coordinate is."""
    square = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, vector.size, CHUNK):
            part = vector[start : start + CHUNK].astype(np.float64)
            square += float(np.square(part, out=part).sum())
    return square
