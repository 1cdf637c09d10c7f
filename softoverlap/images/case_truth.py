"""The truth of a case: from a mask and raters, from a label map, or from the boxes of a list."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float32, Float64
from torch import Tensor

from softoverlap._checks import check_probabilities
from softoverlap.images.alignment import reorient_to
from softoverlap.images.formats.monai import ListEntry
from softoverlap.images.formats.record import Hints
from softoverlap.images.geometry import Volume, noted_same_grid
from softoverlap.images.images import noted_one_volume
from softoverlap.images.layouts.record import Case, LabelMap
from softoverlap.images.noted import Noted
from softoverlap.images.values import without_scale
from softoverlap.lesion import Lesion, crop_lesion
from softoverlap.lesions import lesions_from_mask

MAX_DISAGREEMENT = 0.1
"""Share by which the sizes of a mask and of its raters' mean may differ without a warning."""

_SHOWN = 5


@dataclass(frozen=True)
class Truth:
    """Mask and lesions of a scan, notes, the voxels that nobody has labelled, and the raters."""

    mask: Float32[Tensor, "depth height width"]
    lesions: list[Lesion]
    notes: tuple[str, ...] = ()
    ignored: Bool[Tensor, "depth height width"] | None = None
    raters: Float32[Tensor, "raters depth height width"] | None = None


def truth_of(case: Case, scan: Volume, threshold: float) -> Truth:
    """The truth of a case on the grid of its scan."""
    if case.labels is not None:
        return _of_labels(case, case.labels, scan)
    if case.boxes is not None:
        return _of_boxes(case, case.boxes, scan)
    return _of_masks(case, scan, threshold)


def _of_masks(case: Case, scan: Volume, threshold: float) -> Truth:
    """Lesions of the raters or of the mask."""
    notes: tuple[str, ...] = ()
    stack = [_probabilities(path, scan, case.image) for path in case.raters]
    notes += tuple(note for _, on_rater in stack for note in on_rater)
    raters = torch.stack([rater for rater, _ in stack]) if stack else None
    if case.mask is not None:
        mask, more = _probabilities(case.mask, scan, case.image)
        notes += more
    elif raters is not None:
        mask = raters.mean(dim=0)
    else:
        raise ValueError(f"case {case.name} must have a mask or raters, got neither")
    lesions = lesions_from_mask(
        mask, spacing=scan.lesion_spacing, raters=raters, threshold=threshold
    )
    doubts = _doubts(case, mask, raters, threshold, has_lesions=bool(lesions))
    notes += tuple(f"case {case.name}: {doubt}" for doubt in doubts)
    return Truth(mask, lesions, notes, raters=raters)


def _on_grid(path: Path, scan: Volume, scan_path: Path) -> Noted[Tensor]:
    """A mask on the grid of the scan, its axes flipped and permuted to those of the scan."""
    stored, notes = noted_one_volume(path)
    mask = reorient_to(stored, scan.affine)
    _, on_grid = noted_same_grid(scan, mask, names=(str(scan_path), str(path)))
    return mask.data, notes + on_grid


def _probabilities(path: Path, scan: Volume, scan_path: Path) -> Noted[Tensor]:
    mask, notes = _on_grid(path, scan, scan_path)
    check_probabilities(**{str(path): mask}, validate=True)
    return mask, notes


def _doubts(
    case: Case, mask: Tensor, raters: Tensor | None, threshold: float, *, has_lesions: bool
) -> list[str]:
    """What may be a mistake in the files."""
    doubts = []
    peak = float((mask if raters is None else raters).max())
    if not has_lesions and peak > 0:
        doubts.append(
            f"no lesion, although voxels are positive: the highest is {peak:.3g}, below the "
            f"threshold {threshold:g}"
        )
    if case.mask is not None and raters is not None:
        given, mean = float(mask.double().sum()), float(raters.double().mean(dim=0).sum())
        if abs(given - mean) > MAX_DISAGREEMENT * max(given, mean):
            doubts.append(
                f"the mask holds {given:.6g} voxels and the raters' mean {mean:.6g}; lesions are "
                "those of the raters, with the probabilities of the mask"
            )
    return doubts


