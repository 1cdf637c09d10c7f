"""Which anchors of an image train, and what the regression loss sees of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int
from monai.apps.detection.utils.hard_negative_sampler import HardNegativeSampler
from torch import Tensor, nn

from softoverlap.anchors import Matches, best_box_in_image
from softoverlap.for_monai.detector.loss_terms import takes_masks
from softoverlap.lesion import Lesion
from softoverlap.mask_boxes import SummedVolume

BoxSample = tuple[Tensor, Tensor, dict[str, Any], Tensor]
"""Of the positive anchors of an image: predictions, true boxes, the target, lesion of each."""


def as_matches(match: Tensor | Matches) -> Matches:
    """Indices alone mean quality 1."""
    return match if isinstance(match, Matches) else Matches((match >= 0).float(), match)


def sampled_rows(
    sampler: Any,
    logits: Float[Tensor, "anchors classes"],
    match: Matches,
    weight: Float[Tensor, "anchors"],
) -> Int[Tensor, "rows"]:
    """Rows of the anchors that the sampler picks; without one, all that are not ignored.

    Background that weighs nothing is ignored too, so that no sample is spent on it.
    """
    ignored = (match.index == -2) | (~match.positive & (weight == 0))
    if sampler is None:
        return (~ignored).nonzero()[:, 0]
    labels = [match.index.masked_fill(ignored, -2) + 1]  # as MONAI: -1 ignored, 0 background
    if isinstance(sampler, HardNegativeSampler):
        positive, negative = sampler(labels, logits.amax(dim=1).detach())
    else:
        positive, negative = sampler(labels)
    return torch.cat([torch.where(positive[0])[0], torch.where(negative[0])[0]])


def box_losses(loss: nn.Module, samples: Sequence[BoxSample]) -> Float[Tensor, "boxes columns"]:
    """The unreduced loss of all positives: one number a box (GIoU), or one a side (L1)."""
    if takes_masks(loss):
        parts = [
            _mask_losses(loss, predicted, target.get("lesions"), index)
            for predicted, _, target, index in samples
            if len(predicted)
        ]
        return torch.cat(parts)[:, None]
    predicted = torch.cat([sample[0] for sample in samples])
    wanted = torch.cat([sample[1] for sample in samples]).to(predicted)
    return loss(predicted, wanted).reshape(len(predicted), -1)


def _mask_losses(
    loss: Any,
    predicted: Float[Tensor, "boxes coords"],
    lesions: Sequence[Lesion] | None,
    index: Int[Tensor, "boxes"],
) -> Float[Tensor, "boxes"]:
    """The loss of each box and its lesion's mask; the boxes of a lesion share its table."""
    if lesions is None:
        raise ValueError(
            f"targets must have lesions for {type(loss).__name__}, which takes masks, got None"
        )
    if any(lesion.visible < 1 for lesion in lesions):
        raise ValueError(
            f"lesions must be wholly visible for {type(loss).__name__}, which would draw whole "
            f"boxes to the part that shows: regress amodal boxes by a loss of boxes"
        )
    volume = SummedVolume.from_lesions(lesions, device=predicted.device, validate=False)
    boxes = [best_box_in_image(lesion) for lesion in lesions]
    # Dice and IoU rise together, so the best box of one is the best of the other
    best = loss.overlap.pairs(volume, torch.stack(boxes).to(predicted.device), validate=False)
    return loss(_rows_of(volume, index), predicted, best=best[index].to(predicted))


def _rows_of(volume: SummedVolume, rows: Int[Tensor, "rows"]) -> SummedVolume:
    """These masks, each as often as asked for, over the same table."""
    return replace(
        volume,
        starts=volume.starts[rows],
        offsets=volume.offsets[rows],
        shapes=volume.shapes[rows],
        sizes=volume.sizes[rows],
    )
