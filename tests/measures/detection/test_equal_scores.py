"""Boxes of equal score are one step: matched together, whatever the order in which they came."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap.measures import (
    compute_average_precision,
    compute_average_recall,
    compute_froc,
    match_quality,
    match_scan,
)
from tests.support.box_cohorts import cohort_of, cube, found, lesions


def permuted(scan, order):
    return {key: value[order] for key, value in scan.items()}


@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_order_of_equal_scores_changes_nothing(seed, decimals, ignoring):
    generator = np.random.default_rng(seed)
    predictions, targets = cohort_of(generator, [(5, 12), (4, 9), (0, 3)], decimals=decimals)
    if ignoring:
        for target in targets:
            target["ignored"] = torch.from_numpy(generator.random(len(target["label"])) < 0.3)
    orders = [torch.from_numpy(generator.permutation(len(scan["box"]))) for scan in predictions]
    again = [permuted(scan, order) for scan, order in zip(predictions, orders, strict=True)]
    sizes = {"size_edges": (20.0, 60.0)}
    for function in (compute_average_precision, compute_average_recall):
        first, second = function(predictions, targets, **sizes), function(again, targets, **sizes)
        assert first.scores == pytest.approx(second.scores, abs=1e-12)
    first, second = (compute_froc(scans, targets, **sizes) for scans in (predictions, again))
    for ours, other in zip(
        (first, *first.per_size.values()), (second, *second.per_size.values()), strict=True
    ):
        assert ours.sensitivity == pytest.approx(other.sensitivity, abs=1e-12, nan_ok=True)
        assert torch.equal(ours.fps_per_scan, other.fps_per_scan)
        assert torch.equal(ours.thresholds, other.thresholds)
    for before, after, target in zip(predictions, again, targets, strict=True):
        first, second = match_scan(before, target), match_scan(after, target)
        assert found_lesions(first) == found_lesions(second)
        assert first.outcome.flatten().sort()[0].tolist() == (
            second.outcome.flatten().sort()[0].tolist()
        )


def found_lesions(outcomes):
    return [box is not None for box in outcomes.box_of_lesion]


def test_a_group_hits_as_much_as_it_can_and_of_that_the_best():
    """The first box hits both lesions, the second only the one that the first hits best."""
    quality = torch.tensor([[0.9, 0.5], [0.2, 0.0]])
    one = torch.zeros(2, 6).double()
    for order in ([0, 1], [1, 0]):
        for scores in (None, one[:, 0] + 0.5):
            outcomes = match_quality(
                quality[:, order], quality[:, order] > 0.1, boxes=one, scores=scores,
                lesion_boxes=one, existence=[1.0, 1.0], sizes=[1.0, 1.0],
            )  # fmt: skip
            assert outcomes.box_of_lesion == [order.index(1), order.index(0)]
    falling = torch.tensor([0.9, 0.5]).double()
    alone = match_quality(
        quality, quality > 0.1, boxes=one, scores=falling, lesion_boxes=one,
        existence=[1.0, 1.0], sizes=[1.0, 1.0],
    )  # fmt: skip
    assert alone.box_of_lesion == [0, None]


def test_a_callable_that_scores_infinity_is_matched_too():
    def endless(boxes, target):
        return torch.full((len(target["label"]), len(boxes)), torch.inf)

    truth = lesions([cube(0), cube(9)])
    outcomes = match_scan(found([cube(0), cube(9)], [0.5, 0.5]), truth, hit=endless)
    assert found_lesions(outcomes) == [True, True]


@pytest.mark.slow
@pytest.mark.parametrize("scores", ["distinct", "equal"])
def test_many_boxes_and_many_lesions_are_matched_in_seconds(scores):
    generator = np.random.default_rng(0)
    starts = generator.uniform(0, 300, (500, 3))
    truth = np.concatenate([starts, starts + generator.uniform(2, 9, (500, 3))], axis=1)
    boxes = truth[generator.integers(0, 500, 10_000)] + generator.uniform(-2, 2, (10_000, 1))
    values = generator.random(10_000) if scores == "distinct" else np.ones(10_000)
    start = time.perf_counter()
    match_scan(found(boxes, values), lesions(truth))
    assert time.perf_counter() - start < 20
