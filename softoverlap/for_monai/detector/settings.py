"""The `set_*` methods of MONAI's detector, with this package's parts behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from torch import nn

from softoverlap.anchors import ATSSMatcher, MaxOverlapMatcher
from softoverlap.for_monai.detector.loss_terms import takes_masks, unreduced
from softoverlap.for_monai.detector.selection import FastBoxSelector
from softoverlap.for_monai.detector.windows import AlignedWindowInferer
from softoverlap.losses import BoxLoss
from softoverlap.overlaps import box_iou


class DetectorSettings(RetinaNetDetector):
    """MONAI's detector whose losses, matchers, window and selector need no torchvision."""

    def set_cls_loss(self, cls_loss: nn.Module) -> None:
        """Set the classification loss.

        Args:
            cls_loss: A loss of logits and targets of shape (N, classes), with an attribute
                `reduction` that is `"mean"`, `"sum"` or `"positives"`.

        Raises:
            TypeError: If it has no `reduction`.
            ValueError: If its `reduction` is another one.

        Examples:
            >>> import torch
            >>> from softoverlap.for_monai import SoftRetinaNetDetector, lesion_retinanet
            >>> detector = SoftRetinaNetDetector(lesion_retinanet())
            >>> detector.set_cls_loss(torch.nn.BCEWithLogitsLoss(reduction="mean"))
        """
        self.cls_loss_func, self.cls_reduction = unreduced("cls_loss", cls_loss)

    def set_box_regression_loss(
        self, box_loss: nn.Module, encode_gt: bool, decode_pred: bool
    ) -> None:
        """Set the regression loss.

        A loss with an attribute `takes_masks` that is True, such as `MaskBoxDiceLoss`, is called
        with the soft mask of each box's lesion in place of the true box, and with `best`, the
        highest overlap that any box can reach with it. All targets must then have lesions.

        Args:
            box_loss: A loss of boxes or of their codes, shape (N, 2 * ndim), with an attribute
                `reduction` that is `"mean"`, `"sum"` or `"positives"`.
            encode_gt: Whether the loss takes the codes of the true boxes.
            decode_pred: Whether the loss takes predicted boxes in place of their codes.

        Raises:
            TypeError: If it has no `reduction`.
            ValueError: If its `reduction` is another one, or if it takes masks or boxes and the
                boxes are to be encoded or left encoded.

        Examples:
            >>> import torch
            >>> from softoverlap.for_monai import SoftRetinaNetDetector, lesion_retinanet
            >>> detector = SoftRetinaNetDetector(lesion_retinanet())
            >>> detector.set_box_regression_loss(torch.nn.L1Loss(), True, False)
        """
        alone, self.box_reduction = unreduced("box_loss", box_loss)
        taken = "masks" if takes_masks(alone) else "boxes" if isinstance(alone, BoxLoss) else None
        if taken and (encode_gt or not decode_pred):
            raise ValueError(
                f"encode_gt and decode_pred must be False and True for "
                f"{type(box_loss).__name__}, which takes {taken}, got {encode_gt} and {decode_pred}"
            )
        super().set_box_regression_loss(alone, encode_gt, decode_pred)

    def set_box_quality_loss(self, quality_loss: nn.Module) -> None:
        """Set the loss of the IoU-aware branch (`lesion_retinanet(iou_branch=True)`).

        Args:
            quality_loss: A loss of logits and of targets in [0, 1], shape (N, 1), with an attribute
                `reduction` that is `"mean"`, `"sum"` or `"positives"`; binary cross-entropy by
                default.

        Raises:
            TypeError: If it has no `reduction`.
            ValueError: If its `reduction` is another one.

        Examples:
            >>> from softoverlap.for_monai import SoftRetinaNetDetector, lesion_retinanet
            >>> from softoverlap.losses import QualityFocalLoss
            >>> detector = SoftRetinaNetDetector(lesion_retinanet(iou_branch=True))
            >>> detector.set_box_quality_loss(QualityFocalLoss("sum"))
        """
        self.quality_loss_func, self.quality_reduction = unreduced("quality_loss", quality_loss)

    def set_regular_matcher(
        self, fg_iou_thresh: float, bg_iou_thresh: float, allow_low_quality_matches: bool = True
    ) -> None:
        """Match by thresholds on the quality, with `MaxOverlapMatcher`.

        Args:
            fg_iou_thresh: From this quality on an anchor is positive.
            bg_iou_thresh: Below this quality an anchor is background.
            allow_low_quality_matches: Give every lesion at least one anchor.

        Raises:
            ValueError: If not 0 <= bg_iou_thresh <= fg_iou_thresh <= 1.

        Examples:
            >>> from softoverlap.for_monai import SoftRetinaNetDetector, lesion_retinanet
            >>> detector = SoftRetinaNetDetector(lesion_retinanet())
            >>> detector.set_regular_matcher(0.5, 0.4)
        """
        self.proposal_matcher = MaxOverlapMatcher(
            bg_iou_thresh, fg_iou_thresh, allow_low_quality_matches=allow_low_quality_matches
        )

    def set_atss_matcher(self, num_candidates: int = 4, center_in_gt: bool = False) -> None:
        """Match by adaptive training sample selection, with `ATSSMatcher`.

        Args:
            num_candidates: Places on each level whose anchors are candidates.
            center_in_gt: Only anchors whose centre lies in the lesion's box are positive.

        Raises:
            ValueError: If `num_candidates` is below 1.

        Examples:
            >>> from softoverlap.for_monai import SoftRetinaNetDetector, lesion_retinanet
            >>> detector = SoftRetinaNetDetector(lesion_retinanet())
            >>> detector.set_atss_matcher(num_candidates=9)
        """
        self.proposal_matcher = ATSSMatcher(num_candidates, center_in_gt=center_in_gt)

    def set_sliding_window_inferer(
        self, roi_size: Sequence[int] | int, *args: Any, **kwargs: Any
    ) -> None:
        """Detect window by window; see `AlignedWindowInferer`.

        Args:
            roi_size: Voxels of a window, multiples of the network's stride.
            args: MONAI's next arguments: `sw_batch_size`, `overlap`.
            kwargs: MONAI's other arguments.

        Raises:
            ValueError: If a window is no multiple of the network's stride.

        Examples:
            >>> from softoverlap.for_monai import SoftRetinaNetDetector, lesion_retinanet
            >>> detector = SoftRetinaNetDetector(lesion_retinanet())
            >>> detector.set_sliding_window_inferer(48, overlap=0.25)
        """
        self.inferer = AlignedWindowInferer(
            roi_size, *args, size_divisible=self.size_divisible, **kwargs
        )

    def set_box_selector_parameters(
        self,
        score_thresh: float = 0.05,
        topk_candidates_per_level: int = 1000,
        nms_thresh: float = 0.5,
        detections_per_img: int = 300,
        apply_sigmoid: bool = True,
    ) -> None:
        """Set what becomes a detection.

        Args:
            score_thresh: Boxes with a lower score are dropped.
            topk_candidates_per_level: Most boxes of a level that go on.
            nms_thresh: Highest overlap of two detections of one class.
            detections_per_img: Most detections of an image.
            apply_sigmoid: Whether the network returns logits.

        Examples:
            >>> from softoverlap.for_monai import SoftRetinaNetDetector, lesion_retinanet
            >>> detector = SoftRetinaNetDetector(lesion_retinanet())
            >>> detector.set_box_selector_parameters(nms_thresh=0.1)
        """
        super().set_box_selector_parameters(
            score_thresh, topk_candidates_per_level, nms_thresh, detections_per_img, apply_sigmoid
        )
        if self.box_overlap_metric is box_iou:
            self.box_selector = FastBoxSelector(
                apply_sigmoid=apply_sigmoid,
                score_thresh=score_thresh,
                topk_candidates_per_level=topk_candidates_per_level,
                nms_thresh=nms_thresh,
                detections_per_img=detections_per_img,
            )
