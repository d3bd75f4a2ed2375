"""What one unit adds is within the bound in exact integers, whatever its gradient, loss or scores are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from consilium.privacy import patients
from consilium.privacy.noise import stream
from consilium.privacy.patients import PatientSum, bounded, ring
from consilium.privacy.plan import LOSS_MOST, TAIL, PrivacyPlan, Unit

SIZE = 12
MOST = float(np.finfo(np.float32).max)
ANY = st.floats(width=32, allow_nan=True, allow_infinity=True)
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
EXTREME = st.sampled_from([0.0, 1e-45, -1e-38, 1e-7, 0.5, -0.6, 1.0, 3e4, -1e19, 1e38, MOST, -MOST])


def plan(**changes: Any) -> PrivacyPlan:
    values: dict[str, Any] = {
        "unit": "patient",
        "mechanism": "distributed",
        "sites": 4,
        "threshold": 3,
        "colluding": 1,
        "parameters": SIZE,
        "rounds": 10,
        "steps": 1,
        "evaluations": 3,
        "sampling": 1.0,
        "cohort": 5,
        "cohort_cap": 5,
        "clip": 1.0,
        "noise": 4.0,
        "bits": 16,
        "epsilon": 8.0,
        "delta": 1e-5,
    }
    return PrivacyPlan(**values | changes)


def square(vector: np.ndarray) -> int:
    """The squared norm in integers without bounds."""
    assert vector.dtype == np.int64
    return sum(value * value for value in vector.tolist())


def vectors(elements: st.SearchStrategy[float]) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float32, st.integers(0, 40), elements=elements)


@given(vectors(ANY | EXTREME), st.integers(0, 24), st.integers(1, 2**30) | st.integers(1, 100))
@example(np.full(40, MOST, np.float32), 24, 1)
@example(np.full(40, 0.6, np.float32), 0, 3)
@settings(max_examples=400)
def test_the_integer_norm_is_within_the_bound_for_any_input(
    vector: np.ndarray, bits: int, bound: int
) -> None:
    before = vector.copy()
    cut = bounded(vector, 2.0**bits, bound)
    assert square(cut) <= bound * bound
    assert np.array_equal(vector, before, equal_nan=True)
    if not np.isfinite(vector).all():
        assert not cut.any(), "NaN and infinite count as zero"


@pytest.mark.parametrize("value", [1e-45, 1e-4, 0.5, 0.51, 0.6, 1.49, 700.0, 1e30, MOST])
@pytest.mark.parametrize("bound", [1, 1000, 2**20])
def test_the_integer_norm_is_within_the_bound_in_many_dimensions(value: float, bound: int) -> None:
    signs = np.where(np.arange(300_000) % 2, np.float32(1), np.float32(-1))
    cut = bounded(signs * np.float32(value), 1.0, bound)
    assert int(np.square(cut).sum()) <= bound * bound
    assert np.abs(cut).max() <= bound, "so that the sum of squares above did not wrap"


@given(arrays(np.float32, 40, elements=FINITE | EXTREME), st.integers(0, 24))
def test_a_long_vector_keeps_its_direction_and_a_short_one_is_only_rounded(
    vector: np.ndarray, bits: int
) -> None:
    bound, exact = 2**24, vector.astype(np.float64) * 2.0**bits
    cut, norm = bounded(vector, 2.0**bits, bound), float(np.linalg.norm(exact))
    if norm < bound - 10:
        assert np.abs(cut - exact).max() <= 0.5
    else:
        assert np.linalg.norm(cut - exact * (bound / norm)) <= 1e-4 * bound


@pytest.mark.parametrize("seed", range(8))
def test_rounding_does_not_eat_a_large_gradient(seed: int) -> None:
    vector = np.random.default_rng(seed).normal(size=100_000).astype(np.float32)
    assert square(bounded(vector, 2.0**16, 2**20)) > (0.99 * 2**20) ** 2
    coarse = bounded(
        vector, 2.0**16, 2**12
    )  # 13 steps a coordinate, so that rounding to nearest lengthens it
    assert (0.95 * 2**12) ** 2 < square(coarse) <= 2**24


LOSS = st.floats(allow_nan=True, allow_infinity=True)
DICE = st.tuples(*[st.sampled_from([0.0, 1.0]) | st.floats(allow_nan=True, allow_infinity=True)] * 3)
PLANS = st.builds(plan, clip=st.floats(1.0, 50.0), bits=st.integers(0, 18))


@given(
    PLANS, arrays(np.float32, SIZE, elements=ANY | EXTREME), LOSS, arrays(np.float32, SIZE, elements=FINITE)
)
def test_one_patient_more_changes_the_sum_by_at_most_the_bound(
    of: PrivacyPlan, descent: np.ndarray, loss: float, other: np.ndarray
) -> None:
    summed = PatientSum(of, SIZE)
    summed.train(other, 1.0)
    before = summed.total.copy()
    summed.train(descent, loss)
    assert square(summed.total - before) <= of.bound**2


@given(PLANS, DICE)
def test_one_held_out_patient_more_changes_the_sum_by_at_most_the_bound(
    of: PrivacyPlan, dice: tuple[float, float, float]
) -> None:
    summed = PatientSum(of, 0)
    summed.evaluate((0.1, 0.2, 0.3))
    before = summed.total.copy()
    summed.evaluate(dice)
    assert square(summed.total - before) <= of.bound**2


@given(PLANS, arrays(np.float32, SIZE, elements=ANY | EXTREME), LOSS, DICE)
def test_a_whole_site_changes_the_sum_by_at_most_the_bound(
    of: PrivacyPlan, descent: np.ndarray, loss: float, dice: tuple[float, float, float]
) -> None:
    summed = PatientSum(plan(unit="site", clip=of.clip, bits=of.bits), SIZE)
    summed.train(descent, loss)
    summed.evaluate(dice)
    assert square(summed.total) <= of.bound**2


@pytest.mark.parametrize("unit", ["patient", "site"])
def test_the_bound_is_used_not_wasted(unit: Unit) -> None:
    of = plan(unit=unit)
    trained, scored = PatientSum(of, SIZE), PatientSum(of, 0)
    trained.train(np.full(SIZE, 1e3, np.float32), 1e9)
    scored.evaluate((0.0, 1.0, 1.0))
    if unit == "site":
        trained.evaluate((0.0, 1.0, 1.0))
    else:
        assert square(scored.total) > (0.999 * of.bound) ** 2
    assert square(trained.total) > (0.999 * of.bound) ** 2


def test_loss_and_scores_are_told_in_their_share_of_the_bound() -> None:
    of = plan()
    for loss, part in ((1.0, 0.25), (LOSS_MOST, 1.0), (1e9, 1.0), (-3.0, 0.0), (float("nan"), 0.0)):
        summed = PatientSum(of, SIZE)
        summed.train(np.zeros(SIZE, np.float32), loss)
        assert summed.total[SIZE + 1] == int(part * 0.1 * of.bound)
        assert np.count_nonzero(summed.total) == (1 if part else 0)
    summed = PatientSum(of, 0)
    for dice in ((1.0, 0.5, 0.25), (float("nan"), 2.0, -1.0)):
        summed.evaluate(dice)
    half = of.bound // 2
    assert summed.total.tolist() == [0, 0, 2 * half, 0, half, -half // 2 - half]


def test_a_sum_goes_into_the_ring_and_back() -> None:
    total = np.array([0, 1, -1, 2**31 - 1, -(2**31), 77], np.int64)
    assert ring(total, 0.0, stream(bytes(32))).view(np.int32).tolist() == total.tolist()
    of = plan()
    summed = PatientSum(of, SIZE)
    summed.train(np.linspace(-1, 1, SIZE).astype(np.float32), 1.0)
    noisy = summed.noised(stream(bytes(32)))
    assert noisy.dtype == np.uint32
    assert noisy.shape == (SIZE + TAIL,)
    noise = noisy.view(np.int32) - summed.total
    assert np.count_nonzero(noise) >= SIZE + TAIL - 1, "no coordinate is exact"
    assert np.abs(noise).max() < 6 * of.share


def test_an_empty_sample_uploads_noise() -> None:
    assert np.count_nonzero(PatientSum(plan(), SIZE).noised(stream(bytes(32)))) >= SIZE + TAIL - 1


def test_a_plan_that_could_wrap_sums_nothing() -> None:
    with pytest.raises(ValueError, match="could wrap"):
        PatientSum(plan(bits=30), SIZE)


def clips() -> bool:
    """True if a patient with a monstrous gradient stays within the bound."""
    of = plan()
    summed = PatientSum(of, SIZE)
    summed.train(np.full(SIZE, 1e3, np.float32), 1.0)
    return square(summed.total) <= of.bound**2


def test_the_check_sees_that_clipping_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert clips()
    monkeypatch.setattr(
        patients, "bounded", lambda vector, scale, bound: np.rint(vector * scale).astype(np.int64)
    )
    assert not clips()


def test_the_check_sees_that_the_loss_is_added_on_top(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient that takes all of the bound leaves no room for a loss beside it."""
    monkeypatch.setattr(PrivacyPlan, "step_share", 1.0)
    of = plan()
    summed = PatientSum(of, SIZE)
    summed.train(np.full(SIZE, 1e3, np.float32), LOSS_MOST)
    assert square(summed.total) > of.bound**2
