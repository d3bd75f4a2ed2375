"""The private demo's charter keeps its promise, and the audit's figure reaches the report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from consilium.contracts.charter import Charter
from consilium.contracts.reports import PrivacyReport, RunReport
from consilium.demo.show import privacy_line
from consilium.demo.study import Promise, demo_charter, phantom_recipe, private_recipe
from consilium.errors import InputError
from consilium.privacy import accounting
from consilium.services.promises import audited, check_promise
from support import toy_model

BIN = Path(sys.executable).parent
ROSTER = {f"site-{letter}": (f"Hospital {letter}", f"{number:064x}") for number, letter in enumerate("abcd")}


def charter(unit: str = "patient", hospitals: int = 4, epsilon: float = 8.0) -> Charter:
    recipe = private_recipe(phantom_recipe(32), unit)
    roster = dict(list(ROSTER.items())[:hospitals])
    promise = Promise("site" if unit == "site" else "patient", epsilon, 160)
    return demo_charter(recipe, toy_model(50), roster, recipe.rounds, 0, promise)


@pytest.mark.parametrize("unit", ["patient", "site"])
@pytest.mark.parametrize("epsilon", [1.0, 8.0])
def test_the_noise_is_the_least_that_keeps_epsilon(unit: str, epsilon: float) -> None:
    plan = charter(unit, epsilon=epsilon).plan
    assert plan is not None
    assert (plan.unit, plan.epsilon) == (unit, epsilon)
    assert 0.99 * epsilon < accounting.promised(plan) <= epsilon
    plan.check_ring()


def test_two_hospitals_cannot_mask_so_each_adds_all_the_noise() -> None:
    assert charter(hospitals=2).privacy.mechanism == "local"
    assert charter(hospitals=4).privacy.mechanism == "distributed"


def test_a_charter_that_breaks_its_promise_is_named_with_the_remedy() -> None:
    good = charter()
    check_promise(good)
    document = good.model_dump(mode="json")
    document["privacy"]["noise"] *= 0.9
    with pytest.raises(InputError, match="consilium privacy plan"):
        check_promise(Charter.model_validate(document))


def report(privacy: PrivacyReport | None) -> RunReport:
    told = {
        "status": "finished",
        "hospitals": 4,
        "secure_aggregation": True,
        "rounds": [],
        "seconds_total": 1,
    }
    return RunReport.model_validate({**told, "privacy": privacy})


CLAIM = PrivacyReport(unit="patient", mechanism="distributed", epsilon=7.9, delta=1e-4, target=8.0)


def test_the_audited_bound_stands_beside_the_claim() -> None:
    told = audited(report(CLAIM), charter()).privacy
    assert told is not None
    assert told.audited is not None
    assert told.certifiable is not None
    assert 0.0 <= told.audited <= told.epsilon
    assert f"ε ≥ {told.audited:.2f}" in privacy_line(told)
    site = CLAIM.model_copy(update={"unit": "site"})
    assert audited(report(site), charter("site")).privacy == site
    assert audited(report(None), charter()).privacy is None


def test_the_audit_command_writes_into_a_report(tmp_path: Path) -> None:
    (tmp_path / "charter.json").write_bytes(charter().canonical())
    (tmp_path / "report.json").write_text(report(CLAIM).model_dump_json())
    command = [BIN / "consilium", "privacy", "audit", tmp_path / "charter.json", "--canaries", "100"]
    done = subprocess.run(
        [*command, "--report", tmp_path / "report.json", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    written = json.loads((tmp_path / "report.json").read_text())["privacy"]
    assert written["audited"] == told["lower_bound"] <= told["claimed"]
    assert written["certifiable"] == told["certifiable"] == pytest.approx(3.49, abs=0.05)
    alone = subprocess.run([*command, "--model", tmp_path / "charter.json"], capture_output=True, text=True)
    assert alone.returncode == 1
    assert "--model and --data belong together" in alone.stderr


@pytest.mark.slow
def test_the_private_demo_never_spends_more_than_it_says(tmp_path: Path) -> None:
    """`consilium demo --privacy patient --epsilon 8`, with fewer cases and rounds, through real processes."""
    where = ["--home", tmp_path / "home", "--report", tmp_path / "report.json", "--headless"]
    small = ["--cases", "6", "--rounds", "3"]
    command = [BIN / "consilium", "demo", "--privacy", "patient", "--epsilon", "8", *where, *small]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "report.json").read_text())
    spent = [row["epsilon"] for row in told["rounds"]]
    assert spent == sorted(spent)
    assert 7.9 < spent[-1] == told["privacy"]["epsilon"] <= 8.0
    assert told["privacy"]["audited"] is not None
    assert "hopeless" in done.stdout.lower() or "strained" in done.stdout.lower()
