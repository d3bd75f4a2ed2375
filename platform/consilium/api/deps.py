"""What a route asks for: the platform's parts, and who is calling."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from consilium.contracts.base import RunId
from consilium.contracts.home import Home
from consilium.services.launcher import Launcher
from consilium.store.database import Database


@dataclass(frozen=True)
class Platform:
    """The parts of one API process, made in `create_app`."""

    home: Home
    database: Database
    launcher: Launcher
    token: str


def get_platform(request: Request) -> Platform:
    """The parts that this process was made of."""
    platform: Platform = request.app.state.platform
    return platform


Parts = Annotated[Platform, Depends(get_platform)]
Bearer = Annotated[
    HTTPAuthorizationCredentials | None,
    Depends(HTTPBearer(auto_error=False, description="the token in `$CONSILIUM_HOME/platform/token`")),
]


def need_token(parts: Parts, bearer: Bearer) -> None:
    """Let the platform's own token pass and nothing else."""
    if not _same(bearer, parts.token):
        raise _unauthorised("send `Authorization: Bearer` with the token in $CONSILIUM_HOME/platform/token")


def need_run_token(run: RunId, parts: Parts, bearer: Bearer) -> None:
    """Let the run's own token pass, as its present launch holds it, and nothing else."""
    path = parts.home.run(run) / "token"
    if not path.is_file() or not _same(bearer, path.read_text()):
        raise _unauthorised(f"events of run {run!r} need the token in $CONSILIUM_HOME/runs/<run>/token")


def _same(bearer: HTTPAuthorizationCredentials | None, token: str) -> bool:
    if bearer is None or not token.strip():
        return False
    return secrets.compare_digest(bearer.credentials.encode(), token.strip().encode())


def _unauthorised(detail: str) -> HTTPException:
    return HTTPException(401, detail, headers={"WWW-Authenticate": "Bearer"})
