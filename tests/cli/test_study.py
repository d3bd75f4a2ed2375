"""The real server over TLS, called by the real client and the real command line."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from typer.testing import CliRunner

from consilium.cli import serve
from consilium.cli.study import app as study
from consilium.contracts.api import NewSite
from consilium.errors import Conflict, ConsiliumError, InputError, NotFound, ProcessFailed, Refused
from consilium.services.certificates import make_authority, make_server
from consilium.services.client import ApiClient
from consilium.vocabulary import Decision, RunStatus
from control_plane import SITES, ControlPlane, closed, finished, numbered, opened, scored, started
from support import toy_model


class Served(ControlPlane):
    """A control plane behind uvicorn with TLS; its follower runs by itself."""

    poll_seconds = 0.05

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        make_authority(self.home.tls)
        certificate, key = make_server(self.home.tls, "server")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        config = uvicorn.Config(
            self.app,
            port=self.port,
            ssl_certfile=certificate,
            ssl_keyfile=key,
            log_level="error",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        self.url = f"https://127.0.0.1:{self.port}"
        self.clients: list[ApiClient] = []

    def client(self, token: str | None = None) -> ApiClient:
        token = self.home.token.read_text() if token is None else token
        self.clients.append(ApiClient(self.url, token, self.home.tls / "ca.pem"))
        return self.clients[-1]

    def stop(self) -> None:
        for client in self.clients:
            client.close()
        self.server.should_exit = True
        self.thread.join()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    end = time.monotonic() + 10
    while not served.server.started and time.monotonic() < end:
        time.sleep(0.01)
    yield served
    served.stop()


def enter(plane: Served, client: ApiClient) -> None:
    """Sites, study, model and approvals through the client."""
    for site in SITES:
        client.add_site(NewSite.model_validate(plane.new_site(site)))
    client.create_study(plane.charter)
    client.upload_initial(plane.charter.id, toy_model())
    for site in SITES:
        assert client.decide(plane.word(site)).decision is Decision.APPROVED


def until_started(plane: Served, launches: int) -> None:
    """Wait until Flower has been asked this often; the run folder is then complete."""
    end = time.monotonic() + 15
    while len(plane.flower.started) < launches and time.monotonic() < end:
        time.sleep(0.02)
    assert len(plane.flower.started) == launches


def test_a_study_from_charter_to_model(served: Served, tmp_path: Path) -> None:
    client = served.client()
    assert client.health().status == "ok"
    enter(served, client)
    assert client.charter(served.charter.id) == served.charter.canonical()
    assert client.heartbeat(served.beat("site-a")).charters == ()
    assert [site.online for site in client.sites()] == [True, False, False]
    run = client.launch(served.charter.id).run
    until_started(served, 1)
    assert client.run(run).run.status is RunStatus.RUNNING
    told = numbered([started(), opened(1), scored(0, 0.1), closed(1), scored(1, 0.9)] + [started()] * 250)
    told += numbered([finished(served.write_final(run))], first=len(told) + 1)
    run_token = (served.home.run(run) / "token").read_text()
    aggregator = served.client(token="")
    aggregator.post_events(run, run_token, told)
    aggregator.post_events(run, run_token, told)
    page = client.run(run)
    assert page.run.status is RunStatus.FINISHED
    assert [row.round for row in page.rows] == [0, 1]
    assert client.report(run).rounds == page.rows
    assert client.download_model(run, tmp_path / "out.safetensors") == len(b"the final model")
    assert (tmp_path / "out.safetensors").read_bytes() == b"the final model"
    assert client.studies()[0] == client.study(served.charter.id).study


def test_what_the_api_refuses_comes_back_as_its_own_error(served: Served, tmp_path: Path) -> None:
    client = served.client()
    client.add_site(NewSite.model_validate(served.new_site("site-a")))
    calls: list[tuple[type[ConsiliumError], object]] = [
        (Refused, lambda: served.client("wrong").sites()),
        (Refused, lambda: client.heartbeat(served.beat("site-a", key="site-b"))),
        (NotFound, lambda: client.study("0" * 64)),
        (NotFound, lambda: client.download_model("r0", tmp_path / "none")),
        (Conflict, lambda: client.add_site(NewSite.model_validate(served.new_site("site-a", node_id=1)))),
        (InputError, lambda: client.study("0")),
        (ProcessFailed, lambda: ApiClient("https://127.0.0.1:9", "", served.home.tls / "ca.pem").health()),
        (ProcessFailed, lambda: ApiClient(served.url, "").health()),
        (InputError, lambda: ApiClient(served.url, "", tmp_path / "no-ca.pem")),
    ]
    for kind, call in calls:
        with pytest.raises(kind):
            call()  # type: ignore[operator]
    assert not (tmp_path / "none").exists()


def command(plane: Served, *arguments: str) -> tuple[int, str]:
    environment = {"CONSILIUM_HOME": str(plane.home.root), "CONSILIUM_API_URL": plane.url}
    result = CliRunner().invoke(study, arguments, env=environment)
    if isinstance(result.exception, ConsiliumError):
        return 1, str(result.exception)
    return result.exit_code, result.output


def test_the_command_line(served: Served, tmp_path: Path) -> None:
    for site in SITES:
        served.client().add_site(NewSite.model_validate(served.new_site(site)))
    (tmp_path / "charter.json").write_bytes(served.charter.canonical())
    (tmp_path / "initial.safetensors").write_bytes(toy_model())
    files = (str(tmp_path / "charter.json"), "--model", str(tmp_path / "initial.safetensors"))
    assert command(served, "create", *files) == (0, f"{served.charter.id}\n")
    short = served.charter.id[:8]
    code, text = command(served, "launch", short)
    assert code == 1
    assert "consilium-site approve" in text
    assert "waiting for the site" in command(served, "status", short)[1]
    for site in SITES:
        served.client().decide(served.word(site))
    code, run = command(served, "launch", short)
    assert code == 0
    run = run.strip()
    until_started(served, 1)
    token = (served.home.run(run) / "token").read_text()
    served.client().post_events(run, token, numbered([scored(0), closed(1), opened(2)]))
    code, text = command(served, "status", run[:6])
    assert code == 0
    assert "missing in round 1: site-c: no answer before the round's deadline" in text
    assert "waiting for site-a, site-b, site-c" in text
    assert "running" in command(served, "status")[1]
    assert "Hospital C  site-c  approved" in command(served, "status", short)[1]
    assert json.loads(command(served, "status", run, "--json")[1])["run"]["rounds_done"] == 1
    assert command(served, "stop", run) == (0, f"{run}: stopped after round 1 of 3\n")
    assert command(served, "status", short, "--watch")[0] == 1
    assert "launch 2" in command(served, "resume", run)[1]
    until_started(served, 2)
    token = (served.home.run(run) / "token").read_text()
    served.client().post_events(run, token, numbered([finished(served.write_final(run))], first=4))
    assert command(served, "status", run, "--watch")[0] == 0
    assert command(served, "model", run, str(tmp_path / "m"))[0] == 0
    assert (tmp_path / "m").read_bytes() == b"the final model"
    assert command(served, "report", run, "--out", str(tmp_path / "report.json"))[0] == 0
    assert json.loads((tmp_path / "report.json").read_text())["status"] == "finished"


def test_mistakes_are_named(served: Served) -> None:
    mistakes = [
        (("status", "abc"), "too short"),
        (("status", "abcdef0"), "no study or run"),
        (("launch", "rabcdef"), "no study or run"),
        (("status", "--watch"), "name a run"),
        (("create", "none.json", "--model", "none"), "none.json"),
        (("--token-file", "none", "status"), "--token-file"),
    ]
    for arguments, words in mistakes:
        code, text = command(served, *arguments)
        assert code == 1
        assert words in text


def test_the_api_command_serves_and_ends(tmp_path: Path) -> None:
    make_authority(tmp_path / "tls")
    make_server(tmp_path / "tls", "server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "import typer; from consilium.cli import serve; app = typer.Typer(); serve.register(app); app()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "api", "--port", str(port)],
        env={**os.environ, "CONSILIUM_HOME": str(tmp_path)},
        stderr=subprocess.PIPE,
    )
    try:
        client = ApiClient(f"https://127.0.0.1:{port}", "", tmp_path / "tls" / "ca.pem")
        end = time.monotonic() + 20
        while time.monotonic() < end and process.poll() is None:
            try:
                assert client.health().status == "ok"
                break
            except ProcessFailed:
                time.sleep(0.1)
        assert client.health().status == "ok"
        client.close()
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=20)
    assert b"Traceback" not in errors


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "example.org", "::"])
def test_the_api_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(InputError, match="loopback"):
        serve.api(host=host)


def test_missing_certificates_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"server\.pem"):
        serve.api(home=tmp_path)
