"""Codes of oriented boxes relative to anchors, in which no angle jumps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap import rotated
from softoverlap._checks import (
    check_finite,
    check_positive,
    check_rotated_boxes,
    check_same_rows,
    should_validate,
)
from softoverlap._types import Boxes, accumulation_dtype, plain, score_dtype
from softoverlap.boxes import MOST_LOG_SIZE, code_weights


def encode_rotated_boxes(
    boxes: Boxes,
    anchors: Boxes,
    *,
    weights: Sequence[float] | None = None,
    validate: bool | None = None,
) -> Float[Tensor, "boxes codes"]:
    """Codes of oriented boxes relative to aligned anchors: what a detector's box head regresses.

    First the offset of the centre along the anchor's own axes, in edges of the anchor, then the
    logarithm of the ratio of the edges, then cosine and sine of twice the turn from the anchor. A
    box turned by 180° is the same box and has the same code, so the code of a box that turns on
    has no jump, while its angle, however it is held within a range, has one.

    A box is also the same if it is turned by 90° and its edges change places, but then its code is
    another: write the longer edge first. For a square all four turns are the same; where those
    matter, take a loss of the boxes themselves, such as `RotatedBoxGIoULoss`.

    Args:
        boxes: `(cx, cy, w, h, angle)` or `(cx, cy, cz, w, h, d, yaw)`, radians counter-clockwise
            from axis 0 to axis 1, shape (N, 5) or (N, 7).
        anchors: Same layout and shape; the angle of an upright anchor is 0.
        weights: A factor of each code, 6 or 8 numbers above 0; by default 1.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Codes, without unit, shape (N, 6) or (N, 8): centres, sizes, cosine, sine.

    Raises:
        ValueError: If a shape is wrong, a value is not finite, an edge is not above 0, or weights
            do not fit.

    References:
        Ren et al., Faster R-CNN, https://arxiv.org/abs/1506.01497
        Yu and Da, Phase-shifting coder, https://arxiv.org/abs/2211.06368 (angles as phases)

    Examples:
        >>> import torch
        >>> anchor = torch.tensor([[0.0, 0.0, 4.0, 2.0, 0.0]])
        >>> encode_rotated_boxes(torch.tensor([[2.0, 0.0, 4.0, 2.0, torch.pi / 6]]), anchor)
        tensor([[0.5000, 0.0000, 0.0000, 0.0000, 0.5000, 0.8660]])
    """
    _check_solid(boxes, anchors, validate)
    check_same_rows(boxes=boxes, anchors=anchors)
    ndim = rotated.spatial_dims(boxes)
    factors = code_weights(weights, 2 * ndim + 2)
    dtype = accumulation_dtype(boxes, anchors)
    box, anchor = (plain(each).to(dtype).unbind(1) for each in (boxes, anchors))
    apart = [place - middle for place, middle in zip(box[:ndim], anchor[:ndim], strict=True)]
    apart[:2] = _turned(apart[0], apart[1], -anchor[-1])
    edges = list(zip(box[ndim:-1], anchor[ndim:-1], strict=True))
    codes = [offset / edge for offset, (_, edge) in zip(apart, edges, strict=True)]
    codes += [torch.log(edge / anchor_edge) for edge, anchor_edge in edges]
    twice = 2 * (box[-1] - anchor[-1])
    codes += [twice.cos(), twice.sin()]
    weighted = [factor * code for factor, code in zip(factors, codes, strict=True)]
    return torch.stack(weighted, dim=1).to(score_dtype(boxes, anchors))


def decode_rotated_boxes(
    codes: Shaped[Tensor, "boxes codes"],
    anchors: Boxes,
    *,
    weights: Sequence[float] | None = None,
    clamp: float | int = MOST_LOG_SIZE,
    validate: bool | None = None,
) -> Float[Tensor, "boxes parameters"]:
    """Oriented boxes from their codes relative to aligned anchors.

    The inverse of `encode_rotated_boxes`, but for whole half turns: the angle is within 90° of
    that of the anchor. Cosine and sine need not be of length 1, so a network's numbers are taken
    as they are; where both are 0 the angle is that of the anchor, without a gradient.

    Args:
        codes: Centres, sizes, cosine, sine, shape (N, 6) or (N, 8).
        anchors: Oriented boxes, shape (N, 5) or (N, 7).
        weights: What each code was multiplied with, 6 or 8 numbers above 0; by default 1.
        clamp: Highest logarithm of a size, as in `decode_boxes`.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Oriented boxes in units of the anchors, shape (N, 5) or (N, 7), in float32 or wider.

    Raises:
        ValueError: If a shape is wrong, a value is not finite, an anchor has a negative edge, or
            weights or `clamp` are out of range.

    Examples:
        >>> import torch
        >>> anchor = torch.tensor([[0.0, 0.0, 4.0, 2.0, 0.0]])
        >>> decode_rotated_boxes(torch.tensor([[0.5, 0.0, 0.0, 0.0, 0.0, 1.0]]), anchor)
        tensor([[2.0000, 0.0000, 4.0000, 2.0000, 0.7854]])
    """
    check_positive(clamp=clamp)
    check_rotated_boxes(anchors=anchors, validate=validate)
    _check_codes(codes, anchors.shape[1] + 1, validate)
    check_same_rows(codes=codes, anchors=anchors)
    ndim = rotated.spatial_dims(anchors)
    factors = code_weights(weights, 2 * ndim + 2)
    dtype = accumulation_dtype(codes, anchors)
    anchor = plain(anchors).to(dtype).unbind(1)
    columns = plain(codes).to(dtype).unbind(1)
    parts = [code / factor for code, factor in zip(columns, factors, strict=True)]
    edges = anchor[ndim:-1]
    apart = [part * edge for part, edge in zip(parts[:ndim], edges, strict=True)]
    apart[:2] = _turned(apart[0], apart[1], anchor[-1])
    sizes = [
        edge * part.clamp(max=clamp).exp() for part, edge in zip(parts[ndim:-2], edges, strict=True)
    ]
    centres = [middle + offset for middle, offset in zip(anchor[:ndim], apart, strict=True)]
    nowhere = (parts[-2] == 0) & (parts[-1] == 0)
    turn = torch.atan2(parts[-1], torch.where(nowhere, 1, parts[-2])) / 2
    turn = torch.where(nowhere, 0, turn)
    return torch.stack([*centres, *sizes, anchor[-1] + turn], dim=1)


def _turned(x: Tensor, y: Tensor, angle: Tensor) -> rotated.Point:
    """A vector, counter-clockwise."""
    return rotated.along_axes(x, y, (angle.cos(), -angle.sin()))


def _check_solid(boxes: Tensor, anchors: Tensor, validate: bool | None) -> None:
    """Both are oriented boxes of one layout, and each edge is above 0."""
    check_rotated_boxes(boxes=boxes, validate=validate)
    check_rotated_boxes(anchors=anchors, parameters=boxes.shape[1], validate=validate)
    if not should_validate(validate, boxes, anchors):
        return
    for name, box in (("boxes", boxes), ("anchors", anchors)):
        box = plain(box.detach())
        flat = (box[:, rotated.spatial_dims(box) : -1] <= 0).any(dim=1)
        if flat.any():
            row = int(flat.nonzero()[0, 0])
            raise ValueError(
                f"{name} must have edges above 0, got {box[row].tolist()} in row {row}"
            )


def _check_codes(codes: Tensor, count: int, validate: bool | None) -> None:
    check_finite(codes=codes, validate=validate)
    if codes.ndim != 2 or codes.shape[1] != count:
        raise ValueError(f"codes must have shape (N, {count}), got {tuple(codes.shape)}")
    if codes.dtype == torch.bool:
        raise TypeError(f"codes must hold real codes, got dtype {codes.dtype}")
