"""Figures are built anew when their rows change, and only then."""

from __future__ import annotations

import pytest

from consilium_ui import drawing
from consilium_ui.palette import LIGHT
from ui import stub_play


def test_state_changes_with_rows_and_names_but_not_with_the_clock() -> None:
    detail = stub_play.detail(3)
    later = detail.model_copy(update={"server_time": stub_play.at(9_999), "live": None})
    assert drawing.state_of(later) == drawing.state_of(detail)
    assert drawing.state_of(stub_play.detail(4)) != drawing.state_of(detail)
    renamed = {**stub_play.HOSPITALS, "harbour": "Another name"}
    assert drawing.state_of(stub_play.detail(3, hospitals=renamed)) != drawing.state_of(detail)


@pytest.mark.parametrize("name", drawing.FIGURES)
def test_every_figure_is_valid_and_has_words_for_those_who_cannot_see_it(name: str) -> None:
    for done in (1, 6):
        assert drawing.FIGURES[name](stub_play.detail(done), LIGHT).to_dict(validate=True)
    assert drawing.ALT[name]
