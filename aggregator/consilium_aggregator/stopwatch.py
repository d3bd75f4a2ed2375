"""Where each second of a round went at the aggregator: `runs/<run>/timings.jsonl`, a line an attempt.

For benchmarks and for people who wonder; nothing reads it to decide anything. Times are the machine's
clock in seconds, so that they can be laid beside the relay's log on one machine.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Stopwatch:
    """Adds up seconds by name between `start` and `write`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spent: dict[str, float] = {}
        self.started = 0.0

    def start(self) -> None:
        """A new attempt begins."""
        self.spent, self.started = {}, time.time()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Seconds spent in here count for `name`."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - begun

    def write(self, round_number: int, attempt: int) -> None:
        """Append the attempt's line."""
        line = {"round": round_number, "attempt": attempt, "started": self.started, "ended": time.time()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**line, **self.spent}) + "\n")
