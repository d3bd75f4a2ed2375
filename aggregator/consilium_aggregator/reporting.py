"""Turns sums and site reports into typed events. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping

from consilium.contracts.charter import Charter
from consilium.contracts.messages import Reply
from consilium.contracts.reports import Missing, ModelScored, RoundClosed, SiteRow
from consilium.contracts.sums import Told
from consilium.learning.aggregator import Close
from consilium.privacy import accounting


def site_seconds(deadline: float) -> float:
    """The time limit of a site's work, leaving a tenth (2 to 30 s) of the deadline for the way back."""
    return max(deadline * 0.5, deadline - min(30.0, max(2.0, deadline * 0.1)))


def scored(
    charter: Charter,
    round_number: int,
    model: str,
    told: Told,
    replies: Mapping[str, Reply],
    seconds: Mapping[str, float],
) -> ModelScored | None:
    """Scores of the model after `round_number` from the opened sum; None if nobody scored it.

    The worst site and per-site rows appear only if the charter's release shares per-site metrics.
    """
    if told.scored == 0:
        return None
    rows: list[SiteRow] = []
    if charter.release.site_metrics:
        rows = [_site_row(site, reply, seconds.get(site, 0.0)) for site, reply in replies.items()]
    judged = {row.site: row.scores.mean for row in rows if row.scores is not None and row.scores.scored}
    worst = min(judged, key=lambda site: judged[site]) if judged else None
    return ModelScored(
        round=round_number,
        model=model,
        dice_tc=told.dice_tc,
        dice_wt=told.dice_wt,
        dice_et=told.dice_et,
        scored=told.scored,
        epsilon=epsilon(charter, round_number, round_number + 1),
        worst_site=worst,
        worst_site_mean=judged[worst] if worst else None,
        sites=tuple(rows),
    )


def closed(
    charter: Charter,
    tag: tuple[int, int],
    close: Close,
    replies: Mapping[str, Reply],
    told: Told,
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
        loss=told.loss,
        epsilon=epsilon(charter, tag[0], tag[0] + (tag[0] == charter.rounds.count)),
        seconds=seconds[0],
        seconds_opening=seconds[1],
        bytes_up=moved[0],
        bytes_down=moved[1],
        late_uploads=late,
    )


def epsilon(charter: Charter, closed_rounds: int, orders: int) -> float | None:
    """ε that the charter's plan has spent after so many rounds and orders (the last order finishes); or None.

    At the promised noise, whoever survived: the platform's figure for people, never above a vault's.
    """
    plan = charter.plan
    if plan is None:
        return None
    finished = orders > plan.rounds
    rounds = closed_rounds + (1 if finished and plan.unit == "site" else 0)
    return accounting.spent(plan, rounds, plan.evaluated(min(orders, plan.rounds), finished))


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
