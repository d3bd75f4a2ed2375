"""`consilium privacy`: what a study's privacy takes and leaves, worked out on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Group

    from consilium.contracts.privacy import EpsilonAt, PrivacyOutlook

app = typer.Typer(no_args_is_help=True)

COLOURS = {"workable": "bold green", "strained": "bold yellow", "hopeless": "bold red"}
BLOCKS = "▁▂▃▄▅▆▇█"
SITES, PATIENTS = 4, 250
HELD_OUT = 3
"""Training patients to one held out, as hospitals hold out one in four."""
OF_CHARTER = (
    "rounds",
    "steps",
    "sampling",
    "parameters",
    "epsilon",
    "delta",
    "evaluations",
    "unit",
    "mechanism",
)


@app.callback()
def privacy() -> None:
    """Plan a study's differential privacy. Needs no API."""


@app.command()
def plan(
    patients: Annotated[
        list[str] | None,
        typer.Option(help=f"Training patients of a hospital (default {PATIENTS}); 100,250,400 if unequal."),
    ] = None,
    sites: Annotated[int | None, typer.Option(help=f"Hospitals (default {SITES}).", min=2, max=100)] = None,
    held_out: Annotated[
        int | None,
        typer.Option(help="Held-out patients of all hospitals (default: a third of training).", min=0),
    ] = None,
    parameters: Annotated[int | None, typer.Option(help="Trained parameters; frozen ones are free.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds (default 100).")] = None,
    steps: Annotated[int | None, typer.Option(help="Noisy steps a round, with 'local' (default 1).")] = None,
    sampling: Annotated[
        float | None, typer.Option(help="A patient's chance to be in a step (default 1).")
    ] = None,
    epsilon: Annotated[float | None, typer.Option(help="Most ε of the run (default 8).")] = None,
    delta: Annotated[
        float | None,
        typer.Option(help="δ (default 1/(10 × training patients), rounded down to a power of ten)."),
    ] = None,
    evaluations: Annotated[int | None, typer.Option(help="Models scored in the run (default 3).")] = None,
    unit: Annotated[str | None, typer.Option(help="patient (default) or site.")] = None,
    mechanism: Annotated[str | None, typer.Option(help="distributed (default), local or central.")] = None,
    charter: Annotated[
        Path | None, typer.Option(help="Take all but the hospitals' sizes from a charter.", dir_okay=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What noise a promise takes, and whether anything can be learnt under it."""
    from rich.console import Console

    values = (rounds, steps, sampling, parameters, epsilon, delta, evaluations, unit, mechanism)
    given = {name: value for name, value in zip(OF_CHARTER, values, strict=True) if value is not None}
    _check_installed()
    with Console(stderr=True).status("composing the privacy loss of the run …"):
        if charter is None:
            cohorts = _cohorts(patients, sites, None)
            found = _ask(cohorts, _held_out(held_out, cohorts), given)
        else:
            found, cohorts = _ask_charter(charter, patients, sites, held_out, given)
    if json:
        typer.echo(found.model_dump_json())
    else:
        Console().print(outlook_page(found, cohorts, _held_out(held_out, cohorts)))


def outlook_page(found: PrivacyOutlook, cohorts: Sequence[int], held_out: int) -> Group:
    """The answer for people: verdict and remedies, figures, ε by round, and what is protected."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = (
        f"{len(cohorts)} hospitals, {sum(cohorts):,} training and {held_out:,} held-out patients, "
        f"{found.parameters:,} trained parameters"
    )
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim")
    table.add_column()
    for name, value in _figures(found):
        table.add_row(name, value)
    table.add_row("ε by round", spark(found.by_round))
    words = Text(found.sentences[0])
    for sentence in found.sentences[1:]:
        words.append(f"\n· {sentence}")
    words.highlight_regex(r"(?i)\b(workable|strained|hopeless):", COLOURS[found.verdict])
    protects = Text("\n".join(found.protects), style="dim")
    return Group(Text(head, style="bold"), Text(""), table, Text(""), words, Text(""), protects)


def spark(points: Sequence[EpsilonAt]) -> str:
    """A line of blocks, as tall as ε at each round, with the first and the last in numbers."""
    most = max(point.epsilon for point in points) or 1.0
    places = [min(len(BLOCKS) - 1, int(len(BLOCKS) * point.epsilon / most)) for point in points]
    first, last = points[0], points[-1]
    line = "".join(BLOCKS[place] for place in places)
    return f"{line}  {first.epsilon:.2f} after round {first.round}, {last.epsilon:.2f} after {last.round}"


def _figures(found: PrivacyOutlook) -> list[tuple[str, str]]:
    error = "–" if found.dice_error is None else f"±{found.dice_error:.3f}"
    if found.dice_error is not None and found.dice_error > 1:
        error = "above ±1"
    return [
        ("noise multiplier σ (privacy.noise)", f"{found.noise:g}"),
        ("ε of the run", f"{found.epsilon:.2f} at δ {found.delta:g}, set by the {found.limit}"),
        ("noise-to-signal of a step", f"{found.noise_to_signal:.3g}"),
        ("… of the mean of all steps", f"{found.noise_to_signal_mean:.3g}"),
        ("noise in the sum, if all answer", f"{found.surplus:.3g} times what ε rests on"),
        ("error of a region's reported Dice", error),
    ]


def _check_installed() -> None:
    from importlib.util import find_spec

    from consilium.errors import InputError

    if find_spec("dp_accounting") is None:
        raise InputError("the accountant is not installed: pip install 'consilium[api]'")


def _ask(cohorts: Sequence[int], held_out: int, given: dict[str, Any]) -> PrivacyOutlook:
    from pydantic import ValidationError

    from consilium.contracts.base import explain
    from consilium.contracts.privacy import PrivacyQuestion, answer
    from consilium.errors import InputError
    from consilium.privacy.planning import safe_delta

    if "parameters" not in given:
        raise InputError("--parameters is missing: how many parameters are trained? Or name a --charter")
    values = {"delta": safe_delta(sum(cohorts)), "cohorts": tuple(cohorts), "held_out": held_out}
    try:
        question = PrivacyQuestion.model_validate(values | given)
    except ValidationError as error:
        raise InputError(explain(error)) from None
    return answer(question)


def _ask_charter(
    path: Path,
    patients: list[str] | None,
    sites: int | None,
    held_out: int | None,
    given: dict[str, Any],
) -> tuple[PrivacyOutlook, list[int]]:
    from consilium.contracts.charter import read_charter
    from consilium.contracts.privacy import answer_charter
    from consilium.errors import InputError

    if given:
        names = ", ".join(f"--{name}" for name in given)
        raise InputError(f"{names}: the charter says this; leave it out, or ask without --charter")
    try:
        document = read_charter(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    cohorts = _cohorts(patients, sites, len(document.roster))
    return answer_charter(document, cohorts, _held_out(held_out, cohorts)), cohorts


def _cohorts(patients: list[str] | None, sites: int | None, roster: int | None) -> list[int]:
    """Training patients by hospital: one number serves all, several are one each.

    Raises:
        InputError: a number is none, or there are more or fewer of them than hospitals.
    """
    from consilium.errors import InputError

    texts = [text.strip() for entry in patients or [str(PATIENTS)] for text in entry.split(",")]
    if not all(text.isdecimal() and 1 <= int(text) <= 1_000_000 for text in texts):
        raise InputError(f"--patients {','.join(texts)}: give numbers from 1 to 1,000,000, such as 100,250")
    wanted = [number for number in (sites, roster) if number is not None]
    count = wanted[0] if wanted else (len(texts) if len(texts) > 1 else SITES)
    numbers = [int(text) for text in texts] * (count if len(texts) == 1 else 1)
    if any(number != len(numbers) for number in wanted):
        raise InputError(f"--patients names {len(numbers)} hospitals, not {' or '.join(map(str, wanted))}")
    return numbers


def _held_out(held_out: int | None, cohorts: Sequence[int]) -> int:
    return sum(cohorts) // HELD_OUT if held_out is None else held_out
