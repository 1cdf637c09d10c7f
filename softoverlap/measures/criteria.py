"""What can make a hit beside our overlaps: where a box has its centre, a voxel in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from scipy import sparse
from torch import Tensor

from softoverlap import rotated
from softoverlap._checks import check_positive, check_probabilities, check_tensors
from softoverlap._types import plain, score_dtype
from softoverlap.lesion import Lesion

Scan = Mapping[str, Any]

CLOSE_MM = 2.0
"""A centre so near to a lesion's is within its radius, however small the lesion."""

CRITERION_NOTES = {
    "box_iou": "IoU with the tight box: 0.1 in nnDetection, 0.5 and more in COCO",
    "box_dice": "Dice with the tight box: IoU on another scale",
    "box_iof": "share of the found box in the tight box: crowds in COCO",
    "box_giou": "IoU less the empty part of the box around both: ranks misses too",
    "box_diou": "IoU less the distance of the centres: Distance-IoU loss and NMS",
    "box_ciou": "IoU less distance and difference in shape: YOLO's loss",
    "box_eiou": "IoU less the distance of centres and of edges",
    "box_nwd": "likeness of the boxes as Gaussians: detection of tiny objects",
    "ball_iou": "IoU of the balls in both boxes: SCPM-Net, CircleNet",
    "ball_dice": "Dice of the balls in both boxes: IoU on another scale",
    "ball_centreness": "centre in the ball in the tight box, of any size: LUNA16",
    "box_ball_iou": "IoU of the box and the ball in the tight box",
    "box_ball_dice": "Dice of the box and the ball in the tight box",
    "soft_box_iou": "IoU of boxes with uncertain faces: else equal to box_iou",
    "soft_box_dice": "Dice of boxes with uncertain faces: else equal to box_dice",
    "mask_box_dice": "Dice of the box and the lesion's soft mask",
    "mask_box_iou": "IoU of the box and the lesion's soft mask",
    "mask_box_tversky": "Tversky index of the box and the lesion's soft mask",
    "mask_box_diou": "IoU with the soft mask less the distance from its centre",
    "relative_mask_box_dice": "mask_box_dice over the best of any box",
    "relative_mask_box_iou": "mask_box_iou over the best of any box",
    "relative_mask_box_tversky": "mask_box_tversky over the best of any box",
    "centre_in_mask": "probability under the box's centre: pointing games",
    "centre_within_radius": "centre within the lesion's radius, or 2 mm: LUNA16",
    "any_voxel": "any voxel in common: lesion-wise F1 of challenges",
}
"""What each criterion is, or who uses it, in a few words."""


_KEYS_OF_DETECTOR = {"boxes": "box", "labels": "label", "labels_scores": "label_scores"}


def under_one_name(scan: Any) -> Any:
    """The scan under the keys of MONAI's lists of data, also where it has those of its detector."""
    if not isinstance(scan, Mapping) or "box" in scan or "boxes" not in scan:
        return scan
    return {_KEYS_OF_DETECTOR.get(key, key): value for key, value in scan.items()}


def masks_of(target: Scan) -> list[Lesion] | Tensor:
    """The soft masks of a checked scan's lesions, as many as it has boxes."""
    lesions, masks = target.get("lesions"), target.get("masks")
    if lesions is not None:
        return list(lesions)
    if masks is None:
        raise ValueError(
            "targets must hold 'lesions', a list of Lesion, or 'masks', probabilities "
            f"(M, *spatial), for a criterion or a size of masks, got {sorted(target)}"
        )
    check_tensors(masks=masks)
    if len(masks) != len(target["label"]):
        raise ValueError(
            f"targets must hold one mask for each of {len(target['label'])} boxes, got {len(masks)}"
        )
    return plain(masks)


def centre_in_mask(
    boxes: Shaped[Tensor, "boxes coords"], target: Scan
) -> Shaped[Tensor, "lesions boxes"]:
    """The mask's probability in the voxel that holds the box's centre, 0 beyond the mask.

    Args:
        boxes: Found boxes in voxels, shape (N, 2 * ndim).
        target: The target of the scan, with "lesions" or "masks".

    Returns:
        Probabilities in [0, 1], shape (M, N).

    Examples:
        >>> target = {"label": torch.zeros(1), "masks": torch.tensor([[0.0, 0.25, 0.5]])}
        >>> centre_in_mask(torch.tensor([[0.0, 3.0], [2.0, 4.0]]), target)
        tensor([[0.2500, 0.0000]])
    """
    boxes = boxes.double().cpu()
    voxels = _centres(boxes).floor().long()
    rows = [_probabilities(crop, voxels - offset) for crop, offset in _crops(target)]
    dtype = score_dtype(*rows)
    return torch.stack([row.to(dtype) for row in rows])


def _crops(target: Scan) -> list[tuple[Tensor, Tensor | int]]:
    masks = masks_of(target)
    if isinstance(masks, Tensor):
        check_probabilities(masks=masks, validate=True)
        return [(mask.cpu(), 0) for mask in masks]
    return [(plain(lesion.crop).cpu(), plain(lesion.offset).cpu()) for lesion in masks]


