"""What privacy costs: four hospitals × 250 patients at 32³, a head of 43 parameters over a frozen backbone.

The backbone is trained on phantoms of other scanners and other seeds; its parameters are in the initial
file, whose hash the charter names. Each seed has two simulated studies on the same cases from the same
initial file: one under patient-level ε = 8 (distributed noise, 80 rounds of one step), one without privacy
(FedAvg, 40 rounds of 20 Adam steps). Both final models are scored afterwards, without noise, on the
same 200 new patients.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import Row
from kernels import CPU
from quality import SITES

from consilium.contracts.charter import Charter
from consilium.demo.study import Promise, demo_charter, phantom_recipe, private_recipe
from consilium.learning import networks
from consilium.learning.parameters import read_model
from consilium_site.evaluation import score_cases
from consilium_site.imaging.catalogue import scan
from consilium_site.imaging.recipe import Prepared, prepare

BIN = Path(sys.executable).parent
PATIENTS, SIZE, SEEDS = 250, 32, (1, 2, 3)
PRIVATE_ROUNDS, PLAIN_ROUNDS = 80, 40
JUDGES = 50
EPSILON, SAMPLING = 8.0, 0.25
PUBLIC = ("eastgate", "fairhaven", "glenmoor", "hawthorn")
FOREVER = float("inf")


@dataclass(frozen=True)
class Compared:
    """Mean Dice over regions on the same new patients, and what the private run spent and told of itself."""

    private: float
    plain: float
    told: float
    epsilon: float
    patients: int


def script(name: str, *words: str) -> None:
    """Run one of our console scripts."""
    subprocess.run([str(BIN / name), *words], check=True, stdout=subprocess.DEVNULL)


def make_backbone(root: Path, steps: int = 600) -> Path:
    """Train the backbone on public phantoms; hospitals of the study have other scanners and seeds."""
    for number, site in enumerate(PUBLIC):
        words = ("--site", site, "--cases", "40", "--size", str(SIZE), "--seed", str(9000 + number))
        script("consilium-site", "phantom", str(root / "public"), *words)
    network = ("--model", "segresnet", "--arguments", '{"filters": 8}')
    training = ("--spacing", "6", "--patch", str(SIZE), "--batch", "4", "--steps", str(steps))
    script("consilium-site", "pretrain", str(root / "public"), str(root / "backbone"), *network, *training)
    return root / "backbone"


def charters(initial: bytes, seed: int) -> tuple[Charter, Charter]:
    """(private, plain) charters of one study; the simulation puts its own keys in."""
    roster = {site: (site.title(), f"{number:064x}") for number, site in enumerate(SITES, 1)}
    recipe = phantom_recipe(SIZE)
    plain = demo_charter(recipe, initial, roster, PLAIN_ROUNDS, seed)
    promise = Promise("patient", EPSILON, PATIENTS * len(SITES), sampling=SAMPLING)
    private = private_recipe(recipe, "patient")
    return demo_charter(private, initial, roster, PRIVATE_ROUNDS, seed, promise), plain


def simulated(root: Path, charter: Charter, initial: Path, seed: int) -> dict[str, Any]:
    """The report of one simulated study in `root`."""
    root.mkdir()
    (root / "charter.json").write_bytes(charter.canonical())
    words = ("--phantom", str(PATIENTS), "--seed", str(seed), "--model", str(initial))
    where = ("--home", str(root / "home"), "--report", str(root / "report.json"))
    script("consilium", "simulate", str(root / "charter.json"), *words, *where)
    report: dict[str, Any] = json.loads((root / "report.json").read_text())
    return report


def unseen(root: Path, seed: int) -> list[Prepared]:
    """New patients of the same hospitals, in neither study."""
    ready: list[Prepared] = []
    for number, site in enumerate(SITES):
        words = ("--cases", str(JUDGES), "--size", str(SIZE), "--seed", str(70_000 + 10 * seed + number))
        script("consilium-site", "phantom", str(root / site), "--site", site, *words)
        scan(root / site, check=lambda files: ready.append(prepare(files, 6.0, root / "cache")))
    return ready


def mean_dice(file: str, cases: list[Prepared]) -> float:
    """Mean Dice over regions of a model file's whole network."""
    scored = score_cases(networks.whole(read_model(Path(file))), cases, CPU, False, FOREVER)
    return (scored.dice_tc + scored.dice_wt + scored.dice_et) / 3 / scored.scored


def compared(backbone: Path, seed: int) -> Compared:
    """Both studies of one seed, judged on the same patients."""
    with tempfile.TemporaryDirectory(prefix="consilium-private-") as name:
        root = Path(name)
        initial = root / "initial.safetensors"
        words = ("--backbone", str(backbone), "--seed", str(seed), str(initial))
        script("consilium-site", "new-model", *words)
        private, plain = charters(initial.read_bytes(), seed)
        reports = [
            simulated(root / "private", private, initial, seed),
            simulated(root / "plain", plain, initial, seed),
        ]
        cases = unseen(root / "unseen", seed)
        dice = [mean_dice(report["model"], cases) for report in reports]
        last = reports[0]["rounds"][-1]
        return Compared(*dice, last["dice"]["mean"], last["epsilon"], len(cases))


def rows(told: Callable[[str], None]) -> list[Row]:
    """Three seeds: mean Dice under privacy beside that without; aim: at most .036 lost."""
    with tempfile.TemporaryDirectory(prefix="consilium-backbone-") as name:
        backbone = make_backbone(Path(name))
        found = []
        for seed in SEEDS:
            found.append(compared(backbone, seed))
            told(f"private study, seed {seed}: {found[-1]}")
    private, plain = (statistics.mean(getattr(each, key) for each in found) for key in ("private", "plain"))
    spent = max(each.epsilon for each in found)
    reference = f"the same study without privacy; ε {spent:.2f} a patient, {PATIENTS} × {len(SITES)}"
    return [Row("quality.private_dice", private, "Dice", reference, plain)]
