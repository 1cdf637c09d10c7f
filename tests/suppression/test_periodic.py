"""Suppression, clustering, codes and hits where an axis comes round."""

from __future__ import annotations

import pytest
import torch

from softoverlap import box_giou, box_iou, box_nms, soft_nms, weighted_box_clustering
from softoverlap.anchors import anchor_quality
from softoverlap.boxes import decode_boxes, encode_boxes
from softoverlap.measures import Hit, compute_froc

ARCS = torch.tensor([[170.0, 190.0], [-188.0, -168.0], [350.0, 370.0], [-10.0, 12.0], [90.0, 95.0]])
SCORES = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])


def test_boxes_that_are_one_on_the_circle_drop_each_other():
    assert box_nms(ARCS, SCORES, 0.5).tolist() == [0, 1, 2, 3, 4]
    assert box_nms(ARCS, SCORES, 0.5, period=360.0).tolist() == [0, 2, 4]
    turning = box_giou.with_(period=360.0)
    assert box_nms(ARCS, SCORES, 0.5, overlap=turning).tolist() == [0, 2, 4]
    with pytest.raises(ValueError, match="^boxes must have no edge longer than the period 10"):
        box_nms(ARCS, SCORES, 0.5, period=10.0)
    with pytest.raises(ValueError, match="^period must be None for a function of your own"):
        box_nms(ARCS, SCORES, 0.5, overlap=lambda a, b: box_iou(a, b), period=360.0)


def test_many_boxes_are_suppressed_as_one_by_one():
    generator = torch.Generator().manual_seed(0)
    low = 1000 * torch.rand(300, 2, generator=generator) - 500
    boxes = torch.cat([low, low + 60 * torch.rand(300, 2, generator=generator)], dim=1)
    scores = torch.rand(300, generator=generator)
    period, kept = (360.0, None), []
    for place in scores.argsort(descending=True).tolist():
        others = box_iou(boxes[kept], boxes[place][None], period=period)
        if not (others > 0.1).any():
            kept.append(place)
    assert box_nms(boxes, scores, 0.1, period=period).tolist() == kept
    assert len(kept) < len(box_nms(boxes, scores, 0.1))


def test_soft_suppression_decays_across_the_seam():
    kept, scores = soft_nms(ARCS, SCORES, period=360.0)
    assert kept[:2].tolist() == [0, 2]
    iou = box_iou(ARCS[:1], ARCS[1:2], period=360.0)
    decayed = 0.8 * torch.exp(-(iou**2) / 0.5)
    assert scores[kept == 1].item() == pytest.approx(decayed.item(), rel=1e-6)


def test_members_of_a_cluster_are_averaged_next_to_its_head():
    boxes, _, heads = weighted_box_clustering(ARCS, SCORES, 0.5, period=360.0)
    assert heads.tolist() == [0, 2, 4]
    assert 170 < boxes[0, 0] < 172
    assert 190 < boxes[0, 1] < 192
    assert (boxes[1] - torch.tensor([350.0, 371.0])).abs().max() < 1.5


def test_the_whole_circle_is_laid_around_what_it_joins():
    for start in (0.0, 90.0, 180.0):
        boxes = torch.tensor([[0.0, 270.0], [start, start + 360.0]])
        found, _, heads = weighted_box_clustering(
            boxes, torch.tensor([0.9, 0.8]), 0.5, period=360.0
        )
        assert heads.tolist() == [0]
        assert found.mean().item() == pytest.approx(135)
        assert encode_boxes(boxes[1:], boxes[:1], period=360.0)[0, 0] == 0


def test_codes_go_the_shorter_way():
    anchors, boxes = ARCS[:1], torch.tensor([[-185.0, -165.0]])
    codes = encode_boxes(boxes, anchors, period=360.0)
    assert codes[0].tolist() == pytest.approx([0.25, 0.0])
    decoded = decode_boxes(codes, anchors)
    assert box_iou(decoded, boxes, period=360.0).item() == pytest.approx(1)
    assert torch.equal(encode_boxes(boxes, anchors, period=(None,)), encode_boxes(boxes, anchors))
    with pytest.raises(ValueError, match="^anchors must have no edge longer than the period 15"):
        encode_boxes(torch.tensor([[0.0, 10.0]]), anchors, period=15.0)


def test_anchors_and_hits_see_across_the_seam():
    turning = box_iou.with_(period=360.0)
    quality = anchor_quality(ARCS[1:2], ARCS, overlap=turning)
    assert quality[0, 0].item() == pytest.approx(18 / 22)
    sparse = anchor_quality(ARCS[1:2], ARCS, overlap=turning, sparse=True)
    assert torch.equal(sparse.to_dense(), quality)
    label = torch.zeros(1, dtype=torch.int64)
    found = {"box": ARCS[:1], "label_scores": SCORES[:1], "label": label}
    truth = {"box": ARCS[1:2], "label": label}
    assert compute_froc([found], [truth], hit=Hit(turning, 0.5)).sensitivities.max() == 1
    assert compute_froc([found], [truth], hit=Hit(box_iou, 0.5)).sensitivities.max() == 0