def _probabilities(
    crop: Shaped[Tensor, "*crop"], voxels: Shaped[Tensor, "boxes ndim"]
) -> Shaped[Tensor, "boxes"]:
    if crop.ndim != voxels.shape[1]:
        raise ValueError(f"targets must hold masks with {voxels.shape[1]} axes, got {crop.ndim}")
    shape = torch.tensor(crop.shape)
    inside = ((voxels >= 0) & (voxels < shape)).all(dim=1)
    safe = voxels.clamp(min=0).minimum((shape - 1).clamp(min=0))
    values = crop[tuple(safe.unbind(1))] if crop.numel() else crop.new_zeros(len(voxels))
    return torch.where(inside, values, torch.zeros_like(values))


def centre_within_radius(
    boxes: Shaped[Tensor, "boxes coords"], target: Scan
) -> Float[Tensor, "lesions boxes"]:
    """How near the box's centre is to the lesion's: 1 at the centre, 0.5 at the limit.

    The limit is the radius of the lesion, half the mean edge of its tight box, but at least 2 mm;
    the score is limit / (limit + distance). A threshold of 0.5, the default, is LUNA16's rule.

    Args:
        boxes: Found boxes in voxels, shape (N, 2 * ndim).
        target: The target of the scan, with "spacing", the edges of a voxel in mm.

    Returns:
        Scores in (0, 1], shape (M, N), float64.

    Raises:
        ValueError: If the target has no "spacing", or not one edge above 0 for each axis.

    References:
        Setio et al., LUNA16, https://arxiv.org/abs/1612.08012

    Examples:
        >>> target = {"box": torch.tensor([[0.0, 8.0]]), "label": torch.zeros(1), "spacing": [0.5]}
        >>> centre_within_radius(torch.tensor([[3.0, 5.0], [7.0, 9.0]]), target)
        tensor([[1.0000, 0.5000]], dtype=torch.float64)
    """
    boxes, lesions = boxes.double().cpu(), plain(target["box"]).double().cpu()
    spacing = _spacing(target, boxes.shape[1] // 2)
    low, high = lesions.chunk(2, dim=1)
    limit = (((high - low) * spacing).mean(dim=1) / 2).clamp(min=CLOSE_MM)[:, None]
    apart = (_centres(lesions)[:, None] - _centres(boxes)) * spacing
    return limit / (limit + apart.norm(dim=2))


def centred_in(
    boxes: Shaped[Tensor, "boxes coords"], target: Scan
) -> Bool[Tensor, "lesions boxes"]:
    """Whether a box has its centre in a lesion: in its tight box, and in its mask if it has one.

    Args:
        boxes: Found boxes in voxels, shape (N, 2 * ndim).
        target: The target of the scan, with "lesions" or "masks" where there are masks.

    Returns:
        Booleans, shape (M, N).

    Examples:
        >>> target = {"box": torch.tensor([[1.0, 4.0]]), "label": torch.zeros(1)}
        >>> centred_in(torch.tensor([[0.0, 3.0], [3.0, 5.0]]), target)
        tensor([[ True, False]])
    """
    centres, lesions = _centres(boxes.double().cpu()), plain(target["box"]).double().cpu()
    if is_oriented(lesions):
        inside = rotated.holds(lesions[:, None], centres)
    else:
        low, high = lesions[:, None].chunk(2, dim=2)
        inside = ((centres >= low) & (centres < high)).all(dim=2)
    if not inside.any() or (target.get("lesions") is None and target.get("masks") is None):
        return inside
    return inside & (centre_in_mask(boxes, target) > 0)


def any_voxel(pairs: sparse.csr_array) -> Tensor:
    """Whether each true lesion, a row of what touches what, shares a voxel with another."""
    return torch.from_numpy(pairs.sum(axis=1) > 0)


def is_oriented(boxes: Shaped[Tensor, "boxes coords"]) -> bool:
    """Whether boxes have an angle behind their centre and edges; upright ones have 2 * ndim."""
    return boxes.shape[1] % 2 == 1


def _centres(boxes: Float[Tensor, "boxes coords"]) -> Float[Tensor, "boxes ndim"]:
    if is_oriented(boxes):
        return boxes[:, : rotated.spatial_dims(boxes)]
    low, high = boxes.chunk(2, dim=1)
    return (low + high) / 2


def _spacing(target: Scan, ndim: int) -> Float[Tensor, "ndim"]:
    """Edges of a voxel in mm."""
    if target.get("spacing") is None:
        raise ValueError(
            "targets must hold 'spacing', the edges of a voxel in mm, for centre_within_radius, "
            f"got {sorted(target)}"
        )
    spacing = torch.as_tensor(target["spacing"]).double().cpu().reshape(-1)
    if len(spacing) != ndim:
        raise ValueError(
            f"targets must hold 'spacing' of {ndim} edges, one an axis, got {spacing.tolist()}"
        )
    check_positive(**{f"spacing[{axis}]": edge for axis, edge in enumerate(spacing.tolist())})
    return spacing
