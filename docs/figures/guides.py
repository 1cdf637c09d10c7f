"""Runs the commands of the guides on simulated scans, and draws the guides' pictures of it.

Run it from the project's root, with the minutes of the training: python docs/figures/guides.py 5
Its folder, runs/guides, may be looked at afterwards; a second run replaces it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from monai.bundle import ConfigParser
from monai.utils import set_determinism

from softoverlap.app.cli import app
from softoverlap.app.report import plot_case, save_figure
from softoverlap.bundles import LESION_DETECTION
from softoverlap.images import BoxFile, LoadedCase, find_cases, load_case, read_boxes
from softoverlap.overlaps import box_iou

FIGURES = Path(__file__).parent.resolve()
SCANS = 24
COLUMNS = 4


def softoverlap(*words: object) -> None:
    """A command of the guides."""
    app([str(word) for word in words], standalone_mode=False)


def draw_phantom() -> Figure:
    """The scan that the page on installing draws."""
    scan = load_case(find_cases("phantoms").cases[1])
    largest = max(scan.lesions, key=lambda lesion: lesion.volume_mm3)
    return plot_case(
        scan.image,
        affine=scan.affine,
        soft_mask=scan.mask,
        centre=largest.centre.tolist(),
        zoom=40.0,
    )


def held_out() -> list[LoadedCase]:
    """The scans that did not train."""
    (fold,) = json.loads(Path("runs/mine/splits_final.json").read_text())
    return [load_case(case) for case in find_cases("phantoms").cases if case.name in fold["val"]]


def draw_found() -> Figure:
    """The surest finding that hits a lesion of a held-out scan, and the others there."""
    files = {case.name: read_boxes(Path("found", f"{case.name}_boxes.json")) for case in held_out()}
    case, place, _ = max(hits(files), key=lambda hit: hit[2])
    found = files[case.name]
    return plot_case(
        case.image,
        affine=case.affine,
        soft_mask=case.mask,
        truth_boxes=torch.stack([lesion.box for lesion in case.lesions]),
        existence=torch.tensor([lesion.existence for lesion in case.lesions]),
        found_boxes=found.boxes[found.above],
        scores=None if found.scores is None else found.scores[found.above],
        centre=place,
        zoom=40.0,
        title=f"{case.name}, findings at a score of {found.score_threshold:.2f} or more",
    )


def hits(files: dict[str, BoxFile]) -> Iterator[tuple[LoadedCase, list[float], float]]:
    """Each finding that hits a lesion: its scan, its centre, its score."""
    for case in held_out():
        found = files[case.name]
        if found.scores is None or not case.lesions:
            continue
        boxes, scores = found.boxes[found.above], found.scores[found.above]
        truth = torch.stack([lesion.box for lesion in case.lesions]).to(boxes)
        for box, score, overlap in zip(boxes, scores, box_iou(boxes, truth), strict=True):
            if bool((overlap >= 0.1).any()):
                yield case, ((box[:3] + box[3:]) / 2).tolist(), float(score)


def patches() -> Iterator[tuple[Any, Any, Any]]:
    """Patches as the bundle's training sees them, with the plan: image, boxes, lesions."""
    parser = ConfigParser()
    parser.read_config([str(LESION_DETECTION / "configs" / "train.yaml"), "plan.json"])
    parser.update({"data_dir": "phantoms", "workers": 0, "output_dir": "runs/looked_at"})
    set_determinism(0)
    for batch in parser.get_parsed_content("train#dataloader"):
        yield from zip(batch["image"][:, 0], batch["boxes"], batch["lesions"], strict=True)


def draw_patches() -> Figure:
    """The first patches with a lesion, in the layer of the largest lesion's centre."""
    shown = list(islice((patch for patch in patches() if len(patch[1])), 2 * COLUMNS))
    figure = Figure(figsize=(10, 5.2))
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.995, wspace=0.02, hspace=0.02)
    grid = figure.subplots(2, COLUMNS).flat
    for axes, (image, boxes, lesions) in zip(grid, shown, strict=True):
        largest = max(lesions, key=lambda lesion: lesion.volume_mm3)
        layer = int(largest.centre[2])
        axes.imshow(image[:, :, layer], cmap="gray", vmin=-2, vmax=3)
        for box, lesion in zip(boxes.tolist(), lesions, strict=True):
            if box[2] <= layer + 0.5 <= box[5]:
                outline(axes, box, f"{lesion.volume_mm3:.0f} mm³, {lesion.existence:.1f}")
        axes.set_axis_off()
    return figure


def outline(axes: Any, box: list[float], words: str) -> None:
    """A box in the plane of the first two axes, with words above it, inside the picture."""
    low, high = (box[1] - 0.5, box[0] - 0.5), (box[4] - 0.5, box[3] - 0.5)
    edges = high[0] - low[0], high[1] - low[1]
    axes.add_patch(Rectangle(low, *edges, fill=False, edgecolor="#e69f00", linewidth=1.6))
    right = low[0] > axes.get_xlim()[1] / 2
    axes.text(
        high[0] if right else low[0], max(low[1] - 1, 4), words, ha="right" if right else "left",
        fontsize=8, color="#e69f00", bbox={"facecolor": "black", "alpha": 0.6, "pad": 1, "lw": 0},
    )  # fmt: skip


def main(minutes: float) -> None:
    """Run the guides' commands and write their pictures."""
    folder = FIGURES.parents[1] / "runs" / "guides"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)
    softoverlap("phantoms", "--output", "phantoms", "--count", SCANS)
    softoverlap("plan", "--data", "phantoms", "--output", "plan.json")
    save_figure(draw_phantom(), FIGURES / "guide_phantom.png", dpi=100)
    save_figure(draw_patches(), FIGURES / "guide_patches.png", dpi=110)
    softoverlap(
        "train", "--data", "phantoms", "--output", "runs/mine", "--plan", "plan.json",
        "--minutes", minutes,
    )  # fmt: skip
    shutil.copy("runs/mine/curve.png", FIGURES / "guide_curve.png")
    softoverlap("detect", "runs/mine/checkpoint.pt", "phantoms/images", "--output", "found")
    save_figure(draw_found(), FIGURES / "guide_found.png", dpi=100)


if __name__ == "__main__":
    main(float(sys.argv[1]))
