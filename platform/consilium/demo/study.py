"""The demo's charter: defaults for a phantom and for real scans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from consilium.contracts.charter import Charter, colluding_bound, largest_scale_bits, threshold
from consilium.errors import InputError
from consilium.files import sha256_hex
from consilium.learning.parameters import unpack_model
from consilium.privacy import accounting
from consilium.privacy.plan import PrivacyPlan
from consilium.privacy.planning import finest, safe_delta

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


@dataclass(frozen=True)
class Promise:
    """The privacy of a demo: whose part is bounded, by which ε, for cohorts of this size."""

    unit: Literal["patient", "site"]
    epsilon: float
    patients: int
    """All cases of the demo, training and held out; one patient each."""
    sampling: float = 1.0


MOST_DELTA = 1e-4
PATIENT_CLIP, PATIENT_RATE = 0.1, 3.0
"""Clip and server learning rate of the head: most gradients are longer, so steps are nearly of one size."""
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


def private_recipe(recipe: Recipe, unit: str) -> Recipe:
    """The recipe under a promise: one step a round for patients, more rounds, two patches a patient."""
    title = f"{recipe.title}, private by {unit}"
    return replace(recipe, title=title, rounds=12, steps=1 if unit == "patient" else recipe.steps, batch=2)


def demo_charter(
    recipe: Recipe,
    initial: bytes,
    hospitals: Mapping[str, tuple[str, str]],
    rounds: int,
    seed: int,
    promise: Promise | None = None,
) -> Charter:
    """The charter of a demo; `hospitals` maps a site to (title, identity key), `initial` is a model file.

    Under a promise its noise is the least that keeps ε over all rounds and evaluations.
    """
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
            "frozen": model.frozen.size,
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
    return _promising(document, promise) if promise else Charter.model_validate(document)


def _promising(document: dict[str, Any], promise: Promise) -> Charter:
    """The charter with a privacy block that keeps the promise, and the finest scale that fits its sums."""
    n = len(document["roster"])
    cohort = max(1, round(promise.patients * 0.75 / n))
    agg = document["secure_aggregation"]
    dp: dict[str, Any] = {
        "mechanism": "distributed" if agg["masked"] else "local",
        "unit": promise.unit,
        "epsilon": promise.epsilon,
        "delta": min(MOST_DELTA, safe_delta(promise.patients)),
        "sampling": promise.sampling if promise.unit == "patient" else 1.0,
        "clip": PATIENT_CLIP if promise.unit == "patient" else 1.0,
        "cohort": cohort,
        "cohort_cap": 4 * promise.patients,
        "evaluations": 3,
    }
    document["release"] = {"site_metrics": False}
    document["strategy"] = {"learning_rate": PATIENT_RATE if promise.unit == "patient" else 1.0}
    plan = PrivacyPlan(
        sites=n,
        threshold=agg["threshold"],
        colluding=agg["colluding"],
        parameters=document["model"]["parameters"],
        rounds=document["rounds"]["count"],
        steps=document["training"]["steps"],
        noise=1.0,
        bits=0,
        **dp,
    )
    noisy = accounting.calibrated(plan, promise.epsilon)
    fine = finest(lambda bits: replace(noisy, bits=min(bits, agg["scale_bits"])))
    document["privacy"] = {**dp, "noise": fine.noise}
    document["secure_aggregation"] = {**agg, "scale_bits": fine.bits}
    return Charter.model_validate(document)
