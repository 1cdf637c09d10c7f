"""Which anchors serve real lesions: MONAI's two matchers and ours, on 20 patients with MS.

Lesions are those of the raters' consensus at 1 mm (Lesjak et al. 2017, in
`../shared/data/open_ms`), 26-connected, with boxes of at most 32 mm. Anchors are those of
`lesion_retinanet`: strides 4 and 8, edges 5, 8 and 12 on the fine level, twice that on the coarse
one; of the image only the part around the lesions is covered, which leaves no anchor out that is
near one. MONAI's matchers are set as its detector sets them, ATSS also as its class does.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from _measure import store
from anchors import grid
from monai.apps.detection.utils.ATSS_matcher import ATSSMatcher as MonaiMatcher
from torch import Tensor

from softoverlap.anchors import ATSSMatcher, MaxOverlapMatcher, anchor_quality
from softoverlap.images import load_nifti
from softoverlap.lesion import Lesion
from softoverlap.lesions import lesions_from_mask
from softoverlap.overlaps import box_iou

FOLDER = Path(__file__).parents[2] / "shared" / "data" / "open_ms"
STRIDES, PER_PLACE, LARGEST_MM, MARGIN = (4, 8), 3, 32, 32
CLASSES = {"< 10 mm³": 10, "10–30": 30, "30–100": 100, "100–300": 300, "≥ 300": float("inf")}
DIAL = {"precision": (0.7, 0.8), "recall": (0.2, 0.3)}
MEASURES = {
    "served": "Share of lesions with a positive",
    "quality": "Best positive's quality, median (1: no box could do better)",
    "mean_quality": "All positives' quality, mean",
    "positives": "Positives per lesion, mean",
}


def matchers() -> dict[str, Callable[..., Tensor]]:
    """Lesion of each anchor, -1 or -2 for none, from quality, boxes, anchors and places."""

    def monai(centres_inside: bool) -> Callable[..., Tensor]:
        matcher = MonaiMatcher(4, center_in_gt=centres_inside)
        return lambda quality, boxes, anchors, places: matcher.compute_matches(
            boxes, anchors, places, PER_PLACE
        )[1]

    def threshold(quality: Tensor, boxes: Tensor, anchors: Tensor, places: Sequence[int]) -> Tensor:
        return index_of_torchvision(box_iou(boxes, anchors), 0.5)

    def soft(matcher: Callable) -> Callable[..., Tensor]:
        return lambda *case: _index(matcher, *case)

    ends = {
        f"`MaxOverlapMatcher({low}, {high})`, soft": soft(MaxOverlapMatcher(low, high))
        for low, high in DIAL.values()
    }
    return {
        "MONAI's ATSS": monai(centres_inside=False),
        "MONAI's ATSS, `center_in_gt=True`": monai(centres_inside=True),
        "box IoU ≥ 0.5, or the best anchor": threshold,
        "`ATSSMatcher()`, soft": soft(ATSSMatcher()),
        **ends,
    }


def index_of_torchvision(iou: Tensor, positive: float) -> Tensor:
    """As torchvision's `Matcher` with low-quality matches, MONAI's `set_regular_matcher`.

    An anchor that fits a lesion best goes to the lesion that fits the anchor best.
    """
    best, lesion = iou.max(dim=0)
    kept = (best >= positive) | (iou == iou.amax(dim=1, keepdim=True)).any(dim=0)
    return torch.where(kept, lesion, -1)


def _index(
    matcher: Callable, quality: Tensor, boxes: Tensor, anchors: Tensor, places: Sequence[int]
) -> Tensor:
    layout = {"num_locations_per_level": places, "num_anchors_per_loc": PER_PLACE}
    return matcher(quality, boxes, anchors, **layout).index


def lesions_of(path: Path) -> list[Lesion]:
    """Lesions of one patient whose boxes have no edge above 32 mm."""
    volume = load_nifti(path)
    found = lesions_from_mask(volume.data, spacing=volume.spacing, connectivity=26)
    return [one for one in found if (one.box[3:] - one.box[:3]).max() <= LARGEST_MM]


def anchors_around(boxes: Tensor) -> tuple[Tensor, list[int]]:
    """The image's anchors around the lesions; the part starts on the coarsest grid."""
    coarse = STRIDES[-1]
    first = ((boxes[:, :3].amin(0) - MARGIN) / coarse).floor() * coarse
    size = ((boxes[:, 3:].amax(0) + MARGIN - first) / coarse).ceil() * coarse
    anchors, places = grid(size.int().tolist(), STRIDES)
    return anchors + first.repeat(2), places


