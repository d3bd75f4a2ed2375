"""Turns sums and site reports into typed events. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping

from consilium.contracts.charter import Charter
from consilium.contracts.messages import Reply
from consilium.contracts.reports import Missing, ModelScored, RoundClosed, SiteRow
from consilium.learning.aggregator import Close
from consilium.privacy.fixed_point import Tail


def site_seconds(deadline: float) -> float:
    """The time limit of a site's work, leaving a tenth (2 to 30 s) of the deadline for the way back."""
    return max(deadline * 0.5, deadline - min(30.0, max(2.0, deadline * 0.1)))


def scored(
    charter: Charter,
    round_number: int,
    model: str,
    tail: Tail,
    replies: Mapping[str, Reply],
    seconds: Mapping[str, float],
) -> ModelScored | None:
    """Scores of the model after `round_number` from the opened tail; None if nobody held out a patient.

    The worst site and per-site rows appear only if the charter's release shares per-site metrics.
    """
    if tail.scored == 0:
        return None
    rows: list[SiteRow] = []
    if charter.release.site_metrics:
        rows = [_site_row(site, reply, seconds.get(site, 0.0)) for site, reply in replies.items()]
    judged = {row.site: row.scores.mean for row in rows if row.scores is not None and row.scores.scored}
    worst = min(judged, key=lambda site: judged[site]) if judged else None
    return ModelScored(
        round=round_number,
        model=model,
        dice_tc=_unit(tail.dice_tc / tail.scored),
        dice_wt=_unit(tail.dice_wt / tail.scored),
        dice_et=_unit(tail.dice_et / tail.scored),
        scored=tail.scored,
        worst_site=worst,
        worst_site_mean=judged[worst] if worst else None,
        sites=tuple(rows),
    )


def closed(
    tag: tuple[int, int],
    close: Close,
    replies: Mapping[str, Reply],
    tail: Tail,
    seconds: tuple[float, float],
    moved: tuple[int, int],
    late: int,
) -> RoundClosed:
    """The round's own row; `seconds` are (in all, for opening the sum), `moved` bytes (up, down).

    Loss is the mean over uploads.
    """
    skipped = sum(sum(reply.report.skipped.values()) for reply in replies.values() if reply.report)
    return RoundClosed(
        round=tag[0],
        attempt=tag[1],
        participants=close.survivors,
        missing=tuple(Missing(site=site, reason=reason) for site, reason in close.missing.items()),
        skipped_cases=skipped,
        loss=tail.loss / len(replies),
        seconds=seconds[0],
        seconds_opening=seconds[1],
        bytes_up=moved[0],
        bytes_down=moved[1],
        late_uploads=late,
    )


def _site_row(site: str, reply: Reply, seconds: float) -> SiteRow:
    report = reply.report
    if report is None:
        return SiteRow(site=site, seconds=seconds)
    return SiteRow(
        site=site,
        scores=report.scores,
        cases_train=report.cases_train,
        cases_test=report.cases_test,
        skipped=report.skipped,
        seconds=seconds,
    )


def _unit(value: float) -> float:
    return min(1.0, max(0.0, value))
