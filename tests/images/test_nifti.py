"""NIfTI in and out: what is written comes back, and nothing broken passes."""

from __future__ import annotations

import gzip
import warnings

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given, strategies as st

from softoverlap.images import Volume, forms_apart, load_nifti, save_nifti

OBLIQUE = torch.tensor(
    [[-0.8, 0.6, 0.0, 40.0], [0.6, 0.8, 0.0, -12.5], [0.0, 0.0, 2.5, 7.0], [0.0, 0.0, 0.0, 1.0]],
    dtype=torch.float64,
)


def write_raw(path, array, affine=None, **header):
    image = nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine, dtype=array.dtype)
    for key, value in header.items():
        image.header[key] = value
    nibabel.save(image, path)
    return path


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_values_affine_and_spacing_come_back(tmp_path, name):
    data = noise(5, 4, 3)
    save_nifti(tmp_path / name, data, OBLIQUE)
    scan = load_nifti(tmp_path / name)
    assert torch.equal(scan.data, data)
    torch.testing.assert_close(scan.affine, OBLIQUE, atol=1e-6, rtol=0)
    assert scan.spacing == pytest.approx((1.0, 1.0, 2.5), abs=1e-6)


@given(st.lists(st.floats(-100, 100), min_size=12, max_size=12))
def test_any_invertible_affine_comes_back_within_float32(tmp_path_factory, numbers):
    affine = torch.eye(4, dtype=torch.float64) * 150
    affine[3, 3] = 1
    affine[:3] += torch.tensor(numbers, dtype=torch.float64).reshape(3, 4)
    if torch.linalg.det(affine).abs() < 1e5:
        return
    path = tmp_path_factory.mktemp("affine") / "scan.nii"
    save_nifti(path, torch.zeros(2, 2, 2), affine)
    torch.testing.assert_close(load_nifti(path).affine, affine, atol=2e-5, rtol=1e-6)


def test_simpleitk_sees_the_same_place(tmp_path):
    save_nifti(tmp_path / "scan.nii.gz", noise(5, 4, 3), OBLIQUE)
    image = SimpleITK.ReadImage(str(tmp_path / "scan.nii.gz"))
    lps = np.array(image.TransformIndexToPhysicalPoint((4, 0, 2)))
    expected = OBLIQUE @ torch.tensor([4.0, 0.0, 2.0, 1.0], dtype=torch.float64)
    assert (lps * [-1, -1, 1]).tolist() == pytest.approx(expected[:3].tolist(), abs=1e-4)


def test_both_codes_are_set_and_a_shear_stays_in_the_sform(tmp_path):
    save_nifti(tmp_path / "straight.nii", noise(3, 3, 3), OBLIQUE)
    header = nibabel.load(tmp_path / "straight.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    sheared = OBLIQUE.clone()
    sheared[0, 2] = 1.0
    save_nifti(tmp_path / "sheared.nii", noise(3, 3, 3), sheared)
    header = nibabel.load(tmp_path / "sheared.nii").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)
    torch.testing.assert_close(load_nifti(tmp_path / "sheared.nii").affine, sheared)


@pytest.mark.parametrize(
    ("data", "stored"),
    [
        (torch.ones(2, 2, 2, dtype=torch.bool), "uint8"),
        (torch.full((2, 2, 2), 255), "uint8"),
        (torch.rand(2, 2, 2, dtype=torch.float64), "float32"),
        (torch.rand(2, 2, 2).half(), "float32"),
    ],
)
def test_integers_are_stored_as_uint8_and_floats_as_float32(tmp_path, data, stored):
    save_nifti(tmp_path / "a.nii", data, OBLIQUE)
    assert nibabel.load(tmp_path / "a.nii").get_data_dtype() == stored
    assert torch.equal(load_nifti(tmp_path / "a.nii").data, data.float())


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">i2", "<i4", ">f4", "<f8", "<i8"])
def test_every_real_type_and_byte_order_is_read(tmp_path, dtype):
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    scan = load_nifti(write_raw(tmp_path / "a.nii", array))
    assert scan.data.tolist() == np.arange(24.0).reshape(2, 3, 4).tolist()


