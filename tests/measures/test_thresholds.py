"""Dice and IoU over thresholds: at a list of them, over all of them, at the best one."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import DiceMetric, MeanIoU, compute_dice
from sklearn.metrics import f1_score, jaccard_score

from softoverlap.for_monai import ThresholdedDiceMetric, reduce_scores
from softoverlap.measures import (
    BestThresholdDice,
    ExpectedDice,
    ExpectedIoU,
    ThresholdedDice,
    ThresholdedIoU,
    inputs,
)
from softoverlap.measures.thresholds import voxels
from tests.support.measure_forms import as_function, as_metric, with_statistics
from tests.support.reference_thresholds import (
    reference_at_threshold,
    reference_best_dice,
    reference_expected,
    reference_thresholded,
)
from tests.support.strategies import mask_pairs

thresholded_dice_of, thresholded_iou_of = map(as_function, (ThresholdedDice, ThresholdedIoU))
dice_curve_of = with_statistics(ThresholdedDice, "curve")
iou_curve_of = with_statistics(ThresholdedIoU, "curve")
expected_dice_of, expected_iou_of = map(as_function, (ExpectedDice, ExpectedIoU))
expected_dice_bounds_of = with_statistics(partial(ExpectedDice, method="histogram"), "bounds")
expected_iou_bounds_of = with_statistics(partial(ExpectedIoU, method="histogram"), "bounds")
best_dice_of = with_statistics(partial(BestThresholdDice, thresholds=None), "best")

LISTED = {"dice": thresholded_dice_of, "iou": thresholded_iou_of}
CURVES = {"dice": dice_curve_of, "iou": iou_curve_of}
EXPECTED = {"dice": expected_dice_of, "iou": expected_iou_of}
BOUNDS = {"dice": expected_dice_bounds_of, "iou": expected_iou_bounds_of}
METRICS = [
    ThresholdedDiceMetric,
    thresholded_iou_metric := as_metric(ThresholdedIoU),
    expected_dice_metric := as_metric(ExpectedDice),
    expected_iou_metric := as_metric(ExpectedIoU),
    best_dice_metric := partial(as_metric(BestThresholdDice), reduction="dataset"),
]
KINDS = ["dice", "iou"]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]

threshold_lists = st.lists(
    st.one_of(st.sampled_from([0.25, 0.5, 1.0]), st.floats(1e-6, 1)),
    min_size=1,
    max_size=6,
    unique=True,
)


def _soft(*shape, seed=0, dtype=torch.float32):
    """Maps with many zeros and values on tenths, as predictions and means of raters are."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(2, *shape, generator=generator, dtype=torch.float64) * 1.5 - 0.5
    maps[1] = (maps[1] * 10).round() / 10
    return maps.clamp(0, 1).to(dtype)


def _hard(seed=0):
    generator = torch.Generator().manual_seed(seed)
    maps = (torch.rand(2, 4, 3, 6, 5, 4, generator=generator) > 0.6).float()
    maps[1, 0, 1] = 0  # an empty target
    return maps[0], maps[1]


def _row(*values, dtype=torch.float64):
    return torch.tensor([[values]], dtype=dtype)


# --- against the references ---


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


# --- against independent tools ---


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


# --- closed forms and laws ---


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
    pred, target = _soft(1, 1, 64, 64, seed=3)
    lower, upper = expected_dice_bounds_of(pred, target)
    assert 0 < (upper - lower).item() < 0.005
    exact = expected_dice_of(pred, target).item()
    counted = expected_dice_of(pred, target, method="histogram").item()
    assert counted == pytest.approx(exact, abs=1e-4)
    lower, upper = expected_dice_bounds_of(*_hard())
    assert torch.equal(lower.nan_to_num(-1), upper.nan_to_num(-1))


