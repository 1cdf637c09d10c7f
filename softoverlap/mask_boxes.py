"""The mass of a soft mask inside a real-valued box: exact, and constant in the box's size.

A mask is piecewise constant on voxels, so its cumulative integral is linear along every axis
within a voxel: interpolating the summed-volume table (F. Crow, Summed-area tables for texture
mapping, 1984) between its nodes gives the integral at any real corner, and 2^ndim such corners
give the mass of a box. Parts of a box outside the table hold no mass.

Tables and the arithmetic on them are float64. The mass of a box is a signed sum of at most
4^ndim table entries, each at most Σ|mask| and rounded by at most ndim · side · ε, hence the
absolute error is below c · ε · Σ|mask| with ε = 2.2e-16; `ERROR_CONSTANT` is c.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.autograd.function import once_differentiable

from softoverlap._checks import check_probabilities, check_rank
from softoverlap._types import Boxes, LesionMasks, plain
from softoverlap.lesions import Lesion

ERROR_CONSTANT = 1024
"""c in the bound c · ε · Σ|mask| on the absolute error of a mass."""

_READS_PER_BLOCK = 1 << 20


@dataclass(frozen=True)
class SummedVolume:
    """Summed-volume tables of K masks, each over its own crop of the image; reusable.

    Build it by `from_masks` or `from_lesions` and pass it to the `mask_box_*` functions in place
    of the masks when several sets of boxes meet the same masks.

    Args:
        table: The K tables, flat, one behind the other, float64.
        starts: Where each table starts in `table`, shape (K,).
        offsets: First voxel of each crop in the image, shape (K, ndim).
        shapes: Voxels of each crop, shape (K, ndim).
        sizes: Σ probability of each mask, float64, shape (K,).
        dtype: Type of the masks that were given.

    Examples:
        >>> import torch
        >>> volume = SummedVolume.from_masks(torch.tensor([[0.0, 0.5, 1.0, 0.0]]))
        >>> volume.sizes
        tensor([1.5000], dtype=torch.float64)
    """

    table: Float[Tensor, "entries"]
    starts: Int[Tensor, "lesions"]
    offsets: Int[Tensor, "lesions ndim"]
    shapes: Int[Tensor, "lesions ndim"]
    sizes: Float[Tensor, "lesions"]
    dtype: torch.dtype

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return self.offsets.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the tables lie."""
        return self.table.device

    def __len__(self) -> int:
        """Number of masks."""
        return self.starts.shape[0]

    @classmethod
    def from_masks(cls, masks: LesionMasks, *, validate: bool | None = None) -> SummedVolume:
        """Tables of whole-image masks.

        On the CPU, and where no gradient to the masks is asked for, each mask is first cropped to
        its support, so that K lesions cost their own voxels. Elsewhere the tables cover the whole
        image: cropping would need a synchronisation, or lose the gradient of voxels that are 0.

        Args:
            masks: Probabilities, shape (K, *spatial).
            validate: Look at the values too; by default on for CPU tensors.

        Returns:
            The tables of K masks.

        Raises:
            ValueError: If there is no spatial axis or a value lies outside [0, 1].

        Examples:
            >>> import torch
            >>> len(SummedVolume.from_masks(torch.rand(3, 8, 8, 8)))
            3
        """
        check_rank(2, "(K, *spatial)", masks=masks)
        check_probabilities(masks=masks, validate=validate)
        masks = plain(masks)
        if masks.device.type != "cpu" or masks.requires_grad or masks.numel() == 0:
            return cls._from_whole(masks)
        windows = [_support(mask) for mask in masks]
        crops = [mask[window] for mask, window in zip(masks, windows, strict=True)]
        offsets = [[axis.start for axis in window] for window in windows]
        return cls._from_crops(crops, torch.tensor(offsets))

    @classmethod
    def from_lesions(
        cls,
        lesions: Sequence[Lesion],
        *,
        device: torch.device | str | None = None,
        validate: bool | None = None,
    ) -> SummedVolume:
        """Tables of lesions, each over its own crop.

        Args:
            lesions: At least one lesion, all with the same number of axes.
            device: Where the tables shall lie; by default where the first crop lies.
            validate: Look at the values too; by default on for CPU tensors.

        Returns:
            The tables of K lesions; boxes are in coordinates of the whole image.

        Raises:
            ValueError: If there is no lesion, their axes differ or a value lies outside [0, 1].

        Examples:
            >>> import torch
            >>> lesion = Lesion(
            ...     box=torch.tensor([4.0, 6.0]), crop=torch.tensor([0.5, 1.0]),
            ...     offset=torch.tensor([4]), centre=torch.tensor([5.17]), volume_mm3=1.5,
            ... )
            >>> SummedVolume.from_lesions([lesion]).sizes
            tensor([1.5000], dtype=torch.float64)
        """
        if not lesions:
            raise ValueError("lesions must hold at least one Lesion, got none")
        for lesion in lesions:
            if lesion.crop.ndim != lesions[0].crop.ndim:
                raise ValueError(
                    f"lesions must all have {lesions[0].crop.ndim} axes, "
                    f"got one with {lesion.crop.ndim}"
                )
            check_probabilities(crop=lesion.crop, validate=validate)
        device = lesions[0].crop.device if device is None else torch.device(device)
        offsets = torch.stack([lesion.offset.to(device, torch.int64) for lesion in lesions])
        return cls._from_crops([plain(lesion.crop).to(device) for lesion in lesions], offsets)

    @classmethod
    def _from_whole(cls, masks: Tensor) -> SummedVolume:
        count, shape = masks.shape[0], torch.tensor(masks.shape[1:], device=masks.device)
        tables = _summed(masks).flatten(1)
        return cls(
            table=tables.flatten(),
            starts=torch.arange(count, device=masks.device) * tables.shape[1],
            offsets=torch.zeros(count, len(shape), dtype=torch.int64, device=masks.device),
            shapes=shape.expand(count, -1),
            sizes=tables[:, -1],
            dtype=masks.dtype,
        )

    @classmethod
    def _from_crops(cls, crops: list[Tensor], offsets: Tensor) -> SummedVolume:
        device = crops[0].device
        tables = [_summed(crop[None]).flatten() for crop in crops]
        lengths = torch.tensor([0] + [table.numel() for table in tables[:-1]], device=device)
        return cls(
            table=torch.cat(tables),
            starts=lengths.cumsum(0),
            offsets=offsets.to(device),
            shapes=torch.tensor([list(crop.shape) for crop in crops], device=device),
            sizes=torch.stack([table[-1] for table in tables]),
            dtype=crops[0].dtype,
        )


