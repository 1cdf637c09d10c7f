"""Soft masks and oriented boxes, against voxels that are clipped one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap import Lesion, SummedVolume, rotated
from softoverlap.overlaps import (
    mask_box_dice,
    mask_box_iou,
    mask_box_mass,
    mask_rotated_box_dice,
    mask_rotated_box_iou,
    mask_rotated_box_mass,
)
from tests.support.reference_oriented import reference_turned_mass
from tests.test_rotated import turned_upright

FORMS = [mask_rotated_box_mass, mask_rotated_box_dice, mask_rotated_box_iou]


def masks_of(count=2, shape=(6, 5), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *shape, generator=generator, dtype=torch.float64)


def turned_boxes(count=6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(count, 5, generator=generator, dtype=torch.float64)
    return unit * torch.tensor([6.0, 5.0, 5.0, 3.0, 8.0]) + torch.tensor([0, 0, 0.2, 0.2, -4.0])


def test_the_mass_is_that_of_voxels_clipped_one_by_one():
    masks, boxes = masks_of(), turned_boxes()
    boxes[0] = torch.tensor([3.0, 2.0, 2.0, 2.0, math.pi / 4])  # corners on lines of the grid
    boxes[1] = torch.tensor([3.0, 2.5, 40.0, 0.01, 1.0])  # a needle through all of it
    boxes[2] = torch.tensor([3.0, 2.5, 30.0, 30.0, 1.0])  # around all of it
    mass = mask_rotated_box_mass(masks, boxes)
    for k, n in np.ndindex(*mass.shape):
        expected = reference_turned_mass(masks[k].numpy(), boxes[n].tolist())
        assert mass[k, n].item() == pytest.approx(expected, abs=1e-12)


def test_scores_are_ratios_of_mass_area_and_size():
    masks, boxes = masks_of(), turned_boxes()
    mass, area = mask_rotated_box_mass(masks, boxes), boxes[:, 2] * boxes[:, 3]
    size = masks.sum(dim=(1, 2))[:, None]
    dice, iou = 2 * mass / (size + area), mass / (size + area - mass)
    torch.testing.assert_close(mask_rotated_box_dice(masks, boxes), dice)
    torch.testing.assert_close(mask_rotated_box_iou(masks, boxes), iou)
    aligned = mask_rotated_box_dice.pairs(masks, boxes[:2])
    torch.testing.assert_close(aligned, dice[:, :2].diagonal())


@settings(max_examples=25)
@given(st.integers(-4, 4), st.integers(0, 10**6))
def test_right_angles_give_the_scores_of_upright_boxes(turns, seed):
    generator = torch.Generator().manual_seed(seed)
    low = 6 * torch.rand(3, 2, generator=generator, dtype=torch.float64)
    upright = torch.cat([low, low + 4 * torch.rand(3, 2, generator=generator).double()], dim=1)
    masks, boxes = masks_of(), turned_upright(upright, turns)
    plain_forms = (mask_box_mass, mask_box_dice, mask_box_iou)
    for form, plain_form in zip(FORMS, plain_forms, strict=True):
        expected = plain_form(masks, upright)
        torch.testing.assert_close(form(masks, boxes), expected, atol=1e-12, rtol=0)


def test_a_full_mask_is_a_box():
    boxes = turned_boxes(20)
    image = torch.tensor([[3.0, 2.5, 6.0, 5.0, 0.0]], dtype=torch.float64)
    found = mask_rotated_box_mass(torch.ones(1, 6, 5, dtype=torch.float64), boxes)[0]
    torch.testing.assert_close(found, rotated.intersection(image, boxes), atol=1e-12, rtol=0)


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_mass_is_bounded_adds_up_and_turns_with_the_mask(seed):
    masks, boxes = masks_of(seed=seed), turned_boxes(seed=seed)
    mass = mask_rotated_box_mass(masks, boxes)
    assert (mass >= 0).all()
    assert (mass <= masks.sum(dim=(1, 2))[:, None]).all()
    assert (mass <= boxes[:, 2] * boxes[:, 3] + 1e-12).all()
    halves = boxes.repeat(2, 1)
    side = torch.tensor([-1.0, 1.0]).double().repeat_interleave(len(boxes)) * halves[:, 2] / 4
    halves[:, 0] += side * halves[:, 4].cos()
    halves[:, 1] += side * halves[:, 4].sin()
    halves[:, 2] /= 2
    parts = mask_rotated_box_mass(masks, halves).view(2, 2, -1).sum(dim=1)
    torch.testing.assert_close(parts, mass, atol=1e-12, rtol=0)
    quarter = torch.stack([5 - boxes[:, 1], boxes[:, 0]], dim=1)  # (x, y) -> (5 - y, x)
    quarter = torch.cat([quarter, boxes[:, 2:4], boxes[:, 4:] + math.pi / 2], dim=1)
    turned = mask_rotated_box_mass(masks.rot90(1, (1, 2)), quarter)
    torch.testing.assert_close(turned, mass, atol=1e-12, rtol=0)


@pytest.mark.parametrize("form", [*FORMS, mask_rotated_box_iou.pairs])
def test_gradients_pass_gradcheck_in_masks_and_boxes(form):
    masks, boxes = masks_of(shape=(4, 4)) * 0.8 + 0.1, turned_boxes(2, seed=4)
    inputs = (masks.requires_grad_(), boxes.requires_grad_())
    form(*inputs).sum().backward()
    assert (boxes.grad != 0).all(dim=1).any()
    assert torch.autograd.gradcheck(lambda m, b: form(m, b, validate=False), inputs)


def test_gradients_where_sides_lie_on_voxel_edges_are_the_mean_of_both_sides():
    masks = masks_of(1)
    box = torch.tensor([[3.0, 2.5, 2.0, 3.0, 0.0]], dtype=torch.float64, requires_grad=True)
    mask_rotated_box_mass(masks, box).sum().backward()
    step, here = 1e-6 * torch.eye(5, dtype=torch.float64), mask_rotated_box_mass(masks, box)
    forward = (mask_rotated_box_mass(masks, box + step) - here) / 1e-6
    backward = (here - mask_rotated_box_mass(masks, box - step)) / 1e-6
    torch.testing.assert_close(box.grad, (forward + backward) / 2, atol=1e-5, rtol=0)


def test_a_score_turns_a_box_onto_a_mask():
    axis = torch.arange(24) + 0.5 - 12
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    along, across = 0.8 * x + 0.6 * y, 0.8 * y - 0.6 * x
    mask = torch.sigmoid(2 * (1 - ((along / 9) ** 2 + (across / 3) ** 2)) * 4)[None]
    box = torch.tensor([[10.0, 13.0, 12.0, 8.0, 0.1]], requires_grad=True)
    optimizer = torch.optim.Adam([box], lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        (1 - mask_rotated_box_dice(mask, box)).sum().backward()
        optimizer.step()
    assert box[0, 4].item() == pytest.approx(math.atan2(0.6, 0.8), abs=0.05)
    assert mask_rotated_box_dice(mask, box.detach()).item() > 0.8


def test_lesions_and_tables_score_as_whole_masks():
    masks, boxes = masks_of(1), turned_boxes()
    whole = torch.zeros(1, 12, 11, dtype=torch.float64)
    whole[:, 4:10, 3:8] = masks
    boxes[:, :2] += torch.tensor([4, 3])
    lesion = Lesion(
        box=torch.tensor([4.0, 3.0, 10.0, 8.0]), crop=masks[0], offset=torch.tensor([4, 3]),
        centre=torch.tensor([7.0, 5.5]), volume_mm3=1.0,
    )  # fmt: skip
    expected = mask_rotated_box_iou(whole, boxes)
    for given_masks in ([lesion], SummedVolume.from_masks(whole)):
        found = mask_rotated_box_iou(given_masks, boxes)
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_nothing_shares_nothing():
    masks, box = masks_of(1), turned_boxes(1)
    apart = box + torch.tensor([20.0, 20.0, 0.0, 0.0, 0.0])
    assert all(form(masks, apart).item() == 0 for form in FORMS)
    flat = torch.tensor([[3.0, 2.5, 2.0, 0.0, 0.3]], dtype=torch.float64)
    assert mask_rotated_box_mass(masks, flat).item() == pytest.approx(0, abs=1e-15)
    assert mask_rotated_box_dice(0 * masks, flat).item() == 1
    assert mask_rotated_box_dice(0 * masks, flat, empty=0.0).item() == 0
    for form in FORMS:
        assert form(masks, box[:0]).shape == (1, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int64])
def test_scores_take_the_floating_type_of_what_is_given(dtype):
    masks, boxes = torch.ones(1, 4, 4, dtype=dtype), torch.tensor([[2, 2, 2, 2, 1]]).to(dtype)
    score = mask_rotated_box_dice(masks, boxes)
    assert score.dtype == (torch.float32 if dtype == torch.int64 else dtype)
    assert score.item() == pytest.approx(0.4, abs=1e-2)


def test_a_second_derivative_is_refused():
    box = turned_boxes(1).requires_grad_()
    score = mask_rotated_box_dice(masks_of(1), box).sum()
    (gradient,) = torch.autograd.grad(score, box, create_graph=True)
    with pytest.raises(RuntimeError, match="mass of a mask in a polygon can be differentiated on"):
        gradient.sum().backward()


@pytest.mark.bad_input
@pytest.mark.parametrize("form", [*FORMS, mask_rotated_box_iou.pairs])
def test_bad_input_is_named(form):
    masks, boxes = masks_of(1), turned_boxes(1)
    with pytest.raises(ValueError, match=r"boxes must have shape \(N, 5\), got \(1, 7\)"):
        form(masks, torch.ones(1, 7))
    with pytest.raises(
        ValueError, match=r"masks must have shape \(K, H, W\) for oriented boxes, g"
    ):
        form(torch.ones(1, 2, 2, 2), boxes)
    with pytest.raises(ValueError, match="boxes must have edges of at least 0, got"):
        form(masks, -boxes.abs())
    with pytest.raises(ValueError, match=r"masks must hold probabilities in \[0, 1\], got"):
        form(masks + 1, boxes)
    ring = SummedVolume.from_masks(masks, periodic=True)
    with pytest.raises(ValueError, match="masks must have two axes that do not come round for"):
        form(ring, boxes)


@pytest.mark.bad_input
def test_aligned_scores_need_as_many():
    with pytest.raises(ValueError, match="masks and boxes must be as many, got 2 and 6"):
        mask_rotated_box_dice.pairs(masks_of(2), turned_boxes(6))
