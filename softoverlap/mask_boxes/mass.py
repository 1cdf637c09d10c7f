"""Reads of the tables: the mass of pairs of mask and box, with its gradients."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from softoverlap._autograd import once_only
from softoverlap._checks import is_traced
from softoverlap._types import Boxes
from softoverlap.mask_boxes.tables import SummedVolume

_READS_PER_BLOCK = {"cpu": 1 << 18, "other": 1 << 24}
"""What caches hold; on a GPU so many that launching kernels costs little."""

_WORTH_SHIFTS = 1 << 12  # pairs; of fewer each operation has its price

_ENTRIES_IN_CACHE = 1 << 16  # of a table, which then may be read in any order


def mass_of_pairs(
    volume: SummedVolume, boxes: Boxes, rows: Int[Tensor, "pairs"], columns: Int[Tensor, "pairs"]
) -> Float[Tensor, "pairs"]:
    """Mass of mask `rows[i]` inside box `columns[i]`, float64, differentiable to both.

    Where a face lies on a voxel edge its derivative is the mean of the two one-sided ones.
    """
    if is_traced():
        return _recorded_mass(volume, boxes, rows, columns)
    return _PairMass.apply(volume.table, boxes, volume, rows, columns)  # pyright: ignore


def _recorded_mass(volume: SummedVolume, boxes: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The same in plain operations, which a graph can hold, all pairs at once.

    What is added to the mass is 0, and has the gradient to the boxes.
    """
    nodes = _Nodes(volume, boxes, rows, columns)
    mass, faces = nodes.mass(volume.table), boxes[columns].t()
    excess = mass - mass.clamp(min=0).minimum(volume.sizes[rows])
    moved = (nodes.face_masses(volume.table).detach() * (faces - faces.detach())).sum(dim=0)
    return mass - excess.detach() + moved


