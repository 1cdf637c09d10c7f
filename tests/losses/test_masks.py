"""Losses of soft masks, with MONAI's as the oracle wherever MONAI's are right."""

from __future__ import annotations

import inspect
import itertools
import json
import math
from pathlib import Path

import monai.losses
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.utils import LossReduction

from softoverlap import losses
from softoverlap.losses import SoftDiceCELoss, SoftDiceLoss, SoftIoULoss, SoftTverskyLoss

LOSSES = [SoftDiceLoss, SoftIoULoss, SoftTverskyLoss, SoftDiceCELoss]
THEIRS = {
    SoftDiceLoss: monai.losses.DiceLoss,
    SoftIoULoss: monai.losses.DiceLoss,
    SoftTverskyLoss: monai.losses.TverskyLoss,
    SoftDiceCELoss: monai.losses.DiceCELoss,
}
pytestmark = pytest.mark.filterwarnings("ignore:single channel prediction")


def _options():
    """MONAI's own combinations of arguments; None stands for no activation."""
    return [
        {"include_background": background, "batch": batch, "reduction": reduction, act: True}
        for background, batch, reduction, act in itertools.product(
            (True, False), (True, False), ("mean", "sum", "none"), ("sigmoid", "softmax")
        )
    ]


def _case(channels, *, soft, labels=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, channels, 5, 6, 4, generator=generator)
    if labels:
        return logits, torch.randint(0, channels, (2, 1, 5, 6, 4), generator=generator)
    target = torch.rand(2, channels, 5, 6, 4, generator=generator)
    return logits, target if soft else (target > 0.6).float()


