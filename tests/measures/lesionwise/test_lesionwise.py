"""Lesion-wise Dice, against loops."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from scipy import ndimage

from softoverlap.for_monai import LesionwiseDiceMetric
from softoverlap.measures import LesionCounts, compute_lesionwise_dice, compute_soft_dice
from tests.support.lesion_maps import METRICS, SHAPES, batch, blobs, hard_pair, panoptic_quality_of
from tests.support.reference_lesions import (
    reference_lesionwise_dice,
    reference_soft_lesions,
    soft_overlaps,
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dilation", [0, 1, 3])
@pytest.mark.parametrize("min_mm3", [0.0, 2.0])
@pytest.mark.filterwarnings("ignore:min_mm3=2 leaves out every true lesion")
def test_hard_masks_score_as_brats_2023_says(shape, dilation, min_mm3):
    for seed in range(5):
        pred, truth = hard_pair(shape, seed=seed, share=0.03 if dilation else 0.12)
        metric = LesionwiseDiceMetric(dilation=dilation, min_mm3=min_mm3, spacing=1.0)
        score = metric(batch(pred), batch(truth)).item()
        expected, *counts = reference_lesionwise_dice(pred, truth, dilation, min_mm3)
        assert score == pytest.approx(expected, abs=1e-12, nan_ok=True)
        assert metric.counts()["label_0"] == LesionCounts(*counts)


def test_the_random_masks_hold_hits_misses_and_false_positives():
    metric = LesionwiseDiceMetric(dilation=1, min_mm3=0.0)
    for seed in range(5):
        pred, truth = hard_pair((12, 10, 11), seed=seed, share=0.03)
        metric(batch(pred), batch(truth))
    counts = metric.counts()["label_0"]
    assert min(counts.tp, counts.fp, counts.fn) > 0


@pytest.mark.parametrize("shape", [(12, 13), (7, 8, 9)])
def test_the_dice_of_each_lesion_is_soft(shape):
    pred, truth = blobs(shape, seed=3), blobs(shape, seed=3) * 0.9
    pred[shape[0] // 2 :] *= 0.8
    found = reference_soft_lesions(pred)
    lesions = reference_soft_lesions(truth)
    total, touched = 0.0, set()
    for lesion in lesions:
        partners = [i for i, other in enumerate(found) if ((lesion >= 0.5) & (other >= 0.5)).any()]
        touched |= set(partners)
        if partners:
            total += soft_overlaps(lesion, sum(found[i] for i in partners))[0]
    expected = total / (len(lesions) + len(found) - len(touched))
    score = compute_lesionwise_dice(batch(pred), batch(truth), dilation=0, min_mm3=0.0)
    assert 0 < expected < 1
    assert score.item() == pytest.approx(expected, abs=1e-12)


def test_without_soft_voxels_count_as_ones_and_zeros():
    pred, truth = blobs((9, 10, 11), seed=1), blobs((9, 10, 11), seed=2)
    expected, *_ = reference_lesionwise_dice(pred >= 0.5, truth >= 0.5, 1, 0)
    options = {"dilation": 1, "min_mm3": 0.0}
    score = compute_lesionwise_dice(batch(pred), batch(truth), soft=False, **options)
    assert score.item() == pytest.approx(expected, abs=1e-12)
    assert compute_lesionwise_dice(batch(pred), batch(truth), **options).item() != score.item()


def test_one_lesion_alone_scores_its_soft_dice():
    pred, truth = torch.zeros(1, 1, 9, 9), torch.zeros(1, 1, 9, 9)
    pred[..., 2:6, 2:6], truth[..., 3:6, 2:7] = 0.7, 0.9
    alone = compute_lesionwise_dice(pred, truth, min_mm3=0.0)
    torch.testing.assert_close(alone, compute_soft_dice(pred, truth))


def test_lesions_that_grow_together_are_one():
    truth = torch.zeros(1, 1, 12)
    truth[..., [3, 6]] = 1
    metric = LesionwiseDiceMetric(dilation=1, min_mm3=0.0)
    metric(truth, truth)
    assert metric.counts()["label_0"].tp == 1
    metric = LesionwiseDiceMetric(dilation=0, min_mm3=0.0)
    metric(truth, truth)
    assert metric.counts()["label_0"].tp == 2


def test_a_lesion_of_the_least_volume_is_left_out_and_what_it_matches_is_not_false():
    truth, pred = torch.zeros(1, 1, 12), torch.zeros(1, 1, 12)
    truth[..., 1:3] = pred[..., 2:3] = 1
    options = {"dilation": 0, "spacing": 2.0}
    metric = LesionwiseDiceMetric(min_mm3=4.0, **options)
    with pytest.warns(UserWarning, match="min_mm3=4 leaves out every true lesion of a scan"):
        assert metric(pred, truth).isnan().all()
    assert metric.counts()["label_0"] == LesionCounts(tp=0, fp=0, fn=0, left_out=1)
    score = compute_lesionwise_dice(pred, truth, min_mm3=3.9, **options)
    assert score.item() == pytest.approx(2 / 3)


def test_a_match_in_the_extent_only_is_found_with_a_dice_of_zero():
    truth, pred = torch.zeros(1, 1, 12), torch.zeros(1, 1, 12)
    truth[..., 1:4], pred[..., 5:8] = 1, 1
    metric = LesionwiseDiceMetric(dilation=3, min_mm3=0.0)
    assert metric(pred, truth).item() == 0
    assert metric.counts()["label_0"] == LesionCounts(tp=1, fp=0, fn=0)


@pytest.mark.parametrize("compute", [compute_lesionwise_dice, panoptic_quality_of])
def test_lesion_free_scans_are_nan_or_as_told_and_false_positives_score_zero(compute):
    nothing, something = torch.zeros(1, 1, 5, 5, 5), torch.zeros(1, 1, 5, 5, 5)
    something[..., 1:3, 1:3, 1:3] = 1
    spaced = {"spacing": 1.0}
    assert compute(nothing, nothing, **spaced).isnan().all()
    assert compute(nothing, nothing, ignore_empty=False, **spaced).item() == 1
    assert compute(nothing, nothing, ignore_empty=False, empty=0.25, **spaced).item() == 0.25
    assert compute(something, nothing, **spaced).item() == 0
    assert compute(something, nothing, ignore_empty=False, **spaced).item() == 0


@pytest.mark.slow
def test_a_hundred_lesions_in_a_brain_take_seconds():
    random, shape = np.random.default_rng(0), (182, 218, 182)
    seeds = np.zeros(shape, dtype=np.float32)
    seeds[tuple(random.integers(20, side - 20, 100) for side in shape)] = 1
    truth = torch.from_numpy(ndimage.gaussian_filter(seeds, 2.0, truncate=3.0))[None, None]
    truth = truth / truth.max()
    pred = torch.roll(truth, 1, dims=-1)
    for metric in METRICS:
        start = time.perf_counter()
        metric(spacing=1.0)(pred, truth)
        assert time.perf_counter() - start < 20  # leaves room for a busy machine
