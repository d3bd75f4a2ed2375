"""Does a federation learn as much as pooled data? Phantoms at 32³, four hospitals that differ, three seeds.

Federated: `consilium simulate`, 60 rounds of 20 steps at each site. Pooled: one model on all training cases,
sites × rounds × steps. Local: each site alone, rounds × steps, scored on its own held-out patients, which
favours it. All start from one initial model; Dice is the mean over the regions of held-out patients.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Row
from kernels import CPU, alternately

from consilium.contracts.charter import Charter, read_charter
from consilium.learning import networks
from consilium.learning.parameters import read_model
from consilium_site.evaluation import dice, predict_masks
from consilium_site.imaging.brats import find_case
from consilium_site.imaging.case import read_case
from consilium_site.imaging.catalogue import scan, split
from consilium_site.imaging.recipe import Prepared, prepare, transform
from consilium_site.patches import Patches
from consilium_site.training import MonaiWorkbench
from consilium_site.workbench import Cohort
from support import toy_charter

BIN = Path(sys.executable).parent
SITES = ("aurora", "birchfield", "calder", "dunmore")
ROUNDS, STEPS, CASES = 60, 20, 40
FOREVER = float("inf")
Told = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """Mean Dice of one seed; `worst` are those of the site that fares worst under each model."""

    federated: float
    pooled: float
    local: float
    worst: float
    pooled_worst: float


def quality_charter(steps: int = STEPS, rounds: int = ROUNDS, **training: Any) -> Charter:
    """The study of these rows; keys and initial model are replaced by the simulation's own."""
    model = networks.new_model("unet", {}, 0)
    described = {"name": "unet", "arguments": {}, "parameters": model.parameters.size, "initial": "0" * 64}
    settings = {"spacing_mm": 6.0, "patch": [32, 32, 32], "batch": 4, "steps": steps, "learning_rate": 5e-3}
    keys = {site: f"{index:064x}" for index, site in enumerate(SITES)}
    return toy_charter(
        keys, rounds=rounds, deadline=600.0, training={**settings, **training}, model=described
    )


def federated(root: Path, charter: Charter, seed: int) -> dict[str, Any]:
    """The report of a simulated run in `root/home`."""
    (root / "charter.json").write_bytes(charter.canonical())
    command = [BIN / "consilium", "simulate", root / "charter.json", "--home", root / "home"]
    options = ["--phantom", str(CASES), "--seed", str(seed), "--report", str(root / "report.json")]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    report: dict[str, Any] = json.loads((root / "report.json").read_text())
    return report


def site_cases(home: Path, charter: Charter) -> dict[str, tuple[list[Prepared], list[Prepared]]]:
    """(training, held-out) cases of each site as its vault split them."""
    found = {}
    for site in SITES:
        where = home / "sites" / site
        ready: dict[str, Prepared] = {}

        def take(files: Any, cache: Path = where / "cache", into: dict[str, Prepared] = ready) -> None:
            into[files.name] = prepare(files, charter.training.spacing_mm, cache)

        parts = split(scan(where / "data", check=take).usable)
        found[site] = ([ready[c.name] for c in parts.train], [ready[c.name] for c in parts.test])
    return found


def trained(charter: Charter, steps: int, cases: Sequence[Prepared], initial: Any) -> MonaiWorkbench:
    """A workbench whose network was trained on `cases` without federation, as the charter says."""
    longer = charter.model_copy(update={"training": charter.training.model_copy(update={"steps": steps})})
    bench = MonaiWorkbench(longer, Path(), Path())
    bench.cohort = Cohort(len(cases), 0)
    bench.patches = Patches(list(cases), charter.training.patch, charter.training.foreground)
    bench.train(initial, 1, FOREVER)
    return bench


def score(bench: MonaiWorkbench, cases: list[Prepared]) -> float:
    """Mean Dice of the network as it is."""
    from consilium_site.evaluation import score_cases

    got = score_cases(bench.network, cases, CPU, False, FOREVER)
    return (got.dice_tc + got.dice_wt + got.dice_et) / 3 / got.scored


def outcome(seed: int, charter: Charter) -> Outcome:
    """All three ways for one seed."""
    with tempfile.TemporaryDirectory(prefix="consilium-quality-") as name:
        root = Path(name)
        report = federated(root, charter, seed)
        simulated = root / "home" / "runs" / "simulated"
        charter = read_charter((simulated / "charter.json").read_bytes())
        initial = read_model(simulated / "initial.safetensors").parameters
        cases = site_cases(root / "home", charter)
        last = report["rounds"][-1]
        everyone = [case for train, _ in cases.values() for case in train]
        pooled = trained(charter, len(SITES) * ROUNDS * STEPS, everyone, initial)
        by_site = {site: score(pooled, test) for site, (_, test) in cases.items()}
        alone = [
            score(trained(charter, ROUNDS * STEPS, train, initial), test) for train, test in cases.values()
        ]
        return Outcome(
            federated=last["dice"]["mean"],
            pooled=statistics.mean(by_site.values()),
            local=statistics.mean(alone),
            worst=last["worst_site_mean"],
            pooled_worst=min(by_site.values()),
        )


