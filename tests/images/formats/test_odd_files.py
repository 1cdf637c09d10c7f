"""Our schema, and whatever else may stand in a file: it is read, or named in one line."""

from __future__ import annotations

import json
import math
import warnings

import jsonschema
import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap.images import (
    FORMATS,
    BoxFile,
    box_schema,
    read_box_files,
    read_boxes,
    save_nifti,
    write_box_files,
    write_boxes,
)
from tests.support.box_makers import AFFINES, BOXES, LABELS, SCORES


@pytest.fixture(scope="module")
def validator():
    schema = box_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
@pytest.mark.parametrize("full", [False, True])
def test_what_we_write_is_what_the_schema_says(tmp_path, validator, ndim, full):
    boxes = torch.arange(4.0 * ndim).reshape(2, -1)
    options = {"scores": SCORES, "labels": LABELS, "affine": torch.eye(4), "case": "a"}
    write_boxes(tmp_path / "a.json", boxes, **(options if full else {}))
    assert not list(validator.iter_errors(json.loads((tmp_path / "a.json").read_text())))


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("boxes"),
        lambda c: c.pop("case"),
        lambda c: c.pop("affine"),
        lambda c: c.update(format="coco"),
        lambda c: c.update(version=2),
        lambda c: c.update(case=3),
        lambda c: c.update(ndim=0),
        lambda c: c.update(ndim=2),
        lambda c: c.update(affine=[[1.0]]),
        lambda c: c["boxes"][0].pop("box"),
        lambda c: c["boxes"][0].update(box=[0.0] * 5),
        lambda c: c["boxes"][0].update(box=["a"] * 6),
        lambda c: c["boxes"][0].update(box=[True] * 6),
        lambda c: [row.update(score="high") for row in c["boxes"]],
        lambda c: [row.update(label=1.5) for row in c["boxes"]],
    ],
)
def test_what_the_schema_refuses_the_reader_refuses(tmp_path, validator, change):
    path = tmp_path / "a.json"
    write_boxes(path, BOXES, scores=SCORES, labels=LABELS, affine=torch.eye(4), case="a")
    content = json.loads(path.read_text())
    assert validator.is_valid(content)
    change(content)
    assert not validator.is_valid(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"a\.json"):
        read_boxes(path, format="json")


