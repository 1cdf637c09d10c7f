"""A scan turned as radiologists look at it, its boxes with it, and its planes by their names."""

from __future__ import annotations

import torch
from torch import Tensor

from softoverlap.app.report._style import Figure
from softoverlap.images import boxes_to_world

# Axial planes first, and in them the patient's front above and their right on the left.
DISPLAY = torch.tensor(
    [[0, 0, -1, 0], [0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.float64
)
PLANES = (("axial", "R"), ("coronal", "R"), ("sagittal", "A"))


def moved_boxes(boxes: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Boxes in voxels of one affine, in voxels of another that lies along the same axes."""
    world = boxes_to_world(boxes, before)
    inverse = torch.linalg.inv(after)
    corners = world @ inverse[:3, :3].T + inverse[:3, 3] + 0.5
    return torch.cat([corners.amin(dim=1), corners.amax(dim=1)], dim=1)


def name_planes(figure: Figure) -> None:
    """Planes by their names and sides, in place of the tensor's axes."""
    for number, axes in enumerate(figure.axes):
        name, side = PLANES[number % 3]
        title = name if number < 3 else axes.get_title()  # a second row is the first enlarged
        axes.set_title(title, fontsize=12 if number < 3 else 10)
        axes.set_xlabel("")
        axes.set_ylabel("")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(0.02, 0.5, side, transform=axes.transAxes, fontsize=12, color="white")
