"""What the detector learns: anchors matched with lesions, and the loss of each branch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap.anchors import (
    AnchorOverlap,
    AnchorWeighting,
    AnchorWeights,
    Matches,
    anchor_quality,
)
from softoverlap.for_monai.detector.amodal import lesion_quality
from softoverlap.for_monai.detector.loss_terms import reduce
from softoverlap.for_monai.detector.ranking import split_codes
from softoverlap.for_monai.detector.samples import as_matches, box_losses, sampled_rows
from softoverlap.for_monai.detector.settings import DetectorSettings
from softoverlap.overlaps import BoxOverlap


class DetectorLosses(DetectorSettings):
    """MONAI's detector whose losses weigh each anchor by what it covers."""

    iou_branch: bool
    overlap: AnchorOverlap
    normalize: str | None
    weighting: AnchorWeighting

    def compute_loss(
        self,
        head_outputs_reshape: dict[str, Tensor],
        targets: list[dict[str, Any]],
        anchors: list[Tensor],
        num_anchor_locs_per_level: Sequence[int],
    ) -> dict[str, Tensor]:
        """The losses, in float32, each attached to both heads.

        Args:
            head_outputs_reshape: By key, logits (B, N, classes) and box codes (B, N, 2 * ndim),
                one number wider with an IoU-aware branch.
            targets: A target for each image.
            anchors: Anchors of each image in voxels, shape (N, 2 * ndim).
            num_anchor_locs_per_level: Places of each level.

        Returns:
            The losses by key, each of shape ().
        """
        logits, outputs = (head_outputs_reshape[key] for key in (self.cls_key, self.box_reg_key))
        codes, quality = split_codes(outputs, 2 * self.spatial_dims)
        with torch.autocast(logits.device.type, enabled=False):
            matches = self.match_anchors(
                anchors, targets, num_anchor_locs_per_level, predictions=(logits, codes)
            )
            weights = self._weights(targets, matches)
            losses = {
                self.cls_key: self.compute_cls_loss(logits, targets, matches, weights),
                self.box_reg_key: self.compute_box_loss(codes, targets, anchors, matches, weights),
            }
            if quality is not None:
                losses["box_quality"] = self.compute_quality_loss(
                    quality, codes, targets, anchors, matches
                )
            attached = logits.sum() * 0 + outputs.sum() * 0
            return {key: loss + attached for key, loss in losses.items()}

    def match_anchors(
        self,
        anchors: list[Tensor],
        targets: list[dict[str, Any]],
        num_anchor_locs_per_level: Sequence[int],
        *,
        predictions: tuple[Tensor, Tensor] | None = None,
    ) -> list[Matches]:
        """Match the anchors of each image with its lesions.

        A matcher with an attribute `uses_predictions` that is True is also given `pred_scores`,
        the predicted probability of each lesion's class at each anchor, and `pred_boxes`.

        Args:
            anchors: Anchors of each image in voxels, shape (N, 2 * ndim).
            targets: A target for each image.
            num_anchor_locs_per_level: Places of each level.
            predictions: Logits (B, N, classes) and box codes (B, N, 2 * ndim), if there are any;
                nothing is learnt through them.

        Returns:
            Quality and lesion of N anchors for each image.

        Examples:
            >>> from softoverlap.for_monai import (
            ...     SoftRetinaNetDetector, lesion_retinanet, lesion_target,
            ... )
            >>> detector = SoftRetinaNetDetector(lesion_retinanet())
            >>> matches = detector.match_anchors([torch.rand(3, 6)], [lesion_target([])], [1])
            >>> matches[0].index
            tensor([-1, -1, -1])
        """
        matched = []
        for image, (candidates, target) in enumerate(zip(anchors, targets, strict=True)):
            one = None if predictions is None else (predictions[0][image], predictions[1][image])
            matched.append(
                self.proposal_matcher(
                    self._quality(target, candidates),
                    target[self.target_box_key].to(candidates.device),
                    candidates,
                    num_locations_per_level=num_anchor_locs_per_level,
                    num_anchors_per_loc=self.num_anchors_per_loc,
                    **self._predicted(one, target, candidates),
                )
            )
        return matched

    def compute_anchor_matched_idxs(
        self,
        anchors: list[Tensor],
        targets: list[dict[str, Any]],
        num_anchor_locs_per_level: Sequence[int],
    ) -> list[Tensor]:
        """The lesion of each anchor alone, as MONAI returns it; see `match_anchors`.

        Args:
            anchors: Anchors of each image in voxels, shape (N, 2 * ndim).
            targets: A target for each image.
            num_anchor_locs_per_level: Places of each level.

        Returns:
            For each image int64 of shape (N,): lesion, -1 background, -2 ignore.
        """
        matches = self.match_anchors(anchors, targets, num_anchor_locs_per_level)
        return [match.index for match in matches]

    def compute_cls_loss(
        self,
        cls_logits: Float[Tensor, "batch anchors classes"],
        targets: list[dict[str, Any]],
        matched_idxs: Sequence[Tensor | Matches],
        weights: Sequence[AnchorWeights] | None = None,
    ) -> Float[Tensor, ""]:
        """Weighted classification loss of all anchors, or of those that the sampler picks.

        Args:
            cls_logits: Logits, shape (B, N, classes).
            targets: A target for each image.
            matched_idxs: Matches of each image, or indices alone: quality is then 1.
            weights: Of each image's anchors; by default what `weighting` makes of the matches.

        Returns:
            The loss, shape ().
        """
        matches = [as_matches(match) for match in matched_idxs]
        weights = self._weights(targets, matches) if weights is None else weights
        terms = [
            self._cls_terms(*image)
            for image in zip(cls_logits, targets, matches, weights, strict=True)
        ]
        logits, wanted, counted = (torch.cat(part) for part in zip(*terms, strict=True))
        losses = self.cls_loss_func(logits, wanted)
        return reduce(losses, counted, self.cls_reduction, (wanted > 0).any(dim=1).sum())

    def compute_box_loss(
        self,
        box_regression: Float[Tensor, "batch anchors coords"],
        targets: list[dict[str, Any]],
        anchors: list[Tensor],
        matched_idxs: Sequence[Tensor | Matches],
        weights: Sequence[AnchorWeights] | None = None,
    ) -> Float[Tensor, ""]:
        """Weighted regression loss of the positive anchors; 0 without any, and still attached.

        Args:
            box_regression: Box codes, shape (B, N, 2 * ndim).
            targets: A target for each image.
            anchors: Anchors of each image in voxels, shape (N, 2 * ndim).
            matched_idxs: Matches of each image, or indices alone: quality is then 1.
            weights: As in `compute_cls_loss`.

        Returns:
            The loss, shape ().
        """
        samples, matches = [], [as_matches(match) for match in matched_idxs]
        weights = self._weights(targets, matches) if weights is None else weights
        for code, target, candidates, match in zip(
            box_regression, targets, anchors, matches, strict=True
        ):
            boxes = self.get_box_train_sample_per_image(code, target, candidates, match.index)
            samples.append((*boxes, target, match.index[match.positive]))
        each = zip(weights, matches, strict=True)
        weight = torch.cat([image.box_weight[match.positive] for image, match in each])
        if not len(weight):
            return box_regression.sum() * 0
        losses = box_losses(self.box_loss_func, samples)
        return reduce(losses, weight, self.box_reduction, len(weight))

    def compute_quality_loss(
        self,
        quality_logits: Float[Tensor, "batch anchors"],
        box_regression: Float[Tensor, "batch anchors coords"],
        targets: list[dict[str, Any]],
        anchors: list[Tensor],
        matched_idxs: Sequence[Tensor | Matches],
    ) -> Float[Tensor, ""]:
        """Loss of the IoU-aware branch at the positive anchors; 0 without any, still attached.

        The logit of an anchor learns the quality of its predicted box for its lesion: the same
        overlap by which anchors are matched, without gradient.

        Args:
            quality_logits: Logits of the quality, shape (B, N).
            box_regression: Box codes, shape (B, N, 2 * ndim).
            targets: A target for each image.
            anchors: Anchors of each image in voxels, shape (N, 2 * ndim).
            matched_idxs: Matches of each image, or indices alone.

        Returns:
            The loss, shape ().
        """
        logits, wanted = [], []
        for logit, code, target, candidates, match in zip(
            quality_logits, box_regression, targets, anchors, matched_idxs, strict=True
        ):
            index = as_matches(match).index
            rows = (index >= 0).nonzero()[:, 0]
            boxes = self.box_coder.decode_single(code.detach()[rows], candidates[rows])
            places = torch.arange(len(rows), device=rows.device)
            logits.append(logit[rows])
            wanted.append(self._quality(target, boxes)[index[rows], places].clamp(0, 1))
        predicted = torch.cat(logits)[:, None]
        if not len(predicted):
            return quality_logits.sum() * 0
        losses = self.quality_loss_func(predicted, torch.cat(wanted)[:, None].to(predicted))
        weights = predicted.new_ones(len(predicted))
        return reduce(losses, weights, self.quality_reduction, len(predicted))

    def _predicted(
        self, predictions: tuple[Tensor, Tensor] | None, target: dict[str, Any], anchors: Tensor
    ) -> dict[str, Any]:
        """What a matcher that asks for predictions is given; decoding all anchors costs."""
        if predictions is None or not getattr(self.proposal_matcher, "uses_predictions", False):
            return {}
        logits, codes = (one.detach() for one in predictions)
        labels = target[self.target_label_key].to(logits.device)
        return {
            "pred_scores": logits.sigmoid()[:, labels].t(),
            "pred_boxes": self.box_coder.decode_single(codes, anchors),
        }

    def _quality(self, target: dict[str, Any], anchors: Tensor) -> Tensor:
        """Quality of the anchors for each lesion, shape (M, N)."""
        boxes = target[self.target_box_key].to(anchors.device)
        if target.get("lesions") is None:
            if isinstance(self.overlap, BoxOverlap):
                return anchor_quality(boxes, anchors, overlap=self.overlap, validate=False)
            return self.box_overlap_metric(boxes, anchors)
        return lesion_quality(
            target["lesions"], anchors, overlap=self.overlap, normalize=self.normalize
        )

    def _weights(
        self, targets: Sequence[dict[str, Any]], matches: Sequence[Matches]
    ) -> list[AnchorWeights]:
        """What the anchors of each image learn, and how much each of them counts."""
        weights = []
        for target, match in zip(targets, matches, strict=True):
            existence = [1.0] * len(target[self.target_box_key])
            if target.get("lesions") is not None:
                existence = [lesion.existence for lesion in target["lesions"]]
            weights.append(self.weighting(match, match.quality.new_tensor(existence)))
        return weights

    def _cls_terms(
        self, logits: Tensor, target: dict[str, Any], match: Matches, weights: AnchorWeights
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, targets and weights of the anchors of one image that count."""
        wanted = torch.zeros_like(logits)
        rows = match.positive.nonzero()[:, 0]
        labels = target[self.target_label_key].to(logits.device)[match.index[rows]]
        wanted[rows, labels] = weights.target[rows].to(wanted)
        chosen = sampled_rows(self.fg_bg_sampler, logits, match, weights.cls_weight)
        return logits[chosen], wanted[chosen], weights.cls_weight[chosen].to(logits)
