"""What `softoverlap inspect` prints about a file."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from softoverlap.app.cli.box_words import BoxReading, describe_boxes
from softoverlap.app.cli.console import plural

if TYPE_CHECKING:
    from torch import Tensor

    from softoverlap.images import Volume
    from softoverlap.lesion import Lesion

MOST_LABELS = 20
"""Labels that are listed one by one."""

_FORMATS = {
    ".nii": "NIfTI", ".nii.gz": "NIfTI, compressed", ".nrrd": "NRRD", ".nhdr": "NRRD, header apart",
    ".mha": "MetaImage", ".mhd": "MetaImage, header apart",
}  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """How to read values and lesions."""

    values: str = "auto"
    label: int | None = None
    threshold: float = 0.5
    low: float | None = None

    def __post_init__(self) -> None:
        from softoverlap._checks import check_threshold
        from softoverlap.lesions import check_low

        check_values(self.values, self.label)
        check_threshold(threshold=self.threshold)
        check_low(self.low, self.threshold)


def check_values(values: str, label: int | None) -> None:
    """The options `values` and `label` fit together."""
    from softoverlap._checks import check_choice
    from softoverlap.images import VALUES

    check_choice("values", values, VALUES)
    if label is not None and values not in ("auto", "labels"):
        raise ValueError(f"--label goes with --values labels, got {values}")


def named_files(sources: Sequence[str]) -> list[Path]:
    """Named files, the images of folders, and the images and boxes that match patterns."""
    from softoverlap.app.cohort import BOX_SUFFIXES
    from softoverlap.images import IMAGE_SUFFIXES, find_files

    either = (*IMAGE_SUFFIXES, *BOX_SUFFIXES)
    files: list[Path] = []
    for source in sources:
        suffixes = IMAGE_SUFFIXES if Path(source).is_dir() else either
        files += find_files([source], suffixes, "files")
    return files


def is_image(path: Path) -> bool:
    """Whether the name is that of an image; other files hold boxes."""
    from softoverlap.images import is_image_name

    return path.is_dir() or is_image_name(path) or not path.suffix


def describe(path: Path, reading: Reading, box_reading: BoxReading) -> list[str]:
    """Lines about a file."""
    from softoverlap.images import load_image

    if not is_image(path):
        return describe_boxes(path, box_reading)
    image = load_image(path, validate=False)
    return [f"format   {_format(path)}", *grid_lines(image), *value_lines(image, reading)]


def _format(path: Path) -> str:
    if path.is_dir():
        return "DICOM series"
    name = path.name.lower()
    return next(word for end, word in reversed(_FORMATS.items()) if name.endswith(end))


def grid_lines(image: Volume) -> list[str]:
    """Shape, spacing, axes and position."""
    from softoverlap.images import axis_codes

    shape = " x ".join(map(str, image.grid))
    spacing = " x ".join(f"{edge:.4g}" for edge in image.spacing)
    channels = "" if image.data.ndim == 3 else f"{plural(len(image.data), 'channel')} of "
    place = ", ".join(f"{number:.4g}" for number in image.affine[:3, 3].tolist())
    turned = _turn(image.affine)
    oblique = f", oblique by up to {turned:.3g} degrees" if turned > 0.01 else ""
    axes = f"axes {axis_codes(image.affine)}{oblique}"
    return [
        f"grid     {channels}{shape} voxels of {spacing} mm, {axes}",
        f"place    first voxel's centre at {place} mm (RAS)",
    ]


def _turn(affine: Tensor) -> float:
    """Largest angle between an axis and its nearest direction, in degrees."""
    import torch

    axes = affine[:3, :3] / affine[:3, :3].norm(dim=0)
    return float(torch.rad2deg(torch.acos(axes.abs().amax(dim=0).clamp(max=1))).max())


def value_lines(image: Volume, reading: Reading) -> list[str]:
    """Kind and range of the values, and the lesions."""
    import torch

    from softoverlap.images import value_kind

    kind = value_kind(image.data)
    wrong = image.data.numel() - int(torch.isfinite(image.data).sum())
    ends = "" if wrong else ", from {:.4g} to {:.4g}".format(*map(float, image.data.aminmax()))
    finite = f", {plural(wrong, 'voxel')} NaN or infinite" if wrong else ""
    lines = [f"values   {_KINDS[kind]}{ends}{finite}"]
    if image.data.ndim != 3:
        return lines
    if kind == "labels":
        lines += _label_lines(image)
    mask = as_mask(image, reading, kind)
    return lines if mask is None else [*lines, *lesion_lines(image, mask, reading)]


_KINDS = {
    "binary": "binary: only 0 and 1",
    "probabilities": "probabilities",
    "labels": "labels: whole numbers (--label K selects one)",
    "percent": "look like percent (read them with --values percent)",
    "0-255": "look like 0-255 (read them with --values 0-255)",
    "other": "other: probably not a mask",
}


def as_mask(image: Volume, reading: Reading, kind: str) -> Tensor | None:
    """The probabilities, if the values are probabilities or an option says how to read them."""
    from softoverlap.images import as_probabilities

    is_named = reading.values != "auto" or reading.label is not None
    if not is_named and kind not in ("binary", "probabilities"):
        return None
    return as_probabilities(image, values=reading.values, label=reading.label, name="the file")


def _label_lines(image: Volume) -> list[str]:
    """Voxels and volume of each label."""
    from softoverlap._units import MM3_PER_ML

    labels, counts = image.data.unique(return_counts=True)
    pairs = [pair for pair in zip(labels.tolist(), counts.tolist(), strict=True) if pair[0]]
    ml = image.voxel_mm3 / MM3_PER_ML
    lines = [
        f"label    {label:g}: {plural(count, 'voxel')}, {count * ml:.4g} ml"
        for label, count in pairs[:MOST_LABELS]
    ]
    omitted = len(pairs) - MOST_LABELS
    return [*lines, f"label    and {omitted} more"] if omitted > 0 else lines


def find_lesions(image: Volume, mask: Tensor, reading: Reading) -> list[Lesion]:
    """The lesions of a mask, as `softoverlap.lesions_from_mask` finds them."""
    from softoverlap.lesions import lesions_from_mask

    return lesions_from_mask(
        mask, spacing=image.lesion_spacing, threshold=reading.threshold, low=reading.low
    )


def lesion_lines(image: Volume, mask: Tensor, reading: Reading) -> list[str]:
    """Number and volumes."""
    from softoverlap._units import MM3_PER_ML

    lesions = find_lesions(image, mask, reading)
    total = float(mask.double().sum()) * image.voxel_mm3 / MM3_PER_ML
    low = "" if reading.low is None else f", down to {reading.low:g}"
    lines = [f"lesions  {len(lesions)} at {reading.threshold:g} or above{low}"]
    if lesions:
        volumes = [lesion.volume_mm3 for lesion in lesions]
        lines[0] += (
            f": {min(volumes):.4g} to {max(volumes):.4g} mm³, "
            f"median {statistics.median(volumes):.4g} mm³"
        )
    return [*lines, f"volume   {total:.4g} ml (sum of probabilities)"]
