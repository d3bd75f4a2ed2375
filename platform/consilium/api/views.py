"""From tables to the documents that people's pages read."""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Sequence

from sqlmodel import Session

from consilium.contracts.api import (
    DecisionView,
    PrivacyView,
    RunDetail,
    RunView,
    SiteView,
    StudyDetail,
    StudyView,
)
from consilium.contracts.charter import Charter, read_charter
from consilium.contracts.messages import SignedDecision
from consilium.contracts.reports import RoundRow, RunReport
from consilium.privacy.planning import MECHANISMS, UNITS, dice_error
from consilium.services.report import compose_report, live_round
from consilium.store.runs import launches_of, load_rows, open_round_events, runs_of
from consilium.store.studies import all_sites, decisions_of, get_study
from consilium.store.tables import DecisionRecord, Run, Site, Study
from consilium.store.times import iso, now
from consilium.vocabulary import CaseProblem, Decision, RunStatus, Stage

ONLINE = datetime.timedelta(seconds=30)


def site_view(site: Site) -> SiteView:
    """A site as it is at this moment."""
    return SiteView(
        site=site.name,
        hospital=site.hospital,
        identity=site.identity,
        node_id=site.node_id,
        created_at=iso(site.created_at),
        heartbeat_at=_iso(site.heartbeat_at),
        seen_at=_iso(site.seen_at),
        online=site.seen_at is not None and now() - site.seen_at <= ONLINE,
        stage=Stage(site.stage) if site.stage else None,
        run=site.run,
        round=site.round,
        cases=site.cases,
        skipped={CaseProblem(problem): count for problem, count in site.skipped.items()},
    )


def run_view(session: Session, run: Run) -> RunView:
    """A run in a list."""
    return RunView(
        run=run.id,
        study=run.study,
        status=RunStatus(run.status),
        created_at=iso(run.created_at),
        started_at=_iso(run.started_at),
        ended_at=_iso(run.ended_at),
        rounds_done=run.rounds_done,
        rounds_planned=run.rounds_planned,
        launches=len(launches_of(session, run.id)),
        error=run.error,
        model=run.model,
    )


def study_view(session: Session, study: Study) -> StudyView:
    """A study in a list."""
    said = [record.decision for record in decisions_of(session, study.id).values()]
    return StudyView(
        id=study.id,
        title=study.title,
        created_at=iso(study.created_at),
        hospitals=len(read_charter(study.charter).roster),
        approved=said.count(Decision.APPROVED),
        refused=said.count(Decision.REFUSED),
        runs=tuple(run_view(session, run) for run in runs_of(session, study.id)),
    )


def study_detail(session: Session, study: Study) -> StudyDetail:
    """A study with its charter and each site's stand."""
    charter = read_charter(study.charter)
    return StudyDetail(
        study=study_view(session, study),
        charter=charter,
        decisions=decision_views(session, study.id, charter),
    )


def decision_views(session: Session, study: str, charter: Charter) -> tuple[DecisionView, ...]:
    """Each site of the roster with its latest word, or that it is pending."""
    said = decisions_of(session, study)
    return tuple(
        decision_view(member.site, member.hospital, said.get(member.site)) for member in charter.roster
    )


def decision_view(site: str, hospital: str, record: DecisionRecord | None) -> DecisionView:
    """One site's stand."""
    if record is None:
        return DecisionView(site=site, hospital=hospital, decision=Decision.PENDING)
    return DecisionView(
        site=site,
        hospital=hospital,
        decision=Decision(record.decision),
        at=iso(record.at),
        signed=SignedDecision.parse(record.signed, f"stored decision of {site}"),
    )


def run_detail(session: Session, run: Run) -> RunDetail:
    """Everything that a live page draws. Nothing is live in a run that is not RUNNING."""
    study = get_study(session, run.study)
    charter = read_charter(study.charter)
    running = run.status == RunStatus.RUNNING
    rows = load_rows(session, run.id)
    return RunDetail(
        run=run_view(session, run),
        title=study.title,
        rows=rows,
        live=live_round(open_round_events(session, run.id)) if running else None,
        sites=tuple(site_view(site) for site in all_sites(session) if charter.member(site.name)),
        decisions=decision_views(session, study.id, charter),
        secure_aggregation=charter.secure_aggregation.masked,
        privacy=privacy_view(charter, rows),
        server_time=iso(now()),
    )


def privacy_view(charter: Charter, rows: Sequence[RoundRow]) -> PrivacyView | None:
    """The promise of a charter and what these rows have spent of it; None where nothing is proven."""
    plan = charter.plan
    if plan is None:
        return None
    scorers = [row.scored for row in rows if row.scored]
    return PrivacyView(
        unit=plan.unit,
        mechanism=plan.mechanism,
        target=plan.epsilon,
        delta=plan.delta,
        spent=max((row.epsilon for row in rows if row.epsilon is not None), default=0.0),
        dice_error=dice_error(plan, round(statistics.mean(scorers))) if scorers else None,
        evaluations=plan.evaluations,
        protects=(UNITS[plan.unit], MECHANISMS[plan.mechanism]),
    )


def run_report(session: Session, run: Run) -> RunReport:
    """The run's report; seconds are those of its launches, not of pauses between them."""
    spans = [(launch.ended_at or now()) - launch.created_at for launch in launches_of(session, run.id)]
    return compose_report(
        charter=read_charter(get_study(session, run.study).charter),
        run=run.id,
        status=RunStatus(run.status),
        error=run.error,
        rounds=load_rows(session, run.id),
        seconds=sum(span.total_seconds() for span in spans),
        file=run.file,
    )


def _iso(value: datetime.datetime | None) -> str | None:
    return iso(value) if value is not None else None
