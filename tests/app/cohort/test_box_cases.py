"""Boxes of every format that tells itself, on grids that differ, and cohorts of them."""

from __future__ import annotations

import os

import pytest
import torch

from softoverlap.app.cohort import (
    CaseResult,
    ScorePair,
    ScoreSettings,
    find_pairs,
    score_case,
    score_cohort,
    summarize,
)
from softoverlap.app.cohort.box_grid import place_boxes
from softoverlap.app.cohort.methods import methods_text
from softoverlap.app.cohort.tables import LesionMatches
from softoverlap.images import BoxFile, write_boxes, write_markups
from softoverlap.measures import match_quality

AFFINE = torch.diag(torch.tensor([-1.0, 2.0, 1.5, 1.0], dtype=torch.float64))
BOXES = torch.tensor([[1.0, 2, 3, 4, 6, 7], [10, 10, 10, 12, 13, 14]]).double()
SCORES = torch.tensor([0.9, 0.4]).double()


def written(folder, kind):
    folder.mkdir(exist_ok=True)
    if kind == "slicer":
        write_markups(folder / "a.mrk.json", BOXES, AFFINE, scores=SCORES)
        return folder / "a.mrk.json"
    path = folder / ("a.npz" if kind == "nndetection" else "a.json")
    write_boxes(path, BOXES, scores=SCORES, affine=AFFINE, case="a")
    return path


@pytest.mark.parametrize("found", ["json", "slicer", "nndetection"])
@pytest.mark.parametrize("truth", ["json", "slicer", "nndetection"])
def test_boxes_of_every_format_that_tells_itself_are_scored(tmp_path, found, truth):
    paths = written(tmp_path / "pred", found), written(tmp_path / "truth", truth)
    (pair,) = find_pairs(*(path.parent for path in paths))
    result = score_case(ScorePair("a", paths[0], (paths[1],)))
    assert [row["box_iou"] for row in result.lesions] == pytest.approx([1.0, 1.0], abs=1e-5)
    volumes = [3 * (3 * 4 * 4), 3 * (2 * 3 * 4)]
    assert [row["volume_mm3"] for row in result.lesions] == pytest.approx(volumes, rel=1e-5)
    assert pair.error is None


@pytest.mark.bad_input
def test_millimetres_without_any_affine_are_an_error_that_names_both(tmp_path):
    write_boxes(tmp_path / "bare.json", BOXES, scores=SCORES)
    pair = ScorePair("a", tmp_path / "bare.json", (written(tmp_path, "slicer"),))
    with pytest.raises(ValueError, match=r"bare\.json must have an affine, since .*a\.mrk\.json"):
        score_case(pair)


def test_boxes_that_grow_on_a_grid_at_an_angle_are_told():
    angle = torch.tensor(0.5).double()
    turn = torch.eye(4, dtype=torch.float64)
    turn[0, 0] = turn[1, 1] = angle.cos()
    turn[0, 1], turn[1, 0] = -angle.sin(), angle.sin()
    file = BoxFile(torch.tensor([[0.0, 0, 0, 10, 10, 10]]).double(), affine=turn)
    placed = place_boxes(
        file, torch.eye(4), (20, 20, 20), geometry="resample", names=("found", "scan")
    )
    growth = (angle.cos() + angle.sin()) ** 2
    assert f"boxes became up to {growth:.3g} times as large" in "; ".join(placed.notes)
    same = place_boxes(file, turn, (20, 20, 20), geometry="resample", names=("found", "scan"))
    assert same.notes == ()


def test_boxes_outside_the_image_are_told():
    boxes = torch.tensor([[0.0, 0, 0, 2, 2, 2], [20, 0, 0, 22, 2, 2], [-3, 0, 0, 0, 1, 1]]).double()
    placed = place_boxes(
        BoxFile(boxes, affine=torch.eye(4).double()), torch.eye(4), (20, 20, 20),
        geometry="strict", names=("found", "scan"),
    )  # fmt: skip
    assert placed.notes == ("2 of 3 boxes of found lie outside scan",)


@pytest.mark.bad_input
def test_only_choices_that_work_are_offered():
    grid = torch.eye(4, dtype=torch.float64)
    grid[1, 3] = 3  # not the identity, which would look as if it was lost
    away = grid.clone()
    for shift, words in ((0.5, "index trusts the voxel grid"), (50.0, "resample")):
        away[0, 3] = shift
        file = BoxFile(BOXES, affine=away)
        with pytest.raises(ValueError, match=r"voxels off that of scan") as error:
            place_boxes(file, grid, (20, 20, 20), geometry="strict", names=("found", "scan"))
        assert words in str(error.value)
    assert "index" not in str(error.value)


