"""One study, live: what a researcher looks at while hospitals train."""

from __future__ import annotations

import streamlit as st

from consilium.contracts.api import RunDetail, RunView, StudyView
from consilium.vocabulary import RunStatus
from consilium_ui import cards, charts, feed, sidebar, tables, words
from consilium_ui.downloads import downloads
from consilium_ui.drawing import draw
from consilium_ui.figures import hospital_names, last_scored

LIVE_SECONDS = 2.0
QUIET_SECONDS = 8.0
DRAWN = "consilium-drawn"
OPEN = (RunStatus.WAITING, RunStatus.RUNNING)


def page() -> None:
    """Choose study and run by the address and the sidebar, then draw what is known of them."""
    studies = feed.read("studies", lambda api: api.studies())
    st.session_state[DRAWN] = signature(studies)
    if studies.value is None:
        _unreachable(studies)
    elif not studies.value:
        _no_study()
    else:
        study = sidebar.choose_study(studies.value)
        run = sidebar.choose_run(study)
        sidebar.about(study)
        if run is None:
            _no_run(study)
        else:
            _run(run)
    st.fragment(_watch, run_every=LIVE_SECONDS)()


def signature(studies: feed.Snapshot[tuple[StudyView, ...]]) -> object:
    """What must change before the whole page is drawn anew: studies, approvals, runs and their status."""
    if studies.value is None:
        return studies.problem
    return tuple(
        (study.id, study.approved, study.refused, tuple((run.run, run.status) for run in study.runs))
        for study in studies.value
    )


def _watch() -> None:
    """Redraws the page when a study, a decision, a run or a status is new; draws nothing itself."""
    if signature(feed.read("studies", lambda api: api.studies())) != st.session_state.get(DRAWN):
        feed.renew()
        st.rerun()


def _unreachable(studies: feed.Snapshot[tuple[StudyView, ...]]) -> None:
    st.title("Consilium", anchor=False)
    st.error(
        f"{words.sentence(studies.problem or '')} Trying again every {LIVE_SECONDS:.0f} s.",
        title=words.API_SILENT,
        icon=":material/cloud_off:",
    )
    if studies.silent:
        st.markdown("Start it beside this page, with the same home:")
        st.code("consilium api", language=None)


def _no_study() -> None:
    st.title(words.NO_STUDY, anchor=False)
    st.markdown(words.NO_STUDY_HELP)
    st.code(words.NO_STUDY_LINE, language=None)
    st.markdown("Or see the whole path with four phantom hospitals on this machine:")
    st.code("consilium demo", language=None)


def _no_run(study: StudyView) -> None:
    st.title(words.plain(study.title), anchor=False)
    st.badge(words.NO_RUN, icon=":material/hourglass_empty:", color="orange")
    st.markdown(f"**{study.approved} of {study.hospitals} hospitals have approved the charter.**")
    detail = feed.read(f"study/{study.id}", lambda api: api.study(study.id)).value
    if detail is not None:
        st.table(tables.decisions_table(detail.decisions), border="horizontal", hide_index=True)
    if study.approved < study.hospitals:
        st.markdown(words.WAITING_APPROVAL)
    st.markdown("Start a run when the hospitals have approved:")
    st.code(words.launch_line(study.id), language=None)


def _run(run: RunView) -> None:
    every = LIVE_SECONDS if run.status in OPEN else QUIET_SECONDS
    st.fragment(_live, run_every=every)(run.run, every)
    downloads(run, feed.client)


def _live(run: str, every: float) -> None:
    """The live part: everything that a round changes."""
    snapshot = feed.read(f"run/{run}", lambda api: api.run(run))
    detail = snapshot.value
    if detail is None:
        st.error(words.sentence(snapshot.problem or ""), title=words.API_SILENT, icon=":material/cloud_off:")
        return
    cards.header(detail)
    cards.stale(snapshot, feed.api_url(), every)
    cards.notices(detail)
    cards.figures(detail)
    if detail.live is not None:
        cards.open_round(detail.live, detail)
    _charts(detail)
    _tables(detail)


def _charts(detail: RunDetail) -> None:
    dark = st.context.theme.type == "dark"
    if not detail.rows:
        st.info(words.NO_ROW if detail.privacy is None else words.NO_PRIVATE_ROW)
        return
    left, right = st.columns(2, gap="medium")
    with left.container(border=True, gap=None):
        st.markdown("**Dice by region**  \n:gray[" + _noise(detail) + "]")
        draw("dice", detail, dark)
    with right.container(border=True, gap=None):
        if detail.privacy is None:
            st.markdown("**Mean and worst hospital**  \n:gray[" + words.SHARED[_shares(detail)] + "]")
            draw("worst", detail, dark)
        else:
            st.markdown("**Privacy spent**  \n:gray[" + words.spent_by(detail.privacy.unit) + "]")
            draw("spent", detail, dark)
    crowd = len(hospital_names(detail)) > charts.MOST_NAMED
    left, right = (st.container(), st.container()) if crowd else st.columns(2, gap="medium")
    with left.container(border=True, gap=None):
        said = "Mean over hospitals, lower is better." if detail.privacy is None else words.NOISY_LOSS
        st.markdown(f"**Training loss**  \n:gray[{said}]")
        draw("loss", detail, dark)
    with right.container(border=True, gap=None):
        st.markdown("**Who took part**  \n:gray[Square: in the sum. Cross: missing; its tooltip says why.]")
        draw("part", detail, dark)


def _noise(detail: RunDetail) -> str:
    """What to know of the scores that are drawn."""
    if detail.privacy is None:
        return words.ROUND_ZERO
    error, rounds = detail.privacy.dice_error, [row.round for row in detail.rows if row.dice is not None]
    if error is None or not rounds:
        return words.NOT_SCORED
    return words.noise(error, rounds, detail.privacy.evaluations)


def _shares(detail: RunDetail) -> bool | None:
    """Whether rows tell each hospital's own Dice; None while none is scored."""
    return None if last_scored(detail.rows) is None else any(row.sites for row in detail.rows)


def _tables(detail: RunDetail) -> None:
    st.subheader("Hospitals", anchor=False)
    st.table(tables.hospitals_table(detail), border="horizontal", hide_index=True, alt="Hospitals")
    if detail.privacy is not None:
        st.markdown(f":gray[{words.NO_COUNTS}]")
    st.subheader("Rounds", anchor=False)
    if not detail.rows:
        st.markdown("No round yet.")
        return
    st.dataframe(
        tables.rounds_table(detail.rows, hospital_names(detail)),
        hide_index=True,
        placeholder=words.NOTHING,
        column_config=tables.columns(),
        key="rounds",
        alt="Rounds, newest first",
    )


page()
