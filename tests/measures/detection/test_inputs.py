"""What the metrics of boxes refuse, and what they say: one wrong scan of four hundred is found."""

import math

import pytest
import torch

import softoverlap
from softoverlap import lesion_target, lesions_from_mask, measures as metrics
from softoverlap.for_monai import BoxAPMetric, FROCMetric, OutcomesMetric
from softoverlap.lesion import crop_lesion
from softoverlap.measures import (
    BoxAP,
    BoxAR,
    BoxFROC,
    ScoreExistence,
    compute_average_precision,
    compute_average_recall,
    compute_froc,
    compute_score_existence_correlation,
    match_scan,
)
from tests.support.box_cohorts import cube, found, lesions
from tests.support.lesion_makers import lesion_from_crop

COMPUTE = (
    compute_froc,
    compute_average_precision,
    compute_average_recall,
    compute_score_existence_correlation,
)
MEASURES = (BoxFROC, BoxAP, BoxAR, ScoreExistence)
GOOD = found([cube(0)], [0.9]), lesions([cube(0)], existence=[1.0])


def records(*existences):
    """Lesions in a row, and a box for each."""
    return [
        lesion_from_crop(torch.ones(4, 4, 4), [10 * k, 0, 0], existence=existence)
        for k, existence in enumerate(existences)
    ]


def test_records_in_another_order_than_the_boxes_are_refused():
    own = records(0.75, 0.25)
    target, prediction = lesion_target(own), found([cube(0)], [0.9])
    assert compute_froc([prediction], [target]).cpm == 0.75
    swapped = {**target, "lesions": own[::-1]}
    words = r"targets\[1\]\['lesions'\] must be the lesions of 'box', in the same order.* in row 0"
    for function in COMPUTE:
        with pytest.raises(ValueError, match=words):
            function([GOOD[0], prediction], [GOOD[1], swapped])
    with pytest.raises(ValueError, match=r"target\['lesions'\] must be the lesions of 'box'"):
        match_scan(prediction, swapped)


def test_records_and_boxes_may_differ_by_what_their_types_round():
    own = [lesion_from_crop(torch.ones(4, 4, 4), [301, 7, 0])]
    target, prediction = lesion_target(own), found([], [])
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64):
        match_scan(prediction, {**target, "boxes": target["boxes"].to(dtype)})
    for shift, fits in ((5e-4, True), (2e-3, False)):
        moved = {**target, "boxes": target["boxes"].double() + shift}
        if fits:
            match_scan(prediction, moved)
        else:
            with pytest.raises(ValueError, match="must be the lesions of 'box'"):
                match_scan(prediction, moved)


def test_the_keys_of_a_detector_are_those_of_its_lists_of_data():
    names = {"box": "boxes", "label": "labels", "label_scores": "labels_scores"}
    prediction, target = ({names.get(k, k): v for k, v in scan.items()} for scan in GOOD)
    assert {"boxes", "labels", "labels_scores"} <= set(prediction)
    assert {"boxes", "labels"} <= set(target)
    for function in COMPUTE:
        assert repr(function([prediction], [target])) == repr(function([GOOD[0]], [GOOD[1]]))
    assert match_scan(prediction, target).as_dict() == match_scan(*GOOD).as_dict()


@pytest.mark.parametrize("keep_box", [False, True])
def test_lesions_that_a_patch_cuts_are_taken_with_clipped_and_with_whole_boxes(keep_box):
    mask = torch.zeros(12, 12, 12)
    mask[2:9, 3:8, 3:8] = 0.8
    (lesion,) = lesions_from_mask(mask, spacing=(1.0, 1.0, 1.0))
    target = lesion_target([crop_lesion(lesion, (4, 0, 0), (8, 12, 12), keep_box=keep_box)])
    prediction = {**found([], []), "box": target["boxes"], "label": torch.zeros(1)}
    outcomes = match_scan({**prediction, "label_scores": torch.ones(1)}, target, threshold=1.0)
    assert outcomes.outcome.flatten().tolist() == [1]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"lesions": records(1.0, 1.0)}, ValueError, "one Lesion for each of 1 boxes, got 2"),
        ({"lesions": records(1.0)[0]}, TypeError, "must be a list of Lesion, got Lesion"),
        (
            {"lesions": [lesion_from_crop(torch.ones(4, 4), [0, 0])]},
            ValueError,
            "must hold lesions of 3 axes, as 'box' does, got 2",
        ),
        ({"label": torch.tensor([0.5])}, ValueError, "must hold whole numbers, got 0.5"),
    ],
)
def test_what_does_not_fit_the_boxes_is_named_with_the_number_of_its_scan(change, error, words):
    for function in COMPUTE:
        with pytest.raises(error, match=rf"targets\[1\]\['{next(iter(change))}'\] .*{words}"):
            function([GOOD[0]] * 2, [GOOD[1], {**GOOD[1], **change}])


