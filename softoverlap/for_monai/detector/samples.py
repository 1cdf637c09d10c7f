"""What the anchors of an image learn, and what the losses see of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from monai.apps.detection.utils.hard_negative_sampler import HardNegativeSampler
from torch import Tensor, nn

from softoverlap.anchors import AnchorWeighting, AnchorWeights, Matches, best_box_in_image
from softoverlap.for_monai.detector.loss_terms import takes_field, takes_masks
from softoverlap.lesion import Lesion
from softoverlap.mask_boxes import SummedVolume


@dataclass(frozen=True)
class Assignment:
    """What the N anchors of an image learn from its M lesions.

    Args:
        index: Lesion of each anchor, -1 for background, -2 to ignore it, shape (N,).
        weights: What each anchor learns, and how much it counts.
        labels: Class of each lesion, shape (M,).
        lesions: The lesions, or None where only their boxes are known.
        visible: The field of view, a box, shape (2 * ndim,), or None where it is not known.
    """

    index: Int[Tensor, "anchors"]
    weights: AnchorWeights
    labels: Int[Tensor, "lesions"]
    lesions: Sequence[Lesion] | None
    visible: Float[Tensor, "coords"] | None = None

    @property
    def rows(self) -> Int[Tensor, "positives"]:
        """The anchors that serve a lesion."""
        return (self.index >= 0).nonzero()[:, 0]

    @property
    def served(self) -> Int[Tensor, "positives"]:
        """The lesion that each of them serves."""
        return self.index[self.rows]


AnyMatches = Sequence[Tensor | Matches | Assignment]
"""Of each image the lesion of each anchor, alone (quality 1), with its quality, or weighed."""


def assignment(
    match: Tensor | Matches | Assignment,
    labels: Int[Tensor, "lesions"],
    lesions: Sequence[Lesion] | None,
    weighting: AnchorWeighting,
    visible: Float[Tensor, "coords"] | None = None,
) -> Assignment:
    """The assignment of a match; indices alone mean quality 1."""
    if isinstance(match, Assignment):
        return match
    if not isinstance(match, Matches):
        match = Matches((match >= 0).float(), match)
    existence = [1.0] * len(labels)
    if lesions is not None:
        existence = [lesion.existence for lesion in lesions]
    weights = weighting(match, match.quality.new_tensor(existence))
    return Assignment(match.index, weights, labels.to(match.index.device), lesions, visible)


def classification_samples(
    logits: Float[Tensor, "batch anchors classes"],
    assignments: Sequence[Assignment],
    sampler: Any,
) -> list[Tensor]:
    """Logits, targets and weights of the anchors that the sampler picks, all images together."""
    samples = [
        _classification_sample(image, assigned, sampler)
        for image, assigned in zip(logits, assignments, strict=True)
    ]
    return [torch.cat(part) for part in zip(*samples, strict=True)]


def _classification_sample(
    logits: Float[Tensor, "anchors classes"], assigned: Assignment, sampler: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """Without a sampler all anchors, of which the ignored ones weigh nothing.

    Background that weighs nothing is ignored too, so that no sample is spent on it.
    """
    wanted, rows, weights = torch.zeros_like(logits), assigned.rows, assigned.weights
    wanted[rows, assigned.labels[assigned.served]] = weights.target[rows].to(wanted)
    index, weight = assigned.index, weights.cls_weight.to(logits)
    ignored = (index == -2) | ((index < 0) & (weight == 0))
    if sampler is None:
        return logits, wanted, weight.masked_fill(ignored, 0)
    chosen = _sampled_rows(sampler, logits, index.masked_fill(ignored, -2))
    return logits[chosen], wanted[chosen], weight[chosen]


def _sampled_rows(
    sampler: Any, logits: Float[Tensor, "anchors classes"], index: Int[Tensor, "anchors"]
) -> Int[Tensor, "rows"]:
    """Rows of the anchors that the sampler picks."""
    labels = [index + 1]  # as MONAI: -1 ignored, 0 background
    if isinstance(sampler, HardNegativeSampler):
        positive, negative = sampler(labels, logits.amax(dim=1).detach())
    else:
        positive, negative = sampler(labels)
    return torch.cat([torch.where(positive[0])[0], torch.where(negative[0])[0]])


def box_losses(
    loss: nn.Module, samples: Iterable[tuple[tuple[Tensor, Tensor], Assignment]]
) -> tuple[Float[Tensor, "boxes columns"], Float[Tensor, "boxes"]]:
    """The unreduced loss of all positives, one number a box (GIoU) or one a side, and weights.

    A sample holds predictions and true boxes of the positives of an image, or the codes of either.
    """
    pairs, assigned = zip(*samples, strict=True)
    predicted, wanted = (torch.cat(part) for part in zip(*pairs, strict=True))
    weight = torch.cat([image.weights.box_weight[image.rows] for image in assigned])
    if not len(predicted):
        return predicted, weight
    if takes_masks(loss):
        of_images = zip((boxes for boxes, _ in pairs), assigned, strict=True)
        parts = [_mask_losses(loss, boxes, image) for boxes, image in of_images if len(boxes)]
        return torch.cat(parts)[:, None], weight
    options = {"visible": _fields(loss, assigned).to(predicted)} if takes_field(loss) else {}
    return loss(predicted, wanted.to(predicted), **options).reshape(len(predicted), -1), weight


def _fields(loss: nn.Module, assigned: Sequence[Assignment]) -> Float[Tensor, "boxes coords"]:
    """The field of view of each positive."""
    if any(image.visible is None for image in assigned):
        raise ValueError(
            f"targets must have 'visible', the field of view, for {type(loss).__name__}, got none; "
            "called with images, a detector takes it from them"
        )
    return torch.cat([image.visible.expand(len(image.rows), -1) for image in assigned])  # pyright: ignore


def _mask_losses(
    loss: Any, predicted: Float[Tensor, "boxes coords"], assigned: Assignment
) -> Float[Tensor, "boxes"]:
    """The loss of each box and its lesion's mask; the boxes of a lesion share its table."""
    lesions, served = assigned.lesions, assigned.served
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
    return loss(_rows_of(volume, served), predicted, best=best[served].to(predicted))


def _rows_of(volume: SummedVolume, rows: Int[Tensor, "rows"]) -> SummedVolume:
    """These masks, each as often as asked for, over the same table."""
    return replace(
        volume,
        starts=volume.starts[rows],
        offsets=volume.offsets[rows],
        shapes=volume.shapes[rows],
        sizes=volume.sizes[rows],
    )
