"""Headers that SimpleITK would trust: each is refused with a reason, and no process is started."""

from __future__ import annotations

import gzip
import warnings
import zlib

import pytest
import torch

from softoverlap.images import _itk, load_image, stored_type
from tests.support.itk_headers import VALUES, meta, nrrd


@pytest.fixture
def no_reader(monkeypatch):
    """SimpleITK must not see the file."""

    def refuse(*_, **__):
        raise AssertionError("the header must be refused before SimpleITK reads it")

    monkeypatch.setattr(_itk, "read", refuse)


META_DAMAGES = {
    "negative axes": ({"NDims": "-3"}, "NDims -3"),
    "no axes": ({"NDims": "0"}, "NDims 0"),
    "many axes": ({"NDims": "11"}, "NDims 11"),
    "axes in words": ({"NDims": "three"}, "NDims three"),
    "no number of axes": ({"NDims": None}, "NDims none"),
    "too few sizes": ({"DimSize": "6 5"}, "DimSize 6 5 for 3 axes"),
    "too many sizes": ({"DimSize": "6 5 4 1"}, "DimSize 6 5 4 1 for 3 axes"),
    "a negative size": ({"DimSize": "6 -5 4"}, "DimSize -5"),
    "a size of nothing": ({"DimSize": "6 0 4"}, "DimSize 0"),
    "a size with a fraction": ({"DimSize": "6 5.5 4"}, r"DimSize 5\.5"),
    "sizes beyond the file": ({"DimSize": "600 500 400"}, "holds 120 bytes of values"),
    "sizes beyond 64 bits": ({"DimSize": "99999999999999999999 5 4"}, "DimSize 9999"),
    "a wider type": ({"ElementType": "MET_DOUBLE"}, "asks for 960"),
    "an unknown type": ({"ElementType": "MET_STRING"}, "ElementType MET_STRING"),
    "no type": ({"ElementType": None}, "ElementType none"),
    "channels": ({"ElementNumberOfChannels": "3"}, "asks for 360"),
    "negative channels": ({"ElementNumberOfChannels": "-1"}, "ElementNumberOfChannels -1"),
    "a short matrix": ({"TransformMatrix": "1 0 0"}, "9 finite numbers are needed"),
    "words in the matrix": ({"TransformMatrix": "1 0 0 0 x 0 0 0 1"}, "TransformMatrix 1 0 0"),
    "an infinite offset": ({"Offset": "0 inf 0"}, "3 finite numbers are needed"),
    "a short spacing": ({"ElementSpacing": "1"}, "3 finite numbers are needed"),
    "a long line": ({"Comment": "x" * 5000}, "4096 characters or more"),
    "no data file": ({"ElementDataFile": None}, "it names no ElementDataFile"),
    "an empty data file": ({"ElementDataFile": ""}, "no data file"),
    "a data file that is not there": ({"ElementDataFile": "x.raw"}, "no data file 'x.raw'"),
    "a folder as data file": ({"ElementDataFile": "."}, "no data file"),
    "a device as data file": ({"ElementDataFile": "/dev/zero"}, "no data file 'zero'"),
    "a long name": ({"ElementDataFile": "x" * 300}, "no data file"),
    "a skipped header": ({"HeaderSize": "100"}, "holds 20 bytes of values"),
    "text that is none": ({"BinaryData": "False"}, "values that are not numbers as text"),
    "a stream of unknown size": ({"CompressedData": "True"}, "without their CompressedDataSize"),
    "a claimed stream": (
        {"CompressedData": "True", "CompressedDataSize": "9999"}, "got 120 of 9999 compressed",
    ),
    "scaled values": ({"ElementToIntensityFunctionSlope": "2"}, "Slope 2, which is not applied"),
    "shifted values": ({"ElementToIntensityFunctionOffset": "5"}, "Offset 5, which is not applied"),
    "a scale in words": ({"ElementToIntensityFunctionSlope": "two"}, "FunctionSlope two"),
    "an unknown unit": ({"DistanceUnits": "inch"}, "DistanceUnits inch"),
    "a negative spacing": ({"ElementSpacing": "1 -1 1"}, "ElementSpacing 1 -1 1"),
    "a negative size of a voxel": (
        {"ElementSpacing": None, "ElementSize": "-2 2 2"}, "ElementSize -2 2 2",
    ),
    "two offsets": ({"Position": "9 0 0"}, "Position 9 0 0, which are names of one thing"),
    "two origins": ({"Origin": "9 0 0"}, "Offset 0 0 0 and Origin 9 0 0"),
    "two rotations": ({"Rotation": "-1 0 0 0 -1 0 0 0 1"}, "names of one thing"),
    "two orders of bytes": ({"ElementByteOrderMSB": "True"}, "names of one thing"),
}  # fmt: skip


