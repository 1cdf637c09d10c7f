"""Boxes on axes that come round, against sets of eighths in which every turn is tried."""

from __future__ import annotations

import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from softoverlap import boxes as geometry, overlaps
from softoverlap.losses import BoxCIoULoss, BoxGIoULoss, BoxNWDLoss, RotatedBoxIoULoss
from softoverlap.overlaps import box_ciou, box_diou, box_giou, box_iou
from tests.support.reference_periodic import reference_periodic

NAMES = ("iou", "dice", "iof", "giou", "diou", "eiou", "nwd")
ALL = [getattr(overlaps, f"box_{name}") for name in (*NAMES, "ciou")]
TOLERANCE = {torch.float16: 1e-3, torch.float32: 1e-5, torch.float64: 1e-12}
PERIODS = st.sampled_from([(4,), (8.0,), (4, None), (None, 4), (4, 8)])


@st.composite
def arcs(draw, period, count=2):
    """Boxes on eighths, of edges up to the period, anywhere."""
    ndim = len(period)
    low = draw(hnp.arrays(np.int64, (count, ndim), elements=st.integers(-80, 80)))
    most = [int(8 * (one or 5)) for one in period]
    edges = [[draw(st.integers(0, most[axis])) for axis in range(ndim)] for _ in range(count)]
    return torch.from_numpy(np.concatenate([low, low + np.array(edges)], axis=1) / 8)


@pytest.mark.parametrize("name", NAMES)
@given(period=PERIODS, data=st.data())
def test_scores_equal_the_reference(name, period, data):
    a, b = data.draw(arcs(period)), data.draw(arcs(period))
    score = getattr(overlaps, f"box_{name}")
    found = score(a, b, period=period)
    for (i, one), (j, other) in itertools.product(enumerate(a.tolist()), enumerate(b.tolist())):
        expected = reference_periodic(name, one, other, period)
        assert found[i, j].item() == pytest.approx(expected, abs=1e-12)
    assert torch.allclose(score.pairs(a, b, period=period), found.diagonal(), atol=1e-14, rtol=0)


@pytest.mark.parametrize("score", ALL)
@given(period=PERIODS, data=st.data())
def test_scores_keep_their_laws(score, period, data):
    a, b = data.draw(arcs(period)), data.draw(arcs(period))
    found = score(a, b, period=period)
    low, high = score.range
    assert ((found >= low) & (found <= high)).all()
    assert (score.pairs(a, a, period=period) == 1).all()
    if score.symmetric:
        assert torch.allclose(found, score(b, a, period=period).T, atol=1e-14, rtol=0)
    ndim = len(period)
    origin = torch.tensor(data.draw(st.lists(st.integers(-99, 99), min_size=ndim, max_size=ndim)))
    turned = (origin / 8).repeat(2)
    again = score(a + turned, b + turned, period=period)
    assert torch.allclose(again, found, atol=1e-12, rtol=0)
    whole_turns = torch.tensor([3 * (one or 0) for one in period]).repeat(2)
    assert torch.allclose(score(a + whole_turns, b, period=period), found, atol=1e-12, rtol=0)


@pytest.mark.parametrize("score", ALL)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_where_nothing_wraps_the_scores_are_the_plain_ones(score, dtype):
    corners = torch.rand(2, 30, 2, generator=torch.Generator().manual_seed(3))
    boxes = torch.cat([corners[0], corners[0] + corners[1]], dim=1).to(dtype)
    near, far = score(boxes, boxes, period=100.0), score(boxes, boxes)
    assert near.dtype == far.dtype
    assert torch.allclose(near, far, atol=TOLERANCE[dtype], rtol=0)


def test_the_same_arc_said_twice_is_the_same():
    a, b = torch.tensor([[170.0, 190.0]]), torch.tensor([[-190.0, -170.0]])
    for score in ALL:
        assert score(a, b, period=360.0).item() == 1
    radians = torch.tensor([[-math.pi, math.pi]])  # in float32 longer than the circle
    assert box_iou(radians, radians + 1, period=2 * math.pi).item() == pytest.approx(1)


def test_two_arcs_can_meet_in_two_pieces():
    a, b = torch.tensor([[0.0, 270.0]]), torch.tensor([[180.0, 450.0]])
    assert box_iou(a, b, period=360.0).item() == pytest.approx(0.5)  # 180 of 360
    assert box_giou(a, b, period=360.0).item() == pytest.approx(0.5)


