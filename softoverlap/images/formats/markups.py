"""Boxes for 3D Slicer: a markups file (`.mrk.json`) with one ROI per box, in LPS mm."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64, Shaped
from torch import Tensor

from softoverlap._checks import check_boxes
from softoverlap._types import Boxes, plain
from softoverlap.images.formats.grids import needed_affine
from softoverlap.images.formats.meaning import SPACES, UNITS, check_meaning
from softoverlap.images.formats.record import (
    BoxFile,
    Hints,
    case_of,
    check_ndim,
    checked_boxes,
    column,
    naming,
    number_rows,
    numbers,
    objects_in,
    only_file,
)
from softoverlap.images.formats.world import FRAMES, box_corners, voxel_boxes
from softoverlap.images.geometry import boxes_to_world, check_affine
from softoverlap.images.noted import warn_of
from softoverlap.images.texts import number_in, read_json, write_json

MARKUPS_SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/"
    "Resources/Schema/markups-schema-v1.0.3.json#"
)

_MEANS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "coordinateSystem": ("in LPS or RAS", FRAMES),
    "coordinateUnits": ("in mm", ("mm", ["mm", "mm", "mm"])),
    "roiType": ("that are boxes", ("Box", "BoundingBox")),
    "insideOut": ("whose inside counts", (False,)),
}
"""Fields that say what the numbers of an ROI mean, in words, and the values that are understood."""

_UPRIGHT = 1e-3
"""How far the rows of an orientation may be from perpendicular and of length 1."""

OLD = (".fcsv", ".acsv")
"""Suffixes of points and ROIs of older versions."""

_SCORE = r"\bscore (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?=\s|$)"
_CLASS = r"\bclass (-?\d+(?:\.\d+)?)(?=\s|$)"
"""What `_texts` writes into a description."""


def write_markups(
    path: str | os.PathLike[str],
    boxes: Boxes,
    affine: Shaped[Tensor, "4 4"],
    *,
    scores: Shaped[Tensor, "boxes"] | None = None,
    labels: Shaped[Tensor, "boxes"] | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """Write boxes as 3D Slicer ROIs, also for flipped and oblique scans.

    Each ROI has the directions of the voxel axes, so it encloses exactly what the box does. If the
    voxel axes are left-handed, the third direction is reversed: the box stays the same, and Slicer
    expects right-handed axes. If the axes are not perpendicular (a tilted gantry), no ROI fits:
    each is then the box along L, P and S around the whole of it, and its description says so.

    Args:
        path: The file, ending in .mrk.json; an existing one is replaced.
        boxes: Boxes in voxels, shape (N, 6).
        affine: Voxel indices to RAS mm of voxel centres, shape (4, 4).
        scores: A score per box, shape (N,), written into the ROI's name and description.
        labels: A class per box, integers, shape (N,), written into the description.
        names: A name per box; by default `box 1`, `box 2`, …

    Raises:
        TypeError: If boxes, affine, scores or labels is not a tensor, or labels are no integers.
        ValueError: If a shape or the suffix is wrong, a box is inverted, or the affine is singular.
        FileNotFoundError: If the folder does not exist.

    References:
        3D Slicer, markups schema 1.0.3, at the URL in `MARKUPS_SCHEMA`.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "found.mrk.json"
        >>> write_markups(path, torch.tensor([[0.0, 0, 0, 4, 4, 2]]), torch.eye(4))
        >>> read_json(path)["markups"][0]["center"]
        [-1.5, -1.5, 0.5]
    """
    if not str(path).lower().endswith(".mrk.json"):
        raise ValueError(f"path must end in .mrk.json, got {path}")
    check_boxes(boxes=boxes, ndim=3, validate=True)
    texts = _texts(len(boxes), scores, labels, names)
    if _perpendicular(affine):
        centres, sizes, orientation = _rois(boxes, affine)
    else:
        upright = torch.eye(4, dtype=torch.float64)
        centres, sizes, orientation = _rois(_enclosing(boxes, affine), upright)
        texts = [(name, f"{text} around a sheared box".strip()) for name, text in texts]
    rois = [
        _roi(text, centre, size, orientation.flatten().tolist())
        for text, centre, size in zip(texts, centres.tolist(), sizes.tolist(), strict=True)
    ]
    write_json(path, {"@schema": MARKUPS_SCHEMA, "markups": rois})


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
    """The right-handed rotation nearest to the voxel axes."""
    rotation = _nearest_rotation(directions)
    if torch.linalg.det(rotation) < 0:
        rotation = rotation * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    return rotation


def _nearest_rotation(directions: Tensor) -> Tensor:
    left, _, right = torch.linalg.svd(directions)
    return left @ right


def _perpendicular(affine: Tensor) -> bool:
    """Whether the voxel axes are perpendicular, up to rounding."""
    axes = check_affine(affine)[:3, :3]
    directions = axes / axes.norm(dim=0)
    return (_nearest_rotation(directions) - directions).abs().max().item() <= 1e-3


def _enclosing(boxes: Tensor, affine: Tensor) -> Float64[Tensor, "boxes 6"]:
    """Boxes along the world axes around all corners, in voxels of 1 mm from the origin."""
    corners = boxes_to_world(boxes, affine)
    return torch.cat([corners.amin(1), corners.amax(1)], dim=1) + 0.5


def _roi(
    text: tuple[str, str], centre: list[float], size: list[float], orientation: list[float]
) -> dict[str, Any]:
    name, description = text
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


def _texts(
    count: int, scores: Tensor | None, labels: Tensor | None, names: Sequence[str] | None
) -> list[tuple[str, str]]:
    """Name and description of each ROI."""
    if names is None:
        names = [f"box {number}" for number in range(1, count + 1)]
    if len(names) != count:
        raise ValueError(f"names must hold one name for each of {count} boxes, got {len(names)}")
    ranks, classes = numbers("scores", scores, count), numbers("labels", labels, count, whole=True)
    titles = [f"{name} ({rank:.2f})" for name, rank in zip(names, ranks, strict=False)] or names
    words = [[] for _ in names] if scores is None else [[f"score {rank!r}"] for rank in ranks]
    for text, label in zip(words, classes, strict=False):
        text.append(f"class {label}")
    return [(title, " ".join(text)) for title, text in zip(titles, words, strict=True)]


def write(path: Path, files: Mapping[str, BoxFile], hints: Hints) -> None:
    """Write one case as ROIs, without the candidates below its score threshold."""
    file = only_file(path, files)
    check_ndim(path, file, 3)
    affine, above = needed_affine(path, file, hints), file.above
    scores, labels = (v if v is None else v[above] for v in (file.scores, file.labels))
    write_markups(path, file.boxes[above], affine, scores=scores, labels=labels)
    warn_of(_notes_on_candidates(path, file))


def _notes_on_candidates(path: Path, file: BoxFile) -> tuple[str, ...]:
    """A note if boxes were left out."""
    left = len(file.boxes) - int(file.above.sum())
    if not left:
        return ()
    words = "1 box" if left == 1 else f"{left} boxes"
    case, threshold = case_of(path, file), file.score_threshold
    return (f"{path}: {words} of {case} below the score threshold {threshold:g} left out",)


def refuse_old(path: Path) -> None:
    """Explain how to get ROIs that are read."""
    kind = "a list of points, which have no size" if path.suffix.lower() == ".fcsv" else "an ROI"
    raise ValueError(
        f"{path} is {kind}, in a format of older 3D Slicer, and is not read: ROIs are read from "
        ".mrk.json; load the file in Slicer 5, draw an ROI around each lesion (Markups, ROI) "
        "and save it as .mrk.json"
    )


def is_markups(content: Any) -> bool:
    """Whether the content of a JSON file is Slicer's markups."""
    return isinstance(content, dict) and isinstance(content.get("markups"), list)


