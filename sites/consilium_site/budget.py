"""The ledger that binds: what each patient has spent, across studies and runs (DESIGN §7).

A patient stands in it under a pseudonym, an HMAC under a key that is in this store alone. Within a study ε
is composed round by round; between studies the reserved ε and δ add up. What is charged is never given back.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from consilium.errors import InputError, Refused
from consilium.privacy import accounting
from consilium.privacy.plan import PrivacyPlan
from consilium.vocabulary import Reason
from consilium_site.ledger import Ledger, now

SCHEMA = """
CREATE TABLE IF NOT EXISTS ceiling (
    only INTEGER PRIMARY KEY CHECK (only = 1), epsilon REAL NOT NULL, delta REAL NOT NULL, key TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS spend (
    patient TEXT NOT NULL, charter TEXT NOT NULL, trained INTEGER NOT NULL, evaluated INTEGER NOT NULL,
    epsilon REAL NOT NULL, reserved REAL NOT NULL, delta REAL NOT NULL, PRIMARY KEY (patient, charter));
CREATE TABLE IF NOT EXISTS charge (
    charter TEXT NOT NULL, round INTEGER NOT NULL, model TEXT NOT NULL,
    upload TEXT NOT NULL, at TEXT NOT NULL, PRIMARY KEY (charter, round, model));
"""
EPSILON, DELTA = 10.0, 1e-4
"""The ceiling of a site whose admin has not set another."""
ROUNDING = 1e-9
WHOLE_SITE = "the whole site"
"""Stands for the hospital in studies whose unit is the site."""


@dataclass(frozen=True)
class Ceiling:
    """The most that all studies together may spend of one patient."""

    epsilon: float
    delta: float


@dataclass(frozen=True)
class StudySpend:
    """One study's spend: of its patient who has spent most, and of how many patients."""

    charter: str
    patients: int
    rounds: int
    evaluations: int
    epsilon: float
    reserved: float
    delta: float


@dataclass(frozen=True)
class Due:
    """What one round charges one patient, worked out against the ceiling."""

    patient: str
    trained: int
    evaluated: int
    epsilon: float
    reserved: float
    delta: float


class Budget:
    """The site's privacy budget, in the vault's own store."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        ledger.script(SCHEMA)
        ledger.write(
            "INSERT OR IGNORE INTO ceiling VALUES (1, ?, ?, ?)", EPSILON, DELTA, secrets.token_hex(32)
        )

    @property
    def ceiling(self) -> Ceiling:
        """The present ceiling."""
        return Ceiling(*self.ledger.read("SELECT epsilon, delta FROM ceiling")[0])

    def set_ceiling(self, epsilon: float, delta: float) -> None:
        """Set it; a lower one than is spent already stops every further private round.

        Raises:
            InputError: ε is not from 0 to 1000, or δ not from 0 to 0.01.
        """
        if not 0 <= epsilon <= 1000 or not 0 <= delta <= 0.01:
            raise InputError(f"ceiling ε {epsilon}, δ {delta}: ε must be from 0 to 1000 and δ from 0 to 0.01")
        self.ledger.write("UPDATE ceiling SET epsilon = ?, delta = ?", epsilon, delta)

    def check(self, charter: str, plan: PrivacyPlan, train: Sequence[str], test: Sequence[str]) -> list[Due]:
        """What the next round charges these patients; nothing is written.

        Raises:
            Refused: BUDGET_SPENT if it is more than the ceiling leaves to one of them, or than the signed
                charter lets the study spend in all its runs together.
        """
        pseudonyms = self._pseudonyms((*train, *test))
        held = self._rows(charter)
        others: dict[str, tuple[float, float]] = {
            patient: (reserved, delta)
            for patient, reserved, delta in self.ledger.read(
                "SELECT patient, SUM(reserved), SUM(delta) FROM spend WHERE charter != ? GROUP BY patient",
                charter,
            )
        }
        ceiling, due = self.ceiling, []
        roles = {pseudonyms[name]: (1, 0) for name in train} | {pseudonyms[name]: (0, 1) for name in test}
        for patient, (more_trained, more_evaluated) in roles.items():
            trained, evaluated, before = held.get(patient, (0, 0, 0.0))
            trained, evaluated = trained + more_trained, evaluated + more_evaluated
            epsilon = accounting.spent_training(plan, trained) + accounting.spent_evaluating(plan, evaluated)
            delta = plan.delta * (2 if trained and evaluated else 1)
            elsewhere, elsewhere_delta = others.get(patient, (0.0, 0.0))
            left = min(plan.epsilon, ceiling.epsilon - elsewhere)
            if epsilon > left + ROUNDING or delta + elsewhere_delta > ceiling.delta * (1 + ROUNDING):
                raise Refused(
                    Reason.BUDGET_SPENT,
                    f"ε {epsilon:.2f} of this study's {plan.epsilon:g} and {elsewhere:.2f} of others exceed "
                    f"the ceiling {ceiling.epsilon:g}, or δ {delta + elsewhere_delta:.1e} does; "
                    "see `consilium-site budget`",
                )
            reserved = max(before, epsilon, left)
            due.append(Due(patient, trained, evaluated, epsilon, reserved, delta))
        return due

    def charge(self, charter: str, number: int, model: str, upload: str, due: Iterable[Due]) -> None:
        """Commit what `check` found, all or nothing, with the hash of the upload it pays for.

        On disk when this returns; only then may the upload leave.
        """
        with self.ledger.transaction() as database:
            database.execute(
                "INSERT OR REPLACE INTO charge VALUES (?, ?, ?, ?, ?)",
                (charter, number, model, upload, now()),
            )
            database.executemany(
                "INSERT OR REPLACE INTO spend VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        each.patient,
                        charter,
                        each.trained,
                        each.evaluated,
                        each.epsilon,
                        each.reserved,
                        each.delta,
                    )
                    for each in due
                ],
            )

    def charged(self, charter: str, number: int, model: str) -> str | None:
        """The hash of the upload that was charged for this round from this model, or None."""
        rows = self.ledger.read(
            "SELECT upload FROM charge WHERE charter = ? AND round = ? AND model = ?", charter, number, model
        )
        return str(rows[0][0]) if rows else None

    def studies(self) -> list[StudySpend]:
        """Every study that has spent anything, by the patient of it who has spent most."""
        rows = self.ledger.read(
            "SELECT charter, COUNT(*), MAX(trained), MAX(evaluated), MAX(epsilon), MAX(reserved), MAX(delta) "
            "FROM spend GROUP BY charter ORDER BY MIN(rowid)"
        )
        return [StudySpend(*row) for row in rows]

    def highest(self) -> tuple[float, float]:
        """(ε, δ) of the patient who has spent most over all studies; reserves not counted."""
        rows = self.ledger.read("SELECT SUM(epsilon), SUM(delta) FROM spend GROUP BY patient")
        return (max((row[0] for row in rows), default=0.0), max((row[1] for row in rows), default=0.0))

    def left(self) -> Ceiling:
        """What a new study could still spend of every patient: the ceiling less the highest reserve."""
        rows = self.ledger.read("SELECT SUM(reserved), SUM(delta) FROM spend GROUP BY patient")
        epsilon = self.ceiling.epsilon - max((row[0] for row in rows), default=0.0)
        delta = self.ceiling.delta - max((row[1] for row in rows), default=0.0)
        return Ceiling(max(0.0, epsilon), max(0.0, delta))

    def _rows(self, charter: str) -> dict[str, tuple[Any, ...]]:
        rows = self.ledger.read(
            "SELECT patient, trained, evaluated, reserved FROM spend WHERE charter = ?", charter
        )
        return {row[0]: tuple(row[1:]) for row in rows}

    def _pseudonyms(self, patients: Sequence[str]) -> dict[str, str]:
        key = bytes.fromhex(self.ledger.read("SELECT key FROM ceiling")[0][0])
        return {name: hmac.digest(key, name.encode(), "sha256").hex()[:32] for name in patients}
