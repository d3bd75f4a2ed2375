"""The control plane's tables. No tensor is stored here, only hashes of model files.

Events are the truth of a run; `rounds` and `metrics` are what they add up to, kept for quick reading.
"""

from __future__ import annotations

import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, ForeignKeyConstraint, Text
from sqlmodel import Field, SQLModel

from consilium.store.times import Utc


def _time(*, optional: bool = False) -> Any:
    return Field(default=None if optional else ..., sa_column=Column(Utc(), nullable=optional))


class Site(SQLModel, table=True):
    """A registered hospital, its public keys and its last sign of life."""

    __tablename__ = "sites"
    name: str = Field(primary_key=True, max_length=40)
    hospital: str = Field(max_length=120)
    identity: str = Field(unique=True, max_length=64)
    node_key: str = Field(sa_type=Text)
    node_id: str = Field(max_length=20)
    created_at: datetime.datetime = _time()
    seen_at: datetime.datetime | None = _time(optional=True)
    heartbeat_at: datetime.datetime | None = _time(optional=True)
    stage: str | None = Field(default=None, max_length=20)
    run: str | None = Field(default=None, max_length=60)
    round: int | None = None
    cases: int = 0
    skipped: dict[str, int] = Field(default_factory=dict, sa_type=JSON)


class Study(SQLModel, table=True):
    """A study: its charter as canonical JSON, so that SHA-256 of `charter` is `id`."""

    __tablename__ = "studies"
    id: str = Field(primary_key=True, max_length=64)
    title: str = Field(max_length=120)
    charter: str = Field(sa_type=Text)
    created_at: datetime.datetime = _time()


class DecisionRecord(SQLModel, table=True):
    """A site's signed word on a study. Rows are never changed: the highest id of a site counts."""

    __tablename__ = "decisions"
    id: int | None = Field(default=None, primary_key=True)
    study: str = Field(foreign_key="studies.id", index=True, max_length=64)
    site: str = Field(foreign_key="sites.name", max_length=40)
    decision: str = Field(max_length=20)
    at: datetime.datetime = _time()
    received_at: datetime.datetime = _time()
    signed: str = Field(sa_type=Text)


class Run(SQLModel, table=True):
    """A run of a study; `model` is the hash that sites sign, `file` the hash of the model's file."""

    __tablename__ = "runs"
    id: str = Field(primary_key=True, max_length=60)
    study: str = Field(foreign_key="studies.id", index=True, max_length=64)
    status: str = Field(max_length=20, index=True)
    created_at: datetime.datetime = _time()
    started_at: datetime.datetime | None = _time(optional=True)
    ended_at: datetime.datetime | None = _time(optional=True)
    rounds_planned: int
    rounds_done: int = 0
    error: str | None = Field(default=None, sa_type=Text)
    model: str | None = Field(default=None, max_length=64)
    file: str | None = Field(default=None, max_length=64)


class Launch(SQLModel, table=True):
    """One Flower run of a run. `flower_run` is empty until Flower has given it an id."""

    __tablename__ = "launches"
    run: str = Field(primary_key=True, foreign_key="runs.id", max_length=60)
    number: int = Field(primary_key=True)
    flower_run: str | None = Field(default=None, max_length=40)
    status: str = Field(max_length=20, index=True)
    created_at: datetime.datetime = _time()
    ended_at: datetime.datetime | None = _time(optional=True)
    error: str | None = Field(default=None, sa_type=Text)


class EventRecord(SQLModel, table=True):
    """One event of a run, verbatim; a number is stored once."""

    __tablename__ = "events"
    run: str = Field(primary_key=True, foreign_key="runs.id", max_length=60)
    number: int = Field(primary_key=True)
    kind: str = Field(max_length=20)
    received_at: datetime.datetime = _time()
    body: str = Field(sa_type=Text)


class Round(SQLModel, table=True):
    """A row of a run: the model after round `number`, and how the round went. Row 0 is untrained."""

    __tablename__ = "rounds"
    run: str = Field(primary_key=True, foreign_key="runs.id", max_length=60)
    number: int = Field(primary_key=True)
    dice_tc: float | None = None
    dice_wt: float | None = None
    dice_et: float | None = None
    worst_site: str | None = Field(default=None, max_length=40)
    worst_site_mean: float | None = None
    scored: int = 0
    loss: float | None = None
    participants: list[str] = Field(default_factory=list, sa_type=JSON)
    missing: list[dict[str, str]] = Field(default_factory=list, sa_type=JSON)
    skipped_cases: int = 0
    seconds: float = 0.0
    seconds_opening: float = Field(default=0.0, sa_column_kwargs={"server_default": "0"})
    bytes_up: int = Field(default=0, sa_type=BigInteger)
    bytes_down: int = Field(default=0, sa_type=BigInteger)
    late_uploads: int = 0
    epsilon: float | None = None


class Metric(SQLModel, table=True):
    """One site's scores in one row of a run, only where the charter shares per-site metrics."""

    __tablename__ = "metrics"
    __table_args__ = (ForeignKeyConstraint(["run", "round"], ["rounds.run", "rounds.number"]),)
    run: str = Field(primary_key=True, max_length=60)
    round: int = Field(primary_key=True)
    site: str = Field(primary_key=True, max_length=40)
    dice_tc: float | None = None
    dice_wt: float | None = None
    dice_et: float | None = None
    scored: int = 0
    empty: int = 0
    cases_train: int = 0
    cases_test: int = 0
    skipped: dict[str, int] = Field(default_factory=dict, sa_type=JSON)
    seconds: float = 0.0


class ModelFile(SQLModel, table=True):
    """A model file that the platform keeps under `models/<file>.safetensors`."""

    __tablename__ = "models"
    id: int | None = Field(default=None, primary_key=True)
    file: str = Field(index=True, max_length=64)
    kind: str = Field(max_length=20)
    study: str = Field(foreign_key="studies.id", index=True, max_length=64)
    run: str | None = Field(default=None, foreign_key="runs.id", max_length=60)
    bytes: int = Field(sa_type=BigInteger)
    created_at: datetime.datetime = _time()


METADATA = SQLModel.metadata
"""What the migrations must add up to."""
