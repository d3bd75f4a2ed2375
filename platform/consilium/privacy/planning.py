"""What a privacy plan leaves of the signal, said before anybody trains.

The figure is noise-to-signal: the norm of the noise in one summed step over the largest norm that the mean
of the patients' clipped gradients can have. Noise grows with √parameters and the signal with patients
(Bassily, Smith and Thakurta 2014), so a small model of many patients is workable and a large one of few is
hopeless. A gradient is rarely as long as its bound, nor do patients agree: a real run does worse, never
better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from consilium.privacy import accounting
from consilium.privacy.plan import Mechanism, PrivacyPlan, Unit

WORKABLE, STRAINED = 0.5, 2.0
"""Most noise-to-signal of one step that is still workable, and that is not yet hopeless."""
DICE_ERROR = 0.05
"""Error of a reported Dice above which a warning is given."""
USUAL_STEPS = 100
"""Noisy steps of a run that the verdicts are meant for."""
VAIN = 50.0
"""An ε from which on a promise is not worth its noise, so that no remedy names it."""
POINTS = 10
"""Rounds at which the growth of ε is worked out."""

Verdict = Literal["workable", "strained", "hopeless"]

UNITS: dict[Unit, str] = {
    "patient": "Protects each patient of one hospital with all scans there; a patient treated at m hospitals "
    "has m times the ε.",
    "site": "Protects a hospital as a whole: what changes if it was never part of the study. One patient of "
    "it is bounded less tightly.",
}
MECHANISMS: dict[Mechanism, str] = {
    "distributed": "Every hospital adds a share of the noise before masking: nobody sees a sum without "
    "noise, not even the aggregator.",
    "local": "Every hospital adds all of the noise itself and trusts nobody; a sum carries that of all.",
    "central": "The aggregator adds the noise to the opened sum: it protects only from those who see the "
    "model, and the aggregator must be trusted.",
}


@dataclass(frozen=True)
class Outlook:
    """What to expect of one plan. Figures are for rounds in which all sites answer."""

    plan: PrivacyPlan
    units: int
    """Training patients of all sites; the sites themselves where the unit is the site."""
    epsilon: float
    """ε of the whole run, evaluations included."""
    by_round: tuple[tuple[int, float], ...]
    """(round, ε spent once it is closed), ascending; the last includes the final evaluation."""
    limit: Literal["training", "evaluations"]
    """What spends more, and so sets the noise."""
    surplus: float
    """Noise in the sum over the noise that ε rests on: shares are sized for the fewest survivors."""
    noise_to_signal: float
    """Of one summed step."""
    noise_to_signal_mean: float
    """Of the mean of all steps of the run, as if the gradient never changed."""
    dice_error: float | None
    """Standard deviation of the noise in one region's reported Dice, at its worst; None if nobody scores."""
    delta_small: bool
    """True if δ is below one in all units: a larger δ would allow to publish a patient outright."""
    verdict: Verdict
    sentences: tuple[str, ...]
    """The verdict in words, then what would help, then warnings."""


