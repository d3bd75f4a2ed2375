"""Trains a network on cases that a site may use freely, as the frozen backbone of private studies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.losses import DiceCELoss

from consilium.errors import InputError
from consilium.learning import networks
from consilium.learning.parameters import ModelFile
from consilium_site.imaging.brats import CaseFiles
from consilium_site.imaging.catalogue import scan
from consilium_site.imaging.recipe import Prepared, prepare
from consilium_site.patches import Patches

LEARNING_RATE = 5e-3
FOREGROUND = 0.66


def pretrain(
    data: Path,
    cache: Path,
    name: str,
    arguments: dict[str, Any],
    *,
    spacing_mm: float,
    patch: int,
    batch: int,
    steps: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> ModelFile:
    """The network after `steps` Adam steps on all labelled cases in `data`.

    Nothing about it is private: who has the file can tell of the cases in `data`. Equal arguments give equal
    parameters on one machine.

    Raises:
        InputError: no usable case, or the registry does not know the network.
    """
    ready: list[Prepared] = []

    def take(files: CaseFiles) -> None:
        ready.append(prepare(files, spacing_mm, cache))

    scan(data, check=take)
    if not ready:
        raise InputError(f"{data}: no usable case; see `consilium-site data check {data}`")
    try:
        drawn = networks.new_model(name, arguments, seed)
    except ValueError as error:
        raise InputError(str(error)) from None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = networks.whole(drawn).to(device).train()
    patches, rng = Patches(ready, (patch, patch, patch), FOREGROUND), np.random.default_rng(seed)
    loss_of = DiceCELoss(sigmoid=True, squared_pred=True, smooth_nr=1e-5, smooth_dr=1e-5)
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    for step in range(steps):
        progress(step, steps)
        images, masks = patches.batch(rng, batch)
        optimiser.zero_grad(set_to_none=True)
        logits = network(torch.from_numpy(images).to(device))  # (B, 3, I, J, K)
        loss: torch.Tensor = loss_of(logits, torch.from_numpy(masks).to(device))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    progress(steps, steps)
    facts = {"spacing_mm": spacing_mm, "cases": len(ready), "steps": steps}
    return replace(drawn, parameters=networks.flatten(network), facts=facts)
