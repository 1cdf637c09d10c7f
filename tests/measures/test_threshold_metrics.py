"""Dice and IoU over thresholds as functions and MONAI's metrics: empty masks, data sets, errors."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine

from softoverlap.for_monai import ThresholdedDiceMetric, reduce_scores
from tests.support.threshold_forms import (
    CURVES,
    EXPECTED,
    LISTED,
    METRICS,
    best_dice_metric,
    best_dice_of,
    expected_dice_metric,
    expected_dice_of,
    expected_iou_metric,
    row_of,
    soft_maps,
    thresholded_dice_of,
    thresholded_iou_metric,
    thresholded_iou_of,
)


def test_ignored_voxels_do_not_count_and_may_hold_anything():
    pred, labels = row_of(0.5, 0.2, 0.9), row_of(1.0, 0.0, 255.0)
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
    best = best_dice_of(row_of(0.2, 0.9, 0.6, 0.4), row_of(0, 0, 1, 1))
    assert best.threshold.item() == 0.4


def test_inputs_stay_as_they_are():
    maps = soft_maps(1, 2, 30)
    kept = maps.clone()
    for compute in (*LISTED.values(), *EXPECTED.values(), best_dice_of):
        compute(maps[0], maps[1])
    expected_dice_of(maps[0], maps[1], method="histogram")
    assert torch.equal(maps, kept)


@pytest.mark.parametrize("metric", [ThresholdedDiceMetric, thresholded_iou_metric])
def test_over_a_data_set_sizes_are_added_up_at_each_threshold(metric):
    pred, target = soft_maps(3, 2, 40)
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
    pred, target = soft_maps(3, 2, 40)
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
    pred, target = soft_maps(4, 2, 60)
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
    metric(row_of(0.9, 0.9, 0.2), row_of(1, 1, 1))
    assert best_of(metric).threshold.item() == 0.2
    metric(row_of(*[0.3] * 20), row_of(*[0] * 20))
    best = best_of(metric)
    assert best.threshold.item() == 0.5
    assert best.score.item() == pytest.approx(0.8)
    assert best_of(metric, "items").threshold.item() == 0.2


def test_expected_metrics_say_between_which_bounds_the_exact_score_lies():
    pred, target = soft_maps(3, 2, 50)
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
    pairs = [soft_maps(2, 5, 4, seed=1), soft_maps(2, 7, 3, 2, seed=2)]
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
    pred, target = soft_maps(2, 2, 20)
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
        metric(*soft_maps(1, 1, 20))
        assert 0 < metric.aggregate().item() < 1


def test_names_and_counts_come_with_the_scores():
    pred, target = soft_maps(2, 2, 30)
    target[0, 1] = 0
    for metric in METRICS:
        scores = metric(
            reduction="mean_batch", get_not_nans=True, return_with_label=["core", "edge"]
        )
        scores(pred, target)
        found, counted = scores.aggregate()
        assert list(found) == ["core", "edge"]
        assert counted.tolist() == [2, 1]


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
        scores(*soft_maps(1, 1, 4))
        with pytest.raises(ValueError, match="not formed from sums over items"):
            scores.aggregate(reduction)


def test_what_nobody_looks_at_breaks_nothing():
    pred = torch.tensor([[[0.5, torch.nan, 7.0]]])
    truth = torch.tensor([[[0.5, 0.5, 1.0]]])
    for compute in (thresholded_dice_of, expected_dice_of):
        assert 0 <= compute(pred, truth, validate=False).item() <= 1
