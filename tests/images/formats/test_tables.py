"""Tables of boxes, and those beside label maps, are understood or refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from softoverlap.images import read_box_files, read_boxes, save_nifti

COLUMNS = "case,score,label,axis0_min,axis0_max,ignored"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{COLUMNS},units\na,,,1,2,,mm\n", "must have boxes in voxels, got units 'mm'"),
        (f"{COLUMNS},frame\na,,,1,2,,LPS\n", "must have boxes in voxels, got frame 'lps'"),
        (f"{COLUMNS},score\na,,,1,2,,1\n", "must have each column once, got 'score' twice"),
        (f"{COLUMNS},Score \na,,,1,2,,1\n", "must have each column once, got 'score' twice"),
        (f"{COLUMNS},Units\na,,,1,2,,mm\n", "must have boxes in voxels, got units 'mm'"),
        (f"{COLUMNS},coordinate_system\na,,,1,2,,LPS\n", "got coordinate_system 'lps'"),
        (f"{COLUMNS},axis1_max\na,,,1,2,,3\n", "must have the columns axis0_min, axis0_max, got"),
        (f"{COLUMNS}\n\n\na,,,1,x,\n", "must have a number as axis0_max in line 4, got 'x'"),
        (f'{COLUMNS}\n"a\nb",,,1,2,\nc,,,1,x,\n', "as axis0_max in line 4, got 'x'"),
        (f"{COLUMNS}\na,,1.5,1,2,\n", "must have a whole number as label in line 2, got '1.5'"),
        (f"{COLUMNS}\na,,1e0,1,2,\n", "must have a whole number as label"),
        (f"{COLUMNS}\na,,True,1,2,\n", "must have a whole number as label"),
        (f"{COLUMNS}\na,1_0,,1,2,\n", "must have a number as score in line 2, got '1_0'"),
        (f"{COLUMNS}\na,high,,1,2,\n", "must have a number as score in line 2"),
        (f"{COLUMNS}\na,inf,,1,2,\n", "must have finite numbers as score"),
        (f"{COLUMNS}\na,1,,1,2,\na,,,1,2,\n", "must have a score in all boxes or none"),
        (
            f"{COLUMNS}\na,,1{'0' * 400},1,2,\n",
            "must have numbers as label|finite numbers as label",
        ),
        (f"{COLUMNS}\na,,1{'0' * 5000},1,2,\n", "must have a whole number as label"),
        (f"{COLUMNS}\na,,,1,2,yes\n", "must have True or False as ignored in line 2, got 'yes'"),
        (f"{COLUMNS}\na,,,1,2,,3\n", "must have a cell for each column"),
        ('case,axis0_min,axis0_max\na,"1,5",2\n', "must have a number as axis0_min in line 2"),
    ],
)
def test_a_table_that_is_not_understood_is_refused(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_box_files(tmp_path / "a.csv")
    assert "\n" not in str(error.value)


def test_columns_are_compared_without_case_and_spaces_and_others_are_told(tmp_path):
    header = "Case, SCORE ,Label,axis0_min,axis0_max,Volume"
    (tmp_path / "a.csv").write_text(f"{header}\na,0.5,1,1,2,8\n")
    with pytest.warns(UserWarning, match=r"a\.csv: not read: 'volume'"):
        file = read_boxes(tmp_path / "a.csv")
    assert (file.case, file.scores.tolist(), file.labels.tolist()) == ("a", [0.5], [1])


def test_a_table_may_write_whole_numbers_as_pandas_does(tmp_path):
    (tmp_path / "a.csv").write_text(f"{COLUMNS},unit\na,1,1.0,1,2,1.0,voxel\na,1,2.0,1,2,0.0,\n")
    file = read_boxes(tmp_path / "a.csv")
    assert file.labels.tolist() == [1, 2]
    assert file.ignored.tolist() == [True, False]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("map.csv", "value,score,label\n7,0.5,1.5\n", "must have the columns value, score, label"),
        ("map.csv", "value,score,label\n7,0.5,1\n7,0.5,1\n", "must have one row per value"),
        ("map.csv", "value,score,label,label\n7,0.5,1,2\n", "must have each column once"),
        ("map.csv", "Value,Score,Label\n7,0.5,1.5\n", "must have the columns value"),
        ("map.json", '{"7": {"score": 0.5, "label": 1.5}}', "must have the columns value"),
        ("map.json", '{"7": {"score": true, "label": 1}}', "must have the columns value"),
        ("map.json", '{"7": {"score": NaN, "label": 1}}', "must have finite numbers as score"),
        ("map.json", '{"7": {"score": 0.5}, "7.0": {"score": 0.5}}', "one row per value"),
        ("map.json", '{"7": {"score": 0.5}, "7": {"score": 0.5}}', "the key '7' twice"),
        ("map.json", '{"instances": {"7": 0.5}}', "no whole number: 0.5"),
        ("map.json", '{"instances": {"7": null}}', "no whole number: None"),
        ("map.json", '{"instances": {"7": "lesion"}}', "no whole number: 'lesion'"),
        ("map.json", '{"instances": {"seven": 1}}', "must have the columns value"),
        ("map.json", '{"instances": {"8": 1}}', "a score for each value, got none for .7"),
        ("map.json", '{"instances": {"7": 0, "7": 1}}', "the key '7' twice"),
    ],
)
def test_a_table_of_a_label_map_that_is_not_understood_is_refused(tmp_path, name, text, message):
    labels = torch.zeros(4, 4, 4, dtype=torch.uint8)
    labels[1:3, 1, 1] = 7
    save_nifti(tmp_path / "map.nii.gz", labels, torch.eye(4))
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_boxes(tmp_path / "map.nii.gz")
    assert "map" in str(error.value)


@pytest.mark.parametrize("cell", ["1", "1.0", "1."])
def test_a_class_of_a_label_map_may_be_written_as_one_point_zero(tmp_path, cell):
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1:3, 1, 1] = 7
    save_nifti(tmp_path / "map.nii.gz", torch.from_numpy(labels), torch.eye(4))
    (tmp_path / "map.csv").write_text(f"value,score,label\n7.0,0.5,{cell}\n")
    assert read_boxes(tmp_path / "map.nii.gz").labels.tolist() == [1]


def test_volumes_of_the_table_of_boxes_are_known(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("case,score,axis0_min,axis0_max,volume_mm3\na,0.5,1,2,3.5\n")
    assert read_box_files(path)["a"].notes == ()
