"""Losses of masks slab by slab: values, gradients, errors, memory; the plain path is the oracle."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from softoverlap.losses import (
    SoftDiceCELoss,
    SoftDiceLoss,
    SoftIoULoss,
    SoftTverskyLoss,
    _slabs,
    _volumes,
    dice_ce,
    masks,
)
from tests.support import high_water

FORMS = ({}, {"intersection": "product"}, {"squared_pred": True})
ACTIVATIONS = ({}, {"sigmoid": True}, {"softmax": True})
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 1e-6,
    torch.float16: 5e-2,  # most gradients are subnormal there
    torch.bfloat16: 1e-2,
}
SHAPE = (2, 3, 40, 32, 30)  # several slabs, none of them full


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch):
    monkeypatch.setattr(_volumes, "AT_ONCE", 3 << 14)


def case(kind="soft", shape=SHAPE, dtype=torch.float64, activation=None):
    """Input and target with equal values, zeros and ones among them, and the options they need."""
    generator = torch.Generator().manual_seed(0)
    input, target = (
        (torch.rand(shape, generator=generator, dtype=torch.float64) * 1.2 - 0.1).clamp(0, 1)
        for _ in range(2)
    )
    same = torch.rand(shape, generator=generator) < 0.2
    target = torch.where(same, input, target)
    if activation:
        input = 6 * input - 3
    if kind == "soft":
        return input.to(dtype), target.to(dtype), {}
    if kind == "shares":
        return input.to(dtype), (target + 0.1).softmax(dim=1).to(dtype), {}
    if kind == "whole":
        return input.to(dtype), (target > 0.5).to(torch.uint8), {}
    if kind == "ignored masks":
        target[..., :3] = 0
        return input.to(dtype), target.to(dtype), {"ignore_index": 255}
    labels = torch.randint(0, shape[1], (shape[0], 1, *shape[2:]), generator=generator)
    if kind == "labels":
        return input.to(dtype), labels, {"to_onehot_y": True}
    labels[..., :3] = 255
    return input.to(dtype), labels, {"to_onehot_y": True, "ignore_index": 255}


def value_and_gradient(loss, input, target):
    leaf = input.detach().requires_grad_()
    value = loss(leaf, target)
    return value.detach(), torch.autograd.grad(value.sum(), leaf)[0]


def by_slabs(loss, input, target):
    """Value and gradient, and a failure where the plain path is taken."""
    taken = []

    def watched(*inputs, **options):
        taken.append(_slabs.volume_sums(*inputs, **options))
        return taken[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "volume_sums", watched)
        patch.setattr(dice_ce, "volume_sums", watched)
        found = value_and_gradient(loss, input, target)
    assert any(sums is not None for sums in taken)
    return found


def plainly(loss, input, target):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "volume_sums", lambda *_, **__: None)
        patch.setattr(dice_ce, "volume_sums", lambda *_, **__: None)
        return value_and_gradient(loss, input, target)


def assert_same(found, expected, rtol):
    (value, gradient), (plain_value, plain_gradient) = found, expected
    assert value.dtype == plain_value.dtype
    assert gradient.dtype == plain_gradient.dtype
    torch.testing.assert_close(value, plain_value, rtol=rtol, atol=rtol)
    scale = plain_gradient.abs().max()
    torch.testing.assert_close(gradient / scale, plain_gradient / scale, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_every_form_equals_the_plain_path(dtype, activation):
    kinds = ("soft", "whole", "ignored masks", "labels", "ignored labels")
    if dtype.itemsize == 2:
        kinds = kinds[:2]
    for kind, form, background in itertools.product(kinds, FORMS, (True, False)):
        input, target, options = case(kind, dtype=dtype, activation=activation)
        options |= {**activation, **form, "include_background": background}
        loss = SoftDiceLoss(**options)
        found = by_slabs(loss, input, target)
        assert_same(found, plainly(loss, input, target), TOLERANCE[dtype])


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("kind", ["shares", "labels"])
def test_the_cross_entropy_equals_the_plain_path(activation, kind):
    for dtype, reduction, background in itertools.product(
        (torch.float32, torch.float64, torch.bfloat16), ("mean", "sum"), (True, False)
    ):
        input, target, options = case(kind, dtype=dtype, activation=activation)
        options |= {**activation, "reduction": reduction, "include_background": background}
        loss = SoftDiceCELoss(**options, cross_entropy="classes")
        found = by_slabs(loss, input, target)
        assert_same(found, plainly(loss, input, target), TOLERANCE[dtype])


@pytest.mark.parametrize("loss", [SoftIoULoss, SoftTverskyLoss, SoftDiceLoss])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("batch", [True, False])
def test_ratio_and_reduction_are_those_of_the_plain_path(loss, reduction, batch):
    for shape in ((2, 1, 5, 4), (5, 3, 7), (1, 2, 300, 200), (3, 200, 20, 20)):
        input, target, _ = case(shape=shape)
        each = loss(reduction=reduction, batch=batch)
        assert_same(by_slabs(each, input, target), plainly(each, input, target), 1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_sums_and_gradients_depend_neither_on_layout_nor_on_threads(activation):
    input, target, _ = case(dtype=torch.float32, activation=activation)
    loss = SoftDiceLoss(**activation, reduction="none")
    value, gradient = by_slabs(loss, input, target)
    layouts = (
        lambda x: x.contiguous(memory_format=torch.channels_last_3d),
        lambda x: x.transpose(2, 4).contiguous().transpose(2, 4),
        lambda x: torch.stack([x, x], dim=-1)[..., 0],
        lambda x: F.pad(x, (1, 1))[..., 1:-1],
    )
    for layout in layouts:
        found = by_slabs(loss, layout(input), layout(target))
        assert torch.equal(found[0], value)
        assert torch.equal(found[1], gradient)
    channels_last = by_slabs(loss, layouts[0](input), target)[1]
    assert channels_last.is_contiguous(memory_format=torch.channels_last_3d)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found = by_slabs(loss, input, target)
            assert torch.equal(found[0], value)
            assert torch.equal(found[1], gradient)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_gradient_is_right_and_can_be_differentiated_again(activation, form):
    generator = torch.Generator().manual_seed(1)
    input = torch.rand(2, 3, 2, 2, generator=generator, dtype=torch.float64)
    target = torch.rand(2, 3, 2, 2, generator=generator, dtype=torch.float64)
    for loss in (
        SoftDiceLoss(**activation, **form, reduction="none"),
        SoftDiceCELoss(**activation, **form, cross_entropy="classes"),
    ):
        leaf = input.clone().requires_grad_()
        assert torch.autograd.gradcheck(lambda x, loss=loss: loss(x, target), leaf)
        assert torch.autograd.gradgradcheck(lambda x, loss=loss: loss(x, target), leaf)


@pytest.mark.parametrize("validate", [None, False])
def test_equal_values_share_the_gradient_but_at_0_and_1(validate):
    input = torch.tensor([[[0.0, 0.5, 1.0, 0.0, 1.0, 0.3]]], requires_grad=True)
    target = torch.tensor([[[0.0, 0.5, 1.0, 1.0, 0.0, 0.6]]])
    sums = _slabs.volume_sums(SoftDiceLoss(validate=validate).prepare, "min", input, target)
    assert sums is not None
    (gradient,) = torch.autograd.grad(sums.sizes[0].sum(), input)
    assert gradient.tolist() == [[[0, 0.5, 1, 1, 0, 1]]]


@pytest.mark.bad_input
@pytest.mark.parametrize("loss", [SoftDiceLoss, SoftDiceCELoss])
def test_what_is_wrong_is_said_as_by_the_plain_path(loss):
    input, target, _ = case(dtype=torch.float32)
    last = (..., -1)
    for spoilt_input, spoilt_target, words in (
        (float("nan"), 0.5, "input must hold probabilities .* got NaN"),
        (0.5, float("nan"), "target must hold probabilities .* got NaN"),
        (-0.1, 7.0, "input must hold probabilities .* were logits passed"),
        (0.5, 7.0, r"target must hold probabilities in \[0, 1\], got values in \[0, 7\]"),
    ):
        input[last], target[last] = spoilt_input, spoilt_target
        with pytest.raises(ValueError, match=words):
            loss()(input, target)
    with pytest.raises(ValueError, match="target must hold labels from 0 to 2, got 1.5"):
        loss(to_onehot_y=True)(input.clamp(0, 1), torch.full((2, 1, *SHAPE[2:]), 1.5))


def test_rounding_beyond_one_is_no_reason_to_leave_the_slabs():
    input, target, _ = case(dtype=torch.float32)
    by_slabs(SoftDiceLoss(), input * (1 + 5e-7), target)


@pytest.mark.parametrize("activation", ACTIVATIONS[1:], ids=str)
def test_huge_and_infinite_logits_have_the_gradient_of_the_plain_path(activation):
    input, target, options = case("labels", activation=activation, dtype=torch.float32)
    spread = input * torch.tensor([1e-30, 1.0, 1e4, 1e30]).repeat(8)[:30]
    for loss in (SoftDiceLoss, SoftDiceCELoss):
        each = loss(**activation, **options)
        found = by_slabs(each, spread, target)
        assert found[1].isfinite().all()
        assert_same(found, plainly(each, spread, target), 1e-6)
    masked = input.clone()
    masked[:, 2, 0] = -torch.inf
    target[:, :, 0] = 1
    loss = SoftDiceCELoss(**activation, **options)
    assert loss(masked, target).isfinite()


def test_nan_that_nobody_looks_for_comes_out():
    input, target, _ = case(dtype=torch.float32)
    input[0, 0, 0, 0, 0] = float("nan")
    value = by_slabs(SoftDiceLoss(validate=False, reduction="none"), input, target)[0].flatten()
    assert value[0].isnan()
    assert value[1:].isfinite().all()


@pytest.mark.parametrize("shape", [(0, 2, 4), (2, 2, 0, 4)])
def test_of_nothing_there_is_nothing_to_read(shape):
    for loss in (SoftDiceLoss(sigmoid=True), SoftDiceCELoss(softmax=True)):
        value, gradient = by_slabs(loss, torch.zeros(shape), torch.zeros(shape))
        assert value.item() == 0
        assert gradient.shape == shape


def test_transforms_and_targets_with_a_gradient_take_the_plain_path():
    input, target, _ = case(shape=(2, 2, 5))
    loss = SoftDiceLoss(sigmoid=True)
    expected = by_slabs(loss, input, target)[1]
    torch.testing.assert_close(torch.func.grad(loss)(input, target), expected)
    mapped = torch.func.vmap(loss)(input[None], target[None])
    torch.testing.assert_close(mapped, loss(input, target)[None])
    tangent = torch.func.jvp(lambda x: loss(x, target), (input,), (torch.ones_like(input),))[1]
    torch.testing.assert_close(tangent, expected.sum())
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(input, torch.ones_like(input))
        found = torch.autograd.forward_ad.unpack_dual(loss(dual, target)).tangent
    torch.testing.assert_close(found, expected.sum())
    learnt = target.requires_grad_()
    assert torch.autograd.grad(loss(input, learnt), learnt)[0].any()


MEMORY = """
import torch
from softoverlap.losses import SoftDiceCELoss, SoftDiceLoss
from tests.support.high_water import bytes_beyond
torch.set_num_threads(1)

