"""Routes about hospitals."""

from __future__ import annotations

import datetime

from fastapi import APIRouter, status
from sqlmodel import Session

from consilium.api.deps import Parts
from consilium.api.views import site_view
from consilium.contracts.api import HeartbeatAnswer, NewSite, SiteView
from consilium.contracts.base import SiteName
from consilium.contracts.charter import read_charter
from consilium.contracts.messages import SignedHeartbeat
from consilium.errors import Conflict, InputError, Refused
from consilium.privacy.signatures import verify
from consilium.store.studies import all_sites, all_studies, decided_studies, get_site
from consilium.store.tables import Site
from consilium.store.times import now
from consilium.vocabulary import Reason

router = APIRouter(tags=["sites"])


@router.post("/sites", status_code=status.HTTP_201_CREATED)
def register_site(body: NewSite, parts: Parts) -> SiteView:
    """Register a hospital with its public keys. The same registration twice is one."""
    with parts.database.write() as session:
        known = session.get(Site, body.site)
        if known is None:
            known = _new_site(session, body)
        elif not _same(known, body):
            raise Conflict(
                f"site {body.site!r} is registered with other keys or another name: choose another"
            )
        return site_view(known)


@router.get("/sites")
def list_sites(parts: Parts) -> tuple[SiteView, ...]:
    """All registered hospitals, by name."""
    with parts.database.read() as session:
        return tuple(site_view(site) for site in all_sites(session))


@router.get("/sites/{site}")
def show_site(site: SiteName, parts: Parts) -> SiteView:
    """One hospital and its last sign of life."""
    with parts.database.read() as session:
        return site_view(get_site(session, site))


@router.post("/sites/{site}/heartbeat")
def take_heartbeat(site: SiteName, body: SignedHeartbeat, parts: Parts) -> HeartbeatAnswer:
    """Take a vault's signed heartbeat; answer with charters that name the site and await its decision.

    The same heartbeat again is answered and otherwise ignored. An earlier time is taken: clocks are set back.
    """
    beat = body.heartbeat
    at = site_time(beat.at)
    with parts.database.write() as session:
        found = get_site(session, site)
        signed = verify(found.identity, "heartbeat", beat.canonical(), body.signature)
        if beat.site != site or not signed:
            raise Refused(
                Reason.BAD_SIGNATURE, f"the heartbeat is not signed by site {site!r}: sign it with its key"
            )
        if at != found.heartbeat_at:
            found.heartbeat_at, found.seen_at = at, now()
            found.stage, found.run, found.round = beat.stage, beat.run, beat.round
            found.cases = beat.cases
            found.skipped = {str(problem): count for problem, count in beat.skipped.items()}
            session.add(found)
        return HeartbeatAnswer(charters=_awaiting(session, site))


def site_time(text: str) -> datetime.datetime:
    """A site's clock as an aware time; `InputError` for anything else than ISO 8601 with a zone."""
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError:
        at = datetime.datetime.min
    if at.tzinfo is None:
        raise InputError(
            f"at: {text[:40]!r} is not ISO 8601 with a time zone, as 2026-01-31T12:00:00+00:00 is"
        )
    return at


def _awaiting(session: Session, site: str) -> tuple[str, ...]:
    decided = decided_studies(session, site)
    return tuple(
        study.id
        for study in all_studies(session)
        if study.id not in decided and read_charter(study.charter).member(site) is not None
    )


def _new_site(session: Session, body: NewSite) -> Site:
    holder = [site.name for site in all_sites(session) if site.identity == body.identity]
    if holder:
        raise Conflict(f"the identity key of {body.site!r} belongs to site {holder[0]!r}: make own keys")
    site = Site(
        name=body.site,
        hospital=body.hospital,
        identity=body.identity,
        node_key=body.node_key,
        node_id=str(body.node_id),
        created_at=now(),
    )
    session.add(site)
    return site


def _same(known: Site, body: NewSite) -> bool:
    theirs = (known.hospital, known.identity, known.node_key, known.node_id)
    return theirs == (body.hospital, body.identity, body.node_key, str(body.node_id))