def test_many_voxels_are_counted_in_parts(monkeypatch):
    pred, target = _soft(1, 1, 9, 9, dtype=torch.float64)

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
    pred, target = _soft(1, 1, 40)
    found = dice_curve_of(pred, target, thresholds=thresholds)[0, 0]
    for place, t in enumerate(thresholds):
        cut = [(maps >= t).numpy() for maps in (pred, target)]
        expected = reference_at_threshold(*cut, 0.5, "dice")
        assert found[place].item() == pytest.approx(expected, abs=1e-12)


# --- precision, weights, empty masks ---


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
    pred, target = _soft(2, 2, 50, dtype=dtype)
    for compute in EXPECTED.values():
        torch.testing.assert_close(
            compute(pred, target), compute(pred.double(), target.double()), rtol=0, atol=1e-12
        )
        mixed = compute(pred, target.double())
        torch.testing.assert_close(mixed, compute(pred, target), rtol=0, atol=1e-12)


def test_a_voxel_of_half_weight_counts_as_half_a_voxel():
    pred, target, weights = (0.9, 0.4, 0.2), (0.6, 0.5, 0.0), (1.0, 0.5, 0.0)
    mask = _row(*weights)
    for kind in KINDS:
        expected = reference_expected(pred, target, kind, weights=weights)
        counted = np.array(pred) * (np.array(weights) > 0), target
        assert expected == pytest.approx(reference_expected(*counted, kind, weights=weights))
        score = EXPECTED[kind](_row(*pred), _row(*target), mask=mask)
        assert score.item() == pytest.approx(expected, abs=1e-12)
        lower, upper = BOUNDS[kind](_row(*pred), _row(*target), mask=mask)
        assert lower <= score <= upper
        expected = reference_thresholded(*counted, (0.1, 0.5, 0.8), kind, weights=weights)
        score = LISTED[kind](_row(*pred), _row(*target), mask=mask, thresholds=(0.1, 0.5, 0.8))
        assert score.item() == pytest.approx(expected, abs=1e-12)
    twice = _row(0.9, 0.9, 0.4), _row(0.6, 0.6, 0.5)
    for thresholds in (None, [0.3, 0.8]):
        options = {"thresholds": thresholds, "target_threshold": 0.5}
        weighed = best_dice_of(_row(*pred), _row(*target), mask=mask, **options)
        assert weighed == best_dice_of(*twice, **options)


def test_ignored_voxels_do_not_count_and_may_hold_anything():
    pred, labels = _row(0.5, 0.2, 0.9), _row(1.0, 0.0, 255.0)
    for compute in (*LISTED.values(), *EXPECTED.values()):
        alone = compute(pred[..., :2], labels[..., :2])
        assert torch.equal(compute(pred, labels, ignore_index=255), alone)
    best = best_dice_of(pred, labels, ignore_index=255)
    assert (best.score.item(), best.threshold.item()) == (1, 0.5)


@pytest.mark.parametrize("method", ["exact", "histogram"])
def test_empty_masks_are_nan_or_score_as_told(method):
    empty, one = torch.zeros(1, 1, 4), torch.ones(1, 1, 4)
    for compute in EXPECTED.values():
        assert compute(empty, empty, method=method).isnan().all()
        assert compute(one, empty, method=method).isnan().all()
        told = compute(empty, empty, ignore_empty=False, empty=0.25, method=method)
        assert told.item() == 0.25
        assert compute(one, empty, ignore_empty=False, method=method).item() == 0
        assert compute(empty, one, method=method).item() == 0


def test_a_threshold_above_both_maps_scores_as_told():
    low = torch.full((1, 1, 4), 0.4)
    assert thresholded_dice_of(low, low, empty=0.0).item() == pytest.approx(4 / 9)
    assert thresholded_dice_of(low, low, empty=float("nan")).item() == 1
    assert thresholded_dice_of(low, low * 0).isnan().all()
    assert thresholded_dice_of(low, low * 0, ignore_empty=False).item() == pytest.approx(5 / 9)
    faint = torch.full((1, 1, 4), 0.05)  # below every threshold
    assert thresholded_dice_of(low, faint).isnan().all()


