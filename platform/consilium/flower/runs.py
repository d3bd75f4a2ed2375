"""Starts, follows and stops Flower runs: the launcher's port to the SuperLink.

The FAB holds settings and the charter only; its components name installed packages, so no code travels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from consilium.contracts.charter import Charter
from consilium.errors import ProcessFailed
from consilium.files import write_atomic
from consilium.flower.processes import CONNECTION, flwr_json

FlowerStatus = Literal["pending", "running", "completed", "failed", "stopped", "unknown"]

FAB = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "consilium-run"
version = "1.0.0"
description = "Settings and charter of a Consilium run"
license = {{ text = "Apache-2.0" }}
dependencies = []

[tool.flwr.app]
publisher = "consilium"
fab-include = ["charter.json"]

[tool.flwr.app.components]
serverapp = "consilium_aggregator.server_app:app"
clientapp = "consilium_site.client_app:app"

[tool.flwr.app.config]
run = "{run}"
"""


class FlowerRuns:
    """`flwr run`, `flwr list` and `flwr stop` over the Control API of one SuperLink."""

    def __init__(self, flower_home: Path, runs: Path) -> None:
        self.flower_home, self.runs = flower_home, runs

    def start(self, run: str, charter: Charter) -> str:
        """Write the FAB into `runs/<run>/fab`, start it, and return Flower's run id.

        Not retried: a retry of a start that did go through would make a second run.
        """
        folder = self.runs / run / "fab"
        write_fab(folder, run, charter)
        answer = flwr_json(self.flower_home, "run", str(folder), CONNECTION)
        flower_run = answer.get("run-id")
        if not isinstance(flower_run, int | str):
            raise ProcessFailed(f"flwr run: no run-id in {answer}")
        return str(flower_run)

    def status(self, flower_run: str) -> FlowerStatus:
        """Where the run stands; `unknown` when the SuperLink does not answer or does not know it."""
        try:
            answer = flwr_json(self.flower_home, "list", CONNECTION, "--run-id", flower_run, seconds=20.0)
        except ProcessFailed:
            return "unknown"
        rows = answer.get("runs")
        status = str(rows[0].get("status", "")) if isinstance(rows, list) and rows else ""
        return _status(status)

    def answers(self) -> bool:
        """True if the SuperLink answers a question about its runs."""
        try:
            flwr_json(self.flower_home, "list", CONNECTION, seconds=20.0)
        except ProcessFailed:
            return False
        return True

    def stop(self, flower_run: str) -> None:
        """Ask the SuperLink to stop the run; one that has ended already is no error."""
        if self.status(flower_run) in ("pending", "running"):
            flwr_json(self.flower_home, "stop", flower_run, CONNECTION)


def write_fab(folder: Path, run: str, charter: Charter) -> None:
    """Write `pyproject.toml` and `charter.json`: the whole content of our FAB."""
    write_atomic(folder / "pyproject.toml", FAB.format(run=run).encode())
    write_atomic(folder / "charter.json", charter.canonical())


def _status(text: str) -> FlowerStatus:
    main, _, sub = text.partition(":")
    if main in ("pending", "starting"):
        return "pending"
    if main == "running":
        return "running"
    if main == "finished" and sub in ("completed", "failed", "stopped"):
        return sub  # type: ignore[return-value]
    return "unknown"
