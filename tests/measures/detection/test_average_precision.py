"""AP and AR at several thresholds and sizes, against the slow way, COCO's and scikit-learn's."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from monai.data.box_utils import box_iou as monai_box_iou
from sklearn.metrics import precision_recall_curve

from softoverlap.for_monai import BoxAPMetric, OutcomesMetric
from softoverlap.measures import (
    BoxAR,
    compute_average_precision,
    compute_average_recall,
)
from tests.support.box_cohorts import cohort_of, cohorts, cube, found, lesions
from tests.support.reference_detection import (
    reference_ap,
    reference_recall,
    reference_volume,
)

COCO = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
SIZES = {
    "all": (0, math.inf),
    "<20 voxels": (0, 20),
    "20–60 voxels": (20, 60),
    "≥60 voxels": (60, math.inf),
}
COCO_SIZES = {
    "all": (0, math.inf),
    "<40 voxels": (0, 40),
    "40–90 voxels": (40, 90),
    "≥90 voxels": (90, math.inf),
}
few = settings(max_examples=25)


def present(scores):
    return {key: value for key, value in scores.items() if value is not None}


@given(cohorts())
@few
def test_every_class_threshold_and_size_equals_the_brute_force(cohort):
    thresholds = (0.1, 0.3, 0.5)
    result = compute_average_precision(*cohort, thresholds=thresholds, size_edges=(20.0, 60.0))
    expected = present(
        {
            (label, threshold, size): reference_ap(*cohort, threshold, label, sizes=bounds)
            for size, bounds in SIZES.items()
            for label in (0, 1)
            for threshold in thresholds
        }
    )
    assert result.scores == pytest.approx(expected, abs=1e-12)


@given(cohorts())
@few
def test_recall_equals_the_brute_force(cohort):
    options = {"thresholds": (0.1, 0.5), "max_detections": (3, 1), "size_edges": (20.0, 60.0)}
    result = compute_average_recall(*cohort, **options)
    expected = present(
        {
            (label, threshold, size, limit): reference_recall(
                *cohort, threshold, label, limit, sizes=bounds
            )
            for size, bounds in SIZES.items()
            for label in (0, 1)
            for threshold in (0.1, 0.5)
            for limit in (1, 3)
        }
    )
    assert result.scores == pytest.approx(expected, abs=1e-12)


@given(cohorts())
@few
def test_the_means_are_over_the_classes_and_thresholds_that_occur(cohort):
    result = compute_average_precision(*cohort, thresholds="nndetection", size_edges=(20.0, 60.0))
    whole = {key: value for key, value in result.scores.items() if key[2] == "all"}
    assert result.mean == pytest.approx(mean_of(whole.values()), nan_ok=True)
    for label, value in result.per_class.items():
        assert value == pytest.approx(mean_of(v for k, v in whole.items() if k[0] == label))
    for threshold, value in result.per_threshold.items():
        assert value == pytest.approx(mean_of(v for k, v in whole.items() if k[1] == threshold))
    for size, value in result.per_size.items():
        assert value == pytest.approx(mean_of(v for k, v in result.scores.items() if k[2] == size))
    assert len(result.per_threshold) == (9 if whole else 0)


def mean_of(values):
    values = list(values)
    return sum(values) / len(values) if values else math.nan


@given(cohorts())
@few
def test_each_threshold_is_what_a_run_of_its_own_gives(cohort):
    several = compute_average_precision(*cohort, thresholds="coco")
    assert tuple(several.per_threshold) in (COCO, ())
    for threshold, value in several.per_threshold.items():
        alone = compute_average_precision(*cohort, threshold=threshold)
        assert value == alone.mean
        assert {k[0]: v for k, v in several.scores.items() if k[1] == threshold} == alone.per_class


def random_scans(seed, counts=((3, 12), (0, 4), (4, 9), (2, 0), (1, 15), (3, 30)) * 5):
    """Continuous corners: no two overlaps are equal, where COCO takes the last and we the first."""
    return cohort_of(np.random.default_rng(seed), counts, whole=False)


def coco_results(predictions, targets, bounds=(0, math.inf), max_detections=(1, 10, 100)):
    """MONAI's COCO, with its rule for sizes: MONAI's matching leaves the boxes' sizes to us."""
    coco = COCOMetric(
        classes=["0", "1"],
        iou_list=[0.5],
        iou_range=(0.5, 0.95, 0.05),
        max_detection=list(max_detections),
    )
    outside = [
        np.array([not bounds[0] <= reference_volume(box) < bounds[1] for box in t["box"].tolist()])
        for t in targets
    ]
    matched = matching_batch(
        iou_fn=monai_box_iou,
        iou_thresholds=coco.iou_thresholds,
        pred_boxes=[scan["box"].numpy() for scan in predictions],
        pred_classes=[scan["label"].numpy() for scan in predictions],
        pred_scores=[scan["label_scores"].numpy() for scan in predictions],
        gt_boxes=[scan["box"].numpy() for scan in targets],
        gt_classes=[scan["label"].numpy() for scan in targets],
        gt_ignore=[one.astype(float) for one in outside],
    )
    for scan, prediction in zip(matched, predictions, strict=True):
        for label, one in scan.items():
            own = (prediction["label"] == label).nonzero()[:, 0]
            order = prediction["label_scores"][own].argsort(descending=True)
            volumes = [reference_volume(box) for box in prediction["box"][own][order].tolist()]
            out = np.array([not bounds[0] <= volume < bounds[1] for volume in volumes], dtype=bool)
            if len(out):
                one["dtIgnore"] = np.where(one["dtMatches"] > 0, one["dtIgnore"], out[None])
    return coco(matched)[0]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", COCO_SIZES)
