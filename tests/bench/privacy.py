"""What patient-level privacy costs: one step beside a plain one and beside Opacus, and the noise.

The step is REFERENCES': MONAI's UNet (16, 32, 64, 128) with 602,594 parameters on four patches of 32³. Our
unit is the patient (one pass for all four patches), that of Opacus the patch; each adds and clips on its own.
Gradients are longer than the clip, as they mostly are. Opacus draws noise each step; ours comes once a round.
"""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch
from common import Row, peak_mb
from kernels import alternately
from monai.losses import DiceCELoss

from consilium.learning import networks
from consilium.privacy.noise import discrete_gaussian, private_stream
from consilium.privacy.patients import PatientSum
from consilium.privacy.plan import PrivacyPlan

BATCH, TIMES, CLOSE_TIMES = 4, 15, 80
"""A plain step and ours differ by a few percent, so they take more turns."""
CLIP = 0.1
MODES = {
    "hooks": "unit: the patch; PReLU and ConvTranspose3d have no hooks in Opacus: functorch for these",
    "functorch": "unit: the patch",
    "ghost": "unit: the patch; no norm rule for convolutions in Opacus: per-patch gradients first",
}
NOISES, OPENDP = 5_000_000, 100_000
DEVIATION = 1e5


def plan(parameters: int) -> PrivacyPlan:
    """A plan of four sites for a model of this size."""
    sums = {"sites": 4, "threshold": 3, "colluding": 1, "rounds": 100, "steps": 1, "evaluations": 1}
    units = {"unit": "patient", "mechanism": "distributed", "cohort": 250, "cohort_cap": 256}
    promise = {"sampling": 1.0, "clip": CLIP, "noise": 5.43, "bits": 16, "epsilon": 8.0, "delta": 1e-4}
    return PrivacyPlan(parameters=parameters, **sums, **units, **promise)  # type: ignore[arg-type]


class Steps:
    """One network and batch; each method returns a step to be timed."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = networks.build("unet", {}).train()
        self.inputs = torch.randn(BATCH, networks.CHANNELS_IN, 32, 32, 32)
        self.targets = (torch.rand(BATCH, networks.REGIONS, 32, 32, 32) > 0.9).float()
        self.loss = DiceCELoss(sigmoid=True, squared_pred=True, smooth_nr=1e-5, smooth_dr=1e-5)

    def plain(self) -> Callable[[], None]:
        """Forward, backward and an SGD step."""
        optimiser = torch.optim.SGD(self.network.parameters(), lr=1e-3)

        def step() -> None:
            optimiser.zero_grad()
            self.loss(self.network(self.inputs), self.targets).backward()
            optimiser.step()

        return step

    def ours(self) -> Callable[[], None]:
        """Forward, backward, then the patient's vector clipped, rounded, checked and added."""
        summed = PatientSum(plan(602_594), 602_594)

        def step() -> None:
            self.network.zero_grad()
            loss = self.loss(self.network(self.inputs), self.targets)
            loss.backward()
            summed.train(-networks.flat_gradient(self.network), float(loss.detach()))

        return step

    def opacus(self, mode: str) -> Callable[[], None]:
        """A DP-SGD step of Opacus with per-patch gradients; instance norm without parameters is allowed."""
        from opacus import PrivacyEngine
        from torch.utils.data import DataLoader, TensorDataset

        loader = DataLoader(TensorDataset(self.inputs, self.targets), batch_size=BATCH)
        optimiser = torch.optim.SGD(self.network.parameters(), lr=1e-3)
        made: Any = PrivacyEngine().make_private(
            module=self.network,
            optimizer=optimiser,
            data_loader=loader,
            noise_multiplier=1.0,
            max_grad_norm=CLIP,
            poisson_sampling=False,
            grad_sample_mode=mode,
            **({"criterion": PatchLoss()} if mode == "ghost" else {}),
        )
        network, private = made[0], made[1]
        loss = made[2] if mode == "ghost" else self.loss

        def step() -> None:
            private.zero_grad()
            loss(network(self.inputs), self.targets).backward()
            private.step()

        return step


class PatchLoss(DiceCELoss):
    """The loss as Opacus's ghost clipping wants it: one value a patch where it asks for them."""

    def __init__(self) -> None:
        super().__init__(sigmoid=True, squared_pred=True, smooth_nr=1e-5, smooth_dr=1e-5)
        self.reduction = "mean"

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean over patches, or each patch's loss with reduction 'none'."""
        whole = DiceCELoss(sigmoid=True, squared_pred=True, smooth_nr=1e-5, smooth_dr=1e-5)
        each = torch.stack([whole(one[None], other[None]) for one, other in zip(input, target, strict=True)])
        return each if self.reduction == "none" else each.mean()


def against_plain(name: str, made: Callable[[Steps], Callable[[], None]], note: str, times: int) -> Row:
    """Milliseconds of a step beside the plain one of the same network and batch, in turns."""
    plain = Steps().plain()
    ours, other = alternately(made(Steps()), plain, times)
    return Row(name, ours * 1e3, "ms", "a plain step", other * 1e3, note)


def noise() -> Row:
    """Seconds for the noise of 5M coordinates, against OpenDP's exact discrete Gaussian."""
    import opendp.prelude as dp

    dp.enable_features("contrib")
    exact = dp.m.make_gaussian(dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64"), DEVIATION)
    zeros, words = [0] * OPENDP, private_stream()
    ours, other = alternately(
        lambda: discrete_gaussian(DEVIATION, NOISES, words), lambda: exact(zeros), times=5
    )
    reference = f"OpenDP's exact one, measured on {OPENDP:,} and scaled to {NOISES:,}"
    return Row("privacy.noise_5m_seconds", ours, "s", reference, other * NOISES / OPENDP)


def peak(which: str) -> float:
    """Most memory of a fresh process that does three steps of this kind, MB."""
    command = [sys.executable, __file__, which]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=variables)
    return float(done.stdout.split()[-1])


def rows(told: Callable[[str], None]) -> list[Row]:
    """All rows; a mode of Opacus that cannot run this network is named and left out."""
    warnings.filterwarnings("ignore")
    told("a private step beside a plain one and beside Opacus")
    note = "unit: the patient; aim 1.05"
    found = [against_plain("privacy.step_over_plain", Steps.ours, note, CLOSE_TIMES)]
    for mode, note in MODES.items():
        try:
            name = f"privacy.opacus_{mode}_over_plain"
            row = against_plain(name, lambda s, m=mode: s.opacus(m), note, TIMES)
        except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:
            told(f"Opacus {mode} cannot do this network: {type(error).__name__}: {str(error)[:200]}")
            continue
        found.append(row)
    told("peak memory of a step, each in its own process")
    others = ", ".join(f"{which} {peak(which):.0f}" for which in ("plain", "functorch", "ghost"))
    note = f"whole processes, PyTorch and MONAI included; in the same run, MB: {others}"
    found.append(Row("privacy.step_peak_mb", peak("ours"), "MB", "Opacus hooks", peak("hooks"), note))
    told("noise of five million coordinates")
    return [*found, noise()]


def main(which: str) -> None:
    """Three steps of one kind, then the peak memory of this process."""
    warnings.filterwarnings("ignore")
    steps = Steps()
    step = steps.opacus(which) if which in MODES else {"ours": steps.ours, "plain": steps.plain}[which]()
    for _ in range(3):
        step()
    print(peak_mb(os.getpid()))


if __name__ == "__main__":
    main(sys.argv[1])
