"""An envelope: one JSON header and named arrays, as a safetensors blob on a socket or on disk.

safetensors holds no code and is checked as it is read; nothing here can execute what arrives.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consilium.errors import InputError

HEADER = "header"
TYPES = {"uint8": "U8", "uint32": "U32", "float32": "F32"}
"""The types of our arrays, by safetensors' names."""
Buffer = bytes | memoryview
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

    def digest(self) -> str:
        """SHA-256 over the header and each array's name, type, shape and bytes: equal content, one digest."""
        digest = hashlib.sha256(self.header.encode())
        for name in sorted(self.arrays):
            array = np.ascontiguousarray(self.arrays[name])
            digest.update(f"\0{name}\0{array.dtype.str}\0{array.shape}\0".encode())
            digest.update(array.data.cast("B"))
        return digest.hexdigest()

    def pack(self) -> bytes:
        """The safetensors blob. An envelope without arrays carries one empty array."""
        return b"".join(self.parts())

    def parts(self) -> list[Buffer]:
        """The blob in pieces, arrays uncopied: safetensors' header is short, the arrays are large."""
        arrays = {name: np.ascontiguousarray(array) for name, array in self.arrays.items()}
        arrays = arrays or {"empty": np.zeros(0, np.uint8)}
        table: dict[str, Any] = {"__metadata__": {HEADER: self.header}}
        offset = 0
        for name, array in arrays.items():
            end = offset + array.nbytes
            table[name] = {
                "dtype": TYPES[array.dtype.name],
                "shape": list(array.shape),
                "data_offsets": [offset, end],
            }
            offset = end
        text = json.dumps(table, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return [struct.pack("<Q", len(text)) + text, *(array.data.cast("B") for array in arrays.values())]


def unpack(blob: bytes, what: str) -> Envelope:
    """Read a blob that `Envelope.pack` wrote.

    Raises:
        InputError: not a safetensors blob, or one without a header; names `what`.
    """
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
