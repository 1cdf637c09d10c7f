"""How large masks are at thresholds; a voxel is in a mask at a threshold if it is at or above it.

All sizes come from one pass. The voxels at or above a threshold in two maps are those whose smaller
value is, so three histograms give the sizes at any number of thresholds, and one sort gives all of
them. A value is compared with thresholds rounded to its own precision, as `mask >= 0.3` does in
torch: what is stored as 0.3 reaches 0.3. `counted` weighs voxels; where it is 0, values must be 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Integer, Shaped
from torch import Tensor

from softoverlap._types import accumulation_dtype
from softoverlap.measures.inputs import MaskPair

Voxels = Shaped[Tensor, " voxels"]
Weights = Float[Tensor, " voxels"] | None
Maps = tuple[Voxels, Voxels, Weights]

_FINEST_GRID = 1 << 16
_VOXELS_AT_ONCE = 1 << 17  # what is worked on stays in the cache
_VALUES_AT_ONCE = 1 << 15  # of which several doubles are held


class Cells(NamedTuple):
    """Bounds of the sizes over each interval of thresholds; sizes fall as thresholds rise.

    `width` is that of each interval, (K,); `shared_*` bounds the size of the voxelwise minimum of
    two maps, `joint_*` that of their maximum.
    """

    width: Tensor
    shared_low: Tensor
    shared_high: Tensor
    joint_low: Tensor
    joint_high: Tensor


def sizes_at(
    pred: Tensor, truth: Tensor, thresholds: tuple[float, ...], counted: Tensor | None = None
) -> Float[Tensor, "batch channel 3 levels"]:
    """Sizes of intersection, prediction and target, both cut at each of the rising thresholds."""
    sizes = _room_for(pred, 3, len(thresholds) + 1)
    first, second = leveller(pred, thresholds), leveller(truth, thresholds)
    for row, voxels in zip(sizes, voxels_of(pred, truth, counted), strict=True):
        for a, b, weights in _parts(*voxels):
            own, other = first(a), second(b)
            for place, level in enumerate((torch.minimum(own, other), own, other)):
                row[place] += _histogram(level, len(thresholds), weights)
    return _at_or_above(sizes)[..., 1:].unflatten(0, pred.shape[:2])


def sizes_against(
    pred: Tensor, truth: Tensor, thresholds: tuple[float, ...], counted: Tensor | None = None
) -> Float[Tensor, "batch channel 3 levels"]:
    """Sizes of intersection, prediction and target where the prediction alone is cut."""
    sizes = _room_for(pred, 3, len(thresholds) + 1)
    levels_of = leveller(pred, thresholds)
    for row, voxels in zip(sizes, voxels_of(pred, truth, counted), strict=True):
        for a, b, weights in _parts(*voxels):
            level = levels_of(a)
            mass = b.double() if weights is None else b.double() * weights
            row[0] += _histogram(level, len(thresholds), mass)
            row[1] += _histogram(level, len(thresholds), weights)
            row[2, -1] += mass.sum()
    return _at_or_above(sizes)[..., 1:].unflatten(0, pred.shape[:2])


def sizes_at_values(
    parts: Callable[[], Iterable[Maps]],
) -> Iterator[tuple[Float[Tensor, " levels"], Float[Tensor, "3 levels"]]]:
    """The falling distinct values above 0 of a prediction, and the sizes where cut at each.

    `parts` gives prediction and target, each time it is called, a part at a time; so come the
    values. Both are sorted as one number, eight bytes of float32 and sixteen of float64, unless
    voxels have weights.
    """
    total, plain = 0.0, True
    for pred, truth, weights in parts():
        total += (truth.double() if weights is None else truth.double() * weights).sum().item()
        plain &= weights is None and (pred.dtype == torch.float32 or pred.device.type == "cpu")
    ordered = _sorted_pairs(parts) if plain else _sorted_triples(parts)
    shared = size = 0.0
    for value, mass, weight, last in ordered:
        sizes = torch.stack([mass.double().cumsum(0) + shared, weight.cumsum(0) + size])
        shared, size = sizes[:, -1].tolist()
        ends = torch.ones_like(value, dtype=torch.bool)
        ends[:-1] = value[1:] < value[:-1]
        ends[-1] = last
        sizes = sizes[:, ends]
        yield value[ends].double(), torch.cat([sizes, torch.full_like(sizes[:1], total)])


def _sorted_pairs(parts: Callable[[], Iterable[Maps]]) -> Iterator[tuple[Any, ...]]:
    """Falling values, a part at a time: value, target, weight, and whether the next is smaller."""
    count, like = 0, torch.zeros(0)
    for pred, _, _ in parts():
        count, like = count + int(torch.count_nonzero(pred > 0)), pred
    kind = torch.int64 if like.dtype == torch.float32 else torch.complex128
    keys, start = torch.empty(count, device=like.device, dtype=kind), 0
    for pred, truth, _ in parts():
        above = pred > 0
        new = keys[start : start + int(torch.count_nonzero(above))]
        _join(pred[above], truth[above], new)
        start += len(new)
    keys = _sorted(keys)
    for stop in range(count, 0, -_VALUES_AT_ONCE):
        start = max(0, stop - _VALUES_AT_ONCE)
        value, truth = _parted(keys[start:stop].flip(0))
        last = start == 0 or bool(_parted(keys[start - 1 : start])[0] < value[-1])
        yield value, truth, torch.ones_like(value, dtype=torch.float64), last


def _join(value: Tensor, truth: Tensor, keys: Tensor) -> None:
    """Two floats as one number, in the order of the first: as an integer, or as NumPy sorts them.

    NumPy orders complex numbers by their real parts.
    """
    if keys.is_complex():
        torch.complex(value, truth, out=keys)
        return
    keys.copy_(value.view(torch.int32)).bitwise_left_shift_(32)
    keys += (truth + 0.0).view(torch.int32)  # not -0, which is a negative integer


def _parted(keys: Tensor) -> tuple[Tensor, Tensor]:
    """The two floats of each key."""
    if keys.is_complex():
        return keys.real, keys.imag
    return (keys >> 32).int().view(torch.float32), keys.int().view(torch.float32)


def _sorted_triples(parts: Callable[[], Iterable[Maps]]) -> Iterator[tuple[Any, ...]]:
    """The same all at once, of weighted voxels."""
    pieces_above = []
    for pred, truth, own in parts():
        above = pred > 0
        weight = torch.ones_like(pred, dtype=torch.float64) if own is None else own
        pieces_above.append((pred[above], (truth.double() * weight)[above], weight[above]))
    value, mass, weight = map(torch.cat, zip(*pieces_above, strict=True))
    if len(value):
        value, order = value.sort(descending=True)
        yield value, mass[order], weight[order], True


def leveller(like: Tensor, thresholds: tuple[float, ...]) -> Leveller:
    """The levels of values like these; made once for all parts of a mask."""
    return _leveller(thresholds, like.dtype, like.device)


@lru_cache(maxsize=8)
def _leveller(thresholds: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Leveller:
    return Leveller(thresholds, dtype, device)


class Leveller:
    """How many of the rising thresholds each value of a map reaches.

    Cells of a power of two hold one threshold at most, so that a value meets one comparison and not
    a search; multiplying by a power of two rounds nothing.
    """

    def __init__(
        self, thresholds: tuple[float, ...], dtype: torch.dtype, device: torch.device
    ) -> None:
        known = torch.tensor(thresholds, dtype=torch.float64, device=device)
        known = known.to(dtype if dtype.is_floating_point else torch.float32)
        self.known = known if dtype == torch.float64 else known.float()
        cells, self.scale = _grid(self.known)
        if cells is None:
            return
        inside = torch.bincount(cells, minlength=self.scale + 1)
        small = torch.uint8 if len(known) < 255 else torch.int32
        self.reached = (inside.cumsum(0) - inside).to(small)
        self.own = torch.full_like(inside, torch.inf, dtype=self.known.dtype)
        self.own[cells] = self.known

    def __call__(self, values: Voxels) -> Integer[Tensor, " voxels"]:
        """The number of thresholds at or below each value."""
        values = values.to(self.known.dtype)
        if not self.scale:
            return torch.bucketize(values, self.known, right=True, out_int32=True)
        cell = (values * self.scale).int()
        reaches_own = values >= self.own.index_select(0, cell)
        return self.reached.index_select(0, cell) + reaches_own


def cells_between(
    parts: Iterable[tuple[Voxels, Voxels, Weights]], top: Float[Tensor, ""], bins: int
) -> Cells:
    """Bounds of the sizes between neighbours of a regular grid of thresholds, up to the maximum.

    The grid has `bins` cells, a power of two, up to the next power of two above the maximum `top`.
    """
    scale = bins / _next_power_of_two(top)
    edges = torch.arange(bins + 1, device=top.device, dtype=torch.float64) / scale
    inside = torch.zeros(2, bins + 1, device=top.device, dtype=torch.float64)
    zeros = torch.zeros(2, device=top.device, dtype=torch.float64)
    for a, b, weights in parts:
        for place, values in enumerate((torch.minimum(a, b), torch.maximum(a, b))):
            inside[place] += _histogram((values * scale.to(a.dtype)).int(), bins, weights)
            zeros[place] += (values == 0).sum() if weights is None else weights[values == 0].sum()
    sizes = _at_or_above(inside)
    sizes[:, 0] -= zeros  # no threshold is 0
    shared, joint = sizes
    width = (edges[1:].clamp(max=top) - edges[:-1]).clamp(min=0)
    return Cells(width, shared[1:], shared[:-1], joint[1:], joint[:-1])


def pieces(
    parts: Callable[[], Iterable[Maps]],
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Widths of the intervals of thresholds in which nothing changes, from the maximum to 0.

    With each the sizes of the voxelwise minimum and maximum. `parts` gives two maps, each time it
    is called, a part at a time: their values in [0, 1] are sorted as integers, whose order is that
    of floats, with a last bit that says which of the two they are.
    """
    keys, weight, dtype = _sorted_keys(parts)
    sizes = torch.zeros(2, 1, device=keys.device, dtype=torch.float64)
    for stop in range(len(keys), 0, -_VALUES_AT_ONCE):
        start = max(0, stop - _VALUES_AT_ONCE)
        part = keys[max(0, start - 1) : stop].flip(0)  # one more: where the last piece ends
        value = torch.nn.functional.pad((part >> 1).view(dtype).double(), (0, 1))
        part = part[: stop - start]
        is_shared = (part & 1).bool()
        step = torch.stack([is_shared, ~is_shared]).double()
        if weight is not None:
            step *= weight[start:stop].flip(0)
        sizes = sizes[:, -1:] + step.cumsum(1)
        yield value[: len(part)] - value[1 : len(part) + 1], sizes[0], sizes[1]


