"""Between masks nothing is taken: one prediction may find several lesions, several may hit one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap.measures import (
    BoxAP,
    BoxAR,
    BoxFROC,
    Outcomes,
    ScoreExistence,
    match_quality,
    operating_point,
)
from tests.support.box_cohorts import RATES, assert_equal
from tests.support.reference_detection import reference_touching

FROC_AT = BoxFROC(fp_rates=RATES)


def shared(hits, scores, existence=None, ignored=None, quality=None):
    """A scan of predicted lesions that touch true ones so."""
    hits = torch.as_tensor(hits, dtype=torch.bool)
    lesions, boxes = hits.shape
    generator = torch.Generator().manual_seed(lesions + boxes)
    return match_quality(
        hits.double() if quality is None else torch.as_tensor(quality),
        hits,
        boxes=torch.rand(boxes, 6, generator=generator, dtype=torch.float64),
        scores=None if scores is None else torch.as_tensor(scores, dtype=torch.float64),
        lesion_boxes=torch.zeros(lesions, 6, dtype=torch.float64),
        existence=[1.0] * lesions if existence is None else list(existence),
        sizes=[1.0] * lesions,
        ignored=None if ignored is None else torch.as_tensor(ignored, dtype=torch.bool),
        shared=True,
    )


def figures(outcomes, at=None):
    point = operating_point(outcomes, at)
    return point.sensitivity, point.precision, point.hits, point.false_positives


def test_one_prediction_over_two_lesions_finds_both():
    outcomes = shared([[True], [True]], [0.9], quality=[[0.2], [0.7]])
    assert outcomes.box_of_lesion == [0, 0]
    assert outcomes.found_by.flatten().tolist() == [0, 0]
    assert outcomes.lesion.flatten().tolist() == [1]  # the one that it hits best
    assert figures(outcomes) == (1, 1, 1, 0)
    assert FROC_AT.details(outcomes).sensitivities.tolist() == [0, 1]
    assert BoxAP().value(outcomes) == BoxAR(max_detections=(1,)).value(outcomes) == 1
    assert outcomes.recall_by_scan.tolist() == [1]


def test_two_predictions_on_one_lesion_are_both_hits_and_find_it_once():
    outcomes = shared([[True, True, False]], [0.5, 0.9, 0.7])
    assert outcomes.box_of_lesion == [1]
    assert outcomes.outcome.flatten().tolist() == [1, 1, -1]
    assert outcomes.lesion.flatten().tolist() == [0, 0, -1]
    assert figures(outcomes) == (1, 2 / 3, 2, 1)
    assert figures(outcomes, 0.9) == (1, 1, 1, 0)
    assert BoxAP().value(outcomes) == 1  # found by the first, and the false one comes after
    assert BoxAR(max_detections=(1, 3)).details(outcomes).per_detections == {1: 1, 3: 1}


def test_the_highest_score_finds_and_of_equal_scores_the_best():
    quality = [[0.1, 0.8, 0.9], [0.3, 0.2, 0.3]]
    hits = [[True, True, True], [True, True, False]]
    assert shared(hits, [0.9, 0.5, 0.4], quality=quality).box_of_lesion == [0, 0]
    assert shared(hits, [0.4, 0.5, 0.5], quality=quality).box_of_lesion == [2, 1]
    assert shared(hits, None, quality=quality).box_of_lesion == [2, 0]


def test_lesions_count_as_much_as_their_existence():
    outcomes = shared([[True, False], [True, False], [False, True]], [0.9, 0.8], [0.5, 0.25, 0.25])
    assert outcomes.found(outcomes.worth).tolist() == [0.75, 0.25]
    assert FROC_AT.details(outcomes).sensitivities.tolist() == [0, 0.75, 1]
    assert BoxAP().value(outcomes) == 1
    nobody = shared([[True, True], [False, True]], [0.9, 0.8], [0.0, 1.0])
    assert nobody.outcome.flatten().tolist() == [-1, 1]  # what nobody marked is no lesion


def test_an_ignored_lesion_is_neither_found_nor_missed():
    hits = [[True, False, False, True], [True, True, False, False]]
    outcomes = shared(hits, [0.9, 0.8, 0.7, 0.6], ignored=[True, False])
    assert outcomes.box_of_lesion == [None, 0]
    assert outcomes.outcome.flatten().tolist() == [1, 1, -1, 2]
    assert figures(outcomes) == (1, 2 / 3, 2, 1)
    assert outcomes.recall_by_scan.tolist() == [1]
    assert BoxAP().details(outcomes).lesions == 1


@st.composite
def touching(draw):
    """Scans in which lesions and predictions touch at random, of scores with ties."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scans = []
    for _ in range(draw(st.integers(1, 4))):
        lesions, boxes = generator.integers(0, 5), generator.integers(0, 7)
        hits = generator.random((lesions, boxes)) < 0.4
        existence = generator.integers(1, 5, lesions) / 4
        ignored = generator.random(lesions) < 0.2
        scans.append((hits, generator.integers(1, 6, boxes) / 5, existence, ignored))
    return scans


