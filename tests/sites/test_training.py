"""Networks, patches, training, evaluation and prediction, with MONAI on phantoms."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from consilium.contracts.charter import Charter
from consilium.errors import CaseError, InputError, Refused
from consilium.learning import networks
from consilium.learning.parameters import ModelFile, read_model, unpack_model, write_model
from consilium.vocabulary import CaseProblem, Reason
from consilium_site.evaluation import dice
from consilium_site.predict import predict_case
from consilium_site.training import MonaiWorkbench
from support import toy_charter

SMALL = {"channels": [8, 16, 32], "residual_units": 1}


def charter(**changes: Any) -> Charter:
    model = networks.new_model("unet", SMALL, 0)
    training = {"spacing_mm": 6.0, "patch": [32, 32, 32], "batch": 2, "steps": 12, "learning_rate": 3e-3}
    document: dict[str, Any] = {
        "model": {
            "name": "unet",
            "arguments": SMALL,
            "parameters": model.parameters.size,
            "initial": "0" * 64,
        },
        "training": training,
        **changes,
    }
    return toy_charter({"a": "1" * 64, "b": "2" * 64}, **document)


@pytest.fixture(scope="module")
def bench(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> MonaiWorkbench:
    return MonaiWorkbench(charter(), phantoms, tmp_path_factory.mktemp("cache"), threads=1)


def start() -> np.ndarray:
    return networks.new_model("unet", SMALL, 0).parameters


def test_the_reference_unet_has_the_published_size() -> None:
    assert networks.new_model("unet", {}, 0).parameters.size == 602_594


@pytest.mark.parametrize(("name", "arguments"), [("unet", SMALL), ("segresnet", {"filters": 8})])
@pytest.mark.parametrize("norm", ["instance", "group"])
def test_parameters_survive_the_vector(name: str, arguments: dict[str, Any], norm: str) -> None:
    model = networks.new_model(name, {**arguments, "norm": norm}, 3)
    network = networks.build(name, {**arguments, "norm": norm})
    networks.load(network, model.parameters)
    assert np.array_equal(networks.flatten(network), model.parameters)
    assert not list(network.buffers())
    assert network(torch.zeros(1, 4, 16, 16, 16)).shape == (1, 3, 16, 16, 16)
    with pytest.raises(ValueError, match="parameters"):
        networks.load(network, model.parameters[:-1])


def test_equal_seeds_give_equal_model_files(tmp_path: Path) -> None:
    one, two, three = (networks.new_model("unet", SMALL, seed).pack() for seed in (1, 1, 2))
    assert one == two != three
    digest = write_model(tmp_path / "m.safetensors", unpack_model(one))
    assert read_model(tmp_path / "m.safetensors").layout == unpack_model(one).layout
    assert len(digest) == 64


def test_a_broken_model_file_is_refused(tmp_path: Path) -> None:
    blob = networks.new_model("unet", SMALL, 1).pack()
    with pytest.raises(InputError, match="not a Consilium model"):
        unpack_model(blob[: len(blob) // 2])
    wrong = ModelFile("toy", {}, (("x", (3,)),), np.zeros(4, np.float32)).pack()
    with pytest.raises(InputError, match="layout"):
        unpack_model(wrong)


def test_training_learns_and_repeats_exactly(bench: MonaiWorkbench) -> None:
    until = time.monotonic() + 60
    first = bench.train(start(), 1, until)
    again = bench.train(start(), 1, until)
    assert np.array_equal(first.update, again.update)
    assert first.weight == 5
    model = start()
    losses = []
    for round_number in range(1, 5):
        trained = bench.train(model, round_number, until)
        losses.append(trained.loss)
        model = model + trained.update
    assert losses[-1] < 0.9 * losses[0]
    untrained, after = bench.score(start(), until), bench.score(model, until)
    assert after.dice_wt > untrained.dice_wt


def test_training_stops_at_its_time_limit(bench: MonaiWorkbench) -> None:
    with pytest.raises(Refused) as refused:
        bench.train(start(), 1, time.monotonic() - 1)
    assert refused.value.reason == Reason.TOO_SLOW


def test_a_diverging_update_is_refused(phantoms: Path, tmp_path: Path) -> None:
    wild = MonaiWorkbench(charter(), phantoms, tmp_path, threads=1)
    with pytest.raises(Refused) as refused:
        wild.train(np.full_like(start(), np.float32(1e30)), 1, time.monotonic() + 60)
    assert refused.value.reason == Reason.BAD_UPDATE


def test_bad_cases_are_counted_and_too_few_refuse(phantoms: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("aurora_001", "aurora_002", "aurora_003"):
        shutil.copytree(phantoms / name, data / name)
    (data / "aurora_002" / "aurora_002_t2.nii.gz").unlink()
    cohort = MonaiWorkbench(charter(), data, tmp_path / "cache", threads=1).prepare()
    assert (cohort.train, cohort.test) == (1, 1)
    assert cohort.skipped == {CaseProblem.MISSING_MODALITY: 1}
    greedy = charter(data={"minimum_cases": 3})
    with pytest.raises(Refused) as refused:
        MonaiWorkbench(greedy, data, tmp_path / "cache", threads=1).prepare()
    assert refused.value.reason == Reason.TOO_FEW_CASES


def test_dice_and_its_rule_for_empty_references() -> None:
    empty, one, two = np.zeros(4), np.array([1, 0, 0, 0]), np.array([1, 1, 0, 0])
    assert dice(empty, empty) == 1.0
    assert dice(one, empty) == 0.0
    assert dice(empty, one) == 0.0
    assert dice(two, one) == pytest.approx(2 / 3)


def predicted(model: Path, folder: Path, out: Path) -> tuple[Any, Any]:
    predict_case(model, folder, out)
    reference = nib.load(next(path for path in folder.iterdir() if "t1" in path.name))
    return nib.load(out), reference


def test_a_prediction_lies_on_the_cases_own_grid(phantoms: Path, tmp_path: Path) -> None:
    model = networks.new_model("unet", SMALL, 0)
    path = tmp_path / "model.safetensors"
    write_model(path, model.with_parameters(model.parameters, spacing_mm=6.0))
    mask, reference = predicted(path, phantoms / "aurora_001", tmp_path / "out.nii.gz")
    assert mask.shape == reference.shape
    assert np.array_equal(mask.affine, reference.affine)
    assert mask.header.get_zooms() == reference.header.get_zooms()
    assert set(np.unique(mask.dataobj)) <= {0, 1, 2, 4}
    with pytest.raises(InputError, match=r"\.nii"):
        predict_case(path, phantoms / "aurora_001", tmp_path / "out.png")
    with pytest.raises(CaseError):
        predict_case(path, tmp_path, tmp_path / "out.nii.gz")


def test_a_prediction_of_a_real_unlabelled_case(real_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = networks.new_model("unet", SMALL, 0)
    write_model(path, model.with_parameters(model.parameters, spacing_mm=2.0))
    folder = real_data / "unlabelled" / "BraTS-GLI-00001-000"
    mask, reference = predicted(path, folder, tmp_path / "out.nii.gz")
    assert mask.shape == reference.shape
    assert np.array_equal(mask.affine, reference.affine)
    assert set(np.unique(mask.dataobj)) <= {0, 1, 2, 3}
