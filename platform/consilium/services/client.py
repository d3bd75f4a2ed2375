"""The one HTTP client of the platform's API: used by the command line, relay, aggregator and demo.

Stands on contracts and httpx alone, so that a relay's install needs neither database nor web framework.
No call is ever repeated blindly: a launch that went through but was not answered must not run twice.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import TypeAdapter, ValidationError

from consilium.contracts.api import (
    DecisionView,
    Health,
    HeartbeatAnswer,
    NewSite,
    Problem,
    RunDetail,
    RunView,
    SiteView,
    StudyDetail,
    StudyView,
)
from consilium.contracts.base import Document
from consilium.contracts.charter import Charter
from consilium.contracts.messages import SignedDecision, SignedHeartbeat
from consilium.contracts.reports import NumberedEvent, RunReport
from consilium.errors import Conflict, ConsiliumError, InputError, NotFound, ProcessFailed, Refused

DEFAULT_URL = "https://127.0.0.1:8600"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SECONDS = 30.0
STOP_SECONDS = 120.0
EVENTS_A_POST = 200
CHUNK = 1 << 20

T = TypeVar("T")

_STUDIES: TypeAdapter[tuple[StudyView, ...]] = TypeAdapter(tuple[StudyView, ...])
_SITES: TypeAdapter[tuple[SiteView, ...]] = TypeAdapter(tuple[SiteView, ...])
_EVENTS: TypeAdapter[list[NumberedEvent]] = TypeAdapter(list[NumberedEvent])


class ApiClient:
    """Typed calls to one API at `url` with the bearer `token`; `ca` is the CA file that signed its TLS.

    Safe to share between threads. The proxy of the environment is used except for loopback addresses.

    Every call raises:
        NotFound, Conflict, Refused (token or signature), InputError: the API said no, in its own words.
        ProcessFailed: the API does not answer, or answered with something that is no answer of ours.
    """

    def __init__(
        self, url: str, token: str, ca: Path | None = None, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            verify=_trust(self.url, ca) if transport is None else True,
            timeout=SECONDS,
            transport=transport,
            trust_env=urlsplit(self.url).hostname not in LOOPBACK,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def health(self) -> Health:
        """The platform's sign of life; needs no token."""
        return Health.parse(self._get("/health"), "health")

    def add_site(self, site: NewSite) -> SiteView:
        """Register a hospital. The same registration twice is one; another under its name is a Conflict."""
        return SiteView.parse(self._post("/sites", site), "site")

    def sites(self) -> tuple[SiteView, ...]:
        """All registered hospitals, by name."""
        return _read(_SITES, self._get("/sites"), "sites")

    def heartbeat(self, signed: SignedHeartbeat) -> HeartbeatAnswer:
        """Deliver a vault's heartbeat; answers with charters that await the site's decision."""
        path = f"/sites/{signed.heartbeat.site}/heartbeat"
        return HeartbeatAnswer.parse(self._post(path, signed), "heartbeat answer")

    def studies(self) -> tuple[StudyView, ...]:
        """All studies, newest first."""
        return _read(_STUDIES, self._get("/studies"), "studies")

    def study(self, study: str) -> StudyDetail:
        """One study with its charter and each site's stand."""
        return StudyDetail.parse(self._get(f"/studies/{study}"), "study")

    def charter(self, study: str) -> bytes:
        """The canonical JSON whose SHA-256 is the study's id; the caller checks that it is."""
        return self._get(f"/studies/{study}/charter")

    def create_study(self, charter: Charter) -> StudyView:
        """Create the study of a charter. The same charter twice is one study."""
        return StudyView.parse(self._post("/studies", charter), "study")

    def upload_initial(self, study: str, content: bytes) -> StudyView:
        """Upload the initial parameters: the safetensors file whose SHA-256 the charter names."""
        body = self._send("PUT", f"/studies/{study}/initial", content=content)
        return StudyView.parse(body, "study")

    def decide(self, signed: SignedDecision) -> DecisionView:
        """Deliver a site's signed word on a charter; the same word twice is one."""
        return DecisionView.parse(self._post(f"/studies/{signed.decision.charter}/decisions", signed), "view")

    def launch(self, study: str) -> RunView:
        """Start a new run of a study."""
        return RunView.parse(self._post(f"/studies/{study}/runs"), "run")

    def resume(self, run: str) -> RunView:
        """Start the next launch of a failed or stopped run, from its last checkpoint."""
        return RunView.parse(self._post(f"/runs/{run}/launch"), "run")

    def run(self, run: str) -> RunDetail:
        """Everything about one run."""
        return RunDetail.parse(self._get(f"/runs/{run}"), "run")

    def stop(self, run: str) -> RunView:
        """Stop a run; answers when Flower has been told."""
        return RunView.parse(self._send("POST", f"/runs/{run}/stop", timeout=STOP_SECONDS), "run")

    def report(self, run: str) -> RunReport:
        """The run's report; row 0 is the untrained model."""
        return RunReport.parse(self._get(f"/runs/{run}/report"), "report")

    def post_events(self, run: str, run_token: str, events: Sequence[NumberedEvent]) -> None:
        """Deliver events in order with the run's own token; numbers already known are ignored."""
        for start in range(0, len(events), EVENTS_A_POST):
            body = _EVENTS.dump_json(list(events[start : start + EVENTS_A_POST]))
            self._send(
                "POST",
                f"/runs/{run}/events",
                content=body,
                headers={"Authorization": f"Bearer {run_token}", "Content-Type": "application/json"},
            )

    def download_model(self, run: str, out: Path) -> int:
        """Write the run's final model (safetensors) to `out`, by way of a neighbour; returns its bytes."""
        part = out.with_name(f".{out.name}.part")
        with _problems(self.url), self._http.stream("GET", f"/runs/{run}/model") as response:
            if response.is_error:
                response.read()
                raise _error(response)
            with part.open("wb") as file:
                for chunk in response.iter_bytes(CHUNK):
                    file.write(chunk)
        part.replace(out)
        return out.stat().st_size

    def _get(self, path: str) -> bytes:
        return self._send("GET", path)

    def _post(self, path: str, body: Document | None = None) -> bytes:
        content = body.model_dump_json().encode() if body is not None else None
        return self._send("POST", path, content=content, headers={"Content-Type": "application/json"})

    def _send(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = SECONDS,
    ) -> bytes:
        with _problems(self.url):
            response = self._http.request(method, path, content=content, headers=headers, timeout=timeout)
        if response.is_error:
            raise _error(response)
        return response.content


