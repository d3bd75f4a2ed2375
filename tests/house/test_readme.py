"""The README's commands exist and do what it says; the long one is run by the deployed tests."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
LINES = [line.split("  #")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]


def test_the_readme_has_commands() -> None:
    assert len(LINES) >= 12


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("make ")])
def test_make_targets_exist(line: str) -> None:
    target = shlex.split(line)[1]
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("consilium")])
def test_commands_and_options_exist(line: str) -> None:
    """Every command of the README answers --help, and its help names every option that the README gives."""
    words = shlex.split(line)
    command = [words[0], *[word for word in words[1:] if re.fullmatch(r"[a-z][a-z-]*", word)][:2]]
    tries = [command, command[:2], command[:1]]
    for each in tries:
        done = subprocess.run(
            [BIN / each[0], *each[1:], "--help"], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            break
    assert done.returncode == 0, line
    for option in (word for word in words if word.startswith("--") and word != "--help"):
        assert option in done.stdout, f"{option} of {line!r}"


@pytest.mark.deployed
def test_the_headless_demo_runs_as_the_readme_says(tmp_path: Path) -> None:
    """The README's headless demo with MONAI, shortened to two rounds of four cases at 32³."""
    report = tmp_path / "report.json"
    command = [BIN / "consilium", "demo", "--headless", "--home", tmp_path / "home", "--report", report]
    small = ["--rounds", "2", "--cases", "4", "--size", "32"]
    done = subprocess.run([*command, *small], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(report.read_text())
    assert told["status"] == "finished"
    assert (told["hospitals"], told["secure_aggregation"], told["privacy"]) == (4, True, None)
    assert [row["round"] for row in told["rounds"]] == [0, 1, 2]
    assert told["rounds"][2]["dice"]["mean"] > told["rounds"][0]["dice"]["mean"]
    assert {"TC", "WT", "ET", "mean"} == set(told["rounds"][0]["dice"])
    assert all(row["participants"] == 4 and row["missing"] == [] for row in told["rounds"][1:])
    assert Path(told["model"]).is_file()
    assert Path(told["database"]).is_file()
    assert "Finished" in done.stdout
    mask = tmp_path / "mask.nii.gz"
    case = next((tmp_path / "home" / "sites" / "aurora" / "data").iterdir())
    subprocess.run([BIN / "consilium-site", "predict", told["model"], case, mask], check=True)
    assert mask.is_file()


def test_a_demo_home_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    command = [BIN / "consilium", "demo", "--headless", "--home", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "not empty" in done.stderr


@pytest.mark.deployed
def test_ctrl_c_stops_all_that_a_demo_started(tmp_path: Path) -> None:
    """Interrupted in the middle, it ends by itself and leaves no process of its home behind."""
    home = tmp_path / "home"
    command = [BIN / "consilium", "demo", "--home", home, "--port", "0", "--cases", "4", "--size", "32"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said = ""
    while "approved by" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    assert running_in(home)
    process.send_signal(signal.SIGINT)
    said += process.communicate(timeout=90)[0]
    assert process.returncode == 1, said
    assert "Traceback" not in said
    assert running_in(home) == []


def running_in(home: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if str(home) in line and "demo" not in line:
            found.append(line)
    return found
