"""Scans of every format: values and places come back, and nothing damaged passes."""

from __future__ import annotations

import shutil
import zlib

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch

from softoverlap.app.train import detect, find_scans
from softoverlap.images import (
    IMAGE_SUFFIXES,
    find_cases,
    image_name,
    is_image_name,
    load_image,
    load_nifti,
    read_box_files,
    save_nifti,
    write_boxes,
)
from tests.support.checkpoints import small_detector
from tests.support.image_makers import itk_image, oblique, write_dicom

FORMATS = ("nii", "nii.gz", "nrrd", "nhdr", "mha", "mhd")
ARRAY = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)  # z, y, x


def written(folder, image, suffix, **options):
    path = folder / f"scan.{suffix}"
    SimpleITK.WriteImage(image, str(path), **options)
    return path


def assert_places(scan, image):
    """Voxel centres lie in RAS where SimpleITK has them in LPS."""
    for index in ((0, 0, 0), (3, 1, 2), (5, 4, 3)):
        lps = np.array(image.TransformIndexToPhysicalPoint(index))
        found = scan.affine @ torch.tensor([*map(float, index), 1.0], dtype=torch.float64)
        np.testing.assert_allclose(found[:3].numpy(), lps * [-1, -1, 1], atol=2e-5)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_values_in_the_same_places(tmp_path, suffix, compressed):
    image = itk_image(ARRAY)
    scan = load_image(written(tmp_path, image, suffix, useCompression=compressed))
    assert np.array_equal(scan.data.numpy(), ARRAY.transpose(2, 1, 0))
    assert scan.data.dtype == torch.float32
    assert scan.spacing == pytest.approx((0.7, 1.3, 2.9), abs=1e-5)
    assert_places(scan, image)


@pytest.mark.parametrize("suffix", FORMATS[2:])
def test_nibabel_sees_the_same_place_after_a_round_through_nifti(tmp_path, suffix):
    image = itk_image(ARRAY)
    scan = load_image(written(tmp_path, image, suffix))
    SimpleITK.WriteImage(image, str(tmp_path / "other.nii"))
    other = nibabel.load(tmp_path / "other.nii")
    np.testing.assert_allclose(scan.affine.numpy(), other.affine, atol=1e-5)
    np.testing.assert_array_equal(scan.data.numpy(), other.get_fdata(dtype=np.float32))


@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd", "mha"])
def test_components_and_time_points_come_first(tmp_path, suffix):
    parts = [itk_image(ARRAY), itk_image(2 * ARRAY)]
    expected = np.stack([ARRAY, 2 * ARRAY]).transpose(0, 3, 2, 1)
    for whole in (SimpleITK.Compose(*parts), SimpleITK.JoinSeries(parts)):
        scan = load_image(written(tmp_path, whole, suffix))
        assert np.array_equal(scan.data.numpy(), expected)
        assert scan.grid == (6, 5, 4)
        assert_places(scan, parts[0])
    single = load_image(written(tmp_path, SimpleITK.JoinSeries(parts[:1]), suffix))
    assert single.data.shape == (6, 5, 4)


def test_nifti_time_is_a_channel_and_its_units_are_heeded(tmp_path):
    values = np.arange(2 * 3 * 4 * 5, dtype=np.int16).reshape(2, 3, 4, 5)
    image = nibabel.Nifti1Image(values, np.diag([1.0, 2.0, 3.0, 1.0]))
    image.header.set_xyzt_units("micron", "sec")
    nibabel.save(image, tmp_path / "time.nii.gz")
    scan = load_image(tmp_path / "time.nii.gz")
    assert np.array_equal(scan.data.numpy(), values.transpose(3, 0, 1, 2))
    assert scan.spacing == pytest.approx((0.001, 0.002, 0.003))


@pytest.mark.parametrize("suffix", ["nii.gz", "nrrd", "mha"])
def test_load_nifti_reads_all_that_load_image_does(tmp_path, suffix):
    path = written(tmp_path, SimpleITK.Compose(itk_image(ARRAY), itk_image(ARRAY)), suffix)
    scan, same = load_nifti(path), load_image(path)
    assert scan.data.shape[0] == 2
    assert torch.equal(scan.data, same.data)
    assert torch.equal(scan.affine, same.affine)