def as_summed_volume(
    masks: Tensor | Sequence[Lesion] | SummedVolume, *, validate: bool | None = None
) -> SummedVolume:
    """The tables of whatever a `mask_box_*` function takes as its masks."""
    if isinstance(masks, SummedVolume):
        return masks
    if isinstance(masks, Tensor):
        return SummedVolume.from_masks(masks, validate=validate)
    if isinstance(masks, Sequence) and all(isinstance(lesion, Lesion) for lesion in masks):
        return SummedVolume.from_lesions(masks, validate=validate)
    expected = "a tensor, a sequence of Lesion or a SummedVolume"
    raise TypeError(f"masks must be {expected}, got {type(masks).__name__}")


def meeting_pairs(
    volume: SummedVolume, boxes: Boxes
) -> tuple[Int[Tensor, "pairs"], Int[Tensor, "pairs"]]:
    """Rows (masks) and columns (boxes) of all pairs whose overlap can differ from 0.

    On the CPU these are the boxes that meet or touch the crop, and every box for an empty mask
    (its score may be `empty`). Elsewhere all pairs: finding out would need a synchronisation.
    """
    count = boxes.shape[0]
    if volume.device.type != "cpu":
        rows = torch.arange(len(volume), device=volume.device).repeat_interleave(count)
        return rows, torch.arange(count, device=volume.device).repeat(len(volume))
    columns = boxes.detach().t().contiguous()
    if columns.dtype in (torch.float16, torch.bfloat16):
        columns = columns.float()
    empty = (volume.sizes == 0).tolist()
    lower = volume.offsets.tolist()
    upper = (volume.offsets + volume.shapes).tolist()
    found = [
        torch.arange(count) if empty[row] else _meeting(columns, lower[row], upper[row])
        for row in range(len(volume))
    ]
    lengths = torch.tensor([len(columns) for columns in found], dtype=torch.int64)
    rows = torch.arange(len(volume)).repeat_interleave(lengths)
    return rows, torch.cat([*found, torch.zeros(0, dtype=torch.int64)])


def mass_of_pairs(
    volume: SummedVolume, boxes: Boxes, rows: Int[Tensor, "pairs"], columns: Int[Tensor, "pairs"]
) -> Float[Tensor, "pairs"]:
    """Mass of mask `rows[i]` inside box `columns[i]`, float64, differentiable to both.

    Where a face lies on a voxel edge its derivative is the mean of the two one-sided ones.
    """
    return _PairMass.apply(volume.table, boxes, volume, rows, columns)  # pyright: ignore


