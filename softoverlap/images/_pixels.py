"""From the values of a file to a tensor, if its type can hold them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from softoverlap._checks import refusal
from softoverlap._types import TAKEN

_TILE = 32
_EXACT = 1 << 24  # of float32


def converted(
    values: np.ndarray, dtype: torch.dtype | None, path: Path, *, validate: bool
) -> Tensor:
    """A copy of the values as a tensor of the given type; integers are always checked.

    Without a type, bytes stay bytes and all else becomes float32, and the values keep their order
    in memory: then they are copied only where need be.
    """
    if dtype is not None and dtype not in TAKEN:
        raise refusal("dtype", f"must be a type that is computed in, got {dtype}", TypeError)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{path} must hold real numbers, got type {values.dtype}")
    validate = validate or not (dtype is None or dtype.is_floating_point)
    if values.dtype.kind == "f" and validate and not _all_finite(values):
        wrong = values.size - int(np.isfinite(values).sum())
        raise ValueError(f"{path} must hold finite values, got {wrong} NaN or infinite voxels")
    native = _held(values) if dtype is None else _copied(values)
    if native.dtype.itemsize > 8:  # torch knows no long double
        native = native.astype(np.float64)
    source = torch.from_numpy(native)
    dtype = dtype or (torch.uint8 if source.dtype == torch.uint8 else torch.float32)
    data = source.to(dtype)
    if validate and source.dtype != dtype and not _kept(source, data):
        raise ValueError(f"{path} must hold values that fit in {dtype}, got type {values.dtype}")
    return data


def _all_finite(values: np.ndarray) -> bool:
    """Whether no value is NaN or infinite: each of those shows in the smallest or the largest."""
    return not values.size or bool(np.isfinite([values.min(), values.max()]).all())


def _held(values: np.ndarray) -> np.ndarray:
    """The values in the byte order of this machine, copied only if torch can't have their memory.

    A file that is mapped into memory may change; torch goes forward only.
    """
    own = type(values) is np.ndarray and values.flags.writeable and values.dtype.isnative
    if own and min(values.strides) >= 0:
        return values
    return np.array(values, dtype=values.dtype.newbyteorder("="), order="K")


def _copied(values: np.ndarray) -> np.ndarray:
    """A copy with the last axis fastest, in the byte order of this machine, tile by tile.

    Files have the first axis fastest; at once, each value would be fetched from another cache line.
    """
    copy = np.empty(values.shape, dtype=values.dtype.newbyteorder("="))
    depth, width = values.shape[-3], values.shape[-1]
    for first, last in itertools.product(range(0, depth, _TILE), range(0, width, _TILE)):
        tile = (..., slice(first, first + _TILE), slice(None), slice(last, last + _TILE))
        copy[tile] = values[tile]
    return copy


def _kept(source: Tensor, data: Tensor) -> bool:
    """Whether the new type holds the values: floats in its range, integers exactly."""
    if data.dtype.is_floating_point:
        blocks = data.flatten().split(1 << 22)  # isfinite holds a copy of all that it looks at
        return all(bool(torch.isfinite(block).all()) for block in blocks)
    return bool((data.numpy() == source.numpy()).all())  # torch compares no uint16 with int16


def notes_on_rounding(values: np.ndarray, data: Tensor, path: Path) -> tuple[str, ...]:
    """A note where float32 does not hold the whole numbers of a file: two labels may become one."""
    if data.dtype != torch.float32 or values.dtype.kind not in "iu" or values.dtype.itemsize < 4:
        return ()
    largest = max(abs(int(values.min())), abs(int(values.max())))
    if largest <= _EXACT or all(map(_is_exact, values)):
        return ()
    return (
        f"{path} holds whole numbers up to {largest}, which float32 rounds from {_EXACT} on: "
        "labels so large may become one",
    )


def _is_exact(values: np.ndarray) -> bool:
    return bool((values.astype(np.float32).astype(np.float64) == values).all())
