"""A run of four hospitals to look at, round by round; one hospital misses rounds, one skips cases."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from consilium.contracts.api import (
    DecisionView,
    LiveRound,
    PrivacyView,
    RunDetail,
    RunView,
    SiteView,
    StudyDetail,
    StudyView,
)
from consilium.contracts.charter import (
    Charter,
    Member,
    Model,
    Privacy,
    Release,
    Rounds,
    SecureAggregation,
    Training,
    colluding_bound,
    threshold,
)
from consilium.contracts.messages import Scores
from consilium.contracts.reports import Dice, Missing, RoundOpened, RoundRow, SiteAnswered, SiteRow
from consilium.privacy.planning import MECHANISMS, UNITS
from consilium.vocabulary import CaseProblem, Decision, Reason, RunStatus, Stage

RUN = "r5c0ffee1"
HOSPITALS = {
    "harbour": "Harbour Children's Hospital",
    "lakeside": "Lakeside University Medical Center",
    "northgate": "Northgate Hospital",
    "st-anne": "St. Anne's Clinic",
}
START = datetime.datetime(2026, 1, 31, 12, 0, 0, tzinfo=datetime.UTC)
SECONDS = 24.0
DEADLINE = 120.0
MB = 1_000_000
SPENT_FROM = 6
"""The first round that St. Anne's refuses in a private run."""


def at(seconds: float) -> str:
    """A moment of the play."""
    return (START + datetime.timedelta(seconds=seconds)).isoformat()


def charter(hospitals: dict[str, str], rounds: int, private: bool = False) -> Charter:
    """A charter with these hospitals; a `private` one promises ε 8 to each patient."""
    roster = tuple(
        Member(site=site, hospital=name, identity=f"{index:064x}")
        for index, (site, name) in enumerate(sorted(hospitals.items()), 1)
    )
    n = len(roster)
    return Charter(
        title="Glioma segmentation, four hospitals",
        purpose="Can one network outline gliomas at four hospitals whose scanners and annotators differ?",
        model=Model(name="unet", parameters=1_188_421, initial="0" * 64),
        rounds=Rounds(count=rounds, deadline_seconds=DEADLINE, minimum_sites=threshold(n)),
        secure_aggregation=SecureAggregation(
            threshold=threshold(n), colluding=colluding_bound(n), scale_bits=16
        ),
        privacy=Privacy(mechanism="distributed", noise=2.0, delta=1e-4) if private else Privacy(),
        training=Training(steps=1 if private else 20),
        release=Release(site_metrics=not private),
        roster=roster,
    )


def study(
    hospitals: dict[str, str] = HOSPITALS, rounds: int = 8, approved: int = 4, private: bool = False
) -> StudyView:
    """The study, without runs."""
    document = charter(hospitals, rounds, private)
    return StudyView(
        id=document.id,
        title=document.title,
        created_at=at(-600),
        hospitals=len(hospitals),
        approved=approved,
        refused=0,
    )


def study_detail(
    hospitals: dict[str, str] = HOSPITALS, rounds: int = 8, private: bool = False
) -> StudyDetail:
    """The study before anybody has decided but the first hospital."""
    return StudyDetail(
        study=study(hospitals, rounds, 1, private),
        charter=charter(hospitals, rounds, private),
        decisions=decisions(hospitals, approved=1),
    )


def decisions(hospitals: dict[str, str], approved: int) -> tuple[DecisionView, ...]:
    """The first `approved` hospitals have said yes."""
    return tuple(
        DecisionView(
            site=site,
            hospital=name,
            decision=Decision.APPROVED if index < approved else Decision.PENDING,
            at=at(-300) if index < approved else None,
        )
        for index, (site, name) in enumerate(sorted(hospitals.items()))
    )


