"""Takes a run's events in: stores each number once and keeps the run, its rows and its model up to date.

Called by the API's route and by the launcher, which reads what the aggregator left on disk.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session

from consilium.contracts.charter import read_charter
from consilium.contracts.home import Home
from consilium.contracts.reports import (
    Event,
    ModelScored,
    NumberedEvent,
    RoundClosed,
    RunFailed,
    RunFinished,
)
from consilium.errors import Conflict, InputError
from consilium.services.models import copy_checked, largest_model
from consilium.services.report import merge
from consilium.store.database import Database
from consilium.store.runs import LIVE, get_run, known_events, launches_of, load_rows, save_row
from consilium.store.studies import get_study
from consilium.store.tables import EventRecord, ModelFile, Run
from consilium.store.times import now
from consilium.vocabulary import RunStatus


def take_events(database: Database, home: Home, run_id: str, events: Sequence[NumberedEvent]) -> int:
    """Store the events whose numbers are new and return how many were; all of them or none.

    `RunFinished` finishes the run if its model file is in the checkpoints with the right hash, else fails
    it with the reason. Events that come late still count: what finished, finished.

    Raises:
        NotFound: no such run.
        Conflict: a number is stored with other content.
    """
    kept = {
        numbered.event.file: _keep_model(database, home, run_id, numbered.event.file)
        for numbered in events
        if isinstance(numbered.event, RunFinished)
    }
    with database.write() as session:
        run = get_run(session, run_id)
        fresh = _fresh(session, run_id, events)
        for numbered in fresh:
            session.add(_record(run_id, numbered))
            _apply(session, run, numbered.event, kept)
    return len(fresh)


def end_run(session: Session, run: Run, status: RunStatus, error: str | None = None) -> None:
    """Give the run and its last launch a final status."""
    run.status, run.error, run.ended_at = status, error, now()
    launch = launches_of(session, run.id)[-1]
    launch.status, launch.error, launch.ended_at = status, error, run.ended_at
    session.add_all([run, launch])


def _fresh(session: Session, run: str, events: Sequence[NumberedEvent]) -> list[NumberedEvent]:
    known = known_events(session, run, [numbered.number for numbered in events])
    fresh = []
    for numbered in sorted(events, key=lambda item: item.number):
        body = numbered.model_dump_json()
        if numbered.number not in known:
            known[numbered.number] = body
            fresh.append(numbered)
        elif known[numbered.number] != body:
            raise Conflict(
                f"run {run}: event {numbered.number} is stored with other content; a number names one event"
            )
    return fresh


def _record(run: str, numbered: NumberedEvent) -> EventRecord:
    return EventRecord(
        run=run,
        number=numbered.number,
        kind=numbered.event.kind,
        received_at=now(),
        body=numbered.model_dump_json(),
    )


def _apply(session: Session, run: Run, event: Event, kept: dict[str, int | str]) -> None:
    if isinstance(event, ModelScored | RoundClosed):
        before = load_rows(session, run.id, event.round)
        save_row(session, run.id, merge(before[0] if before else None, event))
    if isinstance(event, RoundClosed):
        run.rounds_done = max(run.rounds_done, event.round)
        session.add(run)
    elif isinstance(event, RunFinished):
        _finish(session, run, event, kept[event.file])
    elif isinstance(event, RunFailed) and run.status in LIVE:
        end_run(session, run, RunStatus.FAILED, event.text)


def _finish(session: Session, run: Run, event: RunFinished, kept: int | str) -> None:
    if run.status == RunStatus.FINISHED:
        return
    if isinstance(kept, str):
        end_run(session, run, RunStatus.FAILED, f"the run ended, but its model was not kept: {kept}")
        return
    run.model, run.file = event.model, event.file
    session.add(
        ModelFile(file=event.file, kind="final", study=run.study, run=run.id, bytes=kept, created_at=now())
    )
    end_run(session, run, RunStatus.FINISHED)


def _keep_model(database: Database, home: Home, run_id: str, file: str) -> int | str:
    """Copy the final model out of the checkpoints: its bytes, or why that failed. Outside transactions."""
    with database.read() as session:
        study = get_study(session, get_run(session, run_id).study)
        limit = largest_model(read_charter(study.charter).model)
    source = home.run(run_id) / "checkpoints" / f"{file}.safetensors"
    try:
        return copy_checked(source, home.model(file), file, limit)
    except InputError as error:
        return str(error)
