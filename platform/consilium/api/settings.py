"""What the API process is told from outside."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass

from consilium.contracts.home import Home
from consilium.files import write_secret
from consilium.store.database import sqlite_url


@dataclass(frozen=True)
class Settings:
    """Settings of one API process."""

    home: Home
    database_url: str
    poll_seconds: float = 2.0
    """Shortest pause between two looks at the runs."""

    @classmethod
    def for_home(cls, home: Home) -> Settings:
        """SQLite in the home unless CONSILIUM_DATABASE_URL names another database."""
        return cls(home, os.environ.get("CONSILIUM_DATABASE_URL") or sqlite_url(home.database))


def bearer_token(home: Home) -> str:
    """The platform's token, made at the first start and readable by its owner only."""
    if not home.token.exists():
        write_secret(home.token, secrets.token_urlsafe(32).encode())
    return home.token.read_text().strip()
