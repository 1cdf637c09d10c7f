"""Label maps: boxes, soft crops, and tables that do not fit."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
import torch

from softoverlap.images import read_boxes, read_label_map, save_nifti, write_boxes
from tests.support.box_makers import AFFINES, LABELS, SCORES, assert_same, label_map


def test_label_maps_give_boxes_and_soft_crops(tmp_path):
    values = np.zeros((6, 6, 6))
    values[1:3, 2:5, 3] = 300
    values[4, 4, 4] = values[5, 5, 5] = 2  # one lesion of two parts
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    path = tmp_path / "a.nii.gz"
    label_map(path, values, affine)
    assert read_boxes(path).scores is None
    (tmp_path / "a.csv").write_text("value,score,label\n300,0.5,1\n2,0.25,0\n")
    found = read_boxes(path)
    assert found.boxes.tolist() == [[4, 4, 4, 6, 6, 6], [1, 2, 3, 3, 5, 4]]
    assert found.scores.tolist() == [0.25, 0.5]
    assert found.labels.tolist() == [0, 1]
    second, first = read_label_map(path)
    assert first.volume_mm3 == 6 * 6 * 0.5
    assert first.centre.tolist() == [2.0, 3.5, 3.5]
    assert torch.equal(first.crop, torch.full((2, 3, 1), 0.5))
    assert (first.label, first.offset.tolist()) == (1, [1, 2, 3])
    assert second.crop.sum() == 0.5
    assert second.crop[0, 0, 0] == 0.25
    assert second.crop[0, 1, 0] == 0
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"300": {"score": 1.0, "label": 0}, "2": {"score": 0, "label": 0}}))
    assert read_boxes(path, score_table=other).scores.tolist() == [0.0, 1.0]
    assert read_label_map(path, scores=other)[0].crop.sum() == 0


def test_whole_boxes_that_do_not_overlap_read_back_from_a_label_map(tmp_path):
    save_nifti(tmp_path / "scan.nii.gz", torch.zeros(9, 8, 7), AFFINES["oblique"])
    boxes = torch.tensor([[0.0, 0, 0, 2, 3, 4], [5, 5, 5, 9, 8, 7]], dtype=torch.float64)
    path, scan = tmp_path / "b_boxes.nii.gz", tmp_path / "scan.nii.gz"
    write_boxes(path, boxes, scores=SCORES, labels=LABELS, image=scan)
    assert_same(read_boxes(path), boxes)
    assert read_boxes(path).case == "b"
    boxes[1] = torch.tensor([0.0, 0, 0, 2, 3, 4])
    with (
        pytest.warns(UserWarning, match="1 box of b has no voxel of its own: number 1"),
        pytest.warns(UserWarning, match="2 boxes of b overlap and lose voxels .* number 1, 2"),
    ):
        write_boxes(path, boxes, scores=SCORES, image=scan)
    with pytest.warns(UserWarning, match="lists values without a voxel: 1"):
        assert read_boxes(path).scores.tolist() == SCORES[1:].tolist()  # the higher score won


def test_boxes_that_overlap_are_named_where_a_label_map_is_written_and_others_are_not(tmp_path):
    save_nifti(tmp_path / "scan.nii.gz", torch.zeros(9, 9, 9), torch.eye(4))
    apart, first, second = [6.0, 6, 6, 9, 9, 9], [0.0, 0, 0, 3, 3, 3], [2.0, 2, 2, 5, 5, 5]
    touching = [3.0, 0, 0, 5, 2, 2]  # a face in common, no voxel
    boxes, path = torch.tensor([apart, first, second, touching]), tmp_path / "c.nii.gz"
    with pytest.warns(UserWarning, match="overlap") as caught:
        write_boxes(path, boxes, image=tmp_path / "scan.nii.gz")
    assert [str(one.message) for one in caught] == [
        f"{path}: 2 boxes of c overlap and lose voxels to those of higher score: number 2, 3"
    ]


def test_a_label_map_paints_the_voxels_whose_centre_a_box_holds(tmp_path):
    save_nifti(tmp_path / "scan.nii.gz", torch.zeros(5, 5, 5), torch.eye(4))
    box = torch.tensor([[0.5, 0.51, -3.0, 2.5, 2.51, 9.0]])
    path = tmp_path / "a.nii.gz"
    with pytest.warns(
        UserWarning, match="1 box of a reaches beyond the scan and was cut: number 1"
    ):
        write_boxes(path, box, image=tmp_path / "scan.nii.gz")
    assert read_boxes(path).boxes.tolist() == [[0, 1, 0, 2, 3, 5]]


def test_boxes_that_the_edge_of_the_scan_cuts_are_named_and_those_within_are_not(tmp_path):
    save_nifti(tmp_path / "scan.nii.gz", torch.zeros(5, 5, 5), torch.eye(4))
    inside = [-0.4, 0.0, 0.0, 2.0, 2.0, 5.4]  # by its whole voxels
    low, high, gone = [-2.0, 0, 0, 2, 2, 2], [3.0, 3, 3, 4, 6, 4], [7.0, 7, 7, 9, 9, 9]
    boxes, path = torch.tensor([low, inside, high, gone]), tmp_path / "a_boxes.nii.gz"
    with pytest.warns(UserWarning, match=": number ") as caught:
        write_boxes(
            path,
            boxes,
            scores=torch.tensor([0.1, 0.2, 0.3, 0.4]),
            image=tmp_path / "scan.nii.gz",
            case="a",
        )
    said = [str(one.message).removeprefix(f"{path}: ") for one in caught]
    assert said == [
        "3 boxes of a reach beyond the scan and were cut: number 1, 3, 4",
        "2 boxes of a overlap and lose voxels to those of higher score: number 1, 2",
        "2 boxes of a have no voxel of their own: number 1, 4",
    ]


def test_lesions_of_a_sheared_label_map_have_the_volume_of_its_voxels(tmp_path):
    sheared = np.diag([1.0, 2.0, 1.5, 1.0])
    sheared[0, 1] = 1.5  # 3 mm³ a voxel, though the product of its edges is 3.75
    values = np.zeros((6, 6, 6))
    values[1:3, 2:5, 3] = 1
    label_map(tmp_path / "a.nii.gz", values, sheared)
    (lesion,) = read_label_map(tmp_path / "a.nii.gz")
    assert lesion.volume_mm3 == pytest.approx(6 * 3.0)


def test_a_label_map_that_cannot_be_written_leaves_map_and_table_as_they_were(
    tmp_path, monkeypatch
):
    save_nifti(tmp_path / "scan.nii.gz", torch.zeros(9, 8, 7), torch.eye(4))
    path, boxes = tmp_path / "b.nii.gz", torch.tensor([[0.0, 0, 0, 2, 3, 4]])
    options = {"image": tmp_path / "scan.nii.gz"}
    write_boxes(path, boxes, scores=torch.tensor([0.25]), **options)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(nibabel, "save", full)
    with pytest.raises(OSError, match="no space left"):
        write_boxes(path, boxes, scores=torch.tensor([0.75]), **options)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("value,score\n1,0.5\n", r"must have a score for each value, got none for \{2\}"),
        ("value,score\n1,0.5\n1,0.5\n2,1\n", r"must have one row per value, got two for 1"),
        ("value,score\n1,high\n2,1\n", "must have the columns value, score, label, got"),
        ("id,score\n1,1\n2,1\n", "must have the columns value, score, label, got"),
        ("value,score\n1,\n2,1\n", "must have a score in all boxes or none, got 1"),
        ("value,score\n1,nan\n2,1\n", "must have finite numbers as score"),
    ],
)
def test_a_table_that_does_not_fit_its_label_map_is_named(tmp_path, table, message):
    values = np.zeros((3, 3, 3))
    values[0], values[1] = 1, 2
    label_map(tmp_path / "a.nii.gz", values)
    (tmp_path / "a.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        read_boxes(tmp_path / "a.nii.gz")


def test_a_soft_map_is_no_label_map(tmp_path):
    save_nifti(tmp_path / "a.nii.gz", torch.full((3, 3, 3), 0.5), torch.eye(4))
    with pytest.raises(ValueError, match=r"a\.nii\.gz must hold whole numbers, as a label map"):
        read_boxes(tmp_path / "a.nii.gz")
    label_map(tmp_path / "b.nii.gz", np.ones((3, 3, 3)))
    (tmp_path / "b.csv").write_text("value,score\n1,1.5\n")
    with pytest.raises(ValueError, match=r"must have scores in \[0, 1\] for soft crops, got 1.5"):
        read_label_map(tmp_path / "b.nii.gz")
    with pytest.raises(FileNotFoundError, match=r"gone\.csv must be the table of"):
        read_boxes(tmp_path / "b.nii.gz", score_table=tmp_path / "gone.csv")


@pytest.mark.parametrize("name", ["C.CSV", "C.JSON", "C.csv"])
def test_the_table_of_a_label_map_may_be_in_capitals(tmp_path, name):
    values = np.zeros((6, 6, 6))
    values[1, 2, 3] = 1
    label_map(tmp_path / "C.NII.GZ", values, np.eye(4))
    text = "value,score\n1,0.5\n" if name.lower().endswith("csv") else '{"1": {"score": 0.5}}'
    (tmp_path / name).write_text(text)
    assert read_boxes(tmp_path / "C.NII.GZ").scores.tolist() == [0.5]
