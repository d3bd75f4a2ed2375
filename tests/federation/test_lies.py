"""The ablation table of lies: the last column is zero, and each layer stops what the one before lets pass."""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from typing import Any

import lie_sites
import lies
import pytest
from lie_arithmetic import QuickTagger
from lie_kinds import LIES, LIMITS, Lie
from lie_server import Server
from lie_sites import COMPARE, LAYERS, ONLY_TAGS, SUMS

from consilium.contracts.masked import Transcript
from consilium.learning import disclosure
from consilium.vocabulary import Refusal

ROUNDS = 20
STOPPED_BY_THE_THRESHOLD = {"two survivor sets"}
"""Succeeds at no layer: 2T > N + c is in all of them."""


@pytest.fixture(scope="module")
def counts() -> lies.Counts:
    return lies.count(LIES, ROUNDS)


def wrong(name: str, layer: int, plays: int = 5) -> int:
    (lie,) = (each for each in LIES if each.name == name)
    return lies.count([lie], plays)[name][layer]


def test_no_lie_opens_a_wrong_sum_against_all_layers(counts: lies.Counts) -> None:
    assert {name: found[SUMS] for name, found in counts.items()} == dict.fromkeys(counts, 0)


def test_there_are_many_different_lies_and_the_first_layer_stops_nearly_none(counts: lies.Counts) -> None:
    assert len(LIES) == len(counts) >= 30
    assert {name for name, found in counts.items() if not found[ONLY_TAGS]} == STOPPED_BY_THE_THRESHOLD


@pytest.mark.parametrize("layer", list(LAYERS)[1:])
def test_every_layer_stops_lies_that_the_one_before_lets_pass(counts: lies.Counts, layer: int) -> None:
    stopped = [name for name, found in counts.items() if found[layer - 1] and not found[layer]]
    assert len(stopped) >= 5
    assert all(found[layer] <= found[layer - 1] for found in counts.values())


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("helped", [False, True])
def test_rounds_by_the_book_close_and_nothing_is_wrong(layer: int, helped: bool) -> None:
    for seed in range(20):
        rng = random.Random(seed)
        server = Server(layer, rng.choice([4, 6, 9]), helped, rng)
        for number in range(4):
            spare = len(server.everyone) - server.bounds.least
            assert server.honest(lost=server.some(rng.randint(0, spare)))
            if number == 1:
                server.next_window()
        server.sweep()
        assert server.judge.right == 4
        assert not server.judge.wrong


def test_without_tags_a_changed_sum_is_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QuickTagger, "verify", lambda *_: True)
    assert wrong("changed sum", SUMS) == 5
    assert wrong("old sum as this rounds", SUMS) == 5


def test_without_comparing_transcripts_swapped_keys_show_one_site(monkeypatch: pytest.MonkeyPatch) -> None:
    objection = disclosure._objection

    def blind(state: Any, event: Any) -> Refusal | None:
        reason = objection(state, event)
        return None if reason is Refusal.OTHER_TRANSCRIPT else reason

    monkeypatch.setattr(disclosure, "_objection", blind)
    assert wrong("swapped keys for one", SUMS) == 5


def test_without_agreement_small_lies_about_the_missing_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, everyone = disclosure._answer, frozenset(range(100))

    def trusting(state: Any, question: Any, chosen: Any) -> Any:
        return answer(state, replace(question, agreed=everyone), chosen)

    monkeypatch.setattr(disclosure, "_answer", trusting)
    assert wrong("split survivor sets", SUMS) == 5


def test_without_remembered_models_a_second_sum_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = disclosure._answer

    def forgetful(state: Any, question: Any, chosen: Any) -> Any:
        after, effects = answer(state, question, chosen)
        return replace(after, opened={}), effects

    monkeypatch.setattr(disclosure, "_answer", forgetful)
    assert wrong("same model twice", COMPARE) == 5


def test_a_second_run_opens_a_second_sum_unless_models_are_remembered_for_all_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (second,) = (each for each in [*LIES, *LIMITS] if each.name == "a second run")
    monkeypatch.setattr(lie_sites, "OPENED_BY_RUN", True)
    assert lies.count([second], 5)["a second run"][SUMS] == 5
    monkeypatch.setattr(lie_sites, "OPENED_BY_RUN", False)
    assert lies.count([second], 5)["a second run"][SUMS] == 0


def test_transcripts_here_bind_the_fields_of_the_real_one() -> None:
    fields = ["charter", "run", "window", "setups", "slot", "kind", "round", "attempt", "model"]
    assert list(Transcript.model_fields) == fields


@pytest.mark.parametrize("status", [0, 1])
def test_the_script_prints_the_table_and_tells_by_its_exit_code(
    status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few: list[Lie] = [each for each in LIES if each.name in ("fork", "stale tags")]
    monkeypatch.setattr(lies, "LIES", few)
    monkeypatch.setattr(sys, "argv", ["lies.py", "--rounds", "2"])
    if status:
        monkeypatch.setattr(QuickTagger, "verify", lambda *_: True)
    assert lies.main() == status
    assert "stale tags" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_thousand_rounds_of_every_lie() -> None:
    counts = lies.count(LIES, 1000, first=ROUNDS)
    assert {name: found[SUMS] for name, found in counts.items()} == dict.fromkeys(counts, 0)
