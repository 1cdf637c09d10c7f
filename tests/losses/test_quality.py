"""Losses whose target is the quality of a box, against the papers' formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from monai.utils import LossReduction

from softoverlap.for_monai.detector.loss_terms import QualityFocal
from softoverlap.losses import QualityFocalLoss, VarifocalLoss, iou_aware_score

LOSSES = [QualityFocalLoss, VarifocalLoss]
logits = hnp.arrays(float, (2, 3), elements=st.floats(-20, 20)).map(torch.from_numpy)
qualities = hnp.arrays(
    float, (2, 3), elements=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))
).map(torch.from_numpy)


def reference_quality_focal(logit, target, gamma=2.0):
    p = 1 / (1 + math.exp(-logit))
    return abs(target - p) ** gamma * cross_entropy(logit, target)


def reference_varifocal(logit, target, alpha=0.75, gamma=2.0):
    p = 1 / (1 + math.exp(-logit))
    if target > 0:
        return target * cross_entropy(logit, target)
    return alpha * p**gamma * cross_entropy(logit, 0.0)


def cross_entropy(logit, target):
    """With log p = -log(1 + exp(-x)) and log(1 - p) = -log(1 + exp(x))."""
    return target * math.log1p(math.exp(-logit)) + (1 - target) * math.log1p(math.exp(logit))


REFERENCE = {QualityFocalLoss: reference_quality_focal, VarifocalLoss: reference_varifocal}


def case(seed=0):
    generator = torch.Generator().manual_seed(seed)
    input = 2 * torch.randn(4, 3, generator=generator, dtype=torch.float64)
    target = torch.rand(4, 3, generator=generator, dtype=torch.float64)
    target[0] = torch.tensor([0.0, 1.0, 0.0])
    return input, target


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@given(input=logits, target=qualities)
def test_the_loss_is_the_papers_formula(loss, gamma, input, target):
    value = loss("none", gamma=gamma)(input, target)
    for found, x, t in zip(value.flatten(), input.flatten(), target.flatten(), strict=True):
        expected = REFERENCE[loss](x.item(), t.item(), gamma=gamma)
        assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_alpha_weighs_the_background_alone():
    input, target = case()
    light, heavy = (VarifocalLoss("none", alpha=alpha)(input, target) for alpha in (0.5, 1.0))
    torch.testing.assert_close(heavy, torch.where(target > 0, light, 2 * light))


def test_quality_focal_loss_is_zero_where_the_probability_is_the_quality():
    _, target = case()
    target = target.clamp(0.01, 0.99)
    assert QualityFocalLoss()(target.logit(), target).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
@given(target=st.floats(0.05, 0.95))
def test_the_loss_is_lowest_where_the_probability_is_the_quality(loss, target):
    steps = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    best = steps[loss("none")(steps.logit(), torch.full_like(steps, target)).argmin()]
    assert best.item() == pytest.approx(target, abs=0.011)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradient_passes_gradcheck_through_the_factor_too(loss, gamma):
    input, target = case()
    check = loss(gamma=gamma, validate=False)
    assert torch.autograd.gradcheck(lambda x: check(x, target), input.requires_grad_())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_gradients_are_finite_at_the_quality_itself_and_at_large_logits(loss, gamma):
    input = torch.tensor([0.0, 200.0, -200.0, 200.0, -200.0], requires_grad=True)
    target = torch.tensor([0.5, 1.0, 0.0, 0.0, 1.0])
    value = loss("sum", gamma=gamma)(input, target)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(input.grad).all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum", *LossReduction], ids=str)
def test_reductions_are_monais(loss, reduction):
    each = loss("none")(*case())
    name = getattr(reduction, "value", reduction)
    expected = each if name == "none" else getattr(each, name)()
    torch.testing.assert_close(loss(reduction)(*case()), expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_mean_over_nothing_is_zero_and_attached(loss):
    none = torch.zeros(0, 3, requires_grad=True)
    value = loss()(none, torch.zeros(0, 3))
    assert value.item() == 0
    assert torch.autograd.grad(value, none)[0].shape == (0, 3)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_logits_are_computed_in_float32(loss, dtype):
    input, target = (tensor.to(dtype) for tensor in case())
    value = loss("sum")(input.expand(10_000, 4, 3), target.expand(10_000, 4, 3))
    expected = loss("sum")(input.double(), target.double())
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(10_000 * expected.item(), rel=1e-4)


def test_the_detectors_loss_is_the_public_one():
    input, target = (tensor.float() for tensor in case())
    expected = QualityFocalLoss("none", gamma=1.5)(input, target)
    assert torch.equal(QualityFocal(gamma=1.5)(input, target), expected)


@given(qualities, qualities, st.floats(0, 4))
def test_iou_aware_score_is_p_times_a_power_of_q(p, q, power):
    score = iou_aware_score(p, q, power)
    torch.testing.assert_close(score, p * q**power)
    assert ((score >= 0) & (score <= 1)).all()


@given(qualities, qualities)
def test_iou_aware_score_ranks_as_p_alone_or_as_the_product(p, q):
    assert torch.equal(iou_aware_score(p, q), p * q)
    assert torch.equal(iou_aware_score(p, q, 0.0), p)


def test_iou_aware_score_broadcasts_keeps_the_type_and_has_finite_gradients():
    p, q = torch.rand(5, 3).half(), torch.zeros(5, 1).half().requires_grad_()
    score = iou_aware_score(p, q, 0.5)
    assert score.shape == (5, 3)
    assert score.dtype == torch.float16
    score.sum().backward()
    assert torch.isfinite(q.grad).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_values_out_of_range_are_refused(loss):
    with pytest.raises(ValueError, match=r"gamma must be at least 0 and finite, got -1"):
        loss(gamma=-1.0)
    with pytest.raises(ValueError, match=r"reduction must be one of .*, got 'median'"):
        loss("median")
    with pytest.raises(ValueError, match=r"target must hold probabilities in \[0, 1\]"):
        loss()(torch.zeros(2), torch.tensor([0.5, 1.5]))
    assert loss(validate=False)(torch.zeros(2), torch.tensor([0.5, 1.5])).ndim == 0


def test_weights_and_powers_below_zero_are_refused():
    with pytest.raises(ValueError, match=r"alpha must be at least 0 and finite, got -1"):
        VarifocalLoss(alpha=-1.0)
    with pytest.raises(ValueError, match=r"power must be at least 0 and finite, got -1"):
        iou_aware_score(torch.ones(1), torch.ones(1), -1.0)
    with pytest.raises(ValueError, match=r"q must hold probabilities in \[0, 1\]"):
        iou_aware_score(torch.ones(1), 2 * torch.ones(1))


@pytest.mark.bad_input
@pytest.mark.parametrize("loss", LOSSES)
def test_shapes_and_types_that_do_not_fit_are_refused(loss):
    with pytest.raises(ValueError, match=r"target must have the shape of input, \(2,\), got \(3"):
        loss()(torch.zeros(2), torch.zeros(3))
    with pytest.raises(TypeError, match="input must be a torch.Tensor, got list"):
        loss()([0.0], torch.zeros(1))


@pytest.mark.bad_input
@pytest.mark.parametrize("loss", [VarifocalLoss, QualityFocalLoss])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_refused(loss, value):
    with pytest.raises(ValueError, match="input must hold finite values, got NaN or infinity"):
        loss()(torch.tensor([value]), torch.tensor([0.0]))
