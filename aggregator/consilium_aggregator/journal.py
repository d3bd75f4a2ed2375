"""A run's events: first on disk (`events.jsonl`), then to the API, each number stored there once."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable
from pathlib import Path

from consilium.contracts.reports import Event, NumberedEvent
from consilium.errors import ConsiliumError
from consilium.files import write_atomic

Post = Callable[[list[NumberedEvent]], None]
RETRY_SECONDS = 5.0


class FileJournal:
    """Appends to `events.jsonl` and posts what the API has not taken yet.

    `post` raises `ConsiliumError` when the API cannot be reached; the run goes on and the events wait.
    A resumed run goes on with the next number.
    """

    def __init__(self, path: Path, post: Post) -> None:
        self.path, self.post = path, post
        self.pending = _read(path)
        self.next_number = self.pending[-1].number + 1 if self.pending else 1
        self.quiet_until = 0.0

    def tell(self, event: Event) -> None:
        """Number, stamp and append one event, and fsync it: no number is ever used for other content."""
        at = datetime.datetime.now(datetime.UTC).isoformat()
        numbered = NumberedEvent(number=self.next_number, at=at, event=event)
        self.next_number += 1
        with self.path.open("a", encoding="utf-8") as file:
            file.write(numbered.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.pending.append(numbered)

    def deliver(self) -> None:
        """Post what is pending; after a failure the API is left alone for `RETRY_SECONDS`."""
        if not self.pending or time.monotonic() < self.quiet_until:
            return
        try:
            self.post(self.pending)
        except ConsiliumError:
            self.quiet_until = time.monotonic() + RETRY_SECONDS
        else:
            self.pending = []

    def drain(self, seconds: float) -> bool:
        """Deliver at the end of a run, trying for `seconds`; False if events are left (they are on disk)."""
        end = time.monotonic() + seconds
        while self.pending and time.monotonic() < end:
            self.deliver()
            if self.pending:
                time.sleep(0.5)
        return not self.pending


def _read(path: Path) -> list[NumberedEvent]:
    """The events on disk; a last line that a crash left half-written is cut off."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        write_atomic(path, whole)
    return [NumberedEvent.model_validate_json(line, strict=False) for line in whole.splitlines()]