def _assert_agree(ours, theirs, logits, target, atol=1e-6):
    a, b = (logits.clone().requires_grad_() for _ in range(2))
    value, expected = ours(a, target), theirs(b, target)
    assert value.shape == expected.shape
    torch.testing.assert_close(value, expected, atol=atol, rtol=1e-6)
    value.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(a.grad, b.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_arguments_are_monais_in_their_order(name):
    ours = list(inspect.signature(name).parameters)
    theirs = list(inspect.signature(THEIRS[name]).parameters)
    assert ours[: len(theirs)] == theirs
    keyword_only = [
        p.name for p in inspect.signature(name).parameters.values() if p.kind is p.KEYWORD_ONLY
    ]
    own = ["ignore_index", "cross_entropy"] if name is SoftDiceCELoss else []
    assert ours[len(theirs) :] == keyword_only == [*own, "intersection", "validate"]


@pytest.mark.parametrize("options", _options(), ids=str)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("intersection", ["min", "product"])
@pytest.mark.filterwarnings("ignore:.* is ignored")
def test_dice_iou_and_tversky_equal_monais_on_hard_targets(options, channels, intersection):
    logits, target = _case(channels, soft=False)
    if channels == 1 and options.get("softmax"):
        logits = logits.sigmoid()  # the softmax of one channel is left out
    chosen = {**options, "intersection": intersection}
    _assert_agree(SoftDiceLoss(**chosen), monai.losses.DiceLoss(**options), logits, target)
    iou = monai.losses.DiceLoss(**options, jaccard=True)
    _assert_agree(SoftIoULoss(**chosen), iou, logits, target)
    _assert_agree(SoftDiceLoss(**chosen, jaccard=True), iou, logits, target)
    weights = {"alpha": 0.3, "beta": 0.8}
    theirs = monai.losses.TverskyLoss(**options, **weights)
    _assert_agree(SoftTverskyLoss(**chosen, **weights), theirs, logits, target)


@pytest.mark.parametrize("options", _options(), ids=str)
@pytest.mark.filterwarnings("ignore:.* is ignored")
def test_the_min_form_equals_monais_soft_label_form_on_soft_targets(options):
    logits, target = _case(3, soft=True)
    theirs = monai.losses.DiceLoss(**options, soft_label=True)
    _assert_agree(SoftDiceLoss(**options, soft_label=True), theirs, logits, target)
    theirs = monai.losses.TverskyLoss(**options, soft_label=True, alpha=0.2)
    _assert_agree(SoftTverskyLoss(**options, alpha=0.2), theirs, logits, target)


@pytest.mark.parametrize("jaccard", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_the_squared_and_the_product_form_equal_monais_also_on_soft_targets(jaccard, soft):
    logits, target = _case(3, soft=soft)
    options = {"sigmoid": True, "jaccard": jaccard}
    theirs = monai.losses.DiceLoss(**options, squared_pred=True)
    _assert_agree(SoftDiceLoss(**options, squared_pred=True), theirs, logits, target, atol=2e-6)
    theirs = monai.losses.DiceLoss(**options)
    _assert_agree(SoftDiceLoss(**options, intersection="product"), theirs, logits, target)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none", LossReduction.MEAN])
def test_labels_weights_and_ignored_voxels_equal_monais(reduction):
    logits, labels = _case(4, soft=False, labels=True)
    for options in (
        {"to_onehot_y": True, "softmax": True, "weight": [0.2, 1.0, 3.0, 0.0]},
        {
            "to_onehot_y": True,
            "softmax": True,
            "include_background": False,
            "weight": [1.0, 2.0, 3.0],
        },
        {"to_onehot_y": True, "softmax": True, "ignore_index": 2},
        {"to_onehot_y": True, "softmax": True, "ignore_index": 255},
    ):
        marked = labels.clone()
        if options.get("ignore_index") == 255:
            marked[:, :, 0] = 255
        theirs = monai.losses.DiceLoss(**options, reduction=reduction)
        _assert_agree(SoftDiceLoss(**options, reduction=reduction), theirs, logits, marked)


def test_one_hot_targets_with_an_ignored_class_equal_monais():
    logits, labels = _case(3, soft=False, labels=True)
    target = torch.nn.functional.one_hot(labels[:, 0], 3).movedim(-1, 1).float()
    for ignored in (1, 255):
        target[:, :, 0] = 0
        theirs = monai.losses.DiceLoss(softmax=True, ignore_index=ignored)
        _assert_agree(SoftDiceLoss(softmax=True, ignore_index=ignored), theirs, logits, target)


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (1, {"sigmoid": True}),
        (1, {"sigmoid": True, "include_background": False}),
        (1, {"sigmoid": True, "squared_pred": True, "lambda_ce": 0.3}),
        (3, {"softmax": True, "lambda_dice": 0.5, "label_smoothing": 0.1}),
        (3, {"softmax": True, "to_onehot_y": True, "weight": torch.tensor([1.0, 2.0, 0.5])}),
        (3, {"softmax": True, "include_background": False, "weight": torch.tensor([1.0, 2, 3])}),
        (3, {"sigmoid": True, "reduction": "sum", "batch": True, "jaccard": True}),
    ],
    ids=str,
)
def test_dice_ce_equals_monais_on_hard_targets(channels, options):
    logits, target = _case(channels, soft=False, labels=options.get("to_onehot_y", False))
    theirs = monai.losses.DiceCELoss(**options)
    _assert_agree(SoftDiceCELoss(**options), theirs, logits, target, atol=1e-5)


@pytest.mark.parametrize("empty_prediction", [0.0, 0.1])
@pytest.mark.parametrize("smooth", [1e-5, 1.0])
@pytest.mark.parametrize("batch", [False, True])
def test_empty_targets_give_monais_value_and_gradient(empty_prediction, smooth, batch):
    options = {"smooth_nr": smooth, "smooth_dr": smooth, "batch": batch}
    prediction = torch.full((2, 1, 6, 6, 6), empty_prediction)
    target = torch.zeros(2, 1, 6, 6, 6)
    target[1] = float(batch)  # with batch=True the other item may be filled
    _assert_agree(SoftDiceLoss(**options), monai.losses.DiceLoss(**options), prediction, target)