@pytest.mark.parametrize("score", ALL)
@pytest.mark.parametrize("period", [(7.0,), (7.0, None), (7.0, 5.0)])
def test_gradients_are_the_numerical_ones(score, period):
    generator = torch.Generator().manual_seed(len(period))
    ndim = len(period)
    low = 20 * torch.rand(12, ndim, generator=generator, dtype=torch.float64) - 10
    edge = 0.4 + 4 * torch.rand(12, ndim, generator=generator, dtype=torch.float64)
    made = torch.cat([low, low + edge], dim=1)
    boxes, other = (half.clone().requires_grad_() for half in made.chunk(2))

    def pairs(a, b):
        return score.with_(period=period).pairs(a, b)

    def all_pairs(a, b):
        return score(a, b, period=period)

    if score is not box_ciou:  # whose weight has no gradient
        assert torch.autograd.gradcheck(pairs, (boxes, other))
        assert torch.autograd.gradcheck(all_pairs, (boxes, other))
    score(boxes, other, period=period).sum().backward()
    assert boxes.grad.isfinite().all()
    assert boxes.grad.any()


@pytest.mark.parametrize("score", [each for each in ALL if each is not box_ciou])
def test_ties_have_the_gradients_of_plain_axes(score):
    ends = itertools.combinations(range(5), 2)
    arcs = torch.tensor(list(ends), dtype=torch.float64)
    a, b = (side.reshape(-1, 2) for side in torch.broadcast_tensors(arcs[:, None], arcs[None]))
    found, expected = [], []
    for period, gradients in ((100.0, found), (None, expected)):
        sides = a.clone().requires_grad_(), b.clone().requires_grad_()
        gradients += torch.autograd.grad(score.pairs(*sides, period=period).sum(), sides)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-12)
    across = (a - 2) % 100  # the same arcs around the seam
    across[:, 1] = across[:, 0] + (a[:, 1] - a[:, 0])
    moved = across.requires_grad_()
    (seam,) = torch.autograd.grad(score.pairs(moved, b - 2, period=100.0).sum(), moved)
    assert torch.allclose(seam, expected[0], atol=1e-12)


def test_losses_are_flat_at_the_optimum():
    box = torch.tensor([[350.0, 370.0]], requires_grad=True)
    BoxGIoULoss(period=360.0)(box, torch.tensor([[-10.0, 10.0]])).backward()
    assert not box.grad.any()


@pytest.mark.parametrize("score", ALL)
def test_a_circle_in_float32_is_whole_wherever_it_begins(score):
    low = torch.tensor([[0.1], [0.5], [1.0], [2.0], [5.0], [-3.0]])
    circles = torch.cat([low, low + 2 * math.pi], dim=1)
    found = score(circles, torch.tensor([[0.0, 1.0]]), period=2 * math.pi)
    assert torch.allclose(found, found[:1].expand_as(found), atol=1e-5)


def test_an_arc_longer_than_the_circle_finds_back_where_nobody_looks():
    arc = torch.tensor([[0.0, 400.0]], requires_grad=True)
    loss = BoxGIoULoss(period=360.0, validate=False)(arc, torch.tensor([[10.0, 20.0]]))
    loss.backward()
    assert arc.grad[0, 1] > 0
    with pytest.raises(ValueError, match="^input must have no edge longer than the period"):
        BoxGIoULoss(period=360.0)(arc, torch.tensor([[10.0, 20.0]]))


