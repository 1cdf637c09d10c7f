"""Files that would take more than they should: refused before anything is allocated."""

from __future__ import annotations

import gzip
import io
import os
import resource
import struct
import threading
import warnings
import zipfile

import nibabel
import numpy as np
import pytest
import torch

from softoverlap.images import (
    ReadLimits,
    current_limits,
    load_image,
    read_boxes,
    read_limits,
    save_nifti,
)
from softoverlap.images.limits import in_words
from tests.support.itk_headers import nrrd

MASK = np.zeros((6, 5, 4), np.uint8)
MASK[1:3, 1:3, 1:3] = 1


def peak():
    """The most memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def nifti(shape=(6, 5, 4), dtype="uint8", offset=None):
    """The header of a NIfTI file, whatever follows it."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header["magic"], header["vox_offset"] = b"n+1", 352 if offset is None else offset
    header.set_sform(np.eye(4), 1)
    return header.binaryblock + bytes(4)


LARGE = (1500, 1500, 1000)
HEADERS = {
    "scan.nii": (nifti(LARGE) + bytes(120), "too few for the 2250000000 of values"),
    "wide.nii": (nifti((30000, 30000, 30000), "float64"), "too few for the 216000000000000"),
    "scan.nii.gz": (gzip.compress(nifti(LARGE) + bytes(120)), "too few for the 2250000000"),
    "large.nii.gz": (
        gzip.compress(nifti(LARGE) + os.urandom(1 << 22), 1), "11.2 GB of memory, above the limit",
    ),
    "far.nii.gz": (gzip.compress(nifti(offset=2**31)), "behind more than a header"),
    "far.nii": (nifti(offset=2**40), "behind more than a header"),
    "scan.nrrd": (
        nrrd(bytes(1 << 22), encoding="gzip", sizes="1500 1500 1000"), "needs 11.2 GB of memory",
    ),
    "tail.nii.gz": (
        gzip.compress(nifti() + bytes(120 + (1 << 25)), 1), "more than 16777216 bytes follow",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_a_small_file_that_claims_gigabytes_is_refused_at_once(tmp_path, name):
    content, words = HEADERS[name]
    (tmp_path / name).write_bytes(content)
    before = peak()
    with read_limits(max_memory="8GB"), pytest.raises(ValueError, match=words) as caught:
        load_image(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
    assert peak() - before < 200


def test_a_short_tail_is_read_for_its_checksum(tmp_path):
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(nifti() + bytes(120 + 1000)))
    assert load_image(tmp_path / "scan.nii.gz").data.shape == (6, 5, 4)


@pytest.mark.parametrize(("dtype", "needed"), [(torch.float32, 600), (torch.int16, 360)])
def test_the_limit_counts_values_as_stored_and_as_returned(tmp_path, dtype, needed):
    save_nifti(tmp_path / "scan.nii", torch.from_numpy(MASK), torch.eye(4))
    with read_limits(max_memory=needed):
        load_image(tmp_path / "scan.nii", dtype=dtype)
    with read_limits(max_memory=needed - 1), pytest.raises(ValueError, match=f"needs {needed} by"):
        load_image(tmp_path / "scan.nii", dtype=dtype)


def test_limits_are_positive_numbers_and_sizes():
    for size in ("much", "-1GB", "0", "0GB", "8", "1 XB", "", "9" * 400, "1" + "0" * 5000 + "GB"):
        with pytest.raises(ValueError, match="max_memory must be a size with a unit, such as 8GB"):
            read_limits(max_memory=size).__enter__()
    for seconds in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="read_timeout must be seconds above 0"):
            read_limits(read_timeout=seconds).__enter__()
    for size in (0, -1):
        with pytest.raises(ValueError, match="max_memory must be above 0"):
            ReadLimits(max_memory=size)
    assert ReadLimits().max_memory == current_limits().max_memory


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (999, "999 bytes"),
        (1000, "1 kB"),
        (999_499, "999 kB"),
        (999_600_000, "1 GB"),
        (10**30, "1.00e+30 bytes"),
    ],
)
def test_bytes_are_told_with_three_digits(size, words):
    assert in_words(size) == words


