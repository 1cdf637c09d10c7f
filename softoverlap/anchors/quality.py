"""How well each anchor covers each lesion: the matrix that matchers and weights start from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap import overlaps, scores
from softoverlap._checks import check_boxes, check_choice
from softoverlap._types import accumulation_dtype, plain, score_dtype
from softoverlap.anchors._ground_truth import AnyLesions, boxes_of, soft_masks_of
from softoverlap.anchors.best import best_box, tversky_weights
from softoverlap.lesion import Lesion
from softoverlap.mask_boxes import SummedVolume, meeting_boxes, meeting_pairs
from softoverlap.overlaps.mask_boxes import Ratio, pairwise_scores, score_pairs

RATIOS = ("dice", "iou", "tversky")
"""Overlaps of mask and box that have a best box."""

BOX_OVERLAPS = tuple(
    f"box_{name}" for name in ("iou", "dice", "iof", "giou", "diou", "ciou", "eiou", "nwd")
)
_ZERO_WHERE_BOXES_MISS = (*RATIOS, "box_iou", "box_dice", "box_iof")

Entries = tuple[Tensor, Tensor, Tensor]
"""Rows, columns and scores of pairs, sorted by row, then by column."""


def anchor_quality(
    lesions: AnyLesions,
    anchors: Shaped[Tensor, "anchors coords"],
    *,
    labels: Shaped[Tensor, "*spatial"] | None = None,
    overlap: str = "dice",
    normalize: str | None = "best",
    alpha: float = 0.5,
    beta: float = 0.5,
    sparse: bool = False,
    validate: bool | None = None,
) -> Float[Tensor, "lesions anchors"]:
    """Overlap of each anchor with each lesion, ground truth first.

    What a patch hides of a lesion (`Lesion.visible`) is not counted: the overlap is with the crop
    as it is. `SoftRetinaNetDetector` does count it. Matchers take the dense matrix.

    A real lesion fills only about a third of its tight box, so even a perfect box has a low Dice.
    `normalize="best"` divides `"dice"`, `"iou"` and `"tversky"` by the highest overlap that any
    box can reach for that lesion: 1 then means that no box could do better. For a crop that is
    too large to be searched to the end it divides by the proven upper bound, so quality stays in
    [0, 1] and in order. The other overlaps are never normalised, whatever `normalize` says: one
    with a distance term has no such scale, and a box of its own is a lesion's best box.

    Args:
        lesions: M lesions, on any device: a sequence of `Lesion`; whole soft masks
            (M, *spatial); one soft mask (*spatial) with `labels`; or boxes (M, 2 * ndim), for
            box overlaps only. A tensor with two axes and intervals as anchors holds masks for a
            mask overlap, boxes for a box overlap.
        anchors: Candidate boxes in voxels of the image, shape (N, 2 * ndim).
        labels: Integers of the mask's shape: each label above 0 is a lesion, the mask where the
            label is, and the rows are in rising order of the labels that occur.
        overlap: Of soft mask and anchor: `"dice"`, `"iou"`, `"tversky"`, `"diou"`
            (`mask_box_diou`: anchors that miss are ranked, too). Of the lesion's box and anchor:
            `"box_iou"`, `"box_dice"`, `"box_iof"` (the share of the anchor inside the lesion's
            box), `"box_giou"`, `"box_diou"`, `"box_ciou"`, `"box_eiou"`, `"box_nwd"`.
        normalize: `"best"`, or None for the overlap itself.
        alpha: Tversky's weight of the anchor outside the mask; only for `"tversky"`.
        beta: Tversky's weight of the mask outside the anchor; only for `"tversky"`.
        sparse: Return a coalesced sparse COO tensor that holds the pairs with an overlap above 0;
            the dense matrix is never made. Only for overlaps that are 0 where boxes miss.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Quality, shape (M, N), on the anchors' device: in [0, 1], for `"diou"` and the box
        overlaps in the range of that overlap. A lesion without mass has the lowest quality
        everywhere: 0, for `"diou"` -1.

    Raises:
        TypeError: If `lesions` holds anything but lesions, or `labels` no integers.
        ValueError: If the lesions and the anchors differ in the number of axes, boxes alone meet
            a mask overlap or masks alone a box overlap, an anchor is inverted, `sparse` meets an
            overlap that is not 0 where boxes miss, or an argument is out of range.

    References:
        Zhang et al., VarifocalNet, https://arxiv.org/abs/2008.13367 (targets from overlap).

    Examples:
        >>> import torch
        >>> lesion = Lesion(
        ...     box=torch.tensor([2.0, 4.0]), crop=torch.tensor([0.5, 1.0, 0.5]),
        ...     offset=torch.tensor([2]), centre=torch.tensor([3.5]), volume_mm3=2.0,
        ... )
        >>> anchors = torch.tensor([[2.0, 5.0], [3.0, 4.0], [7.0, 9.0]])
        >>> anchor_quality([lesion], anchors)
        tensor([[1.0000, 0.8333, 0.0000]])
        >>> anchor_quality([lesion], anchors, overlap="diou")
        tensor([[ 0.6667,  0.5000, -0.4133]])
        >>> anchor_quality([lesion], anchors, sparse=True).indices()
        tensor([[0, 0],
                [0, 1]])
    """
    _check_overlap(overlap, normalize, sparse)
    weights = tversky_weights(overlap, alpha, beta) if overlap in RATIOS else None
    check_boxes(anchors=anchors, ndim=_common_ndim(lesions), validate=validate)
    anchors = plain(anchors)
    if overlap in BOX_OVERLAPS:
        boxes = boxes_of(lesions, labels, anchors, overlap, validate)
        if sparse and len(boxes):
            return _sparse_boxes(overlap, boxes, anchors)
        score = _box_score(overlap)(boxes, anchors)
        return score.to_sparse() if sparse else score
    masks = soft_masks_of(lesions, labels, anchors, overlap, validate)
    if masks is None:
        empty = anchors.new_zeros((0, len(anchors)), dtype=score_dtype(anchors))
        return empty.to_sparse() if sparse else empty
    if weights is None:
        return _diou(masks.volume, anchors)
    ratio = _ratio(overlap, weights)
    best = _best(masks.crops, overlap, weights) if normalize == "best" else None
    return (_sparse_masks if sparse else _dense_masks)(ratio, masks.volume, anchors, best)


def _check_overlap(overlap: str, normalize: str | None, sparse: bool) -> None:
    check_choice("overlap", overlap, (*RATIOS, "diou", *BOX_OVERLAPS))
    check_choice("normalize", normalize, ("best", None))
    if sparse:
        check_choice("overlap, where sparse is True,", overlap, _ZERO_WHERE_BOXES_MISS)


def _common_ndim(lesions: AnyLesions) -> int | None:
    """Axes of the first lesion; of a tensor the anchors tell."""
    first = None if isinstance(lesions, Tensor) or not len(lesions) else lesions[0]
    return first.crop.ndim if isinstance(first, Lesion) else None


def _ratio(overlap: str, weights: tuple[float, float]) -> Ratio:
    if overlap == "tversky":
        return partial(scores.tversky, alpha=weights[0], beta=weights[1], empty=0.0)
    return partial(scores.dice if overlap == "dice" else scores.iou, empty=0.0)


def _best(crops: list[Tensor], overlap: str, weights: tuple[float, float]) -> list[float]:
    """What no box exceeds, for each lesion."""
    options = {"overlap": overlap, "alpha": weights[0], "beta": weights[1]}
    return [best_box(crop, **options).bound for crop in crops]


def _dense_masks(
    ratio: Ratio, volume: SummedVolume, anchors: Tensor, best: list[float] | None
) -> Tensor:
    quality = pairwise_scores(ratio, volume, anchors, validate=False)
    if best is None:
        return quality
    safe = quality.new_tensor([top if top > 0 else 1.0 for top in best])
    return quality.div_(safe[:, None]).clamp_(max=1)  # ours, and large


def _sparse_masks(
    ratio: Ratio, volume: SummedVolume, anchors: Tensor, best: list[float] | None
) -> Tensor:
    dtype = score_dtype(torch.empty(0, dtype=volume.dtype), anchors)
    safe = None
    if best is not None:
        safe = anchors.new_tensor([top if top > 0 else 1.0 for top in best], dtype=dtype)
    entries = []
    for rows, columns in meeting_pairs(volume, anchors):
        score = score_pairs(ratio, volume, anchors, rows, columns).to(dtype)
        if safe is not None:
            score = (score / safe[rows]).clamp(max=1)
        entries.append(_kept(rows, columns, score))
    return _matrix(entries, (len(volume), len(anchors)))


def _diou(volume: SummedVolume, anchors: Tensor) -> Tensor:
    """Without mass nothing is near: the lowest score."""
    quality = overlaps.mask_box_diou(volume, anchors, empty=0.0, validate=False)
    return quality.masked_fill_(volume.sizes[:, None] == 0, -1)  # ours, and large


def _box_score(overlap: str, pair: bool = False) -> Callable[[Tensor, Tensor], Tensor]:
    """A box overlap of (boxes of lesions, anchors); the anchor is the prediction."""
    score = getattr(overlaps, overlap.replace("box_", "box_pair_") if pair else overlap)
    if overlap != "box_iof":
        return lambda boxes, anchors: score(boxes, anchors, validate=False)
    if pair:  # the only one that is not symmetric
        return lambda boxes, anchors: score(anchors, boxes, validate=False)
    return lambda boxes, anchors: score(anchors, boxes, validate=False).mT.contiguous()


def _sparse_boxes(overlap: str, boxes: Tensor, anchors: Tensor) -> Tensor:
    """For each box only the anchors that meet it are scored."""
    score, ndim = _box_score(overlap, pair=True), anchors.shape[1] // 2
    wide = anchors.to(accumulation_dtype(boxes, anchors))
    lower, upper = (half.tolist() for half in boxes.detach().split(ndim, dim=1))
    entries = []
    for row, found in enumerate(meeting_boxes(wide, lower, upper)):
        rows = torch.full_like(found, row)
        entries.append(_kept(rows, found, score(boxes[rows], anchors[found])))
    return _matrix(entries, (len(boxes), len(anchors)))


def _kept(rows: Tensor, columns: Tensor, score: Tensor) -> Entries:
    """The pairs that overlap, NaN among them."""
    found = (score.detach() != 0).nonzero()[:, 0]
    return rows[found], columns[found], score[found]


def _matrix(entries: list[Entries], shape: tuple[int, int]) -> Tensor:
    rows, columns, values = (torch.cat(parts) for parts in zip(*entries, strict=True))
    indices = torch.stack([rows, columns])
    return torch.sparse_coo_tensor(
        indices, values, shape, is_coalesced=True, check_invariants=False
    )
