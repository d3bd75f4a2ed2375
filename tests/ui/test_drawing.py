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
        for private in (False, True):
            detail = stub_play.detail(done, private=private)
            assert drawing.FIGURES[name](detail, LIGHT).to_dict(validate=True)
    assert drawing.ALT[name]


def test_a_private_runs_figures_are_drawn_from_its_promise() -> None:
    private = stub_play.detail(6, private=True)
    layers = drawing.FIGURES["dice"](private, LIGHT).to_dict()["layer"]
    assert sum("y2" in layer["encoding"] for layer in layers) == 3, "error bars of three regions"
    assert private.privacy is not None
    another = private.privacy.model_copy(update={"target": 9.0})
    changed = private.model_copy(update={"privacy": another})
    assert drawing.state_of(changed) != drawing.state_of(private)
    names = [str(layer["data"]) for layer in drawing.FIGURES["spent"](changed, LIGHT).to_dict()["layer"]]
    assert any("limit 9" in name for name in names)
