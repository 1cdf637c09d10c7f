"""FROC and average precision against a brute force over thresholds, and against MONAI's COCO."""

import math
import os
import socket

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from ignite.engine import Engine
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from monai.data.box_utils import box_iou as monai_box_iou
from monai.handlers import IgniteMetricHandler

from softoverlap.for_monai import BoxAPMetric, FROCMetric, OutcomesMetric
from softoverlap.measures import (
    BoxAR,
    ScoreExistence,
    compute_average_precision,
    compute_average_recall,
    compute_froc,
    compute_score_existence_correlation,
)
from tests.support.box_cohorts import RATES, cohorts, cube, found, lesions
from tests.support.reference_detection import reference_ap, reference_froc


@given(cohorts(), st.sampled_from([0.1, 0.3, 0.5]))
def test_froc_equals_the_brute_force_over_thresholds(cohort, threshold):
    froc = compute_froc(*cohort, threshold=threshold, fp_rates=RATES, weight=None)
    expected = reference_froc(*cohort, threshold, RATES)
    assert froc.sensitivity == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert froc.cpm == pytest.approx(sum(expected) / 7, abs=1e-12, nan_ok=True)


@given(cohorts(), st.sampled_from([0.1, 0.3, 0.5]))
def test_average_precision_equals_the_brute_force_of_each_class(cohort, threshold):
    result = compute_average_precision(*cohort, threshold=threshold)
    present = sorted({int(label) for target in cohort[1] for label in target["label"]})
    assert sorted(result.per_class) == present
    for label in present:
        expected = reference_ap(*cohort, threshold, label)
        assert result.per_class[label] == pytest.approx(expected, abs=1e-12)


@given(cohorts(distinct_scores=True))
def test_average_precision_equals_monai_coco_within_its_101_points(cohort):
    predictions, targets = cohort
    result = compute_average_precision(*cohort, threshold=0.5)
    for label, score in result.per_class.items():
        assert score == pytest.approx(coco_ap(predictions, targets, label), abs=1 / 101 + 1e-6)


def coco_ap(predictions, targets, label):
    """MONAI's AP of one class that occurs: the mean precision at 101 recalls."""
    coco = COCOMetric(
        classes=["0", "1"], iou_list=[0.5], iou_range=(0.1, 0.5, 0.4), max_detection=[100]
    )
    matched = matching_batch(
        iou_fn=monai_box_iou,
        iou_thresholds=coco.iou_thresholds,
        pred_boxes=[scan["box"].numpy() for scan in predictions],
        pred_classes=[scan["label"].numpy() for scan in predictions],
        pred_scores=[scan["label_scores"].numpy() for scan in predictions],
        gt_boxes=[scan["box"].numpy() for scan in targets],
        gt_classes=[scan["label"].numpy() for scan in targets],
    )
    if all(label not in scan or not len(scan[label]["dtScores"]) for scan in matched):
        return 0.0  # MONAI divides by nothing where a class has no box
    return coco(matched)[0][f"{label}_AP_IoU_0.50_MaxDet_100"]


@given(cohorts(distinct_scores=True), st.randoms(use_true_random=False))
def test_the_order_of_scans_and_boxes_changes_nothing(cohort, random):
    predictions, targets = cohort
    order = list(range(len(predictions)))
    random.shuffle(order)
    flipped = [{key: value.flip(0) for key, value in scan.items()} for scan in predictions]
    shuffled = [flipped[i] for i in order], [targets[i] for i in order]
    before, after = compute_froc(*cohort), compute_froc(*shuffled)
    assert after.sensitivity == pytest.approx(before.sensitivity, abs=1e-12, nan_ok=True)
    assert compute_average_precision(*shuffled).per_class == pytest.approx(
        compute_average_precision(*cohort).per_class, abs=1e-12
    )


@given(cohorts())
def test_the_curve_never_falls_and_starts_at_nothing(cohort):
    froc = compute_froc(*cohort)
    assert froc.fps_per_scan[0] == 0
    assert froc.thresholds[0] == math.inf
    assert (froc.fps_per_scan.diff() >= 0).all()
    assert (froc.thresholds.diff() < 0).all()
    if froc.lesions:
        assert (froc.sensitivities.diff() >= 0).all()
        assert 0 <= froc.cpm <= 1


