"""A lower bound on ε, measured on the code that hospitals run: the audit of Steinke, Nasr and Jagielski 2023
("Privacy Auditing with One (1) Training Run").

Canaries are made-up patients whose gradients are far beyond the bound. A private fair coin decides for each
whether it takes part. Whoever sees the sums guesses the coins and may abstain: (ε, δ) limits how often a
guess can be right, so guesses that are right too often refute it. A bug in clipping, rounding or noise shows
as a lower bound above the claim. The converse proves nothing: a lower bound below it is no proof of privacy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from consilium.privacy import accounting
from consilium.privacy.noise import Words, chosen
from consilium.privacy.patients import PatientSum, Vector, ring
from consilium.privacy.plan import LOSS_MOST, TAIL, PrivacyPlan

CONFIDENCE = 0.95
LOUD = 1000.0
"""Norm of a canary's gradient, in bounds C."""
FRACTIONS = (0.03, 0.2, 0.85)
"""Parts of the canaries that are guessed, half as in and half as out: all three are tried, each at a third of
the error (Bonferroni). No more than 0.85, as coins do not fall in exact halves."""
LARGEST = 64.0
"""An ε that no guesses certify: e**-64 is beyond what a double tells from none."""

Scores = NDArray[np.float64]
Coins = NDArray[np.bool_]


@dataclass(frozen=True)
class Audit:
    """What one audit found. The plan's claim is refuted, at 95 %, if `lower_bound` is above `claimed`."""

    claimed: float
    """ε that the accountant states for so many rounds."""
    lower_bound: float
    """ε is at least this, at 95 % and at the plan's δ; 0 if the guesses show nothing."""
    certifiable: float
    """What so many canaries could show at most, were each guess right: a larger ε cannot be told from it."""
    canaries: int
    guesses: int
    """Canaries that the best of the tried fractions guessed; it abstained from the others."""
    right: int
    rounds: int


def audit(
    plan: PrivacyPlan, canaries: int, words: Words, *, rounds: int | None = None, sites: int | None = None
) -> Audit:
    """Run the canaries through `plan` and guess who took part.

    The guesses see the sum of every noisy step as the aggregator opens it. Canaries have a coordinate each,
    also where the model has fewer: the noise of a coordinate does not depend on their number, so the claim
    is the same. Coordinates that no canary uses carry only noise and are left out.

    Arguments:
        plan: patients are the unit. Its σ, clip, scale, sampling and mechanism are what is audited.
        canaries: more can certify a larger ε (see `certifiable`); time grows with their square.
        words: the source of coins and noise; `private_stream()` outside tests.
        rounds: the first so many rounds, and the claim for them; all of the plan's if None.
        sites: sites in the sum; the fewest whose noise the claim rests on if None (see `exposed`).

    Raises:
        ValueError: the unit is the site; rounds, sites or canaries are beyond the plan.
    """
    rounds = plan.rounds if rounds is None else rounds
    sites = exposed(plan) if sites is None else sites
    if plan.unit != "patient":
        raise ValueError("audit: canaries are patients, but this plan's unit is the site")
    if not (1 <= rounds <= plan.rounds and 1 <= sites <= plan.sites):
        raise ValueError(
            f"audit: rounds {rounds} and sites {sites} must be from 1 to {plan.rounds} and {plan.sites}"
        )
    if not 2 <= canaries <= sites * plan.cohort_cap:
        raise ValueError(
            f"audit: {canaries} canaries must be from 2 to {sites} sites × cohort_cap {plan.cohort_cap}"
        )
    included = chosen(0.5, canaries, words)
    guesses, right, bound = _best(_scores(plan, included, words, rounds, sites), included, plan.delta)
    return Audit(
        claimed=accounting.spent_training(plan, rounds),
        lower_bound=bound,
        certifiable=certifiable(canaries, plan.delta),
        canaries=canaries,
        guesses=guesses,
        right=right,
        rounds=rounds,
    )


def exposed(plan: PrivacyPlan) -> int:
    """The fewest sites whose sum somebody may see, colluders' own parts left out: all noise is then σΔ."""
    if plan.mechanism == "distributed":
        return plan.threshold - plan.colluding
    return 1 if plan.mechanism == "local" else plan.sites


