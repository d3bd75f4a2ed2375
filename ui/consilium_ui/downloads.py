"""What a researcher takes away: rounds as CSV and JSON, the model, and the command that shows the same."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from consilium.contracts.api import RunView
from consilium.vocabulary import RunStatus
from consilium_ui import words
from consilium_ui.api_client import ApiClient


def downloads(view: RunView, client: Callable[[], ApiClient]) -> None:
    """Three buttons; each file is fetched from the API when it is clicked, and never before.

    `view` is the one from the list of studies: the page is drawn anew when its status changes, so the model
    is never held back by an older answer about the run.
    """
    run, finished = view.run, view.status == RunStatus.FINISHED
    st.subheader("Take away", anchor=False)
    with st.container(horizontal=True):
        st.download_button(
            "Rounds (CSV)",
            lambda: client().rounds(run, "csv"),
            file_name=f"{run}-rounds.csv",
            mime="text/csv",
            on_click="ignore",
            icon=":material/table:",
        )
        st.download_button(
            "Rounds (JSON)",
            lambda: client().rounds(run, "json"),
            file_name=f"{run}-rounds.json",
            mime="application/json",
            on_click="ignore",
            icon=":material/data_object:",
        )
        st.download_button(
            "Model (safetensors)",
            lambda: client().model(run),
            file_name=f"{run}.safetensors",
            mime="application/octet-stream",
            on_click="ignore",
            type="primary" if finished else "secondary",
            disabled=not finished,
            help=None if finished else words.MODEL_NOT_YET,
            icon=":material/download:",
        )
    if not finished:
        st.markdown(f":gray[{words.MODEL_NOT_YET}]")
    st.markdown("The same on a terminal:")
    st.code(words.status_line(run), language=None)
