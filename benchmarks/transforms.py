"""What the lesions' transforms take of a training step, beside MONAI's own on the same patch.

Patches of 48³ with ten lesions between one voxel and eleven across, on one thread. Reading the
target is what each step pays; lesions are found once a scan, and cached.
"""

from __future__ import annotations

import torch
from _measure import seconds, store
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Flipd, RandAffined

from softoverlap import LesionInstancesd, LesionsFromInstancesd, LesionWeightMapd

SIDE, LESIONS = 48, 10
KEYS, MODES = ("image", "mask", "instances"), ("bilinear", "bilinear", "nearest")


def patch() -> dict[str, MetaTensor]:
    """Balls with soft edges in noise."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.arange(SIDE) + 0.5
    grid = torch.stack(torch.meshgrid(axes, axes, axes, indexing="ij"))
    mask = torch.zeros(1, SIDE, SIDE, SIDE)
    for _ in range(LESIONS):
        centre = 4 + (SIDE - 8) * torch.rand(3, 1, 1, 1, generator=generator)
        radius = 0.5 + 5 * torch.rand(1, generator=generator).item()
        distance = (grid - centre).square().sum(0).sqrt()
        mask[0] = torch.maximum(mask[0], (radius - distance + 0.5).clamp(0, 1))
    image = mask + 0.1 * torch.rand(mask.shape, generator=generator)
    return {"image": MetaTensor(image), "mask": MetaTensor(mask)}


def main() -> None:
    torch.set_num_threads(1)
    scan = patch()
    find, weigh, read = LesionInstancesd(), LesionWeightMapd(), LesionsFromInstancesd(amodal=True)
    found = find(scan)
    turn = RandAffined(KEYS, prob=1, rotate_range=(0.3, 0.3, 0.3), mode=MODES, padding_mode="zeros")
    turned = turn(found)
    times = seconds(
        {
            "lesions found": lambda: find(scan),
            "weight map": lambda: weigh(found),
            "target read": lambda: read(turned),
            "MONAI's flip": lambda: Flipd(KEYS, 0)(found),
            "MONAI's affine": lambda: turn(found),
        },
        "cpu",
        repeats=51,
    )
    figures = {name: round(1000 * time, 3) for name, time in times.items()}
    for name, time in figures.items():
        print(f"{name:>15}: {time:.1f} ms")
    count = len(read(turned)["boxes"])
    store("transforms", "cpu", {"side": SIDE, "lesions": count, "milliseconds": figures})


if __name__ == "__main__":
    main()
