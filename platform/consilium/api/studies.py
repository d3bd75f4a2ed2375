"""Routes about studies: the charter, its initial model, the sites' decisions, launches."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response, status
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool

from consilium.api.deps import Parts, Platform
from consilium.api.sites import site_time
from consilium.api.views import decision_view, run_view, study_detail, study_view
from consilium.contracts.api import DecisionView, RunView, StudyDetail, StudyView
from consilium.contracts.base import Sha256
from consilium.contracts.charter import Charter, read_charter
from consilium.contracts.messages import SignedDecision
from consilium.errors import Conflict, InputError, Refused
from consilium.files import write_atomic
from consilium.privacy.signatures import verify
from consilium.services.models import Incoming, largest_model
from consilium.services.promises import check_promise
from consilium.store.runs import get_run
from consilium.store.studies import (
    all_studies,
    decision_history,
    decisions_of,
    get_site,
    get_study,
    has_initial,
)
from consilium.store.tables import DecisionRecord, ModelFile, Site, Study
from consilium.store.times import iso, now
from consilium.vocabulary import Reason

router = APIRouter(tags=["studies"])


@router.post("/studies", status_code=status.HTTP_201_CREATED)
def create_study(charter: Charter, parts: Parts) -> StudyView:
    """Create the study of a charter; its id is the SHA-256 of the canonical JSON.

    The same charter twice is one study. Every site of the roster must be registered with the same key, and
    the noise of a privacy plan must keep the ε that it promises.
    """
    check_promise(charter)
    with parts.database.write() as session:
        study = session.get(Study, charter.id)
        if study is None:
            for member in charter.roster:
                _check_key(session, charter, member.site)
            text = charter.canonical()
            study = Study(id=charter.id, title=charter.title, charter=text.decode(), created_at=now())
            session.add(study)
            write_atomic(parts.home.charters / f"{study.id}.json", text)
        return study_view(session, study)


@router.put(
    "/studies/{study}/initial",
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
)
async def upload_initial(study: Sha256, request: Request, parts: Parts) -> StudyView:
    """Upload the initial parameters: the safetensors file whose SHA-256 the charter names.

    The size limit follows from the charter's number of parameters; the same file twice is stored once.
    """
    charter = await run_in_threadpool(_charter, parts, study)
    file = charter.model.initial
    limit = largest_model(charter.model)
    with Incoming(parts.home.model(file), file, limit, "initial model") as incoming:
        async for chunk in request.stream():
            incoming.write(chunk)
        await run_in_threadpool(incoming.keep)
    return await run_in_threadpool(_note_initial, parts, study, file, incoming.size)


@router.get("/studies")
def list_studies(parts: Parts) -> tuple[StudyView, ...]:
    """All studies, newest first."""
    with parts.database.read() as session:
        return tuple(study_view(session, study) for study in all_studies(session))


@router.get("/studies/{study}")
def show_study(study: Sha256, parts: Parts) -> StudyDetail:
    """One study with its charter and each site's stand."""
    with parts.database.read() as session:
        return study_detail(session, get_study(session, study))


@router.get("/studies/{study}/charter", response_class=Response)
def show_charter(study: Sha256, parts: Parts) -> Response:
    """The canonical JSON of the charter, byte for byte: its SHA-256 is the study's id."""
    with parts.database.read() as session:
        text = get_study(session, study).charter
    return Response(text.encode(), media_type="application/json")


@router.post("/studies/{study}/decisions")
def decide(study: Sha256, body: SignedDecision, parts: Parts) -> DecisionView:
    """Take a site's signed word on a charter.

    The same word twice is one. A later contrary word replaces it; all are kept. A word that is older than
    the one that counts is refused, so that nobody can bring back what a site has taken back.
    """
    word = body.decision
    if word.charter != study:
        raise InputError(
            f"the decision is about charter {word.charter[:12]}…, not {study[:12]}…: send it there"
        )
    with parts.database.write() as session:
        charter = read_charter(get_study(session, study).charter)
        site = _check_key(session, charter, word.site)
        if not verify(site.identity, "decision", word.canonical(), body.signature):
            raise Refused(Reason.BAD_SIGNATURE, f"the decision is not signed by site {site.name!r}")
        _note_decision(session, body)
        current = decisions_of(session, study)[site.name]
        return decision_view(site.name, site.hospital, current)


@router.post("/studies/{study}/runs", status_code=status.HTTP_202_ACCEPTED, tags=["runs"])
def launch(study: Sha256, parts: Parts) -> RunView:
    """Start a new run. Refused while approvals or the initial model are missing or a run is under way."""
    run = parts.launcher.launch(study)
    with parts.database.read() as session:
        return run_view(session, get_run(session, run))


def _charter(parts: Platform, study: str) -> Charter:
    with parts.database.read() as session:
        return read_charter(get_study(session, study).charter)


def _note_initial(parts: Platform, study: str, file: str, size: int) -> StudyView:
    with parts.database.write() as session:
        found = get_study(session, study)
        if not has_initial(session, study):
            session.add(ModelFile(file=file, kind="initial", study=study, bytes=size, created_at=now()))
        return study_view(session, found)


def _check_key(session: Session, charter: Charter, name: str) -> Site:
    """The registered site behind a name in the roster; `Refused` unless both hold the same key."""
    member = charter.member(name)
    if member is None:
        raise Refused(Reason.NOT_IN_ROSTER, f"site {name!r} is not in the roster of {charter.id[:12]}…")
    site = get_site(session, name)
    if site.identity != member.identity:
        raise Refused(
            Reason.NOT_IN_ROSTER,
            f"site {name!r}: the roster names another identity key than the registered one; "
            "make the charter with the registered key",
        )
    return site


def _note_decision(session: Session, body: SignedDecision) -> None:
    word, text = body.decision, body.canonical().decode()
    said = decision_history(session, word.charter, word.site)
    if any(record.signed == text for record in said):
        return
    at = site_time(word.at)
    if said and at <= said[-1].at:
        raise Conflict(
            f"site {word.site!r} has said {said[-1].decision} at {iso(said[-1].at)}, later than this word of "
            f"{iso(at)}: decide again, and check the site's clock"
        )
    session.add(
        DecisionRecord(
            study=word.charter,
            site=word.site,
            decision=word.decision,
            at=at,
            received_at=now(),
            signed=text,
        )
    )
    session.flush()
