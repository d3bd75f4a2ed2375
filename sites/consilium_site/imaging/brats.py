"""BraTS names and labels by year.

≤ 2021: files `NAME_t1.nii.gz _t1ce _t2 _flair _seg`, labels 1 necrotic/non-enhancing, 2 oedema, 4 enhancing.
2023+:  files `NAME-t1n.nii.gz -t1c -t2w -t2f -seg`, labels 1 necrotic, 2 oedema, 3 enhancing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consilium.errors import CaseError
from consilium.vocabulary import CaseProblem, Modality

SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Convention:
    """How one generation of BraTS names its files and its enhancing tumour."""

    name: str
    separator: str
    modalities: dict[Modality, str]
    enhancing: int

    @property
    def labels(self) -> frozenset[int]:
        """Every value that a label map may hold."""
        return frozenset({0, 1, 2, self.enhancing})


OLD = Convention(
    "BraTS 2017–2021",
    "_",
    {Modality.T1: "t1", Modality.T1CE: "t1ce", Modality.T2: "t2", Modality.FLAIR: "flair"},
    4,
)
NEW = Convention(
    "BraTS 2023+",
    "-",
    {Modality.T1: "t1n", Modality.T1CE: "t1c", Modality.T2: "t2w", Modality.FLAIR: "t2f"},
    3,
)


@dataclass(frozen=True)
class CaseFiles:
    """One case on disk: its name, its convention, its four images and, if labelled, its label map."""

    name: str
    convention: Convention
    images: dict[Modality, Path]
    label: Path | None

    @property
    def patient(self) -> str:
        """The person behind the case: 2023+ names end in a time point, which is left out."""
        return re.sub(r"-\d{3}$", "", self.name) if self.convention is NEW else self.name


def find_case(folder: Path, *, labelled: bool) -> CaseFiles:
    """Recognise the files of one case folder.

    Raises:
        CaseError: EMPTY_FOLDER, MISSING_MODALITY or MISSING_LABEL, with the detail in its text.
    """
    files = {path.name: path for path in sorted(folder.iterdir()) if path.name.endswith(SUFFIXES)}
    if not files:
        raise CaseError(CaseProblem.EMPTY_FOLDER, f"{folder}: holds no .nii.gz or .nii file")
    found = {each.name: _images(files, each) for each in (OLD, NEW)}
    convention = max((OLD, NEW), key=lambda each: len(found[each.name]))
    images = found[convention.name]
    missing = [convention.modalities[m] for m in Modality if m not in images]
    if missing:
        names = ", ".join(f"{convention.separator}{name}.nii.gz" for name in missing)
        raise CaseError(
            CaseProblem.MISSING_MODALITY, f"{folder}: no file ends in {names} ({convention.name})"
        )
    label = _ending(files, f"{convention.separator}seg")
    if labelled and label is None:
        raise CaseError(
            CaseProblem.MISSING_LABEL, f"{folder}: no file ends in {convention.separator}seg.nii.gz"
        )
    return CaseFiles(folder.name, convention, images, label)


def regions(labels: NDArray[Any], convention: Convention) -> NDArray[np.uint8]:
    """Label map (I, J, K) → region masks (3, I, J, K) in the order TC, WT, ET."""
    enhancing = labels == convention.enhancing
    core = enhancing | (labels == 1)
    whole = core | (labels == 2)
    return np.stack([core, whole, enhancing]).astype(np.uint8)


def label_map(masks: NDArray[Any], convention: Convention) -> NDArray[np.uint8]:
    """Region masks (3, I, J, K) as TC, WT, ET → label map (I, J, K): ET over TC over WT."""
    core, whole, enhancing = (mask.astype(bool) for mask in masks)
    labels = np.zeros(core.shape, np.uint8)
    labels[whole | core | enhancing] = 2
    labels[core | enhancing] = 1
    labels[enhancing] = convention.enhancing
    return labels


def _images(files: dict[str, Path], convention: Convention) -> dict[Modality, Path]:
    ends = {m: _ending(files, convention.separator + name) for m, name in convention.modalities.items()}
    return {modality: path for modality, path in ends.items() if path is not None}


def _ending(files: dict[str, Path], ending: str) -> Path | None:
    return next((path for name, path in files.items() if _stem(name).endswith(ending)), None)


def _stem(name: str) -> str:
    return name.removesuffix(".gz").removesuffix(".nii")
