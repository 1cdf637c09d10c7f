"""Label maps: a NIfTI file of integers, one value per lesion, with a table of scores.

`NAME.nii.gz` holds the values; 0 is background. A table beside it holds scores and classes, see
`label_table`; without it there are no scores. A label map has whole voxels, and each voxel has one
value, so boxes with fractions and boxes that overlap are not read back as they were.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
import torch
from jaxtyping import Int64
from scipy import ndimage
from torch import Tensor

from softoverlap.images.files import whole_file
from softoverlap.images.formats.grids import Grid, affine_for, read_grid, scan_of
from softoverlap.images.formats.label_table import (
    is_json,
    map_beside,
    read_scores,
    score_table,
    write_scores,
)
from softoverlap.images.formats.record import (
    BoxFile,
    Hints,
    bare_name,
    case_of,
    check_ndim,
    column,
    only_file,
)
from softoverlap.images.geometry import Volume
from softoverlap.images.images import noted_one_volume
from softoverlap.images.noted import Noted, warn_of, warned
from softoverlap.images.values import without_scale
from softoverlap.lesion import Lesion

_MOST = 65535
"""Largest value of a label map."""

_OVERLAP = "overlap and lose voxels to those of higher score"

_NAMED = 10
"""Number of boxes that a warning lists."""


@dataclass(frozen=True)
class _Instance:
    """One value of a label map: its voxels, its score and its class."""

    window: tuple[slice, ...]
    inside: np.ndarray
    score: float | None
    label: int | None


def read_label_map(path: Path | str, *, scores: Path | str | None = None) -> list[Lesion]:
    r"""Lesions of a label map, each with a soft crop: its score on its voxels, 0 elsewhere.

    Args:
        path: A NIfTI file of integers; each value above 0 is one lesion, connected or not.
        scores: Table of scores, CSV (`value`, `score`, `label`) or JSON; by default the file with
            the name of the map; without one, each score is 1.

    Returns:
        Lesions in the order of their values: tight box, crop, centre of the voxels, Σ score in mm³,
        and class.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the map has other values than integers, the table has no row for a value, or
            a score is outside [0, 1]. The message names the file.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import save_nifti
        >>> labels = torch.zeros(4, 4, 4, dtype=torch.uint8)
        >>> labels[1:3, 1, 1] = 7
        >>> path = Path(tempfile.mkdtemp()) / "found.nii.gz"
        >>> save_nifti(path, labels, torch.eye(4))
        >>> _ = path.with_name("found.csv").write_text("value,score,label\n7,0.5,0\n")
        >>> [(lesion.box.tolist(), lesion.volume_mm3) for lesion in read_label_map(path)]
        [([1.0, 1.0, 1.0, 3.0, 2.0, 2.0], 1.0)]
    """
    path = Path(path)
    volume, instances = warned(_read(path, None if scores is None else Path(scores)))
    voxel = volume.voxel_mm3
    lesions = []
    for instance in instances:
        score = 1.0 if instance.score is None else instance.score
        if not 0 <= score <= 1:
            raise ValueError(f"{path} must have scores in [0, 1] for soft crops, got {score}")
        lesions.append(_lesion(instance, score, voxel))
    return lesions


def _lesion(instance: _Instance, score: float, voxel: float) -> Lesion:
    low = torch.tensor([edge.start for edge in instance.window])
    high = torch.tensor([edge.stop for edge in instance.window])
    places = torch.from_numpy(np.argwhere(instance.inside)).double()
    return Lesion(
        box=torch.cat([low, high]).float(),
        crop=torch.from_numpy(instance.inside).float() * score,
        offset=low,
        centre=(places.mean(dim=0) + 0.5 + low).float(),
        volume_mm3=float(instance.inside.sum()) * score * voxel,
        label=instance.label or 0,
    )


def read(path: Path, hints: Hints) -> dict[str, BoxFile]:
    """Read the case of a label map: tight boxes in the order of the values."""
    if is_json(path):
        path = map_beside(path)
    (volume, instances), notes = _read(path, hints.scores)
    windows = [instance.window for instance in instances]
    rows = [[w.start for w in window] + [w.stop for w in window] for window in windows]
    boxes = torch.tensor(rows, dtype=torch.float64).reshape(-1, 6)
    ranks = [instance.score for instance in instances if instance.score is not None]
    classes = [instance.label for instance in instances if instance.label is not None]
    file = BoxFile(
        boxes,
        column(ranks or None, "score", len(boxes), path),
        column(classes or None, "label", len(boxes), path, whole=True),
        volume.affine,
        bare_name(path).removesuffix("_boxes"),
        notes,
    )
    return {case_of(path, file): replace(file, affine=affine_for(path, file, hints))}


def _read(path: Path, scores: Path | None) -> Noted[tuple[Volume, list[_Instance]]]:
    volume, notes = noted_one_volume(path)
    data, more = without_scale(volume.data, str(path))
    volume, notes = replace(volume, data=data), (*notes, *more)
    if bool((volume.data != volume.data.round()).any()):
        raise ValueError(f"{path} must hold whole numbers, as a label map does, got fractions")
    low, high = (int(bound) for bound in volume.data.aminmax())
    if low < 0 or high > _MOST:
        raise ValueError(f"{path} must hold values in 0-{_MOST}, got values in [{low}, {high}]")
    values = volume.data.int().numpy()
    windows = ndimage.find_objects(values)
    known = {value: window for value, window in enumerate(windows, start=1) if window is not None}
    table = read_scores(path, scores)
    if table is not None:
        notes += _checked_table(path, set(known), set(table))
    none = (None, None)
    instances = [
        _Instance(window, values[window] == value, *(table.get(value, none) if table else none))
        for value, window in known.items()
    ]
    return (volume, instances), notes


def _checked_table(path: Path, known: set[int], listed: set[int]) -> tuple[str, ...]:
    """Check that every value has a row; a note lists the rows without a value."""
    if known - listed:
        raise ValueError(f"{path} must have a score for each value, got none for {known - listed}")
    if not listed - known:
        return ()
    missing = ", ".join(map(str, sorted(listed - known)))
    return (f"{path}: the table lists values without a voxel: {missing}",)


def write(path: Path, files: Mapping[str, BoxFile], hints: Hints) -> None:
    """Write one case as a label map on the grid of its scan, with its table."""
    file = only_file(path, files)
    check_ndim(path, file, 3)
    if len(file.boxes) > _MOST:
        raise ValueError(f"{path} must get at most {_MOST} boxes, got {len(file.boxes)}")
    scan = scan_of(path, file, hints)
    if scan is None:
        raise ValueError(
            f"{path} needs the scan of {case_of(path, file)} for its grid: name it with `image=`"
        )
    affine = affine_for(path, file, hints)
    grid = Grid(read_grid(scan).shape, read_grid(scan).affine if affine is None else affine)
    values = _painted(file, grid.shape)
    warn_of(_notes_on_losses(path, file, values))
    image = nibabel.Nifti1Image(values, grid.affine.numpy())
    image.header.set_xyzt_units("mm")
    with whole_file(score_table(path)) as scores, whole_file(path) as unfinished:
        write_scores(scores, file)
        nibabel.save(image, unfinished)  # both files appear at the end, the map first


def _painted(file: BoxFile, shape: Sequence[int]) -> np.ndarray:
    """Voxels with centres in a box; where boxes overlap, the higher score wins, then the first."""
    values = np.zeros(shape, dtype=np.uint16)
    ranks = torch.zeros(len(file.boxes)) if file.scores is None else file.scores
    order = sorted(range(len(file.boxes)), key=lambda index: (float(ranks[index]), -index))
    edges = _whole(file).clamp(min=0).tolist()
    for index in order:
        low, high = edges[index][:3], edges[index][3:]
        values[tuple(map(slice, low, high))] = index + 1
    return values


def _whole(file: BoxFile) -> Int64[Tensor, "boxes 6"]:
    """Edges around the voxels with centres in a box."""
    return torch.ceil(file.boxes - 0.5).long()


def _notes_on_losses(path: Path, file: BoxFile, values: np.ndarray) -> tuple[str, ...]:
    """Notes on the boxes that the scan cuts, that overlap, and that have no voxel left."""
    low, high = _whole(file).chunk(2, dim=1)
    beyond = (low < 0) | (high > torch.tensor(values.shape))
    cut = [index + 1 for index in beyond.any(dim=1).nonzero().flatten().tolist()]
    lost = np.setdiff1d(np.arange(1, len(file.boxes) + 1), np.unique(values)).tolist()
    case, notes = case_of(path, file), []
    for numbers, singular, plural in (
        (cut, "reaches beyond the scan and was cut", "reach beyond the scan and were cut"),
        (_overlapping(file, values.shape), "overlaps", _OVERLAP),
        (lost, "has no voxel of its own", "have no voxel of their own"),
    ):
        if numbers:
            words = f"1 box of {case} {singular}"
            words = words if len(numbers) == 1 else f"{len(numbers)} boxes of {case} {plural}"
            notes.append(f"{path}: {words}: number {_listed(numbers)}")
    return tuple(notes)


def _overlapping(file: BoxFile, shape: Sequence[int]) -> list[int]:
    """Numbers of the boxes that share a voxel with another."""
    depth = np.zeros(shape, dtype=np.uint16)
    edges = _whole(file).clamp(min=0).tolist()
    windows = [tuple(map(slice, row[:3], row[3:])) for row in edges]
    for window in windows:
        depth[window] += 1
    return [n for n, window in enumerate(windows, start=1) if (depth[window] > 1).any()]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers[:_NAMED])) + (", …" if len(numbers) > _NAMED else "")