class _PairMass(torch.autograd.Function):
    """Reads of the table in blocks of pairs, forward and backward."""

    @staticmethod
    def forward(ctx, table, boxes, volume, rows, columns):
        ctx.save_for_backward(table, boxes, rows, columns)
        ctx.volume = volume
        mass, boxes = table.new_empty(rows.shape), _by_coordinate(boxes, columns)
        for part in _blocks(volume, boxes, rows, columns, reads=2 ** (volume.ndim + 1)):
            nodes = _Nodes(volume, boxes, rows[part], columns[part])
            mass[part] = nodes.mass(table)
        return mass.clamp_(min=0).minimum(volume.sizes[rows])  # rounding never leaves the range

    @staticmethod
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        with torch.no_grad():
            found = _PairMass._gradients(ctx, gradients[0])
        inputs = (*ctx.saved_tensors[:2], *gradients)
        return *once_only("the mass of a mask in a box", found, inputs), None, None, None

    @staticmethod
    def _gradients(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        table, boxes, rows, columns = ctx.saved_tensors
        need_table, need_boxes = ctx.needs_input_grad[:2]
        grad_table = torch.zeros_like(table) if need_table else None
        grad_boxes = boxes.new_zeros(boxes.shape, dtype=table.dtype) if need_boxes else None
        corners = _by_coordinate(boxes, columns)
        for part in _blocks(ctx.volume, corners, rows, columns, reads=4**ctx.volume.ndim):
            nodes = _Nodes(ctx.volume, corners, rows[part], columns[part])
            if grad_table is not None:
                nodes.add_to_table(grad_table, grad[part])
            if grad_boxes is not None:
                faces = nodes.face_masses(table) * grad[part]
                grad_boxes.index_add_(0, columns[part], faces.t())
        if grad_boxes is not None:
            grad_boxes = grad_boxes.to(boxes.dtype)
        return grad_table, grad_boxes


class _Nodes:
    """The table nodes around the faces of P boxes, and what is read from them.

    Along an axis a box has four nodes: those below and above its minimum, and those below and
    above its maximum; `fraction` tells where a face lies between its two.
    """

    def __init__(self, volume: SummedVolume, boxes: Tensor, rows: Tensor, columns: Tensor) -> None:
        ndim = volume.ndim
        if not is_traced() and len(volume) == 1:
            rows = rows[:1]  # what is the same for all is held once
        shapes = volume.shapes[rows].t()
        origin = volume.offsets[rows].t().repeat(2, 1)
        self.limit = shapes.repeat(2, 1)  # (2 * ndim, P)
        self.is_one = len(volume) == 1
        self.face = _corners(boxes.detach(), columns).to(torch.float64) - origin
        self.stride = torch.ones_like(shapes)
        for axis in reversed(range(ndim - 1)):
            self.stride[axis] = self.stride[axis + 1] * (shapes[axis + 1] + 1)
        self.start = volume.starts[rows]
        self.ndim = ndim
        inside = torch.minimum(self.face.clamp(min=0), self.limit)
        self.below = torch.minimum(inside.long(), (self.limit - 1).clamp(min=0)).clamp(min=0)
        self.fraction = inside - self.below

    def mass(self, table: Tensor) -> Tensor:
        """Interpolate at both faces of each axis and subtract."""
        many = not is_traced() and self.face.shape[1] >= _WORTH_SHIFTS
        if many and table.device.type == "cpu" and bool((self.limit > 0).all()):
            return self._shifted_mass(table)
        return self.plain_mass(table)

    def plain_mass(self, table: Tensor) -> Tensor:
        """The same in one read of all nodes."""
        values = self._read(table, [self._value_nodes(axis) for axis in range(self.ndim)])
        for axis in range(self.ndim):
            values = self._difference(values, axis)
        return values

    def _shifted_mass(self, table: Tensor) -> Tensor:
        """The same with one place in the table for each corner of a box, from node to node.

        Of a single mask all boxes go the same way along each axis, and of any mask along the last
        one: what is read at the same places then begins so much later in the table.
        """
        low_and_high = [
            self.below[axis :: self.ndim] * self.stride[axis] for axis in range(self.ndim)
        ]
        return self._along(self.ndim - 1, table, self._index(low_and_high))

    def _along(self, axis: int, table: Tensor, corners: Tensor) -> Tensor:
        """What lies between both faces of this axis, and of those before it."""
        if axis < 0:
            return table.index_select(0, corners.flatten()).view(corners.shape)
        below = self._along(axis - 1, table, corners)
        if self.is_one or axis == self.ndim - 1:
            above = self._along(axis - 1, table[int(self.stride[axis, 0]) :], corners)
        else:
            above = self._along(axis - 1, table, corners + self.stride[axis])
        fraction = self.fraction[axis :: self.ndim]
        below.lerp_(above, fraction.view(2, *[1] * (below.ndim - 2), -1))
        return below[1].sub_(below[0])

    def face_masses(self, table: Tensor) -> Float[Tensor, "coords pairs"]:
        """∂mass/∂face: minus the mass on each lower face, then the mass on each upper one."""
        lower, upper = [], []
        for slope_axis in range(self.ndim):
            order = [slope_axis] + [axis for axis in range(self.ndim) if axis != slope_axis]
            nodes = {axis: self._value_nodes(axis) for axis in order[1:]}
            nodes[slope_axis], width = self._slope_nodes(slope_axis)
            values = self._read(table, [nodes[axis] for axis in order])
            slopes = [(values[1] - values[0]) / width[0], (values[3] - values[2]) / width[1]]
            for axis in order[1:]:
                slopes = [self._difference(slope, axis) for slope in slopes]
            lower.append(-slopes[0])
            upper.append(slopes[1])
        return torch.stack(lower + upper)

    def add_to_table(self, table: Tensor, gradient: Tensor) -> None:
        """The adjoint of `mass`: each node gains its weight times the gradient."""
        weights = gradient
        for axis in reversed(range(self.ndim)):
            low, high = self.fraction[axis], self.fraction[axis + self.ndim]
            signed = torch.stack([low - 1, -low, 1 - high, high])
            weights = signed.view(4, *[1] * (weights.ndim - 1), -1) * weights
        nodes = [self._value_nodes(axis) for axis in range(self.ndim)]
        table.index_add_(0, self._index(nodes).flatten(), weights.flatten())

    def _value_nodes(self, axis: int) -> Int[Tensor, "4 pairs"]:
        low, high = self.below[axis], self.below[axis + self.ndim]
        step = self.limit[axis].clamp(max=1)  # an axis without voxels has one node
        return torch.stack([low, low + step, high, high + step]) * self.stride[axis]

    def _slope_nodes(self, axis: int) -> tuple[Int[Tensor, "4 pairs"], Float[Tensor, "2 pairs"]]:
        """Nodes left and right of both faces, and the voxels between: 2 where a face is a node."""
        limit = self.limit[axis]
        face = self.face[[axis, axis + self.ndim]].clamp(min=-1).minimum(limit + 1)
        left, right = face.ceil() - 1, face.floor() + 1  # beyond 2^53 both would be the face
        nodes = torch.stack([left[0], right[0], left[1], right[1]])
        nodes = torch.minimum(nodes.clamp(min=0), limit).long()
        return torch.minimum(nodes, limit).clamp(min=0) * self.stride[axis], right - left

    def _difference(self, values: Tensor, axis: int) -> Tensor:
        """The interpolated value at the upper face less that at the lower one; drops axis 0."""
        low, high = self.fraction[axis], self.fraction[axis + self.ndim]
        return torch.lerp(values[2], values[3], high).sub_(torch.lerp(values[0], values[1], low))

    def _read(self, table: Tensor, nodes: list[Tensor]) -> Float[Tensor, "*nodes pairs"]:
        index = self._index(nodes)
        return table.index_select(0, index.flatten()).view(index.shape)  # 4 times as fast as take

    def _index(self, nodes: list[Tensor]) -> Int[Tensor, "*nodes pairs"]:
        index = self.start
        for axis_nodes in reversed(nodes):
            index = axis_nodes.view(len(axis_nodes), *[1] * (index.ndim - 1), -1) + index
        return index


def _by_coordinate(boxes: Tensor, columns: Tensor) -> Tensor:
    """The same boxes; where most are read on the CPU, with each coordinate in one run of memory."""
    boxes = boxes.detach()
    many = boxes.device.type == "cpu" and len(columns) >= len(boxes)
    return boxes.t().contiguous().t() if many else boxes


def _corners(boxes: Tensor, columns: Tensor) -> Shaped[Tensor, "coords pairs"]:
    """The corners of some boxes, each coordinate in one run."""
    if is_traced() or boxes.device.type != "cpu" or boxes.stride(0) != 1:
        return boxes[columns].t()
    return torch.stack([column.index_select(0, columns) for column in boxes.unbind(1)])


def _blocks(
    volume: SummedVolume,
    boxes: Tensor,
    rows: Int[Tensor, "pairs"],
    columns: Int[Tensor, "pairs"],
    *,
    reads: int,
) -> Iterator[slice | Int[Tensor, "block"]]:
    """The pairs in parts, of so many reads a pair; many of a large table as they lie in that.

    So a part reads few pages, and most of what it reads a cache has already.
    """
    count, on_cpu = rows.shape[0], rows.device.type == "cpu"
    length = max(1, _READS_PER_BLOCK["cpu" if on_cpu else "other"] // reads)
    parts = [slice(start, start + length) for start in range(0, count, length)]
    if on_cpu and len(parts) > 1 and volume.table.numel() > _ENTRIES_IN_CACHE:
        order = _places(volume, boxes, rows, columns).argsort()
        yield from (order[part] for part in parts)
    else:
        yield from parts


def _places(
    volume: SummedVolume, boxes: Tensor, rows: Tensor, columns: Tensor
) -> Int[Tensor, "pairs"]:
    """About where in the table each box begins: the layer of its mask, and the row in that."""
    place = volume.starts[rows].double()
    step = (volume.shapes + 1).prod(dim=1)
    for axis in range(min(2, volume.ndim)):
        side = volume.shapes[:, axis]
        step = step.div(side + 1, rounding_mode="floor")
        corner = boxes.detach()[:, axis].index_select(0, columns) - volume.offsets[:, axis][rows]
        place += step[rows] * corner.clamp(min=0).minimum(side[rows]).floor()
    return place.to(torch.int32 if volume.table.numel() < 1 << 31 else torch.int64)
