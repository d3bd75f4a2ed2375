"""Flower's ServerApp: the composition root of a run. It reads its run's folder and starts `Run`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from flwr.serverapp import ServerApp
from flwr.superlink.grid import http_grid

from consilium.contracts.charter import Charter, read_charter
from consilium.contracts.home import Home
from consilium.contracts.reports import NumberedEvent
from consilium.errors import ProcessFailed
from consilium.flower.waits import shorten
from consilium.services.client import ApiClient
from consilium.services.folder import enter
from consilium_aggregator.journal import FileJournal
from consilium_aggregator.run import Run
from consilium_aggregator.simulated import Slowed, deal_nodes
from consilium_aggregator.transport import GridTransport

DRAIN_SECONDS = 60.0
LOCK_SECONDS = 60.0
SIMULATED_POLL_SECONDS = 0.02

app = ServerApp()


@app.main()  # type: ignore[untyped-decorator]
def main(grid: Any, context: Any) -> None:
    """Run the charter in `runs/<run>`, named by the run config; fails the Flower run if the run failed.

    The environment gives CONSILIUM_HOME and CONSILIUM_API_URL; the run's secret is the file
    `runs/<run>/token`, since a run config reaches the sites. A run folder with `simulation.json` is a
    simulation: it has no API, and its events stay in `events.jsonl`.
    """
    home = Home(Path(os.environ["CONSILIUM_HOME"]))
    run_id = str(context.run_config["run"])
    folder = home.run(run_id)
    charter = read_charter((folder / "charter.json").read_bytes())
    if (folder / "simulation.json").exists():
        finished = _simulate(charter, run_id, folder, grid)
    else:
        finished = _deployed(charter, run_id, str(context.run_id), home, grid)
    if not finished:
        raise ProcessFailed("the run gave up; its last event says why")


def _deployed(charter: Charter, run_id: str, flower_run: str, home: Home, grid: Any) -> bool:
    shorten(http_grid)
    folder = home.run(run_id)
    alone = enter(folder, flower_run, LOCK_SECONDS)
    nodes = {site: int(node) for site, node in json.loads((folder / "nodes.json").read_text()).items()}
    client = ApiClient(os.environ["CONSILIUM_API_URL"], "", home.tls / "ca.pem")
    token = (folder / "token").read_text().strip()

    def post(events: list[NumberedEvent]) -> None:
        client.post_events(run_id, token, events)

    journal = FileJournal(folder / "events.jsonl", post)
    finished = Run(charter, run_id, folder, GridTransport(grid, nodes), journal).go()
    journal.drain(DRAIN_SECONDS)
    alone.close()
    return finished


def _simulate(charter: Charter, run_id: str, folder: Path, grid: Any) -> bool:
    nodes = deal_nodes(grid, [member.site for member in charter.roster], folder)
    seconds = json.loads((folder / "simulation.json").read_text())["site_seconds"]
    transport = Slowed(GridTransport(grid, nodes), seconds)
    journal = FileJournal(folder / "events.jsonl", lambda _: None)
    return Run(charter, run_id, folder, transport, journal, poll_seconds=SIMULATED_POLL_SECONDS).go()
