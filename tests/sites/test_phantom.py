"""The phantom is deterministic, brain-like in its numbers, and different between sites."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from consilium.errors import InputError
from consilium_site.imaging.brats import find_case
from consilium_site.imaging.case import read_case
from consilium_site.phantom.profiles import profile_of
from consilium_site.phantom.write import write_cases


def voxels(folder: Path, name: str) -> np.ndarray:
    return np.asarray(nib.load(folder / f"{folder.name}_{name}.nii.gz").dataobj)


def test_equal_seeds_give_equal_voxels_and_other_seeds_do_not(phantoms: Path, tmp_path: Path) -> None:
    again = write_cases(tmp_path / "again", "aurora", 1, 32, seed=1)[0]
    other = write_cases(tmp_path / "other", "aurora", 1, 32, seed=2)[0]
    for name in ("t1", "t1ce", "t2", "flair", "seg"):
        assert np.array_equal(voxels(again, name), voxels(phantoms / "aurora_001", name))
    assert not np.array_equal(voxels(again, "t1"), voxels(other, "t1"))


def test_contrasts_follow_the_physics(phantoms: Path) -> None:
    """Enhancing tumour is bright in T1ce and not in T1; oedema is bright in FLAIR; fluid in T2 only."""
    seen = 0
    for folder in sorted(phantoms.iterdir()):
        case = read_case(find_case(folder, labelled=True))
        assert case.labels is not None
        t1, t1ce, _, flair = case.images
        healthy = (t1 > 0) & (case.labels == 0)
        if (case.labels == 4).sum() > 20:
            seen += 1
            ratio = t1ce[case.labels == 4].mean() / t1ce[healthy].mean()
            assert ratio > 1.15 * t1[case.labels == 4].mean() / t1[healthy].mean()
        assert flair[case.labels == 2].mean() > 1.2 * flair[healthy].mean()
    assert seen >= 3


def test_the_brain_fills_a_plausible_part_and_the_tumour_a_small_one(phantoms: Path) -> None:
    for folder in phantoms.iterdir():
        brain, labels = voxels(folder, "t1") > 0, voxels(folder, "seg")
        assert 0.1 < brain.mean() < 0.35
        assert 0.002 < (labels > 0).sum() / brain.sum() < 0.5
        assert not (labels[~brain] > 0).any()


def test_sites_differ() -> None:
    assert len({profile_of(name) for name in ("aurora", "birchfield", "calder", "dunmore", "elsewhere")}) == 5
    assert profile_of("elsewhere") == profile_of("elsewhere")


@pytest.mark.parametrize(("cases", "size"), [(1, 31), (1, 241), (0, 48)])
def test_impossible_wishes_are_refused(tmp_path: Path, cases: int, size: int) -> None:
    with pytest.raises(InputError, match="phantom"):
        write_cases(tmp_path, "aurora", cases, size, 0)
