"""The portal's client against the real API over TLS: the two halves speak one contract."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from consilium.errors import ConsiliumError, InputError, NotFound, ProcessFailed, Refused
from consilium.services.certificates import make_authority, make_server
from consilium.vocabulary import RunStatus
from consilium_ui.api_client import ApiClient, connect
from control_plane import ControlPlane, closed, finished, numbered, opened, scored, started


class Served:
    """A control plane behind a TLS socket, and the portal's client of it."""

    def __init__(self, plane: ControlPlane, url: str) -> None:
        self.plane, self.url = plane, url
        self.client = connect(url, plane.home)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    plane = ControlPlane(tmp_path_factory.mktemp("home"))
    make_authority(plane.home.tls)
    certificate, key = make_server(plane.home.tls, "server")
    config = uvicorn.Config(
        plane.app,
        host="127.0.0.1",
        port=0,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        log_level="error",
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Served(plane, f"https://127.0.0.1:{port}")
    server.should_exit = True
    thread.join(10)


def test_a_run_is_read_as_the_platform_tells_it(served: Served) -> None:
    plane, client = served.plane, served.client
    run = plane.launch()
    events = [started(), opened(1), scored(0, 0.1), closed(1), opened(2)]
    assert plane.tell(run, numbered(events)).status_code == 204
    study = client.studies()[0]
    assert study.runs[0].run == run
    assert client.study(study.id).charter == plane.charter
    detail = client.run(run)
    assert detail.run.status == RunStatus.RUNNING
    assert detail.live is not None
    assert detail.rows[1].missing[0].site == "site-c"
    assert client.rounds(run, "csv").startswith(b"round,")
    assert [row["round"] for row in json.loads(client.rounds(run, "json"))] == [0, 1]
    with pytest.raises(ConsiliumError, match="has no final model"):
        client.model(run)
    rest = [scored(1, 0.4), finished(plane.write_final(run))]
    assert plane.tell(run, numbered(rest, first=6)).status_code == 204
    plane.flower.states["1"] = "completed"
    plane.tick()
    assert client.model(run) == b"the final model"


def test_the_api_says_no_in_its_own_words(served: Served) -> None:
    with pytest.raises(NotFound, match="r00000000"):
        served.client.run("r00000000")
    with pytest.raises(Refused, match="token"):
        ApiClient(served.url, "wrong", served.plane.home.tls / "ca.pem").studies()


def test_another_ca_is_not_trusted(served: Served, tmp_path: Path) -> None:
    other, _ = make_authority(tmp_path)
    with pytest.raises(ProcessFailed, match="does not answer"):
        ApiClient(served.url, "token", other).studies()


def test_https_without_a_ca_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pem"):
        ApiClient("https://127.0.0.1:1", "token", tmp_path / "none.pem")