class _PairMass(torch.autograd.Function):
    """Reads of the table in blocks of pairs, forward and backward."""

    @staticmethod
    def forward(ctx, table, boxes, volume, rows, columns):
        ctx.save_for_backward(table, boxes, rows, columns)
        ctx.volume = volume
        mass = table.new_empty(rows.shape)
        for part in _blocks(rows.shape[0], volume.ndim):
            nodes = _Nodes(volume, boxes, rows[part], columns[part])
            mass[part] = nodes.mass(table)
        return mass.clamp_(min=0).minimum(volume.sizes[rows])  # rounding never leaves the range

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride]
        table, boxes, rows, columns = ctx.saved_tensors
        (grad,) = gradients
        need_table, need_boxes = ctx.needs_input_grad[:2]
        grad_table = torch.zeros_like(table) if need_table else None
        grad_boxes = boxes.new_zeros(boxes.shape, dtype=table.dtype) if need_boxes else None
        for part in _blocks(rows.shape[0], ctx.volume.ndim):
            nodes = _Nodes(ctx.volume, boxes, rows[part], columns[part])
            if grad_table is not None:
                nodes.add_to_table(grad_table, grad[part])
            if grad_boxes is not None:
                faces = nodes.face_masses(table) * grad[part]
                grad_boxes.index_add_(0, columns[part], faces.t())
        if grad_boxes is not None:
            grad_boxes = grad_boxes.to(boxes.dtype)
        return grad_table, grad_boxes, None, None, None


class _Nodes:
    """The table nodes around the faces of P boxes, and what is read from them.

    Along an axis a box has four nodes: those below and above its minimum, and those below and
    above its maximum; `fraction` tells where a face lies between its two.
    """

    def __init__(self, volume: SummedVolume, boxes: Tensor, rows: Tensor, columns: Tensor) -> None:
        ndim = volume.ndim
        shapes = volume.shapes[rows].t()
        origin = volume.offsets[rows].t().repeat(2, 1)
        self.limit = shapes.repeat(2, 1)  # (2 * ndim, P)
        self.face = boxes.detach()[columns].t().to(torch.float64) - origin
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
        values = self._read(table, [self._value_nodes(axis) for axis in range(self.ndim)])
        for axis in range(self.ndim):
            values = self._difference(values, axis)
        return values

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
        face = self.face[[axis, axis + self.ndim]]
        left, right = face.ceil() - 1, face.floor() + 1
        limit = self.limit[axis]
        nodes = torch.stack([left[0], right[0], left[1], right[1]])
        nodes = torch.minimum(nodes.clamp(min=0), limit).long()
        return torch.minimum(nodes, limit).clamp(min=0) * self.stride[axis], right - left

    def _difference(self, values: Tensor, axis: int) -> Tensor:
        """The interpolated value at the upper face less that at the lower one; drops axis 0."""
        low, high = self.fraction[axis], self.fraction[axis + self.ndim]
        lower = values[0] + low * (values[1] - values[0])
        upper = values[2] + high * (values[3] - values[2])
        return upper - lower

    def _read(self, table: Tensor, nodes: list[Tensor]) -> Float[Tensor, "*nodes pairs"]:
        return table.take(self._index(nodes))

    def _index(self, nodes: list[Tensor]) -> Int[Tensor, "*nodes pairs"]:
        index = self.start
        for axis_nodes in reversed(nodes):
            index = axis_nodes.view(4, *[1] * (index.ndim - 1), -1) + index
        return index


def _blocks(pairs: int, ndim: int) -> Iterator[slice]:
    length = max(1, _READS_PER_BLOCK // 4**ndim)
    return (slice(start, start + length) for start in range(0, pairs, length))


def _summed(masks: Shaped[Tensor, "masks *spatial"]) -> Float[Tensor, "masks *nodes"]:
    """Σ of all voxels below each node, a node more than voxels along every axis."""
    padded = F.pad(masks.to(torch.float64), [1, 0] * (masks.ndim - 1))
    for axis in reversed(range(1, masks.ndim)):
        padded.cumsum_(axis)
    return padded


def _support(mask: Shaped[Tensor, "*spatial"]) -> tuple[slice, ...]:
    """The tight window around all voxels that are not zero; one voxel if there is none."""
    window: tuple[slice, ...] = ()
    if mask.ndim > 1:
        lines = mask.amax(dim=-1) != 0  # the only pass over the whole mask
        others = [[a for a in range(lines.ndim) if a != axis] for axis in range(lines.ndim)]
        window = tuple(_extent(lines.sum(dim=axes) if axes else lines) for axes in others)
    within = mask[window]
    last = within.amax(dim=list(range(within.ndim - 1))) if within.ndim > 1 else within
    return (*window, _extent(last))


def _extent(profile: Shaped[Tensor, "voxels"]) -> slice:
    """From the first to the last value that is not zero."""
    filled = profile.nonzero()[:, 0]
    return slice(int(filled[0]), int(filled[-1]) + 1) if len(filled) else slice(0, 1)


def _meeting(columns: Tensor, lower: list[int], upper: list[int]) -> Int[Tensor, "boxes"]:
    """Indices of the boxes that meet or touch the window; NaN is kept, to come out as NaN."""
    ndim = len(lower)
    apart = (columns[0] > upper[0]).logical_or_(columns[ndim] < lower[0])
    found = apart.logical_not_().nonzero()[:, 0]
    for axis in range(1, ndim):
        low, high = columns[axis][found], columns[axis + ndim][found]
        found = found[~((low > upper[axis]) | (high < lower[axis]))]
    return found