def test_detection_refuses_other_channels_than_those_of_the_training(tmp_path):
    parts = SimpleITK.Compose(itk_image(ARRAY), itk_image(ARRAY))
    scan = load_image(written(tmp_path, parts, "mha"))
    with pytest.raises(ValueError, match=r"image must hold one channel, as .*, got 2 of 6"):
        detect(small_detector(), scan)


def test_integers_come_in_the_type_asked_for_or_not_at_all(tmp_path):
    path = written(tmp_path, itk_image((ARRAY > 0.5).astype(np.uint16)), "nrrd")
    assert load_image(path, dtype=torch.uint8).data.dtype == torch.uint8
    path = written(tmp_path, itk_image(np.full((2, 2, 2), 300, dtype=np.uint16)), "mha")
    with pytest.raises(ValueError, match=r"scan\.mha must hold values that fit in torch\.uint8"):
        load_image(path, dtype=torch.uint8)
    assert load_image(path, dtype=torch.int32).data[0, 0, 0] == 300


def test_infinite_values_are_refused_unless_let_pass(tmp_path):
    path = written(tmp_path, itk_image(np.full((2, 2, 2), np.inf, dtype=np.float32)), "nrrd")
    with pytest.raises(ValueError, match=r"scan\.nrrd must hold finite values, got 8 NaN or inf"):
        load_image(path)
    assert torch.isinf(load_image(path, validate=False).data).all()


