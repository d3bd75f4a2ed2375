"""The parts of a round in one process: encoding, a step, a prediction, preparing cases."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Row, seconds

from consilium.learning import networks
from consilium.privacy.clipping import clip_factor
from consilium.privacy.fixed_point import FixedPoint, Tail, add_into
from consilium_site.evaluation import predict_masks
from consilium_site.imaging.catalogue import scan
from consilium_site.imaging.recipe import prepare
from consilium_site.phantom.write import write_cases
from consilium_site.training import MonaiWorkbench, _has_bf16
from support import MemoryConsortium, toy_charter

CPU = torch.device("cpu")
WINDOW = (128, 128, 128)


def encode() -> Row:
    """Clipping, encoding and adding 5M parameters, against numpy's float copy and add of the same vector."""
    codec = FixedPoint(4, 64.0, 22, 256)
    update = np.random.default_rng(0).normal(0, 1e-3, 5_000_000).astype(np.float32)
    tail, total = Tail(10, 1.0, 2, 1.0, 1.0, 1.0), np.zeros(update.size + 6, np.uint32)
    plain = np.zeros_like(update)
    ours = seconds(lambda: add_into(total, codec.encode(update, tail, clip_factor(update, codec.clip))))
    floor = seconds(lambda: np.add(plain, update.copy(), out=plain))
    return Row("upload.encode_add_ms", ours * 1e3, "ms", "copy and add of float32", floor * 1e3)


def train(folder: Path) -> Row:
    """One step of the workbench against a plain MONAI loop: network, loss, precision and batch alike.

    Ours draws and augments a new batch each step; the plain loop repeats one. The two take turns.
    """
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
            loss: Any = bench.loss(logits.float(), targets)
            loss.backward()
            optimiser.step()

    ours, theirs = alternately(lambda: bench.train(model.parameters, 1, float("inf")), plain, 5)
    precision = f"plain MONAI loop, one fixed batch, {bench.precision}"
    return Row("train.step_seconds", ours / 10, "s", precision, theirs / 10)


def predict(*, bf16: bool) -> Row:
    """A 240×240×155 head with a 160×192×144 brain, against MONAI's sliding window as in its BraTS bundle.

    The bundle: windows of 240×240×160 would be one pass over everything; its inferer asks for overlap 0.5,
    on a CPU with 128³ windows. Ours works on the brain's box. Both sides in the same precision.
    """
    from monai.inferers import SlidingWindowInferer

    network = networks.build("unet", {}).eval()
    brain = np.random.default_rng(0).normal(size=(4, 160, 192, 144)).astype(np.float32)
    whole = torch.zeros(1, 4, 240, 240, 155)
    inferer = SlidingWindowInferer(WINDOW, sw_batch_size=1, overlap=0.5)

    def theirs() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            inferer(whole, network)

    ours, reference = alternately(lambda: predict_masks(network, brain, CPU, autocast=bf16), theirs, 2)
    kind = "bf16" if bf16 else "fp32"
    name = "predict.volume_seconds" + ("_bf16" if bf16 else "")
    return Row(name, ours, "s", f"MONAI sliding window 128³, overlap 0.5, {kind}", reference)


def cases(folder: Path) -> Row:
    """Preparing phantom cases at 48³, the first time against from the cache."""
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        found = scan(folder, check=lambda files: prepare(files, 4.0, Path(cache)))
        first = len(found.usable) / (time.perf_counter() - start)
        start = time.perf_counter()
        scan(folder, check=lambda files: prepare(files, 4.0, Path(cache)))
        again = len(found.usable) / (time.perf_counter() - start)
    return Row("prepare.cases_per_second", first, "1/s", "the same from the cache", again)


def round_in_memory() -> Row:
    """A round of four sites and 600k parameters through both state machines, against numpy's bare mean."""
    size = 600_000
    with tempfile.TemporaryDirectory() as folder:
        consortium = MemoryConsortium(Path(folder), size=size, rounds=5)
        start = time.perf_counter()
        consortium.run().go()
        ours = (time.perf_counter() - start) / 6
    updates = [np.random.default_rng(site).normal(size=size).astype(np.float32) for site in range(4)]
    bare = seconds(lambda: np.mean(updates, axis=0))
    return Row("round.in_memory_seconds", ours, "s", "numpy mean of four updates", bare)


def alternately(one: Callable[[], object], other: Callable[[], object], times: int) -> tuple[float, float]:
    """Medians of two works that take turns, after a warm-up of each, so that noise falls on both."""
    spent: tuple[list[float], list[float]] = ([], [])
    one()
    other()
    for _ in range(times):
        for work, into in zip((one, other), spent, strict=True):
            start = time.perf_counter()
            work()
            into.append(time.perf_counter() - start)
    return statistics.median(spent[0]), statistics.median(spent[1])


def rows(told: Callable[[str], None]) -> list[Row]:
    """All rows of this file; about a minute."""
    told("encoding, cases, a step, a prediction")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cases(folder, "aurora", 8, 48, 0)
        found = [encode(), cases(folder), round_in_memory(), train(folder), predict(bf16=False)]
    return [*found, predict(bf16=True)] if _has_bf16() else found
