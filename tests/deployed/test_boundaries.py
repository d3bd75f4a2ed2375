"""What must be refused at the borders between processes, tried for real."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from consilium.flower.processes import CONNECTION, flwr_json
from consilium.services.supervision import free_ports, wait_until
from support import SITES, descendants

if TYPE_CHECKING:
    from deployment import Deployed

pytestmark = pytest.mark.deployed
SCRIPT = str(Path(sys.executable).parent / "consilium-site")


def test_an_unregistered_supernode_is_refused(deployed: Deployed, tmp_path: Path) -> None:
    home = deployed.home.root / "sites" / "stranger"
    environment = {**os.environ, "CONSILIUM_SITE_HOME": str(home)}
    subprocess.run([SCRIPT, "init", "--site", "stranger"], env=environment, check=True, capture_output=True)
    superlink = f"127.0.0.1:{deployed.consortium.superlink_port}"
    ca, port = str(deployed.home.tls / "ca.pem"), str(free_ports(1)[0])
    command = [SCRIPT, "supernode", "--superlink", superlink, "--ca", ca, "--runtime-port", port]
    with (tmp_path / "log").open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    log = tmp_path / "log"

    def said() -> bool:
        return "PublicKey" in log.read_text() or process.poll() is not None

    try:
        wait_until(said, "a refusal", 30.0)
        time.sleep(1.0)
        text = log.read_text()
        assert "SuperNode ID" not in text, text[-2000:]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    rows = flwr_json(deployed.home.flower_home, "supernode", "list", CONNECTION)["nodes"]
    assert isinstance(rows, list)
    assert len([row for row in rows if row["status"] == "online"]) == len(SITES)


def test_a_supernode_without_tls_trust_gets_nowhere(deployed: Deployed) -> None:
    """A client without the CA does not connect, and one without a node's signature is refused."""
    url = f"https://127.0.0.1:{deployed.consortium.superlink_port}/v1/fleet/activate-node"
    with pytest.raises(httpx.ConnectError):
        httpx.post(url, content=b"")
    head = {"Content-Type": "application/protobuf"}
    answer = httpx.post(url, content=b"", headers=head, verify=str(deployed.home.tls / "ca.pem"))
    assert answer.status_code in (400, 401, 403)


def test_the_runtime_api_refuses_a_caller_without_the_secret(deployed: Deployed) -> None:
    from flwr.proto.runtime_pb2 import AcquireTaskRequest
    from flwr.supercore.constant import TaskType
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
    from flwr.supercore.runtime import RuntimeHttpClient

    def acquire(*extra: object) -> object:
        client = RuntimeHttpClient.from_server_address(
            server_address=f"127.0.0.1:{deployed.consortium.runtime_ports[0]}",
            insecure=False,
            root_certificates=(deployed.home.site("site-a") / "tls" / "ca.pem").read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec"), *extra],
        )
        try:
            return client.AcquireTask(AcquireTaskRequest(supported_task_types={TaskType.CLIENT_APP}))
        finally:
            client.close()

    methods = frozenset({"/flwr.proto.Runtime/AcquireTask"})
    with pytest.raises(httpx.HTTPStatusError) as none:
        acquire()
    assert none.value.response.status_code in (401, 403)
    with pytest.raises(httpx.HTTPStatusError) as wrong:
        acquire(SuperExecAuthHttpInterceptor(master_secret=b"wrong", protected_methods=methods))
    assert wrong.value.response.status_code in (401, 403)
    secret = (deployed.home.site("site-a") / "supernode" / "runtime.secret").read_bytes()
    assert acquire(SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=methods)) is not None


