"""What `softoverlap inspect` finds in an image: its grid, values and lesions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
    ".mgz": "MGH, compressed", ".mgh": "MGH", ".img": "pair of Analyze or NIfTI",
    ".hdr": "pair of Analyze or NIfTI",
}  # fmt: skip

_KINDS = {
    "binary": "binary: only 0 and 1",
    "probabilities": "probabilities",
    "labels": "labels: whole numbers (--label K selects one)",
    "percent": "look like percent (read them with --values percent)",
    "0-255": "look like 0-255 (read them with --values 0-255)",
    "other": "other: probably not a mask",
}


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


@dataclass(frozen=True)
class ImageContents:
    """Grid, values and lesions of an image."""

    format: str
    dtype: str | None
    channels: int | None
    grid: tuple[int, ...]
    spacing: tuple[float, ...]
    axes: str
    oblique: float
    first_voxel: tuple[float, ...]
    kind: str
    ends: tuple[float, float] | None
    not_finite: int
    labels: dict[float, int]
    voxel_ml: float
    lesions: Lesions | None
    largest_stored: float | None = None
    """The largest value as it reads, if whole numbers were stored scaled."""

    def lines(self) -> list[str]:
        """What is printed."""
        lines = [f"format   {self.format}", *self._grid_lines(), *self._value_lines()]
        return lines if self.lesions is None else [*lines, *self.lesions.lines()]

    def row(self) -> dict[str, object]:
        """Values by the names of the table's columns."""
        lowest, highest = self.ends or (None, None)
        return {
            "format": self.format,
            "channels": self.channels or 1,
            "shape": _by(self.grid),
            "spacing_mm": _by(self.spacing),
            "axes": self.axes,
            "oblique_degrees": self.oblique,
            "dtype": self.dtype,
            "values": self.kind,
            "lowest": lowest,
            "highest": highest,
            "not_finite": self.not_finite,
            "labels": ";".join(f"{label:g}" for label in self.labels),
            **({} if self.lesions is None else self.lesions.row()),
        }

    def _grid_lines(self) -> list[str]:
        """Shape, spacing, axes and position."""
        spacing = " x ".join(f"{edge:.4g}" for edge in self.spacing)
        channels = "" if self.channels is None else f"{plural(self.channels, 'channel')} of "
        place = ", ".join(f"{number:.4g}" for number in self.first_voxel)
        oblique = f", oblique by up to {self.oblique:.3g} degrees" if self.oblique else ""
        axes = f"axes {self.axes}{oblique}"
        return [
            f"grid     {channels}{_by(self.grid)} voxels of {spacing} mm, {axes}",
            f"place    first voxel's centre at {place} mm (RAS)",
        ]

    def _value_lines(self) -> list[str]:
        """Kind and range of the values, and the size of each label."""
        ends = "" if self.ends is None else ", from {:.4g} to {:.4g}".format(*self.ends)
        wrong = self.not_finite
        finite = f", {plural(wrong, 'voxel')} NaN or infinite" if wrong else ""
        lines = [f"values   {_KINDS[self.kind]}{ends}{finite}"]
        if self.largest_stored is not None:
            words = f"{self.largest_stored:.7g} reads as {round(self.largest_stored)}"
            lines.append(f"stored   scaled, and rounded: {words}; store label maps as integers")
        for label, count in list(self.labels.items())[:MOST_LABELS]:
            ml = count * self.voxel_ml
            lines.append(f"label    {label:g}: {plural(count, 'voxel')}, {ml:.4g} ml")
        left = len(self.labels) - MOST_LABELS
        return [*lines, f"label    and {left} more"] if left > 0 else lines


