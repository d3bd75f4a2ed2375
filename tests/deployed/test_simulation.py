"""`consilium simulate` on Flower's real simulation runtime."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from consilium.contracts.charter import read_charter
from consilium.learning.parameters import read_model
from consilium_site.workbench import ToyWorkbench
from support import toy_charter

CONSILIUM = Path(sys.executable).parent / "consilium"
KEYS = {f"site-{letter}": f"{index:064x}" for index, letter in enumerate("abcde")}


@pytest.mark.deployed
def test_five_sites_with_a_straggler_give_the_exact_model_and_leave_nothing_behind(tmp_path: Path) -> None:
    charter = tmp_path / "charter.json"
    charter.write_bytes(toy_charter(KEYS, size=500, rounds=3, deadline=60.0).canonical())
    home, report = tmp_path / "home", tmp_path / "report.json"
    done = subprocess.run(
        [CONSILIUM, "simulate", charter, "--home", home, "--report", report, "--straggle", "0.3"],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(report.read_text())
    assert (told["status"], told["hospitals"]) == ("finished", 5)
    assert [row["round"] for row in told["rounds"]] == [0, 1, 2, 3]
    assert all(row["participants"] == 5 for row in told["rounds"][1:])
    assert "slowest sites wait" in done.stdout
    simulated = read_charter((home / "runs" / "simulated" / "charter.json").read_bytes())
    points = [ToyWorkbench(simulated, site, home).point for site in KEYS]
    expected = np.zeros(500)
    for _ in range(3):
        expected += 0.5 * (np.mean(points, axis=0) - expected)
    assert np.allclose(read_model(Path(told["model"])).parameters, expected, atol=1e-4)
    assert processes_naming(home) == []


def test_both_kinds_of_data_at_once_are_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [CONSILIUM, "simulate", "--data", tmp_path, "--phantom", "3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "give one of them" in done.stderr


def processes_naming(home: Path) -> list[str]:
    """Processes whose environment points at this home."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"CONSILIUM_HOME={home}".encode() in path.read_bytes():
                found.append((path.parent / "cmdline").read_text())
        except OSError:
            continue
    return found