@pytest.mark.parametrize("damage", ["cut short", "half", "empty", "header alone", "text"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("suffix", ["nii", "nii.gz", "nrrd", "mha"])
def test_a_damaged_file_is_one_line_that_names_it(tmp_path, suffix, compressed, damage):
    path = written(tmp_path, itk_image(ARRAY), suffix, useCompression=compressed)
    whole = path.read_bytes()
    content = {
        "cut short": whole[:-9],
        "half": whole[: len(whole) // 2],
        "empty": b"",
        "header alone": whole[:60],
        "text": b"not an image\n" * 50,
    }[damage]
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"scan\.\S+ must ") as caught:
        load_image(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", ["mha", "nrrd", "nii.gz"])
def test_a_changed_byte_in_compressed_data_is_noticed(tmp_path, suffix):
    path = written(tmp_path, itk_image(ARRAY), suffix, useCompression=True)
    whole = bytearray(path.read_bytes())
    whole[-40] ^= 0x55
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"scan\.\S+ must "):
        load_image(path)


def test_compressed_values_apart_from_their_header_are_checked_too(tmp_path):
    path = written(tmp_path, itk_image(ARRAY), "mhd", useCompression=True)
    (data,) = tmp_path.glob("*.zraw")
    data.write_bytes(zlib.compress(ARRAY.tobytes())[:-20])
    with pytest.raises(ValueError, match=r"scan\.mhd must hold whole data"):
        load_image(path)
    data.unlink()
    with pytest.raises(ValueError, match=r"scan\.mhd must be a readable MHD file"):
        load_image(path)


def test_other_files_and_shapes_are_refused_by_name(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.mha must be an image, found no such file"):
        load_image(tmp_path / "gone.mha")
    (tmp_path / "scan.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"scan\.jpg must end in one of \.nii, \.nii\.gz, \.nrrd"):
        load_image(tmp_path / "scan.jpg")
    flat = SimpleITK.GetImageFromArray(ARRAY[0])
    with pytest.raises(ValueError, match=r"scan\.mha must hold a 3D volume, got shape \(6, 5\)"):
        load_image(written(tmp_path, flat, "mha"))


def test_names_lose_their_suffix_alone():
    names = [image_name(f"a/case.v1_x{suffix}") for suffix in IMAGE_SUFFIXES]
    assert set(names) == {"case.v1_x"}
    assert image_name("a/series.1") == "series.1"


@pytest.mark.parametrize(
    ("space", "signs"),
    [("right-anterior-superior", [1, 1, 1]), ("left-posterior-superior", [-1, -1, 1])],
)
def test_the_space_of_an_nrrd_is_heeded(tmp_path, space, signs):
    header = (
        f"NRRD0004\ntype: uint8\ndimension: 3\nspace: {space}\nsizes: 2 3 4\n"
        "space directions: (1,0,0) (0,2,0) (0,0,3)\nencoding: raw\nspace origin: (5,6,7)\n\n"
    )
    path = tmp_path / "scan.nrrd"
    path.write_bytes(header.encode() + bytes(range(24)))
    scan = load_image(path)
    assert scan.data[1, 0, 0] == 1
    assert scan.affine.diagonal()[:3].tolist() == (np.array([1, 2, 3]) * signs).tolist()
    assert scan.affine[:3, 3].tolist() == (np.array([5, 6, 7]) * signs).tolist()


def test_suffixes_in_capitals_are_read_too(tmp_path):
    for suffix in ("nii.gz", "mha"):
        path = written(tmp_path, itk_image(ARRAY), suffix)
        loud = path.rename(tmp_path / f"LOUD.{suffix.upper()}")
        assert load_image(loud).data.shape == (6, 5, 4)
        assert image_name(loud) == "LOUD"


# DICOM

STACK = np.random.default_rng(0).integers(-900, 1000, (6, 5, 4))  # z, y, x


def test_a_dicom_series_lies_where_its_tags_say(tmp_path):
    turned = oblique()
    scan = load_image(write_dicom(tmp_path / "ct", STACK, direction=turned))
    assert np.array_equal(scan.data.numpy(), STACK.transpose(2, 1, 0))
    for index in ((0, 0, 0), (3, 1, 5), (0, 4, 2)):
        lps = np.array([10.0, -20.0, 30.0]) + turned @ (np.array(index) * [0.7, 1.3, 2.5])
        found = scan.affine @ torch.tensor([*map(float, index), 1.0], dtype=torch.float64)
        np.testing.assert_allclose(found[:3].numpy(), lps * [-1, -1, 1], atol=1e-5)


def test_simpleitk_reads_a_dicom_series_to_the_same_place(tmp_path):
    folder = write_dicom(tmp_path / "ct", STACK, direction=oblique())
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    scan = load_image(folder)
    for index in ((0, 0, 0), (3, 1, 5)):
        lps = np.array(image.TransformIndexToPhysicalPoint(index))
        found = scan.affine @ torch.tensor([*map(float, index), 1.0], dtype=torch.float64)
        np.testing.assert_allclose(found[:3].numpy(), lps * [-1, -1, 1], atol=1e-5)


def test_each_slice_is_rescaled_by_its_own_slope(tmp_path):
    tags = {"0028|1052": "0", "0028|1053": "2"}
    folder = write_dicom(tmp_path / "pet", np.full((3, 4, 4), 8), **tags)  # stored as 4
    for path in folder.iterdir():
        whole = path.read_bytes()
        tag = b"\x28\x00\x53\x10\x02\x00\x00\x00"  # rescale slope, two characters
        place = whole.index(tag) + len(tag)
        slope = {b"00": b"1 ", b"07": b".5", b"01": b".3"}[path.name[1:3].encode()]
        path.write_bytes(whole[:place] + slope + whole[place + 2 :])
    scan = load_image(folder)
    torch.testing.assert_close(scan.data[0, 0], torch.tensor([4.0, 2.0, 1.2]))


def test_small_roundings_of_places_are_no_uneven_stack(tmp_path, capfd):
    folder = write_dicom(tmp_path / "ct", STACK, shift=lambda k: (0, 0, 0.005 * (k % 2)))
    assert load_image(folder).spacing == pytest.approx((0.7, 1.3, 2.501))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"skip": (2,)}, "evenly spaced DICOM slices, got distances from 2.5 to 5 mm"),
        ({"shift": lambda k: (0, 0, 0.4 * (k == 3))}, "evenly spaced DICOM slices"),
        ({"shift": lambda k: (0, 0, -2.5 * (k == 3))}, "distances from 0 to 5 mm: a slice is"),
        ({"shift": lambda k: (0, 0.5 * k, 0)}, r"upright stack .* leans by 1\.92 pixels"),
        ({"skip": (1, 2, 3, 4, 5)}, "two or more DICOM slices, one per file, got 1"),
    ],
)
def test_stacks_that_no_affine_describes_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=f"ct must hold .*{message}"):
        load_image(write_dicom(tmp_path / "ct", STACK, **options))


