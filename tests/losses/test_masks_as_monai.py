"""The losses of soft masks in MONAI's place: every combination of its arguments, and its tools."""

from __future__ import annotations

import itertools

import monai.losses
import pytest
import torch
from hypothesis import given
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler

from softoverlap.losses import SoftDiceCELoss, SoftDiceLoss, SoftIoULoss, SoftTverskyLoss
from softoverlap.overlaps import mask_dice, mask_iou, mask_tversky
from tests.support.strategies import mask_pairs

pytestmark = pytest.mark.filterwarnings(
    "ignore:single channel prediction", "ignore:.* is ignored", "ignore:.*torch.jit"
)

ACTIVATIONS = (
    {"sigmoid": True},
    {"softmax": True},
    {"other_act": torch.special.expit},
    {},
)
SHARED = {
    "include_background": (True, False),
    "to_onehot_y": (False, True),
    "reduction": ("mean", "sum", "none"),
    "batch": (False, True),
    "ignore_index": (None, 1, 255),
}


def combinations(**choices):
    """Every choice of every argument, with each way to activate."""
    for values in itertools.product(ACTIVATIONS, *choices.values()):
        yield {**values[0], **dict(zip(choices, values[1:], strict=True))}


def case(channels, options, generator):
    """Logits, or probabilities where none are made, and hard labels or masks."""
    logits = torch.randn(2, channels, 3, 4, generator=generator)
    activated = options.get("sigmoid") or options.get("other_act")
    if not (activated or (options.get("softmax") and channels > 1)):
        logits = logits.sigmoid()
    if not options["to_onehot_y"] or channels == 1:
        return logits, (torch.rand(logits.shape, generator=generator) > 0.5).float()
    labels = torch.randint(0, channels, (2, 1, 3, 4), generator=generator)
    if options.get("ignore_index") == 255:
        labels[:, :, 0] = 255
    return logits, labels


def channels_that_count(channels, options):
    return channels - (channels > 1 and not options["include_background"])


def assert_agree(ours, theirs, logits, target):
    a, b = (logits.clone().requires_grad_() for _ in range(2))
    value, expected = ours(a, target), theirs(b, target)
    assert value.shape == expected.shape
    torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-6)
    value.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_dice_and_iou_equal_monais_for_every_combination(channels):
    generator = torch.Generator().manual_seed(channels)
    forms = {"squared_pred": (False, True), "jaccard": (False, True)}
    weights = {"weight": (None, 2.0, (0.5, 1.0, 2.0, 3.0))}
    for options in combinations(**SHARED, **forms, **weights):
        counting = channels_that_count(channels, options)
        if options["weight"] is not None and counting == 1:
            continue  # MONAI ignores the weight of one channel
        if isinstance(options["weight"], tuple):
            options["weight"] = options["weight"][:counting]
        logits, target = case(channels, options, generator)
        theirs = monai.losses.DiceLoss(**options)
        assert_agree(SoftDiceLoss(**options), theirs, logits, target)
        if options["jaccard"]:
            assert_agree(SoftIoULoss(**options), theirs, logits, target)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_tversky_equals_monais_for_every_combination(channels):
    generator = torch.Generator().manual_seed(channels)
    for options in combinations(**SHARED, alpha=(0.3, 1.0), beta=(0.0, 0.7)):
        logits, target = case(channels, options, generator)
        theirs = monai.losses.TverskyLoss(**options)
        assert_agree(SoftTverskyLoss(**options), theirs, logits, target)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("soft", [False, True])
def test_dice_ce_equals_monais_for_every_combination(channels, soft):
    generator = torch.Generator().manual_seed(channels)
    choices = {
        "include_background": (True, False),
        "to_onehot_y": (False, True),
        "squared_pred": (False, True),
        "jaccard": (False, True),
        "reduction": ("mean", "sum"),
        "batch": (False, True),
        "weight": (None, torch.tensor([0.5, 1.0, 2.0, 3.0])[:channels]),
        "label_smoothing": (0.0, 0.1),
    }
    for options in combinations(**choices):
        if options["weight"] is not None and channels_that_count(channels, options) == 1:
            continue
        logits, target = case(channels, options, generator)
        if soft and target.is_floating_point():
            target = torch.rand(target.shape, generator=generator)
        form = {} if options["squared_pred"] else {"intersection": "product"}
        ours = SoftDiceCELoss(**options, **form, lambda_dice=0.7, lambda_ce=0.4)
        theirs = monai.losses.DiceCELoss(**options, lambda_dice=0.7, lambda_ce=0.4)
        assert_agree(ours, theirs, logits, target)


