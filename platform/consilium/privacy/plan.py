"""One frozen plan feeds clip, noise, encoder and accountant, so that they cannot drift apart.

The unit is the patient (all scans of one person within one hospital) or the site. Adjacent data sets differ
by one unit, added or removed. A unit adds at most Δ to a sum in L2 norm, in integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

LOSS_SHARE = 0.1
"""Part of the bound that a unit's loss takes; its gradient has √(1 − share²) of it, so their norm is C."""
LOSS_MOST = 4.0
"""Losses above count as this."""
EVALUATION_SHARE = 0.4
"""Part of the bound that a site's scores take where the unit is the site; a held-out patient has it all."""
TAIL = 6
"""weight (always zero here: counts are constants of the charter), loss, scored, and Dice by region."""
TAILS = 12.0
"""Standard deviations of noise for which the ring has room: beyond them with probability 1e-32."""

LEAST_SHARE = 2.5
"""Integer steps that a site's noise must span, so that sums of it are as good as one discrete Gaussian."""
FINE = 2.0
"""Least bound in integer steps over √parameters: a gradient spread evenly has two steps a coordinate."""
MOST_STEPS = 100_000

Unit = Literal["patient", "site"]
Mechanism = Literal["distributed", "local", "central"]


@dataclass(frozen=True)
class PrivacyPlan:
    """What a run promises and how: made from a charter, never changed.

    `noise` is the multiplier σ: whoever sees a sum and helps it with up to `colluding` sites still faces
    noise of standard deviation σΔ at least. `steps` are noisy steps a round (more than one only where
    the mechanism is local).

    Raises:
        ValueError: a number is outside its range.
    """

    unit: Unit
    mechanism: Mechanism
    sites: int
    threshold: int
    colluding: int
    parameters: int
    rounds: int
    steps: int
    evaluations: int
    sampling: float
    cohort: int
    cohort_cap: int
    clip: float
    noise: float
    bits: int
    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        if not (self.clip > 0 and self.noise > 0 and 0 < self.sampling <= 1):
            raise ValueError(
                f"privacy: clip {self.clip}, noise {self.noise} and sampling {self.sampling} must be "
                "positive, sampling at most 1"
            )
        if not 0 <= self.colluding < self.threshold <= self.sites:
            raise ValueError(
                f"secure_aggregation: colluding {self.colluding} must be below threshold {self.threshold}, "
                f"and that at most the number of sites, {self.sites}"
            )
        if not 0 < self.delta < 1:
            raise ValueError(f"privacy.delta {self.delta} must lie between 0 and 1")
        if self.unit == "patient" and not 1 <= self.cohort <= self.cohort_cap:
            raise ValueError(f"privacy.cohort {self.cohort} must be from 1 to cohort_cap {self.cohort_cap}")
        if self.unit == "site" and self.sampling != 1:
            raise ValueError("privacy.sampling must be 1 where the unit is the site: every site takes part")
        if self.steps > 1 and self.unit == "patient" and self.mechanism != "local":
            raise ValueError(
                f"training.steps {self.steps}: with patient-level privacy one step a round is summed; "
                "more need the mechanism 'local'"
            )
        if not 1 <= self.evaluations <= self.rounds + 1:
            raise ValueError(
                f"privacy.evaluations {self.evaluations} must be from 1 to {self.rounds + 1}: one is of the "
                "final model"
            )
        if self.rounds * self.steps > MOST_STEPS:
            raise ValueError(
                f"rounds.count {self.rounds} × training.steps {self.steps}: no more than {MOST_STEPS:,} "
                "noisy steps can be accounted for"
            )

    @property
    def bound(self) -> int:
        """Δ = ⌈2**bits · C⌉, the most one unit adds in L2 norm, in ring units."""
        return math.ceil(2.0**self.bits * self.clip)

    @property
    def scores_share(self) -> float:
        """Part of the bound that scores take: all of a held-out patient's, some of a site's."""
        return EVALUATION_SHARE if self.unit == "site" else 1.0

    @property
    def step_share(self) -> float:
        """Part of the bound that a gradient or update takes, beside its loss and, for a site, its scores."""
        scores = EVALUATION_SHARE if self.unit == "site" else 0.0
        return math.sqrt(1.0 - LOSS_SHARE**2 - scores**2)

    @property
    def most(self) -> int:
        """The most units of one site in a sum."""
        return self.cohort_cap if self.unit == "patient" else 1

    @property
    def share(self) -> float:
        """Standard deviation, in ring units, of the noise that one site adds.

        `distributed`: any T survivors less c colluders add σΔ together. `local`: every site adds all of it.
        `central`: none, the aggregator adds it to the sum.
        """
        if self.mechanism == "central":
            return 0.0
        alone = self.threshold - self.colluding if self.mechanism == "distributed" else 1
        return self.noise * self.bound / math.sqrt(alone)

    def noise_of(self, survivors: int) -> float:
        """Standard deviation of the noise in a sum of so many survivors, colluders' included."""
        if self.mechanism == "central":
            return self.noise * self.bound
        return self.share * math.sqrt(survivors)

    def largest(self) -> float:
        """The largest size that a coordinate of a sum of all sites can have."""
        return self.sites * self.most * self.bound + TAILS * self.noise_of(self.sites)

    def longest(self, survivors: int) -> float:
        """The largest L2 norm of a sum of so many survivors: their units' bounds and its noise."""
        noise = self.noise_of(survivors) * (math.sqrt(self.parameters + TAIL) + TAILS)
        return survivors * self.most * self.bound + noise

    def check_ring(self) -> None:
        """Raise `ValueError` if sums could leave the ring of 2**32, or if noise is coarse."""
        if max(self.share, self.noise_of(1)) < LEAST_SHARE:
            raise ValueError(
                f"secure_aggregation.scale_bits {self.bits}: noise of {self.noise_of(1):.2g} integer steps a "
                f"site is too coarse, {LEAST_SHARE} is the least; raise scale_bits"
            )
        if self.largest() >= 2**31:
            raise ValueError(
                f"secure_aggregation.scale_bits {self.bits}: sums of {self.sites} sites with up to "
                f"{self.most} clipped vectors each and their noise could wrap the ring of 2**32; lower "
                "scale_bits, privacy.cohort_cap or privacy.noise"
            )

    def check_fine(self) -> None:
        """Raise `ValueError` if a clipped gradient is so few integer steps long that it rounds to nothing."""
        if self.bound < FINE * math.sqrt(self.parameters):
            raise ValueError(
                f"secure_aggregation.scale_bits {self.bits}: a norm of {self.bound} integer steps over "
                f"{self.parameters:,} parameters would round to little; {FINE:g}·√parameters is the least"
            )

    def divisor(self, survivors: int) -> float:
        """What a sum is divided by: units expected of so many sites, a constant of the charter."""
        return survivors * (self.sampling * self.cohort if self.unit == "patient" else 1)

    def evaluates(self, order_round: int) -> bool:
        """True if the model that starts this round is scored; the final one (rounds + 1) always is.

        Evaluations lie evenly: with two, the untrained model and the final one.
        """
        return order_round in self._scored()

    def evaluated(self, closed: int, finished: bool) -> int:
        """Evaluations charged once `closed` rounds are closed, and the final one if `finished`."""
        last = self.rounds + 1 if finished else closed
        return sum(number <= last for number in self._scored())

    def _scored(self) -> set[int]:
        """Rounds that start with a model that is scored."""
        if self.evaluations == 1:
            return {self.rounds + 1}
        gap = self.rounds / (self.evaluations - 1)
        return {1 + round(number * gap) for number in range(self.evaluations)}
