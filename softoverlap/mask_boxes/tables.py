"""Summed-volume tables of whole-image masks and of lesion crops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from softoverlap._autograd import widened
from softoverlap._checks import check_probabilities, check_rank, may_look
from softoverlap._types import LesionMasks, plain, score_dtype
from softoverlap.lesion import Lesion
from softoverlap.mask_boxes.summing import kernels_sum, summed_by_kernels

_WIDE_LAYER = 64  # numbers in a row, and so far apart are the steps of a line
_WORTH_ONE_WRITE = 1 << 15  # voxels; of fewer each operation has its price, not each number


@dataclass(frozen=True, eq=False)
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
        sides: Most voxels of any crop along each axis, ndim numbers.
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
    sides: tuple[int, ...]
    dtype: torch.dtype

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.sides)

    @property
    def error_bound(self) -> Float[Tensor, "lesions"]:
        """Upper bound on the absolute error of a mass: c · ε · Σ|mask|, with ε = 2.2e-16.

        A table entry is rounded once per voxel that it was summed over along each axis, and a
        mass takes it 2^ndim times: c = 2^ndim · (voxels along all axes + 4 · ndim).
        """
        constant = 2**self.ndim * (self.shapes.sum(dim=1) + 4 * self.ndim)
        return constant * torch.finfo(torch.float64).eps * self.sizes

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
        if _is_cropped(masks):
            (volume,) = summed_volumes(masks, None, validate=validate)
            return volume
        check_probabilities(masks=masks, validate=validate)
        return cls._from_whole(plain(masks))

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
        offsets = torch.stack([lesion.offset.to(torch.int64) for lesion in lesions])
        crops = [plain(lesion.crop).to(device, non_blocking=True) for lesion in lesions]
        return cls._from_crops(crops, offsets)

    @classmethod
    def _from_whole(cls, masks: Tensor) -> SummedVolume:
        count, shape = masks.shape[0], _sent(list(masks.shape[1:]), masks.device)
        tables = _summed(masks).flatten(1)
        return cls(
            table=tables.flatten(),
            starts=torch.arange(count, device=masks.device) * tables.shape[1],
            offsets=torch.zeros(count, len(shape), dtype=torch.int64, device=masks.device),
            shapes=shape.expand(count, -1),
            sizes=tables[:, -1],
            sides=tuple(masks.shape[1:]),
            dtype=masks.dtype,
        )

    @classmethod
    def _from_crops(cls, crops: list[Tensor], offsets: Tensor) -> SummedVolume:
        device = crops[0].device
        table, shapes = _summed_crops(crops), [list(crop.shape) for crop in crops]
        begins = [0, *accumulate(prod(side + 1 for side in shape) for shape in shapes)]
        ends = _sent(begins, device)
        return cls(
            table=table,
            starts=ends[:-1],
            offsets=offsets.to(device, non_blocking=True),
            shapes=_sent(shapes, device),
            sizes=table.index_select(0, ends[1:] - 1),
            sides=tuple(map(max, zip(*(crop.shape for crop in crops), strict=True))),
            dtype=score_dtype(*crops)
            if any(c.is_floating_point() for c in crops)
            else crops[0].dtype,
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


def summed_volumes(
    masks: LesionMasks, voxels: int | None, *, validate: bool | None = None
) -> Iterator[SummedVolume]:
    """Tables of whole-image masks, of as many at once as cover so many voxels, but of one at least.

    None is no limit. A mask that is cropped is looked at and cropped before the next one, so that
    a cache still holds it.
    """
    check_rank(2, "(K, *spatial)", masks=masks)
    if not _is_cropped(masks):
        count = len(masks) if voxels is None else max(1, voxels // masks[0].numel())
        yield from (SummedVolume.from_masks(part, validate=validate) for part in masks.split(count))
        return
    crops, offsets, covered = [], [], 0
    for mask in masks:
        check_probabilities(masks=mask, validate=validate)
        mask = plain(mask)
        window = _support(mask)
        crop = mask[window]
        covered += crop.numel()
        if crops and voxels is not None and covered > voxels:
            yield SummedVolume._from_crops(crops, torch.tensor(offsets))
            crops, offsets, covered = [], [], crop.numel()
        crops.append(crop)
        offsets.append([axis.start for axis in window])
    yield SummedVolume._from_crops(crops, torch.tensor(offsets))


def _is_cropped(masks: Tensor) -> bool:
    return may_look(masks) and not masks.requires_grad and masks.numel() > 0


def _sent(values: list[int] | list[list[int]], device: torch.device) -> Int[Tensor, "..."]:
    """Numbers of the host on the device, without waiting for it."""
    return torch.tensor(values).to(device, non_blocking=True)


def _summed_crops(crops: list[Tensor]) -> Float[Tensor, "entries"]:
    """The tables of all crops, one behind the other."""
    if kernels_sum(len(crops), crops[0].ndim, *crops):
        voxels = torch.cat([crop.flatten() for crop in crops])
        return summed_by_kernels(voxels, [crop.shape for crop in crops])
    tables = [_summed(crop[None]).flatten() for crop in crops]
    return torch.cat(tables) if len(tables) > 1 else tables[0]


def _summed(masks: Shaped[Tensor, "masks *spatial"]) -> Float[Tensor, "masks *nodes"]:
    """Σ of all voxels below each node, a node more than voxels along every axis."""
    if kernels_sum(masks.shape[0], masks.ndim - 1, masks):
        tables = summed_by_kernels(masks.flatten(), [masks.shape[1:]] * masks.shape[0])
        return tables.view(-1, *[side + 1 for side in masks.shape[1:]])
    if masks.device.type != "cpu" and masks.ndim > 2:
        return _summed_across_rows(masks)
    padded = _padded(masks)
    for axis in reversed(range(1, masks.ndim)):
        if padded.stride(axis) < _WIDE_LAYER or padded.requires_grad or not may_look(padded):
            padded.cumsum_(axis)
        else:
            _add_up(padded, axis)
    return padded


def _summed_across_rows(
    masks: Shaped[Tensor, "masks *spatial"],
) -> Float[Tensor, "masks *nodes"]:
    """The same on a GPU, where sums along short rows are slow: for them, rows become columns.

    A thread then adds up one line, voxel by voxel, as the CPU does: sums never fall, and an empty
    layer adds exactly 0, which PyTorch's sums along rows do not promise.
    """
    padded = F.pad(widened(masks).transpose(1, -1), [1, 0] * (masks.ndim - 1))
    padded = padded.cumsum_(1).transpose(1, -1).contiguous()
    for axis in reversed(range(1, masks.ndim - 1)):
        padded.cumsum_(axis)
    return padded


def _padded(masks: Shaped[Tensor, "masks *spatial"]) -> Float[Tensor, "masks *nodes"]:
    """In float64, behind a layer of zeros on each axis; on the way no more is written than that."""
    if masks.numel() < _WORTH_ONE_WRITE or not may_look(masks) or masks.requires_grad:
        return F.pad(widened(masks), [1, 0] * (masks.ndim - 1))
    sides = [side + 1 for side in masks.shape[1:]]
    padded = torch.empty((len(masks), *sides), dtype=torch.float64)
    for axis in range(1, masks.ndim):
        padded.select(axis, 0).zero_()
    inside: tuple[slice, ...] = (slice(None), *(slice(1, None),) * (masks.ndim - 1))
    padded[inside] = masks
    return padded


def _add_up(values: Tensor, axis: int) -> None:
    """The same as `cumsum_`, a layer at a time; that goes line by line, across all of memory."""
    layers = values.unbind(axis)
    for before, layer in pairwise(layers):
        layer.add_(before)


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
