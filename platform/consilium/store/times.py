"""Times: UTC in the database, timezone-aware everywhere else."""

from __future__ import annotations

import datetime

from sqlalchemy import DateTime, Dialect
from sqlalchemy.types import TypeDecorator


class Utc(TypeDecorator[datetime.datetime]):
    """A column of UTC times, on databases with time zones and without.

    Takes aware times of any zone and gives back aware UTC ones. A naive time raises `ValueError`.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self, value: datetime.datetime | None, dialect: Dialect
    ) -> datetime.datetime | None:
        """To UTC before it is stored."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"time {value} has no time zone: store aware times only")
        return value.astimezone(datetime.UTC)

    def process_result_value(
        self, value: datetime.datetime | None, dialect: Dialect
    ) -> datetime.datetime | None:
        """Aware UTC, also where the database forgot the zone."""
        if value is None:
            return None
        return value.replace(tzinfo=datetime.UTC) if value.tzinfo is None else value.astimezone(datetime.UTC)


def now() -> datetime.datetime:
    """The present, aware, UTC."""
    return datetime.datetime.now(datetime.UTC)


def iso(value: datetime.datetime) -> str:
    """ISO 8601 with the zone."""
    return value.isoformat()
