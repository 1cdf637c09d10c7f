"""What transforms read of an item: checked, with messages that name the key."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from torch import Tensor

from softoverlap._checks import check_probabilities, check_tensors
from softoverlap._types import plain

_NEAR = 0.1
"""Voxels by which two tensors of one grid may be apart: affines pass through float32."""

Item = Mapping[Hashable, Any]
"""One element of a data set: a dictionary of tensors and other things."""


def entry(item: Item, key: Hashable, maker: str = "") -> Any:
    """What the item holds under a key.

    Raises:
        TypeError: If the item is not a dictionary.
        ValueError: If it has no such key; `maker` says what would make it.
    """
    if not isinstance(item, Mapping):
        raise TypeError(f"item must be a dictionary, got {type(item).__name__}")
    if key not in item:
        hint = f"; {maker} makes it" if maker else ""
        raise ValueError(f"item must have the key {key!r}, got {sorted(map(str, item))}{hint}")
    return item[key]


def channels_of(item: Item, key: Hashable, *, maker: str = "", one: bool = False) -> Tensor:
    """The channel-first tensor of a key, (C, *spatial) in 2D or 3D, as it is stored."""
    value = entry(item, key, maker)
    value = torch.as_tensor(value) if isinstance(value, np.ndarray) else value
    name = named(key)
    check_tensors(**{name: plain(value) if isinstance(value, Tensor) else value})
    if value.ndim not in (3, 4) or (one and value.shape[0] != 1) or value.numel() == 0:
        channel = "1" if one else "C"
        raise ValueError(
            f"{name} must have shape ({channel}, *spatial) of two or three axes, "
            f"none of them empty, got {tuple(value.shape)}"
        )
    if isinstance(value, MetaTensor) and value.has_pending_operations:
        raise ValueError(
            f"{name} must not have pending operations: put the transforms in a Compose, "
            f"or ApplyPendingd in front"
        )
    return value


def probabilities_of(item: Item, key: Hashable, *, maker: str = "", one: bool = True) -> Tensor:
    """The same, of probabilities in [0, 1]."""
    value = channels_of(item, key, maker=maker, one=one)
    check_probabilities(**{named(key): plain(value)}, validate=True)  # quicker than a MetaTensor
    return value


def check_same_grid(key: Hashable, value: Tensor, other_key: Hashable, other: Tensor) -> None:
    """Two tensors of an item have one spatial shape, and lie at one place if both say where."""
    shape = tuple(other.shape[1:])
    if value.shape[1:] != other.shape[1:]:
        raise ValueError(
            f"{named(key)} must have the spatial shape of {named(other_key)}, "
            f"{shape}, got {tuple(value.shape[1:])}"
        )
    if not (isinstance(value, MetaTensor) and isinstance(other, MetaTensor)):
        return
    here, there = (plain(tensor.affine).cpu().double().numpy() for tensor in (value, other))
    if here.shape != there.shape:
        return
    axes = min(len(shape), len(there) - 1)
    ends = np.zeros((len(there), 2**axes))
    ends[:axes] = np.array(list(itertools.product(*((0, side) for side in shape[:axes])))).T
    ends[-1] = 1
    apart = np.linalg.norm((here - there) @ ends, axis=0).max()
    if not apart <= _NEAR * np.linalg.norm(there[:-1, :axes], axis=0).min():
        raise ValueError(
            f"{named(key)} must lie where {named(other_key)} does, got affines that are up to "
            f"{apart:.3g} mm apart"
        )


def named(key: Hashable) -> str:
    """How messages name an entry."""
    return f"item[{key!r}]"


def like(source: Tensor, data: Tensor) -> MetaTensor:
    """Data on the grid of another tensor, with its affine and without its history."""
    affine = source.affine if isinstance(source, MetaTensor) else torch.eye(data.ndim)
    return MetaTensor(plain(data), affine=affine.clone())


def without(item: Item, *keys: Hashable) -> dict[Hashable, Any]:
    """The item without some keys: what the inverse of a transform that adds them gives."""
    return {key: value for key, value in item.items() if key not in keys}