def test_best_thresholds_of_empty_masks_are_nan_or_score_as_told():
    empty, one = torch.zeros(1, 1, 4), torch.ones(1, 1, 4)
    for thresholds in (None, [0.3, 0.6]):
        told = {"thresholds": thresholds, "ignore_empty": False}
        assert best_dice_of(empty, empty, **told).score.item() == 1
        assert best_dice_of(empty, empty, empty=0.5, **told).score.item() == 0.5
        assert best_dice_of(one, empty, **told).score.item() == 0
        missed = best_dice_of(empty, one, thresholds=thresholds)
        assert missed.score.item() == 0
        nothing = best_dice_of(one, empty, thresholds=thresholds)
        assert nothing.score.isnan().all()
        assert nothing.threshold.isnan().all()


def test_of_equal_scores_the_threshold_nearest_to_one_half_is_taken():
    one = torch.ones(1, 1, 4)
    for thresholds, expected in (([0.2, 0.45, 0.9], 0.45), ([0.4, 0.6], 0.4), ([0.3, 0.7], 0.3)):
        best = best_dice_of(one, one, thresholds=thresholds)
        assert best.threshold.item() == expected
    best = best_dice_of(_row(0.2, 0.9, 0.6, 0.4), _row(0, 0, 1, 1))
    assert best.threshold.item() == 0.4


def test_inputs_stay_as_they_are():
    maps = _soft(1, 2, 30)
    kept = maps.clone()
    for compute in (*LISTED.values(), *EXPECTED.values(), best_dice_of):
        compute(maps[0], maps[1])
    expected_dice_of(maps[0], maps[1], method="histogram")
    assert torch.equal(maps, kept)


# --- as metrics ---


@pytest.mark.parametrize("metric", [ThresholdedDiceMetric, thresholded_iou_metric])
def test_over_a_data_set_sizes_are_added_up_at_each_threshold(metric):
    pred, target = _soft(3, 2, 40)
    scores = metric(reduction="dataset_batch", thresholds=[0.2, 0.5, 0.75])
    scores(pred[:1], target[:1])
    scores(pred[1:], target[1:])
    joined = [maps.movedim(0, 1).reshape(1, 2, -1) for maps in (pred, target)]
    compute = {ThresholdedDiceMetric: "dice", thresholded_iou_metric: "iou"}[metric]
    options = {"thresholds": [0.2, 0.5, 0.75]}
    torch.testing.assert_close(scores.aggregate(), LISTED[compute](*joined, **options)[0])
    sizes = scores.statistics().sum(dim=0)
    expected = CURVES[compute](*joined, **options)[0]
    torch.testing.assert_close(scores.measure.curve(sizes), expected)
    if isinstance(scores, ThresholdedDiceMetric):
        torch.testing.assert_close(scores.per_threshold(), expected.T)


def test_scores_at_each_threshold_have_the_reduced_score_as_their_mean():
    pred, target = _soft(3, 2, 40)
    for reduction, shape in (("mean", (9, 1)), ("mean_batch", (9, 2)), ("dataset", (9, 1))):
        metric = ThresholdedDiceMetric(reduction=reduction)
        metric(pred, target)
        found = metric.per_threshold()
        assert found.shape == shape
        torch.testing.assert_close(found.mean(dim=0), metric.aggregate())
    assert metric.measure.thresholds == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def best_of(metric, over="dataset"):
    """The one threshold of a data set, for each class."""
    sizes = metric.statistics()
    if over == "items":
        return metric.measure.best_on_average(sizes)
    return metric.measure.best(sizes.sum(dim=0))


