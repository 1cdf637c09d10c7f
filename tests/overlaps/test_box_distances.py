"""What is special about DIoU, CIoU, EIoU and NWD; what all scores share is tested beside IoU."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given

from softoverlap.overlaps import (
    box_ciou,
    box_diou,
    box_eiou,
    box_giou,
    box_iou,
    box_nwd,
    box_pair_ciou,
    box_pair_diou,
    box_pair_iou,
    box_pair_nwd,
)
from tests.support.conformance import cases_of, needs_vectors
from tests.support.reference import reference_box_ciou, reference_box_nwd
from tests.support.strategies import box_batches

PRED = torch.tensor([[0.0, 0.0, 0.0, 4.0, 5.0, 2.5], [0.0, 0.0, 0.0, 2.0, 2.0, 1.0]]).double()
TARGET = torch.tensor([[1.0, 2.0, 0.5, 6.0, 4.0, 3.0], [5.0, 6.0, 4.0, 7.5, 8.0, 7.0]]).double()


def aspect_difference(a, b):
    """CIoU's v in 3D, in torch, as it is written."""
    (wa, ha, da), (wb, hb, db) = ((box[:, 3:] - box[:, :3]).unbind(1) for box in (a, b))
    pairs = [(wa / ha, wb / hb), (wa / da, wb / db), (ha / da, hb / db)]
    return sum(4 / math.pi**2 * (torch.atan(x) - torch.atan(y)) ** 2 for x, y in pairs) / 3


@given(box_batches())
def test_penalties_only_lower_the_score(boxes):
    diou = box_diou(boxes, boxes)
    assert (diou <= box_iou(boxes, boxes)).all()
    assert (box_giou(boxes, boxes) <= box_iou(boxes, boxes)).all()
    assert (box_ciou(boxes, boxes) <= diou).all()
    assert (box_eiou(boxes, boxes) <= diou).all()


@given(box_batches(ndim=1))
def test_ciou_is_diou_for_intervals(intervals):
    assert torch.equal(box_ciou(intervals, intervals), box_diou(intervals, intervals))


@pytest.mark.parametrize("score", [box_ciou, box_pair_ciou])
def test_the_gradient_of_ciou_passes_gradcheck_with_its_weight_frozen(score):
    pred, target = (boxes.clone().requires_grad_() for boxes in (PRED, TARGET))
    v = aspect_difference(pred, target)
    weight = (v / (1 - box_pair_iou(pred, target) + v)).detach()

    def frozen(a, b):
        return box_pair_diou(a, b, validate=False) - weight * aspect_difference(a, b)

    assert torch.autograd.gradcheck(frozen, (pred, target))
    expected = torch.autograd.grad(frozen(pred, target).sum(), (pred, target))
    value = score(pred, target)
    value = value if value.ndim == 1 else value.diagonal()
    torch.testing.assert_close(value, frozen(pred, target))
    found = torch.autograd.grad(value.sum(), (pred, target))
    torch.testing.assert_close(found, expected)


@given(box_batches(ndim=2, count=3))
def test_the_gate_leaves_ciou_where_the_iou_exceeds_it(boxes):
    gated, iou = box_ciou(boxes, boxes, gate=0.5), box_iou(boxes, boxes)
    expected = torch.where(iou > 0.5, box_ciou(boxes, boxes), box_diou(boxes, boxes))
    assert torch.equal(gated, expected)
    for i, a in enumerate(boxes.tolist()):
        for j, b in enumerate(boxes.tolist()):
            assert gated[i, j].item() == pytest.approx(reference_box_ciou(a, b, gate=0.5))


@needs_vectors
def test_ciou_is_finite_where_the_predicted_height_is_zero():
    (case,) = cases_of("ciou_loss_grad_finite")
    pred = case["a"].requires_grad_()
    loss = 1 - box_pair_ciou(pred, case["b"])
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(pred.grad).all()


@pytest.mark.parametrize("side", [1e-30, 1e30])
def test_the_aspect_neither_underflows_nor_overflows(side):
    square = side * torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    pred = (square * torch.tensor([1.0, 1.0, 1.0, 3.0])).double().requires_grad_()
    ciou = box_pair_ciou(pred, square.double())
    ciou.sum().backward()
    expected = box_pair_ciou(pred.detach() / side, square.double() / side)
    torch.testing.assert_close(ciou.detach(), expected)
    assert torch.isfinite(pred.grad).all()


@given(box_batches(count=2))
def test_the_constant_of_nwd_is_a_length(boxes):
    pred, target = boxes[:1], boxes[1:]
    value = box_nwd(pred, target, constant=3.0).item()
    expected = reference_box_nwd(pred[0].tolist(), target[0].tolist(), constant=3.0)
    assert value == pytest.approx(expected, abs=1e-12)
    scaled = box_nwd(4 * pred, 4 * target, constant=12.0).item()
    assert scaled == pytest.approx(value, abs=1e-12)
    assert box_pair_nwd(pred, target, constant=3.0).item() == value


def test_isotropic_growth_of_a_box_that_misses_raises_giou_and_diou():
    """A known weakness, said in the docs."""
    near = torch.tensor([[0.0, 0.0, 2.0, 2.0], [-0.5, -0.5, 2.5, 2.5]])
    target = torch.tensor([[6.0, 6.0, 8.0, 8.0]])
    for score in (box_giou, box_diou):
        small, grown = score(near, target)[:, 0]
        assert grown > small


@pytest.mark.parametrize("score", [box_nwd, box_pair_nwd])
def test_the_constant_of_nwd_must_be_above_zero(score):
    with pytest.raises(ValueError, match=r"constant must be above 0 and finite, got 0"):
        score(PRED, TARGET, constant=0.0)


@pytest.mark.bad_input
@pytest.mark.parametrize("score", [box_ciou, box_pair_ciou])
@pytest.mark.parametrize("gate", [-0.1, 1.5, float("nan")])
def test_a_gate_that_is_no_iou_is_refused(score, gate):
    box = torch.tensor([[0.0, 0.0, 2.0, 1.0]])
    with pytest.raises(
        ValueError, match=r"gate must (lie in \[0, 1\] or be None|be a number), got"
    ):
        score(box, box, gate=gate)
