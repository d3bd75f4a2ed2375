"""Model files: (P,) float32 parameters with the network's name, arguments and layout, as safetensors.

The initial model and every final model have this one format. Reading needs no torch. The bytes are a
function of the content alone, so that equal models have equal hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consilium.errors import InputError

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class ModelFile:
    """One model: what to build, where each tensor lies in `parameters` (P,), and free-form facts."""

    name: str
    arguments: dict[str, Any]
    layout: tuple[tuple[str, tuple[int, ...]], ...]
    """(tensor name, shape) in the order in which they are laid end to end."""
    parameters: Vector
    facts: dict[str, Any] = field(default_factory=dict)
    """For example {"spacing_mm": 1.0}; JSON values only."""
    frozen: Vector = field(default_factory=lambda: np.zeros(0, np.float32))
    """(F,) parameters of the backbone that stay as they are; `parameters` are the head's then."""

    def pack(self) -> bytes:
        """The file's bytes."""
        from safetensors.numpy import save

        meta = {"name": self.name, "arguments": self.arguments, "layout": self.layout, "facts": self.facts}
        text = json.dumps(meta, sort_keys=True, separators=(",", ":"))
        arrays = {"parameters": np.ascontiguousarray(self.parameters)}
        if self.frozen.size:
            arrays["frozen"] = np.ascontiguousarray(self.frozen)
        return save(arrays, metadata={"model": text})

    def with_parameters(self, parameters: Vector, **facts: Any) -> ModelFile:
        """The same network with other parameters and more facts."""
        return replace(self, parameters=parameters, facts={**self.facts, **facts})


def unpack_model(content: bytes, what: str = "model file") -> ModelFile:
    """Read a model file's bytes.

    Raises:
        InputError: not such a file, or the layout does not add up to the number of parameters.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(content)
        vector, frozen = arrays["parameters"], arrays.get("frozen", np.zeros(0, np.float32))
        (length,) = struct.unpack("<Q", content[:8])
        meta = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["model"])
        layout = tuple((str(name), tuple(int(side) for side in shape)) for name, shape in meta["layout"])
        model = ModelFile(meta["name"], meta["arguments"], layout, vector, meta["facts"], frozen)
    except (SafetensorError, struct.error, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{what}: not a Consilium model file ({type(error).__name__})") from None
    size = sum(int(np.prod(shape, dtype=np.int64)) for _, shape in layout)
    if frozen.dtype != np.float32 or frozen.ndim != 1:
        raise InputError(f"{what}: its frozen parameters are {frozen.dtype}, not one float32 vector")
    if vector.dtype != np.float32 or vector.shape != (size,):
        raise InputError(
            f"{what}: {vector.size} parameters of {vector.dtype}, but its layout says {size} float32"
        )
    return model


def read_model(path: Path) -> ModelFile:
    """`unpack_model` of a file; an `InputError` names the path if it is not there."""
    if not path.is_file():
        raise InputError(f"{path}: no such model file")
    return unpack_model(path.read_bytes(), str(path))


def write_model(path: Path, model: ModelFile) -> str:
    """Write the file atomically and return its SHA-256."""
    content = model.pack()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    return hashlib.sha256(content).hexdigest()
