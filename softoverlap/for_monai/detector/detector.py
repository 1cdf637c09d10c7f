"""MONAI's RetinaNet detector, trained on soft lesions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from monai.apps.detection.utils.anchor_utils import AnchorGenerator
from torch import Tensor, nn

from softoverlap._types import plain
from softoverlap.anchors import (
    AnchorOverlap,
    AnchorWeighting,
    ATSSMatcher,
    Matches,
    checked_overlap,
)
from softoverlap.for_monai.detector.learning import DetectorLosses
from softoverlap.for_monai.detector.loss_terms import QualityFocal
from softoverlap.for_monai.detector.ranking import (
    ranking_logits,
    ranking_score,
    score_name,
    split_codes,
)
from softoverlap.for_monai.detector.targets import checked_images, checked_targets
from softoverlap.overlaps import box_iou, mask_box_dice


class SoftRetinaNetDetector(DetectorLosses):
    """MONAI's RetinaNet detector that learns from soft lesions, without torchvision.

    In training it takes a target for each image: `{"box": (M, 2 * ndim), "label": (M,),
    "lesions": list[Lesion] | None}` (see `lesion_target`) and returns a dict of losses. Anchors
    are matched and weighted by the overlap of their box with the lesions' soft masks, relative to
    the best overlap that each lesion allows; where `"lesions"` is None, by the overlap of boxes.
    Images without lesions train too: every loss stays attached to both heads.

    A lesion that the patch cuts and whose box is whole (`crop_lesion(keep_box=True)`) is not
    punished for what the patch hides; see `docs/decisions/0007-amodal-boxes.md`.

    A network with an IoU-aware branch (`lesion_retinanet(iou_branch=True)`) also learns how well
    each positive anchor's predicted box fits, as a third loss `"box_quality"`.

    In evaluation it returns a dict of `"box"`, `"label"` and `"label_scores"` for each image.

    MONAI's `set_*` methods stay: its losses are weighted per anchor (`reduction="mean"` becomes
    the weighted mean), both matchers are this package's and need no torchvision. With
    `reduction="sum"` the gradients of half batches add up to that of the whole; the other
    reductions divide by the positives or the weights of their own batch.

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
        overlap: Between soft mask and anchor, or its name, as in `anchor_quality`.
        normalize: `"best"` for the overlap relative to the lesion's best, None for the overlap.
        matcher: Which anchor serves which lesion; by default `ATSSMatcher()`.
        weighting: From quality to targets and weights; by default `AnchorWeighting()`.
        score: What ranks detections: `"cls"`, the probability p of the class; `"product"`, p times
            the predicted quality q of the box; `"geometric"`, the root of that product, which
            ranks alike and stays on the scale of p. By default `"geometric"` for a network with an
            IoU-aware branch and `"cls"` for others.

    Raises:
        ValueError: If there are no anchors, or an argument is out of range.

    References:
        Lin et al., Focal loss for dense object detection, https://arxiv.org/abs/1708.02002
        Zhang et al., VarifocalNet, https://arxiv.org/abs/2008.13367
        Wu et al., IoU-aware single-stage object detector, https://arxiv.org/abs/1912.05992

    Examples:
        >>> import torch
        >>> from softoverlap.for_monai import lesion_retinanet
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
        overlap: AnchorOverlap | str = mask_box_dice,
        normalize: str | None = "best",
        matcher: Callable[..., Matches] | None = None,
        weighting: AnchorWeighting | None = None,
        score: str | None = None,
    ) -> None:
        iou_branch = bool(getattr(network, "iou_branch", False))
        ranked_by = score_name(score, iou_branch)
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
        self.overlap, self.normalize = checked_overlap(overlap, normalize), normalize
        self.proposal_matcher = _instance("matcher", matcher, ATSSMatcher())
        self.weighting = _instance("weighting", weighting, AnchorWeighting())
        self.iou_branch, self.score = iou_branch, ranked_by
        self.set_target_keys("box", "label")
        self.set_cls_loss(QualityFocal())
        self.set_box_quality_loss(nn.BCEWithLogitsLoss())
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

    def postprocess_detections(
        self,
        head_outputs_reshape: dict[str, Tensor],
        anchors: list[Tensor],
        image_sizes: list[list[int]],
        num_anchor_locs_per_level: Sequence[int],
        need_sigmoid: bool = True,
    ) -> list[dict[str, Tensor]]:
        """Detections of each image, ranked as `score` says.

        Args:
            head_outputs_reshape: Logits and box codes by key, as in `compute_loss`.
            anchors: Anchors of each image in voxels, shape (N, 2 * ndim).
            image_sizes: Voxels of each image before it was padded.
            num_anchor_locs_per_level: Places of each level.
            need_sigmoid: Not used, in MONAI either.

        Returns:
            Boxes, scores and labels of each image.
        """
        codes, quality = split_codes(head_outputs_reshape[self.box_reg_key], 2 * self.spatial_dims)
        logits = ranking_logits(
            head_outputs_reshape[self.cls_key],
            quality,
            score=self.score,
            are_logits=self.box_selector.apply_sigmoid,
        )
        outputs = {self.cls_key: logits, self.box_reg_key: codes}
        return super().postprocess_detections(
            outputs, anchors, image_sizes, num_anchor_locs_per_level, need_sigmoid
        )

    def score_map(
        self,
        logits: Shaped[Tensor, "batch classes_of_anchors *places"],
        codes: Shaped[Tensor, "batch codes_of_anchors *places"],
    ) -> Float[Tensor, "batch 1 *places"]:
        """The highest ranking score of any anchor and class at each place of a level.

        Args:
            logits: Class logits of one level, shape (B, anchors * classes, *places).
            codes: Output of the box head, shape (B, anchors * channels, *places).

        Returns:
            Scores in [0, 1], shape (B, 1, *places).

        Examples:
            >>> import torch
            >>> from softoverlap.for_monai import lesion_retinanet
            >>> network = lesion_retinanet()
            >>> logits, codes = torch.zeros(1, 3, 2, 2, 2), torch.zeros(1, 18, 2, 2, 2)
            >>> SoftRetinaNetDetector(network).score_map(logits, codes).unique()
            tensor([0.5000])
        """
        p, outputs = self._reshape_maps([logits]), self._reshape_maps([codes])
        p = p.sigmoid() if self.box_selector.apply_sigmoid else p
        _, quality = split_codes(outputs, 2 * self.spatial_dims)
        q = None if quality is None else quality.sigmoid()
        best = ranking_score(p, q, self.score).amax(dim=2)
        return best.view(len(p), *logits.shape[2:], -1).amax(dim=-1)[:, None]

    def _reshape_maps(self, result_maps: list[Tensor]) -> Tensor:
        """All levels behind each other in float32; NaN is an error in evaluation too."""
        maps = [plain(level).float().contiguous() for level in result_maps]
        if not all(bool(torch.isfinite(level).all()) for level in maps):
            raise ValueError(
                "network must return finite values, got NaN or infinity: "
                "has the training diverged, or does its checkpoint hold NaN?"
            )
        return super()._reshape_maps(maps)


def _instance(name: str, given: Any, default: Any) -> Any:
    """What was given, if it can be called; a class is not yet made, and a name is none."""
    if given is None:
        return default
    if isinstance(given, type) or not callable(given):
        raise TypeError(
            f"{name} must be an object such as {type(default).__name__}(), got {given!r}"
        )
    return given


def _anchors_of(network: nn.Module) -> AnchorGenerator:
    generator = getattr(network, "anchor_generator", None)
    if not isinstance(generator, AnchorGenerator):
        raise ValueError(
            "anchor_generator must be given where the network has no `anchor_generator`, got None"
        )
    return generator
