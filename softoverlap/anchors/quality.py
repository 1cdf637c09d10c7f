"""How well each anchor covers each lesion: the matrix that matchers and weights start from."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap._autograd import held
from softoverlap._checks import check_boolean, check_boxes, check_choice
from softoverlap._periodic import check_arcs
from softoverlap._types import accumulation_dtype, plain, score_dtype
from softoverlap.anchors._ground_truth import AnyLesions, boxes_of, soft_masks_of
from softoverlap.anchors.best import best_box
from softoverlap.lesion import Lesion
from softoverlap.mask_boxes import SummedVolume, meeting_boxes, meeting_pairs
from softoverlap.overlaps import BoxOverlap, MaskBoxOverlap, mask_box_dice, overlap_named

AnchorOverlap = MaskBoxOverlap | BoxOverlap
"""Of a lesion's soft mask and an anchor, or of its box and an anchor."""

Entries = tuple[Tensor, Tensor, Tensor]
"""Rows, columns and scores of pairs, sorted by row, then by column."""


def anchor_quality(
    lesions: AnyLesions,
    anchors: Shaped[Tensor, "anchors coords"],
    *,
    labels: Shaped[Tensor, "*spatial"] | None = None,
    overlap: AnchorOverlap | str = mask_box_dice,
    normalize: str | None = "best",
    sparse: bool = False,
    validate: bool | None = None,
) -> Float[Tensor, "lesions anchors"]:
    """Overlap of each anchor with each lesion, ground truth first.

    What a patch hides of a lesion (`Lesion.visible`) is not counted: the overlap is with the crop
    as it is. `SoftRetinaNetDetector` does count it. Matchers take the dense matrix.

    A real lesion fills only about a third of its tight box, so even a perfect box has a low Dice.
    `normalize="best"` divides Dice, IoU and Tversky by the highest overlap that any box can reach
    for that lesion: 1 then means that no box could do better. For a crop that is
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
        overlap: Of soft mask and anchor, such as `mask_box_tversky.with_(alpha=0.3, beta=0.7)` or
            `mask_box_diou` (anchors that miss are ranked, too); its `empty` does not matter. Or of
            the lesion's box and anchor, such as `box_iof` (the share of the anchor inside the
            lesion's box). Configuration files name it: `"mask_box_iou"`, or `"iou"` for short.
        normalize: `"best"`, or None for the overlap itself.
        sparse: Return a coalesced sparse COO tensor that holds the pairs with an overlap above 0;
            the dense matrix is never made. Only for overlaps that are 0 where boxes miss.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Quality, shape (M, N), on the anchors' device, in the range of the overlap. A lesion
        without mass has the lowest quality everywhere: 0, for `mask_box_diou` -1.

    Raises:
        TypeError: If `lesions` holds anything but lesions, `labels` no integers, or `overlap` is
            neither an overlap nor a name.
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
        >>> from softoverlap import mask_box_diou
        >>> anchor_quality([lesion], anchors, overlap=mask_box_diou)
        tensor([[ 0.6667,  0.5000, -0.4133]])
        >>> anchor_quality([lesion], anchors, sparse=True).indices()
        tensor([[0, 0],
                [0, 1]])
    """
    overlap = checked_overlap(overlap, normalize)
    if sparse and not overlap.zero_apart:
        raise ValueError(f"overlap must be 0 where boxes miss for sparse=True, got {overlap!r}")
    check_boolean(sparse=sparse)
    check_boxes(anchors=anchors, ndim=_common_ndim(lesions), validate=validate)
    anchors = plain(anchors)
    if isinstance(overlap, BoxOverlap):
        boxes = boxes_of(lesions, labels, anchors, overlap.name, validate)
        check_arcs(overlap.period, validate, lesions=boxes, anchors=anchors)
        if sparse and len(boxes):
            return _sparse_boxes(overlap, boxes, anchors)
        score = _dense_boxes(overlap, boxes, anchors)
        return score.to_sparse() if sparse else score
    overlap = overlap.with_(empty=0.0)
    masks = soft_masks_of(lesions, labels, anchors, overlap.name, validate)
    if masks is None:
        empty = anchors.new_zeros((0, len(anchors)), dtype=score_dtype(anchors))
        return empty.to_sparse() if sparse else empty
    best = None
    if normalize == "best" and overlap.tversky_weights is not None:
        best = [best_box(crop, overlap=overlap).bound for crop in masks.crops]
    return (_sparse_masks if sparse else _dense_masks)(overlap, masks.volume, anchors, best)


