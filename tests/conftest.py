"""Fixtures of all rooms."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans; a test that needs it is skipped, with this reason, where there is none."""
    named = os.environ.get("CONSILIUM_REAL_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real scans here: set CONSILIUM_REAL_DATA; the phantom tests ran instead")
    return folder
