"""The site's compose file parses, keeps its promises, and names commands and options that exist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "compose" / "site.yaml").read_text())["services"]


def test_the_vault_has_no_network_and_the_others_no_scan_and_no_site_key() -> None:
    assert SERVICES["vault"]["network_mode"] == "none"
    for name in ("supernode", "relay"):
        mounts = [volume.rsplit(":", 2)[0] for volume in SERVICES[name]["volumes"]]
        assert "./site" not in mounts
        assert not [mount for mount in mounts if "keys" in mount or "DATA" in mount]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_each_service_names_a_command_and_options_that_exist(name: str) -> None:
    script, command, *words = SERVICES[name]["command"]
    run = [Path(sys.executable).parent / script, command, "--help"]
    told = subprocess.run(run, check=True, capture_output=True, text=True).stdout
    assert all(word in told for word in words if word.startswith("--"))
