"""One table with the boxes of all cases as a side: ours, and LUNA16's list in mm."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from softoverlap.app.cohort import ScoreSettings, find_pairs, score_case
from softoverlap.images import BoxFile, read_boxes, save_nifti, write_box_files, write_boxes
from tests.support.pairs import errors

AFFINE = torch.diag(torch.tensor([-1.0, 2.0, 1.5, 1.0], dtype=torch.float64))
NODULES = """seriesuid,coordX,coordY,coordZ,diameter_mm
1.3.6.8,10,-24,18,9
1.3.6.8,20,-40,30,6
1.3.6.9,10,-24,18,9
"""


@pytest.fixture
def nodules(tmp_path):
    path = tmp_path / "annotations.csv"
    path.write_text(NODULES)
    return path


def found_boxes(folder: Path, nodules: Path, *cases: str) -> Path:
    """Boxes as `detect` writes them, each perfect, or none where the list has no nodule."""
    folder.mkdir()
    listed = NODULES.split()
    for case in cases:
        boxes = torch.zeros(0, 6, dtype=torch.float64)
        if any(line.startswith(f"{case},") for line in listed):
            boxes = read_boxes(nodules, case=case, affine=AFFINE).boxes
        scores = torch.linspace(0.9, 0.5, len(boxes)).double()
        write_boxes(folder / f"{case}_boxes.json", boxes, scores=scores, affine=AFFINE, case=case)
    return folder


def found(pair, settings=None):
    row = score_case(pair, settings).rows[0]
    return row["lesions"], row["lesions_found"], row["false_positives"]


def test_a_list_of_luna16_is_the_truth_of_a_folder_of_boxes(tmp_path, nodules):
    folder = found_boxes(tmp_path / "found", nodules, "1.3.6.8", "1.3.6.7")
    table = find_pairs(folder, nodules)
    assert errors(table) == {"1.3.6.9": "no prediction"}
    assert {pair.case: found(pair) for pair in table.matched} == {
        "1.3.6.7": (0, 0, 0),
        "1.3.6.8": (2, 2, 0),
    }
    (without,) = [pair for pair in table.matched if pair.case == "1.3.6.7"]
    assert "counts as no boxes" in str(score_case(without).rows[0]["warning"])


def test_a_list_of_luna16_is_the_truth_of_masks(tmp_path, nodules):
    mask = torch.zeros(60, 40, 40)
    for box in read_boxes(nodules, case="1.3.6.8", affine=AFFINE).boxes.round().int().tolist():
        mask[tuple(slice(low, high) for low, high in zip(box[:3], box[3:], strict=True))] = 1
    (tmp_path / "pred").mkdir()
    save_nifti(tmp_path / "pred/1.3.6.8.nii.gz", mask, AFFINE)
    table = find_pairs(tmp_path / "pred", nodules)
    assert [found(pair) for pair in table.matched] == [(2, 2, 0)]


def test_two_lists_are_compared_in_mm_and_case_by_case(tmp_path, nodules):
    results = tmp_path / "predictions.csv"
    head, first, *_ = NODULES.split()
    results.write_text(f"{head},probability\n{first},0.9\n")
    pairs = find_pairs(results, nodules).matched
    assert [found(pair) for pair in pairs] == [(2, 1, 0), (1, 0, 0)]


def test_of_two_files_the_list_is_read_for_the_case_of_the_other(tmp_path, nodules):
    folder = found_boxes(tmp_path / "found", nodules, "1.3.6.8")
    (pair,) = find_pairs(folder / "1.3.6.8_boxes.json", nodules).pairs
    assert (pair.case, found(pair)) == ("1.3.6.8", (2, 2, 0))


def test_a_table_of_ours_is_a_side_too(tmp_path):
    boxes = {case: torch.tensor([[1.0, 2, 3, 4, 6, 7]]).double() for case in ("a", "b")}

    files = {case: BoxFile(box, torch.ones(1).double()) for case, box in boxes.items()}
    write_box_files(tmp_path / "all.csv", files)
    (tmp_path / "truth").mkdir()
    for case, box in boxes.items():
        write_boxes(tmp_path / f"truth/{case}.json", box, affine=AFFINE, case=case)
    pairs = find_pairs(tmp_path / "all.csv", tmp_path / "truth").matched
    assert [(pair.case, found(pair)) for pair in pairs] == [("a", (1, 1, 0)), ("b", (1, 1, 0))]


@pytest.mark.bad_input
def test_a_list_without_the_cases_of_the_other_side_is_an_error(tmp_path, nodules):
    folder = found_boxes(tmp_path / "found", nodules, "other")
    with pytest.raises(ValueError, match="must share at least one case") as error:
        find_pairs(folder, nodules)
    assert "{case}" in str(error.value)


@pytest.mark.bad_input
def test_a_table_that_names_no_case_is_no_side(tmp_path, nodules):
    folder = found_boxes(tmp_path / "found", nodules, "1.3.6.8")
    (tmp_path / "bare.csv").write_text("axis0_min,axis0_max\n0,1\n")
    with pytest.raises(FileNotFoundError, match="must be a folder"):
        find_pairs(folder, tmp_path / "bare.csv")


POINTS = "seriesuid,coordX,coordY,coordZ,probability\n1.3.6.8,11,-24,18,0.9\n1.3.6.8,0,0,0,0.8\n"


def test_points_are_found_in_masks_by_distance(tmp_path, nodules):
    mask = torch.zeros(60, 40, 40)
    for box in read_boxes(nodules, case="1.3.6.8", affine=AFFINE).boxes.round().int().tolist():
        mask[tuple(slice(low, high) for low, high in zip(box[:3], box[3:], strict=True))] = 1
    (tmp_path / "truth").mkdir()
    save_nifti(tmp_path / "truth/1.3.6.8.nii.gz", mask, AFFINE)
    (tmp_path / "found.csv").write_text(POINTS)
    (pair,) = find_pairs(tmp_path / "found.csv", tmp_path / "truth").matched
    for hit in ("ball_centreness", "centre_within_radius", "centre_in_mask"):
        assert found(pair, ScoreSettings(hit=hit)) == (2, 1, 1)


def test_cases_that_neither_list_names_are_scans_without_boxes(tmp_path, nodules):
    (tmp_path / "found.csv").write_text(POINTS)
    names = ["1.3.6.8", "1.3.6.1"]
    table = find_pairs(tmp_path / "found.csv", nodules, cases=names)
    assert [pair.case for pair in table.matched] == sorted(names)
    distance = ScoreSettings(hit="ball_centreness")
    assert [found(pair, distance) for pair in table.matched] == [(0, 0, 0), (2, 1, 1)]
    assert [file.reason for file in table.passed_by] == ["not among the listed cases: 1.3.6.9"]


def test_of_a_folder_the_listed_cases_are_scored(tmp_path, nodules):
    folder = found_boxes(tmp_path / "found", nodules, "1.3.6.8", "1.3.6.7")
    table = find_pairs(folder, nodules, cases=["1.3.6.8", "1.3.6.5"])
    assert errors(table) == {"1.3.6.5": "no prediction"}
    assert [pair.case for pair in table.matched] == ["1.3.6.8"]
    assert {file.path.name for file in table.passed_by} == {"1.3.6.7_boxes.json", nodules.name}


@pytest.mark.bad_input
def test_a_point_that_cannot_be_scored_names_its_case(tmp_path, nodules):
    (tmp_path / "found.csv").write_text(POINTS + "1.3.6.9,0,0,0,0.8\n")
    pair = next(p for p in find_pairs(tmp_path / "found.csv", nodules) if p.case == "1.3.6.9")
    with pytest.raises(ValueError, match=r"got a point in 1\.3\.6\.9: a point has no size"):
        score_case(pair)
    nodules.write_text(NODULES.replace("18,9\n1.3.6.8", "18,0\n1.3.6.8"))
    case = {pair.case: pair for pair in find_pairs(tmp_path / "found.csv", nodules)}
    distance = ScoreSettings(hit="ball_centreness")
    with pytest.raises(ValueError, match=r"as it is the truth, got a point in 1\.3\.6\.8"):
        score_case(case["1.3.6.8"], distance)
    assert found(case["1.3.6.9"], distance) == (1, 0, 1)


@pytest.mark.bad_input
def test_a_list_in_mm_beside_one_without_an_affine_names_the_case(tmp_path, nodules):
    files = {"1.3.6.9": BoxFile(torch.tensor([[1.0, 2, 3, 4, 6, 7]]).double())}
    write_box_files(tmp_path / "all.csv", files)
    pair = next(p for p in find_pairs(nodules, tmp_path / "all.csv") if p.case == "1.3.6.9")
    with pytest.raises(ValueError, match=r"annotations\.csv needs the affine of 1\.3\.6\.9, since"):
        score_case(pair)
