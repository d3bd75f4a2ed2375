from __future__ import annotations

from pathlib import Path

import pytest

from consilium.contracts.api import HeartbeatAnswer, SiteView
from consilium.vocabulary import CaseProblem, Stage
from control_plane import ControlPlane


@pytest.fixture
def plane(tmp_path: Path) -> ControlPlane:
    plane = ControlPlane(tmp_path)
    plane.register()
    return plane


def view(plane: ControlPlane, site: str) -> SiteView:
    return SiteView.model_validate_json(plane.http.get(f"/sites/{site}").content)


def test_the_same_registration_twice_is_one(plane: ControlPlane) -> None:
    plane.register()
    assert [site["site"] for site in plane.http.get("/sites").json()] == ["site-a", "site-b", "site-c"]
    assert view(plane, "site-b").node_id == str(2**63 + 1)


@pytest.mark.parametrize(
    "changes", [{"node_id": 7}, {"identity": "0" * 64}, {"hospital": "Other"}, {"site": "site-z"}]
)
def test_a_name_or_key_belongs_to_one_site(plane: ControlPlane, changes: dict[str, object]) -> None:
    answer = plane.http.post("/sites", json=plane.new_site("site-a", **changes))
    assert answer.status_code == 409


def test_a_heartbeat_shows(plane: ControlPlane) -> None:
    assert not view(plane, "site-a").online
    beat = plane.beat("site-a", stage=Stage.TRAINING, run="r1", round=3, cases=9, skipped={"unreadable": 2})
    answer = plane.post("/sites/site-a/heartbeat", beat)
    assert HeartbeatAnswer.model_validate_json(answer.content).charters == ()
    seen = view(plane, "site-a")
    assert seen.online
    assert (seen.stage, seen.run, seen.round, seen.cases) == (Stage.TRAINING, "r1", 3, 9)
    assert seen.skipped == {CaseProblem.UNREADABLE: 2}
    assert seen.heartbeat_at == beat.heartbeat.at
    assert seen.seen_at is not None
    assert seen.seen_at.endswith("+00:00")


def test_the_same_heartbeat_again_is_no_sign_of_life(plane: ControlPlane) -> None:
    beat = plane.beat("site-a")
    plane.post("/sites/site-a/heartbeat", beat)
    first = view(plane, "site-a").seen_at
    assert plane.post("/sites/site-a/heartbeat", beat).status_code == 200
    assert view(plane, "site-a").seen_at == first
    plane.post("/sites/site-a/heartbeat", plane.beat("site-a", minutes=1))
    assert view(plane, "site-a").seen_at != first


@pytest.mark.parametrize(("site", "key"), [("site-a", "site-b"), ("site-b", "")])
def test_a_heartbeat_of_somebody_else_is_refused(plane: ControlPlane, site: str, key: str) -> None:
    answer = plane.post("/sites/site-a/heartbeat", plane.beat(site, key=key))
    assert answer.status_code == 403
    assert answer.json()["error"] == "bad_signature"
    assert not view(plane, "site-a").online


@pytest.mark.parametrize("at", ["yesterday", "2026-01-01T00:00:00"])
def test_a_heartbeat_without_a_real_time_is_refused(plane: ControlPlane, at: str) -> None:
    assert plane.post("/sites/site-a/heartbeat", plane.beat("site-a", at=at)).status_code == 422


def test_a_heartbeat_is_answered_with_charters_that_await_the_site(plane: ControlPlane) -> None:
    plane.create()
    answer = plane.post("/sites/site-a/heartbeat", plane.beat("site-a"))
    assert answer.json()["charters"] == [plane.charter.id]
    plane.decide(plane.word("site-a", "refused"))
    answer = plane.post("/sites/site-a/heartbeat", plane.beat("site-a", minutes=1))
    assert answer.json()["charters"] == []
