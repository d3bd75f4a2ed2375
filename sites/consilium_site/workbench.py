"""The vault's port to data and network: prepare a cohort, score a model, train it.

The vault knows this protocol only. `training.MonaiWorkbench` is the real one; `ToyWorkbench` is a numpy
quadratic that lets tests run the whole path without scans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from consilium.contracts.charter import Charter
from consilium.vocabulary import CaseProblem

Vector = NDArray[np.float32]
Precision = Literal["fp32", "bf16", "cuda", "toy"]
Progress = Callable[[int, int], None]
"""Called with (done, total) cases."""


@dataclass(frozen=True)
class Cohort:
    """What the site brings: patients are counted, cases are named only inside the site."""

    train: int
    """Training patients (the site's weight)."""
    test: int
    """Held-out patients."""
    skipped: dict[CaseProblem, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """Sums over held-out patients: divide by `scored` for means. Dice in [0, 1] each."""

    dice_tc: float
    dice_wt: float
    dice_et: float
    scored: int
    empty: int = 0
    """Scored regions whose reference was empty (Dice 1 if the prediction is empty too, else 0)."""


@dataclass(frozen=True)
class Trained:
    """Outcome of a charter's local steps."""

    update: Vector
    """(P,) float32, trained parameters minus the parameters given."""
    weight: int
    """Training patients."""
    loss: float
    """Mean training loss over the steps."""
    precision: Precision


@dataclass(frozen=True)
class People:
    """A cohort by patient: names that never leave the site."""

    train: tuple[str, ...]
    test: tuple[str, ...]


class Workbench(Protocol):
    """Data and network of one site for one charter. Calls come one at a time, from one thread.

    All three raise `Refused(Reason.TOO_SLOW)` when `time.monotonic()` passes `until`.
    """

    def prepare(self, progress: Progress | None = None) -> Cohort:
        """Catalogue, check, prepare and cache the cases once; later calls are cheap.

        A case that appears or vanishes between runs is picked up by a new workbench, not mid-run.
        """

    def score(self, parameters: Vector, until: float) -> Scored:
        """Dice sums of the model on held-out patients; `scored` is 0 if the site holds none out."""

    def train(self, parameters: Vector, round_number: int, until: float) -> Trained:
        """Run the charter's local steps from `parameters` (P,), which are not modified.

        Deterministic for equal (charter, site data, parameters, round_number) on one machine.
        """

    def freeze(self, parameters: Vector) -> None:
        """Take the frozen parameters (F,) of a charter that trains a head only; before any other call."""

    def people(self) -> People:
        """Who trains and who is held out."""

    def descents(
        self, parameters: Vector, patients: Sequence[str], round_number: int, until: float
    ) -> Iterator[tuple[Vector, float]]:
        """For each patient, minus the gradient (P,) of the mean loss of the patient's patches, and that loss.

        One backward pass a patient, over all scans of the person together. Not clipped.
        """

    def score_people(self, parameters: Vector, until: float) -> list[tuple[float, float, float]]:
        """Each held-out patient's mean Dice of TC, WT and ET."""


class ToyWorkbench:
    """Each site pulls the parameters towards its own point; the consortium's mean is known exactly.

    The point of site s is a seeded normal vector; `data` may hold a file `delay` (seconds a training
    call takes) so that tests can kill processes in the middle of a round.
    """

    def __init__(self, charter: Charter, site: str, data: Path) -> None:
        self.charter, self.data = charter, data
        seed = int.from_bytes(site.encode()[-8:], "little")
        self.point = np.random.default_rng(seed).normal(size=charter.model.parameters).astype(np.float32)

    def prepare(self, progress: Progress | None = None) -> Cohort:
        """Ten training and two held-out patients that do not exist."""
        return Cohort(train=10, test=2)

    def score(self, parameters: Vector, until: float) -> Scored:
        """A 'Dice' that grows towards 1 as the parameters approach the site's point."""
        away = parameters - self.point
        dice = float(np.exp(-np.dot(away, away) / away.size))
        return Scored(dice * 2, dice * 2, dice * 2, scored=2)

    def freeze(self, parameters: Vector) -> None:
        """Nothing is frozen in a toy."""

    def people(self) -> People:
        """The same ten and two."""
        return People(tuple(f"toy-{number}" for number in range(10)), ("toy-10", "toy-11"))

    def descents(
        self, parameters: Vector, patients: Sequence[str], round_number: int, until: float
    ) -> Iterator[tuple[Vector, float]]:
        """Every patient pulls towards the site's point."""
        for _ in patients:
            pull = self.point - parameters
            yield pull, float(np.dot(pull, pull) / pull.size)

    def score_people(self, parameters: Vector, until: float) -> list[tuple[float, float, float]]:
        """Two patients with the site's 'Dice'."""
        away = parameters - self.point
        dice = float(np.exp(-np.dot(away, away) / away.size))
        return [(dice, dice, dice)] * 2

    def train(self, parameters: Vector, round_number: int, until: float) -> Trained:
        """One exact half-step towards the site's point."""
        import time

        from consilium.errors import Refused
        from consilium.vocabulary import Reason

        delay = self.data / "delay"
        end = time.monotonic() + (float(delay.read_text()) if delay.is_file() else 0.0)
        while time.monotonic() < end:
            if time.monotonic() > until:
                raise Refused(Reason.TOO_SLOW)
            time.sleep(0.05)
        update = self.point - parameters
        update *= np.float32(0.5)
        return Trained(update, 10, float(np.dot(update, update) / update.size), "toy")