def test_existence_errors_say_in_which_scan():
    for existence, words in ((torch.tensor([1.5]), "probabilities"), (torch.ones(2), "shape")):
        wrong = {**GOOD[1], "existence": existence}
        for function in (compute_froc, compute_score_existence_correlation):
            with pytest.raises(ValueError, match=rf"targets\[1\]\['existence'\] must .*{words}"):
                function([GOOD[0]] * 2, [GOOD[1], wrong])


def test_labels_are_whole_numbers_of_any_type():
    half = {**GOOD[0], "label": torch.tensor([0.5])}
    with pytest.raises(ValueError, match=r"predictions\[0\]\['label'\] must hold whole .*got 0.5"):
        compute_froc([half], [GOOD[1]])
    for dtype in (torch.float32, torch.int16, torch.bool):
        whole = {**GOOD[0], "label": torch.tensor([0]).to(dtype)}
        assert compute_froc([whole], [GOOD[1]]).cpm == 1


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("side", "change", "error", "words"),
    [
        (
            0,
            {"label_scores": torch.tensor([math.nan])},
            ValueError,
            r"\['label_scores'\] must hold",
        ),
        (0, {"box": torch.tensor([[4.0, 0, 0, 0, 4, 4]])}, ValueError, r"prediction\['box'\] must"),
        (0, {"box": torch.zeros(1, 4)}, ValueError, r"prediction\['box'\] must have 6 columns"),
        (1, {"box": torch.full((1, 6), math.nan)}, ValueError, r"target\['box'\] must hold finite"),
        (1, {"label": [0]}, TypeError, r"target\['label'\] must be a torch.Tensor, got list"),
        (1, {"label": torch.zeros(2)}, ValueError, r"target\['label'\] must have shape \(1,\)"),
    ],
)
def test_match_scan_checks_what_froc_checks(side, change, error, words):
    scan = list(GOOD)
    scan[side] = {**scan[side], **change}
    with pytest.raises(error, match=words):
        match_scan(*scan)


@pytest.mark.bad_input
def test_match_scan_names_a_missing_key_and_what_is_no_dict():
    with pytest.raises(ValueError, match=r"prediction must have the keys .*label_scores"):
        match_scan(GOOD[1], GOOD[1])
    with pytest.raises(ValueError, match=r"target must have the keys .*label"):
        match_scan(GOOD[0], {})
    with pytest.raises(TypeError, match="target must be a dict, got Tensor"):
        match_scan(GOOD[0], GOOD[1]["box"])


def test_the_package_offers_names_of_its_measures():
    assert {
        name for name in softoverlap.__all__ if softoverlap._ROOM_OF[name].endswith(".measures")
    } < set(metrics.__all__)
    assert softoverlap.match_scan is match_scan