@pytest.mark.parametrize("loss", [SoftDiceLoss, SoftIoULoss, SoftTverskyLoss])
def test_the_loss_is_zero_exactly_at_prediction_equal_to_target(loss):
    generator = torch.Generator().manual_seed(0)
    soft = torch.rand(2, 2, 7, 5, 6, generator=generator)
    assert loss(smooth_nr=0.0, smooth_dr=0.0)(soft, soft).item() == 0
    moved = (soft + 0.01).clamp(max=1)
    assert loss(smooth_nr=0.0, smooth_dr=0.0)(moved, soft).item() > 0.001


def test_no_smoothing_and_two_empty_masks_lose_nothing():
    prediction = torch.zeros(1, 1, 4, requires_grad=True)
    loss = SoftDiceLoss(smooth_nr=0.0, smooth_dr=0.0)(prediction, torch.zeros(1, 1, 4))
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(prediction.grad).all()


@pytest.mark.parametrize("loss", [SoftDiceLoss, SoftIoULoss, SoftTverskyLoss, SoftDiceCELoss])
def test_gradients_pass_gradcheck(loss):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.rand(2, 2, 3, 4, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(sigmoid=True)(x, target), (logits,))


def test_a_single_channels_weight_counts():
    logits, target = _case(1, soft=False)
    plain = SoftDiceLoss(sigmoid=True)(logits, target)
    weighted = SoftDiceLoss(sigmoid=True, weight=[3.0])(logits, target)
    torch.testing.assert_close(weighted, 3 * plain)


def test_a_single_channels_weight_counts_in_both_parts_of_dice_ce():
    logits, target = _case(1, soft=False)
    weight = torch.tensor([2.0])
    options = {"sigmoid": True, "include_background": False, "weight": weight}
    parts = [
        SoftDiceCELoss(**options, **part)(logits, target)
        for part in ({"lambda_ce": 0.0}, {"lambda_dice": 0.0})
    ]
    torch.testing.assert_close(parts[0], 2 * SoftDiceLoss(sigmoid=True)(logits, target))
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    torch.testing.assert_close(parts[1], entropy(logits, target, pos_weight=weight))


def test_float64_stays_float64_with_a_weight():
    logits, target = _case(3, soft=True)
    loss = SoftDiceCELoss(softmax=True, weight=torch.tensor([1.0, 2.0, 3.0]))
    assert loss(logits.double(), target.double()).dtype == torch.float64


def test_a_scalar_weight_leaves_the_module_as_it_is():
    loss = SoftDiceLoss(sigmoid=True, weight=2.0)
    for channels in (3, 2, 4):
        logits, target = _case(channels, soft=False)
        expected = 2 * SoftDiceLoss(sigmoid=True)(logits, target)
        torch.testing.assert_close(loss(logits, target), expected)
        assert loss.class_weight.ndim == 0


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_is_computed_in_float32(loss, dtype):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 1, 96, 96, 96, generator=generator).to(dtype)
    target = (torch.rand(1, 1, 96, 96, 96, generator=generator) > 0.7).to(dtype)
    value = loss(sigmoid=True)(logits.requires_grad_(), target)
    expected = loss(sigmoid=True)(logits.detach().float(), target.float())
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected)
    value.backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.slow
def test_constant_maps_of_128_cubed_keep_seven_digits():
    prediction = torch.full((1, 1, 128, 128, 128), 0.3)
    target = torch.full((1, 1, 128, 128, 128), 0.1)
    expected = 1 - 2 * 0.1 / (0.3 + 0.1)
    assert SoftDiceLoss()(prediction, target).item() == pytest.approx(expected, rel=1e-6)


def test_meta_tensors_give_a_plain_loss():
    logits, target = _case(1, soft=True)
    value = SoftDiceLoss(sigmoid=True)(MetaTensor(logits), MetaTensor(target))
    assert type(value) is torch.Tensor
    torch.testing.assert_close(value, SoftDiceLoss(sigmoid=True)(logits, target))


@pytest.mark.parametrize("loss", LOSSES)
def test_one_changed_target_of_a_bundle_config_runs(loss):
    config = {"loss": {"_target_": f"monai.losses.{THEIRS[loss].__name__}", "sigmoid": True}}
    config["loss"]["_target_"] = f"softoverlap.{loss.__name__}"
    made = ConfigParser(config).get_parsed_content("loss")
    assert torch.isfinite(made(*_case(1, soft=True)))


