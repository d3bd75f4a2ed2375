"""Finds the cases of a folder, checks each once, and says which can be used and why others cannot."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from consilium.errors import CaseError, InputError
from consilium.vocabulary import CaseProblem
from consilium_site.imaging.brats import CaseFiles, find_case
from consilium_site.imaging.case import read_case

HELD_OUT = 4
"""One patient in four is held out."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Skipped:
    """A case that is not used. `reason` may leave the site as part of a count; `text` never does."""

    name: str
    reason: CaseProblem
    text: str


@dataclass(frozen=True)
class Catalogue:
    """Usable cases and skipped ones, by name."""

    usable: tuple[CaseFiles, ...]
    skipped: tuple[Skipped, ...]

    def counts(self) -> dict[CaseProblem, int]:
        """Skipped cases by reason: all that leaves the site about them."""
        return dict(Counter(each.reason for each in self.skipped))


@dataclass(frozen=True)
class Split:
    """Training and held-out cases; no patient is in both."""

    train: tuple[CaseFiles, ...]
    test: tuple[CaseFiles, ...]


def scan(
    root: Path,
    *,
    labelled: bool = True,
    check: Callable[[CaseFiles], object] = read_case,
    progress: Progress | None = None,
) -> Catalogue:
    """Check every case folder directly below `root`; `check` raises `CaseError` for one that is no good.

    By default a case is read whole; a caller that prepares cases passes its own, so each is read once.

    Raises:
        InputError: `root` is not a folder or has no case folder.
    """
    if not root.is_dir():
        raise InputError(f"data folder {root}: not a folder; name the folder that holds the case folders")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise InputError(
            f"data folder {root}: holds no case folder; a case is a folder with five NIfTI files"
        )
    usable, skipped = [], []
    for done, folder in enumerate(folders):
        if progress is not None:
            progress(done, len(folders))
        try:
            files = find_case(folder, labelled=labelled)
            check(files)
            usable.append(files)
        except CaseError as error:
            skipped.append(Skipped(folder.name, CaseProblem(error.reason), str(error)))
    if progress is not None:
        progress(len(folders), len(folders))
    return Catalogue(tuple(usable), tuple(skipped))


def split(cases: Iterable[CaseFiles]) -> Split:
    """Hold out one patient in four (at least one), fixed by hash: the same patients in every run.

    Two patients: one trains, one tests. One patient: it trains and nothing is held out.
    """
    by_patient: dict[str, list[CaseFiles]] = defaultdict(list)
    for case in cases:
        by_patient[case.patient].append(case)
    order = sorted(by_patient, key=lambda patient: hashlib.sha256(patient.encode()).hexdigest())
    held = 0 if len(order) < 2 else max(1, len(order) // HELD_OUT)
    test = [case for patient in order[:held] for case in by_patient[patient]]
    train = [case for patient in order[held:] for case in by_patient[patient]]
    return Split(tuple(train), tuple(test))


def split_alone(cases: Iterable[CaseFiles]) -> Split:
    """Hold out one patient in four by the patient's own hash: nobody's part depends on who else is there.

    This is the split of studies with patient-level privacy, where one patient more or less must move
    nobody else. Nobody is held out, or nobody trains, in some small cohorts.
    """
    test: list[CaseFiles] = []
    train: list[CaseFiles] = []
    for case in cases:
        digest = hashlib.sha256(case.patient.encode()).digest()
        (test if digest[0] % HELD_OUT == 0 else train).append(case)
    return Split(tuple(train), tuple(test))
