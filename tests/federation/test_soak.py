"""Soak: many short runs with random absences, silence, refusals and restarts of both sides."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from consilium.contracts.envelope import unpack
from consilium.contracts.reports import RoundClosed, RunFinished
from consilium.learning.parameters import read_model
from consilium_aggregator.run import Run
from support import SITES, MemoryConsortium


def disturb(consortium: MemoryConsortium, rng: random.Random) -> None:
    """At most two of four sites absent or silent; now and then a site restarts."""
    troubled = rng.sample(SITES, rng.randint(0, 2))
    consortium.transport.away = {site for site in troubled if rng.random() < 0.5}
    consortium.transport.silent = set(troubled) - consortium.transport.away
    for site in SITES:
        if rng.random() < 0.2:
            consortium.sites[site].ledger.close()
            consortium.sites[site].open()


def run_disturbed(consortium: MemoryConsortium, rng: random.Random) -> int:
    """Attempts until the run has finished, with a crash of the aggregator now and then."""
    run: Run = consortium.run()
    attempts = 0
    while run.state.phase != "finished":
        if run.state.phase == "failed" or rng.random() < 0.15:
            run = consortium.run()
            run.finish_asked(0.0)
            if run.state.phase == "finished":
                break
        disturb(consortium, rng)
        run.attempt(0.0)
        attempts += 1
        assert attempts < 200
    return attempts


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(100))
def test_disturbed_runs_finish_with_one_model_everywhere(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    consortium = MemoryConsortium(tmp_path, rounds=8, size=50, deadline=5.0)
    run_disturbed(consortium, rng)
    closed = consortium.journal.of(RoundClosed)
    assert [event.round for event in closed] == list(range(1, 9))
    assert all(len(event.participants) >= 2 for event in closed)
    finished = consortium.journal.of(RunFinished)[-1]
    final = read_model(consortium.folder / "checkpoints" / f"{finished.file}.safetensors").parameters
    for site in finished.signed_by:
        path = consortium.sites[site].home.runs / "run-1" / "model-00009.safetensors"
        assert unpack(path.read_bytes(), "model").arrays["model"].tobytes() == final.tobytes()
    jobs = [(site, tag) for site, tag, _ in consortium.transport.orders if tag[2] in ("train", "finish")]
    assert len(jobs) == len(set(jobs))