EVIL = """
import os, sys, pathlib
with open({marker!r}, "a") as file:
    file.write(__name__ + " in " + " ".join(sys.argv)[:200] + "\\n")
"""
EVIL_SERVER = """
import time
from flwr.app import ConfigRecord, Message, RecordDict, ArrayRecord
from flwr.serverapp import ServerApp

app = ServerApp()


@app.main()
def main(grid, context):
    messages = [
        Message(
            content=RecordDict({{"header": ConfigRecord({{"json": "{{}}"}}), "arrays": ArrayRecord({{}})}}),
            dst_node_id=node,
            message_type="query",
        )
        for node in grid.get_node_ids()
    ]
    ids, replies, end = set(grid.push_messages(messages)), [], time.time() + 60
    while len(replies) < len(messages) and time.time() < end:
        pulled = list(grid.pull_messages(ids))
        ids -= {{reply.metadata.reply_to_message_id for reply in pulled}}
        replies += pulled
        time.sleep(0.3)
    with open({answers!r}, "w") as file:
        for reply in replies:
            file.write((str(reply.error) if reply.has_error() else reply.content["header"]["json"]) + "\\n")
"""
EVIL_PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "evil"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "evil"
fab-include = ["**/*.py"]
[tool.flwr.app.components]
serverapp = "evil_server:app"
clientapp = "consilium_site.client_app:app"
"""


def test_code_that_a_fab_brings_runs_nowhere_at_a_site(deployed: Deployed, tmp_path: Path) -> None:
    """The FAB shadows `consilium_site` and brings a `sitecustomize`; the relays answer without running it."""
    marker, answers, fab = tmp_path / "marker", tmp_path / "answers", tmp_path / "evil"
    (fab / "consilium_site").mkdir(parents=True)
    (fab / "pyproject.toml").write_text(EVIL_PROJECT)
    (fab / "evil_server.py").write_text(EVIL_SERVER.format(answers=str(answers)))
    evil = EVIL.format(marker=str(marker))
    for name in ("sitecustomize.py", "consilium_site/__init__.py"):
        (fab / name).write_text(evil)
    (fab / "consilium_site" / "client_app.py").write_text(
        evil + "\nfrom flwr.clientapp import ClientApp\napp = ClientApp()\n"
    )
    run = str(flwr_json(deployed.home.flower_home, "run", str(fab), CONNECTION)["run-id"])

    def ended() -> bool:
        rows = flwr_json(deployed.home.flower_home, "list", CONNECTION, "--run-id", run)["runs"]
        assert isinstance(rows, list)
        return str(rows[0]["status"]).startswith("finished")

    wait_until(ended, "the foreign run's end", 90.0)
    notices = [json.loads(line) for line in answers.read_text().splitlines()]
    assert notices == [{"notice": "bad_message"}] * len(SITES)
    ran = marker.read_text().splitlines() if marker.exists() else []
    assert not [line for line in ran if "/flwr run " not in line], (
        "only its author's own `flwr run` may read it"
    )


def test_the_relay_has_no_data_path_and_no_site_keys(deployed: Deployed) -> None:
    """Neither its command line nor its open files lead to scans or to the identity key."""
    home = deployed.home.site("site-a")
    pid = deployed.consortium.children["site-a"].process
    assert pid is not None
    relays = [row for row in descendants(pid.pid) if " relay " in row[1]]
    assert len(relays) == 1
    number, line = relays[0]
    assert "--data" not in line
    opened = [os.readlink(link) for link in Path(f"/proc/{number}/fd").iterdir()]
    assert not [path for path in opened if str(home / "keys") in path or str(home / "data") in path]


def test_sockets_are_closed_to_others(deployed: Deployed) -> None:
    home = deployed.home.site("site-a")
    assert (home / "run").stat().st_mode & 0o777 == 0o750
    assert (home / "run" / "vault.sock").stat().st_mode & 0o777 == 0o660
    assert (home / "run" / "admin").stat().st_mode & 0o777 == 0o700
    assert (home / "run" / "admin" / "admin.sock").stat().st_mode & 0o777 == 0o600
    assert (home / "keys" / "identity.key").stat().st_mode & 0o777 == 0o600


def ask_as(uid: int, path: Path) -> bytes:
    """What the vault answers to a process of another user, forked off and stripped of root."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
        answer = b"no connection"
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(5.0)
                line.connect(str(path))
                line.sendall(b"GET /heartbeat HTTP/1.1\r\nhost: v\r\n\r\n")
                answer = line.recv(100)
        except OSError as error:
            answer = type(error).__name__.encode()
        os.write(writable, answer)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writable)
    with os.fdopen(readable, "rb") as result:
        return result.read()


def test_another_user_is_refused_by_the_vault(deployed: Deployed) -> None:
    """Even one who can open the socket file: the kernel's credentials decide."""
    if os.getuid() != 0:
        pytest.skip("needs root to become another user")
    path = deployed.home.site("site-a") / "run" / "vault.sock"
    assert ask_as(65534, path) == b"PermissionError"
    opened = [each for each in (path, *path.parents) if deployed.home.root in (each, *each.parents)]
    modes = [(each, each.stat().st_mode & 0o7777) for each in opened]
    try:
        for each, mode in modes:
            each.chmod(mode | 0o007)
        assert b"200 OK" in ask_as(0, path)
        assert b"200 OK" not in ask_as(65534, path)
    finally:
        for each, mode in modes:
            each.chmod(mode)
