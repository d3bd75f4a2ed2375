"""Noise that a trusted aggregator adds to a sum before anybody sees it: the mechanism `central`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from consilium.contracts.charter import Charter
from consilium.privacy.noise import private_stream
from consilium.privacy.patients import ring
from consilium.privacy.plan import TAIL


def with_central_noise(charter: Charter, total: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The opened sum (U,) with noise of deviation σΔ on every coordinate but the tags.

    Unchanged unless the charter's mechanism is central. A sum whose noise was drawn but not yet
    checkpointed was released to nobody, so a later launch may draw it anew.
    """
    plan = charter.plan
    if plan is None or plan.mechanism != "central":
        return total
    size = min(total.size, plan.parameters + TAIL) if total.size > plan.parameters else TAIL
    noisy = ring(total[:size].view(np.int32).astype(np.int64), plan.noise * plan.bound, private_stream())
    return np.append(noisy, total[size:])
