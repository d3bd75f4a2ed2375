"""Reads one case and checks it; a broken case becomes a `CaseError` with a code."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from consilium.errors import CaseError
from consilium.vocabulary import CaseProblem, Modality
from consilium_site.imaging.brats import CaseFiles

SPACING_MM = (0.3, 6.0)
SIDE = (16, 1024)
GRID_TOLERANCE_MM = 1e-2


@dataclass(frozen=True)
class Case:
    """A checked case on its own grid."""

    files: CaseFiles
    images: NDArray[np.float32]
    """(C, I, J, K), channels in the order of `Modality`."""
    labels: NDArray[np.int16] | None
    """(I, J, K), values of the case's convention; None if unlabelled."""
    affine: NDArray[np.float64]
    """(4, 4), voxel indices to mm."""


def read_case(files: CaseFiles) -> Case:
    """Read and check a case: readable, one grid, plausible spacing, finite, not empty, known labels.

    Raises:
        CaseError: the first broken rule; its text names file, value and rule and stays at the site.
    """
    first, affine = _read(files.images[Modality.T1])
    _check_grid(files.images[Modality.T1], first, affine)
    images = np.empty((len(Modality), *first.shape), np.float32)
    for channel, modality in enumerate(Modality):
        path = files.images[modality]
        voxels, own = (first, affine) if channel == 0 else _read(path)
        _same_grid(path, voxels, own, first, affine)
        images[channel] = _checked_image(path, voxels)
    labels = None
    if files.label is not None:
        voxels, own = _read(files.label)
        _same_grid(files.label, voxels, own, first, affine)
        labels = _checked_labels(files.label, voxels, files.convention.labels)
    return Case(files, images, labels, affine)


def _read(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    try:
        image = nib.load(path)
        return np.asarray(image.dataobj), np.asarray(image.affine, np.float64)
    except (OSError, EOFError, ValueError, zlib.error, ImageFileError) as error:
        raise CaseError(
            CaseProblem.UNREADABLE, f"{path}: cannot be read ({type(error).__name__}: {error})"
        ) from None


def _check_grid(path: Path, voxels: NDArray[Any], affine: NDArray[np.float64]) -> None:
    if voxels.ndim != 3 or not all(SIDE[0] <= side <= SIDE[1] for side in voxels.shape):
        raise CaseError(
            CaseProblem.SHAPE,
            f"{path}: shape {voxels.shape}; must be 3D with {SIDE[0]} to {SIDE[1]} voxels a side",
        )
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    if not np.isfinite(affine).all() or not ((spacing >= SPACING_MM[0]) & (spacing <= SPACING_MM[1])).all():
        raise CaseError(
            CaseProblem.SPACING,
            f"{path}: spacing {np.round(spacing, 3).tolist()} mm; must be in {SPACING_MM} mm",
        )


def _same_grid(
    path: Path,
    voxels: NDArray[Any],
    affine: NDArray[np.float64],
    first: NDArray[Any],
    reference: NDArray[np.float64],
) -> None:
    if voxels.shape != first.shape or not np.allclose(affine, reference, atol=GRID_TOLERANCE_MM):
        raise CaseError(
            CaseProblem.GRID_MISMATCH,
            f"{path}: grid {voxels.shape} differs from the T1's {first.shape}, or its affine does; "
            "co-register the case first",
        )


def _checked_image(path: Path, voxels: NDArray[Any]) -> NDArray[np.float32]:
    image = voxels.astype(np.float32)
    if not np.isfinite(image).all():
        raise CaseError(
            CaseProblem.NOT_FINITE, f"{path}: {int((~np.isfinite(image)).sum())} voxels are NaN or infinite"
        )
    inside = image[image != 0]
    if inside.size < 100 or float(inside.std()) == 0.0:
        raise CaseError(
            CaseProblem.EMPTY_IMAGE, f"{path}: fewer than 100 non-zero voxels, or all of one value"
        )
    return image


def _checked_labels(path: Path, voxels: NDArray[Any], known: frozenset[int]) -> NDArray[np.int16]:
    if not np.isfinite(voxels).all():
        raise CaseError(CaseProblem.NOT_FINITE, f"{path}: the label map holds NaN or infinite voxels")
    values = {float(value) for value in np.unique(voxels)}
    if not values <= {float(value) for value in known}:
        odd = sorted(values - {float(value) for value in known})
        raise CaseError(CaseProblem.UNKNOWN_LABEL, f"{path}: labels {odd[:5]}; known are {sorted(known)}")
    return voxels.astype(np.int16)
