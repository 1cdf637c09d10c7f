"""FROC, AP and the rest by overlaps of oriented boxes, and of masks and oriented boxes."""

from __future__ import annotations

import math

import pytest
import torch

from softoverlap import rotated
from softoverlap.for_monai import BoxAPMetric, FROCMetric
from softoverlap.measures import (
    Hit,
    Outcomes,
    compute_average_precision,
    compute_average_recall,
    compute_froc,
    match_scan,
)
from softoverlap.overlaps import (
    mask_rotated_box_dice,
    mask_rotated_box_iou,
    rotated_box_giou,
    rotated_box_iof,
    rotated_box_iou,
)

TRUTH = torch.tensor([[10.0, 10.0, 16.0, 3.0, 0.8], [14.0, 7.0, 16.0, 3.0, 0.8]])
YAW = torch.tensor([[10.0, 10.0, 4.0, 16.0, 3.0, 4.0, 0.8], [14.0, 7.0, 4.0, 16.0, 3.0, 4.0, 0.8]])


def target_of(boxes, **more):
    return {"box": boxes, "label": torch.zeros(len(boxes), dtype=torch.long), **more}


def found_of(boxes, scores):
    return {**target_of(boxes), "label_scores": torch.tensor(scores)}


def turned(boxes, angle):
    return torch.cat([boxes[:, :-1], boxes[:, -1:] + angle], dim=1)


@pytest.mark.parametrize("boxes", [TRUTH, YAW], ids=["plane", "yaw"])
@pytest.mark.parametrize("overlap", [rotated_box_iou, rotated_box_iof, rotated_box_giou], ids=repr)
def test_truth_against_itself_is_perfect_also_after_half_a_turn(boxes, overlap):
    scans = [found_of(turned(boxes, math.pi), [0.9, 0.8])], [target_of(boxes)]
    hit = Hit(overlap, 0.99)
    assert compute_froc(*scans, hit=hit).cpm == 1
    assert compute_average_precision(*scans, hit=hit).mean == 1
    assert compute_average_recall(*scans, hit=overlap).mean == 1
    assert match_scan(scans[0][0], scans[1][0], hit=hit).lesion.flatten().tolist() == [0, 1]


def test_a_box_with_the_wrong_angle_misses_though_its_upright_box_hits():
    found = turned(TRUTH, -2 * 0.8)  # mirrored: the same upright boxes
    assert torch.allclose(rotated.circumscribed(found), rotated.circumscribed(TRUTH))
    upright = [rotated.circumscribed(boxes).float() for boxes in (found, TRUTH)]
    scans = [found_of(upright[0], [0.9, 0.8])], [target_of(upright[1])]
    assert compute_average_precision(*scans, threshold=0.5).mean == 1
    scans = [found_of(found, [0.9, 0.8])], [target_of(TRUTH)]
    assert compute_average_precision(*scans, hit=Hit(rotated_box_iou, 0.5)).mean == 0


def test_each_box_takes_the_lesion_that_an_overlap_of_all_pairs_says():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(6, 5, generator=generator) * torch.tensor([20.0, 20.0, 8.0, 4.0, 3.0]) + 1
    noise = torch.randn(6, 5, generator=generator) * torch.tensor([1.0, 1.0, 0.3, 0.3, 0.2])
    found = truth + noise
    outcomes = match_scan(
        found_of(found, torch.rand(6, generator=generator).tolist()),
        target_of(truth),
        hit="rotated_box_iou",
        threshold=0.2,
    )
    iou, free = rotated_box_iou(found, truth), set(range(6))
    for box in outcomes.scores.argsort(descending=True).tolist():
        hits = [lesion for lesion in free if iou[box, lesion] >= 0.2]
        expected = max(hits, key=lambda lesion: iou[box, lesion], default=-1)
        assert outcomes.lesion[box].item() == expected
        free -= {expected}
    assert len(free) < 6


