"""The picture of `softoverlap inspect`: a mask or boxes in three planes of a scan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from softoverlap.cli.inspecting import Reading, as_mask, find_lesions, is_image

if TYPE_CHECKING:
    from torch import Tensor

    from softoverlap.data import BoxFile, Volume


def draw(path: Path, scan: Path | None, picture: Path, reading: Reading) -> None:
    """Three planes through the largest lesion, the best box, or the middle."""
    from softoverlap.data import read_boxes, reorient_to
    from softoverlap.data.images import load_one_volume
    from softoverlap.report import plot_case, save_figure
    from softoverlap.report.display import DISPLAY, moved_boxes, name_planes

    title = path.name if scan is None else f"{path.name} on {scan.name}"
    if not is_image(path):
        if scan is None:
            raise ValueError("--picture of boxes needs the scan that they lie on: pass --image")
        image, file = load_one_volume(scan), read_boxes(path)
        _check_on_grid(file, image, path, scan)
        best = None if file.scores is None else file.scores.argsort(descending=True)
        turned = reorient_to(image, DISPLAY)
        boxes = file.boxes if best is None else file.boxes[best]
        boxes = moved_boxes(boxes, image.affine, turned.affine)
        scores = None if best is None or file.scores is None else file.scores[best]
        figure = plot_case(
            turned.data, spacing=turned.spacing, found_boxes=boxes, scores=scores, title=title
        )
    else:
        mask, below = _mask_and_scan(path, scan, reading)
        figure = plot_case(
            below.data, spacing=below.spacing, soft_mask=mask, title=title,
            centre=None if mask is None else _largest(below, mask, reading),
        )  # fmt: skip
    name_planes(figure)
    save_figure(figure, picture)


def _mask_and_scan(path: Path, scan: Path | None, reading: Reading) -> tuple[Tensor | None, Volume]:
    """The probabilities of a file, if it has such, on the scan's grid, and the scan or the file."""
    from softoverlap.data import check_same_grid, reorient_to, value_kind
    from softoverlap.data.images import load_one_volume
    from softoverlap.report.display import DISPLAY

    image = reorient_to(load_one_volume(path), DISPLAY)
    if scan is None:
        return as_mask(image, reading, value_kind(image.data)), image
    below = reorient_to(load_one_volume(scan), DISPLAY)
    check_same_grid(below, image, names=(str(scan), str(path)))
    mask = as_mask(image, reading, value_kind(image.data))
    if mask is None:
        raise ValueError(f"{path} must hold a mask to be drawn on a scan: see --values and --label")
    return mask, below


def _largest(image: Volume, mask: Tensor, reading: Reading) -> list[float] | None:
    """The centre of the largest lesion, None without any."""
    lesions = find_lesions(image, mask, reading)
    if not lesions:
        return None
    return max(lesions, key=lambda lesion: lesion.volume_mm3).centre.tolist()


def _check_on_grid(file: BoxFile, image: Volume, path: Path, scan: Path) -> None:
    """Boxes in voxels mean nothing on another grid."""
    from softoverlap.data import corner_displacement
    from softoverlap.data.geometry import NEAR_GRID

    if file.affine is None:
        return
    apart = corner_displacement(image.grid, image.affine, file.affine)
    if apart > NEAR_GRID:
        raise ValueError(
            f"{path} must hold boxes on the grid of {scan}, got corners up to {apart:.3g} voxels "
            "apart"
        )
