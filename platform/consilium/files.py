"""Atomic files: a reader sees the old content or the new, never a half, also after a power cut."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path


def write_atomic(path: Path, content: bytes | Sequence[bytes | memoryview], mode: int = 0o644) -> None:
    """Write `content`, whole or in pieces, to a temporary neighbour, fsync it, rename it over `path`, fsync
    the folder.

    The folder is created if need be. Raises `OSError` as the operating system does; `path` is then as before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines([content] if isinstance(content, bytes) else content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_secret(path: Path, content: bytes) -> None:
    """`write_atomic` readable by the owner only (0600)."""
    write_atomic(path, content, mode=0o600)


def sha256_hex(content: bytes | memoryview) -> str:
    """SHA-256 in lower-case hex."""
    return hashlib.sha256(content).hexdigest()
