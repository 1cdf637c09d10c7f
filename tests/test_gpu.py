"""What runs on a GPU gives what the CPU gives, and does not wait for it."""

from __future__ import annotations

import pytest
import torch

from softoverlap.lesion import Lesion
from softoverlap.losses import SoftDiceLoss
from softoverlap.overlaps import box_giou, mask_box_dice, mask_box_mass, mask_iou

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def _case():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(3, 20, 24, 16, generator=generator)
    masks[:, :8] = 0
    low = 24 * torch.rand(500, 3, generator=generator) - 2
    return masks, torch.cat([low, low + 8 * torch.rand(500, 3, generator=generator)], dim=1)


def test_mask_box_scores_and_gradients_equal_those_of_the_cpu():
    results = []
    for device in ("cpu", "cuda"):
        masks, boxes = (tensor.to(device).requires_grad_() for tensor in _case())
        score = mask_box_dice(masks, boxes)
        score.square().sum().backward()
        results.append([score.detach().cpu(), masks.grad.cpu(), boxes.grad.cpu()])
    for cpu, gpu in zip(*results, strict=True):
        torch.testing.assert_close(gpu, cpu, rtol=1e-5, atol=1e-6)


def test_lesions_may_lie_on_the_cpu_and_their_crops_move():
    masks, boxes = _case()
    offset = torch.tensor([8, 0, 0])
    crop = masks[0, 8:].cuda()
    lesion = Lesion(
        box=torch.tensor([8, 0, 0, 20, 24, 16]),
        crop=crop,
        offset=offset,
        centre=torch.tensor([14.0, 12.0, 8.0]),
        volume_mm3=1.0,
    )
    expected = mask_box_mass(masks[:1], boxes)
    torch.testing.assert_close(mask_box_mass([lesion], boxes.cuda()).cpu(), expected)


def test_scores_do_not_synchronise():
    masks, boxes = (tensor.cuda() for tensor in _case())
    mask_box_dice(masks, boxes)  # kernels are compiled
    torch.cuda.set_sync_debug_mode("error")
    try:
        mask_box_dice(masks, boxes)
        box_giou(boxes, boxes)
        mask_iou(masks[None], masks[None])
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_losses_of_volumes_do_not_synchronise():
    loss = SoftDiceLoss(sigmoid=True)
    values, target = torch.rand(2, 2, 3, 20, 24, 16, device="cuda").unbind()
    values.requires_grad_()
    loss(values, target).backward()  # kernels are compiled
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss(values, target).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_mask_and_boxes_on_two_devices_are_refused():
    masks, boxes = _case()
    with pytest.raises(ValueError, match="boxes must be on cpu, where the masks are, got cuda"):
        mask_box_dice(masks, boxes.cuda())
