"""What hits a lesion: every criterion that `hit` takes, between boxes and masks of each kind."""

from __future__ import annotations

import pytest

from softoverlap.app.cohort import CRITERIA, ScoreSettings
from softoverlap.app.cohort.hit_rule import hit_of_boxes, hit_words, why_not_counted
from softoverlap.measures import CRITERION_NOTES, Hit, centre_within_radius
from softoverlap.overlaps import box_iou, mask_box_dice
from tests.support.box_scans import box_file, mask_file, outcomes, scored

LESION, FAR = [4, 4, 4, 10, 10, 10], [30, 15, 15, 36, 21, 21]
OF_MASKS = [name for name in CRITERIA if "mask" in name]


@pytest.fixture
def files(tmp_path):
    """One lesion as a mask and as a box; found boxes and a found mask on it and far away."""
    found = [LESION, FAR]
    return {
        "mask": mask_file(tmp_path / "truth" / "a.nii.gz", [LESION], value=0.8),
        "box": box_file(tmp_path / "truth" / "a.json", [LESION]),
        "found boxes": box_file(tmp_path / "pred" / "a.json", found, scores=[0.9, 0.8]),
        "found mask": mask_file(tmp_path / "pred" / "a.nii.gz", found, value=[0.9, 0.8]),
    }


def test_the_criteria_are_those_that_have_a_note():
    assert set(CRITERIA) == set(CRITERION_NOTES)


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("found", ["found boxes", "found mask"])
def test_every_criterion_finds_a_lesion_of_a_mask_and_nothing_far_away(files, name, found):
    result = scored(files[found], files["mask"], hit=name)
    (row,) = result.rows
    assert (row["lesions_found"], row["false_positives"]) == (1, 1)
    assert sorted(outcomes(result)) == ["false positive", "hit"]
    assert row.get("lesions_beyond_own_box") is None


@pytest.mark.parametrize("name", sorted(set(CRITERIA) - set(OF_MASKS)))
@pytest.mark.parametrize("found", ["found boxes", "found mask"])
def test_criteria_of_boxes_find_a_lesion_that_is_a_box(files, name, found):
    (row,) = scored(files[found], files["box"], hit=name).rows
    assert (row["lesions_found"], row["false_positives"]) == (1, 1)


@pytest.mark.bad_input
@pytest.mark.parametrize("name", OF_MASKS)
def test_criteria_of_masks_need_masks_of_the_truth(files, name):
    with pytest.raises(ValueError, match=rf"hit must be a criterion of boxes .* got '{name}'"):
        scored(files["found boxes"], files["box"], hit=name)


@pytest.mark.parametrize(
    ("hit", "found"),
    [("box_iou:0.6", 1), ("box_iou:0.61", 0), ("box_dice:0.75", 1), ("box_dice:0.76", 0)],
)
def test_a_threshold_is_met_or_not(tmp_path, hit, found):
    truth = box_file(tmp_path / "truth" / "a.json", [[0, 0, 0, 4, 4, 4]])
    pred = box_file(tmp_path / "pred" / "a.json", [[1, 0, 0, 5, 4, 4]])  # 48 of 80 voxels
    result = scored(pred, truth, hit=hit)
    assert result.rows[0]["lesions_found"] == found
    assert result.lesions[0]["box_iou"] == (pytest.approx(0.6) if found else 0.0)
    if hit.startswith("box_iou"):
        assert scored(pred, truth, hit_iou=float(hit[8:])).lesions == result.lesions


@pytest.mark.parametrize(("off", "detected", "by_centre"), [(1, False, True), (2, False, False)])
def test_a_tiny_lesion_is_found_by_a_centre_within_2_mm(tmp_path, off, detected, by_centre):
    truth = box_file(tmp_path / "truth" / "a.json", [[10, 10, 10, 14, 14, 13]])
    moved = [edge + off for edge in (10, 10, 10, 14, 14, 13)]
    pred = box_file(tmp_path / "pred" / "a.json", [moved])
    (lesion,) = scored(pred, truth, hit="box_iou:0.3").lesions
    assert (lesion["detected"], lesion["found_by_centre"]) == (detected, by_centre)


def test_any_voxel_is_anything_in_common(tmp_path):
    corner = [9, 9, 9, 30, 20, 20]  # one voxel of the lesion
    mask = mask_file(tmp_path / "truth" / "a.nii.gz", [LESION])
    box = box_file(tmp_path / "truth" / "a.json", [LESION])
    pred = box_file(tmp_path / "pred" / "a.json", [corner, [10, 10, 10, 30, 20, 20]])
    for truth in (mask, box):
        assert outcomes(scored(pred, truth)) == ["false positive"] * 2
        assert outcomes(scored(pred, truth, hit="any_voxel")) == ["hit", "false positive"]


def test_between_masks_any_voxel_is_the_rule(files):
    alone, named = (
        scored(files["found mask"], files["mask"], hit=hit) for hit in (None, "any_voxel")
    )
    assert named.rows == alone.rows
    assert named.lesions == alone.lesions
    assert "box_iou" not in named.lesions[0]


