"""Starts processes, keeps their logs, waits until they are ready, restarts them, stops them by pid."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from consilium.errors import ProcessFailed

STOP_SECONDS = 8.0


@dataclass
class Child:
    """One process and how to start it again. Its output goes to `log`."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0

    def start(self) -> None:
        """Start it in a session of its own, so that a terminal's Ctrl-C reaches only its supervisor."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                list(self.command),
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """True while it runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """SIGTERM, then SIGKILL to its whole session after `seconds`; nothing it started stays.

        Flower starts helpers in sessions of their own, so what was below it is ended by pid as well.
        """
        process = self.process
        if process is None:
            return
        below = descendants(process.pid)
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        process.wait()
        for pid, started in below.items():
            if started and _started(pid) == started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def last_words(self, lines: int = 12) -> str:
        """The end of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def descendants(pid: int) -> dict[int, str]:
    """Processes below `pid` with their start times (a pid may be used again); empty where /proc is not."""
    found: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found |= {child: _started(child), **descendants(child)}
    return found


def _started(pid: int) -> str:
    """The start time of a process in clock ticks since boot; '' if it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def wait_until(ready: Callable[[], bool], what: str, seconds: float, children: Sequence[Child] = ()) -> None:
    """Wait until `ready()`; polls ten times a second.

    Raises:
        ProcessFailed: a child ended meanwhile, or the time is up; carries the end of that child's log.
    """
    end = time.monotonic() + seconds
    while not ready():
        for child in children:
            if not child.alive:
                raise ProcessFailed(f"{child.name} ended while waiting for {what}:\n{child.last_words()}")
        if time.monotonic() > end:
            words = "\n".join(child.last_words() for child in children)
            raise ProcessFailed(f"{what}: not ready after {seconds:.0f} s\n{words}")
        time.sleep(0.1)


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and Ctrl-C set instead of ending the process. Main thread only."""
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    return stop


def free_ports(count: int) -> list[int]:
    """Free TCP ports on loopback, all different; another process could still take one first."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def listens(port: int) -> bool:
    """True if something accepts connections on this loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def supervise(children: Sequence[Child], stopped: Callable[[], bool], told: Callable[[str], None]) -> None:
    """Restart children that end, waiting 1, 2, 4 … 30 s in between, until `stopped()`; then stop them all."""
    due = {child.name: 0.0 for child in children}
    while not stopped():
        for child in children:
            if child.alive:
                continue
            if due[child.name] == 0.0:
                wait = min(30.0, 2.0**child.restarts)
                due[child.name] = time.monotonic() + wait
                told(f"{child.name} ended; starting it again in {wait:.0f} s (its log: {child.log})")
            elif time.monotonic() >= due[child.name]:
                child.restarts, due[child.name] = child.restarts + 1, 0.0
                child.start()
        time.sleep(0.2)
    for child in reversed(children):
        child.stop()