def test_sizes_and_thresholds_equal_coco_within_its_101_points(seed, size):
    cohort = random_scans(seed)
    ours = compute_average_precision(*cohort, thresholds="coco", size_edges=(40.0, 90.0))
    coco = coco_results(*cohort, COCO_SIZES[size])
    compared = 0
    for label in (0, 1):
        own = [v for k, v in ours.scores.items() if k[0] == label and k[2] == size]
        if own:
            theirs = coco[f"{label}_mAP_IoU_0.50_0.95_0.05_MaxDet_100"]
            assert sum(own) / 10 == pytest.approx(theirs, abs=1 / 101 + 1e-6)
            compared += 1
    assert compared


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", COCO_SIZES)
def test_average_recall_equals_coco(seed, size):
    cohort = random_scans(seed)
    ours = compute_average_recall(*cohort, size_edges=(40.0, 90.0))
    coco = coco_results(*cohort, COCO_SIZES[size])
    compared = 0
    for label in (0, 1):
        for limit in (1, 10, 100):
            own = [v for k, v in ours.scores.items() if (k[0], k[2], k[3]) == (label, size, limit)]
            if own:
                theirs = coco[f"{label}_mAR_IoU_0.50_0.95_0.05_MaxDet_{limit}"]
                assert sum(own) / 10 == pytest.approx(theirs, abs=1e-6)  # MONAI keeps float32
                compared += 1
    assert compared


def test_coco_averages_absent_classes_in_and_ours_leaves_them_out():
    truth, perfect = [lesions([cube(0)])], [found([cube(0)], [0.9])]
    assert compute_average_precision(perfect, truth, thresholds="coco").mean == 1
    assert coco_results(perfect, truth)["mAP_IoU_0.50_0.95_0.05_MaxDet_100"] < 0.1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=30))
@few
def test_one_box_a_lesion_gives_the_envelope_of_scikit_learns_curve(pairs):
    """Each scan has a lesion and a box: the box hits it or is far away."""
    hits, scores = np.array([hit for hit, _ in pairs]), np.array([score / 5 for _, score in pairs])
    if not hits.any():
        return
    predictions = [
        found([cube(0 if hit else 50)], [score]) for hit, score in zip(hits, scores, strict=True)
    ]
    targets = [lesions([cube(0)]) if hit else lesions([]) for hit in hits]
    precision, recall, _ = precision_recall_curve(hits, scores.astype(np.float32))
    envelope = np.maximum.accumulate(precision[:-1])
    expected = -np.sum(np.diff(recall) * envelope)
    result = compute_average_precision(predictions, targets)
    assert result.mean == pytest.approx(expected, abs=1e-12)


