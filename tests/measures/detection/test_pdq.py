"""PDQ against the paper's equations, taken voxel by voxel and assignment by assignment."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap import PDQ, compute_pdq, soft_box_masks, soft_boxes
from tests.support.reference_soft_boxes import reference_pdq

SEEDS = st.integers(0, 10**6)


def drawn(seed, *, ndim=2, objects=2, detections=3):
    """A scan of soft detections near objects, and elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    shape = (7, 6, 3)[:ndim]
    low = (2.5 * draw(objects, ndim)).floor()
    high = low + 1 + (2 * draw(objects, ndim)).floor()
    truth = soft_box_masks(soft_boxes(torch.cat([low, high], dim=1)), shape)
    near = torch.cat([low, high], dim=1)[torch.arange(detections) % objects]
    boxes = soft_boxes(near, 0.05 + draw(detections, 2 * ndim))
    scores = draw(detections, 2)
    labels = torch.arange(objects) % 2
    return (
        {"box": boxes, "label_scores": scores / scores.sum(dim=1, keepdim=True)},
        {"masks": truth, "label": labels},
    )


def expected_of(prediction, target):
    shape = tuple(target["masks"].shape[1:])
    masks = prediction.get("masks")
    masks = soft_box_masks(prediction["box"], shape) if masks is None else masks
    detections = list(zip(masks.numpy(), prediction["label_scores"].tolist(), strict=True))
    objects = zip(target["masks"].numpy(), target["label"].tolist(), strict=True)
    return reference_pdq(detections, list(objects))


@pytest.mark.parametrize(("ndim", "objects", "detections"), [(2, 2, 3), (3, 1, 2), (2, 3, 2)])
@settings(max_examples=5, deadline=None)
@given(seed=SEEDS)
def test_a_scan_scores_what_the_equations_say(ndim, objects, detections, seed):
    scan = drawn(seed, ndim=ndim, objects=objects, detections=detections)
    assert PDQ()(*([one] for one in scan)).item() == pytest.approx(expected_of(*scan), abs=1e-12)
    masks = torch.rand(detections, *scan[1]["masks"].shape[1:]).double()
    other = {"masks": masks, "label_scores": scan[0]["label_scores"]}
    assert compute_pdq([other], [scan[1]]).pdq == pytest.approx(
        expected_of(other, scan[1]), abs=1e-12
    )


def test_perfect_detections_are_perfect_and_each_other_one_costs():
    masks = soft_box_masks(soft_boxes(torch.tensor([[1.0, 1, 4, 5], [5, 0, 8, 3]])), (9, 9))
    target = {"masks": masks, "label": torch.tensor([0, 1])}
    perfect = {"masks": masks, "label_scores": torch.eye(2)}
    figures = compute_pdq([perfect], [target])
    assert (figures.pdq, figures.tp, figures.fp, figures.fn) == (1, 2, 0, 0)
    one = {"masks": masks[:1], "label_scores": torch.eye(2)[:1]}
    assert compute_pdq([one], [target]).pdq == 0.5
    more = {"masks": masks[[0, 1, 1]], "label_scores": torch.eye(2)[[0, 1, 1]]}
    assert compute_pdq([more], [target]).pdq == pytest.approx(2 / 3)
    wrong = {"masks": masks, "label_scores": torch.eye(2).flip(0)}
    figures = compute_pdq([wrong], [target])
    assert (figures.pdq, figures.tp, figures.fp, figures.fn) == (0, 0, 2, 2)
    assert math.isnan(figures.spatial)


def test_quality_is_the_geometric_mean_of_label_foreground_and_background():
    truth = torch.zeros(1, 1, 6).double()
    truth[..., 1:3] = 1
    found = torch.tensor([[[0.0, 0.5, 0.9, 0.0, 0.2, 0.0]]]).double()
    figures = compute_pdq(
        [{"masks": found, "label": torch.tensor([4]), "label_scores": torch.tensor([0.7])}],
        [{"masks": truth, "label": torch.tensor([4])}],
    )
    foreground, background = math.sqrt(0.5 * 0.9), math.sqrt(0.8)
    assert figures.foreground == pytest.approx(foreground)
    assert figures.background == pytest.approx(background)
    assert figures.spatial == pytest.approx(foreground * background)
    assert figures.pdq == pytest.approx(math.sqrt(0.7 * foreground * background), abs=1e-7)


