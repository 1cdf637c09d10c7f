"""Mask-box overlap against filling boxes, against slicing, and against MONAI's hard box IoU.

Prints ratios of one run: ours over the peer where it is said, all sides taking turns.
"""

from __future__ import annotations

from functools import partial

import torch
from _measure import arguments, seconds, store
from monai.data.box_utils import box_iou
from torch import Tensor

from softoverlap.lesion import Lesion
from softoverlap.mask_boxes import SummedVolume
from softoverlap.overlaps import mask_box_dice, mask_box_mass

SAMPLED = 200  # boxes that the slow peers are timed on


def random_boxes(count: int, shape: tuple[int, ...], sides: tuple[float, float]) -> Tensor:
    """Real-valued boxes with centres in the image."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(count, len(shape), generator=generator) * torch.tensor(shape)
    half = torch.rand(count, len(shape), generator=generator) * (sides[1] - sides[0]) / 2
    half += sides[0] / 2
    return torch.cat([centre - half, centre + half], dim=1)


def fill_boxes(mask: Tensor, boxes: Tensor) -> list[Tensor]:
    """Rasterise each (rounded) box over the whole image and sum the product."""
    masses = []
    for box in boxes.round().long().tolist():
        filled = torch.zeros_like(mask)
        filled[_window(box, mask.shape)] = 1
        masses.append((filled * mask).sum())
    return masses


def slice_boxes(mask: Tensor, boxes: Tensor) -> list[Tensor]:
    """Slice each (rounded) box out of the image and sum it."""
    return [mask[_window(box, mask.shape)].sum() for box in boxes.round().long().tolist()]


def against_rasters(device: str) -> dict[str, object]:
    """100,000 boxes on one dense 128³ mask; the table is built anew in every run."""
    shape, count = (128, 128, 128), 100_000
    mask = torch.rand(*shape, generator=torch.Generator().manual_seed(1)).to(device)
    boxes = random_boxes(count, shape, (4, 32)).to(device)
    times = seconds(
        {
            "ours": partial(mask_box_mass, mask[None], boxes),
            "fill": partial(fill_boxes, mask, boxes[:SAMPLED]),
            "slice": partial(slice_boxes, mask, boxes[:SAMPLED]),
        },
        device,
    )
    per_box = {name: times[name] / SAMPLED for name in ("fill", "slice")}
    per_box["ours"] = times["ours"] / count
    figures = {
        "microseconds_per_box": {name: 1e6 * value for name, value in per_box.items()},
        "filling_over_ours": per_box["fill"] / per_box["ours"],
        "slicing_over_ours": per_box["slice"] / per_box["ours"],
    }
    print(f"{count:,} boxes on 128³, table included: {1e6 * per_box['ours']:.2f} µs a box")
    print(f"  filling each box takes {figures['filling_over_ours']:,.0f} times as long")
    print(f"  slicing each box takes {figures['slicing_over_ours']:,.1f} times as long")
    return figures


def against_box_iou(device: str) -> dict[str, object]:
    """190,000 anchors and 12 lesions on 192x192x96, as crops and as whole-image masks."""
    shape, count = (192, 192, 96), 190_000
    anchors = random_boxes(count, shape, (4, 12))
    lesions, masks = lesions_in(shape, 12)
    boxes = torch.stack([lesion.box for lesion in lesions]).to(device)
    anchors, masks = anchors.to(device), masks.to(device)
    tables = SummedVolume.from_lesions(lesions, device=device)
    times = seconds(
        {
            "monai_box_iou": partial(box_iou, boxes, anchors),
            "crops": lambda: mask_box_dice(
                SummedVolume.from_lesions(lesions, device=device), anchors
            ),
            "tables_ready": partial(mask_box_dice, tables, anchors),
            "whole_masks": partial(mask_box_dice, masks, anchors),
        },
        device,
    )
    figures: dict[str, object] = {"milliseconds": {n: 1e3 * value for n, value in times.items()}}
    print(f"{count:,} anchors x 12 lesions, MONAI's box_iou: {1e3 * times['monai_box_iou']:.1f} ms")
    for name in ("crops", "tables_ready", "whole_masks"):
        figures[f"{name}_over_monai"] = times[name] / times["monai_box_iou"]
        print(f"  {name}: {figures[f'{name}_over_monai']:.2f} times that")
    return figures


def lesions_in(
    shape: tuple[int, ...], count: int, whole: bool = True
) -> tuple[list[Lesion], Tensor]:
    """Drawn lesions, and their whole-image masks, if those are asked for."""
    lesions = [_lesion(seed, shape) for seed in range(count)]
    masks = torch.zeros(count if whole else 0, *shape)
    for mask, lesion in zip(masks, lesions, strict=False):
        mask[_window(lesion.box.long().tolist(), mask.shape)] = lesion.crop
    return lesions, masks


def _lesion(seed: int, shape: tuple[int, ...]) -> Lesion:
    generator = torch.Generator().manual_seed(seed)
    sides = torch.randint(4, 13, (3,), generator=generator)
    offset = (torch.rand(3, generator=generator) * (torch.tensor(shape) - sides)).long()
    crop = torch.rand(*sides.tolist(), generator=generator)
    box = torch.cat([offset, offset + sides]).float()
    return Lesion(box=box, crop=crop, offset=offset, centre=offset + sides / 2, volume_mm3=0.0)


def _window(box: list[int], shape: torch.Size) -> tuple[slice, ...]:
    ndim = len(shape)
    return tuple(slice(max(0, box[a]), max(0, box[a + ndim])) for a in range(ndim))


if __name__ == "__main__":
    device = arguments(__doc__ or "").device
    rasters = against_rasters(device)
    store("mask_boxes", device, {"rasters": rasters, "box_iou": against_box_iou(device)})
