"""The sidebar: which study, which run, and what its charter says. The choice lives in the address."""

from __future__ import annotations

import streamlit as st

from consilium.contracts.api import RunView, StudyView
from consilium.contracts.charter import Charter
from consilium_ui import feed, words

SHORT = 12
"""Characters of a study's id in the address; six are enough to name one."""


def choose_study(studies: tuple[StudyView, ...]) -> StudyView:
    """The study that the address or the reader names, else the newest; the address then names it."""
    by_id = {study.id: study for study in studies}
    wanted = st.query_params.get("study", "")
    named = next((key for key in by_id if len(wanted) >= 6 and key.startswith(wanted)), None)
    chosen = st.sidebar.selectbox(
        "Study",
        list(by_id),
        index=list(by_id).index(named) if named else 0,
        format_func=lambda key: words.printable(by_id[key].title),
        help=words.LINK,
    )
    if wanted and named is None:
        st.sidebar.warning("The study in the address does not exist; shown is the newest.")
    if chosen != named:
        st.query_params.from_dict({"study": chosen[:SHORT]})
    return by_id[chosen]


def choose_run(study: StudyView) -> RunView | None:
    """The run that the address or the reader names, else the newest; None while the study has none."""
    by_id = {run.run: run for run in study.runs}
    if not by_id:
        return None
    wanted = st.query_params.get("run", "")
    chosen = st.sidebar.selectbox(
        "Run",
        list(by_id),
        index=list(by_id).index(wanted) if wanted in by_id else 0,
        format_func=lambda key: f"{key} · {by_id[key].status}",
        key=f"run-of-{study.id}",
    )
    if wanted and wanted not in by_id:
        st.sidebar.warning("The run in the address does not exist; shown is the newest.")
    if chosen != wanted:
        st.query_params["run"] = chosen
    return by_id[chosen]


def about(study: StudyView) -> None:
    """What the hospitals signed, in a few lines; nothing while the API does not tell."""
    detail = feed.read(f"study/{study.id}", lambda api: api.study(study.id)).value
    if detail is None:
        return
    with st.sidebar:
        st.markdown("**Charter**")
        st.markdown(words.plain(detail.charter.purpose))
        st.table(charter_facts(detail.charter), border="horizontal", hide_header=True)


def promise(charter: Charter) -> str:
    """What the charter proves, in a few words."""
    dp = charter.privacy
    if dp.mechanism == "none":
        return "none proven"
    return f"ε ≤ {dp.epsilon:g}, δ {words.power(dp.delta)}, unit {dp.unit}, {dp.mechanism} noise"


def charter_facts(charter: Charter) -> dict[str, str]:
    """The charter's main numbers, safe in Markdown."""
    training, rounds = charter.training, charter.rounds
    frozen = f" over {charter.model.frozen:,} frozen" if charter.model.frozen else ""
    return {
        "Id": f"`{charter.id[:SHORT]}`",
        "Model": f"{words.plain(charter.model.name)}, {charter.model.parameters:,} parameters" + frozen,
        "Local work": f"{training.steps} steps, batch {training.batch}",
        "Patch": " × ".join(str(axis) for axis in training.patch) + f", {training.spacing_mm:g} mm",
        "Strategy": charter.strategy.name,
        "Deadline": f"{words.span(rounds.deadline_seconds)} a round",
        "Privacy": promise(charter),
        "Needs": f"{rounds.minimum_sites} of {len(charter.roster)} hospitals a round",
    }