def read(path: Path, hints: Hints) -> dict[str, BoxFile]:
    """Read the ROIs of a file, in voxels of the scan that the caller names."""
    content = read_json(path)
    with naming(path, "file of 3D Slicer's markups"):
        _check_top(path, content)
        file = _file(path, objects_in(content["markups"], "markups"), hints)
    return {case_of(path, file): file}


def _check_top(path: Path, content: Mapping[str, Any]) -> None:
    """What stands beside the markups says the same as they do; Slicer looks at the markups only."""
    markups = objects_in(content["markups"], "markups")
    top = [{key: value for key, value in content.items() if key != "markups"}]
    check_meaning(path, top, UNITS, *_MEANS["coordinateUnits"])
    for markup in markups:
        frame = markup.get("coordinateSystem", "LPS")
        check_meaning(path, top, SPACES, f"in {frame}, as its markups", (frame,))


def roi_sizes(path: Path) -> Float64[Tensor, "boxes 3"]:
    """Edges of the ROIs of a file in mm, for which no scan is needed."""
    content = read_json(path)
    with naming(path, "file of 3D Slicer's markups"):
        _check_top(path, content)
        markups = objects_in(content["markups"], "markups")
        corners = _all_corners(path, _rois_among(markups))
    return (corners[:, [4, 2, 1]] - corners[:, :1]).norm(dim=2)


