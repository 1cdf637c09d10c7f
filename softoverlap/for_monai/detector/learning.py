"""How anchors learn: matched with lesions by their quality, and weighed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from monai.apps.detection.utils.box_coder import BoxCoder
from torch import Tensor, nn

from softoverlap.anchors import AnchorOverlap, AnchorWeighting, Matches, anchor_quality
from softoverlap.for_monai.detector.amodal import lesion_quality
from softoverlap.for_monai.detector.loss_terms import reduce
from softoverlap.for_monai.detector.samples import AnyMatches, Assignment, assignment
from softoverlap.for_monai.detector.targets import without_unlabelled
from softoverlap.lesion import Lesion
from softoverlap.overlaps import BoxOverlap

Target = dict[str, Any]
"""Of an image: boxes, labels, the lesions if they are known, and what nobody has labelled."""


@dataclass(frozen=True)
class QualityRule:
    """How well boxes fit lesions.

    Args:
        overlap: Of a lesion's soft mask, or of its box, with a box.
        normalize: As in `anchor_quality`.
        without_masks: Overlap of boxes where lesions are not known, unless `overlap` is one.
    """

    overlap: AnchorOverlap
    normalize: str | None
    without_masks: Callable[..., Any]

    def __call__(
        self,
        truth: Float[Tensor, "lesions coords"],
        lesions: Sequence[Lesion] | None,
        boxes: Float[Tensor, "boxes coords"],
    ) -> Float[Tensor, "lesions boxes"]:
        """Quality of the boxes for each lesion."""
        if lesions is not None:
            return lesion_quality(lesions, boxes, overlap=self.overlap, normalize=self.normalize)
        if isinstance(self.overlap, BoxOverlap):
            return anchor_quality(truth, boxes, overlap=self.overlap, validate=False)
        return self.without_masks(truth, boxes)


@dataclass(frozen=True)
class Learning:
    """What a step of the training asks of the settings of a detector.

    Args:
        quality: How well boxes fit lesions.
        matcher: Which anchor serves which lesion.
        weighting: From quality to targets and weights.
        quality_loss: Unreduced loss of the IoU-aware branch.
        quality_reduction: How it is reduced.
        box_coder: From codes to boxes.
        anchors_per_place: Number of anchors at each place of each level.
        box_key: Key of the boxes in a target.
        label_key: Key of the classes in a target.
    """

    quality: QualityRule
    matcher: Callable[..., Matches]
    weighting: AnchorWeighting
    quality_loss: nn.Module
    quality_reduction: str
    box_coder: BoxCoder
    anchors_per_place: Sequence[int]
    box_key: str
    label_key: str

    def match(
        self,
        anchors: Sequence[Float[Tensor, "anchors coords"]],
        targets: Sequence[Target],
        places: Sequence[int],
        predictions: tuple[Tensor, Tensor] | None = None,
    ) -> list[Matches]:
        """Match the anchors of each image with its lesions.

        Where a target has `"unlabelled"`, voxels that nobody has labelled, background centred
        there is ignored.

        A matcher with an attribute `uses_predictions` that is True is also given `pred_scores`,
        the predicted probability of each lesion's class at each anchor, and `pred_boxes`.

        Args:
            anchors: Anchors of each image in voxels, shape (N, 2 * ndim).
            targets: A target for each image.
            places: Places of each level.
            predictions: Logits (B, N, classes) and box codes (B, N, 2 * ndim), if there are any;
                nothing is learnt through them.

        Returns:
            Quality and lesion of N anchors for each image.

        Examples:
            >>> from softoverlap.for_monai import (
            ...     SoftRetinaNetDetector, lesion_retinanet, lesion_target,
            ... )
            >>> learning = SoftRetinaNetDetector(lesion_retinanet()).learning
            >>> learning.match([torch.rand(3, 6)], [lesion_target([])], [1])[0].index
            tensor([-1, -1, -1])
        """
        asks = predictions and getattr(self.matcher, "uses_predictions", False)
        seen = list(zip(*predictions, strict=True)) if predictions and asks else None
        alike = len(set(self.anchors_per_place)) == 1  # as every matcher understands
        per_place = self.anchors_per_place[0] if alike else self.anchors_per_place
        return [
            without_unlabelled(
                self.matcher(
                    self._quality(target, boxes),
                    target[self.box_key].to(boxes.device),
                    boxes,
                    num_locations_per_level=places,
                    num_anchors_per_loc=per_place,
                    **(self._predicted(*seen[image], target, boxes) if seen else {}),
                ),
                boxes,
                target.get("unlabelled"),
            )
            for image, (boxes, target) in enumerate(zip(anchors, targets, strict=True))
        ]

    def assigned(self, targets: Sequence[Target], matches: AnyMatches) -> list[Assignment]:
        """What the anchors of each image learn, and how much each of them counts."""
        return [
            assignment(
                match,
                target[self.label_key],
                target.get("lesions"),
                self.weighting,
                target.get("visible"),
            )
            for target, match in zip(targets, matches, strict=True)
        ]

    def fit_loss(
        self,
        logits: Float[Tensor, "batch anchors"],
        codes: Float[Tensor, "batch anchors coords"],
        targets: Sequence[Target],
        anchors: Sequence[Float[Tensor, "anchors coords"]],
        matches: AnyMatches,
    ) -> Float[Tensor, ""]:
        """Loss of the IoU-aware branch at the positive anchors; 0 without any, still attached.

        The logit of an anchor learns the quality of its predicted box for its lesion: the same
        overlap by which anchors are matched, without gradient.
        """
        assigned = self.assigned(targets, matches)
        wanted = [
            self._quality_of_positives(*image)
            for image in zip(codes.detach(), targets, anchors, assigned, strict=True)
        ]
        rows = [logit[image.rows] for logit, image in zip(logits, assigned, strict=True)]
        predicted = torch.cat(rows)[:, None]
        losses = self.quality_loss(predicted, torch.cat(wanted)[:, None].to(predicted))
        weights = predicted.new_ones(len(predicted))
        return reduce(losses, weights, self.quality_reduction, len(predicted))

    def _quality_of_positives(
        self, codes: Tensor, target: Target, anchors: Tensor, assigned: Assignment
    ) -> Float[Tensor, "positives"]:
        """Quality of the box that each positive anchor predicts, for its own lesion."""
        boxes = self.box_coder.decode_single(codes[assigned.rows], anchors[assigned.rows])
        columns = torch.arange(len(boxes), device=boxes.device)
        return self._quality(target, boxes)[assigned.served, columns].clamp(0, 1)

    def _quality(self, target: Target, boxes: Tensor) -> Float[Tensor, "lesions boxes"]:
        truth = target[self.box_key].to(boxes.device)
        return self.quality(truth, target.get("lesions"), boxes)

    def _predicted(
        self, logits: Tensor, codes: Tensor, target: Target, anchors: Tensor
    ) -> dict[str, Tensor]:
        """What a matcher that asks for predictions is given; decoding all anchors costs."""
        labels = target[self.label_key].to(logits.device)
        return {
            "pred_scores": logits.detach().sigmoid()[:, labels].t(),
            "pred_boxes": self.box_coder.decode_single(codes.detach(), anchors),
        }
