"""Soft Dice and cross entropy: over classes or regions, with ignored voxels, and on nothing."""

from __future__ import annotations

import warnings

import monai.losses
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from softoverlap.losses import SoftDiceCELoss, SoftDiceLoss

WEIGHTS = (None, torch.tensor([0.2, 1.0, 3.0]))


def logits(channels=3):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, 4, 5, 6, generator=generator, dtype=torch.float64)


def nested_regions():
    """The whole tumour, its core within it, and the enhancing part within that."""
    generator = torch.Generator().manual_seed(1)
    drawn = (torch.rand(2, 3, 4, 5, 6, generator=generator) < 0.6).double()
    return drawn.cumprod(dim=1)


def labels():
    return torch.randint(0, 3, (2, 1, 4, 5, 6), generator=torch.Generator().manual_seed(2))


def reference_dice(prediction, target):
    shared = np.minimum(prediction, target).sum(axis=(2, 3, 4))
    total = (prediction + target).sum(axis=(2, 3, 4))
    return float((1 - (2 * shared + 1e-5) / (total + 1e-5)).mean())


def reference_entropies(scores, target):
    """Binary in each channel, and over classes."""
    p = 1 / (1 + np.exp(-scores))
    binary = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return float(binary), float(-(target * logs).sum(axis=1).mean())


def test_both_entropies_equal_the_reference_on_nested_regions():
    x, y = logits(), nested_regions()
    dice = reference_dice(1 / (1 + np.exp(-x.numpy())), y.numpy())
    binary, over_classes = reference_entropies(x.numpy(), y.numpy())
    for kind, entropy in (("regions", binary), ("classes", over_classes)):
        loss = SoftDiceCELoss(sigmoid=True, cross_entropy=kind)(x, y)
        assert loss.item() == pytest.approx(dice + entropy, abs=1e-12)


def test_the_two_kinds_are_monais_dice_and_pytorchs_entropies():
    x, y = logits(), nested_regions()
    hard = {"sigmoid": True, "intersection": "product"}
    classes = SoftDiceCELoss(**hard, cross_entropy="classes")(x, y)
    torch.testing.assert_close(classes, monai.losses.DiceCELoss(sigmoid=True)(x, y))
    expected = monai.losses.DiceLoss(sigmoid=True)(x, y) + F.binary_cross_entropy_with_logits(x, y)
    torch.testing.assert_close(SoftDiceCELoss(**hard, cross_entropy="regions")(x, y), expected)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_weight_of_regions_is_that_of_their_positive_voxels(reduction):
    x, y, weight = logits(), nested_regions(), torch.tensor([0.5, 2.0, 7.0])
    options = {"sigmoid": True, "reduction": reduction, "weight": weight}
    part = SoftDiceLoss(**options)(x, y)
    entropy = F.binary_cross_entropy_with_logits(
        x, y, pos_weight=weight.double().view(3, 1, 1, 1), reduction=reduction
    )
    loss = SoftDiceCELoss(**options, cross_entropy="regions")(x, y)
    torch.testing.assert_close(loss, part + entropy)


def test_channel_0_of_regions_counts_nowhere_without_background():
    x, y = logits(), nested_regions()
    loss = SoftDiceCELoss(sigmoid=True, include_background=False, cross_entropy="regions")
    kept = SoftDiceCELoss(sigmoid=True, cross_entropy="regions")(x[:, 1:], y[:, 1:])
    torch.testing.assert_close(loss(x, y), kept)


def test_labels_become_regions():
    x, y = logits(), labels()
    masks = F.one_hot(y[:, 0], 3).movedim(-1, 1).double()
    options = {"softmax": True, "cross_entropy": "regions"}
    of_labels = SoftDiceCELoss(**options, to_onehot_y=True)(x, y)
    torch.testing.assert_close(of_labels, SoftDiceCELoss(**options)(x, masks))


@pytest.mark.parametrize("kind", [None, "classes", "regions"])
def test_one_channel_is_a_region_whatever_is_said(kind):
    x, y = logits(1), nested_regions()[:, :1]
    expected = SoftDiceLoss(sigmoid=True)(x, y) + F.binary_cross_entropy_with_logits(x, y)
    torch.testing.assert_close(SoftDiceCELoss(sigmoid=True, cross_entropy=kind)(x, y), expected)


