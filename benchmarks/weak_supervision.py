"""Can a network learn to segment from boxes alone? Soft Dice on scans that it has not seen.

One small 3D U-Net (MONAI's) is trained on patches of phantoms in three ways that differ in the
target and the loss alone, each from the same starts, with the same patches in the same order:

- masks: the raters' mean, by `SoftDiceCELoss`;
- boxes: only the boxes around what most raters marked. Background outside of all boxes is known;
  inside there are `BoxProjectionLoss`, `PairwiseAffinityLoss` and `SizePriorLoss`;
- filled boxes: the boxes as if they were masks, by `SoftDiceCELoss`.

Runs from boxes without the image term, without the size prior and without both show what each is
good for. A patch lies around a lesion; what is scored are patches around the lesions of scans that
no run has seen. The settings were chosen on other phantoms (seeds 100 and 101) than those that are
reported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import torch
import torch.nn.functional as F
from _measure import store
from monai.networks.nets import UNet
from monai.utils import set_determinism
from torch import Tensor

from softoverlap import (
    BoxProjectionLoss,
    LesionPhantoms,
    PairwiseAffinityLoss,
    SizePriorLoss,
    SoftDiceCELoss,
    SoftDiceMetric,
    lesions_from_mask,
)


@dataclass(frozen=True)
class Settings:
    """All that the figures depend on; intensities in units of (image - 100) / 20.

    Training scans are those of phantom seed s, test scans those of seed 1000 + s.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    training_scans: int = 60
    test_scans: int = 30
    scan_side: int = 48
    patch_side: int = 20
    shift: int = 3
    channels: tuple[int, ...] = (8, 16, 32)
    batch: int = 6
    steps: int = 500
    learning_rate: float = 0.01
    background_weight: float = 10.0
    projection_weight: float = 1.0
    affinity_weight: float = 1.0
    size_weight: float = 10.0
    affinity_scale: float = 0.5
    size_low: float = 0.3
    size_high: float = 0.5


FAST = Settings(
    seeds=(0,), training_scans=6, test_scans=3, scan_side=32, batch=3, steps=5, channels=(4, 8)
)


@dataclass(frozen=True)
class Scan:
    """One scan, what the raters marked in the mean, and the boxes around what most marked."""

    image: Tensor
    mask: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class Batch:
    """Patches; the boxes of all of them, with the patch of each, and whether it is cut."""

    images: Tensor
    masks: Tensor
    boxes: Tensor
    patch_of_box: Tensor
    whole: Tensor


def scans(seed: int, count: int, settings: Settings) -> list[Scan]:
    """Phantoms with at least one box each."""
    shape, spacing = (settings.scan_side,) * 3, (1.0, 1.0, 1.0)
    phantoms = LesionPhantoms(seed, count=10 * count, shape=shape, spacing=spacing)
    found: list[Scan] = []
    for index in range(len(phantoms)):
        phantom = phantoms[index]
        lesions = lesions_from_mask(phantom.mask, spacing=spacing, threshold=0.5)
        if lesions:
            boxes = torch.stack([lesion.box for lesion in lesions])
            found.append(Scan((phantom.image - 100) / 20, phantom.mask, boxes.float()))
        if len(found) == count:
            break
    return found


def batch_of(scans: list[Scan], settings: Settings, generator: torch.Generator) -> Batch:
    """Patches around lesions, shifted at random."""
    parts = []
    for number in range(settings.batch):
        scan = scans[_below(len(scans), generator)]
        centre = scan.boxes[_below(len(scan.boxes), generator)]
        shift = torch.randint(-settings.shift, settings.shift + 1, (3,), generator=generator)
        parts.append(patch_around(scan, centre, shift, number, settings))
    images, masks, boxes, owners, whole = zip(*parts, strict=True)
    kept = torch.cat(boxes), torch.cat(owners), torch.cat(whole)
    return Batch(torch.stack(images), torch.stack(masks), *kept)


