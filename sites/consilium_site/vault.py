"""The vault: a process that holds scans, keys and approvals, listens on Unix sockets and dials nobody.

Two sockets, two closed lists of messages. `vault.sock` is the relay's: orders, charters, heartbeats and
decisions in passing. `admin.sock` is the site admin's: inbox, decisions, status. Peers are checked by
the kernel's credentials before a byte is read.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from consilium import __version__
from consilium.contracts.base import Document
from consilium.contracts.charter import Charter, read_charter
from consilium.contracts.envelope import unpack
from consilium.contracts.messages import (
    Heartbeat,
    SignedDecision,
    SignedHeartbeat,
    SiteDecision,
)
from consilium.errors import ConsiliumError, InputError, NotFound
from consilium.privacy.signatures import sign
from consilium.services.supervision import stop_on_signals
from consilium.vocabulary import Decision
from consilium_site.home import make_private
from consilium_site.job import Jobs
from consilium_site.ledger import now

log = logging.getLogger(__name__)
CHARTER_LIMIT = 1_000_000
SLACK = 1_000_000
Handler = Callable[[Request], Awaitable[Response]]


class CeilingOrder(Document):
    """The site admin's new ceiling, over all studies of a patient."""

    epsilon: float
    delta: float


class Vault:
    """The two applications over one `Jobs`."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs, self.ledger, self.site = jobs, jobs.ledger, jobs.site
        self.bytes_left = 0

    def prepare_approved(self) -> None:
        """At start, warm the newest charter that the site has approved."""
        for charter, _ in self.ledger.charters():
            if self.ledger.decision(charter.id) is Decision.APPROVED:
                return self.jobs.warm(charter)

    def relay_app(self) -> Starlette:
        """What a relay may send: POST /jobs, POST /charters, GET /heartbeat, GET /decisions."""
        return _app(
            [
                Route("/jobs", self._job, methods=["POST"]),
                Route("/charters", self._receive, methods=["POST"]),
                Route("/heartbeat", self._heartbeat),
                Route("/decisions", self._decisions),
            ]
        )

    def admin_app(self) -> Starlette:
        """What a site admin may send: GET /inbox, /status and /budget, POST /decisions and /budget."""
        return _app(
            [
                Route("/inbox", self._inbox),
                Route("/status", self._status),
                Route("/decisions", self._decide, methods=["POST"]),
                Route("/budget", self._budget),
                Route("/budget", self._set_budget, methods=["POST"]),
            ]
        )

    async def _job(self, request: Request) -> Response:
        blob = await _body(request, self._order_limit())
        answer = await run_in_threadpool(lambda: self.jobs.answer(unpack(blob, "order")).pack())
        self.bytes_left += len(answer)
        return Response(answer, media_type="application/octet-stream")

    async def _receive(self, request: Request) -> Response:
        charter = read_charter(await _body(request, CHARTER_LIMIT))
        if charter.member(self.site) is None:
            raise InputError(f"charter {charter.id[:12]}: this site is not in its roster")
        self.ledger.add_charter(charter, now())
        return JSONResponse({"charter": charter.id})

    async def _heartbeat(self, request: Request) -> Response:
        doing = self.jobs.doing
        cohort = doing.cohort
        beat = Heartbeat(
            site=self.site,
            at=now(),
            stage=doing.stage,
            run=doing.run,
            round=doing.round,
            version=__version__,
            cases=cohort.train + cohort.test if cohort and doing.counted else 0,
            skipped=cohort.skipped if cohort and not doing.silent else {},
        )
        signed = SignedHeartbeat(heartbeat=beat, signature=sign(self.jobs.key, "heartbeat", beat.canonical()))
        return Response(signed.canonical(), media_type="application/json")

    async def _decisions(self, request: Request) -> Response:
        return JSONResponse([signed.model_dump(mode="json") for signed in self.ledger.decisions()])

    async def _inbox(self, request: Request) -> Response:
        rows = [
            {
                "charter": charter.model_dump(mode="json"),
                "id": charter.id,
                "received_at": at,
                "decision": self.ledger.decision(charter.id),
            }
            for charter, at in self.ledger.charters()
        ]
        return JSONResponse(rows)

    async def _decide(self, request: Request) -> Response:
        body = SiteDecision.parse(await _body(request, CHARTER_LIMIT), "decision")
        charter = self.ledger.charter(body.charter)
        if charter is None:
            raise NotFound(
                f"charter {body.charter[:12]}: not in this site's inbox; see `consilium-site inbox`"
            )
        if body.site != self.site:
            raise InputError(f"decision for site {body.site!r}: this vault is {self.site!r}")
        signed = SignedDecision(decision=body, signature=sign(self.jobs.key, "decision", body.canonical()))
        self.ledger.decide(signed)
        if body.decision == "approved":
            threading.Thread(target=self.jobs.warm, args=(charter,), daemon=True).start()
        return Response(signed.canonical(), media_type="application/json")

    async def _status(self, request: Request) -> Response:
        doing = self.jobs.doing
        return JSONResponse(
            {
                "site": self.site,
                "version": __version__,
                "pid": os.getpid(),
                "stage": doing.stage,
                "run": doing.run,
                "round": doing.round,
                "cases_train": doing.cohort.train if doing.cohort else None,
                "cases_test": doing.cohort.test if doing.cohort else None,
                "skipped": doing.cohort.skipped if doing.cohort else {},
                "charters": len(self.ledger.charters()),
                "refused": self.ledger.last_refusals(),
                "bytes_left": self.bytes_left,
            }
        )

    async def _budget(self, request: Request) -> Response:
        budget = self.jobs.budget
        ceiling, (epsilon, delta) = budget.ceiling, budget.highest()
        titles = {charter.id: charter.title for charter, _ in self.ledger.charters()}
        studies = [
            {"title": titles.get(each.charter, ""), **dataclasses.asdict(each)} for each in budget.studies()
        ]
        return JSONResponse(
            {
                "ceiling": dataclasses.asdict(ceiling),
                "highest": {"epsilon": epsilon, "delta": delta},
                "left": dataclasses.asdict(budget.left()),
                "studies": studies,
            }
        )

    async def _set_budget(self, request: Request) -> Response:
        body = CeilingOrder.parse(await _body(request, CHARTER_LIMIT), "ceiling")
        self.jobs.budget.set_ceiling(body.epsilon, body.delta)
        return await self._budget(request)

    def _order_limit(self) -> int:
        """An order carries at most a model, a sum and a frozen backbone, of the largest known charter."""
        known: list[Charter] = [charter for charter, _ in self.ledger.charters()]
        sizes = (8 * charter.model.parameters + 4 * charter.model.frozen for charter in known)
        return max(sizes, default=0) + SLACK


def serve(vault: Vault, relay_socket: Path, admin_socket: Path, ready: Callable[[], None]) -> None:
    """Serve both sockets until SIGTERM or SIGINT.

    The relay's socket is reachable for the folder's group (0750 and 0660), the admin's for this user only.
    """
    make_private(relay_socket.parent, 0o750)
    make_private(admin_socket.parent, 0o700)
    group = relay_socket.parent.stat().st_gid
    servers = [
        _server(vault.relay_app(), _bind(relay_socket, 0o660), group),
        _server(vault.admin_app(), _bind(admin_socket, 0o600), None),
    ]
    stop = stop_on_signals()
    threads = [threading.Thread(target=asyncio.run, args=(run(),), daemon=True) for _, run in servers]
    for thread in threads:
        thread.start()
    ready()
    stop.wait()
    for server, _ in servers:
        server.should_exit = True
        server.force_exit = True
    for thread in threads:
        thread.join(timeout=5.0)


def _server(
    app: Starlette, bound: socket.socket, group: int | None
) -> tuple[uvicorn.Server, Callable[[], Any]]:
    config = uvicorn.Config(app, http=_checked(group), log_level="warning", lifespan="off", ws="none")
    server = uvicorn.Server(config)
    return server, lambda: server.serve(sockets=[bound])


def _bind(path: Path, mode: int) -> socket.socket:
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        bound.bind(str(path))
    finally:
        os.umask(mask)
    path.chmod(mode)
    return bound


def _checked(group: int | None) -> type[asyncio.Protocol]:
    """An HTTP protocol that hangs up unless the peer is our user or, where given, of `group`."""

    class Checked(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            raw = transport.get_extra_info("socket").getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
            )
            _, user, peer_group = struct.unpack("3i", raw)
            super().connection_made(transport)
            if user != os.getuid() and peer_group != group:
                log.warning("refused a peer of user %d, group %d", user, peer_group)
                transport.abort()

    return Checked


async def _body(request: Request, limit: int) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise InputError(f"message larger than the {limit} bytes that the known charters allow")
        chunks.append(chunk)
    return b"".join(chunks)


def _app(routes: list[Route]) -> Starlette:
    async def known(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": type(error).__name__, "detail": str(error)}, status_code=400)

    return Starlette(routes=routes, exception_handlers={ConsiliumError: known})
