"""A million rounds of the real state machines over an unreliable network, each run compared with a calm one.

No wrong sum, one sum a model, no key used twice, no share of both kinds: held against every message as it
leaves. At the end sums and models are bit-equal to those of a run in which nothing is lost or masked.
"""

from __future__ import annotations

import multiprocessing
import random
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import million_vault
import numpy as np
import pytest
from million_network import CALM, Weather
from million_run import Launch, Simulation, batch

from consilium.learning import disclosure, site

PARTS, PART = 20, 50_000
"""A million rounds; each part is shared by two processes."""
ROUGH = Weather(lost=0.05, late=0.1, doubled=0.1, offline=0.05, vault_dies=0.02, server_dies=0.03)
EXPECTED = {
    "agreements",
    "answers sent again",
    "checkpoints taken",
    "failed",
    "late replies",
    "questions of an earlier launch",
    "refused: later_upload",
    "refused: no_keys",
    "refused: other_window",
    "refused: slot_used",
    "refused: stale_round",
    "vaults restarted",
}
"""What must have happened at least once, or the weather was too good."""


def simulation(seed: int, weather: Weather, sites: int = 4) -> Simulation:
    return Simulation(random.Random(seed), weather, sites, 4, 3)


def test_hundreds_of_rounds_in_all_weathers() -> None:
    counts = batch(0, 600)
    assert counts["rounds"] >= 600
    assert set(counts) >= EXPECTED, EXPECTED - set(counts)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_million_rounds(part: int, capsys: pytest.CaptureFixture[str]) -> None:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        seeds = [1 + 2 * part, 2 + 2 * part]
        counts = sum(pool.map(batch, seeds, [PART // 2] * 2), Counter[str]())
    with capsys.disabled():
        print(
            f"\npart {part + 1} of {PARTS}:", ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))
        )
    assert counts["rounds"] >= PART
    assert set(counts) >= EXPECTED


@pytest.mark.parametrize("sites", [3, 4, 7, 10])
def test_in_calm_weather_nothing_is_refused_and_nothing_sent_twice(sites: int) -> None:
    world = simulation(0, CALM, sites)
    world.run()
    world.undisturbed()
    assert (world.launches, world.rounds, world.counts["attempts"]) == (1, 5, 5)
    assert not world.seen.counts
    assert all(len(each.survivors) == sites for each in world.disk.closed)


def test_the_same_seed_gives_the_same_run() -> None:
    one, other = simulation(3, ROUGH), simulation(3, ROUGH)
    for each in (one, other):
        each.run()
    assert (one.counts, one.seen.counts, one.now) == (other.counts, other.seen.counts, other.now)
    assert [each.total.tobytes() for each in one.disk.closed] == [
        e.total.tobytes() for e in other.disk.closed
    ]


def disturbed(plays: int = 60, compared: bool = True) -> None:
    for seed in range(plays):
        world = simulation(seed, ROUGH)
        world.run()
        if compared:
            world.undisturbed()


def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vaults forget which models they opened."""
    answer = disclosure._answer

    def forgets(state: Any, question: Any, survivors: Any) -> Any:
        after, effects = answer(state, question, survivors)
        return replace(after, opened={}), effects

    monkeypatch.setattr(disclosure, "_answer", forgets)


def test_vaults_stop_a_server_that_retries_what_it_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Launch, "_finish_asked", lambda self: None)
    with pytest.raises(AssertionError, match="must finish"):
        disturbed()


def test_without_the_vaults_memory_such_a_server_opens_two_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Launch, "_finish_asked", lambda self: None)
    forgetful(monkeypatch)
    with pytest.raises(AssertionError, match="two sums of model"):
        disturbed()


class Restless:
    """Training that comes out differently each time."""

    def __init__(self) -> None:
        self.encoded, self.rng = million_vault.encoded, random.Random(0)

    def __call__(self, *told: Any) -> Any:
        upload = self.encoded(*told)
        upload[0] += np.uint32(self.rng.randrange(2))
        return upload


def test_other_updates_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(million_vault, "encoded", Restless())
    with pytest.raises(AssertionError):
        disturbed(3)


def test_keys_that_mask_two_vectors_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vaults that forget their answers, and train anew for an order that comes twice."""

    def forgets(state: Any, event: Any) -> Any:
        return (state, ()) if isinstance(event, site.Done) else site.step(state, event)

    monkeypatch.setattr(million_vault, "encoded", Restless())
    monkeypatch.setattr(million_vault, "machine", SimpleNamespace(**{**vars(site), "step": forgets}))
    with pytest.raises(AssertionError, match="masked two vectors"):
        disturbed(compared=False)
