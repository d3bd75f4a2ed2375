"""Phantom cases for the hospital's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from consilium_site.phantom.write import write_cases


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cases of one site at 32³. Tests must not change them."""
    out = tmp_path_factory.mktemp("phantoms")
    write_cases(out, "aurora", 6, 32, seed=1)
    return out
