"""The folder of a run: what the launcher writes for the aggregator, and what the aggregator leaves there."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
from pathlib import Path

from pydantic import ValidationError

from consilium.contracts.charter import Charter
from consilium.contracts.home import Home
from consilium.contracts.reports import NumberedEvent
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


def _link_or_copy(source: Path, target: Path) -> None:
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
    part.replace(target)
