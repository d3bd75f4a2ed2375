"""ε: against another accountant, published figures and a closed form; calibrated noise keeps its promise."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any

import pytest
from prv_accountant import (  # type: ignore[import-untyped]
    PoissonSubsampledGaussianMechanism,
    PRVAccountant,
)
from scipy.optimize import brentq
from scipy.stats import norm

from consilium.privacy import accounting
from consilium.privacy.accounting import calibrated, epsilon_of, keeps, promised, spent
from consilium.privacy.plan import PrivacyPlan

SLACK = 0.005
"""What 2,000 roundings of a step's loss to the accountant's grid may add above the true ε."""


def plan(**changes: Any) -> PrivacyPlan:
    values: dict[str, Any] = {
        "unit": "patient",
        "mechanism": "distributed",
        "sites": 4,
        "threshold": 3,
        "colluding": 1,
        "parameters": 100,
        "rounds": 12,
        "steps": 1,
        "evaluations": 3,
        "sampling": 1.0,
        "cohort": 20,
        "cohort_cap": 30,
        "clip": 1.0,
        "noise": 1.0,
        "bits": 10,
        "epsilon": 8.0,
        "delta": 1e-5,
    }
    return PrivacyPlan(**values | changes)


SAMPLED = plan(sampling=0.2, evaluations=1)
EVALUATED = plan(sampling=0.05, evaluations=13)
SITE = plan(unit="site", evaluations=4)
LOCAL = plan(mechanism="local", steps=5, sampling=0.1, evaluations=1)
KINDS = pytest.mark.parametrize("kind", [plan(), SAMPLED, EVALUATED, SITE, LOCAL], ids="psevl")


@pytest.mark.parametrize(
    ("noise", "sampling", "times"),
    [
        (0.8, 0.01, 100),
        (1.0, 0.02, 500),
        (2.0, 0.1, 200),
        (1.2, 0.01, 2000),
        (4.0, 0.3, 100),
        (5.0, 0.5, 60),
        (1.0, 0.05, 10),
        (12.2, 1.0, 100),
        (6.0, 0.999, 40),
    ],
)
def test_another_accountant_agrees_within_its_own_bounds(noise: float, sampling: float, times: int) -> None:
    """Gopi, Lee and Wutschitz 2021. Ours is an upper bound, so it may not lie below their estimate either."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = PRVAccountant(
            prvs=PoissonSubsampledGaussianMechanism(sampling_probability=sampling, noise_multiplier=noise),
            max_self_compositions=times,
            eps_error=0.05,
            delta_error=1e-9,
        )
    for delta in (1e-4, 1e-6):
        lowest, estimate, highest = other.compute_epsilon(delta, [times])
        ours = epsilon_of(noise, sampling, times, delta)
        assert lowest <= ours <= highest
        assert estimate - 1e-3 <= ours <= estimate + SLACK


@pytest.mark.parametrize(("noise", "epsilon"), [(31.9, 1.0), (12.2, 3.0), (5.43, 8.0)])
def test_published_noise_of_a_hundred_rounds(noise: float, epsilon: float) -> None:
    assert epsilon_of(noise, 1.0, 100, 1e-4) == pytest.approx(epsilon, rel=0.01)


def balle_wang(noise: float, delta: float) -> float:
    """ε of one Gaussian mechanism: theorem 8 of Balle and Wang 2018, solved by another root finder."""

    def over(epsilon: float) -> float:
        above, below = 1 / (2 * noise) - epsilon * noise, -1 / (2 * noise) - epsilon * noise
        return float(norm.cdf(above) - math.exp(epsilon + norm.logcdf(below)) - delta)

    return float(brentq(over, 0.0, 1e4, xtol=1e-12)) if over(0.0) > 0 else 0.0


@pytest.mark.parametrize("noise", [0.03, 0.2, 1.0, 4.0, 80.0, 5000.0])
@pytest.mark.parametrize("times", [1, 9, 400])
def test_without_sampling_it_is_the_closed_form(noise: float, times: int) -> None:
    for delta in (1e-3, 1e-5, 1e-10):
        exact = balle_wang(noise / math.sqrt(times), delta) if noise / math.sqrt(times) > 0.02 else None
        if exact is not None:
            assert exact - 1e-9 <= epsilon_of(noise, 1.0, times, delta) <= exact + 2e-6