@given(cohorts())
@settings(max_examples=30)
def test_only_the_order_of_the_scores_matters(cohort):
    predictions, targets = cohort
    squared = [{**scan, "label_scores": scan["label_scores"].double() ** 3} for scan in predictions]
    assert compute_froc(squared, targets).sensitivity == pytest.approx(
        compute_froc(*cohort).sensitivity, nan_ok=True
    )


def test_a_perfect_detector_scores_one():
    truth = [lesions([cube(0), cube(10)]), lesions([])]
    perfect = [found([cube(0), cube(10)], [0.9, 0.8]), found([], [])]
    assert compute_froc(perfect, truth).cpm == 1
    assert compute_average_precision(perfect, truth, threshold=0.5).mean == 1


def test_a_detector_that_finds_nothing_scores_zero():
    truth = [lesions([cube(0)])]
    froc = compute_froc([found([], [])], truth)
    assert froc.cpm == 0
    assert froc.lesions == 1
    assert compute_average_precision([found([], [])], truth).per_class == {0: 0.0}


def test_scans_without_lesions_count_in_the_denominator():
    one_false = found([cube(0), cube(20)], [0.5, 0.9])
    truth = [lesions([cube(0)])] + [lesions([])] * 7
    nothing = [found([], [])] * 7
    assert compute_froc([one_false], truth[:1], fp_rates=[1 / 8]).sensitivity == (0.0,)
    assert compute_froc([one_false, *nothing], truth, fp_rates=[1 / 8]).sensitivity == (1.0,)


def test_a_false_positive_in_a_scan_without_lesions_costs():
    truth = [lesions([cube(0)]), lesions([])]
    predictions = [found([cube(0)], [0.5]), found([cube(3)], [0.9])]
    assert compute_froc(predictions, truth, fp_rates=[0.25, 0.5]).sensitivity == (0.0, 1.0)
    assert compute_average_precision(predictions, truth).mean == 0.5


def test_a_duplicate_is_no_false_positive_for_froc_but_one_for_ap():
    truth = [lesions([cube(0), cube(10)])]
    doubled = [found([cube(0), cube(0), cube(10)], [0.9, 0.8, 0.7])]
    froc = compute_froc(doubled, truth, fp_rates=[0.0])
    assert froc.sensitivity == (1.0,)
    assert froc.fps_per_scan.max() == 0
    assert compute_average_precision(doubled, truth).mean == pytest.approx((1 + 2 / 3) / 2)


def test_equal_scores_are_one_operating_point_so_the_order_given_cannot_flatter():
    truth = [lesions([cube(0)])]
    for boxes in ([cube(0), cube(20)], [cube(20), cube(0)]):
        froc = compute_froc([found(boxes, [0.5, 0.5])], truth, fp_rates=[0.0, 1.0])
        assert froc.sensitivity == (0.0, 1.0)
        assert compute_average_precision([found(boxes, [0.5, 0.5])], truth).mean == 0.5


def test_the_step_function_does_not_interpolate():
    truth = [lesions([cube(0), cube(10)])]
    predictions = [found([cube(0), cube(20), cube(10)], [0.9, 0.8, 0.7])]
    assert compute_froc(predictions, truth, fp_rates=[0.0, 0.5, 0.999, 1.0]).sensitivity == (
        0.5,
        0.5,
        0.5,
        1.0,
    )


def test_a_box_takes_the_free_lesion_that_it_hits_best():
    truth = [lesions([cube(0), cube(2)])]
    predictions = [found([cube(2), cube(1)], [0.9, 0.8])]
    assert compute_froc(predictions, truth, fp_rates=[0.0]).sensitivity == (1.0,)


def test_a_box_of_another_class_hits_nothing():
    truth = [lesions([cube(0)], [1])]
    predictions = [found([cube(0)], [0.9], [0])]
    assert compute_froc(predictions, truth, fp_rates=[8.0]).sensitivity == (0.0,)
    assert compute_average_precision(predictions, truth).per_class == {1: 0.0}


def test_the_threshold_is_met_by_equality():
    truth, predictions = [lesions([cube(0, 10)])], [found([[0, 0, 0, 7, 10, 10]], [0.9])]
    assert compute_froc(predictions, truth, threshold=0.7).cpm == 1
    assert compute_froc(predictions, truth, threshold=0.701).cpm == 0


