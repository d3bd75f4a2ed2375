"""The portal's only way out: typed GETs to the platform's API, with the token and CA of the home.

Nothing here knows Streamlit. Every answer is parsed by its contract, so a page never meets a loose dict.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
from pydantic import TypeAdapter, ValidationError

from consilium.contracts.api import Problem, RunDetail, StudyDetail, StudyView
from consilium.contracts.home import Home
from consilium.errors import ConsiliumError, InputError, NotFound, ProcessFailed, Refused

SECONDS: Final = 5.0
MODEL_SECONDS: Final = 120.0
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")

_STUDIES: TypeAdapter[tuple[StudyView, ...]] = TypeAdapter(tuple[StudyView, ...])


class ApiClient:
    """Reads one API at `url`; safe to share between threads, so a download may run beside the page.

    Every call raises:
        NotFound, Refused (token), InputError: the API said no, in its own words.
        ProcessFailed: the API does not answer, or with something that is no answer of ours.
    """

    def __init__(self, url: str, token: str, ca: Path | None) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            verify=_trust(self.url, ca),
            timeout=SECONDS,
            trust_env=urlsplit(self.url).hostname not in LOOPBACK,
        )

    def studies(self) -> tuple[StudyView, ...]:
        """All studies, newest first, each with its runs, newest first."""
        try:
            return _STUDIES.validate_json(self._get("/studies"), strict=False)
        except ValidationError as error:
            raise InputError(
                f"studies: the API's answer breaks the contract ({error.error_count()} errors): portal and "
                "API must be of one version"
            ) from None

    def study(self, study: str) -> StudyDetail:
        """One study with its charter and each hospital's stand."""
        return StudyDetail.parse(self._get(f"/studies/{study}"), "study")

    def run(self, run: str) -> RunDetail:
        """Everything about one run."""
        return RunDetail.parse(self._get(f"/runs/{run}"), "run")

    def rounds(self, run: str, ending: str) -> bytes:
        """The run's rows as a file; `ending` is `csv` or `json`."""
        return self._get(f"/runs/{run}/rounds.{ending}")

    def model(self, run: str) -> bytes:
        """The final model as the bytes of a safetensors file; held in memory while it is handed on."""
        return self._get(f"/runs/{run}/model", MODEL_SECONDS)

    def _get(self, path: str, seconds: float = SECONDS) -> bytes:
        try:
            response = self._http.get(path, timeout=seconds)
        except httpx.TransportError as error:
            raise ProcessFailed(f"the API at {self.url} does not answer ({type(error).__name__})") from None
        if response.is_error:
            raise _error(response)
        return response.content


def connect(url: str, home: Home) -> ApiClient:
    """A client with the token and CA that lie in `home`.

    Raises:
        InputError: the token or the CA is not there yet; names the path and the command that makes it.
    """
    return ApiClient(url, read_token(home), home.tls / "ca.pem")


def read_token(home: Home) -> str:
    """The API's bearer token."""
    try:
        return home.token.read_text().strip()
    except OSError as error:
        raise InputError(
            f"the API's token {home.token} cannot be read ({error.strerror}): start `consilium api --home "
            f"{home.root}` first, under the same user"
        ) from None


def _trust(url: str, ca: Path | None) -> ssl.SSLContext | bool:
    if not url.startswith("https://"):
        return True
    if ca is None or not ca.is_file():
        raise InputError(
            f"the consortium's CA {ca} does not exist: start `consilium api` with the same --home"
        )
    return ssl.create_default_context(cafile=str(ca))


def _error(response: httpx.Response) -> ConsiliumError:
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return ProcessFailed(f"{response.request.url}: HTTP {response.status_code} that is no answer of ours")
    if response.status_code in (401, 403):
        return Refused(problem.error, problem.detail)
    return NotFound(problem.detail) if response.status_code == 404 else InputError(problem.detail)