def test_background_within_the_objects_box_costs_nothing():
    truth = torch.zeros(1, 6, 6)
    truth[0, range(1, 5), range(1, 5)] = 1  # a diagonal
    box = {"box": soft_boxes(torch.tensor([[1.0, 1, 5, 5]])), "label_scores": torch.ones(1, 1)}
    target = {"masks": truth, "label": torch.zeros(1)}
    assert compute_pdq([box], [target]).pdq == 1
    wide = {**box, "box": soft_boxes(torch.tensor([[1.0, 1, 5, 6]]))}
    assert compute_pdq([wide], [target]).pdq == 0


def test_a_soft_truth_is_taken_at_its_half_or_at_its_highest_probability():
    box = torch.tensor([[3.0, 3.0, 8.0, 8.0]])
    sure = soft_box_masks(soft_boxes(box), (16, 16))
    soft = soft_box_masks(soft_boxes(box, 0.3), (16, 16))
    wide = soft_boxes(torch.tensor([[3.0, 3.0, 13.0, 13.0]]))
    for truth in (sure, soft, 0.4 * sure):
        target = {"masks": truth, "label": torch.zeros(1), "ignored": [False]}
        right = {"box": soft_boxes(box), "label_scores": torch.ones(1, 1)}
        assert compute_pdq([right], [target]).pdq == 1
        four_times = {
            "masks": 0.99 * soft_box_masks(wide, (16, 16)),
            "label_scores": torch.ones(1, 1),
        }
        assert compute_pdq([four_times], [target]).pdq < 0.01
        honest = {"masks": soft, "label_scores": torch.ones(1, 1)}
        same = {"masks": sure, "label": torch.zeros(1)}
        assert compute_pdq([honest], [target]) == compute_pdq([honest], [same])


def test_who_knows_where_a_box_is_unsure_scores_higher():
    truth = soft_box_masks(soft_boxes(torch.tensor([[5.0, 5, 15, 15]])), (24, 24))
    target = {"masks": truth, "label": torch.zeros(1)}
    found = torch.tensor([[5.0, 5.0, 15.0, 13.0]])  # a face is 2 voxels off
    spread = torch.tensor([[0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 1.5], [6.0, 6.0, 6.0, 6.0]])
    sure, honest, vague = (
        compute_pdq(
            [{"box": soft_boxes(found, s[None]), "label_scores": torch.ones(1, 1)}], [target]
        )
        for s in spread
    )
    assert honest.pdq > sure.pdq
    assert honest.pdq > vague.pdq


def test_sums_add_up_over_scans_whatever_their_order():
    scans = [drawn(seed, objects=1 + seed % 2) for seed in range(4)]
    predictions, targets = map(list, zip(*scans, strict=True))
    measure = PDQ()
    sums = measure.statistics(predictions, targets)
    assert sums.shape == (4, 8)
    assert sums.dtype == torch.float64
    parts = sum(measure.statistics([p], [t])[0] for p, t in scans)
    assert torch.allclose(measure.score(parts), measure(predictions, targets))
    swapped = [{k: v.flip(0) for k, v in p.items()} for p in predictions]
    assert torch.allclose(measure(swapped, targets), measure(predictions, targets))


def test_without_objects_every_detection_is_false_and_without_both_there_is_no_score():
    nothing = {"masks": torch.zeros(0, 5, 5), "label": torch.zeros(0)}
    found = {"box": soft_boxes(torch.tensor([[1.0, 1, 3, 3]])), "label_scores": torch.ones(1, 2)}
    none = {"box": torch.zeros(0, 8), "label_scores": torch.zeros(0, 2)}
    assert compute_pdq([found], [nothing]).pdq == 0
    assert compute_pdq([found], [nothing]).fp == 1
    assert math.isnan(compute_pdq([none], [nothing]).pdq)
    object_ = {"masks": torch.ones(1, 5, 5), "label": torch.zeros(1)}
    assert compute_pdq([none], [object_]).fn == 1