def _sorted_keys(
    parts: Callable[[], Iterable[Maps]],
) -> tuple[Tensor, Tensor | None, torch.dtype]:
    """The keys of `pieces`, rising, with their weights; beside them a part at a time is held."""
    count, dtype, device, weighted = 0, torch.float32, torch.device("cpu"), False
    for a, b, own in parts():
        count += int(
            torch.count_nonzero((a > 0) | (b > 0)) + torch.count_nonzero((a > 0) & (b > 0))
        )
        dtype, device, weighted = a.dtype, a.device, weighted or own is not None
    number = {torch.float32: torch.int32, torch.float64: torch.int64}[dtype]
    keys = torch.empty(count, device=device, dtype=number)
    weight = torch.ones(count, device=device, dtype=torch.float64) if weighted else None
    start = 0
    for a, b, own in parts():
        for last_bit, values in enumerate((torch.maximum(a, b), torch.minimum(a, b))):
            above = values > 0
            new = values[above].view(number) * 2 + last_bit
            keys[start : start + len(new)] = new
            if weight is not None and own is not None:
                weight[start : start + len(new)] = own[above]
            start += len(new)
    if weight is None:
        return _sorted(keys), None, dtype
    keys, order = keys.sort()
    return keys, weight[order], dtype


def _sorted(keys: Tensor) -> Tensor:
    """Rising keys; on the CPU in place, where torch would make places of eight bytes too."""
    if keys.device.type != "cpu":
        return keys.sort().values
    keys.numpy().sort()
    return keys


