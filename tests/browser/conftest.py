"""One headless Chromium and one portal process for all browser tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import consilium_ui
from ui.stub_api import Stub, make_home, serve

APP = Path(consilium_ui.__file__).with_name("app.py")
READY_SECONDS = 40.0


@pytest.fixture(scope="module")
def stub() -> Iterator[Stub]:
    """The stub API that the portal speaks to."""
    with serve(Stub()) as served:
        yield served


@pytest.fixture(scope="module")
def portal(stub: Stub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real `streamlit run` of the portal."""
    folder = tmp_path_factory.mktemp("portal")
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(APP), f"--server.port={port}"]
    command += ["--server.address=127.0.0.1", "--server.headless=true", "--server.fileWatcherType=none"]
    home = make_home(folder / "home")
    environment = os.environ | {"CONSILIUM_HOME": str(home), "CONSILIUM_API_URL": stub.url}
    log = folder / "portal.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=out, stderr=out)
        try:
            wait_ready(f"http://127.0.0.1:{port}/_stcore/health", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until `url` answers; fail with the process's log if it does not."""
    end = time.monotonic() + READY_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"the portal did not come up: {log.read_text()[-2000:]}")
