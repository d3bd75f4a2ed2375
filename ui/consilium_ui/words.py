"""Every word of the portal: numbers, times and codes as people read them. Pure functions.

Names come from outside. `plain` makes them safe in Markdown; charts and tables take them as they are.
"""

from __future__ import annotations

import datetime
import re
import string
import unicodedata
from collections.abc import Mapping, Sequence

from consilium.vocabulary import CaseProblem, Reason, RunStatus, text_of

NOTHING = "–"
CLEAR = (
    "**Updates are in the clear:** secure aggregation is off, so the aggregator can read each hospital's "
    "model update."
)
NO_BOUND = "**No privacy bound is proven** for this study."
NO_ROW = "Scores appear here when the hospitals have scored the untrained model in round 1."
NO_PRIVATE_ROW = "Nothing is spent yet. Scores and the privacy spent appear here with the first round."
NO_COUNTS = "How many cases a hospital has is told to nobody: the count would be exact."
NOT_SCORED = (
    "No score is told yet. Scores are few and noisy on purpose; where too few patients are held out, none is."
)
NOISY_LOSS = "Noisy on purpose, lower is better."
BUDGET_SPENT = "**Privacy budget spent:**"
MOST_ROUNDS = 6
"""Rounds that a sentence names one by one."""
NO_SCAN = "No scan leaves a hospital."
MASKED = "Updates are masked: the aggregator reads their sum and no single one."
NO_STUDY = "No study yet"
NO_STUDY_HELP = "Write a charter, then create the study. This page opens it by itself."
NO_STUDY_LINE = "consilium study create charter.json --model initial.safetensors"
LINK = "Newest first. The address of this page names study and run: share it as a link."
NO_RUN = "No run yet"
API_SILENT = "The API cannot be read"
API_STALE = "Nothing new from the API"
WAITING_APPROVAL = "Each hospital decides with `consilium-site inbox` and `consilium-site approve ID`."
MODEL_NOT_YET = "The model is there once the run has finished."
ROUND_ZERO = "Round 0 is the untrained model."
SHARED: Mapping[bool | None, str] = {
    None: "No model is scored yet.",
    True: "Thin lines: each hospital; the charter shares them.",
    False: "The charter does not share each hospital's own Dice.",
}
HINTS: Mapping[str, str] = {
    "epsilon": "The most that this run can have told of one unit (a patient of one hospital, or a hospital): "
    "e to this power bounds how much more certain anybody can be that the unit took part. δ is the chance "
    "that the bound fails.",
    "dice": "Overlap of the model's regions with the annotators', 0 to 1: mean of TC, WT and ET over "
    "held-out patients of the hospitals that answered.",
    "worst": "Mean Dice of the hospital with the lowest score: a good mean can hide a hospital that the "
    "model fails.",
    "participants": "Hospitals whose update is in the round's sum.",
    "bytes": "Sent by hospitals to the aggregator (up) and back (down), all rounds together.",
    "seconds": "Median wall time of the closed rounds, at the aggregator.",
    "opening": "Of these seconds, how many it took to open the masked sum: one exchange with every hospital.",
    "skipped": "Cases left out in the round; only the count leaves a hospital.",
}
STATUS_LOOK: Mapping[RunStatus, tuple[str, str]] = {
    RunStatus.WAITING: ("orange", ":material/hourglass_empty:"),
    RunStatus.RUNNING: ("blue", ":material/progress_activity:"),
    RunStatus.FINISHED: ("green", ":material/check_circle:"),
    RunStatus.FAILED: ("red", ":material/error:"),
    RunStatus.STOPPED: ("gray", ":material/stop_circle:"),
}
"""Badge colour and icon of each status; the words stand beside them."""

JOINER = "\u2060"
_LINKS = re.compile(r"://|@|(?<=www)\.", re.IGNORECASE)
"""What makes GitHub's Markdown link bare text, escaped or not: a word joiner before it breaks that."""
_ESCAPED = str.maketrans({mark: f"\\{mark}" for mark in string.punctuation})


def printable(text: str) -> str:
    """`text` on one line without control, direction or invisible characters."""
    kept = "".join(" " if unicodedata.category(mark)[0] in "CZ" else mark for mark in text)
    return " ".join(kept.split())


def plain(text: str) -> str:
    """`text` from outside so that Markdown shows it and does nothing else with it, links included."""
    return _LINKS.sub(f"{JOINER}\\g<0>", printable(text)).translate(_ESCAPED)


def sentence(text: str) -> str:
    """`plain`, with a capital at the start and a full stop at the end."""
    return plain(text[:1].upper() + text[1:].rstrip(".")) + "."


