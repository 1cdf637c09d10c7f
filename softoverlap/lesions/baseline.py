"""A simple detector for comparison: connected components of bright voxels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor

from softoverlap._checks import check_choice, check_tensors
from softoverlap._types import at_least, plain
from softoverlap.lesions.components import lesions_from_mask


def threshold_boxes(
    image: Shaped[Tensor, "*spatial"],
    threshold: float,
    *,
    spacing: Sequence[float],
    score: str = "mean",
    min_mm3: float = 10.0,
) -> dict[str, Tensor]:
    """Boxes around the connected components of the voxels at or above an intensity.

    Args:
        image: Intensities, shape (*spatial).
        threshold: Lowest intensity inside a component.
        spacing: Edge lengths of a voxel in mm, one for each axis.
        score: The score of a component: `"mean"` or `"max"` of its intensity, or `"volume"`, its
            size in mm³.
        min_mm3: Smaller components are dropped, in mm³.

    Returns:
        `"box"` in voxels, shape (N, 2 * ndim), `"label"`, zeros of shape (N,), and
        `"label_scores"`, shape (N,), unbounded: only their order matters.

    Raises:
        TypeError: If the image is not a tensor.
        ValueError: If the score is unknown, or the image does not have one to three axes.

    Examples:
        >>> lesions = threshold_boxes(torch.tensor([1.0, 5, 7, 1]), 4.0, spacing=[10.0])
        >>> lesions["box"], lesions["label_scores"]
        (tensor([[1., 3.]]), tensor([6.]))
    """
    check_tensors(image=image)
    image = plain(image)
    check_choice("score", score, ("mean", "max", "volume"))
    lesions = lesions_from_mask(
        at_least(image, threshold).float(), spacing=spacing, min_mm3=min_mm3
    )
    boxes, scores = [], []
    for lesion in lesions:
        low, high = lesion.box.long().split(image.ndim)
        window = image[tuple(map(slice, low.tolist(), high.tolist()))]
        inside = window[lesion.crop > 0].float()
        ranks = {"mean": inside.mean(), "max": inside.max(), "volume": lesion.volume_mm3}
        boxes.append(lesion.box)
        scores.append(float(ranks[score]))
    return {
        "box": torch.stack(boxes) if boxes else torch.zeros(0, 2 * image.ndim),
        "label": torch.zeros(len(boxes), dtype=torch.int64),
        "label_scores": torch.tensor(scores),
    }