def quality(told: Told) -> list[Row]:
    """Federated against pooled and local, and the worst site."""
    outcomes = []
    for seed in range(3):
        outcomes.append(outcome(seed, quality_charter()))
        told(f"seed {seed}: {outcomes[-1]}")
    mean = lambda key: statistics.mean(getattr(each, key) for each in outcomes)  # noqa: E731
    seeds = "; ".join(f"{each.federated:.3f}/{each.pooled:.3f}/{each.local:.3f}" for each in outcomes)
    note = f"federated/pooled/local by seed: {seeds}"
    return [
        Row("quality.federated_over_pooled", mean("federated"), "Dice", "pooled", mean("pooled"), note),
        Row("quality.federated_over_local", mean("federated"), "Dice", "local only", mean("local")),
        Row("quality.worst_site", mean("worst"), "Dice", "worst site of pooled", mean("pooled_worst")),
    ]


def predicting(told: Told, data: Path) -> list[Row]:
    """Whole real cases: our pass over the brain's box against MONAI's inferer as its BraTS bundle sets it.

    The bundle: windows of 240×240×160, one at a time, overlap 0.5, over the whole volume. The model was
    trained for 100 steps on these cases: this compares two ways to predict, and is no benchmark of a model.
    """
    from monai.inferers import SlidingWindowInferer

    model = networks.new_model("unet", {}, 0)
    described = {"name": "unet", "arguments": {}, "parameters": model.parameters.size, "initial": "0" * 64}
    training = {"patch": [96, 96, 96], "batch": 2, "steps": 100, "learning_rate": 2e-3}
    charter = toy_charter({"a": "1" * 64, "b": "2" * 64}, training=training, model=described)
    told("predicting real cases: training 100 steps first")
    with tempfile.TemporaryDirectory() as cache:
        bench = MonaiWorkbench(charter, data, Path(cache))
        bench.prepare()
        update = bench.train(model.parameters, 1, FOREVER).update
    network = networks.build("unet", {})
    networks.load(network, model.parameters + update)
    inferer = SlidingWindowInferer((240, 240, 160), sw_batch_size=1, overlap=0.5)
    spent: list[tuple[float, float]] = []
    scores: list[tuple[float, float]] = []
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        images, masks, way = transform(read_case(find_case(folder, labelled=True)), 1.0)
        assert masks is not None
        whole = np.zeros((4, *way.zoomed), np.float32)
        whole[(slice(None), *way.crop)] = images
        spent.append(
            alternately(
                lambda images=images: predict_masks(network, images, CPU, autocast=False),
                lambda whole=whole: bundle_way(inferer, network, whole),
                1,
            )
        )
        ours = predict_masks(network, images, CPU, autocast=False)
        theirs = bundle_way(inferer, network, whole)[(slice(None), *way.crop)]
        scores.append((mean_dice(ours, masks), mean_dice(theirs, masks)))
    reference = "MONAI inferer of the BraTS bundle (240×240×160, overlap 0.5), fp32"
    seconds, dices = np.mean(spent, axis=0), np.mean(scores, axis=0)
    return [
        Row("predict.real_volume_seconds", float(seconds[0]), "s", reference, float(seconds[1])),
        Row("predict.real_dice", float(dices[0]), "Dice", reference, float(dices[1])),
    ]


def bundle_way(inferer: Any, network: torch.nn.Module, whole: Any) -> Any:
    """Masks (3, I, J, K) of TC, WT, ET over the whole volume, nested as ours are."""
    with torch.inference_mode():
        logits = inferer(torch.from_numpy(whole)[None], network)[0]
    core, tumour, enhancing = (logits > 0).numpy()
    core = core | enhancing
    return np.stack([core, tumour | core, enhancing])


def mean_dice(masks: Any, reference: Any) -> float:
    """Mean over the three regions."""
    return statistics.mean(dice(one, other) for one, other in zip(masks, reference, strict=True))


def rows(told: Told) -> list[Row]:
    """All rows of this file; about a quarter of an hour, less without real cases."""
    import os

    named = os.environ.get("CONSILIUM_REAL_DATA")
    data = Path(named) if named else Path(__file__).parents[3] / "shared" / "data"
    found = quality(told)
    if (data / "brats2018").is_dir():
        return [*found, *predicting(told, data / "brats2018")]
    told("no real cases here: the rows predict.real_* are left out; set CONSILIUM_REAL_DATA")
    return found