@dataclass(frozen=True)
class Lesions:
    """Volumes of the lesions of a mask, and how they were found."""

    volumes_mm3: tuple[float, ...]
    total_ml: float
    reading: Reading

    def lines(self) -> list[str]:
        """Number and volumes."""
        reading, volumes = self.reading, self.volumes_mm3
        low = "" if reading.low is None else f", down to {reading.low:g}"
        lines = [f"lesions  {len(volumes)} at {reading.threshold:g} or above{low}"]
        if volumes:
            lines[0] += (
                f": {min(volumes):.4g} to {max(volumes):.4g} mm³, "
                f"median {statistics.median(volumes):.4g} mm³"
            )
        return [*lines, f"volume   {self.total_ml:.4g} ml (sum of probabilities)"]

    def row(self) -> dict[str, object]:
        """Values by the names of the table's columns."""
        return {"lesions": len(self.volumes_mm3), "volume_ml": self.total_ml}


def image_contents(path: Path, reading: Reading) -> ImageContents:
    """What the image holds."""
    import torch

    from softoverlap._units import MM3_PER_ML
    from softoverlap.images import axis_codes, load_image, stored_type, unscaled, value_kind

    image = load_image(path, validate=False)
    kind, data = value_kind(image.data), image.data
    whole_labels = unscaled(data)
    data = data if whole_labels is None else whole_labels
    wrong = data.numel() - int(torch.isfinite(data).sum())
    low, high = map(float, data.aminmax())
    single = data.ndim == 3
    mask = as_mask(image, reading, kind) if single else None
    return ImageContents(
        format=_format(path),
        dtype=stored_type(path),
        channels=None if single else len(data),
        grid=image.grid,
        spacing=image.spacing,
        axes=axis_codes(image.affine),
        oblique=_turn(image.affine),
        first_voxel=tuple(image.affine[:3, 3].tolist()),
        kind=kind,
        ends=None if wrong else (low, high),
        not_finite=wrong,
        labels=_voxels_of_labels(data) if single and kind == "labels" else {},
        largest_stored=None if whole_labels is None else float(image.data.max()),
        voxel_ml=image.voxel_mm3 / MM3_PER_ML,
        lesions=None if mask is None else _measured(image, mask, reading),
    )


def _measured(image: Volume, mask: Tensor, reading: Reading) -> Lesions:
    """The lesions' volumes, and that of the whole mask."""
    from softoverlap._units import MM3_PER_ML

    volumes = tuple(lesion.volume_mm3 for lesion in find_lesions(image, mask, reading))
    return Lesions(volumes, float(mask.double().sum()) * image.voxel_mm3 / MM3_PER_ML, reading)


def _voxels_of_labels(data: Tensor) -> dict[float, int]:
    """The number of voxels of each label but 0."""
    labels, counts = data.unique(return_counts=True)
    pairs = zip(labels.tolist(), counts.tolist(), strict=True)
    return {label: count for label, count in pairs if label}


def _by(sizes: Sequence[float | int]) -> str:
    """`12 x 10 x 8`."""
    return " x ".join(map(str, sizes))


def _turn(affine: Tensor) -> float:
    """Largest angle between an axis and its nearest direction, in degrees; 0 up to 0.01."""
    import torch

    axes = affine[:3, :3] / affine[:3, :3].norm(dim=0)
    angle = float(torch.rad2deg(torch.acos(axes.abs().amax(dim=0).clamp(max=1))).max())
    return angle if angle > 0.01 else 0.0


def _format(path: Path) -> str:
    if path.is_dir():
        return "DICOM series"
    name = path.name.lower()
    return next(word for end, word in reversed(_FORMATS.items()) if name.endswith(end))


def as_mask(image: Volume, reading: Reading, kind: str) -> Tensor | None:
    """The probabilities, if the values are probabilities or an option says how to read them."""
    from softoverlap.images import as_probabilities

    is_named = reading.values != "auto" or reading.label is not None
    if not is_named and kind not in ("binary", "probabilities"):
        return None
    return as_probabilities(image, values=reading.values, label=reading.label, name="the file")


def find_lesions(image: Volume, mask: Tensor, reading: Reading) -> list[Lesion]:
    """The lesions of a mask, as `softoverlap.lesions_from_mask` finds them."""
    from softoverlap.lesions import lesions_from_mask

    return lesions_from_mask(
        mask, spacing=image.lesion_spacing, threshold=reading.threshold, low=reading.low
    )
