"""The relay's install stays small: a DMZ machine gets no torch, MONAI or nibabel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_relays_install_has_nothing_that_opens_a_scan(tmp_path: Path) -> None:
    """`pip install .[relay]` in a fresh virtual environment; the relay starts there and torch does not."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "-q"]
    install = ["install", "--no-compile", "-c", str(ROOT / "constraints.txt"), f"{ROOT}[relay]"]
    subprocess.run([*pip, *install], check=True, cwd=tmp_path)
    ask = "from importlib.metadata import distributions as d; print(*{each.name.lower() for each in d()})"
    listed = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True)
    names = set(listed.stdout.split())
    assert "flwr" in names
    assert not names & {"torch", "monai", "nibabel", "scipy", "sqlmodel", "streamlit", "pydicom"}
    script = tmp_path / "venv" / "bin" / "consilium-site"
    helped = subprocess.run([script, "relay", "--help"], check=True, capture_output=True, text=True)
    assert "--runtime-port" in helped.stdout
    code = "import consilium_site.relay, consilium_site.client_app, consilium_site.bootstrap"
    subprocess.run([python, "-c", code], check=True, cwd=tmp_path)
