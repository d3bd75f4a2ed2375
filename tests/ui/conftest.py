"""Fixtures of the portal's tests."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest

from consilium_ui import feed
from ui.stub_api import Stub, make_home, serve


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """A stub API that answers, with home and address set as `consilium portal` sets them."""
    monkeypatch.setattr(feed, "FRESH", datetime.timedelta(0))
    with serve(Stub()) as served:
        monkeypatch.setenv("CONSILIUM_HOME", str(make_home(tmp_path / "home")))
        monkeypatch.setenv("CONSILIUM_API_URL", served.url)
        yield served
