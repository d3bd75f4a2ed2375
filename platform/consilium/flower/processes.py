"""Command lines and environment of the Flower processes that stand on a machine of ours.

TLS and node authentication are always on; nothing here can be made insecure.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from consilium.errors import InputError, ProcessFailed
from consilium.files import write_atomic

CONNECTION = "consilium"
BIN = Path(sys.executable).parent
TASK_POLL_SECONDS = "0.3"


@dataclass(frozen=True)
class Tls:
    """Paths of a server's certificate and key and of the CA that signed it (PEM)."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True)
class Simulated:
    """Size of a simulation: `sites` nodes, served by `workers` processes of one core each."""

    sites: int
    workers: int


def environment(flower_home: Path, **extra: str) -> dict[str, str]:
    """The environment of a Flower process: our `bin` first on PATH, telemetry off, FLWR_HOME its own."""
    return {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
        "FLWR_HOME": str(flower_home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": TASK_POLL_SECONDS,
        "PYTHONUNBUFFERED": "1",
        "MALLOC_ARENA_MAX": "2",  # else glibc keeps an arena a thread: a fifth more memory, no faster
        **extra,
    }


def superlink_command(tls: Tls, database: Path, port: int, *, simulation: bool = False) -> list[str]:
    """SuperLink with TLS and node authentication on loopback (the proxy publishes `/v1/fleet/` only).

    With `simulation` it runs simulations instead: there are no SuperNodes, so none to authenticate.
    """
    return [
        str(BIN / "flower-superlink"),
        *("--ssl-certfile", str(tls.certificate)),
        *("--ssl-keyfile", str(tls.key)),
        *("--ssl-ca-certfile", str(tls.ca)),
        *("--database", str(database)),
        *("--host", "127.0.0.1"),
        *("--port", str(port)),
        "--simulation" if simulation else "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
    ]


def supernode_arguments(
    *, superlink: str, root_ca: Path, node_key: Path, runtime_port: int, runtime_tls: Tls, secret: Path
) -> list[str]:
    """Arguments of a SuperNode whose Runtime API asks for TLS and the secret in `secret`."""
    return [
        *("--superlink", superlink),
        *("--root-certificates", str(root_ca)),
        *("--auth-supernode-private-key", str(node_key)),
        *("--isolation", "process"),
        *("--host", "127.0.0.1"),
        *("--port", str(runtime_port)),
        *("--ssl-certfile", str(runtime_tls.certificate)),
        *("--ssl-keyfile", str(runtime_tls.key)),
        *("--ssl-ca-certfile", str(runtime_tls.ca)),
        *("--superexec-auth-secret-file", str(secret)),
    ]


def write_connection(flower_home: Path, superlink: str, ca: Path, simulated: Simulated | None = None) -> None:
    """Write `config.toml` with our connection to the SuperLink's Control API (loopback, TLS)."""
    text = (
        f'[superlink]\ndefault = "{CONNECTION}"\n\n'
        f'[superlink.{CONNECTION}]\naddress = "{superlink}"\nroot-certificates = "{ca}"\n'
    )
    if simulated is not None:
        text += (
            f"options.num-supernodes = {simulated.sites}\n"
            "options.backend.client-resources.num-cpus = 1\n"
            f"options.backend.init-args.num-cpus = {simulated.workers}\n"
        )
    write_atomic(flower_home / "config.toml", text.encode(), mode=0o600)


def flwr_json(flower_home: Path, *arguments: str, seconds: float = 60.0) -> dict[str, object]:
    """Run a `flwr` command with `--format json` and return its object.

    Raises:
        ProcessFailed: it ran too long, printed no JSON, or said `success: false`; carries Flower's text.
    """
    command = [str(BIN / "flwr"), *arguments, "--format", "json"]
    try:
        done = subprocess.run(
            command,
            env=environment(flower_home),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProcessFailed(
            f"flwr {arguments[0]}: no answer in {seconds:.0f} s; is SuperLink running?"
        ) from None
    start = done.stdout.find("{")
    try:
        answer = json.loads(done.stdout[start:]) if start >= 0 else None
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or answer.get("success") is False:
        told = answer.get("error-message") if isinstance(answer, dict) else None
        text = str(told or done.stderr or done.stdout).strip()[-400:]
        raise ProcessFailed(f"flwr {arguments[0]} failed (exit code {done.returncode}): {text}")
    return answer


def register_node(flower_home: Path, public_key: Path, name: str) -> int:
    """Register a SuperNode's public key with the SuperLink and return the node id that Flower gives it."""
    answer = flwr_json(flower_home, "supernode", "register", str(public_key), CONNECTION, "--name", name)
    node = answer.get("node-id")
    if not isinstance(node, int | str):
        raise ProcessFailed(f"flwr supernode register: no node-id in {answer}")
    return int(node)


def check_installed() -> None:
    """Raise `InputError` with the remedy if Flower's commands are not beside this Python."""
    for name in ("flower-superlink", "flower-supernode", "flwr"):
        if not (BIN / name).exists() and shutil.which(name) is None:
            raise InputError(
                f"{name} is not installed beside {sys.executable}: pip install 'consilium[demo]'"
            )