def test_metrics_of_monai_take_oriented_hits():
    batches = [([found_of(TRUTH, [0.9, 0.8])], [target_of(TRUTH)]),
               ([found_of(turned(TRUTH, 1.5), [0.7, 0.6])], [target_of(TRUTH)])]  # fmt: skip
    for metric in (
        FROCMetric(hit=Hit(rotated_box_iou, 0.5)),
        BoxAPMetric(hit="rotated_box_iou", threshold=0.5),
    ):
        for batch in batches:
            metric(*batch)
        assert 0 < float(metric.aggregate()) < 1
        assert metric.outcomes().boxes.shape == (4, 5)


@pytest.mark.parametrize("boxes", [TRUTH, YAW], ids=["plane", "yaw"])
def test_sizes_ignored_lesions_and_storage_know_oriented_boxes(boxes):
    axis = boxes.shape[1] // 2
    apart = boxes[:1].clone()
    apart[0, 0] += 100
    nearby = boxes[1:].clone()
    nearby[0, axis : axis + 2] = torch.tensor([0.5, 0.5])  # small, and its centre in the lesion
    found = found_of(torch.cat([boxes[:1], nearby, apart]), [0.9, 0.8, 0.7])
    target = target_of(boxes, ignored=[False, True])
    hit, volume = Hit(rotated_box_iou, 0.5), boxes[0, axis:-1].prod().item()
    outcomes = match_scan(found, target, hit=hit)
    assert outcomes.outcome.flatten().tolist() == [1, 2, -1]
    assert outcomes.sizes.tolist() == [0, 0]
    again = Outcomes.from_dict(outcomes.as_dict())
    assert again.boxes.shape == outcomes.boxes.shape
    empty = match_scan(found_of(boxes[:0], []), target_of(boxes[:0]), hit=hit)
    joined = Outcomes.joined([outcomes, Outcomes.from_dict(empty.as_dict())])
    assert joined.ndim == axis
    sized = compute_average_precision([found], [target], hit=hit, size_edges=(volume + 1,))
    assert sized.lesions == 1
    assert list(sized.per_size) == [f"<{volume + 1:g} voxels"]


@pytest.mark.parametrize("overlap", [mask_rotated_box_dice, mask_rotated_box_iou], ids=repr)
def test_masks_are_hit_by_oriented_boxes(overlap):
    axis = torch.arange(24) + 0.5
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    places = torch.stack([x, y], dim=-1)
    masks = torch.stack([rotated.holds(box, places) for box in TRUTH.double()]).float()
    target = target_of(TRUTH, masks=masks)
    right, wrong = (found_of(turned(TRUTH, angle), [0.9, 0.8]) for angle in (0, -1.6))
    hit = Hit(overlap, 0.5)
    assert compute_average_precision([right], [target], hit=hit).mean == 1
    assert compute_average_precision([wrong], [target], hit=hit).mean == 0
    assert compute_average_precision([right], [target], hit=overlap.name).mean == 1


@pytest.mark.bad_input
def test_boxes_of_the_other_layout_are_named():
    upright = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    with pytest.raises(ValueError, match=r"prediction\['box'\] must have shape \(N, 5\) or \(N, 7"):
        match_scan(found_of(upright, [1.0]), target_of(upright), hit=rotated_box_iou)
    with pytest.raises(
        ValueError, match=r"prediction\['box'\] must have shape \(N, 2 \* ndim\), g"
    ):
        match_scan(found_of(TRUTH, [1.0, 1.0]), target_of(TRUTH))
    with pytest.raises(ValueError, match=r"\['box'\] must have 7 columns, as .* does, got 5"):
        match_scan(found_of(TRUTH, [1.0, 1.0]), target_of(YAW), hit=rotated_box_iou)
    with pytest.raises(ValueError, match="target must hold 'masks' and 'existence' for oriented"):
        match_scan(found_of(TRUTH, [1.0, 1.0]), target_of(TRUTH, lesions=[]), hit=rotated_box_iou)
    with pytest.raises(ValueError, match="overlap must be one of a mask and a box that has a best"):
        Hit(mask_rotated_box_dice, 0.5, relative=True)
