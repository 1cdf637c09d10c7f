"""MONAI's RetinaNet detector, trained on soft lesions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.utils.anchor_utils import AnchorGenerator
from monai.apps.detection.utils.box_selector import BoxSelector
from monai.apps.detection.utils.detector_utils import preprocess_images
from monai.apps.detection.utils.predict_utils import predict_with_inferer
from torch import Tensor, nn

from softoverlap.anchors import (
    AnchorOverlap,
    AnchorWeighting,
    ATSSMatcher,
    Matches,
    MaxOverlapMatcher,
    checked_overlap,
)
from softoverlap.for_monai.detector import loss_terms, parts, ranking
from softoverlap.for_monai.detector.learning import Learning, QualityRule, Target
from softoverlap.for_monai.detector.loss_terms import QualityFocal, check_coding, reduce, unreduced
from softoverlap.for_monai.detector.samples import AnyMatches, box_losses, classification_samples
from softoverlap.for_monai.detector.selection import FastBoxSelector
from softoverlap.for_monai.detector.targets import checked_images, checked_targets
from softoverlap.for_monai.detector.windows import AlignedWindowInferer, in_one_piece
from softoverlap.overlaps import box_iou, mask_box_dice


class SoftRetinaNetDetector(RetinaNetDetector):
    """MONAI's RetinaNet detector that learns from soft lesions, without torchvision.

    In training it takes a target for each image, `{"boxes": (M, 2 * ndim), "labels": (M,),
    "lesions": list[Lesion] | None}` and, if the field of view is not the whole image, a box
    `"visible"` (see `lesion_target`; `set_target_keys` renames the first two, of targets and
    detections), and returns a dict of losses. Anchors are matched by the overlap of their box with
    the lesions' soft masks, relative to the best that each lesion allows; without lesions, by that
    of boxes, which found more on phantoms (`docs/soft_anchors.md`). Empty images train too.

    A lesion that the patch cuts and whose box is whole (`crop_lesion(keep_box=True)`) is not
    punished for what the patch hides; see `docs/decisions/0007-amodal-boxes.md`.

    A network with an IoU-aware branch (`lesion_retinanet(iou_branch=True)`) also learns how well
    each positive anchor's predicted box fits, as a third loss `"box_quality"`.

    MONAI's methods stay; both matchers are this package's. Losses are weighted per anchor, so they
    need an attribute `reduction`: `"mean"` becomes the weighted mean, `"positives"` divides by the
    number of positive anchors, and with `"sum"` gradients of half batches add up to the whole's.

    Args:
        network: The network, for instance of `lesion_retinanet`.
        anchor_generator: Its anchors; by default `network.anchor_generator`.
        box_overlap_metric: Overlap of boxes (pairwise), for targets without lesions and for NMS.
        spatial_dims, num_classes, size_divisible, cls_key, box_reg_key, debug: As in MONAI.
        overlap: Between soft mask and anchor, or its name, as in `anchor_quality`.
        normalize: `"best"` for the overlap relative to the lesion's best, None for the overlap.
        matcher: Which anchor serves which lesion; by default `ATSSMatcher()`.
        weighting: From quality to targets and weights; by default `AnchorWeighting()`, each 1.
        score: What ranks detections: `"cls"`, the probability p of the class; `"product"`, p times
            the predicted quality q of the box; `"geometric"`, the root of that product, which
            ranks alike and stays on the scale of p. By default `"geometric"` for a network with an
            IoU-aware branch and `"cls"` for others.

    Raises:
        ValueError: If there are no anchors, or an argument is out of range.

    References:
        Zhang et al., VarifocalNet, https://arxiv.org/abs/2008.13367

    Examples:
        >>> import torch
        >>> from softoverlap.for_monai import lesion_retinanet
        >>> detector = SoftRetinaNetDetector(lesion_retinanet()).eval()
        >>> with torch.no_grad():
        ...     detections = detector(torch.zeros(1, 1, 16, 16, 16))
        >>> sorted(detections[0])
        ['boxes', 'labels', 'labels_scores']
        >>> detector.set_cls_loss(torch.nn.BCEWithLogitsLoss(reduction="mean"))
        >>> detector.set_box_regression_loss(torch.nn.L1Loss(), encode_gt=True, decode_pred=False)
        >>> detector.set_box_quality_loss(torch.nn.BCEWithLogitsLoss(reduction="sum"))
        >>> detector.set_regular_matcher(0.5, 0.4)
        >>> detector.set_atss_matcher(num_candidates=9)
        >>> detector.set_sliding_window_inferer(48, overlap=0.25)
        >>> detector.set_box_selector_parameters(nms_thresh=0.1)
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
        overlap: AnchorOverlap | str = mask_box_dice,
        normalize: str | None = "best",
        matcher: Callable[..., Matches] | None = None,
        weighting: AnchorWeighting | None = None,
        score: str | None = None,
    ) -> None:
        generator = parts.anchors_of(network) if anchor_generator is None else anchor_generator
        super().__init__(
            network, generator, box_overlap_metric, spatial_dims, num_classes, size_divisible,
            cls_key, box_reg_key, debug,
        )  # fmt: skip
        self.anchors_per_place = tuple(generator.num_anchors_per_location())
        self.num_anchors_per_loc = parts.common_count(self.anchors_per_place)
        self.iou_branch = bool(getattr(network, "iou_branch", False))
        self.score = ranking.score_name(score, self.iou_branch)
        overlap = checked_overlap(overlap, normalize)
        self.quality = QualityRule(overlap, normalize, box_overlap_metric)
        self.proposal_matcher = parts.given_or_default("matcher", matcher, ATSSMatcher())
        self.weighting = parts.given_or_default("weighting", weighting, AnchorWeighting())
        self.set_cls_loss(QualityFocal())
        self.set_box_quality_loss(nn.BCEWithLogitsLoss())
        self.set_box_selector_parameters()

    def set_cls_loss(self, cls_loss: nn.Module) -> None:
        """Set the classification loss, of logits and targets of shape (N, classes)."""
        self.cls_loss_func, self.cls_reduction = unreduced("cls_loss", cls_loss)

    def set_box_regression_loss(
        self, box_loss: nn.Module, encode_gt: bool, decode_pred: bool
    ) -> None:
        """Set the regression loss, of boxes or of their codes, shape (N, 2 * ndim).

        A loss with `takes_masks`, such as `MaskBoxDiceLoss`, is called with soft masks in place of
        true boxes, and with `best`, the highest overlap that any box can reach; all targets must
        have lesions. One with `takes_field`, such as `AmodalBoxLoss`, is called with `visible`.

        Raises:
            TypeError: If the loss has no `reduction`.
            ValueError: If its `reduction` is another one, or a loss that takes masks or boxes
                would be given codes.
        """
        loss, self.box_reduction = unreduced("box_loss", box_loss)
        check_coding(loss, encode_gt, decode_pred)
        super().set_box_regression_loss(loss, encode_gt, decode_pred)

    def set_box_quality_loss(self, quality_loss: nn.Module) -> None:
        """Set the loss of the IoU-aware branch, of logits and targets in [0, 1], shape (N, 1)."""
        self.quality_loss_func, self.quality_reduction = unreduced("quality_loss", quality_loss)

    def set_regular_matcher(
        self, fg_iou_thresh: float, bg_iou_thresh: float, allow_low_quality_matches: bool = True
    ) -> None:
        """Match by thresholds on the quality, with `MaxOverlapMatcher`."""
        self.proposal_matcher = MaxOverlapMatcher(
            bg_iou_thresh, fg_iou_thresh, allow_low_quality_matches=allow_low_quality_matches
        )

    def set_atss_matcher(self, num_candidates: int = 4, center_in_gt: bool = False) -> None:
        """Match by adaptive training sample selection, with `ATSSMatcher`."""
        self.proposal_matcher = ATSSMatcher(num_candidates, center_in_gt=center_in_gt)

    def set_sliding_window_inferer(
        self, roi_size: Sequence[int] | int, *args: Any, **kwargs: Any
    ) -> None:
        """Detect window by window, with `AlignedWindowInferer`, which takes these arguments."""
        stride = self.size_divisible
        self.inferer = AlignedWindowInferer(roi_size, *args, size_divisible=stride, **kwargs)

    def set_box_selector_parameters(
        self,
        score_thresh: float | int = 0.05,
        topk_candidates_per_level: int = 1000,
        nms_thresh: float | int = 0.5,
        detections_per_img: int = 300,
        apply_sigmoid: bool = True,
    ) -> None:
        """Set which boxes become detections."""
        kind = FastBoxSelector if self.box_overlap_metric is box_iou else BoxSelector
        self.box_selector = kind(
            self.box_overlap_metric, apply_sigmoid, score_thresh, topk_candidates_per_level,
            nms_thresh, detections_per_img,
        )  # fmt: skip

    def forward(
        self,
        input_images: list[Tensor] | Tensor,
        targets: list[Target] | None = None,
        use_inferer: bool = False,
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """The losses in training, the detections in evaluation.

        Args:
            input_images: Images, shape (B, C, *spatial), or a list of images (C, *spatial_i).
            targets: In training a target for each image; not used in evaluation.
            use_inferer: In evaluation, go window by window (`set_sliding_window_inferer`).

        Returns:
            In training the losses, each of shape (): `"classification"`, `"box_regression"`, and
            with an IoU-aware branch `"box_quality"`. In evaluation for each image its boxes in
            voxels, shape (P, 2 * ndim), labels, shape (P,), and scores in [0, 1], shape (P,), by
            falling score.

        Raises:
            TypeError: If a target's tensors or lesions are of another type.
            ValueError: If a shape is wrong, a target does not fit, or an image or the network's
                output holds NaN or infinite values.

        Examples:
            >>> from softoverlap.for_monai import lesion_retinanet, lesion_target
            >>> detector = SoftRetinaNetDetector(lesion_retinanet())
            >>> losses = detector(torch.zeros(1, 1, 16, 16, 16), [lesion_target([])])
            >>> sorted(losses)
            ['box_regression', 'classification']
        """
        images = checked_images(input_images)
        if self.training:
            keys = self.target_box_key, self.target_label_key
            targets = checked_targets(targets, images, keys, self.num_classes, self.spatial_dims)
        return super().forward(images, targets, use_inferer)

    def detect_with_score_maps(
        self, input_images: list[Tensor] | Tensor, use_inferer: bool = False
    ) -> tuple[list[dict[str, Tensor]], list[Float[Tensor, "batch 1 *places"]]]:
        """The detections, and from the same pass of the network the highest score at each place.

        Returns:
            The detections of each image, and for each level the highest score of any anchor and
            class, in [0, 1], shape (B, 1, *places); images are padded at their end.

        Examples:
            >>> from softoverlap.for_monai import lesion_retinanet
            >>> detector = SoftRetinaNetDetector(lesion_retinanet())
            >>> _, levels = detector.detect_with_score_maps(torch.zeros(1, 1, 16, 16, 16))
            >>> [tuple(level.shape) for level in levels]
            [(1, 1, 4, 4, 4), (1, 1, 2, 2, 2)]
        """
        images = checked_images(input_images)
        images, sizes = preprocess_images(images, self.spatial_dims, self.size_divisible)
        inferer: Any = self.inferer if use_inferer else in_one_piece
        maps = predict_with_inferer(images, self.network, [self.cls_key, self.box_reg_key], inferer)
        self.generate_anchors(images, maps)
        outputs = {key: self._reshape_maps(levels) for key, levels in maps.items()}
        grids = [level.shape[2:] for level in maps[self.cls_key]]
        places = [grid.numel() for grid in grids]
        detections = self.postprocess_detections(outputs, self.anchors or [], sizes, places)
        logits, _, quality = self._parts(outputs)
        p = logits.sigmoid() if self.box_selector.apply_sigmoid else logits
        best = ranking.ranking_score(p, quality, self.score).amax(dim=2)
        return detections, ranking.score_maps(best, grids, self.anchors_per_place)

    def generate_anchors(self, images: Tensor, head_outputs: dict[str, list[Tensor]]) -> None:
        """Keep the anchors while shape and device stay; MONAI forgets the device."""
        device = head_outputs[self.cls_key][0].device
        if self.anchors is not None and self.anchors[0].device != device:
            self.anchors = None
        super().generate_anchors(images, head_outputs)

    def postprocess_detections(
        self,
        head_outputs_reshape: dict[str, Tensor],
        anchors: list[Tensor],
        image_sizes: list[list[int]],
        num_anchor_locs_per_level: Sequence[int],
        need_sigmoid: bool = True,
    ) -> list[dict[str, Tensor]]:
        """Detections of each image, ranked as `score` says."""
        logits, codes, quality = self._parts(head_outputs_reshape)
        raw = self.box_selector.apply_sigmoid
        logits = ranking.ranking_logits(logits, quality, score=self.score, are_logits=raw)
        outputs = {self.cls_key: logits, self.box_reg_key: codes}
        places = parts.as_places(num_anchor_locs_per_level, self.anchors_per_place)
        return super().postprocess_detections(outputs, anchors, image_sizes, places, need_sigmoid)

    @property
    def learning(self) -> Learning:
        """How anchors learn, by the settings of the moment."""
        return Learning(
            self.quality, self.proposal_matcher, self.weighting, self.quality_loss_func,
            self.quality_reduction, self.box_coder, self.anchors_per_place,
            self.target_box_key, self.target_label_key,
        )  # fmt: skip

    def compute_loss(
        self,
        head_outputs_reshape: dict[str, Tensor],
        targets: list[Target],
        anchors: list[Tensor],
        num_anchor_locs_per_level: Sequence[int],
    ) -> dict[str, Tensor]:
        """The losses by key, in float32, each attached to both heads."""
        logits, codes, quality = self._parts(head_outputs_reshape)
        with torch.autocast(logits.device.type, enabled=False):
            learning = self.learning
            matches = learning.match(anchors, targets, num_anchor_locs_per_level, (logits, codes))
            assigned = learning.assigned(targets, matches)
            losses = {
                self.cls_key: self.compute_cls_loss(logits, targets, assigned),
                self.box_reg_key: self.compute_box_loss(codes, targets, anchors, assigned),
            }
            if quality is not None:
                branch = quality, codes, targets, anchors, assigned
                losses["box_quality"] = learning.fit_loss(*branch)
            return loss_terms.attached(losses, logits, head_outputs_reshape[self.box_reg_key])

    def compute_anchor_matched_idxs(
        self, anchors: list[Tensor], targets: list[Target], num_anchor_locs_per_level: Sequence[int]
    ) -> list[Tensor]:
        """The lesion of each anchor, -1 for background, -2 to ignore it; see `Learning.match`."""
        matches = self.learning.match(anchors, targets, num_anchor_locs_per_level)
        return [match.index for match in matches]

    def compute_cls_loss(
        self,
        cls_logits: Float[Tensor, "batch anchors classes"],
        targets: list[Target],
        matched_idxs: AnyMatches,
    ) -> Float[Tensor, ""]:
        """Weighted classification loss of all anchors, or of those that the sampler picks."""
        logits, wanted, weights = classification_samples(
            cls_logits, self.learning.assigned(targets, matched_idxs), self.fg_bg_sampler
        )
        losses = self.cls_loss_func(logits, wanted)
        return reduce(losses, weights, self.cls_reduction, (wanted > 0).any(dim=1).sum())

    def compute_box_loss(
        self,
        box_regression: Float[Tensor, "batch anchors coords"],
        targets: list[Target],
        anchors: list[Tensor],
        matched_idxs: AnyMatches,
    ) -> Float[Tensor, ""]:
        """Weighted regression loss of the positive anchors; 0 without any, and still attached."""
        assigned = self.learning.assigned(targets, matched_idxs)
        indices = [image.index for image in assigned]
        pairs = map(self.get_box_train_sample_per_image, box_regression, targets, anchors, indices)
        losses, weight = box_losses(self.box_loss_func, zip(pairs, assigned, strict=True))
        return reduce(losses, weight, self.box_reduction, len(weight))

    def _parts(self, outputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Class logits, box codes, and the logits of the quality if there are any."""
        codes, quality = ranking.split_codes(outputs[self.box_reg_key], 2 * self.spatial_dims)
        return outputs[self.cls_key], codes, quality

    def _reshape_maps(self, result_maps: list[Tensor]) -> Tensor:
        """All levels behind each other in float32; NaN is an error in evaluation too."""
        return ranking.in_rows(ranking.finite_maps(result_maps), self.anchors_per_place)