def checked_overlap(overlap: AnchorOverlap | str, normalize: str | None) -> AnchorOverlap:
    """The overlap, also by its name, if `anchor_quality` takes it; `normalize` is checked too."""
    check_choice("normalize", normalize, ("best", None))
    return overlap_named(overlap, MaskBoxOverlap, BoxOverlap)


def _common_ndim(lesions: AnyLesions) -> int | None:
    """Axes of the first lesion; of a tensor the anchors tell."""
    first = None if isinstance(lesions, Tensor) or not len(lesions) else lesions[0]
    return first.crop.ndim if isinstance(first, Lesion) else None


def _dense_masks(
    overlap: MaskBoxOverlap, volume: SummedVolume, anchors: Tensor, best: list[float] | None
) -> Tensor:
    dtype = _result_dtype(volume, anchors)
    if overlap.zero_apart and volume.device.type == "cpu":  # so most pairs are left as they are
        quality = anchors.new_zeros(len(volume) * len(anchors), dtype=dtype)
        for rows, columns, score in _meeting_masks(overlap, volume, anchors, best):
            quality.index_put_((rows * len(anchors) + columns,), score)
        return quality.view(len(volume), len(anchors))
    anchors = _precise(anchors, best, dtype)
    quality = overlap(volume, anchors, validate=False)
    if not overlap.zero_apart:  # without mass nothing is near: the lowest score
        quality.masked_fill_(volume.sizes[:, None] == 0, overlap.range[0])  # ours, and large
    if best is None:
        return quality
    safe = quality.new_tensor([top if top > 0 else 1.0 for top in best])
    return quality.div_(safe[:, None]).clamp_(max=1).to(dtype)  # ours, and large


def _result_dtype(volume: SummedVolume, anchors: Tensor) -> torch.dtype:
    return score_dtype(torch.empty(0, dtype=volume.dtype), anchors)


def _precise(anchors: Tensor, best: list[float] | None, dtype: torch.dtype) -> Tensor:
    """In float64 where a lesion is so faint that the result's type holds little of its overlap."""
    faint = torch.finfo(dtype).tiny / torch.finfo(dtype).eps
    if not best or not any(0 < top < faint for top in best):
        return anchors
    return held(anchors.double(), below=math.inf)


def _sparse_masks(
    overlap: MaskBoxOverlap, volume: SummedVolume, anchors: Tensor, best: list[float] | None
) -> Tensor:
    entries = [_kept(*pairs) for pairs in _meeting_masks(overlap, volume, anchors, best)]
    return _matrix(entries, (len(volume), len(anchors)))


def _meeting_masks(
    overlap: MaskBoxOverlap, volume: SummedVolume, anchors: Tensor, best: list[float] | None
) -> Iterator[Entries]:
    """The quality of all pairs that may meet, in groups."""
    dtype = _result_dtype(volume, anchors)
    anchors = _precise(anchors, best, dtype)
    wide = _result_dtype(volume, anchors)
    safe = None
    if best is not None:
        safe = anchors.new_tensor([top if top > 0 else 1.0 for top in best], dtype=wide)
    for rows, columns in meeting_pairs(volume, anchors):
        score = overlap.of_rows(volume, anchors, rows, columns).to(wide)
        if safe is not None:
            score = (score / safe[rows]).clamp(max=1)
        yield rows, columns, score.to(dtype)


def _dense_boxes(overlap: BoxOverlap, boxes: Tensor, anchors: Tensor) -> Tensor:
    """The anchor is the prediction, which matters where the two may not change places."""
    if overlap.symmetric:
        return overlap(boxes, anchors, validate=False)
    return overlap(anchors, boxes, validate=False).mT.contiguous()


def _sparse_boxes(overlap: BoxOverlap, boxes: Tensor, anchors: Tensor) -> Tensor:
    """For each box only the anchors that meet it are scored; where axes come round, all."""
    ndim = anchors.shape[1] // 2
    wide = anchors.to(accumulation_dtype(boxes, anchors))
    lower, upper = (half.tolist() for half in boxes.detach().split(ndim, dim=1))
    everything = torch.arange(len(anchors), device=anchors.device)
    turning = overlap.period is not None
    windows = [everything] * len(boxes) if turning else meeting_boxes(wide, lower, upper)
    entries = []
    for row, found in enumerate(windows):
        rows = torch.full_like(found, row)
        score = overlap.pairs(anchors[found], boxes[rows], validate=False)
        entries.append(_kept(rows, found, score))
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
