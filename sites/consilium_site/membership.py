"""Does a finished model tell who trained it? The loss attack of Yeom et al. 2018, at the hospital itself."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monai.losses import DiceCELoss
from scipy.stats import norm, rankdata

from consilium.errors import InputError
from consilium.learning import networks
from consilium.learning.parameters import ModelFile
from consilium_site.evaluation import DIVISOR
from consilium_site.imaging.brats import CaseFiles
from consilium_site.imaging.catalogue import scan, split_alone
from consilium_site.imaging.recipe import Prepared, prepare


@dataclass(frozen=True)
class Membership:
    """How often a patient who trained has a lower loss than one who was held out: 0.5 tells nothing."""

    auc: float
    low: float
    high: float
    """95 % interval (Hanley and McNeil 1982)."""
    trained: int
    held_out: int


def membership(
    model: ModelFile, data: Path, cache: Path, progress: Callable[[int, int], None] | None = None
) -> Membership:
    """Compare the model's loss on the site's training patients with that on its held-out ones.

    The split is that of private studies: by each patient's own hash. Nothing leaves the site.

    Raises:
        InputError: there are no two patients on either side, or the model does not fit its network.
    """
    spacing = float(model.facts.get("spacing_mm", 1.0))
    ready: dict[str, Prepared] = {}

    def take(files: CaseFiles) -> None:
        ready[files.name] = prepare(files, spacing, cache)

    parts = split_alone(scan(data, check=take, progress=progress).usable)
    try:
        network = networks.whole(model).eval()
    except ValueError as error:
        raise InputError(f"model: {error}") from None
    losses = [_losses(network, [ready[case.name] for case in cases]) for cases in (parts.train, parts.test)]
    if min(map(len, losses)) < 2:
        raise InputError(
            f"{data}: {len(losses[0])} training and {len(losses[1])} held-out patients; it needs two of each"
        )
    return compared(losses[0], losses[1])


def compared(trained: list[float], held_out: list[float]) -> Membership:
    """The area under the curve of 'a lower loss means a member', with its 95 % interval."""
    m, n = len(trained), len(held_out)
    ranks = rankdata([-value for value in (*trained, *held_out)])
    auc = float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))
    q1, q2 = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    variance = (auc * (1 - auc) + (m - 1) * (q1 - auc * auc) + (n - 1) * (q2 - auc * auc)) / (m * n)
    reach = float(norm.ppf(0.975)) * math.sqrt(max(0.0, variance))
    return Membership(auc, max(0.0, auc - reach), min(1.0, auc + reach), m, n)


def _losses(network: torch.nn.Module, cases: list[Prepared]) -> list[float]:
    """Mean loss of each patient over the patient's whole brains."""
    loss_of = DiceCELoss(sigmoid=True, squared_pred=True, smooth_nr=1e-5, smooth_dr=1e-5)
    found: dict[str, list[float]] = defaultdict(list)
    for case in cases:
        if case.masks is None:
            continue
        room = [(0, 0), *[(0, -side % DIVISOR) for side in case.images.shape[1:]]]
        images = torch.from_numpy(np.pad(case.images, room))[None]  # (1, C, I, J, K)
        masks = torch.from_numpy(np.pad(case.masks, room).astype(np.float32))[None]  # (1, 3, I, J, K)
        with torch.inference_mode():
            found[case.patient].append(float(loss_of(network(images), masks)))
    return [float(np.mean(values)) for values in found.values()]
