"""Each rule of disclosure, one refusal at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consilium.contracts.charter import colluding_bound, threshold
from consilium.learning.disclosure import (
    Agree,
    Bounds,
    Disclose,
    Mask,
    Order,
    Proposal,
    Question,
    Refuse,
    Remind,
    State,
    Window,
    step,
)
from consilium.vocabulary import Refusal


def bounds(sites: int) -> Bounds:
    return Bounds(sites, threshold(sites), colluding_bound(sites))


def uploaded(sites: int = 4, slot: int = 0, model: str = "m1") -> State:
    """Site 0 after its upload in `slot` of window 0, in which all take part."""
    state, _ = step(State(0, bounds(sites)), Window(0, frozenset(range(sites))))
    state, effects = step(state, Order(0, slot, f"t{slot}", model))
    assert effects == (Mask(slot),)
    return state


def ask(
    *survivors: int, slot: int = 0, transcript: str | None = None, agreed: tuple[int, ...] = ()
) -> Question:
    told = transcript or f"t{slot}"
    return Question(0, slot, dict.fromkeys(survivors, told), frozenset(agreed))


def refusal(state: State, event: object) -> Refusal:
    after, effects = step(state, event)  # type: ignore[arg-type]
    assert after == state, "a refusal changes nothing"
    (effect,) = effects
    assert isinstance(effect, Refuse), effect
    return effect.reason


@pytest.mark.parametrize(("sites", "free"), [(3, 0), (4, 1), (7, 1), (10, 2), (30, 5), (100, 17)])
def test_how_many_may_be_missing_freely(sites: int, free: int) -> None:
    assert bounds(sites).freely_missing == free


def test_a_threshold_that_allows_both_kinds_of_share_is_refused() -> None:
    with pytest.raises(ValueError, match="2T > N"):
        Bounds(10, 6, 3)


def test_survivors_get_seed_shares_and_dropped_ones_mask_shares_never_both() -> None:
    state, (effect,) = step(uploaded(), ask(0, 1, 3))
    assert effect == Disclose(0, {0: "seed", 1: "seed", 2: "mask", 3: "seed"})
    assert step(state, ask(0, 1, 3))[1] == (effect,), "the same question again has the same answer"
    assert refusal(state, ask(0, 1, 2, 3)) is Refusal.OTHER_SET
    assert refusal(state, ask(0, 2, 3)) is Refusal.OTHER_SET


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (ask(0, 1, 2, slot=1), Refusal.NOT_UPLOADED),
        (ask(1, 2, 3), Refusal.LEFT_OUT),
        (ask(0, 1, 2, 4), Refusal.NOT_A_PARTICIPANT),
        (ask(0, 1), Refusal.TOO_FEW_SURVIVORS),
        (ask(0, 1, 2, transcript="other"), Refusal.OTHER_TRANSCRIPT),
        (replace(ask(0, 1, 2), window=1), Refusal.OTHER_WINDOW),
        (replace(ask(0, 1, 2), window=-1), Refusal.OTHER_WINDOW),
    ],
)
def test_questions_that_are_not_answered(question: Question, reason: Refusal) -> None:
    assert refusal(uploaded(), question) is reason


def test_one_survivor_that_was_asked_something_else_spoils_the_question() -> None:
    question = Question(0, 0, {0: "t0", 1: "t0", 2: "t0", 3: "another"})
    assert refusal(uploaded(), question) is Refusal.OTHER_TRANSCRIPT


def test_a_slot_serves_one_order_and_the_same_order_again() -> None:
    state = uploaded()
    assert step(state, Order(0, 0, "t0", "m1"))[1] == (Mask(0),)
    assert refusal(state, Order(0, 0, "other", "m1")) is Refusal.SLOT_USED
    later, _ = step(state, Order(0, 5, "t5", "m1"))
    assert refusal(later, Order(0, 3, "t3", "m1")) is Refusal.SLOT_USED


def test_an_upload_in_a_later_slot_closes_the_earlier_ones() -> None:
    state, _ = step(uploaded(), Order(0, 1, "t1", "m1"))
    assert refusal(state, ask(0, 1, 2)) is Refusal.LATER_UPLOAD
    assert isinstance(step(state, ask(0, 1, 2, slot=1))[1][0], Disclose)


def test_an_opened_model_is_never_opened_again_and_the_server_is_reminded() -> None:
    state, _ = step(uploaded(), ask(0, 1, 2))
    assert step(state, Order(0, 1, "t1", "m1")) == (state, (Remind(0),))
    state, effects = step(state, Order(0, 1, "t1", "m2"))
    assert effects == (Mask(1),)
    assert step(state, ask(0, 1, 2))[1] == (Refuse(Refusal.LATER_UPLOAD),), "its secrets may be erased by now"
    state, _ = step(state, Window(1, frozenset(range(4))))
    assert refusal(state, Order(1, 0, "t", "m1")) is Refusal.MODEL_OPENED


def test_windows_only_move_forward_and_need_enough_sites() -> None:
    state = uploaded()
    assert refusal(state, Window(0, frozenset(range(4)))) is Refusal.OTHER_WINDOW
    assert refusal(state, Window(1, frozenset({0, 1}))) is Refusal.TOO_FEW_PARTICIPANTS
    assert refusal(state, Window(1, frozenset({1, 2, 3}))) is Refusal.TOO_FEW_PARTICIPANTS
    assert refusal(state, Window(1, frozenset({0, 1, 2, 9}))) is Refusal.NOT_A_PARTICIPANT
    moved, _ = step(state, Window(1, frozenset({0, 1, 2})))
    assert refusal(moved, ask(0, 1, 2)) is Refusal.OTHER_WINDOW


def test_a_set_that_misses_many_is_agreed_on_first() -> None:
    state, question = uploaded(7), ask(0, 1, 2, 3, 4)
    assert refusal(state, question) is Refusal.NOT_AGREED
    state, effects = step(state, Proposal(0, 0, question.transcripts))
    assert effects == (Agree(0, frozenset(range(5))),)
    assert refusal(state, Proposal(0, 0, dict.fromkeys((0, 1, 2, 3, 5), "t0"))) is Refusal.OTHER_SET
    assert refusal(state, ask(0, 1, 2, 3, 4, 5)) is Refusal.OTHER_SET, "what it signed binds it"
    assert refusal(state, ask(0, 1, 2, 3, 4, agreed=(0, 1, 2, 3))) is Refusal.NOT_AGREED
    assert refusal(state, ask(0, 1, 2, 3, 4, agreed=(0, 1, 2, 3, 6))) is Refusal.NOT_AGREED
    assert isinstance(step(state, ask(0, 1, 2, 3, 4, agreed=(0, 1, 2, 3, 4)))[1][0], Disclose)
