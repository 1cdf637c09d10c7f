"""Training folders: what is paired, what is not and why, and whose scans go where."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nibabel
import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap.images import (
    Case,
    find_cases,
    load_case,
    load_nifti,
    patient_of,
    save_nifti,
    split_by_patient,
)

SHAPE = (6, 5, 4)
AFFINE = torch.diag(torch.tensor([-1.0, 1.0, 2.0, 1.0]))


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def save(path, data, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_nifti(path, data, affine)
    return path


def case_of(folder, *, mask=None, raters=(), affine=AFFINE):
    """A case on disk whose mask may lie elsewhere."""
    image = save(folder / "images" / "a.nii.gz", torch.rand(SHAPE))
    mask = None if mask is None else save(folder / "masks" / "a.nii.gz", mask, affine)
    paths = [
        save(folder / "raters" / f"a_rater{number}.nii.gz", rater)
        for number, rater in enumerate(raters, start=1)
    ]
    return Case("a", "a", image, mask, tuple(paths))


def soft_mask():
    mask = torch.zeros(SHAPE)
    mask[1:3, 1:3, 1] = 1
    mask[3, 1:3, 1] = 0.4
    return mask


def test_images_are_paired_with_masks_and_raters_by_name(tmp_path):
    touch(
        tmp_path,
        "images/sub-01_ses-1.nii.gz",
        "images/sub-02.nii",
        "masks/sub-01_ses-1.nii.gz",
        "raters/sub-02_rater10.nii.gz",
        "raters/sub-02_rater9.nii.gz",
    )
    table = find_cases(tmp_path)
    first, second = table.cases
    assert (first.name, first.patient, first.raters) == ("sub-01_ses-1", "sub-01", ())
    assert first.mask == tmp_path / "masks" / "sub-01_ses-1.nii.gz"
    assert second.mask is None
    assert [path.name for path in second.raters] == [
        "sub-02_rater9.nii.gz",
        "sub-02_rater10.nii.gz",
    ]
    assert table.unpaired == ()


def test_what_cannot_be_paired_is_listed_with_its_reason(tmp_path):
    touch(
        tmp_path,
        "images/a.nii.gz",
        "images/b.nii.gz",
        "images/b.nii",
        "images/notes.txt",
        "images/.hidden.nii.gz",
        "masks/b.nii",
        "masks/c.nii.gz",
        "raters/d_rater1.nii.gz",
        "raters/b_first.nii.gz",
        "raters/b_rater1.nii.gz",
        "raters/b_rater01.nii.gz",
    )
    table = find_cases(tmp_path)
    reasons = {str(file.path.relative_to(tmp_path)): file.reason for file in table.unpaired}
    assert [case.name for case in table.cases] == ["b"]
    assert reasons == {
        "images/a.nii.gz": "no mask and no raters of this case",
        "images/b.nii.gz": "b.nii is of the same case",
        "images/notes.txt": "not a file ending in .nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd, "
        ".mgz, .mgh, .img",
        "masks/c.nii.gz": "no image of case c",
        "raters/b_first.nii.gz": "its name must be CASE_rater1, CASE_rater2, …",
        "raters/b_rater1.nii.gz": "b_rater01.nii.gz is of the same rater",
        "raters/d_rater1.nii.gz": "no image of case d",
    }


def test_every_file_is_in_a_case_or_in_the_list(tmp_path):
    touch(tmp_path, "images/a.nii", "images/b.nii", "masks/a.nii", "masks/x.nii")
    touch(tmp_path, "raters/a_rater1.nii", "raters/a_rater2.nii", "raters/y_rater1.nii")
    table = find_cases(tmp_path)
    used = {path for case in table.cases for path in (case.image, case.mask, *case.raters)}
    listed = {file.path for file in table.unpaired}
    assert used | listed == {path for path in tmp_path.rglob("*") if path.is_file()}
    assert not used & listed


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone must be a folder with scans"):
        find_cases(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"one of these layouts .* found an empty folder"):
        find_cases(tmp_path)
    with pytest.raises(FileNotFoundError, match="images must be a folder with scans"):
        find_cases(tmp_path, layout="ours")
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match=r"images must hold scans \(\.nii, \.nii\.gz, \.nrrd"):
        find_cases(tmp_path)


def test_a_table_names_the_patients(tmp_path):
    touch(tmp_path, "images/a1.nii", "images/a2.nii", "masks/a1.nii", "masks/a2.nii")
    (tmp_path / "patients.csv").write_text("case,patient\na1,Ada\nA2,Bob\n")
    table = find_cases(tmp_path)
    assert {case.name: case.patient for case in table.cases} == {"a1": "Ada", "a2": "a2"}
    assert [file.reason for file in table.unpaired] == ["no image of case A2"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("scan,person\na,Ada\n", "patients.csv must have the columns case and patient"),
        ("case,patient\na,\n", "patients.csv must have the columns case and patient"),
        ("case,patient\na,Ada\na,Bob\n", "patients.csv must name one patient a case, got two for"),
    ],
)
def test_a_wrong_table_is_named(tmp_path, table, message):
    touch(tmp_path, "images/a.nii", "masks/a.nii")
    (tmp_path / "patients.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        find_cases(tmp_path)


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("sub-01_ses-1", "sub-01"),
        ("site2_sub-01_ses-1", "sub-01"),
        ("patient07_mni_lesions", "patient07"),
        ("case_001_t2", "case_001"),
        ("phantom-0003", "phantom-0003"),
        ("Smith_baseline", "Smith_baseline"),
    ],
)
def test_the_patient_is_read_from_the_case(case, patient):
    assert patient_of(case) == patient


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=2, unique=True),
    st.floats(0.01, 0.99),
    st.integers(0, 99),
)
def test_no_patient_is_on_both_sides_and_no_case_is_lost(numbers, fraction, seed):
    cases = [Case(f"sub-{a}_ses-{b}", f"sub-{a}", Path(f"{a}{b}"), None, ()) for a, b in numbers]
    if len({case.patient for case in cases}) < 2:
        return
    train, validation = split_by_patient(cases, fraction=fraction, seed=seed)
    assert not {case.patient for case in train} & {case.patient for case in validation}
    assert sorted(case.name for case in train + validation) == sorted(c.name for c in cases)
    assert train
    assert validation
    assert split_by_patient(cases[::-1], fraction=fraction, seed=seed) == (train, validation)


def test_one_patient_alone_cannot_be_split():
    cases = [Case(f"a_{n}", "a", Path("a"), None, ()) for n in range(3)]
    with pytest.raises(ValueError, match=r"two patients at least, got 3 cases of \['a'\]"):
        split_by_patient(cases, fraction=0.5, seed=0)
    with pytest.raises(ValueError, match="fraction must lie between 0 and 1, got 1"):
        split_by_patient(cases, fraction=1.0, seed=0)


def test_a_case_is_read_with_its_lesions(tmp_path):
    loaded = load_case(case_of(tmp_path, mask=soft_mask()))
    assert loaded.spacing == (1.0, 1.0, 2.0)
    assert torch.equal(loaded.mask, soft_mask())
    (lesion,) = loaded.lesions
    assert lesion.box.tolist() == [1, 1, 1, 3, 3, 2]
    assert lesion.crop.shape == (3, 2, 1)
    assert torch.equal(loaded.affine, load_nifti(tmp_path / "images" / "a.nii.gz").affine)


def test_without_a_mask_the_mean_of_the_raters_is_the_mask(tmp_path):
    hard = (soft_mask() > 0.5).float()
    loaded = load_case(case_of(tmp_path, raters=[hard, torch.zeros(SHAPE)]))
    assert torch.equal(loaded.mask, hard / 2)
    assert [lesion.existence for lesion in loaded.lesions] == [0.5]


def test_a_case_without_a_lesion_is_normal(tmp_path):
    assert load_case(case_of(tmp_path, mask=torch.zeros(SHAPE))).lesions == []


def test_a_mask_that_stays_below_the_threshold_is_noted_and_a_lower_threshold_finds_it(tmp_path):
    case = case_of(tmp_path, mask=0.4 * (soft_mask() > 0))
    loaded = load_case(case)
    assert loaded.lesions == []
    (note,) = loaded.notes
    assert note.startswith("case a: ")
    assert "the highest is 0.4, below the threshold 0.5" in note
    assert len(load_case(case, threshold=0.3).lesions) == 1


@pytest.mark.parametrize(
    ("share", "noted"), [(1.0, False), (0.95, False), (0.8, True), (0.0, True)]
)
def test_a_mask_that_disagrees_with_its_raters_is_noted(tmp_path, share, noted):
    hard = (soft_mask() > 0).float()
    case = case_of(tmp_path, mask=share * hard, raters=[hard, hard])
    loaded = load_case(case)
    assert len(loaded.lesions) == 1
    assert ["raters' mean" in note for note in loaded.notes] == [True] * noted


def test_a_mask_half_a_voxel_off_is_noted_and_one_far_off_is_refused(tmp_path):
    near, far = AFFINE.clone(), AFFINE.clone()
    near[0, 3], far[0, 3] = 0.4, 10.0
    (note,) = load_case(case_of(tmp_path / "near", mask=soft_mask(), affine=near)).notes
    assert re.search(r"masks/a\.nii\.gz is not on the grid of .* 0\.4 voxels", note)
    with pytest.raises(ValueError, match=r"masks/a\.nii\.gz must lie on the grid of .* 10 voxels"):
        load_case(case_of(tmp_path / "far", mask=soft_mask(), affine=far))


def turned(path, order, flips):
    """The same file in another axis order: data and affine together, so nothing has moved."""
    image = nibabel.load(path)
    turn = [[axis, -1 if axis in flips else 1] for axis in order]
    nibabel.save(image.as_reoriented(turn), path)


@pytest.mark.parametrize(
    ("order", "flips"), [((0, 1, 2), (0, 2)), ((2, 0, 1), ()), ((1, 2, 0), (1,))]
)
def test_masks_in_another_axis_order_than_the_scan_are_turned(tmp_path, order, flips):
    hard = (soft_mask() > 0.5).float()
    case = case_of(tmp_path, mask=hard, raters=[hard, torch.zeros(SHAPE)])
    for path in (case.mask, *case.raters):
        turned(path, order, flips)
    loaded = load_case(case)
    assert not any("grid" in note for note in loaded.notes)
    assert torch.equal(loaded.mask, hard)
    assert [lesion.box.tolist() for lesion in loaded.lesions] == [[1, 1, 1, 3, 3, 2]]
    assert [lesion.existence for lesion in loaded.lesions] == [0.5]


def test_a_turned_mask_is_measured_as_closely_as_any_other(tmp_path):
    near, far = AFFINE.clone(), AFFINE.clone()
    near[0, 3], far[0, 3] = 0.4, 10.0
    case = case_of(tmp_path / "near", mask=soft_mask(), affine=near)
    turned(case.mask, (2, 1, 0), (1,))
    loaded = load_case(case)
    assert torch.equal(loaded.mask, soft_mask())
    assert re.search(r"is not on the grid of .* 0\.4 voxels", loaded.notes[0])
    case = case_of(tmp_path / "far", mask=soft_mask(), affine=far)
    turned(case.mask, (2, 1, 0), (1,))
    with pytest.raises(ValueError, match=r"must lie on the grid of .* 10 voxels"):
        load_case(case)


def test_lesions_of_a_sheared_scan_have_the_volume_of_its_voxels(tmp_path):
    sheared = torch.diag(torch.tensor([1.0, 2.0, 1.5, 1.0], dtype=torch.float64))
    sheared[0, 1] = 1.5  # 3 mm³ a voxel, though the product of its edges is 3.75
    image = save(tmp_path / "a.nii.gz", torch.rand(SHAPE), sheared)
    mask = save(tmp_path / "m.nii.gz", (soft_mask() > 0.5).float(), sheared)
    loaded = load_case(Case("a", "a", image, mask, ()))
    assert [lesion.volume_mm3 for lesion in loaded.lesions] == pytest.approx([4 * 3.0])
    assert loaded.spacing == pytest.approx((1.0, 2.5, 1.5))


def test_files_that_are_no_masks_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"masks/a\.nii\.gz must hold probabilities .*\[0, 255\]"):
        load_case(case_of(tmp_path / "a", mask=soft_mask() * 255))
    with pytest.raises(ValueError, match=r"a_rater1\.nii\.gz must have the shape of .*a\.nii\.gz"):
        load_case(case_of(tmp_path / "b", mask=soft_mask(), raters=[torch.zeros(2, 2, 2)]))
    with pytest.raises(ValueError, match="case a must have a mask or raters, got neither"):
        load_case(case_of(tmp_path / "c"))
    case = case_of(tmp_path / "d", mask=soft_mask())
    case.image.unlink()
    with pytest.raises(FileNotFoundError, match=r"images/a\.nii\.gz must be an image, found no"):
        load_case(case)


def test_pipes_are_named_and_not_waited_for(tmp_path):
    touch(tmp_path, "images/a.nii.gz", "masks/a.nii.gz")
    os.mkfifo(tmp_path / "images" / "b.nii.gz")
    table = find_cases(tmp_path)
    words = ("b.nii.gz", "a pipe or a device")
    assert words in [(unpaired.path.name, unpaired.reason) for unpaired in table.unpaired]
    os.mkfifo(tmp_path / "patients.csv")
    with pytest.raises(FileNotFoundError, match=r"patients\.csv must be a CSV file, found a pipe"):
        find_cases(tmp_path)
