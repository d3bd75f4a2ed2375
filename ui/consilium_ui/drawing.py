"""Charts on the page. A figure is built when its rows change, not at every tick of every reader."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Final

import altair as alt
import streamlit as st

from consilium.contracts.api import RunDetail
from consilium_ui import charts
from consilium_ui.figures import hospital_names
from consilium_ui.palette import Palette, palette

Figure = Callable[[RunDetail, Palette], alt.LayerChart]

FIGURES: Final[Mapping[str, Figure]] = {
    "dice": lambda run, look: charts.dice_by_region(
        run.rows, run.run.rounds_planned, look, run.privacy.dice_error if run.privacy else None
    ),
    "worst": lambda run, look: charts.worst_and_mean(
        run.rows, run.run.rounds_planned, hospital_names(run), look
    ),
    "spent": lambda run, look: charts.spent(
        run.rows, run.run.rounds_planned, run.privacy.target if run.privacy else 0.0, look
    ),
    "loss": lambda run, look: charts.loss(run.rows, run.run.rounds_planned, look),
    "part": lambda run, look: charts.participation(
        run.rows, run.run.rounds_planned, hospital_names(run), look
    ),
}
ALT: Final[Mapping[str, str]] = {
    "dice": "Dice by region and round",
    "worst": "Mean Dice and the worst hospital's by round",
    "spent": "Privacy spent by round, and its limit",
    "loss": "Loss by round",
    "part": "Hospitals that took part, by round",
}


def draw(name: str, detail: RunDetail, dark: bool) -> None:
    """Draw the figure `name` of `FIGURES` for a run, in the dark or the light theme."""
    spec = _spec(name, state_of(detail), dark, detail)
    st.vega_lite_chart(spec, theme=None, key=name, alt=ALT[name])


def state_of(detail: RunDetail) -> str:
    """A hash of all that figures are drawn from: rows, promise, planned rounds, hospitals; not the clock."""
    found = hashlib.sha256()
    for row in detail.rows:
        found.update(row.model_dump_json().encode())
    found.update(detail.privacy.model_dump_json().encode() if detail.privacy else b"")
    found.update(repr((detail.run.rounds_planned, sorted(hospital_names(detail).items()))).encode())
    return found.hexdigest()


@st.cache_data(max_entries=64, show_spinner=False)
def _spec(name: str, state: str, dark: bool, _detail: RunDetail) -> dict[str, Any]:
    """The Vega-Lite form of a figure; Streamlit keeps it under `name`, `state` and `dark`.

    Not validated here: the tests do it, and a second each time a round closes is worth saving.
    """
    return dict(FIGURES[name](_detail, palette(dark)).to_dict(validate=False))
