"""An envelope: one JSON header and named arrays, as a safetensors blob on a socket or on disk.

safetensors holds no code and is checked as it is read; nothing here can execute what arrives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consilium.errors import InputError

HEADER = "header"
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Envelope:
    """A header (JSON of a contract document) and arrays, in one message."""

    header: str
    arrays: Arrays = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Payload bytes: the header and the raw arrays."""
        return len(self.header.encode()) + sum(array.nbytes for array in self.arrays.values())

    def pack(self) -> bytes:
        """The safetensors blob. An envelope without arrays carries one empty array."""
        from safetensors.numpy import save

        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        return save(arrays or {"empty": np.zeros(0, np.uint8)}, metadata={HEADER: self.header})


def unpack(blob: bytes, what: str) -> Envelope:
    """Read a blob that `Envelope.pack` wrote.

    Raises:
        InputError: not a safetensors blob, or one without a header; names `what`.
    """
    import json
    import struct

    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(blob)
        (length,) = struct.unpack("<Q", blob[:8])
        header = json.loads(blob[8 : 8 + length])["__metadata__"][HEADER]
    except (SafetensorError, struct.error, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{what}: not an envelope ({type(error).__name__})") from None
    arrays.pop("empty", None)
    return Envelope(header, arrays)
