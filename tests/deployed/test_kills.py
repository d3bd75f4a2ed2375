"""Kill a vault, a hospital, the aggregator, SuperLink around a masked sum: the run goes on, exact."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from consilium.contracts.api import RunDetail
from consilium.contracts.charter import Charter
from consilium.contracts.envelope import unpack
from consilium.learning import averaging
from consilium.learning.parameters import read_model
from consilium.privacy.clipping import clip_factor
from consilium.privacy.fixed_point import FixedPoint, Tail
from consilium.services.supervision import wait_until
from consilium.vocabulary import Reason, RunStatus
from consilium_site.workbench import ToyWorkbench
from support import SITES, descendants

if TYPE_CHECKING:
    from deployment import Deployed

pytestmark = pytest.mark.deployed


def replayed(charter: Charter, detail: RunDetail, rounds: int) -> bytes:
    """The model after `rounds` of the same survivors, without a network: what the run must give."""
    agg = charter.secure_aggregation
    codec = FixedPoint(len(charter.roster), agg.clip, agg.scale_bits, agg.weight_cap)
    benches = {site: ToyWorkbench(charter, site, None) for site in SITES}  # type: ignore[arg-type]
    model = np.zeros(charter.model.parameters, np.float32)
    for row in detail.rows[1 : rounds + 1]:
        total, weight = np.zeros(model.size, np.uint32), 0
        for site in row.participant_sites:
            update = (benches[site].point - model) * np.float32(0.5)
            share = averaging.site_share(10, codec.cap)
            factor = share * clip_factor(update, codec.clip / share)
            total += codec.encode(update, Tail(10, 0.0, 0, 0.0, 0.0, 0.0), factor)[: model.size]
            weight += 10
        summed = codec.decode_update(total)
        model = averaging.step(
            model, summed, averaging.fedavg_factor(weight, codec.cap, charter.strategy.learning_rate)
        )
    return model.tobytes()


def check_end(deployed: Deployed, charter: Charter, detail: RunDetail) -> None:
    """Finished, every round once, exact, equal at all who signed; each model opened in one slot only."""
    assert detail.run.status is RunStatus.FINISHED, detail.run
    assert [row.round for row in detail.rows] == list(range(charter.rounds.count + 1))
    folder = deployed.home.run(detail.run.run)
    final = read_model(next((folder / "checkpoints").glob("?" * 64 + ".safetensors"))).parameters.tobytes()
    assert final == replayed(charter, detail, charter.rounds.count)
    name = f"model-{charter.rounds.count + 1:05d}.safetensors"
    stored = [deployed.home.site(site) / "runs" / detail.run.run / name for site in SITES]
    models = [
        unpack(path.read_bytes(), "model").arrays["model"].tobytes() for path in stored if path.exists()
    ]
    assert len(models) >= 3
    assert set(models) == {final}
    opened: dict[str, set[tuple[int, int]]] = {}
    for site in SITES:
        database = sqlite3.connect(deployed.home.site(site) / "vault.db")
        (text,) = database.execute("SELECT state FROM disclosure WHERE run = ?", (detail.run.run,)).fetchone()
        database.close()
        for model, slot in json.loads(text)["opened"].items():
            opened.setdefault(model, set()).add(tuple(slot))
    assert len(opened) == charter.rounds.count + 1
    assert all(len(slots) == 1 for slots in opened.values()), opened


def answered(detail: RunDetail, round_number: int, *sites: str) -> bool:
    """These sites have answered in the open round."""
    live = detail.live
    return (
        live is not None
        and live.opened.round == round_number
        and set(sites) <= {each.site for each in live.answered}
    )


def pid_of(deployed: Deployed, site: str, part: str) -> int:
    agent = deployed.consortium.children[site].process
    assert agent is not None
    return next(pid for pid, line in descendants(agent.pid) if f"consilium-site {part} " in line)


def server_pid(deployed: Deployed) -> int:
    superlink = deployed.consortium.children["superlink"].process
    assert superlink is not None
    return next(pid for pid, line in descendants(superlink.pid) if "flwr-serverapp" in line)


def kill_site(deployed: Deployed, site: str) -> None:
    """Kill -9 of the agent and all below it; it stays down."""
    agent = deployed.consortium.children[site].process
    assert agent is not None
    below = [pid for pid, _ in descendants(agent.pid)]
    os.kill(agent.pid, signal.SIGKILL)
    for pid in below:
        os.kill(pid, signal.SIGKILL)
    agent.wait()


def revive(deployed: Deployed, site: str) -> None:
    deployed.consortium.children[site].start()
    online = lambda: next(s for s in deployed.client.sites() if s.site == site).online  # noqa: E731
    wait_until(online, f"{site} to come back", 60.0)


def test_a_killed_vault_costs_its_site_a_round_and_the_others_no_time(deployed: Deployed) -> None:
    charter = deployed.study("Kill a vault", rounds=60, deadline=9.0)
    for site in SITES:
        deployed.delay(site, 1.0)
    run = deployed.client.launch(charter.id).run
    deployed.follow(run, lambda each: each.live is not None and each.live.opened.round == 2, 60.0)
    time.sleep(0.8)
    os.kill(pid_of(deployed, "site-b", "vault"), signal.SIGKILL)

    def back(detail: RunDetail) -> bool:
        closed = [row for row in detail.rows if row.participants]
        return any(row.missing for row in closed) and not closed[-1].missing

    detail = deployed.follow(run, back, 60.0)
    deployed.client.stop(run)
    missed = [row for row in detail.rows if row.missing]
    assert {(m.site, m.reason) for row in missed for m in row.missing} == {
        ("site-b", Reason.VAULT_UNREACHABLE)
    }
    assert 1 <= len(missed) <= 3
    assert all(row.seconds < 9.0 for row in missed), "the others lose no time"


def test_a_hospital_killed_after_its_upload_is_in_the_sum_and_comes_back_later(deployed: Deployed) -> None:
    """Flower takes about 46 s to give up a dead SuperNode's task; the others go on without that site."""
    charter = deployed.study("Kill a hospital", rounds=60, deadline=9.0)
    deployed.delay("site-d", 3.0)
    run = deployed.client.launch(charter.id).run
    deployed.follow(run, lambda each: answered(each, 2, "site-b"), 60.0)
    kill_site(deployed, "site-b")
    deployed.delay("site-d", 1.0)
    try:
        deployed.follow(run, lambda each: each.run.rounds_done >= 3, 90.0)
    finally:
        revive(deployed, "site-b")
    detail = deployed.follow(run, lambda each: bool(each.rows) and each.rows[-1].participants == 4, 120.0)
    deployed.client.stop(run)
    detail = deployed.finish(run, 30.0)
    rows = {row.round: row for row in detail.rows}
    assert rows[2].participant_sites == SITES, "killed between its upload and the question"
    assert [m.site for m in rows[3].missing] == ["site-b"], "dead before its upload"
    missed = [missing for row in detail.rows for missing in row.missing]
    assert {each.reason for each in missed} <= {Reason.NO_ANSWER, Reason.OFFLINE}
    opening = 8.0  # a round that opens a window waits a few seconds for the dead site's keys as well
    assert all(row.seconds < 9.0 + opening for row in detail.rows if row.missing)
    newest = max((deployed.home.run(run) / "checkpoints").glob("round-*.safetensors"))
    checkpoint = unpack(newest.read_bytes(), newest.name)
    number = int(newest.stem.partition("-")[2])
    assert checkpoint.arrays["model"].tobytes() == replayed(charter, detail, number - 1)


