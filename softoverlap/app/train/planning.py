"""From scans to a plan: anchors, and the spacing, patches and sampling of a training with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from softoverlap._checks import check_positive, refusal
from softoverlap._size_limit import too_large
from softoverlap._units import MAX_LESION_MM
from softoverlap.anchors import AnchorPlan, best_box, plan_anchors
from softoverlap.app.train.facts import ScanFacts, check_axes_alike, without_flat_axis
from softoverlap.app.train.zooming import zoom_factor, zoom_lesion, zoom_size
from softoverlap.for_monai import lesion_retinanet
from softoverlap.lesion import Lesion
from softoverlap.measures import SizeClasses

SIZES = SizeClasses((10.0, 100.0, 1000.0), spacing=1.0)
"""Classes of lesions by their volume in mm³, or area in mm²."""

PATCH_VOXELS = {2: 256**2, 3: 48**3}
"""About as many voxels has a patch."""

MOST_PATCHES = 4
"""Patches of a step, where memory allows as many."""

SHOW_A_LESION = 2 / 3
"""Share of the patches that shall show a lesion."""

_BYTES = 4  # of a float32
_COPIES = 2  # of each map: kept for the backward pass, and its gradient
_DRAWS = 200  # patches a scan, to see how often one shows a lesion
_LONG = 0.95  # a patch holds the lesions up to this quantile of their edges, and half as much more


@dataclass(frozen=True)
class PlannedScans:
    """A plan, and what it reaches on the scans that it was made of.

    Args:
        plan: The plan.
        lesions: The lesions that it was made for, at its spacing.
        quality: Best overlap of each with an anchor of the plan, shape (K,).
        best: Best overlap of each with any box, shape (K,).
        classes: Name of each lesion's size class.
        too_large: Number of lesions that were left out, since they are too large for a box.
        shown: Share of patches anywhere that show a lesion.
        step_bytes: About the memory of a step.

    Examples:
        >>> from softoverlap.lesions import lesions_from_mask
        >>> mask = torch.zeros(32, 32, 32)
        >>> mask[3:6, 4:8, 9:12] = 1
        >>> lesions = lesions_from_mask(mask, spacing=(1.0, 1.0, 1.0))
        >>> planned = plan_scans([ScanFacts("sub-01", (32, 32, 32), (1.0, 1.0, 1.0), lesions)])
        >>> planned.classes, planned.plan.patch_size
        (['10–100 mm³'], (32, 32, 32))
    """

    plan: AnchorPlan
    lesions: list[Lesion]
    quality: Float[Tensor, "lesions"]
    best: Float[Tensor, "lesions"]
    classes: list[str]
    too_large: int
    shown: float
    step_bytes: float


def plan_scans(
    scans: Sequence[ScanFacts],
    *,
    max_anchors_per_voxel: float | int = 0.55,
    patch_size: int | None = None,
    memory_gb: float | int = 4.0,
) -> PlannedScans:
    """Plan a training on these scans, which should not be those to validate on.

    The spacing is the median of the scans', axis by axis, and lesions are brought to it. Lesions
    with an edge above 32 mm are left out: no box is asked to find them. An axis along which every
    scan has one voxel is left out too, so that images in 2D get a plan in 2D; their lesions have
    areas in mm² then. The axes of all scans must point alike; the plan keeps where.

    Args:
        scans: What is known of each scan.
        max_anchors_per_voxel: Most anchors a voxel; see `plan_anchors`.
        patch_size: Voxels of a patch along each axis; by default about 48³ of them (256² in 2D),
            as long along each axis in mm, not larger than the scans, and not too small for the
            lesions.
        memory_gb: Memory that a step may take, in GB; fewer patches are taken where it is short.

    Returns:
        The plan, and what it reaches on these scans.

    Raises:
        ValueError: If there is no lesion, the axes of two scans do not point alike, a patch is no
            multiple of the plan's stride, or an argument is out of range.

    Examples:
        >>> plan_scans([ScanFacts("sub-01", (32, 32, 32), (1.0, 1.0, 1.0), [])])
        Traceback (most recent call last):
        ValueError: scans must hold at least one lesion up to 32 mm, got none in 1 scan
    """
    check_positive(memory_gb=memory_gb)
    check_axes_alike(scans)
    scans = without_flat_axis(scans)
    spacing = _median([scan.spacing for scan in scans])
    shapes = [_shape_at(scan, spacing) for scan in scans]
    kept, left_out = _lesions_at(scans, spacing)
    lesions = [lesion for of_scan in kept for lesion in of_scan]
    if not lesions:
        count = "1 scan" if len(scans) == 1 else f"{len(scans)} scans"
        complaint = f"must hold at least one lesion up to {MAX_LESION_MM:g} mm, got none in {count}"
        raise refusal("scans", complaint)
    plan = plan_anchors(lesions, max_anchors_per_voxel=max_anchors_per_voxel, spacing=spacing)
    patch = _patch(plan, shapes, lesions) if patch_size is None else (patch_size,) * plan.ndim
    plan = replace(plan, axes=scans[0].axes, patch_size=patch)
    bytes_each = patch_bytes(plan)
    count = int(min(MOST_PATCHES, max(1, memory_gb * 1e9 // bytes_each)))
    shown = _share_that_shows_a_lesion(shapes, kept, patch)
    quality = plan.quality(lesions)
    best = torch.tensor([best_box(lesion.crop).bound for lesion in lesions])
    classes = [_class_of(lesion.volume_mm3, plan.ndim) for lesion in lesions]
    plan = replace(
        plan,
        batch_size=count,
        foreground=_foreground(shown, sum(map(bool, kept)) / len(kept)),
        expected_quality=_by_class(quality, best, classes, plan.ndim),
    )
    return PlannedScans(plan, lesions, quality, best, classes, left_out, shown, count * bytes_each)


def patch_bytes(plan: AnchorPlan) -> float:
    """About the memory that a patch takes in a step of the training of the plan's network.

    The maps of a small image are counted, and scaled.

    Examples:
        >>> plan = AnchorPlan(strides=[(4, 4)], sizes=[[(5, 5)]], patch_size=(64, 64))
        >>> 1e5 < patch_bytes(plan) < 1e7
        True
    """
    counted = 0

    def count(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal counted
        counted += output.numel() if isinstance(output, Tensor) else 0

    network = lesion_retinanet(plan=plan)
    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(count)
    small = [2 * step for step in plan.strides[-1]]
    with torch.no_grad():
        network(torch.zeros(1, 1, *small))
    voxels = math.prod(plan.patch_size or small)
    of_anchors = plan.anchors_per_voxel * (4 * plan.ndim + 8)  # box, code, target, quality, scores
    return _BYTES * voxels * (_COPIES * counted / math.prod(small) + of_anchors)


def _median(spacings: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(round(float(edge), 6) for edge in np.median(spacings, axis=0))


def _shape_at(scan: ScanFacts, spacing: Sequence[float]) -> tuple[int, ...]:
    """Voxels of the scan at another spacing."""
    return zoom_size(scan.shape, zoom_factor(scan.spacing, spacing))


def _lesions_at(
    scans: Sequence[ScanFacts], spacing: Sequence[float]
) -> tuple[list[list[Lesion]], int]:
    """The lesions of each scan at this spacing, and the number of those that are too large."""
    kept, left_out = [], 0
    for scan in scans:
        factor = zoom_factor(scan.spacing, spacing)
        small = [
            lesion for lesion in scan.lesions if not bool(too_large(lesion.box[None], scan.spacing))
        ]
        left_out += len(scan.lesions) - len(small)
        kept.append([zoom_lesion(lesion, factor) for lesion in small])
    return kept, left_out


def _patch(
    plan: AnchorPlan, shapes: Sequence[Sequence[int]], lesions: Sequence[Lesion]
) -> tuple[int, ...]:
    """About as many voxels as wanted, equally long in mm, between the lesions and the scans."""
    spacing = np.array(plan.spacing or (1.0,) * plan.ndim)
    voxels = PATCH_VOXELS.get(plan.ndim, PATCH_VOXELS[3])
    wanted = (voxels * spacing.prod()) ** (1 / plan.ndim) / spacing
    boxes = torch.stack([lesion.box.double() for lesion in lesions]).numpy()
    long = np.quantile(boxes[:, plan.ndim :] - boxes[:, : plan.ndim], _LONG, axis=0)
    stride = np.array(plan.strides[-1])
    most = np.ceil(np.median(shapes, axis=0) / stride)
    least = np.ceil(1.5 * long / stride)
    cells = np.maximum(np.round(wanted / stride), least)
    return tuple(int(side) for side in np.maximum(np.minimum(cells, most), 1) * stride)


def _share_that_shows_a_lesion(
    shapes: Sequence[Sequence[int]], lesions: Sequence[Sequence[Lesion]], patch: Sequence[int]
) -> float:
    """How many of the patches that lie anywhere hold the centre of a lesion."""
    random, shown = np.random.default_rng(0), []
    for shape, of_scan in zip(shapes, lesions, strict=True):
        room = np.maximum(np.array(shape) - patch, 0) + 1
        start = random.integers(0, room, size=(_DRAWS, len(shape)))
        centres = np.array([lesion.centre.tolist() for lesion in of_scan])
        centres = centres.reshape(1, -1, len(shape))
        inside = (centres >= start[:, None]) & (centres < start[:, None] + np.array(patch))
        shown.append(inside.all(axis=-1).any(axis=-1).mean())
    return float(np.mean(shown))


def _class_of(volume: float, ndim: int) -> str:
    names = SIZES.names(ndim)
    return next(n for n, (low, high) in zip(names, SIZES.bounds, strict=True) if volume < high)


def _foreground(shown: float, with_lesions: float) -> float:
    """Share of patches to take around a lesion, which only some of the scans have."""
    wanted = (SHOW_A_LESION - shown) / max(with_lesions - shown, 1e-9)
    return round(min(max(0.0, wanted), 1.0), 2)


def _by_class(
    quality: Tensor, best: Tensor, classes: Sequence[str], ndim: int
) -> dict[str, dict[str, float | int]]:
    """Figures of each size class, and of all."""
    made = {}
    for name in (*SIZES.names(ndim), "all"):
        rows = torch.tensor([name in (one, "all") for one in classes])
        own, ideal = quality[rows].double(), best[rows].double()
        figures: dict[str, float | int] = {"lesions": int(rows.sum())}
        if len(own):
            share = (own / ideal.clamp(min=1e-12)).clamp(max=1)
            figures |= {
                "median": round(float(own.median()), 4),
                "mean": round(float(own.mean()), 4),
                "any_box_median": round(float(ideal.median()), 4),
                "share_of_any_box": round(float(share.mean()), 4),
            }
        made[name] = figures
    return made
