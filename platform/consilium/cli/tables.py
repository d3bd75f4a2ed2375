"""What `consilium study status` draws, from the API's views alone."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from consilium.contracts.api import LiveRound, RunDetail, RunView, StudyDetail, StudyView
from consilium.contracts.reports import Missing, RoundRow
from consilium.vocabulary import RunStatus, text_of

COLOURS = {
    RunStatus.WAITING: "yellow",
    RunStatus.RUNNING: "cyan",
    RunStatus.FINISHED: "green",
    RunStatus.FAILED: "red",
    RunStatus.STOPPED: "magenta",
}


def studies_table(studies: Sequence[StudyView]) -> Table:
    """One line a study with its newest run."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("study", "title", "approved", "run", "status", "rounds"):
        table.add_column(column)
    for view in studies:
        newest = view.runs[0] if view.runs else None
        approved = f"{view.approved}/{view.hospitals}"
        if newest is None:
            table.add_row(view.id[:12], view.title, approved, "–", "–", "–")
        else:
            done = f"{newest.rounds_done}/{newest.rounds_planned}"
            table.add_row(view.id[:12], view.title, approved, newest.run, _status(newest), done)
    return table


def study_page(detail: StudyDetail) -> Group:
    """A study: what each hospital said, and its runs."""
    stands = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("hospital", "site", "decision", "at"):
        stands.add_column(column)
    for view in detail.decisions:
        stands.add_row(view.hospital, view.site, text_of(view.decision), view.at or "–")
    parts: list[RenderableType] = [Text(f"{detail.study.title}\n{detail.study.id}\n"), stands, Text("")]
    for run in detail.study.runs:
        done = f"  round {run.rounds_done} of {run.rounds_planned}, {run.launches} launch(es)"
        parts.append(Text.assemble(f"{run.run}  ", _status(run), done))
    return Group(*parts)


def run_page(detail: RunDetail) -> Group:
    """A run: progress, its rows, who is missing and why (the last closed round), and the open round."""
    run = detail.run
    head = Text.assemble(f"{detail.title}  {run.run}  ", _status(run))
    head.append(f"  round {run.rounds_done} of {run.rounds_planned}")
    bar = ProgressBar(total=run.rounds_planned, completed=run.rounds_done, width=60)
    parts: list[RenderableType] = [head, bar, Text(""), rounds_table(detail.rows)]
    closed = [row for row in detail.rows if row.participants]
    if closed and closed[-1].missing:
        reasons = missing_text(closed[-1].missing)
        parts.append(Text(f"missing in round {closed[-1].round}: {reasons}", style="yellow"))
    if detail.live is not None:
        parts.append(Text(live_line(detail.live), style="cyan"))
    if run.error:
        parts.append(Text(run.error, style="red" if run.ended_at else "yellow"))
    return Group(*parts)


def rounds_table(rows: Sequence[RoundRow]) -> Table:
    """One line a round; row 0 is the untrained model."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("round", justify="right")
    for column in ("TC", "WT", "ET", "mean", "worst", "sites", "s", "MB up"):
        table.add_column(column, justify="right")
    table.add_column("missing", overflow="fold")
    for row in rows:
        dice = (row.dice.TC, row.dice.WT, row.dice.ET, row.dice.mean) if row.dice else (None,) * 4
        scores = [_number(value) for value in (*dice, row.worst_site_mean)]
        rest = (str(row.participants), f"{row.seconds:.0f}", f"{row.bytes_up / 1e6:.1f}")
        table.add_row(str(row.round), *scores, *rest, ", ".join(item.site for item in row.missing))
    return table


def missing_text(missing: Sequence[Missing]) -> str:
    """Who is missing and why, for people."""
    return "; ".join(f"{item.site}: {text_of(item.reason)}" for item in missing)


def live_line(live: LiveRound) -> str:
    """The open round in one line: who has answered, and whom it waits for."""
    opened = live.opened
    answered = {answer.site for answer in live.answered if answer.reason is None}
    refused = [Missing(site=a.site, reason=a.reason) for a in live.answered if a.reason is not None]
    waiting = [site for site in opened.asked if site not in {answer.site for answer in live.answered}]
    line = f"round {opened.round} (attempt {opened.attempt}): {len(answered)} of {len(opened.asked)} answered"
    if waiting:
        line += f", waiting for {', '.join(waiting)}"
    if opened.offline:
        line += f", offline {', '.join(opened.offline)}"
    return f"{line}. {missing_text(refused)}" if refused else line


def _status(run: RunView) -> Text:
    return Text(run.status, style=COLOURS[run.status])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
