"""Numbers that the page shows, computed from one `RunDetail`. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from consilium.contracts.api import LiveRound, RunDetail
from consilium.contracts.reports import RoundRow
from consilium.vocabulary import Reason, RunStatus, Stage, text_of
from consilium_ui.words import between

LAST_ROUNDS = 5
"""Rounds that the estimate of the remaining time looks back on."""


@dataclass(frozen=True)
class KeyFigures:
    """The row of figures under the header; None where nothing is known yet."""

    round: int | None
    """The round whose model is the last scored one."""
    dice: float | None
    change: float | None
    """Against the untrained model, where that was scored."""
    worst: float | None
    worst_site: str | None
    participants: int | None
    closed: int | None
    """The last closed round; `participants` are its."""
    bytes_up: int
    bytes_down: int
    seconds: float | None


def key_figures(rows: Sequence[RoundRow]) -> KeyFigures:
    """Figures of all rows; unknown until a model is scored or a round is closed."""
    scored = last_scored(rows)
    first = next((row.dice for row in rows if row.round == 0), None)
    shut = closed_rows(rows)
    change = None
    if scored is not None and scored.dice is not None and first is not None and scored.round > 0:
        change = scored.dice.mean - first.mean
    return KeyFigures(
        round=scored.round if scored else None,
        dice=scored.dice.mean if scored and scored.dice else None,
        change=change,
        worst=scored.worst_site_mean if scored else None,
        worst_site=scored.worst_site if scored else None,
        participants=shut[-1].participants if shut else None,
        closed=shut[-1].round if shut else None,
        bytes_up=sum(row.bytes_up for row in rows),
        bytes_down=sum(row.bytes_down for row in rows),
        seconds=statistics.median(row.seconds for row in shut) if shut else None,
    )


def last_scored(rows: Sequence[RoundRow]) -> RoundRow | None:
    """The newest row that has scores: one round behind the last closed one while a run goes on."""
    return next((row for row in reversed(rows) if row.dice is not None), None)


def closed_rows(rows: Sequence[RoundRow]) -> list[RoundRow]:
    """Rows of rounds that were summed: neither the untrained model nor a row with scores alone."""
    return [row for row in rows if row.round > 0 and row.participants > 0]


def elapsed(detail: RunDetail) -> float | None:
    """Seconds since the run started, or from start to end; None before it started."""
    return between(detail.run.started_at, detail.run.ended_at or detail.server_time)


def remaining(detail: RunDetail) -> float | None:
    """Estimated seconds to the end: median of the last rounds times the rounds left, less the open one's.

    None while no round is closed or the run is not running.
    """
    shut = closed_rows(detail.rows)
    if detail.run.status != RunStatus.RUNNING or not shut:
        return None
    typical = statistics.median(row.seconds for row in shut[-LAST_ROUNDS:])
    left = typical * (detail.run.rounds_planned - detail.run.rounds_done)
    gone = between(detail.live.opened_at, detail.server_time) if detail.live else None
    return max(0.0, left - min(gone or 0.0, typical))


def time_left(live: LiveRound, server_time: str) -> float:
    """Seconds to the open round's deadline, 0 once it has passed."""
    gone = between(live.opened_at, server_time) or 0.0
    return max(0.0, live.opened.deadline_seconds - gone)


def standings(live: LiveRound) -> dict[str, Reason | str]:
    """Each site of the open round: `"answered"`, `"waiting"`, or the reason why it is not in the sum."""
    found: dict[str, Reason | str] = dict.fromkeys(live.opened.asked, "waiting")
    for answer in live.answered:
        found[answer.site] = answer.reason or "answered"
    found.update(dict.fromkeys(live.opened.offline, Reason.OFFLINE))
    return dict(sorted(found.items()))


def busy(detail: RunDetail, number: int) -> dict[str, str]:
    """What each online site does in round `number` of this run, in words; idle ones are left out."""
    return {
        view.site: text_of(view.stage)
        for view in detail.sites
        if view.online and view.stage not in (None, Stage.IDLE)
        if (view.run, view.round) == (detail.run.run, number)
    }


def hospital_names(detail: RunDetail) -> dict[str, str]:
    """Site to hospital, for every site of the roster."""
    names = {view.site: view.hospital for view in detail.decisions}
    return names | {view.site: view.hospital for view in detail.sites}


def budget_spent(detail: RunDetail) -> dict[str, int]:
    """Sites whose privacy budget is spent, with the round in which they said so first.

    A later round with another reason, such as being offline, does not bring a budget back; an upload does.
    """
    found: dict[str, int] = {}
    for row in detail.rows:
        for item in row.missing:
            if item.reason == Reason.BUDGET_SPENT:
                found.setdefault(item.site, row.round)
        for site in row.participant_sites:
            found.pop(site, None)
    for answer in detail.live.answered if detail.live else ():
        if answer.reason == Reason.BUDGET_SPENT:
            found.setdefault(answer.site, answer.round)
    return found


def may_be_noise(change: float, error: float | None) -> bool:
    """Whether a difference of two noisy scores is within two standard deviations of its own noise."""
    return error is not None and abs(change) < 2 * math.sqrt(2) * error


def newest_word(rows: Sequence[RoundRow], site: str) -> tuple[int, Reason | None] | None:
    """The last closed round that knows of `site`, and why it is missing there; None if no round does."""
    for row in reversed(closed_rows(rows)):
        if site in row.participant_sites:
            return row.round, None
        reason = next((item.reason for item in row.missing if item.site == site), None)
        if reason is not None:
            return row.round, reason
    return None
