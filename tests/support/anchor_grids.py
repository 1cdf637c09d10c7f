"""Anchors, boxes and crowds of lesions for tests of matchers."""

from __future__ import annotations

import torch
from hypothesis import strategies as st


def grid_anchors(size, stride, sides, ndim=3):
    """Cubes of these sides at the centre of every cell, side by side."""
    axis = (torch.arange(size // stride) + 0.5) * stride
    centres = torch.stack(torch.meshgrid(*[axis] * ndim, indexing="ij"), -1).reshape(-1, 1, ndim)
    half = torch.tensor(sides).reshape(1, -1, 1) / 2
    return torch.cat([centres - half, centres + half], dim=2).reshape(-1, 2 * ndim)


def two_levels(size=24, ndim=3, sides=(4.0, 7.0)):
    """Anchors at strides 4 and 8, and the layout that matchers want to know."""
    fine, coarse = grid_anchors(size, 4, sides, ndim), grid_anchors(size, 8, sides, ndim)
    levels = [(size // 4) ** ndim, (size // 8) ** ndim]
    return torch.cat([fine, coarse]), {
        "num_locations_per_level": levels,
        "num_anchors_per_loc": len(sides),
    }


def random_boxes(count, generator, size=24, ndim=3, low=1.0, high=10.0):
    side = low + (high - low) * torch.rand(count, ndim, generator=generator)
    start = torch.rand(count, ndim, generator=generator) * (size - side)
    return torch.cat([start, start + side], dim=1)


@st.composite
def crowds(draw):
    """Boxes down to a single voxel, many on one spot, and anchors too few or too large for them."""
    ndim = draw(st.integers(1, 3))
    size = draw(st.sampled_from([8, 16]))
    anchors, layout = two_levels(size, ndim, draw(st.sampled_from([(2.0,), (4.0, 7.0)])))
    count = draw(st.integers(1, min(8, len(anchors))))
    sides = st.integers(1, 4)
    boxes = []
    for _ in range(count):
        side = [draw(sides) for _ in range(ndim)]
        low = [draw(st.integers(0, size - edge)) for edge in side]
        boxes.append([*low, *[a + b for a, b in zip(low, side, strict=True)]])
    return torch.tensor(boxes, dtype=torch.float32), anchors, layout