def test_antipodal_arcs_have_the_mean_gradient_of_both_ways():
    a = torch.tensor([[0.0, 2.0]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([[10.0, 12.0]], dtype=torch.float64)
    for score in (box_diou, box_giou):
        sides = []
        for step in (-1e-6, 1e-6):
            (side,) = torch.autograd.grad(score.pairs(a, b + step, period=20.0).sum(), a)
            sides.append(side)
        (found,) = torch.autograd.grad(score.pairs(a, b, period=20.0).sum(), a)
        assert torch.allclose(found, (sides[0] + sides[1]) / 2, atol=1e-6)
    distance = geometry.squared_centre_distance(a, b, 20.0)
    assert distance.item() == 100
    assert not torch.autograd.grad(distance.sum(), a)[0].any()


def test_the_whole_circle_has_no_centre():
    circle, elsewhere = torch.tensor([[0.0, 360.0]]), torch.tensor([[90.0, 450.0]])
    for score in ALL:
        assert score(circle, elsewhere, period=360.0).item() == 1
    arc = torch.tensor([[0.0, 90.0]])
    iou = box_iou(circle, arc, period=360.0)
    assert box_diou(circle, arc, period=360.0).item() == iou.item() == pytest.approx(0.25)


def test_flat_arcs_are_equal_where_they_lie_at_one_place():
    points = torch.tensor([[10.0, 10.0], [370.0, 370.0], [11.0, 11.0]])
    assert box_iou(points[:1], points, period=360.0).tolist() == [[1, 1, 0]]


@pytest.mark.bad_input
@pytest.mark.parametrize("period", [0, -1.0, math.nan, math.inf, (), "360", (360.0, -1), True])
def test_what_is_no_period_is_refused(period):
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    with pytest.raises(ValueError, match="^period must be a length above 0, or one or None"):
        box_iou(box, box, period=period)
    with pytest.raises(ValueError, match="^period must be"):
        box_iou.with_(period=period)


def test_boxes_that_do_not_fit_the_period_are_refused():
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 9.0, 1.0]])
    with pytest.raises(ValueError, match="^period must hold 2 lengths or None, one an axis"):
        box_iou(box, box, period=(360.0,))
    with pytest.raises(ValueError, match="^target must have no edge longer than the period 5"):
        box_iou(box[:1], box, period=5)
    with pytest.raises(ValueError, match=r"^pred must have no edge longer.* in row 1"):
        box_iou.pairs(box, box, period=5)
    assert box_iou(box, box, period=(None, 5)).diagonal().eq(1).all()


@pytest.mark.bad_input
def test_extreme_sizes_are_refused_and_numbers_of_numpy_taken():
    box = torch.tensor([[0.0, 0.0, 1e-200, 1.0]], dtype=torch.float64)
    with pytest.raises(ValueError, match="^pred must have edges of 0 or between 1e-30 and 1e"):
        box_iou(box, box, period=1.0)
    with pytest.raises(ValueError, match=r"^period must lie between 1e-30 and 1e\+30, got 1e"):
        box_iou(box, box, period=1e300)
    arc = torch.tensor([[0.0, 1.0]])
    for period in (np.int64(4), np.float32(4), [np.float64(4)]):
        assert box_iou(arc, arc + 4, period=period).item() == 1


def test_a_period_travels_with_the_overlap():
    turning = box_giou.with_(period=[360, None])
    assert turning == box_giou.with_(period=(360, None)) != box_giou
    assert pickle.loads(pickle.dumps(turning)) == turning
    assert box_iou.with_(period=(None, None)) is box_iou
    assert turning.parameters == {"period": (360, None)}


def test_losses_take_a_period():
    pred = torch.tensor([[170.0, 190.0]], requires_grad=True)
    target = torch.tensor([[-185.0, -165.0]])
    loss = BoxGIoULoss(period=360.0)
    expected = 1 - box_giou.pairs(pred, target, period=360.0)
    assert torch.equal(loss(pred, target), expected.mean())
    loss(pred, target).backward()
    assert (pred.grad < 0).all()  # forward, across the seam
    assert "period=360.0" in repr(loss)
    assert "period" not in repr(BoxGIoULoss())
    assert BoxCIoULoss(gate=0.5, period=360.0).overlap.parameters == {"gate": 0.5, "period": 360.0}
    assert BoxNWDLoss(constant=5.0, period=360.0).constant == 5
    with pytest.raises(TypeError, match="period"):
        RotatedBoxIoULoss(period=360.0)


def test_many_boxes_are_scored_in_blocks():
    generator = torch.Generator().manual_seed(0)
    low = 720 * torch.rand(300_000, 1, generator=generator)
    boxes = torch.cat([low, low + 50], dim=1).requires_grad_()
    other = boxes.detach().roll(1, dims=0)
    found = box_diou.pairs(boxes, other, period=360.0)
    few = box_diou.pairs(boxes[:100], other[:100], period=360.0)
    assert torch.equal(found[:100], few)
    (gradient,) = torch.autograd.grad(found.sum(), boxes)
    (expected,) = torch.autograd.grad(few.sum(), boxes)
    assert torch.allclose(gradient[:100], expected[:100], atol=1e-6)
