"""From scored boxes to detections: threshold, best of each level, suppression."""

from __future__ import annotations

import torch
from monai.apps.detection.utils.box_selector import BoxSelector
from torch import Tensor

from softoverlap import boxes as geometry
from softoverlap.suppression import box_nms


class FastBoxSelector(BoxSelector):
    """MONAI's box selector with the exact and faster `box_nms` of this package.

    Takes the arguments of MONAI's `BoxSelector`; the overlap is IoU.

    Examples:
        >>> import torch
        >>> selector = FastBoxSelector(score_thresh=0.5)
        >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.9]])
        >>> selector.select_boxes_per_image([boxes], [torch.tensor([[2.0], [3.0]])], (8, 8))[0]
        tensor([[0.0000, 0.0000, 4.0000, 3.9000]])
    """

    def select_boxes_per_image(
        self,
        boxes_list: list[Tensor],
        logits_list: list[Tensor],
        spatial_size: list[int] | tuple[int, ...],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Select the detections of one image.

        Args:
            boxes_list: Boxes of each level in voxels, shape (N_i, 2 * ndim).
            logits_list: Logits of each level, shape (N_i, classes).
            spatial_size: Voxels of the image, one number an axis.

        Returns:
            Boxes inside the image, shape (P, 2 * ndim), their scores, shape (P,), by falling
            score, and their labels, shape (P,).

        Raises:
            ValueError: If there are not as many levels of boxes as of logits.

        Examples:
            >>> import torch
            >>> boxes, logits = torch.zeros(0, 4), torch.zeros(0, 1)
            >>> detections = FastBoxSelector().select_boxes_per_image([boxes], [logits], (8, 8))
            >>> [tuple(part.shape) for part in detections]
            [(0, 4), (0,), (0,)]
        """
        if len(boxes_list) != len(logits_list):
            raise ValueError(
                f"logits_list must hold as many levels as boxes_list, {len(boxes_list)}, "
                f"got {len(logits_list)}"
            )
        chosen = [self.select_top_score_idx_per_level(logits) for logits in logits_list]
        boxes = torch.cat([b[index] for b, (index, _, _) in zip(boxes_list, chosen, strict=True)])
        boxes = geometry.clip(boxes, tuple(spatial_size))
        scores, labels = (torch.cat([level[part] for level in chosen]) for part in (1, 2))
        ndim = boxes.shape[1] // 2
        solid = (boxes[:, ndim:] > boxes[:, :ndim]).all(dim=1)
        boxes, scores, labels = boxes[solid], scores[solid], labels[solid]
        kept = box_nms(boxes, scores, self.nms_thresh, labels, validate=False)
        kept = kept[: self.detections_per_img]
        return boxes[kept], scores[kept].to(logits_list[0].dtype), labels[kept]