def outlook(plan: PrivacyPlan, cohorts: Sequence[int], held_out: int) -> Outlook:
    """What `plan`, with the noise it names, does for sites of so many training patients.

    `cohorts` holds training patients by site, `held_out` the held-out patients of all sites. The plan
    usually comes from `least`.

    Raises:
        ValueError: the number of cohorts is not the plan's number of sites, or one is below 1.
    """
    if len(cohorts) != plan.sites or min(cohorts) < 1 or held_out < 0:
        raise ValueError(
            f"cohorts {list(cohorts)} and {held_out} held out: need {plan.sites} cohorts of 1 patient or more"
        )
    by_patient = plan.unit == "patient"
    units = sum(cohorts) if by_patient else plan.sites
    scorers = held_out if by_patient else plan.sites
    ratio = noise_to_signal(plan, units)
    error = dice_error(plan, scorers) if held_out else None
    training = accounting.spent_training(plan, accounting.charged_rounds(plan))
    evaluations = accounting.spent_evaluating(plan, plan.evaluations)
    limit: Literal["training", "evaluations"] = "evaluations" if evaluations > training else "training"
    delta_small = plan.delta * (units + held_out if by_patient else units) < 1
    verdict = verdict_of(ratio)
    sentences = [_plainly(verdict, ratio), *_averaged(plan, ratio), *_remedies(plan, units, ratio)]
    sentences += _about_scores(plan, scorers, error, limit)
    if not delta_small:
        sentences.append(
            f"δ {plan.delta:g} is not below one in all {plan.unit}s: it would allow to publish one of them "
            "outright. Choose a smaller δ."
        )
    return Outlook(
        plan=plan,
        units=units,
        epsilon=max(training, evaluations),
        by_round=by_round(plan),
        limit=limit,
        surplus=plan.noise_of(plan.sites) / (plan.noise * plan.bound),
        noise_to_signal=ratio,
        noise_to_signal_mean=ratio / math.sqrt(noisy_steps(plan)),
        dice_error=error,
        delta_small=delta_small,
        verdict=verdict,
        sentences=tuple(sentences),
    )


def least(plan: PrivacyPlan) -> PrivacyPlan:
    """The plan with the least noise that keeps its ε over the whole run.

    Raises:
        ValueError: no noise does, or the ring of the plan's scale has no room for it.
    """
    return accounting.calibrated(plan, plan.epsilon)


def finest(make: Callable[[int], PrivacyPlan]) -> PrivacyPlan:
    """The plan with the most bits of scale, 24 at most, for which the ring has room.

    Raises:
        ValueError: there is room for none.
    """
    for bits in range(24, 0, -1):
        plan = make(bits)
        try:
            plan.check_ring()
            plan.check_fine()
        except ValueError:
            continue
        return plan
    raise ValueError("no scale_bits leave room in the ring for these sums: lower cohort_cap or noise")


def noise_to_signal(plan: PrivacyPlan, units: int) -> float:
    """Norm of a step's noise over the largest norm of its mean gradient, of so many units in all.

    With `distributed` noise and patients: σ·√P / (sampling · patients), times √(N/(T−c)) as all N sites
    answer and shares are sized for T−c of them; and over √0.99, as a unit's loss takes part of its bound.
    """
    noise = plan.noise_of(plan.sites) / plan.bound * math.sqrt(plan.parameters)
    return noise / (plan.sampling * units * plan.step_share)


def dice_error(plan: PrivacyPlan, scorers: int) -> float:
    """Standard deviation of one region's Dice, noisy in its sum and in the count that it is divided by.

    It is √(1 + (2d − 1)²) · noise / scorers at a Dice of d (see `PatientSum.evaluate`); √2 at 0 and 1.
    """
    return math.sqrt(2.0) * plan.noise_of(plan.sites) / (plan.bound * plan.scores_share * scorers)


def by_round(plan: PrivacyPlan) -> tuple[tuple[int, float], ...]:
    """(round, ε spent once it is closed) of up to 11 rounds, the first and the last among them."""
    rounds = sorted({1, *(math.ceil(plan.rounds * part / POINTS) for part in range(1, POINTS + 1))})
    spent = [accounting.spent(plan, number, plan.evaluated(number, False)) for number in rounds[:-1]]
    return tuple(zip(rounds, (*spent, accounting.promised(plan)), strict=True))


def verdict_of(ratio: float) -> Verdict:
    """The verdict on a noise-to-signal of one step."""
    if ratio <= WORKABLE:
        return "workable"
    return "strained" if ratio <= STRAINED else "hopeless"


def safe_delta(patients: int) -> float:
    """1/(10 · patients) rounded down to a power of ten: 1e-4 for 1,000 patients."""
    return float(f"1e-{len(str(10 * patients - 1))}")