def test_one_threshold_for_a_data_set_is_that_of_a_search():
    pred, target = _soft(4, 2, 60)
    metric = best_dice_metric(target_threshold=0.5)
    for item in range(4):
        metric(pred[item : item + 1], target[item : item + 1])
    hard = (target >= 0.5).double()
    for over in ("dataset", "items"):
        best = best_of(metric, over)
        for channel in range(2):
            scores = {}
            for t in metric.measure.thresholds:
                cut = (pred[:, channel] >= t).double()
                items = [(2 * (a * b).sum(), a.sum() + b.sum()) for a, b in zip(cut, hard[:, channel], strict=True)]  # fmt: skip # noqa: E501
                if over == "dataset":
                    scores[t] = (sum(x for x, _ in items) / sum(y for _, y in items)).item()
                else:
                    scores[t] = sum((x / y).item() for x, y in items) / 4
            assert best.score[channel].item() == pytest.approx(max(scores.values()), abs=1e-12)
            chosen = scores[best.threshold[channel].item()]
            assert chosen == pytest.approx(max(scores.values()), abs=1e-12)
    torch.testing.assert_close(metric.aggregate("dataset_batch"), best_of(metric).score)
    assert (metric.aggregate("mean_batch") >= best_of(metric, "items").score - 1e-12).all()


def test_scans_without_lesions_weigh_on_the_threshold_of_a_data_set():
    metric = best_dice_metric()
    metric(_row(0.9, 0.9, 0.2), _row(1, 1, 1))
    assert best_of(metric).threshold.item() == 0.2
    metric(_row(*[0.3] * 20), _row(*[0] * 20))
    best = best_of(metric)
    assert best.threshold.item() == 0.5
    assert best.score.item() == pytest.approx(0.8)
    assert best_of(metric, "items").threshold.item() == 0.2


def test_expected_metrics_say_between_which_bounds_the_exact_score_lies():
    pred, target = _soft(3, 2, 50)
    exact, counted = expected_dice_metric(), expected_dice_metric(method="histogram", bins=64)
    exact(pred, target)
    counted(pred, target)
    for reduction in ("mean", "mean_batch", "none"):
        lower, upper = (
            reduce_scores(bound, reduction)[0]
            for bound in counted.measure.bounds(counted.statistics())
        )
        for metric in (exact, counted):
            assert (lower <= metric.aggregate(reduction)).all()
            assert (metric.aggregate(reduction) <= upper).all()
        assert (upper - lower).max() > 0
    assert torch.equal(*exact.measure.bounds(exact.statistics()))
    assert torch.equal(counted.details()["label_0"].lower, counted.statistics()[:, 0, 1].mean())


@pytest.mark.parametrize("metric", METRICS)
def test_lists_of_items_of_different_shapes_and_meta_tensors_are_taken(metric):
    pairs = [_soft(2, 5, 4, seed=1), _soft(2, 7, 3, 2, seed=2)]
    listed, one_by_one = metric(), metric()
    listed([MetaTensor(p) for p, _ in pairs], [MetaTensor(t) for _, t in pairs])
    for pred, target in pairs:
        one_by_one(pred[None], target[None])
    assert torch.equal(listed.aggregate(), one_by_one.aggregate())
    assert type(listed.aggregate()) is torch.Tensor
    summary = listed.summary()
    assert summary.value == listed.aggregate().item()
    assert (summary.items, list(summary.per_class)) == (2, ["label_0", "label_1"])


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_run_in_monais_ignite_handler(metric):
    pred, target = _soft(2, 2, 20)
    engine = Engine(lambda engine, batch: {"pred": pred, "label": target})
    handler = IgniteMetricHandler(
        metric_fn=metric(), output_transform=from_engine(["pred", "label"])
    )
    handler.attach(engine, name="score")
    engine.run([0, 1], max_epochs=1)
    alone = metric()
    alone(pred, target)
    assert engine.state.metrics["score"] == pytest.approx(alone.aggregate().item(), abs=1e-12)