def row(number: int, hospitals: dict[str, str], shared: bool, scored: bool = True) -> RoundRow:
    """Row `number`: Northgate misses rounds 3 and 4, St. Anne's lags, Lakeside skips two cases."""
    rise = 1 - 0.72**number
    tc, wt, et = 0.04 + 0.62 * rise, 0.09 + 0.71 * rise, 0.02 + 0.55 * rise
    mean = (tc + wt + et) / 3
    away = [site for site in hospitals if site == "northgate" and number in (3, 4)]
    there = tuple(site for site in sorted(hospitals) if site not in away)
    worst = mean * 0.78
    trained = number > 0
    scores = dict(zip(sorted(hospitals), (1.1, 1.04, 0.97, 0.78), strict=False))
    sites = tuple(_site_row(site, (tc, wt, et), scores.get(site, 0.9)) for site in there)
    return RoundRow(
        round=number,
        dice=Dice(TC=tc, WT=wt, ET=et, mean=mean) if scored else None,
        worst_site=there[-1] if scored and shared else None,
        worst_site_mean=worst if scored else None,
        scored=12 if scored else 0,
        loss=1.35 * 0.8**number + 0.22 if trained else None,
        participants=len(there) if trained else 0,
        participant_sites=there if trained else (),
        missing=tuple(
            Missing(site=site, reason=Reason.OFFLINE if number == 3 else Reason.NO_ANSWER) for site in away
        ),
        skipped_cases=2 if trained else 0,
        seconds=SECONDS + number % 3 if trained else 0.0,
        bytes_up=len(there) * 5 * MB if trained else 0,
        bytes_down=len(there) * 5 * MB + 12_000 if trained else 0,
        sites=sites if shared and scored else (),
    )


def detail(
    done: int,
    status: RunStatus = RunStatus.RUNNING,
    *,
    planned: int = 8,
    hospitals: dict[str, str] = HOSPITALS,
    shared: bool = True,
    error: str | None = None,
    private: bool = False,
) -> RunDetail:
    """The run after `done` closed rounds; while it runs, round `done + 1` is open and half answered.

    A `private` one is scored every fourth round, shares no hospital's numbers, and spends ε 7.6 of 8;
    St. Anne's budget is spent from round `SPENT_FROM` on.
    """
    shared = shared and not private
    running, finished = status == RunStatus.RUNNING, status == RunStatus.FINISHED
    rows = [row(number, hospitals, shared, scored=finished or number < done) for number in range(done + 1)]
    if done == 0 and not finished:
        rows = []
    if private:
        rows = [_private(each, planned) for each in rows]
    now = at(done * SECONDS + 11)
    live = open_round(done + 1, done * SECONDS, hospitals) if running and done < planned else None
    views = tuple(site_view(site, name, done, running) for site, name in sorted(hospitals.items()))
    if private:
        live = live and _spent(live)
        views = tuple(_reticent(view, done + 1) for view in views)
    return RunDetail(
        run=RunView(
            run=RUN,
            study=study(hospitals, planned, private=private).id,
            status=status,
            created_at=at(-5),
            started_at=None if status == RunStatus.WAITING else at(0),
            ended_at=None if status in (RunStatus.RUNNING, RunStatus.WAITING) else now,
            rounds_done=done,
            rounds_planned=planned,
            launches=1,
            error=error,
            model="ab" * 32 if finished else None,
        ),
        title="Glioma segmentation, four hospitals",
        rows=tuple(rows),
        live=live,
        sites=views,
        decisions=decisions(hospitals, len(hospitals)),
        secure_aggregation=private,
        privacy=promise(rows, planned) if private else None,
        server_time=now,
    )


def promise(rows: Sequence[RoundRow], planned: int = 8) -> PrivacyView:
    """ε 8 for patients, and what these rows have spent of it."""
    return PrivacyView(
        unit="patient",
        mechanism="distributed",
        target=8.0,
        delta=1e-4,
        spent=max((row.epsilon for row in rows if row.epsilon is not None), default=0.0),
        dice_error=0.06 if any(row.dice for row in rows) else None,
        evaluations=planned // 4 + 1,
        protects=(UNITS["patient"], MECHANISMS["distributed"]),
    )


