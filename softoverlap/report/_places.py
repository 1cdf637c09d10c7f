"""Where the files of a row are now, and on which voxels its boxes lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softoverlap.data import Volume, read_box_files
from softoverlap.data.geometry import NEAR_GRID


@dataclass(frozen=True)
class Place:
    """A file that is there, and what is to be known about where it was found."""

    path: Path
    note: str = ""


def place_of(name: str, folder: Path, settings: Mapping[str, Any]) -> Place:
    """The file that was scored; never another one of that name.

    A relative name goes from the folder that the settings tell. Where they tell none, it is looked
    for from here, from the results and from beside them, and must be found once.

    Raises:
        FileNotFoundError: If the file is gone.
        ValueError: If several files could be meant.
    """
    start = settings.get("folder")
    if Path(name).is_absolute() or start:
        path = Path(start or "", name)
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there any more")
        return Place(path)
    places = [base.absolute() for base in (Path(), folder, folder.parent)]
    found = {(base / name).resolve(): base for base in places if (base / name).exists()}
    if not found:
        raise FileNotFoundError(f"{name} is not there any more")
    bases = list(found.values())
    if len(bases) > 1:
        raise ValueError(
            f"{name} must be one file, got one in each of {', '.join(map(str, bases))}: the "
            "results do not tell from which folder it was scored"
        )
    return Place(
        bases[0] / name,
        f"Files were found in {bases[0]}; the results do not tell the folder they were scored in.",
    )


def affine_of_boxes(paths: Sequence[Path], case: str) -> Tensor | None:
    """The affine of the first file of boxes that tells one: the grid on which they were scored."""
    for path in paths:
        files = read_box_files(path)
        file = files.get(case) or (next(iter(files.values())) if len(files) == 1 else None)
        if file is not None and file.affine is not None:
            return file.affine
    return None


def check_axes(scan: Volume, affine: Tensor) -> None:
    """Boxes can be moved between grids that lie along the same axes.

    Raises:
        ValueError: If the grid of the boxes is turned against that of the scan.
    """
    matrix = torch.linalg.solve(scan.affine[:3, :3], affine[:3, :3])  # scan voxels a box voxel
    main = matrix.abs().argmax(dim=0)
    if len(set(main.tolist())) == 3:
        sizes = torch.tensor(scan.grid, dtype=torch.float64)[main]
        reach = sizes / matrix.abs().amax(dim=0)  # the scan's size in voxels of the boxes
        aside = matrix.abs().scatter(0, main[None], 0.0) @ reach
        if float(aside.max()) <= NEAR_GRID:
            return
    raise ValueError("the boxes lie on a grid that is turned against that of the scan")
