"""Dice and IoU over thresholds: at a list of them, over all of them, at the best one."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from monai.metrics import DiceMetric, MeanIoU, compute_dice
from sklearn.metrics import f1_score, jaccard_score

from softoverlap.for_monai import ThresholdedDiceMetric
from softoverlap.measures import ExpectedDice, ExpectedIoU, inputs
from softoverlap.measures.thresholds import voxels
from tests.support.measure_forms import with_statistics
from tests.support.reference_thresholds import (
    reference_at_threshold,
    reference_best_dice,
    reference_expected,
    reference_thresholded,
)
from tests.support.strategies import mask_pairs
from tests.support.threshold_forms import (
    CURVES,
    EXPECTED,
    LISTED,
    best_dice_metric,
    best_dice_of,
    dice_curve_of,
    expected_dice_metric,
    expected_dice_of,
    expected_iou_metric,
    expected_iou_of,
    row_of,
    soft_maps,
    thresholded_dice_of,
    thresholded_iou_metric,
)

expected_dice_bounds_of = with_statistics(partial(ExpectedDice, method="histogram"), "bounds")
expected_iou_bounds_of = with_statistics(partial(ExpectedIoU, method="histogram"), "bounds")
BOUNDS = {"dice": expected_dice_bounds_of, "iou": expected_iou_bounds_of}
KINDS = ["dice", "iou"]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
threshold_lists = st.lists(
    st.one_of(st.sampled_from([0.25, 0.5, 1.0]), st.floats(1e-6, 1)),
    min_size=1,
    max_size=6,
    unique=True,
)


def _hard(seed=0):
    generator = torch.Generator().manual_seed(seed)
    maps = (torch.rand(2, 4, 3, 6, 5, 4, generator=generator) > 0.6).float()
    maps[1, 0, 1] = 0  # an empty target
    return maps[0], maps[1]


@pytest.mark.parametrize("kind", KINDS)
@given(mask_pairs(), threshold_lists)
def test_thresholded_scores_equal_the_reference(kind, pair, thresholds):
    pred, target = pair
    options = {"thresholds": thresholds, "ignore_empty": False}
    score = LISTED[kind](pred, target, **options)
    found = CURVES[kind](pred, target, **options)
    for item in range(2):
        maps = pred[item, 0].numpy(), target[item, 0].numpy()
        expected = reference_thresholded(*maps, thresholds, kind)
        assert score[item, 0].item() == pytest.approx(expected, abs=1e-12)
        for place, threshold in enumerate(sorted(thresholds)):
            expected = reference_at_threshold(*maps, threshold, kind)
            assert found[item, 0, place].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@given(mask_pairs())
def test_exact_expected_scores_equal_the_sum_over_distinct_values(kind, pair):
    score = EXPECTED[kind](*pair, ignore_empty=False)
    for item in range(2):
        expected = reference_expected(pair[0][item, 0].numpy(), pair[1][item, 0].numpy(), kind)
        assert score[item, 0].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@given(mask_pairs(), st.sampled_from([2, 8, 64, 4096]))
def test_the_exact_expected_score_lies_within_the_bounds_and_so_does_the_histograms(
    kind, pair, bins
):
    lower, upper = BOUNDS[kind](*pair, ignore_empty=False, bins=bins)
    exact = EXPECTED[kind](*pair, ignore_empty=False)
    counted = EXPECTED[kind](*pair, ignore_empty=False, method="histogram", bins=bins)
    for score in (exact, counted):
        assert (lower <= score + 1e-12).all()
        assert (score <= upper + 1e-12).all()


@given(mask_pairs(), st.one_of(st.none(), threshold_lists))
def test_the_best_threshold_equals_that_of_a_search(pair, thresholds):
    best = best_dice_of(*pair, thresholds=thresholds)
    for item in range(2):
        pred, target = pair[0][item, 0].numpy(), pair[1][item, 0].numpy()
        score, threshold = best.score[item, 0].item(), best.threshold[item, 0].item()
        if not target.any():
            assert math.isnan(score)
            assert math.isnan(threshold)
        elif thresholds is None and not pred.any():
            assert score == 0
            assert math.isnan(threshold)
        else:
            expected, places = reference_best_dice(pred, target, thresholds)
            assert score == pytest.approx(expected, abs=1e-12)
            assert threshold in places


@pytest.mark.parametrize("dtype", FLOATS)
@given(st.data())
def test_a_value_reaches_a_threshold_as_torch_compares_them(dtype, data):
    thresholds = sorted(data.draw(threshold_lists))
    known = torch.tensor(thresholds, dtype=torch.float64).to(dtype)
    near = [torch.nextafter(known, torch.tensor(end, dtype=dtype)) for end in (0.0, 1.0)]
    values = torch.cat([known, *near, torch.tensor([0.0, 1.0], dtype=dtype)])
    found = voxels.leveller(values, tuple(thresholds))(values)
    expected = sum((values >= threshold).int() for threshold in known)
    assert torch.equal(found.int(), expected)


@pytest.mark.parametrize("kind", KINDS)
@given(mask_pairs(), threshold_lists)
def test_a_family_of_hard_masks_scored_by_scikit_learn_has_the_same_mean(kind, pair, thresholds):
    theirs = {"dice": f1_score, "iou": jaccard_score}[kind]
    score = LISTED[kind](*pair, thresholds=thresholds, ignore_empty=False)
    for item in range(2):
        family = [[(maps[item] >= t).flatten().numpy() for t in thresholds] for maps in pair]
        scores = [theirs(b, a, zero_division=1.0) for a, b in zip(*family, strict=True)]
        assert score[item, 0].item() == pytest.approx(np.mean(scores), abs=1e-12)


@given(mask_pairs())
def test_the_expected_dice_is_monais_dice_of_each_hard_mask_weighed_by_its_thresholds(pair):
    pred, target = (maps[:1] for maps in pair)
    values = torch.cat([torch.zeros(1).double(), pred.flatten(), target.flatten()]).unique()
    score = expected_dice_of(pred, target, ignore_empty=False).item()
    if len(values) == 1:
        assert score == 1
        return
    dice = [
        compute_dice((pred >= high).float(), (target >= high).float(), ignore_empty=False).item()
        for high in values[1:]
    ]
    expected = (values.diff() * torch.tensor(dice, dtype=torch.float64)).sum() / values[-1]
    assert score == pytest.approx(expected.item(), abs=1e-6)  # theirs is float32


@pytest.mark.parametrize("reduction", ["mean", "sum", "mean_batch", "mean_channel", "none"])
@pytest.mark.parametrize("options", [{}, {"include_background": False}, {"ignore_empty": False}])
@pytest.mark.parametrize(
    ("make", "their_class"),
    [
        (ThresholdedDiceMetric, DiceMetric),
        (thresholded_iou_metric, MeanIoU),
        (expected_dice_metric, DiceMetric),
        (expected_iou_metric, MeanIoU),
        (best_dice_metric, DiceMetric),
        (lambda **given: expected_dice_metric(method="histogram", **given), DiceMetric),
        (lambda **given: best_dice_metric(target_threshold=0.5, **given), DiceMetric),
    ],
)
def test_hard_masks_score_as_monai_scores_them(make, their_class, reduction, options):
    ours = make(reduction=reduction, get_not_nans=True, **options)
    theirs = their_class(reduction=reduction, get_not_nans=True, **options)
    for seed in range(2):
        ours(*_hard(seed=seed))
        theirs(*_hard(seed=seed))
    for a, b in zip(ours.aggregate(), theirs.aggregate(), strict=True):
        torch.testing.assert_close(a.double(), b.double(), equal_nan=True, rtol=1e-6, atol=1e-6)


def test_labels_score_as_monai_scores_them():
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.randint(0, 3, (2, 2, 1, 6, 6), generator=generator)
    theirs = compute_dice(pred, target, num_classes=3).double()
    for compute in (thresholded_dice_of, expected_dice_of):
        torch.testing.assert_close(compute(pred, target, num_classes=3), theirs, rtol=0, atol=1e-6)


def test_expected_scores_of_two_constant_maps_are_the_ratio_of_their_values():
    pred, target = torch.full((1, 1, 5), 0.2).double(), torch.full((1, 1, 5), 0.8).double()
    for compute in EXPECTED.values():
        assert compute(pred, target).item() == pytest.approx(0.25, abs=1e-12)


def test_expected_dice_of_a_ramp_against_its_full_mask_is_that_of_the_integral():
    steps = 200_000
    ramp = ((torch.arange(steps) + 0.5) / steps).double().view(1, 1, -1)
    # A share 1 - t of the ramp reaches t, of the mask all: the integral of 2 (1 - t) / (2 - t)
    expected = 2 - 2 * math.log(2)
    for method in ("exact", "histogram"):
        score = expected_dice_of(ramp, torch.ones_like(ramp), method=method)
        assert score.item() == pytest.approx(expected, abs=1e-5)


@given(mask_pairs())
def test_a_map_equals_itself_and_order_does_not_matter(pair):
    pred, target = pair
    for compute in (*LISTED.values(), *EXPECTED.values()):
        swapped = compute(target, pred, ignore_empty=False)
        torch.testing.assert_close(compute(pred, target, ignore_empty=False), swapped)
        assert compute(pred, pred, ignore_empty=False).eq(1).all()


@given(mask_pairs(), st.floats(0, 1))
def test_a_prediction_moved_toward_the_target_scores_no_less(pair, share):
    pred, target = pair
    nearer = (pred + share * (target - pred)).clamp(0, 1)
    nearer = torch.where(pred < target, nearer.clamp(pred, target), nearer.clamp(target, pred))
    for compute in (*LISTED.values(), *EXPECTED.values()):
        better = compute(nearer, target, ignore_empty=False)
        assert (better >= compute(pred, target, ignore_empty=False) - 1e-12).all()


@given(mask_pairs(), st.sampled_from([0.5, 0.125]))
def test_expected_scores_do_not_change_if_both_maps_are_scaled(pair, factor):
    for method in ("exact", "histogram"):
        for compute in EXPECTED.values():
            scaled = compute(*(maps * factor for maps in pair), method=method)
            torch.testing.assert_close(scaled, compute(*pair, method=method), equal_nan=True)


@given(mask_pairs())
def test_iou_is_at_most_dice_and_finer_bins_bound_closer(pair):
    assert (expected_iou_of(*pair, ignore_empty=False) <= 1e-12 + expected_dice_of(
        *pair, ignore_empty=False
    )).all()  # fmt: skip
    coarse, fine = (
        expected_dice_bounds_of(*pair, ignore_empty=False, bins=bins) for bins in (8, 32)
    )
    assert (coarse.lower <= fine.lower + 1e-12).all()
    assert (fine.upper <= coarse.upper + 1e-12).all()


@given(mask_pairs(), threshold_lists)
def test_no_threshold_beats_the_best_of_all_values(pair, thresholds):
    pred = pair[0].clamp(min=0.01)
    best = best_dice_of(pred, pair[1], ignore_empty=False).score
    listed = best_dice_of(pred, pair[1], thresholds=thresholds, ignore_empty=False, empty=0.0).score
    assert (best >= listed - 1e-12).all()


def test_the_bounds_of_smooth_maps_are_near_and_those_of_hard_masks_are_exact():
    pred, target = soft_maps(1, 1, 64, 64, seed=3)
    lower, upper = expected_dice_bounds_of(pred, target)
    assert 0 < (upper - lower).item() < 0.005
    exact = expected_dice_of(pred, target).item()
    counted = expected_dice_of(pred, target, method="histogram").item()
    assert counted == pytest.approx(exact, abs=1e-4)
    lower, upper = expected_dice_bounds_of(*_hard())
    assert torch.equal(lower.nan_to_num(-1), upper.nan_to_num(-1))


def test_many_voxels_are_counted_in_parts(monkeypatch):
    pred, target = soft_maps(1, 1, 9, 9, dtype=torch.float64)

    def scores():
        options = {"thresholds": [0.2, 0.6]}
        listed = dice_curve_of(pred, target, **options).flatten()
        best = best_dice_of(pred, target, **options).score.flatten()
        exact = expected_dice_of(pred, target).flatten()
        return torch.cat([listed, best, exact, *expected_dice_bounds_of(pred, target)[0]])

    whole = scores()
    for size in (1, 7, 50):
        monkeypatch.setattr(voxels, "_VOXELS_AT_ONCE", size)
        monkeypatch.setattr(inputs, "VOXELS_AT_ONCE", size)
        torch.testing.assert_close(scores(), whole)


def test_thresholds_too_near_for_a_grid_are_told_apart():
    values = torch.linspace(0.3, 0.3 + 1e-6, 200, dtype=torch.float64).view(1, 1, -1)
    thresholds = [0.3 + 1e-7, 0.3 + 2e-7, 0.9]
    found = dice_curve_of(values, values.flip(-1), thresholds=thresholds)
    for place, threshold in enumerate(thresholds):
        expected = reference_at_threshold(values, values.flip(-1), threshold, "dice")
        assert found[0, 0, place].item() == pytest.approx(expected, abs=1e-12)


def test_hundreds_of_thresholds_are_counted_right():
    thresholds = [step / 500 for step in range(1, 501)]
    pred, target = soft_maps(1, 1, 40)
    found = dice_curve_of(pred, target, thresholds=thresholds)[0, 0]
    for place, t in enumerate(thresholds):
        cut = [(maps >= t).numpy() for maps in (pred, target)]
        expected = reference_at_threshold(*cut, 0.5, "dice")
        assert found[place].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_value_stored_as_a_threshold_reaches_it_in_any_precision(dtype):
    for tenth in range(1, 10):
        maps = torch.full((1, 1, 3), tenth / 10, dtype=torch.float64).to(dtype)
        wide = torch.full((1, 1, 3), tenth / 10, dtype=torch.float64)
        for target in (maps, wide):
            found = dice_curve_of(maps, target, thresholds=[tenth / 10, 0.95], empty=0.5)
            assert found.flatten().tolist() == [1, 0.5]
        best = best_dice_of(maps, maps, target_threshold=tenth / 10)
        assert best.score.item() == 1


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_precision_scores_as_its_values_in_float64(dtype):
    pred, target = soft_maps(2, 2, 50, dtype=dtype)
    for compute in EXPECTED.values():
        torch.testing.assert_close(
            compute(pred, target), compute(pred.double(), target.double()), rtol=0, atol=1e-12
        )
        mixed = compute(pred, target.double())
        torch.testing.assert_close(mixed, compute(pred, target), rtol=0, atol=1e-12)


def test_a_voxel_of_half_weight_counts_as_half_a_voxel():
    pred, target, weights = (0.9, 0.4, 0.2), (0.6, 0.5, 0.0), (1.0, 0.5, 0.0)
    mask = row_of(*weights)
    for kind in KINDS:
        expected = reference_expected(pred, target, kind, weights=weights)
        counted = np.array(pred) * (np.array(weights) > 0), target
        assert expected == pytest.approx(reference_expected(*counted, kind, weights=weights))
        score = EXPECTED[kind](row_of(*pred), row_of(*target), mask=mask)
        assert score.item() == pytest.approx(expected, abs=1e-12)
        lower, upper = BOUNDS[kind](row_of(*pred), row_of(*target), mask=mask)
        assert lower <= score <= upper
        expected = reference_thresholded(*counted, (0.1, 0.5, 0.8), kind, weights=weights)
        score = LISTED[kind](row_of(*pred), row_of(*target), mask=mask, thresholds=(0.1, 0.5, 0.8))
        assert score.item() == pytest.approx(expected, abs=1e-12)
    twice = row_of(0.9, 0.9, 0.4), row_of(0.6, 0.6, 0.5)
    for thresholds in (None, [0.3, 0.8]):
        options = {"thresholds": thresholds, "target_threshold": 0.5}
        weighed = best_dice_of(row_of(*pred), row_of(*target), mask=mask, **options)
        assert weighed == best_dice_of(*twice, **options)
