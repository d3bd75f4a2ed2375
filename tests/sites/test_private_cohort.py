"""Patients of a private study: who they are, what one of them adds, and what stays frozen."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from commands import call
from consilium.contracts.charter import Charter, threshold
from consilium.contracts.envelope import Envelope
from consilium.errors import InputError, Refused
from consilium.files import sha256_hex
from consilium.learning import networks
from consilium.learning.parameters import ModelFile, read_model, unpack_model, write_model
from consilium_site import models
from consilium_site.budget import Budget
from consilium_site.home import SiteHome
from consilium_site.imaging.brats import NEW, CaseFiles
from consilium_site.imaging.catalogue import split_alone
from consilium_site.ledger import Ledger
from consilium_site.membership import compared, membership
from consilium_site.private import PrivateUploads
from consilium_site.training import MonaiWorkbench
from support import toy_charter

FOREVER = 1e18
FILTERS = {"filters": 4}


@pytest.fixture(scope="module")
def backbone() -> ModelFile:
    return networks.new_model("segresnet", FILTERS, 3)


@pytest.fixture(scope="module")
def head(backbone: ModelFile) -> ModelFile:
    return networks.new_head(backbone, 4)


def charter(initial: ModelFile, **privacy: Any) -> Charter:
    keys = {site: f"{number:064x}" for number, site in enumerate(("site-a", "site-b", "site-c"), 1)}
    dp = {
        "mechanism": "distributed",
        **{"noise": 0.3, "epsilon": 500.0, "cohort": 4, "cohort_cap": 16, "tick_seconds": 0.0},
        **{"evaluations": 1, **privacy},
    }
    return toy_charter(
        keys,
        model={
            "name": initial.name,
            "arguments": initial.arguments,
            "parameters": initial.parameters.size,
            "initial": sha256_hex(initial.pack()),
            "frozen": initial.frozen.size,
        },
        training={"spacing_mm": 6.0, "patch": [32, 32, 32], "batch": 2, "steps": 1},
        release={"site_metrics": False},
        secure_aggregation={"threshold": threshold(3), "colluding": 1, "scale_bits": 16},
        privacy=dp,
    )


@pytest.fixture(scope="module")
def cohort(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scans of four patients in BraTS names: two patients were scanned twice."""
    out = tmp_path_factory.mktemp("cohort")
    names = ("00001-000", "00001-001", "00002-000", "00003-000", "00003-001", "00005-000")
    new = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f", "seg": "seg"}
    for source, name in zip(sorted(phantoms.iterdir()), names, strict=True):
        folder = out / f"BraTS-GLI-{name}"
        folder.mkdir()
        for old, named in new.items():
            file = folder / f"{folder.name}-{named}.nii.gz"
            shutil.copyfile(source / f"{source.name}_{old}.nii.gz", file)
            if old == "seg":
                _relabel(file)
    return out


def _relabel(file: Path) -> None:
    """ET is 3 from 2023 on, 4 in the phantom's older names."""
    import nibabel as nib

    image = nib.load(file)
    labels = np.asarray(image.dataobj)
    nib.save(nib.Nifti1Image(np.where(labels == 4, 3, labels).astype(np.uint8), image.affine), file)


@pytest.fixture(scope="module")
def bench(cohort: Path, head: ModelFile, tmp_path_factory: pytest.TempPathFactory) -> MonaiWorkbench:
    opened = MonaiWorkbench(charter(head), cohort, tmp_path_factory.mktemp("cache"), threads=1)
    opened.freeze(head.frozen)
    opened.precision = "fp32"
    return opened


def test_two_scans_of_one_patient_count_once(bench: MonaiWorkbench, head: ModelFile) -> None:
    people = bench.people()
    everyone = {f"BraTS-GLI-0000{number}" for number in (1, 2, 3, 5)}
    assert set(people.train) | set(people.test) == everyone
    assert not set(people.train) & set(people.test)
    twice = [patient for patient in people.train if len(bench.cases[patient]) == 2]
    assert twice, "the split of these names must leave a patient with two scans in training"
    found = list(bench.descents(head.parameters, people.train, 1, FOREVER))
    assert len(found) == len(people.train)


def test_the_ledger_has_one_row_for_a_patient_with_two_scans(
    bench: MonaiWorkbench, head: ModelFile, tmp_path: Path
) -> None:
    home = SiteHome(tmp_path)
    budget = Budget(Ledger(home.database))
    budget.set_ceiling(1000.0, 0.01)
    private = PrivateUploads(home, budget)
    private.upload(charter(head), 1, head.parameters, bench, FOREVER)
    assert budget.studies()[0].patients == len(bench.people().train)


def test_a_descent_is_minus_the_gradient_of_the_patients_mean_loss(
    cohort: Path, backbone: ModelFile, tmp_path: Path
) -> None:
    """The whole network, and its head over kept features, against autograd on the same patches."""
    whole = MonaiWorkbench(charter(backbone), cohort, tmp_path, threads=1)
    whole.precision = "fp32"
    patient = whole.people().train[0]
    ((descent, loss),) = whole.descents(backbone.parameters, [patient], 1, FOREVER)
    images, masks = whole._batch_of(patient, 1)
    network = networks.whole(backbone)
    expected = whole.loss(network(images), masks)
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), rel=1e-4)
    assert np.allclose(descent, -networks.flat_gradient(network), atol=1e-4)