def patch_around(
    scan: Scan, box: Tensor, shift: Tensor, number: int, settings: Settings
) -> tuple[Tensor, ...]:
    """Image, mask, boxes, their patch's number and whether they are whole, around a box."""
    side = settings.patch_side
    corner = ((box[:3] + box[3:]) / 2 - side / 2).round().long() + shift
    start = corner.clamp(0, settings.scan_side - side)
    window = tuple(slice(s, s + side) for s in start.tolist())
    moved = scan.boxes - start.repeat(2)
    boxes = moved.clamp(0, side)
    seen = (boxes[:, 3:] > boxes[:, :3]).all(dim=1)
    whole = (boxes == moved).all(dim=1).float()
    owner = torch.full((len(boxes),), number)
    return scan.image[window][None], scan.mask[window][None], boxes[seen], owner[seen], whole[seen]


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def inside_boxes(batch: Batch) -> Tensor:
    """1 for every voxel in its box, shape (K, *patch)."""
    inside = torch.zeros(len(batch.boxes), *batch.masks.shape[2:])
    for row, box in enumerate(batch.boxes.long().tolist()):
        inside[(row, *(slice(box[a], box[a + 3]) for a in range(3)))] = 1
    return inside


def filled_boxes(batch: Batch) -> Tensor:
    """1 for every voxel in any box of its patch, the shape of the masks."""
    count = torch.zeros(len(batch.masks), *batch.masks.shape[2:])
    count.index_add_(0, batch.patch_of_box, inside_boxes(batch))
    return count.clamp(max=1)[:, None]


def loss_of_masks(logits: Tensor, batch: Batch, settings: Settings) -> Tensor:
    """Full supervision: the raters' mean."""
    return SoftDiceCELoss(sigmoid=True, batch=True)(logits, batch.masks)


def loss_of_filled_boxes(logits: Tensor, batch: Batch, settings: Settings) -> Tensor:
    """The boxes as if they were masks."""
    return SoftDiceCELoss(sigmoid=True, batch=True)(logits, filled_boxes(batch))


def loss_of_boxes(logits: Tensor, batch: Batch, settings: Settings) -> Tensor:
    """Background outside of all boxes; projection, image term and size prior in each."""
    outside = 1 - filled_boxes(batch)
    entropy = F.binary_cross_entropy_with_logits(
        logits, torch.zeros_like(logits), weight=outside, reduction="sum"
    )
    maps = logits.sigmoid()[batch.patch_of_box, 0]
    images, boxes, whole = batch.images[batch.patch_of_box, 0], batch.boxes, batch.whole
    inside = maps * inside_boxes(batch)
    projection, size = BoxProjectionLoss(), SizePriorLoss(settings.size_low, settings.size_high)
    loss = settings.background_weight * entropy / outside.sum()
    loss = loss + settings.projection_weight * projection(inside, boxes, whole)
    if settings.affinity_weight:
        affinity = PairwiseAffinityLoss(scale=settings.affinity_scale)
        loss = loss + settings.affinity_weight * affinity(maps, images, boxes)
    return loss + settings.size_weight * size(inside, boxes, whole)


Loss = Callable[[Tensor, Batch, Settings], Tensor]
WAYS: dict[str, tuple[Loss, dict[str, float]]] = {
    "masks": (loss_of_masks, {}),
    "boxes": (loss_of_boxes, {}),
    "boxes, no image term": (loss_of_boxes, {"affinity_weight": 0.0}),
    "boxes, no size prior": (loss_of_boxes, {"size_weight": 0.0}),
    "boxes, neither": (loss_of_boxes, {"affinity_weight": 0.0, "size_weight": 0.0}),
    "filled boxes": (loss_of_filled_boxes, {}),
}


def network(settings: Settings) -> UNet:
    """MONAI's U-Net, small enough for one core."""
    return UNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=1,
        channels=settings.channels,
        strides=(2,) * (len(settings.channels) - 1),
        num_res_units=1,
        norm="batch",  # instance statistics of a patch are not those of a scan
    )


def trained(way: str, scans: list[Scan], seed: int, settings: Settings) -> UNet:
    """The network after its steps; the same start and the same patches for every way."""
    loss_function, changes = WAYS[way]
    settings = replace(settings, **changes)
    set_determinism(seed)
    net, generator = network(settings), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), settings.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps
    )
    for _ in range(settings.steps):
        batch = batch_of(scans, settings, generator)
        optimizer.zero_grad()
        loss_function(net(batch.images), batch, settings).backward()
        optimizer.step()
        schedule.step()
    return net.eval()


