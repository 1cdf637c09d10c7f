"""Boxes as JSON and as Slicer markups: they read back exactly, and lie where they should."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap.images import (
    MARKUPS_SCHEMA,
    boxes_to_world,
    read_boxes,
    write_boxes,
    write_markups,
)
from tests.support.box_makers import refused_when_changed

BOXES = torch.tensor([[0.1, 1.0, 2.0, 3.3, 4.0, 5.5], [0.0, 0.0, 0.0, 7.0, 8.0, 9.0]])


def rotation(a, b):
    first = torch.tensor(
        [[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]],
        dtype=torch.float64,
    )
    second = torch.tensor(
        [[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]],
        dtype=torch.float64,
    )
    return first @ second


def oblique(a=0.4, b=-0.9, flips=(1.0, 1.0, 1.0), spacing=(0.7, 1.3, 2.5)):
    affine = torch.eye(4, dtype=torch.float64)
    edges = torch.tensor(spacing, dtype=torch.float64) * torch.tensor(flips, dtype=torch.float64)
    affine[:3, :3] = rotation(a, b) * edges
    affine[:3, 3] = torch.tensor([12.0, -30.5, 71.25])
    return affine


def rebuilt_corners(roi):
    """Corners of an ROI in LPS mm as Slicer builds them: columns of the matrix are the axes."""
    axes = torch.tensor(roi["orientation"], dtype=torch.float64).reshape(3, 3)
    half = torch.tensor(roi["size"], dtype=torch.float64) / 2
    signs = torch.tensor(list(itertools.product((-1, 1), repeat=3)), dtype=torch.float64)
    return (signs * half) @ axes.T + torch.tensor(roi["center"], dtype=torch.float64)


def assert_same_points(found, expected):
    distance = torch.cdist(found, expected)
    assert distance.min(dim=1).values.max() < 1e-6
    assert distance.min(dim=0).values.max() < 1e-6


coordinates = st.floats(-1e6, 1e6) | st.floats(-1e6, 1e6, width=32)


@given(
    st.lists(st.tuples(*[coordinates] * 6, st.floats(0, 1), st.integers(0, 9)), max_size=4),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_every_number_reads_back_exactly(tmp_path_factory, rows, dtype):
    numbers = torch.tensor([row[:6] for row in rows], dtype=dtype).reshape(-1, 2, 3)
    boxes = torch.cat([numbers.amin(dim=1), numbers.amax(dim=1)], dim=1)
    scores = torch.tensor([row[6] for row in rows], dtype=dtype)
    labels = torch.tensor([row[7] for row in rows], dtype=torch.int64)
    path = tmp_path_factory.mktemp("boxes") / "boxes.json"
    write_boxes(path, boxes, scores=scores, labels=labels, affine=oblique(), case="sub-01")
    found = read_boxes(path)
    assert torch.equal(found.boxes, boxes.double())
    assert torch.equal(found.affine, oblique())
    assert found.case == "sub-01"
    if rows:
        assert torch.equal(found.scores, scores.double())
        assert torch.equal(found.labels, labels)
    else:
        assert found.boxes.shape == (0, 6)


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_boxes_of_any_dimension_alone_read_back(tmp_path, ndim):
    boxes = torch.arange(2.0 * ndim).reshape(1, -1)
    write_boxes(tmp_path / "a.json", boxes)
    found = read_boxes(tmp_path / "a.json")
    assert torch.equal(found.boxes, boxes.double())
    assert (found.scores, found.labels, found.affine, found.case) == (None, None, None, None)


def test_the_file_says_what_its_numbers_mean(tmp_path):
    write_boxes(tmp_path / "a.json", BOXES, affine=oblique(), case="sub-01")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["axes"] == [
        "axis0_min",
        "axis1_min",
        "axis2_min",
        "axis0_max",
        "axis1_max",
        "axis2_max",
    ]
    assert content["coordinates"] == "voxel corners, half-open: voxel i fills [i, i + 1)"
    assert content["affine"] == oblique().tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format="coco"), "does not say its format: name it"),
        (lambda c: c.update(case=3), "must have a name as case, got 3"),
        (lambda c: c["boxes"][0].update(box=[True] * 6), "must have numbers as box, got True"),
        (lambda c: c.update(version=2), "must have version 1, got 2"),
        (lambda c: c.pop("boxes"), "must be a JSON file of boxes, got no 'boxes'"),
        (lambda c: c.update(boxes=3), "must be a JSON file of boxes, got"),
        (lambda c: c["boxes"][0].update(box=[1, 2]), r"must hold 6 numbers a box, got \[2\]"),
        (lambda c: c["boxes"][0].update(box=[9, 9, 9, 1, 1, 1]), "must have every maximum at or"),
        (lambda c: c["boxes"][0].update(score=0.5), "must have a score in all boxes or none"),
        (
            lambda c: [row.update(score="high") for row in c["boxes"]],
            r"must have finite numbers as score, got \['high', 'high'\]",
        ),
        (
            lambda c: [row.update(label=1.5) for row in c["boxes"]],
            r"must have whole numbers as label, got \[1\.5, 1\.5\]",
        ),
        (lambda c: c["boxes"][0].update(box=["a"] * 6), "must have numbers as box, got"),
        (lambda c: c["boxes"][0].update(box=[[1]] * 6), "must have numbers as box, got"),
        (lambda c: c["boxes"][0].update(box=[10**400] * 6), "must have numbers as box, got"),
        (lambda c: [row.update(score=10**400) for row in c["boxes"]], "a.json must"),
        (lambda c: [row.update(label=10**30) for row in c["boxes"]], "a.json must"),
        (
            lambda c: [row.update(box=[[1]] * 6) for row in c["boxes"]],
            "must have numbers as box, got lists",
        ),
        (lambda c: c.update(ndim=0), "must have a whole number of axes as ndim, got 0"),
        (lambda c: c.update(ndim=-1), "must have a whole number of axes as ndim, got -1"),
        (lambda c: c.update(ndim="three"), "must have a whole number of axes as ndim, got 'three'"),
        (lambda c: c.update(ndim=2.5), "must have a whole number of axes as ndim, got 2.5"),
        (lambda c: c.update(affine=[["x"]]), "must have numbers as affine, got"),
        (lambda c: c.update(affine=[[1.0]]), r"affine of .* must have shape \(4, 4\)"),
    ],
)
def test_a_file_of_another_kind_is_named_with_what_is_wrong(tmp_path, change, message):
    write_boxes(tmp_path / "a.json", BOXES)
    refused_when_changed(tmp_path / "a.json", change, message)


def test_missing_broken_and_foreign_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.json must be a file of boxes"):
        read_boxes(tmp_path / "gone.json")
    write_boxes(tmp_path / "a.json", BOXES)
    text = (tmp_path / "a.json").read_text()
    (tmp_path / "half.json").write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match=r"half\.json must be a JSON file, got"):
        read_boxes(tmp_path / "half.json")
    (tmp_path / "list.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"list\.json does not say its format"):
        read_boxes(tmp_path / "list.json")
    with pytest.raises(ValueError, match=r"list\.json must have the format .*, got 'list'"):
        read_boxes(tmp_path / "list.json", format="json")


def test_wrong_numbers_are_refused_before_writing(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(ValueError, match="scores must hold finite values, got NaN"):
        write_boxes(path, BOXES, scores=torch.tensor([0.5, torch.nan]))
    with pytest.raises(ValueError, match="boxes must hold finite coordinates"):
        write_boxes(path, torch.full((1, 6), torch.inf))
    with pytest.raises(TypeError, match="labels must be integers, got dtype torch.float32"):
        write_boxes(path, BOXES, labels=torch.zeros(2))
    with pytest.raises(ValueError, match=r"path must end in \.mrk\.json, got .*a\.json"):
        write_markups(path, BOXES, oblique())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.bad_input
def test_wrong_shapes_are_named(tmp_path):
    path = tmp_path / "a.mrk.json"
    with pytest.raises(ValueError, match=r"scores must have shape \(2,\), got \(3,\)"):
        write_boxes(path, BOXES, scores=torch.zeros(3))
    with pytest.raises(ValueError, match=r"scores must have shape \(2,\), got \(3,\)"):
        write_markups(path, BOXES, oblique(), scores=torch.zeros(3))
    with pytest.raises(ValueError, match=r"boxes must have shape \(N, 6\), got \(1, 4\)"):
        write_markups(path, torch.zeros(1, 4), oblique())
    with pytest.raises(ValueError, match="names must hold one name for each of 2 boxes, got 1"):
        write_markups(path, BOXES, oblique(), names=["a"])


@given(
    st.floats(-3, 3),
    st.floats(-3, 3),
    st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    st.tuples(*[st.floats(0.3, 5)] * 3),
)
def test_rois_enclose_what_the_boxes_do(tmp_path_factory, a, b, flips, spacing):
    affine = oblique(a, b, flips, spacing)
    path = tmp_path_factory.mktemp("markups") / "found.mrk.json"
    write_markups(path, BOXES, affine)
    rois = json.loads(path.read_text())["markups"]
    expected = boxes_to_world(BOXES, affine) * torch.tensor([-1.0, -1.0, 1.0])
    assert len(rois) == len(BOXES)
    for roi, corners in zip(rois, expected, strict=True):
        assert_same_points(rebuilt_corners(roi), corners)
        axes = torch.tensor(roi["orientation"], dtype=torch.float64).reshape(3, 3)
        torch.testing.assert_close(axes @ axes.T, torch.eye(3, dtype=torch.float64))
        assert torch.linalg.det(axes) > 0
        edges = torch.tensor(spacing) * (BOXES[0, 3:] - BOXES[0, :3])
        assert rois[0]["size"] == pytest.approx(edges.tolist(), rel=1e-5)


def test_markups_are_rois_in_lps_with_names_and_scores(tmp_path):
    path = tmp_path / "found.mrk.json"
    scores = torch.tensor([0.9, 0.25])
    write_markups(path, BOXES, oblique(), scores=scores, names=["left", "right"])
    content = json.loads(path.read_text())
    assert content["@schema"] == MARKUPS_SCHEMA
    assert [roi["name"] for roi in content["markups"]] == ["left (0.90)", "right (0.25)"]
    for roi in content["markups"]:
        assert (roi["type"], roi["roiType"], roi["coordinateSystem"]) == ("ROI", "Box", "LPS")
        assert roi["controlPoints"][0]["position"] == roi["center"]


def test_no_boxes_make_an_empty_list_of_markups(tmp_path):
    write_markups(tmp_path / "none.mrk.json", torch.zeros(0, 6), oblique())
    assert json.loads((tmp_path / "none.mrk.json").read_text())["markups"] == []


def test_on_a_sheared_grid_the_roi_encloses_the_whole_box_and_says_so(tmp_path):
    sheared = oblique()
    sheared[:3, 1] += 0.2 * sheared[:3, 0]
    write_markups(tmp_path / "a.mrk.json", BOXES, sheared, scores=torch.tensor([0.9, 0.2]))
    rois = json.loads((tmp_path / "a.mrk.json").read_text())["markups"]
    corners = boxes_to_world(BOXES, sheared) * torch.tensor([-1.0, -1.0, 1.0])
    for roi, inside in zip(rois, corners, strict=True):
        found = rebuilt_corners(roi)
        torch.testing.assert_close(found.amin(0), inside.amin(0))
        torch.testing.assert_close(found.amax(0), inside.amax(0))
        assert [abs(number) for number in roi["orientation"]] == [1, 0, 0, 0, 1, 0, 0, 0, 1]
        assert "around a sheared box" in roi["controlPoints"][0]["description"]
