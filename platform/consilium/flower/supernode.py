"""Flower's SuperNode with a shorter pause between two polls.

flwr 1.41 sleeps 3 s when no message waits; with two exchanges a round that is most of a small round.
Its main loop reads `time.sleep` through its own module global, so a clock put there shortens the pause.
Not a public seam: `tests/flower/test_contracts.py` fails when flwr changes it.
"""

from __future__ import annotations

import sys
import time
from typing import Any

POLL_SECONDS = 0.5


class _Clock:
    """The `time` module, but no sleep is longer than `POLL_SECONDS`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, POLL_SECONDS))


def run(arguments: list[str]) -> None:
    """Run `flower-supernode ARGUMENTS` in this process; returns when it ends."""
    from flwr.supernode import start_client_internal
    from flwr.supernode.cli.flower_supernode import flower_supernode

    start_client_internal.time = _Clock()
    sys.argv = ["flower-supernode", *arguments]
    flower_supernode()
