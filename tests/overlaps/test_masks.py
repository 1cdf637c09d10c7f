"""Overlap of two soft masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from monai.data import MetaTensor

from softoverlap import masks
from softoverlap.overlaps import mask_dice, mask_iou, mask_tversky
from tests.support.reference import reference_dice, reference_iou, reference_tversky
from tests.support.strategies import mask_pairs

SCORES = [mask_dice, mask_iou, mask_tversky]


@given(mask_pairs())
def test_mask_dice_equals_the_reference(pair):
    _assert_equals_reference(mask_dice(*pair), pair, reference_dice)


@given(mask_pairs())
def test_mask_iou_equals_the_reference(pair):
    _assert_equals_reference(mask_iou(*pair), pair, reference_iou)


@given(mask_pairs(), st.floats(0, 2), st.floats(0, 2))
def test_mask_tversky_equals_the_reference(pair, alpha, beta):
    score = mask_tversky(*pair, alpha=alpha, beta=beta)
    _assert_equals_reference(score, pair, lambda p, t: reference_tversky(p, t, alpha, beta))


@pytest.mark.parametrize("score", SCORES)
@given(pair=mask_pairs())
def test_scores_are_bounded_symmetric_and_one_on_equal_masks(score, pair):
    pred, target = pair
    value = score(pred, target)
    assert ((value >= 0) & (value <= 1)).all()
    assert torch.equal(value, score(target, pred))
    assert torch.equal(score(pred, pred), torch.ones_like(value))


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_masks_score_one_however_they_lie_in_memory(score, dtype):
    drawn = torch.rand(2, 3, 40, 38, 72, generator=torch.Generator().manual_seed(0), dtype=dtype)
    for mask in (drawn[..., ::2], drawn.mT, drawn.movedim(1, -1)[:, :3], drawn[..., 3:-7, 5:-2]):
        for same in (mask, mask.contiguous(), mask.mT.contiguous().mT):
            assert torch.equal(score(mask, same), torch.ones_like(score(mask, same)))


@given(mask_pairs())
def test_dice_and_iou_are_functions_of_each_other(pair):
    dice, iou = mask_dice(*pair), mask_iou(*pair)
    torch.testing.assert_close(dice, 2 * iou / (1 + iou))


@given(mask_pairs())
def test_tversky_with_halves_is_dice_and_with_ones_is_iou(pair):
    torch.testing.assert_close(mask_tversky(*pair), mask_dice(*pair))
    torch.testing.assert_close(mask_tversky(*pair, alpha=1.0, beta=1.0), mask_iou(*pair))


@given(mask_pairs())
def test_scores_do_not_depend_on_the_order_of_the_voxels(pair):
    pred, target = pair
    flipped = mask_iou(pred.flip(2), target.flip(2))
    torch.testing.assert_close(flipped, mask_iou(pred, target))


@pytest.mark.parametrize("score", SCORES)
def test_empty_masks_score_what_empty_says_and_have_a_finite_gradient(score):
    pred = torch.zeros(1, 2, 4, 4, requires_grad=True)
    value = score(pred, torch.zeros(1, 2, 4, 4), empty=0.25)
    value.sum().backward()
    assert torch.equal(value.detach(), torch.full((1, 2), 0.25))
    assert torch.isfinite(pred.grad).all()


@pytest.mark.parametrize("score", SCORES)
def test_gradient_passes_gradcheck_away_from_equal_probabilities(score):
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(1, 2, 3, 4, generator=generator, dtype=torch.float64) * 0.4
    pred = (target + 0.3 + 0.1 * torch.rand(1, 2, 3, 4, generator=generator)).requires_grad_()
    target[..., ::2] += 0.6  # now half of the target lies above the prediction
    target = target.clamp(max=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, t: score(p, t, validate=False), (pred, target))


def test_gradient_at_equal_probabilities_is_the_mean_of_both_sides():
    target = torch.full((1, 1, 1), 0.5, dtype=torch.float64)
    pred = target.clone().requires_grad_()
    masks.min_intersection(pred, target).sum().backward()
    assert pred.grad.item() == 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype):
    pred = torch.full((1, 1, 64, 64, 64), 0.25, dtype=dtype)
    target = torch.full((1, 1, 64, 64, 64), 0.5, dtype=dtype)
    assert masks.size(target).item() == 0.5 * 64**3
    assert mask_iou(pred, target).item() == 0.5
    assert mask_iou(pred, target).dtype == dtype


@pytest.mark.slow
def test_float32_sums_stay_exact_at_256_cubed():
    pred = torch.full((1, 1, 256, 256, 256), 0.1)
    assert masks.min_intersection(pred, pred).item() == pytest.approx(
        float(np.float32(0.1)) * 256**3, rel=1e-6
    )
    assert mask_dice(pred, torch.zeros_like(pred)).item() == 0


def test_integer_and_boolean_masks_are_probabilities_too():
    hard = torch.tensor([[[1, 0, 1, 0]]])
    assert mask_dice(hard, hard.bool()).tolist() == [[1.0]]
    assert mask_iou(hard, torch.tensor([[[1, 1, 0, 0]]])).item() == pytest.approx(1 / 3)


def test_meta_tensors_come_back_as_plain_tensors():
    mask = MetaTensor(torch.rand(1, 1, 4, generator=torch.Generator().manual_seed(0)))
    assert type(mask_dice(mask, mask)) is torch.Tensor


@pytest.mark.parametrize("score", SCORES)
def test_nan_stays_nan_where_values_are_not_looked_at(score):
    mask = torch.full((1, 1, 4), float("nan"))
    assert score(mask, torch.ones(1, 1, 4), validate=False).isnan().all()
    assert score(torch.zeros(1, 1, 4), mask, validate=False).isnan().all()


@pytest.mark.parametrize("score", SCORES)
def test_no_score_leaves_its_range_within_the_slack_of_half_precision(score):
    above, below = torch.full((1, 1, 4), 1.0009), torch.full((1, 1, 4), -0.0009)
    for mask in (above.half(), below.half()):
        value = score(mask, torch.ones(1, 1, 4, dtype=torch.float16))
        assert 0 <= value.item() <= 1


@pytest.mark.bad_input
@pytest.mark.parametrize("score", SCORES)
def test_bad_input_is_named(score):
    mask = torch.full((1, 1, 4), 0.5)
    with pytest.raises(ValueError, match=r"target must have the shape of pred, \(1, 1, 4\)"):
        score(mask, torch.zeros(1, 1, 5))
    with pytest.raises(ValueError, match=r"pred must have shape \(B, C, \*spatial\)"):
        score(torch.zeros(1, 4), torch.zeros(1, 4))
    with pytest.raises(ValueError, match="pred must hold probabilities .* were logits passed"):
        score(mask - 3, mask)
    with pytest.raises(ValueError, match="target must hold probabilities .* got NaN"):
        score(mask, mask * float("nan"))
    with pytest.raises(TypeError, match=r"pred must be a torch.Tensor, got list"):
        score([[[0.5]]], mask)


@pytest.mark.bad_input
def test_negative_tversky_weights_are_refused():
    mask = torch.zeros(1, 1, 4)
    with pytest.raises(ValueError, match="alpha must be at least 0 and finite, got -1"):
        mask_tversky(mask, mask, alpha=-1)


def _assert_equals_reference(score, pair, reference):
    pred, target = pair
    for index in np.ndindex(*score.shape):
        expected = reference(pred[index].numpy(), target[index].numpy())
        assert score[index].item() == pytest.approx(expected, abs=1e-12)
