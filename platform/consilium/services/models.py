"""Model files of the platform: content-addressed, checked while they are written, atomic."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

from consilium.contracts.charter import Model
from consilium.errors import InputError

CHUNK = 1 << 20
HEADER_BYTES = 1 << 20
"""Room for the safetensors header beside the parameters themselves."""


def largest_model(model: Model) -> int:
    """Most bytes that a safetensors file of this many float32 parameters may have."""
    return 4 * (model.parameters + model.frozen) + HEADER_BYTES


class Incoming:
    """A file that arrives in chunks beside `target` and appears there only if its hash is `sha256`.

    Used as a context manager: unless `keep` succeeded, leaving it removes what came. Raises `InputError`
    as soon as more than `limit` bytes have come, and in `keep` if the hash differs.
    """

    def __init__(self, target: Path, sha256: str, limit: int, what: str) -> None:
        self.target, self.sha256, self.limit, self.what = target, sha256, limit, what
        self.size = 0
        self._hash = hashlib.sha256()

    def __enter__(self) -> Self:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self._part = self.target.with_name(f".{self.target.name}.{secrets.token_hex(4)}.part")
        self._file = self._part.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._part.unlink(missing_ok=True)

    def write(self, chunk: bytes) -> None:
        """Take the next chunk."""
        self.size += len(chunk)
        if self.size > self.limit:
            raise InputError(
                f"{self.what}: more than {self.limit:,} bytes; a safetensors file of the charter's "
                "parameters in float32 is smaller: send that file"
            )
        self._hash.update(chunk)
        self._file.write(chunk)

    def keep(self) -> None:
        """Check the hash, flush to disk, and put the file in its place."""
        if self._hash.hexdigest() != self.sha256:
            raise InputError(
                f"{self.what}: SHA-256 is {self._hash.hexdigest()}, the charter or event names "
                f"{self.sha256}: send the file that was hashed"
            )
        self._file.flush()
        os.fsync(self._file.fileno())
        self._part.replace(self.target)
        folder = os.open(self.target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def copy_checked(source: Path, target: Path, sha256: str, limit: int) -> int:
    """Copy `source` to `target` if its hash is `sha256`; returns its bytes. An existing target is kept.

    Raises:
        InputError: `source` is missing, too large, or its hash differs; `target` is then not made.
    """
    if target.exists():
        return target.stat().st_size
    try:
        with source.open("rb") as file, Incoming(target, sha256, limit, source.name) as incoming:
            while chunk := file.read(CHUNK):
                incoming.write(chunk)
            incoming.keep()
            return incoming.size
    except FileNotFoundError:
        raise InputError(f"{source.name}: the file is missing from the run's checkpoints") from None
