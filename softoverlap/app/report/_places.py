"""Where the files of a row are now, and on which voxels its boxes lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from softoverlap.images import NEAR_GRID, Volume, read_box_files


def place_of(name: str, folder: Path) -> Path:
    """The file of a row, whole, as scoring writes it; else it lies from the results.

    Raises:
        FileNotFoundError: If the file is gone.
    """
    path = folder.absolute() / name
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there any more")
    return path


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
