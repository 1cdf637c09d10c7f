"""MONAI's RetinaNet detector, trained on soft lesions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from monai.apps.detection.utils.anchor_utils import AnchorGenerator
from monai.apps.detection.utils.hard_negative_sampler import HardNegativeSampler
from torch import Tensor, nn

from softoverlap._checks import check_choice
from softoverlap._types import plain
from softoverlap.anchors import (
    AnchorWeighting,
    AnchorWeights,
    ATSSMatcher,
    Matches,
    anchor_quality,
)
from softoverlap.anchors.best import tversky_weights
from softoverlap.detection.loss_terms import QualityFocal, reduce
from softoverlap.detection.settings import DetectorSettings
from softoverlap.detection.targets import checked_images, checked_targets
from softoverlap.overlaps import box_iou


class SoftRetinaNetDetector(DetectorSettings):
    """MONAI's RetinaNet detector that learns from soft lesions, without torchvision.

    In training it takes a target for each image: `{"box": (M, 2 * ndim), "label": (M,),
    "lesions": list[Lesion] | None}` (see `lesion_target`) and returns a dict of two losses. Anchors
    are matched and weighted by the overlap of their box with the lesions' soft masks, relative to
    the best overlap that each lesion allows; where `"lesions"` is None, by the overlap of boxes.
    Images without lesions train too: every loss stays attached to both heads.

    In evaluation it returns a dict of `"box"`, `"label"` and `"label_scores"` for each image.

    MONAI's `set_*` methods stay: its losses are weighted per anchor (`reduction="mean"` becomes
    the weighted mean), both matchers are this package's and need no torchvision.

    Args:
        network: The network, for instance of `lesion_retinanet`.
        anchor_generator: Its anchors; by default `network.anchor_generator`.
        box_overlap_metric: Overlap of boxes (pairwise), for targets without lesions and for NMS.
        spatial_dims: As in MONAI: if the network does not tell.
        num_classes: As in MONAI: if the network does not tell.
        size_divisible: As in MONAI: if the network does not tell.
        cls_key: As in MONAI: if the network does not tell.
        box_reg_key: As in MONAI: if the network does not tell.
        debug: As in MONAI.
        overlap: `"dice"`, `"iou"` or `"tversky"` between soft mask and anchor.
        normalize: `"best"` for the overlap relative to the lesion's best, None for the overlap.
        alpha: Tversky's weight of the anchor outside the mask.
        beta: Tversky's weight of the mask outside the anchor.
        matcher: Which anchor serves which lesion; by default `ATSSMatcher()`.
        weighting: From quality to targets and weights; by default `AnchorWeighting()`.

    Raises:
        ValueError: If there are no anchors, or an argument is out of range.

    References:
        Lin et al., Focal loss for dense object detection, https://arxiv.org/abs/1708.02002
        Zhang et al., VarifocalNet, https://arxiv.org/abs/2008.13367

    Examples:
        >>> import torch
        >>> from softoverlap.detection import lesion_retinanet
        >>> detector = SoftRetinaNetDetector(lesion_retinanet()).eval()
        >>> with torch.no_grad():
        ...     found = detector(torch.zeros(1, 1, 16, 16, 16))
        >>> sorted(found[0])
        ['box', 'label', 'label_scores']
    """

    def __init__(
        self,
        network: nn.Module,
        anchor_generator: AnchorGenerator | None = None,
        box_overlap_metric: Callable[..., Any] = box_iou,
        spatial_dims: int | None = None,
        num_classes: int | None = None,
        size_divisible: Sequence[int] | int = 1,
        cls_key: str = "classification",
        box_reg_key: str = "box_regression",
        debug: bool = False,
        *,
        overlap: str = "dice",
        normalize: str | None = "best",
        alpha: float = 0.5,
        beta: float = 0.5,
        matcher: Callable[..., Matches] | None = None,
        weighting: AnchorWeighting | None = None,
    ) -> None:
        tversky_weights(overlap, alpha, beta)
        check_choice("normalize", normalize, ("best", None))
        super().__init__(
            network,
            _anchors_of(network) if anchor_generator is None else anchor_generator,
            box_overlap_metric,
            spatial_dims,
            num_classes,
            size_divisible,
            cls_key,
            box_reg_key,
            debug,
        )
        self.quality_options: dict[str, Any] = {
            "overlap": overlap,
            "normalize": normalize,
            "alpha": alpha,
            "beta": beta,
        }
        self.proposal_matcher = ATSSMatcher() if matcher is None else matcher
        self.weighting = AnchorWeighting() if weighting is None else weighting
        self.set_target_keys("box", "label")
        self.set_cls_loss(QualityFocal())
        self.set_box_selector_parameters()

    def forward(
        self,
        input_images: list[Tensor] | Tensor,
        targets: list[dict[str, Any]] | None = None,
        use_inferer: bool = False,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """The losses in training, the detections in evaluation.

        Args:
            input_images: Images, shape (B, C, *spatial), or a list of images (C, *spatial_i).
            targets: In training a target for each image; not used in evaluation.
            use_inferer: In evaluation, go window by window (`set_sliding_window_inferer`).

        Returns:
            In training the losses, each of shape (): `"classification"`, `"box_regression"`. In
            evaluation for each image its boxes in voxels, shape (P, 2 * ndim), labels, shape (P,),
            and scores in [0, 1], shape (P,), by falling score.

        Raises:
            TypeError: If a target's tensors or lesions are of another type.
            ValueError: If a shape is wrong, a target does not fit, or an image or the network's
                output holds NaN or infinite values.

        Examples:
            >>> from softoverlap.detection import lesion_retinanet, lesion_target
            >>> detector = SoftRetinaNetDetector(lesion_retinanet())
            >>> losses = detector(torch.zeros(1, 1, 16, 16, 16), [lesion_target([])])
            >>> sorted(losses)
            ['box_regression', 'classification']
        """
        images = checked_images(input_images)
        if self.training:
            targets = checked_targets(
                targets,
                len(images),
                keys=(self.target_box_key, self.target_label_key),
                num_classes=self.num_classes,
                spatial_dims=self.spatial_dims,
                device=images[0].device,
            )
        return super().forward(images, targets, use_inferer)

    def generate_anchors(self, images: Tensor, head_outputs: dict[str, list[Tensor]]) -> None:
        """Keep the anchors while shape and device stay (MONAI forgets the device).

        Args:
            images: Images, shape (B, C, *spatial).
            head_outputs: Maps of the network, a list of levels by key.
        """
        device = head_outputs[self.cls_key][0].device
        if self.anchors is not None and self.anchors[0].device != device:
            self.anchors = None
        super().generate_anchors(images, head_outputs)

    def compute_loss(
        self,
        head_outputs_reshape: dict[str, Tensor],
        targets: list[dict[str, Any]],
        anchors: list[Tensor],
        num_anchor_locs_per_level: Sequence[int],
    ) -> dict[str, Tensor]:
        """Both losses, in float32, each attached to both heads.

        Args:
            head_outputs_reshape: Logits (B, N, classes) and box codes (B, N, 2 * ndim) by key.
            targets: A target for each image.
            anchors: Anchors of each image in voxels, shape (N, 2 * ndim).
            num_anchor_locs_per_level: Places of each level.

        Returns:
            The losses by key, each of shape ().
        """
        logits, codes = (head_outputs_reshape[key] for key in (self.cls_key, self.box_reg_key))
        with torch.autocast(logits.device.type, enabled=False):
            matches = self.match_anchors(anchors, targets, num_anchor_locs_per_level)
            attached = logits.sum() * 0 + codes.sum() * 0
            return {
                self.cls_key: self.compute_cls_loss(logits, targets, matches) + attached,
                self.box_reg_key: self.compute_box_loss(codes, targets, anchors, matches)
                + attached,
            }

    def match_anchors(
        self,
        anchors: list[Tensor],
        targets: list[dict[str, Any]],
        num_anchor_locs_per_level: Sequence[int],
    ) -> list[Matches]:
        """Match the anchors of each image with its lesions.

        Args:
            anchors: Anchors of each image in voxels, shape (N, 2 * ndim).
            targets: A target for each image.
            num_anchor_locs_per_level: Places of each level.

        Returns:
            Quality and lesion of N anchors for each image.

        Examples:
            >>> from softoverlap.detection import lesion_retinanet, lesion_target
            >>> detector = SoftRetinaNetDetector(lesion_retinanet())
            >>> matches = detector.match_anchors([torch.rand(3, 6)], [lesion_target([])], [1])
            >>> matches[0].index
            tensor([-1, -1, -1])
        """
        return [
            self.proposal_matcher(
                self._quality(target, candidates),
                target[self.target_box_key].to(candidates.device),
                candidates,
                num_locations_per_level=num_anchor_locs_per_level,
                num_anchors_per_loc=self.num_anchors_per_loc,
            )
            for candidates, target in zip(anchors, targets, strict=True)
        ]

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
    ) -> Float[Tensor, ""]:
        """Weighted classification loss of all anchors, or of those that the sampler picks.

        Args:
            cls_logits: Logits, shape (B, N, classes).
            targets: A target for each image.
            matched_idxs: Matches of each image, or indices alone: quality is then 1.

        Returns:
            The loss, shape ().
        """
        terms = [
            self._cls_terms(logits, target, _as_matches(match))
            for logits, target, match in zip(cls_logits, targets, matched_idxs, strict=True)
        ]
        logits, wanted, weights = (torch.cat(part) for part in zip(*terms, strict=True))
        losses = self.cls_loss_func(logits, wanted)
        return reduce(losses, weights, self.cls_reduction, (wanted > 0).any(dim=1).sum())

    def compute_box_loss(
        self,
        box_regression: Float[Tensor, "batch anchors coords"],
        targets: list[dict[str, Any]],
        anchors: list[Tensor],
        matched_idxs: Sequence[Tensor | Matches],
    ) -> Float[Tensor, ""]:
        """Weighted regression loss of the positive anchors; 0 without any, and still attached.

        Args:
            box_regression: Box codes, shape (B, N, 2 * ndim).
            targets: A target for each image.
            anchors: Anchors of each image in voxels, shape (N, 2 * ndim).
            matched_idxs: Matches of each image, or indices alone: quality is then 1.

        Returns:
            The loss, shape ().
        """
        codes, wanted, weights = [], [], []
        for code, target, candidates, match in zip(
            box_regression, targets, anchors, map(_as_matches, matched_idxs), strict=True
        ):
            sample = self.get_box_train_sample_per_image(code, target, candidates, match.index)
            codes.append(sample[0])
            wanted.append(sample[1])
            weights.append(self._weights(match, target).box_weight[match.positive])
        predicted, weight = torch.cat(codes), torch.cat(weights)
        if not len(predicted):
            return box_regression.sum() * 0
        losses = self.box_loss_func(predicted, torch.cat(wanted).to(predicted))
        losses = losses.reshape(len(predicted), -1)  # GIoU has one number a box, L1 one a side
        return reduce(losses, weight, self.box_reduction, len(weight))

    def _quality(self, target: dict[str, Any], anchors: Tensor) -> Tensor:
        """Quality of the anchors for each lesion, shape (M, N)."""
        boxes = target[self.target_box_key].to(anchors.device)
        if target.get("lesions") is None:
            return self.box_overlap_metric(boxes, anchors)
        return anchor_quality(target["lesions"], anchors, validate=False, **self.quality_options)

    def _weights(self, match: Matches, target: dict[str, Any]) -> AnchorWeights:
        lesions = target.get("lesions")
        if lesions is None:
            existence = match.quality.new_ones(len(target[self.target_box_key]))
        else:
            existence = match.quality.new_tensor([lesion.existence for lesion in lesions])
        return self.weighting(match, existence)

    def _cls_terms(
        self, logits: Tensor, target: dict[str, Any], match: Matches
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, targets and weights of the anchors of one image that count."""
        weights = self._weights(match, target)
        wanted = torch.zeros_like(logits)
        rows = match.positive.nonzero()[:, 0]
        labels = target[self.target_label_key].to(logits.device)[match.index[rows]]
        wanted[rows, labels] = weights.target[rows].to(wanted)
        chosen = self._sample(logits, match)
        return logits[chosen], wanted[chosen], weights.cls_weight[chosen].to(logits)

    def _sample(self, logits: Tensor, match: Matches) -> Tensor:
        """Rows of the anchors that the sampler picks; without one, all that are not ignored."""
        if self.fg_bg_sampler is None:
            return (match.index != -2).nonzero()[:, 0]
        labels = [match.index + 1]  # as MONAI: -1 ignored, 0 background, from 1 on positive
        if isinstance(self.fg_bg_sampler, HardNegativeSampler):
            positive, negative = self.fg_bg_sampler(labels, logits.amax(dim=1).detach())
        else:
            positive, negative = self.fg_bg_sampler(labels)
        return torch.cat([torch.where(positive[0])[0], torch.where(negative[0])[0]])

    def _reshape_maps(self, result_maps: list[Tensor]) -> Tensor:
        """All levels behind each other in float32; NaN is an error in evaluation too."""
        maps = [plain(level).float().contiguous() for level in result_maps]
        if not all(bool(torch.isfinite(level).all()) for level in maps):
            raise ValueError(
                "network must return finite values, got NaN or infinity: "
                "has the training diverged, or does its checkpoint hold NaN?"
            )
        return super()._reshape_maps(maps)


def _anchors_of(network: nn.Module) -> AnchorGenerator:
    generator = getattr(network, "anchor_generator", None)
    if not isinstance(generator, AnchorGenerator):
        raise ValueError(
            "anchor_generator must be given where the network has no `anchor_generator`, got None"
        )
    return generator


def _as_matches(match: Tensor | Matches) -> Matches:
    """Indices alone mean quality 1."""
    return match if isinstance(match, Matches) else Matches((match >= 0).float(), match)
