"""Lists by cells: no box that meets another is missed, and suppression is that of the sweep."""

from __future__ import annotations

import pytest
import torch

from softoverlap.suppression import _cells, _greedy, box_nms, rotated_nms, weighted_box_clustering
from softoverlap.suppression._sweep import meet


def drawn(ndim, count, seed, *, kind="alike", dtype=torch.float64):
    """Boxes of like size, of every size, on a grid where many touch or are flat, or on one line."""
    generator = torch.Generator().manual_seed(seed)
    low = 40 * torch.rand(count, ndim, generator=generator, dtype=dtype)
    edges = 1 + 4 * torch.rand(count, ndim, generator=generator, dtype=dtype)
    if kind == "every size":
        edges *= 10 ** (4 * torch.rand(count, 1, generator=generator, dtype=dtype) - 3)
    boxes = torch.cat([low, low + edges], dim=1)
    if kind == "grid":
        boxes = (boxes / 2).round()
    if kind == "line":
        boxes[:, :-1:ndim] = boxes[:1, :-1:ndim]
        boxes[:, ndim] = boxes[:, 0] + 1
    return boxes


def corners(boxes):
    return tuple(half.mT.contiguous() for half in boxes.chunk(2, dim=1))


def pairs_of(parts):
    return {pair for i, j in parts for pair in zip(i.tolist(), j.tolist(), strict=True)}


@pytest.mark.parametrize("kind", ["alike", "every size", "grid", "line"])
@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
def test_no_box_that_meets_another_is_missed(monkeypatch, kind, ndim):
    monkeypatch.setattr(_cells, "_WORTH_A_LIST", 4)
    monkeypatch.setattr(_cells, "_AT_ONCE", 500)
    for dtype in (torch.float32, torch.float64):
        boxes = drawn(ndim, 300, ndim, kind=kind, dtype=dtype)
        listed = torch.arange(0, 300, 2)
        near = list(_cells.Lists(corners(boxes), listed).near(corners(boxes[:90])))
        i, j = meet(corners(boxes[:90]), corners(boxes[listed]))
        assert pairs_of([(i, listed[j])]) <= pairs_of(near)
        assert sum(len(i) for i, _ in near) == len(pairs_of(near))
        if kind == "alike" and ndim > 1:
            assert len(pairs_of(near)) < 0.7 * 90 * len(listed)


def test_boxes_that_are_no_boxes_meet_nothing_and_endless_ones_all():
    boxes = drawn(2, 200, 0)
    boxes[3] = torch.nan
    boxes[5] = boxes[5].roll(2)
    boxes[7] = torch.tensor([-torch.inf, -torch.inf, torch.inf, torch.inf])
    near = pairs_of(_cells.Lists(corners(boxes), torch.arange(200)).near(corners(boxes)))
    i, j = meet(corners(boxes), corners(boxes))
    assert pairs_of([(i, j)]) <= near
    assert {(7, j) for j in range(200) if j not in (3, 5)} <= near
    assert not {pair for pair in near if pair[1] in (3, 5)}


@pytest.mark.parametrize("kind", ["alike", "every size", "grid"])
@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_suppression_by_lists_is_that_of_the_sweep(monkeypatch, kind, threshold):
    boxes = drawn(3, 250, 1, kind=kind) / torch.tensor([1, 8, 2] * 2)
    generator = torch.Generator().manual_seed(2)
    scores = (20 * torch.rand(250, generator=generator)).round() / 20  # many are equal
    labels = torch.randint(0, 2, (250,), generator=generator)
    turned = torch.cat([boxes[:, :2], boxes[:, 3:5] - boxes[:, :2], boxes[:, 2:3]], dim=1)
    runs = [
        lambda: [box_nms(boxes, scores, threshold)],
        lambda: [box_nms(boxes.float(), scores, threshold, labels)],
        lambda: [rotated_nms(turned, scores, threshold, labels)],
        lambda: weighted_box_clustering(boxes, scores, threshold, labels),
    ]
    for run in runs:
        expected = run()
        with monkeypatch.context() as patch:
            patch.setattr(_greedy, "_WORTH_LISTS", 0)
            patch.setattr(_greedy, "_FEW", 20)
            patch.setattr(_greedy, "_MANY", 50)
            patch.setattr(_cells, "_WORTH_A_LIST", 8)
            found = run()
        assert all(map(torch.equal, found, expected))


def test_many_boxes_are_listed(monkeypatch):
    boxes, scores = drawn(2, 9000, 3, dtype=torch.float32), torch.rand(9000)
    boxes *= torch.tensor([50.0])
    listed = box_nms(boxes, scores, 0.2)
    monkeypatch.setattr(_greedy, "_WORTH_LISTS", 1 << 30)
    monkeypatch.setattr(_greedy.MeetingClash, "lists", lambda *_: pytest.fail("listed"))
    assert torch.equal(listed, box_nms(boxes, scores, 0.2))