def _of_labels(case: Case, labels: LabelMap, scan: Volume) -> Truth:
    """The components of each class; a voxel may be of several regions."""
    stored, notes = _on_grid(labels.path, scan, case.image)
    numbers, more = without_scale(stored, str(labels.path))
    _check_labels(labels, numbers)
    lesions: list[Lesion] = []
    mask = torch.zeros_like(numbers, dtype=torch.bool)
    for place, values in enumerate(labels.values):
        inside = torch.isin(numbers, torch.tensor(values).to(numbers)) if values else numbers > 0
        mask |= inside
        found = lesions_from_mask(inside.float(), spacing=scan.lesion_spacing)
        lesions += [replace(lesion, label=place) for lesion in found]
    notes += more
    ignored = None if labels.ignore is None else numbers == labels.ignore
    if ignored is not None and (count := int(ignored.sum())):
        notes += (f"case {case.name}: {count} voxels are labelled ignore, and of no lesion",)
    return Truth(mask.float(), lesions, notes, ignored)


def _check_labels(labels: LabelMap, numbers: Tensor) -> None:
    """All numbers are those of a class, of the background or of what is ignored."""
    known = {number for values in labels.values for number in values}
    others = {0} if labels.ignore is None else {0, labels.ignore}
    if () in labels.values:
        wrong = numbers[(numbers < 0) | (numbers != numbers.round())]
    else:
        wrong = numbers[~torch.isin(numbers, torch.tensor(sorted(known | others)).to(numbers))]
    if len(wrong):
        expected = ", ".join(map(str, sorted(known))) or "whole numbers from 0 on"
        got = [f"{value:g}" for value in wrong.unique().tolist()]
        raise ValueError(
            f"{labels.path} must hold the labels that the data set names, {expected}, got "
            f"{', '.join(got[:_SHOWN])}{', …' if len(got) > _SHOWN else ''}"
        )


def _of_boxes(case: Case, boxes: ListEntry, scan: Volume) -> Truth:
    """A lesion a box, as far as the scan shows it."""
    file = boxes.read(Hints(affine=scan.affine))
    labels = [0] * len(file.boxes) if file.labels is None else file.labels.tolist()
    mask = torch.zeros(scan.grid)
    lesions, beyond = [], 0
    for box, label in zip(file.boxes, labels, strict=True):
        whole = _filled(box, label, scan)
        lesion = whole and crop_lesion(whole, [0] * len(scan.grid), scan.grid, min_visible=0.0)
        if whole is None or lesion is None:
            raise ValueError(
                f"{boxes.path} must have solid boxes on the scan {case.image}, {scan.grid} voxels, "
                f"got {[round(edge, 1) for edge in box.tolist()]} in voxels: is the frame, "
                f"{boxes.frame}, right?"
            )
        beyond += lesion.crop.shape != whole.crop.shape
        _paint(mask, lesion)
        lesions.append(lesion)
    notes = file.notes
    if beyond:
        notes += (f"case {case.name}: {beyond} boxes reach beyond the scan, and are cut there",)
    return Truth(mask, lesions, notes)


def _filled(box: Float64[Tensor, "6"], label: int, scan: Volume) -> Lesion | None:
    """The box's ellipsoid; None if its centre is not in the scan, or an edge is 0 or too long."""
    low, high = box.chunk(2)
    grid = torch.tensor(scan.grid, dtype=torch.float64)
    centre, edges = (low + high) / 2, high - low
    if not bool(((centre >= 0) & (centre <= grid) & (edges > 0) & (edges <= 2 * grid)).all()):
        return None
    return Lesion.from_box(box.float(), spacing=scan.lesion_spacing, shape="ellipsoid", label=label)


def _paint(mask: Tensor, lesion: Lesion) -> None:
    """Put a lesion into the mask; where two overlap, the higher probability stays."""
    window = window_of(lesion)
    mask[window] = torch.maximum(mask[window], lesion.crop.float())


def window_of(lesion: Lesion) -> tuple[slice, ...]:
    """The part of the image that a lesion's crop covers."""
    starts = lesion.offset.tolist()
    return tuple(
        slice(first, first + edge) for first, edge in zip(starts, lesion.crop.shape, strict=True)
    )
