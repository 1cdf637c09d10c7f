"""Soft volumes in ml and the figures of a Bland–Altman plot."""

from __future__ import annotations

import math

import monai.metrics
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine
from scipy import stats

from softoverlap.for_monai import MeasureMetric
from softoverlap.measures import RelativeVolumeBias, VolumeBias, compute_bland_altman
from tests.support.measure_forms import as_function, as_metric
from tests.support.strategies import mask_pairs

values = st.integers(0, 800).map(lambda eighths: eighths / 8)
pairs = hnp.arrays(np.float64, st.tuples(st.integers(2, 12), st.just(2)), elements=values)

relative_bias_of, volume_bias_of = as_function(RelativeVolumeBias), as_function(VolumeBias)
relative_bias_metric, volume_bias_metric = as_metric(RelativeVolumeBias), as_metric(VolumeBias)


def _maps(items=3, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pred, target = torch.rand(2, items, channels, 4, 5, 6, generator=generator)
    target[0] = 0  # a scan without lesions
    return pred, target


@given(mask_pairs(), st.sampled_from([0.5, 1.0, 3.0]))
def test_the_bias_is_the_difference_of_the_sums_in_ml(pair, edge):
    pred, target = pair
    bias = volume_bias_of(pred, target, spacing=edge)
    relative = relative_bias_of(pred, target)
    for item in range(len(pred)):
        volumes = [
            sum(map(float, maps[item].flatten())) * edge ** (pred.ndim - 2) / 1000
            for maps in (pred, target)
        ]
        assert bias[item, 0].item() == pytest.approx(volumes[0] - volumes[1], abs=1e-12)
        expected = volumes[0] / volumes[1] - 1 if volumes[1] else math.nan
        assert relative[item, 0].item() == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)


@given(mask_pairs())
def test_the_bias_changes_sign_with_the_order(pair):
    pred, target = pair
    forward = volume_bias_of(pred, target, spacing=1.0)
    assert torch.equal(forward, -volume_bias_of(target, pred, spacing=1.0))


def test_a_ball_of_10_mm_radius_has_its_volume_in_ml_on_an_uneven_grid():
    edges = (0.5, 1.0, 0.8)
    axes = [torch.arange(-12, 12, edge, dtype=torch.float64) + edge / 2 for edge in edges]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    ball = (x**2 + y**2 + z**2 <= 100).double()[None, None]
    bias = volume_bias_of(ball, torch.zeros_like(ball), spacing=edges)
    assert bias.item() == pytest.approx(4 / 3 * math.pi, rel=5e-3)


@pytest.mark.skipif(
    not hasattr(monai.metrics, "compute_absolute_volume_difference"),
    reason="MONAI has it from 1.6 on",
)
def test_hard_masks_differ_by_as_many_voxels_as_in_monai():
    pred, target = ((maps > 0.5).float() for maps in _maps(channels=2))
    theirs = monai.metrics.compute_absolute_volume_difference(pred, target, ignore_empty=False)
    ours = volume_bias_of(pred, target, spacing=10.0)  # a voxel is 1 ml
    torch.testing.assert_close(ours.abs(), theirs.double())


def test_lists_of_meta_tensors_bring_their_own_spacing():
    pred, target = _maps(items=2)
    affines = [torch.diag(torch.tensor([*edges, 1.0])) for edges in ((1.0, 2, 3), (2.0, 2, 2))]
    metric = volume_bias_metric()
    metric(
        [MetaTensor(item, affine=affine) for item, affine in zip(pred, affines, strict=True)],
        [item[..., :6] for item in target],
    )
    expected = (pred - target).double().flatten(1).sum(dim=1) * torch.tensor([6, 8]) / 1000
    torch.testing.assert_close(metric.aggregate("none")[:, 0], expected)
    assert metric.statistics().shape == (2, 1, 2)


def test_scans_without_lesions_count_and_have_no_relative_bias():
    metric, relative = volume_bias_metric(spacing=1.0), relative_bias_metric(spacing=1.0)
    for each in (metric, relative):
        each(*_maps())
    assert (metric.summary().counted, relative.summary().counted) == (3, 2)
    assert metric.details()["label_0"].n == relative.details()["label_0"].n == 3
    assert relative.aggregate("none").isnan().flatten().tolist() == [True, False, False]