@pytest.mark.parametrize("damage", META_DAMAGES)
@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
@pytest.mark.usefixtures("no_reader")
def test_a_metaimage_header_that_cannot_be_is_refused(tmp_path, damage, suffix):
    changed, words = META_DAMAGES[damage]
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(meta(**changed))
    with pytest.raises(ValueError, match=rf"scan\{suffix} must (be a readable|hold).*{words}"):
        load_image(path)


PACKED = zlib.compress(VALUES)

NRRD_DAMAGES = {
    "another first line": ({"first": "NRRD"}, "it does not begin as NRRD does"),
    "no end of the header": ({"end": "", "values": b""}, "its header is cut short"),
    "negative axes": ({"dimension": "-1"}, "dimension -1"),
    "many axes": ({"dimension": "17"}, "dimension 17"),
    "no dimension": ({"dimension": None}, "dimension none"),
    "too few sizes": ({"sizes": "6 5"}, "sizes 6 5 for 3 axes"),
    "a negative size": ({"sizes": "6 5 -4"}, "sizes -4"),
    "sizes beyond the file": ({"sizes": "6 5 4000"}, "holds 120 bytes of values"),
    "sizes beyond 64 bits": ({"sizes": f"{2**63} 5 4"}, "sizes 9223"),
    "a wider type": ({"type": "double"}, "asks for 960"),
    "a type of blocks": ({"type": "block"}, "type block"),
    "no type": ({"type": None}, "type none"),
    "another encoding": ({"encoding": "zrl"}, "encoding zrl"),
    "no encoding": ({"encoding": None}, "encoding none"),
    "bytes as text": ({"encoding": "ascii"}, "values that are not numbers as text"),
    "bytes as hex": ({"encoding": "hex", "values": bytes(240)}, "not numbers as text"),
    "little text": ({"encoding": "txt", "values": b"1 2 3"}, "too few characters for 120"),
    "a stream that is too short": (
        {"encoding": "gzip", "sizes": "600 500 400"}, "120 compressed bytes of values, too few",
    ),
    "a skip beyond the file": ({"byte_skip": "1000"}, "byte skip 1000"),
    "a skip of lines": ({"line_skip": "99999999"}, "line skip 99999999"),
    "a negative skip": ({"byte_skip": "-2"}, "byte skip -2"),
    "a data file that is not there": ({"data_file": "x.raw"}, "no data file 'x.raw'"),
    "units that are no length": ({"space_units": '"s" "s" "s"'}, "units s s s, which are no len"),
    "several units": ({"space_units": '"um" "mm" "mm"'}, "units um mm mm, .*or several"),
}  # fmt: skip


@pytest.mark.parametrize("damage", NRRD_DAMAGES)
@pytest.mark.usefixtures("no_reader")
def test_an_nrrd_header_that_cannot_be_is_refused(tmp_path, damage):
    changed, words = NRRD_DAMAGES[damage]
    path = tmp_path / "scan.nrrd"
    path.write_bytes(nrrd(**changed))
    with pytest.raises(ValueError, match=rf"scan\.nrrd must be a readable NRRD file.*{words}"):
        load_image(path)


