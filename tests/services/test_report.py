"""Rows from events: whatever the order and however often they come."""

from __future__ import annotations

import csv
import io

from hypothesis import given
from hypothesis import strategies as st

from consilium.contracts.reports import Event, ModelScored, RoundClosed
from consilium.services.report import live_round, rounds_csv, rows
from control_plane import answered, closed, numbered, opened, scored

ROUNDS = 4
FACTS: list[Event] = [scored(k, k / 10) for k in range(ROUNDS + 1)]
FACTS += [closed(k, bytes_up=k) for k in range(1, ROUNDS + 1)]


@given(st.permutations(FACTS), st.lists(st.sampled_from(FACTS)))
def test_order_and_repetition_do_not_matter(order: list[Event], again: list[Event]) -> None:
    assert rows([*order, *again]) == rows(FACTS)


@given(st.sets(st.integers(0, len(FACTS) - 1)))
def test_a_row_says_what_is_known_of_its_round_and_no_more(chosen: set[int]) -> None:
    told = [FACTS[index] for index in sorted(chosen)]
    found = {row.round: row for row in rows(told)}
    for row in found.values():
        scores = [e for e in told if isinstance(e, ModelScored) and e.round == row.round]
        outcome = [e for e in told if isinstance(e, RoundClosed) and e.round == row.round]
        assert (row.dice is not None) == bool(scores)
        assert row.participants == (2 if outcome else 0)
        assert row.bytes_up == (row.round if outcome else 0)
    assert {e.round for e in told if isinstance(e, ModelScored | RoundClosed)} == set(found)


def test_row_zero_is_the_untrained_model() -> None:
    first, second, *_ = rows(FACTS)
    assert (first.round, first.participants, first.missing) == (0, 0, ())
    assert first.dice is not None
    assert second.dice is not None
    assert second.dice.mean > first.dice.mean


def test_a_later_word_on_a_round_replaces_the_earlier() -> None:
    (row,) = rows([closed(1, seconds=9.0), scored(1), closed(1, seconds=2.0, missing=[])])
    assert (row.seconds, row.missing) == (2.0, ())
    assert row.dice is not None


def test_an_answer_to_an_earlier_attempt_is_not_shown() -> None:
    live = live_round(numbered([opened(1), opened(1, 2), answered(1, "site-a"), answered(1, "site-b", 2)]))
    assert live is not None
    assert [answer.site for answer in live.answered] == ["site-b"]


def test_csv_has_every_number() -> None:
    table = list(csv.DictReader(io.StringIO(rounds_csv(rows(FACTS)))))
    assert [int(line["round"]) for line in table] == list(range(ROUNDS + 1))
    assert table[0]["loss"] == ""
    assert float(table[2]["dice_mean"]) == rows(FACTS)[2].dice.mean  # type: ignore[union-attr]
    assert table[2]["participant_sites"] == "site-a;site-b"
