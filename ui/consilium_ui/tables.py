"""Rows of the tables, as plain strings and numbers. Pure functions; Markdown is made safe here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from consilium.contracts.api import DecisionView, RunDetail, SiteView
from consilium.contracts.reports import RoundRow, SiteRow
from consilium.vocabulary import Reason, text_of
from consilium_ui.figures import budget_spent, hospital_names, newest_word
from consilium_ui.words import (
    HINTS,
    NOTHING,
    ago,
    between,
    clock,
    missing,
    plain,
    printable,
    skipped,
    together,
)

CLOCK_SECONDS = 120.0
"""A site's clock that differs by more is pointed out."""


def hospitals_table(detail: RunDetail) -> pd.DataFrame:
    """One row a hospital of the roster. Cells are Markdown with every outside name escaped.

    Columns: Hospital, Connection, Doing, Decision, Last round, and, unless the charter promises privacy,
    Cases and Skipped cases: counts are exact, so a private run is not told them.
    """
    sites = {view.site: view for view in detail.sites}
    shared = _newest_counts(detail.rows)
    decisions = {view.site: view for view in detail.decisions}
    spent = budget_spent(detail)
    rows = []
    for site, name in sorted(hospital_names(detail).items()):
        view, stand = sites.get(site), decisions.get(site)
        rows.append(
            {
                "Hospital": f"**{plain(name)}**  \n:gray[{plain(site)}]",
                "Connection": connection(view, detail.server_time),
                "Doing": _doing(view),
                "Decision": text_of(stand.decision) if stand else NOTHING,
                together("Last round"): _last_round(detail.rows, site, spent.get(site)),
                **(_counts(view, shared.get(site)) if detail.privacy is None else {}),
            }
        )
    return pd.DataFrame(rows)


def connection(view: SiteView | None, server_time: str) -> str:
    """Whether a hospital is heard of, and when last: its own clock, the platform's for how long ago.

    A clock of the site that is far from the platform's is pointed out.
    """
    if view is None or view.seen_at is None:
        return ":red[**offline**]  \nno heartbeat yet"
    heard = together(ago(between(view.seen_at, server_time)))
    at = clock(view.heartbeat_at)
    if not view.online:
        return f":red[**offline**], {heard}  \nlast heartbeat {plain(at)}"
    drift = _drift(view)
    note = f"  \n:orange[its clock is {drift:.0f} s off]" if drift > CLOCK_SECONDS else ""
    return f":green[**online**], {heard}  \n{together('at ' + plain(at.split(' ', 1)[-1]))}{note}"


def rounds_table(rows: Sequence[RoundRow], hospitals: Mapping[str, str]) -> pd.DataFrame:
    """One row a round, newest first; None where a value is not known yet. Bytes in MB.

    Under a privacy plan ε stands in the place of what nobody is told: the worst hospital, skipped cases.
    """
    table, private = [], any(row.epsilon is not None for row in rows)
    for row in reversed(rows):
        dice = row.dice
        trained = row.round > 0
        reasons = {item.site: item.reason for item in row.missing}
        table.append(
            {
                "Round": str(row.round) if trained else "0 (untrained)",
                "Mean Dice": dice.mean if dice else None,
                **({"ε": row.epsilon} if private else {"Worst": row.worst_site_mean}),
                "Hospitals": f"{row.participants} of {len(hospitals)}"
                if trained and row.participants
                else None,
                **({} if private else {"Skipped": row.skipped_cases if trained else None}),
                "MB up": row.bytes_up / 1e6 if trained else None,
                "MB down": row.bytes_down / 1e6 if trained else None,
                "Seconds": row.seconds if trained else None,
                "Opening": row.seconds_opening if trained else None,
                "Missing, and why": printable(missing(reasons, hospitals)) if reasons else None,
            }
        )
    return pd.DataFrame(table)


def columns() -> dict[str, ColumnConfig]:
    """How `st.dataframe` writes the columns of `rounds_table`."""
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    return {
        "Round": text(width=88),
        "Mean Dice": number(format="%.3f", width=78),
        "ε": number(format="%.2f", width=52, help=HINTS["epsilon"]),
        "Worst": number(format="%.3f", width=58, help=HINTS["worst"]),
        "Hospitals": text(width=75, help=HINTS["participants"]),
        "Skipped": number(width=65, help=HINTS["skipped"]),
        "MB up": number(format="%.1f", width=60),
        "MB down": number(format="%.1f", width=72),
        "Seconds": number(format="%.1f", width=68, help="Wall time of the round, at the aggregator."),
        "Opening": number(format="%.1f", width=68, help=HINTS["opening"]),
        "Missing, and why": text(width=330),
    }


def decisions_table(decisions: Sequence[DecisionView]) -> pd.DataFrame:
    """One row a hospital with its word on the charter and when it was given (the site's clock)."""
    return pd.DataFrame(
        {
            "Hospital": f"**{plain(view.hospital)}**",
            "Site": plain(view.site),
            "Decision": text_of(view.decision),
            "Given": plain(clock(view.at)),
        }
        for view in decisions
    )


def worst_text(worst: float | None, site: str | None, hospitals: Mapping[str, str]) -> str:
    """The worst hospital's name for the line under its score; empty where it is not shared."""
    if worst is None or site is None:
        return ""
    return plain(hospitals.get(site, site))


def _doing(view: SiteView | None) -> str:
    if view is None or view.stage is None or not view.online:
        return NOTHING
    of = f"  \nround\u00a0{view.round}" if view.round is not None else ""
    return f"{text_of(view.stage)}{of}"


def _last_round(rows: Sequence[RoundRow], site: str, spent: int | None) -> str:
    if spent is not None:
        return f":red[**budget spent**] since round {spent}  \n{_why(Reason.BUDGET_SPENT)}"
    word = newest_word(rows, site)
    if word is None:
        return NOTHING
    number, reason = word
    return (
        f":green[in] round {number}"
        if reason is None
        else f":orange[**missing**] in round {number}  \n{_why(reason)}"
    )


def _why(reason: Reason) -> str:
    return plain(text_of(reason))


def _counts(view: SiteView | None, counts: SiteRow | None) -> dict[str, str]:
    return {
        "Cases": _cases(view, counts),
        "Skipped cases": skipped(view.skipped).replace("; ", "  \n") if view else NOTHING,
    }


def _cases(view: SiteView | None, counts: SiteRow | None) -> str:
    if counts is not None:
        return together(f"{counts.cases_train} train") + "  \n" + together(f"{counts.cases_test} held out")
    return together(f"{view.cases} usable") if view is not None and view.cases else NOTHING


def _newest_counts(rows: Sequence[RoundRow]) -> dict[str, SiteRow]:
    """The newest row of each site whose counts the charter shares."""
    return {site.site: site for row in rows for site in row.sites if site.cases_train or site.cases_test}


def _drift(view: SiteView) -> float:
    ahead = between(view.seen_at, view.heartbeat_at) or 0.0
    return ahead or between(view.heartbeat_at, view.seen_at) or 0.0
