"""Envelope ↔ Flower RecordDict. Arrays travel as raw little-endian bytes, which flwr cuts into objects."""

from __future__ import annotations

from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from consilium.contracts.envelope import Envelope
from consilium.errors import InputError

STYPE = "consilium.raw"
MESSAGE_TYPE = "query"
DTYPES = ("uint8", "uint32", "float32")


def to_records(envelope: Envelope) -> RecordDict:
    """A RecordDict with the records `header` and `arrays`."""
    arrays = {
        name: Array(dtype=str(array.dtype), shape=tuple(array.shape), stype=STYPE, data=array.tobytes())
        for name, array in envelope.arrays.items()
    }
    records = {"header": ConfigRecord({"json": envelope.header}), "arrays": ArrayRecord(arrays)}
    return RecordDict(records)


def from_records(records: Any) -> Envelope:
    """Read back what `to_records` wrote; arrays are read-only views of the received bytes.

    Raises:
        InputError: a record is missing, or an array has a type or size that no message of ours has.
    """
    try:
        header = records["header"]["json"]
        arrays = {name: _array(name, array) for name, array in records["arrays"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"Flower message: record {error} is missing or of the wrong type") from None
    return Envelope(str(header), arrays)


def _array(name: str, array: Any) -> Any:
    if array.stype != STYPE or array.dtype not in DTYPES:
        raise InputError(
            f"Flower message: array {name!r} has type {array.dtype}/{array.stype}, not one of {DTYPES}"
        )
    flat = np.frombuffer(array.data, dtype=np.dtype(array.dtype))
    if flat.size != int(np.prod(array.shape, dtype=np.int64)):
        raise InputError(f"Flower message: array {name!r} does not fill its shape {array.shape}")
    return flat.reshape(array.shape)
