"""Lesions that are neither found nor missed: by label, by existence, by the field of a file."""

from __future__ import annotations

import pytest
import torch

from softoverlap.app.cohort import (
    ScorePair,
    ScoreSettings,
    SummarySettings,
    check_label_maps,
    score_case,
    summarize,
)
from softoverlap.images import save_nifti
from tests.support.box_scans import box_file, mask_file, outcomes, scored

FIRST, SECOND, THIRD = [2, 2, 2, 8, 8, 8], [20, 2, 2, 26, 8, 8], [30, 14, 14, 36, 20, 20]
AWAY = [40, 2, 2, 44, 6, 6]
LABELS = {"truth_values": "labels"}


def found_boxes(tmp_path, boxes=(FIRST, SECOND, AWAY), scores=(0.9, 0.8, 0.7)):
    return box_file(tmp_path / "pred" / "a.json", list(boxes), scores=list(scores))


def label_map(tmp_path):
    return mask_file(tmp_path / "truth" / "a.nii.gz", [FIRST, SECOND, THIRD], value=[1, 2, 2])


def check(result, *, ignored=2):
    """One lesion counts and is found; of those ignored one is found; one box is false."""
    (row,) = result.rows
    assert (row["lesions"], row["lesion_recall"], row["false_positives"]) == (1, 1.0, 1)
    assert row["ignored_lesions"] == ignored
    reasons = [lesion["not_counted"] for lesion in result.lesions]
    assert sorted(map(str, reasons)) == ["None", *["ignored"] * ignored]
    score = None if row["kind"] == "masks" else 0.1
    summary = summarize([result], SummarySettings(resamples=20, at_score=score))
    assert summary["ignored"] == {"lesions": ignored, "found": 1, "boxes": 1}
    point = summary["operating_point"]
    assert (point["sensitivity"], point["hits"], summary["counts"]["lesions"]) == (1.0, 1, 1)
    return summary


def test_labels_of_a_label_map(tmp_path):
    result = scored(found_boxes(tmp_path), label_map(tmp_path), ignore=(2,), **LABELS)
    check(result)
    assert outcomes(result) == ["hit", "ignored", "false positive"]
    found = box_file(
        tmp_path / "pred" / "b.json", [FIRST, SECOND, AWAY], scores=[0.9, 0.8, 0.7], labels=[1] * 3
    )
    alone = scored(found, label_map(tmp_path), ignore=(2,), labels=(1,))
    assert outcomes(alone) == outcomes(result)


def test_labels_of_a_label_map_between_masks(tmp_path):
    pred = mask_file(tmp_path / "pred" / "a.nii.gz", [FIRST, SECOND, AWAY], value=[0.9, 0.8, 0.7])
    result = scored(pred, label_map(tmp_path), ignore=(2,), **LABELS)
    summary = check(result)
    assert outcomes(result) == ["hit", "ignored", "false positive"]
    assert summary["froc"]["lesions"] == 1
    perfect = mask_file(tmp_path / "pred" / "b.nii.gz", [FIRST, SECOND])
    row = scored(perfect, label_map(tmp_path), ignore=(2,), **LABELS).rows[0]
    assert row["soft_dice"] == row["lesionwise_dice"] == 1.0  # voxels of the label do not count


def test_labels_of_true_boxes(tmp_path):
    truth = box_file(tmp_path / "truth" / "a.json", [FIRST, SECOND, THIRD], labels=[1, 2, 2])
    check(scored(found_boxes(tmp_path), truth, ignore=(2,)))
    pred = mask_file(tmp_path / "pred" / "a.nii.gz", [FIRST, SECOND, AWAY], value=[0.9, 0.8, 0.7])
    result = scored(pred, truth, ignore=(2,))
    assert outcomes(result) == ["hit", "ignored", "false positive"]


def test_the_field_of_a_file_of_boxes(tmp_path):
    flags = torch.tensor([False, True, True])
    truth = box_file(tmp_path / "truth" / "a.json", [FIRST, SECOND, THIRD], ignored=flags)
    check(scored(found_boxes(tmp_path), truth))
    labelled = box_file(
        tmp_path / "truth" / "b.json", [FIRST, SECOND, THIRD], labels=[1, 1, 2],
        ignored=torch.tensor([False, True, False]),
    )  # fmt: skip
    check(scored(found_boxes(tmp_path), labelled, ignore=(2,)))


def raters_of(tmp_path, *masks):
    paths = []
    for number, boxes in enumerate(masks):
        paths.append(mask_file(tmp_path / "truth" / f"r{number}.nii.gz", boxes))
    return tuple(paths)


@pytest.mark.parametrize("pred", ["boxes", "mask"])
def test_lesions_that_few_raters_marked(tmp_path, pred):
    truths = raters_of(tmp_path, [FIRST, SECOND], [FIRST, THIRD], [FIRST])
    found = found_boxes(tmp_path)
    if pred == "mask":
        found = mask_file(tmp_path / "a.nii.gz", [FIRST, SECOND, AWAY], value=[0.9, 0.8, 0.7])
    pair = ScorePair("a", found, truths)
    check(score_case(pair, ScoreSettings(ignore_below_existence=0.5)))
    (row,) = score_case(pair, ScoreSettings(ignore_below_existence=1 / 3)).rows
    assert row["lesions"] == 3  # a third of the raters is enough


