"""Shamir's secret sharing (Shamir 1979) of 32-byte secrets over the field of PRIME elements.

T shares of N give the secret; T − 1 say nothing about it: every secret is equally consistent with them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

PRIME = 2**256 + 297
"""The smallest prime above 2**256, so that every 32-byte secret is a field element."""
SECRET_BYTES = 32
SHARE_BYTES = 33
Random = Callable[[int], bytes]
"""Gives that many bytes from a cryptographic source."""


def share(secret: bytes, holders: int, threshold: int, random: Random) -> tuple[bytes, ...]:
    """Shares of holders 1 … `holders`, 33 bytes each; any `threshold` of them give the secret.

    Raises:
        ValueError: the secret is not 32 bytes, or not 1 ≤ threshold ≤ holders.
    """
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= holders:
        raise ValueError(
            f"secret of {len(secret)} bytes, threshold {threshold} of {holders}: needs 32 bytes and "
            "1 ≤ threshold ≤ holders"
        )
    coefficients = [int.from_bytes(secret, "big"), *(_element(random) for _ in range(threshold - 1))]
    return tuple(_evaluate(coefficients, x).to_bytes(SHARE_BYTES, "big") for x in range(1, holders + 1))


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret behind the shares of the given holders (1-based).

    Raises:
        ValueError: fewer than `threshold` shares, a share or holder that is none, shares of which more
            than `threshold` do not lie on one polynomial, or a result that is no 32-byte secret.
    """
    if len(shares) < threshold or threshold < 1:
        raise ValueError(f"{len(shares)} shares: needs at least the threshold, {threshold}")
    values = {holder: _value(holder, piece) for holder, piece in shares.items()}
    holders = tuple(sorted(values))
    used, extra = holders[:threshold], holders[threshold:]
    for holder in extra:
        if _interpolate(values, used, holder) != values[holder]:
            raise ValueError(f"share of holder {holder}: does not fit the others")
    secret = _interpolate(values, used, 0)
    if secret >> (8 * SECRET_BYTES):
        raise ValueError("shares: do not combine to a 32-byte secret")
    return secret.to_bytes(SECRET_BYTES, "big")


def _element(random: Random) -> int:
    """A uniform field element, by rejection: 257 bits, of which half are thrown away."""
    while True:
        drawn = int.from_bytes(random(SHARE_BYTES), "big") & ((1 << 257) - 1)
        if drawn < PRIME:
            return drawn


def _evaluate(coefficients: list[int], x: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % PRIME
    return value


def _value(holder: int, piece: bytes) -> int:
    value = int.from_bytes(piece, "big")
    if not 1 <= holder < PRIME or len(piece) != SHARE_BYTES or value >= PRIME:
        raise ValueError(
            f"share of holder {holder}, {len(piece)} bytes: needs a holder from 1 below the prime and "
            "33 bytes below the prime"
        )
    return value


def _interpolate(values: Mapping[int, int], used: tuple[int, ...], at: int) -> int:
    weights = _weights(used, at)
    return sum(values[holder] * weight for holder, weight in zip(used, weights, strict=True)) % PRIME


@functools.lru_cache(maxsize=256)
def _weights(used: tuple[int, ...], at: int) -> tuple[int, ...]:
    """Lagrange weights for the value at `at`, not one of `used`, of the polynomial through `used`."""
    whole = 1
    for holder in used:
        whole = whole * (at - holder) % PRIME
    parts = zip(used, _denominators(used), strict=True)
    return tuple(whole * _inverse(at - holder) * inverse % PRIME for holder, inverse in parts)


@functools.lru_cache(maxsize=16)
def _denominators(used: tuple[int, ...]) -> tuple[int, ...]:
    """1 / Π (x − other) for each x of `used`: the part of its weight that is the same everywhere."""
    inverses = []
    for holder in used:
        bottom = 1
        for other in used:
            if other != holder:
                bottom = bottom * (holder - other) % PRIME
        inverses.append(_inverse(bottom))
    return tuple(inverses)


@functools.lru_cache(maxsize=1024)
def _inverse(number: int) -> int:
    return pow(number, -1, PRIME)
