"""Focal, generalised and calibration losses of masks: against MONAI's, references and laws."""

from __future__ import annotations

import itertools

import monai.losses
import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap.losses import (
    MaskLoss,
    SoftCalibrationLoss,
    SoftDiceFocalLoss,
    SoftGeneralizedDiceLoss,
)
from softoverlap.measures import CalibrationError
from tests.support.reference_lesionwise import reference_soft_calibration

pytestmark = pytest.mark.filterwarnings("ignore:single channel prediction", "ignore:.* is ignored")

LOSSES = [SoftCalibrationLoss, SoftDiceFocalLoss, SoftGeneralizedDiceLoss]
every = pytest.mark.parametrize("make", LOSSES)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def soft_pair(channels=3, seed=0):
    logits = drawn(2, channels, 4, 5, seed=seed)
    return logits, drawn(2, channels, 4, 5, seed=seed + 1).softmax(dim=1)


def hard_pair(channels, to_onehot_y):
    labels = torch.randint(0, channels, (2, 1, 4, 5), generator=torch.Generator().manual_seed(3))
    labels[1] = labels[1].clamp(max=channels - 2)  # a class that one item lacks
    masks = torch.zeros(2, channels, 4, 5).scatter_(1, labels, 1)
    return drawn(2, channels, 4, 5).float(), labels if to_onehot_y else masks


def assert_agree(ours, theirs, logits, target):
    a, b = (logits.clone().requires_grad_() for _ in range(2))
    value, expected = ours(a, target), theirs(b, target)
    torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-5)
    gradients = (torch.autograd.grad(v.sum(), x)[0] for v, x in ((value, a), (expected, b)))
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


SHARED = {
    "include_background": (True, False),
    "to_onehot_y": (True, False),
    "reduction": ("mean", "sum", "none"),
    "batch": (False, True),
}


def options(**more):
    for values in itertools.product(*SHARED.values(), *more.values()):
        yield dict(zip((*SHARED, *more), values, strict=True)) | {"softmax": True}


def test_generalised_dice_is_monais_on_hard_targets():
    for chosen in options(w_type=("square", "simple", "uniform")):
        pair = hard_pair(3, chosen["to_onehot_y"])
        ours, theirs = SoftGeneralizedDiceLoss, monai.losses.GeneralizedDiceLoss
        assert_agree(ours(**chosen), theirs(**chosen), *pair)


def test_dice_focal_is_monais_on_hard_targets():
    weights = (None, 2.0, (0.5, 2.0))
    for chosen in options(gamma=(2.0, 1.5), weight=weights, alpha=(None, 0.3)):
        if isinstance(chosen["weight"], tuple) and chosen["include_background"]:
            continue
        part = chosen | {"lambda_dice": 0.7, "lambda_focal": 3.0}
        theirs = monai.losses.DiceFocalLoss(**part)
        assert_agree(SoftDiceFocalLoss(**part), theirs, *hard_pair(3, chosen["to_onehot_y"]))


def test_generalised_dice_of_soft_masks_by_hand():
    pred, target = torch.tensor([[[0.5, 0.1], [0.2, 0.9]]]), torch.tensor([[[0.25, 0.25], [1, 1]]])
    shared, total, weight = (0.35, 1.1), (1.1, 3.1), (1 / 0.5**2, 1 / 2**2)
    numerator, denominator = (
        sum(w * value for w, value in zip(weight, values, strict=True))
        for values in (shared, total)
    )
    loss = SoftGeneralizedDiceLoss(smooth_nr=0.0, smooth_dr=0.0)(pred, target)
    assert loss.item() == pytest.approx(1 - 2 * numerator / denominator)


def test_dice_focal_of_soft_masks_by_hand():
    logits, target = torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[0.5, 0.8]]])
    loss = SoftDiceFocalLoss(sigmoid=True, lambda_dice=0.0)(logits, target)
    assert loss.item() == pytest.approx(0.3**2 * 0.6931472 / 2)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), bins=st.integers(2, 12))