def test_a_shifted_box_hits_up_to_its_iou():
    truth, shifted = [lesions([cube(0, 10)])], [found([[0, 0, 0, 7, 10, 10]], [0.9])]
    result = compute_average_precision(shifted, truth, thresholds="coco", class_names=["nodule"])
    assert result.per_class == {"nodule": 0.5}  # 0.5 to 0.7 of the ten
    assert result.per_threshold[0.7] == 1
    assert result.per_threshold[0.75] == 0
    assert (result.lesions, result.scans, result.boxes) == (1, 1, 1)
    assert compute_average_recall(shifted, truth).mean == 0.5
    assert compute_average_recall(shifted, truth, thresholds=0.7).mean == 1
    assert compute_average_recall(shifted, truth, thresholds=0.75).mean == 0


def test_other_sizes_are_ignored_with_their_boxes_and_with_stray_boxes_of_such_sizes():
    truth = [lesions([cube(0, 2), cube(20, 6)])]
    predictions = [found([cube(0, 2), cube(20, 6), cube(40, 2), cube(60, 6)], [0.6, 0.7, 0.8, 0.9])]
    result = compute_average_precision(predictions, truth, size_edges=[27.0], threshold=0.5)
    assert result.scores[(0, 0.5, "<27 voxels")] == 0.5  # only the stray small box is false
    assert result.scores[(0, 0.5, "≥27 voxels")] == 0.5
    assert result.per_size == {"<27 voxels": 0.5, "≥27 voxels": 0.5}
    assert result.mean == pytest.approx(0.5 * 0.5 + 0.5 * 0.5)  # envelope: 2/4 at both recalls


def test_a_box_takes_an_ignored_lesion_only_where_none_that_counts_is_hit():
    truth = [lesions([[0, 0, 0, 4, 4, 4], [0, 0, 0, 4, 4, 3]])]
    predictions = [found([[0, 0, 0, 4, 4, 4]], [0.9])]
    result = compute_average_precision(predictions, truth, size_edges=[50.0], threshold=0.5)
    assert result.scores[(0, 0.5, "<50 voxels")] == 1  # its better lesion is of another size
    assert result.scores[(0, 0.5, "≥50 voxels")] == 1


def test_a_size_without_lesions_is_absent():
    truth, predictions = [lesions([cube(0)])], [found([cube(0), cube(9, 2)], [0.9, 0.95])]
    result = compute_average_precision(predictions, truth, size_edges=[27.0])
    assert list(result.per_size) == ["≥27 voxels"]
    assert list(compute_average_recall(predictions, truth, size_edges=[27.0]).per_size) == [
        "≥27 voxels"
    ]


def test_recall_counts_the_best_boxes_of_each_scan_and_class():
    truth = [lesions([cube(0), cube(10), cube(20)], [0, 0, 1])]
    boxes = [cube(40), cube(0), cube(10), cube(20)]
    predictions = [found(boxes, [0.9, 0.8, 0.7, 0.1], [0, 0, 0, 1])]
    result = compute_average_recall(predictions, truth, max_detections=(1, 2, 3))
    assert {key[3]: value for key, value in result.scores.items() if key[:2] == (0, 0.5)} == {
        1: 0.0,
        2: 0.5,
        3: 1.0,
    }
    assert result.per_detections == {1: 0.5, 2: 0.75, 3: 1.0}
    assert result.per_class == {0: 1.0, 1: 1.0}


def test_equal_scores_at_the_cut_count_the_share_that_fits_whatever_their_order():
    truth = [lesions([cube(0)])]
    for boxes in itertools.permutations([cube(0), cube(9), cube(20)]):
        recall = compute_average_recall(
            [found(boxes, [0.5] * 3)], truth, max_detections=(1, 2, 3)
        ).per_detections
        assert recall == pytest.approx({1: 1 / 3, 2: 2 / 3, 3: 1.0})


