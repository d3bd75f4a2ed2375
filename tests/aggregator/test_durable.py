"""Checkpoints and journal survive what crashes leave behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from consilium.contracts.reports import NumberedEvent, RunFailed, RunStarted
from consilium.errors import InputError, ProcessFailed
from consilium.files import sha256_hex, write_atomic
from consilium_aggregator.checkpoints import KEEP, Checkpoint, Checkpoints, ClosedRound
from consilium_aggregator.journal import FileJournal

CHARTER = "c" * 64


def checkpoint(round_number: int) -> Checkpoint:
    model = np.full(5, round_number, np.float32)
    closed = ClosedRound(
        charter=CHARTER,
        round=round_number,
        survivors=("a", "b"),
        model=sha256_hex(model.tobytes()),
        certificate=(),
    )
    return Checkpoint(closed, model, np.arange(11, dtype=np.uint32))


def test_the_newest_readable_checkpoint_counts_and_old_ones_go(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    assert store.latest(CHARTER) is None
    for number in range(1, 6):
        store.save(checkpoint(number))
    assert len(list(tmp_path.glob("round-*"))) == KEEP
    found = store.latest(CHARTER)
    assert found is not None
    assert found.closed.round == 5
    path = tmp_path / "round-00005.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    older = store.latest(CHARTER)
    assert older is not None
    assert older.closed.round == 4


def test_a_checkpoint_of_another_charter_or_with_another_model_is_refused(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    store.save(checkpoint(1))
    with pytest.raises(InputError, match="another charter"):
        store.latest("d" * 64)
    good = checkpoint(2)
    store.save(Checkpoint(good.closed, good.model + 1, good.total))
    with pytest.raises(InputError, match="changed"):
        store.latest(CHARTER)


def test_attempt_numbers_are_remembered_per_round(tmp_path: Path) -> None:
    store = Checkpoints(tmp_path)
    assert store.last_attempt(1) == 0
    store.note_attempt(3, 2)
    assert (store.last_attempt(3), store.last_attempt(4)) == (2, 0)


def test_events_wait_for_a_silent_api_and_numbers_go_on_after_a_crash(tmp_path: Path) -> None:
    path, taken, up = tmp_path / "events.jsonl", [], False

    def post(events: list[NumberedEvent]) -> None:
        if not up:
            raise ProcessFailed("no API")
        taken.extend(events)

    journal = FileJournal(path, post)
    journal.tell(RunStarted(sites=("a", "b"), rounds=2))
    journal.deliver()
    assert not taken
    path.write_text(path.read_text() + '{"number": 2, "half')
    up = True
    again = FileJournal(path, post)
    again.tell(RunFailed(text="later"))
    assert again.drain(5.0)
    assert [(event.number, event.event.kind) for event in taken] == [(1, "run_started"), (2, "run_failed")]
    assert len(path.read_text().splitlines()) == 2


def test_an_atomic_write_leaves_the_old_file_if_it_cannot_finish(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    with pytest.raises(TypeError):
        write_atomic(path, "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
