from __future__ import annotations

import json
from pathlib import Path

import pytest

from consilium.contracts.api import RunDetail
from consilium.contracts.reports import RoundRow, RunFailed, RunReport
from consilium.services.report import rows
from consilium.vocabulary import RunStatus
from control_plane import (
    SITES,
    ControlPlane,
    answered,
    closed,
    finished,
    numbered,
    opened,
    scored,
    started,
)


@pytest.fixture
def plane(tmp_path: Path) -> ControlPlane:
    return ControlPlane(tmp_path)


def detail(plane: ControlPlane, run: str) -> RunDetail:
    return RunDetail.model_validate_json(plane.http.get(f"/runs/{run}").content)


def test_a_launch_says_what_is_missing(plane: ControlPlane) -> None:
    path = f"/studies/{plane.charter.id}/runs"
    plane.register()
    plane.post("/studies", plane.charter)
    assert "initial model" in plane.post(path).json()["detail"]
    plane.create()
    plane.decide(plane.word("site-a"))
    answer = plane.post(path)
    assert answer.status_code == 409
    assert "site-b, site-c" in answer.json()["detail"]
    plane.decide(plane.word("site-b"))
    assert plane.post(path).status_code == 409
    plane.decide(plane.word("site-c"))
    assert plane.post(path).json()["status"] == "waiting"
    assert "under way" in plane.post(path).json()["detail"]


def test_a_study_with_closed_rounds_is_resumed_and_not_run_again(plane: ControlPlane) -> None:
    """Vaults open no second sum of the initial model; a masked charter needs three sites."""
    run = plane.launch()
    plane.tell(run, numbered([started(), closed(1)]))
    assert plane.post(f"/runs/{run}/stop").status_code == 200
    again = plane.post(f"/studies/{plane.charter.id}/runs")
    assert again.status_code == 409
    assert f"run {run} of this study has closed rounds" in again.json()["detail"]
    assert plane.post(f"/runs/{run}/launch").status_code == 202


def test_a_withdrawn_approval_does_not_count(plane: ControlPlane) -> None:
    plane.create()
    for site in ("site-a", "site-b", "site-c"):
        plane.decide(plane.word(site))
    plane.decide(plane.word("site-b", "refused", minutes=1))
    assert plane.post(f"/studies/{plane.charter.id}/runs").status_code == 409


def test_a_whole_run(plane: ControlPlane) -> None:
    run = plane.launch()
    assert detail(plane, run).run.status is RunStatus.RUNNING
    file = plane.write_final(run)
    events = [
        started(),
        opened(1),
        scored(0, 0.1),
        closed(1),
        opened(2),
        scored(1, 0.4),
        closed(2),
        opened(3),
    ]
    events += [scored(2, 0.6), closed(3), opened(4), scored(3, 0.8), finished(file)]
    told = numbered(events)
    for start in range(len(told)):
        assert plane.tell(run, told[start : start + 2]).status_code == 204
    page = detail(plane, run)
    assert page.rows == rows(events)
    assert [row.round for row in page.rows] == [0, 1, 2, 3]
    assert page.live is None
    assert (page.run.status, page.run.rounds_done, page.run.model) == (RunStatus.FINISHED, 3, "b" * 64)
    assert plane.http.get(f"/runs/{run}/model").content == b"the final model"
    report = RunReport.model_validate_json(plane.http.get(f"/runs/{run}/report").content)
    assert report.rounds == page.rows
    assert report.model == plane.home.model(file).name
    assert (report.hospitals, report.secure_aggregation, report.privacy) == (3, True, None)


def test_an_open_round_shows_who_has_answered(plane: ControlPlane) -> None:
    run = plane.launch()
    plane.tell(
        run, numbered([started(), opened(1), answered(1, "site-a"), opened(1, 2), answered(1, "site-b", 2)])
    )
    live = detail(plane, run).live
    assert live is not None
    assert live.opened.attempt == 2
    assert [answer.site for answer in live.answered] == ["site-b"]
    plane.tell(run, numbered([closed(1)], first=6))
    assert detail(plane, run).live is None


