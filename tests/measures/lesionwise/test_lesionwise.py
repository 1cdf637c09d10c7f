"""Lesion-wise Dice, overlaps, recall, false positives and panoptic quality, against loops."""

from __future__ import annotations

import time
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics.panoptic_quality import compute_panoptic_quality as monai_panoptic_quality
from scipy import ndimage

from softoverlap import lesions_from_mask
from softoverlap.for_monai import LesionwiseDiceMetric, MeasureMetric
from softoverlap.measures import (
    FalsePositives,
    Hit,
    LesionCounts,
    LesionRecall,
    LesionwiseDice,
    PanopticQuality,
    compute_lesionwise_dice,
    compute_soft_dice,
)
from softoverlap.overlaps import mask_dice, mask_tversky
from tests.support.measure_forms import as_function, as_metric, lesion_matches
from tests.support.reference_lesions import (
    best_assignment,
    reference_components,
    reference_lesionwise_dice,
    reference_panoptic,
    reference_soft_lesions,
    soft_overlaps,
)
from tests.support.strategies import masks

false_positives_of, lesion_recall_of = as_function(FalsePositives), as_function(LesionRecall)
panoptic_quality_of = as_function(PanopticQuality)
false_positive_metric, lesion_recall_metric = as_metric(FalsePositives), as_metric(LesionRecall)
panoptic_quality_metric = as_metric(PanopticQuality)

METRICS = {
    LesionwiseDiceMetric: (compute_lesionwise_dice, {"dilation": 1, "min_mm3": 2.0}),
    lesion_recall_metric: (lesion_recall_of, {}),
    false_positive_metric: (false_positives_of, {"measured_in": "ml"}),
    panoptic_quality_metric: (panoptic_quality_of, {}),
}