SOUND = {
    "scan.mha": meta(),
    "old.mha": meta(BinaryData=None, TransformMatrix=None, CenterOfRotation=None),
    "text.mha": meta(" ".join(map(str, VALUES)).encode() + b"\n", BinaryData="False"),
    "packed.mha": meta(PACKED, CompressedData="True", CompressedDataSize=len(PACKED)),
    "scan.nrrd": nrrd(),
    "text.nrrd": nrrd(" ".join(map(str, VALUES)).encode(), encoding="text"),
    "late.nrrd": nrrd(b"a line\n" + VALUES, line_skip="1"),
    "last.nrrd": nrrd(b"anything" + VALUES, byte_skip="-1"),
    "named.nrrd": nrrd(type="unsigned char", first="NRRD0005"),
    "packed.nrrd": nrrd(gzip.compress(VALUES), encoding="gzip"),
    "padded.nrrd": nrrd(gzip.compress(VALUES) + bytes(512), encoding="gz"),
    "behind.nrrd": nrrd(gzip.compress(VALUES) + b"\njunk", encoding="gz"),
    "halves.nrrd": nrrd(gzip.compress(VALUES[:60]) + gzip.compress(VALUES[60:]), encoding="gz"),
    "skipped.nrrd": nrrd(gzip.compress(b"more" + VALUES), encoding="gz", byte_skip="4"),
    "plain.mha": meta(ElementToIntensityFunctionSlope="1.0", Position="0.0 0 0"),
    "decimals.nrrd": nrrd(b" ".join(b"%d.0" % value for value in VALUES), encoding="ascii"),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_headers_are_read(tmp_path, name):
    (tmp_path / name).write_bytes(SOUND[name])
    assert stored_type(tmp_path / name) == "uint8"
    values = torch.tensor(list(VALUES)).reshape(4, 5, 6).permute(2, 1, 0)
    assert torch.equal(load_image(tmp_path / name).data, values.float())


def test_a_data_file_that_is_too_long_is_told_and_one_too_short_refused(tmp_path):
    (tmp_path / "scan.mhd").write_bytes(meta(b"", ElementDataFile="scan.raw"))
    (tmp_path / "scan.raw").write_bytes(VALUES + bytes(7))
    with pytest.warns(UserWarning, match=r"its data file scan\.raw holds 7 bytes more"):
        load_image(tmp_path / "scan.mhd")
    (tmp_path / "scan.raw").write_bytes(VALUES[:-7])
    with pytest.raises(ValueError, match=r"scan\.mhd must .* scan\.raw holds 113 bytes of values"):
        load_image(tmp_path / "scan.mhd")


def packed(values, claimed=0):
    """A compressed MetaImage, which claims so many bytes more than it has."""
    content = zlib.compress(values)
    return meta(content, CompressedData="True", CompressedDataSize=len(content) + claimed)


def test_a_stream_of_other_length_than_the_header_says_is_refused(tmp_path):
    path = tmp_path / "scan.mha"
    path.write_bytes(packed(VALUES[:-1]))
    with pytest.raises(ValueError, match=r"scan\.mha must hold 120 bytes of values, got 119"):
        load_image(path)
    path.write_bytes(packed(VALUES, claimed=-1))
    with pytest.raises(ValueError, match="must hold whole data, got a stream that is cut"):
        load_image(path)
    path.write_bytes(packed(VALUES + bytes(1 << 25)))
    with pytest.raises(ValueError, match=r"must hold 120 bytes of values, got .*33554432"):
        load_image(path)


@pytest.mark.parametrize(
    ("name", "content", "field"),
    [
        ("scan.mha", meta(ElementSpacing=None), "ElementSpacing"),
        ("scan.nrrd", nrrd(space_directions=None), "space directions"),
    ],
)
def test_a_header_without_voxel_sizes_is_read_as_1_mm_with_a_note(tmp_path, name, content, field):
    (tmp_path / name).write_bytes(content)
    with pytest.warns(UserWarning, match=rf"{name}: its header has no {field}: voxels of 1 mm"):
        scan = load_image(tmp_path / name)
    assert scan.spacing == (1.0, 1.0, 1.0)


def test_an_nrrd_header_may_give_spacings_alone(tmp_path):
    path = tmp_path / "scan.nrrd"
    path.write_bytes(nrrd(space_directions=None, space=None, space_origin=None, spacings="1 2 3"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_image(path).spacing == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("at", range(20, 100, 7))
def test_one_changed_bit_of_a_gzip_stream_is_seen(tmp_path, at):
    content = bytearray(gzip.compress(bytes(range(60)) * 2))
    content[at % (len(content) - 20) + 11] ^= 4
    (tmp_path / "scan.nrrd").write_bytes(nrrd(bytes(content), encoding="gzip"))
    with pytest.raises(ValueError, match=r"scan\.nrrd must hold .*got"):
        load_image(tmp_path / "scan.nrrd")


GZIP_DAMAGES = {
    "no checksum": (gzip.compress(VALUES)[:-4], "whole data, got a stream that is cut short"),
    "half of the values": (gzip.compress(VALUES[:60]), "120 bytes of values, got 60"),
    "a word between members": (
        gzip.compress(VALUES[:60]) + b"\n" + gzip.compress(VALUES[60:]), "got 60",
    ),
    "a second member that is cut": (gzip.compress(VALUES) + gzip.compress(b"x")[:-2], "cut short"),
    "zlib": (zlib.compress(VALUES) + bytes(200), "whole data, got: "),
    "a bomb": (gzip.compress(VALUES + bytes(1 << 25)), "values, got more than 33554432"),
}  # fmt: skip


@pytest.mark.parametrize("damage", GZIP_DAMAGES)
def test_a_gzip_stream_of_an_nrrd_file_is_read_to_its_end(tmp_path, damage):
    content, words = GZIP_DAMAGES[damage]
    (tmp_path / "scan.nrrd").write_bytes(nrrd(content, encoding="gzip"))
    with pytest.raises(ValueError, match=rf"scan\.nrrd must hold .*{words}"):
        load_image(tmp_path / "scan.nrrd")


def write_list(folder, suffix, listed, *, packed):
    """A header of four data files, in a list or by a pattern; the path, and that of the third."""
    names = [f"s{number}.z" for number in range(4)]
    words = "LIST" if listed == "list" else "s%d.z 0 3 1"
    if suffix == ".mhd":
        header = meta(b"", CompressedData=str(packed), ElementDataFile=words)
    else:
        encoding = "gzip" if packed else "raw"
        end = "" if listed == "list" else "\n"
        header = nrrd(b"", end=end, encoding=encoding, data_file=words)
    behind = "\n".join(names).encode() + b"\n" if listed == "list" else b""
    (folder / f"scan{suffix}").write_bytes(header + behind)
    for number, name in enumerate(names):
        share = VALUES[30 * number :][:30]
        (folder / name).write_bytes(gzip.compress(share) if packed else share)
    return folder / f"scan{suffix}", folder / "s2.z"


@pytest.mark.parametrize("listed", ["list", "pattern"])
@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_packed_data_files_of_a_list_are_checked_one_by_one(tmp_path, suffix, listed):
    path, third = write_list(tmp_path, suffix, listed, packed=True)
    assert load_image(path).data.sum() == sum(VALUES)
    content = bytearray(third.read_bytes())
    content[20] ^= 4
    third.write_bytes(content)
    with pytest.raises(ValueError, match="must hold whole data"):
        load_image(path)


@pytest.mark.parametrize("listed", ["list", "pattern"])
@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_raw_data_files_of_a_list_have_the_length_that_the_header_says(tmp_path, suffix, listed):
    path, third = write_list(tmp_path, suffix, listed, packed=False)
    assert load_image(path).data.sum() == sum(VALUES)
    third.write_bytes(third.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"s2\.z holds 29 bytes of values, .* asks for 30"):
        load_image(path)
    third.unlink()
    with pytest.raises(ValueError, match=r"no data file 's2\.z'"):
        load_image(path)


def text(*first):
    return " ".join([*first, *["1"] * 120][:120]).encode() + b"\n"


@pytest.mark.parametrize(
    ("kind", "numbers", "words"),
    [
        ("uint8", ["300"], "the value 300, which uint8 does not hold"),
        ("uint8", ["1", "-1"], "the value -1, which uint8 does not hold"),
        ("uint8", ["1.7"], "'1.7' is no whole number"),
        ("uint8", ["1e2"], "'1e2' is no whole number"),
        ("uint8", ["nan"], "'nan' is no whole number"),
        ("uint8", ["9" * 100], "'9{40}' is no whole number"),
        ("int16", ["32768"], "the value 32768, which int16 does not hold"),
        ("int64", ["9223372036854775808"], "which int64 does not hold"),
        ("float", ["0.5", "1e39"], "the value 1e\\+39|the value .*, which float32 does not hold"),
        ("float", ["abc"], "'abc' is no number"),
    ],
)
@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.usefixtures("no_reader")
def test_numbers_as_text_must_fit_their_type(tmp_path, suffix, kind, numbers, words):
    path = tmp_path / f"scan{suffix}"
    names = {"uint8": "UCHAR", "int16": "SHORT", "int64": "LONG_LONG", "float": "FLOAT"}
    if suffix == ".mha":
        content = meta(text(*numbers), BinaryData="False", ElementType=f"MET_{names[kind]}")
    else:
        content = nrrd(text(*numbers), encoding="ascii", type=kind)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"scan\{suffix} must be a readable .*{words}"):
        load_image(path)


@pytest.mark.usefixtures("no_reader")
def test_whole_numbers_that_metaio_would_round_are_refused(tmp_path):
    content = meta(text(str(2**53 + 1)), BinaryData="False", ElementType="MET_LONG_LONG")
    (tmp_path / "scan.mha").write_bytes(content)
    with pytest.raises(ValueError, match="the value 9007199254740993, which int64 does not hold"):
        load_image(tmp_path / "scan.mha")


SPACINGS = {"space_directions": None, "space": None, "space_origin": None, "spacings": "1 2 3"}


@pytest.mark.parametrize(
    ("name", "changed", "spacing"),
    [
        ("a.mha", {"DistanceUnits": "um", "Offset": "500 0 0"}, (0.001, 0.001, 0.001)),
        ("a.mha", {"DistanceUnits": "cm"}, (10, 10, 10)),
        ("a.mha", {"DistanceUnits": "?"}, (1, 1, 1)),
        ("a.nrrd", {"space_units": '"um" "um" "um"'}, (0.001, 0.001, 0.001)),
        ("a.nrrd", {"space_units": '"mm" "mm" "mm"'}, (1, 1, 1)),
        ("a.nrrd", {"space_units": '"\xb5m" "\xb5m" "\xb5m"'}, (0.001, 0.001, 0.001)),
        ("a.nrrd", {"space_units": '"\xc2\xb5m" "\xc2\xb5m" "\xc2\xb5m"'}, (0.001, 0.001, 0.001)),
        ("a.nrrd", {"units": '"cm" "cm" "cm"', **SPACINGS}, (10, 20, 30)),
        ("a.nrrd", {"units": '"" "" ""', **SPACINGS}, (1, 2, 3)),
    ],
)
def test_units_of_length_are_read(tmp_path, name, changed, spacing):
    (tmp_path / name).write_bytes((meta if name == "a.mha" else nrrd)(**changed))
    scan = load_image(tmp_path / name)
    assert scan.spacing == pytest.approx(spacing)
    assert scan.affine[0, 3] == (-0.5 if "Offset" in changed else 0)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"space": "scanner-xyz"}, "its space 'scanner-xyz' .* read as LPS"),
        ({"old_min": "0", "old_max": "1"}, "its values were quantized"),
    ],
)
def test_a_field_of_nrrd_that_is_not_applied_is_told(tmp_path, changed, words):
    (tmp_path / "scan.nrrd").write_bytes(nrrd(**changed))
    with pytest.warns(UserWarning, match=words):
        load_image(tmp_path / "scan.nrrd")