def together(text: str) -> str:
    """`text` with spaces that do not break a line."""
    return text.replace(" ", "\u00a0")


def clock(moment: str | None) -> str:
    """An ISO 8601 moment as `2026-01-31 12:03:10 UTC`; a dash for None; the text itself if it is no time."""
    found = when(moment)
    if found is None:
        return printable(moment) if moment else NOTHING
    return f"{found.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"


def when(moment: str | None) -> datetime.datetime | None:
    """An ISO 8601 moment as an aware time (UTC where it names no zone); None if it is none."""
    if not moment:
        return None
    try:
        found = datetime.datetime.fromisoformat(moment)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)


def between(start: str | None, end: str | None) -> float | None:
    """Seconds from one moment to another, never below 0; None if either is unknown."""
    first, last = when(start), when(end)
    return None if first is None or last is None else max(0.0, (last - first).total_seconds())


def span(seconds: float | None) -> str:
    """A length of time: `8.2 s`, `45 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds is None:
        return NOTHING
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600 and whole % 60 == 0:
        return f"{whole // 60} min"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def ago(seconds: float | None) -> str:
    """`just now`, `12 s ago`."""
    if seconds is None:
        return "never"
    return "just now" if seconds < 1.5 else f"{span(seconds) if seconds > 9.5 else f'{seconds:.0f} s'} ago"


def size(count: float) -> str:
    """A number of bytes in decimal units: `512 B`, `3.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.5 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def power(value: float) -> str:
    """A small number as people write it: `1e-4`, `2.5e-5`."""
    digits, exponent = f"{value:.1e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"


def bound(epsilon: float, delta: float, unit: str) -> str:
    """What is proven: `ε 8 at δ 1e-4 for each patient of a hospital`."""
    whom = "each patient of a hospital" if unit == "patient" else "each hospital as a whole"
    return f"ε {epsilon:g} at δ {power(delta)} for {whom}"


def spent_by(unit: str) -> str:
    """Whose ε a chart shows, and what binds."""
    return f"ε of the {unit} that has spent most. Each hospital's own ledger binds, not this figure."


def noise(error: float, rounds: Sequence[int], planned: int) -> str:
    """How far reported scores are off on purpose, and which models were scored."""
    size = f"± {error:.2f}" if error < 1 else "more than the whole scale"
    return f"Noisy on purpose: a region's bar is one standard deviation, {size}. {scored(rounds, planned)}"


def scored(rounds: Sequence[int], planned: int) -> str:
    """Which rounds' models were scored: `Scored: rounds 0 and 4, 2 of 3 planned.`"""
    if len(rounds) > MOST_ROUNDS:
        return f"Scored: {len(rounds)} of {planned} models, the last of round {rounds[-1]}."
    *others, last = [str(number) for number in rounds]
    which = f"rounds {', '.join(others)} and {last}" if others else f"round {last}"
    return f"Scored: {which}, {len(rounds)} of {planned} planned."


def budget(hospitals: Mapping[str, int]) -> str:
    """Whose privacy budget is spent: a round for each hospital's name. Safe in Markdown."""
    whose = ", ".join(f"{plain(name)} (since round {number})" for name, number in hospitals.items())
    return f"{BUDGET_SPENT} {whose}. The vault there refuses: {text_of(Reason.BUDGET_SPENT)}."


def score(value: float | None) -> str:
    """A Dice score with three decimals."""
    return NOTHING if value is None else f"{value:.3f}"


def skipped(counts: Mapping[CaseProblem, int]) -> str:
    """Skipped cases with their reasons: `2 × a file holds NaN or infinite voxels`; a dash for none."""
    parts = [f"{count} × {text_of(problem)}" for problem, count in sorted(counts.items()) if count]
    return "; ".join(parts) or NOTHING


def missing(reasons: Mapping[str, Reason], hospitals: Mapping[str, str]) -> str:
    """Who is missing and why; `reasons` by site, sites shown by their hospital's name."""
    return "; ".join(f"{hospitals.get(site, site)}: {text_of(reason)}" for site, reason in reasons.items())


def opened(number: int, attempt: int, planned: int) -> str:
    """What is open now; after the planned rounds comes one last exchange that scores the final model."""
    what = (
        f"Round {number} is open" if number <= planned else "Last exchange: the final model is being scored"
    )
    return what if attempt == 1 else f"{what}, attempt {attempt}"


def status_line(run: str) -> str:
    """The command that shows the same on a terminal."""
    return f"consilium study status {run} --watch"


def launch_line(study: str) -> str:
    """The command that starts a run of a study."""
    return f"consilium study launch {study[:12]}"


def resume_line(run: str) -> str:
    """The command that goes on from the last checkpoint."""
    return f"consilium study resume {run}"
