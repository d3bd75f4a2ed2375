"""The vault's own store: charters, decisions, runs and answered jobs, in SQLite; big arrays as files.

Only the vault writes it. Every commit is on disk before anything leaves (WAL, synchronous FULL).
"""

from __future__ import annotations

import datetime
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from consilium.contracts.charter import Charter, read_charter
from consilium.contracts.messages import SignedDecision
from consilium.learning.site import SiteState
from consilium.vocabulary import Decision, text_of

SCHEMA = """
CREATE TABLE IF NOT EXISTS charter (id TEXT PRIMARY KEY, document TEXT NOT NULL, received_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS decision (
    number INTEGER PRIMARY KEY, charter TEXT NOT NULL REFERENCES charter(id), signed TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS run (run TEXT PRIMARY KEY, charter TEXT NOT NULL, holds INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS job (
    name TEXT PRIMARY KEY, run TEXT NOT NULL, round INTEGER NOT NULL,
    digest TEXT NOT NULL, file TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS window (
    run TEXT NOT NULL, number INTEGER NOT NULL, secrets TEXT NOT NULL, PRIMARY KEY (run, number));
CREATE TABLE IF NOT EXISTS held (
    run TEXT NOT NULL, number INTEGER NOT NULL, secrets TEXT NOT NULL, PRIMARY KEY (run, number));
CREATE TABLE IF NOT EXISTS tag_key (run TEXT PRIMARY KEY, number INTEGER NOT NULL, key TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS disclosure (run TEXT PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS refusal (
    number INTEGER PRIMARY KEY, run TEXT NOT NULL, job TEXT NOT NULL, reason TEXT NOT NULL, at TEXT NOT NULL);
"""


