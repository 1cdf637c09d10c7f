"""The mass of a soft mask inside a polygon in the plane: exact, by an integral along its sides.

By Green's theorem the mass is the integral of P dy round the polygon, where P(x, y) is the mask's
integral along axis 0 up to x. P does not change with y within a row of voxels, and is linear in x
within a voxel: so each side is cut where it passes from voxel to voxel, and P at the middle of a
piece times the rise of the piece is exact. Moving a side gains or loses the probability along it,
which is the derivative; where a side runs between two rows of voxels it is the mean of both.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from softoverlap._autograd import once_only
from softoverlap._checks import is_traced
from softoverlap._rounding import without_rounding
from softoverlap.mask_boxes.tables import SummedVolume

_PIECES_PER_BLOCK = {"cpu": 1 << 17, "other": 1 << 22}


def polygon_masses(
    volume: SummedVolume,
    corners: Float[Tensor, "boxes corners 2"],
    rows: Int[Tensor, "pairs"],
    columns: Int[Tensor, "pairs"],
) -> Float[Tensor, "pairs"]:
    """Mass of mask `rows[i]`, of two axes, in polygon `columns[i]`, differentiable to both.

    A polygon is given by its corners, float64, counter-clockwise from axis 0 to axis 1. Each side
    is cut at all lines of the mask's grid, so that a pair costs some H + W reads a side, whatever
    the area.
    """
    if is_traced():  # in plain operations, which a graph can hold
        mass = _Pieces(volume, corners, rows, columns).mass(volume.table)
        return mass.minimum(volume.sizes[rows])
    return _PolygonMass.apply(volume.table, corners, volume, rows, columns)  # pyright: ignore


class _PolygonMass(torch.autograd.Function):
    """Reads of the table in blocks of pairs, forward and backward."""

    @staticmethod
    def forward(ctx, table, corners, volume, rows, columns):
        ctx.save_for_backward(table, corners, rows, columns)
        ctx.volume = volume
        masses = [table.new_zeros(0)]
        for part in _blocks(volume, corners, rows):
            pieces = _Pieces(volume, corners, rows[part], columns[part])
            masses.append(pieces.mass(table))
        return torch.cat(masses).minimum(volume.sizes[rows])

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.no_grad():
            found = _PolygonMass._gradients(ctx, gradients[0])
        inputs = (*ctx.saved_tensors[:2], *gradients)
        return *once_only("the mass of a mask in a polygon", found, inputs), None, None, None

    @staticmethod
    def _gradients(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        table, corners, rows, columns = ctx.saved_tensors
        need_table, need_corners = ctx.needs_input_grad[:2]
        grad_table = torch.zeros_like(table) if need_table else None
        grad_corners = torch.zeros_like(corners) if need_corners else None
        for part in _blocks(ctx.volume, corners, rows):
            pieces = _Pieces(ctx.volume, corners, rows[part], columns[part])
            if grad_table is not None:
                pieces.add_to_table(grad_table, grad[part])
            if grad_corners is not None:
                moved = pieces.corner_derivatives(table) * grad[part, None, None]
                grad_corners.index_add_(0, columns[part], moved)
        return grad_table, grad_corners


class _Pieces:
    """The sides of P polygons, cut at the lines of the grid: shape (P, corners, pieces)."""

    def __init__(
        self, volume: SummedVolume, corners: Tensor, rows: Tensor, columns: Tensor
    ) -> None:
        self.shape = volume.shapes[rows].t()[..., None, None]
        self.first_entry = volume.starts[rows][:, None, None]
        start = corners[columns] - volume.offsets[rows][:, None]
        self.run = start.roll(-1, 1) - start
        ends = torch.zeros_like(start[..., :1])
        cuts = [ends, ends + 1]
        for axis, side in enumerate(volume.sides):
            lines = torch.arange(side + 1, device=start.device)
            length = self.run[..., axis, None]
            length = torch.where(length == 0, 1, length)  # a cut may be anywhere, then
            cuts.append((lines - start[..., axis, None]) / length)
        cut = torch.cat(cuts, dim=-1).clamp(0, 1).sort(dim=-1).values
        self.share = cut.diff(dim=-1)
        self.place = (cut[..., 1:] + cut[..., :-1]) / 2  # of the middle, on its side
        middle = start[..., None] + self.place[..., None, :] * self.run[..., None]
        self.x, self.y = (
            middle[..., axis, :].clamp(min=-1).minimum(self.shape[axis] + 1) for axis in range(2)
        )

    def mass(self, table: Tensor) -> Float[Tensor, "pairs"]:
        """The integral of P dy."""
        nodes, fraction, weight = self._strips()
        low, low_end, high, high_end = (table[node] for node in nodes)
        parts = weight * torch.lerp(low_end - low, high_end - high, fraction)
        return without_rounding(parts.sum(dim=(1, 2)), parts.abs().sum(dim=(1, 2)))

    def add_to_table(self, table: Tensor, gradient: Tensor) -> None:
        """The adjoint of `mass`: each node gains its weight times the gradient."""
        nodes, fraction, weight = self._strips()
        high = fraction * weight * gradient[:, None, None]
        low = (1 - fraction) * weight * gradient[:, None, None]
        for node, gain in zip(nodes, (-low, low, -high, high), strict=True):
            table.index_add_(0, node.flatten(), gain.flatten())

    def corner_derivatives(self, table: Tensor) -> Float[Tensor, "pairs corners 2"]:
        """What moving a corner gains: the probability along both of its sides, by their share."""
        flux = self._density(table) * self.share
        outward = torch.stack([self.run[..., 1], -self.run[..., 0]], dim=-1)
        by_stop, by_start = (flux * self.place).sum(dim=-1), (flux * (1 - self.place)).sum(dim=-1)
        return by_start[..., None] * outward + (by_stop[..., None] * outward).roll(1, 1)

    def _strips(self) -> tuple[list[Tensor], Tensor, Tensor]:
        """Entries around the middle of each piece, how far it is between them, and its rise."""
        x = self.x.clamp(min=0).minimum(self.shape[0])
        row, column = self._voxel(x.floor(), 0), self._voxel(self.y.floor(), 1)
        inside = (self.y >= 0) & (self.y < self.shape[1])
        weight = torch.where(inside, self.share * self.run[..., 1, None], 0)
        return self._nodes(row, column), x - row, weight

    def _density(self, table: Tensor) -> Tensor:
        """Probability at the middle of each piece, the mean of the voxels that meet there."""
        total = torch.zeros_like(self.x)
        for x in (self.x.floor(), self.x.ceil() - 1):
            for y in (self.y.floor(), self.y.ceil() - 1):
                inside = (x >= 0) & (x < self.shape[0]) & (y >= 0) & (y < self.shape[1])
                low, low_end, high, high_end = (
                    table[node] for node in self._nodes(self._voxel(x, 0), self._voxel(y, 1))
                )
                total += torch.where(inside, (high_end - high) - (low_end - low), 0) / 4
        return total

    def _voxel(self, number: Tensor, axis: int) -> Int[Tensor, "pairs corners pieces"]:
        return torch.minimum(number.long(), self.shape[axis] - 1).clamp(min=0)

    def _nodes(self, row: Tensor, column: Tensor) -> list[Tensor]:
        """Entries of the table at the four corners of a voxel; an axis without voxels has one."""
        stride = self.shape[1] + 1
        next_row, next_column = stride * self.shape[0].clamp(max=1), self.shape[1].clamp(max=1)
        low = self.first_entry + row * stride + column
        return [low, low + next_column, low + next_row, low + next_row + next_column]


def _blocks(volume: SummedVolume, corners: Tensor, rows: Tensor) -> Iterator[slice]:
    pieces = corners.shape[1] * (sum(volume.sides) + 3)
    most = _PIECES_PER_BLOCK["cpu" if corners.device.type == "cpu" else "other"]
    step = max(1, most // pieces)
    return (slice(start, start + step) for start in range(0, len(rows), step))
