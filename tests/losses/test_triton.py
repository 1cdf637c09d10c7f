"""Losses of masks by kernels have the values and gradients of the plain path."""

from __future__ import annotations

import pytest
import torch

from softoverlap import SoftDiceCELoss, SoftDiceLoss, SoftIoULoss, SoftTverskyLoss
from tests.support.kernels import DEVICE, kernels, with_gradients

_triton = pytest.importorskip("softoverlap.losses._triton", exc_type=ImportError)

pytestmark = pytest.mark.slow  # and so not run where shapes are enforced, which wraps kernels

ACTIVATIONS = {"none": {}, "sigmoid": {"sigmoid": True}, "softmax": {"softmax": True}}
FORMS = {"min": {}, "product": {"intersection": "product"}, "squared": {"squared_pred": True}}


@pytest.fixture(autouse=True)
def taken(monkeypatch):
    """How often kernels were taken; a volume of 24 voxels has two blocks."""
    calls, real = [], _triton.sums
    monkeypatch.setattr(_triton, "_VALUES_PER_BLOCK", 32)
    monkeypatch.setattr(_triton, "_PROGRAMS", 6)
    monkeypatch.setattr(_triton, "sums", lambda *a, **k: calls.append(1) or real(*a, **k))
    return calls


def drawn(*shape, activation="none", dtype=torch.float32):
    """Input and target with ties, also at 0 and at 1."""
    generator = torch.Generator().manual_seed(0)
    values, target = (torch.randint(5, shape, generator=generator) / 4 for _ in range(2))
    if activation != "none":
        values = 6 * values - 3
    return values.to(dtype), target.to(dtype)


def assert_same(loss, inputs, taken, rtol=1e-5, atol=1e-6):
    expected = with_gradients(loss, inputs, taken=False)
    assert not taken
    found = with_gradients(loss, inputs, taken=True)
    assert taken
    for one, other in zip(found, expected, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_and_form(activation, form, taken):
    loss = SoftDiceLoss(**ACTIVATIONS[activation], **FORMS[form], reduction="none", validate=False)
    assert_same(loss, drawn(2, 3, 2, 3, 4, activation=activation), taken)


@pytest.mark.parametrize(
    "loss",
    [
        SoftIoULoss(softmax=True, include_background=False, reduction="none"),
        SoftTverskyLoss(sigmoid=True, alpha=0.3, beta=0.9, reduction="none"),
        SoftDiceLoss(sigmoid=True, batch=True, weight=[1.0, 2.0, 0.5], reduction="none"),
        SoftDiceCELoss(softmax=True, cross_entropy="classes"),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_every_loss(loss, taken):
    assert_same(loss, drawn(2, 3, 4, 5, activation="logits"), taken)


@pytest.mark.parametrize(
    "types",
    [
        (torch.float64, torch.float64),
        (torch.float16, torch.float16),
        (torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float64),
        (torch.float32, torch.float64),
        (torch.float32, torch.uint8),
    ],
    ids=str,
)
def test_every_type(types, taken):
    values, target = drawn(1, 2, 19, activation="logits")
    target = target.round() if types[1] == torch.uint8 else target
    inputs = values.to(types[0]), target.to(types[1])
    half = 2**-7 if torch.bfloat16 in types else 2**-10
    exact = all(t.itemsize > 2 or not t.is_floating_point for t in types)
    loss = SoftDiceLoss(softmax=True, reduction="none", validate=False)
    assert_same(loss, inputs, taken, rtol=1e-5 if exact else half)


@pytest.mark.parametrize(
    "laid",
    [
        lambda each: each.to(memory_format=torch.channels_last),
        lambda each: each.transpose(2, 3),
        lambda each: each[:, :, ::2],
        lambda each: each[:1].expand(4, -1, -1, -1),
        lambda each: each[..., :0],
        lambda each: each[:0],
    ],
    ids=["channels last", "transposed", "every other row", "expanded", "no voxel", "no item"],
)
def test_every_layout(laid, taken):
    inputs = [laid(each) for each in drawn(2, 3, 4, 5, activation="logits")]
    assert_same(SoftDiceLoss(sigmoid=True, reduction="none", validate=False), inputs, taken)


def test_nan_comes_out_as_nan(taken):
    values, target = (each.to(DEVICE) for each in drawn(2, 2, 30))
    values[1, 0, 3] = torch.nan
    with kernels():
        loss = SoftDiceLoss(reduction="none", validate=False)(values, target)[..., 0]
    assert taken
    assert loss.isnan().tolist() == [[False, False], [True, False]]


@pytest.mark.parametrize(
    "loss",
    [
        SoftDiceLoss(ignore_index=2),
        SoftDiceLoss(other_act=torch.tanh),
        SoftDiceLoss(validate=True),
        SoftDiceLoss(softmax=True, to_onehot_y=True),
    ],
    ids=["ignored", "another activation", "looked at", "labels"],
)
def test_what_takes_other_volumes_goes_the_plain_path(loss, taken):
    values, target = drawn(2, 3, 4, 5)
    labelled = loss.prepare.to_onehot_y
    with kernels():
        loss(values.to(DEVICE), (target[:, :1].round() if labelled else target).to(DEVICE))
    assert not taken


def test_what_is_refused_is_refused_as_on_the_plain_path():
    values, target = (each.to(DEVICE) for each in drawn(2, 3, 4, 5))
    with kernels():
        with pytest.raises(ValueError, match="must have the shape of input"):
            SoftDiceLoss()(values, target[:, :2])
        with pytest.raises(TypeError, match="real numbers"):
            SoftDiceLoss()(values, target.to(torch.complex64))
        with pytest.warns(UserWarning, match="softmax is ignored"):
            SoftDiceLoss(softmax=True, validate=False)(values[:, :1], target[:, :1])


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore::torch.jit.TracerWarning")
def test_graphs_and_transforms_take_the_plain_path(taken):
    values, target = (each.to(DEVICE) for each in drawn(2, 3, 4, 5))
    loss = SoftDiceLoss(sigmoid=True)
    with kernels():
        torch.jit.trace(lambda x: loss(x, target), values, check_trace=False)
        torch.func.grad(loss)(values, target)
    assert not taken


def test_a_second_derivative_is_refused():
    values, target = (each.to(DEVICE) for each in drawn(2, 3, 4, 5))
    values.requires_grad_()
    with kernels():
        loss = SoftDiceLoss(sigmoid=True)(values, target)
        gradient = torch.autograd.grad(loss, values, create_graph=True)[0]
        with pytest.raises(RuntimeError, match="can be differentiated once"):
            gradient.sum().backward()
