"""Routes about runs: watching, stopping, resuming, downloads, and the aggregator's events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Response, status
from fastapi.responses import FileResponse

from consilium.api.deps import Parts, need_run_token
from consilium.api.tables_out import rounds_csv
from consilium.api.views import run_detail, run_report, run_view
from consilium.contracts.api import RunDetail, RunView
from consilium.contracts.base import RunId
from consilium.contracts.reports import NumberedEvent, RunReport
from consilium.errors import NotFound
from consilium.services.events import take_events
from consilium.store.runs import get_run, load_rows

MOST_EVENTS = 1000

router = APIRouter(tags=["runs"])
events = APIRouter(tags=["aggregator"], dependencies=[Depends(need_run_token)])

Events = Annotated[list[NumberedEvent], Body(max_length=MOST_EVENTS)]


@router.get("/runs/{run}")
def show_run(run: RunId, parts: Parts) -> RunDetail:
    """Everything about one run: its rows, the round that is open, the hospitals."""
    with parts.database.read() as session:
        return run_detail(session, get_run(session, run))


@router.post("/runs/{run}/launch", status_code=status.HTTP_202_ACCEPTED)
def resume(run: RunId, parts: Parts) -> RunView:
    """Start the next launch of a failed or stopped run, from its last checkpoint."""
    parts.launcher.resume(run)
    with parts.database.read() as session:
        return run_view(session, get_run(session, run))


@router.post("/runs/{run}/stop")
def stop(run: RunId, parts: Parts) -> RunView:
    """Stop a run; answers when Flower has been told."""
    parts.launcher.stop(run)
    with parts.database.read() as session:
        return run_view(session, get_run(session, run))


@router.get("/runs/{run}/rounds.json")
def rounds_as_json(run: RunId, parts: Parts, response: Response) -> list[dict[str, object]]:
    """The run's rows as a JSON file."""
    with parts.database.read() as session:
        rows = load_rows(session, get_run(session, run).id)
    response.headers["Content-Disposition"] = f'attachment; filename="{run}-rounds.json"'
    return [row.model_dump(mode="json") for row in rows]