def voxels_of(
    pred: Tensor, truth: Tensor, counted: Tensor | None
) -> Iterator[tuple[Voxels, Voxels, Weights]]:
    """The voxels of each item and channel in turn, with their weights, or None if all weigh 1."""
    partly = counted is not None and bool(((counted > 0) & (counted < 1)).any())
    for item in range(pred.shape[0]):
        weights = counted[item].flatten().double() if counted is not None and partly else None
        for channel in range(pred.shape[1]):
            yield pred[item, channel].flatten(), truth[item, channel].flatten(), weights


def flat(pair: MaskPair) -> Maps:
    """The voxels of one item and class, in float32 or better."""
    dtype = accumulation_dtype(pair.pred, pair.truth)
    ((pred, truth, weights),) = voxels_of(*pair)
    return pred.to(dtype), truth.to(dtype), weights


def _grid(thresholds: Tensor) -> tuple[Tensor | None, int]:
    """The cell of each threshold in the coarsest grid that keeps them apart, or None."""
    scale = 128
    while scale <= _FINEST_GRID:
        cells = (thresholds * scale).long()
        if bool((cells[1:] > cells[:-1]).all()):
            return cells, scale
        scale *= 2
    return None, 0


def _next_power_of_two(top: Tensor) -> Tensor:
    """The smallest power of two at or above a number in (0, 1]; not too small to divide by."""
    mantissa, exponent = torch.frexp(top)
    return torch.ldexp(torch.ones_like(top), (exponent - (mantissa == 0.5).int()).clamp(min=-99))


def _parts(*voxels: Tensor | None) -> Iterator[tuple[Any, ...]]:
    """Equal parts of all of them that stay in the cache."""
    count = max(len(values) for values in voxels if values is not None)
    for start in range(0, count, _VOXELS_AT_ONCE):
        part = slice(start, start + _VOXELS_AT_ONCE)
        yield tuple(None if values is None else values[part] for values in voxels)


def _histogram(cell: Tensor, last: int, weights: Weights) -> Float[Tensor, " cells"]:
    """The size of the voxels in each cell, 0 to the last."""
    return torch.bincount(cell, weights=weights, minlength=last + 1).double()


def _at_or_above(sizes: Float[Tensor, "*shape cells"]) -> Float[Tensor, "*shape cells"]:
    """The size in each cell and all those above."""
    return sizes.flip(-1).cumsum(-1).flip(-1)


def _room_for(masks: Tensor, *shape: int) -> Tensor:
    maps = masks.shape[0] * masks.shape[1]
    return torch.zeros(maps, *shape, device=masks.device, dtype=torch.float64)