def measured(lesions: list[Lesion]) -> dict[str, list[dict[str, float]]]:
    """Of each matcher, a row for each lesion; and the best quality that any anchor has for it."""
    boxes = torch.stack([lesion.box for lesion in lesions])
    anchors, places = anchors_around(boxes)
    quality = anchor_quality(lesions, anchors)
    rows = {"the grid's best anchor": [{"quality": best} for best in quality.amax(1).tolist()]}
    for name, match in matchers().items():
        index = match(quality, boxes, anchors, places)
        own = [quality[k][index == k] for k in range(len(lesions))]
        rows[name] = [
            {
                "positives": len(q),
                "quality": float(q.amax()) if len(q) else 0.0,
                "sum_of_quality": float(q.sum()),
            }
            for q in own
        ]
    return rows


def summary(rows: list[dict[str, float]]) -> dict[str, float | None]:
    """What the tables show of these lesions."""
    best = torch.tensor([row["quality"] for row in rows])
    met = best > 0
    figures: dict[str, float | None] = {
        "quality": float(best[met].median()) if bool(met.any()) else None
    }
    if "positives" not in rows[0]:
        return figures
    count = torch.tensor([row["positives"] for row in rows]).double()
    total = sum(row["sum_of_quality"] for row in rows)
    return figures | {
        "served": float((count > 0).double().mean()),
        "met": float(met.double().mean()),
        "mean_quality": total / float(count.sum()) if bool(count.any()) else None,
        "positives": float(count.mean()),
    }


def class_of(volume_mm3: float) -> str:
    """The first size class whose upper limit is above the volume."""
    return next(name for name, limit in CLASSES.items() if volume_mm3 < limit)


def tables(figures: dict) -> str:
    """The figures as Markdown, one table a measure."""
    classes = list(figures["lesions"])
    head = [f"| {{}} | {' | '.join(classes)} |", "|" + " --- |" * (1 + len(classes))]
    lines = []
    for measure, title in MEASURES.items():
        lines += [head[0].format(title), head[1]]
        for name, by_class in figures["matchers"].items():
            if measure in by_class["all"]:
                cells = [shown(measure, by_class[size][measure]) for size in classes]
                lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    counts = " | ".join(str(figures["lesions"][size]) for size in classes)
    return "\n".join([*lines, head[0].format("Lesions"), head[1], f"| number | {counts} |"])


def shown(measure: str, value: float | None) -> str:
    """A figure as the tables print it."""
    if value is None:
        return "–"
    if measure in ("served", "met"):
        return f"{100 * value:.1f} %"
    return f"{value:.1f}" if measure == "positives" else f"{value:.2f}"


def main(folder: Path) -> dict[str, object]:
    """Figures of all patients."""
    rows: dict[str, list[dict[str, float]]] = {}
    sizes: list[str] = []
    for path in sorted(folder.glob("*_native1mm_consensus_gt.nii.gz")):
        lesions = lesions_of(path)
        sizes += [class_of(lesion.volume_mm3) for lesion in lesions]
        for name, found in measured(lesions).items():
            rows.setdefault(name, []).extend(found)
        print(f"{path.name}: {len(lesions)} lesions", flush=True)
    if not sizes:
        raise SystemExit(f"no masks of the consensus in {folder}")
    kept = {size: [s == size for s in sizes] for size in CLASSES} | {"all": [True] * len(sizes)}
    return {
        "lesions": {size: sum(mask) for size, mask in kept.items()},
        "matchers": {
            name: {
                size: summary([row for row, keep in zip(found, mask, strict=True) if keep])
                for size, mask in kept.items()
            }
            for name, found in rows.items()
        },
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    torch.set_num_threads(1)
    figures = main(parser.parse_args().folder)
    store("real_lesions", "cpu", figures)
    print(tables(figures))
