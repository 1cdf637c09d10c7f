"""The record of what hit what: stored, read back, put together, and read by every measure."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap.measures import (
    BoxAP,
    BoxAR,
    BoxFROC,
    Outcomes,
    ScoreExistence,
    compute_average_precision,
    compute_average_recall,
    compute_froc,
    compute_score_existence_correlation,
    match_quality,
    match_scan,
)
from softoverlap.measures.detection.sizes import SizeClasses
from tests.support.box_cohorts import assert_equal, cohorts, cube, found, lesions
from tests.support.reference_detection import reference_outcomes

SIZES = {"size_edges": (20.0, 60.0)}
READINGS = (
    (BoxFROC(resamples=5, per_class=True, **SIZES), compute_froc),
    (BoxAP(thresholds="nndetection", **SIZES), compute_average_precision),
    (BoxAR(max_detections=(1, 3)), compute_average_recall),
    (ScoreExistence(false_positives="zero"), compute_score_existence_correlation),
)


def options_of(measure):
    """Its settings, as the function takes them."""
    hidden = {"matching"}
    return {name: value for name, value in vars(measure).items() if name not in hidden}


def stored(outcomes):
    """Through a file of JSON, which has no NaN."""
    return Outcomes.from_dict(json.loads(json.dumps(outcomes.as_dict(), allow_nan=False)))


@given(cohorts(), st.sampled_from(READINGS))
@settings(max_examples=40)
def test_a_record_comes_back_from_json_and_from_rows_as_it_was(cohort, reading):
    measure, _ = reading
    outcomes = measure.statistics(*cohort)
    assert_equal(stored(outcomes), outcomes)
    matching = measure.matching
    again = Outcomes.from_rows(
        outcomes.rows(), thresholds=matching.thresholds, size_classes=matching.sizes
    )
    assert_equal(again, outcomes)
    scans = outcomes.split()
    assert [len(scan.scans) for scan in scans] == [1] * len(cohort[0])
    for scan, prediction, target in zip(scans, *cohort, strict=True):
        assert_equal(scan, measure.statistics([prediction], [target]))
    assert_equal(Outcomes.joined(scans), outcomes)


@given(cohorts(), st.sampled_from(READINGS))
@settings(max_examples=40)
def test_what_is_read_from_stored_records_is_what_the_function_says(cohort, reading):
    measure, function = reading
    records = [
        stored(measure.statistics([prediction], [target]))
        for prediction, target in zip(*cohort, strict=True)
    ]
    details = measure.details(records)
    assert plain(details) == plain(function(*cohort, **options_of(measure)))
    score = measure(*cohort)
    assert score.dtype == torch.float64
    assert repr(score) == repr(measure.score(records))


def plain(details):
    """All of a result as text: NaN is not equal to itself, and tensors have no one truth."""
    if hasattr(details, "__dataclass_fields__"):
        return {name: plain(value) for name, value in vars(details).items()}
    if isinstance(details, dict):
        return {key: plain(value) for key, value in details.items()}
    return repr(details.tolist() if isinstance(details, torch.Tensor) else details)


@given(cohorts())
@settings(max_examples=40)
def test_one_record_of_several_thresholds_serves_every_measure(cohort):
    outcomes = BoxAP(thresholds=(0.1, 0.5)).statistics(*cohort)
    froc = compute_froc(*cohort, threshold=0.1, weight=None)
    assert plain(BoxFROC().details(outcomes)) == plain(froc)
    precision = compute_average_precision(*cohort, thresholds=(0.1, 0.5))
    assert plain(BoxAP().details(outcomes)) == plain(precision)


@given(cohorts())
@settings(max_examples=40)
def test_a_scan_is_matched_as_the_reference_does(cohort):
    words = {1: "true", 0: "duplicate", -1: "false"}
    for prediction, target in zip(*cohort, strict=True):
        outcomes = match_scan(prediction, target)
        rows = reference_outcomes(prediction, target, 0.1)
        ours = [
            (score, words[outcome], lesion)
            for score, outcome, lesion in zip(
                outcomes.scores.tolist(),
                outcomes.outcome.flatten().tolist(),
                outcomes.lesion.flatten().tolist(),
                strict=True,
            )
        ]
        assert sorted(ours) == sorted(
            (score, outcome, -1 if lesion is None else lesion) for score, _, outcome, lesion in rows
        )
        for lesion, box in enumerate(outcomes.box_of_lesion):
            taken = (outcomes.lesion[:, 0, 0] == lesion).nonzero().flatten().tolist()
            assert taken == ([] if box is None else [box])


@given(cohorts(), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_parts_of_a_scan_become_one_scan_in_any_order(cohort, random):
    """Far from each other, as the parts of a large scan are: each is matched alone."""
    parts, whole = [], []
    for number, (prediction, target) in enumerate(zip(*cohort, strict=True)):
        scan = [dict(prediction), dict(target)]
        for side in scan:
            side["box"] = side["box"] + 100 * number
        parts.append(match_scan(*scan))
        whole.append(scan)
    joined = {
        name: [torch.cat([scan[side][name] for scan in whole]) for side in (0, 1)]
        for name in ("box", "label")
    }
    scores = torch.cat([prediction["label_scores"] for prediction, _ in whole])
    orders = [list(range(len(side))) for side in joined["box"]]
    for order in orders:
        random.shuffle(order)
    boxes, truths = (
        {name: columns[side][orders[side]] for name, columns in joined.items()} for side in (0, 1)
    )
    expected = match_scan({**boxes, "label_scores": scores[orders[0]]}, truths)
    distinct = len(scores.unique()) == len(scores)
    ours = Outcomes.joined(parts).as_one_scan(*orders)
    assert ours.scans.tolist() == [[len(scores), len(truths["box"])]]
    if distinct:
        assert_equal(ours, expected)


def test_quality_ranks_what_is_hit_and_nothing_else():
    """The best lesion is not hit; of the two that are, the better one is taken first."""
    boxes = torch.tensor([cube(0), cube(9)]).double()
    quality = torch.tensor([[9.0, 9.0], [0.0, 0.0], [0.5, 0.25]])
    hits = torch.tensor([[False, False], [True, True], [True, True]])
    outcomes = match_quality(
        quality, hits, boxes=boxes, scores=torch.tensor([0.1, 0.9]).double(),
        lesion_boxes=torch.zeros(3, 6).double(), existence=[1.0, 0.5, 1.0], sizes=[math.nan] * 3,
    )  # fmt: skip
    assert outcomes.lesion.flatten().tolist() == [1, 2]
    assert outcomes.box_of_lesion == [None, 0, 1]
    assert outcomes.false_positive.tolist() == [False, False]
    assert_equal(stored(outcomes), outcomes)


def test_boxes_without_scores_are_matched_together_and_have_no_curve():
    boxes = torch.tensor([cube(0), cube(0)]).double()
    outcomes = match_quality(
        torch.ones(1, 2), torch.ones(1, 2).bool(), boxes=boxes, scores=None,
        lesion_boxes=boxes[:1], existence=[1.0], sizes=[64.0],
    )  # fmt: skip
    assert sorted(outcomes.outcome.flatten().tolist()) == [0, 1]
    assert stored(outcomes).scores.isnan().all()
    for measure, _ in READINGS:
        with pytest.raises(ValueError, match="outcomes must have a score for each box"):
            measure.details(outcomes)


def test_the_share_of_lesions_found_is_told_scan_by_scan():
    truth = [lesions([cube(0), cube(9)]), lesions([])]
    outcomes = BoxFROC().statistics([found([cube(0)], [0.5]), found([cube(0)], [0.9])], truth)
    assert outcomes.recall_by_scan[0] == 0.5
    assert outcomes.recall_by_scan[1].isnan()


@pytest.mark.bad_input
def test_damaged_records_are_refused():
    outcomes = match_scan(found([cube(0)], [0.9]), lesions([cube(0)]))
    good = outcomes.as_dict()
    for change, error, words in (
        ({"scores": []}, ValueError, "scores.* must have 1 rows"),
        ({"scans": [[1, 2]]}, ValueError, "ignored, found_by must have 2 rows"),
        ({"scores": ["high"]}, (TypeError, ValueError), None),
        ({"size_classes": {"edges": []}}, KeyError, "spacing"),
    ):
        with pytest.raises(error, match=words):
            Outcomes.from_dict({**good, **change})
    with pytest.raises(KeyError, match="boxes"):
        Outcomes.from_dict({name: value for name, value in good.items() if name != "boxes"})
    with pytest.raises(ValueError, match="at least one scan"):
        Outcomes.joined([])
    flat = {"box": torch.tensor([[0.0, 4.0]]), "label": torch.zeros(1)}
    other = match_scan({**flat, "label_scores": torch.ones(1)}, flat)
    with pytest.raises(ValueError, match="boxes with as many columns"):
        Outcomes.joined([outcomes, other])


def test_size_classes_come_back_whatever_their_spacing():
    for spacing, key in itertools.product((None, 0.5, (1.0, 0.5, 2.0), "spacing"), (True, False)):
        target = {**lesions([cube(0)]), "spacing": torch.tensor([1.0, 1.0, 1.0])}
        edges = (30.0, 90.0) if key else ()
        measure = BoxAP(size_edges=edges, spacing=spacing)
        outcomes = stored(measure.statistics([found([cube(0)], [0.9])], [target]))
        assert outcomes.size_classes == SizeClasses.checked(edges, spacing, "box")