def test_two_series_in_a_folder_and_none_are_refused(tmp_path):
    folder = write_dicom(tmp_path / "ct", STACK)
    write_dicom(folder, STACK[:3], series="1.2.826.0.1.3680043.2.1125.9")
    with pytest.raises(ValueError, match=r"ct must hold one DICOM series, got 2: .*1125"):
        load_image(folder)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="none must hold one DICOM series, got none"):
        load_image(tmp_path / "none")


def test_slices_of_other_size_or_direction_are_refused(tmp_path):
    folder = write_dicom(tmp_path / "ct", STACK)
    write_dicom(tmp_path / "other", STACK[:, :4], direction=oblique(degrees=(0.0, 0.0, 1.0)))
    shutil.copy(tmp_path / "other" / "108.dcm", folder / "108.dcm")
    with pytest.raises(ValueError, match="ct must hold slices of one size, spacing and orient"):
        load_image(folder)


@pytest.mark.parametrize("left", [0, 400, -30])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_damaged_slice_is_named_and_not_passed_by(tmp_path, left, place):
    folder = write_dicom(tmp_path / "ct", STACK)
    slice_ = folder / {"first": "100.dcm", "middle": "101.dcm", "last": "109.dcm"}[place]
    slice_.write_bytes(slice_.read_bytes()[:left])
    with pytest.raises(ValueError, match=rf"{slice_.name} must be a readable slice of the DICOM"):
        load_image(folder)


def test_other_files_beside_the_slices_do_no_harm(tmp_path):
    folder = write_dicom(tmp_path / "ct", STACK)
    (folder / "notes.txt").write_text("of the scan")
    (folder / ".hidden.dcm").write_bytes(b"")
    assert load_image(folder).data.shape == (4, 5, 6)


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_names_of_images_may_be_in_capitals(suffix):
    assert is_image_name(f"a{suffix}")
    assert is_image_name(f"A{suffix.upper()}")
    assert image_name(f"A{suffix.upper()}") == "A"
    assert not is_image_name(f"a{suffix}.csv")


@pytest.mark.parametrize("suffix", [".NII", ".NII.GZ"])
def test_nifti_in_capitals_is_written_and_read(tmp_path, suffix):
    path = tmp_path / f"C{suffix}"
    save_nifti(path, torch.from_numpy(ARRAY), torch.eye(4))
    assert torch.equal(load_nifti(path).data, torch.from_numpy(ARRAY))
    assert torch.equal(load_image(path).data, load_nifti(path).data)
    assert find_scans([tmp_path]) == [path]


def test_training_folders_may_hold_names_in_capitals(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        mask = torch.zeros(4, 4, 4)
        save_nifti(tmp_path / folder / "C.NII.GZ", mask, torch.eye(4))
    table = find_cases(tmp_path)
    assert [case.name for case in table.cases] == ["C"]


@pytest.mark.parametrize("name", ["C.JSON", "C.CSV", "C.MRK.JSON", "C.NPZ", "C.NII.GZ"])
def test_box_files_in_capitals_are_read_in_their_format(tmp_path, name):
    boxes, scan = torch.tensor([[1.0, 1, 1, 3, 3, 3]]), tmp_path / "scans" / "C.NII"
    scan.parent.mkdir()
    save_nifti(scan, torch.zeros(5, 5, 5), torch.eye(4))
    options = {"image": scan.parent} if name == "C.NII.GZ" else {}
    affine = None if name == "C.NII.GZ" else torch.eye(4)
    write_boxes(tmp_path / name, boxes, affine=affine, scores=torch.tensor([0.5]), **options)
    files = read_box_files(tmp_path / name, **({"image": scan} if "MRK" in name else {}))
    assert {case: file.boxes.tolist() for case, file in files.items()} == {"C": boxes.tolist()}
