"""The volumes of a case for its picture: found, read, on one grid, turned as radiologists look."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from softoverlap._checks import refusal
from softoverlap.app.report._places import affine_of_boxes, check_axes, place_of
from softoverlap.app.report._results import Row, text, truths_of
from softoverlap.app.report.display import DISPLAY
from softoverlap.images import (
    Volume,
    align_to,
    image_name,
    is_image_name,
    label_to_read,
    load_image,
    load_raters,
    reorient_to,
)


@dataclass(frozen=True)
class CaseVolumes:
    """What there is of a case, on the grid on which it was scored; at least one is not None."""

    affine: Tensor
    image: Tensor | None = None
    truth: Tensor | None = None
    found: Tensor | None = None
    note: str = ""
    boxes_affine: Tensor | None = None
    """That of the boxes of the tables, where it is another."""

    @property
    def background(self) -> Tensor:
        """The image if it is known, else the truth, else the prediction."""
        for volume in (self.image, self.truth, self.found):
            if volume is not None:
                return volume
        raise ValueError("a case must have a volume to be drawn")

    def map(self, change: Any) -> CaseVolumes:
        """The same with each volume changed."""
        names = ("image", "truth", "found")
        volumes = {name: getattr(self, name) for name in names}
        present = {name: volume for name, volume in volumes.items() if volume is not None}
        return replace(self, **{name: change(volume) for name, volume in present.items()})

    def turned(self) -> CaseVolumes:
        """The same with axes permuted and flipped for display."""
        affine = reorient_to(Volume(self.background, self.affine), DISPLAY).affine
        turned = self.map(lambda values: reorient_to(Volume(values, self.affine), DISPLAY).data)
        return replace(turned, affine=affine)


def load_volumes(
    row: Row, settings: Mapping[str, Any], image: Path | None, folder: Path
) -> CaseVolumes:
    """Read the masks of a case as they were scored, and the scan behind them.

    Raises:
        FileNotFoundError: If a file is gone.
        ValueError: If one cannot be read, or there is nothing to draw on.
    """
    pred = [text(row, "pred")] if text(row, "pred") else []
    named = (truths_of(row), pred)
    truths, preds = (_found(filter(_may_be_mask, names), folder) for names in named)
    masks = list(filter(_is_image, truths))
    pred_image = next(filter(_is_image, preds), None)
    if not masks and pred_image is None:
        if image is None:
            raise ValueError("boxes alone, and no scan is known: name the images")
        return _scan_alone(image, _found(itertools.chain(*named), folder), row)
    first = masks[0] if masks else pred_image
    assert first is not None
    grid = load_image(first)
    volumes = CaseVolumes(
        grid.affine,
        truth=_mask(masks, first, row, settings, "truth_values") if masks else None,
        found=None if pred_image is None else _mask([pred_image], first, row, settings, "values"),
    )
    return volumes if image is None else _with_image(volumes, grid, image)


def _found(names: Iterable[str], folder: Path) -> list[Path]:
    return [place_of(name, folder) for name in names]


def _may_be_mask(name: str) -> bool:
    return not name.lower().endswith((".json", ".csv", ".npz"))


def _scan_alone(path: Path, boxes: Sequence[Path], row: Row) -> CaseVolumes:
    """The scan of a case of boxes, and where in it they lie."""
    scan = _one_channel(load_image(path))
    affine = affine_of_boxes(boxes, text(row, "case"))
    if affine is None:
        note = "The boxes are taken to lie on the scan's voxels, since no file tells where."
        return CaseVolumes(scan.affine, image=scan.data, note=note)
    check_axes(scan, affine)
    return CaseVolumes(scan.affine, image=scan.data, boxes_affine=affine)


def _with_image(volumes: CaseVolumes, grid: Volume, path: Path) -> CaseVolumes:
    """The volumes over the scan; if that cannot be read, over the mask, with a note."""
    try:
        scan = _one_channel(load_image(path))
        image = align_to(scan, grid, geometry="resample").volume.data
    except (ValueError, OSError) as error:
        note = f"{volumes.note} The scan is not shown: {error}".strip()
        return replace(volumes, note=note)
    return replace(volumes, image=image)


def _one_channel(volume: Volume) -> Volume:
    return volume if volume.data.ndim == 3 else Volume(volume.data[0], volume.affine)


def _mask(
    paths: Sequence[Path], grid: Path, row: Row, settings: Mapping[str, Any], which: str
) -> Tensor:
    """Probabilities on the grid, read as the settings say; of several raters the mean."""
    values, label = str(settings.get(which, "auto")), row.get("label")
    return load_raters(
        paths,
        onto=grid,
        geometry=str(settings.get("geometry", "strict")),
        values=values,
        label=label_to_read(values, int(label) if isinstance(label, float) else None),
    ).raters.mean(dim=0)


def _is_image(path: Path) -> bool:
    return is_image_name(path) or path.is_dir()


class ScanFinder:
    """Finds the scan of a case: by a pattern with {case}, or in a folder by its name.

    Args:
        images: The pattern or the folder, or None.

    Raises:
        NotADirectoryError: If it is neither.
    """

    def __init__(self, images: str | os.PathLike[str] | None) -> None:
        self.pattern = None if images is None else os.fspath(images)
        self.files: dict[str, list[Path]] = {}
        if self.pattern is not None and "{case}" not in self.pattern:
            folder = Path(self.pattern)
            if not folder.is_dir():
                complaint = f"must be a folder or a pattern with {{case}}, got {self.pattern}"
                raise refusal("images", complaint, NotADirectoryError)
            for path in sorted(folder.rglob("*")):
                if is_image_name(path) or path.is_dir():
                    self.files.setdefault(image_name(path), []).append(path)

    def __call__(self, case: str) -> tuple[Path | None, str]:
        """The scan, or None and why."""
        if self.pattern is None:
            return None, ""
        scans = self._named(case)
        if len(scans) == 1:
            return scans[0], ""
        if not scans:
            return None, "No scan is known for this case."
        return None, f"{len(scans)} scans could be this case's, {scans[0].name} among them."

    def check_any(self, cases: Sequence[str]) -> None:
        """What was given must be the scan of one of the cases at least."""
        if self.pattern is None or not cases or any(self._named(case) for case in cases):
            return
        looked = self.pattern.replace("{case}", cases[0])
        raise refusal(
            "images",
            f"must have the scan of one case at least, found none of {len(cases)}: "
            f"looked {'for' if '{case}' in self.pattern else f'for {cases[0]} in'} {looked}",
            FileNotFoundError,
        )

    def _named(self, case: str) -> list[Path]:
        if self.pattern is not None and "{case}" in self.pattern:
            path = Path(self.pattern.replace("{case}", case))
            return [path] if path.exists() else []
        longer = [
            path
            for name, paths in self.files.items()
            if name.startswith((f"{case}_", f"{case}-", f"{case}."))
            for path in paths
            if not path.is_dir()
        ]
        return self.files.get(case) or longer