def test_kept_features_give_the_heads_own_gradient(bench: MonaiWorkbench, head: ModelFile) -> None:
    patient = bench.people().train[0]
    ((descent, loss),) = bench.descents(head.parameters, [patient], 1, FOREVER)
    ((again, same),) = bench.descents(head.parameters, [patient], 9, FOREVER)
    assert np.array_equal(descent, again)
    assert loss == same
    features, masks = bench.features[patient]
    assert not any(each.requires_grad for each in bench.body.parameters())  # type: ignore[union-attr]
    network = networks.whole(head)
    part = networks.head_of(head.name, network)
    expected = bench.loss(part(features.float()), masks.float())
    expected.backward()
    assert np.allclose(descent, -networks.flat_gradient(part), atol=1e-5)


def test_a_head_and_its_body_are_the_whole_network(backbone: ModelFile, head: ModelFile) -> None:
    assert head.parameters.size + head.frozen.size == backbone.parameters.size
    same = unpack_model(head.pack())
    assert np.array_equal(same.frozen, head.frozen)
    network, images = networks.whole(same).eval(), torch.randn(1, 4, 16, 16, 16)
    body, last = networks.body_of(head.name, network), networks.head_of(head.name, network)
    with torch.inference_mode():
        assert torch.allclose(last(body(images)), network(images), atol=1e-6)
    trained = replace(head, parameters=head.parameters + 1)
    assert np.array_equal(networks.flatten(networks.body_of(head.name, networks.whole(trained))), head.frozen)
    with pytest.raises(ValueError, match="whole trained network"):
        networks.new_head(head, 1)


def test_the_frozen_part_is_kept_and_its_hash_checked(head: ModelFile, tmp_path: Path) -> None:
    agreed = charter(head)
    brought = Envelope("order", {"initial": np.frombuffer(head.pack(), np.uint8)})
    assert np.array_equal(models.frozen(agreed, tmp_path, brought), head.frozen)
    nothing = Envelope("order", {})
    assert np.array_equal(models.frozen(agreed, tmp_path, nothing), head.frozen)
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(kept.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(Refused):
        models.frozen(agreed, tmp_path, nothing)
    other = replace(head, frozen=head.frozen + 1)
    with pytest.raises(Refused):
        models.frozen(agreed, tmp_path, Envelope("order", {"initial": np.frombuffer(other.pack(), np.uint8)}))


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, 10_000), min_size=2, max_size=40), st.randoms())
def test_one_patient_more_moves_nobody_else(numbers: set[int], random: Any) -> None:
    cases = [CaseFiles(f"BraTS-GLI-{number:05d}-000", NEW, {}, None) for number in sorted(numbers)]
    gone = random.choice(cases)
    everyone, fewer = split_alone(cases), split_alone([case for case in cases if case is not gone])
    assert {each.name for each in everyone.test} - {gone.name} == {each.name for each in fewer.test}
    assert {each.name for each in everyone.train} - {gone.name} == {each.name for each in fewer.train}


def test_a_backbone_a_head_and_their_mistakes(phantoms: Path, tmp_path: Path) -> None:
    words = ("--arguments", json.dumps(FILTERS), "--spacing", "6", "--patch", "32", "--steps", "2")
    done = call("pretrain", phantoms, tmp_path / "backbone", *words)
    assert done.returncode == 0, done.stderr
    told = call("new-model", tmp_path / "head", "--backbone", tmp_path / "backbone", "--json")
    sizes = json.loads(told.stdout)
    assert sizes["parameters"] < 100 < sizes["frozen"]
    twice = call("new-model", tmp_path / "again", "--backbone", tmp_path / "head")
    assert twice.returncode == 1
    assert "whole trained network" in twice.stderr
    (tmp_path / "empty" / "case").mkdir(parents=True)
    nothing = call("pretrain", tmp_path / "empty", tmp_path / "out")
    assert nothing.returncode == 1
    assert "no usable case" in nothing.stderr


def test_membership_of_a_model_that_remembers_is_found() -> None:
    told = compared([0.1, 0.2, 0.3, 0.2], [0.8, 0.9, 0.7])
    assert told.auc == 1.0
    blind = compared([0.1, 0.9, 0.4, 0.6], [0.2, 0.8, 0.5])
    assert blind.low < 0.5 < blind.high


def test_membership_asks_for_patients_on_both_sides(cohort: Path, head: ModelFile, tmp_path: Path) -> None:
    one = tmp_path / "one"
    shutil.copytree(cohort / "BraTS-GLI-00001-000", one / "BraTS-GLI-00001-000")
    with pytest.raises(InputError, match="two of each"):
        membership(head, one, tmp_path / "cache")
    write_model(tmp_path / "model", head)
    assert read_model(tmp_path / "model").frozen.size == head.frozen.size
