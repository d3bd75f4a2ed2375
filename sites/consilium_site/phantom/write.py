"""Turns brains and tumours into BraTS folders, so that nothing downstream knows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from consilium.errors import InputError
from consilium_site.phantom.anatomy import (
    CSF,
    GREY,
    NUCLEI,
    WHITE,
    Brain,
    Field,
    Tumour,
    grow_brain,
    grow_tumour,
    smooth_noise,
)
from consilium_site.phantom.profiles import Profile, profile_of

FIELD_OF_VIEW_MM = 192.0
WHITE_LEVEL = 600.0
SEQUENCES = ("t1", "t1ce", "t2", "flair")
# Signal of each tissue in t1, t1ce, t2, flair; white matter of t1 is 1.
SIGNAL = {
    CSF: (0.30, 0.30, 1.45, 0.22),
    GREY: (0.74, 0.76, 0.92, 0.88),
    WHITE: (1.00, 1.00, 0.66, 0.72),
    NUCLEI: (0.84, 0.86, 0.78, 0.82),
}
CORE = (0.50, 0.48, 1.20, 0.85)
RIM = (0.70, 1.55, 1.00, 1.10)
OEDEMA = (0.66, 0.68, 1.25, 1.40)


def write_cases(
    out: Path,
    site: str,
    cases: int,
    size: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    first: int = 1,
) -> list[Path]:
    """Write `cases` folders `SITE_001` … into `out`, from number `first`; equal arguments give equal files.

    `size` is the cube's side in voxels; it always spans 192 mm. A case depends on site, number and seed
    alone, so several processes can share the work.

    Raises:
        InputError: `size` is not from 32 to 240, or `cases` is not positive.
    """
    if not 32 <= size <= 240 or cases < 1:
        raise InputError(f"phantom: size {size} must be 32 to 240 voxels and cases {cases} at least 1")
    profile, folders = profile_of(site), []
    for index in range(first, first + cases):
        key = hashlib.sha256(f"{site}/{index}/{seed}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(key[:8], "little"))
        folders.append(_write_case(out / f"{site}_{index:03d}", rng, profile, size))
        if progress is not None:
            progress(index - first + 1, cases)
    return folders


def _write_case(folder: Path, rng: np.random.Generator, profile: Profile, size: int) -> Path:
    brain = grow_brain(rng, size)
    tumour = grow_tumour(rng, brain, profile.tumour)
    spacing = FIELD_OF_VIEW_MM / size
    affine = np.diag([-spacing, -spacing, spacing, 1.0])
    folder.mkdir(parents=True, exist_ok=True)
    lesions = 0.25 * (smooth_noise(rng, size, 0.03) > 2.6)
    vessels = (np.abs(smooth_noise(rng, size, 0.06)) < 0.03) & (brain.tissue == GREY)
    for channel, sequence in enumerate(SEQUENCES):
        image = _contrast(brain, tumour, channel)
        if sequence == "t1ce":
            image[vessels] = 1.35
        if sequence in ("t2", "flair"):
            image = image + lesions * (brain.tissue == WHITE)
        scan = _scan(image, brain, rng, profile, channel)
        nib.save(
            nib.Nifti1Image(_turned(scan).astype(np.int16), affine),
            folder / f"{folder.name}_{sequence}.nii.gz",
        )
    labels = _labels(tumour, brain, profile)
    nib.save(nib.Nifti1Image(_turned(labels), affine), folder / f"{folder.name}_seg.nii.gz")
    return folder


def _contrast(brain: Brain, tumour: Tumour, channel: int) -> Field:
    image = np.zeros(brain.tissue.shape)
    for tissue, signal in SIGNAL.items():
        image[brain.tissue == tissue] = signal[channel]
    soft = np.clip(1.6 * (1.12 - tumour.reach), 0, 1) * tumour.oedema
    image = image * (1 - soft) + OEDEMA[channel] * soft
    image[tumour.core], image[tumour.rim] = CORE[channel], RIM[channel]
    return image


def _scan(image: Field, brain: Brain, rng: np.random.Generator, profile: Profile, channel: int) -> Field:
    """What this hospital's scanner makes of it: blur, gamma, bias field, Rician noise, skull stripped."""
    size = len(image)
    image = ndimage.gaussian_filter(image, profile.blur * size / 48)
    image = np.clip(image, 0, None) ** profile.gamma * profile.contrast[channel]
    image = image * np.exp(profile.bias * 0.5 * smooth_noise(rng, size, 0.25))
    real, imaginary = profile.noise * rng.standard_normal((2, *image.shape))
    image = np.hypot(image + real, imaginary)
    return np.asarray(np.where(brain.radius < 1.0, np.maximum(np.rint(image * WHITE_LEVEL), 1), 0))


def _labels(tumour: Tumour, brain: Brain, profile: Profile) -> NDArray[np.uint8]:
    """BraTS 2018 labels as this hospital's annotator draws them."""
    solid = tumour.core | tumour.rim
    oedema = (tumour.reach < 1.0 + profile.habit) & (brain.radius < 0.96) & ~solid & (brain.tissue != 0)
    labels = np.zeros(brain.tissue.shape, np.uint8)
    labels[oedema], labels[tumour.core], labels[tumour.rim] = 2, 1, 4
    return labels


def _turned(volume: NDArray[np.generic]) -> NDArray[np.generic]:
    """Our axes are right, front, up; the file's are left, back, up, as BraTS has them."""
    return np.ascontiguousarray(volume[::-1, ::-1])