def test_limits_of_two_threads_at_a_time_are_their_own():
    entered, left = threading.Barrier(2, timeout=60), threading.Event()
    seen = {}

    def read(name, first):
        with read_limits(max_memory=first):
            entered.wait()
            if name == "last":
                left.wait(60)
            seen[name] = current_limits().max_memory
        seen[f"after {name}"] = current_limits().max_memory
        left.set()

    with read_limits(max_memory=3000):  # those of the main thread hold for the others
        threads = [
            threading.Thread(target=read, args=each) for each in (("first", 1000), ("last", 2000))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == {"first": 1000, "last": 2000, "after first": 3000, "after last": 3000}
    assert current_limits() == ReadLimits()


@pytest.mark.parametrize("name", ["boxes.json", "boxes.csv"])
def test_a_large_text_is_refused_before_it_is_read(tmp_path, name):
    with (tmp_path / name).open("wb") as file:
        file.truncate(400 << 20)
    before = peak()
    with read_limits(max_memory="10MB"), pytest.raises(ValueError, match=f"{name} needs 5.03 GB"):
        read_boxes(tmp_path / name)
    assert peak() - before < 50


@pytest.mark.parametrize("name", ["scan.nii", "scan.mha", "scan.nrrd", "scan.img", "scan.mgz"])
def test_links_to_themselves_and_pipes_are_named(tmp_path, name):
    (tmp_path / name).symlink_to(name)
    with pytest.raises(FileNotFoundError, match=rf"{name} must be an image, found a link"):
        load_image(tmp_path / name)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=rf"{name} must be an image, found neither"):
        load_image(tmp_path / name)


# npz


def archive(*, flag=0, method=None):
    """An npz file of one box whose zip headers have a flag or a method changed."""
    stream = io.BytesIO()
    np.savez(stream, pred_boxes=np.array([[2, 3, 8, 9, 1, 7.0]]), pred_scores=np.array([0.5]))
    content = bytearray(stream.getvalue())
    for signature, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(signature) + at
        content[place] |= flag
        content[place + 2] = content[place + 2] if method is None else method
    return bytes(content)


def one_array(shape, held=b"", descr="'<f8'", version=(1, 0), name="pred_boxes.npy", again=None):
    """An npz file of one array, of whatever its header says."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - len(header) % 64) + b"\n"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as members:
        size = struct.pack("<H", len(header))
        for member in filter(None, (name, again)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # zipfile warns of a name twice
                members.writestr(member, b"\x93NUMPY" + bytes(version) + size + header + held)
    return stream.getvalue()


ARCHIVES = {
    "encrypted": (archive(flag=1), "encrypted"),
    "packed by another method": (archive(method=99), "compression"),
    "an absurd shape": (one_array("(99999999999, 6)"), "with 0 bytes"),
    "a shape beyond 64 bits": (one_array(f"({2**70}, 6)"), "with 0 bytes"),
    "a negative shape": (one_array("(-1, 6)"), "with 0 bytes"),
    "a shape in words": (one_array("('a', 6)"), "got: "),
    "half a header": (one_array("(1, "), "got: "),
    "an unknown type": (one_array("(1, 6)", descr="'<q99'"), "got: "),
    "a later version": (one_array("(1, 6)", version=(9, 0)), r"version \(9, 0\)"),
    "pickles": (one_array("(1, 6)", descr="'|O'", held=bytes(48)), "pickled objects"),
    "too few values": (one_array("(2, 6)", held=bytes(48)), "which are 96 bytes, with 48"),
    "too many values": (one_array("(1, 6)", held=bytes(96)), "which are 48 bytes, with 96"),
    "no array": (one_array("(1, 6)", held=bytes(48), name="pred_boxes.txt"), "nnDetection's boxes"),
    "a bomb": (one_array("(1600000, 6)", held=bytes(76_800_000)), "1600000 rows"),
    "an array twice": (one_array("(1, 6)", held=bytes(48), again="pred_boxes.npy"), "of one name"),
    "two members of one name": (
        one_array("(1, 6)", held=bytes(48), again="pred_boxes"),
        "one name",
    ),
    "no zip": (b"PK\x03\x04" + bytes(100), "got: "),
    "nothing": (b"", "got: "),
    "cut short": (archive()[:-40], "got: "),
}


@pytest.mark.parametrize("damage", ARCHIVES)
def test_a_damaged_npz_is_one_line_that_names_it(tmp_path, damage):
    content, words = ARCHIVES[damage]
    path = tmp_path / "boxes.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"boxes\.npz .*{words}") as caught:
        read_boxes(path, format="nndetection")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("at", range(0, 500, 7))
def test_any_changed_byte_of_an_npz_is_read_or_named(tmp_path, at):
    content = bytearray(archive())
    content[at] ^= 0xFF
    path = tmp_path / "boxes.npz"
    path.write_bytes(content)
    message = "boxes.npz"
    try:
        read_boxes(path, format="nndetection")
    except ValueError as error:
        message = str(error)
    assert "boxes.npz" in message


def test_arrays_that_hold_no_boxes_are_not_unpacked(tmp_path):
    boxes = np.array([[2, 3, 8, 9, 1, 7.0]])
    np.savez_compressed(tmp_path / "boxes.npz", pred_boxes=boxes, seg=np.zeros(1 << 24))
    with read_limits(max_memory="1MB"), pytest.warns(UserWarning, match="not read: 'seg'"):
        assert len(read_boxes(tmp_path / "boxes.npz", format="nndetection").boxes) == 1