def test_a_voxel_below_the_least_probability_is_not_claimed():
    truth = torch.zeros(1, 1, 4)
    truth[..., 0] = 1
    found = {"masks": torch.tensor([[[1.0, 0.3, 0.0, 0.0]]]), "label_scores": torch.ones(1, 1)}
    target = {"masks": truth, "label": torch.zeros(1)}
    assert compute_pdq([found], [target]).spatial == pytest.approx(0.7)
    assert compute_pdq([found], [target], least_probability=0.5).spatial == 1


@pytest.mark.bad_input
def test_scans_that_do_not_fit_are_named():
    prediction, target = drawn(0)
    for wrong, words in (
        ({**prediction, "label_scores": 2 * prediction["label_scores"] + 1}, "probabilities"),
        (
            {"box": prediction["box"]},
            r"predictions\[0\] must have the keys \['label_scores'\], got",
        ),
        ({"label_scores": torch.ones(3, 2)}, r"predictions\[0\] must have the keys \['box'\], got"),
        ({**prediction, "box": prediction["box"][:2]}, r"\['box'\] must have shape \(3, 8\)"),
        ({**prediction, "box": torch.zeros(3, 4)}, r"\['box'\] must have shape \(3, 8\)"),
        ({**prediction, "box": prediction["box"] * torch.nan}, "must hold finite coordinates"),
        ({**prediction, "masks": torch.zeros(3, 7, 7)}, r"\['masks'\] must have shape \(3, 7, 6\)"),
        (
            {**prediction, "label_scores": torch.ones(3, 1)},
            "class 1 of the targets needs 2 columns",
        ),
        (
            {**prediction, "label_scores": torch.ones(3)},
            r"have the keys \['label', 'label_scores'\]",
        ),
        (
            {"box": prediction["box"], "label_scores": torch.ones(3), "label": torch.ones(3) / 2},
            r"predictions\[0\]\['label'\] must hold whole numbers, got 0\.5",
        ),
        ({**prediction, "label_scores": torch.ones(3, 1, 1)}, r"must have shape \(N, C\) or"),
    ):
        with pytest.raises(ValueError, match=words):
            compute_pdq([wrong], [target])
    for wrong, words in (
        ({"label": target["label"]}, r"targets\[0\] must have the keys \['masks', 'label'\], got"),
        (
            {**target, "label": torch.zeros(3)},
            r"\['masks'\] must have shape .* each of 3 labels, g",
        ),
        ({**target, "label": torch.zeros(2, 1)}, r"targets\[0\]\['label'\] must have shape \(2,\)"),
        (
            {**target, "masks": target["masks"][:, None]},
            r"targets\[0\]\['masks'\], .*, ask for, got",
        ),
        (
            {**target, "label": torch.tensor([0, torch.nan])},
            r"\['label'\] must hold finite numbers",
        ),
        ({**target, "label": torch.tensor([0, -1])}, r"must hold classes from 0, got -1"),
        (
            {**target, "ignored": [False, True]},
            r"targets\[0\] must have no object that is 'ignored'",
        ),
        (
            {**target, "masks": 0 * target["masks"]},
            "must mark voxels of each object, got none of 0",
        ),
        ({**target, "masks": -target["masks"]}, r"must hold probabilities in \[0, 1\]"),
    ):
        with pytest.raises(ValueError, match=words):
            compute_pdq([prediction], [wrong])
    with pytest.raises(TypeError, match=r"targets\[0\] must be a dict, got int"):
        compute_pdq([prediction], [3])
    with pytest.raises(TypeError, match="predictions must be a list, an item a scan"):
        compute_pdq(prediction, [target])
    with pytest.raises(ValueError, match=r"targets must hold an item a scan.* \(1\), got 0"):
        compute_pdq([prediction], [])
    with pytest.raises(ValueError, match="predictions must hold at least one scan, got none"):
        compute_pdq([], [])
    with pytest.raises(ValueError, match=r"least_probability must lie in \[0, 1\], got 2"):
        PDQ(least_probability=2)
