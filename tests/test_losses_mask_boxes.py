"""Losses of masks and boxes: one minus the share of the best overlap, and the distance term."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from lesion_makers import ball, lesion_from_crop
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.utils import LossReduction
from reference import reference_mask_box_loss
from strategies import masks_and_boxes

from softoverlap.anchors import best_box
from softoverlap.losses import MaskBoxDiceLoss, MaskBoxIoULoss
from softoverlap.mask_boxes import SummedVolume
from softoverlap.overlaps import mask_box_pair_dice, mask_box_pair_iou

SCORE = {MaskBoxDiceLoss: mask_box_pair_dice, MaskBoxIoULoss: mask_box_pair_iou}
NAME = {MaskBoxDiceLoss: "dice", MaskBoxIoULoss: "iou"}
LOSSES = list(SCORE)
both = pytest.mark.parametrize("loss", LOSSES)


def pairs(count=5, ndim=3, seed=0, dtype=torch.float64):
    """Masks without an empty voxel, and boxes that meet them, away from voxel edges."""
    generator = torch.Generator().manual_seed(seed)
    masks = 0.05 + 0.9 * torch.rand(count, *[5] * ndim, generator=generator, dtype=dtype)
    low = torch.randint(-1, 3, (count, ndim), generator=generator)
    edge = torch.randint(1, 4, (count, ndim), generator=generator)
    parts = 0.1 + 0.8 * torch.rand(2, count, ndim, generator=generator, dtype=dtype)
    return masks, torch.cat([low + parts[0], low + edge + parts[1]], dim=1)


def visible(masks):
    """Without voxels that are lost in a float64 sum."""
    return torch.where(masks < 1e-6, 0, masks)


@both
@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
@given(case=masks_and_boxes())
def test_the_loss_equals_its_definition(loss, weight, case):
    masks, boxes = case
    count = min(len(masks), len(boxes))
    masks, boxes = visible(masks[:count]), boxes[:count]
    assume(all(mask.sum() > 0 for mask in masks))
    best = torch.tensor([best_box(mask, overlap=NAME[loss])[1] for mask in masks]).double()
    value = loss("none", distance_weight=weight)(masks, boxes, best=best)
    for mask, box, top, found in zip(masks, boxes, best, value, strict=True):
        expected = reference_mask_box_loss(
            mask.numpy(), box.tolist(), NAME[loss], float(top), weight
        )
        assert found.item() == pytest.approx(expected, abs=1e-9)


@both
@given(case=masks_and_boxes())
def test_no_box_has_a_lower_loss_than_the_best_one_which_has_none(loss, case):
    masks, boxes = case
    mask = visible(masks[:1])
    assume(mask.sum() > 0)
    box, score, _ = best_box(mask[0], overlap=NAME[loss])
    every = torch.cat([box[None], boxes])
    same, best = (
        mask.expand(len(every), *mask.shape[1:]),
        torch.full((len(every),), score, dtype=torch.float64),
    )
    value = loss("none")(same, every, best=best)
    assert value[0].item() == pytest.approx(0, abs=1e-12)
    assert (value >= 0).all()


@both
def test_closed_forms(loss):
    mask = torch.zeros(3, 8, 8)
    mask[:, 2:4, 2:6] = 1
    boxes = torch.tensor([[2.0, 2, 4, 6], [2.0, 2, 4, 4], [4.0, 2, 8, 6]])
    half = {MaskBoxDiceLoss: 1 - 2 / 3, MaskBoxIoULoss: 1 / 2}[loss]
    expected = [0, half * (1 + 1 / 20), 1 + 9 / 52]
    torch.testing.assert_close(loss("none")(mask, boxes), torch.tensor(expected))


@both
def test_without_a_distance_term_it_is_one_minus_the_score(loss):
    masks, boxes = pairs()
    expected = 1 - SCORE[loss](masks, boxes)
    torch.testing.assert_close(loss("none", distance_weight=0.0)(masks, boxes), expected)
    torch.testing.assert_close(loss(distance_weight=0.0)(masks, boxes), expected.mean())
    torch.testing.assert_close(loss("sum", distance_weight=0.0)(masks, boxes), expected.sum())


@both
def test_a_box_that_misses_is_led_to_the_mask(loss):
    mask = ball(6).double()[None]
    lesion = lesion_from_crop(mask[0], [10, 10, 10])
    box = torch.tensor([[20.0, 10, 11, 26, 15, 17]]).double().requires_grad_()
    loss()([lesion], box).backward()
    low, high = box.grad[0].chunk(2)
    assert (low + high)[0] > 0  # down the axis
    box.grad = None
    loss(distance_weight=0.0)([lesion], box).backward()
    assert (box.grad == 0).all()


@both
def test_descent_ends_at_the_best_box(loss):
    crop = ball(8).double() * torch.linspace(0.4, 1, 8).double()
    lesion = lesion_from_crop(crop, [6, 4, 5])
    target, score, _ = best_box(crop, overlap=NAME[loss])
    target = target + lesion.offset.repeat(2)
    box = torch.tensor([[16.0, 5, 5, 22, 11, 12]]).double().requires_grad_()
    optimizer = torch.optim.Adam([box], lr=0.2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 600)
    for _ in range(600):
        optimizer.zero_grad()
        value = loss()([lesion], box, best=torch.tensor([score]).double())
        value.backward()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(box.detach()[0], target, atol=0.02, rtol=0)
    assert value.item() < 0.01


@both
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_gradients_to_masks_and_boxes_pass_gradcheck(loss, ndim):
    masks, boxes = pairs(count=3, ndim=ndim)
    best = torch.tensor([0.9, 0.8, 1.0]).double()
    inputs = (masks.requires_grad_(), boxes.requires_grad_())
    assert torch.autograd.gradcheck(
        lambda m, b: loss("none", validate=False)(m, b, best=best), inputs
    )


@both
def test_lesions_tables_and_masks_agree(loss):
    masks, boxes = pairs()
    masks[:, 0] = 0
    lesions = [lesion_from_crop(mask[1:], [1, 0, 0]) for mask in masks]
    expected = loss("none")(masks, boxes)
    for source in (lesions, tuple(lesions), SummedVolume.from_masks(masks)):
        torch.testing.assert_close(loss("none")(source, boxes), expected)


@both
def test_an_empty_mask_has_the_loss_one_and_moves_no_box(loss):
    masks = torch.zeros(2, 4, 4, requires_grad=True)
    boxes = torch.tensor([[0.0, 0, 2, 2], [1.0, 1, 1, 1]], requires_grad=True)
    value = loss("none")(masks, boxes)
    assert value.tolist() == [1, 0]
    assert loss("none", empty=0.0)(masks, boxes).tolist() == [1, 1]
    assert loss("none")(masks, boxes, best=torch.zeros(2)).tolist() == [1, 0]
    value.sum().backward()
    assert (boxes.grad == 0).all()
    assert torch.isfinite(masks.grad).all()
    assert (masks.grad[0, :2, :2] < 0).all()  # but the mask is drawn to the box


@both
def test_flat_boxes_have_finite_gradients(loss):
    mask = ball(6)[None].expand(3, 6, 6, 6)
    boxes = torch.tensor([[1.0, 1, 3, 5, 5, 3], [2.5] * 6, [9.0] * 6], requires_grad=True)
    value = loss("none")(mask, boxes)
    value.sum().backward()
    assert torch.isfinite(boxes.grad).all()
    assert (value >= 1).all()
    assert boxes.grad[0, 5] < 0  # to open up
    assert (boxes.grad[2].view(2, 3).sum(dim=0) > 0).all()  # and to come near


@both
def test_an_inverted_box_that_is_not_looked_at_counts_as_flat(loss):
    mask = ball(6)[None].expand(2, 6, 6, 6)
    boxes = torch.tensor([[4.0, 4, 4, 2, 2, 2], [4.0, 4, 1, 2, 2, 5]], requires_grad=True)
    value = loss("none", validate=False)(mask, boxes)
    value.sum().backward()
    assert (value >= 1).all()
    assert torch.isfinite(boxes.grad).all()


@both
@pytest.mark.parametrize("reduction", ["none", "mean", "sum", *LossReduction], ids=str)
def test_reductions_may_be_monais_enum(loss, reduction):
    masks, boxes = pairs()
    each = loss("none")(masks, boxes)
    name = getattr(reduction, "value", reduction)
    expected = each if name == "none" else getattr(each, name)()
    torch.testing.assert_close(loss(reduction)(masks, boxes), expected)


@both
def test_a_weight_counts_per_box_and_the_mean_is_over_all(loss):
    masks, boxes = pairs(count=3)
    boxes.requires_grad_()
    weight = torch.tensor([1.0, 0.0, 2.5]).double()
    each = loss("none")(masks, boxes)
    torch.testing.assert_close(loss("none")(masks, boxes, weight), weight * each)
    torch.testing.assert_close(loss()(masks, boxes, weight), (weight * each).sum() / 3)
    (gradient,) = torch.autograd.grad(loss("sum")(masks, boxes, weight), boxes)
    assert (gradient[1] == 0).all()


@both
@pytest.mark.parametrize("none_of", [torch.zeros(0, 4, 4, 4), []], ids=["masks", "lesions"])
def test_the_loss_of_no_boxes_is_zero_and_attached(loss, none_of):
    boxes = torch.zeros(0, 6, requires_grad=True)
    for reduction in ("mean", "sum"):
        value = loss(reduction)(none_of, boxes)
        assert value.item() == 0
        (gradient,) = torch.autograd.grad(value, boxes)
        assert gradient.shape == (0, 6)
    assert loss("none")(none_of, boxes, best=torch.zeros(0)).shape == (0,)


@both
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inputs_are_computed_wide(loss, dtype):
    masks, boxes = (tensor.to(dtype) for tensor in pairs())
    value = loss("none")(masks, boxes)
    assert value.dtype == dtype
    assert torch.equal(value, loss("none")(masks.float(), boxes.float()).to(dtype))


@both
def test_hard_masks_may_be_of_integers(loss):
    mask, box = torch.ones(1, 3, 3, dtype=torch.uint8), torch.tensor([[0, 0, 3, 3]])
    assert loss()(mask, box).item() == 0
    assert loss()(mask.bool(), box.float()).item() == 0


@both
def test_the_loss_of_metatensors_is_a_plain_tensor(loss):
    masks, boxes = pairs()
    value = loss()(MetaTensor(masks), MetaTensor(boxes))
    assert type(value) is torch.Tensor
    torch.testing.assert_close(value, loss()(masks, boxes))


@both
def test_it_is_built_from_a_monai_config(loss):
    config = {"loss": {"_target_": f"softoverlap.{loss.__name__}", "reduction": "sum"}}
    built = ConfigParser(config).get_parsed_content("loss")
    assert type(built) is loss
    assert built.reduction == "sum"


@both
@pytest.mark.parametrize("ndim", [2, 3])
def test_on_predicted_masks_the_filled_box_has_the_lowest_loss(loss, ndim):
    box = torch.tensor([[2.0] * ndim + [6.0] * ndim])
    filled = torch.zeros(1, *[8] * ndim)
    filled[(slice(None), *[slice(2, 6)] * ndim)] = 1
    assert loss()(filled, box).item() == 0
    for seed in range(20):
        other = torch.rand(filled.shape, generator=torch.Generator().manual_seed(seed))
        assert loss()(other, box) > 0
        assert loss()(other * filled, box) > 0
    ball_in_it = torch.zeros_like(filled)
    ball_in_it[(0, *[slice(2, 6)] * ndim)] = ball(4, ndim=ndim)
    assert loss()(ball_in_it, box) > 0.1  # what a lesion looks like costs more


@both
def test_arguments_out_of_range_are_refused(loss):
    with pytest.raises(ValueError, match=r"reduction must be one of .*, got 'median'"):
        loss("median")
    with pytest.raises(ValueError, match="distance_weight must be at least 0 and finite, got -1"):
        loss(distance_weight=-1.0)
    with pytest.raises(ValueError, match=r"empty must lie in \[0, 1\], got 2"):
        loss(empty=2.0)


@pytest.mark.bad_input
@both
def test_bad_input_is_named(loss):
    masks, boxes = pairs(count=2)
    with pytest.raises(ValueError, match="masks and boxes must be as many, got 2 and 1"):
        loss()(masks, boxes[:1])
    with pytest.raises(ValueError, match=r"masks must have shape \(K, \*spatial\) with 3"):
        loss()(masks[:, None], boxes)
    with pytest.raises(ValueError, match=r"boxes must have shape \(N, 6\), got \(2, 4\)"):
        loss()([lesion_from_crop(ball(3), [0, 0, 0])] * 2, boxes[:, [0, 1, 3, 4]])
    with pytest.raises(ValueError, match="masks must hold probabilities"):
        loss()(masks + 1, boxes)
    with pytest.raises(ValueError, match="boxes must have every maximum"):
        loss()(masks, -boxes)
    with pytest.raises(ValueError, match=r"best must have shape \(2,\), one a box, got \(1,\)"):
        loss()(masks, boxes, best=torch.ones(1))
    with pytest.raises(ValueError, match=r"best must hold probabilities in \[0, 1\], got values"):
        loss()(masks, boxes, best=torch.full((2,), 1.5))
    with pytest.raises(TypeError, match=r"best must be a torch.Tensor, got list"):
        loss()(masks, boxes, best=[1.0, 1.0])
    with pytest.raises(ValueError, match=r"weight must have shape \(2,\), one a box, got \(1,\)"):
        loss()(masks, boxes, torch.ones(1))
    with pytest.raises(TypeError, match="masks must be a tensor, a sequence of Lesion"):
        loss()(np.zeros((2, 5, 5, 5)), boxes)
