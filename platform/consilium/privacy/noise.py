"""Discrete Gaussian noise from a cryptographic stream, in integers alone.

No floating-point number takes part in a draw: uniform 64-bit words are looked up in a table of integer
thresholds, so there are no low-order bits that tell (Mironov 2012). A wide Gaussian is x + k·y of two
narrow ones: with an exact table its distance from the discrete Gaussian is below 2**-100 a coordinate,
as long as each is wide against the gap it fills (Micciancio and Walter 2017). The table is worked out once in
doubles and ends at 9 deviations: a narrow draw is within 2**-40 of the exact one. A sum of n such draws of
deviation s is in the same sense one of √n·s (Kairouz, Liu and Steinke 2021), and the noise protects as the
continuous Gaussian does (Canonne, Kamath and Steinke 2020).
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

Words = Callable[[int], NDArray[np.uint64]]
"""Gives so many uniform 64-bit words."""
NARROW = 2.5
"""Deviation that each gap of a wide Gaussian is filled with, at least: exp(−2π²·2.5²) is 2**-178."""
REACH = 13
"""Deviations of a narrow Gaussian that its table covers: 63-bit thresholds end at 9."""
GUIDE_BITS = 16
"""Leading bits of a draw that decide most of them alone; the others are searched for in the thresholds."""
CHUNK = 1 << 18
LEAST = 0.5


def stream(key: bytes) -> Words:
    """Words of AES-256-CTR under a 32-byte key; every call goes on where the last one ended."""
    cipher = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return lambda count: np.frombuffer(cipher.update(bytes(8 * count)), np.uint64)


def private_stream() -> Words:
    """A stream under a fresh key from the operating system: the source of every draw outside tests."""
    return stream(os.urandom(32))


def discrete_gaussian(std: float, size: int, words: Words) -> NDArray[np.int64]:
    """(size,) int64 draws with P(x) ∝ exp(−x²/2s²), s = `std` in integer steps.

    Raises:
        ValueError: `std` is below 0.5 or not finite. So little noise protects nothing.
    """
    if not LEAST <= std < 2**40:
        raise ValueError(f"noise of deviation {std}: must be from {LEAST} to 2**40 integer steps")
    factor = math.isqrt(max(0, math.floor(std / NARROW) - 1))
    narrow = std / math.sqrt(1 + factor * factor)
    drawn = np.empty(size, np.int64)
    for start in range(0, size, CHUNK):
        part = drawn[start : start + CHUNK]
        part[:] = _narrow(narrow, part.size, words)
        if factor:
            part += np.multiply(_narrow(narrow, part.size, words), factor, dtype=np.int64)
    return drawn


def chosen(rate: float, count: int, words: Words) -> NDArray[np.bool_]:
    """(count,) private coins: each True with probability `rate`, to 2**-64 (Poisson sampling)."""
    if rate >= 1.0:
        return np.ones(count, np.bool_)
    return words(count) < np.uint64(rate * 2.0**64)


@functools.lru_cache(maxsize=8)
def _thresholds(std: float) -> NDArray[np.uint64]:
    """P(|x| ≥ k)·2**63 for k = K…1, ascending. Summed from the far end, so small ones are exact too."""
    sizes = np.arange(math.ceil(REACH * std) + 1, dtype=np.float64)
    density = np.exp(-(sizes**2) / (2.0 * std * std))
    density[1:] *= 2.0
    survival = np.cumsum(density[::-1])
    return np.asarray(survival[:-1] / survival[-1] * 2.0**63).astype(np.uint64)


@functools.lru_cache(maxsize=8)
def _guide(std: float) -> NDArray[np.int32]:
    """(2**16,) |x| of all draws that begin with these 16 bits, or −1 where a threshold lies among them."""
    table, rest = _thresholds(std), np.uint64(63 - GUIDE_BITS)
    least = np.arange(1 << GUIDE_BITS, dtype=np.uint64) << rest
    most = least | ((np.uint64(1) << rest) - np.uint64(1))
    above, last = (np.searchsorted(table, draws, side="right") for draws in (least, most))
    return np.where(above == last, table.size - above, -1).astype(np.int32)


def _narrow(std: float, size: int, words: Words) -> NDArray[np.int32]:
    """(size,) draws of a narrow Gaussian: 63 bits of a word decide |x|, the last one its sign."""
    drawn, table = words(size), _thresholds(std)
    magnitude: NDArray[np.int32] = _guide(std)[drawn >> np.uint64(64 - GUIDE_BITS)]
    unsure = np.flatnonzero(magnitude < 0)
    magnitude[unsure] = table.size - np.searchsorted(table, drawn[unsure] >> np.uint64(1), side="right")
    sign = 2 * (drawn & np.uint64(1)).astype(np.int32) - 1
    magnitude *= sign
    return magnitude
