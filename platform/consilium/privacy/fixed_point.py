"""Real numbers as integers mod 2**32, so that sums are exact, associative and ready to be masked.

An upload is P parameter coordinates followed by K tail coordinates. `FixedPoint` proves when it is made
that N uploads cannot leave the ring: every accepted input is bounded and N bounds fit below 2**31.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RING = 2**32
TAIL_BITS = 12
LOSS_CAP = 16.0
NORM_SLACK = 1e-4
"""Relative room that float32 rounding may take on a norm."""
CHUNK = 1 << 16
"""Coordinates worked on at once, so that they stay in the processor's cache."""
Ring = NDArray[np.uint32]
Real = NDArray[np.float32]


@dataclass(frozen=True)
class Tail:
    """The scalars that ride at the end of an upload.

    `weight` patients (integer), mean training `loss` (clipped to [0, LOSS_CAP]), `scored` held-out patients
    and the sums of their Dice by region, each in [0, scored].
    """

    weight: int
    loss: float
    scored: int
    dice_tc: float
    dice_wt: float
    dice_et: float


@dataclass(frozen=True)
class FixedPoint:
    """Encoder and decoder for `sites` uploads.

    A parameter coordinate x of an update with norm ≤ `clip` becomes round(x · 2**bits); a site's weight
    and scored patients are capped at `cap`.

    Raises:
        ValueError: N bounded uploads could wrap the ring: N·(limit + 1) or N·(cap·2**TAIL_BITS + 1) is
            2**31 or more.
    """

    sites: int
    clip: float
    bits: int
    cap: int

    def __post_init__(self) -> None:
        largest = max(self.limit, self.cap * 2**TAIL_BITS, int(LOSS_CAP) * 2**TAIL_BITS)
        if self.sites * (largest + 1) >= RING // 2:
            raise ValueError(
                f"{self.sites} uploads bounded by {largest} could wrap the ring of 2**32: "
                "lower scale_bits, clip or weight_cap"
            )

    @property
    def limit(self) -> int:
        """The largest size of an encoded coordinate, ⌊2**bits · clip⌋."""
        return math.floor(2.0**self.bits * self.clip)

    def longest(self, size: int, sites: int = 1) -> float:
        """The largest L2 norm of the sum of `sites` encoded updates of `size` coordinates, in ring units."""
        return sites * (2.0**self.bits * self.clip * (1 + NORM_SLACK) + math.sqrt(size) / 2 + 1)

    def encode(self, update: Real, tail: Tail, factor: float = 1.0, spare: int = 0) -> Ring:
        """(P,) float32 that has norm ≤ clip once multiplied by `factor`, and a tail → (P+K+spare,) uint32.

        No coordinate of the result is beyond `limit`: what float32 rounding puts above it is cut to it. The
        last `spare` coordinates are zeros, for tags.

        Raises:
            ValueError: a value is not finite, or a coordinate or the norm is beyond the bound by more than
                rounding.
        """
        scale = np.float32(factor * 2.0**self.bits)
        ring = np.zeros(update.size + 6 + spare, np.uint32)
        signed = ring.view(np.int32)
        buffer = np.empty(min(CHUNK, update.size), np.float32)
        squares, square = np.empty_like(buffer), 0.0
        for start in range(0, update.size, CHUNK):
            part = update[start : start + CHUNK]
            scaled = np.multiply(part, scale, out=buffer[: part.size])
            square += float(np.multiply(scaled, scaled, out=squares[: part.size]).sum())
            np.rint(scaled, out=scaled)
            largest = max(float(scaled.max()), -float(scaled.min()))
            if not largest <= self.limit * (1 + 1e-5) + 1:
                raise ValueError("update: a coordinate is not finite or above the clip bound")
            whole = signed[start : start + part.size]
            if largest > self.limit:
                np.clip(scaled.astype(np.float64), -self.limit, self.limit, out=whole, casting="unsafe")
            else:
                np.copyto(whole, scaled, casting="unsafe")
        if not square <= self.longest(update.size) ** 2:
            raise ValueError("update: its norm is above the clip bound")
        ring[update.size : update.size + 6] = self.encode_tail(tail)
        return ring

    def encode_tail(self, tail: Tail) -> Ring:
        """A tail → (K,) uint32. Raises `ValueError` naming a value outside its bound."""
        if not 0 <= tail.weight <= self.cap or not 0 <= tail.scored <= self.cap:
            raise ValueError(f"weight {tail.weight} and scored {tail.scored} must be in 0…{self.cap}")
        if not np.isfinite(tail.loss):
            raise ValueError("loss: must be finite")
        dice = (tail.dice_tc, tail.dice_wt, tail.dice_et)
        if not all(0.0 <= value <= tail.scored + 1e-6 for value in dice):
            raise ValueError(f"Dice sums {dice}: each must be in 0…{tail.scored}")
        loss = min(max(tail.loss, 0.0), LOSS_CAP)
        reals = [round(value * 2**TAIL_BITS) for value in (loss, *dice)]
        return np.array([tail.weight, reals[0], tail.scored, *reals[1:]], dtype=np.uint32)

    def decode_update(self, total: Ring) -> NDArray[np.float32]:
        """Opened sum of parameter coordinates (P,) uint32 → (P,) float32 sum of weighted updates."""
        return reals(total, self.bits)

    def decode_tail(self, total: Ring) -> Tail:
        """Opened sum of tails (K,) uint32 → the sums; `loss` is a sum over uploads."""
        values = total.view(np.int32).tolist()
        reals = [value * 2.0**-TAIL_BITS for value in values]
        return Tail(values[0], reals[1], values[2], *reals[3:6])


def reals(total: Ring, bits: int) -> Real:
    """Opened ring coordinates (P,), read as signed integers, over 2**bits, in float32."""
    found = total.view(np.int32).astype(np.float32)
    found *= np.float32(2.0**-bits)
    return found


def fits(total: Ring, longest: float) -> bool:
    """True if the norm of `total` (P,), read as signed integers, is at most `longest`; in exact integers."""
    square = 0
    for start in range(0, total.size, CHUNK):
        part = total[start : start + CHUNK].view(np.int32).astype(np.int64)
        high, low = part >> 16, part & 0xFFFF
        square += (int(np.dot(high, high)) << 32) + (int(np.dot(high, low)) << 17) + int(np.dot(low, low))
    return square <= int(longest) ** 2


def add_into(accumulator: Ring, upload: Ring) -> None:
    """accumulator += upload mod 2**32, in place: memory does not grow with the number of sites."""
    np.add(accumulator, upload, out=accumulator)
