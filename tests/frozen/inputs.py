"""Fixed inputs: NumPy's generator gives the same numbers everywhere, PyTorch's need not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.frozen.names import api

DTYPES = {"float64": torch.float64, "float32": torch.float32}
SPATIAL = {1: (17,), 2: (9, 8), 3: (6, 7, 5)}


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def uniform(seed: int, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return torch.from_numpy(generator(seed).uniform(low, high, shape))


def mask_pairs(ndim: int, batch: int = 2, channels: int = 2) -> dict[str, tuple[Tensor, Tensor]]:
    """Soft and hard masks, an empty target, two empty masks, one voxel; float64."""
    shape = (batch, channels, *SPATIAL[ndim])
    pred, target = uniform(ndim, *shape), uniform(10 + ndim, *shape)
    target = torch.where(target < 0.3, 0.0, target)
    one = torch.zeros(shape, dtype=torch.float64)
    one.flatten(2)[..., 4] = 0.7
    return {
        "soft": (pred, target),
        "hard": ((pred > 0.5).double(), (target > 0.5).double()),
        "empty_target": (pred, 0 * target),
        "both_empty": (0 * pred, 0 * target),
        "one_voxel": (one.clone(), one.flip(2) / 2 + one / 2),
    }


def blobs(ndim: int, seed: int = 0, batch: int = 2, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Soft balls and a prediction that is somewhat like them, for what looks at lesions."""
    spatial = {1: (40,), 2: (22, 20), 3: (16, 14, 12)}[ndim]
    numbers = generator(100 + seed)
    places = np.stack(np.meshgrid(*[np.arange(side) + 0.5 for side in spatial], indexing="ij"))
    masks = np.zeros((2, batch, channels, *spatial))
    for index in np.ndindex(batch, channels):
        for _ in range(3):
            centre = numbers.uniform(2, np.array(spatial) - 2)
            radius = numbers.uniform(1.5, 3.5)
            for side, (shift, factor) in enumerate([(numbers.normal(0, 0.7, ndim), 0.9), (0, 1)]):
                away = np.sqrt(((places.T - centre - shift) ** 2).sum(-1)).T
                ball = factor * np.clip((radius - away) / 2 + 0.5, 0, 1)
                masks[(side, *index)] = np.maximum(masks[(side, *index)], ball)
    pred, target = torch.from_numpy(masks)
    return pred, target


def label_maps(ndim: int, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Integers (2, 1, *spatial)."""
    shape = (2, 1, *SPATIAL[ndim])
    pred, target = (generator(20 + n).integers(0, classes, shape) for n in (ndim, 10 * ndim))
    target = np.where(generator(7).random(shape) < 0.6, pred, target)
    return torch.from_numpy(pred), torch.from_numpy(target)


def box_sets(ndim: int) -> tuple[Tensor, Tensor]:
    """Boxes that are equal, disjoint, touching, flat, one inside the other, and any."""
    low = [[2.0], [2.0], [20.0], [6.0], [3.0], [2.5], [1.3]]
    edges = [[4.0], [4.0], [3.0], [2.5], [0.0], [1.0], [3.7]]
    pred = _boxes(low, edges, ndim)
    low = [[2.0], [0.5], [6.0], [3.0], [2.2], [9.0], [0.7]]
    edges = [[4.0], [3.0], [4.0], [0.0], [6.1], [2.0], [2.9]]
    return pred, _boxes(low, edges, ndim)


def _boxes(low: list[list[float]], edges: list[list[float]], ndim: int) -> Tensor:
    first = torch.tensor(low).double() + 0.25 * torch.arange(ndim)
    return torch.cat(
        [first, first + torch.tensor(edges).double() * (1 + torch.arange(ndim) / 8)], 1
    )


def any_boxes(seed: int, count: int, ndim: int, extent: float = 12.0) -> Tensor:
    """Boxes with a volume."""
    low = uniform(seed, count, ndim, high=extent)
    return torch.cat([low, low + uniform(seed + 500, count, ndim, low=1.0, high=5.0)], dim=1)


def rotated_sets(ndim: int) -> tuple[Tensor, Tensor]:
    """Oriented boxes: equal, turned by a right angle, disjoint, flat, and any."""
    return tuple(_rotated(seed, ndim) for seed in (31, 32))  # pyright: ignore[reportReturnType]


def _rotated(seed: int, ndim: int) -> Tensor:
    centre, edges = uniform(seed, 6, ndim, high=4.0), uniform(seed + 1, 6, ndim, low=1, high=5)
    angle = uniform(seed + 2, 6, 1, low=-3.2, high=3.2)
    centre[:3], edges[:3], angle[:2] = 2.0, 3.0, 0.25 if seed == 31 else 0.25 + np.pi / 2
    centre[3], edges[4, 0] = 30.0 + seed, 0.0
    return torch.cat([centre, edges, angle], dim=1)


def lesions(ndim: int, dtype: torch.dtype = torch.float32) -> list[Any]:
    """Three soft lesions: a ball, a small one, one voxel."""
    made = []
    for number, (side, corner) in enumerate([(5, 2), (3, 8), (1, 12)]):
        axis = torch.arange(side).double() + 0.5 - side / 2
        away = torch.stack(torch.meshgrid(*[axis] * ndim, indexing="ij")).square().sum(0).sqrt()
        crop = ((side / 2 - away) / 2 + 0.55).clamp(0, 1)
        offset = torch.full((ndim,), corner) + torch.arange(ndim)
        made.append(_lesion(crop, offset, dtype, 1 - 0.3 * number, number % 2))
    return made


def _lesion(crop: Tensor, offset: Tensor, dtype: torch.dtype, existence: float, label: int) -> Any:
    inside = (crop >= 0.5).nonzero()
    centre = offset + torch.tensor(crop.shape) / 2
    return api.Lesion(
        box=torch.cat([inside.amin(0) + offset, inside.amax(0) + 1 + offset]).to(dtype),
        crop=crop.to(dtype),
        offset=offset,
        centre=centre.to(dtype),
        volume_mm3=float(crop.sum()),
        existence=existence,
        label=label,
    )


def with_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> dict[str, Any]:
    """The value, and the gradient of its sum, each element weighted by its place."""
    leaves = [one.detach().clone().requires_grad_() for one in inputs]
    value = function(*leaves)
    slope = (
        0.5 + torch.arange(value.numel(), dtype=value.dtype).reshape(value.shape) / value.numel()
    )
    torch.where(value.isfinite(), value * slope, 0).sum().backward()
    gradients = {f"gradient_{n}": leaf.grad for n, leaf in enumerate(leaves)}
    return {"value": value, **gradients}
