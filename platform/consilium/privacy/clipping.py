"""Bounding one vector's L2 norm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


def clip_norm(vector: Vector, bound: float) -> Vector:
    """Scale `vector` (P,) so that its L2 norm is at most `bound`; a shorter one is returned unchanged.

    The norm is accumulated in float64, so the result's norm exceeds `bound` by float32 rounding at most.

    Raises:
        ValueError: a coordinate is NaN or infinite, or `bound` is not positive.
    """
    if not bound > 0.0:
        raise ValueError(f"clip bound {bound}: must be positive")
    norm = float(np.sqrt(np.dot(vector, vector.astype(np.float64, copy=False))))
    if not np.isfinite(norm):
        raise ValueError("update: holds NaN or infinite coordinates")
    return vector if norm <= bound else (vector * np.float32(bound / norm)).astype(np.float32)
