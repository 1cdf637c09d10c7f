"""Measures of lesions as functions and as MONAI's metrics: forms, settings and errors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine

from softoverlap.for_monai import LesionwiseDiceMetric, MeasureMetric
from softoverlap.measures import (
    FalsePositives,
    Hit,
    LesionCounts,
    LesionRecall,
    LesionwiseDice,
    PanopticQuality,
    compute_lesionwise_dice,
)
from softoverlap.overlaps import mask_dice, mask_tversky
from tests.support.lesion_maps import (
    METRICS,
    batch,
    blobs,
    false_positive_metric,
    lesion_recall_metric,
    lesion_recall_of,
    panoptic_quality_metric,
)
from tests.support.measure_forms import lesion_matches


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