def test_without_any_lesion_the_scores_are_not_defined():
    truth, predictions = [lesions([])] * 2, [found([cube(0)], [0.9]), found([], [])]
    froc = compute_froc(predictions, truth)
    assert math.isnan(froc.cpm)
    assert all(math.isnan(value) for value in froc.sensitivity)
    assert froc.fps_per_scan.tolist() == [0.0, 0.5]
    result = compute_average_precision(predictions, truth)
    assert math.isnan(result.mean)
    assert result.per_class == {}


def centre_inside(boxes, target):
    middles = (boxes[:, :3] + boxes[:, 3:]) / 2
    lower, upper = target["box"][:, None, :3], target["box"][:, None, 3:]
    return ((middles >= lower) & (middles < upper)).all(dim=-1)


def test_a_criterion_of_booleans_is_taken_as_it_is():
    truth = [lesions([cube(0, 20)])]
    small = [found([[9, 9, 9, 10, 10, 10]], [0.9])]
    assert compute_froc(small, truth).cpm == 0
    assert compute_froc(small, truth, hit=centre_inside).cpm == 1


def test_a_criterion_of_scores_is_compared_in_its_own_precision():
    truth, predictions = [lesions([cube(0)])], [found([cube(0)], [0.9])]

    def score(boxes, target):
        return torch.full((len(target["box"]), len(boxes)), 0.7, dtype=torch.float32)

    assert compute_froc(predictions, truth, hit=score, threshold=0.7).cpm == 1
    assert compute_froc(predictions, truth, hit=score, threshold=0.71).cpm == 0


def test_two_dimensional_boxes_are_judged_alike():
    target = {"box": torch.tensor([[0, 0, 4, 4]]), "label": torch.tensor([0])}
    prediction = {**target, "label_scores": torch.tensor([0.9])}
    assert compute_froc([prediction], [target]).cpm == 1


def batches(number=6):
    generator = np.random.default_rng(7)
    predictions, targets = [], []
    for scan in range(number):
        starts = generator.integers(0, 30, (scan % 3, 3))
        truth = np.concatenate([starts, starts + 4], axis=1)
        boxes = np.concatenate([truth + generator.integers(0, 2), truth + 40])
        predictions.append(found(boxes, generator.random(len(boxes))))
        targets.append(lesions(truth, existence=generator.integers(1, 6, len(truth)) / 5))
    return predictions, targets


def test_the_metrics_equal_their_functions_over_batches():
    predictions, targets = batches()
    froc_metric, ap_metric = FROCMetric(), BoxAPMetric(threshold=0.5)
    for start in (0, 2, 4):
        batch = predictions[start : start + 2], targets[start : start + 2]
        froc_metric(*batch)
        ap_metric(*batch)
    assert froc_metric.aggregate().item() == compute_froc(predictions, targets).cpm
    assert froc_metric.details().scans == 6
    expected = compute_average_precision(predictions, targets, threshold=0.5)
    assert ap_metric.details() == expected
    assert ap_metric.aggregate().item() == expected.mean


def test_a_metric_starts_anew_after_reset():
    predictions, targets = batches()
    metric = FROCMetric()
    metric(predictions, targets)
    metric.reset()
    metric(predictions[1:2], targets[1:2])
    assert metric.details().scans == 1


def test_the_metrics_run_in_a_monai_handler():
    predictions, targets = batches()
    engine = Engine(lambda _, batch: batch)
    IgniteMetricHandler(metric_fn=FROCMetric()).attach(engine, "cpm")
    IgniteMetricHandler(metric_fn=BoxAPMetric()).attach(engine, "ap")
    engine.run([(predictions[:3], targets[:3]), (predictions[3:], targets[3:])])
    assert engine.state.metrics["cpm"] == compute_froc(predictions, targets).cpm
    assert engine.state.metrics["ap"] == compute_average_precision(predictions, targets).mean


