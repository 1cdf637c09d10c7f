"""Rank correlation of score with existence against ranks and pairs counted by hand."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap.for_monai import OutcomesMetric
from softoverlap.measures import (
    ScoreExistence,
    compute_score_existence_correlation,
)
from tests.support.box_cohorts import cohorts, cube, found, lesions
from tests.support.reference_detection import (
    reference_kendall,
    reference_outcomes,
    reference_spearman,
)


def row(scores, existence, **options):
    """Lesions in a row, each found by a box of its own."""
    boxes = [cube(9 * k) for k in range(len(scores))]
    return compute_score_existence_correlation(
        [found(boxes, scores)], [lesions(boxes, existence=existence)], **options
    )


@given(cohorts(), st.sampled_from(["omit", "zero"]))
@settings(max_examples=40)
def test_it_equals_ranks_and_pairs_counted_one_by_one(cohort, false_positives):
    predictions, targets = cohort
    pairs = [
        (score, targets[scan]["existence"][lesion].item() if outcome == "true" else 0.0)
        for scan, (prediction, target) in enumerate(zip(*cohort, strict=True))
        for score, _, outcome, lesion in reference_outcomes(
            prediction, target, 0.1, by_existence=True
        )
        if outcome == "true" or (outcome, false_positives) == ("false", "zero")
    ]
    result = compute_score_existence_correlation(
        predictions, targets, false_positives=false_positives
    )
    assert result.boxes == len(pairs)
    assert result.scans == len(targets)
    if len({score for score, _ in pairs}) > 1 and len({worth for _, worth in pairs}) > 1:
        assert result.spearman == pytest.approx(reference_spearman(*zip(*pairs, strict=True)))
        assert result.kendall == pytest.approx(reference_kendall(*zip(*pairs, strict=True)))
    else:
        assert math.isnan(result.spearman)
        assert math.isnan(result.kendall)


def test_scores_in_the_order_of_existence_correlate_fully():
    rising = row([0.1, 0.5, 0.9], [0.2, 0.6, 1.0])
    falling = row([0.9, 0.5, 0.1], [0.2, 0.6, 1.0])
    assert (rising.spearman, rising.kendall) == pytest.approx((1, 1))
    assert (falling.spearman, falling.kendall) == pytest.approx((-1, -1))
    assert (rising.boxes, rising.lesions, rising.scans) == (3, 3, 1)


def test_one_swap_of_three_gives_a_half_and_a_third():
    swapped = row([0.5, 0.1, 0.9], [0.2, 0.6, 1.0])
    assert swapped.spearman == pytest.approx(0.5)  # 1 - 6 (1 + 1) / (3 · 8)
    assert swapped.kendall == pytest.approx(1 / 3)  # two pairs in order, one not


def test_false_positives_count_as_existence_zero_where_asked_for():
    boxes = [cube(0), cube(9), cube(40)]
    scans = [found(boxes, [0.5, 0.9, 0.7])], [lesions(boxes[:2], existence=[0.4, 0.8])]
    omitted = compute_score_existence_correlation(*scans)
    assert (omitted.spearman, omitted.boxes, omitted.false_positives) == (pytest.approx(1), 2, 0)
    zero = compute_score_existence_correlation(*scans, false_positives="zero")
    assert (zero.spearman, zero.boxes, zero.false_positives) == (pytest.approx(0.5), 3, 1)


def test_a_duplicate_does_not_count():
    boxes = [cube(0), cube(9)]
    scans = [found([*boxes, cube(0)], [0.5, 0.9, 0.1])], [lesions(boxes, existence=[0.4, 0.8])]
    assert compute_score_existence_correlation(*scans, false_positives="zero").boxes == 2


@pytest.mark.filterwarnings("error")
def test_it_is_not_defined_where_nothing_varies():
    for scores, existence in (([], []), ([0.5], [0.5]), ([0.1, 0.9], [1, 1]), ([0.5] * 2, [0, 1])):
        result = row(scores, existence)
        assert math.isnan(result.spearman)
        assert math.isnan(result.kendall)


def test_the_metric_equals_its_function_over_batches():
    boxes = [cube(9 * k) for k in range(4)]
    scores, existence = torch.rand(5, 4), torch.rand(5, 4)
    predictions = [found(boxes, one) for one in scores]
    targets = [lesions(boxes, existence=one) for one in existence]
    metric = OutcomesMetric(ScoreExistence(false_positives="zero"))
    for start in (0, 2, 4):
        metric(predictions[start : start + 2], targets[start : start + 2])
    expected = compute_score_existence_correlation(predictions, targets, false_positives="zero")
    assert metric.details() == expected
    assert metric.aggregate().item() == expected.spearman


def test_an_unknown_choice_is_named():
    with pytest.raises(ValueError, match="false_positives must be one of .*got 'keep'"):
        ScoreExistence(false_positives="keep")
    with pytest.raises(ValueError, match="predictions must hold at least one scan"):
        compute_score_existence_correlation([], [])
