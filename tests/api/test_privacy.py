from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consilium.contracts.api import Problem
from consilium.contracts.privacy import PrivacyOutlook
from control_plane import ControlPlane

QUESTION: dict[str, Any] = {
    "cohorts": [250, 250, 250, 250],
    "held_out": 333,
    "parameters": 83,
    "rounds": 20,
    "delta": 1e-4,
}


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> ControlPlane:
    return ControlPlane(Path(tmp_path_factory.mktemp("home")))


def test_a_question_is_answered(plane: ControlPlane) -> None:
    answer = plane.http.post("/privacy/plan", json=QUESTION)
    assert answer.status_code == 200, answer.text
    found = PrivacyOutlook.model_validate_json(answer.content)
    assert found.verdict == "workable"
    assert 2.0 < found.noise < 3.0
    assert 7.9 < found.by_round[-1].epsilon == found.epsilon <= 8.0
    assert found.by_round[-1].round == 20
    assert found.units == 1000
    assert len(found.protects) == 2


def test_a_hopeless_study_is_said_to_be(plane: ControlPlane) -> None:
    answer = plane.http.post("/privacy/plan", json=QUESTION | {"parameters": 5_000_000})
    found = PrivacyOutlook.model_validate_json(answer.content)
    assert found.verdict == "hopeless"
    assert "Do not run this study" in found.sentences[1]
    assert "trained parameters or fewer" in found.sentences[2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cohorts": [250]}, "cohorts"),
        ({"cohorts": [250, 250]}, "3 hospitals or more"),
        ({"cohorts": [250, 250, 0]}, "cohorts.2"),
        ({"held_out": -1}, "held_out"),
        ({"parameters": 0}, "parameters"),
        ({"epsilon": 0}, "epsilon"),
        ({"delta": 0.5}, "delta"),
        ({"sampling": 1.5}, "sampling"),
        ({"evaluations": 22}, "evaluations"),
        ({"steps": 2}, "'local'"),
        ({"steps": 10_000, "mechanism": "local"}, "100,000 noisy steps"),
        ({"unit": "site", "sampling": 0.5}, "sampling must be 1"),
        ({"unit": "country"}, "unit"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_question_outside_its_bounds_is_refused(
    plane: ControlPlane, change: dict[str, Any], words: str
) -> None:
    answer = plane.http.post("/privacy/plan", json=QUESTION | change)
    assert answer.status_code == 422, answer.text
    problem = Problem.model_validate_json(answer.content)
    assert problem.error == "invalid_input"
    assert words in problem.detail
