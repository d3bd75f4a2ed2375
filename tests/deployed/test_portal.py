"""The real portal before the real API: what a researcher sees of a run with a hospital missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from consilium.services.supervision import free_ports, listens, wait_until
from support import SITES

if TYPE_CHECKING:
    from deployment import Deployed

pytestmark = [pytest.mark.deployed, pytest.mark.browser]


def test_the_page_shows_the_run_and_why_a_hospital_is_missing(
    deployed: Deployed, page: Any, tmp_path: Path
) -> None:
    charter = deployed.study("Seen in a browser", approve=SITES[:3], rounds=2)
    run = deployed.client.launch(charter.id).run
    deployed.finish(run)
    (port,) = free_ports(1)
    environment = {
        **os.environ,
        "CONSILIUM_HOME": str(deployed.home.root),
        "CONSILIUM_API_URL": deployed.consortium.api_url,
    }
    command = [Path(sys.executable).parent / "consilium", "portal", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: listens(port), "the portal", 40.0)
        page.goto(f"http://127.0.0.1:{port}/?study={charter.id}&run={run}")
        page.get_by_text("Seen in a browser").first.wait_for(timeout=30_000)
        page.get_by_text("the site has not approved this charter").first.wait_for(timeout=15_000)
        page.get_by_text("finished").first.wait_for(timeout=15_000)
    finally:
        process.terminate()
        process.wait(20)
