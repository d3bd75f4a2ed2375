"""A brain of ellipsoids and smooth noise: tissue classes on a cube, and a tumour inside.

Not anatomy, but enough of it that a network must learn contrast, shape and context, and that a person
sees a brain: cortex with sulci, white matter, deep nuclei, ventricles, the fissure between hemispheres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float64]
AIR, CSF, GREY, WHITE, NUCLEI = range(5)
RADII = (0.70, 0.88, 0.68)


@dataclass(frozen=True)
class Brain:
    """Tissue classes (I, J, K) and the ellipsoid radius of each voxel, 1 at the surface."""

    tissue: NDArray[np.uint8]
    radius: Field
    grid: tuple[Field, Field, Field]


@dataclass(frozen=True)
class Tumour:
    """Masks (I, J, K): necrotic core, enhancing rim, oedema; disjoint. `reach` is 1 at the oedema's edge."""

    core: NDArray[np.bool_]
    rim: NDArray[np.bool_]
    oedema: NDArray[np.bool_]
    reach: Field


def smooth_noise(rng: np.random.Generator, size: int, scale: float) -> Field:
    """A random field of unit deviation; `scale` is its correlation length as a share of the cube."""
    field = ndimage.gaussian_filter(rng.standard_normal((size,) * 3), max(0.6, scale * size), mode="wrap")
    return np.asarray(field / field.std())


def grow_brain(rng: np.random.Generator, size: int) -> Brain:
    """One person's brain in a cube of `size` voxels; x right, y front, z up, each in [-1, 1]."""
    line = np.linspace(-1, 1, size)
    x, y, z = np.meshgrid(line, line, line, indexing="ij")
    stretch = 1 + 0.04 * rng.standard_normal(3)
    a, b, c = (radius * factor for radius, factor in zip(RADII, stretch, strict=True))
    taper = 1 + 0.12 * y
    radius = np.sqrt((x / (a * (1 - 0.06 * y))) ** 2 + (y / b) ** 2 + (z * taper / c) ** 2)
    radius = radius + 0.02 * smooth_noise(rng, size, 0.09)
    tissue = np.full(x.shape, AIR, np.uint8)
    tissue[radius < 1.0] = CSF
    folds = smooth_noise(rng, size, 0.035)
    sulci = np.abs(folds) < 0.20
    cortex = radius < 0.965
    tissue[cortex] = GREY
    tissue[radius < 0.80 + 0.07 * smooth_noise(rng, size, 0.045)] = WHITE
    tissue[(tissue == WHITE) & (radius > 0.62) & (np.abs(folds) < 0.24)] = GREY
    tissue[cortex & (radius > 0.80) & sulci] = CSF
    fissure = (np.abs(x) < 0.028 + 0.01 * smooth_noise(rng, size, 0.1)) & (radius < 1.0)
    tissue[fissure & ((z > 0.12) | (y > 0.45) | (y < -0.5))] = CSF
    _deep_structures(rng, tissue, (x, y, z))
    return Brain(tissue, radius, (x, y, z))


def _deep_structures(
    rng: np.random.Generator, tissue: NDArray[np.uint8], grid: tuple[Field, Field, Field]
) -> None:
    x, y, z = grid
    wide = 0.075 * (1 + 0.35 * abs(rng.standard_normal()))
    for side in (-1, 1):
        thalamus = ((x - side * 0.17) / 0.12) ** 2 + ((y + 0.08) / 0.19) ** 2 + ((z + 0.02) / 0.13) ** 2 < 1
        putamen = ((x - side * 0.32) / 0.07) ** 2 + ((y - 0.08) / 0.22) ** 2 + ((z + 0.02) / 0.14) ** 2 < 1
        tissue[thalamus | putamen] = NUCLEI
        bend = 0.10 + 0.16 * np.clip(-y, 0, 1) + 0.05 * np.clip(y, 0, 1)
        arch = 0.13 - 0.35 * y**2
        body = ((x - side * bend) / wide) ** 2 + ((z - arch) / 0.085) ** 2 < 1
        tissue[body & (np.abs(y + 0.02) < 0.42) & (tissue != AIR)] = CSF
    third = (np.abs(x) < 0.022) & (np.abs(y + 0.03) < 0.2) & (np.abs(z + 0.03) < 0.13)
    tissue[third] = CSF


def grow_tumour(rng: np.random.Generator, brain: Brain, scale: float) -> Tumour:
    """A tumour of about `scale` (share of the half side) somewhere in the white matter.

    One in ten has no enhancing rim, as low-grade cases do not.
    """
    size = len(brain.tissue)
    place = np.argwhere((brain.tissue == WHITE) & (brain.radius < 0.72) & (brain.radius > 0.25))
    centre = place[rng.integers(len(place))]
    at = [axis[tuple(centre)] for axis in brain.grid]
    radius = scale * np.exp(0.25 * rng.standard_normal())
    squash = np.exp(0.15 * rng.standard_normal(3))
    parts = [
        ((axis - middle) / (radius * s)) ** 2 for axis, middle, s in zip(brain.grid, at, squash, strict=True)
    ]
    distance = np.sqrt(np.sum(parts, axis=0)) + 0.16 * smooth_noise(rng, size, 0.05)
    inside = (brain.radius < 0.96) & (brain.tissue != AIR)
    thickness = 0.34 + 0.12 * smooth_noise(rng, size, 0.06)
    solid = (distance < 1.0) & inside
    low_grade = rng.random() < 0.1
    rim = solid & (distance > 1.0 - thickness) & (not low_grade)
    core = solid & ~rim
    spread = 1.45 + 0.3 * rng.random()
    fingers = distance / spread + 0.14 * smooth_noise(rng, size, 0.045)
    fingers = fingers + 0.22 * (brain.tissue == GREY) + 0.6 * (brain.tissue == CSF)
    oedema = (fingers < 1.0) & inside & ~solid
    return Tumour(core, rim, oedema, fingers)