def certifiable(canaries: int, delta: float = 0.0) -> float:
    """The lower bound at 95 % if every canary is guessed and right: no audit of so many shows more.

    With δ = 0 it is 3.49 for 100 canaries, 5.81 for 1,000 and 7.42 for 5,000.
    """
    return lower_bound(canaries, canaries, canaries, delta)


def lower_bound(
    canaries: int, guesses: int, right: int, delta: float, confidence: float = CONFIDENCE
) -> float:
    """The largest ε refuted by `right` of `guesses`, which leave out the other canaries (Theorem 5.2).

    Bisection to 1e-6, from below: what is returned is itself refuted, or 0.

    Raises:
        ValueError: not 0 ≤ right ≤ guesses ≤ canaries.
    """
    if not 0 <= right <= guesses <= canaries:
        raise ValueError(f"audit: {right} right of {guesses} guesses of {canaries} canaries cannot be")
    low, high = 0.0, LARGEST
    while high - low > 1e-6:
        middle = (low + high) / 2
        refuted = p_value(canaries, guesses, right, middle, delta) < 1.0 - confidence
        low, high = (middle, high) if refuted else (low, middle)
    return low


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """The most probable that an (ε, δ)-private mechanism lets `right` or more of `guesses` be right.

    With W ~ Binomial(guesses, e^ε/(1+e^ε)) it is P(W ≥ v) + 2mδ · max over i of P(v > W ≥ v − i)/i
    (Theorem 5.2 and appendix D of the paper), for m canaries and v right.
    """
    from scipy.stats import binom

    chance = 1.0 / (1.0 + math.exp(-epsilon))
    tail = float(binom.sf(right - 1, guesses, chance))
    if delta == 0.0 or right == 0:
        return min(1.0, tail)
    missed = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, chance))
    worst = float(np.max(missed / np.arange(1, right + 1)))
    return min(1.0, tail + 2.0 * canaries * delta * worst)


def _best(scores: Scores, included: Coins, delta: float) -> tuple[int, int, float]:
    """(guesses, right, lower bound) of the fraction that shows most: the highest are in, the lowest out."""
    count = scores.size
    order = np.argsort(scores)
    confidence = 1.0 - (1.0 - CONFIDENCE) / len(FRACTIONS)
    tried = []
    for fraction in FRACTIONS:
        side = max(1, math.floor(fraction * count / 2))
        right = int(included[order[-side:]].sum() + (~included[order[:side]]).sum())
        tried.append((lower_bound(count, 2 * side, right, delta, confidence), 2 * side, right))
    bound, guesses, right = max(tried)
    return guesses, right, bound


def _scores(plan: PrivacyPlan, included: Coins, words: Words, rounds: int, sites: int) -> Scores:
    """(canaries,) how far the sums of all noisy steps went in each canary's direction."""
    signs = np.where(chosen(0.5, included.size, words), np.float32(1), np.float32(-1))
    scores = np.zeros(included.size)
    for _ in range(rounds * plan.steps):
        taking = included & chosen(plan.sampling, included.size, words)
        scores += signs * _opened(plan, taking, signs, words, sites)
    return scores


def _opened(plan: PrivacyPlan, taking: Coins, signs: Vector, words: Words, sites: int) -> Scores:
    """The sum of one noisy step as the aggregator opens it: on the coordinates of all canaries."""
    loud, total = np.float32(LOUD * plan.clip), np.zeros(taking.size + TAIL, np.uint32)
    for site in range(sites):
        summed = PatientSum(plan, taking.size)
        for canary in range(site, taking.size, sites):
            if taking[canary]:
                gradient = np.zeros(taking.size, np.float32)
                gradient[canary] = signs[canary] * loud
                summed.train(gradient, LOSS_MOST)
        total += summed.noised(words)
    if plan.mechanism == "central":
        total = ring(total.view(np.int32).astype(np.int64), plan.noise_of(sites), words)
    return total[: taking.size].view(np.int32).astype(np.float64)
