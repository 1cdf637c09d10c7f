"""The detector's box regression by every loss of boxes, and by losses that take masks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from softoverlap import losses
from softoverlap.anchors import AnchorWeighting, Matches, best_box
from softoverlap.for_monai import lesion_target
from softoverlap.mask_boxes import SummedVolume
from softoverlap.overlaps import mask_box_dice, mask_box_iou
from tests.support.detectors import SIZE, batch, tiny_detector
from tests.support.lesion_makers import ball_lesion, scene

BOX_LOSSES = [
    losses.BoxIoULoss,
    losses.BoxGIoULoss,
    losses.BoxDIoULoss,
    losses.BoxCIoULoss,
    losses.BoxEIoULoss,
    losses.BoxNWDLoss,
]


class MaskLoss(nn.Module):
    """The least that a loss of masks and boxes must have."""

    takes_masks = True

    def __init__(self, reduction="mean", overlap=mask_box_dice):
        super().__init__()
        self.reduction, self.overlap, self.given = reduction, overlap, []

    def forward(self, masks, boxes, weight=None, best=None):
        self.given.append((masks, boxes, best))
        return 1 - self.overlap.pairs(masks, boxes) / best


MASK_LOSSES = [MaskLoss] + [
    getattr(losses, name) for name in ("MaskBoxDiceLoss", "MaskBoxIoULoss") if hasattr(losses, name)
]


def trained(detector, steps=12):
    """The regression loss of each of a few steps on one scene."""
    lesions = [ball_lesion(6, [3, 4, 5]), ball_lesion(8, [13, 12, 11])]
    images, target = scene(lesions, SIZE)[None], lesion_target(lesions)
    optimiser = torch.optim.AdamW(detector.parameters(), lr=3e-3)
    history = []
    for _ in range(steps):
        loss = detector(images, [target])["box_regression"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    return history


@pytest.mark.parametrize("loss", BOX_LOSSES, ids=lambda loss: loss.__name__)
def test_every_loss_of_boxes_trains_in_3d(loss):
    detector = tiny_detector()
    detector.set_box_regression_loss(loss(), encode_gt=False, decode_pred=True)
    history = trained(detector)
    assert min(history[-3:]) < 0.95 * history[0]


@pytest.mark.parametrize("loss", BOX_LOSSES, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_loss_of_boxes_is_summed_with_the_weights_of_the_anchors(loss, reduction):
    detector = tiny_detector(weighting=AnchorWeighting(box_weight="quality"))
    detector.set_box_regression_loss(loss(reduction), encode_gt=False, decode_pred=True)
    target = lesion_target([ball_lesion(6, [3, 4, 5])])
    anchors = target["boxes"].repeat(3, 1) + torch.tensor([[0.5], [2.0], [9.0]])
    match = Matches(torch.tensor([0.8, 0.3, 0.0]), torch.tensor([0, 0, -1]))
    found = detector.compute_box_loss(torch.zeros(1, 3, 6), [target], [anchors], [match])
    each = loss("none")(anchors[:2], target["boxes"].repeat(2, 1))
    expected = (each * torch.tensor([0.8, 0.3])).sum()
    assert found.item() == pytest.approx(
        expected.item() / (1.1 if reduction == "mean" else 1), rel=1e-5
    )


@pytest.mark.parametrize("loss", MASK_LOSSES, ids=lambda loss: loss.__name__)
def test_a_loss_of_masks_trains_in_3d(loss):
    detector = tiny_detector()
    detector.set_box_regression_loss(loss(), encode_gt=False, decode_pred=True)
    history = trained(detector)
    assert min(history[-3:]) < 0.95 * history[0]


@pytest.mark.parametrize("overlap", [mask_box_dice, mask_box_iou])
def test_a_loss_of_masks_sees_each_box_with_its_lesion_and_the_best_box_is_free(overlap):
    detector, loss = tiny_detector(), MaskLoss(overlap=overlap)
    detector.set_box_regression_loss(loss, encode_gt=False, decode_pred=True)
    lesions = [ball_lesion(6, [3, 4, 5]), ball_lesion(8, [13, 12, 11])]
    best = [best_box(one.crop)[0].float() + one.offset.repeat(2) for one in lesions]
    anchors = torch.stack([best[1], best[0], best[0] + 1, best[1]])
    match = Matches(torch.ones(4), torch.tensor([1, 0, -1, 1]))
    target = lesion_target(lesions)
    found = detector.compute_box_loss(torch.zeros(1, 4, 6), [target], [anchors], [match])
    assert found.item() == pytest.approx(0, abs=1e-6)
    masks, boxes, highest = loss.given[0]
    assert torch.equal(masks.sizes, SummedVolume.from_lesions(lesions).sizes[[1, 0, 1]])
    assert masks.table.numel() == SummedVolume.from_lesions(lesions).table.numel()
    assert boxes.shape == (3, 6)
    scores = [best_box(one.crop, overlap=overlap)[1] for one in lesions]
    assert highest.tolist() == pytest.approx([scores[1], scores[0], scores[1]], rel=1e-6)


def test_a_loss_of_masks_reaches_the_boxes_of_a_batch_with_an_empty_image():
    detector = tiny_detector()
    detector.set_box_regression_loss(MaskLoss("sum"), encode_gt=False, decode_pred=True)
    loss = detector(*batch())["box_regression"]
    loss.backward()
    assert detector.network.regression_head.bbox_reg.weight.grad.abs().sum() > 0


def test_a_loss_of_masks_needs_lesions():
    detector = tiny_detector()
    detector.set_box_regression_loss(MaskLoss(), encode_gt=False, decode_pred=True)
    images, targets = batch()
    targets[0]["lesions"] = None
    with pytest.raises(ValueError, match="targets must have lesions for MaskLoss"):
        detector(images, targets)


@pytest.mark.parametrize(("encode_gt", "decode_pred"), [(True, True), (False, False)])
def test_a_loss_of_masks_takes_no_codes(encode_gt, decode_pred):
    with pytest.raises(ValueError, match="must be False and True .* set `box_codes: false`"):
        tiny_detector().set_box_regression_loss(MaskLoss(), encode_gt, decode_pred)
