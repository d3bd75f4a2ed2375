"""What a plan has spent, by composition of privacy loss distributions (Koskela et al. 2020; Google's
`dp-accounting`), and the noise that a target needs.

A training patient takes part in each noisy step with the plan's sampling rate; a held-out patient in each
evaluation, always; a site, where it is the unit, in every upload. They are different people, so a run's
ε is the larger of the two, not their sum. Adjacency is adding or removing one unit.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace

from consilium.privacy.plan import PrivacyPlan

GRID = 1e-3
"""Width of a cell of the loss distribution of one sampled step; totals are rounded up, never down."""
LEAST_NOISE, MOST_NOISE = 0.1, 1e6
MOST_EPSILON = 1e5
LOUD = 12.0
"""√steps · sampling / σ from which on ε is far above 50: working it out would take gigabytes."""


def spent(plan: PrivacyPlan, rounds: int, evaluations: int) -> float:
    """ε at the plan's δ after so many rounds and evaluations: of the unit that has spent most."""
    return max(spent_training(plan, rounds), spent_evaluating(plan, evaluations))


def spent_training(plan: PrivacyPlan, rounds: int) -> float:
    """ε at the plan's δ of a training unit after so many rounds; 0 before the first."""
    steps = rounds * (plan.steps if plan.unit == "patient" else 1)
    return epsilon_of(plan.noise, plan.sampling, steps, plan.delta)


def spent_evaluating(plan: PrivacyPlan, evaluations: int) -> float:
    """ε at the plan's δ of a held-out patient; where the unit is the site, its uploads carry both."""
    return epsilon_of(plan.noise, 1.0, evaluations, plan.delta) if plan.unit == "patient" else 0.0


def promised(plan: PrivacyPlan) -> float:
    """ε of the whole run, all evaluations included: what the charter's ceiling must cover."""
    return _promised(plan, plan.noise)


def _promised(plan: PrivacyPlan, noise: float) -> float:
    steps = charged_rounds(plan) * (plan.steps if plan.unit == "patient" else 1)
    trained = epsilon_of(noise, plan.sampling, steps, plan.delta)
    if plan.unit == "site":
        return trained
    return max(trained, epsilon_of(noise, 1.0, plan.evaluations, plan.delta))


def charged_rounds(plan: PrivacyPlan) -> int:
    """Rounds that charge a training unit: a site is in the final evaluation too."""
    return plan.rounds + (1 if plan.unit == "site" else 0)


def keeps(plan: PrivacyPlan) -> bool:
    """True if the plan's noise keeps its promise: ε of the whole run is at most the charter's."""
    return promised(plan) <= plan.epsilon


@functools.lru_cache(maxsize=4096)
def epsilon_of(noise: float, sampling: float, times: int, delta: float) -> float:
    """ε of `times` Poisson-sampled Gaussian mechanisms with multiplier `noise` at `delta`; an upper bound.

    Infinite where the loss is too large for its distribution to be worked out: it protects nothing.
    """
    if times == 0:
        return 0.0
    if sampling >= 1.0:  # k Gaussians with multiplier σ are one with σ/√k
        return _gaussian(noise / math.sqrt(times), delta)
    if noise < LEAST_NOISE or sampling * math.sqrt(times) / noise > LOUD:
        return math.inf
    from dp_accounting.pld import privacy_loss_distribution

    losses = privacy_loss_distribution.from_gaussian_mechanism(
        noise, value_discretization_interval=GRID, sampling_prob=sampling
    )
    return float(losses.self_compose(times).get_epsilon_for_delta(delta))


def _gaussian(noise: float, delta: float) -> float:
    """ε of one Gaussian mechanism, by its closed form (Balle and Wang 2018), to 1e-6 from above."""
    from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss

    loss = GaussianPrivacyLoss(noise)
    low, high = 0.0, 1.0
    while loss.get_delta_for_epsilon(high) > delta:
        low, high = high, 2 * high
        if high > MOST_EPSILON:
            return math.inf
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if loss.get_delta_for_epsilon(middle) > delta else (low, middle)
    return high


def calibrated(plan: PrivacyPlan, epsilon: float) -> PrivacyPlan:
    """The plan with the least noise that keeps ε ≤ `epsilon` over the whole run.

    Raises:
        ValueError: no noise does, or the ring of the plan's scale has no room for it.
    """
    return replace(plan, noise=least_noise(plan, epsilon), epsilon=epsilon)


def least_noise(plan: PrivacyPlan, epsilon: float) -> float:
    """The least multiplier, to 4 digits upwards, that keeps ε ≤ `epsilon`; the plan's own is ignored.

    Raises:
        ValueError: no multiplier up to 1e6 does.
    """
    low, high = LEAST_NOISE, MOST_NOISE
    if _promised(plan, high) > epsilon:
        raise ValueError(f"ε {epsilon} at δ {plan.delta}: no noise up to {MOST_NOISE:g} keeps it")
    while high / low > 1.0002:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _promised(plan, middle) > epsilon else (low, middle)
    digits = 3 - math.floor(math.log10(high))
    return math.ceil(high * 10.0**digits) / 10.0**digits
