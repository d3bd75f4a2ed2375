"""What the page last heard from the API, kept while the API is away. One store a browser session."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import streamlit as st

from consilium.contracts.home import find_home
from consilium.errors import ConsiliumError, ProcessFailed
from consilium_ui.api_client import ApiClient, connect, read_token

T = TypeVar("T")

DEFAULT_URL = "https://127.0.0.1:8600"
STORE, RENEWED = "consilium-feed", "consilium-renewed"
FRESH = datetime.timedelta(seconds=0.8)
"""An answer this young is not asked for again: one drawing may read the same thing twice."""


@dataclass(frozen=True)
class Snapshot(Generic[T]):
    """The last good answer and when it came.

    `problem` says why there is no newer one, and `silent` whether that is because the API does not answer.
    """

    value: T | None
    at: datetime.datetime | None
    problem: str | None = None
    silent: bool = False


def read(key: str, call: Callable[[ApiClient], T]) -> Snapshot[T]:
    """Ask the API; when it does not answer rightly, the last good answer of this session with the problem."""
    store: dict[str, Snapshot[T]] = st.session_state.setdefault(STORE, {})
    known = store.get(key, Snapshot(None, None))
    now = datetime.datetime.now(datetime.UTC)
    oldest = max(now - FRESH, st.session_state.get(RENEWED, now - FRESH))
    if known.at is not None and known.at > oldest:
        return known
    try:
        store[key] = Snapshot(call(client()), now)
    except ConsiliumError as error:
        return Snapshot(known.value, known.at, str(error), isinstance(error, ProcessFailed))
    return store[key]


def renew() -> None:
    """Let every answer so far be old: the next reading asks the API, so that one drawing shows one state."""
    st.session_state[RENEWED] = datetime.datetime.now(datetime.UTC)


def client() -> ApiClient:
    """The client of this process, made anew when address, home or token change."""
    home = find_home()
    return _connected(api_url(), str(home.root), read_token(home))


def api_url() -> str:
    """The API's address: `$CONSILIUM_API_URL`."""
    return os.environ.get("CONSILIUM_API_URL", DEFAULT_URL)


@st.cache_resource(max_entries=4, show_spinner=False)
def _connected(url: str, _root: str, _token: str) -> ApiClient:
    return connect(url, find_home())
