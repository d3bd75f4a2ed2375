"""Training patches from prepared cases in memory: random crops, many on tumour, lightly augmented."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from consilium_site.imaging.recipe import Prepared

JITTER = 0.1


class Patches:
    """Draws batches. All randomness comes from the generator given to `batch`."""

    def __init__(self, cases: list[Prepared], patch: tuple[int, int, int], foreground: float) -> None:
        self.patch, self.foreground = patch, foreground
        self.images = [_padded(case.images, patch) for case in cases]
        self.masks = [_padded(case.masks, patch) for case in cases if case.masks is not None]
        self.tumour = [np.argwhere(masks[1]) for masks in self.masks]

    def batch(self, rng: np.random.Generator, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Images (B, C, I, J, K) and masks (B, 3, I, J, K), float32."""
        return self._drawn(rng, [int(rng.integers(len(self.images))) for _ in range(size)])

    def of(
        self, cases: list[int], rng: np.random.Generator, size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A batch from these cases alone, by their places in the list given: each in turn."""
        return self._drawn(rng, [cases[number % len(cases)] for number in range(size)])

    def _drawn(
        self, rng: np.random.Generator, cases: list[int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        drawn = [self._one(rng, case) for case in cases]
        return np.stack([image for image, _ in drawn]), np.stack([mask for _, mask in drawn])

    def _one(self, rng: np.random.Generator, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        images, masks, tumour = self.images[index], self.masks[index], self.tumour[index]
        room = np.array(images.shape[1:]) - self.patch
        start: list[int]
        if len(tumour) and rng.random() < self.foreground:
            centre = tumour[rng.integers(len(tumour))]
            start = np.clip(centre - np.array(self.patch) // 2, 0, room).tolist()
        else:
            start = [int(rng.integers(0, free + 1)) for free in room.tolist()]
        box = tuple(slice(int(low), int(low) + side) for low, side in zip(start, self.patch, strict=True))
        image, mask = images[(slice(None), *box)], masks[(slice(None), *box)]
        flips = tuple(axis + 1 for axis in range(3) if rng.random() < 0.5)
        image, mask = np.flip(image, flips), np.flip(mask, flips)
        scale = (1 + JITTER * rng.standard_normal((len(image), 1, 1, 1))).astype(np.float32)
        shift = (JITTER * rng.standard_normal((len(image), 1, 1, 1))).astype(np.float32)
        return np.where(image != 0, image * scale + shift, 0), mask.astype(np.float32)


def _padded(volume: NDArray[Any], patch: tuple[int, int, int]) -> NDArray[Any]:
    """Pad (C, I, J, K) with zeros, evenly, to at least the patch."""
    short = [max(0, side - have) for side, have in zip(patch, volume.shape[1:], strict=True)]
    return np.pad(volume, [(0, 0), *[(gap // 2, gap - gap // 2) for gap in short]])
