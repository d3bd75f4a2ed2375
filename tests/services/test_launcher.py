"""The launcher with a fake Flower: no dead run stays RUNNING, no launch starts twice."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from consilium.contracts.api import RunView
from consilium.contracts.charter import read_charter
from consilium.errors import ProcessFailed
from consilium.services.folder import aggregator, enter
from consilium.services.launcher import Follower
from consilium.store.tables import Launch, Run
from consilium.store.times import now
from consilium.vocabulary import RunStatus
from control_plane import SITES, ControlPlane, closed, finished, numbered, started
from support import toy_model


@pytest.fixture
def plane(tmp_path: Path) -> ControlPlane:
    return ControlPlane(tmp_path)


def view(plane: ControlPlane, run: str) -> RunView:
    return RunView.model_validate(plane.http.get(f"/runs/{run}").json()["run"], strict=False)


def write_journal(plane: ControlPlane, run: str, *lines: str) -> None:
    (plane.home.run(run) / "events.jsonl").write_text("\n".join(lines))


def test_the_run_folder_holds_what_the_aggregator_reads(plane: ControlPlane) -> None:
    folder = plane.home.run(plane.launch())
    assert read_charter((folder / "charter.json").read_bytes()).id == plane.charter.id
    assert (folder / "initial.safetensors").read_bytes() == toy_model()
    nodes = {site: str(2**63 + index) for index, site in enumerate(SITES)}
    assert json.loads((folder / "nodes.json").read_text()) == nodes
    assert (folder / "checkpoints").is_dir()


def test_a_launch_starts_once(plane: ControlPlane) -> None:
    run = plane.launch()
    plane.tick()
    plane.restart()
    plane.tick()
    assert plane.flower.started == [run]
    assert view(plane, run).status is RunStatus.RUNNING


def test_a_start_that_fails_is_told(plane: ControlPlane) -> None:
    plane.flower.broken = "SuperLink does not answer"
    run = plane.launch()
    assert view(plane, run).status is RunStatus.FAILED
    assert "SuperLink does not answer" in str(view(plane, run).error)


def test_a_platform_that_died_while_starting_does_not_start_again(plane: ControlPlane) -> None:
    class Died(BaseException):
        pass

    def die(*_: object) -> str:
        raise Died

    plane.flower.start = die  # type: ignore[method-assign]
    with pytest.raises(Died):
        plane.launch()
    plane.restart()
    plane.tick()
    run = plane.http.get("/studies").json()[0]["runs"][0]
    assert run["status"] == "failed"
    assert "resume" in run["error"]


@pytest.mark.parametrize("restart", [False, True])
def test_a_run_stopped_outside_is_failed(plane: ControlPlane, restart: bool) -> None:
    run = plane.launch()
    plane.tell(run, numbered([started(), closed(1)]))
    plane.flower.states["1"] = "stopped"
    if restart:
        plane.restart()
    plane.tick()
    assert view(plane, run).status is RunStatus.FAILED
    assert view(plane, run).error
    assert view(plane, run).ended_at


@pytest.mark.parametrize("state", ["completed", "failed"])
@pytest.mark.parametrize("restart", [False, True])
def test_a_run_whose_aggregator_died_is_launched_again_by_itself(
    plane: ControlPlane, state: str, restart: bool
) -> None:
    run = plane.launch()
    plane.tell(run, numbered([started(), closed(1)]))
    plane.flower.states["1"] = state  # type: ignore[assignment]
    if restart:
        plane.restart()
    plane.tick()
    between = view(plane, run)
    assert (between.status, between.launches, between.ended_at) == (RunStatus.WAITING, 2, None)
    assert "launched again by itself (launch 2)" in str(between.error)
    plane.tick()
    assert view(plane, run).status is RunStatus.RUNNING
    assert plane.flower.started == [run, run]
    assert "launched again by itself" in str(view(plane, run).error)


def test_a_run_that_keeps_dying_is_failed_and_a_closed_round_counts_as_progress(plane: ControlPlane) -> None:
    run = plane.launch()
    for launch in range(1, 4):
        plane.flower.states[str(launch)] = "failed"
        plane.tick()
        plane.tick()
        assert view(plane, run).status is RunStatus.RUNNING
    plane.tell(run, numbered([started(), closed(1)]))
    for launch in range(4, 8):
        plane.flower.states[str(launch)] = "failed"
        plane.tick()
        plane.tick()
    assert view(plane, run).status is RunStatus.RUNNING
    plane.flower.states["8"] = "failed"
    plane.tick()
    failed = view(plane, run)
    assert (failed.status, failed.launches) == (RunStatus.FAILED, 8)
    assert "4 launches in a row; resume" in str(failed.error)


def test_an_aggregator_that_is_gone_is_seen_by_its_lock_though_flower_says_running(
    plane: ControlPlane,
) -> None:
    run = plane.launch()
    folder = plane.home.run(run)
    assert aggregator(folder, "1") == "not yet"
    held = enter(folder, "1", 1.0)
    assert (aggregator(folder, "1"), aggregator(folder, "2")) == ("alive", "not yet")
    with pytest.raises(ProcessFailed, match="another aggregator works in it"):
        enter(folder, "2", 0.3)
    asked: list[str] = []
    honest = plane.flower.status
    plane.flower.status = lambda each: asked.append(each) or honest(each)  # type: ignore[method-assign, func-returns-value]
    for second in range(40):
        plane.clock.now = float(second)
        plane.tick()
    assert (view(plane, run).status, len(asked)) == (RunStatus.RUNNING, 2)
    held.close()
    assert aggregator(folder, "1") == "gone"
    plane.tick()
    plane.tick()
    assert (view(plane, run).status, view(plane, run).launches) == (RunStatus.RUNNING, 2)
    assert plane.flower.stopped == ["1"], "Flower still held it for alive"
    assert aggregator(folder, "2") == "not yet"


def test_a_relaunch_waits_for_superlink_and_burns_no_launch(plane: ControlPlane) -> None:
    run = plane.launch()
    plane.flower.states["1"] = "failed"
    plane.tick()
    plane.flower.broken = "connection refused"
    for _ in range(5):
        plane.tick()
    assert (view(plane, run).status, view(plane, run).launches) == (RunStatus.WAITING, 2)
    assert "SuperLink does not answer" in str(view(plane, run).error)
    plane.flower.broken = None
    plane.tick()
    assert (view(plane, run).status, view(plane, run).error) == (RunStatus.RUNNING, None)
    assert plane.flower.started == [run, run]


def test_unknown_is_waited_for_then_launched_again(plane: ControlPlane) -> None:
    run = plane.launch()
    plane.flower.states["1"] = "unknown"
    plane.tick()
    plane.clock.now = 25.0
    plane.flower.states["1"] = "running"
    plane.tick()
    plane.flower.states["1"] = "unknown"
    plane.clock.now = 40.0
    plane.tick()
    plane.clock.now = 65.0
    plane.tick()
    assert view(plane, run).status is RunStatus.RUNNING
    plane.clock.now = 71.0
    plane.tick()
    assert (view(plane, run).status, view(plane, run).launches) == (RunStatus.WAITING, 2)


def test_events_that_could_not_be_delivered_are_read_from_disk(plane: ControlPlane) -> None:
    run = plane.launch()
    file = plane.write_final(run)
    plane.tell(run, numbered([started()]))
    events = numbered([started(), closed(1), finished(file)])
    write_journal(plane, run, *(event.model_dump_json() for event in events), '{"number": 4, "at"')
    plane.flower.states["1"] = "completed"
    plane.tick()
    assert view(plane, run).status is RunStatus.FINISHED
    assert view(plane, run).error is None
    assert plane.home.model(file).is_file()


def test_a_finished_run_stays_finished(plane: ControlPlane) -> None:
    run = plane.launch()
    plane.tell(run, numbered([finished(plane.write_final(run))]))
    plane.flower.states["1"] = "failed"
    plane.tick()
    assert view(plane, run).status is RunStatus.FINISHED
    assert plane.post(f"/runs/{run}/stop").status_code == 409
    assert plane.post(f"/runs/{run}/launch").status_code == 409


def test_stop_and_resume(plane: ControlPlane) -> None:
    run = plane.launch()
    token = (plane.home.run(run) / "token").read_text()
    assert plane.post(f"/runs/{run}/launch").status_code == 409
    assert plane.post(f"/runs/{run}/stop").json()["status"] == "stopped"
    assert plane.flower.stopped == ["1"]
    plane.tick()
    assert view(plane, run).status is RunStatus.STOPPED
    assert plane.post(f"/runs/{run}/launch").json()["launches"] == 2
    plane.tick()
    assert plane.flower.started == [run, run]
    assert (view(plane, run).status, view(plane, run).ended_at) == (RunStatus.RUNNING, None)
    late = plane.tell(run, numbered([closed(1)]), token)
    assert late.status_code == 401


def test_an_earlier_launch_is_stopped_before_the_next_starts(plane: ControlPlane) -> None:
    run = plane.launch()
    plane.flower.states["1"] = "unknown"
    plane.tick()
    plane.clock.now = 31.0
    plane.tick()
    plane.flower.states["1"] = "running"
    plane.post(f"/runs/{run}/launch")
    plane.tick()
    assert plane.flower.states == {"1": "stopped", "2": "running"}


def test_a_stop_that_flower_does_not_take_changes_nothing(plane: ControlPlane) -> None:
    run = plane.launch()
    plane.flower.broken = "no answer"
    assert plane.post(f"/runs/{run}/stop").status_code == 502
    assert view(plane, run).status is RunStatus.RUNNING


def test_a_waiting_run_is_stopped_before_it_starts(plane: ControlPlane) -> None:
    plane.create()
    for site in SITES:
        plane.decide(plane.word(site))
    run = plane.post(f"/studies/{plane.charter.id}/runs").json()["run"]
    assert plane.post(f"/runs/{run}/stop").json()["status"] == "stopped"
    plane.tick()
    assert plane.flower.started == []


def test_a_bad_look_ends_no_following_and_starves_no_other_run(plane: ControlPlane) -> None:
    """Ids are ordered: the run that is looked at first always fails to be looked at."""
    first, second = sorted(("r0", plane.launch()))
    with plane.app.state.platform.database.write() as session:
        session.add(
            Run(id=first, study=plane.charter.id, status="running", created_at=now(), rounds_planned=3)
        )
        session.flush()
        session.add(Launch(run=first, number=1, flower_run="bad", status="running", created_at=now()))
    looks = []

    def status(flower_run: str) -> str:
        looks.append(flower_run)
        if flower_run == "bad":
            raise RuntimeError("a bug")
        return "stopped"

    plane.flower.status = status  # type: ignore[method-assign,assignment]
    follower = Follower(plane.launcher, 0.01)
    follower.start()
    end = time.monotonic() + 10
    while looks.count("bad") < 2 and time.monotonic() < end:
        time.sleep(0.01)
    follower.stop()
    assert looks.count("bad") >= 2
    assert view(plane, second).status is RunStatus.FAILED
