"""The audit: honest plans are never refuted, planted bugs are, and its figures are the paper's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from consilium.privacy import patients
from consilium.privacy.accounting import calibrated, spent_training
from consilium.privacy.audit import Audit, audit, certifiable, exposed, lower_bound, p_value
from consilium.privacy.noise import stream
from consilium.privacy.plan import PrivacyPlan

M = 2000


def plan(epsilon: float, **changes: Any) -> PrivacyPlan:
    """Its noise is calibrated to ε; canaries have a coordinate each unless there are fewer parameters."""
    values: dict[str, Any] = {
        "unit": "patient",
        "mechanism": "distributed",
        "sites": 4,
        "threshold": 3,
        "colluding": 1,
        "parameters": M,
        "rounds": 5,
        "steps": 1,
        "evaluations": 1,
        "sampling": 1.0,
        "cohort": M,
        "cohort_cap": M,
        "clip": 1.0,
        "noise": 1.0,
        "bits": 8,
        "epsilon": epsilon,
        "delta": 1e-5,
    }
    return calibrated(PrivacyPlan(**values | changes), epsilon)


def run(of: PrivacyPlan, canaries: int = M, key: int = 1, **changes: int) -> Audit:
    return audit(of, canaries, stream(bytes([key]) * 32), **changes)


@pytest.mark.parametrize(("canaries", "figure"), [(100, 3.49), (1000, 5.81), (5000, 7.42)])
def test_what_canaries_can_certify_at_most(canaries: int, figure: float) -> None:
    assert certifiable(canaries) == pytest.approx(figure, abs=0.005)
    assert figure - 0.2 < certifiable(canaries, 1e-5) < certifiable(canaries)


@pytest.mark.parametrize(
    ("canaries", "guesses", "right", "delta", "figure"),
    [(1000, 100, 75, 1e-4, 0.673), (100_000, 1510, 1439, 1e-5, 2.675)],
)
def test_bounds_printed_in_the_paper(
    canaries: int, guesses: int, right: int, delta: float, figure: float
) -> None:
    assert lower_bound(canaries, guesses, right, delta) == pytest.approx(figure, abs=1e-3)


def test_the_p_value_is_a_binomial_tail_and_delta_makes_it_larger() -> None:
    assert p_value(10, 4, 3, 0.0, 0.0) == pytest.approx(5 / 16)
    assert p_value(10, 4, 0, 1.0, 1e-3) == 1.0
    worst = max(4 / 16, (4 + 6) / 16 / 2, (4 + 6 + 4) / 16 / 3, (4 + 6 + 4 + 1) / 16 / 4)
    assert p_value(10, 4, 4, 0.0, 1e-3) == pytest.approx(1 / 16 + 2 * 10 * 1e-3 * worst)
    assert lower_bound(1000, 1000, 500, 0.0) == 0.0
    with pytest.raises(ValueError, match="cannot be"):
        lower_bound(10, 4, 5, 0.0)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"mechanism": "local"},
        {"mechanism": "local", "steps": 3},
        {"mechanism": "central"},
        {"sampling": 0.4},
        {"parameters": 300},
        {"rounds": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("epsilon", [1.0, 4.0])
def test_an_honest_plan_is_not_refuted(epsilon: float, changes: dict[str, Any]) -> None:
    of = plan(epsilon, **changes)
    found = run(of)
    assert found.claimed == spent_training(of, of.rounds) <= epsilon
    assert found.lower_bound <= found.claimed
    assert found.right <= found.guesses <= found.canaries == M
    assert (found.rounds, found.certifiable) == (of.rounds, certifiable(M, of.delta))


def test_canaries_do_show_in_an_honest_run() -> None:
    """A bound of 0 would pass every test above: at ε = 4 they must show well over 1."""
    found = [run(plan(4.0, mechanism=kind)).lower_bound for kind in ("distributed", "local", "central")]
    assert min(found) > 1.0


def test_the_audit_hears_as_few_sites_as_the_claim_allows() -> None:
    assert exposed(plan(4.0)) == 2
    assert exposed(plan(4.0, mechanism="local")) == 1
    assert exposed(plan(4.0, mechanism="central")) == 4
    few, all_sites = (run(plan(4.0), sites=sites).lower_bound for sites in (2, 4))
    assert few > all_sites, "the other sites' noise hides canaries"


def test_the_first_rounds_are_claimed_less() -> None:
    of = plan(4.0)
    first = run(of, rounds=2)
    assert first.claimed == spent_training(of, 2) < 4.0
    assert first.rounds == 2
    assert first.lower_bound <= first.claimed


@pytest.mark.parametrize(
    ("canaries", "changes", "message"),
    [
        (1, {}, "1 canaries must be from 2"),
        (2 * M + 1, {}, "2 sites × cohort_cap 2000"),
        (M, {"rounds": 6}, "rounds 6"),
        (M, {"rounds": 0}, "rounds 0"),
        (M, {"sites": 5}, "sites 5"),
    ],
)
def test_what_the_plan_has_not_is_refused(canaries: int, changes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(plan(4.0), canaries, **changes)
    with pytest.raises(ValueError, match="unit is the site"):
        run(plan(4.0, unit="site"))


def refuted(of: PrivacyPlan, canaries: int = M, **changes: int) -> bool:
    """True if three audits in a row, with other coins and noise, each refute the plan's claim."""
    found = [run(of, canaries, key, **changes) for key in (1, 2, 3)]
    return all(one.lower_bound > one.claimed for one in found)


@pytest.mark.parametrize("epsilon", [1.0, 4.0])
def test_no_noise_is_caught(epsilon: float, monkeypatch: pytest.MonkeyPatch) -> None:
    of = plan(epsilon)
    assert not refuted(of)
    monkeypatch.setattr(patients, "discrete_gaussian", lambda std, size, words: np.zeros(size, np.int64))
    assert refuted(of)
    found = run(of)
    assert found.right == found.guesses == 0.85 * M
    assert found.lower_bound > found.certifiable - 0.6, "three choices and some abstaining cost the rest"


@pytest.mark.parametrize("epsilon", [1.0, 4.0])
def test_no_clipping_is_caught(epsilon: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        patients, "bounded", lambda vector, scale, bound: np.rint(vector * scale).astype(np.int64)
    )
    assert refuted(plan(epsilon))


def test_half_the_noise_is_caught_with_many_canaries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is loose by half where δ is small, so this takes 20,000 canaries and an ε of about 2."""
    many = 20_000
    of = plan(2.2, rounds=1, parameters=many, cohort=many, cohort_cap=many)
    honest = run(of, many)
    assert honest.lower_bound <= honest.claimed
    real = vars(PrivacyPlan)["share"].fget
    monkeypatch.setattr(PrivacyPlan, "share", property(lambda me: real(me) / 2))
    assert refuted(of, many)


def test_shares_sized_for_all_sites_are_caught_where_few_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The likely slip, σΔ/√N a site: a sum of all is honest, one of T survivors less c colluders is not."""
    monkeypatch.setattr(PrivacyPlan, "share", property(lambda me: me.noise * me.bound / me.sites**0.5))
    of = plan(1.0, sites=40, cohort=M // 2, cohort_cap=M // 2)
    assert refuted(of)
    assert not refuted(of, sites=40)


def test_a_better_guess_is_never_worth_less() -> None:
    bounds = [lower_bound(1000, 200, right, 1e-5) for right in range(100, 201, 10)]
    assert bounds == sorted(bounds)
    assert bounds[-1] > 3