def test_ignored_voxels_are_not_looked_at():
    prediction, target = torch.full((1, 1, 4), 0.5), torch.tensor([[[0.0, 1.0, 0.5, 255.0]]])
    prediction[..., 3] = float("nan")
    value = SoftDiceLoss(ignore_index=255)(prediction, target)
    expected = SoftDiceLoss()(prediction[..., :3], target[..., :3])
    torch.testing.assert_close(value, expected)


@pytest.mark.bad_input
@pytest.mark.parametrize("loss", [SoftDiceLoss, SoftIoULoss, SoftTverskyLoss])
def test_bad_input_is_named(loss):
    prediction = torch.full((1, 2, 4), 0.5)
    with pytest.raises(ValueError, match="input must hold probabilities .* were logits passed"):
        loss()(prediction - 5, prediction)
    with pytest.raises(ValueError, match="input must hold probabilities .* got NaN"):
        loss()(prediction * float("nan"), prediction)
    with pytest.raises(ValueError, match=r"target must have the shape of input, \(1, 2, 4\)"):
        loss()(prediction, prediction[:, :1])
    with pytest.raises(ValueError, match="target must hold labels from 0 to 1, got 7"):
        loss(to_onehot_y=True)(prediction, torch.full((1, 1, 4), 7))
    with pytest.raises(ValueError, match=r"input must have shape \(B, C, \*spatial\)"):
        loss()(torch.zeros(3), torch.zeros(3))


@pytest.mark.bad_input
@pytest.mark.parametrize("loss", LOSSES)
def test_a_switch_is_true_or_false(loss):
    shown = inspect.signature(loss).parameters.items()
    switches = [name for name, parameter in shown if isinstance(parameter.default, bool)]
    assert len(switches) >= 6
    for switch in [*switches, "validate"]:
        with pytest.raises(TypeError, match=f"{switch} must be True or False, got 'no'"):
            loss(**{switch: "no"})


@pytest.mark.bad_input
@pytest.mark.parametrize("name", [n for n in losses.__all__ if n.endswith("Loss")])
def test_a_misspelt_argument_names_the_loss_that_was_called(name):
    with pytest.raises(TypeError, match=rf"^{name}\.__init__\(\) got an unexpected .* 'typo'"):
        getattr(losses, name)(typo=1)


def test_the_iou_loss_shows_that_it_is_one():
    assert inspect.signature(SoftIoULoss).parameters["jaccard"].default is True
    assert inspect.signature(SoftDiceLoss).parameters["jaccard"].default is False
    for loss in (SoftIoULoss(), SoftIoULoss(jaccard=False), SoftDiceLoss(jaccard=True)):
        assert "jaccard=True" in repr(loss)


@pytest.mark.bad_input
def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="at most one of sigmoid, softmax, other_act"):
        SoftDiceLoss(sigmoid=True, softmax=True)
    with pytest.raises(TypeError, match="other_act must be callable, got str"):
        SoftDiceLoss(other_act="tanh")
    with pytest.raises(ValueError, match="squared_pred is a form of its own .* got 'min'"):
        SoftDiceLoss(squared_pred=True, intersection="min")
    with pytest.raises(ValueError, match="intersection must be one of"):
        SoftDiceLoss(intersection="maximum")
    with pytest.raises(ValueError, match="reduction must be one of"):
        SoftDiceLoss(reduction="median")
    with pytest.raises(ValueError, match=r"weight\[1\] must be at least 0"):
        SoftDiceLoss(weight=[1.0, -1.0])
    with pytest.raises(ValueError, match="weight must be one number or one for each of 2"):
        SoftDiceLoss(sigmoid=True, weight=[1.0, 2.0, 3.0])(*_case(2, soft=False))
    with pytest.raises(ValueError, match="alpha must be at least 0"):
        SoftTverskyLoss(alpha=-0.1)
    with pytest.raises(ValueError, match="smooth_nr must be at least 0 and finite, got nan"):
        SoftDiceLoss(smooth_nr=float("nan"))
    with pytest.raises(ValueError, match=r"label_smoothing must lie in \[0, 1\], got 3"):
        SoftDiceCELoss(label_smoothing=3)
    with pytest.raises(TypeError, match="input must hold real numbers, got dtype torch.complex64"):
        SoftDiceLoss()(torch.zeros(1, 1, 4, dtype=torch.complex64), torch.zeros(1, 1, 4))
    with pytest.raises(ValueError, match="lambda_ce must be at least 0"):
        SoftDiceCELoss(lambda_ce=-1)