@given(touching())
@settings(max_examples=80, deadline=None)
def test_every_figure_is_that_of_the_reference(scans):
    outcomes = [shared(*scan) for scan in scans]
    points, read, area = reference_touching(scans, RATES)
    froc = FROC_AT.details(outcomes)
    assert froc.sensitivity == pytest.approx(read, abs=1e-12, nan_ok=True)
    assert BoxAP().value(outcomes) == pytest.approx(area, abs=1e-12, nan_ok=True)
    for (score, hits, false, sensitivity), ours in zip(
        points, froc.sensitivities.tolist(), strict=True
    ):
        point = operating_point(outcomes, score)
        assert (point.hits, point.false_positives) == (hits, false)
        both = [ours, point.sensitivity]
        assert both == pytest.approx([sensitivity] * 2, abs=1e-12, nan_ok=True)
    everything = operating_point(outcomes, None).sensitivity
    assert everything == pytest.approx(points[-1][3], abs=1e-12, nan_ok=True)


@given(touching(), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_no_order_changes_anything(scans, random):
    def shuffled(scan):
        rows, columns = (list(range(size)) for size in scan[0].shape)
        random.shuffle(rows)
        random.shuffle(columns)
        hits, scores, existence, ignored = scan
        return hits[rows][:, columns], scores[columns], existence[rows], ignored[rows]

    first = [shared(*scan) for scan in scans]
    again = [shared(*shuffled(scan)) for scan in random.sample(scans, len(scans))]
    assert figures(first) == pytest.approx(figures(again), abs=1e-12, nan_ok=True)
    assert BoxAP().value(first) == pytest.approx(BoxAP().value(again), abs=1e-12, nan_ok=True)
    ours, theirs = (FROC_AT.details(outcomes) for outcomes in (first, again))
    torch.testing.assert_close(ours.fps_per_scan, theirs.fps_per_scan, rtol=0, atol=0)
    torch.testing.assert_close(ours.sensitivities, theirs.sensitivities, equal_nan=True)


@given(touching())
@settings(max_examples=30, deadline=None)
def test_the_record_comes_back_and_is_divided_and_put_together(scans):
    outcomes = Outcomes.joined([shared(*scan) for scan in scans])
    stored = json.loads(json.dumps(outcomes.as_dict(), allow_nan=False))
    assert_equal(Outcomes.from_dict(stored), outcomes)
    again = Outcomes.from_rows(
        outcomes.rows(), thresholds=outcomes.thresholds, size_classes=outcomes.size_classes
    )
    assert_equal(again, outcomes)
    assert_equal(Outcomes.joined(outcomes.split()), outcomes)
    lesions, boxes = (list(range(len(side))) for side in (outcomes.lesion_boxes, outcomes.boxes))
    whole = outcomes.as_one_scan(boxes[::-1], lesions[::-1])
    taken_by = [None if box is None else boxes[::-1][box] for box in whole.box_of_lesion[::-1]]
    assert taken_by == outcomes.box_of_lesion


@given(touching(), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_boxes_below_a_score_may_be_left_out_before_or_after(scans, step):
    """No lower score changes what higher ones found."""
    hits, scores, existence, ignored = scans[0]
    kept = scores >= step / 5
    before = shared(hits[:, kept], scores[kept], existence, ignored)
    after = shared(*scans[0]).as_one_scan(np.flatnonzero(kept).tolist(), range(len(hits)))
    for name in ("outcome", "lesion", "found_by", "scans"):
        assert torch.equal(getattr(before, name), getattr(after, name))


def test_an_older_record_has_one_lesion_a_box():
    options = {"boxes": torch.zeros(3, 6).double(), "scores": None, "sizes": [1.0] * 2}
    hits = torch.tensor([[True, True, False], [False, False, True]])
    outcomes = match_quality(
        hits.double(), hits, lesion_boxes=torch.zeros(2, 6).double(), existence=[1.0, 0.5],
        **options,
    )  # fmt: skip
    joined = Outcomes.joined([outcomes, outcomes])
    older = {name: values for name, values in joined.as_dict().items() if name != "found_by"}
    assert_equal(Outcomes.from_dict(older), joined)
    assert joined.found_by.flatten().tolist() in ([0, 2, 0, 2], [1, 2, 1, 2])


def test_scores_are_ranked_with_the_existence_of_what_they_hit_best():
    hits = np.eye(3, dtype=bool) | np.eye(3, k=1, dtype=bool)
    quality = np.eye(3) + 0.5 * np.eye(3, k=1)
    outcomes = shared(hits, [0.9, 0.5, 0.7], [1.0, 0.25, 0.5], quality=quality)
    assert ScoreExistence().value(outcomes) == pytest.approx(1)