def test_scaling_of_the_header_is_applied(tmp_path):
    image = nibabel.Nifti1Image(np.full((2, 2, 2), 3, dtype=np.int16), np.eye(4))
    image.header.set_slope_inter(0.5, 1.0)
    nibabel.save(image, tmp_path / "a.nii")
    stored = nibabel.load(tmp_path / "a.nii").get_fdata()
    assert load_nifti(tmp_path / "a.nii").data.tolist() == stored.tolist()


def test_a_trailing_axis_of_one_is_dropped(tmp_path):
    scan = load_nifti(write_raw(tmp_path / "a.nii", np.ones((2, 3, 4, 1), dtype=np.float32)))
    assert scan.data.shape == (2, 3, 4)


def test_lengths_in_micrometres_become_millimetres(tmp_path):
    path = write_raw(tmp_path / "a.nii", np.ones((2, 2, 2), np.uint8), np.diag([500, 500, 500, 1]))
    image = nibabel.load(path)
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "b.nii")
    assert load_nifti(tmp_path / "b.nii").spacing == pytest.approx((0.5, 0.5, 0.5))


def test_a_type_that_loses_values_is_refused(tmp_path):
    save_nifti(tmp_path / "soft.nii", torch.full((2, 2, 2), 0.6), OBLIQUE)
    with pytest.raises(ValueError, match=r"soft\.nii must hold values that fit in torch\.uint8"):
        load_nifti(tmp_path / "soft.nii", dtype=torch.uint8)
    save_nifti(tmp_path / "hard.nii", torch.ones(2, 2, 2), OBLIQUE)
    assert load_nifti(tmp_path / "hard.nii", dtype=torch.uint8).data.dtype == torch.uint8


def test_equal_content_gives_equal_bytes_and_no_leftovers(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz"):
        save_nifti(tmp_path / name, noise(4, 4, 4), OBLIQUE)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.nii.gz", "b.nii.gz"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    save_nifti(tmp_path / "a.nii", torch.ones(2, 2, 2), OBLIQUE)

    def full_disk(image, path):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(nibabel, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_nifti(tmp_path / "a.nii", torch.zeros(2, 2, 2), OBLIQUE)
    assert [file.name for file in tmp_path.iterdir()] == ["a.nii"]
    assert load_nifti(tmp_path / "a.nii").data.sum() == 8


def with_forms(path, qform, *, code=1):
    """A file whose sform is straight and whose qform may be another."""
    image = nibabel.Nifti1Image(np.zeros((11, 6, 5), dtype=np.uint8), np.eye(4))
    image.set_sform(np.eye(4), code=1)
    image.set_qform(qform, code=code)
    nibabel.save(image, path)
    return path


def test_two_affines_that_disagree_are_told_with_the_file_and_the_distance(tmp_path):
    shifted = np.eye(4)
    shifted[:3, 3] = 3, 4, 0
    path = with_forms(tmp_path / "a.nii.gz", shifted)
    with pytest.warns(
        UserWarning, match=r"a\.nii\.gz has two affines, up to 5 mm apart: the sform"
    ):
        assert torch.equal(load_nifti(path).affine, torch.eye(4, dtype=torch.float64))
    turned = np.diag([-1.0, -1.0, 1.0, 1.0])
    turned[:2, 3] = 10, 5  # about its centre: the corner opposite is 11 and 6 voxels off
    assert forms_apart(nibabel.load(with_forms(tmp_path / "b.nii", turned))) == pytest.approx(
        157**0.5
    )


def test_affines_that_agree_or_are_alone_are_read_without_a_word(tmp_path):
    close, far = np.eye(4), np.eye(4)
    close[0, 3], far[0, 3] = 0.05, 5.0
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert load_nifti(with_forms(tmp_path / "a.nii", close)).grid == (11, 6, 5)
        assert load_nifti(with_forms(tmp_path / "b.nii", far, code=0)).grid == (11, 6, 5)
        save_nifti(
            tmp_path / "c.nii", torch.zeros(4, 3, 2), torch.diag(torch.tensor([-1.0, 1, 3, 1]))
        )
        assert load_nifti(tmp_path / "c.nii").grid == (4, 3, 2)


@pytest.mark.parametrize("lost", [1, 4, 9, 200, 10_000_000])
@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
def test_a_truncated_file_is_named(tmp_path, name, lost):
    save_nifti(tmp_path / name, noise(6, 6, 6), OBLIQUE)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: max(len(whole) - lost, 0)])
    with pytest.raises(ValueError, match=f"{name} must be a readable NIfTI file"):
        load_nifti(tmp_path / name)


