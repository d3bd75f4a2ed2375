"""Noise: exact where it is small, Gaussian where it is large, enough in every sum, never drawn twice."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from consilium.privacy import noise
from consilium.privacy.noise import CHUNK, Words, chosen, discrete_gaussian, private_stream, stream
from consilium.privacy.patients import PatientSum
from consilium.privacy.plan import PrivacyPlan

KEY, OTHER = bytes(32), bytes(31) + b"\1"
SIZE = 20_000


def plan(**changes: Any) -> PrivacyPlan:
    values: dict[str, Any] = {
        "unit": "patient",
        "mechanism": "distributed",
        "sites": 5,
        "threshold": 4,
        "colluding": 1,
        "parameters": SIZE,
        "rounds": 10,
        "steps": 1,
        "evaluations": 3,
        "sampling": 1.0,
        "cohort": 5,
        "cohort_cap": 5,
        "clip": 1.0,
        "noise": 2.0,
        "bits": 12,
        "epsilon": 8.0,
        "delta": 1e-5,
    }
    return PrivacyPlan(**values | changes)


def mass(std: float, reach: int) -> np.ndarray:
    """P(x) ∝ exp(−x²/2s²) for x from −reach to reach, by its definition."""
    weights = np.exp(-(np.arange(-reach, reach + 1, dtype=np.float64) ** 2) / (2 * std * std))
    return np.asarray(weights / weights.sum())


def looks_like(drawn: np.ndarray, std: float) -> float:
    """p-value of a chi-square test against the exact mass; cells expected fewer than 10 times are joined."""
    reach = math.ceil(12 * std)
    expected = mass(std, reach) * drawn.size
    counted = np.bincount(drawn + reach, minlength=2 * reach + 1)
    rare = expected < 10
    observed = np.append(counted[~rare], counted[rare].sum())
    return float(stats.chisquare(observed, np.append(expected[~rare], expected[rare].sum())).pvalue)


@pytest.mark.parametrize("std", [0.5, 0.8, 1.7, 2.5, 4.9, 5.0, 6.3, 30.0])
def test_small_noise_has_the_exact_mass(std: float) -> None:
    assert looks_like(discrete_gaussian(std, 300_000, stream(KEY)), std) > 1e-3
    assert looks_like(discrete_gaussian(std * 1.02, 300_000, stream(KEY)), std) < 1e-3, "the test is blunt"


@pytest.mark.parametrize("std", [0.5, 0.8, 4.9, 5.0, 12.6, 47.0, 300.0])
def test_the_thresholds_make_the_exact_mass(std: float) -> None:
    """No draws: the masses that the table holds, of x + k·y where there are two, against the definition."""
    factor = math.isqrt(max(0, math.floor(std / noise.NARROW) - 1))
    table = noise._thresholds(std / math.sqrt(1 + factor * factor)) / 2.0**63
    assert factor == 0 or std >= 5
    sizes = np.diff(np.append(np.append(0.0, table), 1.0))[::-1]  # P(|x| = 0), P(|x| = 1), …
    sides = sizes[1:] / 2
    made = np.concatenate([sides[::-1], sizes[:1], sides])
    if factor:
        spread = np.zeros((made.size - 1) * factor + 1)
        spread[::factor] = made
        made = np.convolve(made, spread)
    assert np.abs(made - mass(std, made.size // 2)).sum() < 1e-13


@pytest.mark.parametrize("std", [1e3, 1e5, 3.3e7])
def test_large_noise_is_gaussian(std: float) -> None:
    drawn = discrete_gaussian(std, 200_000, stream(KEY))
    assert stats.kstest(drawn, stats.norm(scale=std).cdf).pvalue > 1e-3
    assert np.var(drawn) / std**2 == pytest.approx(1.0, abs=4 * math.sqrt(2 / drawn.size))
    assert abs(drawn.mean()) < 4 * std / math.sqrt(drawn.size)
    assert abs(stats.kurtosis(drawn)) < 4 * math.sqrt(24 / drawn.size)
    assert drawn.dtype == np.int64
    assert np.mean(drawn % 2) == pytest.approx(0.5, abs=0.01), "low bits carry no pattern"


def test_extreme_words_give_zero_and_the_far_ends() -> None:
    assert discrete_gaussian(3.0, 2, lambda count: np.full(count, 2**64 - 1, np.uint64)).tolist() == [0, 0]
    low = discrete_gaussian(3.0, 2, lambda count: np.zeros(count, np.uint64))
    high = discrete_gaussian(3.0, 2, lambda count: np.ones(count, np.uint64))
    assert low.tolist() == (-high).tolist()
    assert 8 * 3 < high[0] <= 13 * 3


def test_a_word_at_a_threshold_is_not_below_it() -> None:
    table = noise._thresholds(3.0)
    table = table[table > 100]
    at, below = (
        (table << np.uint64(1)) | np.uint64(1),
        ((table - np.uint64(1)) << np.uint64(1)) | np.uint64(1),
    )
    sizes = np.arange(table.size, 0, -1)
    assert np.array_equal(discrete_gaussian(3.0, table.size, lambda count: at), sizes - 1)
    assert np.array_equal(discrete_gaussian(3.0, table.size, lambda count: below), sizes)


@pytest.mark.parametrize("std", [0.49, 0.0, -1.0, math.nan, math.inf, 2.0**40])
def test_noise_that_protects_nothing_is_refused(std: float) -> None:
    with pytest.raises(ValueError, match=r"from 0\.5 to 2\*\*40"):
        discrete_gaussian(std, 3, stream(KEY))


def test_a_stream_is_aes_256_in_counter_mode_and_goes_on() -> None:
    """The first block under the zero key is the published encryption of zero."""
    assert stream(KEY)(2).tobytes().hex() == "dc95c078a2408989ad48a21492842087"
    words = stream(KEY)
    assert np.array_equal(np.concatenate([words(3), words(0), words(5)]), stream(KEY)(8))
    with pytest.raises(ValueError, match="key"):
        stream(bytes(31))


def test_the_same_key_draws_the_same_and_sizes_are_kept() -> None:
    long = discrete_gaussian(100.0, CHUNK + 7, stream(KEY))
    assert np.array_equal(long[:CHUNK], discrete_gaussian(100.0, CHUNK, stream(KEY)))
    assert not np.array_equal(long[CHUNK:], long[:7])
    assert discrete_gaussian(100.0, 0, stream(KEY)).shape == (0,)


def test_coins_fall_at_their_rate() -> None:
    edge = np.array([0, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)
    assert chosen(0.5, 4, lambda count: edge).tolist() == [True, True, False, False]
    assert chosen(1.0, 4, lambda count: edge).all()
    assert not chosen(1e-30, 1000, stream(KEY)).any()
    assert chosen(0.3, 0, stream(KEY)).shape == (0,)
    assert chosen(0.3, 100_000, stream(KEY)).mean() == pytest.approx(0.3, abs=0.006)


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    """|r| in the deviations that independent draws have; below 5 for those."""
    return abs(float(np.corrcoef(left, right)[0, 1])) * math.sqrt(left.size)


def test_different_keys_and_what_follows_in_one_stream_are_independent() -> None:
    words = stream(KEY)
    first, after = (discrete_gaussian(50.0, 200_000, words) for _ in range(2))
    other = discrete_gaussian(50.0, 200_000, stream(OTHER))
    assert correlation(first, other) < 5
    assert correlation(first, after) < 5
    assert correlation(first[1:], first[:-1]) < 5


def test_a_private_stream_never_repeats() -> None:
    assert len({private_stream()(4).tobytes() for _ in range(200)}) == 200


def upload(of: PrivacyPlan, words: Words) -> np.ndarray:
    """The noise that a site adds to an empty sum, on the real path, as signed integers."""
    return PatientSum(of, of.parameters).noised(words).view(np.int32).astype(np.float64)


def enough(of: PrivacyPlan) -> bool:
    """True if all sums of T or more sites keep (σΔ)² once c colluders take away what they added.

    Measured within 5 standard deviations of its estimate.
    """
    added = [upload(of, stream(bytes([site]) * 32)) for site in range(of.sites)]
    needed = (of.noise * of.bound) ** 2 * (1 - 5 * math.sqrt(2 / added[0].size))
    sums = [sum(added[of.colluding : last]) for last in range(of.threshold, of.sites + 1)]
    return all(float(np.var(left)) >= needed for left in sums)


@pytest.mark.parametrize(("sites", "threshold", "colluding"), [(3, 3, 1), (5, 4, 1), (9, 6, 2), (12, 8, 3)])
def test_every_sum_carries_the_noise_and_half_of_it_is_noticed(
    sites: int, threshold: int, colluding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = plan(sites=sites, threshold=threshold, colluding=colluding)
    assert enough(of)
    real = vars(PrivacyPlan)["share"].fget

    def scaled(part: float, me: PrivacyPlan) -> float:
        return part * float(real(me))

    for part in (0.5, 0.9):
        monkeypatch.setattr(PrivacyPlan, "share", property(functools.partial(scaled, part)))
        assert not enough(of)


def test_shares_sized_for_all_sites_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The likely slip: σΔ/√N, which lacks noise as soon as a site drops or colludes."""
    monkeypatch.setattr(PrivacyPlan, "share", property(lambda me: me.noise * me.bound / math.sqrt(me.sites)))
    assert not enough(plan())


def test_a_sum_without_noise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "consilium.privacy.patients.discrete_gaussian", lambda std, size, words: np.zeros(size, np.int64)
    )
    assert not enough(plan())


def test_a_sum_of_shares_is_gaussian() -> None:
    of = plan(sites=9, threshold=6, colluding=2)
    total = sum(upload(of, stream(bytes([site]) * 32)) for site in range(9))
    assert stats.kstest(total, stats.norm(scale=of.noise_of(9)).cdf).pvalue > 1e-3


def fresh(source: Callable[[], Words]) -> bool:
    """True if two sites, and two rounds of one site, draw independent noise from this source."""
    of = plan()
    one, two, later = (upload(of, source()) for _ in range(3))
    return max(correlation(one, two), correlation(one, later), correlation(two, later)) < 6


def test_noise_is_fresh_and_a_reused_stream_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fresh(private_stream)
    assert not fresh(lambda: stream(KEY))
    kept = iter([stream(KEY), stream(OTHER), stream(KEY)])
    assert not fresh(lambda: next(kept)), "the round after next repeats the first"
    with monkeypatch.context() as patched:
        patched.setattr("os.urandom", bytes)
        assert not fresh(private_stream)