def test_channels_that_overlap_are_told_once_unless_a_kind_is_chosen():
    x, y = logits(), nested_regions()
    loss = SoftDiceCELoss(sigmoid=True)
    with pytest.warns(UserWarning, match="channels of target overlap.*cross_entropy='regions'"):
        loss(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(x, y)
        for kind in ("classes", "regions"):
            SoftDiceCELoss(sigmoid=True, cross_entropy=kind)(x, y)
        SoftDiceCELoss(sigmoid=True, validate=False)(x, y)
        apart = F.one_hot(labels()[:, 0], 3).movedim(-1, 1)
        SoftDiceCELoss(softmax=True)(x, apart)
        SoftDiceCELoss(softmax=True)(x, torch.rand(2, 3, 4, 5, 6).softmax(dim=1).half())
        SoftDiceCELoss(softmax=True, to_onehot_y=True)(x, labels())
        SoftDiceCELoss(sigmoid=True)(x[:, :1], y[:, :1])


def _ignored_cases():
    """Options, channels, a target, the index, and what its voxels hold in the target."""
    masks = F.one_hot(labels()[:, 0], 3).movedim(-1, 1).double()
    one_hot = {"softmax": True, "to_onehot_y": True}
    for index in (-100, 255):
        yield one_hot, labels(), index, index
        yield one_hot | {"label_smoothing": 0.2}, labels(), index, index
        yield one_hot | {"cross_entropy": "regions"}, labels(), index, index
        yield {"sigmoid": True, "cross_entropy": "regions"}, nested_regions(), index, index
        yield {"sigmoid": True}, nested_regions()[:, :1], index, index
        yield {"softmax": True}, masks, index, 0.0
    yield one_hot | {"include_background": False}, labels(), 255, 255


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weight", WEIGHTS, ids=["unweighted", "weighted"])
def test_ignored_voxels_might_as_well_be_cut_away(weight, reduction):
    for options, whole, index, filler in _ignored_cases():
        x = logits(whole.shape[1] if options == {"sigmoid": True} else 3)
        chosen = {**options, "reduction": reduction}
        chosen["weight"] = None if weight is None or x.shape[1] == 1 else weight
        kept, y = whole[..., :4], whole.clone()
        y[..., 4:] = filler
        x = x.requires_grad_()
        value = SoftDiceCELoss(**chosen, ignore_index=index)(x, y)
        expected = SoftDiceCELoss(**chosen)(x[..., :4], kept)
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
        gradient, cropped = (torch.autograd.grad(each, x)[0] for each in (value, expected))
        torch.testing.assert_close(gradient, cropped, rtol=1e-10, atol=1e-12)
        assert not gradient[..., 4:].any()


def test_a_label_that_is_a_class_can_be_ignored():
    x, y = logits(), labels()
    y[..., :3] = 1
    y[..., 3:] = 2 * (y[..., 3:] > 0)
    loss = SoftDiceCELoss(softmax=True, to_onehot_y=True, ignore_index=1)(x, y)
    cropped = SoftDiceCELoss(softmax=True, to_onehot_y=True)(x[..., 3:], y[..., 3:])
    torch.testing.assert_close(loss, cropped)


@pytest.mark.parametrize("kind", [None, "classes", "regions"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("index", [None, 255])
def test_nothing_costs_nothing_and_has_a_gradient(kind, reduction, index):
    for shape in ((0, 1, 4, 4), (2, 1, 0, 4), (2, 2, 0, 4), (0, 2, 4, 4)):
        for weight in (None, torch.ones(shape[1])):
            loss = SoftDiceCELoss(
                sigmoid=True,
                cross_entropy=kind,
                reduction=reduction,
                weight=weight,
                ignore_index=index,
            )
            x = torch.zeros(shape, requires_grad=True)
            value = loss(x, torch.zeros(shape))
            value.backward()
            assert value.item() == 0
            assert x.grad.shape == shape


@pytest.mark.parametrize("kind", ["classes", "regions"])
@pytest.mark.parametrize("dtype", [torch.int16, torch.int64, torch.uint16, torch.float32])
def test_where_all_voxels_are_ignored_the_loss_is_0(kind, dtype):
    x = logits().requires_grad_()
    y = torch.full((2, 1, 4, 5, 6), 255).to(dtype)
    options = {"softmax": True, "to_onehot_y": True, "weight": WEIGHTS[1], "ignore_index": 255}
    value = SoftDiceCELoss(**options, cross_entropy=kind)(x, y)
    value.backward()
    assert value.item() == 0
    assert not x.grad.any()


@pytest.mark.parametrize("options", [{}, {"ignore_index": 255}, {"weight": WEIGHTS[1]}], ids=str)
def test_the_gradient_over_regions_passes_gradcheck(options):
    x, y = logits()[..., :2].requires_grad_(), 0.2 + 0.6 * nested_regions()[..., :2]
    if "ignore_index" in options:
        y[..., 1] = 255
    loss = SoftDiceCELoss(sigmoid=True, cross_entropy="regions", **options)
    assert torch.autograd.gradcheck(lambda x: loss(x, y), (x,))


@pytest.mark.bad_input
def test_arguments_that_do_not_go_together_are_refused():
    with pytest.raises(ValueError, match=r"cross_entropy must be one of.*got 'binary'"):
        SoftDiceCELoss(cross_entropy="binary")
    with pytest.raises(ValueError, match="label_smoothing must be 0 over regions, got 0.1"):
        SoftDiceCELoss(cross_entropy="regions", label_smoothing=0.1)
    for index in (0, 1, 2):
        loss = SoftDiceCELoss(sigmoid=True, cross_entropy="regions", ignore_index=index)
        words = f"ignore_index must be.*no channel of regions, got {index}"
        with pytest.raises(ValueError, match=words):
            loss(logits(), nested_regions())


@pytest.mark.parametrize("options", [{"sigmoid": True}, {"sigmoid": True, "reduction": "sum"}, {}])
def test_one_channel_by_slabs_is_the_plain_path(options, monkeypatch):
    drawn, y = 3 * logits(1), nested_regions()[:, :1] * 0.7
    x = (drawn if options else drawn.sigmoid()).requires_grad_()
    loss = SoftDiceCELoss(**options)
    assert loss._fused(x, y) is not None
    value = loss(x, y)
    monkeypatch.setattr(loss, "_fused", lambda *inputs: None)
    expected = loss(x, y)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
    gradients = (torch.autograd.grad(each, x)[0] for each in (value, expected))
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)
