"""The MONAI workbench: a site's cases, the charter's network, and its local steps."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.losses import DiceCELoss

from consilium.contracts.charter import Charter
from consilium.errors import Refused
from consilium.learning import networks
from consilium.vocabulary import Reason
from consilium_site import evaluation
from consilium_site.imaging.brats import CaseFiles
from consilium_site.imaging.catalogue import scan, split, split_alone
from consilium_site.imaging.recipe import Prepared, prepare
from consilium_site.patches import Patches
from consilium_site.workbench import Cohort, People, Precision, Progress, Scored, Trained, Vector

MOMENTUM = 0.9
GRADIENT_NORM = 12.0


class MonaiWorkbench:
    """Implements `workbench.Workbench` with MONAI on CPU or CUDA.

    `threads` bounds the CPU threads of training (None: torch's default). The optimiser starts anew each
    round on purpose: its moments belong to a model that the sum has replaced. Cases stay in memory.
    """

    def __init__(self, charter: Charter, data: Path, cache: Path, threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(max(1, threads))
        self.charter, self.data, self.cache = charter, data, cache
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = networks.build(charter.model.name, charter.model.arguments).to(self.device)
        self.trained, self.body = self.network, None
        if charter.model.frozen:
            self.trained = networks.head_of(charter.model.name, self.network)
            self.body = networks.body_of(charter.model.name, self.network).eval()
        self.frozen = False
        self.features: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self.loss = DiceCELoss(sigmoid=True, squared_pred=True, smooth_nr=1e-5, smooth_dr=1e-5)
        self.precision: Precision | None = "cuda" if self.device.type == "cuda" else None
        self.cohort: Cohort | None = None

    def prepare(self, progress: Progress | None = None) -> Cohort:
        """Catalogue, check, prepare and cache once. Raises `Refused(TOO_FEW_CASES)` as the charter asks."""
        if self.cohort is not None:
            return self.cohort
        ready: dict[str, Prepared] = {}

        def take(files: CaseFiles) -> None:
            ready[files.name] = prepare(files, self.charter.training.spacing_mm, self.cache)

        found = scan(self.data, check=take, progress=progress)
        parts = (split if self.charter.plan is None else split_alone)(found.usable)
        patients = {case.patient for case in parts.train}
        if len(found.usable) < self.charter.data.minimum_cases:
            raise Refused(Reason.TOO_FEW_CASES)
        if not patients or len(patients) < self.charter.release.minimum_cohort:
            raise Refused(Reason.TOO_FEW_CASES)
        training = self.charter.training
        self.patches = Patches(
            [ready[case.name] for case in parts.train], training.patch, training.foreground
        )
        self.cases: dict[str, list[int]] = defaultdict(list)
        for place, case in enumerate(parts.train):
            self.cases[case.patient].append(place)
        self.held_out = [ready[case.name] for case in parts.test]
        tested = {case.patient for case in parts.test}
        self.cohort = Cohort(len(patients), len(tested), found.counts())
        return self.cohort

    def score(self, parameters: Vector, until: float) -> Scored:
        """Dice sums over held-out patients, on whole volumes."""
        self.prepare()
        networks.load(self.trained, parameters)
        return evaluation.score_cases(self.network, self.held_out, self.device, self._autocast(), until)

    def train(self, parameters: Vector, round_number: int, until: float) -> Trained:
        """The charter's local steps; patches are drawn from a generator seeded by charter and round."""
        cohort = self.prepare()
        networks.load(self.trained, parameters)
        optimiser = self._optimiser()
        rng = np.random.default_rng((self.charter.training.seed, round_number))
        losses = []
        self.network.train()
        for _ in range(self.charter.training.steps):
            if time.monotonic() > until:
                raise Refused(Reason.TOO_SLOW)
            losses.append(self._step(optimiser, rng))
        update = networks.flatten(self.trained) - parameters
        loss = float(np.mean(losses))
        if not (np.isfinite(update).all() and math.isfinite(loss)):
            raise Refused(Reason.BAD_UPDATE)
        return Trained(update, cohort.train, loss, self.precision or "fp32")

    def freeze(self, parameters: Vector) -> None:
        """Load the backbone (F,) once; its parameters are never trained."""
        if self.body is None or self.frozen:
            return
        networks.load(self.body, parameters)
        for value in self.body.parameters():
            value.requires_grad_(False)
        self.frozen = True

    def people(self) -> People:
        """Patients by name."""
        self.prepare()
        return People(tuple(sorted(self.cases)), tuple(sorted({case.patient for case in self.held_out})))

    def descents(
        self, parameters: Vector, patients: Sequence[str], round_number: int, until: float
    ) -> Iterator[tuple[Vector, float]]:
        """One backward pass a patient (batch of `training.batch` patches of all the person's scans).

        Under a frozen backbone the patches of a patient are drawn once and their features are kept.
        """
        self.prepare()
        networks.load(self.trained, parameters)
        self.network.train()
        for patient in patients:
            if time.monotonic() > until:
                raise Refused(Reason.TOO_SLOW)
            for value in self.trained.parameters():
                value.grad = None
            inputs, targets = self._batch_of(patient, round_number)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self._autocast()):
                logits = self.trained(inputs)
            loss: torch.Tensor = self.loss(logits.float(), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            yield -networks.flat_gradient(self.trained), float(loss.detach())

    def score_people(self, parameters: Vector, until: float) -> list[tuple[float, float, float]]:
        """Mean Dice of each held-out patient, on whole volumes."""
        self.prepare()
        networks.load(self.trained, parameters)
        means, _ = evaluation.score_patients(
            self.network, self.held_out, self.device, self._autocast(), until
        )
        return list(means.values())

    def _batch_of(self, patient: str, round_number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs of the trained part and masks; what is drawn depends on nobody but this patient."""
        if patient in self.features:
            inputs, targets = self.features[patient]
            return inputs.float(), targets.float()
        training = self.charter.training
        drawn_in = 0 if self.body is not None else round_number
        key = hashlib.sha256(f"{patient}/{training.seed}/{drawn_in}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(key[:8], "little"))
        cases = self.cases[patient]
        images, masks = self.patches.of(cases, rng, max(training.batch, len(cases)))
        inputs = torch.from_numpy(images).to(self.device)  # (B, C, I, J, K)
        targets = torch.from_numpy(masks).to(self.device)  # (B, 3, I, J, K)
        if self.body is not None:
            with torch.inference_mode():
                kept = self.body(inputs).half()  # (B, F, i, j, k)
            self.features[patient] = (kept, targets.to(torch.uint8))
            inputs = kept.clone().float()
        return inputs, targets

    def _step(self, optimiser: torch.optim.Optimizer, rng: np.random.Generator) -> float:
        images, masks = self.patches.batch(rng, self.charter.training.batch)
        inputs = torch.from_numpy(images).to(self.device)  # (B, C, I, J, K)
        targets = torch.from_numpy(masks).to(self.device)  # (B, 3, I, J, K)
        autocast = self._autocast()
        self.network.train()
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=autocast):
            logits = self.network(inputs)
        loss: torch.Tensor = self.loss(logits.float(), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.trained.parameters(), GRADIENT_NORM)
        optimiser.step()
        return float(loss.detach())

    def _optimiser(self) -> torch.optim.Optimizer:
        training = self.charter.training
        if training.optimiser == "sgd":
            return torch.optim.SGD(
                self.trained.parameters(), lr=training.learning_rate, momentum=MOMENTUM, nesterov=True
            )
        return torch.optim.Adam(self.trained.parameters(), lr=training.learning_rate)

    def _autocast(self) -> bool:
        """bf16 on CUDA, and on a CPU where a two-step trial says that it is faster; decided once."""
        if self.precision is None:
            model, training = self.charter.model, self.charter.training
            shape = (training.batch, networks.CHANNELS_IN, *training.patch)
            faster = _bf16_is_faster(model.name, json.dumps(model.arguments), shape)
            self.precision = "bf16" if faster else "fp32"
        return self.precision in ("bf16", "cuda")


@functools.lru_cache(maxsize=16)
def _bf16_is_faster(name: str, arguments: str, shape: tuple[int, ...]) -> bool:
    """Two forward-backward passes each way after a warm-up; True only if the processor has bf16 and wins.

    Tried once a process for a network and a batch (B, C, I, J, K).
    """
    if not _has_bf16():
        return False
    network, inputs = networks.build(name, json.loads(arguments)), torch.zeros(shape)
    return _trial(network, inputs, bf16=True) < 0.9 * _trial(network, inputs, bf16=False)


def _has_bf16() -> bool:
    check: Any = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    amx: Any = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool((check and check()) or (amx and amx()))


def _trial(network: torch.nn.Module, inputs: torch.Tensor, *, bf16: bool) -> float:
    seconds = []
    for _ in range(3):
        start = time.monotonic()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = network(inputs)
        logits.float().mean().backward()
        network.zero_grad(set_to_none=True)
        seconds.append(time.monotonic() - start)
    return min(seconds[1:])
