"""COCO: `bbox` is `[x, y, w, h]`, in 3D `[x, y, z, w, h, d]`, in pixels; many scans in one file.

Both of its forms are read: the data set (`images`, `annotations`, `categories`) and the list of
results (`image_id`, `category_id`, `bbox`, `score`). COCO was made for photographs, whose `x` is
the column, the last axis of an array of rows and columns. But `x` may also be the first axis, as in
NIfTI. So `axis_order` must be given: "xyz" if `x` is the first axis, "zyx" if it is the last. Files
that we write contain it in `info`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float64
from torch import Tensor

from softoverlap._checks import check_choice, refusal
from softoverlap.images.formats.grids import affine_for, bare_scan, read_grid, scan_of
from softoverlap.images.formats.meaning import (
    MODES,
    UNITS,
    check_meaning,
    notes_on_others,
    others,
)
from softoverlap.images.formats.record import (
    BoxFile,
    Hints,
    affine_of,
    case_of,
    check_ndim,
    checked_boxes,
    column,
    known_in,
    list_in,
    naming,
    number_rows,
    objects_in,
    with_notes,
)
from softoverlap.images.noted import Noted
from softoverlap.images.texts import read_json, write_json

ORDERS = ("xyz", "zyx")
_SIZES = ("width", "height", "depth")
_OWN_MODES = (1, "xywh", "XYWH", "xyzwhd", "XYWH_ABS", "BoxMode.XYWH_ABS", "coco")
"""What other tools call a corner and edges in pixels; 1 is that of detectron2."""
_PIXELS = ("pixel", "pixels", "voxel", "voxels")
_FLAGS = ("iscrowd", "ignore")
_KNOWN = {
    "": ("info", "images", "annotations", "categories", "licenses", "type"),
    "image": ("id", "file_name", "ndim", "affine", *_SIZES, "license", "flickr_url", "coco_url",
              "date_captured"),
    "annotation": ("id", "image_id", "category_id", "bbox", "area", "segmentation", "score",
                   *_FLAGS),
}  # fmt: skip
"""Keys that are read, or that are COCO's and change nothing, of the file and its parts."""


