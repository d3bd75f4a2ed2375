"""Uploads of studies without differential privacy: an update and counts, exact in fixed point."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from consilium.contracts.charter import Charter
from consilium.contracts.messages import Scores, SiteReport
from consilium.contracts.sums import Sums
from consilium.errors import Refused
from consilium.learning import averaging
from consilium.privacy.clipping import clip_factor
from consilium.privacy.fixed_point import Tail
from consilium.privacy.tags import LIMBS
from consilium.vocabulary import Reason, Stage
from consilium_site.workbench import Cohort, Scored, Trained, Vector, Workbench

Ring = NDArray[np.uint32]


def exact_upload(
    charter: Charter,
    site: str,
    number: int,
    model: Vector,
    bench: Workbench,
    cohort: Cohort,
    until: float,
    doing: Callable[[Stage], None],
) -> tuple[Ring, SiteReport]:
    """Score `model` and, unless the rounds are over, train it: the clipped, weighted update with its tail,
    and room for tags where the charter masks.

    Raises:
        Refused: BAD_UPDATE, or what the workbench raises.
    """
    doing(Stage.SCORING)
    started = time.monotonic()
    scored = bench.score(model, until)
    scoring = time.monotonic() - started
    trained = None
    if number <= charter.rounds.count:
        doing(Stage.TRAINING)
        trained = bench.train(model, number, until)
    seconds = (scoring, time.monotonic() - started - scoring)
    return _encode(charter, scored, trained), _report(charter, site, cohort, scored, trained, seconds)


def _encode(charter: Charter, scored: Scored, trained: Trained | None) -> Ring:
    """Clipped, weighted update and tail (train), or the tail alone."""
    codec, spare = Sums(charter).codec, LIMBS if charter.secure_aggregation.masked else 0
    weight = min(trained.weight, codec.cap) if trained else 0
    share = min(1.0, codec.cap / scored.scored) if scored.scored else 1.0
    tail = Tail(
        weight,
        trained.loss if trained else 0.0,
        min(scored.scored, codec.cap),
        scored.dice_tc * share,
        scored.dice_wt * share,
        scored.dice_et * share,
    )
    try:
        if trained is None:
            return np.append(codec.encode_tail(tail), np.zeros(spare, np.uint32))
        share = averaging.site_share(weight, codec.cap)
        factor = share * clip_factor(trained.update, codec.clip / share)
        return codec.encode(trained.update, tail, factor, spare)
    except ValueError as error:
        raise Refused(Reason.BAD_UPDATE, str(error)) from None


def _report(
    charter: Charter,
    site: str,
    cohort: Cohort,
    scored: Scored,
    trained: Trained | None,
    seconds: tuple[float, float],
) -> SiteReport:
    scores, shared = None, charter.release.site_metrics
    if shared and scored.scored:
        tc, wt, et = (
            min(1.0, value / scored.scored) for value in (scored.dice_tc, scored.dice_wt, scored.dice_et)
        )
        scores = Scores(tc=tc, wt=wt, et=et, scored=scored.scored, empty=scored.empty)
    return SiteReport(
        site=site,
        scores=scores,
        cases_train=cohort.train if shared else 0,
        cases_test=cohort.test if shared else 0,
        skipped=cohort.skipped,
        seconds_scoring=seconds[0],
        seconds_training=seconds[1],
        precision=trained.precision if trained else "fp32",
    )