def test_between_masks_another_rule_is_one_of_tight_boxes(tmp_path):
    whole = [2, 2, 2, 46, 12, 12]  # longer than a box is asked to find
    truth = mask_file(tmp_path / "truth" / "a.nii.gz", [whole, [20, 18, 18, 23, 21, 21]])
    pred = mask_file(
        tmp_path / "pred" / "a.nii.gz", [whole, [22, 20, 20, 30, 24, 24]], value=[0.9, 0.7]
    )
    touched = scored(pred, truth)
    assert touched.rows[0]["lesions_found"] == 2  # the second by a voxel
    result = scored(pred, truth, hit="box_iou:0.1")
    (row,) = result.rows
    assert row["kind"] == "masks"
    assert (row["lesions"], row["lesions_found"], row["false_positives"]) == (2, 1, 1)
    assert [lesion["box_iou"] for lesion in result.lesions] == [1.0, 0.0]
    shorter = scored(pred, truth, hit_iou=0.2)
    assert shorter.lesions == scored(pred, truth, hit="box_iou:0.2").lesions
    assert shorter.rows[0]["false_positives"] == 1
    assert row["soft_dice"] == touched.rows[0]["soft_dice"]
    assert "lesion_dice" not in row  # of masks that touch
    assert scored(pred, truth, hit="box_iou:0.1", max_lesion_mm=32).rows[0]["lesions"] == 1


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("hit", "words"),
    [
        ("iou", r"hit must be one of box_iou, .*centre_within_radius, any_voxel, got 'iou'"),
        ("", "hit must be one of box_iou, "),
        ("box_uoi:0.3", r"got 'box_uoi'; did you mean box_iou\?"),
        ("mask_iou:0.3", "hit must be one of box_iou, .* got 'mask_iou'"),
        ("box_iou:", "hit must be NAME or NAME:THRESHOLD, got 'box_iou:'"),
        ("box_iou:half", "hit must be NAME or NAME:THRESHOLD, got 'box_iou:half'"),
        ("box_iou:0", r"got 'box_iou:0': threshold must be an IoU in \(0, 1\]"),
        ("box_iou:1.5", r"got 'box_iou:1.5': threshold must be an IoU in \(0, 1\]"),
        ("centre_in_mask:2", r"threshold must be a score in \(0, 1\], got 2"),
        ("box_iou:nan", r"got 'box_iou:nan'"),
        ("any_voxel:0.5", "hit must be any_voxel without a threshold, got 'any_voxel:0.5'"),
    ],
)
def test_what_is_no_rule_is_refused(hit, words):
    with pytest.raises(ValueError, match=words):
        ScoreSettings(hit=hit)


@pytest.mark.bad_input
def test_one_rule_is_given_once():
    with pytest.raises(ValueError, match=r"hit must be left out where `hit_iou=` is given"):
        ScoreSettings(hit="box_dice", hit_iou=0.3)


@pytest.mark.parametrize(
    ("settings", "hit"),
    [
        ({}, Hit(box_iou, 0.1)),
        ({"hit_iou": 0.3}, Hit(box_iou, 0.3)),
        ({"hit": "box_iou"}, Hit(box_iou, 0.1)),
        ({"hit": "mask_box_dice:0.4"}, Hit(mask_box_dice, 0.4)),
        ({"hit": "relative_mask_box_dice:0.4"}, Hit(mask_box_dice, 0.4, relative=True)),
        ({"hit": "centre_within_radius"}, Hit(centre_within_radius, 0.5)),
    ],
)
def test_the_rule_of_boxes_is_the_library_s(settings, hit):
    assert hit_of_boxes(ScoreSettings(**settings)) == hit


TIGHT = "with the lesion's tight box (mask cut at"
COMMON = "at least one voxel in common between predicted and true lesion (both cut at 0.5)"
PART = "box and lesion, its soft edge included, have a part in common"
RADIUS = "centre of the box within the larger of the lesion's radius and 2 mm"


@pytest.mark.parametrize(
    ("settings", "threshold", "words"),
    [
        ({}, 0.1, f"box IoU of at least 0.1 {TIGHT} 0.5)"),
        ({"hit_iou": 0.5, "threshold": 0.3}, 0.5, f"box IoU of at least 0.5 {TIGHT} 0.3)"),
        ({"hit": "any_voxel"}, None, PART),
        ({"hit": "centre_within_radius"}, 0.5, RADIUS),
        (
            {"hit": "centre_within_radius:0.4"}, 0.4,
            "centre within radius of at least 0.4 (masks cut at 0.5)",
        ),
        (
            {"hit": "relative_mask_box_dice:0.4"}, 0.4,
            "relative mask box dice of at least 0.4 (masks cut at 0.5)",
        ),
    ],
)  # fmt: skip
def test_the_rule_is_said_in_words(settings, threshold, words):
    name = settings.get("hit", "box_iou").partition(":")[0]
    told = hit_words(ScoreSettings(**settings), boxes=True)
    assert told == {"criterion": name, "threshold": threshold, "words": words}


def test_the_rule_between_masks_is_said_in_words():
    told = hit_words(ScoreSettings(), boxes=False)
    assert told == {"criterion": "any_voxel", "threshold": None, "words": COMMON}


@pytest.mark.parametrize(
    ("longest", "existence", "boxes", "reason"),
    [
        (32.0, 1.0, True, ""),
        (32.00001, 1.0, True, ""),  # an affine of float32
        (32.1, 1.0, True, "too large"),
        (320.0, 1.0, False, ""),
        (1.0, 0.5, True, ""),
        (1.0, 0.4, True, "ignored"),
        (99.0, 0.4, True, "ignored"),
    ],
)
def test_a_lesion_counts_or_there_is_a_reason(longest, existence, boxes, reason):
    settings = ScoreSettings(ignore_below_existence=0.5)
    assert why_not_counted(longest, existence, settings, boxes=boxes) == reason
