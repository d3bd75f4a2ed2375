from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, StatementError
from sqlmodel import select

from consilium.store.database import Database, make_engine, sqlite_url, upgrade
from consilium.store.tables import METADATA, Launch, Study


@pytest.fixture
def database(tmp_path: Path) -> Database:
    url = sqlite_url(tmp_path / "platform" / "test.db")
    upgrade(url)
    return Database(url)


def test_migrations_add_up_to_the_tables(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_upgrade_twice_keeps_what_is_stored(database: Database) -> None:
    with database.write() as session:
        session.add(_study())
    upgrade(database.url)
    with database.read() as session:
        assert session.exec(select(Study.title)).all() == ["Study"]


def test_downgrade_leaves_nothing(database: Database) -> None:
    from alembic import command
    from alembic.config import Config

    from consilium.store.database import MIGRATIONS

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = database.url
    command.downgrade(config, "base")
    with database.engine.connect() as connection:
        tables = connection.execute(text("select name from sqlite_master where type = 'table'")).scalars()
        assert set(tables) <= {"alembic_version"}


@pytest.mark.parametrize(
    ("pragma", "value"), [("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)]
)
def test_sqlite_is_durable_and_strict(database: Database, pragma: str, value: object) -> None:
    with database.engine.connect() as connection:
        assert connection.execute(text(f"PRAGMA {pragma}")).scalar() == value


def test_foreign_keys_hold(database: Database) -> None:
    with pytest.raises(IntegrityError), database.write() as session:
        session.add(Launch(run="nobody", number=1, status="waiting", created_at=_now()))


def test_a_block_that_raises_changes_nothing(database: Database) -> None:
    def fall() -> None:
        with database.write() as session:
            session.add(_study())
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fall()
    with database.read() as session:
        assert session.exec(select(Study)).all() == []


def test_times_are_utc_and_aware(database: Database) -> None:
    zone = datetime.timezone(datetime.timedelta(hours=2))
    at = datetime.datetime(2026, 3, 1, 14, 0, tzinfo=zone)
    with database.write() as session:
        session.add(_study(created_at=at))
    with make_engine(database.url).connect() as connection:
        assert "12:00" in str(connection.execute(text("select created_at from studies")).scalar())
    with database.read() as session:
        back = session.exec(select(Study.created_at)).one()
    assert back == at
    assert back.utcoffset() == datetime.timedelta(0)


def test_naive_times_are_refused(database: Database) -> None:
    with pytest.raises(StatementError, match="no time zone"), database.write() as session:
        session.add(_study(created_at=datetime.datetime(2026, 3, 1)))


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _study(created_at: datetime.datetime | None = None) -> Study:
    return Study(id="0" * 64, title="Study", charter="{}", created_at=created_at or _now())
