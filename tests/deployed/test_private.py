"""Privacy through real processes: a hospital whose budget is spent refuses alone, and everybody sees why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from consilium.privacy import accounting
from consilium.vocabulary import Reason, RunStatus

if TYPE_CHECKING:
    from deployment import Deployed

pytestmark = pytest.mark.deployed
NAMES = {"threshold": 3, "colluding": 1, "weight_cap": 64}


def test_a_spent_budget_stops_one_hospital_and_the_report_counts_epsilon(deployed: Deployed) -> None:
    charter = deployed.study(
        "Private by patient",
        rounds=3,
        training={"loss": "toy", "steps": 1},
        release={"site_metrics": False},
        strategy={"learning_rate": 0.5},
        secure_aggregation={"masked": True, "slots": 24, "scale_bits": 8, **NAMES},
        privacy={
            "mechanism": "distributed",
            **{"noise": 1.5, "epsilon": 8.0, "delta": 1e-5, "clip": 150.0, "evaluations": 2},
            **{"cohort": 10, "cohort_cap": 32, "tick_seconds": 0.2},
        },
    )
    plan = charter.plan
    assert plan is not None
    ceiling = accounting.spent(plan, 2, plan.evaluated(2, False)) + 0.01
    told = deployed.consortium.site("site-b", "budget", "--ceiling", f"{ceiling:.4f}", "--json")
    assert json.loads(told)["left"]["epsilon"] == pytest.approx(ceiling, abs=1e-3)
    run = deployed.client.launch(charter.id).run
    detail = deployed.finish(run)
    assert detail.run.status is RunStatus.FINISHED, detail.run.error
    missing = {row.round: [(m.site, m.reason) for m in row.missing] for row in detail.rows if row.round}
    assert missing == {1: [], 2: [], 3: [("site-b", Reason.BUDGET_SPENT)]}
    report = deployed.client.report(run)
    spent = [row.epsilon for row in report.rounds]
    assert all(value is not None and value <= 8.0 for value in spent)
    assert spent == sorted(spent, key=float)  # type: ignore[arg-type]
    assert report.privacy is not None
    assert report.privacy.epsilon == pytest.approx(accounting.promised(plan))
    assert not any(row.sites for row in report.rounds)
    shown = deployed.consortium.site("site-b", "budget")
    assert "2 rounds" in shown
    assert "Private by patient" in shown