def test_a_correlation_with_existence_needs_it_where_there_are_lesions():
    truth, nothing = lesions([cube(0)]), (found([], []), lesions([]))
    words = r"targets\[1\] must hold 'existence', shape \(1,\), or 'lesions'.*got \['box', 'lab"
    with pytest.raises(ValueError, match=words):
        compute_score_existence_correlation([nothing[0], GOOD[0]], [nothing[1], truth])
    with pytest.raises(ValueError, match=words):
        ScoreExistence()([nothing[0], GOOD[0]], [nothing[1], truth])
    assert compute_score_existence_correlation([nothing[0]], [nothing[1]]).boxes == 0
    assert compute_froc([GOOD[0]], [truth]).cpm == 1


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("functions", "options", "words"),
    [
        (COMPUTE[:1], {"fp_rates": 1.0}, "fp_rates must be a list of numbers, got 1.0"),
        (COMPUTE[:1], {"fp_rates": "1"}, "fp_rates must be a list of numbers, got '1'"),
        (COMPUTE[:3], {"size_edges": 5.0}, "size_edges must be a list of numbers, got 5.0"),
        (COMPUTE[:3], {"size_edges": torch.tensor(5.0)}, "size_edges must be a list of numbers"),
        (COMPUTE[:3], {"class_names": "lesion"}, "class_names must be a list of names, got 'les"),
        (COMPUTE[2:3], {"max_detections": 10}, "max_detections must be a list of numbers, got 10"),
        (COMPUTE[2:3], {"max_detections": (1.5,)}, "max_detections must hold integers"),
    ],
)
def test_one_number_in_place_of_a_list_is_named(functions, options, words):
    for function in functions:
        with pytest.raises(TypeError, match=words):
            function([GOOD[0]], [GOOD[1]], **options)
        with pytest.raises(TypeError, match=words):
            MEASURES[COMPUTE.index(function)](**options)


@pytest.mark.parametrize(
    "metric", [FROCMetric(), BoxAPMetric(), *(OutcomesMetric(make()) for make in MEASURES)]
)
def test_a_metric_called_with_something_else_than_lists_says_so(metric):
    with pytest.raises(TypeError, match="y_pred must be a list of dicts, one a scan, got dict"):
        metric(*GOOD)
    with pytest.raises(TypeError, match="y must be a list of dicts, one a scan, got dict"):
        metric([GOOD[0]], GOOD[1])
    with pytest.raises(
        TypeError, match=rf"{type(metric).__name__} must be called .*\['spacing'\] too"
    ):
        metric([GOOD[0]], [GOOD[1]], spacing=1.0)
    metric((GOOD[0],), (GOOD[1],))
    assert len(metric.outcomes().scans) == 1


def flat(ndim):
    """A scan with a cube of side 4, in so many dimensions."""
    box = torch.tensor([[0.0] * ndim + [4.0] * ndim])
    target = {"box": box, "label": torch.zeros(1), "spacing": 0.5}
    return {**target, "label_scores": torch.ones(1)}, target


@pytest.mark.parametrize(("ndim", "unit"), [(1, "mm"), (2, "mm²"), (3, "mm³"), (4, "mm^4")])
def test_size_classes_are_named_with_their_unit(ndim, unit):
    prediction, target = flat(ndim)
    edges = [2.0, 4.0**ndim]
    metric = FROCMetric(size_edges=edges, spacing=0.5)
    metric([prediction], [target])
    precision = compute_average_precision([prediction], [target], size_edges=edges, spacing=0.5)
    for result in (metric.details(), precision):
        assert list(result.per_size) == [f"2–{4**ndim} {unit}"]
    in_voxels = compute_froc([prediction], [target], size_edges=edges)
    assert list(in_voxels.per_size) == [f"≥{4**ndim} voxels"]


@pytest.mark.parametrize("spacing", [0.5, (0.5, 0.5, 0.5), "spacing"])
def test_spacing_is_a_number_a_list_or_a_key(spacing):
    prediction, target = flat(3)
    result = compute_average_recall([prediction], [target], size_edges=[8.0], spacing=spacing)
    assert list(result.per_size) == ["≥8 mm³"]  # 64 voxels of 1/8 mm³


def test_a_spacing_of_zero_is_refused_also_in_a_target():
    prediction, target = flat(3)
    with pytest.raises(ValueError, match="spacing must be above 0 and finite, got 0.0"):
        FROCMetric(size_edges=[8.0], spacing=0.0)
    with pytest.raises(ValueError, match="spacing must be above 0 and finite, got 0.0"):
        compute_froc([prediction], [{**target, "spacing": 0}], size_edges=[8.0], spacing="spacing")
