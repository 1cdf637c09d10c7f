"""Losses of soft boxes: their values, and that they learn how far raters disagree."""

from __future__ import annotations

import math

import pytest
import torch

from softoverlap import (
    SoftBoxCRPSLoss,
    SoftBoxIoULoss,
    soft_box_faces,
    soft_box_iou,
    soft_boxes,
    soft_boxes_from_raters,
)
from tests.support.reference_soft_boxes import reference_crps

MEAN = torch.tensor([[10.0, 12.0, 20.0, 26.0]], dtype=torch.float64)
SPREAD = torch.tensor([[0.5, 1.0, 2.0, 0.25]], dtype=torch.float64)


def raters(count, seed=0):
    """Boxes whose faces lie around the mean, as far apart as the spread says."""
    generator = torch.Generator().manual_seed(seed)
    return MEAN + SPREAD * torch.randn(count, 4, generator=generator, dtype=torch.float64)


def fitted(loss, target, steps=120):
    """Mean and deviation that a loss learns, from a start that is off and sure."""
    mean = (MEAN + torch.tensor([1.0, -1.0, 1.5, -1.0])).requires_grad_()
    log_deviation = torch.full_like(MEAN, math.log(0.8)).requires_grad_()
    optimizer = torch.optim.Adam([mean, log_deviation], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        soft = soft_boxes(mean, log_deviation.exp())
        loss(soft.expand(len(target), 8), target).backward()
        optimizer.step()
        schedule.step()
    return mean.detach(), log_deviation.detach().exp()


@pytest.mark.parametrize("other_deviation", [0.0, 0.4])
@pytest.mark.parametrize("deviation", [0.0, 0.9])
@pytest.mark.parametrize("gap", [0.0, 0.3, -2.0])
def test_the_score_of_a_face_equals_the_reference(gap, deviation, other_deviation):
    found = SoftBoxCRPSLoss()(soft_boxes(MEAN + gap, deviation), soft_boxes(MEAN, other_deviation))
    expected = reference_crps(gap, deviation, 0.0, other_deviation)
    assert found.item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_the_loss_is_least_at_mean_and_spread_of_the_raters():
    boxes = raters(200)
    mean, deviation = fitted(SoftBoxCRPSLoss(), soft_boxes(boxes))
    assert torch.allclose(mean, boxes.mean(dim=0), atol=0.05)
    assert torch.allclose(deviation, boxes.std(dim=0), rtol=0.1)


@pytest.mark.slow
def test_the_iou_loss_learns_the_raters_together_but_not_one_at_a_time():
    boxes = raters(30)
    together = soft_boxes_from_raters(boxes[:, None])
    mean, deviation = fitted(SoftBoxIoULoss(), together)
    assert torch.allclose(mean, boxes.mean(dim=0), atol=0.05)
    assert torch.allclose(deviation, boxes.std(dim=0), rtol=0.15)
    _, sure = fitted(SoftBoxIoULoss(), soft_boxes(boxes))
    assert (sure < 0.6 * boxes.std(dim=0)).all()


def test_losses_are_zero_where_all_is_equal_and_nowhere_else():
    soft, other = soft_boxes(MEAN, SPREAD), soft_boxes(MEAN, SPREAD + 0.1)
    for loss in (SoftBoxCRPSLoss(), SoftBoxIoULoss()):
        assert loss(soft, soft).item() == pytest.approx(0, abs=1e-12)
        assert loss(soft, other) > 1e-4
        assert loss(soft, other).item() == pytest.approx(loss(other, soft).item())
    assert SoftBoxIoULoss()(soft, other) == 1 - soft_box_iou.pairs(soft, other).mean()
    sure, moved = soft_boxes(MEAN), soft_boxes(MEAN + 0.25)
    assert SoftBoxCRPSLoss()(sure, moved).item() == pytest.approx(0.25)


def test_gradients_are_the_numerical_ones():
    input = soft_boxes(MEAN, SPREAD).requires_grad_()
    target = soft_boxes(MEAN + 0.3, SPREAD / 2).requires_grad_()
    for loss in (SoftBoxCRPSLoss(), SoftBoxIoULoss()):
        assert torch.autograd.gradcheck(loss, (input, target))
    assert torch.autograd.gradgradcheck(SoftBoxCRPSLoss(), (input, target))


@pytest.mark.parametrize(
    ("gap", "slope"),
    [(0.0, (math.sqrt(2) - 1) / math.sqrt(math.pi)), (1.0, -1 / math.sqrt(math.pi))],
)
def test_a_sure_face_learns_to_be_less_so_where_it_is_wrong(gap, slope):
    deviation = torch.zeros_like(MEAN).requires_grad_()
    SoftBoxCRPSLoss("sum")(soft_boxes(MEAN + gap, deviation), soft_boxes(MEAN)).backward()
    assert torch.allclose(deviation.grad, torch.full_like(MEAN, slope / 4))


def test_a_wrong_box_that_is_sure_costs_no_more_than_its_error():
    for deviation in (0.0, 1e-12, 1e-3):
        soft = soft_boxes(MEAN + 50, torch.full_like(MEAN, deviation).requires_grad_())
        loss = SoftBoxCRPSLoss()(soft, soft_boxes(MEAN))
        assert loss.item() == pytest.approx(50, abs=1e-3)


def test_weights_reductions_and_types_are_those_of_every_loss():
    input, target = soft_boxes(MEAN, SPREAD).repeat(3, 1), soft_boxes(raters(3))
    each = SoftBoxCRPSLoss("none")(input, target)
    weight = torch.tensor([1.0, 0.0, 2.0])
    assert each.shape == (3,)
    assert torch.allclose(SoftBoxCRPSLoss()(input, target, weight), (each * weight).sum() / 3)
    assert torch.allclose(SoftBoxCRPSLoss("sum")(input, target), each.sum())
    for dtype in (torch.float32, torch.bfloat16):
        assert SoftBoxCRPSLoss()(input.to(dtype), target.to(dtype)).dtype == dtype


@pytest.mark.bad_input
def test_what_does_not_fit_is_refused():
    soft, loss = soft_boxes(MEAN, SPREAD), SoftBoxCRPSLoss()
    with pytest.raises(ValueError, match=r"^input must have shape \(N, 8\) or"):
        loss(MEAN, soft)
    with pytest.raises(ValueError, match="^input must have every maximum at or above its"):
        loss(soft.flip(1), soft)
    with pytest.raises(ValueError, match="^input must hold finite coordinates"):
        loss(soft * torch.nan, soft)
    with pytest.raises(ValueError, match="input and target must have as many rows"):
        loss(soft, soft.repeat(2, 1))
    with pytest.raises(ValueError, match=r"^target must have the shape of input, \(1, 8\)"):
        loss(soft, torch.zeros(1, 12))
    assert soft_box_faces(soft)[1].allclose(SPREAD)
