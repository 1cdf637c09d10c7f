"""Anchors planned by what they cover: strides and shapes that give every lesion a good one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap._checks import check_positive, refusal
from softoverlap.anchors import _plan_fields as checked
from softoverlap.anchors.choice import greedy_choice
from softoverlap.anchors.grid_quality import anchors_a_voxel, grid_quality
from softoverlap.anchors.plan import AnchorPlan, check_lesions, tversky_overlap
from softoverlap.lesion import Lesion
from softoverlap.overlaps import MaskBoxOverlap, mask_box_dice

EDGES = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0)
"""Edges of the candidates along each axis, in strides: in 3D 512 shapes on each level."""

LEVELS = 4
"""Levels among which a plan chooses if no strides are given, the finest of every voxel."""

_THICK = 2.0  # as nnU-Net: an axis of voxels so much longer is not halved yet


def plan_anchors(
    lesions: Sequence[Lesion],
    *,
    max_anchors_per_voxel: float | int = 0.55,
    strides: Sequence[int | Sequence[int]] | None = None,
    spacing: Sequence[float | int] | None = None,
    edges: Sequence[float | int] = EDGES,
    overlap: MaskBoxOverlap | str = mask_box_dice,
) -> AnchorPlan:
    """Choose strides and anchor shapes that maximise the lesions' best soft overlap.

    A lesion's best overlap with the anchors of one shape on one grid is computed exactly, for all
    shapes of a candidate set, in 2D and 3D. Of the candidates those are taken, one by one, that add
    most to the mean of the lesions' best overlaps for the anchors that they cost, as long as there
    are not more anchors a voxel than asked for. That mean is submodular, so the choice is at
    least 1 - 1/e = 63 % as good as the best one among shapes of one stride, half of that among
    shapes of several; it is nearly always much better. More anchors never give a lower mean.

    The candidates of a level are all shapes whose edges are `edges` times the stride of their axis.
    A level that gets no shape is left out. `AnchorPlan.quality` tells what the plan reaches, on
    these lesions or, better, on others.

    Args:
        lesions: Lesions in voxels of their images, at the spacing of the training.
        max_anchors_per_voxel: Most anchors a voxel, all levels together. The default allows four
            shapes at stride 2 and three at stride 4; `lesion_retinanet` without a plan has 0.05.
        strides: Stride of each level that may be used, finest first, one number or one an axis.
            By default 1, 2, 4 and 8, but an axis is not halved while its voxels are twice as long
            as the shortest edge (thick slices).
        spacing: Voxel edges in mm, one number an axis, kept in the plan; by default all alike.
        edges: Edges of the candidate shapes in strides.
        overlap: Of mask and box, a Tversky index such as `mask_box_iou`, or its name.

    Returns:
        The plan, finest level first, its shapes by rising volume.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If there is no lesion with mass, their axes differ, an argument is out of range,
            or the budget does not allow an anchor on any level.

    References:
        Redmon, Farhadi, YOLO9000: better, faster, stronger, https://arxiv.org/abs/1612.08242
        (anchors from the boxes of a training set, by clustering).
        Nemhauser, Wolsey, Fisher, An analysis of approximations for maximizing submodular set
        functions, Mathematical Programming 14, 1978.

    Examples:
        >>> import torch
        >>> lesion = Lesion(
        ...     box=torch.tensor([2.0, 2.0, 5.0, 5.0]), crop=torch.ones(3, 3),
        ...     offset=torch.tensor([2, 2]), centre=torch.tensor([3.5, 3.5]), volume_mm3=9.0,
        ... )
        >>> plan = plan_anchors([lesion], max_anchors_per_voxel=0.3)
        >>> plan.strides, plan.sizes
        (((2, 2),), (((4.0, 4.0),),))
        >>> plan.quality([lesion])
        tensor([0.7200])
    """
    check_positive(max_anchors_per_voxel=max_anchors_per_voxel)
    overlap = tversky_overlap(overlap)
    if not len(lesions):
        raise refusal("lesions", "must hold at least one Lesion, got none")
    ndim = lesions[0].crop.ndim if isinstance(lesions[0], Lesion) else 0
    check_lesions(lesions, ndim)
    length = checked.lengths("spacing", spacing, ndim) or (1.0,) * ndim
    levels = level_strides(length, LEVELS) if strides is None else _given(strides, ndim)
    levels = _affordable(levels, max_anchors_per_voxel)
    shapes = [_candidates(stride, edges) for stride in levels]
    tables = [
        grid_quality(lesions, part, stride, overlap)
        for part, stride in zip(shapes, levels, strict=True)
    ]
    chosen = _choice(tables, levels, max_anchors_per_voxel)
    if not chosen:
        raise refusal("lesions", "must have mass that an anchor can cover, got none")
    kept = sorted({level for level, _ in chosen})
    sizes = [[shapes[level][row] for where, row in chosen if where == level] for level in kept]
    return AnchorPlan(
        strides=[levels[level] for level in kept],
        sizes=[_by_volume(level) for level in sizes],
        spacing=spacing,
    )


def level_strides(spacing: Sequence[float | int], count: int) -> list[tuple[int, ...]]:
    """Strides of levels that halve the grid again and again, but for axes of long voxels.

    Args:
        spacing: Voxel edges in any unit, one number an axis.
        count: Number of levels, the first of stride 1.

    Returns:
        Stride of each level, one number an axis.

    Examples:
        >>> level_strides((1.0, 1.0, 3.0), 4)
        [(1, 1, 1), (2, 2, 1), (4, 4, 2), (8, 8, 4)]
    """
    levels = [(1,) * len(spacing)]
    while len(levels) < count:
        edges = [step * length for step, length in zip(levels[-1], spacing, strict=True)]
        grown = [2 if edge < _THICK * min(edges) else 1 for edge in edges]
        levels.append(tuple(step * by for step, by in zip(levels[-1], grown, strict=True)))
    return levels


def _given(strides: Sequence[int | Sequence[int]], ndim: int) -> list[tuple[int, ...]]:
    """The levels asked for, each with a stride for every axis."""
    if isinstance(strides, str) or not isinstance(strides, Sequence):
        raise refusal("strides", f"must be a list of levels, got {strides!r}", TypeError)
    levels = checked.strides([(s,) * ndim if isinstance(s, int) else s for s in strides])
    if len(levels[0]) != ndim:
        raise refusal("strides", f"must have {ndim} axes, as the lesions, got {levels[0]}")
    return list(levels)


def _affordable(levels: list[tuple[int, ...]], budget: float | int) -> list[tuple[int, ...]]:
    """The levels on which the budget allows an anchor."""
    kept = [stride for stride in levels if anchors_a_voxel(stride) <= budget]
    if not kept:
        least = anchors_a_voxel(levels[-1])
        raise refusal(
            "max_anchors_per_voxel",
            f"must be at least {least:g}, one anchor at stride {levels[-1]}, got {budget}",
        )
    return kept


def _candidates(
    stride: Sequence[int], edges: Sequence[float | int]
) -> Float[Tensor, "shapes ndim"]:
    """All shapes of a level, in voxels."""
    if not len(edges):
        raise refusal("edges", "must hold numbers above 0, got none")
    for edge in edges:
        check_positive(edges=edge)
    lines = [[edge * step for edge in edges] for step in stride]
    return torch.tensor(list(product(*lines)), dtype=torch.float64)


def _choice(
    tables: Sequence[Float[Tensor, "lesions shapes"]],
    levels: Sequence[Sequence[int]],
    budget: float | int,
) -> list[tuple[int, int]]:
    """Level and number of each shape that is chosen; a choice may begin on any level."""
    columns = [(level, row) for level, table in enumerate(tables) for row in range(table.shape[1])]
    costs = [anchors_a_voxel(levels[level]) for level, _ in columns]
    firsts = [
        columns.index((level, int(table.sum(dim=0).argmax()))) for level, table in enumerate(tables)
    ]
    quality = torch.cat(list(tables), dim=1)
    chosen = greedy_choice(quality, quality.new_tensor(costs), budget, firsts=firsts)
    return [columns[column] for column in chosen]


def _by_volume(shapes: Sequence[Float[Tensor, "ndim"]]) -> list[tuple[float, ...]]:
    edges = [tuple(shape.tolist()) for shape in shapes]
    return sorted(edges, key=lambda shape: (float(torch.tensor(shape).prod()), shape))
