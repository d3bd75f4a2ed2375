"""Catalogue, checks, labels by year, preparation, cache, and the way back to the case's own grid."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consilium.errors import CaseError, InputError
from consilium.vocabulary import CaseProblem
from consilium_site.imaging.brats import NEW, OLD, CaseFiles, find_case, label_map, regions
from consilium_site.imaging.case import Case, read_case
from consilium_site.imaging.catalogue import scan, split
from consilium_site.imaging.recipe import prepare, restore, transform


def copy_case(phantoms: Path, out: Path, name: str = "aurora_001") -> Path:
    shutil.copytree(phantoms / name, out / name)
    return out / name


def rewrite(path: Path, change: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]) -> None:
    image = nib.load(path)
    voxels, affine = change(np.asarray(image.dataobj).copy(), image.affine.copy())
    nib.save(nib.Nifti1Image(voxels, affine), path)


def truncate(case: Path) -> None:
    path = case / f"{case.name}_t2.nii.gz"
    path.write_bytes(path.read_bytes()[:2000])


def half_a_volume(case: Path) -> None:
    """A file whose gzip stream is whole, but whose voxels are not all there."""
    path = case / f"{case.name}_t2.nii.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:20_000]))


def remove_flair(case: Path) -> None:
    (case / f"{case.name}_flair.nii.gz").unlink()


def remove_label(case: Path) -> None:
    (case / f"{case.name}_seg.nii.gz").unlink()


def put_nan(case: Path) -> None:
    def change(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        voxels = voxels.astype(np.float32)
        voxels[3, 3, 3] = np.nan
        return voxels, affine

    rewrite(case / f"{case.name}_t1ce.nii.gz", change)


def put_label_three(case: Path) -> None:
    rewrite(
        case / f"{case.name}_seg.nii.gz", lambda v, a: (np.where(v == 4, 3, v).astype(np.uint8) + (v == 2), a)
    )


def shift_grid(case: Path) -> None:
    def change(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        affine[0, 3] += 3.0
        return voxels, affine

    rewrite(case / f"{case.name}_t2.nii.gz", change)


def crop_grid(case: Path) -> None:
    rewrite(case / f"{case.name}_seg.nii.gz", lambda v, a: (v[1:], a))


def empty_image(case: Path) -> None:
    rewrite(case / f"{case.name}_t1.nii.gz", lambda v, a: (np.zeros_like(v), a))


def tiny_spacing(case: Path) -> None:
    for path in case.iterdir():
        rewrite(path, lambda v, a: (v, np.diag([0.01, 0.01, 0.01, 1.0])))


def four_dimensions(case: Path) -> None:
    rewrite(case / f"{case.name}_t1.nii.gz", lambda v, a: (np.stack([v, v], axis=-1), a))


def empty_folder(case: Path) -> None:
    for path in case.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (truncate, CaseProblem.UNREADABLE),
        (half_a_volume, CaseProblem.UNREADABLE),
        (remove_flair, CaseProblem.MISSING_MODALITY),
        (remove_label, CaseProblem.MISSING_LABEL),
        (put_nan, CaseProblem.NOT_FINITE),
        (put_label_three, CaseProblem.UNKNOWN_LABEL),
        (shift_grid, CaseProblem.GRID_MISMATCH),
        (crop_grid, CaseProblem.GRID_MISMATCH),
        (empty_image, CaseProblem.EMPTY_IMAGE),
        (tiny_spacing, CaseProblem.SPACING),
        (four_dimensions, CaseProblem.SHAPE),
        (empty_folder, CaseProblem.EMPTY_FOLDER),
    ],
)
def test_a_bad_case_is_named_and_skipped_and_the_others_stay(
    phantoms: Path, tmp_path: Path, damage: Callable[[Path], None], problem: CaseProblem
) -> None:
    bad = copy_case(phantoms, tmp_path, "aurora_001")
    copy_case(phantoms, tmp_path, "aurora_002")
    damage(bad)
    found = scan(tmp_path)
    assert [case.name for case in found.usable] == ["aurora_002"]
    assert found.counts() == {problem: 1}
    assert "aurora_001" in found.skipped[0].text


def test_no_folder_and_no_cases_are_errors_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a folder"):
        scan(tmp_path / "missing")
    with pytest.raises(InputError, match="no case folder"):
        scan(tmp_path)


def make_new_style(phantoms: Path, out: Path, name: str) -> Path:
    """A BraTS 2023 case from a phantom: other file names, enhancing tumour 3."""
    folder = out / name
    folder.mkdir(parents=True)
    ends = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f"}
    for old, new in ends.items():
        shutil.copy(phantoms / "aurora_001" / f"aurora_001_{old}.nii.gz", folder / f"{name}-{new}.nii.gz")
    label = nib.load(phantoms / "aurora_001" / "aurora_001_seg.nii.gz")
    voxels = np.asarray(label.dataobj)
    changed = np.where(voxels == 4, 3, voxels).astype(np.uint8)
    nib.save(nib.Nifti1Image(changed, label.affine), folder / f"{name}-seg.nii.gz")
    return folder


def test_both_generations_give_the_same_regions(phantoms: Path, tmp_path: Path) -> None:
    old = read_case(find_case(phantoms / "aurora_001", labelled=True))
    new = read_case(find_case(make_new_style(phantoms, tmp_path, "BraTS-GLI-00007-000"), labelled=True))
    assert (old.files.convention, new.files.convention) == (OLD, NEW)
    assert old.labels is not None
    assert new.labels is not None
    assert np.array_equal(regions(old.labels, OLD), regions(new.labels, NEW))
    tc, wt, et = regions(old.labels, OLD)
    assert (et <= tc).all()
    assert (tc <= wt).all()
    assert et.sum() == (old.labels == 4).sum()


@given(st.data(), st.sampled_from([OLD, NEW]))
def test_label_map_undoes_regions(data: st.DataObject, convention: object) -> None:
    assert isinstance(convention, type(OLD))
    values = st.sampled_from(sorted(convention.labels))
    labels = np.array(data.draw(st.lists(values, min_size=8, max_size=8))).reshape(2, 2, 2)
    assert np.array_equal(label_map(regions(labels, convention), convention), labels)


def test_time_points_of_a_patient_stay_together() -> None:
    cases = [
        CaseFiles(f"BraTS-GLI-{patient:05d}-{point:03d}", NEW, {}, None)
        for patient in range(12)
        for point in range(1 + patient % 3)
    ]
    parts = split(cases)
    train, test = {case.patient for case in parts.train}, {case.patient for case in parts.test}
    assert not train & test
    assert (len(train), len(test)) == (9, 3)
    assert {case.patient for case in split(reversed(cases)).test} == test


@pytest.mark.parametrize(("patients", "train", "test"), [(1, 1, 0), (2, 1, 1), (3, 2, 1), (8, 6, 2)])
def test_small_cohorts_split_by_the_stated_rule(patients: int, train: int, test: int) -> None:
    parts = split([CaseFiles(f"case_{index}", OLD, {}, None) for index in range(patients)])
    assert (len(parts.train), len(parts.test)) == (train, test)


def test_preparation_is_cached_by_content_and_survives_a_damaged_entry(
    phantoms: Path, tmp_path: Path
) -> None:
    folder = copy_case(phantoms, tmp_path / "data")
    files, cache = find_case(folder, labelled=True), tmp_path / "cache"
    first = prepare(files, 6.0, cache)
    (entry,) = cache.iterdir()
    stamp = entry.stat().st_mtime_ns
    assert np.array_equal(prepare(files, 6.0, cache).images, first.images)
    assert entry.stat().st_mtime_ns == stamp
    entry.write_bytes(entry.read_bytes()[:500])
    assert np.array_equal(prepare(files, 6.0, cache).images, first.images)
    rewrite(files.images[next(iter(files.images))], lambda v, a: (v * 2, a))
    prepare(files, 6.0, cache)
    assert len(list(cache.iterdir())) == 2


def test_prepared_images_are_z_scored_in_the_brain_and_zero_outside(phantoms: Path, tmp_path: Path) -> None:
    prepared = prepare(find_case(phantoms / "aurora_001", labelled=True), 6.0, tmp_path)
    assert prepared.masks is not None
    assert prepared.images.shape[1:] == prepared.masks.shape[1:]
    for channel in prepared.images:
        inside = channel[channel != 0]
        assert abs(float(inside.mean())) < 0.01
        assert abs(float(inside.std()) - 1) < 0.01


ORIENTATIONS = [
    np.diag([1.0, 1.0, 1.0, 1.0]),
    np.diag([-1.0, -1.0, 1.0, 1.0]),
    np.array([[0, 0, 1, 5], [1, 0, 0, -3], [0, -1, 0, 2], [0, 0, 0, 1.0]]),
    np.array([[0, 2, 0, 0], [0, 0, -1, 0], [1.5, 0, 0, 0], [0, 0, 0, 1.0]]),
]


@pytest.mark.parametrize("affine", ORIENTATIONS)
def test_masks_find_their_way_back_from_any_orientation(affine: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    images = np.zeros((4, 24, 30, 20), np.float32)
    images[:, 4:20, 5:27, 3:18] = rng.normal(5, 1, (4, 16, 22, 15))
    labels = np.zeros(images.shape[1:], np.int16)
    labels[8:14, 9:16, 6:12] = 2
    labels[10:13, 11:14, 8:11] = 4
    case = Case(CaseFiles("case", OLD, {}, None), images, labels, affine)
    spacing = float(np.sqrt((affine[:3, :3] ** 2).sum(axis=0)).min())
    _, masks, way = transform(case, spacing)
    assert masks is not None
    back = label_map(restore(masks, way, affine), OLD)
    assert back.shape == labels.shape
    overlap = 2 * ((back > 0) & (labels > 0)).sum() / ((back > 0).sum() + (labels > 0).sum())
    assert overlap > (0.999 if np.allclose(np.abs(affine[:3, :3]).sum(0), spacing) else 0.9)


def test_real_cases_are_all_usable(real_data: Path) -> None:
    names = sorted(path.name for path in (real_data / "brats2018").iterdir())[:2]
    for name in names:
        case = read_case(find_case(real_data / "brats2018" / name, labelled=True))
        assert case.images.shape == (4, 240, 240, 155)


def test_the_unlabelled_case_is_read_without_and_refused_with_labels(real_data: Path) -> None:
    folder = real_data / "unlabelled" / "BraTS-GLI-00001-000"
    files = find_case(folder, labelled=False)
    assert files.convention is NEW
    assert files.patient == "BraTS-GLI-00001"
    with pytest.raises(CaseError) as error:
        find_case(folder, labelled=True)
    assert error.value.reason == CaseProblem.MISSING_LABEL
