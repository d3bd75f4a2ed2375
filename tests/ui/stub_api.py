"""A stand-in for the platform's API: contract objects over HTTP, with a play that tests step through."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from consilium.contracts.api import Problem, RunDetail, StudyDetail, StudyView
from consilium.contracts.base import Document

TOKEN = "stub-token"


@dataclass
class Stub:
    """What the API knows now; tests replace its parts between two looks of the page."""

    studies: list[StudyView] = field(default_factory=list)
    details: dict[str, StudyDetail] = field(default_factory=dict)
    runs: dict[str, RunDetail] = field(default_factory=dict)
    model: bytes = b"model bytes"
    down: bool = False
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def put(self, detail: RunDetail, study: StudyView) -> None:
        """Make `detail` the newest answer for its run and let its study list it."""
        self.runs[detail.run.run] = detail
        self.studies = [study.model_copy(update={"runs": (detail.run,)})]

    def answer(self, path: str) -> tuple[int, bytes, str]:
        """Status, body and type of one GET."""
        parts = path.strip("/").split("/")
        if path == "/studies":
            return 200, _many(self.studies), "application/json"
        if parts[0] == "studies" and parts[1] in self.details:
            return 200, self.details[parts[1]].model_dump_json().encode(), "application/json"
        if parts[0] == "runs" and parts[1] in self.runs:
            return self._run(self.runs[parts[1]], parts[2] if len(parts) > 2 else "")
        return 404, _problem("not_found", f"{path} does not exist"), "application/json"

    def _run(self, detail: RunDetail, what: str) -> tuple[int, bytes, str]:
        files: dict[str, Callable[[], tuple[bytes, str]]] = {
            "": lambda: (detail.model_dump_json().encode(), "application/json"),
            "rounds.json": lambda: (_many(detail.rows), "application/json"),
            "rounds.csv": lambda: (_csv(detail), "text/csv"),
            "model": lambda: (self.model, "application/octet-stream"),
        }
        return (200, *files[what]())


@contextmanager
def serve(stub: Stub) -> Iterator[Stub]:
    """Serve `stub` on a free loopback port while the block runs; `stub.url` names it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(stub))
    stub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def make_home(folder: Path) -> Path:
    """A platform's home with the stub's token in it."""
    token = folder / "platform" / "token"
    token.parent.mkdir(parents=True)
    token.write_text(TOKEN + "\n")
    return folder


def _handler(stub: Stub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stub.asked.append(self.path)
            if stub.down:
                self.close_connection = True
                return
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, body, kind = 401, _problem("unauthorised", "wrong token"), "application/json"
            else:
                status, body, kind = stub.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler


def _many(documents: Sequence[Document]) -> bytes:
    return b"[" + b",".join(document.model_dump_json().encode() for document in documents) + b"]"


def _csv(detail: RunDetail) -> bytes:
    lines = ["round,dice_mean", *(f"{row.round},{row.dice.mean if row.dice else ''}" for row in detail.rows)]
    return ("\n".join(lines) + "\n").encode()


def _problem(error: str, detail: str) -> bytes:
    return Problem(error=error, detail=detail).model_dump_json().encode()