def epsilon(number: int, planned: int = 8) -> float:
    """ε after a round: it grows with the root of the rounds, from that of one evaluation on."""
    return max(3.1, 7.6 * (number / planned) ** 0.5)


def _private(told: RoundRow, planned: int) -> RoundRow:
    """The row as a private run has it."""
    changes: dict[str, object] = {
        "epsilon": epsilon(told.round, planned),
        "worst_site": None,
        "worst_site_mean": None,
        "skipped_cases": 0,
        "loss": told.loss + (0.11, -0.07, 0.04)[told.round % 3] if told.loss else None,
    }
    if told.round % 4:
        changes |= {"dice": None, "scored": 0}
    if told.round >= SPENT_FROM and "st-anne" in told.participant_sites:
        there = tuple(site for site in told.participant_sites if site != "st-anne")
        spent = Missing(site="st-anne", reason=Reason.BUDGET_SPENT)
        changes |= {"participants": len(there), "participant_sites": there, "missing": (*told.missing, spent)}
    return told.model_copy(update=changes)


def _reticent(view: SiteView, number: int) -> SiteView:
    """A hospital in a private run: it counts nothing, and is idle in `number` if its budget is spent."""
    idle = {"stage": Stage.IDLE} if view.site == "st-anne" and number > SPENT_FROM else {}
    return view.model_copy(update={"cases": 0, "skipped": {}, **idle})


def _spent(live: LiveRound) -> LiveRound:
    """The open round, where St. Anne's has answered that its budget is spent."""
    number, reason = live.opened.round, Reason.BUDGET_SPENT
    if number < SPENT_FROM:
        return live
    no = SiteAnswered(round=number, attempt=1, site="st-anne", reason=reason, seconds=1.0)
    return live.model_copy(update={"answered": (*live.answered, no)})


def open_round(number: int, since: float, hospitals: dict[str, str]) -> LiveRound:
    """Round `number`, half answered; Northgate is offline in rounds 3 and 4."""
    names = sorted(hospitals)
    offline = tuple(site for site in names if site == "northgate" and number in (3, 4))
    asked = tuple(site for site in names if site not in offline)
    answered = tuple(
        SiteAnswered(round=number, attempt=1, site=site, seconds=4.0 + index)
        for index, site in enumerate(asked[: len(asked) // 2])
    )
    opened = RoundOpened(round=number, attempt=1, asked=asked, offline=offline, deadline_seconds=DEADLINE)
    return LiveRound(opened=opened, opened_at=at(since), answered=answered)


def site_view(site: str, name: str, done: int, running: bool) -> SiteView:
    """A hospital; Northgate's heartbeat stops in round 3 and comes back in round 5."""
    away = site == "northgate" and done in (2, 3)
    seen = done * SECONDS + (9 if not away else -70)
    return SiteView(
        site=site,
        hospital=name,
        identity="0" * 64,
        node_id="1",
        created_at=at(-900),
        heartbeat_at=at(seen),
        seen_at=at(seen),
        online=not away,
        stage=Stage.TRAINING if running else Stage.IDLE,
        run=RUN if running else None,
        round=done + 1 if running else None,
        cases=12,
        skipped={CaseProblem.NOT_FINITE: 1, CaseProblem.MISSING_MODALITY: 1} if site == "lakeside" else {},
    )


def _site_row(site: str, regions: tuple[float, float, float], factor: float) -> SiteRow:
    tc, wt, et = (min(1.0, value * factor) for value in regions)
    return SiteRow(
        site=site,
        scores=Scores(tc=tc, wt=wt, et=et, scored=3),
        cases_train=9,
        cases_test=3,
        skipped={CaseProblem.NOT_FINITE: 1} if site == "lakeside" else {},
        seconds=18.0,
    )
