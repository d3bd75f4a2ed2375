"""`make bench`: each ratio measures both sides in this one run; writes bench.json and prints a table.

Rows have name, value, unit, reference, reference_value, ratio (value / reference) and the machine.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from consilium.learning import networks  # noqa: E402
from consilium.privacy.fixed_point import FixedPoint, Tail, add_into  # noqa: E402
from consilium_site.evaluation import predict_masks  # noqa: E402
from consilium_site.imaging.catalogue import scan  # noqa: E402
from consilium_site.imaging.recipe import prepare  # noqa: E402
from consilium_site.phantom.write import write_cases  # noqa: E402
from consilium_site.training import MonaiWorkbench  # noqa: E402
from support import MemoryConsortium, toy_charter  # noqa: E402

Row = dict[str, Any]
MACHINE = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def seconds(work: Callable[[], object], times: int = 5) -> float:
    """Median of `times` runs after one to warm up."""
    work()
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def row(name: str, value: float, unit: str, reference: str, reference_value: float) -> Row:
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "reference": reference,
        "reference_value": reference_value,
        "ratio": value / reference_value,
        "machine": MACHINE,
    }


def encode() -> Row:
    """Encoding and adding 5M parameters, against the machine's own float copy and add of the same vector."""
    codec = FixedPoint(4, 64.0, 22, 256)
    update = np.random.default_rng(0).normal(0, 1e-3, 5_000_000).astype(np.float32)
    tail, total = Tail(10, 1.0, 2, 1.0, 1.0, 1.0), np.zeros(update.size + 6, np.uint32)
    plain = np.zeros_like(update)
    ours = seconds(lambda: add_into(total, codec.encode(update, tail)))
    floor = seconds(lambda: np.add(plain, update.copy(), out=plain))
    return row("upload.encode_add_ms", ours * 1e3, "ms", "copy and add of float32", floor * 1e3)


def train(folder: Path) -> Row:
    """One step of the workbench against a plain MONAI loop with the same network, loss and precision."""
    model = networks.new_model("unet", {}, 0)
    training = {"spacing_mm": 4.0, "patch": [48, 48, 48], "batch": 4, "steps": 10}
    described = {"name": "unet", "arguments": {}, "parameters": model.parameters.size, "initial": "0" * 64}
    charter = toy_charter({"a": "1" * 64, "b": "2" * 64}, training=training, model=described)
    bench = MonaiWorkbench(charter, folder, folder / "cache")
    bench.prepare()
    bench.train(model.parameters, 1, float("inf"))
    network = networks.build("unet", {})
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    images, masks = bench.patches.batch(np.random.default_rng(0), 4)
    inputs, targets = torch.from_numpy(images), torch.from_numpy(masks)

    def plain() -> None:
        for _ in range(10):
            optimiser.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bench.precision == "bf16"):
                logits = network(inputs)
            bench.loss(logits.float(), targets).backward()
            optimiser.step()

    ours = seconds(lambda: bench.train(model.parameters, 1, float("inf")), 3) / 10
    return row("train.step_seconds", ours, "s", "plain MONAI loop, one fixed batch", seconds(plain, 3) / 10)


def predict() -> Row:
    """A 240×240×155 head in a 160×192×144 brain box, against MONAI's sliding window over the whole volume."""
    from monai.inferers import sliding_window_inference

    network = networks.build("unet", {}).eval()
    cpu = torch.device("cpu")
    brain = np.random.default_rng(0).normal(size=(4, 160, 192, 144)).astype(np.float32)
    whole = torch.zeros(1, 4, 240, 240, 155)

    def theirs() -> None:
        with torch.inference_mode():
            sliding_window_inference(whole, (128, 128, 128), 1, network, overlap=0.25)

    ours = seconds(lambda: predict_masks(network, brain, cpu, autocast=False), 2)
    return row("predict.volume_seconds", ours, "s", "MONAI sliding window 128³ fp32", seconds(theirs, 1))


def cases(folder: Path) -> Row:
    """Preparing phantom cases at 48³, the first time against from the cache."""
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        found = scan(folder, check=lambda files: prepare(files, 4.0, Path(cache)))
        first = len(found.usable) / (time.perf_counter() - start)
        start = time.perf_counter()
        scan(folder, check=lambda files: prepare(files, 4.0, Path(cache)))
        again = len(found.usable) / (time.perf_counter() - start)
    return row("prepare.cases_per_second", first, "1/s", "the same from the cache", again)


def round_in_memory() -> Row:
    """A round of four sites and 600k parameters through both state machines, against numpy's bare mean."""
    size = 600_000
    with tempfile.TemporaryDirectory() as folder:
        consortium = MemoryConsortium(Path(folder), size=size, rounds=5)
        start = time.perf_counter()
        consortium.run().go()
        ours = (time.perf_counter() - start) / 6
    updates = [np.random.default_rng(site).normal(size=size).astype(np.float32) for site in range(4)]
    return row(
        "round.in_memory_seconds",
        ours,
        "s",
        "numpy mean of four updates",
        seconds(lambda: np.mean(updates, axis=0)),
    )


def main() -> None:
    """Measure, print, and write bench.json in the working directory."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cases(folder, "aurora", 8, 48, 0)
        rows = [encode(), cases(folder), round_in_memory(), train(folder), predict()]
    Path("bench.json").write_text(json.dumps(rows, indent=1))
    table = Table("name", "value", "unit", "reference", "its value", "ratio", title=MACHINE)
    for each in rows:
        value, other, ratio = (f"{each[key]:.3g}" for key in ("value", "reference_value", "ratio"))
        table.add_row(each["name"], value, each["unit"], each["reference"], other, ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
