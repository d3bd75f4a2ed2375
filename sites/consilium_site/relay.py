"""The relay: a long-lived process that carries ciphertext and signed messages, and never a FAB's code.

Two loops. `TaskLoop` takes tasks from the SuperNode's Runtime API and hands each message to the installed
ClientApp: warm, so no process starts for a message. `Courier` carries heartbeats, charters and decisions
between the vault and the API. Neither has a path to scans or keys.

flwr's own executor (`--stock-executor`) is the fallback when flwr changes under us: it puts a FAB's folder
on `sys.path` and runs what it brings, in a process with this relay's rights. It warns at every start.
"""

from __future__ import annotations

import functools
import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consilium.contracts.messages import SignedDecision, SignedHeartbeat
from consilium.errors import Conflict, ConsiliumError, NotFound
from consilium.flower.waits import WAITS
from consilium.services.client import ApiClient
from consilium_site.socket_client import VaultClient

log = logging.getLogger(__name__)
POLL_SECONDS = 0.2
PULL_SECONDS = 600.0
BEAT_SECONDS = 3.0


@dataclass(frozen=True)
class RuntimeApi:
    """Where the SuperNode's Runtime API is, the CA that signed its certificate, and its secret's file."""

    address: str
    ca: Path
    secret: Path


class TaskLoop:
    """Takes ClientApp tasks from one SuperNode and answers them in this process.

    A SuperNode works on one message at a time, but when a run ends in the middle of a message it leaves a
    task whose content never comes. So each task has its own thread: a stuck one gives up after
    `PULL_SECONDS` and holds up nobody. flwr's own retry invoker is left out on purpose: on 401, which a
    restarted SuperNode answers to an old task's token, it sends SIGINT to the whole process.
    """

    def __init__(self, runtime: RuntimeApi) -> None:
        from flwr.supercore.interceptors import (
            RuntimeVersionHttpInterceptor,
            SuperExecAuthHttpInterceptor,
        )
        from flwr.supercore.runtime import RuntimeHttpClient

        self.runtime = runtime
        self.root = runtime.ca.read_bytes()
        self.client = RuntimeHttpClient.from_server_address(
            server_address=runtime.address,
            insecure=False,
            root_certificates=self.root,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperExec"),
                SuperExecAuthHttpInterceptor(
                    master_secret=runtime.secret.read_bytes(),
                    protected_methods=frozenset({"/flwr.proto.Runtime/AcquireTask"}),
                ),
            ],
        )

    def run(self) -> None:
        """Poll for tasks for ever. A SuperNode that is away is waited for."""
        import httpx

        bound_pull(PULL_SECONDS)
        while True:
            try:
                token = self._acquire()
            except (httpx.HTTPError, OSError) as error:
                log.warning("SuperNode at %s: %s; trying again", self.runtime.address, type(error).__name__)
                time.sleep(2.0)
                continue
            if token:
                threading.Thread(target=self._carry_out, args=(token,), daemon=True, name="task").start()
            time.sleep(POLL_SECONDS)

    def _acquire(self) -> str:
        """The token of a waiting ClientApp task, or ''."""
        from flwr.proto.runtime_pb2 import AcquireTaskRequest
        from flwr.supercore.constant import TaskType

        answer = self.client.AcquireTask(AcquireTaskRequest(supported_task_types={TaskType.CLIENT_APP}))
        return str(answer.token) if answer.HasField("task") else ""

    def _carry_out(self, token: str) -> None:
        """One task: pull its message, hand it to the installed ClientApp, push the reply; ignore the FAB."""
        import httpx
        from flwr.common.constant import SubStatus
        from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
        from flwr.supercore.inflatable.inflatable_utils import ObjectPullError
        from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
        from flwr.supercore.runtime import RuntimeHttpClient
        from flwr.supernode.runtime import run_clientapp

        from consilium_site.client_app import app

        client = RuntimeHttpClient.from_server_address(
            server_address=self.runtime.address,
            insecure=False,
            root_certificates=self.root,
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"),
                RuntimeTokenHttpInterceptor(token),
            ],
        )
        beats = HeartbeatSender(make_task_heartbeat_fn_http(client))
        beats.start()
        taken = time.time()
        context: Any = None
        status, detail = SubStatus.FAILED, "the relay could not carry the message"
        try:
            message, context, _, _ = run_clientapp.pull_task_input(client)
            pulled = time.time()
            reply = app(message=message, context=context)
            answered = time.time()
            run_clientapp.push_message(client, reply, context)
            status, detail = SubStatus.COMPLETED, ""
            log.info(
                "task carried: taken %.3f, pulled %.3f, answered %.3f, pushed %.3f",
                *(taken, pulled, answered, time.time()),
            )
        except (httpx.HTTPError, ObjectPullError, RuntimeError, ValueError, OSError) as error:
            log.warning("task not carried: %s", type(error).__name__)
        finally:
            run_clientapp.push_task_output(client, context, status, detail)
            if beats.is_running:
                beats.stop()
            client.close()


