"""The picture of `softoverlap inspect`: a mask or boxes in three planes of a scan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from softoverlap.app.cli.box_words import BoxReading, read_files
from softoverlap.app.cli.image_words import Reading, as_mask, find_lesions
from softoverlap.app.cli.inspecting import is_image

if TYPE_CHECKING:
    from torch import Tensor

    from softoverlap.images import BoxFile, Volume


def draw(path: Path, box_reading: BoxReading, picture: Path, reading: Reading) -> None:
    """Draw three planes through the largest lesion, the best box, or the middle."""
    from softoverlap.app.report import plot_case, save_figure

    scan = box_reading.image
    title = path.name if scan is None else f"{path.name} on {scan.name}"
    if not is_image(path):
        turned, boxes, scores = _boxes_and_scan(path, box_reading)
        figure = plot_case(
            turned.data, affine=turned.affine, found_boxes=boxes, scores=scores, title=title
        )
    else:
        mask, below = _mask_and_scan(path, scan, reading)
        figure = plot_case(
            below.data, affine=below.affine, soft_mask=mask, title=title,
            centre=None if mask is None else _largest(below, mask, reading),
        )  # fmt: skip
    save_figure(figure, picture)


def _boxes_and_scan(path: Path, reading: BoxReading) -> tuple[Volume, Tensor, Tensor | None]:
    """The scan in display orientation, and the findings of the case in its voxels, best first."""
    from softoverlap.app.report import DISPLAY
    from softoverlap.images import boxes_between_grids, load_one_volume, reorient_to

    if reading.image is None:
        raise ValueError("--picture of boxes needs their scan: pass --image")
    files = read_files(path, reading)
    if len(files) != 1:
        raise ValueError(
            f"--picture shows the boxes of one case, got {len(files)} cases in {path}: "
            "`softoverlap convert FILE FOLDER --to json` makes one file per case"
        )
    file = next(iter(files.values()))
    image = _on_grid_of(file, load_one_volume(reading.image), path, reading.image)
    turned = reorient_to(image, DISPLAY)
    boxes = boxes_between_grids(file.boxes, image.affine, turned.affine)[file.above]
    if file.scores is None:
        return turned, boxes, None
    scores = file.scores[file.above]
    best = scores.argsort(descending=True)
    return turned, boxes[best], scores[best]


def _mask_and_scan(path: Path, scan: Path | None, reading: Reading) -> tuple[Tensor | None, Volume]:
    """The mask that a file holds, if any, and the scan (or the file itself) below it."""
    from softoverlap.app.report import DISPLAY
    from softoverlap.images import check_same_grid, load_one_volume, reorient_to, value_kind

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
    """The centre of the largest lesion, None without lesions."""
    lesions = find_lesions(image, mask, reading)
    if not lesions:
        return None
    return max(lesions, key=lambda lesion: lesion.volume_mm3).centre.tolist()


def _on_grid_of(file: BoxFile, image: Volume, path: Path, scan: Path) -> Volume:
    """The scan in the axis order of the boxes, whose grid must be the same."""
    from softoverlap.images import Volume, check_same_grid, reorient_to

    if file.affine is None:
        return image
    turned = reorient_to(image, file.affine)
    check_same_grid(turned, Volume(turned.data, file.affine), names=(str(scan), str(path)))
    return turned
