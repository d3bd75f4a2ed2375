"""Scores a model on whole held-out volumes: Dice by region, empty references by the stated rule."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from consilium.errors import Refused
from consilium.vocabulary import Reason
from consilium_site.imaging.recipe import Prepared
from consilium_site.workbench import Scored

DIVISOR = 16
WHOLE_VOXELS = 176 * 208 * 176
WINDOW = (128, 128, 128)
OVERLAP = 0.25


def dice(prediction: NDArray[np.generic], reference: NDArray[np.generic]) -> float:
    """Dice of two masks in [0, 1]. An empty reference gives 1 if the prediction is empty too, else 0."""
    predicted, wanted = prediction.astype(bool), reference.astype(bool)
    if not wanted.any():
        return 0.0 if predicted.any() else 1.0
    return float(2.0 * (predicted & wanted).sum() / (predicted.sum() + wanted.sum()))


Means = dict[str, tuple[float, float, float]]
"""Patient → mean Dice of TC, WT and ET over the patient's cases."""


def score_patients(
    network: nn.Module, cases: Sequence[Prepared], device: torch.device, autocast: bool, until: float
) -> tuple[Means, int]:
    """Mean Dice of each patient, and how many scored regions had an empty reference.

    Raises:
        Refused: TOO_SLOW once `time.monotonic()` passes `until`.
    """
    by_patient: dict[str, list[list[float]]] = defaultdict(list)
    empty = 0
    for case in cases:
        if time.monotonic() > until:
            raise Refused(Reason.TOO_SLOW)
        if case.masks is None:
            continue
        masks = predict_masks(network, case.images, device, autocast)
        by_patient[case.patient].append([dice(p, r) for p, r in zip(masks, case.masks, strict=True)])
        empty += sum(1 for reference in case.masks if not reference.any())
    means: Means = {}
    for patient, rows in by_patient.items():
        tc, wt, et = np.mean(rows, axis=0).tolist()
        means[patient] = (tc, wt, et)
    return means, empty


def score_cases(
    network: nn.Module, cases: Sequence[Prepared], device: torch.device, autocast: bool, until: float
) -> Scored:
    """Dice sums over patients: the cases of one patient are averaged first. Raises as `score_patients`."""
    means, empty = score_patients(network, cases, device, autocast, until)
    sums = np.array(list(means.values())).reshape(-1, 3).sum(axis=0)
    tc, wt, et = sums.tolist()
    return Scored(tc, wt, et, scored=len(means), empty=empty)


def predict_masks(
    network: nn.Module, images: NDArray[np.float32], device: torch.device, autocast: bool
) -> NDArray[np.uint8]:
    """(C, I, J, K) z-scored contrasts → (3, I, J, K) masks of TC, WT, ET at probability one half.

    A brain that fits is done in one pass, padded to a multiple of 16; a larger one by a sliding window.
    ET is kept inside TC and TC inside WT.
    """
    batch = torch.from_numpy(np.ascontiguousarray(images))[None].to(device)  # (1, C, I, J, K)
    network.eval()
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
        logits = _logits(network, batch).float()  # (1, 3, I, J, K)
    core, whole, enhancing = (logits[0] > 0).cpu().numpy()
    core = core | enhancing
    return np.stack([core, whole | core, enhancing]).astype(np.uint8)


def _logits(network: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    shape = batch.shape[2:]
    if int(np.prod(shape)) <= WHOLE_VOXELS:
        gaps = [(-side) % DIVISOR for side in shape]
        padded = functional.pad(batch, (0, gaps[2], 0, gaps[1], 0, gaps[0]))
        logits: torch.Tensor = network(padded)
        return logits[..., : shape[0], : shape[1], : shape[2]]
    from monai.inferers import sliding_window_inference

    result = sliding_window_inference(batch, WINDOW, 2, network, overlap=OVERLAP, mode="gaussian")
    assert isinstance(result, torch.Tensor)
    return result
