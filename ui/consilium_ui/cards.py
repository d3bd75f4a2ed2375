"""The parts of the page above the charts: header, notices, key figures, the open round."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from consilium.contracts.api import LiveRound, PrivacyView, RunDetail
from consilium.vocabulary import RunStatus, text_of
from consilium_ui import words
from consilium_ui.feed import Snapshot
from consilium_ui.figures import (
    budget_spent,
    busy,
    elapsed,
    hospital_names,
    key_figures,
    may_be_noise,
    remaining,
    standings,
    time_left,
)
from consilium_ui.tables import worst_text


def header(detail: RunDetail) -> None:
    """Title, status in words, progress, elapsed and remaining time, and why a run failed."""
    run = detail.run
    colour, icon = words.STATUS_LOOK[run.status]
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.title(words.plain(detail.title), anchor=False, width="content")
        st.badge(text_of(run.status), icon=icon, color=colour)  # type: ignore[arg-type]
    share = run.rounds_done / run.rounds_planned if run.rounds_planned else 0.0
    st.progress(min(1.0, share), text=progress_text(detail))
    if run.error and run.ended_at is None:
        st.warning(words.sentence(run.error), icon=":material/restart_alt:", title="The run was interrupted")
    elif run.error:
        st.error(words.sentence(run.error), icon=":material/error:", title="The run failed")
    if run.status in (RunStatus.FAILED, RunStatus.STOPPED):
        st.markdown("Go on from the last checkpoint:")
        st.code(words.resume_line(run.run), language=None)


def progress_text(detail: RunDetail) -> str:
    """`Round 3 of 8 closed · started … · 2 min 10 s so far · about 4 min left`."""
    run = detail.run
    parts = [f"**{run.rounds_done} of {run.rounds_planned} rounds**"]
    gone, left = elapsed(detail), remaining(detail)
    if gone is not None:
        parts.append(f"{words.span(gone)} {'so far' if run.ended_at is None else 'in all'}")
    if left is not None:
        parts.append(f"about {words.span(left)} left")
    if run.started_at is not None:
        parts.append(f"started {words.clock(run.started_at)}")
    parts.append(f"as of {words.clock(detail.server_time).split(' ', 1)[-1]}")
    if run.launches > 1:
        parts.append(f"{run.launches} launches")
    return " · ".join(parts)


def stale(snapshot: Snapshot[RunDetail], url: str, seconds: float) -> None:
    """A clear warning over data that is not of now; nothing while the API answers."""
    if snapshot.problem is None:
        return
    since = f"{snapshot.at:%H:%M:%S} UTC" if snapshot.at else "an earlier time"
    st.warning(
        f"Shown is what it said at **{since}**. {words.sentence(snapshot.problem)} "
        f"Trying {words.plain(url)} again every {seconds:.0f} s.",
        title=words.API_STALE,
        icon=":material/cloud_off:",
    )


def notices(detail: RunDetail) -> None:
    """What this run protects and what not, said plainly; and at whom its privacy budget is spent."""
    masked, promise = detail.secure_aggregation, detail.privacy
    if promise is not None:
        proven = f"**Proven: at most {words.bound(promise.target, promise.delta, promise.unit)}.**"
        lines = [proven, *map(words.plain, promise.protects), words.NO_SCAN]
        if masked and promise.mechanism != "distributed":
            lines.append(words.MASKED)
        st.info(" ".join(lines), icon=":material/shield:")
        if not masked:
            st.warning(words.CLEAR, icon=":material/visibility:")
        _spent_budgets(detail)
        return
    lines = (
        [words.NO_BOUND, words.NO_SCAN, words.MASKED]
        if masked
        else [words.CLEAR, words.NO_BOUND, words.NO_SCAN]
    )
    st.warning(" ".join(lines), icon=":material/visibility:")


def _spent_budgets(detail: RunDetail) -> None:
    names, found = hospital_names(detail), budget_spent(detail)
    if found:
        st.warning(
            words.budget({names.get(site, site): number for site, number in sorted(found.items())}),
            icon=":material/shield_lock:",
        )


def figures(detail: RunDetail) -> None:
    """The row of key figures, each with its unit and a hint."""
    found, names = key_figures(detail.rows), hospital_names(detail)
    boxes = st.columns([1.15, 1.25, 1, 1, 0.9])
    error = detail.privacy.dice_error if detail.privacy else None
    dice = f"Mean Dice, round {found.round}" if found.round is not None else "Mean Dice"
    rise, clear = None, True
    if found.change is not None:
        clear = not may_be_noise(found.change, error)
        rise = f"{found.change:+.3f}{' vs untrained' if clear else ', may be noise'}"
    _figure(boxes[0], dice, words.score(found.dice), rise, "dice", coloured=clear)
    if detail.privacy is None:
        worst = worst_text(found.worst, found.worst_site, names)
        _figure(boxes[1], "Worst hospital", words.score(found.worst), worst, "worst")
    else:
        _privacy(boxes[1], detail.privacy)
    share = words.NOTHING if found.participants is None else f"{found.participants} of {len(names)}"
    closed = None if found.closed is None else f"in round {found.closed}"
    _figure(boxes[2], "Hospitals", share, closed, "participants")
    _figure(boxes[3], "Sent up", words.size(found.bytes_up), f"{words.size(found.bytes_down)} down", "bytes")
    under = "median" if found.seconds is not None else None
    _figure(boxes[4], "Time a round", words.span(found.seconds), under, "seconds")


def _privacy(box: DeltaGenerator, promise: PrivacyView) -> None:
    """The card of the promise: ε spent of its limit as a figure and a bar, δ, and whom it protects."""
    with box.container(border=True, height="stretch", gap="xsmall"):
        st.metric(
            "Privacy spent",
            f"ε {promise.spent:.3g} of {promise.target:g}",
            f"δ {words.power(promise.delta)} · {promise.unit}",
            delta_color="off",
            delta_arrow="off",
            help=words.HINTS["epsilon"],
        )
        st.progress(min(1.0, promise.spent / promise.target))


def _figure(
    box: DeltaGenerator, label: str, value: str, under: str | None, hint: str, coloured: bool = False
) -> None:
    box.metric(
        label,
        value,
        under or None,
        delta_color="normal" if coloured else "off",
        delta_arrow="auto" if coloured else "off",
        help=words.HINTS[hint],
        border=True,
        height="stretch",
    )


def open_round(live: LiveRound, detail: RunDetail) -> None:
    """The round that is open: who has answered, whom it waits for and what they do, who is out, time left."""
    found, hospitals, doing = standings(live), hospital_names(detail), busy(detail, live.opened.round)
    answered = sum(state == "answered" for state in found.values())
    opened = words.opened(live.opened.round, live.opened.attempt, detail.run.rounds_planned)
    with st.container(border=True):
        with st.container(horizontal=True, horizontal_alignment="distribute"):
            st.markdown(
                f"**{opened}**: {answered} of {len(live.opened.asked)} asked hospitals are in",
                width="content",
            )
            left = time_left(live, detail.server_time)
            text = f"deadline in {words.span(left)}" if left > 0 else "deadline passed, the round is closing"
            st.markdown(f":gray[:material/timer: {text}]", width="content")
        with st.container(horizontal=True, gap="small"):
            for site, state in found.items():
                _chip(hospitals.get(site, site), state, doing.get(site, "waiting"))


def _chip(hospital: str, state: str, doing: str) -> None:
    name = words.plain(hospital)
    if state == "answered":
        st.badge(f"{name}: in", icon=":material/check:", color="green")
    elif state == "waiting":
        st.badge(f"{name}: {doing}", icon=":material/hourglass_empty:", color="gray")
    else:
        st.badge(f"{name}: {text_of(state)}", icon=":material/warning:", color="orange")
