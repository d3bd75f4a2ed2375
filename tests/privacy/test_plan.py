"""The plan: numbers out of range are refused, noise is sized for the fewest, models are scored evenly."""

from __future__ import annotations

import itertools
import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.privacy.plan import MOST_STEPS, TAIL, PrivacyPlan


def plan(**changes: Any) -> PrivacyPlan:
    values: dict[str, Any] = {
        "unit": "patient",
        "mechanism": "distributed",
        "sites": 5,
        "threshold": 4,
        "colluding": 1,
        "parameters": 100,
        "rounds": 10,
        "steps": 1,
        "evaluations": 3,
        "sampling": 0.5,
        "cohort": 20,
        "cohort_cap": 30,
        "clip": 1.5,
        "noise": 2.0,
        "bits": 10,
        "epsilon": 8.0,
        "delta": 1e-5,
    }
    return PrivacyPlan(**values | changes)


@st.composite
def schedules(draw: st.DrawFn) -> PrivacyPlan:
    rounds = draw(st.integers(1, 300))
    return plan(rounds=rounds, evaluations=draw(st.integers(1, rounds + 1)))


@given(schedules())
def test_as_many_models_are_scored_as_planned_and_the_last_is_the_final_one(scored: PrivacyPlan) -> None:
    orders = [number for number in range(1, scored.rounds + 2) if scored.evaluates(number)]
    assert len(orders) == scored.evaluations
    assert orders[-1] == scored.rounds + 1
    assert scored.evaluations == 1 or orders[0] == 1
    gaps = {after - before for before, after in itertools.pairwise(orders)}
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert not scored.evaluates(0)
    assert not scored.evaluates(scored.rounds + 2)


@given(schedules(), st.floats(0.0, 1.0))
def test_evaluations_charged_are_those_that_were_ordered(scored: PrivacyPlan, part: float) -> None:
    closed = round(part * scored.rounds)
    ordered = sum(scored.evaluates(number) for number in range(1, closed + 1))
    assert scored.evaluated(closed, False) == ordered <= scored.evaluations - 1
    assert scored.evaluated(scored.rounds, True) == scored.evaluations


@given(st.integers(1, 40), st.data())
def test_every_sum_that_may_be_opened_carries_the_full_noise(sites: int, data: st.DataObject) -> None:
    """For all survivors from T to N, with c colluders' noise known and taken away."""
    threshold = data.draw(st.integers(1, sites))
    colluding = data.draw(st.integers(0, threshold - 1))
    shared = plan(sites=sites, threshold=threshold, colluding=colluding)
    full = (shared.noise * shared.bound) ** 2
    for survivors in range(threshold, sites + 1):
        left = shared.noise_of(survivors) ** 2 - colluding * shared.share**2
        assert left >= full * (1 - 1e-12)
    fewest = shared.noise_of(threshold) ** 2 - colluding * shared.share**2
    assert fewest == pytest.approx(full), "more than that is noise for nothing"


def test_a_local_share_is_all_of_the_noise_and_a_central_one_is_none() -> None:
    assert plan(mechanism="local").share == 2.0 * 1536
    assert plan(mechanism="local").noise_of(4) == 2.0 * 1536 * 2
    assert plan(mechanism="central").share == 0.0
    assert plan(mechanism="central").noise_of(4) == plan(mechanism="central").noise_of(5) == 2.0 * 1536


def test_figures_of_a_sum() -> None:
    one = plan()
    assert one.bound == 1536
    assert plan(clip=0.3).bound == math.ceil(307.2)
    assert one.share == pytest.approx(2.0 * 1536 / math.sqrt(3))
    assert (one.most, one.divisor(4)) == (30, 40.0)
    site = plan(unit="site", sampling=1.0)
    assert (site.most, site.divisor(4)) == (1, 4)
    assert one.largest() == pytest.approx(5 * 30 * 1536 + 12 * one.noise_of(5))
    units, noise = one.longest(4) - one.longest(0), one.noise_of(4)
    assert units == pytest.approx(4 * 30 * 1536 + noise * (math.sqrt(100 + TAIL) + 12))


def test_a_plan_never_changes() -> None:
    with pytest.raises(FrozenInstanceError):
        plan().noise = 0.1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip": 0.0}, "clip 0.0"),
        ({"noise": 0.0}, "noise 0.0"),
        ({"noise": math.nan}, "noise nan"),
        ({"clip": math.nan}, "clip nan"),
        ({"sampling": 0.0}, "sampling 0.0"),
        ({"sampling": 1.01}, "sampling 1.01"),
        ({"colluding": 4}, "colluding 4 must be below threshold 4"),
        ({"colluding": -1}, "colluding -1"),
        ({"threshold": 6}, "threshold 6.* 5"),
        ({"delta": 0.0}, "delta 0.0"),
        ({"delta": 1.0}, "delta 1.0"),
        ({"cohort": 0}, "cohort 0"),
        ({"cohort": 31}, "cohort 31 must be from 1 to cohort_cap 30"),
        ({"unit": "site"}, "sampling must be 1"),
        ({"steps": 2}, "training.steps 2"),
        ({"evaluations": 0}, "evaluations 0 must be from 1 to 11"),
        ({"evaluations": 12}, "evaluations 12"),
        ({"rounds": MOST_STEPS + 1}, "100,000"),
        ({"mechanism": "local", "steps": MOST_STEPS // 10 + 1}, "100,000"),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**changes)


def test_many_steps_are_for_local_noise_or_whole_sites() -> None:
    assert plan(mechanism="local", steps=50).steps == 50
    assert plan(unit="site", sampling=1.0, steps=50).steps == 50


def test_sums_that_could_wrap_and_noise_too_coarse_are_refused() -> None:
    fits = plan()
    fits.check_ring()
    scale = math.floor(math.log2(2**31 / fits.largest()))
    replace(fits, bits=10 + scale).check_ring()
    with pytest.raises(ValueError, match=r"could wrap the ring"):
        replace(fits, bits=11 + scale).check_ring()
    with pytest.raises(ValueError, match="raise scale_bits"):
        replace(fits, bits=0).check_ring()
    with pytest.raises(ValueError, match="raise scale_bits"):
        replace(fits, bits=0, clip=1.0, mechanism="central").check_ring()
    replace(fits, bits=1, clip=1.0, mechanism="central").check_ring()
