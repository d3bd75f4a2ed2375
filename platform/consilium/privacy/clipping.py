"""Bounding one vector's L2 norm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
CHUNK = 1 << 16
"""Coordinates worked on at once, so that they stay in the processor's cache."""


def clip_factor(vector: Vector, bound: float) -> float:
    """The factor in (0, 1] that brings the L2 norm of `vector` (P,) to at most `bound`; 1 for a shorter one.

    The norm is accumulated in float64 over chunks, so the scaled norm exceeds `bound` by float32 rounding at
    most. Nothing is copied: the encoder applies the factor as it rounds.

    Raises:
        ValueError: a coordinate is NaN or infinite, or `bound` is not positive.
    """
    if not bound > 0.0:
        raise ValueError(f"clip bound {bound}: must be positive")
    squares = 0.0
    for start in range(0, vector.size, CHUNK):
        part = vector[start : start + CHUNK].astype(np.float64)
        squares += float(np.square(part, out=part).sum())  # np.dot would wake threads for each chunk
    norm = float(np.sqrt(squares))
    if not np.isfinite(norm):
        raise ValueError("update: holds NaN or infinite coordinates")
    return 1.0 if norm <= bound else bound / norm
