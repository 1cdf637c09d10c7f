"""What a summary says of found lesions beside its figures: what no box could find, sizes, rules."""

from __future__ import annotations

import pytest
import torch

from softoverlap.app.cohort import (
    ScorePair,
    ScoreSettings,
    SummarySettings,
    find_pairs,
    score_case,
    score_cohort,
    summarize,
)
from softoverlap.images import save_nifti
from softoverlap.measures import match_scan, operating_point
from tests.support.box_scans import affine_of, as_boxes, box_file, mask_file, scored

QUICK = SummarySettings(resamples=30)


def diagonal(folder, *, value=1.0):
    """A lesion that fills a tiny part of its box, and a cube."""
    mask = torch.zeros(24, 24, 24)
    for step in range(12):
        mask[step, step, step] = value
    mask[16:20, 16:20, 16:20] = 1
    folder.mkdir(parents=True, exist_ok=True)
    save_nifti(folder / "a.nii.gz", mask, affine_of((1.0, 1.0, 1.0)))
    return folder / "a.nii.gz"


@pytest.mark.parametrize(
    ("hit", "count"),
    [(None, 0), ("box_iou:1", 0), ("mask_box_iou:0.1", 1), ("mask_box_iou:0.001", 0),
     ("relative_mask_box_iou:0.1", 1), ("centre_in_mask:0.5", 0), ("any_voxel", 0)],
)  # fmt: skip
def test_lesions_that_not_even_their_own_box_could_hit_are_counted(tmp_path, hit, count):
    pred = box_file(tmp_path / "pred" / "a.json", [[16, 16, 16, 20, 20, 20]], scores=[0.9])
    result = scored(pred, diagonal(tmp_path / "truth"), hit=hit)
    assert result.rows[0].get("lesions_beyond_own_box") == (count or None)
    assert summarize([result], QUICK)["unreachable"]["own_box"] == count


@pytest.mark.parametrize(
    ("anchor", "hit_iou", "count"),
    [
        ((4.0, 4.0, 4.0), 0.1, 0),  # the tiny lesion has 1 of 8, a half of each edge
        ((5.0, 5.0, 4.0), 0.1, 1),  # 8 of 100
        ((4.0, 4.0, 4.0), 0.2, 1),
        ((12.0, 12.0, 12.0), 0.1, 2),  # neither has 173 of 1728
        ((1.0, 1.0, 1.0), 0.1, 0),  # all are larger, and other anchors are there for those
        (None, 0.1, None),
    ],
)
def test_lesions_below_the_smallest_anchor_are_counted(tmp_path, anchor, hit_iou, count):
    lesions = [[0, 0, 0, 2, 2, 2], [10, 10, 10, 14, 14, 14], [0, 0, 0, 40, 8, 8]]
    pred = box_file(tmp_path / "pred" / "a.json", lesions[:1], scores=[0.9], smallest_anchor=anchor)
    result = scored(pred, box_file(tmp_path / "truth" / "a.json", lesions), hit_iou=hit_iou)
    assert result.rows[0]["lesions_below_smallest_anchor"] == count
    assert summarize([result], QUICK)["unreachable"]["smallest_anchor"] == count


def test_equal_scores_are_a_point_without_a_curve(tmp_path):
    lesion, away = [2, 2, 2, 8, 8, 8], [20, 14, 14, 24, 18, 18]
    pred = box_file(tmp_path / "pred" / "a.json", [lesion, away], scores=[0.5, 0.5])
    result = scored(pred, box_file(tmp_path / "truth" / "a.json", [lesion]))
    summary = summarize([result], QUICK)
    assert summary["no_curve"] == (
        "Neither FROC nor CPM nor AP: all that was found has the same score."
    )
    assert not {"froc", "average_precision", "average_precision_iou"} & set(summary)
    point = summary["operating_point"]
    assert (point["threshold"], point["sensitivity"], point["precision"]) == (None, 1.0, 0.5)
    assert (point["rule"], point["optimistic"]) == ("all", False)  # there was nothing to choose
    hard = [mask_file(tmp_path / side / "b.nii.gz", [lesion]) for side in ("pred", "truth")]
    masks = summarize([score_case(ScorePair("b", hard[0], (hard[1],)))], QUICK)
    assert masks["no_curve"] == summary["no_curve"]
    assert masks["operating_point"]["f1"] == 1


@pytest.mark.parametrize(
    ("hit", "iou"), [(None, 0.1), ("box_iou:0.3", 0.3), ("centre_in_mask", None)]
)
def test_average_precision_names_its_iou_where_it_has_one(tmp_path, hit, iou):
    boxes = [[2, 2, 2, 8, 8, 8], [12, 2, 2, 18, 8, 8]]
    pred = box_file(tmp_path / "pred" / "a.json", boxes, scores=[0.9, 0.5])
    result = scored(pred, mask_file(tmp_path / "truth" / "a.nii.gz", boxes), hit=hit)
    settings = ScoreSettings(hit=hit)
    summary = summarize([result], QUICK, settings=settings)
    assert summary["average_precision"] == 1
    assert summary["average_precision_iou"] == iou
    assert summary["hit"]["criterion"] == (hit or "box_iou").partition(":")[0]