def test_a_new_launch_does_not_show_the_round_of_the_last(plane: ControlPlane) -> None:
    run = plane.launch()
    plane.tell(run, numbered([started(), opened(1)]))
    plane.post(f"/runs/{run}/stop")
    plane.post(f"/runs/{run}/launch")
    plane.tick()
    assert detail(plane, run).run.status is RunStatus.RUNNING
    assert detail(plane, run).live is None
    plane.tell(run, numbered([started(), opened(1, 2)], first=3))
    live = detail(plane, run).live
    assert live is not None
    assert live.opened.attempt == 2


def test_a_number_with_other_content_is_refused_whole(plane: ControlPlane) -> None:
    run = plane.launch()
    plane.tell(run, numbered([started(), scored(0, 0.1)]))
    answer = plane.tell(run, numbered([scored(0, 0.9), closed(1)], first=2))
    assert answer.status_code == 409
    assert [row.round for row in detail(plane, run).rows] == [0]


def test_scores_of_single_sites_come_back(plane: ControlPlane) -> None:
    run = plane.launch()
    scores = {"tc": 0.5, "wt": 0.25, "et": 0.125, "scored": 2, "empty": 1}
    row = {"site": "site-a", "scores": scores, "cases_train": 8, "skipped": {"unreadable": 1}, "seconds": 3.5}
    told = scored(0, sites=[row, {"site": "site-b"}])
    plane.tell(run, numbered([told]))
    assert detail(plane, run).rows[0].sites == told.sites
    plane.tell(run, numbered([scored(0, sites=[{"site": "site-b"}])], first=2))
    assert [site.site for site in detail(plane, run).rows[0].sites] == ["site-b"]


def test_a_final_model_with_another_hash_fails_the_run(plane: ControlPlane) -> None:
    run = plane.launch()
    file = plane.write_final(run)
    (plane.home.run(run) / "checkpoints" / f"{file}.safetensors").write_bytes(b"something else")
    plane.tell(run, numbered([finished(file)]))
    view = detail(plane, run).run
    assert view.status is RunStatus.FAILED
    assert "SHA-256" in str(view.error)
    assert not plane.home.model(file).exists()
    assert plane.http.get(f"/runs/{run}/model").status_code == 404


def test_a_run_that_gives_up_says_why(plane: ControlPlane) -> None:
    run = plane.launch()
    plane.tell(run, numbered([RunFailed(text="round 1: fewer than 2 uploads")]))
    view = detail(plane, run).run
    assert (view.status, view.error) == (RunStatus.FAILED, "round 1: fewer than 2 uploads")
    assert view.ended_at is not None


def test_downloads_have_names(plane: ControlPlane) -> None:
    run = plane.launch()
    plane.tell(run, numbered([scored(0, 0.5), closed(1)]))
    table = plane.http.get(f"/runs/{run}/rounds.csv")
    assert table.headers["content-disposition"] == f'attachment; filename="{run}-rounds.csv"'
    header, first, second = table.text.splitlines()
    assert first.startswith("0,0.5,0.5,0.5,0.5,site-c,0.25,4,,0,")
    assert dict(zip(header.split(","), second.split(","), strict=True))["missing"] == "site-c=no_answer"
    answer = plane.http.get(f"/runs/{run}/rounds.json")
    assert "rounds.json" in answer.headers["content-disposition"]
    assert [RoundRow.model_validate(row, strict=False).round for row in answer.json()] == [0, 1]


def test_too_many_or_foreign_events_are_refused(plane: ControlPlane) -> None:
    run = plane.launch()
    assert plane.tell(run, numbered([started()] * 1001)).status_code == 422
    token = (plane.home.run(run) / "token").read_text()
    body = json.dumps([{"number": 1, "at": "now", "event": {"kind": "patient_name", "text": "x"}}])
    headers = {"Authorization": f"Bearer {token}"}
    assert plane.http.post(f"/runs/{run}/events", content=body, headers=headers).status_code == 422


def test_sites_of_a_run_are_its_roster(plane: ControlPlane) -> None:
    assert tuple(site.site for site in detail(plane, plane.launch()).sites) == SITES
