"""Shape aliases, and all that the package decides about dtypes.

What PyTorch stores but hardly computes in (uint16 and wider) is widened by `plain`. What is not
`TAKEN` (8-bit floats, complex numbers, quantised ones) is refused by name in `softoverlap._checks`.
Values are compared with numbers that may not fit in their type by `is_number` and `at_least`.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

Masks = Shaped[Tensor, "batch channel *spatial"]
"""Probabilities in [0, 1], one map per channel of each item."""

Targets = Shaped[Tensor, "batch other_channel *spatial"]
"""Like `Masks` of the same batch, or one channel of labels."""

VoxelWeights = Shaped[Tensor, "batch 1 *spatial"]
"""How much each voxel counts, in [0, 1]: one map an item."""

LesionMasks = Shaped[Tensor, "lesions *spatial"]
"""Probabilities in [0, 1], one map per lesion."""

Boxes = Shaped[Tensor, "boxes coords"]
"""All minima, then all maxima, in tensor axis order: coords = 2 * ndim."""

OtherBoxes = Shaped[Tensor, "others coords"]
"""Boxes of the same layout, as many as there are."""

PerChannel = Float[Tensor, "batch channel"]
"""One number per channel of each item."""


_WIDER = {torch.uint16: torch.int32, torch.uint32: torch.int64, torch.uint64: torch.int64}
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""The floating dtypes that the package takes."""

TAKEN = (torch.bool, *_INTEGERS, *_WIDER, *FLOATS)
"""The dtypes of tensors that the package takes."""


def plain(tensor: Tensor) -> Tensor:
    """The same numbers without a subclass (MONAI's `MetaTensor` slows arithmetic down).

    Types that PyTorch stores but cannot compare or add are widened to one that it can.
    """
    if (
        type(tensor) is not Tensor and not torch.compiler.is_exporting()
    ):  # whose tensors hold no data
        tensor = tensor.as_subclass(Tensor)
    return tensor.to(_WIDER[tensor.dtype]) if tensor.dtype in _WIDER else tensor


def is_number(values: Tensor, number: float | int) -> Bool[Tensor, "..."]:
    """Where plain values are a number: nowhere if their type cannot hold it.

    PyTorch converts the number to the type of the values: -100 becomes 156 in uint8, 2049 becomes
    2048 in float16.
    """
    if values.is_floating_point() or not math.isfinite(number):
        held = _holds(values.dtype, number)
    else:
        held = number == int(number) and _holds(values.dtype, number)
        number = int(number)  # a float would be compared in float32
    if held:
        return values == number
    return torch.zeros_like(values, dtype=torch.bool)


def at_least(values: Tensor, number: float | int) -> Bool[Tensor, "..."]:
    """Where plain values are at or above a number, be it one that their type cannot hold.

    Floating values are compared with what their own type makes of a fraction.
    """
    if not values.is_floating_point() and math.isfinite(number):
        number = math.ceil(number)  # a float would be compared in float32
    if _holds(values.dtype, number):
        return values >= number
    if values.is_floating_point():
        return values.double() >= number
    return torch.full_like(values, number < 0, dtype=torch.bool)


def _holds(dtype: torch.dtype, number: float | int) -> bool:
    """Whether a type has this very number; fractions are left to PyTorch."""
    if number != number or abs(number) == math.inf or number != int(number):
        return True
    if dtype == torch.bool:
        return number in (0, 1)
    whole = abs(int(number))
    if not dtype.is_floating_point:
        return torch.iinfo(dtype).min <= number <= torch.iinfo(dtype).max
    limits = torch.finfo(dtype)
    steps = whole // max(whole & -whole, 1)  # without the factors of two
    return whole <= limits.max and steps * limits.eps < 2


def accumulation_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype of sums: float64 if any tensor is float64, else float32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def score_dtype(*tensors: Tensor) -> torch.dtype:
    """The dtype of ratios: the widest floating input type; for integers alone the default."""
    dtypes = [t.dtype for t in tensors if t.is_floating_point()]
    if not dtypes:
        return torch.get_default_dtype()
    widest = dtypes[0]
    for dtype in dtypes[1:]:
        widest = torch.promote_types(widest, dtype)
    return widest