def test_a_bundles_config_makes_each_metric():
    made = {"_target_": "softoverlap.MeasureMetric"}
    config = ConfigParser(
        {
            "a": {"_target_": "softoverlap.ThresholdedDiceMetric", "thresholds": [0.5]},
            "b": made | {"measure": {"_target_": "softoverlap.ExpectedIoU", "method": "histogram"}},
            "c": made | {"measure": {"_target_": "softoverlap.BestThresholdDice"}},
        }
    )
    for name in "abc":
        metric = config.get_parsed_content(name)
        metric(*_soft(1, 1, 20))
        assert 0 < metric.aggregate().item() < 1


def test_names_and_counts_come_with_the_scores():
    pred, target = _soft(2, 2, 30)
    target[0, 1] = 0
    for metric in METRICS:
        scores = metric(
            reduction="mean_batch", get_not_nans=True, return_with_label=["core", "edge"]
        )
        scores(pred, target)
        found, counted = scores.aggregate()
        assert list(found) == ["core", "edge"]
        assert counted.tolist() == [2, 1]


# --- bad input ---


@pytest.mark.bad_input
@pytest.mark.parametrize("make", [*METRICS, thresholded_dice_of])
def test_values_that_are_no_probabilities_are_refused(make):
    good = torch.full((1, 1, 4), 0.5)
    call = make() if make in METRICS else make
    with pytest.raises(ValueError, match="y_pred must hold probabilities .* got values in"):
        call(good * 4, good)
    with pytest.raises(ValueError, match="y must hold probabilities .* got NaN"):
        call(good, good / 0 * 0)
    with pytest.raises(ValueError, match=r"y must have the shape of y_pred, \(1, 1, 4\)"):
        call(good, good[..., :2])


@pytest.mark.bad_input
@pytest.mark.parametrize("thresholds", [[], [0.0, 0.5], [0.5, 1.5], [float("nan")]])
def test_thresholds_outside_their_range_are_refused(thresholds):
    with pytest.raises(ValueError, match=r"thresholds must be one or more numbers in \(0, 1\]"):
        ThresholdedDiceMetric(thresholds=thresholds)
    with pytest.raises(ValueError, match=r"thresholds must be one or more numbers in \(0, 1\]"):
        best_dice_metric(thresholds=thresholds)


@pytest.mark.bad_input
def test_bad_options_are_named():
    maps = torch.full((1, 1, 4), 0.5)
    with pytest.raises(ValueError, match=r"thresholds must differ, got \[0.5, 0.5\]"):
        thresholded_iou_of(maps, maps, thresholds=[0.5, 0.5])
    with pytest.raises(TypeError, match="thresholds must be a list of numbers, got 0.5"):
        thresholded_dice_of(maps, maps, thresholds=0.5)
    with pytest.raises(ValueError, match=r"target_threshold must lie in \(0, 1\], got"):
        best_dice_metric(target_threshold=0)
    with pytest.raises(ValueError, match="method must be one of .* got 'sampled'"):
        expected_dice_of(maps, maps, method="sampled")
    for bins in (1000, 1, 2.0):
        with pytest.raises(ValueError, match=f"bins must be a power of two .* got {bins}"):
            expected_dice_metric(method="histogram", bins=bins)


@pytest.mark.bad_input
@pytest.mark.parametrize("metric", [expected_dice_metric, expected_iou_metric])
def test_a_data_sets_reduction_of_expected_scores_is_refused(metric):
    for reduction in ("dataset", "dataset_batch"):
        with pytest.raises(ValueError, match="not formed from sums over items, got"):
            metric(reduction=reduction)
        scores = metric()
        scores(*_soft(1, 1, 4))
        with pytest.raises(ValueError, match="not formed from sums over items"):
            scores.aggregate(reduction)


def test_what_nobody_looks_at_breaks_nothing():
    pred = torch.tensor([[[0.5, torch.nan, 7.0]]])
    truth = torch.tensor([[[0.5, 0.5, 1.0]]])
    for compute in (thresholded_dice_of, expected_dice_of):
        assert 0 <= compute(pred, truth, validate=False).item() <= 1
