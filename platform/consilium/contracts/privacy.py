"""The planning view of a study's privacy: what a researcher asks, and the honest answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from consilium.contracts.base import Document
from consilium.contracts.charter import Charter, colluding_bound, threshold
from consilium.errors import InputError
from consilium.privacy import accounting
from consilium.privacy.plan import PrivacyPlan
from consilium.privacy.planning import MECHANISMS, UNITS, Outlook, least, outlook

Patients = Annotated[int, Field(ge=1, le=1_000_000)]


class PrivacyQuestion(Document):
    """A study that somebody thinks of: what noise would its ε take, and would anything be learnt?"""

    cohorts: tuple[Patients, ...] = Field(
        min_length=2, max_length=100, description="training patients, a number for each hospital"
    )
    held_out: int = Field(ge=0, le=1_000_000, description="held-out patients of all hospitals")
    rounds: int = Field(default=100, ge=1, le=10_000)
    steps: int = Field(default=1, ge=1, le=100_000, description="noisy steps a round; 1 unless 'local'")
    sampling: float = Field(default=1.0, gt=0.0, le=1.0, description="a patient's chance to be in a step")
    parameters: int = Field(ge=1, le=2_000_000_000, description="parameters that are trained, none frozen")
    epsilon: float = Field(default=8.0, ge=0.01, le=100.0, description="most ε that the run may spend")
    delta: float = Field(ge=1e-12, le=0.01, description="δ of the run; below 1 in all patients")
    evaluations: int = Field(default=3, ge=1, le=10_001, description="models scored, of 1 to rounds + 1")
    unit: Literal["patient", "site"] = Field(default="patient", description="whose part is bounded")
    mechanism: Literal["distributed", "local", "central"] = Field(
        default="distributed", description="who adds the noise"
    )

    @model_validator(mode="after")
    def _possible(self) -> PrivacyQuestion:
        if self.mechanism == "distributed" and len(self.cohorts) < 3:
            raise ValueError("mechanism 'distributed' needs 3 hospitals or more: two cannot mask")
        assert self.plan  # a plan refuses what cannot be accounted for
        return self

    @property
    def plan(self) -> PrivacyPlan:
        """The plan that such a charter would make, its noise still to be found."""
        sites, largest = len(self.cohorts), max(self.cohorts)
        return PrivacyPlan(
            unit=self.unit,
            mechanism=self.mechanism,
            sites=sites,
            threshold=threshold(sites),
            colluding=colluding_bound(sites),
            parameters=self.parameters,
            rounds=self.rounds,
            steps=self.steps,
            evaluations=self.evaluations,
            sampling=self.sampling,
            cohort=max(1, round(sum(self.cohorts) / sites)),
            cohort_cap=largest,
            clip=1.0,
            noise=1.0,
            bits=0,
            epsilon=self.epsilon,
            delta=self.delta,
        )


class EpsilonAt(Document):
    """ε spent once a round is closed."""

    round: int
    epsilon: float


class PrivacyOutlook(Document):
    """The answer, for rounds in which all hospitals answer. A real run does worse, never better."""

    verdict: Literal["workable", "strained", "hopeless"] = Field(
        description="by noise_to_signal: at most 0.5, at most 2, above 2"
    )
    sentences: tuple[str, ...] = Field(description="the verdict, what would help, and warnings; for people")
    noise: float = Field(description="noise multiplier σ, the charter's privacy.noise")
    epsilon: float = Field(description="ε of the whole run with this noise, evaluations included")
    delta: float
    delta_small: bool = Field(description="δ is below one in all units")
    by_round: tuple[EpsilonAt, ...] = Field(description="up to 11 rounds; the last with the final evaluation")
    limit: Literal["training", "evaluations"] = Field(description="what spends more, and so sets the noise")
    noise_to_signal: float = Field(
        description="norm of the noise of one step over the largest norm of its mean gradient"
    )
    noise_to_signal_mean: float = Field(description="the same of the mean of all steps of the run")
    surplus: float = Field(
        description="noise in the sum over what ε rests on: shares are sized for the fewest survivors"
    )
    dice_error: float | None = Field(
        description="standard deviation of a region's reported Dice at its worst; null if nobody is held out"
    )
    parameters: int
    units: int = Field(description="training patients of all hospitals, or hospitals")
    protects: tuple[str, str] = Field(description="what the unit and the mechanism protect; for people")


def answer(question: PrivacyQuestion) -> PrivacyOutlook:
    """The least noise that keeps the question's ε, and what it leaves; seconds of work.

    Raises:
        InputError: no noise keeps it.
    """
    return _told(outlook(_with_least(question.plan), question.cohorts, question.held_out))


def answer_charter(charter: Charter, cohorts: Sequence[int], held_out: int) -> PrivacyOutlook:
    """The same for a charter with its own noise, and where charter and cohorts do not go together.

    A charter whose noise does not keep its ε is answered for the least noise that does, and told so.

    Raises:
        InputError: the charter promises no privacy, its run is too long to be planned, no noise keeps its
            ε, or the number of cohorts is not that of its roster.
    """
    plan = charter.plan
    if plan is None:
        raise InputError("the charter's privacy.mechanism is 'none': there is nothing to plan")
    notes = _misfits(charter, plan, cohorts)
    if not accounting.keeps(plan):
        enough = _with_least(plan)
        notes.append(
            f"The charter's noise {plan.noise:g} spends ε {accounting.promised(plan):.3g}, not "
            f"{plan.epsilon:g}: hospitals will refuse it. Figures are for {enough.noise:g}, which keeps it."
        )
        plan = enough
    try:
        return _told(outlook(plan, cohorts, held_out), notes)
    except ValueError as error:
        raise InputError(str(error)) from None


def _with_least(plan: PrivacyPlan) -> PrivacyPlan:
    try:
        return least(plan)
    except ValueError as error:
        raise InputError(str(error)) from None


def _misfits(charter: Charter, plan: PrivacyPlan, cohorts: Sequence[int]) -> list[str]:
    """Where these cohorts are not those that the charter was written for."""
    if plan.unit == "site" or not cohorts:
        return []
    said, mean = [], sum(cohorts) / len(cohorts)
    if max(cohorts) > plan.cohort_cap:
        said.append(
            f"A hospital with {max(cohorts):,} patients will be refused: privacy.cohort_cap is "
            f"{plan.cohort_cap:,}."
        )
    if not 0.8 <= mean / plan.cohort <= 1.25:
        said.append(
            f"privacy.cohort is {plan.cohort:,} and hospitals have {mean:,.0f} on average: steps will be "
            f"{mean / plan.cohort:.2g} times as long as meant."
        )
    if min(cohorts) < charter.release.minimum_cohort:
        said.append(
            f"A hospital with {min(cohorts):,} patients is below release.minimum_cohort "
            f"{charter.release.minimum_cohort:,}."
        )
    return said


def _told(found: Outlook, notes: Sequence[str] = ()) -> PrivacyOutlook:
    plan = found.plan
    return PrivacyOutlook(
        verdict=found.verdict,
        sentences=(*notes, *found.sentences),
        noise=plan.noise,
        epsilon=found.epsilon,
        delta=plan.delta,
        delta_small=found.delta_small,
        by_round=tuple(EpsilonAt(round=number, epsilon=spent) for number, spent in found.by_round),
        limit=found.limit,
        noise_to_signal=found.noise_to_signal,
        noise_to_signal_mean=found.noise_to_signal_mean,
        surplus=found.surplus,
        dice_error=found.dice_error,
        parameters=plan.parameters,
        units=found.units,
        protects=(UNITS[plan.unit], MECHANISMS[plan.mechanism]),
    )