@given(cohorts(distinct_scores=True), st.randoms(use_true_random=False))
@few
def test_the_order_of_scans_and_a_monotone_change_of_scores_change_nothing(cohort, random):
    predictions, targets = cohort
    order = list(range(len(predictions)))
    random.shuffle(order)
    curved = [
        {**predictions[k], "label_scores": predictions[k]["label_scores"].double().exp()}
        for k in order
    ]
    shuffled = curved, [targets[k] for k in order]
    for function, options in (
        (compute_average_precision, {"thresholds": "nndetection", "size_edges": (20.0, 60.0)}),
        (compute_average_recall, {"size_edges": (20.0, 60.0)}),
    ):
        before, after = function(*cohort, **options), function(*shuffled, **options)
        assert after.scores == pytest.approx(before.scores, abs=1e-12)


@given(cohorts())
@few
def test_scans_without_lesions_and_boxes_change_nothing_but_their_number(cohort):
    predictions, targets = cohort
    more = predictions + [found([], [])] * 3, targets + [lesions([])] * 3
    for function in (compute_average_precision, compute_average_recall):
        before, after = function(*cohort), function(*more)
        assert after.scores == before.scores
        assert after.scans == before.scans + 3


@given(cohorts())
@few
def test_recall_never_falls_with_more_detections_or_a_lower_threshold(cohort):
    scores = compute_average_recall(*cohort, thresholds="nndetection").scores
    for (label, threshold, size, limit), value in scores.items():
        assert 0 <= value <= 1
        assert value >= scores.get((label, threshold, size, limit // 10), 0)
        higher = [v for k, v in scores.items() if k[0] == label and k[3] == limit]
        assert higher == sorted(higher, reverse=True)


def test_the_metrics_equal_their_functions_over_batches():
    predictions, targets = random_scans(3)
    options = {"thresholds": "nndetection", "size_edges": (20.0, 60.0), "class_names": ("a", "b")}
    precision = BoxAPMetric(**options)
    recall = OutcomesMetric(BoxAR(**options, max_detections=(5, 2)))
    for start in range(0, len(targets), 2):
        for metric in (precision, recall):
            metric(predictions[start : start + 2], targets[start : start + 2])
    assert precision.details() == compute_average_precision(predictions, targets, **options)
    expected = compute_average_recall(predictions, targets, **options, max_detections=(5, 2))
    assert recall.details() == expected
    assert recall.aggregate().item() == expected.mean == expected.per_detections[5]
    assert recall.aggregate().dtype == torch.float64


def test_without_any_lesion_the_means_are_not_defined():
    scans = [found([cube(0)], [0.9])], [lesions([])]
    for result in (
        compute_average_precision(*scans, thresholds="coco", size_edges=(20.0,)),
        compute_average_recall(*scans, size_edges=(20.0,)),
    ):
        assert math.isnan(result.mean)
        assert result.scores == result.per_class == result.per_threshold == result.per_size == {}
        assert (result.lesions, result.scans, result.boxes) == (0, 1, 1)


def test_options_out_of_range_are_named():
    scans = [found([cube(0)], [0.9])], [lesions([cube(0)], [1])]
    for options, words in (
        ({"thresholds": "voc"}, "thresholds must be one of .*coco.*nndetection.*, got 'voc'"),
        ({"thresholds": ()}, "thresholds must hold different numbers"),
        ({"thresholds": (0.5, 0.5)}, "thresholds must hold different numbers"),
        ({"thresholds": (0.5, 1.5)}, r"threshold must be an IoU in \(0, 1\], got 1.5"),
        ({"class_names": ("a",)}, "class_names must name every label, got 1 names and label 1"),
    ):
        for function in (compute_average_precision, compute_average_recall):
            with pytest.raises(ValueError, match=words):
                function(*scans, **options)
    for limits in ((), (0, 1)):
        with pytest.raises(ValueError, match="max_detections must hold numbers of at least 1"):
            compute_average_recall(*scans, max_detections=limits)
    with pytest.raises(ValueError, match="at least one scan"):
        OutcomesMetric(BoxAR()).aggregate()
