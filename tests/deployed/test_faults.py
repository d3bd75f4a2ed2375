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
    from conftest import Deployed

pytestmark = pytest.mark.deployed
DEADLINE = 9.0


def pid_of(deployed: Deployed, site: str, part: str) -> int:
    agent = deployed.consortium.children[site].process
    assert agent is not None
    return next(pid for pid, line in descendants(agent.pid) if f"consilium-site {part} " in line)


def all_back(detail: RunDetail) -> bool:
    return bool(detail.rows) and detail.rows[-1].round > 2 and detail.rows[-1].participants == 4


@pytest.mark.parametrize(
    ("part", "reasons"),
    [
        ("vault", {Reason.VAULT_UNREACHABLE}),
        ("relay", {Reason.NO_ANSWER, Reason.OFFLINE}),
        ("supernode", {Reason.NO_ANSWER, Reason.OFFLINE}),
    ],
)
def test_a_killed_part_costs_rounds_of_one_site_only(
    deployed: Deployed, part: str, reasons: set[Reason]
) -> None:
    charter = deployed.study(f"Kill a {part}", rounds=40, deadline=DEADLINE)
    for site in SITES:
        deployed.delay(site, 1.0)
    run = deployed.client.launch(charter.id).run
    deployed.follow(
        run, lambda d: d.run.rounds_done >= 1 and d.live is not None and d.live.opened.round == 2, 60.0
    )
    time.sleep(0.8)
    os.kill(pid_of(deployed, "site-b", part), signal.SIGKILL)
    detail = deployed.follow(run, all_back, 150.0)
    missed = [row for row in detail.rows if row.missing]
    assert missed
    assert {m.site for row in missed for m in row.missing} == {"site-b"}
    assert {m.reason for row in missed for m in row.missing} <= reasons | {Reason.OFFLINE, Reason.NO_ANSWER}
    assert missed[0].missing[0].reason in reasons
    assert all(row.seconds < DEADLINE + 3.0 for row in missed)
    deployed.client.stop(run)
    deployed.finish(run, 30.0)


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