def _rois_among(markups: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The ROIs, without points and lines."""
    return [markup for markup in markups if markup["type"] == "ROI"]


def _notes_on_others(path: Path, others: int) -> tuple[str, ...]:
    """A note if there are markups that are not ROIs."""
    if not others:
        return ()
    words = "1 markup is not an ROI" if others == 1 else f"{others} markups are not ROIs"
    return (f"{path}: {words}; skipped",)


def _all_corners(path: Path, rois: Sequence[Mapping[str, Any]]) -> Float64[Tensor, "boxes 8 3"]:
    if not rois:
        return torch.zeros(0, 8, 3, dtype=torch.float64)
    return torch.stack([_corners(path, roi) for roi in rois]).double()


def _file(path: Path, markups: Sequence[Mapping[str, Any]], hints: Hints) -> BoxFile:
    rois = _rois_among(markups)
    case = case_of(path, BoxFile(torch.zeros(0, 6, dtype=torch.float64)))
    bare = BoxFile(torch.zeros(0, 6, dtype=torch.float64), case=case)
    affine = needed_affine(path, bare, hints)
    corners = _all_corners(path, rois)
    boxes, notes = voxel_boxes(corners, affine, "LPS", path, case)
    scores = [float(text) for text in _noted(rois, _SCORE)] or None
    labels = [number_in(text, whole=True) for text in _noted(rois, _CLASS)] or None
    return BoxFile(
        checked_boxes(boxes, path),
        column(scores, "score", len(rois), path),
        column(labels, "label", len(rois), path, whole=True),
        affine,
        case,
        _notes_on_others(path, len(markups) - len(rois)) + notes,
    )


def _corners(path: Path, roi: Mapping[str, Any]) -> Float64[Tensor, "8 3"]:
    """Corners in LPS mm, as in Slicer: the columns of the orientation are the directions."""
    frame = roi.get("coordinateSystem", "LPS")
    for key, (words, allowed) in _MEANS.items():
        if roi.get(key, allowed[0]) not in allowed:
            raise ValueError(f"{path} must have ROIs {words}, got {roi[key]!r:.60} as {key}")
    if any(point.get("positionStatus", "defined") != "defined" for point in _points(roi)):
        raise ValueError(f"{path} must have ROIs that are placed, got one without a position")
    for key in ("center", "size"):
        if not isinstance(roi.get(key), list):
            raise ValueError(f"{path} must have ROIs with center and size, got one without {key}")
    centre = number_rows([roi["center"]], 3, path, "center")
    size = number_rows([roi["size"]], 3, path, "size")
    identity = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    turn = number_rows([roi.get("orientation", identity)], 9, path, "orientation").reshape(3, 3)
    if not torch.allclose(turn @ turn.T, torch.eye(3).double(), rtol=0, atol=_UPRIGHT):
        raise ValueError(f"{path} must have a rotation as orientation, got {turn.tolist()}")
    if (size < 0).any():
        raise ValueError(f"{path} must have sizes of at least 0, got {size[0].tolist()}")
    corners = box_corners(centre, size, turn[None])[0]
    return corners * torch.tensor([-1.0, -1.0, 1.0]) if frame == "RAS" else corners


def _points(roi: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return roi.get("controlPoints") or []


def _noted(rois: Sequence[Mapping[str, Any]], pattern: str) -> list[str]:
    """Matches of the pattern in the descriptions of the ROIs."""
    texts = [next((str(p.get("description", "")) for p in _points(roi)), "") for roi in rois]
    return [match[1] for match in (re.search(pattern, text) for text in texts) if match]
