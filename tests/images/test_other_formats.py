"""MGH and Analyze, labels that were stored scaled, and images that are not read."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from softoverlap.images import (
    as_probabilities,
    find_cases,
    forms_apart,
    load_image,
    load_nifti,
    read_label_map,
    save_nifti,
    stored_type,
    unscaled,
    value_kind,
)

LABELS = np.zeros((8, 6, 5))
LABELS[1:4, 1:3, 1:3], LABELS[5:7, 3:5, 1:4], LABELS[0, 5, 4] = 1, 2, 4
PLACED = np.array([[-1.0, 0, 0, 9], [0, 0, 2, -7], [0, 1.5, 0, 3], [0, 0, 0, 1]])


@pytest.mark.parametrize("suffix", [".mgz", ".mgh", ".MGZ"])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_mgh_is_read_with_its_place(tmp_path, suffix, channels):
    values = np.random.default_rng(0).random((*LABELS.shape, *channels)).astype(np.float32)
    path = tmp_path / f"scan{suffix}"
    nibabel.save(nibabel.MGHImage(values, PLACED), tmp_path / f"scan{suffix.lower()}")
    (tmp_path / f"scan{suffix.lower()}").rename(path)
    scan = load_image(path)
    expected = np.moveaxis(values, 3, 0) if channels else values
    assert np.array_equal(scan.data.numpy(), expected)
    np.testing.assert_allclose(scan.affine.numpy(), PLACED, atol=1e-6)
    assert stored_type(path) == "float32"


@pytest.mark.parametrize("kept", [0, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
def test_a_damaged_mgh_is_named(tmp_path, suffix, kept):
    path = tmp_path / f"scan{suffix}"
    nibabel.save(nibabel.MGHImage(LABELS.astype(np.float32), PLACED), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=rf"scan\{suffix} must be a readable MGH file, got"):
        load_image(path)


@pytest.mark.parametrize("suffix", [".img", ".hdr"])
def test_analyze_is_read_and_its_missing_side_told(tmp_path, suffix):
    nibabel.save(nibabel.AnalyzeImage(LABELS.astype(np.int16), PLACED), tmp_path / "scan.img")
    with pytest.warns(UserWarning, match="does not say which side is left"):
        scan = load_image(tmp_path / f"scan{suffix}")
    assert np.array_equal(scan.data.numpy(), LABELS)
    assert scan.spacing == pytest.approx((1, 1.5, 2))


@pytest.mark.parametrize("suffix", [".img", ".hdr"])
def test_nifti_in_two_files_has_its_place(tmp_path, suffix):
    nibabel.save(nibabel.Nifti1Pair(LABELS.astype(np.int16), PLACED), tmp_path / "scan.img")
    scan = load_image(tmp_path / f"scan{suffix}")
    assert np.array_equal(scan.data.numpy(), LABELS)
    np.testing.assert_allclose(scan.affine.numpy(), PLACED)
    (tmp_path / "scan.img").write_bytes(bytes(10))
    with pytest.raises(ValueError, match=r"scan\.hdr must be .* scan\.img holds 10 bytes"):
        load_image(tmp_path / "scan.hdr")
    (tmp_path / "scan.img").unlink()
    with pytest.raises(ValueError, match=r"scan\.hdr must be a readable Analyze file, got: .*img"):
        load_image(tmp_path / "scan.hdr")


def test_a_pair_is_one_image_of_a_folder(tmp_path):
    for room in ("images", "masks"):
        (tmp_path / room).mkdir()
        nibabel.save(nibabel.Nifti1Pair(LABELS, PLACED), tmp_path / room / "a.img")
    found = find_cases(tmp_path)
    assert [case.image.name for case in found.cases] == ["a.img"]
    assert not found.unpaired


@pytest.mark.parametrize("name", ["a.dcm", "a.mnc", "a.BRIK", "a.tif", "a.npy", "a.png", "a.vtk"])
def test_images_that_are_not_read_are_told_how_to_bring_over(tmp_path, name):
    (tmp_path / name).write_bytes(bytes(200))
    with pytest.raises(ValueError, match=rf"{name} must end in one of \.nii, .* series: \w+"):
        load_image(tmp_path / name)


# labels that were stored scaled


def scaled(path, labels, dtype):
    """A label map as an array of floats under an integer header, as nibabel stores it."""
    image = nibabel.Nifti1Image(labels, np.eye(4))
    image.header.set_data_dtype(dtype)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32])
@pytest.mark.parametrize("labels", [LABELS, LABELS * 10, LABELS.astype(np.float32)])
def test_labels_that_were_stored_scaled_are_rounded_with_a_word(tmp_path, dtype, labels):
    data = load_nifti(scaled(tmp_path / "map.nii.gz", labels, dtype)).data
    assert value_kind(data) == "labels"
    whole = torch.from_numpy(labels).float()
    second = 2 * float(whole[1, 1, 1])
    if torch.equal(data, whole):  # some slopes keep these numbers
        assert unscaled(data) is None
        return
    assert torch.equal(unscaled(data), whole)
    with pytest.warns(UserWarning, match="map holds whole numbers that were stored scaled"):
        mask = as_probabilities(data, label=int(second), name="map")
    assert torch.equal(mask, (whole == second).float())


def test_a_label_map_of_boxes_that_was_stored_scaled_is_read(tmp_path):
    path = scaled(tmp_path / "map.nii.gz", LABELS, np.int16)
    with pytest.warns(UserWarning, match="stored scaled"):
        assert len(read_label_map(path)) == 3


@pytest.mark.parametrize(
    "values",
    [[0, 1.5, 2], [0, 0.3, 1], [0, 49.9, 99.7], [0, 1.001, 0.999, 2], [-1, 1.001, 2],
     [float("nan"), 1.001, 2], [0, 1, 2]],
)  # fmt: skip
def test_other_numbers_are_not_rounded(values):
    assert unscaled(torch.tensor(values)) is None


def test_no_image_that_we_write_has_two_affines(tmp_path, recwarn):
    generator = np.random.default_rng(0)
    for turn in [*np.pi - np.geomspace(1e-7, 1e-1, 60), np.pi, 0, 1]:
        axis = generator.standard_normal(3)
        rotation = Rotation.from_rotvec(turn * axis / np.linalg.norm(axis)).as_matrix()
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = rotation * [1.0, 1.0, 1.5], generator.normal(0, 50, 3)
        save_nifti(tmp_path / "a.nii", torch.zeros(96, 96, 64).bool(), torch.from_numpy(matrix))
        image = nibabel.load(tmp_path / "a.nii")
        assert forms_apart(image) <= 0.01
        np.testing.assert_allclose(load_nifti(tmp_path / "a.nii").affine, matrix, atol=1e-4)
    assert not [each for each in recwarn if "two affines" in str(each.message)]


def test_what_nibabel_mends_in_a_header_is_a_note_and_no_line_of_its_own(tmp_path, caplog):
    path = tmp_path / "a.nii"
    save_nifti(path, torch.ones(4, 3, 2), torch.eye(4))
    content = bytearray(path.read_bytes())
    content[80:84] = np.float32(-1).tobytes()  # pixdim[1]
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"a\.nii: its header is not sound: pixdim"):
        load_nifti(path)
    assert not caplog.records
