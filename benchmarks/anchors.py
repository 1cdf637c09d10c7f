"""Matching 315,360 anchors with 100 soft lesions, against MONAI's ATSS on their boxes.

Ours is the whole way, from soft lesions over their quality to the matches. The best box of a lesion
is kept for the next time that it is met, so there are two rows: lesions seen before, as in all
epochs but the first, and new ones at each call (drawing them included). Prints ratios of one run,
all sides taking turns on one thread, and the peak memory beyond what was there before, each side in
a process of its own.
"""

from __future__ import annotations

import itertools
import multiprocessing
import resource
from collections.abc import Callable, Sequence
from functools import partial

import torch
from _measure import arguments, seconds, store
from monai.apps.detection.utils.ATSS_matcher import ATSSMatcher as MonaiMatcher
from monai.data.box_utils import box_iou as monai_iou
from torch import Tensor

from softoverlap.anchors import (
    ATSSMatcher,
    MaxOverlapMatcher,
    SimOTAMatcher,
    TaskAlignedMatcher,
    anchor_quality,
)
from softoverlap.lesion import Lesion
from softoverlap.overlaps import box_iou

IMAGE, STRIDES, SIZES, LESIONS = (192, 192, 160), (4, 8, 16), (5.0, 8.0, 12.0), 100
MATCHERS = {
    "ATSSMatcher": ATSSMatcher(),
    "MaxOverlapMatcher": MaxOverlapMatcher(0.3, 0.4),
    "TaskAlignedMatcher": TaskAlignedMatcher(),
    "SimOTAMatcher": SimOTAMatcher(),
}


def level_anchors(image: Sequence[int], stride: int, sizes: Sequence[float]) -> Tensor:
    """Cubes at the centre of every cell of one level, sizes in voxels; place by place."""
    lines = [(torch.arange(voxels // stride) + 0.5) * stride for voxels in image]
    centres = torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1).reshape(-1, 1, len(image))
    half = torch.tensor(sizes).reshape(1, -1, 1) / 2
    return torch.cat([centres - half, centres + half], dim=2).reshape(-1, 2 * len(image))


def grid(image: Sequence[int], strides: Sequence[int]) -> tuple[Tensor, list[int]]:
    """Anchors of all levels, their sizes growing with the stride, and the places of each level."""
    levels = [level_anchors(image, s, [size * s / strides[0] for size in SIZES]) for s in strides]
    return torch.cat(levels), [len(level) // len(SIZES) for level in levels]


def soft_lesions(seed: int) -> list[Lesion]:
    """Balls of 2 to 15 voxels with a soft, rough edge, anywhere in the image."""
    generator = torch.Generator().manual_seed(seed)
    lesions = []
    for _ in range(LESIONS):
        side = int(torch.randint(2, 16, (1,), generator=generator))
        free = torch.tensor(IMAGE) - side
        offset = (torch.rand(3, generator=generator) * free).floor().long()
        axis = torch.arange(side) + 0.5 - side / 2
        radius = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).square().sum(0).sqrt()
        rough = torch.rand(radius.shape, generator=generator)
        crop = torch.sigmoid(4 * (side / 2 - radius + rough - 0.5))
        box = torch.cat([offset, offset + side]).float()
        centre = (box[:3] + box[3:]) / 2
        lesions.append(Lesion(box, crop, offset, centre, float(crop.sum())))
    return lesions


def sides(device: str) -> dict[str, Callable[[], object]]:
    """Each side's whole way to the matches."""
    anchors, places = grid(IMAGE, STRIDES)
    anchors = anchors.to(device)
    new = map(soft_lesions, itertools.count(1))
    seen = soft_lesions(0)
    boxes = _boxes(seen, device)
    layout = {"num_locations_per_level": places, "num_anchors_per_loc": len(SIZES)}
    monai = MonaiMatcher(4, monai_iou, center_in_gt=False)
    return {
        "ours": lambda: _soft(seen, anchors, layout),
        "ours, new lesions": lambda: _soft(next(new), anchors, layout),
        "ours, box IoU": lambda: ATSSMatcher()(box_iou(boxes, anchors), boxes, anchors, **layout),
        "monai": lambda: monai.compute_matches(boxes, anchors, places, len(SIZES)),
    }


def _soft(lesions: list[Lesion], anchors: Tensor, layout: dict) -> object:
    boxes = _boxes(lesions, anchors.device)
    return ATSSMatcher()(anchor_quality(lesions, anchors), boxes, anchors, **layout)


def _boxes(lesions: list[Lesion], device: str | torch.device) -> Tensor:
    return torch.stack([lesion.box for lesion in lesions]).to(device)


def peak_bytes(side: str, device: str) -> int:
    """Peak memory of one call beyond what was there; on the CPU in a process of its own."""
    if device.startswith("cuda"):
        return _peak(side, device)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (side, device))


def _peak(side: str, device: str) -> int:
    torch.set_num_threads(1)
    run = sides(device)[side]
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    before = _bytes_at_most(device)
    run()
    return _bytes_at_most(device) - before


def _bytes_at_most(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def whole_way(device: str) -> dict[str, object]:
    """Seconds and peak memory of each side, and MONAI's over ours."""
    peaks = {side: peak_bytes(side, device) for side in sides(device)}
    times = seconds(sides(device), device, repeats=3)
    for side in times:
        print(f"{side}: {times[side]:.2f} s, {peaks[side] / 1e6:.0f} MB")
    ratios = {
        f"monai_over_{side}": {
            "seconds": times["monai"] / times[side],
            "peak_memory": peaks["monai"] / max(1, peaks[side]),
        }
        for side in times
        if side != "monai"
    }
    for name, ratio in ratios.items():
        print(f"{name}: seconds {ratio['seconds']:.1f}, memory {ratio['peak_memory']:.1f}")
    return {"seconds": times, "peak_bytes": peaks, **ratios}


def parts(device: str) -> dict[str, float]:
    """Seconds of the parts of our way: quality, and each matcher on it."""
    anchors, places = grid(IMAGE, STRIDES)
    anchors, lesions = anchors.to(device), soft_lesions(0)
    quality, boxes = anchor_quality(lesions, anchors), _boxes(lesions, device)
    layout = {"num_locations_per_level": places, "num_anchors_per_loc": len(SIZES)}
    runs: dict[str, Callable[[], object]] = {
        "anchor_quality": partial(anchor_quality, lesions, anchors)
    }
    for name, matcher in MATCHERS.items():
        runs[name] = partial(matcher, quality, boxes, anchors, **layout)
    times = seconds(runs, device, repeats=5)
    for name, value in times.items():
        print(f"  {name}: {value:.3f} s")
    return times


if __name__ == "__main__":
    device = arguments(__doc__ or "").device
    torch.set_num_threads(1)
    anchors, _ = grid(IMAGE, STRIDES)
    print(f"{len(anchors):,} anchors, {LESIONS} lesions, {device}")
    figures: dict[str, object] = {"anchors": len(anchors), "lesions": LESIONS}
    figures |= whole_way(device)  # first: memory is read from here
    figures["seconds of the parts"] = parts(device)
    store("anchors", device, figures)
