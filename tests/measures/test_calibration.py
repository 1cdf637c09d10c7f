"""Calibration near the lesions, with MONAI, torchmetrics and scikit-learn as oracles."""

from __future__ import annotations

import itertools
import math

import monai.metrics
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine
from scipy import ndimage

from softoverlap.for_monai import MeasureMetric
from softoverlap.measures import Brier, CalibrationError, near
from tests.support.measure_forms import as_function, as_metric
from tests.support.reference_calibration import (
    reference_brier,
    reference_calibration_errors,
    reference_near,
)
from tests.support.strategies import mask_pairs

ERRORS = ("expected", "average", "maximum")
MEASURES = [Brier, CalibrationError]
brier_of, calibration_error_of = COMPUTES = [as_function(measure) for measure in MEASURES]
brier_metric, calibration_error_metric = METRICS = [as_metric(measure) for measure in MEASURES]
thresholds = st.sampled_from([0.1, 0.5, 1.0])
margins = st.sampled_from([None, 0.0, 1.0, 1.5, 2.0])


def _maps(seed=0, items=2, channels=1, shape=(6, 5, 4)):
    """Soft predictions and hard targets."""
    generator = torch.Generator().manual_seed(seed)
    pred = torch.rand(items, channels, *shape, generator=generator)
    return pred, (torch.rand(pred.shape, generator=generator) < pred**2).float()


def _near(pred, target, threshold, margin):
    if margin is None:
        return set(np.ndindex(*pred.shape))
    return reference_near(pred, target, threshold, margin, (1.0,) * pred.ndim)


@given(mask_pairs(), thresholds, margins)
def test_brier_equals_the_reference(pair, threshold, margin):
    pred, target = pair
    score = brier_of(pred, target, union_threshold=threshold, margin=margin)
    for item in range(len(pred)):
        a, b = pred[item, 0].numpy(), target[item, 0].numpy()
        expected = reference_brier(a, b, _near(a, b, threshold, margin))
        assert score[item, 0].item() == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(mask_pairs(), thresholds, margins, st.sampled_from([1, 2, 7, 20]))
def test_calibration_errors_equal_the_reference(pair, threshold, margin, bins):
    pred, target = pair
    options = {"num_bins": bins, "union_threshold": threshold, "margin": margin}
    scores = [
        calibration_error_of(pred, target, calibration_reduction=kind, **options) for kind in ERRORS
    ]
    for item in range(len(pred)):
        a, b = pred[item, 0].numpy(), target[item, 0].numpy()
        expected = reference_calibration_errors(a, b, _near(a, b, threshold, margin), bins)
        found = [score[item, 0].item() for score in scores]
        assert found == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(mask_pairs())
def test_expected_is_at_most_maximum_and_the_square_of_it_at_most_brier(pair):
    pred, target = pair
    expected, average, maximum = (
        calibration_error_of(pred, target, calibration_reduction=kind, margin=None)
        for kind in ERRORS
    )
    assert (expected <= maximum + 1e-12).all()
    assert (average <= maximum + 1e-12).all()
    brier = brier_of(pred, target, margin=None)
    assert (expected**2 <= brier + 1e-12).all()  # Jensen


@given(mask_pairs())
def test_a_map_against_itself_has_no_error(pair):
    pred, _ = pair
    assert brier_of(pred, pred, margin=None).eq(0).all()
    assert calibration_error_of(pred, pred, margin=None).eq(0).all()


def test_the_share_of_raters_is_calibrated_and_yet_not_sharp():
    target = torch.tensor([[[1.0, 1.0, 1.0, 0.0]]])
    pred = torch.full_like(target, 0.75)
    assert calibration_error_of(pred, target).item() == 0
    assert brier_of(pred, target).item() == 0.75 * 0.25


@pytest.mark.skipif(
    not hasattr(monai.metrics, "CalibrationErrorMetric"), reason="MONAI has it from 1.6 on"
)
@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("reduction", ["mean", "none", "mean_batch"])
def test_hard_targets_score_as_monai_scores_them(kind, reduction):
    theirs = monai.metrics.CalibrationErrorMetric(
        num_bins=13, calibration_reduction=kind, metric_reduction=reduction
    )
    ours = calibration_error_metric(
        num_bins=13, calibration_reduction=kind, reduction=reduction, margin=None
    )
    for seed in range(2):
        maps = _maps(seed, channels=3)
        ours(*maps)
        theirs(*maps)
    torch.testing.assert_close(
        ours.aggregate().double().flatten(),
        theirs.aggregate().double().flatten(),
        atol=1e-6,
        rtol=0,
    )


