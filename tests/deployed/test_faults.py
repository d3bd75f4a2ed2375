"""Kill a vault, a relay, a SuperNode, the aggregator in the middle of a round: what then?"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from consilium.contracts.api import RunDetail
from consilium.vocabulary import Reason, RunStatus
from support import SITES, descendants

if TYPE_CHECKING:
    from deployment import Deployed

pytestmark = pytest.mark.deployed
DEADLINE = 9.0


def pid_of(deployed: Deployed, site: str, part: str) -> int:
    agent = deployed.consortium.children[site].process
    assert agent is not None
    return next(pid for pid, line in descendants(agent.pid) if f"consilium-site {part} " in line)


def start_and_kill(deployed: Deployed, *kills: tuple[str, str]) -> RunDetail:
    """Launch, then for each (site, part): kill it in a round, and wait until all four take part again."""
    charter = deployed.study(f"Kill {', '.join(part for _, part in kills)}", rounds=60, deadline=DEADLINE)
    for site in SITES:
        deployed.delay(site, 1.0)
    run = deployed.client.launch(charter.id).run
    detail = deployed.follow(run, lambda each: each.run.rounds_done >= 1, 60.0)
    for site, part in kills:
        done = detail.run.rounds_done
        deployed.follow(run, lambda each, n=done: each.live is not None and each.live.opened.round > n, 30.0)
        time.sleep(0.8)
        os.kill(pid_of(deployed, site, part), signal.SIGKILL)
        detail = deployed.follow(run, lambda each, n=done: back_after(each, n), 150.0)
    deployed.client.stop(run)
    deployed.finish(run, 30.0)
    return detail


def back_after(detail: RunDetail, done: int) -> bool:
    """A round after `done` missed somebody, and the last closed one missed nobody."""
    later = [row for row in detail.rows if row.round > done and row.participants]
    return any(row.missing for row in later) and not later[-1].missing


def test_a_killed_vault_costs_its_site_a_round_and_the_others_no_time(deployed: Deployed) -> None:
    detail = start_and_kill(deployed, ("site-b", "vault"))
    missed = [row for row in detail.rows if row.missing]
    assert {(m.site, m.reason) for row in missed for m in row.missing} == {
        ("site-b", Reason.VAULT_UNREACHABLE)
    }
    assert 1 <= len(missed) <= 3
    assert all(row.seconds < DEADLINE for row in missed)


def test_a_killed_relay_or_supernode_costs_its_site_rounds_and_comes_back(deployed: Deployed) -> None:
    """Both at one site: Flower takes about 46 s to give up their task, during which the site is missing."""
    detail = start_and_kill(deployed, ("site-b", "relay"), ("site-b", "supernode"))
    missed = [row for row in detail.rows if row.missing]
    assert {m.site for row in missed for m in row.missing} == {"site-b"}
    assert {m.reason for row in missed for m in row.missing} <= {Reason.NO_ANSWER, Reason.OFFLINE}
    assert [m.reason for m in missed[0].missing] == [Reason.NO_ANSWER]
    opening = 8.0  # a round that opens a window waits a few seconds for the dead site's keys as well
    assert all(row.seconds < DEADLINE + opening for row in missed)


def test_a_dead_aggregator_is_never_shown_running_and_the_run_resumes(deployed: Deployed) -> None:
    charter = deployed.study("Kill the aggregator", rounds=6)
    for site in SITES:
        deployed.delay(site, 0.5)
    run = deployed.client.launch(charter.id).run
    deployed.follow(run, lambda detail: detail.run.rounds_done >= 2, 60.0)
    superlink = deployed.consortium.children["superlink"].process
    assert superlink is not None
    (server,) = [pid for pid, line in descendants(superlink.pid) if "flwr-serverapp" in line]
    os.kill(server, signal.SIGKILL)
    failed = deployed.finish(run, 90.0)
    assert failed.run.status is RunStatus.FAILED
    assert failed.run.error
    done = failed.run.rounds_done
    assert done >= 2
    deployed.client.resume(run)
    detail = deployed.finish(run, 120.0)
    assert detail.run.status is RunStatus.FINISHED
    assert detail.run.launches == 2
    assert [row.round for row in detail.rows] == list(range(7))
    assert all(row.participants == 4 for row in detail.rows[1:])
