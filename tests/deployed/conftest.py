"""One real consortium for all deployed tests: SuperLink, API and four site agents with the toy trainer."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from consilium.contracts.home import Home
from consilium.demo.consortium import Consortium
from deployment import Deployed, toy_hospitals
from support import SITES


@pytest.fixture(scope="session")
def deployed() -> Iterator[Deployed]:
    root = Path(tempfile.mkdtemp(prefix="consilium-test-"))
    consortium = Consortium(Home(root), toy_hospitals(root))
    consortium.start()
    client = consortium.client()
    try:
        yield Deployed(consortium, client)
    finally:
        client.close()
        consortium.stop()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(autouse=True)
def _no_delays(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "deployed" in request.fixturenames:
        running: Deployed = request.getfixturevalue("deployed")
        for site in SITES:
            running.delay(site, 0.0)