def _rank(rank, port, counts, folder):
    """One process: its own share of the scans, possibly none."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=len(counts))
    predictions, targets = batches()
    start = sum(counts[:rank])
    metrics = (
        FROCMetric(resamples=20, size_edges=(30.0,)),
        BoxAPMetric(thresholds="nndetection", size_edges=(30.0,)),
        OutcomesMetric(BoxAR(thresholds="nndetection")),
        OutcomesMetric(ScoreExistence(false_positives="zero")),
    )
    for metric in metrics:
        for scan in range(start, start + counts[rank]):
            metric(predictions[scan : scan + 1], targets[scan : scan + 1])
    scores = [metric.aggregate() for metric in metrics]
    scores += torch.tensor(metrics[0].details().interval.cpm, dtype=torch.float64)
    torch.save(scores, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(4, 2), (6, 0)])
def test_two_ranks_equal_one_process_even_if_one_saw_nothing(counts, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_rank, (port, counts, tmp_path), nprocs=2)
    predictions, targets = batches()
    froc = compute_froc(predictions, targets, resamples=20)
    expected = [
        froc.cpm,
        compute_average_precision(predictions, targets, thresholds="nndetection").mean,
        compute_average_recall(predictions, targets, thresholds="nndetection").mean,
        compute_score_existence_correlation(predictions, targets, false_positives="zero").spearman,
        *froc.interval.cpm,
    ]
    for rank in range(2):
        scores = [score.item() for score in torch.load(tmp_path / f"{rank}.pt")]
        assert scores == pytest.approx(expected, abs=1e-12)


def test_a_cohort_without_scans_is_refused():
    with pytest.raises(ValueError, match="predictions must hold at least one scan"):
        compute_froc([], [])
    with pytest.raises(ValueError, match="at least one scan"):
        BoxAPMetric().aggregate()


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"box": torch.zeros(1, 5)}, ValueError, r"predictions\[0\]\['box'\] must have shape"),
        ({"box": torch.zeros(1, 4)}, ValueError, r"must have 6 columns, as targets\[0\]"),
        ({"box": torch.full((1, 6), math.nan)}, ValueError, r"predictions\[0\]\['box'\] .*finite"),
        ({"box": torch.tensor([[4.0, 0, 0, 0, 4, 4]])}, ValueError, "maximum at or above"),
        ({"label": torch.zeros(2)}, ValueError, r"predictions\[0\]\['label'\] must have shape"),
        ({"label_scores": torch.tensor([math.nan])}, ValueError, "label_scores.* finite"),
        ({"label_scores": [0.9]}, TypeError, r"\['label_scores'\] must be a torch.Tensor"),
    ],
)
def test_a_wrong_prediction_is_named(change, error, words):
    prediction = {**found([cube(0)], [0.9]), **change}
    with pytest.raises(error, match=words):
        compute_froc([prediction], [lesions([cube(0)])])


@pytest.mark.bad_input
def test_a_missing_key_is_named():
    with pytest.raises(ValueError, match=r"predictions\[0\] must have the keys .*label_scores"):
        compute_froc([lesions([cube(0)])], [lesions([cube(0)])])


@pytest.mark.bad_input
def test_wrong_containers_are_refused():
    truth, prediction = lesions([cube(0)]), found([cube(0)], [0.9])
    with pytest.raises(TypeError, match="predictions must be a list, an item a scan, got dict"):
        compute_froc(prediction, [truth])
    with pytest.raises(TypeError, match=r"targets\[0\] must be a dict, got Tensor"):
        compute_froc([prediction], [truth["box"]])
    with pytest.raises(ValueError, match=r"targets must hold an item a scan.*\(1\), got 2"):
        compute_froc([prediction], [truth, truth])
    with pytest.raises(TypeError, match="y_pred must be a list of dicts"):
        FROCMetric()(torch.zeros(1, 6), torch.zeros(1, 6))
    with pytest.raises(ValueError, match="y must hold the targets"):
        FROCMetric()([prediction])


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (torch.ones(2, 1), ValueError, r"hit must return shape \(lesions, boxes\) = \(1, 1\)"),
        (torch.ones(1, 1).long(), TypeError, "hit must return booleans or scores"),
        (torch.full((1, 1), math.nan), ValueError, "hit must return numbers, got NaN"),
        (1.0, TypeError, "hit must be a torch.Tensor"),
    ],
)
def test_a_wrong_criterion_is_named(answer, error, words):
    with pytest.raises(error, match=words):
        compute_froc(
            [found([cube(0)], [0.9])], [lesions([cube(0)])], hit=lambda boxes, target: answer
        )


def test_wrong_options_are_named():
    scans = [found([cube(0)], [0.9])], [lesions([cube(0)])]
    for threshold in (0.0, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"threshold must be an IoU in \(0, 1\]"):
            compute_froc(*scans, threshold=threshold)
    with pytest.raises(ValueError, match="threshold must be a finite number, got nan"):
        compute_froc(*scans, hit=centre_inside, threshold=math.nan)
    for rates in ([], [-1.0], [math.nan]):
        with pytest.raises(ValueError, match="fp_rates must hold finite numbers of at least 0"):
            compute_froc(*scans, fp_rates=rates)
