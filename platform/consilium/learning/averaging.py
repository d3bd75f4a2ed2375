"""The server optimiser as every vault applies it: plain float32 steps, bit-equal on every machine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
CHUNK = 1 << 16
"""Coordinates worked on at once, so that they stay in the processor's cache."""


def site_share(weight: int, cap: int) -> float:
    """The factor w/cap that a site applies to its update before it is clipped and summed, in (0, 1]."""
    return min(weight, cap) / cap


def step(model: Vector, summed: Vector, factor: float) -> Vector:
    """model + factor · summed, all (P,) float32: one float32 product and one float32 sum a coordinate.

    With `summed` = Σ (w_i/cap) Δ_i and `factor` = lr·cap/Σw this is FedAvg (McMahan et al. 2017). A factor
    of 0 (nobody trained) returns the model unchanged.
    """
    if factor == 0.0:
        return model
    rate = np.float32(factor)
    stepped = np.empty_like(model)
    for start in range(0, model.size, CHUNK):
        part = slice(start, start + CHUNK)
        np.multiply(summed[part], rate, out=stepped[part])
        np.add(stepped[part], model[part], out=stepped[part])
    return stepped


def fedavg_factor(weight: int, cap: int, learning_rate: float) -> float:
    """lr·cap/Σw; 0 if nobody trained."""
    return learning_rate * cap / weight if weight > 0 else 0.0
