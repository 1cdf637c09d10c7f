"""How well each anchor covers each lesion: the matrix that matchers and weights start from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap import overlaps
from softoverlap._checks import check_boxes, check_choice
from softoverlap._types import score_dtype
from softoverlap.anchors.best import best_box, tversky_weights
from softoverlap.lesions import Lesion
from softoverlap.mask_boxes import SummedVolume


def anchor_quality(
    lesions: Sequence[Lesion],
    anchors: Shaped[Tensor, "anchors coords"],
    *,
    overlap: str = "dice",
    normalize: str | None = "best",
    alpha: float = 0.5,
    beta: float = 0.5,
    validate: bool | None = None,
) -> Float[Tensor, "lesions anchors"]:
    """Overlap of each anchor with each lesion's soft mask, ground truth first.

    A real lesion fills only about a third of its tight box, so even a perfect box has a low Dice.
    `normalize="best"` divides by the highest overlap that any box can reach for that lesion: 1
    then means that no box could do better.

    Args:
        lesions: M lesions; their crops may lie on another device than the anchors.
        anchors: Candidate boxes in voxels of the image, shape (N, 2 * ndim).
        overlap: `"dice"`, `"iou"` or `"tversky"`, between soft mask and box.
        normalize: `"best"`, or None for the overlap itself.
        alpha: Tversky's weight of the anchor outside the mask; only for `"tversky"`.
        beta: Tversky's weight of the mask outside the anchor; only for `"tversky"`.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Quality in [0, 1], shape (M, N), on the anchors' device. A lesion without mass has
        quality 0 everywhere.

    Raises:
        ValueError: If a lesion and the anchors differ in the number of axes, an anchor is
            inverted, or an argument is out of range.

    References:
        Zhang et al., VarifocalNet, https://arxiv.org/abs/2008.13367 (targets from overlap).

    Examples:
        >>> import torch
        >>> lesion = Lesion(
        ...     box=torch.tensor([2.0, 4.0]), crop=torch.tensor([0.5, 1.0, 0.5]),
        ...     offset=torch.tensor([2]), centre=torch.tensor([3.5]), volume_mm3=2.0,
        ... )
        >>> anchor_quality([lesion], torch.tensor([[2.0, 5.0], [3.0, 4.0], [7.0, 9.0]]))
        tensor([[1.0000, 0.8333, 0.0000]])
    """
    tversky_weights(overlap, alpha, beta)
    check_choice("normalize", normalize, ("best", None))
    check_boxes(anchors=anchors, ndim=_common_ndim(lesions), validate=validate)
    if not lesions:
        return anchors.new_zeros((0, anchors.shape[0]), dtype=score_dtype(anchors))
    volume = SummedVolume.from_lesions(lesions, device=anchors.device, validate=validate)
    options = {"alpha": alpha, "beta": beta} if overlap == "tversky" else {}
    score = getattr(overlaps, f"mask_box_{overlap}")
    quality = score(volume, anchors, empty=0.0, validate=False, **options)
    if normalize is None:
        return quality
    best = [best_box(lesion.crop, overlap=overlap, alpha=alpha, beta=beta)[1] for lesion in lesions]
    return _relative(quality, quality.new_tensor(best))


def _relative(
    quality: Float[Tensor, "lesions anchors"], best: Float[Tensor, "lesions"]
) -> Float[Tensor, "lesions anchors"]:
    """Share of the best; at most 1, since the best of a huge crop is a lower bound."""
    safe = torch.where(best > 0, best, 1)[:, None]
    return (quality / safe).clamp(max=1)


def _common_ndim(lesions: Sequence[Lesion]) -> int | None:
    return lesions[0].crop.ndim if lesions else None