@pytest.mark.parametrize(("kind", "norm"), [("expected", "l1"), ("maximum", "max")])
def test_hard_targets_score_as_torchmetrics_scores_them(kind, norm):
    classification = pytest.importorskip("torchmetrics.classification")
    pred, target = _maps(items=1)
    theirs = classification.BinaryCalibrationError(n_bins=11, norm=norm)
    expected = theirs(pred.flatten(), target.flatten().int()).item()
    score = calibration_error_of(pred, target, num_bins=11, calibration_reduction=kind, margin=None)
    assert score.item() == pytest.approx(expected, abs=1e-6)


def test_the_curve_and_brier_are_scikit_learns():
    calibration = pytest.importorskip("sklearn.calibration")
    from sklearn.metrics import brier_score_loss

    metric = calibration_error_metric(num_bins=9, margin=None)
    brier = brier_metric(reduction="dataset", margin=None)
    maps = [_maps(seed) for seed in range(2)]
    for pair in maps:
        metric(*pair)
        brier(*pair)
    pred = torch.cat([pair[0] for pair in maps]).flatten().double().numpy()
    target = torch.cat([pair[1] for pair in maps]).flatten().numpy()
    observed, predicted = calibration.calibration_curve(target, pred, n_bins=9)
    curve = metric.details()["label_0"]
    assert curve.observed == pytest.approx(observed.tolist(), abs=1e-12)
    assert curve.predicted == pytest.approx(predicted.tolist(), abs=1e-12)
    assert curve.edges == pytest.approx(np.linspace(0, 1, 10).tolist(), abs=1e-15)
    assert sum(curve.counts) == len(pred)
    assert brier.aggregate().item() == pytest.approx(brier_score_loss(target, pred), abs=1e-12)


def test_background_flatters_and_a_margin_does_not():
    pred, target = _maps(items=1)
    wide = [torch.nn.functional.pad(values, [20] * 6) for values in (pred, target)]
    for compute in COMPUTES:
        near, far = compute(*wide, margin=0.0), compute(*wide, margin=None)
        assert far.item() < near.item() / 10
        assert compute(pred, target, margin=0.0).item() == pytest.approx(near.item(), abs=1e-12)


@pytest.mark.parametrize("options", [{"spacing": (1.0, 2.0, 4.0)}, {}])
def test_a_margin_in_mm_is_a_ball_in_space(options):
    target = torch.zeros(1, 1, 15, 15, 15)
    target[0, 0, 7, 7, 7] = 1
    inside = sum(
        x * x + (2 * y) ** 2 + (4 * z) ** 2 <= 16
        for x, y, z in itertools.product(range(-7, 8), repeat=3)
    )
    pred = torch.zeros_like(target)
    if not options:
        pred = MetaTensor(pred, affine=torch.diag(torch.tensor([1.0, 2.0, 4.0, 1.0])))
    assert brier_of(pred, target, margin_mm=4.0, **options).item() == 1 / inside
    metric = calibration_error_metric(margin_mm=4.0, **options)
    metric(pred, target)
    assert sum(metric.details()["label_0"].counts) == inside


def test_three_edges_of_a_tenth_are_within_three_tenths():
    target = torch.zeros(1, 1, 9)
    target[..., 4] = 1
    score = brier_of(torch.zeros_like(target), target, margin_mm=0.3, spacing=0.1)
    assert score.item() == pytest.approx(1 / 7)


def test_a_spacing_of_the_call_goes_before_the_one_given_at_the_start():
    target = torch.zeros(1, 1, 9)
    target[..., 4] = 1
    metric = brier_metric(margin_mm=2.0, spacing=1.0)
    metric(torch.zeros_like(target), target)
    metric(torch.zeros_like(target), target, spacing=2.0)
    assert metric.aggregate("none").flatten().tolist() == pytest.approx([1 / 5, 1 / 3])


