"""Rows of lesions, recall, false positives, existence and small lesions, against loops."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
import torch

from softoverlap import lesions_from_mask
from softoverlap.measures import LesionRecall
from tests.support.lesion_maps import (
    SHAPES,
    batch,
    blobs,
    false_positive_metric,
    false_positives_of,
    lesion_recall_metric,
    lesion_recall_of,
    panoptic_quality_of,
)
from tests.support.measure_forms import lesion_matches
from tests.support.reference_lesions import best_assignment, reference_soft_lesions, soft_overlaps


def test_a_scan_without_lesions_has_no_recall_and_counts_for_false_positives():
    nothing, something = torch.zeros(1, 1, 5), torch.tensor([[[0.0, 1.0, 0.0, 1.0, 1.0]]])
    recall, false = lesion_recall_metric(spacing=1.0), false_positive_metric(spacing=1.0)
    for metric in (recall, false):
        metric(something, nothing)
        metric(something, something)
    assert recall.summary().value == 1
    assert recall.summary().counted == 1
    assert false.aggregate().item() == 1
    assert false.details()["label_0"].volume_ml == pytest.approx(1.5e-3)


@pytest.mark.parametrize("shape", [(1, 1, 4), (1, 1, 0, 4)])
def test_nothing_at_all_has_no_rows(shape):
    nothing = torch.zeros(shape)
    assert lesion_matches(nothing, nothing, spacing=1.0) == []
    assert lesion_recall_of(nothing, nothing, spacing=1.0).isnan().all()
    assert false_positives_of(nothing, nothing, spacing=1.0).item() == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_are_the_lesions_of_lesions_from_mask(shape):
    spacing = [1.0, 2.0, 0.5][: len(shape)]
    truth = np.round(blobs(shape, seed=5), 3)
    rows = lesion_matches(batch(truth), batch(truth), spacing=spacing)
    lesions = lesions_from_mask(torch.from_numpy(truth), spacing=spacing)
    assert len(rows) == len(lesions) > 1
    for row, lesion in zip(rows, lesions, strict=True):
        assert row.volume_mm3 == pytest.approx(lesion.volume_mm3, abs=1e-9)
        assert row.box == tuple(map(int, lesion.box))
        assert row.centre == pytest.approx(lesion.centre.tolist(), abs=1e-5)
        assert (row.soft_dice, row.soft_iou, row.detected) == (1, 1, True)
        assert row.matched == (row.lesion,)


@pytest.mark.parametrize("shape", [(14, 15), (8, 9, 9)])
def test_many_to_one_merges_all_lesions_that_touch(shape):
    for seed in range(3):
        pred, truth = blobs(shape, seed=seed), blobs(shape, seed=seed)[::-1].copy()
        rows = lesion_matches(batch(pred), batch(truth), spacing=1.0)
        found = reference_soft_lesions(pred)
        lesions = reference_soft_lesions(truth)
        for row, lesion in zip(rows, lesions, strict=True):
            partners = [
                number
                for number, other in enumerate(found)
                if ((lesion >= 0.5) & (other >= 0.5)).any()
            ]
            assert row.matched == tuple(partners)
            assert row.detected == (len(partners) > 0)
            if partners:
                dice, iou = soft_overlaps(lesion, sum(found[number] for number in partners))
                assert row.soft_dice == pytest.approx(dice, abs=1e-12)
                assert row.soft_iou == pytest.approx(iou, abs=1e-12)


def test_one_to_one_has_the_highest_total_iou():
    seen = 0
    for seed in range(12):
        truth, pred = (blobs((11, 12), seed=s, share=0.3) for s in (seed, seed + 50))
        rows = lesion_matches(batch(pred), batch(truth), spacing=1.0, matching="one_to_one")
        found = reference_soft_lesions(pred)
        lesions = reference_soft_lesions(truth)
        if not 0 < len(found) < 8 or not 0 < len(lesions) < 8:
            continue
        iou = np.array([[soft_overlaps(a, b)[1] for b in found] for a in lesions])
        touch = [[((a >= 0.5) & (b >= 0.5)).any() for b in found] for a in lesions]
        assert sum(row.soft_iou for row in rows) == pytest.approx(best_assignment(iou * touch))
        taken = [number for row in rows for number in row.matched]
        assert len(taken) == len(set(taken))
        seen += 1
    assert seen >= 5


def test_the_hit_rule_is_explicit():
    truth, pred = torch.zeros(1, 1, 10), torch.zeros(1, 1, 10)
    truth[..., :4], pred[..., 3:7] = 1, 1  # Dice 1/4, IoU 1/7
    for options, expected in (
        ({}, True),
        ({"hit": "dice", "hit_threshold": 0.25}, True),
        ({"hit": "dice", "hit_threshold": 0.3}, False),
        ({"hit": "iou", "hit_threshold": 0.14}, True),
        ({"hit": "iou", "hit_threshold": 0.15}, False),
    ):
        (row,) = lesion_matches(pred, truth, spacing=1.0, **options)
        assert row.detected is expected
        recall = lesion_recall_of(pred, truth, spacing=1.0, **options)
        assert recall.item() == float(expected)


def test_a_halo_below_its_least_probability_belongs_to_no_lesion():
    pred = torch.tensor([[[0.005, 0.02, 1.0, 0.3, 0.0]]])
    truth = torch.tensor([[[0.0, 0.0, 1.0, 0.0, 0.0]]])
    for halo, expected in ((0.0, 1.325), (0.01, 1.32), (0.1, 1.3), (0.5, 1.0)):
        (row,) = lesion_matches(pred, truth, spacing=1.0, halo=halo)
        assert row.pred_volume_mm3 == pytest.approx(expected, abs=1e-6)


def test_rows_name_item_class_and_place_in_the_whole_image():
    truth = torch.zeros(2, 2, 8, 9)
    truth[1, 1, 5:7, 3:4] = 1
    (row,) = lesion_matches(
        torch.zeros_like(truth), truth, include_background=False, spacing=[2.0, 3.0]
    )
    columns = asdict(row)
    assert (columns["item"], columns["channel"]) == (1, 0)
    assert columns["box"] == (5, 3, 7, 4)
    assert columns["centre"] == (6.0, 3.5)
    assert columns["volume_mm3"] == 12
    assert (columns["soft_dice"], columns["detected"], columns["n_pred"]) == (0.0, False, 0)


def test_recall_by_size_agrees_with_the_rows():
    metric = lesion_recall_metric(edges=(4.0, 12.0), spacing=1.0)
    rows = []
    for seed in range(4):
        truth, pred = blobs((9, 10, 11), seed=seed), blobs((9, 10, 11), seed=seed + 9)
        score = metric(batch(pred), batch(truth))
        own = lesion_matches(batch(pred), batch(truth), spacing=1.0)
        rows += own
        assert score.item() == pytest.approx(np.mean([row.detected for row in own]))
    sizes = metric.details()["label_0"]
    assert list(sizes) == ["<4 mm³", "4–12 mm³", "≥12 mm³", "all sizes"]
    for recall, (low, high) in zip(
        sizes.values(), [(0, 4), (4, 12), (12, np.inf), (0, np.inf)], strict=True
    ):
        inside = [row.detected for row in rows if low <= row.volume_mm3 < high]
        assert (recall.found, recall.lesions) == (sum(inside), len(inside))
        assert recall.recall == pytest.approx(np.mean(inside))
    assert metric.details()["label_0"]["all sizes"].lesions == len(rows)
    assert metric.aggregate("dataset").item() == pytest.approx(
        np.mean([row.detected for row in rows])
    )


def test_existence_weighs_each_lesion_by_its_raters():
    raters = torch.zeros(1, 4, 1, 12)
    raters[..., 1:3] = 1  # all four
    raters[:, :1, :, 6:8] = 1  # one of four
    truth, pred = raters.mean(dim=1), torch.zeros(1, 1, 12)
    pred[..., 1:3] = 0.8
    options = {"spacing": 1.0, "raters": raters}
    rows = lesion_matches(pred, truth, **options)
    assert [row.existence for row in rows] == [1.0, 0.25]
    assert lesion_recall_of(pred, truth, **options).item() == 0.5
    weighted = lesion_recall_of(pred, truth, weight_by="existence", **options)
    assert weighted.item() == pytest.approx(1 / 1.25)
    assert lesion_recall_of(pred, truth, spacing=1.0).item() == 1  # one lesion is above half
    metric = lesion_recall_metric(spacing=1.0, weight_by="existence")
    metric(list(pred), list(truth), raters=list(raters))
    assert metric.aggregate().item() == pytest.approx(1 / 1.25)
    assert metric.details()["label_0"]["all sizes"].recall == 0.5


def test_lesions_of_raters_are_those_of_lesions_from_mask():
    raters = np.stack([blobs((9, 10, 11), seed=s, share=0.05) >= 0.5 for s in range(3)])
    raters = torch.from_numpy(raters.astype(np.float64))
    mask = raters.mean(dim=0)
    options = {"spacing": 1.0, "raters": raters[None, :, None]}
    rows = lesion_matches(mask[None, None], mask[None, None], **options)
    lesions = lesions_from_mask(mask, spacing=[1.0] * 3, raters=raters)
    assert len(rows) == len(lesions) > 1
    for row, lesion in zip(rows, lesions, strict=True):
        assert row.existence == pytest.approx(lesion.existence)
        assert row.volume_mm3 == pytest.approx(lesion.volume_mm3)
        assert row.box == tuple(map(int, lesion.box))
    assert len({row.existence for row in rows}) > 1


def test_what_one_rater_marked_is_no_false_positive():
    raters, pred = torch.zeros(1, 4, 1, 8), torch.zeros(1, 1, 8)
    raters[:, 0, :, 2] = pred[..., 2] = 1
    truth = raters.mean(dim=1)
    assert false_positives_of(pred, truth, spacing=1.0).item() == 1
    assert false_positives_of(pred, truth, spacing=1.0, raters=raters).item() == 0


def test_a_volume_on_an_edge_belongs_to_the_larger_class():
    truth = torch.tensor([[[1.0, 1.0, 0.0, 1.0]]])
    recall = LesionRecall(spacing=1.0, edges=(0.5, 2.0))
    torch.testing.assert_close(
        recall.by_size(recall.statistics(truth * 0, truth)),
        torch.tensor([[[torch.nan, 0.0, 0.0]]], dtype=torch.float64),
        equal_nan=True,
    )


def test_raters_do_not_count_where_voxels_do_not_and_leave_the_background_out():
    raters = torch.zeros(1, 2, 2, 8)
    raters[:, :, 0] = 1  # background
    raters[:, :, 1, 1], raters[:, 0, 1, 5] = 1, 1
    truth, counted = raters.mean(dim=1), torch.ones(1, 1, 8)
    options = {"spacing": 1.0, "raters": raters, "include_background": False}
    rows = lesion_matches(truth, truth, **options)
    assert [row.existence for row in rows] == [1.0, 0.5]
    counted[..., 5:] = 0
    (row,) = lesion_matches(truth, truth, mask=counted, **options)
    assert row.box == (1, 2)


@pytest.mark.parametrize("shape", SHAPES)
def test_false_positives_are_the_lesions_that_touch_no_true_one(shape):
    spacing = [2.0, 1.0, 3.0][: len(shape)]
    for seed in range(3):
        pred, truth = blobs(shape, seed=seed), blobs(shape, seed=seed + 20)
        found = reference_soft_lesions(pred)
        false = [a for a in found if not ((a >= 0.5) & (truth >= 0.5)).any()]
        one = {"spacing": spacing}
        count = false_positives_of(batch(pred), batch(truth), **one)
        assert count.item() == len(false)
        ml = false_positives_of(batch(pred), batch(truth), measured_in="ml", spacing=1.0)
        assert ml.item() == pytest.approx(sum(a.sum() for a in false) / 1000, abs=1e-12)


def test_small_lesions_are_left_out_with_what_touches_them():
    truth, pred = torch.zeros(1, 1, 12), torch.zeros(1, 1, 12)
    truth[..., 1], truth[..., 4:7] = 1, 1
    pred[..., 1:3], pred[..., 10] = 1, 1
    least = {"spacing": 1.0, "min_mm3": 2.0}
    (row,) = lesion_matches(pred, truth, **least)
    assert row.volume_mm3 == 3
    assert false_positives_of(pred, truth, **least).item() == 0
    assert false_positives_of(pred, truth, spacing=1.0).item() == 1
    assert panoptic_quality_of(pred, truth, **least).item() == 0
