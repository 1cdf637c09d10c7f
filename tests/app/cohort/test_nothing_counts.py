"""What a summary says where no lesion, box or score is left to count, or cases differ in kind."""

from __future__ import annotations

import pytest
import torch

from softoverlap.app.cohort import CaseResult, ScoreSettings, SummarySettings, summarize
from softoverlap.app.cohort.box_lesions import box_lesions
from softoverlap.app.cohort.marked import marked_by_boxes
from softoverlap.app.cohort.mask_lesions import mask_lesions
from softoverlap.app.cohort.methods import methods_text
from softoverlap.app.cohort.records import plain_result
from softoverlap.images import BoxFile

SMALL, FAR, HUGE = [0.0, 0, 0, 4, 4, 4], [50.0, 50, 50, 54, 54, 54], [0.0, 0, 0, 40, 8, 8]


def marked(*boxes, scores=None):
    scores = None if scores is None else torch.tensor(scores).double()
    file = BoxFile(torch.tensor(boxes).double().reshape(-1, 6), scores)
    return marked_by_boxes(file, spacing=(1.0, 1.0, 1.0))


def of_tables(case, tables):
    row = {"case": case, **tables.columns}
    lesions = [{"case": case, **lesion} for lesion in tables.lesions]
    matches = [{"case": case, **tables.matches.as_dict()}]
    return plain_result(CaseResult(case, [row], lesions, matches))


def scored(pred, truth, options=None):
    tables = box_lesions(pred, truth, settings=ScoreSettings())
    return summarize([of_tables("a", tables)], options)


def test_where_no_lesion_counts_all_boxes_do():
    """No score can be chosen, but false positives and what is covered are known."""
    found = marked(FAR, [0.0, 0, 0, 20, 8, 8], scores=[0.9, 0.2])
    for truth in ((), (HUGE,)):
        summary = scored(found, marked(*truth))
        point = summary["operating_point"]
        assert (point["rule"], point["threshold"], point["optimistic"]) == ("all", None, False)
        assert point["false_positives"] == 2 - len(truth)
        assert summary["no_curve"].endswith("there is no lesion that counts.")
        assert "froc" not in summary
    assert summary["too_large"]["volume_covered"] == 0.5
    assert summary["too_large"]["boxes"] == 1


def test_a_rule_under_which_nothing_counts_is_not_said_to_count_all():
    summary = scored(marked(FAR, [9.0, 9, 9, 12, 12, 12], scores=[0.9, 0.2]), marked(SMALL))
    point = summary["operating_point"]
    assert (point["rule"], point["threshold"], point["false_positives"]) == ("f1", None, 0)
    assert not point["optimistic"]
    assert "No box counted (no score gains anything" in methods_text(summary)


@pytest.mark.parametrize("score", ["inf", "-inf", float("inf")])
def test_an_infinite_score_is_no_operating_point(score):
    with pytest.raises(ValueError, match=r"^at_score must be a finite score or a rule, got"):
        SummarySettings(at_score=score)


def test_lesions_too_large_between_masks_are_told_too():
    mask = torch.zeros(20, 6, 6)
    mask[1:14, 1:3, 1:3] = mask[17:19, 1:3, 1:3] = 1
    settings = ScoreSettings(max_lesion_mm=10.0)
    tables = mask_lesions(mask, mask, None, spacing=(1.0, 1.0, 1.0), settings=settings)
    result = of_tables("a", tables)
    assert result.rows[0]["too_large_lesions"] == 1
    large = summarize([result], settings=settings)["too_large"]
    assert large == {"lesions": 1, "max_lesion_mm": 10.0, "volume_covered": None, "boxes": 1}


def test_the_draws_of_pooled_figures_are_told():
    tables = box_lesions(marked(SMALL, scores=[0.5]), marked(SMALL), settings=ScoreSettings())
    summary = summarize([of_tables(case, tables) for case in "abcde"])
    assert summary["bootstrap"]["resamples"] == 2000
    assert summary["bootstrap"]["pooled_resamples"] == 1000
    assert "(2000 draws, 1000 for pooled figures, seed 0)" in methods_text(summary)


def test_cases_of_masks_and_of_boxes_keep_their_rules_apart():
    mask = torch.zeros(8, 8, 8)
    mask[1:4, 1:4, 1:4] = 0.9
    masks = mask_lesions(mask, mask, None, spacing=(1.0, 1.0, 1.0), settings=ScoreSettings())
    boxes = box_lesions(marked(SMALL, scores=[0.5]), marked(SMALL), settings=ScoreSettings())
    summary = summarize([of_tables("a", masks), of_tables("b", boxes)])
    (size,) = summary["by_size"]
    assert (size["lesions"], size["sensitivity"], size["by_centre"]) == (2, 1.0, 1.0)
    assert "; between masks, at least one voxel in common" in summary["hit"]["words"]


@pytest.mark.parametrize("hit", ["mask_box_dice", "relative_mask_box_iou", "centre_in_mask"])
@pytest.mark.parametrize("found", [(), (SMALL,)])
def test_a_rule_of_masks_is_refused_where_the_truth_has_none(hit, found):
    """Also without a box: a cohort must not be of those cases alone in which nothing was found."""
    with pytest.raises(ValueError, match=f"^hit must be a criterion of boxes .* got '{hit}'"):
        box_lesions(marked(*found), marked(SMALL), settings=ScoreSettings(hit=hit))