def bound_pull(seconds: float) -> None:
    """Give flwr's pull of a task's content an end, and shorter waits; by itself it waits for ever."""
    from flwr.supercore.inflatable.inflatable_utils import pull_and_inflate_object_from_tree
    from flwr.supernode.runtime import run_clientapp

    run_clientapp.pull_and_inflate_object_from_tree = functools.partial(
        pull_and_inflate_object_from_tree, max_time=seconds, **WAITS
    )


class Courier:
    """Carries the vault's signed heartbeat and decisions to the API, and new charters back."""

    def __init__(self, vault: Path, api: ApiClient) -> None:
        self.vault, self.api = VaultClient(vault), api
        self.delivered: set[str] = set()
        self.known: set[str] = set()

    def run(self) -> None:
        """One trip every `BEAT_SECONDS`, for ever; a vault or API that is away is tried again."""
        while True:
            try:
                self.trip()
            except ConsiliumError as error:
                log.warning("courier: %s", error)
            time.sleep(BEAT_SECONDS)

    def trip(self) -> None:
        """Heartbeat out, decisions out, new charters in. Each decision is delivered once."""
        beat = SignedHeartbeat.model_validate(self.vault.get("/heartbeat"), strict=False)
        answer = self.api.heartbeat(beat)
        for item in self.vault.get("/decisions"):
            signed = SignedDecision.model_validate(item, strict=False)
            if signed.signature not in self.delivered:
                self._deliver(signed)
        for charter in answer.charters:
            if charter not in self.known:
                self.vault.post("/charters", self.api.charter(charter))
                self.known.add(charter)

    def _deliver(self, signed: SignedDecision) -> None:
        """One decision; one that the platform will never take (it holds a later word) is not sent again."""
        try:
            self.api.decide(signed)
        except (Conflict, NotFound) as error:
            log.warning("decision on %s: %s", signed.decision.charter[:12], error)
        self.delivered.add(signed.signature)


def run(runtime: RuntimeApi, vault: Path, api: ApiClient | None, *, stock: bool) -> None:
    """Run both loops until the process is stopped; without `api` only tasks are carried."""
    os.environ["CONSILIUM_VAULT_SOCKET"] = str(vault)
    if api is not None:
        threading.Thread(target=Courier(vault, api).run, daemon=True, name="courier").start()
    if stock:
        _run_stock(runtime)
    else:
        TaskLoop(runtime).run()


def _run_stock(runtime: RuntimeApi) -> None:
    log.warning(
        "WARNING: Flower's stock executor runs whatever code a FAB brings, with this relay's rights. "
        "Use it only if the warm loop does not work with your flwr, on a machine that holds nothing."
    )
    command = [
        str(Path(sys.executable).parent / "flower-superexec"),
        *("--runtime-api-address", runtime.address),
        *("--root-certificates", str(runtime.ca)),
        *("--superexec-auth-secret-file", str(runtime.secret)),
    ]
    sys.exit(subprocess.run(command, check=False).returncode)
