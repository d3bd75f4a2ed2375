"""The house keeps its shape: rooms, names, imports that no linter of ours can express."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("platform", "sites", "aggregator", "ui")
SOURCES = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("room", ROOMS)
def test_a_source_root_is_never_a_package(room: str) -> None:
    assert not (ROOT / room / "__init__.py").exists(), f"{room}/__init__.py would hide other modules"


def test_the_standard_library_platform_survives_the_repo_root() -> None:
    code = "import platform, sys; sys.exit(0 if platform.python_version() else 1)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_each_source_root_holds_one_package() -> None:
    held = {room: sorted(p.parent.name for p in (ROOT / room).glob("*/__init__.py")) for room in ROOMS}
    assert held == {
        "platform": ["consilium"],
        "sites": ["consilium_site"],
        "aggregator": ["consilium_aggregator"],
        "ui": ["consilium_ui"],
    }


def test_no_module_of_the_portal_bears_a_standard_library_name() -> None:
    names = {path.stem for path in (ROOT / "ui" / "consilium_ui").rglob("*.py")} - {"__init__"}
    assert not names & set(sys.stdlib_module_names)


def test_only_the_hospital_uses_the_data_half_of_monai() -> None:
    forbidden = ("nibabel", "pydicom", "monai.data", "monai.transforms", "monai.apps", "monai.bundle")
    guilty = [
        f"{path}: {name}"
        for path in SOURCES
        if "consilium_site" not in path.parts
        for name in imports(path)
        if name.startswith(forbidden)
    ]
    assert not guilty


def test_flwr_is_imported_only_where_it_is_wrapped() -> None:
    allowed = {"flower", "relay.py", "client_app.py", "server_app.py", "transport.py"}
    guilty = [
        path
        for path in SOURCES
        if any(name.split(".")[0] == "flwr" for name in imports(path))
        and not allowed & {path.name, path.parent.name}
    ]
    assert not guilty


def test_nothing_is_unpickled_and_no_process_is_insecure() -> None:
    for path in SOURCES:
        text = path.read_text()
        assert "--insecure" not in text, path
        assert not {"pickle", "dill", "joblib"} & {name.split(".")[0] for name in imports(path)}, path
        assert "torch.load" not in text, path


def test_files_and_functions_stay_readable() -> None:
    long = []
    for path in SOURCES:
        if "migrations" in path.parts:
            continue
        tree = ast.parse(path.read_text())
        if len(path.read_text().splitlines()) > 350:
            long.append(str(path))
        for node in ast.walk(tree):
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if function and node.end_lineno - node.lineno + 1 > 60:
                long.append(f"{path}:{node.name}")
    assert not long


def test_the_base_install_is_small_and_extras_are_as_documented() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = {requirement.split(">")[0] for requirement in project["dependencies"]}
    assert base == {"pydantic", "typer", "rich", "rfc8785", "cryptography", "numpy"}
    extras = set(project["optional-dependencies"])
    assert extras == {"api", "vault", "relay", "aggregator", "ui", "simulation", "demo", "bench", "dev"}
    assert not any(
        "torch" in r or "monai" in r or "nibabel" in r for r in project["optional-dependencies"]["relay"]
    )


@pytest.mark.parametrize("script", ["consilium", "consilium-site"])
def test_help_is_quick(script: str) -> None:
    """Best of five, so that a busy machine does not fail it; the budget is half a second."""
    import time

    best = 10.0
    for _ in range(5):
        start = time.monotonic()
        subprocess.run([Path(sys.executable).parent / script, "--help"], check=True, capture_output=True)
        best = min(best, time.monotonic() - start)
    assert best < 0.5