@pytest.mark.parametrize("loss", LOSSES)
def test_nan_stays_nan_where_values_are_not_looked_at(loss):
    logits = torch.full((1, 1, 4), float("nan"))
    assert loss(sigmoid=True, validate=False)(logits, torch.ones(1, 1, 4)).isnan()


def test_the_table_of_the_docs_is_the_stored_run():
    root = Path(__file__).parents[2]
    stored = json.loads((root / "benchmarks/results/what_losses_learn.json").read_text())
    page = (root / "docs/losses.md").read_text()
    forms = {"min": '"min"', "product": '"product"', "squared": "squared_pred"}
    for target in ("mean of five raters", "one rater at a time"):
        for form, words in forms.items():
            values = list(stored[f"{target}, {form}"].values())
            numbers = [*(f"{value:.2f}" for value in values[:-1]), f"{values[-1]:.4f}"]
            row = next(line for line in page.splitlines() if target in line and words in line)
            assert [cell.strip() for cell in row.split("|")[3:-1]] == numbers


def test_logits_pass_unchecked_on_request():
    prediction = torch.full((1, 1, 4), 3.0)
    assert SoftDiceLoss(validate=False)(prediction, torch.ones(1, 1, 4)).item() < 1


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (SoftDiceLoss(sigmoid=True), "sigmoid=True, intersection='min', jaccard=False"),
        (SoftIoULoss(include_background=False, ignore_index=0), "jaccard=True"),
        (SoftIoULoss(include_background=False, ignore_index=0), "include_background=False"),
        (SoftIoULoss(ignore_index=0), "ignore_index=0"),
        (SoftTverskyLoss(alpha=0.3, beta=0.7), "alpha=0.3, beta=0.7"),
        (SoftDiceCELoss(sigmoid=True, lambda_ce=0.5), "lambda_ce=0.5"),
    ],
)
def test_a_printed_loss_shows_its_settings(loss, words):
    assert words in repr(loss)


@pytest.mark.parametrize("factor", [math.nan, math.inf])
def test_a_loss_that_diverged_leaves_no_finite_gradient(factor):
    pred, target = torch.rand(1, 1, 4, 4).requires_grad_(), torch.rand(1, 1, 4, 4)
    (SoftDiceLoss()(pred, target) * factor).backward()
    assert not pred.grad.isfinite().any()


def test_losses_have_second_and_forward_derivatives():
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.rand(2, 1, 1, 6, generator=generator, dtype=torch.float64)
    pred, target = pred[None], target[None]

    def loss(values):
        return SoftDiceLoss(intersection="product")(values, target)

    expected = torch.autograd.functional.hessian(loss, pred)
    torch.testing.assert_close(torch.func.hessian(loss)(pred), expected)
    _, slope = torch.func.jvp(loss, (pred,), (torch.ones_like(pred),))
    torch.testing.assert_close(slope, torch.func.grad(loss)(pred).sum())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_voxels_that_hold_the_ignored_number_in_all_channels_do_not_count(dtype):
    target = torch.zeros(1, 3, 4, 4, dtype=dtype)
    target[:, 0], target[:, 1, :2] = 1, 1
    marked = target.clone()
    marked[..., 2:] = 255
    logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    loss = SoftDiceLoss(sigmoid=True, ignore_index=255, smooth_nr=0.0, smooth_dr=0.0)
    assert loss(logits, marked) == loss(logits[..., :2], target[..., :2])
