"""Prepares a case once: RAS, isotropic spacing, z-score over non-zero voxels, brain crop; cached on disk.

The cache is keyed by the hash of the files' bytes and of the recipe, so a changed file or recipe is
prepared anew and an old entry is never wrong. Entries are .npz without pickle.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from numpy.typing import NDArray
from scipy import ndimage

from consilium.errors import CaseError
from consilium.files import write_atomic
from consilium.vocabulary import CaseProblem
from consilium_site.imaging.brats import CaseFiles, regions
from consilium_site.imaging.case import Case, read_case

VERSION = 1
MARGIN = 2
SAME_SPACING_MM = 1e-2


@dataclass(frozen=True)
class Prepared:
    """A case ready for the network."""

    name: str
    patient: str
    images: NDArray[np.float32]
    """(C, I, J, K), z-scored, RAS, isotropic, cropped to the brain."""
    masks: NDArray[np.uint8] | None
    """(3, I, J, K) as TC, WT, ET; None if unlabelled."""


@dataclass(frozen=True)
class Way:
    """The way back from the prepared grid to the case's own: orientation, shapes, zoom, crop."""

    orientation: NDArray[np.float64]
    shape: tuple[int, int, int]
    zoomed: tuple[int, int, int]
    crop: tuple[slice, slice, slice]


def prepare(files: CaseFiles, spacing_mm: float, cache: Path) -> Prepared:
    """The prepared case, from the cache if it is there.

    Raises:
        CaseError: the case is not in the cache and is unreadable or breaks a rule of `read_case`.
    """
    try:
        path = cache / f"{_key(files, spacing_mm)}.npz"
    except OSError as error:
        raise CaseError(CaseProblem.UNREADABLE, f"{files.name}: {error}") from None
    found = _load(path, files)
    if found is not None:
        return found
    images, masks, _ = transform(read_case(files), spacing_mm)
    prepared = Prepared(files.name, files.patient, images, masks)
    buffer = io.BytesIO()
    arrays = {"images": images} if masks is None else {"images": images, "masks": masks}
    np.savez(buffer, **arrays)
    write_atomic(path, buffer.getvalue(), mode=0o600)
    return prepared


def transform(case: Case, spacing_mm: float) -> tuple[NDArray[np.float32], NDArray[np.uint8] | None, Way]:
    """Prepared images (C, I, J, K), masks (3, I, J, K) or None, and the way back."""
    ornt = ornt_transform(io_orientation(case.affine), axcodes2ornt("RAS"))
    images = np.stack([apply_orientation(channel, ornt) for channel in case.images])
    masks = None
    if case.labels is not None:
        masks = regions(apply_orientation(case.labels, ornt), case.files.convention)
    affine = case.affine @ inv_ornt_aff(ornt, case.images.shape[1:])
    spacing = voxel_sizes(affine)
    if np.abs(spacing - spacing_mm).max() > SAME_SPACING_MM:
        zoom = spacing / spacing_mm
        images = np.stack([ndimage.zoom(channel, zoom, order=1) for channel in images])
        if masks is not None:
            masks = np.stack([ndimage.zoom(mask, zoom, order=0) for mask in masks])
    zoomed = images.shape[1:]
    crop = _brain_box(images)
    images = _z_score(images[(slice(None), *crop)])
    if masks is not None:
        masks = np.ascontiguousarray(masks[(slice(None), *crop)])
    return images, masks, Way(ornt, case.images.shape[1:], zoomed, crop)


def restore(masks: NDArray[np.uint8], way: Way, affine: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Masks (3, I, J, K) on the prepared grid → the case's own grid, by nearest neighbour."""
    whole = np.zeros((len(masks), *way.zoomed), np.uint8)
    whole[(slice(None), *way.crop)] = masks
    back = ornt_transform(axcodes2ornt("RAS"), io_orientation(affine))
    turned_shape = tuple(way.shape[int(axis)] for axis in np.argsort(way.orientation[:, 0]))
    if way.zoomed != turned_shape:
        factors = np.array(turned_shape) / np.array(way.zoomed)
        whole = np.stack([ndimage.zoom(mask, factors, order=0) for mask in whole])
    return np.stack([apply_orientation(mask, back) for mask in whole])


def _brain_box(images: NDArray[np.float32]) -> tuple[slice, slice, slice]:
    """The box around voxels that are non-zero in any channel, with a small margin."""
    inside = (images != 0).any(axis=0)
    box = []
    for axis in range(3):
        along = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
        low, high = max(0, int(along[0]) - MARGIN), min(inside.shape[axis], int(along[-1]) + 1 + MARGIN)
        box.append(slice(low, high))
    return (box[0], box[1], box[2])


def _z_score(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Zero mean and unit deviation over each channel's non-zero voxels; background stays 0."""
    scored = np.zeros_like(images, dtype=np.float32)
    for channel, image in enumerate(images):
        inside = image != 0
        values = image[inside]
        scored[channel][inside] = (values - values.mean()) / max(float(values.std()), 1e-6)
    return scored


def _key(files: CaseFiles, spacing_mm: float) -> str:
    digest = hashlib.sha256(f"{VERSION}/{spacing_mm}/{MARGIN}/{files.convention.name}".encode())
    for path in [*files.images.values(), *([files.label] if files.label else [])]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _load(path: Path, files: CaseFiles) -> Prepared | None:
    """A cache entry, or None if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as entry:
            return Prepared(files.name, files.patient, entry["images"], entry.get("masks"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
