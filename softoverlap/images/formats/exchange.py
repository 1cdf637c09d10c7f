"""Read and write boxes in any format, recognised from the file or named by the caller."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

from softoverlap._checks import check_boxes, check_choice
from softoverlap._types import Boxes, plain
from softoverlap.images.files import is_dangling, link_fault
from softoverlap.images.formats import coco
from softoverlap.images.formats.choice import (
    FORMATS,
    format_of,
    format_to_write,
    notes_on_dropped,
    refuse_unread,
)
from softoverlap.images.formats.record import BoxFile, Hints, bare_name, numbers
from softoverlap.images.formats.world import FRAMES
from softoverlap.images.geometry import check_affine
from softoverlap.images.noted import warn_of


def _hints(
    image: str | os.PathLike[str] | None,
    affine: Tensor | None,
    frame: str | None,
    axis_order: str | None,
    score_table: str | os.PathLike[str] | None = None,
) -> Hints:
    if frame is not None:
        check_choice("frame", frame, FRAMES)
    if axis_order is not None:
        check_choice("axis_order", axis_order, coco.ORDERS)
    return Hints(
        affine=None if affine is None else check_affine(affine),
        image=None if image is None else Path(image),
        frame=frame,
        axis_order=axis_order,
        scores=None if score_table is None else Path(score_table),
    )


def read_box_files(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    image: str | os.PathLike[str] | None = None,
    affine: Shaped[Tensor, "4 4"] | None = None,
    frame: str | None = None,
    axis_order: str | None = None,
    score_table: str | os.PathLike[str] | None = None,
) -> dict[str, BoxFile]:
    """Read the boxes of every scan that a file holds.

    Args:
        path: The file.
        format: One of `FORMATS`; by default recognised from suffix and content.
        image: The scan of the boxes, or a folder with CASE.nii.gz for each case.
        affine: Voxel indices to RAS mm of every case, instead of `image`, shape (4, 4); a warning
            says so where there are several.
        frame: For MONAI's lists: `"RAS"` or `"LPS"`.
        axis_order: For COCO: `"xyz"` if x is the first tensor axis, `"zyx"` if it is the last.
        score_table: For label maps: the table of scores.

    Returns:
        Boxes in voxels by case, each with its notes, which are warnings too.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is broken, or an argument is missing that the file needs. The
            message is one line and names the file.

    Examples:
        >>> import tempfile, torch
        >>> path = Path(tempfile.mkdtemp()) / "all.csv"
        >>> boxes = BoxFile(torch.tensor([[0.5, 4.0]], dtype=torch.float64))
        >>> write_box_files(path, {"sub-01": boxes, "sub-02": boxes})
        >>> list(read_box_files(path))
        ['sub-01', 'sub-02']
    """
    hints = _hints(image, affine, frame, axis_order, score_table)
    files = _warned_box_files(path, format, hints)
    if affine is not None and len(files) > 1:
        warn_of((
            f"{path} holds {len(files)} cases, all read with the one affine given, though scans "
            "differ: name a folder with the scan of each with `image=`",
        ))  # fmt: skip
    return files


def _warned_box_files(
    path: str | os.PathLike[str], format: str | None, hints: Hints
) -> dict[str, BoxFile]:
    if format is not None:
        check_choice("format", format, FORMATS)
    files = noted_box_files(Path(path), format, hints)
    for file in files.values():
        warn_of(file.notes)
    return files


def noted_box_files(
    path: Path, format: str | None = None, hints: Hints | None = None
) -> dict[str, BoxFile]:
    """`read_box_files` that leaves its warnings in the `notes` of each file."""
    if not path.is_file():
        found = link_fault(path) if is_dangling(path) else "no such file"
        found = "a pipe, a device or a folder" if path.exists() else found
        raise FileNotFoundError(f"{path} must be a file of boxes, found {found}")
    refuse_unread(path)
    hints = hints or Hints()
    files = FORMATS[format or format_of(path)].read(path, hints)
    _check_image(path, files, hints)
    return files


def _check_image(path: Path, files: Mapping[str, BoxFile], hints: Hints) -> None:
    """One scan cannot belong to several cases."""
    if len(files) > 1 and hints.image is not None and not hints.image.is_dir():
        raise ValueError(
            f"{path} holds {len(files)} cases: name a folder with the scan of each with `image=`, "
            f"got the file {hints.image}"
        )


def read_boxes(
    path: str | os.PathLike[str],
    *,
    case: str | None = None,
    format: str | None = None,
    image: str | os.PathLike[str] | None = None,
    affine: Shaped[Tensor, "4 4"] | None = None,
    frame: str | None = None,
    axis_order: str | None = None,
    score_table: str | os.PathLike[str] | None = None,
) -> BoxFile:
    """Read the boxes of one scan.

    Args:
        path: The file.
        case: Which scan, in a file of many.
        format: One of `FORMATS`; by default recognised from suffix and content.
        image: The scan of the boxes, or a folder with CASE.nii.gz for each case.
        affine: Voxel indices to RAS mm of this scan, instead of `image`, shape (4, 4).
        frame: For MONAI's lists: `"RAS"` or `"LPS"`.
        axis_order: For COCO: `"xyz"` if x is the first tensor axis, `"zyx"` if it is the last.
        score_table: For label maps: the table of scores.

    Returns:
        Boxes in voxels, with scores, labels, affine and case where the file has them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is broken, an argument is missing that the file needs, or it holds
            several scans and `case` names none of them. The message is one line and names the file.

    Examples:
        >>> import tempfile, torch
        >>> path = Path(tempfile.mkdtemp()) / "boxes.json"
        >>> write_boxes(path, torch.zeros(0, 6), case="sub-01")
        >>> file = read_boxes(path)
        >>> file.boxes.shape, file.case
        (torch.Size([0, 6]), 'sub-01')
    """
    hints = _hints(image, affine, frame, axis_order, score_table)
    files = _warned_box_files(path, format, hints)
    if case is not None and case in files:
        return files[case]
    if case is not None or len(files) != 1:
        names = ", ".join(list(files)[:5]) + (", ..." if len(files) > 5 else "")
        if case is None and files:
            raise ValueError(
                f"{path} holds {len(files)} cases: name one with `case=`, or read all with "
                f"read_box_files, got: {names}"
            )
        wanted = "a case" if case is None else f"the case {case!r}"
        raise ValueError(f"{path} must hold {wanted}, got {len(files)}: {names or 'none'}")
    return next(iter(files.values()))


def write_box_files(
    path: str | os.PathLike[str],
    files: Mapping[str, BoxFile],
    *,
    format: str | None = None,
    image: str | os.PathLike[str] | None = None,
    frame: str | None = None,
    axis_order: str | None = None,
) -> None:
    """Write the boxes of several scans into one file, completely or not at all.

    Args:
        path: The file; an existing one is replaced.
        files: Boxes by case; MONAI's lists, COCO and CSV hold many, the other formats one.
        format: One of `FORMATS`; by default chosen by the suffix, our own for .json.
        image: The scan, or a folder with CASE.nii.gz for each case: for label maps, and for formats
            in mm if the affine is unknown.
        frame: For MONAI's lists: `"RAS"` (default) or `"LPS"`.
        axis_order: For COCO: `"xyz"` (default) or `"zyx"`.

    Raises:
        ValueError: If the format cannot hold these boxes, or needs a scan that is not given.
        FileNotFoundError: If the folder or a scan does not exist.

    Examples:
        >>> import tempfile, torch
        >>> path = Path(tempfile.mkdtemp()) / "coco.json"
        >>> boxes = BoxFile(torch.tensor([[0.0, 1, 2, 3]], dtype=torch.float64))
        >>> write_box_files(path, {"a": boxes, "b": boxes}, format="coco")
        >>> list(read_box_files(path))
        ['a', 'b']
    """
    path = Path(path)
    named = {
        case: _checked(file.boxes, file.scores, file.labels, file.affine, case, **_rare(file))
        for case, file in files.items()
    }
    name, hints = format_to_write(path, format), _hints(image, None, frame, axis_order)
    _check_image(path, named, hints)
    FORMATS[name].write(path, named, hints)
    warn_of(notes_on_dropped(path, name, named))


def _rare(file: BoxFile) -> dict[str, Any]:
    """The fields that few formats have."""
    return {
        "score_threshold": file.score_threshold,
        "threshold_rule": file.threshold_rule,
        "ignored": None if file.ignored is None else plain(file.ignored).detach().cpu(),
        "smallest_anchor": file.smallest_anchor,
    }


def _checked(
    boxes: Tensor,
    scores: Tensor | None,
    labels: Tensor | None,
    affine: Tensor | None,
    case: str | None,
    **rare: Any,
) -> BoxFile:
    """The record of one case, in float64 on the CPU, if its values can be written."""
    check_boxes(boxes=boxes, validate=True)
    numbers("scores", scores, len(boxes))
    numbers("labels", labels, len(boxes), whole=True)
    return BoxFile(
        plain(boxes).detach().cpu().double(),
        None if scores is None else plain(scores).detach().cpu().double(),
        None if labels is None else plain(labels).detach().cpu().long(),
        None if affine is None else check_affine(affine),
        case,
        **rare,
    )


def write_boxes(
    path: str | os.PathLike[str],
    boxes: Boxes,
    *,
    scores: Shaped[Tensor, "boxes"] | None = None,
    labels: Shaped[Tensor, "boxes"] | None = None,
    affine: Shaped[Tensor, "4 4"] | None = None,
    case: str | None = None,
    format: str | None = None,
    image: str | os.PathLike[str] | None = None,
    frame: str | None = None,
    axis_order: str | None = None,
) -> None:
    """Write the boxes of one scan, completely or not at all.

    `write_box_files` also writes a score threshold, ignored lesions and the smallest anchor.

    Args:
        path: The file; an existing one is replaced.
        boxes: Boxes in voxels, shape (N, 2 * ndim); N may be 0.
        scores: A score per box, shape (N,).
        labels: A class per box, integers, shape (N,).
        affine: Voxel indices to RAS mm of voxel centres, shape (4, 4).
        case: Name of the scan.
        format: One of `FORMATS`; by default chosen by the suffix, our own for .json.
        image: The scan: for label maps, and for formats in mm instead of `affine`.
        frame: For MONAI's lists: `"RAS"` (default) or `"LPS"`.
        axis_order: For COCO: `"xyz"` (default) or `"zyx"`.

    Raises:
        TypeError: If boxes, scores, labels or affine is not a tensor, or labels are not integers.
        ValueError: If a shape is wrong, a box is inverted, a value is not finite, or the format
            cannot hold these boxes.
        FileNotFoundError: If the folder does not exist.

    Examples:
        >>> import tempfile, torch
        >>> path = Path(tempfile.mkdtemp()) / "boxes.json"
        >>> write_boxes(path, torch.tensor([[0.5, 4.0]]), scores=torch.tensor([0.9]))
        >>> read_boxes(path).boxes
        tensor([[0.5000, 4.0000]], dtype=torch.float64)
    """
    path = Path(path)
    file = _checked(boxes, scores, labels, affine, case)
    kind = FORMATS[format_to_write(path, format)]
    kind.write(path, {case or bare_name(path): file}, _hints(image, None, frame, axis_order))
