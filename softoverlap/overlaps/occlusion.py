"""How much of a box is in view: cut by a field of view, hidden by boxes or by a soft mask.

The faces of all occluders divide space into cells, each of which is hidden or free. They are made
once, (2 M)^ndim cells for M occluders; what each box has of them is added up axis by axis.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap import scores
from softoverlap._autograd import has_tangent, widened
from softoverlap._box_edges import shared_edge
from softoverlap._checks import (
    check_boxes,
    check_probabilities,
    check_tensors,
    check_within,
    is_traced,
)
from softoverlap._types import Boxes, OtherBoxes, plain, score_dtype
from softoverlap.boxes import centres
from softoverlap.mask_boxes import SummedVolume
from softoverlap.overlaps.mask_boxes import mask_box_mass

Fields = Shaped[Tensor, "*fields coords"]
"""A field of view for all boxes, shape (coords,), or one a box, shape (N, coords)."""

Share = TypeVar("Share", float, int, Tensor)

Interval = tuple[Tensor, Tensor]
"""Where intervals start and end; the two broadcast."""


def visible_fraction(
    boxes: Boxes,
    visible: Fields | None = None,
    *,
    occluders: OtherBoxes | None = None,
    occluder_mask: Shaped[Tensor, "*spatial"] | SummedVolume | None = None,
    validate: bool | None = None,
) -> Float[Tensor, "boxes"]:
    """Share of each box that lies in a field of view and behind no occluder, exact.

    It has a gradient to all of its arguments. Where faces coincide, that to each is the mean of its
    two one-sided derivatives; where those of a box and of the field lie on one edge of a voxel of
    a mask, it lies between the two.

    Args:
        boxes: Whole boxes, minima, then maxima, shape (N, 2 * ndim).
        visible: Field of view, a box for all, shape (2 * ndim,), or one a box, shape
            (N, 2 * ndim); by default everything.
        occluders: Boxes that hide what is behind them, shape (M, 2 * ndim); they may overlap, and
            what two of them hide is hidden once. They are for dozens to hundreds: memory grows as
            (2 * M) ** ndim numbers, and for a gradient to them as N * M * (2 * M) ** (ndim - 1).
        occluder_mask: In place of them the probability of each voxel to be hidden, shape
            (*spatial), or a `SummedVolume` of one such mask; nothing is hidden beyond it. The
            fraction is then the expected one.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Fraction in [0, 1], without unit, shape (N,); 1 for a box of no volume, of which nothing can
        be hidden.

    Raises:
        ValueError: If shapes disagree, a value is not finite, a box is inverted, a probability
            lies outside [0, 1], or there are both `occluders` and `occluder_mask`.

    References:
        Geiger et al., Are we ready for autonomous driving? The KITTI vision benchmark suite, CVPR
        2012, https://doi.org/10.1109/CVPR.2012.6248074 (truncation and occlusion)

    Examples:
        >>> import torch
        >>> box, image = torch.tensor([[-2.0, 0.0, 2.0, 4.0]]), torch.tensor([0.0, 0.0, 9.0, 9.0])
        >>> visible_fraction(box, image)
        tensor([0.5000])
        >>> tools = torch.tensor([[0.0, 1.0, 1.0, 3.0], [0.0, 2.0, 1.0, 4.0]])
        >>> visible_fraction(box, image, occluders=tools)
        tensor([0.3125])
        >>> visible_fraction(box, image, occluder_mask=torch.full((9, 9), 0.5))
        tensor([0.2500])
    """
    if occluders is not None and occluder_mask is not None:
        raise ValueError("occluder_mask must be None where occluders are given, got both")
    whole, field, hiding = _checked(boxes, visible, occluders, validate)
    (low, high), (first, last) = whole.chunk(2, dim=1), field.chunk(2, dim=1)
    shared, edges = shared_edge(low, high, first, last), high - low
    fraction = scores.iof(shared, edges, empty=0.0).prod(dim=1)
    if occluders is not None:
        fraction = fraction - _share_of_union(whole, field, hiding)
    if occluder_mask is not None:
        mask = _checked_mask(occluder_mask, low.shape[1], validate)
        start, end = _meet((low, high), (first, last))
        seen = torch.cat([start, torch.maximum(start, end)], dim=1)
        (mass,) = mask_box_mass(mask, seen, validate=False)
        fraction = fraction - scores.iof(mass, edges.prod(dim=1), empty=0.0)
    fraction = fraction - (fraction - fraction.clamp(0, 1)).detach()  # rounding has no gradient
    return torch.where((edges <= 0).any(dim=1), 1.0, fraction).to(score_dtype(boxes))


def visible_box(
    boxes: Boxes,
    visible: Fields | None = None,
    *,
    occluders: OtherBoxes | None = None,
    validate: bool | None = None,
) -> Float[Tensor, "boxes coords"]:
    """Tight box around what is in view of each box (its modal box).

    Planes that cut a box, be they of the field of view or of an occluder that lies across it, leave
    a smaller box. An occluder within it, or at a corner, leaves the box as it is.

    There is a gradient to the faces that are followed. Where those of box, field and an occluder
    coincide, that to each is the mean of its two one-sided derivatives; a face of an occluder that
    cuts nothing has none, and occluders that end on one plane share theirs.

    Args:
        boxes: Whole boxes, minima, then maxima, shape (N, 2 * ndim).
        visible: Field of view, as in `visible_fraction`.
        occluders: Boxes that hide what is behind them, shape (M, 2 * ndim). Memory grows as
            (2 * M) ** ndim numbers.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Boxes within the whole ones, shape (N, 2 * ndim); a point at the centre where no volume is
        in view.

    Raises:
        ValueError: If shapes disagree, a value is not finite or a box is inverted.

    Examples:
        >>> import torch
        >>> box, image = torch.tensor([[-2.0, 0.0, 2.0, 4.0]]), torch.tensor([0.0, 0.0, 9.0, 9.0])
        >>> visible_box(box, image, occluders=torch.tensor([[0.0, 3.0, 5.0, 5.0]]))
        tensor([[0., 0., 2., 3.]])
        >>> visible_box(box, image, occluders=torch.tensor([[0.5, 1.0, 1.5, 3.0]]))
        tensor([[0., 0., 2., 4.]])
    """
    whole, field, hiding = sets = _checked(boxes, visible, occluders, validate)
    hiders, ndim = _intervals(hiding), whole.shape[1] // 2
    free = (_sum_of_products([_is_inside(_cells(*hider), hider) for hider in hiders]) == 0).double()
    a, b, c = (-each.roll(ndim, dims=1) for each in sets)  # mirrored
    lowest = _lowest_in_view(whole, field, hiding, free)
    highest = 0 - _lowest_in_view(a, b, c, free.flip(*range(ndim)))  # a zero has no sign
    found, middle = torch.cat([lowest, highest], dim=1), centres(whole).repeat(1, 2)
    return torch.where(found.isfinite(), found, middle).to(score_dtype(boxes))


def amodal_iou_bound(visible_fraction: Share, *, validate: bool | None = None) -> Share:
    """The highest IoU with a whole box that a box within what is in view of it can have.

    A prediction P within the visible set V shares no more with the whole box B than V does, and the
    union holds all of B: `|P ∩ B| / |P ∪ B| <= |V ∩ B| / |B|`, the fraction itself. It is reached
    by V ∩ B where that is a box, as where planes cut B. For a box that may cover what is hidden,
    such as the tight box of the visible part, it is the fraction that this box has of B:
    `visible_fraction(boxes, visible_box(boxes, ...))`.

    Args:
        visible_fraction: Share of the whole box in view, in [0, 1], a number or a tensor of any
            shape.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        IoU in [0, 1], without unit, a number or of the same shape.

    Raises:
        TypeError: If it is neither a number nor a tensor of numbers.
        ValueError: If a fraction lies outside [0, 1].

    Examples:
        >>> import torch
        >>> amodal_iou_bound(0.25)
        0.25
        >>> box, image = torch.tensor([[-2.0, 0.0, 2.0, 4.0]]), torch.tensor([0.0, 0.0, 9.0, 9.0])
        >>> amodal_iou_bound(visible_fraction(box, image))
        tensor([0.5000])
    """
    if isinstance(visible_fraction, Tensor):
        check_probabilities(visible_fraction=visible_fraction, validate=validate)
        return plain(visible_fraction).to(score_dtype(visible_fraction)).clamp(0, 1)
    check_within(0, 1, visible_fraction=visible_fraction)
    return visible_fraction


def _checked(
    boxes: Tensor, visible: Tensor | None, occluders: Tensor | None, validate: bool | None
) -> list[Tensor]:
    """Boxes, fields of view and occluders in float64: by default one of all space, and none."""
    check_boxes(boxes=boxes, validate=validate)
    ndim = boxes.shape[1] // 2
    end = torch.full((1, ndim), math.inf, device=boxes.device)
    space = torch.cat([-end, end], dim=1)
    if visible is not None:
        check_tensors(visible=visible)
        if tuple(visible.shape) not in ((2 * ndim,), tuple(boxes.shape)):
            raise ValueError(
                f"visible must have shape ({2 * ndim},), or {tuple(boxes.shape)} as boxes have, "
                f"got {tuple(visible.shape)}"
            )
        space = visible.reshape(-1, 2 * ndim)
        check_boxes(visible=space, validate=validate)
    occluders = boxes.new_zeros(0, 2 * ndim) if occluders is None else occluders
    check_boxes(occluders=occluders, ndim=ndim, validate=validate)
    whole, field, hiding = (widened(plain(each)) for each in (boxes, space, occluders))
    unknown = (field.isnan().sum(dim=1, keepdim=True) + hiding.isnan().sum()) > 0
    return [torch.where(unknown, math.nan, whole), field, hiding]  # NaN comes out, too


def _checked_mask(
    mask: Tensor | SummedVolume, ndim: int, validate: bool | None
) -> Tensor | SummedVolume:
    """One mask of these axes, in a form that has K masks."""
    if isinstance(mask, SummedVolume):
        if len(mask) != 1 or mask.ndim != ndim:
            raise ValueError(
                f"occluder_mask must hold one mask of {ndim} axes, got {len(mask)} of {mask.ndim}"
            )
        return mask
    check_probabilities(occluder_mask=mask, validate=validate)
    if mask.ndim != ndim:
        raise ValueError(f"occluder_mask must have {ndim} axes, got shape {tuple(mask.shape)}")
    return mask[None]


def _intervals(boxes: Tensor) -> list[Interval]:
    """Both faces of each box, a column, axis by axis."""
    return list(zip(*(half.split(1, dim=1) for half in boxes.chunk(2, dim=1)), strict=True))


def _cells(first: Tensor, last: Tensor) -> Interval:
    """Below and above each cell between the faces, in order, and those beyond: (2 M + 1,)."""
    faces = torch.cat([first, last])[:, 0].sort().values
    end = faces.new_full((1,), math.inf)
    return torch.cat([-end, faces]), torch.cat([faces, end])


def _is_inside(cells: Interval, hider: Interval) -> Tensor:
    """1 for each cell between the faces of each occluder, else 0, (M, cells)."""
    return ((hider[0] <= cells[0]) & (cells[1] <= hider[1])).to(cells[0])


def _meet(a: Interval, b: Interval) -> Interval:
    """Where both are; inverted where they are apart."""
    return torch.maximum(a[0], b[0]), torch.minimum(a[1], b[1])


def _has_length(interval: Interval) -> Tensor:
    return interval[1] > interval[0]


def _lowest_in_view(whole: Tensor, field: Tensor, occluders: Tensor, free: Tensor) -> Tensor:
    """Lowest coordinates in view of each box, (N, ndim), not finite where nothing is.

    Between two slabs of cells of which something is in view there is no wall, whichever faces lie
    there: a wall is where one ends of which nothing is.
    """
    axes = list(zip(*map(_intervals, (whole, field, occluders)), strict=True))
    cells = [_cells(*hider) for _, _, hider in axes]
    parts = [_meet(box, view) for box, view, _ in axes]
    meets = [_has_length(_meet(*both)) for both in zip(parts, cells, strict=True)]
    found = []
    for axis, (box, view, hider) in enumerate(axes):
        others = (torch.ones_like(x) if x is meets[axis] else x for x in meets)
        across = [x.to(free) for x in others]
        seen = _added_up(free, across, keep=axis) > 0
        ends = torch.where(_has_length(cells[axis]) & ~seen, cells[axis][1], -math.inf)
        before = torch.nn.functional.pad(ends.cummax(dim=1).values[:, :-1], (1, 0), value=-math.inf)
        wall = torch.where(seen & meets[axis], before, math.inf).amin(dim=1, keepdim=True).detach()
        held = wall == hider[1].T  # by whom: those that end there, and reach the box
        for other in set(range(len(axes))) - {axis}:
            low, high = axes[other][2]
            held = held & _has_length(_meet(parts[other], (low.T, high.T)))
        shares = held / held.sum(dim=1, keepdim=True).clamp(min=1)
        found.append(_last(box[0], view[0], _moving(wall, shares, hider[1].T)))
    return torch.cat(found, dim=1)


def _last(*faces: Tensor) -> Tensor:
    """The highest face; of the gradient each one on its level has half, a single one all."""
    together = torch.cat(torch.broadcast_tensors(*faces), dim=1)
    last = together.detach().amax(dim=1, keepdim=True)
    level = together.detach() == last
    return _moving(last, level / level.sum(dim=1, keepdim=True).clamp(max=2), together)


def _moving(value: Tensor, shares: Tensor, faces: Tensor) -> Tensor:
    """The value, which moves with faces by their shares."""
    moved = (shares * torch.where(shares > 0, faces, 0)).sum(dim=1, keepdim=True)
    return value + (moved - moved.detach())


def _length(moving: Interval, fixed: Interval) -> Tensor:
    """Length that an interval has of a fixed one, which takes no gradient and may be none."""
    start, end = (each.detach() for each in fixed)
    return torch.where(end > start, shared_edge(*moving, start, end), 0.0)


def _share_of_union(whole: Tensor, field: Tensor, occluders: Tensor) -> Float[Tensor, "boxes"]:
    """Share of each box that lies in the field and in some occluder.

    The union is 1 - Π (1 - x) over the occluders, where x, 0 or 1, says whether a cell lies in one.
    Its derivative by x is 1 where no other one covers the cell, else 0. So as a face of an occluder
    moves, the share of each box changes by what it newly covers of free cells, and leaves of those
    that it covers alone.
    """
    shares, reached, inside = [], [], []
    moves = is_traced() or occluders.requires_grad or has_tangent(occluders)
    for box, view, hider in zip(*map(_intervals, (whole, field, occluders)), strict=True):
        cells, edge = _cells(*(face.detach() for face in hider)), box[1] - box[0]
        inside.append(_is_inside(cells, hider).detach())
        of_view = _length(view, _meet(box, cells))
        length = _length(box, _meet(view, cells)) + (of_view - of_view.detach())
        shares.append(scores.iof(length, edge, empty=0.0))
        if moves:
            part = [each[:, None] for each in _meet(_meet(box, view), cells)]  # (N, 1, cells)
            reach = _length(hider, (part[0], part[1]))
            reached.append(scores.iof(reach, edge[:, None].detach(), empty=0.0))
    count = _sum_of_products(inside)
    hidden = _added_up((count > 0).to(whole), shares)
    if not moves:
        return hidden
    kept = [x * reach for x, reach in zip(inside, reached, strict=True)]
    change = _added_up((count == 0).to(whole), reached) + _added_up((count == 1).to(whole), kept)
    change = change.sum(dim=1)
    return hidden + (change - change.detach())


def _sum_of_products(factors: list[Tensor]) -> Tensor:
    """Σ over rows m of the products of factors[axis][m, i], an entry for each cell (i, j, ...)."""
    places = list(range(len(factors)))
    operands = [part for axis in places for part in (factors[axis], [len(factors), axis])]
    return torch.einsum(*operands, places)


def _added_up(cells: Tensor, weights: list[Tensor], keep: int | None = None) -> Tensor:
    """Σ over cells times weights[axis][..., i] of each row, but for an axis that is kept."""
    ndim, rows = len(weights), list(range(len(weights), len(weights) + weights[0].ndim - 1))
    order = sorted(range(ndim), key=lambda axis: axis == keep)  # last, so that little is held
    operands = [part for axis in order for part in (weights[axis], [*rows, axis])]
    return torch.einsum(cells, list(range(ndim)), *operands, rows + [keep] * (keep is not None))