def scan(case, score):
    """A case with one lesion, which is found with this score, or without one."""
    outcomes = match_quality(
        torch.ones(1, 1), torch.ones(1, 1).bool(), boxes=BOXES[:1],
        scores=None if score is None else torch.tensor([score]).double(),
        lesion_boxes=BOXES[:1], existence=[1.0], sizes=[48.0],
    )  # fmt: skip
    matches = LesionMatches("boxes", outcomes, [48.0], by_centre=outcomes)
    lesion = {"detected": True, "found_by_centre": True, "not_counted": None, "existence": 1.0}
    lesion |= {"case": case, "volume_mm3": 48.0, "score": score, "box_iou": 1.0}
    return CaseResult(
        case, [{"case": case, "lesions": 1}], [lesion], [{"case": case, **matches.as_dict()}]
    )


def test_fewer_than_five_patients_have_no_interval():
    found = summarize([scan("sub-1_a", 0.5), scan("sub-1_b", 0.4)])
    assert found["froc"]["cpm"] == 1.0
    assert "cpm_interval" not in found["froc"]
    four = summarize([scan("sub-1_a", 0.4), *(scan(name, 0.5) for name in ("sub-1_b", *"bcd"))])
    assert "cpm_interval" not in four["froc"]
    assert "no intervals, since fewer than 5 patients are too few" in methods_text(four)
    assert "cpm_interval" in summarize([scan("a", 0.4), *(scan(n, 0.5) for n in "bcde")])["froc"]


def test_cases_whose_boxes_have_no_scores_are_named():
    found = summarize([scan("a", 0.5), scan("b", None), scan("c", 0.1)])
    assert "froc" not in found
    assert found["no_curve"] == "Neither FROC nor CPM nor AP: boxes have no scores in b."


def test_equal_scores_are_a_point_and_no_curve():
    found = summarize([scan("a", 0.5), scan("b", 0.5)])
    assert "froc" not in found
    assert "average_precision" not in found
    assert found["no_curve"].endswith("all that was found has the same score.")
    assert found["operating_point"]["sensitivity"] == found["operating_point"]["f1"] == 1.0


def test_empty_masks_are_counted():
    volumes = {"a": (0.0, 0.0), "b": (0.0, 1.0), "c": (0.5, 0.5)}
    rows = [
        {"case": case, "pred_volume_ml": pred, "truth_volume_ml": truth}
        for case, (pred, truth) in volumes.items()
    ]
    assert summarize([CaseResult(row["case"], [row]) for row in rows])["n_empty"] == 1


def test_a_table_of_pairs_is_scored_as_it_is(tmp_path):
    paths = written(tmp_path / "pred", "json"), written(tmp_path / "truth", "json")
    table = find_pairs(*(path.parent for path in paths))
    result = score_cohort(table, tmp_path / "out", ScoreSettings())
    assert [one.case for one in result.results] == ["a"]


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_folders_behind_links_are_searched_once(tmp_path):
    paths = written(tmp_path / "pred", "json"), written(tmp_path / "elsewhere", "json")
    (tmp_path / "truth").mkdir()
    (tmp_path / "truth" / "deep").symlink_to(paths[1].parent)
    (tmp_path / "truth" / "deeper").symlink_to(paths[1].parent)
    paths[1].parent.joinpath("loop").symlink_to(tmp_path / "truth")
    (pair,) = find_pairs(paths[0].parent, tmp_path / "truth")
    assert pair.truth == (tmp_path / "truth" / "deep" / "a.json",)


def test_the_smallest_anchor_is_turned_with_the_boxes():
    """Of a detector whose images have the axes of the truth in another order."""
    swapped = torch.eye(4, dtype=torch.float64)[[2, 1, 0, 3]]
    file = BoxFile(BOXES, affine=swapped, smallest_anchor=(2.0, 4.0, 8.0))
    placed = place_boxes(
        file, torch.eye(4).double(), (20, 20, 20), geometry="strict", names=("a", "b")
    )
    assert placed.file.smallest_anchor == (8.0, 4.0, 2.0)
    low, high = placed.file.boxes.chunk(2, dim=1)
    assert (high - low).tolist() == [[4.0, 4.0, 3.0], [4.0, 3.0, 2.0]]
