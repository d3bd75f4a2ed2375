"""What a plan leaves of the signal: figures worked out by hand, and verdicts with their remedies."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from consilium.privacy import accounting
from consilium.privacy.noise import stream
from consilium.privacy.patients import PatientSum
from consilium.privacy.plan import PrivacyPlan
from consilium.privacy.planning import (
    MECHANISMS,
    UNITS,
    dice_error,
    least,
    noise_to_signal,
    outlook,
    safe_delta,
    verdict_of,
)

FOUR = (250, 250, 250, 250)


def plan(**changes: Any) -> PrivacyPlan:
    values: dict[str, Any] = {
        "unit": "patient",
        "mechanism": "distributed",
        "sites": 4,
        "threshold": 3,
        "colluding": 1,
        "parameters": 10_000,
        "rounds": 100,
        "steps": 1,
        "evaluations": 3,
        "sampling": 1.0,
        "cohort": 250,
        "cohort_cap": 400,
        "clip": 1.0,
        "noise": 1.0,
        "bits": 0,
        "epsilon": 8.0,
        "delta": 1e-4,
    }
    return PrivacyPlan(**values | changes)


@pytest.fixture(scope="module")
def at_eight() -> PrivacyPlan:
    return least(plan())


@pytest.mark.parametrize(
    ("parameters", "ratio", "verdict"),
    [
        (5_000_000, 12.1, "hopeless"),
        (100_000, 1.7, "hopeless"),
        (10_000, 0.54, "strained"),
        (83, 0.05, "workable"),
    ],
)
def test_a_thousand_patients_at_eight(
    at_eight: PrivacyPlan, parameters: int, ratio: float, verdict: str
) -> None:
    assert at_eight.noise * math.sqrt(parameters) / 1000 == pytest.approx(ratio, rel=0.015)
    found = outlook(replace(at_eight, parameters=parameters), FOUR, 333)
    surplus = math.sqrt(4 / (3 - 1))
    assert found.surplus == pytest.approx(surplus)
    expected = at_eight.noise * surplus * math.sqrt(parameters) / 1000 / math.sqrt(0.99)
    assert found.noise_to_signal == pytest.approx(expected)
    assert found.noise_to_signal_mean == pytest.approx(expected / 10)
    assert found.verdict == verdict
    assert found.sentences[0].startswith(verdict.capitalize())


def test_the_least_noise_keeps_the_promise_and_a_little_less_does_not(at_eight: PrivacyPlan) -> None:
    assert accounting.keeps(at_eight)
    assert not accounting.keeps(replace(at_eight, noise=at_eight.noise * 0.995))
    assert least(plan(clip=5000.0)).noise == at_eight.noise


def test_epsilon_grows_to_the_promise(at_eight: PrivacyPlan) -> None:
    found = outlook(at_eight, FOUR, 333)
    rounds, spent = zip(*found.by_round, strict=True)
    assert rounds == (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
    assert list(spent) == sorted(spent)
    assert spent[-1] == found.epsilon <= 8.0
    assert found.limit == "training"
    assert [number for number, _ in outlook(replace(at_eight, rounds=2), FOUR, 9).by_round] == [1, 2]


def test_each_remedy_alone_is_enough(at_eight: PrivacyPlan) -> None:
    found = outlook(at_eight, FOUR, 333)
    assert len(found.sentences) == 4
    assert "4,193 trained parameters" in found.sentences[1]
    assert verdict_of(noise_to_signal(replace(at_eight, parameters=4193), 1000)) == "workable"
    assert verdict_of(noise_to_signal(replace(at_eight, parameters=4194), 1000)) == "strained"
    assert "1,545 training patients" in found.sentences[2]
    assert verdict_of(noise_to_signal(at_eight, 1545)) == "workable"
    assert verdict_of(noise_to_signal(at_eight, 1544)) == "strained"
    enough = float(found.sentences[3].split("ε ")[1].split()[0])
    assert verdict_of(noise_to_signal(least(replace(at_eight, epsilon=enough * 1.02)), 1000)) == "workable"
    assert verdict_of(noise_to_signal(least(replace(at_eight, epsilon=enough * 0.98)), 1000)) == "strained"


def test_no_remedy_names_an_epsilon_that_is_none(at_eight: PrivacyPlan) -> None:
    found = outlook(replace(at_eight, parameters=5_000_000), FOUR, 333)
    assert "Do not run" in found.sentences[1]
    assert "more than 50" in found.sentences[4]


def test_many_small_steps_average_out() -> None:
    """A hundred times the steps at a tenth of the sampling is the same run in smaller steps."""
    short = outlook(plan(sampling=0.1), FOUR, 333)
    long = outlook(plan(sampling=0.01, rounds=10_000), FOUR, 333)
    assert (short.verdict, long.verdict) == ("strained", "hopeless")
    assert long.noise_to_signal_mean == pytest.approx(short.noise_to_signal_mean)
    assert "10,000 steps average out to what would be strained in 100" in long.sentences[1]


def test_so_few_patients_that_no_model_is_small_enough() -> None:
    found = outlook(plan(noise=100.0), (1, 1, 1, 1), 4)
    assert found.verdict == "hopeless"
    assert "No model is small enough" in " ".join(found.sentences)


def test_noise_is_the_whole_for_local_and_central() -> None:
    """Local: every site adds all of it, so that four add twice its deviation. Central: once."""
    distributed, local, central = (
        noise_to_signal(plan(mechanism=name), 1000) for name in ("distributed", "local", "central")
    )
    assert local == pytest.approx(2 * central)
    assert distributed == pytest.approx(math.sqrt(2) * central)
    steps = outlook(plan(mechanism="local", steps=4, noise=30.0), FOUR, 9)
    assert steps.noise_to_signal_mean == pytest.approx(steps.noise_to_signal / 20)


def test_a_site_counts_as_one() -> None:
    found = outlook(plan(unit="site", noise=10.0, parameters=83), FOUR, 333)
    share = math.sqrt(1 - 0.1**2 - 0.4**2)
    assert found.units == 4
    assert found.noise_to_signal == pytest.approx(10 * math.sqrt(2) * math.sqrt(83) / 4 / share)
    assert found.by_round[-1][1] == accounting.spent_training(found.plan, 101)
    assert "hospitals instead of 4" in " ".join(found.sentences)


def test_sampling_shrinks_the_signal() -> None:
    assert noise_to_signal(plan(sampling=0.1), 1000) == pytest.approx(10 * noise_to_signal(plan(), 1000))


@pytest.mark.parametrize("unit", ["patient", "site"])
def test_the_error_of_dice_is_that_of_noisy_sums(unit: str) -> None:
    """Drawn with the real noise: 40 units with a Dice of 1, the worst case, summed by four sites."""
    private = plan(unit=unit, noise=0.5, bits=14)
    words, told = stream(bytes(32)), []
    whole = private.bound * (0.4 if unit == "site" else 1.0)
    for _ in range(400):
        total = np.zeros(6, np.uint32)
        for _ in range(4):
            site = PatientSum(private, 0)
            for _ in range(10):
                site.evaluate((1.0, 1.0, 1.0))
            total += site.noised(words)
        tail = total.view(np.int32) / whole
        told += [0.5 + tail[place] / (2 * tail[2]) for place in (3, 4, 5)]
    assert np.mean(told) == pytest.approx(1.0, abs=0.02)
    assert np.std(told) == pytest.approx(dice_error(private, 40), rel=0.1)


def test_warnings_about_scores() -> None:
    few = outlook(plan(noise=6.0), FOUR, 40)
    assert few.dice_error == pytest.approx(math.sqrt(2) * 6 * math.sqrt(2) / 40)
    assert "for ±0.05 it needs 240 held-out patients, not 40" in " ".join(few.sentences)
    none = outlook(plan(noise=6.0), FOUR, 0)
    assert none.dice_error is None
    assert "Nobody is held out" in " ".join(none.sentences)


def test_evaluations_that_set_the_noise_are_named() -> None:
    often = outlook(plan(noise=6.0, sampling=0.1, evaluations=100), FOUR, 400)
    assert often.limit == "evaluations"
    assert "score fewer models" in often.sentences[-1]
    assert often.epsilon == accounting.epsilon_of(6.0, 1.0, 100, 1e-4)


def test_a_delta_that_would_publish_somebody_is_named() -> None:
    assert outlook(plan(noise=6.0, delta=1e-4), FOUR, 333).delta_small
    large = outlook(plan(noise=6.0, delta=1e-3), FOUR, 0)
    assert not large.delta_small
    assert "smaller δ" in large.sentences[-1]


@pytest.mark.parametrize(
    ("patients", "delta"), [(1, 0.1), (2, 0.01), (10, 0.01), (999, 1e-4), (1000, 1e-4), (1001, 1e-5)]
)
def test_safe_delta_is_a_power_of_ten(patients: int, delta: float) -> None:
    assert safe_delta(patients) == delta <= 1 / (10 * patients)


@pytest.mark.parametrize(("cohorts", "held_out"), [((250,) * 3, 9), ((250, 250, 250, 0), 9), (FOUR, -1)])
def test_cohorts_must_fit_the_plan(cohorts: tuple[int, ...], held_out: int) -> None:
    with pytest.raises(ValueError, match="need 4 cohorts"):
        outlook(plan(), cohorts, held_out)


def test_a_promise_that_no_noise_keeps() -> None:
    with pytest.raises(ValueError, match="no noise"):
        least(plan(epsilon=1e-7, delta=1e-12))


def test_every_unit_and_mechanism_says_what_it_protects() -> None:
    assert "m times" in UNITS["patient"]
    assert "trusted" in MECHANISMS["central"]
    assert set(MECHANISMS) == {"distributed", "local", "central"}