def blobs(shape, *, seed, share=0.12, wide=0.8):
    """A soft map of several lesions: smoothed noise, cut so that this share is 0.5 or more."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), wide)
    level, spread = np.quantile(noise, 1 - share), noise.std()
    soft = 1 / (1 + np.exp(-(noise - level) / (spread / 4)))
    return np.where(soft < 0.05, 0, soft)


def hard_pair(shape, *, seed, share=0.12):
    """Two hard maps that agree in part, and not at all at one end."""
    first, other = (blobs(shape, seed=s, share=share, wide=0.6) for s in (seed, seed + 1000))
    second = 0.6 * first + 0.4 * other
    second[: shape[0] // 2] = other[: shape[0] // 2]
    return first >= 0.5, second >= 0.45


def batch(*maps):
    return torch.from_numpy(np.stack(maps).astype(np.float64))[:, None]


SHAPES = [(60,), (20, 18), (12, 10, 11)]


# Lesion-wise Dice


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


# Scans without lesions


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


def test_a_scan_without_lesions_has_no_recall_and_counts_for_false_positives():
    nothing, something = torch.zeros(1, 1, 5), torch.tensor([[[0.0, 1.0, 0.0, 1.0, 1.0]]])
    recall, false = lesion_recall_metric(spacing=1.0), false_positive_metric(spacing=1.0)
    for metric in (recall, false):
        metric(something, nothing)
        metric(something, something)
    assert recall.summary().value == 1
    assert recall.summary().counted == 1
    assert false.aggregate().item() == 1
    assert false.details()["label_0"].volume_ml == pytest.approx(1.5e-3)


@pytest.mark.parametrize("shape", [(1, 1, 4), (1, 1, 0, 4)])
def test_nothing_at_all_has_no_rows(shape):
    nothing = torch.zeros(shape)
    assert lesion_matches(nothing, nothing, spacing=1.0) == []
    assert lesion_recall_of(nothing, nothing, spacing=1.0).isnan().all()
    assert false_positives_of(nothing, nothing, spacing=1.0).item() == 0


# Rows


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_are_the_lesions_of_lesions_from_mask(shape):
    spacing = [1.0, 2.0, 0.5][: len(shape)]
    truth = np.round(blobs(shape, seed=5), 3)
    rows = lesion_matches(batch(truth), batch(truth), spacing=spacing)
    lesions = lesions_from_mask(torch.from_numpy(truth), spacing=spacing)
    assert len(rows) == len(lesions) > 1
    for row, lesion in zip(rows, lesions, strict=True):
        assert row.volume_mm3 == pytest.approx(lesion.volume_mm3, abs=1e-9)
        assert row.box == tuple(map(int, lesion.box))
        assert row.centre == pytest.approx(lesion.centre.tolist(), abs=1e-5)
        assert (row.soft_dice, row.soft_iou, row.detected) == (1, 1, True)
        assert row.matched == (row.lesion,)


@pytest.mark.parametrize("shape", [(14, 15), (8, 9, 9)])
def test_many_to_one_merges_all_lesions_that_touch(shape):
    for seed in range(3):
        pred, truth = blobs(shape, seed=seed), blobs(shape, seed=seed)[::-1].copy()
        rows = lesion_matches(batch(pred), batch(truth), spacing=1.0)
        found = reference_soft_lesions(pred)
        lesions = reference_soft_lesions(truth)
        for row, lesion in zip(rows, lesions, strict=True):
            partners = [
                number
                for number, other in enumerate(found)
                if ((lesion >= 0.5) & (other >= 0.5)).any()
            ]
            assert row.matched == tuple(partners)
            assert row.detected == (len(partners) > 0)
            if partners:
                dice, iou = soft_overlaps(lesion, sum(found[number] for number in partners))
                assert row.soft_dice == pytest.approx(dice, abs=1e-12)
                assert row.soft_iou == pytest.approx(iou, abs=1e-12)


def test_one_to_one_has_the_highest_total_iou():
    seen = 0
    for seed in range(12):
        truth, pred = (blobs((11, 12), seed=s, share=0.3) for s in (seed, seed + 50))
        rows = lesion_matches(batch(pred), batch(truth), spacing=1.0, matching="one_to_one")
        found = reference_soft_lesions(pred)
        lesions = reference_soft_lesions(truth)
        if not 0 < len(found) < 8 or not 0 < len(lesions) < 8:
            continue
        iou = np.array([[soft_overlaps(a, b)[1] for b in found] for a in lesions])
        touch = [[((a >= 0.5) & (b >= 0.5)).any() for b in found] for a in lesions]
        assert sum(row.soft_iou for row in rows) == pytest.approx(best_assignment(iou * touch))
        taken = [number for row in rows for number in row.matched]
        assert len(taken) == len(set(taken))
        seen += 1
    assert seen >= 5


def test_the_hit_rule_is_explicit():
    truth, pred = torch.zeros(1, 1, 10), torch.zeros(1, 1, 10)
    truth[..., :4], pred[..., 3:7] = 1, 1  # Dice 1/4, IoU 1/7
    for options, expected in (
        ({}, True),
        ({"hit": "dice", "hit_threshold": 0.25}, True),
        ({"hit": "dice", "hit_threshold": 0.3}, False),
        ({"hit": "iou", "hit_threshold": 0.14}, True),
        ({"hit": "iou", "hit_threshold": 0.15}, False),
    ):
        (row,) = lesion_matches(pred, truth, spacing=1.0, **options)
        assert row.detected is expected
        recall = lesion_recall_of(pred, truth, spacing=1.0, **options)
        assert recall.item() == float(expected)


def test_a_halo_below_its_least_probability_belongs_to_no_lesion():
    pred = torch.tensor([[[0.005, 0.02, 1.0, 0.3, 0.0]]])
    truth = torch.tensor([[[0.0, 0.0, 1.0, 0.0, 0.0]]])
    for halo, expected in ((0.0, 1.325), (0.01, 1.32), (0.1, 1.3), (0.5, 1.0)):
        (row,) = lesion_matches(pred, truth, spacing=1.0, halo=halo)
        assert row.pred_volume_mm3 == pytest.approx(expected, abs=1e-6)


def test_rows_name_item_class_and_place_in_the_whole_image():
    truth = torch.zeros(2, 2, 8, 9)
    truth[1, 1, 5:7, 3:4] = 1
    (row,) = lesion_matches(
        torch.zeros_like(truth), truth, include_background=False, spacing=[2.0, 3.0]
    )
    columns = asdict(row)
    assert (columns["item"], columns["channel"]) == (1, 0)
    assert columns["box"] == (5, 3, 7, 4)
    assert columns["centre"] == (6.0, 3.5)
    assert columns["volume_mm3"] == 12
    assert (columns["soft_dice"], columns["detected"], columns["n_pred"]) == (0.0, False, 0)


# Recall, existence and false positives


def test_recall_by_size_agrees_with_the_rows():
    metric = lesion_recall_metric(edges=(4.0, 12.0), spacing=1.0)
    rows = []
    for seed in range(4):
        truth, pred = blobs((9, 10, 11), seed=seed), blobs((9, 10, 11), seed=seed + 9)
        score = metric(batch(pred), batch(truth))
        own = lesion_matches(batch(pred), batch(truth), spacing=1.0)
        rows += own
        assert score.item() == pytest.approx(np.mean([row.detected for row in own]))
    sizes = metric.details()["label_0"]
    assert list(sizes) == ["<4 mm³", "4–12 mm³", "≥12 mm³", "all sizes"]
    for recall, (low, high) in zip(
        sizes.values(), [(0, 4), (4, 12), (12, np.inf), (0, np.inf)], strict=True
    ):
        inside = [row.detected for row in rows if low <= row.volume_mm3 < high]
        assert (recall.found, recall.lesions) == (sum(inside), len(inside))
        assert recall.recall == pytest.approx(np.mean(inside))
    assert metric.details()["label_0"]["all sizes"].lesions == len(rows)
    assert metric.aggregate("dataset").item() == pytest.approx(
        np.mean([row.detected for row in rows])
    )


def test_existence_weighs_each_lesion_by_its_raters():
    raters = torch.zeros(1, 4, 1, 12)
    raters[..., 1:3] = 1  # all four
    raters[:, :1, :, 6:8] = 1  # one of four
    truth, pred = raters.mean(dim=1), torch.zeros(1, 1, 12)
    pred[..., 1:3] = 0.8
    options = {"spacing": 1.0, "raters": raters}
    rows = lesion_matches(pred, truth, **options)
    assert [row.existence for row in rows] == [1.0, 0.25]
    assert lesion_recall_of(pred, truth, **options).item() == 0.5
    weighted = lesion_recall_of(pred, truth, weight_by="existence", **options)
    assert weighted.item() == pytest.approx(1 / 1.25)
    assert lesion_recall_of(pred, truth, spacing=1.0).item() == 1  # one lesion is above half
    metric = lesion_recall_metric(spacing=1.0, weight_by="existence")
    metric(list(pred), list(truth), raters=list(raters))
    assert metric.aggregate().item() == pytest.approx(1 / 1.25)
    assert metric.details()["label_0"]["all sizes"].recall == 0.5


def test_lesions_of_raters_are_those_of_lesions_from_mask():
    raters = np.stack([blobs((9, 10, 11), seed=s, share=0.05) >= 0.5 for s in range(3)])
    raters = torch.from_numpy(raters.astype(np.float64))
    mask = raters.mean(dim=0)
    options = {"spacing": 1.0, "raters": raters[None, :, None]}
    rows = lesion_matches(mask[None, None], mask[None, None], **options)
    lesions = lesions_from_mask(mask, spacing=[1.0] * 3, raters=raters)
    assert len(rows) == len(lesions) > 1
    for row, lesion in zip(rows, lesions, strict=True):
        assert row.existence == pytest.approx(lesion.existence)
        assert row.volume_mm3 == pytest.approx(lesion.volume_mm3)
        assert row.box == tuple(map(int, lesion.box))
    assert len({row.existence for row in rows}) > 1


def test_what_one_rater_marked_is_no_false_positive():
    raters, pred = torch.zeros(1, 4, 1, 8), torch.zeros(1, 1, 8)
    raters[:, 0, :, 2] = pred[..., 2] = 1
    truth = raters.mean(dim=1)
    assert false_positives_of(pred, truth, spacing=1.0).item() == 1
    assert false_positives_of(pred, truth, spacing=1.0, raters=raters).item() == 0


def test_a_volume_on_an_edge_belongs_to_the_larger_class():
    truth = torch.tensor([[[1.0, 1.0, 0.0, 1.0]]])
    recall = LesionRecall(spacing=1.0, edges=(0.5, 2.0))
    torch.testing.assert_close(
        recall.by_size(recall.statistics(truth * 0, truth)),
        torch.tensor([[[torch.nan, 0.0, 0.0]]], dtype=torch.float64),
        equal_nan=True,
    )


def test_raters_do_not_count_where_voxels_do_not_and_leave_the_background_out():
    raters = torch.zeros(1, 2, 2, 8)
    raters[:, :, 0] = 1  # background
    raters[:, :, 1, 1], raters[:, 0, 1, 5] = 1, 1
    truth, counted = raters.mean(dim=1), torch.ones(1, 1, 8)
    options = {"spacing": 1.0, "raters": raters, "include_background": False}
    rows = lesion_matches(truth, truth, **options)
    assert [row.existence for row in rows] == [1.0, 0.5]
    counted[..., 5:] = 0
    (row,) = lesion_matches(truth, truth, mask=counted, **options)
    assert row.box == (1, 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_false_positives_are_the_lesions_that_touch_no_true_one(shape):
    spacing = [2.0, 1.0, 3.0][: len(shape)]
    for seed in range(3):
        pred, truth = blobs(shape, seed=seed), blobs(shape, seed=seed + 20)
        found = reference_soft_lesions(pred)
        false = [a for a in found if not ((a >= 0.5) & (truth >= 0.5)).any()]
        one = {"spacing": spacing}
        count = false_positives_of(batch(pred), batch(truth), **one)
        assert count.item() == len(false)
        ml = false_positives_of(batch(pred), batch(truth), measured_in="ml", spacing=1.0)
        assert ml.item() == pytest.approx(sum(a.sum() for a in false) / 1000, abs=1e-12)


def test_small_lesions_are_left_out_with_what_touches_them():
    truth, pred = torch.zeros(1, 1, 12), torch.zeros(1, 1, 12)
    truth[..., 1], truth[..., 4:7] = 1, 1
    pred[..., 1:3], pred[..., 10] = 1, 1
    least = {"spacing": 1.0, "min_mm3": 2.0}
    (row,) = lesion_matches(pred, truth, **least)
    assert row.volume_mm3 == 3
    assert false_positives_of(pred, truth, **least).item() == 0
    assert false_positives_of(pred, truth, spacing=1.0).item() == 1
    assert panoptic_quality_of(pred, truth, **least).item() == 0


# Panoptic quality


@pytest.mark.parametrize("shape", [(18, 17), (9, 10, 11)])
def test_hard_masks_have_monais_panoptic_quality(shape):
    everything = torch.zeros(4, dtype=torch.float64)
    for seed in range(5):
        pred, truth = hard_pair(shape, seed=seed)
        labels = (torch.from_numpy(reference_components(side, side.ndim)) for side in (pred, truth))
        tp, fp, fn, total = monai_panoptic_quality(*labels, output_confusion_matrix=True).tolist()
        metric = panoptic_quality_metric()
        score = metric(batch(pred), batch(truth)).item()
        quality = metric.details()["label_0"]
        assert (quality.tp, quality.fp, quality.fn) == (tp, fp, fn)
        assert score == pytest.approx(total / (tp + fp / 2 + fn / 2), rel=1e-6)
        everything += torch.tensor([total, tp, fp, fn])
    assert (everything > 0).all()


def test_hard_masks_have_torchmetrics_panoptic_quality():
    functional = pytest.importorskip("torchmetrics.functional.detection")
    for seed in range(3):
        sides = hard_pair((18, 17), seed=seed)
        pairs = [
            torch.from_numpy(np.stack([side, reference_components(side, 2)], axis=-1).astype(int))
            for side in sides
        ]
        theirs = functional.panoptic_quality(
            *(pair[None] for pair in pairs),
            things={1},
            stuffs={0},
            return_per_class=True,
            return_sq_and_rq=True,
        )
        thing = theirs[0, 0].tolist() if theirs.ndim == 3 else theirs[0].tolist()
        for name, expected in zip(("pq", "sq", "rq"), thing, strict=True):
            ours = panoptic_quality_of(*map(batch, sides), metric_name=name)
            assert ours.item() == pytest.approx(expected, rel=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_panoptic_quality_equals_the_reference_and_a_match_is_unique(data):
    shape = data.draw(st.sampled_from([(9,), (4, 4), (3, 3, 3)]))
    pred, truth = data.draw(masks(shape)), data.draw(masks(shape))
    total, tp, fp, fn = reference_panoptic(pred.numpy(), truth.numpy())
    metric = panoptic_quality_metric()
    score = metric(pred[None, None], truth[None, None]).item()
    quality = metric.details()["label_0"]
    assert (quality.tp, quality.fp, quality.fn) == (tp, fp, fn)
    assert min(fp, fn) >= 0  # a lesion with two matches would make one negative
    weight = tp + fp / 2 + fn / 2
    assert score == pytest.approx(total / weight if weight else np.nan, abs=1e-9, nan_ok=True)
    if tp:
        assert score == pytest.approx(quality.sq * quality.rq, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_no_soft_mask_matches_two_disjoint_ones(data):
    mask, other = data.draw(masks((6,))).numpy(), data.draw(masks((6,))).numpy()
    owner = np.array(data.draw(st.lists(st.booleans(), min_size=6, max_size=6)))
    parts = np.where(owner, other, 0), np.where(owner, 0, other)
    matches = 0
    for part in parts:
        larger = np.maximum(mask, part).sum()
        matches += bool(larger) and np.minimum(mask, part).sum() / larger > 0.5 + 1e-9
    assert matches <= 1


def test_an_iou_of_one_half_is_no_match():
    truth, pred = torch.zeros(1, 1, 8), torch.zeros(1, 1, 8)
    truth[..., 1:3], pred[..., 1:5] = 1, 1
    assert panoptic_quality_of(pred, truth).item() == 0
    assert panoptic_quality_of(pred, truth, metric_name="sq").isnan().all()
    pred[..., 4] = 0
    assert panoptic_quality_of(pred, truth).item() == pytest.approx(2 / 3)


# What all of them share


def _scans():
    pred = [blobs((9, 10, 11), seed=s) for s in range(4)]
    truth = [0.5 * blobs((9, 10, 11), seed=s) + 0.5 * pred[s] for s in range(4)]
    truth[1] = np.zeros_like(truth[1])
    return batch(*pred), batch(*truth)


@pytest.mark.parametrize("metric", METRICS)
def test_the_function_is_the_metrics_twin(metric):
    compute, options = METRICS[metric]
    pred, truth = _scans()
    kept = metric(reduction="none", spacing=1.0, **options)
    score = kept(pred, truth)
    torch.testing.assert_close(kept.aggregate(), score, equal_nan=True)
    direct = compute(pred, truth, spacing=1.0, **options)
    torch.testing.assert_close(direct.reshape(score.shape), score, equal_nan=True)
    assert score.dtype == torch.float64


@pytest.mark.parametrize("metric", METRICS)
def test_over_the_data_set_counts_are_added_up(metric):
    _, options = METRICS[metric]
    pred, truth = _scans()
    whole = metric(reduction="dataset", get_not_nans=True, spacing=1.0, **options)
    for item in range(4):
        whole(pred[item : item + 1], truth[item : item + 1])
    score, counted = whole.aggregate()
    side_by_side = metric(spacing=1.0, **options)  # one image with a gap between the scans
    gap = [torch.nn.functional.pad(maps, (4, 4, 4, 4, 4, 4)) for maps in (pred, truth)]
    row = [torch.cat(list(maps[:, 0]), dim=-1)[None, None] for maps in gap]
    share = 4 if metric is false_positive_metric else 1
    assert score.item() == pytest.approx(side_by_side(*row).item() / share, abs=1e-12)
    assert counted.item() == 1


@pytest.mark.parametrize("metric", METRICS)
def test_lists_of_any_shape_and_meta_tensors_know_their_spacing(metric):
    _, options = METRICS[metric]
    pred, truth = _scans()
    affine = torch.diag(torch.tensor([1.0, 2.0, 3.0, 1.0], dtype=torch.float64))
    spaced, listed = (
        metric(spacing=spacing, reduction="none", **options) for spacing in ([1.0, 2.0, 3.0], None)
    )
    expected = spaced(pred, truth)
    cut = [(pred[0], truth[0])] + [
        (p[:, :, :, :9], t[:, :, :, :9]) for p, t in zip(pred[1:], truth[1:], strict=True)
    ]
    items = [[MetaTensor(item, affine=affine) for item in side] for side in zip(*cut, strict=True)]
    found = listed(*items)
    torch.testing.assert_close(found[0], expected[0], equal_nan=True)
    assert len(found) == 4
    batched = metric(reduction="none", **options)(
        MetaTensor(pred, affine=affine), MetaTensor(truth, affine=affine)
    )
    torch.testing.assert_close(batched, expected, equal_nan=True)
    assert type(found) is torch.Tensor


@pytest.mark.parametrize("metric", METRICS)
def test_voxels_that_do_not_count_are_not_looked_at(metric):
    _, options = METRICS[metric]
    pred, truth = _scans()
    counted = torch.ones(4, 1, 9, 10, 11)
    counted[..., 6:] = 0
    once = metric(spacing=1.0, **options)(pred, truth, mask=counted)
    cut = metric(spacing=1.0, **options)(pred * counted, truth * counted)
    torch.testing.assert_close(once, cut, equal_nan=True)


@pytest.mark.parametrize(
    ("measure", "options"),
    [
        (LesionwiseDice, {"dilation": 1, "min_mm3": 2.0}),
        (LesionRecall, {}),
        (FalsePositives, {"measured_in": "ml"}),
        (PanopticQuality, {}),
    ],
)
def test_metrics_run_in_a_bundle_and_in_monais_ignite_handler(measure, options):
    pred, truth = _scans()
    target = {"_target_": f"softoverlap.{measure.__name__}", "spacing": [1.0, 1.0, 1.0], **options}
    config = {"_target_": "softoverlap.MeasureMetric", "measure": target}
    made = ConfigParser({"metric": config}).get_parsed_content("metric")
    engine = Engine(lambda engine, batch: {"pred": pred, "label": truth})
    handler = IgniteMetricHandler(metric_fn=made, output_transform=from_engine(["pred", "label"]))
    handler.attach(engine, name="lesions")
    engine.run([0], max_epochs=1)
    alone = MeasureMetric(measure(spacing=1.0, **options))
    alone(pred, truth)
    assert engine.state.metrics["lesions"] == pytest.approx(alone.aggregate().item(), abs=1e-12)


def test_labels_and_class_names():
    labels = torch.zeros(1, 1, 12, 12)
    labels[..., 1:4, 1:4], labels[..., 7:10, 7:10] = 1, 2
    metric = panoptic_quality_metric(
        include_background=False, num_classes=3, return_with_label=["core", "edge"]
    )
    metric(labels, labels)
    assert metric.aggregate("mean_batch") == {"core": 1.0, "edge": 1.0}
    assert metric.details()["edge"].tp == 1
    assert metric.summary().per_class == {"core": 1.0, "edge": 1.0}


def test_connectivity_decides_what_is_one_lesion():
    diagonal = torch.eye(2)[None, None]
    for connectivity, expected in ((8, 1), (4, 2), (26, 1)):
        rows = lesion_matches(diagonal, diagonal, spacing=1.0, connectivity=connectivity)
        assert len(rows) == expected
    metric = LesionwiseDiceMetric(dilation=0, connectivity=4, min_mm3=0.0)
    metric(diagonal, diagonal)
    assert metric.counts()["label_0"].tp == 2


def test_a_threshold_of_its_own_for_the_target():
    pred, truth = torch.tensor([[[0.3, 0.3, 0.0]]]), torch.tensor([[[0.0, 0.8, 0.0]]])
    assert lesion_recall_of(pred, truth, spacing=1.0).item() == 0
    options = {"threshold": 0.2, "target_threshold": 0.5}
    assert lesion_recall_of(pred, truth, spacing=1.0, **options).item() == 1
    options = {"threshold": 0.2, "target_threshold": 0.9}
    assert lesion_recall_of(pred, truth, spacing=1.0, **options).isnan().all()


def test_inputs_stay_as_they_are():
    pred, truth = _scans()
    before = pred.clone(), truth.clone()
    for compute, options in METRICS.values():
        compute(pred, truth, spacing=1.0, **options)
    assert torch.equal(pred, before[0])
    assert torch.equal(truth, before[1])


def test_counts_give_precision_recall_and_f1():
    counts = LesionCounts(tp=3, fp=1, fn=2)
    assert (counts.precision, counts.recall, counts.f1) == (3 / 4, 3 / 5, 6 / 9)
    assert np.isnan(LesionCounts(tp=0, fp=0, fn=0).f1)


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


# Bad input


@pytest.mark.bad_input
@pytest.mark.parametrize("metric", METRICS)
def test_bad_arguments_are_named(metric):
    for options, message in (
        ({"threshold": 0.0}, r"threshold must lie in \(0, 1\], got 0.0"),
        ({"target_threshold": 1.5}, r"target_threshold must lie in \(0, 1\], got 1.5"),
        ({"halo": 0.6}, r"halo must lie in \[0, 0.5\], from 0 to the threshold, got 0.6"),
        ({"connectivity": 5}, "connectivity must be 4, 6, 8, 18 or 26, got 5"),
        ({"min_mm3": -1.0}, "min_mm3 must be at least 0 and finite, got -1.0"),
        ({"reduction": "median"}, "reduction must be one of"),
    ):
        with pytest.raises(ValueError, match=message):
            metric(**options)


@pytest.mark.bad_input
@pytest.mark.parametrize("metric", METRICS)
def test_bad_input_is_named(metric):
    maps = torch.full((1, 1, 4, 4), 0.5)
    with pytest.raises(ValueError, match="y_pred must hold probabilities .* got values in"):
        metric(spacing=1.0, min_mm3=0.0)(maps * 4, maps)
    with pytest.raises(ValueError, match=r"y must have the shape of y_pred, \(1, 1, 4, 4\)"):
        metric(spacing=1.0)(maps, maps[..., :2])
    with pytest.raises(ValueError, match="with one to three spatial axes, got shape"):
        metric(spacing=1.0)(maps[None, None], maps[None, None])
    with pytest.raises(ValueError, match="connectivity must be one of .*26.*, got 6"):
        metric(spacing=1.0, connectivity=6, min_mm3=0.0)(maps, maps)
    with pytest.raises(ValueError, match="spacing must hold 2 finite edges above 0 in mm"):
        metric(spacing=[1.0, 0.0], min_mm3=0.0)(maps, maps)
    with pytest.raises(ValueError, match="spacing must hold 2 finite edges above 0 in mm"):
        metric(min_mm3=0.0)(maps, maps, spacing=[1.0, 0.0])


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "make",
    [
        LesionwiseDiceMetric,
        lambda: lesion_recall_metric(edges=[10.0]),
        lambda: false_positive_metric(measured_in="ml"),
        *[lambda made=made: made(min_mm3=2.0) for made in METRICS],
    ],
)
def test_volumes_need_a_spacing(make):
    maps = torch.full((1, 1, 4, 4, 4), 0.5)
    with pytest.raises(ValueError, match="spacing must be given in mm where no input is a MetaT"):
        make()(maps, maps)


@pytest.mark.bad_input
@pytest.mark.parametrize("measure", [FalsePositives, LesionRecall, LesionwiseDice, PanopticQuality])
def test_what_is_no_number_is_named(measure):
    names = ["threshold", "target_threshold", "halo"]
    names += ["match_iou"] if measure is PanopticQuality else []
    for name in names:
        for wrong in ("x", (0.5,), True):
            with pytest.raises(TypeError, match=f"^{name} must be a number, got"):
                measure(**{name: wrong})


@pytest.mark.bad_input
def test_edges_and_hits_of_another_type_are_named():
    with pytest.raises(TypeError, match=r"edges\[0\] must be a number, got 'x'"):
        LesionRecall(edges="x")
    with pytest.raises(TypeError, match="hit must be a Hit, an overlap of masks or its name, got"):
        LesionRecall(hit=0.5)
    with pytest.raises(TypeError, match="hit_threshold must be a number, got 'x'"):
        LesionRecall(hit="dice", hit_threshold="x")


@pytest.mark.bad_input
def test_bad_arguments_of_one_metric_are_named():
    maps = torch.full((1, 1, 4), 0.5)
    for make, message in (
        (lambda: LesionwiseDiceMetric(dilation=-1), "dilation must be an integer of at least 0"),
        (lambda: LesionwiseDiceMetric(dilation=1.5), "dilation must be an integer of at least 0"),
        (lambda: panoptic_quality_metric(match_iou=0.4), r"must lie in \[0.5, 1\)"),
        (lambda: panoptic_quality_metric(metric_name="dq"), "metric_name must be one of"),
        (lambda: lesion_recall_metric(edges=(9, 3)), "edges must be rising volumes above 0 in mm³"),
        (lambda: lesion_recall_metric(edges=(0,)), "edges must be rising volumes above 0 in mm³"),
        (lambda: lesion_recall_metric(hit="box"), "hit must be one of"),
        (
            lambda: lesion_recall_metric(hit="dice", hit_threshold=0),
            r"hit_threshold must lie in \(0, 1\], got 0",
        ),
        (
            lambda: lesion_recall_metric(hit_threshold=0.5),
            "hit_threshold must be None with hit='touch', which any common voxel meets, got 0.5",
        ),
        (
            lambda: lesion_matches(maps, maps, spacing=1.0, hit_threshold=0.1),
            "hit_threshold must be None with hit='touch'",
        ),
        (
            lambda: lesion_recall_of(maps, maps, weight_by="existence"),
            "raters must be given with weight_by='existence', got None",
        ),
        (
            lambda: lesion_recall_metric(weight_by="existence")(maps, maps),
            "raters must be given with weight_by='existence', got None",
        ),
        (
            lambda: compute_lesionwise_dice(maps, maps, spacing=1.0),
            "min_mm3 must be given where images have 1 axes and it is a length in mm",
        ),
        (
            lambda: LesionwiseDiceMetric()(maps[..., None], maps[..., None]),
            "min_mm3 must be given where images have 2 axes and it is an area in mm²",
        ),
        (lambda: lesion_recall_metric(matching="greedy"), "matching must be one of"),
        (lambda: lesion_recall_metric(weight_by="size"), "weight_by must be one of"),
        (lambda: false_positive_metric(measured_in="litres"), "measured_in must be one of"),
        (
            lambda: lesion_recall_of(maps, maps, spacing=1.0, raters=maps),
            r"raters must have shape \(1, R > 0, 1, 4\), got \(1, 1, 4\)",
        ),
        (
            lambda: lesion_recall_of(maps, maps, spacing=1.0, raters=maps[None] * 3),
            "raters must hold probabilities",
        ),
        (
            lambda: lesion_recall_metric(spacing=1.0)(list(maps), list(maps), raters=[]),
            "raters must hold 1 items, as y_pred does, got 0",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(TypeError, match="edges must be a sequence of volumes in mm³, got 5.0"):
        lesion_recall_metric(edges=5.0)  # pyright: ignore[reportArgumentType]


def test_lesions_are_hit_by_an_overlap_of_two_masks_as_by_its_name():
    truth = torch.zeros(1, 1, 12, 12)
    truth[..., 1:5, 1:5], truth[..., 7:11, 7:11] = 0.9, 0.8
    pred = torch.zeros(1, 1, 12, 12)
    pred[..., 1:5, 1:4], pred[..., 10:12, 10:12] = 0.9, 0.8
    by_name = LesionRecall(hit="dice", hit_threshold=0.5)(pred, truth, spacing=1.0)
    assert by_name.item() == 0.5
    for hit in ("mask_dice", mask_dice):
        recall = LesionRecall(hit=hit, hit_threshold=0.5)(pred, truth, spacing=1.0)
        assert torch.equal(recall, by_name)
    assert torch.equal(LesionRecall(hit=Hit(mask_dice, 0.5))(pred, truth, spacing=1.0), by_name)
    half = Hit(mask_tversky.with_(alpha=0.5, beta=0.5), 0.5)
    assert torch.equal(LesionRecall(hit=half)(pred, truth, spacing=1.0), by_name)