def test_patches(scans: list[Scan], settings: Settings) -> Batch:
    """One patch around each lesion, as far as the scan allows in the middle."""
    still = torch.zeros(3, dtype=torch.int64)
    boxes = [(scan, box) for scan in scans for box in scan.boxes]
    parts = [patch_around(*pair, still, k, settings) for k, pair in enumerate(boxes)]
    images, masks, boxes, owners, whole = zip(*parts, strict=True)
    kept = torch.cat(boxes), torch.cat(owners), torch.cat(whole)
    return Batch(torch.stack(images), torch.stack(masks), *kept)


def predicted(net: UNet, images: Tensor) -> Tensor:
    """Probabilities, the shape of the images."""
    with torch.no_grad():
        return torch.cat([net(part).sigmoid() for part in images.split(16)])


def soft_dice(maps: Tensor, masks: Tensor) -> float:
    """Mean over the patches, against the raters' mean."""
    metric = SoftDiceMetric()
    metric(maps, masks)
    return float(metric.aggregate())


def shown(maps: Tensor) -> list[str]:
    """The middle slice in hundredths, a string a row, for the figure."""
    middle = (100 * maps[0, maps.shape[1] // 2]).round().int().tolist()
    return [" ".join(map(str, row)) for row in middle]


def example_of(tests: Batch) -> tuple[int, dict[str, object]]:
    """The patch whose mask has the median size: its number, and what is given."""
    number = int(tests.masks.flatten(1).sum(dim=1).argsort()[len(tests.masks) // 2])
    boxes = tests.boxes[tests.patch_of_box == number].tolist()
    image = tests.images[number]
    return number, {"image": shown(image), "masks": shown(tests.masks[number]), "boxes": boxes}


def study(settings: Settings) -> dict[str, object]:
    """Every way from every seed; prints as it goes."""
    dice: dict[str, list[float]] = {way: [] for way in WAYS}
    spent: dict[str, list[float]] = {way: [] for way in WAYS}
    example, maps, oracle = {}, {}, []
    for seed in settings.seeds:
        training = scans(seed, settings.training_scans, settings)
        tests = test_patches(scans(1000 + seed, settings.test_scans, settings), settings)
        oracle.append(soft_dice(filled_boxes(tests), tests.masks))
        number, example_given = example_of(tests)
        for way in WAYS:
            start = time.perf_counter()
            net = trained(way, training, seed, settings)
            spent[way].append(time.perf_counter() - start)
            found = predicted(net, tests.images)
            dice[way].append(soft_dice(found, tests.masks))
            if seed == settings.seeds[0]:
                example, maps[way] = example_given, shown(found[number])
            print(f"seed {seed}, {way:<22} soft Dice {dice[way][-1]:.3f}, {spent[way][-1]:.0f} s")
    figures = {way: summary(dice[way], dice["masks"], spent[way]) for way in WAYS}
    return {
        "settings": asdict(settings),
        "the boxes themselves": statistics.mean(oracle),
        "ways": figures,
        "example": {**example, "maps": maps},
    }


def summary(dice: list[float], full: list[float], spent: list[float]) -> dict[str, object]:
    """Soft Dice of each seed, its mean and range, and its share of full supervision's."""
    return {
        "soft_dice": dice,
        "mean": statistics.mean(dice),
        "lowest": min(dice),
        "highest": max(dice),
        "share_of_masks": statistics.mean(dice) / statistics.mean(full),
        "lowest_share_of_masks": min(d / f for d, f in zip(dice, full, strict=True)),
        "seconds": statistics.median(spent),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="a few steps, nothing is stored")
    fast = parser.parse_args().fast
    torch.set_num_threads(1)
    figures = study(FAST if fast else Settings())
    print(json.dumps({"fast": fast, "ways": figures["ways"]}, indent=2))
    if not fast:
        store("weak_supervision", "cpu", figures)