def test_a_data_set_has_the_bias_of_its_total_volume():
    pred, target = _maps()
    metric, relative = volume_bias_metric(spacing=2.0), relative_bias_metric(spacing=2.0)
    for each in (metric, relative):
        each(pred, target)
    total = [maps.double().sum().item() * 0.008 for maps in (pred, target)]
    assert metric.aggregate("dataset").item() == pytest.approx(total[0] - total[1], abs=1e-12)
    assert relative.aggregate("dataset").item() == pytest.approx(total[0] / total[1] - 1, abs=1e-12)


def test_voxels_that_do_not_count_have_no_volume():
    pred, target = _maps(items=1)
    mask = torch.zeros(1, 1, 4, 5, 6)
    mask[..., :2] = 1
    expected = volume_bias_of(pred[..., :2], target[..., :2], spacing=1.0)
    torch.testing.assert_close(volume_bias_of(pred, target, spacing=1.0, mask=mask), expected)


def test_figures_are_those_of_each_class_by_its_name():
    pred, target = _maps(channels=3)
    metric = volume_bias_metric(
        include_background=False, return_with_label=["core", "edge"], spacing=10.0
    )
    metric(pred, target)
    figures = metric.details()
    assert list(figures) == ["core", "edge"]
    differences = (pred - target).double().flatten(2).sum(dim=2)[:, 2].tolist()
    assert figures["edge"].differences == pytest.approx(differences, abs=1e-12)
    assert figures["edge"].mean_difference == pytest.approx(np.mean(differences), abs=1e-12)


@given(pairs)
def test_figures_equal_their_formulas(pair):
    a, b = pair[:, 0].tolist(), pair[:, 1].tolist()
    n = len(a)
    found = compute_bland_altman(a, b)
    differences = [x - y for x, y in zip(a, b, strict=True)]
    mean = sum(differences) / n
    sd = math.sqrt(sum((each - mean) ** 2 for each in differences) / (n - 1))
    assert found.n == n
    assert found.mean_difference == pytest.approx(mean, abs=1e-9)
    assert found.sd == pytest.approx(sd, abs=1e-9)
    assert (found.lower, found.upper) == pytest.approx((mean - 1.96 * sd, mean + 1.96 * sd))
    assert found.means == pytest.approx([(x + y) / 2 for x, y in zip(a, b, strict=True)])
    if sd > 1e-6:
        interval = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
        assert found.mean_interval == pytest.approx((interval.low, interval.high), abs=1e-9)


@given(pairs, st.floats(-5, 5), st.floats(0.1, 10))
def test_a_shift_moves_the_figures_and_a_scale_stretches_them(pair, shift, scale):
    plain = compute_bland_altman(pair[:, 0], pair[:, 1])
    moved = compute_bland_altman(pair[:, 0] * scale + shift, pair[:, 1] * scale)
    for name in ("mean_difference", "lower", "upper"):
        expected = getattr(plain, name) * scale + shift
        assert getattr(moved, name) == pytest.approx(expected, abs=1e-7)
    for name in ("mean_interval", "lower_interval", "upper_interval"):
        expected = [bound * scale + shift for bound in getattr(plain, name)]
        assert getattr(moved, name) == pytest.approx(expected, abs=1e-7)


@given(pairs)
def test_concordance_is_at_most_the_correlation(pair):
    found = compute_bland_altman(pair[:, 0], pair[:, 1])
    if not math.isnan(found.pearson):
        assert abs(found.concordance) <= abs(found.pearson) + 1e-9
        expected = stats.pearsonr(pair[:, 0], pair[:, 1]).statistic
        assert found.pearson == pytest.approx(expected, abs=1e-6)


def test_concordance_counts_a_bias_that_the_correlation_does_not_see():
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    same, shifted = compute_bland_altman(truth, truth), compute_bland_altman(truth + 1, truth)
    assert (same.pearson, same.concordance) == pytest.approx((1, 1))
    assert shifted.pearson == pytest.approx(1)
    assert shifted.concordance == pytest.approx(2 * 1.25 / (1.25 + 1.25 + 1))  # Lin's formula


def test_the_figures_of_bland_and_altmans_paper_come_out():
    """Systolic blood pressure of 85 people: the paper's intervals from its mean and SD."""
    differences = stats.zscore(np.arange(85.0), ddof=1) * 19.61 - 16.29
    found = compute_bland_altman(differences, np.zeros(85))
    assert (found.lower, found.upper) == pytest.approx((-54.7, 22.1), abs=0.06)
    assert found.lower_interval == pytest.approx((-61.9, -47.5), abs=0.15)  # by a rounded variance
    assert found.upper_interval == pytest.approx((14.9, 29.3), abs=0.15)