def noisy_steps(plan: PrivacyPlan) -> int:
    """Noisy steps of the run: rounds, times the steps of one where a hospital adds noise to each."""
    return plan.rounds * (plan.steps if plan.unit == "patient" else 1)


def _plainly(verdict: Verdict, ratio: float) -> str:
    """The verdict in one sentence."""
    meaning = {
        "workable": "the step can be told from its noise",
        "strained": "expect a clearly worse model than without privacy",
        "hopeless": "the model would be noise",
    }
    size = f"{ratio:.2g}" if ratio < 10 else f"{ratio:,.0f}"
    return (
        f"{verdict.capitalize()}: the noise of a step is {size} times as long as the mean gradient can be; "
        f"{meaning[verdict]}."
    )


def _averaged(plan: PrivacyPlan, ratio: float) -> list[str]:
    """What many small steps change: the mean of all steps is the same however a run is cut into steps."""
    verdict, steps = verdict_of(ratio), noisy_steps(plan)
    averaged = verdict_of(ratio / math.sqrt(steps / USUAL_STEPS))
    if steps > USUAL_STEPS and averaged != verdict:
        return [
            f"Its {steps:,} steps average out to what would be {averaged} in {USUAL_STEPS}: take fewer "
            "steps, or a small learning rate."
        ]
    return ["Do not run this study as it is."] if verdict == "hopeless" else []


def _remedies(plan: PrivacyPlan, units: int, ratio: float) -> list[str]:
    """What would make it workable, each alone: fewer parameters, more units, a larger ε."""
    if ratio <= WORKABLE:
        return []
    said = []
    parameters = math.floor(plan.parameters * (WORKABLE / ratio) ** 2)
    if parameters:
        said.append(
            f"Workable with {parameters:,} trained parameters or fewer: freeze the others, or train an "
            "adapter."
        )
    else:
        said.append("No model is small enough for so few.")
    needed = math.ceil(units * ratio / WORKABLE)
    if plan.unit == "patient":
        said.append(f"Or with {needed:,} training patients in all at these sites, instead of {units:,}.")
    else:
        said.append(f"Or with about {needed:,} hospitals instead of {units:,}: here each counts as one.")
    enough = _enough_epsilon(plan, ratio)
    if enough is None:
        said.append(f"A larger ε alone would not help: it would take more than {VAIN:g}.")
    else:
        said.append(f"Or with ε {enough:.3g} instead of {plan.epsilon:g}, a weaker promise.")
    return said


def _enough_epsilon(plan: PrivacyPlan, ratio: float) -> float | None:
    """The ε at which the plan would be workable; None where it is above `VAIN`."""
    noise = plan.noise * WORKABLE / ratio
    if plan.sampling * math.sqrt(noisy_steps(plan)) / noise > accounting.LOUD:
        return None
    epsilon = accounting.promised(replace(plan, noise=noise))
    return epsilon if epsilon <= VAIN else None


def _about_scores(plan: PrivacyPlan, scorers: int, error: float | None, limit: str) -> list[str]:
    """Warnings about the reported Dice, and about what the evaluations cost."""
    said = []
    if error is None:
        said.append("Nobody is held out: no Dice can be reported.")
    elif error > DICE_ERROR:
        whom = "held-out patients" if plan.unit == "patient" else "hospitals"
        size = f"±{error:.2f}" if error < 1 else "more than its whole range"
        needed = math.ceil(scorers * error / DICE_ERROR)
        said.append(
            f"A region's reported Dice is off by {size} (one standard deviation): for ±{DICE_ERROR:g} it "
            f"needs {needed:,} {whom}, not {scorers:,}."
        )
    if limit == "evaluations" and plan.evaluations > 1:
        said.append(
            f"The {plan.evaluations} evaluations set the noise, not the training: score fewer models "
            "for less of it."
        )
    return said
