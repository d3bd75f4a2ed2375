"""The whole path through real processes: charter, approval, launch, rounds, report, model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from consilium.learning.parameters import read_model
from consilium.vocabulary import Reason, RunStatus
from support import SITES

if TYPE_CHECKING:
    from deployment import Deployed

pytestmark = pytest.mark.deployed


def test_four_hospitals_train_one_model(deployed: Deployed, tmp_path: Path) -> None:
    charter = deployed.study("Whole path", rounds=3)
    run = deployed.client.launch(charter.id).run
    detail = deployed.finish(run)
    assert detail.run.status is RunStatus.FINISHED
    assert [row.round for row in detail.rows] == [0, 1, 2, 3]
    assert all(row.participants == 4 and not row.missing for row in detail.rows[1:])
    means = [row.dice.mean for row in detail.rows if row.dice]
    assert means == sorted(means)
    assert len(means) == 4
    deployed.client.download_model(run, tmp_path / "model.safetensors")
    assert read_model(tmp_path / "model.safetensors").parameters.size == charter.model.parameters
    report = deployed.client.report(run)
    assert (report.hospitals, report.secure_aggregation, report.privacy) == (4, True, None)
    assert report.rounds[3].bytes_up > 4 * 4 * charter.model.parameters


def test_a_site_that_has_not_approved_is_left_out_with_its_reason(deployed: Deployed) -> None:
    charter = deployed.study("Three of four", approve=SITES[:3], rounds=1)
    detail = deployed.finish(deployed.client.launch(charter.id).run)
    assert detail.run.status is RunStatus.FINISHED
    assert [(m.site, m.reason) for m in detail.rows[1].missing] == [("site-d", Reason.NOT_APPROVED)]


def test_a_stopped_run_is_stopped(deployed: Deployed) -> None:
    charter = deployed.study("To be stopped", rounds=50)
    run = deployed.client.launch(charter.id).run
    deployed.follow(run, lambda detail: detail.run.rounds_done >= 1, 60.0)
    deployed.client.stop(run)
    assert deployed.finish(run, 30.0).run.status is RunStatus.STOPPED
