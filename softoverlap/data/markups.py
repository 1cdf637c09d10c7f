"""Boxes for 3D Slicer: a markups file (`.mrk.json`) with one ROI per box, in LPS mm."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from softoverlap._checks import check_boxes, check_tensors
from softoverlap._types import Boxes, plain
from softoverlap.data.files import whole_file
from softoverlap.data.geometry import boxes_to_world, check_affine

MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/"
    "Resources/Schema/markups-schema-v1.0.3.json#"
)


def write_markups(
    path: str | os.PathLike[str],
    boxes: Boxes,
    affine: Shaped[Tensor, "4 4"],
    *,
    scores: Shaped[Tensor, "boxes"] | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """Write boxes as 3D Slicer ROIs, right for flipped and oblique scans too.

    Each ROI has the directions of the voxel axes, so it encloses exactly what the box does. Where
    the voxel axes form a left hand, the third direction is turned round: a box does not change
    by that, and Slicer expects a right hand. Where the axes are not perpendicular (a tilted
    gantry) no ROI fits: there each is the box along L, P and S around the whole of it, and its
    description says so.

    Args:
        path: The file, ending in .mrk.json; an existing one is replaced.
        boxes: Boxes in voxels, shape (N, 6).
        affine: Voxel indices to RAS mm of voxel centres, shape (4, 4).
        scores: A score per box, shape (N,), written into the ROI's name and description.
        names: A name per box; by default `box 1`, `box 2`, …

    Raises:
        TypeError: If boxes, affine or scores is not a tensor.
        ValueError: If a shape or the suffix is wrong, a box inverted, or the affine not invertible.
        FileNotFoundError: If the folder does not exist.

    References:
        3D Slicer, markups schema 1.0.3, at the URL in `MARKUPS_SCHEMA`.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "found.mrk.json"
        >>> write_markups(path, torch.tensor([[0.0, 0, 0, 4, 4, 2]]), torch.eye(4))
        >>> json.loads(path.read_text())["markups"][0]["center"]
        [-1.5, -1.5, 0.5]
    """
    if not str(path).endswith(".mrk.json"):
        raise ValueError(f"path must end in .mrk.json, got {path}")
    check_boxes(boxes=boxes, ndim=3, validate=True)
    labels = _labels(len(boxes), scores, names)
    if _perpendicular(affine):
        centres, sizes, orientation = _rois(boxes, affine)
    else:
        upright = torch.eye(4, dtype=torch.float64)
        centres, sizes, orientation = _rois(_enclosing(boxes, affine), upright)
        labels = [(name, f"{text} around a sheared box".strip()) for name, text in labels]
    rois = [
        _roi(label, centre, size, orientation.flatten().tolist())
        for label, centre, size in zip(labels, centres.tolist(), sizes.tolist(), strict=True)
    ]
    content = {"@schema": MARKUPS_SCHEMA, "markups": rois}
    with whole_file(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, allow_nan=False), encoding="utf-8")


def _rois(
    boxes: Tensor, affine: Tensor
) -> tuple[Float64[Tensor, "boxes 3"], Float64[Tensor, "boxes 3"], Float64[Tensor, "3 3"]]:
    """Centres and sizes in LPS mm, and the ROI's directions as columns."""
    lps = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    matrix = lps @ check_affine(affine)
    low, high = plain(boxes).detach().to("cpu", torch.float64).chunk(2, dim=1)
    spacing = matrix[:3, :3].norm(dim=0)
    centres = ((low + high) / 2 - 0.5) @ matrix[:3, :3].T + matrix[:3, 3]
    return centres, (high - low) * spacing, _orientation(matrix[:3, :3] / spacing)


def _orientation(directions: Tensor) -> Tensor:
    """The rotation nearest to the voxel axes, right-handed."""
    rotation = _nearest_rotation(directions)
    if torch.linalg.det(rotation) < 0:
        rotation = rotation * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    return rotation


def _nearest_rotation(directions: Tensor) -> Tensor:
    left, _, right = torch.linalg.svd(directions)
    return left @ right


def _perpendicular(affine: Tensor) -> bool:
    """Whether the voxel axes are all but perpendicular."""
    axes = check_affine(affine)[:3, :3]
    directions = axes / axes.norm(dim=0)
    return (_nearest_rotation(directions) - directions).abs().max().item() <= 1e-3


def _enclosing(boxes: Tensor, affine: Tensor) -> Float64[Tensor, "boxes 6"]:
    """Boxes along the axes of the world around all corners, in voxels of 1 mm at its origin."""
    corners = boxes_to_world(boxes, affine)
    return torch.cat([corners.amin(1), corners.amax(1)], dim=1) + 0.5


def _roi(
    label: tuple[str, str], centre: list[float], size: list[float], orientation: list[float]
) -> dict[str, Any]:
    name, description = label
    return {
        "type": "ROI",
        "name": name,
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": True,
        "roiType": "Box",
        "center": centre,
        "orientation": orientation,
        "size": size,
        "insideOut": False,
        "controlPoints": [
            {
                "id": "1",
                "label": name,
                "description": description,
                "position": centre,
                "positionStatus": "defined",
            }
        ],
    }


def _labels(
    count: int, scores: Tensor | None, names: Sequence[str] | None
) -> list[tuple[str, str]]:
    """Name and description of each ROI."""
    if names is None:
        names = [f"box {number}" for number in range(1, count + 1)]
    if len(names) != count:
        raise ValueError(f"names must hold one name for each of {count} boxes, got {len(names)}")
    if scores is None:
        return [(name, "") for name in names]
    check_tensors(scores=scores)
    if tuple(scores.shape) != (count,):
        raise ValueError(f"scores must have shape ({count},), got {tuple(scores.shape)}")
    if not torch.isfinite(scores).all():
        raise ValueError("scores must hold finite values, got NaN or infinity")
    values = plain(scores).detach().cpu().tolist()
    return [
        (f"{name} ({score:.2f})", f"score {score!r}")
        for name, score in zip(names, values, strict=True)
    ]