@pytest.mark.parametrize("batch", [False, True])
def test_the_iou_equals_monais_soft_label_form_on_soft_targets(batch):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 5, 4, generator=generator)
    target = torch.rand(2, 3, 5, 4, generator=generator)
    options = {"sigmoid": True, "batch": batch, "reduction": "none"}
    theirs = monai.losses.DiceLoss(**options, jaccard=True, soft_label=True)
    assert_agree(SoftIoULoss(**options), theirs, logits, target)
    theirs = monai.losses.DiceLoss(**options, jaccard=True, squared_pred=True)
    assert_agree(SoftIoULoss(**options, squared_pred=True), theirs, logits, target)


@given(mask_pairs())
def test_without_smoothing_the_loss_is_one_minus_the_score(pair):
    pred, target = pair
    for loss, score in (
        (SoftDiceLoss, mask_dice),
        (SoftIoULoss, mask_iou),
        (SoftTverskyLoss, mask_tversky),
    ):
        value = loss(reduction="none", smooth_nr=0.0, smooth_dr=0.0)(pred, target).flatten()
        torch.testing.assert_close(value, 1 - score(pred, target).flatten(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["DiceLoss", "TverskyLoss"])
def test_gradients_at_0_and_1_are_monais(name):
    prediction = torch.tensor([[[0.0, 0.0, 1.0, 1.0, 0.5]]])
    target = torch.tensor([[[0.0, 1.0, 1.0, 0.0, 1.0]]])
    ours = {"DiceLoss": SoftDiceLoss, "TverskyLoss": SoftTverskyLoss}[name]
    assert_agree(ours(), getattr(monai.losses, name)(), prediction, target)


def test_between_0_and_1_the_gradient_at_equal_values_is_the_mean_of_both_sides():
    target = torch.tensor([[[0.5, 0.2]]], dtype=torch.float64)
    loss, step = SoftDiceLoss(), torch.tensor([[[1e-6, 0.0]]], dtype=torch.float64)
    prediction = target.clone().requires_grad_()
    loss(prediction, target).backward()
    sides = [(loss(target + s * step, target) - loss(target, target)) / (s * 1e-6) for s in (1, -1)]
    assert prediction.grad[0, 0, 0].item() == pytest.approx(sum(sides).item() / 2, abs=1e-5)
    assert abs(sides[0].item() - sides[1].item()) > 0.1


def test_half_precision_beside_float32_has_the_value_and_a_gradient():
    generator = torch.Generator().manual_seed(0)
    target = (torch.rand(1, 1, 48, 48, 48, generator=generator) > 0.3).float()
    prediction = (0.2 + 0.6 * target).half().requires_grad_()
    loss = SoftDiceLoss()(prediction, target)
    loss.backward()
    torch.testing.assert_close(loss, SoftDiceLoss()(prediction.detach().float(), target))
    assert (prediction.grad != 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("ignore_index", [None, 255])
def test_half_precision_is_granted_its_rounding(dtype, ignore_index):
    prediction = torch.tensor([[[0.5, 1.0]]], dtype=torch.float64)
    prediction = (prediction + torch.tensor([0, 9e-4])).to(dtype)
    target = torch.tensor([[[0.5, 1.0]]])
    assert SoftDiceLoss(ignore_index=ignore_index)(prediction, target).item() < 1e-3
    with pytest.raises(ValueError, match="input must hold probabilities"):
        SoftDiceLoss(ignore_index=ignore_index)(prediction.float() + 9e-4, target)


def test_the_state_of_dice_ce_is_exchanged_with_monais():
    weight = torch.tensor([1.0, 2.0, 3.0])
    ours = SoftDiceCELoss(softmax=True, weight=weight)
    theirs = monai.losses.DiceCELoss(softmax=True, weight=2 * weight)
    ours.load_state_dict(theirs.state_dict())
    theirs.load_state_dict(ours.state_dict())
    assert ours.dice.class_weight.tolist() == ours.cross_entropy.weight.tolist() == [2, 4, 6]
    assert weight.tolist() == [1, 2, 3]  # loading wrote into the module alone


def test_monais_wrappers_take_the_loss():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 8, 8, generator=generator)
    target = (torch.rand(2, 1, 8, 8, generator=generator) > 0.5).float()
    for wrap, arguments in (
        (monai.losses.DeepSupervisionLoss, ([logits, logits[..., ::2, ::2]], target)),
        (monai.losses.MaskedLoss, (logits, target, target)),
    ):
        expected = wrap(monai.losses.DiceLoss(sigmoid=True))(*arguments)
        torch.testing.assert_close(wrap(SoftDiceLoss(sigmoid=True))(*arguments), expected)


def test_the_loss_is_measured_by_monais_handler():
    pair = torch.full((2, 1, 4), 0.3), torch.ones(2, 1, 4)
    engine = Engine(lambda engine, batch: pair)
    handler = IgniteMetricHandler(loss_fn=SoftIoULoss(reduction="none"))
    handler.attach(engine, name="loss")
    engine.run([0], max_epochs=1)
    assert engine.state.metrics["loss"] == pytest.approx(0.7, abs=1e-5)
