"""Queries about sites, studies and decisions."""

from __future__ import annotations

from sqlmodel import Session, col, select

from consilium.errors import NotFound
from consilium.store.tables import DecisionRecord, ModelFile, Site, Study


def get_site(session: Session, name: str) -> Site:
    """The site called `name`; raises `NotFound`."""
    site = session.get(Site, name)
    if site is None:
        raise NotFound(f"site {name!r} is not registered: register it with POST /sites, or check the name")
    return site


def all_sites(session: Session) -> list[Site]:
    """All sites, by name."""
    return list(session.exec(select(Site).order_by(Site.name)))


def get_study(session: Session, study: str) -> Study:
    """The study with this full id; raises `NotFound`."""
    found = session.get(Study, study)
    if found is None:
        raise NotFound(f"study {study!r} does not exist: list the studies with `consilium study status`")
    return found


def all_studies(session: Session) -> list[Study]:
    """All studies, newest first."""
    return list(session.exec(select(Study).order_by(col(Study.created_at).desc(), Study.id)))


def decisions_of(session: Session, study: str) -> dict[str, DecisionRecord]:
    """Each site's word that counts now: its latest."""
    query = select(DecisionRecord).where(DecisionRecord.study == study).order_by(col(DecisionRecord.id).asc())
    return {record.site: record for record in session.exec(query)}


def decision_history(session: Session, study: str, site: str) -> list[DecisionRecord]:
    """Everything the site ever said about the study, oldest first."""
    query = select(DecisionRecord).where(DecisionRecord.study == study, DecisionRecord.site == site)
    return list(session.exec(query.order_by(col(DecisionRecord.id).asc())))


def decided_studies(session: Session, site: str) -> set[str]:
    """Studies about which the site has said anything."""
    return set(session.exec(select(DecisionRecord.study).where(DecisionRecord.site == site)))


def has_initial(session: Session, study: str) -> bool:
    """Whether the study's initial model is noted among the model files."""
    query = select(ModelFile.id).where(ModelFile.study == study, ModelFile.kind == "initial")
    return session.exec(query).first() is not None
