"""Noise that a trusted aggregator adds to a sum before anybody sees it: the mechanism `central`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from consilium.contracts.charter import Charter
from consilium.files import sha256_hex, write_secret
from consilium.privacy.masking import derive
from consilium.privacy.noise import stream
from consilium.privacy.patients import ring
from consilium.privacy.plan import TAIL

KEY_FILE = "central.key"


def with_central_noise(
    charter: Charter, folder: Path, number: int, total: NDArray[np.uint32]
) -> NDArray[np.uint32]:
    """The opened sum (U,) of the order of round `number` with noise of deviation σΔ on every coordinate.

    Unchanged unless the charter's mechanism is central. The noise is a function of the round, of the sum
    with its tags and of a random key in the run's folder: a launch that opens a sum again after a crash says
    the same again, and no average of two tells more. The tags become zeros: they are a hash of the exact sum
    under a key that every hospital has.
    """
    plan = charter.plan
    if plan is None or plan.mechanism != "central":
        return total
    size = TAIL + (plan.parameters if total.size > plan.parameters else 0)
    path = folder / KEY_FILE
    if not path.exists():
        write_secret(path, os.urandom(32))
    key = derive(path.read_bytes(), bytes.fromhex(sha256_hex(total.data)), "consilium/central", number)
    noisy = ring(total[:size].view(np.int32).astype(np.int64), plan.noise * plan.bound, stream(key))
    return np.append(noisy, np.zeros(total.size - size, np.uint32))
