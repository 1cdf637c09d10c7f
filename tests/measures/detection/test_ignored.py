"""Ignored lesions: neither hit, false nor missed, and in no denominator."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap.measures import (
    BoxAP,
    Outcomes,
    centred_in,
    compute_average_precision,
    compute_average_recall,
    compute_froc,
    compute_score_existence_correlation,
    match_quality,
    match_scan,
)
from tests.support.box_cohorts import RATES, cohort_of, cube, found, lesions
from tests.support.lesion_makers import lesion_from_crop
from tests.support.reference_detection import reference_ap, reference_froc


def some_ignored(seed, decimals=None):
    """A cohort of which a third of the lesions is ignored."""
    generator = np.random.default_rng(seed)
    cohort = cohort_of(generator, [(4, 8), (3, 6), (2, 0), (0, 2)], decimals=decimals)
    for target in cohort[1]:
        target["ignored"] = torch.from_numpy(generator.random(len(target["label"])) < 0.3)
    return cohort


@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 1]))
@settings(max_examples=40, deadline=None)
def test_curves_with_ignored_lesions_equal_the_brute_force(seed, decimals):
    predictions, targets = some_ignored(seed, decimals)
    froc = compute_froc(predictions, targets, fp_rates=RATES, weight=None)
    expected = reference_froc(predictions, targets, 0.1, RATES)
    assert froc.sensitivity == pytest.approx(expected, abs=1e-12, nan_ok=True)
    sizes = {"all": (0, math.inf), "<20 voxels": (0, 20), "≥20 voxels": (20, math.inf)}
    scores = compute_average_precision(predictions, targets, size_edges=(20.0,)).scores
    for label in (0, 1):
        for size, bounds in sizes.items():
            expected = reference_ap(predictions, targets, 0.1, label, sizes=bounds)
            assert scores.get((label, 0.1, size)) == pytest.approx(expected, abs=1e-12)


def test_an_ignored_lesion_is_in_no_figure_however_many_boxes_lie_on_it():
    truth = lesions([cube(0), cube(20)])
    truth |= {"existence": torch.ones(2), "ignored": [False, True]}
    boxes = [cube(0), cube(20), cube(20), [20, 0, 0, 24, 4, 5], cube(40)]
    prediction = found(boxes, [0.5, 0.9, 0.9, 0.8, 0.4])
    outcomes = match_scan(prediction, truth)
    assert outcomes.outcome.flatten().tolist() == [1, 2, 2, 2, -1]
    assert outcomes.lesion.flatten().tolist() == [0, -1, -1, -1, -1]
    assert [box.outcome for box in outcomes.each_box()][1] == "ignored"
    assert outcomes.recall_by_scan.tolist() == [1.0]
    assert outcomes.worth.tolist() == [1.0, 0.0]
    froc = compute_froc([prediction], [truth], fp_rates=[0.0])
    assert (froc.sensitivity, froc.lesions, froc.existence) == ((1.0,), 1, 1.0)
    assert froc.fps_per_scan.max() == 1
    precision = compute_average_precision([prediction], [truth])
    assert (precision.mean, precision.lesions) == (1.0, 1)
    recall = compute_average_recall([prediction], [truth])
    assert (recall.mean, recall.lesions) == (1.0, 1)
    correlation = compute_score_existence_correlation([prediction], [truth], false_positives="zero")
    assert (correlation.boxes, correlation.lesions, correlation.false_positives) == (2, 1, 1)


def test_where_all_lesions_are_ignored_nothing_is_defined():
    truth = {**lesions([cube(0)]), "ignored": torch.tensor([True])}
    prediction = found([cube(0)], [0.9])
    assert math.isnan(compute_froc([prediction], [truth]).cpm)
    assert compute_froc([prediction], [truth]).fps_per_scan.max() == 0
    assert compute_average_precision([prediction], [truth]).per_class == {}
    assert match_scan(prediction, truth).recall_by_scan.isnan().all()


def test_a_box_takes_a_free_lesion_that_counts_before_it_is_ignored():
    truth = {**lesions([cube(0), cube(1)]), "ignored": [True, False]}
    for boxes, expected in (([cube(0)], [1]), ([cube(1), cube(0)], [1, 2])):
        scores = np.linspace(0.9, 0.8, len(boxes))
        assert match_scan(found(boxes, scores), truth).outcome.flatten().tolist() == expected


def test_a_centre_in_the_mask_of_an_ignored_lesion_is_enough():
    crop = torch.zeros(8, 8, 8)
    crop[0], crop[7] = 1.0, 1.0  # nothing between the two plates
    record = lesion_from_crop(crop, torch.tensor([10, 10, 10]))
    tight = record.box[None]
    small = [[10.0, 12, 12, 11, 13, 13], [13.0, 12, 12, 14, 13, 13], [40.0, 0, 0, 41, 1, 1]]
    prediction = found(small, [0.9, 0.8, 0.7])
    target = {"box": tight, "label": torch.zeros(1), "ignored": [True]}
    assert match_scan(prediction, target).outcome.flatten().tolist() == [2, 2, -1]
    with_mask = {**target, "lesions": [record]}
    assert centred_in(prediction["box"], with_mask).tolist() == [[True, False, False]]
    assert match_scan(prediction, with_mask).outcome.flatten().tolist() == [2, -1, -1]
    other_class = {**target, "label": torch.ones(1)}
    assert match_scan(prediction, other_class).outcome.flatten().tolist() == [-1, -1, -1]


def test_where_hits_are_known_ignored_lesions_and_centres_are_told():
    boxes = torch.tensor([cube(0), cube(9), cube(30)]).double()
    hits = torch.tensor([[True, False, False], [False, False, False]])
    options = {
        "boxes": boxes, "scores": None, "lesion_boxes": boxes[:2], "existence": [1.0, 1.0],
        "sizes": [1.0, 1.0], "ignored": torch.tensor([True, True]),
    }  # fmt: skip
    centred = torch.tensor([[False, False, False], [False, True, False]])
    assert match_quality(hits.float(), hits, **options).outcome.flatten().tolist() == [2, -1, -1]
    outcomes = match_quality(hits.float(), hits, centred=centred, **options)
    assert outcomes.outcome.flatten().tolist() == [2, 2, -1]


def test_a_record_of_before_ignores_nothing():
    measure = BoxAP()
    outcomes = measure.statistics(*some_ignored(0))
    values = outcomes.as_dict()
    assert Outcomes.from_dict(values).ignored.tolist() == outcomes.ignored.tolist()
    assert outcomes.ignored.any()
    del values["ignored"]
    assert not Outcomes.from_dict(values).ignored.any()


@pytest.mark.bad_input
def test_wrong_flags_are_named():
    for flags, error, words in (
        ([True, False], ValueError, r"targets\[0\]\['ignored'\] must have shape \(1,\)"),
        ([0.5], TypeError, r"targets\[0\]\['ignored'\] must hold booleans"),
        (True, TypeError, r"targets\[0\]\['ignored'\] must be a list of booleans"),
    ):
        with pytest.raises(error, match=words):
            compute_froc([found([], [])], [{**lesions([cube(0)]), "ignored": flags}])
