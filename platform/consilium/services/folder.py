"""The folder of a run: what the launcher writes for the aggregator, and what the aggregator leaves there.

The aggregator holds a lock on `lock` as long as it lives, and Flower's id of its run stands in that file. So
two never work in one folder, and its death is seen at once by anybody on the same machine.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import IO, Literal

from pydantic import ValidationError

from consilium.contracts.charter import Charter
from consilium.contracts.home import Home
from consilium.contracts.reports import NumberedEvent
from consilium.errors import ProcessFailed
from consilium.files import write_atomic, write_secret

log = logging.getLogger(__name__)


def prepare_folder(home: Home, run_id: str, charter: Charter, nodes: dict[str, str]) -> None:
    """Write what the ServerApp reads into `runs/<run>`; a launch always has a fresh token.

    An earlier launch that still lives can thus no longer post events. Raises `OSError`.
    """
    folder = home.run(run_id)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "charter.json", charter.canonical())
    write_atomic(folder / "nodes.json", json.dumps(nodes, sort_keys=True).encode())
    write_secret(folder / "token", secrets.token_urlsafe(32).encode())
    initial = folder / "initial.safetensors"
    if not initial.exists():
        _link_or_copy(home.model(charter.model.initial), initial)


def read_journal(folder: Path) -> list[NumberedEvent]:
    """The events in `events.jsonl`; lines that a crash cut off are left out, a missing file is empty."""
    path = folder / "events.jsonl"
    events = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            events.append(NumberedEvent.model_validate_json(line))
        except ValidationError:
            log.warning("%s: a line is not an event and is left out", path.name)
    return events


def enter(folder: Path, flower_run: str, seconds: float) -> IO[str]:
    """Take the folder's lock for the aggregator of this Flower run; closing the file gives it back.

    Raises:
        ProcessFailed: another aggregator is alive and does not end within so many seconds. A SuperLink that
            was killed may leave one behind.
    """
    file = (folder / "lock").open("a+")
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > end:
                file.close()
                text = f"run folder {folder.name}: another aggregator works in it; stop that process"
                raise ProcessFailed(text) from None
            time.sleep(0.2)
    file.seek(0)
    file.truncate()
    file.write(flower_run)
    file.flush()
    return file


def aggregator(folder: Path, flower_run: str) -> Literal["not yet", "alive", "gone"]:
    """What has become of the aggregator of this Flower run, by its lock."""
    try:
        with (folder / "lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return "alive" if file.read() == flower_run else "not yet"
            return "gone" if file.read() == flower_run else "not yet"
    except FileNotFoundError:
        return "not yet"


def _link_or_copy(source: Path, target: Path) -> None:
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
    part.replace(target)