def test_a_flipped_bit_in_a_compressed_file_is_seen(tmp_path):
    save_nifti(tmp_path / "scan.nii.gz", noise(6, 6, 6), OBLIQUE)
    content = bytearray((tmp_path / "scan.nii.gz").read_bytes())
    content[-6] ^= 1  # in the checksum: the values themselves decompress well
    (tmp_path / "scan.nii.gz").write_bytes(content)
    with pytest.raises(ValueError, match="CRC check failed"):
        load_nifti(tmp_path / "scan.nii.gz")


def test_files_of_another_kind_are_named(tmp_path):
    (tmp_path / "text.nii").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.nii must be a readable NIfTI file"):
        load_nifti(tmp_path / "text.nii")
    with pytest.raises(FileNotFoundError, match=r"gone\.nii must be an image, found no such"):
        load_nifti(tmp_path / "gone.nii")
    (tmp_path / "scan.xyz").write_bytes(bytes(8))
    with pytest.raises(ValueError, match=r"scan\.xyz must end in one of \.nii, \.nii\.gz, \.nrrd"):
        load_nifti(tmp_path / "scan.xyz")


@pytest.mark.parametrize("shape", [(4, 4), (2, 2, 2, 3, 3), (2, 0, 2)])
def test_other_than_volumes_are_refused(tmp_path, shape):
    path = write_raw(tmp_path / "a.nii", np.ones(shape, dtype=np.float32))
    with pytest.raises(ValueError, match=r"a\.nii must hold a 3D volume, got shape"):
        load_nifti(path)


@pytest.mark.parametrize("shape", [(4, 3, 2, 5), (4, 3, 2, 1, 5)])
def test_time_and_components_come_first(tmp_path, shape):
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    path = write_raw(tmp_path / "a.nii", values)
    channels = np.moveaxis(values.reshape(4, 3, 2, 5), 3, 0)
    assert np.array_equal(load_nifti(path).data.numpy(), channels)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted_and_refused(tmp_path, value):
    array = np.zeros((2, 2, 2), dtype=np.float32)
    array[0, 0, 0] = value
    path = write_raw(tmp_path / "a.nii", array)
    with pytest.raises(ValueError, match=r"a\.nii must hold finite values, got 1 NaN or infinite"):
        load_nifti(path)
    assert not torch.isfinite(load_nifti(path, validate=False).data).all()


def test_values_beyond_the_type_are_refused(tmp_path):
    path = write_raw(tmp_path / "a.nii", np.full((2, 2, 2), 1e300))
    with pytest.raises(ValueError, match=r"a\.nii must hold values that fit in torch\.float32"):
        load_nifti(path)
    assert load_nifti(path, dtype=torch.float64).data[0, 0, 0] == 1e300


def test_complex_files_are_refused(tmp_path):
    path = write_raw(tmp_path / "a.nii", np.ones((2, 2, 2), dtype=np.complex64))
    with pytest.raises(ValueError, match=r"a\.nii must hold real numbers, got type complex64"):
        load_nifti(path)


