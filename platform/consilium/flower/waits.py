"""Shorter waits where flwr 1.41 asks for an object that is still on its way.

A message is announced before its objects have arrived, so the first request often comes too early. flwr
then waits 1 s, 2 s, 4 s; most objects are there within 0.1 s. A round asks five times in a row. Not a public
seam: `tests/flower/test_contracts.py` fails when flwr changes it.
"""

from __future__ import annotations

import functools
from typing import Any

WAITS = {"initial_backoff": 0.05, "backoff_cap": 1.0}
"""Arguments of flwr's pulling functions: the first wait in seconds, doubled up to the cap."""


def shorten(module: Any) -> None:
    """Make a module of flwr's that pulls objects wait by `WAITS`; again, nothing changes."""
    from flwr.supercore.inflatable.inflatable_utils import pull_objects

    module.pull_objects = functools.partial(pull_objects, **WAITS)