def volumes(edge):
    input = torch.rand(1, 3, edge, edge, edge, requires_grad=True)
    target = torch.rand(1, 3, edge, edge, edge).softmax(dim=1)
    return bytes_beyond(lambda: loss(input, target).backward()) / (4 * input.numel())

for loss in (SoftDiceLoss(), SoftDiceLoss(softmax=True), SoftDiceCELoss(sigmoid=True)):
    volumes(8)
    print(volumes(128))
"""


@pytest.mark.skipif(not high_water.KNOWN, reason="needs Linux")
def test_memory_beyond_the_inputs_is_little_more_than_the_gradient():
    volumes = high_water.printed_numbers(MEMORY)
    assert len(volumes) == 3
    assert max(volumes) <= 1 + 0.9  # rooms for slabs: half as much in two items


@pytest.mark.parametrize("loss", [SoftDiceLoss, SoftTverskyLoss])
@pytest.mark.parametrize("voxels", [0, 8])
def test_the_gradient_of_background_is_exact_where_little_is_shared(loss, voxels):
    """The derivative by the size is far smaller there than that by the intersection."""
    logits = torch.linspace(-3, 3, 48**3).view(1, 1, 48, 48, 48).requires_grad_()
    target = torch.zeros_like(logits)
    target.view(-1)[:voxels] = 1
    loss(sigmoid=True)(logits, target).backward()
    wide = logits.detach().double().requires_grad_()
    loss(sigmoid=True)(wide, target.double()).backward()
    expected = wide.grad.float()
    assert expected.abs().min() > 0
    torch.testing.assert_close(logits.grad, expected, rtol=1e-5, atol=0)


def test_hooks_of_the_input_run_once_where_a_gradient_is_differentiated_again():
    input, target, options = case(activation="sigmoid")
    calls = []
    input.requires_grad_().register_hook(lambda gradient: calls.append(1) or 2 * gradient)
    loss = SoftDiceLoss(sigmoid=True, **options)
    (found,) = torch.autograd.grad(loss(input, target), input, create_graph=True)
    assert len(calls) == 1
    expected = torch.autograd.grad(loss(free := input.detach().requires_grad_(), target), free)
    torch.testing.assert_close(found, 2 * expected[0])


def test_many_gradients_at_once_and_forward_derivatives_take_the_plain_path():
    input, target, _ = case(shape=(2, 1, 4, 4), activation="sigmoid")
    loss = SoftDiceLoss(sigmoid=True, reduction="none")
    jacobian = torch.autograd.functional.jacobian
    rows = [jacobian(lambda x: loss(x, target).flatten(), input, vectorize=v) for v in (0, 1)]
    torch.testing.assert_close(*rows)


def test_labels_made_in_inference_mode_are_taken():
    with torch.inference_mode():
        labels = torch.ones(1, 1, 4, 4, dtype=torch.int64)
    logits = torch.zeros(1, 2, 4, 4, requires_grad=True)
    SoftDiceLoss(softmax=True, to_onehot_y=True)(logits, labels).backward()
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize(
    "loss", [SoftDiceLoss, SoftDiceCELoss, partial(SoftDiceLoss, include_background=False)]
)
def test_a_second_gradient_is_the_first_though_that_took_the_place_of_the_prediction(
    loss, activation
):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 200, 150, generator=generator).requires_grad_()
    target = torch.rand(2, 3, 200, 150, generator=generator).softmax(dim=1)
    value = loss(**{activation: True})(logits, target)
    first = torch.autograd.grad(value, logits, retain_graph=True)[0]
    expected = first.clone()
    second = torch.autograd.grad(value, logits)[0]
    assert torch.equal(second, expected)
    assert torch.equal(first, expected)
