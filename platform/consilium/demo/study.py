"""The demo's charter: defaults for a phantom and for real scans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from consilium.contracts.charter import Charter, colluding_bound, largest_scale_bits, threshold
from consilium.errors import InputError
from consilium.files import sha256_hex
from consilium.learning.parameters import unpack_model

CLIP = 64.0
WEIGHT_CAP = 256


@dataclass(frozen=True)
class Recipe:
    """What differs between a demo on phantoms and one on real scans."""

    title: str
    rounds: int
    steps: int
    patch: int
    batch: int
    spacing_mm: float
    learning_rate: float
    deadline_seconds: float


REAL = Recipe("Brain tumour segmentation on BraTS cases", 5, 20, 96, 2, 1.0, 2e-3, 900.0)
FIELD_OF_VIEW_MM = 192.0


def phantom_recipe(size: int) -> Recipe:
    """The recipe for phantoms of `size` voxels a side, which always span 192 mm: whole brains as patches.

    Raises:
        InputError: `size` is not a multiple of 8 from 32 to 128.
    """
    if size % 8 or not 32 <= size <= 128:
        raise InputError(f"--size {size}: must be a multiple of 8 from 32 to 128 voxels")
    spacing = FIELD_OF_VIEW_MM / size
    return Recipe("Brain tumour segmentation on digital phantoms", 8, 20, size, 4, spacing, 2e-3, 300.0)


def demo_charter(
    recipe: Recipe, initial: bytes, hospitals: Mapping[str, tuple[str, str]], rounds: int, seed: int
) -> Charter:
    """The charter of a demo; `hospitals` maps a site to (title, identity key), `initial` is a model file."""
    model, n = unpack_model(initial), len(hospitals)
    document: dict[str, Any] = {
        "title": recipe.title,
        "purpose": (
            "Show that hospitals can train one model that outlines brain tumours in MRI "
            "while every scan stays at home."
        ),
        "model": {
            "name": model.name,
            "arguments": model.arguments,
            "parameters": model.parameters.size,
            "initial": sha256_hex(initial),
        },
        "training": {
            "spacing_mm": recipe.spacing_mm,
            "patch": [recipe.patch] * 3,
            "batch": recipe.batch,
            "steps": recipe.steps,
            "learning_rate": recipe.learning_rate,
            "seed": seed,
        },
        "rounds": {
            "count": rounds,
            "deadline_seconds": recipe.deadline_seconds,
            "minimum_sites": threshold(n),
        },
        "secure_aggregation": {
            "masked": n >= 3,
            "threshold": threshold(n),
            "colluding": colluding_bound(n),
            "clip": CLIP,
            "scale_bits": largest_scale_bits(n, CLIP),
            "weight_cap": WEIGHT_CAP,
        },
        "roster": [
            {"site": site, "hospital": title, "identity": identity}
            for site, (title, identity) in sorted(hospitals.items())
        ],
    }
    return Charter.model_validate(document)
