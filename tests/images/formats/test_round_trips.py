"""Boxes in every format: what is written reads back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap.images import (
    FORMATS,
    BoxFile,
    read_box_files,
    read_boxes,
    save_nifti,
    write_box_files,
    write_boxes,
)
from tests.support.box_makers import AFFINES, BOXES, LABELS, SCORES, assert_same
from tests.support.strategies import box_batches


@given(box_batches(ndim=3), st.floats(-1e3, 1e3), st.sampled_from(["csv", "json"]))
@settings(max_examples=40)
def test_our_formats_read_back_to_the_last_bit(tmp_path_factory, boxes, shift, name):
    boxes = boxes + shift / 3
    scores, labels = torch.rand(len(boxes), dtype=torch.float64), torch.arange(len(boxes))
    path = tmp_path_factory.mktemp("boxes") / f"a.{name}"
    write_boxes(path, boxes, scores=scores, labels=labels, case="sub-01")
    found = read_boxes(path)
    assert_same(found, boxes, scores, labels)
    assert found.case == "sub-01"


@given(box_batches(ndim=3), st.sampled_from([name for name in AFFINES if name != "oblique"]))
@settings(max_examples=40)
@pytest.mark.parametrize("frame", ["RAS", "LPS"])
def test_monai_lists_read_back_where_no_axis_is_oblique(tmp_path_factory, frame, boxes, name):
    path = tmp_path_factory.mktemp("monai") / "a.json"
    scores, labels = torch.rand(len(boxes), dtype=torch.float64), torch.arange(len(boxes))
    write_boxes(
        path, boxes, scores=scores, labels=labels, affine=AFFINES[name], case="sub-01",
        format="monai", frame=frame,
    )  # fmt: skip
    found = read_boxes(path)
    assert_same(found, boxes, scores, labels, tolerance=1e-11)
    assert found.case == "sub-01"


@given(box_batches(ndim=3), st.sampled_from(list(AFFINES)))
@settings(max_examples=40)
def test_slicer_markups_read_back_under_every_affine(tmp_path_factory, boxes, name):
    path = tmp_path_factory.mktemp("slicer") / "sub-01_boxes.mrk.json"
    scores, labels = torch.rand(len(boxes), dtype=torch.float64), torch.arange(len(boxes))
    write_boxes(path, boxes, scores=scores, labels=labels, affine=AFFINES[name])
    found = read_boxes(path, affine=AFFINES[name])
    assert_same(found, boxes, scores, labels, tolerance=1e-11)
    assert found.case == "sub-01"


@given(box_batches(), st.sampled_from(["xyz", "zyx"]))
@settings(max_examples=40)
def test_coco_reads_back_in_two_and_three_dimensions(tmp_path_factory, boxes, order):
    path = tmp_path_factory.mktemp("coco") / "a.json"
    labels = torch.arange(len(boxes))
    options = {"labels": labels, "case": "sub-01", "format": "coco", "axis_order": order}
    if boxes.shape[1] not in (4, 6):
        with pytest.raises(ValueError, match=r"must get 2D or 3D boxes in this format, got \dD"):
            write_boxes(path, boxes, **options)
        return
    write_boxes(path, boxes, **options)
    assert_same(read_boxes(path), boxes, None, labels)  # exact: the boxes lie on eighths


@given(box_batches(ndim=3), st.sampled_from(list(AFFINES)), st.sampled_from(["npz", "json"]))
@settings(max_examples=40)
def test_nndetection_reads_back_with_its_grid(tmp_path_factory, boxes, name, suffix):
    path = tmp_path_factory.mktemp("nndet") / f"sub-01_boxes.{suffix}"
    scores, labels = torch.rand(len(boxes), dtype=torch.float64), torch.arange(len(boxes))
    affine = AFFINES[name]
    write_boxes(
        path, boxes, scores=scores, labels=labels, affine=affine, format="nndetection"
    )  # fmt: skip
    found = read_boxes(path)
    assert_same(found, boxes, scores, labels, tolerance=1e-12)
    torch.testing.assert_close(found.affine, affine)


@pytest.mark.parametrize("name", list(FORMATS))
def test_no_boxes_are_normal_in_every_format_that_can_say_so(tmp_path, name):
    save_nifti(tmp_path / "scan.nii.gz", torch.zeros(4, 4, 4), AFFINES["plain"])
    path = tmp_path / f"a{FORMATS[name].suffix}"
    options = {"image": tmp_path / "scan.nii.gz"}
    none = torch.zeros(0, 6)
    write_boxes(path, none, scores=torch.zeros(0), case="a", format=name, **options)
    if name == "csv":  # a case without boxes has no row
        assert read_box_files(path) == {}
        return
    found = read_boxes(path, format=name, **options)
    assert found.boxes.shape == (0, 6)


@pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name].many])
def test_files_of_many_cases_keep_them_apart(tmp_path, name):
    files = {
        "sub-01": BoxFile(BOXES, SCORES, LABELS, AFFINES["plain"]),
        "sub-02": BoxFile(BOXES[1:], SCORES[1:], LABELS[1:], AFFINES["flipped"]),
    }
    path = tmp_path / f"all{FORMATS[name].suffix}"
    write_box_files(path, files, format=name)
    found = read_box_files(path)
    assert list(found) == list(files)
    for case, file in found.items():
        assert_same(
            file, files[case].boxes, files[case].scores, files[case].labels, tolerance=1e-11
        )
        assert file.case == case
    assert torch.equal(read_boxes(path, case="sub-02").scores, SCORES[1:])
    with pytest.raises(
        ValueError, match="holds 2 cases: name one with `case=`, .* got: sub-01, sub-02"
    ):
        read_boxes(path)
    with pytest.raises(ValueError, match="must hold the case 'sub-03'"):
        read_boxes(path, case="sub-03")


@pytest.mark.parametrize("name", [name for name in FORMATS if not FORMATS[name].many])
def test_a_format_of_one_case_refuses_two(tmp_path, name):
    one = BoxFile(BOXES, SCORES, LABELS, AFFINES["plain"])
    with pytest.raises(ValueError, match="must get one case, since its format cannot hold more"):
        write_box_files(tmp_path / f"a{FORMATS[name].suffix}", {"a": one, "b": one}, format=name)
    assert not list(tmp_path.iterdir())