def test_a_flat_affine_is_refused_with_the_file_named(tmp_path):
    affine = np.diag([1.0, 1.0, 1e-9, 1.0])
    affine[:3, 2] = affine[:3, 1]
    path = write_raw(tmp_path / "a.nii", np.ones((2, 2, 2), dtype=np.uint8))
    image = nibabel.load(path)
    image.set_sform(affine, code=1)
    nibabel.save(image, tmp_path / "flat.nii")
    with pytest.raises(ValueError, match=r"the affine of .*flat\.nii must be invertible"):
        load_nifti(tmp_path / "flat.nii")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.full((2, 2, 2), 256), "data must hold integers in 0-255, got values in"),
        (torch.full((2, 2, 2), -1), "data must hold integers in 0-255, got values in"),
        (torch.full((2, 2, 2), torch.nan), "data must hold finite values"),
        (torch.full((2, 2, 2), 1e300, dtype=torch.float64), "data must hold finite values"),
        (torch.zeros(2, 2), r"data must have shape \(D, H, W\), got \(2, 2\)"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_writing(tmp_path, data, message):
    with pytest.raises(ValueError, match=message):
        save_nifti(tmp_path / "a.nii", data, OBLIQUE)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_and_another_suffix_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the folder of .*a\.nii must exist"):
        save_nifti(tmp_path / "gone" / "a.nii", torch.zeros(2, 2, 2), OBLIQUE)
    with pytest.raises(ValueError, match=r"path must end in \.nii or \.nii\.gz, got .*a\.img"):
        save_nifti(tmp_path / "a.img", torch.zeros(2, 2, 2), OBLIQUE)


@pytest.mark.bad_input
def test_other_types_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"data must be a torch\.Tensor, got ndarray"):
        save_nifti(tmp_path / "a.nii", np.zeros((2, 2, 2)), OBLIQUE)
    with pytest.raises(TypeError, match="data must hold real numbers, got dtype torch.complex64"):
        save_nifti(tmp_path / "a.nii", torch.zeros(2, 2, 2, dtype=torch.complex64), OBLIQUE)
    with pytest.raises(ValueError, match=r"affine must have shape \(4, 4\), got \(3, 3\)"):
        save_nifti(tmp_path / "a.nii", torch.zeros(2, 2, 2), torch.eye(3))
    with pytest.raises(ValueError, match=r"data must have shape \(D, H, W\), or .* got \(2, 2\)"):
        Volume(torch.zeros(2, 2), OBLIQUE)


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize(
    ("offset", "value"), [(123, 5), (42, -5), (42, 32767), (40, 0), (40, -1), (70, 77), (108, -1)]
)
def test_a_damaged_header_is_named(tmp_path, name, offset, value):
    save_nifti(tmp_path / "whole.nii", noise(4, 4, 4), OBLIQUE)
    raw = bytearray((tmp_path / "whole.nii").read_bytes())
    width = 1 if offset == 123 else 2
    raw[offset : offset + width] = int(value).to_bytes(width, "little", signed=True)
    path = tmp_path / name
    path.write_bytes(gzip.compress(bytes(raw)) if name.endswith(".gz") else bytes(raw))
    with pytest.raises(ValueError, match=str(path)):
        load_nifti(path)


@given(st.integers(0, 347), st.integers(0, 255))
def test_any_damaged_byte_of_a_header_is_read_or_named(tmp_path_factory, offset, value):
    path = tmp_path_factory.mktemp("damaged") / "scan.nii"
    save_nifti(path, torch.ones(4, 4, 4), OBLIQUE)
    raw = bytearray(path.read_bytes())
    raw[offset] = value
    path.write_bytes(bytes(raw))
    message = ""
    try:
        shape = tuple(load_nifti(path).data.shape)
    except ValueError as error:
        shape, message = None, str(error)
    assert shape is not None or str(path) in message


@pytest.mark.parametrize(("label", "told"), [(2**24 + 1, True), (2**24 + 2, False), (2**24, False)])
def test_a_whole_number_that_float32_rounds_is_told(tmp_path, label, told):
    array = np.zeros((3, 3, 3), np.int32)
    array[1] = label
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "a.nii")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_nifti(tmp_path / "a.nii")
    words = f"up to {label}, which float32 rounds"
    assert [words in str(one.message) for one in caught] == [True] * told
    assert load_nifti(tmp_path / "a.nii", dtype=torch.int64).data.max() == label
