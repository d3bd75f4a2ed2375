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


def step(model: Vector, summed: Vector, total_weight: int, cap: int, learning_rate: float) -> Vector:
    """FedAvg (McMahan et al. 2017): model + lr · Σ w_i Δ_i / Σ w_i, all (P,) float32.

    `summed` is Σ (w_i/cap) Δ_i, so the factor is lr·cap/Σw. One float32 product and one float32 sum a
    coordinate; a `total_weight` of 0 (nobody trained) returns the model unchanged.
    """
    if total_weight <= 0:
        return model
    factor = np.float32(learning_rate * cap / total_weight)
    stepped = np.empty_like(model)
    for start in range(0, model.size, CHUNK):
        part = slice(start, start + CHUNK)
        np.multiply(summed[part], factor, out=stepped[part])
        np.add(stepped[part], model[part], out=stepped[part])
    return stepped
