"""How much of a lesion that is too large for a box the found boxes cover together."""

from __future__ import annotations

import pytest
import torch

from softoverlap.app.cohort import ScoreSettings, SummarySettings, summarize
from softoverlap.app.cohort.coverage import coverage
from softoverlap.app.cohort.marked import marked_by_boxes
from softoverlap.images import BoxFile
from tests.support.box_scans import as_boxes, box_file, mask_file, outcomes, scored

LARGE = [0, 0, 0, 40, 4, 4]  # 640 voxels
HALVES = [[0, 0, 0, 20, 4, 4], [10, 0, 0, 30, 4, 4]]  # 320 voxels each, 160 in common


def sides(lesion, boxes, scores=None, spacing=(1.0, 1.0, 1.0)):
    scores = None if scores is None else torch.tensor(scores, dtype=torch.float64)
    return (
        marked_by_boxes(BoxFile(as_boxes([lesion])), spacing=spacing),
        marked_by_boxes(BoxFile(as_boxes(boxes), scores), spacing=spacing),
    )


def test_boxes_cover_a_voxel_once_and_by_descending_score():
    truth, pred = sides(LARGE, HALVES[::-1], [0.3, 0.8])
    covered = coverage(truth, 0, pred)
    assert covered == {"volume_mm3": 640.0, "steps": [(0.8, 320.0), (0.3, 480.0)]}


def test_boxes_without_scores_all_count():
    assert coverage(*sides(LARGE, HALVES)[:1], 0, sides(LARGE, HALVES)[1])["steps"][-1] == (
        None, 480.0,
    )  # fmt: skip


def test_volumes_are_in_mm3_of_the_lesion_s_grid():
    truth, pred = sides(LARGE, HALVES[:1], [0.5], spacing=(2.0, 0.5, 3.0))
    assert coverage(truth, 0, pred) == {"volume_mm3": 3 * 640.0, "steps": [(0.5, 3 * 320.0)]}


@pytest.mark.parametrize(
    "lesion", [[0.3, 0, 0, 40.4, 4, 4], [0, 0, 0, 40.0000001, 4, 4], [-3, -1, 0, 37, 3, 4]]
)
def test_a_box_of_any_edges_covers_itself(lesion):
    truth, pred = sides(lesion, [lesion], [0.5])
    covered = coverage(truth, 0, pred)
    assert covered["steps"] == [(0.5, covered["volume_mm3"])]


def test_boxes_beside_the_lesion_cover_nothing():
    truth, pred = sides(LARGE, [[0, 10, 0, 40, 14, 4], [-9, 0, 0, 0, 4, 4], [39.6, 0, 0, 50, 4, 4]])
    assert coverage(truth, 0, pred)["steps"] == []


def test_what_is_covered_of_a_mask_is_weighed_by_its_probabilities(tmp_path):
    parts = [[0, 0, 0, 20, 4, 4], [20, 0, 0, 40, 4, 4]]
    truth = mask_file(tmp_path / "truth" / "a.nii.gz", parts, value=[1.0, 0.5])
    pred = box_file(tmp_path / "pred" / "a.json", parts[1:], scores=[0.5])
    row = scored(pred, truth).rows[0]
    assert row["too_large_lesions"] == 1
    assert row["too_large_covered"] == pytest.approx(160 / 480)


def scene(tmp_path, *, spacing=(1.0, 1.0, 1.0), **settings):
    """A large lesion and a small one; boxes in the large one, on the small one and on nothing."""
    truth = box_file(
        tmp_path / "truth" / "a.json", [LARGE, [0, 10, 10, 4, 14, 14]], spacing=spacing
    )
    boxes = [*HALVES, [0, 10, 10, 4, 14, 14], [30, 18, 18, 33, 21, 21]]
    pred = box_file(
        tmp_path / "pred" / "a.json", boxes, scores=[0.9, 0.3, 0.8, 0.7], spacing=spacing
    )
    return scored(pred, truth, **settings)


def test_a_lesion_too_large_for_a_box_is_reported_apart(tmp_path):
    result = scene(tmp_path)
    (row,) = result.rows
    assert (row["lesions"], row["lesions_found"], row["false_positives"]) == (1, 1, 1)
    assert (row["too_large_lesions"], row["too_large_covered"]) == (1, 480 / 640)
    assert outcomes(result) == ["ignored", "ignored", "hit", "false positive"]
    assert [lesion["not_counted"] for lesion in result.lesions] == ["too large", None]
    summary = summarize([result], SummarySettings(at_score=0.1))
    assert summary["too_large"] == {
        "lesions": 1, "max_lesion_mm": 32.0, "volume_covered": 480 / 640, "boxes": 2,
    }  # fmt: skip
    assert summary["counts"]["lesions"] == 1


def test_boxes_below_the_operating_point_cover_nothing(tmp_path):
    for score, covered, boxes in ((0.3, 480, 2), (0.31, 320, 1), (0.95, 0, 0)):
        summary = summarize([scene(tmp_path)], SummarySettings(at_score=score))
        assert summary["too_large"]["volume_covered"] == covered / 640
        assert summary["too_large"]["boxes"] == boxes
        assert summary["metrics"]["too_large_covered"]["mean"] == covered / 640


@pytest.mark.parametrize(
    ("spacing", "settings", "count"),
    [
        ((1.0, 1.0, 1.0), {}, 1),
        ((0.8, 1.0, 1.0), {}, 0),  # 32 mm long
        ((0.81, 1.0, 1.0), {}, 1),
        ((0.5, 9.0, 1.0), {}, 2),  # 36 mm across
        ((1.0, 1.0, 1.0), {"max_lesion_mm": 40.0}, 0),
        ((1.0, 1.0, 1.0), {"max_lesion_mm": 3.9}, 2),
        (None, {}, 1),  # a voxel counts as 1 mm
    ],
)
def test_edges_are_in_mm(tmp_path, spacing, settings, count):
    result = scene(tmp_path, spacing=spacing, **settings)
    assert result.rows[0].get("too_large_lesions") == count
    told = "a voxel counts as 1 mm" in (result.rows[0]["warning"] or "")
    assert told == (spacing is None)


def test_a_box_centred_in_a_large_lesion_counts_for_a_small_one_that_it_hits(tmp_path):
    small = [18, 1, 1, 22, 5, 5]
    truth = box_file(tmp_path / "truth" / "a.json", [LARGE, small])
    pred = box_file(tmp_path / "pred" / "a.json", [small, [17, 0, 0, 21, 4, 4]], scores=[0.9, 0.8])
    assert outcomes(scored(pred, truth)) == ["hit", "ignored"]


def test_masks_have_a_limit_only_where_one_is_asked_for(tmp_path):
    truth = mask_file(tmp_path / "truth" / "a.nii.gz", [LARGE])
    pred = mask_file(tmp_path / "pred" / "a.nii.gz", [HALVES[0]], value=0.9)
    assert scored(pred, truth).rows[0]["lesions"] == 1
    result = scored(pred, truth, max_lesion_mm=32.0)
    (row,) = result.rows
    assert (row["lesions"], row["false_positives"], row["pred_lesions"]) == (0, 0, 1)
    assert row["too_large_lesions"] == 1
    summary = summarize([result], settings=ScoreSettings(max_lesion_mm=32.0))
    assert summary["too_large"] == {
        "lesions": 1, "max_lesion_mm": 32.0, "volume_covered": None, "boxes": 1,
    }  # fmt: skip
