"""A RetinaNet without anchors: a heat map of the lesions' centres, and a box at each place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from monai.apps.detection.networks.retinanet_network import RetinaNet
from torch import Tensor, nn

from softoverlap.anchors import AnchorPlan
from softoverlap.for_monai.detector.anchor_grid import ExactAnchorGenerator
from softoverlap.for_monai.detector.detector import SoftRetinaNetDetector
from softoverlap.for_monai.detector.heat import HeatMap, grid_axes, heat_map, is_peak
from softoverlap.for_monai.detector.learning import Target
from softoverlap.for_monai.detector.loss_terms import HeatMapFocal, attached, reduce
from softoverlap.for_monai.detector.network import lesion_retinanet
from softoverlap.for_monai.detector.targets import centred_in
from softoverlap.lesion import Lesion
from softoverlap.losses import BoxDIoULoss

_START = 6.0  # voxels, edges of the box that a code changes


def centre_retinanet(*, plan: AnchorPlan, **settings: Any) -> RetinaNet:
    """The network of a plan with a centre head: one place a cell, on the finest level alone.

    Of the plan it takes the strides: anchors have no part in it. The coarser levels still feed the
    finest one from above.

    Args:
        plan: Strides of the levels.
        settings: As of `lesion_retinanet`.

    Returns:
        The network, for `CentreDetector`.

    Raises:
        TypeError: If the plan is none.
        ValueError: If an argument is out of range, or an IoU-aware branch is asked for.

    References:
        Zhou et al., Objects as points, https://arxiv.org/abs/1904.07850

    Examples:
        >>> import torch
        >>> plan = AnchorPlan(strides=[(2, 2), (4, 4)], sizes=[[(3, 3), (5, 5)], [(9, 9)]])
        >>> maps = centre_retinanet(plan=plan)(torch.zeros(1, 1, 16, 16))
        >>> {name: [tuple(level.shape) for level in levels] for name, levels in maps.items()}
        {'classification': [(1, 1, 8, 8)], 'box_regression': [(1, 4, 8, 8)]}
    """
    if not isinstance(plan, AnchorPlan):
        raise TypeError(f"plan must be an AnchorPlan, whose strides a centre head has, got {plan}")
    if settings.get("iou_branch"):
        raise ValueError("iou_branch must be False for a centre head, got True")
    levels = len(plan.strides)
    plan = replace(plan, sizes=[[(_START,) * plan.ndim]] * levels)
    network: Any = lesion_retinanet(plan=plan, **settings)
    for head in (network.classification_head, network.regression_head):
        head.levels = head.levels[:1]
    for coarser in range(levels - 1):  # whose maps no head looks at
        network.feature_extractor.smoothing[coarser] = nn.Identity()
    network.anchor_generator = ExactAnchorGenerator(level_shapes=plan.sizes[:1])
    return network


class CentreDetector(SoftRetinaNetDetector):
    """Learns where lesions have their centres, and their boxes there; has no anchors to match.

    It takes the targets of `SoftRetinaNetDetector`, trains and detects in the same ways, and finds
    the same keys. A heat map for each class learns the soft mask of each lesion under a Gaussian,
    1 at the highest cell; where only boxes are known, the filled box. Boxes learn where the blurred
    mask of a lesion is at least half of the highest, each weighed by it; where lesions overlap, for
    the one whose heat is higher. Cells in voxels that nobody has labelled are no background. In
    evaluation the local maxima of the whole image's heat map are the detections.

    Every lesion counts the same. What matches, weighs or samples anchors has no part: the arguments
    `overlap`, `normalize`, `matcher` and `weighting` are not used.

    Args:
        network: The network, for instance of `centre_retinanet`.
        settings: As of `SoftRetinaNetDetector`. The classification loss is one of logits and heat,
            by default `HeatMapFocal()`, the box loss one of boxes, by default `BoxDIoULoss()`.

    Raises:
        ValueError: If the network has several levels or places a cell, or an IoU-aware branch.

    References:
        Zhou et al., Objects as points, https://arxiv.org/abs/1904.07850
        Liu et al., Training-time-friendly network, https://arxiv.org/abs/1909.00700

    Examples:
        >>> import torch
        >>> from softoverlap.for_monai import lesion_target
        >>> plan = AnchorPlan(strides=[(2, 2), (4, 4)], sizes=[[(3, 3)], [(9, 9)]])
        >>> detector = CentreDetector(centre_retinanet(plan=plan))
        >>> target = lesion_target([], spatial_dims=2)
        >>> sorted(detector(torch.zeros(1, 1, 16, 16), [target]))
        ['box_regression', 'classification']
        >>> sorted(detector.eval()(torch.zeros(1, 1, 16, 16))[0])
        ['boxes', 'labels', 'labels_scores']
    """

    def __init__(self, network: nn.Module, *args: Any, **settings: Any) -> None:
        super().__init__(network, *args, **settings)
        if self.anchors_per_place != (1,) or self.iou_branch:
            branch = " and an IoU-aware branch" if self.iou_branch else ""
            raise ValueError(
                "network must have one place a cell on one level and no IoU-aware branch, as of "
                f"centre_retinanet, got {list(self.anchors_per_place)} on its levels{branch}"
            )
        self.grid: tuple[int, ...] = ()
        self.set_cls_loss(HeatMapFocal())
        self.set_box_regression_loss(BoxDIoULoss(), encode_gt=False, decode_pred=True)

    def set_box_regression_loss(
        self, box_loss: nn.Module, encode_gt: bool, decode_pred: bool
    ) -> None:
        """Set the regression loss, of boxes, shape (N, 2 * ndim): sizes learn by their overlap.

        Raises:
            TypeError: If the loss has no `reduction`.
            ValueError: If its `reduction` is another one, or the loss would be given codes.
        """
        # MONAI's constructor sets one of codes, before the grid is there and ours takes its place
        if (encode_gt or not decode_pred) and hasattr(self, "grid"):
            raise ValueError(
                "encode_gt and decode_pred must be False and True for a centre head, whose sizes "
                f"learn by overlap, got {encode_gt} and {decode_pred}: in the bundle, let "
                "centre.yaml follow train.yaml"
            )
        super().set_box_regression_loss(box_loss, encode_gt, decode_pred)

    def _no_anchors(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: a centre head has no anchors to match or to sample."""
        raise ValueError(
            "detector must be a SoftRetinaNetDetector to match or to sample anchors, got a "
            "CentreDetector, which has none"
        )

    set_regular_matcher = _no_anchors
    set_atss_matcher = _no_anchors
    set_hard_negative_sampler = _no_anchors
    set_balanced_sampler = _no_anchors

    def generate_anchors(self, images: Tensor, head_outputs: dict[str, list[Tensor]]) -> None:
        """Keep the grid, too."""
        super().generate_anchors(images, head_outputs)
        self.grid = tuple(head_outputs[self.cls_key][0].shape[2:])

    def compute_loss(
        self,
        head_outputs_reshape: dict[str, Tensor],
        targets: list[Target],
        anchors: list[Tensor],
        num_anchor_locs_per_level: Sequence[int],
    ) -> dict[str, Tensor]:
        """The losses by key, in float32, each attached to both heads."""
        logits, codes, _ = self._parts(head_outputs_reshape)
        with torch.autocast(logits.device.type, enabled=False):
            axes = grid_axes(anchors[0], self.grid)
            maps = [self._heat_map(target, axes) for target in targets]
            assigned = [
                one.boxes_to_learn(target[self.target_label_key], target)
                for one, target in zip(maps, targets, strict=True)
            ]
            losses = {
                self.cls_key: self._heat_loss(logits, maps, targets, anchors),
                self.box_reg_key: self.compute_box_loss(codes, targets, anchors, assigned),
            }
            return attached(losses, logits, codes)

    def postprocess_detections(
        self,
        head_outputs_reshape: dict[str, Tensor],
        anchors: list[Tensor],
        image_sizes: list[list[int]],
        num_anchor_locs_per_level: Sequence[int],
        need_sigmoid: bool = True,
    ) -> list[dict[str, Tensor]]:
        """Detections of each image, at the local maxima of its heat map."""
        logits = head_outputs_reshape[self.cls_key]
        logits = logits.masked_fill(~is_peak(logits, self.grid), -torch.inf)
        outputs = {**head_outputs_reshape, self.cls_key: logits}
        places = num_anchor_locs_per_level
        return super().postprocess_detections(outputs, anchors, image_sizes, places, need_sigmoid)

    def _heat_map(self, target: Target, axes: Sequence[Tensor]) -> HeatMap:
        lesions = target.get("lesions")
        if lesions is None:
            edges = [1.0] * len(axes)  # of a voxel: the volume in mm³ has no part in the heat
            lesions = [Lesion.from_box(box, spacing=edges) for box in target[self.target_box_key]]
        return heat_map(lesions, target[self.target_label_key].tolist(), axes, self.num_classes)

    def _heat_loss(
        self,
        logits: Float[Tensor, "batch cells classes"],
        maps: Sequence[HeatMap],
        targets: Sequence[Target],
        cells: Sequence[Float[Tensor, "cells coords"]],
    ) -> Float[Tensor, ""]:
        """The loss of all cells, but for background in voxels without label."""
        heat = torch.cat([one.heat for one in maps])
        counts = torch.ones(len(maps), len(cells[0]), device=logits.device)
        for row, boxes, target in zip(counts, cells, targets, strict=True):
            if target.get("unlabelled") is not None:
                row.masked_fill_(centred_in(boxes, target["unlabelled"]), 0)
        counts = counts.flatten().masked_fill((heat == 1).any(dim=1), 1)
        lesions = sum(len(target[self.target_box_key]) for target in targets)
        losses = self.cls_loss_func(logits.flatten(0, 1), heat)
        return reduce(losses, counts, self.cls_reduction, lesions)
