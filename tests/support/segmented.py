"""Small scans with lesions, and what a segmentation network may say of them."""

from __future__ import annotations

import torch

AFFINE = torch.diag(torch.tensor([-1.0, 1.0, 2.0, 1.0], dtype=torch.float64))


def segmented_scan(seed):
    """A truth of three cubes, and a map that sees them, less surely the third, and two others."""
    generator = torch.Generator().manual_seed(seed)
    truth, found = torch.zeros(2, 24, 24, 12)
    for number, at in enumerate((2, 9, 16)):
        truth[at : at + 4, 4:8, 3:6] = 1
        found[at : at + 4, 4:8, 3:6] = 0.6 + (2 - number) * 0.15
    for at in (2, 14):
        found[at : at + 2, 16:18, 6:8] = 0.55 + 0.3 * torch.rand(1, generator=generator)
    haze = 0.3 * torch.rand(found.shape, generator=generator)
    return truth, (found - 0.1 * haze).clamp(0, 1) + (found == 0) * haze / 8