def test_a_killed_aggregator_is_launched_again_and_finishes_what_it_asked(deployed: Deployed) -> None:
    charter = deployed.study("Kill the aggregator around the question", rounds=4, deadline=12.0)
    deployed.delay("site-d", 3.0)
    run = deployed.client.launch(charter.id).run
    deployed.follow(run, lambda each: answered(each, 2, "site-a"), 60.0)
    os.kill(server_pid(deployed), signal.SIGKILL)
    deployed.follow(run, lambda each: each.run.launches == 2, 30.0)
    deployed.follow(run, lambda each: answered(each, 3, "site-a", "site-c"), 60.0)
    stopped = [pid_of(deployed, site, "vault") for site in ("site-a", "site-c")]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    question = deployed.home.run(run) / "checkpoints" / "question.safetensors"
    try:
        wait_until(question.exists, "the question on disk", 30.0)
        time.sleep(0.5)
        asked = unpack(question.read_bytes(), "question").header
        os.kill(server_pid(deployed), signal.SIGKILL)
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    detail = deployed.finish(run, 120.0)
    check_end(deployed, charter, detail)
    assert detail.run.launches == 3
    assert json.loads(asked)["round"] == 3
    row = next(row for row in detail.rows if row.round == 3)
    assert row.participant_sites == tuple(json.loads(asked)["survivors"])


def test_a_killed_superlink_interrupts_a_run_that_then_goes_on(deployed: Deployed) -> None:
    charter = deployed.study("Kill SuperLink", rounds=4, deadline=12.0)
    deployed.delay("site-d", 3.0)
    run = deployed.client.launch(charter.id).run
    deployed.follow(run, lambda each: answered(each, 2, "site-a"), 60.0)
    superlink = deployed.consortium.children["superlink"]
    assert superlink.process is not None
    os.kill(superlink.process.pid, signal.SIGKILL)
    superlink.process.wait()
    time.sleep(1.0)
    superlink.start()
    check_end(deployed, charter, deployed.finish(run, 240.0))