def test_intervals_hold_the_truth_as_often_as_they_say():
    generator = np.random.default_rng(0)
    hits, trials = np.zeros(3), 1500
    for _ in range(trials):
        found = compute_bland_altman(generator.normal(0.5, 2.0, 40), np.zeros(40))
        for k, (interval, truth) in enumerate(
            [
                (found.mean_interval, 0.5),
                (found.lower_interval, 0.5 - 1.96 * 2),
                (found.upper_interval, 0.5 + 1.96 * 2),
            ]
        ):
            hits[k] += interval[0] <= truth <= interval[1]
    assert hits / trials == pytest.approx([0.95] * 3, abs=0.02)


def test_too_few_pairs_leave_figures_undefined():
    none, one = compute_bland_altman([], []), compute_bland_altman([3.0], [1.0])
    assert (none.n, one.n) == (0, 1)
    assert math.isnan(none.mean_difference)
    assert one.mean_difference == 2
    assert all(map(math.isnan, (one.sd, one.lower, *one.upper_interval, one.pearson)))
    tiny = compute_bland_altman([0.0, 1e-200], [0.0, 1e-200])
    assert tiny.pearson == pytest.approx(1)
    constant = compute_bland_altman([1.0, 1.0], [1.0, 1.0])
    assert (constant.sd, constant.lower) == (0, 0)
    assert math.isnan(constant.concordance)


@pytest.mark.parametrize("measure", [VolumeBias, RelativeVolumeBias])
def test_metrics_run_in_monais_ignite_handler_from_a_bundle(measure):
    made = {"_target_": f"softoverlap.{measure.__name__}", "spacing": [1.0, 1.0, 2.0]}
    config = {"_target_": "softoverlap.MeasureMetric", "measure": made}
    pred, target = _maps()
    engine = Engine(lambda engine, batch: {"pred": pred, "label": target})
    handler = IgniteMetricHandler(
        metric_fn=ConfigParser({"metric": config}).get_parsed_content("metric"),
        output_transform=from_engine(["pred", "label"]),
    )
    handler.attach(engine, name="found")
    engine.run([0], max_epochs=1)
    alone = MeasureMetric(measure(spacing=[1.0, 1.0, 2.0]))
    alone(pred, target)
    assert engine.state.metrics["found"] == pytest.approx(alone.aggregate().item(), abs=1e-12)


@pytest.mark.bad_input
def test_bad_input_is_named():
    maps = torch.full((1, 1, 4), 0.5)
    with pytest.raises(ValueError, match="spacing must be given in mm where no input"):
        volume_bias_of(maps, maps)
    with pytest.raises(ValueError, match="spacing must hold 1 finite edges above 0 in mm, got"):
        volume_bias_metric(spacing=0.0)(maps, maps)
    with pytest.raises(ValueError, match="y_pred must hold probabilities .* got values in"):
        relative_bias_of(maps * 4, maps)
    with pytest.raises(ValueError, match="call the metric before aggregate"):
        volume_bias_metric().details()


@pytest.mark.bad_input
def test_measurements_that_do_not_pair_are_named():
    with pytest.raises(ValueError, match="target must hold as many values as pred, 2, got 1"):
        compute_bland_altman([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="pred must hold finite values, got NaN or infinity"):
        compute_bland_altman([math.nan], [1.0])
    with pytest.raises(ValueError, match=r"pred must have one axis of values, got shape \(1, 1\)"):
        compute_bland_altman(torch.ones(1, 1), [1.0])
    with pytest.raises(ValueError, match=r"confidence must lie in \(0, 1\), got 95"):
        compute_bland_altman([1.0], [1.0], confidence=95)
    with pytest.raises(TypeError, match="confidence must be a number, got '0.95'"):
        compute_bland_altman([1.0], [1.0], confidence="0.95")


@pytest.mark.bad_input
def test_spacings_that_disagree_are_refused():
    near, far = (
        MetaTensor(torch.ones(1, 1, 3, 3, 3), affine=torch.diag(torch.tensor([e, e, e, 1.0])))
        for e in (1.0, 2.0)
    )
    with pytest.raises(ValueError, match="y_pred and y must have one spacing, got .* in item 0"):
        volume_bias_of(near, far)
    assert volume_bias_of(near, far, spacing=1.0).item() == 0
    for wrong, words in ((True, "must be a number"), ((1.0, 1.0, 1.0, 5.0), "must hold 3 edges")):
        with pytest.raises((TypeError, ValueError), match=f"spacing.* {words}"):
            volume_bias_of(near, near, spacing=wrong)
    assert volume_bias_of(near, near, spacing=np.float32(2)).item() == 0