def now() -> str:
    """The site's own clock, UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat()


class Ledger:
    """Charters, decisions and the state of each run. Safe to call from several threads."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA foreign_keys=ON")
        self._db.execute("PRAGMA secure_delete=ON")
        self._db.executescript(SCHEMA)
        path.chmod(0o600)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def add_charter(self, charter: Charter, at: str) -> bool:
        """Store a charter that arrived; False if it is known already."""
        return self.write(
            "INSERT OR IGNORE INTO charter VALUES (?, ?, ?)", charter.id, charter.canonical().decode(), at
        )

    def charter(self, charter_id: str) -> Charter | None:
        """The charter of that id, or None."""
        rows = self.read("SELECT document FROM charter WHERE id = ?", charter_id)
        return read_charter(rows[0][0]) if rows else None

    def charters(self) -> list[tuple[Charter, str]]:
        """Every charter with the time it arrived, newest first."""
        rows = self.read("SELECT document, received_at FROM charter ORDER BY received_at DESC, id")
        return [(read_charter(document), at) for document, at in rows]

    def decide(self, signed: SignedDecision) -> None:
        """Append the admin's word; the last one on a charter counts."""
        self.write(
            "INSERT INTO decision (charter, signed) VALUES (?, ?)",
            signed.decision.charter,
            signed.model_dump_json(),
        )

    def decisions(self) -> list[SignedDecision]:
        """The last word on each charter."""
        rows = self.read(
            "SELECT signed FROM decision WHERE number IN (SELECT MAX(number) FROM decision GROUP BY charter)"
        )
        return [SignedDecision.model_validate_json(row[0], strict=False) for row in rows]

    def decision(self, charter_id: str) -> Decision:
        """Where the site stands on a charter; PENDING if nobody decided or the charter is unknown."""
        for signed in self.decisions():
            if signed.decision.charter == charter_id:
                return Decision(signed.decision.decision)
        return Decision.PENDING

    def state(self, run: str) -> SiteState:
        """The state machine's state of a run, as last committed."""
        rows = self.read("SELECT holds FROM run WHERE run = ?", run)
        jobs = self.read("SELECT name, digest FROM job WHERE run = ?", run)
        return SiteState(rows[0][0] if rows else 0, MappingProxyType(dict(jobs)))

    def belongs(self, run: str, charter: str) -> bool:
        """True if the run is this charter's; a run that is new here becomes so, for good."""
        self.write("INSERT OR IGNORE INTO run VALUES (?, ?, 0)", run, charter)
        return bool(self.read("SELECT 1 FROM run WHERE run = ? AND charter = ?", run, charter))

    def stepped(self, run: str, charter: str, holds: int) -> None:
        """Commit that the starting model of round `holds` is on disk."""
        self.write(
            "INSERT INTO run VALUES (?, ?, ?) ON CONFLICT(run) DO UPDATE SET holds = excluded.holds",
            run,
            charter,
            holds,
        )

    def done(self, run: str, name: str, round_number: int, digest: str, file: str) -> list[str]:
        """Commit an answered job; returns the reply files of rounds older than the last, now dropped."""
        self.write("INSERT OR REPLACE INTO job VALUES (?, ?, ?, ?, ?)", name, run, round_number, digest, file)
        old = self.read(
            "SELECT file FROM job WHERE run = ? AND round < ? AND file != ''", run, round_number - 1
        )
        self.write("UPDATE job SET file = '' WHERE run = ? AND round < ?", run, round_number - 1)
        return [row[0] for row in old]

    def reply_file(self, name: str) -> str:
        """The stored reply's file name, or '' where it was dropped."""
        rows = self.read("SELECT file FROM job WHERE name = ?", name)
        return str(rows[0][0]) if rows else ""

    def window(self, run: str, number: int) -> str | None:
        """The secrets that this site dealt for a window that is not open yet, or None."""
        rows = self.read("SELECT secrets FROM window WHERE run = ? AND number = ?", run, number)
        return str(rows[0][0]) if rows else None

    def keep_window(self, run: str, number: int, secrets: str) -> None:
        """Commit what this site dealt for a window."""
        self.write("INSERT OR REPLACE INTO window VALUES (?, ?, ?)", run, number, secrets)

    def held(self, run: str, number: int) -> str | None:
        """What this site keeps of an open window, or None."""
        rows = self.read("SELECT secrets FROM held WHERE run = ? AND number = ?", run, number)
        return str(rows[0][0]) if rows else None

    def keep_held(self, run: str, number: int, secrets: str, state: str) -> None:
        """Commit what is left of an open window's secrets with the disclosure machine's state, both or none.

        What was there instead, and what was dealt for the window, is erased.
        """
        with self.transaction() as database:
            database.execute("INSERT OR REPLACE INTO held VALUES (?, ?, ?)", (run, number, secrets))
            database.execute("INSERT OR REPLACE INTO disclosure VALUES (?, ?)", (run, state))
            database.execute("DELETE FROM window WHERE run = ? AND number <= ?", (run, number))
        self._wipe()

    def erase_windows(self, run: str, before: int) -> None:
        """Erase the secrets of windows before this one."""
        self.write("DELETE FROM window WHERE run = ? AND number < ?", run, before)
        self.write("DELETE FROM held WHERE run = ? AND number < ?", run, before)
        self._wipe()

    def _wipe(self) -> None:
        """SQLite overwrites what it deletes; this empties its log of it too."""
        self.read("PRAGMA wal_checkpoint(TRUNCATE)")

    def disclosure(self, run: str) -> str | None:
        """The disclosure machine's state of a run as stored, or None."""
        rows = self.read("SELECT state FROM disclosure WHERE run = ?", run)
        return str(rows[0][0]) if rows else None

    def keep_tag_key(self, run: str, number: int, key: str) -> None:
        """Keep the tag key of the newest window in which this site knows of an opened sum."""
        self.write(
            "INSERT INTO tag_key VALUES (?, ?, ?) ON CONFLICT(run) DO UPDATE "
            "SET number = excluded.number, key = excluded.key WHERE excluded.number > number",
            run,
            number,
            key,
        )

    def tag_key(self, run: str) -> tuple[int, str] | None:
        """That window's number and its tag key, or None."""
        rows = self.read("SELECT number, key FROM tag_key WHERE run = ?", run)
        return (int(rows[0][0]), str(rows[0][1])) if rows else None

    def disclosures_elsewhere(self, charter: str, run: str) -> list[str]:
        """The stored states of every other run of this charter."""
        rows = self.read(
            "SELECT state FROM disclosure JOIN run USING (run) WHERE charter = ? AND run != ?", charter, run
        )
        return [str(row[0]) for row in rows]

    def keep_disclosure(self, run: str, state: str) -> None:
        """Commit the disclosure machine's state; on disk when this returns."""
        self.write("INSERT OR REPLACE INTO disclosure VALUES (?, ?)", run, state)

    def note_refusal(self, run: str, job: str, reason: str) -> None:
        """Write down that nothing was disclosed, and why."""
        self.write("INSERT INTO refusal VALUES (NULL, ?, ?, ?, ?)", run, job, reason, now())

    def last_refusals(self, count: int = 5) -> list[dict[str, str]]:
        """The newest refused disclosures of all runs, for the site's admin."""
        rows = self.read("SELECT job, reason, at FROM refusal ORDER BY number DESC LIMIT ?", count)
        return [{"job": job, "reason": text_of(reason), "at": at} for job, reason, at in rows]

    def refusals(self, run: str) -> list[tuple[str, str]]:
        """(job, reason) of every refused disclosure of a run, oldest first."""
        return self.read("SELECT job, reason FROM refusal WHERE run = ? ORDER BY number", run)

    def script(self, sql: str) -> None:
        """Create what another part of the vault keeps in this store."""
        with self._lock:
            self._db.executescript(sql)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; on disk when the block is left."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def write(self, sql: str, *arguments: object) -> bool:
        """One statement, committed; True if it changed a row."""
        with self._lock:
            return self._db.execute(sql, arguments).rowcount > 0

    def read(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._lock:
            return self._db.execute(sql, arguments).fetchall()
