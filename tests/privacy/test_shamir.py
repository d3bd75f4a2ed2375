"""Secret sharing: T shares are enough, T − 1 say nothing, wrong ones are noticed."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.privacy.shamir import PRIME, combine, share

SECRETS = st.binary(min_size=32, max_size=32)


@st.composite
def setting(draw: st.DrawFn) -> tuple[int, int]:
    holders = draw(st.integers(1, 12))
    return holders, draw(st.integers(1, holders))


@given(SECRETS, setting(), st.randoms(use_true_random=False))
def test_any_threshold_of_shares_gives_the_secret(
    secret: bytes, numbers: tuple[int, int], chosen: random.Random
) -> None:
    holders, threshold = numbers
    shares = dict(enumerate(share(secret, holders, threshold, os.urandom), start=1))
    some = dict(chosen.sample(sorted(shares.items()), threshold))
    assert combine(some, threshold) == secret
    assert combine(shares, threshold) == secret


@given(SECRETS, SECRETS, st.integers(2, 8))
def test_one_share_less_fits_every_secret(secret: bytes, other: bytes, threshold: int) -> None:
    """T − 1 shares and any other secret lie on a polynomial too: a T-th share exists that gives it."""
    shares = dict(enumerate(share(secret, threshold, threshold, os.urandom), start=1))
    del shares[threshold]
    points = {0: int.from_bytes(other, "big"), **{x: int.from_bytes(y, "big") for x, y in shares.items()}}
    missing = lagrange(points, threshold)
    assert combine({**shares, threshold: missing.to_bytes(33, "big")}, threshold) == other


def lagrange(points: dict[int, int], at: int) -> int:
    """Plain interpolation, apart from the code under test."""
    total = 0
    for x, y in points.items():
        term = y
        for other in points:
            if other != x:
                term = term * (at - other) * pow(x - other, -1, PRIME) % PRIME
        total = (total + term) % PRIME
    return total


@given(SECRETS, st.integers(2, 8), st.integers(0, 263))
def test_a_changed_share_is_noticed_where_there_is_one_to_spare(
    secret: bytes, threshold: int, bit: int
) -> None:
    shares = dict(enumerate(share(secret, threshold + 1, threshold, os.urandom), start=1))
    changed = int.from_bytes(shares[1], "big") ^ (1 << bit)
    with pytest.raises(ValueError, match="share"):
        combine({**shares, 1: changed.to_bytes(33, "big")}, threshold)


def test_bad_numbers_are_refused_with_the_rule() -> None:
    with pytest.raises(ValueError, match="needs at least the threshold, 3"):
        combine({1: bytes(33), 2: bytes(33)}, 3)
    with pytest.raises(ValueError, match="33 bytes below the prime"):
        combine({1: b"\xff" * 33}, 1)
    with pytest.raises(ValueError, match="holder from 1"):
        combine({0: bytes(33)}, 1)
    with pytest.raises(ValueError, match="32 bytes"):
        share(bytes(31), 3, 2, os.urandom)


def test_the_prime_is_prime_and_the_smallest_above_two_to_the_256() -> None:
    assert probably_prime(PRIME)
    assert not any(probably_prime(2**256 + number) for number in range(1, 297))


def probably_prime(number: int) -> bool:
    """Miller–Rabin with 20 fixed bases."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71):
        value = pow(base, odd, number)
        if value in (1, number - 1):
            continue
        for _ in range(twos - 1):
            value = value * value % number
            if value == number - 1:
                break
        else:
            return False
    return True


def test_draws_above_the_prime_are_thrown_away() -> None:
    """Rejection sampling: draws above the prime are thrown away."""
    drawn = iter([b"\xff" * 33, bytes(1) + b"\x01" * 32, b"\x01" * 33, bytes(1) + b"\x02" * 32])
    shares = share(bytes(32), 3, 3, lambda size: next(drawn))
    assert combine(dict(enumerate(shares, start=1)), 3) == bytes(32)
    assert next(drawn, None) is None
