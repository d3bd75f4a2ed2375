"""Noise that a trusted aggregator adds to a sum before anybody sees it: the mechanism `central`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from consilium.contracts.charter import Charter
from consilium.files import sha256_hex, write_atomic
from consilium.privacy.masking import derive
from consilium.privacy.noise import stream
from consilium.privacy.patients import ring
from consilium.privacy.plan import TAIL

KEY_FILE = "central.key"


def with_central_noise(charter: Charter, folder: Path, total: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The opened sum (U,) with noise of deviation σΔ on every coordinate but the tags.

    Unchanged unless the charter's mechanism is central. The noise is a function of the sum and of a random
    key in the run's folder: a launch that opens a sum again after a crash says the same again, and no
    average of two tells more.
    """
    plan = charter.plan
    if plan is None or plan.mechanism != "central":
        return total
    size = TAIL + (plan.parameters if total.size > plan.parameters else 0)
    path = folder / KEY_FILE
    if not path.exists():
        write_atomic(path, os.urandom(32))
        path.chmod(0o600)
    key = derive(path.read_bytes(), bytes.fromhex(sha256_hex(total.data)), "consilium/central")
    noisy = ring(total[:size].view(np.int32).astype(np.int64), plan.noise * plan.bound, stream(key))
    return np.append(noisy, total[size:])
