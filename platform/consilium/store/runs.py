"""Queries about runs, launches and events; rows to and from their tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import func
from sqlmodel import Session, col, delete, select

from consilium.contracts.messages import Scores
from consilium.contracts.reports import Dice, Missing, NumberedEvent, RoundRow, SiteRow
from consilium.errors import NotFound
from consilium.store.tables import EventRecord, Launch, Metric, Round, Run
from consilium.vocabulary import CaseProblem, Reason, RunStatus

LIVE = (RunStatus.WAITING, RunStatus.RUNNING)


def get_run(session: Session, run: str) -> Run:
    """The run with this full id; raises `NotFound`."""
    found = session.get(Run, run)
    if found is None:
        raise NotFound(f"run {run!r} does not exist: list the runs with `consilium study status`")
    return found


def runs_of(session: Session, study: str) -> list[Run]:
    """A study's runs, newest first."""
    query = select(Run).where(Run.study == study).order_by(col(Run.created_at).desc(), col(Run.id))
    return list(session.exec(query))


def launches_of(session: Session, run: str) -> list[Launch]:
    """A run's launches, first to last."""
    return list(session.exec(select(Launch).where(Launch.run == run).order_by(col(Launch.number))))


def live_launches(session: Session) -> list[Launch]:
    """Launches that wait or run, of all runs."""
    return list(session.exec(select(Launch).where(col(Launch.status).in_(LIVE)).order_by(Launch.run)))


def barren_launches(session: Session, run: str) -> int:
    """How many of the newest launches of a run, in a row, closed no round."""
    query = select(func.max(EventRecord.received_at)).where(
        EventRecord.run == run, EventRecord.kind == "round_closed"
    )
    closed = session.exec(query).one()
    return sum(closed is None or launch.created_at > closed for launch in launches_of(session, run))


def known_events(session: Session, run: str, numbers: Iterable[int]) -> dict[int, str]:
    """Which of these numbers are stored, with their bodies."""
    query = select(EventRecord).where(EventRecord.run == run, col(EventRecord.number).in_(list(numbers)))
    return {record.number: record.body for record in session.exec(query)}


def open_round_events(session: Session, run: str) -> list[NumberedEvent]:
    """Events from the latest `round_opened` of the present launch on, in order; empty before the first."""
    opened = (
        select(func.max(EventRecord.number))
        .where(EventRecord.run == run, EventRecord.kind == "round_opened")
        .where(col(EventRecord.received_at) >= launches_of(session, run)[-1].created_at)
    )
    query = select(EventRecord).where(
        EventRecord.run == run, col(EventRecord.number) >= opened.scalar_subquery()
    )
    records = session.exec(query.order_by(col(EventRecord.number)))
    return [NumberedEvent.model_validate_json(record.body) for record in records]


def load_rows(session: Session, run: str, number: int | None = None) -> tuple[RoundRow, ...]:
    """The run's rows by round, or only row `number`."""
    rounds, metrics = select(Round).where(Round.run == run), select(Metric).where(Metric.run == run)
    if number is not None:
        rounds, metrics = rounds.where(Round.number == number), metrics.where(Metric.round == number)
    sites: dict[int, list[Metric]] = {}
    for metric in session.exec(metrics.order_by(col(Metric.site))):
        sites.setdefault(metric.round, []).append(metric)
    found = session.exec(rounds.order_by(col(Round.number)))
    return tuple(_row(record, sites.get(record.number, ())) for record in found)


def save_row(session: Session, run: str, row: RoundRow) -> None:
    """Store a row in place of the one before it."""
    dice = row.dice
    session.exec(delete(Metric).where(col(Metric.run) == run, col(Metric.round) == row.round))
    session.merge(
        Round(
            run=run,
            number=row.round,
            dice_tc=dice.TC if dice else None,
            dice_wt=dice.WT if dice else None,
            dice_et=dice.ET if dice else None,
            worst_site=row.worst_site,
            worst_site_mean=row.worst_site_mean,
            scored=row.scored,
            loss=row.loss,
            participants=list(row.participant_sites),
            missing=[missing.model_dump(mode="json") for missing in row.missing],
            skipped_cases=row.skipped_cases,
            seconds=row.seconds,
            seconds_opening=row.seconds_opening,
            bytes_up=row.bytes_up,
            bytes_down=row.bytes_down,
            late_uploads=row.late_uploads,
            epsilon=row.epsilon,
        )
    )
    session.flush()
    session.add_all(_metric(run, row.round, site) for site in row.sites)
    session.flush()


def _row(record: Round, metrics: Sequence[Metric]) -> RoundRow:
    tc, wt, et = record.dice_tc, record.dice_wt, record.dice_et
    dice = None
    if tc is not None and wt is not None and et is not None:
        dice = Dice(TC=tc, WT=wt, ET=et, mean=min(1.0, (tc + wt + et) / 3.0))
    return RoundRow(
        round=record.number,
        dice=dice,
        worst_site=record.worst_site,
        worst_site_mean=record.worst_site_mean,
        scored=record.scored,
        loss=record.loss,
        participants=len(record.participants),
        participant_sites=tuple(record.participants),
        missing=tuple(Missing(site=item["site"], reason=Reason(item["reason"])) for item in record.missing),
        skipped_cases=record.skipped_cases,
        seconds=record.seconds,
        seconds_opening=record.seconds_opening,
        bytes_up=record.bytes_up,
        bytes_down=record.bytes_down,
        late_uploads=record.late_uploads,
        epsilon=record.epsilon,
        sites=tuple(_site_row(metric) for metric in metrics),
    )


def _metric(run: str, number: int, site: SiteRow) -> Metric:
    scores = site.scores
    return Metric(
        run=run,
        round=number,
        site=site.site,
        dice_tc=scores.tc if scores else None,
        dice_wt=scores.wt if scores else None,
        dice_et=scores.et if scores else None,
        scored=scores.scored if scores else 0,
        empty=scores.empty if scores else 0,
        cases_train=site.cases_train,
        cases_test=site.cases_test,
        skipped={str(problem): count for problem, count in site.skipped.items()},
        seconds=site.seconds,
    )


def _site_row(metric: Metric) -> SiteRow:
    tc, wt, et = metric.dice_tc, metric.dice_wt, metric.dice_et
    scores = None
    if tc is not None and wt is not None and et is not None:
        scores = Scores(tc=tc, wt=wt, et=et, scored=metric.scored, empty=metric.empty)
    return SiteRow(
        site=metric.site,
        scores=scores,
        cases_train=metric.cases_train,
        cases_test=metric.cases_test,
        skipped={CaseProblem(problem): count for problem, count in metric.skipped.items()},
        seconds=metric.seconds,
    )
