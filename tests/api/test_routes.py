"""Who may call what, and what an error looks like."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
from fastapi.routing import iter_route_contexts

from consilium.contracts.api import Problem
from control_plane import ControlPlane


@pytest.fixture
def plane(tmp_path: Path) -> ControlPlane:
    return ControlPlane(tmp_path)


def _calls(plane: ControlPlane) -> list[tuple[str, str]]:
    values = {"study": "0" * 64, "run": "r00000000", "site": "site-a"}
    return [
        (method, re.sub(r"{(\w+)}", lambda found: values[found[1]], route.path))
        for route in iter_route_contexts(plane.app.routes)
        for method in route.methods
    ]


@pytest.mark.parametrize("token", [None, "", "wrong", "Bearer", "naïve"])
def test_every_route_but_health_needs_the_token(plane: ControlPlane, token: str | None) -> None:
    calls = _calls(plane)
    assert len(calls) >= 20
    plane.http.headers.pop("Authorization")
    headers = {} if token is None else {"Authorization": f"Bearer {token}".encode()}
    for method, path in calls:
        answer = plane.http.request(method, path, headers=headers)
        if path == "/health":
            assert answer.status_code == 200
            continue
        assert answer.status_code == 401, (method, path, answer.text)
        assert Problem.model_validate_json(answer.content).error == "unauthorised"
        assert answer.headers["www-authenticate"] == "Bearer"


def test_the_token_is_made_once_and_is_private(plane: ControlPlane) -> None:
    token = plane.home.token.read_text()
    assert len(token) >= 43
    assert stat.S_IMODE(plane.home.token.stat().st_mode) == 0o600
    plane.restart()
    assert plane.home.token.read_text() == token


def test_a_run_token_opens_only_its_own_events(plane: ControlPlane) -> None:
    run = plane.launch()
    token = (plane.home.run(run) / "token").read_text()
    assert stat.S_IMODE((plane.home.run(run) / "token").stat().st_mode) == 0o600
    assert plane.tell(run, [], token).status_code == 204
    assert plane.http.get(f"/runs/{run}", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert plane.tell(run, [], plane.home.token.read_text()).status_code == 401


@pytest.mark.parametrize(
    "path", ["/runs/..%2fplatform/events", "/runs/%2e%2e/events", "/runs/../platform/events"]
)
def test_no_path_leads_out_of_the_runs_folder(plane: ControlPlane, path: str) -> None:
    token = plane.home.token.read_text()
    answer = plane.http.post(path, content="[]", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code in (404, 405, 422)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "error"),
    [
        ("GET", "/nowhere", None, 404, "not_found"),
        ("DELETE", "/sites", None, 405, "method_not_allowed"),
        ("GET", "/sites/nobody", None, 404, "not_found"),
        ("GET", "/studies/" + "0" * 64, None, 404, "not_found"),
        ("GET", "/runs/r0/model", None, 404, "not_found"),
        ("GET", "/studies/short", None, 422, "invalid_input"),
        ("POST", "/sites", b"{", 422, "invalid_input"),
        ("POST", "/sites", b'{"site": "a", "extra": 1}', 422, "invalid_input"),
        ("POST", "/studies", b"[" * 100_000, 400, "bad_request"),
        ("POST", "/sites", b" " * (1 << 20) + b"{}", 413, "too_large"),
        ("POST", "/runs/r0/events", b" " * (8 << 20) + b"[]", 413, "too_large"),
    ],
)
def test_errors_are_problems(
    plane: ControlPlane, method: str, path: str, body: bytes | None, status: int, error: str
) -> None:
    answer = plane.http.request(method, path, content=body)
    assert answer.status_code == status, answer.text
    problem = Problem.model_validate_json(answer.content)
    assert problem.error == error
    assert len(problem.detail) > 8


def test_a_body_of_unannounced_size_is_cut_off(plane: ControlPlane) -> None:
    chunks = (b" " * 65536 for _ in range(40))
    assert plane.http.post("/sites", content=chunks).status_code == 413


def test_an_unexpected_error_says_nothing_of_itself(
    plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fall(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("consilium.api.sites.all_sites", fall)
    answer = plane.http.get("/sites")
    assert answer.status_code == 500
    assert Problem.model_validate_json(answer.content).error == "internal_error"
    assert "secret" not in answer.text


def test_openapi_is_complete(plane: ControlPlane) -> None:
    schema = plane.http.get("/openapi.json").json()
    assert schema["info"]["title"] == "Consilium"
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], (method, path)
            assert operation["tags"], (method, path)
            assert path == "/health" or operation["security"], (method, path)
    described = {route.path for route in iter_route_contexts(plane.app.routes)}
    assert set(schema["paths"]) == described - {"/openapi.json"}
