"""The lesions of each size class with their best anchors, as a picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap.anchors import AnchorPlan, best_box_in_image
from softoverlap.app.report._style import (
    FOUND,
    TRUTH,
    Axes,
    Figure,
    FigureCanvasAgg,
    Line2D,
    Rectangle,
)
from softoverlap.lesion import Lesion
from softoverlap.overlaps import mask_box_dice

_COLUMNS = 5
_MARGIN = 2  # voxels around lesion and boxes
_INCHES = 1.7


def plot_plan(
    plan: AnchorPlan,
    lesions: Sequence[Lesion],
    quality: Float[Tensor, "lesions"],
    classes: Sequence[str],
) -> Figure:
    """Lesions of each size class with the anchor that covers them best, and the best of all boxes.

    In each row the lesions go from one that anchors cover badly to one that they cover well. In 3D
    a lesion is shown in the layer of its anchor that holds most of it; a box that does not reach
    that layer is drawn faintly.

    Args:
        plan: The plan.
        lesions: At least one lesion, at the plan's spacing.
        quality: Best overlap of each with an anchor of the plan, in [0, 1], shape (K,).
        classes: Name of each lesion's class; a row shows one class, in the order in which the names
            appear by rising volume.

    Returns:
        A figure of its own, on no screen; `save_figure` writes it.

    Raises:
        ValueError: If there is no lesion, or the lengths differ.

    Examples:
        >>> import torch
        >>> lesion = Lesion(
        ...     box=torch.tensor([2.0, 2.0, 5.0, 5.0]), crop=torch.ones(3, 3),
        ...     offset=torch.tensor([2, 2]), centre=torch.tensor([3.5, 3.5]), volume_mm3=9.0,
        ... )
        >>> plan = AnchorPlan(strides=[(2, 2)], sizes=[[(4, 4)]])
        >>> plot_plan(plan, [lesion], plan.quality([lesion]), ["small"]).axes[0].get_title()
        '0.72 of 1.00'
    """
    if not len(lesions) or not len(lesions) == len(quality) == len(classes):
        raise ValueError(
            "lesions, quality and classes must be as many, at least one, got "
            f"{len(lesions)}, {len(quality)} and {len(classes)}"
        )
    order = sorted(range(len(lesions)), key=lambda row: lesions[row].volume_mm3)
    names = list(dict.fromkeys(classes[row] for row in order))
    figure = Figure(
        figsize=(_COLUMNS * _INCHES + 0.6, len(names) * (_INCHES + 0.35) + 0.6),
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(names), _COLUMNS, squeeze=False)
    for name, line in zip(names, grid, strict=True):
        rows = [row for row, one in enumerate(classes) if one == name]
        shown = _spread(sorted(rows, key=lambda row: float(quality[row])))
        line[0].set_ylabel(f"{name}\n{len(rows)} lesions" if len(rows) > 1 else f"{name}\n1 lesion")
        for axes, row in zip(line, [*shown, *[None] * (_COLUMNS - len(shown))], strict=True):
            _blank(axes)
            if row is not None:
                _draw(axes, plan, lesions[row], float(quality[row]))
    _legend(figure)
    return figure


def _spread(rows: Sequence[int]) -> list[int]:
    """As many as there are columns, from the first to the last in equal steps."""
    count = min(_COLUMNS, len(rows))
    return [rows[round(place)] for place in np.linspace(0, len(rows) - 1, count)]


def _blank(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def _draw(axes: Axes, plan: AnchorPlan, lesion: Lesion, quality: float) -> None:
    """One lesion in a plane, its best anchor, and the best of all boxes."""
    anchor = plan.best_anchors([lesion])[0].double()
    ideal = best_box_in_image(lesion)
    plane, picture, layer = _layer(lesion, anchor)
    image, low = _window(picture, [lesion.offset.tolist()[a] for a in plane], plane, anchor, ideal)
    extent = (low[1], low[1] + image.shape[1], low[0] + image.shape[0], low[0])
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="nearest")
    spacing = plan.spacing or (1.0,) * plan.ndim
    axes.set_aspect(spacing[plane[0]] / spacing[plane[1]])
    for box, color, dashes in ((ideal, TRUTH, "--"), (anchor, FOUND, "-")):
        top, bottom = box.chunk(2)
        cut = layer is None or bool(top[layer[0]] <= layer[1] + 0.5 <= bottom[layer[0]])
        corner, edges = top.tolist(), (bottom - top).tolist()
        axes.add_patch(
            Rectangle(
                (corner[plane[1]], corner[plane[0]]), edges[plane[1]], edges[plane[0]],
                fill=False, edgecolor=color, linestyle=dashes, linewidth=1.6,
                alpha=1.0 if cut else 0.4,
            )
        )  # fmt: skip
    best = _dice(lesion, ideal)
    axes.set_title(f"{quality:.2f} of {best:.2f}", fontsize=8)


def _layer(
    lesion: Lesion, anchor: Float[Tensor, "coords"]
) -> tuple[tuple[int, ...], Tensor, tuple[int, int] | None]:
    """The axes of the plane, what is seen in it, and the axis across it with the layer's place."""
    crop = lesion.crop.detach().cpu().float()
    if crop.ndim == 2:
        return (0, 1), crop, None
    across = int(np.argmin(crop.shape))
    plane = tuple(axis for axis in range(3) if axis != across)
    first = int(lesion.offset[across])
    middles = torch.arange(crop.shape[across]) + first + 0.5
    covered = (middles > anchor[across]) & (middles < anchor[across + 3])
    layer = int(crop.sum(dim=plane).where(covered, -1.0).argmax())
    return plane, crop.select(across, layer), (across, layer + first)


def _window(
    picture: Tensor, offset: Sequence[int], plane: Sequence[int], *boxes: Tensor
) -> tuple[np.ndarray, list[int]]:
    """The plane with room for the lesion and all boxes, and its first voxel."""
    ndim = len(boxes[0]) // 2
    low = [
        min(o, *(int(b[a].floor()) for b in boxes)) - _MARGIN
        for o, a in zip(offset, plane, strict=True)
    ]
    high = [
        max(o + side, *(int(b[a + ndim].ceil()) for b in boxes)) + _MARGIN
        for o, side, a in zip(offset, picture.shape, plane, strict=True)
    ]
    image = np.zeros([b - a for a, b in zip(low, high, strict=True)], dtype=np.float32)
    first = [o - a for o, a in zip(offset, low, strict=True)]
    window = tuple(slice(a, a + side) for a, side in zip(first, picture.shape, strict=True))
    image[window] = picture.numpy()
    return image, low


def _dice(lesion: Lesion, box: Tensor) -> float:
    return float(mask_box_dice([lesion], box[None].to(lesion.crop.device)))


def _legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], color=FOUND, label="best anchor"),
        Line2D([], [], color=TRUTH, linestyle="--", label="best of all boxes"),
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=2, fontsize=8, frameon=False,
        title="soft Dice of the best anchor, of that of the best box", title_fontsize=8,
    )  # fmt: skip