@pytest.mark.parametrize(
    ("name", "text", "options", "message"),
    [
        ("a.json", "{", {}, "must be a JSON file, got"),
        ("a.json", "[" * 100000, {}, "must be a JSON file, got"),
        ("a.txt", "x", {}, "does not say its format"),
        ("a.json", "[]", {}, "does not say its format"),
        ("a.npz", "x", {}, "must be a readable npz without pickles"),
        ("a.csv", "case;score\n", {}, "must have the columns axis0_min, axis1_min, axis2_min, "),
        ("a.csv", "axis0_min,axis0_max\n1\n", {}, "must have a number as axis0_max in line 2"),
        ("a.csv", "axis0_min,axis0_max\n1,x\n", {}, "in line 2, got 'x'"),
        ("a.csv", "axis0_min,axis0_max\n1,nan\n", {}, "must hold finite coordinates"),
        ("a.csv", "axis0_min,axis0_max\n3,1\n", {}, "must have every maximum at or above"),
        ("a.csv", "label,axis0_min,axis0_max\n1.5,1,2\n", {}, "whole number as label in line 2"),
        ("a.csv", "case,axis0_min,axis0_max\na,1,2\n,3,4\n", {}, "and the case a"),
        ("a.csv", "axis1_min,axis1_max\n3,4\n", {}, "must have the columns axis0_min"),
        ("a.json", "[1]", {"format": "monai", "frame": "RAS"}, "must be a MONAI list"),
        ("a.json", "{}", {"format": "monai", "frame": "RAS"}, "must hold a list named training"),
        (
            "a.json",
            '[{"image": "a.nii", "box": [[0, 0, 0, 1, 1, -1]], "label": [0]}]',
            {"frame": "RAS", "affine": torch.eye(4)},
            "must have edges of at least 0",
        ),
        (
            "a.json",
            '[{"image": "a.nii", "box": [[0, 0, 0, 1, 1]]}]',
            {"frame": "RAS", "affine": torch.eye(4)},
            "must hold 6 numbers a box",
        ),
        (
            "a.json",
            '[{"image": "a.nii", "box": []}, {"image": "b/a.nii.gz", "box": []}]',
            {"frame": "RAS", "affine": torch.eye(4)},
            "must list each image once, got a again",
        ),
        (
            "a.json",
            '[{"image": "a.nii", "box": [[0, 0, 0, 1, 1, 1]], "score": []}]',
            {"frame": "up", "affine": torch.eye(4)},
            "frame must be one of",
        ),
        (
            "a.json",
            '{"frame": "LPS", "validation": [{"image": "a.nii", "box": []}]}',
            {"frame": "RAS", "affine": torch.eye(4)},
            "frame must be that of .* itself, LPS, got RAS",
        ),
        ("a.json", "{}", {"format": "coco"}, "must be a COCO file, got no 'annotations'"),
        (
            "a.json",
            '{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 2}]}',
            {"axis_order": "xyz"},
            "must list every image, got 2 unlisted",
        ),
        (
            "a.json",
            '[{"image_id": 1, "category_id": 0, "bbox": [1, 2, -3, 4]}]',
            {"axis_order": "xyz"},
            "must have every maximum at or above",
        ),
        (
            "a.json",
            '[{"image_id": 1, "category_id": 0, "bbox": [1, 2, 3]}]',
            {"axis_order": "xyz"},
            "must hold 4 or 6 numbers a bbox, got 3",
        ),
        ("a.json", "[]", {"format": "nndetection"}, "must be a file of nnDetection's boxes"),
        ("a.json", '{"pred_boxes": [[1, 2]]}', {"format": "nndetection"}, "4 or 6 numbers a box"),
        (
            "a.json",
            '{"pred_boxes": [[5, 2, 4, 5, 1, 2]]}',
            {"format": "nndetection"},
            "must have x2 at or above x1",
        ),
        (
            "a.json",
            '{"pred_boxes": [[1, 2, 4, 5, 1, 2]], "pred_scores": [0.5, 0.5]}',
            {"format": "nndetection"},
            "must have a score in all boxes or none",
        ),
        ("a.mrk.json", "{}", {"format": "slicer"}, "must be a file of 3D Slicer's markups"),
        ("a.mrk.json", '{"markups": []}', {}, "needs the affine of a, since its format is in mm"),
        (
            "a.mrk.json",
            '{"markups": [{"type": "ROI", "size": [1, 2, 3]}]}',
            {"affine": torch.eye(4)},
            "must have ROIs with center and size, got one without center",
        ),
        (
            "a.mrk.json",
            '{"markups": [{"type": "ROI", "coordinateSystem": "IJK"}]}',
            {"affine": torch.eye(4)},
            "must have ROIs in LPS or RAS, got 'IJK'",
        ),
        (
            "a.mrk.json",
            '{"markups": [{"type": "ROI", "center": [0, 0, 0], "size": [1, -2, 3]}]}',
            {"affine": torch.eye(4)},
            "must have sizes of at least 0",
        ),
        ("a.nii.gz", "x", {}, "must be a readable NIfTI file"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path, name, text, options, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_boxes(tmp_path / name, **options)
    if "frame must" not in message:
        assert name in str(error.value)
    assert "\n" not in str(error.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 10**30) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def places_in(content, path=()):
    """Where every value of nested lists and objects lies."""
    yield path
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items if isinstance(content, (dict, list)) else ():
        if isinstance(value, (dict, list)):
            yield from places_in(value, (*path, key))
        else:
            yield (*path, key)


@pytest.mark.parametrize("name", ["json", "monai", "coco", "nndetection", "slicer"])
@given(st.data())
@settings(max_examples=150)
def test_whatever_stands_in_a_file_it_is_read_or_named_in_one_line(tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("odd")
    suffix = ".mrk.json" if name == "slicer" else ".json"
    path, affine = folder / f"odd{suffix}", AFFINES["flipped"]
    write_boxes(
        path, BOXES, scores=SCORES, labels=LABELS, affine=affine, case="a", format=name
    )  # fmt: skip
    content = json.loads(path.read_text())
    *place, last = data.draw(st.sampled_from([at for at in places_in(content) if at]))
    inner = content
    for key in place:
        inner = inner[key]
    inner[last] = data.draw(json_values)
    path.write_text(json.dumps(content))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found, message = outcome_of(path, name, affine)
    if message is not None:
        assert path.name in message
        assert "\n" not in message
    for file in found.values():
        assert torch.isfinite(file.boxes).all()
        assert file.scores is None or torch.isfinite(file.scores).all()


def outcome_of(path, name, affine):
    """What is read, or the one error that may come instead."""
    try:
        return read_box_files(path, format=name, affine=affine), None
    except ValueError as error:
        return {}, str(error)


def test_numbers_that_cannot_be_written_are_refused(tmp_path):
    odd = BoxFile(torch.tensor([[0.0, 0, 0, 1, 1, math.nan]], dtype=torch.float64))
    for name, kind in FORMATS.items():
        with pytest.raises(ValueError, match="boxes must hold finite coordinates"):
            write_box_files(tmp_path / f"a{kind.suffix}", {"a": odd}, format=name)
    assert not list(tmp_path.iterdir())


def test_what_a_format_cannot_hold_is_refused_before_a_file_is_there(tmp_path):
    flat = torch.zeros(1, 4)
    for name, message in (
        ("monai", "must get 3D boxes in this format, got 2D"),
        ("slicer", "must get 3D boxes in this format, got 2D"),
        ("labelmap", "must get 3D boxes in this format, got 2D"),
    ):
        with pytest.raises(ValueError, match=message):
            write_boxes(tmp_path / f"a{FORMATS[name].suffix}", flat, format=name, case="a")
    with pytest.raises(ValueError, match="needs the affine of a, since its format is in mm"):
        write_boxes(tmp_path / "a.mrk.json", BOXES, case="a")
    with pytest.raises(ValueError, match="needs the scan of a for its grid"):
        write_boxes(tmp_path / "a.nii.gz", BOXES, case="a")
    with pytest.raises(ValueError, match=r"path must end in \.csv for csv, got .*a\.json"):
        write_boxes(tmp_path / "a.json", BOXES, format="csv")
    with pytest.raises(ValueError, match=r"path must end in one of .*, got .*a\.txt"):
        write_boxes(tmp_path / "a.txt", BOXES)
    with pytest.raises(ValueError, match="format must be one of"):
        write_boxes(tmp_path / "a.json", BOXES, format="yolo")
    with pytest.raises(ValueError, match="must get boxes of one dimension, got"):
        write_box_files(
            tmp_path / "a.csv", {"a": BoxFile(BOXES), "b": BoxFile(flat.double())}
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_a_scan_on_another_grid_than_the_files_is_refused(tmp_path):
    save_nifti(tmp_path / "scan.nii.gz", torch.zeros(4, 4, 4), AFFINES["plain"])
    write_boxes(tmp_path / "a.json", BOXES, affine=AFFINES["flipped"])
    with pytest.raises(ValueError, match=r"a\.json must be on the grid of its scan"):
        read_boxes(tmp_path / "a.json", image=tmp_path / "scan.nii.gz")
    write_boxes(tmp_path / "a.json", BOXES, affine=AFFINES["plain"])
    found = read_boxes(tmp_path / "a.json", image=tmp_path / "scan.nii.gz")
    assert torch.equal(found.affine, AFFINES["plain"])


def test_one_scan_is_not_taken_for_that_of_several_cases(tmp_path):
    save_nifti(tmp_path / "sub-01.nii.gz", torch.zeros(4, 4, 4), AFFINES["plain"])
    files = {case: BoxFile(BOXES) for case in ("sub-01", "sub-02")}
    write_box_files(tmp_path / "all.csv", files)
    with pytest.raises(ValueError, match="holds 2 cases: name a folder .* `image=`"):
        read_box_files(tmp_path / "all.csv", image=tmp_path / "sub-01.nii.gz")
    with pytest.raises(FileNotFoundError, match=r"must hold the scan sub-02\.nii\.gz, or in"):
        read_box_files(tmp_path / "all.csv", image=tmp_path)
    save_nifti(tmp_path / "sub-02.nii", torch.zeros(4, 4, 4), AFFINES["flipped"])
    found = read_box_files(tmp_path / "all.csv", image=tmp_path)
    torch.testing.assert_close(found["sub-02"].affine, AFFINES["flipped"], rtol=0, atol=1e-5)
    write_box_files(tmp_path / "all.json", found, format="monai")
    torch.testing.assert_close(read_boxes(tmp_path / "all.json", case="sub-02").boxes, BOXES)
