"""What a lesion is does not hang on weights of voxels, on the precision, or on a spacing."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap.for_monai import LesionwiseDiceMetric
from softoverlap.measures import (
    LesionCounts,
    compute_lesionwise_dice,
)
from tests.support.lesion_maps import (
    false_positive_metric,
    false_positives_of,
    lesion_recall_metric,
    lesion_recall_of,
    panoptic_quality_metric,
    panoptic_quality_of,
)
from tests.support.measure_forms import lesion_matches
from tests.support.reference_lesions import reference_soft_lesions
from tests.support.strategies import masks

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


# Weights of voxels


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_weights_of_voxels_scale_sums_and_leave_the_lesions_as_they_are(data):
    shape = data.draw(st.sampled_from([(9,), (4, 4), (3, 3, 3)]))
    pred, truth, weights = (data.draw(masks(shape)).double().numpy() for _ in range(3))
    weights = np.maximum(weights, 0.05)
    kept = [torch.from_numpy(side)[None, None] for side in (pred, truth, weights)]
    found, lesions = reference_soft_lesions(pred), reference_soft_lesions(truth)
    rows = lesion_matches(kept[0], kept[1], spacing=2.0, mask=kept[2])
    assert len(rows) == len(lesions)
    for row, lesion in zip(rows, lesions, strict=True):
        assert row.volume_mm3 == pytest.approx((lesion * weights).sum() * 2.0 ** len(shape))
        partners = [i for i, other in enumerate(found) if ((lesion >= 0.5) & (other >= 0.5)).any()]
        assert row.matched == tuple(partners)
        other = sum(found[i] for i in partners) if partners else np.zeros(shape)
        shared = (np.minimum(lesion, other) * weights).sum()
        total = ((lesion + other) * weights).sum()
        assert row.soft_dice == pytest.approx(2 * shared / total)


@pytest.mark.parametrize("raters", [None, torch.ones(1, 2, 1, 6)])
def test_a_lesion_where_voxels_count_in_part_is_no_less_a_lesion(raters):
    truth = torch.tensor([[[1.0, 1.0, 0.0, 0.0, 0.6, 0.6]]])
    pred, half = truth * 0.9, torch.full((1, 1, 6), 0.5)
    raters = None if raters is None else raters * (truth > 0)
    first, second = lesion_matches(pred, truth, spacing=1.0, mask=half, raters=raters)
    assert (first.detected, second.detected) == (True, True)
    assert (first.volume_mm3, second.volume_mm3) == pytest.approx((1.0, 0.6))
    assert second.soft_dice == pytest.approx(2 * 0.54 / 1.14)
    assert lesion_recall_of(pred, truth, mask=half, raters=raters, spacing=1.0).item() == 1
    assert false_positives_of(pred, 0 * truth, mask=half, spacing=1.0).item() == 2
    ml = false_positives_of(pred, 0 * truth, mask=half, measured_in="ml", spacing=10.0)
    assert ml.item() == pytest.approx(0.5 * pred.sum().item() * 10 / 1000)


def test_weights_that_are_one_for_all_voxels_change_no_ratio():
    generator = torch.Generator().manual_seed(0)
    pred, truth = torch.rand(2, 1, 1, 9, 9, generator=generator)
    for compute, options in (
        (compute_lesionwise_dice, {"dilation": 1, "min_mm3": 0.0}),
        (panoptic_quality_of, {}),
    ):
        for soft in ({"soft": True}, {"soft": False}) if "dilation" in options else ({},):
            plain = compute(pred, truth, threshold=0.8, **soft, **options)
            half = compute(
                pred, truth, threshold=0.8, mask=torch.full_like(pred, 0.5), **soft, **options
            )
            assert 0 <= plain.item() < 1
            torch.testing.assert_close(half, plain)


def test_the_least_volume_of_lesion_wise_dice_is_of_voxels_as_much_as_they_count():
    truth, half = torch.zeros(1, 1, 8), torch.ones(1, 1, 8)
    truth[..., 1:4] = truth[..., 5:8] = 1
    half[..., :4] = 0.5
    metric = LesionwiseDiceMetric(dilation=0, min_mm3=2.0, spacing=1.0)
    metric(truth, truth, mask=half)
    assert metric.counts()["label_0"] == LesionCounts(tp=1, fp=0, fn=0, left_out=1)


# Precision


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.7, 0.9])
def test_a_probability_of_the_threshold_is_at_the_threshold_in_every_precision(dtype, threshold):
    maps = torch.zeros(1, 1, 7, dtype=dtype)
    maps[..., 1:3] = threshold
    raters = (maps > 0).to(dtype)[:, None] * threshold
    cut = {"threshold": threshold, "spacing": 1.0}
    for options in (cut, cut | {"raters": raters}):
        (row,) = lesion_matches(maps, maps, **options)
        assert (row.detected, row.existence) == (True, 1)
        assert lesion_recall_of(maps, maps, **options).item() == 1
    assert compute_lesionwise_dice(maps, maps, dilation=0, min_mm3=0.0, **cut).item() == 1
    assert panoptic_quality_of(maps, maps, **cut).item() == 1
    assert false_positives_of(maps, 0 * maps, **cut).item() == 1


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("halo", [0.0, 0.1, 0.2, 0.3])
def test_a_probability_of_the_halo_is_in_the_halo_in_every_precision(dtype, halo):
    maps = torch.zeros(1, 1, 7, dtype=dtype)
    maps[..., 2], maps[..., 3] = 1, halo
    (row,) = lesion_matches(maps, maps, spacing=1.0, halo=halo)
    assert row.volume_mm3 == pytest.approx(1 + halo, rel=4e-3)
    assert row.box == (2, 3)


def test_prediction_and_target_are_each_cut_in_their_own_precision():
    pred, cut = torch.full((1, 1, 3), 0.7), {"threshold": 0.7, "spacing": 1.0}
    truth = torch.full((1, 1, 3), 0.7, dtype=torch.float64)
    for first, second in ((pred, truth), (truth, pred), (pred.half(), truth)):
        assert lesion_recall_of(first, second, **cut).item() == 1
    below = torch.full((1, 1, 3), np.nextafter(np.float32(0.7), np.float32(0)).item())
    assert lesion_recall_of(below, truth, **cut).item() == 0


def test_seven_of_ten_raters_are_a_threshold_of_seven_tenths():
    marks = torch.zeros(10, 1, 1, 8)
    marks[:7, ..., 2:5] = 1
    mean = marks.mean(dim=0)
    assert lesion_recall_of(mean, mean, threshold=0.7, spacing=1.0).item() == 1
    assert lesion_recall_of(mean, mean, threshold=0.71, spacing=1.0).isnan().all()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_masks_and_raters_of_whole_numbers_are_lesions(dtype):
    maps = torch.tensor([[[0, 1, 1, 0, 1]]]).to(dtype)
    raters = maps[:, None].expand(1, 3, 1, 5)
    rows = lesion_matches(maps, maps, spacing=1.0, raters=raters)
    assert [(row.box, row.existence, row.soft_dice) for row in rows] == [
        ((1, 3), 1.0, 1.0),
        ((4, 5), 1.0, 1.0),
    ]


# Spacing


def test_what_needs_no_volume_needs_no_spacing():
    truth = torch.tensor([[[1.0, 1.0, 0.0, 1.0, 0.0, 0.0]]])
    pred = torch.tensor([[[1.0, 0.0, 0.0, 0.0, 0.0, 1.0]]])
    recall, false = lesion_recall_metric(), false_positive_metric()
    assert recall(pred, truth).item() == 0.5
    assert recall.details()["label_0"]["all sizes"].lesions == 2
    assert false(pred, truth).item() == 1
    assert false.details()["label_0"].count == 1
    assert np.isnan(false.details()["label_0"].volume_ml)
    assert lesion_recall_of(pred, truth).item() == 0.5
    assert false_positives_of(pred, truth).item() == 1


@pytest.mark.parametrize("listed", [False, True])
def test_a_call_says_the_spacing_in_place_of_the_one_given_at_the_start(listed):
    maps = torch.zeros(2, 1, 6, 6, 6)
    maps[..., 1:4, 1:4, 1:4] = 1  # 27 voxels
    given = list(maps) if listed else maps
    dice = LesionwiseDiceMetric()
    assert (dice(given, given, spacing=2.0) == 1).all()
    with pytest.warns(UserWarning, match="min_mm3=50 leaves out every true lesion"):
        assert dice(given, given, spacing=[1.0, 1.0, 1.0]).isnan().all()
    for metric in (
        lesion_recall_metric(edges=[100.0], spacing=1.0),
        lesion_recall_metric(edges=[100.0]),
    ):
        metric(given, given, spacing=2.0)
        assert metric.details()["label_0"]["≥100 mm³"].found == 2
    false = false_positive_metric(measured_in="mm3", spacing=1.0)
    assert false(given, list(0 * maps) if listed else 0 * maps, spacing=2.0).tolist() == [[216]] * 2
    quality = panoptic_quality_metric(min_mm3=100.0, spacing=1.0)
    assert quality(given, given).isnan().all()
    assert (quality(given, given, spacing=2.0) == 1).all()


# Lesions that are too small


def test_who_misses_small_lesions_only_is_told_that_they_were_left_out():
    truth, nothing = torch.zeros(1, 1, 6, 6, 6), torch.zeros(1, 1, 6, 6, 6)
    truth[..., 1:4, 1:4, 1:4] = 1
    metric = LesionwiseDiceMetric(ignore_empty=False, spacing=1.0)
    with pytest.warns(UserWarning, match=r"details\(\) says how many are left out, min"):
        assert metric(nothing, truth).item() == 1  # as the challenge scores it
    assert metric.counts()["label_0"] == LesionCounts(tp=0, fp=0, fn=0, left_out=1)
    assert compute_lesionwise_dice(nothing, truth, min_mm3=0.0).item() == 0


@pytest.mark.filterwarnings("error")
def test_nobody_is_told_where_one_lesion_counts_or_there_is_none():
    truth = torch.zeros(1, 1, 9, 9, 9)
    truth[..., 8, 8, 8] = truth[..., :4, :4, :4] = 1
    metric = LesionwiseDiceMetric(dilation=1, spacing=1.0)
    assert metric(truth, truth).item() == 1
    assert metric(0 * truth, 0 * truth).isnan().all()
    assert metric.counts()["label_0"] == LesionCounts(tp=1, fp=0, fn=0, left_out=1)


def test_one_to_one_matching_of_thousands_of_lesions_is_quick():
    truth = torch.zeros(1, 1, 48, 48, 48)
    truth[..., ::2, ::2, ::2] = 1
    start = time.perf_counter()
    rows = lesion_matches(truth * 0.9, truth, spacing=1.0, matching="one_to_one")
    assert len(rows) == 24**3
    assert all(row.n_pred == 1 and row.detected for row in rows)
    assert time.perf_counter() - start < 60  # a dense assignment takes minutes and 7 GB
