"""`consilium privacy plan`, called in this process; it needs no API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from consilium.cli import privacy
from consilium.cli.privacy import app, spark
from consilium.contracts.charter import Charter
from consilium.contracts.privacy import EpsilonAt
from consilium.errors import ConsiliumError
from support import toy_charter


def command(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["plan", *arguments], env={"COLUMNS": "240"})
    if isinstance(result.exception, ConsiliumError):
        return 1, str(result.exception)
    return result.exit_code, result.output


def private_charter(**changes: Any) -> Charter:
    keys = {f"site-{letter}": letter * 64 for letter in "abcd"}
    dp = {
        "mechanism": "distributed",
        "epsilon": 8.0,
        "delta": 1e-4,
        "noise": 2.5,
        "cohort": 250,
        "cohort_cap": 400,
        "evaluations": 2,
    }
    return toy_charter(
        keys,
        rounds=20,
        training={"loss": "toy", "steps": 1},
        release={"site_metrics": False},
        privacy=dp | changes,
        secure_aggregation={"threshold": 3, "colluding": 1, "scale_bits": 16},
    )


def test_a_plan_for_people() -> None:
    code, text = command("--parameters", "83", "--rounds", "20")
    assert code == 0
    assert "4 hospitals, 1,000 training and 333 held-out patients, 83 trained parameters" in text
    assert "at δ 0.0001, set by the training" in text
    assert "Workable: the noise of a step is 0.0" in text
    assert "after round 1, 8.0" in text
    assert "█" in text
    assert "a patient treated at m hospitals has m times" in text
    assert "nobody sees a sum without noise" in text


def test_a_hopeless_plan_says_what_would_help() -> None:
    code, text = command("--parameters", "5000000", "--rounds", "20")
    assert code == 0
    assert "Hopeless: " in text
    assert "trained parameters or fewer" in text
    assert "training patients in all" in text
    assert "A larger ε alone would not help" in text


def test_json_is_the_answer_of_the_api() -> None:
    options = ("--patients", "100,250", "--patients", "400", "--held-out", "90", "--mechanism", "central")
    code, text = command("--parameters", "83", "--rounds", "20", *options, "--json")
    assert code == 0
    found = json.loads(text)
    assert found["units"] == 750
    assert found["delta"] == 1e-4
    assert found["surplus"] == 1.0
    assert found["dice_error"] == pytest.approx(2**0.5 * found["noise"] / 90)


def test_a_charter_is_read_for_all_but_the_sizes(tmp_path: Path) -> None:
    (tmp_path / "charter.json").write_bytes(private_charter().canonical())
    code, text = command("--charter", str(tmp_path / "charter.json"))
    assert code == 0, text
    assert "4 hospitals, 1,000 training" in text
    assert "σ (privacy.noise)  2.5" in text
    assert "refuse" not in text
    code, text = command("--charter", str(tmp_path / "charter.json"), "--patients", "100,20,500,30")
    assert code == 0, text
    assert "A hospital with 500 patients will be refused: privacy.cohort_cap is 400" in text
    assert "0.65 times as long as meant" in text


def test_a_charter_whose_noise_breaks_its_promise(tmp_path: Path) -> None:
    (tmp_path / "charter.json").write_bytes(private_charter(noise=0.4).canonical())
    code, text = command("--charter", str(tmp_path / "charter.json"), "--json")
    assert code == 0, text
    found = json.loads(text)
    assert "The charter's noise 0.4 spends ε" in found["sentences"][0]
    assert "hospitals will refuse it" in found["sentences"][0]
    assert found["noise"] > 2.0
    assert found["epsilon"] <= 8.0


def test_mistakes_are_named(tmp_path: Path) -> None:
    charter = tmp_path / "charter.json"
    charter.write_bytes(private_charter().canonical())
    open_charter = tmp_path / "open.json"
    open_charter.write_bytes(toy_charter({f"site-{letter}": letter * 64 for letter in "abc"}).canonical())
    vain = tmp_path / "vain.json"
    vain.write_bytes(private_charter(epsilon=1e-7, delta=1e-12).canonical())
    mistakes = [
        ((), "--parameters is missing"),
        (("--parameters", "83", "--patients", "many"), "--patients many"),
        (("--parameters", "83", "--patients", "1,2,3", "--sites", "4"), "names 3 hospitals, not 4"),
        (("--parameters", "83", "--epsilon", "-1"), "epsilon"),
        (("--parameters", "83", "--sites", "2"), "3 hospitals or more"),
        (("--charter", str(tmp_path / "none.json")), "none.json"),
        (("--charter", str(charter), "--rounds", "3"), "--rounds: the charter says this"),
        (("--charter", str(charter), "--sites", "3"), "names 3 hospitals, not 3 or 4"),
        (("--charter", str(open_charter)), "'none'"),
        (("--charter", str(vain)), "no noise up to"),
    ]
    for arguments, words in mistakes:
        code, text = command(*arguments)
        assert code == 1, arguments
        assert words in text, (arguments, text)


def test_an_accountant_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, text = command("--parameters", "83")
    assert code == 1
    assert "pip install 'consilium[api]'" in text


def test_spark_is_as_tall_as_the_spend() -> None:
    line = spark([EpsilonAt(round=number, epsilon=spent) for number, spent in ((1, 0.0), (5, 4.0), (9, 8.0))])
    assert line == "▁▅█  0.00 after round 1, 8.00 after 9"
    assert spark([EpsilonAt(round=1, epsilon=0.0)]).startswith("▁")
    assert privacy.COLOURS.keys() == {"workable", "strained", "hopeless"}