def test_what_one_rater_labels_as_ignored_is_ignored(tmp_path):
    truths = (
        mask_file(tmp_path / "r0.nii.gz", [FIRST, SECOND, THIRD], value=[1, 2, 2]),
        mask_file(tmp_path / "r1.nii.gz", [FIRST, SECOND]),
        mask_file(tmp_path / "r2.nii.gz", [FIRST]),
    )
    pair = ScorePair("a", found_boxes(tmp_path), truths)
    check(score_case(pair, ScoreSettings(ignore=(2,), **LABELS)))


@pytest.mark.parametrize("by", ["label", "existence"])
def test_an_ignored_lesion_below_the_smallest_volume_stays_ignored(tmp_path, by):
    small = [30, 14, 14, 32, 16, 16]
    if by == "label":
        truths = (mask_file(tmp_path / "t.nii.gz", [FIRST, SECOND, small], value=[1, 2, 2]),)
        settings = ScoreSettings(ignore=(2,), min_mm3=10.0, **LABELS)
    else:
        truths = raters_of(tmp_path, [FIRST, SECOND], [FIRST, small], [FIRST])
        settings = ScoreSettings(ignore_below_existence=0.5, min_mm3=10.0)
    found = found_boxes(tmp_path, [FIRST, small, AWAY])
    result = score_case(ScorePair("a", found, truths), settings)
    check(result)
    assert outcomes(result) == ["hit", "ignored", "false positive"]


def test_boxes_centred_in_an_ignored_lesion_are_not_false_however_many(tmp_path):
    inside = [[start, start, start, start + 1, start + 1, start + 1] for start in (3, 4, 5)]
    truth = label_map(tmp_path)
    moved = [[a + 18, b, c, d + 18, e, f] for a, b, c, d, e, f in inside]
    pred = found_boxes(tmp_path, [FIRST, *moved], [0.9, 0.8, 0.7, 0.6])
    result = scored(pred, truth, ignore=(2,), **LABELS)
    assert outcomes(result) == ["hit", "ignored", "ignored", "ignored"]
    options = SummarySettings(resamples=20, at_score=0.65)
    assert summarize([result], options)["ignored"] == {"lesions": 2, "found": 1, "boxes": 2}


def test_a_cohort_of_ignored_lesions_alone_has_no_sensitivity(tmp_path):
    truth = box_file(tmp_path / "truth" / "a.json", [FIRST], ignored=torch.tensor([True]))
    result = scored(found_boxes(tmp_path, [FIRST], [0.9]), truth)
    assert result.rows[0]["lesion_recall"] is None
    summary = summarize([result], SummarySettings(resamples=20))
    assert summary["operating_point"]["sensitivity"] is None
    assert summary["operating_point"]["rule"] == "all"  # nothing to choose a score by
    assert summary["ignored"] == {"lesions": 1, "found": 1, "boxes": 1}
    every = summarize([result], SummarySettings(resamples=20, at_score=0))
    assert every["ignored"] == {"lesions": 1, "found": 1, "boxes": 1}


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ignore": (1, 2), "labels": (2, 3)}, r"ignore must hold none of `labels=`, got \[2\]"),
        ({"ignore": (0,)}, r"ignore must be different and at least 1, got \[0\]"),
        ({"ignore": (2, 2)}, "ignore must be different and at least 1"),
        ({"ignore_below_existence": 1.5}, "ignore_below_existence must"),
        ({"max_lesion_mm": 0.0}, "max_lesion_mm must"),
    ],
)
def test_what_cannot_be_ignored_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        ScoreSettings(**settings)


@pytest.mark.bad_input
def test_labels_that_are_ignored_need_labels(tmp_path):
    truth = box_file(tmp_path / "truth" / "a.json", [FIRST])
    with pytest.raises(ValueError, match="must have labels to select them with `ignore=`, found"):
        scored(found_boxes(tmp_path), truth, ignore=(2,))
    settings = ScoreSettings(ignore=(2,), truth_values="probabilities")
    with pytest.raises(
        ValueError, match="ignore must be labels of a truth of `truth_values=` auto"
    ):
        check_label_maps(settings)
    save_nifti(tmp_path / "soft.nii.gz", torch.rand(8, 8, 8), torch.eye(4))
    with pytest.raises(ValueError, match="ignore must be labels"):
        score_case(ScorePair("a", found_boxes(tmp_path), (tmp_path / "soft.nii.gz",)), settings)


def test_a_small_ignored_lesion_beside_one_that_counts(tmp_path):
    """A predicted lesion that touches a small ignored one alone is left out of both sides."""
    pred = mask_file(tmp_path / "pred" / "a.nii.gz", [FIRST, SECOND])
    truth = mask_file(tmp_path / "truth" / "a.nii.gz", [FIRST, [20, 2, 2, 21, 3, 3]], value=[1, 2])
    settings = {"labels": (1,), "ignore": (2,), "min_mm3": 5.0, **LABELS}
    (row,) = scored(pred, truth, **settings).rows
    assert (row["lesions"], row["lesion_recall"], row["false_positives"]) == (1, 1.0, 0)