def test_calibration_is_the_reference(seed, bins):
    logits, target = soft_pair(seed=seed)
    found = SoftCalibrationLoss(sigmoid=True, num_bins=bins, reduction="none")(logits, target)
    for item, channel in itertools.product(range(2), range(3)):
        pred, truth = logits.sigmoid()[item, channel], target[item, channel]
        expected = reference_soft_calibration(pred.flatten(), truth.flatten(), bins)
        assert found[item, channel].item() == pytest.approx(expected, abs=1e-12)


def test_calibration_at_centres_of_bins_is_that_of_hard_bins():
    generator = torch.Generator().manual_seed(0)
    pred = (torch.randint(0, 10, (2, 2, 9, 9), generator=generator) + 0.5).double() / 10
    target = torch.rand(2, 2, 9, 9, generator=generator, dtype=torch.float64)
    hard = CalibrationError(num_bins=10, calibration_reduction="average", margin=None)
    soft = SoftCalibrationLoss(num_bins=10, reduction="none")
    torch.testing.assert_close(soft(pred, target), hard(pred, target))


@every
def test_the_loss_of_a_soft_target_with_itself_is_0(make):
    target = soft_pair()[1]
    assert make(sigmoid=True)(target.logit(), target).item() == pytest.approx(0, abs=1e-9)


@every
def test_a_flip_and_an_order_of_items_change_nothing(make):
    logits, target = soft_pair()
    loss = make(sigmoid=True)
    for axis in (0, 2, 3):
        found = loss(logits.flip(axis), target.flip(axis))
        torch.testing.assert_close(found, loss(logits, target))


@every
def test_gradcheck(make):
    logits, target = soft_pair()
    loss = make(sigmoid=True)
    assert torch.autograd.gradcheck(lambda x: loss(x, target), logits.requires_grad_())


@every
def test_half_precision_is_summed_in_float32_and_an_empty_target_has_a_finite_gradient(make):
    logits, target = soft_pair()
    found = make(sigmoid=True)(logits.half(), target.half())
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.double(), make(sigmoid=True)(logits, target), rtol=2e-3, atol=1e-4
    )
    leaf = logits.requires_grad_()
    value = make(sigmoid=True)(leaf, target * 0)
    assert torch.autograd.grad(value, leaf)[0].isfinite().all()


def test_calibration_says_how_sure_to_be_not_where():
    target = torch.zeros(1, 1, 100)
    target[..., :30] = 1
    loss = SoftCalibrationLoss()
    flat = loss(torch.full_like(target, 0.3), target)
    assert flat.item() == pytest.approx(0, abs=1e-6)
    assert loss(torch.full_like(target, 0.6), target) > 0.25


def test_a_loss_that_is_no_overlap_does_not_pass_for_one():
    for loss in (SoftCalibrationLoss(), SoftDiceFocalLoss()):
        assert isinstance(loss, MaskLoss)
        for name in ("overlap", "with_sums", "of_sums", "unreduced"):
            assert not hasattr(loss, name)


@pytest.mark.bad_input
def test_what_is_out_of_range_is_refused():
    with pytest.raises(ValueError, match="w_type must be one of .*, got 'cubic'"):
        SoftGeneralizedDiceLoss(w_type="cubic")
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\], got 2"):
        SoftDiceFocalLoss(alpha=2)
    with pytest.raises(ValueError, match="gamma must be at least 0"):
        SoftDiceFocalLoss(gamma=-1)
    with pytest.raises(ValueError, match="num_bins must be at least 2, got 1"):
        SoftCalibrationLoss(num_bins=1)
    with pytest.raises(TypeError, match="num_bins must be an integer, got float"):
        SoftCalibrationLoss(num_bins=2.5)
    for make in LOSSES:
        with pytest.raises(ValueError, match="input must hold probabilities"):
            make()(3 * torch.ones(1, 2, 4), torch.ones(1, 2, 4))
