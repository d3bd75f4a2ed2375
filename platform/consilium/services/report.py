"""Turns a run's events into rows, the open round, and the report. Pure functions."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from consilium.contracts.api import LiveRound
from consilium.contracts.charter import Charter
from consilium.contracts.reports import (
    Dice,
    Event,
    ModelScored,
    NumberedEvent,
    PrivacyReport,
    RoundClosed,
    RoundOpened,
    RoundRow,
    RunFailed,
    RunFinished,
    RunReport,
    RunStarted,
    SiteAnswered,
)
from consilium.vocabulary import RunStatus

COLUMNS = (
    *("round", "dice_tc", "dice_wt", "dice_et", "dice_mean", "worst_site", "worst_site_mean", "scored"),
    *("loss", "participants", "participant_sites", "missing", "skipped_cases", "seconds"),
    *("seconds_opening", "bytes_up", "bytes_down", "late_uploads", "epsilon"),
)


def merge(row: RoundRow | None, event: ModelScored | RoundClosed) -> RoundRow:
    """Fill in one row from one event of its round; the other event's part is kept.

    The two events of a round may come in either order, and each may come again after a restart: the
    later one replaces what the earlier said. Row 0 has scores and no participants.
    """
    row = row or RoundRow(round=event.round)
    told = _scores(event) if isinstance(event, ModelScored) else _outcome(event)
    spent = [each for each in (row.epsilon, event.epsilon) if each is not None]
    return row.model_copy(update={**told, "epsilon": max(spent, default=None)})


def rows(events: Iterable[Event]) -> tuple[RoundRow, ...]:
    """All rows that the events tell of, by round."""
    found: dict[int, RoundRow] = {}
    for event in events:
        if isinstance(event, ModelScored | RoundClosed):
            found[event.round] = merge(found.get(event.round), event)
    return tuple(found[number] for number in sorted(found))


def live_round(events: Sequence[NumberedEvent]) -> LiveRound | None:
    """The round that is open after these events (in order); None between rounds and after the end."""
    live: LiveRound | None = None
    for numbered in events:
        event = numbered.event
        if isinstance(event, RoundOpened):
            live = LiveRound(opened=event, opened_at=numbered.at)
        elif isinstance(event, SiteAnswered) and live is not None:
            if (event.round, event.attempt) == (live.opened.round, live.opened.attempt):
                live = live.model_copy(update={"answered": (*live.answered, event)})
        elif isinstance(event, RoundClosed | RunFinished | RunFailed | RunStarted):
            live = None
    return live


def rounds_csv(rounds: Iterable[RoundRow]) -> str:
    """The rows as CSV with a header line; an unknown value is an empty cell, lists are joined by ';'."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rounds:
        dice = (row.dice.TC, row.dice.WT, row.dice.ET, row.dice.mean) if row.dice else (None,) * 4
        missing = ";".join(f"{item.site}={item.reason}" for item in row.missing)
        writer.writerow(
            (
                *(row.round, *dice, row.worst_site, row.worst_site_mean, row.scored),
                *(row.loss, row.participants, ";".join(row.participant_sites), missing),
                *(row.skipped_cases, row.seconds, row.seconds_opening),
                *(row.bytes_up, row.bytes_down, row.late_uploads, row.epsilon),
            )
        )
    return out.getvalue()


def compose_report(
    *,
    charter: Charter,
    run: str,
    status: RunStatus,
    error: str | None,
    rounds: tuple[RoundRow, ...],
    seconds: float,
    file: str | None,
) -> RunReport:
    """The report of a run. `model` is the name of its file in the platform's model folder.

    `privacy` is None for a charter whose mechanism is none: nothing is proven. No path is given.
    """
    privacy, dp = None, charter.privacy
    if dp.mechanism != "none":
        spent = max((row.epsilon for row in rounds if row.epsilon is not None), default=0.0)
        privacy = PrivacyReport(
            unit=dp.unit, mechanism=dp.mechanism, epsilon=spent, delta=dp.delta, target=dp.epsilon
        )
    return RunReport(
        status=status,
        hospitals=len(charter.roster),
        secure_aggregation=charter.secure_aggregation.masked,
        privacy=privacy,
        rounds=rounds,
        seconds_total=seconds,
        model=f"{file}.safetensors" if file else None,
        run=run,
        study=charter.id,
        error=error,
    )


def _scores(event: ModelScored) -> dict[str, object]:
    mean = min(1.0, (event.dice_tc + event.dice_wt + event.dice_et) / 3.0)
    return {
        "dice": Dice(TC=event.dice_tc, WT=event.dice_wt, ET=event.dice_et, mean=mean),
        "worst_site": event.worst_site,
        "worst_site_mean": event.worst_site_mean,
        "scored": event.scored,
        "sites": event.sites,
    }


def _outcome(event: RoundClosed) -> dict[str, object]:
    return {
        "loss": event.loss,
        "participants": len(event.participants),
        "participant_sites": event.participants,
        "missing": event.missing,
        "skipped_cases": event.skipped_cases,
        "seconds": event.seconds,
        "seconds_opening": event.seconds_opening,
        "bytes_up": event.bytes_up,
        "bytes_down": event.bytes_down,
        "late_uploads": event.late_uploads,
    }