def test_sizes_have_both_figures_and_count_what_counts(tmp_path):
    small, large = [2, 2, 2, 4, 4, 4], [10, 2, 2, 18, 10, 10]  # 8 and 512 mm³
    beside = [3, 3, 3, 5, 5, 5]  # 1 of 15 voxels, 1.7 mm away
    missed, giant = [20, 14, 14, 22, 16, 16], [0, 20, 0, 48, 24, 4]
    pred = box_file(tmp_path / "pred" / "a.json", [beside, large], scores=[0.9, 0.8])
    truth = box_file(tmp_path / "truth" / "a.json", [small, large, missed, giant])
    summary = summarize([scored(pred, truth)], QUICK)
    assert summary["by_size"] == [
        {"size": "<10 mm³", "lesions": 2, "sensitivity": 0.0, "by_centre": 0.5},
        {"size": "100–1000 mm³", "lesions": 1, "sensitivity": 1.0, "by_centre": 1.0},
    ]
    assert summary["by_centre"]["sensitivity"] == 2 / 3
    assert summary["by_centre"]["words"].startswith("centre of the box within the larger of")


def test_sizes_are_left_out_where_volumes_are_unknown(tmp_path):
    paths = [box_file(tmp_path / s / "a.json", [[0, 0, 0, 4, 4, 4]], spacing=None) for s in "pt"]
    result = scored(*paths)
    assert "by_size" not in summarize([result], QUICK)
    assert "a voxel counts as 1 mm where lesions are too large" in result.rows[0]["warning"]


@pytest.mark.parametrize("by_table", [False, True])
def test_intervals_of_the_point_are_those_of_patients(tmp_path, by_table):
    """As the library draws them, choosing the threshold anew in each draw."""
    names = ["sub-1_run-1", "sub-1_run-2", *(f"sub-{number}_run-1" for number in range(2, 6))]
    lesion, away = [2, 2, 2, 8, 8, 8], [20, 14, 14, 24, 18, 18]
    scores = [(0.9, 0.8), (0.4, 0.6), (0.7, 0.1), (0.3, 0.5), (0.2, 0.1), (0.6, 0.7)]
    for case, own in zip(names, scores, strict=True):
        box_file(tmp_path / "pred" / f"{case}.json", [lesion, away], scores=list(own))
        box_file(tmp_path / "truth" / f"{case}.json", [lesion])
    owners = ["ann", "bob", "cat", "dan", "eve", "ann"] if by_table else [1, 1, 2, 3, 4, 5]
    table = dict(zip(names, owners, strict=True)) if by_table else None
    options = SummarySettings(resamples=100, patients=table)
    pairs = find_pairs(tmp_path / "pred", tmp_path / "truth").pairs
    point = score_cohort(pairs, tmp_path / "out", options=options).summary["operating_point"]
    target = {"box": as_boxes([lesion]), "label": torch.zeros(1)}
    outcomes = [
        match_scan(
            {"box": as_boxes([lesion, away]), "label": torch.zeros(2),
             "label_scores": torch.tensor(own, dtype=torch.float64)}, target,
        )
        for own in scores
    ]  # fmt: skip
    ends = operating_point(outcomes, "f1", patients=owners, resamples=100).interval
    for name in ("sensitivity", "precision", "f1", "fps_per_scan"):
        assert point[f"{name}_interval"] == pytest.approx(list(getattr(ends, name)))


def test_scans_of_one_patient_have_no_intervals(tmp_path):
    lesion = [2, 2, 2, 8, 8, 8]
    results = []
    for case in ("sub-1_a", "sub-1_b"):
        pred = box_file(tmp_path / "pred" / f"{case}.json", [lesion], scores=[0.9])
        truth = box_file(tmp_path / "truth" / f"{case}.json", [lesion])
        results.append(scored(pred, truth, case))
    summary = summarize(results, QUICK)
    assert "sensitivity_interval" not in summary["operating_point"]
    assert summary["counts"]["patients"] == 1


def test_missing_scans_are_counted_and_named(tmp_path):
    lesion = [2, 2, 2, 8, 8, 8]
    for case in "abc":
        box_file(tmp_path / "truth" / f"{case}.json", [lesion])
    box_file(tmp_path / "pred" / "a.json", [lesion], scores=[0.9])
    (tmp_path / "pred" / "b.json").write_text("no boxes")
    pairs = find_pairs(tmp_path / "pred", tmp_path / "truth").pairs
    summary = score_cohort(pairs, tmp_path / "out", options=QUICK).summary
    assert summary["counts"] == {
        "patients": 1, "scans": 1, "cases_failed": 2, "missing": ["c"], "lesions": 1,
    }  # fmt: skip
