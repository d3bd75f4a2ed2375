"""One durable file a round: the sum just opened, the model it applies to, and who signed that model.

A run resumes from the newest file. `attempts.json` is written before an attempt's orders leave, so that
no attempt number is used twice, after a crash either.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from consilium.contracts.base import Document, Sha256, SiteName
from consilium.contracts.charter import Charter
from consilium.contracts.envelope import Envelope, unpack
from consilium.contracts.masked import OpenedAttempt
from consilium.contracts.messages import ModelSignature
from consilium.errors import InputError
from consilium.files import sha256_hex, write_atomic
from consilium.learning.parameters import unpack_model

KEEP = 3


class ClosedRound(Document):
    """Header of a checkpoint: `model` is the hash of the model that round `round` started from."""

    charter: Sha256
    round: int = Field(ge=1)
    survivors: tuple[SiteName, ...]
    model: Sha256
    certificate: tuple[ModelSignature, ...]
    opened: OpenedAttempt | None = None
    """Where the sum was opened, if it was masked: sites check its tags against that."""


@dataclass(frozen=True)
class Checkpoint:
    """A closed round: apply `total` (U,) to `model` (P,) to get the model after it."""

    closed: ClosedRound
    model: NDArray[np.float32]
    total: NDArray[np.uint32]


class Checkpoints:
    """The folder `runs/<run>/checkpoints`; only the ServerApp writes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the round's file, then drop all but the newest `KEEP`."""
        blob = Envelope(
            checkpoint.closed.canonical().decode(), {"model": checkpoint.model, "sum": checkpoint.total}
        ).parts()
        write_atomic(self.folder / f"round-{checkpoint.closed.round:05d}.safetensors", blob)
        for old in self._files()[:-KEEP]:
            old.unlink()

    def latest(self, charter: str) -> Checkpoint | None:
        """The newest readable checkpoint, or None for a fresh run.

        Raises:
            InputError: a checkpoint belongs to another charter.
        """
        for path in reversed(self._files()):
            try:
                envelope = unpack(path.read_bytes(), path.name)
                closed = ClosedRound.parse(envelope.header, path.name)
                model, total = envelope.arrays["model"], envelope.arrays["sum"]
            except (InputError, KeyError):
                continue
            if closed.charter != charter or sha256_hex(model.data) != closed.model:
                raise InputError(
                    f"{path.name}: belongs to another charter or was changed; move it away to start"
                )
            return Checkpoint(closed, model, total)
        return None

    def note_attempt(self, round_number: int, attempt: int) -> None:
        """Record, before orders leave, that this attempt number is used."""
        write_atomic(
            self.folder / "attempts.json", json.dumps({"round": round_number, "attempt": attempt}).encode()
        )

    def last_attempt(self, round_number: int) -> int:
        """The highest attempt number of `round_number` that was ever used; 0 if none."""
        path = self.folder / "attempts.json"
        if not path.exists():
            return 0
        noted = json.loads(path.read_text())
        return int(noted["attempt"]) if noted["round"] == round_number else 0

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("round-*.safetensors"))


def write_final(charter: Charter, folder: Path, model: NDArray[np.float32], initial: bytes) -> str:
    """Write the last model beside the checkpoints, named by the hash of its file; return that hash."""
    final = unpack_model(initial).with_parameters(
        model, study=charter.id, rounds=charter.rounds.count, spacing_mm=charter.training.spacing_mm
    )
    content = final.pack()
    digest = sha256_hex(content)
    write_atomic(folder / "checkpoints" / f"{digest}.safetensors", content)
    return digest