def write(path: Path, files: Mapping[str, BoxFile], hints: Hints) -> None:
    """Write all cases as one data set."""
    order = hints.axis_order or "xyz"
    check_choice("axis_order", order, ORDERS)
    images, annotations, known = [], [], set()
    for number, file in enumerate(files.values(), start=1):
        check_ndim(path, file, 2, 3)
        images.append(_image(path, number, file, order, hints))
        labels = [0] * len(file.boxes) if file.labels is None else file.labels.tolist()
        known |= set(labels)
        rows = _to_coco(file.boxes, order).tolist()
        scores = [None] * len(rows) if file.scores is None else file.scores.tolist()
        crowds = [False] * len(rows) if file.ignored is None else file.ignored.tolist()
        for row, label, score, crowd in zip(rows, labels, scores, crowds, strict=True):
            next_id = len(annotations) + 1
            annotations.append(_annotation(next_id, number, row, label, score, crowd))
    categories = [{"id": label, "name": f"class {label}"} for label in sorted(known)]
    content = {
        "info": {"description": "boxes of softoverlap, in voxels", "axis_order": order},
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    write_json(path, content)


def _image(path: Path, number: int, file: BoxFile, order: str, hints: Hints) -> dict[str, Any]:
    scan, affine = scan_of(path, file, hints), affine_for(path, file, hints)
    name = f"{case_of(path, file)}.nii.gz" if scan is None else scan.name
    image: dict[str, Any] = {"id": number, "file_name": name, "ndim": file.boxes.shape[1] // 2}
    if scan is not None:
        shape = read_grid(scan).shape[: image["ndim"]]
        image |= zip(_SIZES, shape if order == "xyz" else shape[::-1], strict=False)
    return image if affine is None else {**image, "affine": affine.tolist()}


def _annotation(
    number: int, image: int, row: list[float], label: int, score: float | None, crowd: bool
) -> dict[str, Any]:
    edges = row[len(row) // 2 :]
    area = edges[0] * edges[1] * (edges[2] if len(edges) == 3 else 1.0)
    annotation = {
        "id": number,
        "image_id": image,
        "category_id": label,
        "bbox": row,
        "area": area,
        "iscrowd": int(crowd),
    }
    return annotation if score is None else {**annotation, "score": score}


def _to_coco(boxes: Tensor, order: str) -> Float64[Tensor, "boxes coords"]:
    low, high = boxes.chunk(2, dim=1)
    if order == "zyx":
        low, high = low.flip(1), high.flip(1)
    return torch.cat([low, high - low], dim=1)


def _from_coco(rows: Tensor, order: str) -> Float64[Tensor, "boxes coords"]:
    low, edges = rows.chunk(2, dim=1)
    if order == "zyx":
        low, edges = low.flip(1), edges.flip(1)
    return torch.cat([low, low + edges], dim=1)


def is_coco(content: Any) -> bool:
    """Whether the content of a JSON file is a data set or a list of results of COCO."""
    if isinstance(content, dict):
        return all(isinstance(content.get(key), list) for key in ("images", "annotations"))
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and {"image_id", "bbox", "category_id"} <= set(first)


def read(path: Path, hints: Hints) -> dict[str, BoxFile]:
    """Read every image, also those without boxes; of a list of results, every image in it."""
    content = read_json(path)
    with naming(path, "COCO file"):
        named = {} if isinstance(content, list) else content
        results = content if isinstance(content, list) else content["annotations"]
        results = objects_in(results, "annotations")
        order = _order(path, named, hints)
        listed = objects_in(named.get("images", []), "images")
        images = {image["id"]: image for image in listed}
        if len(images) < len(listed):
            raise ValueError(f"{path} must have one image for each id, got some twice")
        parts = [named, named.get("info") or {}, *listed, *results]
        check_meaning(path, parts, MODES, "as xywh in pixels", _OWN_MODES)
        check_meaning(path, parts, UNITS, "in pixels", _PIXELS)
        if not images:
            images = {row["image_id"]: {"file_name": str(row["image_id"])} for row in results}
        rows: dict[Any, list[Mapping[str, Any]]] = {image: [] for image in images}
        for row in results:
            if row["image_id"] not in rows:
                raise ValueError(f"{path} must list every image, got {row['image_id']!r} unlisted")
            rows[row["image_id"]].append(row)
        files = _files(path, images, rows, order, hints)
        return with_notes(files, notes_on_others(path, _others(named, listed, results)))


def _others(content: Mapping[str, Any], *lists: list[dict[str, Any]]) -> list[str]:
    """Keys of the file, its images and its annotations that are not read."""
    parts = zip(([content], *lists), _KNOWN.values(), strict=True)
    return [key for part, known in parts for key in others(part, (*known, *UNITS, *MODES))]


def _order(path: Path, content: Mapping[str, Any], hints: Hints) -> str:
    own = (content.get("info") or {}).get("axis_order")
    if own is not None and hints.axis_order not in (None, own):
        raise refusal("axis_order", f"must be that of {path} itself, {own}, got {hints.axis_order}")
    order = own or hints.axis_order
    if order is None:
        raise ValueError(
            f"{path} does not say which axis its x is: name it with `axis_order=`, xyz (x is the "
            "first axis, as in NIfTI) or zyx (x is the last axis, as in rows and columns)"
        )
    check_choice("axis_order", order, ORDERS)
    return order


def _files(
    path: Path,
    images: Mapping[Any, Mapping[str, Any]],
    rows: Mapping[Any, list[Mapping[str, Any]]],
    order: str,
    hints: Hints,
) -> dict[str, BoxFile]:
    files: dict[str, BoxFile] = {}
    annotations = [row for some in rows.values() for row in some]
    if any("bbox" not in row for row in annotations):
        raise ValueError(f"{path} must have a bbox in every annotation, got one without")
    widths = [len(list_in(row["bbox"], "bbox")) for row in annotations]
    for number, image in images.items():
        if not isinstance(image["file_name"], str):
            raise ValueError(f"{path} must have names as file_name, got {image['file_name']!r:.60}")
        case = bare_scan(image["file_name"])
        if case in files:
            raise ValueError(f"{path} must have one image for each case, got two of {case}")
        width = 2 * image["ndim"] if "ndim" in image else (widths[0] if widths else 4)
        if width not in (4, 6):
            raise ValueError(f"{path} must hold 4 or 6 numbers a bbox, got {width}")
        corners = number_rows([row["bbox"] for row in rows[number]], width, path, "bbox")
        boxes = checked_boxes(_from_coco(corners, order), path)
        files[case] = _file(path, case, image, rows[number], boxes, hints)
    return files


def _file(
    path: Path,
    case: str,
    image: Mapping[str, Any],
    rows: list[Mapping[str, Any]],
    boxes: Tensor,
    hints: Hints,
) -> BoxFile:
    labels = [row["category_id"] for row in rows]
    ignored, notes = _ignored(path, case, rows)
    file = BoxFile(
        boxes,
        column(known_in(rows, "score"), "score", len(rows), path),
        column(labels, "label", len(rows), path, whole=True),
        affine_of(image.get("affine"), path),
        case,
        notes,
        ignored=ignored,
    )
    return replace(file, affine=affine_for(path, file, hints))


def _ignored(
    path: Path, case: str, rows: list[Mapping[str, Any]]
) -> Noted[Bool[Tensor, "boxes"] | None]:
    """Which boxes are crowds or to be ignored, if any is: they are no single lesion."""
    for row in rows:
        for key in _FLAGS:
            if row.get(key, 0) not in (0, 1):
                raise ValueError(f"{path} must have 0 or 1 as {key}, got {row[key]!r:.60}")
    ignored = torch.tensor([any(row.get(k) for k in _FLAGS) for row in rows], dtype=torch.bool)
    if not ignored.any():
        return None, ()
    count = int(ignored.sum())
    words = (
        f"{count} {'box' if count == 1 else 'boxes'} of {case} marked as crowd (iscrowd, ignore)"
    )
    return ignored, (f"{path}: {words}: ignored, neither hit, false nor missed",)
