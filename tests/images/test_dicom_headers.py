"""DICOM elements that reach beyond their file, and objects that lie beside scans."""

from __future__ import annotations

import os
import struct
import zlib

import numpy as np
import pytest

from softoverlap.images import _dicom, load_image, read_limits
from tests.support.dicom_elements import (
    EXPLICIT,
    RTSTRUCT,
    SEGMENTATION,
    dicom_file,
    element,
    pixels,
)
from tests.support.image_makers import write_dicom

STACK = np.random.default_rng(0).integers(-900, 1000, (4, 5, 6))  # z, y, x
ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)

DAMAGES = {
    "a value of 2 GB": ((element(8, 0x60, "UT", b"CT", 2**31),), "2147483648 bytes, of which 2 "),
    "pixels of 4 GB": (
        (*pixels()[:-1], element(0x7FE0, 0x10, "OW", b"", 2**32 - 2)), "of which 0 are there",
    ),
    "few pixels": (pixels(512, 512), "8 bytes of pixels, where .* ask for 524288"),
    "many frames": (pixels(frames=1000), "ask for 8000"),
    "frames in words": (pixels(frames="many"), "its number of frames is 'many'"),
    "a sequence without an end": ((element(8, 0x1140, "SQ", b"", 2**32 - 1),), "without an end"),
    "an item of 4 GB": (
        (element(8, 0x1140, "SQ", struct.pack("<HHI", 0xFFFE, 0xE000, 2**32 - 2), 2**32 - 1),),
        "an item of 4294967294 bytes",
    ),
    "sequences in sequences": (
        (element(8, 0x1140, "SQ", ITEM, 2**32 - 1) * 40,), "sequences within 32 others",
    ),
    "half an element": ((b"\x08\x00\x60",), "it is cut short"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_length_that_cannot_be_is_refused_before_gdcm_reads_it(tmp_path, damage, monkeypatch):
    monkeypatch.setattr(_dicom, "read", None)
    elements, words = DAMAGES[damage]
    folder = write_dicom(tmp_path / "ct", STACK)
    (folder / "bad.dcm").write_bytes(dicom_file(*elements))
    with pytest.raises(ValueError, match=rf"bad\.dcm must be a readable slice .*, got: .*{words}"):
        load_image(folder)


@pytest.mark.parametrize(("kind", "word"), [(RTSTRUCT, "RTSTRUCT"), (SEGMENTATION, "SEG")])
def test_contours_and_segmentations_beside_a_scan_are_passed_by_with_a_word(tmp_path, kind, word):
    folder = write_dicom(tmp_path / "ct", STACK)
    series = element(0x20, 0x0D, "UI", "1.2.3.4") + element(0x20, 0x0E, "UI", "1.2.3.5")
    (folder / "other.dcm").write_bytes(dicom_file(series, kind=kind))
    with pytest.warns(UserWarning, match=rf"ct: other\.dcm \({word}.* is passed by"):
        scan = load_image(folder)
    assert np.array_equal(scan.data.numpy(), STACK.transpose(2, 1, 0))


def test_a_series_is_sized_up_by_its_rows_and_columns(tmp_path):
    folder = write_dicom(tmp_path / "ct", STACK)
    with read_limits(max_memory=959), pytest.raises(ValueError, match="ct needs 960 bytes"):
        load_image(folder)
    with read_limits(max_memory=960):
        load_image(folder)


def test_a_slice_whose_name_is_not_in_utf8_is_named(tmp_path):
    folder = write_dicom(tmp_path / "ct", STACK)
    first = min(folder.iterdir())
    other = folder / os.fsdecode(b"caf\xe9.dcm")
    other.write_bytes(first.read_bytes())
    with pytest.raises(ValueError, match=r"caf.*\.dcm must have a name in UTF-8, .* rename it"):
        load_image(folder)
    other.rename(folder / os.fsdecode(b"caf\xe9.txt"))
    (folder / os.fsdecode(b"caf\xe9.txt")).write_text("a note")
    assert load_image(folder).data.shape == (6, 5, 4)


def test_a_deflated_file_is_walked_too(tmp_path):
    head, _, rest = dicom_file(*pixels(512, 512), syntax=f"{EXPLICIT}.99").partition(b"1.2.1.99")
    squeezer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    folder = tmp_path / "ct"
    folder.mkdir()
    content = head + b"1.2.1.99" + squeezer.compress(rest) + squeezer.flush()
    (folder / "bad.dcm").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.dcm must .* 8 bytes of pixels"):
        load_image(folder)


def test_one_dicom_file_is_told_how_to_bring_over(tmp_path):
    for name in ("slice.dcm", "slice"):
        (tmp_path / name).write_bytes(dicom_file(*pixels()))
        with pytest.raises(ValueError, match=rf"{name} must end in .*: name the folder with all"):
            load_image(tmp_path / name)
