"""Flower's SuperNode with shorter pauses.

flwr 1.41 sleeps 3 s when no message waits, and 0.5 s between two looks for a reply in its own memory; with
two exchanges a round that is most of a small round. Its main loop reads `time.sleep` through its own module
global, so a clock put there shortens the pauses. Not a public seam: `tests/flower/test_contracts.py` fails
when flwr changes it.
"""

from __future__ import annotations

import sys
import time
from typing import Any

POLL_SECONDS = 0.5
LOOK_SECONDS = 0.1


class _Clock:
    """The `time` module with shorter sleeps: `POLL_SECONDS` where flwr polls, `LOOK_SECONDS` elsewhere."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        time.sleep(POLL_SECONDS if seconds > 1.0 else min(seconds, LOOK_SECONDS))


def run(arguments: list[str]) -> None:
    """Run `flower-supernode ARGUMENTS` in this process; returns when it ends."""
    from flwr.supernode import start_client_internal
    from flwr.supernode.cli.flower_supernode import flower_supernode

    from consilium.flower.waits import shorten

    start_client_internal.time = _Clock()
    shorten(start_client_internal)
    sys.argv = ["flower-supernode", *arguments]
    flower_supernode()
