"""Every error leaves as a `Problem`: a coded class and a sentence with the remedy, never a traceback."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from consilium.contracts.api import Problem
from consilium.errors import (
    Conflict,
    ConsiliumError,
    InputError,
    NotFound,
    ProcessFailed,
    Refused,
)

CODES: tuple[tuple[type[ConsiliumError], int, str], ...] = (
    (NotFound, 404, "not_found"),
    (Conflict, 409, "conflict"),
    (Refused, 403, "refused"),
    (InputError, 422, "invalid_input"),
    (ProcessFailed, 502, "process_failed"),
    (ConsiliumError, 500, "internal_error"),
)
WORDS = {401: "unauthorised", 404: "not_found", 405: "method_not_allowed", 400: "bad_request"}


def problem_response(
    status: int, error: str, detail: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """A `Problem` as a response."""
    body = Problem(error=error, detail=detail).model_dump(mode="json")
    return JSONResponse(body, status, headers=dict(headers) if headers else None)


def install(app: FastAPI) -> None:
    """Turn every exception of a route into a problem."""
    app.add_exception_handler(ConsiliumError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unknown)


async def _known(_request: Request, error: Exception) -> JSONResponse:
    status, code = next((status, code) for kind, status, code in CODES if isinstance(error, kind))
    return problem_response(status, error.reason if isinstance(error, Refused) else code, str(error))


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    parts = []
    for item in error.errors()[:4] if isinstance(error, RequestValidationError) else []:
        where = ".".join(str(part) for part in item["loc"])
        parts.append(f"{where}: {item['msg']}")
    return problem_response(422, "invalid_input", "; ".join(parts) + ". Correct it and send it again")


async def _http(_request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = str(error.detail) if isinstance(error, HTTPException) else ""
    headers = error.headers if isinstance(error, HTTPException) else None
    return problem_response(status, WORDS.get(status, "http_error"), detail, headers)


async def _unknown(_request: Request, _error: Exception) -> JSONResponse:
    text = "the platform failed in a way that it did not expect; its log has the detail"
    return problem_response(500, "internal_error", text)