def test_a_probability_on_an_edge_lies_in_the_upper_bin_in_any_precision():
    pred = torch.tensor([[[0.0, 0.3, 0.7, 1.0]]])
    for values in (pred, pred.double().mul(10).round().div(10), pred.half()):
        metric = calibration_error_metric(num_bins=10, margin=None)
        metric(values, torch.zeros_like(values))
        counts = metric.details()["label_0"].counts
        assert [k for k, count in enumerate(counts) if count] == [0, 3, 7, 9]
    below = calibration_error_metric(num_bins=10, margin=None, right=True)
    below(pred, torch.zeros_like(pred))
    assert [k for k, count in enumerate(below.details()["label_0"].counts) if count] == [
        0,
        2,
        6,
        9,
    ]


def test_a_union_threshold_is_met_in_float32_too():
    pred = torch.tensor([[[0.7, 0.0]]])
    score = brier_of(pred, torch.zeros_like(pred), union_threshold=0.7, margin=0.0)
    assert score.item() == pytest.approx(0.49)


@pytest.mark.parametrize("metric", METRICS)
def test_a_scan_where_nothing_is_marked_is_nan_and_counted_out(metric):
    scores = metric(get_not_nans=True)
    empty = torch.zeros(1, 1, 5)
    pred = torch.full((1, 1, 5), 0.5)
    scores(torch.cat([empty + 0.05, pred]), torch.cat([empty, empty]))
    score, counted = scores.aggregate()
    assert (counted.item(), scores.summary().counted, scores.summary().items) == (1, 1, 2)
    assert score.item() == pytest.approx(0.25 if metric is brier_metric else 0.5)


def test_a_mean_counts_scans_and_a_data_set_counts_voxels():
    small, large = _maps(0, items=1, shape=(3, 3)), _maps(1, items=1, shape=(8, 9))
    both = [
        torch.cat([a.flatten(2), b.flatten(2)], dim=2) for a, b in zip(small, large, strict=True)
    ]
    for metric, compute in zip(METRICS, COMPUTES, strict=True):
        scores = metric(margin=None)
        scores(
            [item[0] for item in (small[0], large[0])], [item[0] for item in (small[1], large[1])]
        )
        alone = [compute(*maps, margin=None).item() for maps in (small, large)]
        assert scores.aggregate().item() == pytest.approx(np.mean(alone), abs=1e-12)
        pooled = compute(*both, margin=None).item()
        assert scores.aggregate("dataset").item() == pytest.approx(pooled, abs=1e-12)
        assert pooled != pytest.approx(np.mean(alone), abs=1e-4)


@pytest.mark.parametrize("compute", COMPUTES)
def test_voxels_that_do_not_count_might_as_well_not_be_there(compute):
    pred, target = _maps(items=1, shape=(9,))
    mask = (torch.arange(9) < 5).float()[None, None]
    expected = compute(pred[..., :5], target[..., :5])
    assert compute(pred, target, mask=mask).item() == pytest.approx(expected.item(), abs=1e-12)
    labels = torch.where(mask > 0, target, 255)
    found = compute(pred, labels, ignore_index=255)
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)


@pytest.mark.parametrize("compute", COMPUTES)
def test_a_voxel_that_counts_half_counts_half(compute):
    pred, target = _maps(items=1, shape=(4,))
    mask = torch.tensor([[[1.0, 1.0, 0.5, 0.5]]])
    twice = [torch.cat([values, values[..., :2]], dim=2) for values in (pred, target)]
    expected = compute(*twice, margin=None).item()
    assert compute(pred, target, mask=mask, margin=None).item() == pytest.approx(
        expected, abs=1e-12
    )


def test_classes_have_their_own_unions_and_names():
    pred, target = _maps(channels=3)
    metric = calibration_error_metric(
        include_background=False, reduction="mean_batch", return_with_label=["core", "edge"]
    )
    metric(pred, target)
    alone = calibration_error_of(pred[:, 1:2], target[:, 1:2]).mean().item()
    assert metric.aggregate()["core"] == pytest.approx(alone, abs=1e-12)
    assert list(metric.details()) == ["core", "edge"]


@pytest.mark.parametrize("metric", METRICS)
def test_meta_tensors_of_different_spacing_are_taken_from_lists(metric):
    maps = [_maps(seed, items=1, shape=(4 + seed, 6, 5)) for seed in range(2)]
    edges = [(1.0, 1.0, 3.0), (2.0, 0.5, 1.0)]
    affines = [torch.diag(torch.tensor([*edge, 1.0])) for edge in edges]
    sparse = [(pred * (pred > 0.9), target * (target > 1)) for pred, target in maps]
    scores = metric(margin_mm=1.5)
    scores(
        [MetaTensor(pred[0], affine=a) for (pred, _), a in zip(sparse, affines, strict=True)],
        [target[0] for _, target in sparse],
    )
    alone = [
        metric(margin_mm=1.5, spacing=edge)(*pair).item()
        for pair, edge in zip(sparse, edges, strict=True)
    ]
    assert scores.aggregate("none").flatten().tolist() == pytest.approx(alone, abs=1e-12)
    assert type(scores.aggregate()) is torch.Tensor


