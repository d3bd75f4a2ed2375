"""No request body may be larger than its route needs; checked while it arrives, before it is kept."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from consilium.api.problems import problem_response

DOCUMENT_BYTES = 1 << 20
EVENTS_BYTES = 8 << 20
EVENTS = re.compile(r"^/runs/[^/]+/events$")
INITIAL = re.compile(r"^/studies/[^/]+/initial$")


def limit_of(path: str) -> int | None:
    """Most bytes a body sent to `path` may have; None where the route itself counts (model files)."""
    if INITIAL.match(path):
        return None
    return EVENTS_BYTES if EVENTS.match(path) else DOCUMENT_BYTES


class BodyLimit:
    """ASGI middleware that answers 413 to a body over `limit_of` its path, announced or not."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the bytes that the application reads."""
        limit = limit_of(scope["path"]) if scope["type"] == "http" else None
        if limit is None:
            await self.app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        body = None if announced.isdigit() and int(announced) > limit else await _read(receive, limit)
        if body is None:
            text = f"the body is larger than the {limit:,} bytes that {scope['path']} takes: send less"
            await problem_response(413, "too_large", text)(scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), send)


async def _read(receive: Receive, limit: int) -> bytes | None:
    """The whole body, or None as soon as it is over the limit."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > limit:
            return None
        if not message.get("more_body", False):
            return bytes(body)


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the application the body that was read, then what the server has next."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay
