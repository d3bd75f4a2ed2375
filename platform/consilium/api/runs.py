"""Routes about runs: watching, stopping, resuming, downloads, and the aggregator's events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Response, status
from fastapi.responses import FileResponse

from consilium.api.deps import Parts, need_run_token
from consilium.api.views import run_detail, run_report, run_view
from consilium.contracts.api import RunDetail, RunView
from consilium.contracts.base import RunId
from consilium.contracts.reports import NumberedEvent, RoundRow, RunReport
from consilium.errors import NotFound
from consilium.services.events import take_events
from consilium.services.report import rounds_csv
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
def rounds_as_json(run: RunId, parts: Parts, response: Response) -> tuple[RoundRow, ...]:
    """The run's rows as a JSON file."""
    response.headers["Content-Disposition"] = f'attachment; filename="{run}-rounds.json"'
    with parts.database.read() as session:
        return load_rows(session, get_run(session, run).id)


@router.get("/runs/{run}/rounds.csv", response_class=Response)
def rounds_as_csv(run: RunId, parts: Parts) -> Response:
    """The run's rows as a CSV file, one line a round."""
    with parts.database.read() as session:
        text = rounds_csv(load_rows(session, get_run(session, run).id))
    name = f'attachment; filename="{run}-rounds.csv"'
    return Response(text, media_type="text/csv", headers={"Content-Disposition": name})


@router.get("/runs/{run}/report")
def report(run: RunId, parts: Parts) -> RunReport:
    """The run's report; row 0 is the untrained model."""
    with parts.database.read() as session:
        return run_report(session, get_run(session, run))


@router.get("/runs/{run}/model", response_class=FileResponse)
def model(run: RunId, parts: Parts) -> FileResponse:
    """The final model as a safetensors file."""
    with parts.database.read() as session:
        found = get_run(session, run)
    if found.file is None or not parts.home.model(found.file).is_file():
        raise NotFound(f"run {run} has no final model: it is {found.status}; a finished run has one")
    path = parts.home.model(found.file)
    return FileResponse(path, media_type="application/octet-stream", filename=f"{run}.safetensors")


@events.post("/runs/{run}/events", status_code=status.HTTP_204_NO_CONTENT)
def post_events(run: RunId, body: Events, parts: Parts) -> None:
    """Take the aggregator's events; a number that is known already is ignored. Needs the run's own token."""
    take_events(parts.database, parts.home, run, body)