def test_sampling_ever_more_often_ends_at_the_closed_form() -> None:
    grid = [epsilon_of(2.0, sampling, 20, 1e-5) for sampling in (0.01, 0.1, 0.5, 0.9, 0.9999, 1.0)]
    assert grid == sorted(grid)
    assert grid[-2] == pytest.approx(grid[-1], abs=0.01)


@KINDS
def test_each_round_costs_and_more_noise_costs_less(kind: PrivacyPlan) -> None:
    by_round = [spent(kind, number, kind.evaluated(number, False)) for number in range(kind.rounds + 1)]
    assert by_round[0] == 0.0
    assert by_round == sorted(by_round)
    assert by_round[-1] > by_round[1] > 0
    assert promised(replace(kind, noise=2.0)) < promised(kind)


@KINDS
@pytest.mark.parametrize("epsilon", [0.5, 4.0])
def test_calibrated_noise_keeps_the_promise_and_a_hundredth_less_breaks_it(
    kind: PrivacyPlan, epsilon: float
) -> None:
    found = calibrated(kind, epsilon)
    assert found.epsilon == epsilon
    assert promised(found) <= epsilon
    assert keeps(found)
    assert promised(replace(found, noise=found.noise * 0.99)) > epsilon
    assert not keeps(replace(found, noise=found.noise * 0.99))
    assert found == replace(kind, epsilon=epsilon, noise=found.noise), "nothing else changes"


@KINDS
def test_the_ledger_never_passes_what_was_promised(kind: PrivacyPlan) -> None:
    found = calibrated(kind, 3.0)
    for closed in range(found.rounds + 1):
        assert spent(found, closed, found.evaluated(closed, False)) <= found.epsilon
    whole = spent(found, accounting.charged_rounds(found), found.evaluated(found.rounds, True))
    assert whole == promised(found) <= found.epsilon


def test_a_run_spends_what_its_dearest_unit_spends() -> None:
    assert accounting.spent_training(EVALUATED, 12) < accounting.spent_evaluating(EVALUATED, 13)
    assert promised(EVALUATED) == accounting.spent_evaluating(EVALUATED, 13) == epsilon_of(1.0, 1.0, 13, 1e-5)
    assert promised(SAMPLED) == accounting.spent_training(SAMPLED, 12) == epsilon_of(1.0, 0.2, 12, 1e-5)
    assert promised(LOCAL) == epsilon_of(1.0, 0.1, 60, 1e-5), "each noisy step is charged"


def test_a_site_pays_for_each_upload_and_once_more_for_the_final_scores() -> None:
    assert accounting.charged_rounds(SITE) == 13
    assert promised(SITE) == epsilon_of(1.0, 1.0, 13, 1e-5)
    assert accounting.spent_evaluating(SITE, 4) == 0.0
    assert promised(replace(SITE, steps=9)) == promised(SITE), "steps at home are inside one upload"


def test_what_cannot_be_protected_is_infinite_or_refused() -> None:
    assert epsilon_of(0.05, 0.5, 1, 1e-5) == math.inf
    assert epsilon_of(1e-3, 1.0, 1, 1e-5) == math.inf
    assert epsilon_of(0.05, 0.5, 0, 1e-5) == 0.0
    assert not keeps(plan(noise=1e-3, epsilon=1e4))
    with pytest.raises(ValueError, match="no noise up to 1e"):
        calibrated(plan(), 1e-9)
    assert not math.isnan(epsilon_of(0.01, 1.0, 1, 1e-5))


def test_a_forgotten_round_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise for one round less than is run does not keep the promise."""
    short = calibrated(plan(rounds=11), 3.0)
    assert not keeps(replace(short, rounds=12))
    monkeypatch.setattr(accounting, "charged_rounds", lambda run: run.rounds)
    cheap = calibrated(SITE, 3.0)
    monkeypatch.undo()
    assert not keeps(cheap)
