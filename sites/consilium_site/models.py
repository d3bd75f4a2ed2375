"""How a vault comes to its model: from the charter's initial file, from sums, or from a signed checkpoint.

Vaults accept sums, never models (DESIGN §6): the two exceptions are checked here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consilium.contracts.charter import Charter
from consilium.contracts.envelope import Envelope, unpack
from consilium.contracts.messages import ModelClaim, Order
from consilium.contracts.sums import Sums
from consilium.errors import InputError, Refused
from consilium.files import sha256_hex, write_atomic
from consilium.learning.parameters import unpack_model
from consilium.privacy.signatures import verify
from consilium.vocabulary import Reason

Vector = NDArray[np.float32]


def adopt_initial(charter: Charter, envelope: Envelope) -> Vector:
    """The initial parameters, whose file must have the charter's hash. Raises `Refused(WRONG_MODEL)`."""
    content = envelope.arrays["initial"].tobytes()
    if sha256_hex(content) != charter.model.initial:
        raise Refused(Reason.WRONG_MODEL)
    try:
        model = unpack_model(content)
    except InputError:
        raise Refused(Reason.WRONG_MODEL) from None
    _sized(model.frozen, charter.model.frozen, Reason.WRONG_MODEL)
    return _sized(model.parameters, charter.model.parameters, Reason.WRONG_MODEL)


def frozen(charter: Charter, runs: Path, envelope: Envelope) -> Vector:
    """The frozen parameters (F,) of the charter's initial file, which is kept beside the runs once seen.

    Raises:
        Refused: WRONG_MODEL if neither the order nor the site has a file of the charter's hash.
    """
    path = runs / f"initial-{charter.model.initial}.safetensors"
    if "initial" in envelope.arrays and not path.exists():
        adopt_initial(charter, envelope)
        write_atomic(path, [envelope.arrays["initial"].tobytes()])
    try:
        content = path.read_bytes()
    except OSError:
        raise Refused(Reason.WRONG_MODEL) from None
    if sha256_hex(content) != charter.model.initial:
        path.unlink(missing_ok=True)
        raise Refused(Reason.WRONG_MODEL)
    return unpack_model(content).frozen


def adopt_checkpoint(charter: Charter, order: Order, envelope: Envelope) -> Vector:
    """A model that T sites of the roster signed as the start of the round before this order's.

    Raises:
        Refused: WRONG_MODEL if the array does not have the order's hash; BAD_CERTIFICATE if fewer than T
            different roster sites signed that hash for that round of this run.
    """
    vector = _sized(envelope.arrays["model"], charter.model.parameters, Reason.WRONG_MODEL)
    if order.model is None or sha256_hex(vector.data) != order.model:
        raise Refused(Reason.WRONG_MODEL)
    claim = ModelClaim(charter=charter.id, run=order.run, round=order.round - 1, model=order.model)
    signers = {
        entry.site
        for entry in order.certificate
        if (member := charter.member(entry.site)) is not None
        and verify(member.identity, "model", claim.canonical(), entry.signature)
    }
    if len(signers) < charter.secure_aggregation.threshold:
        raise Refused(Reason.BAD_CERTIFICATE)
    return vector


def apply_sum(charter: Charter, model: Vector, total: NDArray[Any], survivors: int) -> Vector:
    """The model after the opened sum (U,) of so many survivors, by the charter's server optimiser.

    Raises:
        Refused: BAD_MESSAGE for a sum of the wrong size; BAD_SUM for one whose norm or weight is more than
            so many clipped uploads can have; BAD_UPDATE if the step gives a non-finite model.
    """
    total = _sized(total, charter.upload_size(), Reason.BAD_MESSAGE, np.uint32)
    sums = Sums(charter)
    if not sums.plausible(total, survivors):
        raise Refused(Reason.BAD_SUM)
    stepped = sums.step(model, total, survivors)
    if not np.isfinite(stepped).all():
        raise Refused(Reason.BAD_UPDATE)
    return stepped


def save(folder: Path, holds: int, model: Vector) -> None:
    """Write the model that starts round `holds`, atomically, beside an older one."""
    write_atomic(folder / f"model-{holds:05d}.safetensors", Envelope("model", {"model": model}).parts())


def load(folder: Path, holds: int) -> Vector | None:
    """The stored model that starts round `holds`; None if it is missing or unreadable."""
    path = folder / f"model-{holds:05d}.safetensors"
    try:
        return unpack(path.read_bytes(), path.name).arrays.get("model")
    except (InputError, OSError):
        return None


def forget_before(folder: Path, holds: int) -> None:
    """Drop models of earlier rounds, once `holds` is committed."""
    for path in folder.glob("model-*.safetensors"):
        if path.name < f"model-{holds:05d}":
            path.unlink(missing_ok=True)


def _sized(array: NDArray[Any], size: int, reason: Reason, dtype: Any = np.float32) -> NDArray[Any]:
    if array.shape != (size,) or array.dtype != dtype:
        raise Refused(reason)
    return array
