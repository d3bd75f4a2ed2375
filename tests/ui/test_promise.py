"""What the API tells of a charter's promise is what page and terminal say."""

from __future__ import annotations

import pytest

from consilium.api.views import privacy_view
from consilium.privacy.planning import MECHANISMS, UNITS, dice_error
from ui import stub_play

PRIVATE = stub_play.charter(stub_play.HOSPITALS, 8, private=True)


def test_a_charter_without_privacy_promises_nothing() -> None:
    assert privacy_view(stub_play.charter(stub_play.HOSPITALS, 8), stub_play.detail(4).rows) is None


def test_before_the_first_row_nothing_is_spent_and_no_error_is_known() -> None:
    told = privacy_view(PRIVATE, ())
    assert told is not None
    assert (told.spent, told.dice_error) == (0.0, None)
    assert (told.target, told.delta, told.unit, told.mechanism) == (8.0, 1e-4, "patient", "distributed")
    assert told.evaluations == PRIVATE.privacy.evaluations


def test_the_most_that_a_row_tells_is_spent_and_the_noisy_counts_give_the_error() -> None:
    rows = stub_play.detail(6, private=True).rows
    noisy = [
        row.model_copy(update={"scored": 10 + 20 * (row.round > 0)}) if row.dice else row for row in rows
    ]
    told = privacy_view(PRIVATE, noisy)
    assert told is not None
    assert told.spent == pytest.approx(stub_play.epsilon(6))
    assert PRIVATE.plan is not None
    assert told.dice_error == pytest.approx(dice_error(PRIVATE.plan, 20))


def test_the_page_speaks_with_the_planners_words() -> None:
    told = privacy_view(PRIVATE, ())
    assert told is not None
    assert told.protects == (UNITS["patient"], MECHANISMS["distributed"])
