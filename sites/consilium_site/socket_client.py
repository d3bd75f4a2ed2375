"""HTTP over the vault's Unix sockets, for the relay and for the site admin's commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from consilium.errors import InputError, ProcessFailed

ANSWER_SLACK = 15.0


class VaultClient:
    """Requests to one vault socket.

    Raises:
        ProcessFailed: the vault does not answer (not running, or gone in the middle).
        InputError: the vault understood and said what is wrong; carries its words.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://vault", timeout=30.0
        )

    def get(self, path: str) -> Any:
        """GET a JSON document."""
        return self._request("GET", path, None, 30.0).json()

    def post(self, path: str, body: bytes) -> Any:
        """POST bytes, get JSON."""
        return self._request("POST", path, body, 30.0).json()

    def job(self, blob: bytes, seconds: float) -> bytes:
        """Hand over an order and wait for its answer, a little longer than the order's own limit."""
        return self._request("POST", "/jobs", blob, seconds + ANSWER_SLACK).content

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _request(self, method: str, path: str, body: bytes | None, seconds: float) -> httpx.Response:
        try:
            response = self._http.request(method, path, content=body, timeout=seconds)
        except httpx.HTTPError as error:
            raise ProcessFailed(
                f"vault at {self.socket}: no answer ({type(error).__name__}); is `consilium-site up` running?"
            ) from None
        if response.status_code >= 400:
            raise InputError(_detail(response))
        return response


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the vault answered {response.status_code}"