def _trust(url: str, ca: Path | None) -> ssl.SSLContext | bool:
    if not url.startswith("https://"):
        return True
    if ca is not None and not ca.is_file():
        raise InputError(f"CA file {ca} does not exist: name the consortium's CA with --ca")
    return ssl.create_default_context(cafile=str(ca) if ca is not None else None)


@contextmanager
def _problems(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise ProcessFailed(
            f"the API at {url} does not answer ({type(error).__name__}: {error}): is `consilium api` running?"
        ) from None
    except httpx.InvalidURL as error:
        raise InputError(f"API address {url!r} is not a URL ({error}): set CONSILIUM_API_URL") from None


def _error(response: httpx.Response) -> ConsiliumError:
    """The error behind a problem body, by its HTTP status."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return ProcessFailed(f"{response.request.url}: HTTP {response.status_code} that is no answer of ours")
    if response.status_code in (401, 403):
        return Refused(problem.error, problem.detail)
    kind = {404: NotFound, 409: Conflict, 413: InputError, 422: InputError}.get(response.status_code)
    return kind(problem.detail) if kind else ProcessFailed(problem.detail)


def _read(adapter: TypeAdapter[T], body: bytes, what: str) -> T:
    try:
        return adapter.validate_json(body, strict=False)
    except ValidationError as error:
        raise InputError(
            f"{what}: the API's answer breaks the contract ({error.error_count()} errors)"
        ) from None