@pytest.mark.parametrize("measure", MEASURES)
def test_metrics_run_in_monais_ignite_handler_from_a_bundle(measure):
    made = {"_target_": f"softoverlap.{measure.__name__}", "margin": 2.0}
    config = {"_target_": "softoverlap.MeasureMetric", "measure": made}
    pred, target = _maps()
    engine = Engine(lambda engine, batch: {"pred": pred, "label": target})
    handler = IgniteMetricHandler(
        metric_fn=ConfigParser({"metric": config}).get_parsed_content("metric"),
        output_transform=from_engine(["pred", "label"]),
    )
    handler.attach(engine, name="found")
    engine.run([0], max_epochs=1)
    alone = MeasureMetric(measure(margin=2.0))
    alone(pred, target)
    assert engine.state.metrics["found"] == pytest.approx(alone.aggregate().item(), abs=1e-12)


@pytest.mark.bad_input
@pytest.mark.parametrize("metric", METRICS)
def test_bad_input_is_named(metric):
    maps = torch.full((1, 1, 4), 0.5)
    with pytest.raises(ValueError, match="y_pred must hold probabilities .* got values in"):
        metric()(maps * 4, maps)
    with pytest.raises(ValueError, match=r"y must have the shape of y_pred, \(1, 1, 4\)"):
        metric()(maps, maps[..., :2])
    with pytest.raises(ValueError, match="margin must be at least 0 and finite, got -1"):
        metric(margin=-1)
    with pytest.raises(ValueError, match="margin_mm must be at least 0 and finite, got inf"):
        metric(margin_mm=math.inf)
    with pytest.raises(ValueError, match=r"union_threshold must lie in \(0, 1\], got 0"):
        metric(union_threshold=0)
    with pytest.raises(ValueError, match="spacing must be given in mm"):
        metric(margin_mm=2.0)(maps, maps)
    with pytest.raises(ValueError, match=r"mask must have shape \(1, 1, 4\), got \(1, 1, 3\)"):
        metric()(maps, maps, mask=torch.ones(1, 1, 3))


@pytest.mark.bad_input
def test_bins_and_errors_that_do_not_exist_are_named():
    maps = torch.full((1, 1, 4), 0.5)
    with pytest.raises(ValueError, match="num_bins must be at least 1, got 0"):
        calibration_error_metric(num_bins=0)
    with pytest.raises(TypeError, match="num_bins must be an integer, got float"):
        calibration_error_of(maps, maps, num_bins=2.5)
    with pytest.raises(ValueError, match="calibration_reduction must be one of .* got 'mean'"):
        calibration_error_of(maps, maps, calibration_reduction="mean")
    with pytest.raises(ValueError, match="call the metric before aggregate"):
        calibration_error_metric().details()


def test_a_voxel_that_counts_in_part_stays_in_its_bin():
    pred = torch.full((1, 1, 100), 0.7)
    weights = torch.rand(1, 1, 100, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05
    options = {"num_bins": 10, "margin": None, "calibration_reduction": "average"}
    error = calibration_error_of(pred, pred, mask=weights, **options)
    assert error.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("edges", [(1.0,), (1.0, 1.0), (0.5, 1.0, 3.0), (0.1, 0.1, 0.1)])
@pytest.mark.parametrize("steps", [0.0, 1.0, 3.0, 4.7, 30.0])
def test_near_is_within_the_distance_of_a_marked_voxel(edges, steps, monkeypatch):
    marked = np.random.default_rng(1).random((40, 22, 19)[: len(edges)]) < 0.01
    marked.flat[3] = True
    reach = steps * edges[0]
    exact = np.asarray(ndimage.distance_transform_edt(~marked, sampling=edges))
    for short in (0, 10**6):
        monkeypatch.setattr(near, "_SHORT", short)
        assert np.array_equal(near._within(marked, reach, edges), exact <= reach * (1 + 1e-7))
