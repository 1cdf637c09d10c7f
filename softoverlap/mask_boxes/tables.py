"""Summed-volume tables of whole-image masks and of lesion crops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import prod

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from softoverlap._autograd import widened
from softoverlap._checks import check_probabilities, check_rank, may_look, refusal
from softoverlap._periodic import check_arcs
from softoverlap._types import Boxes, LesionMasks, plain, score_dtype
from softoverlap.lesion import Lesion
from softoverlap.mask_boxes.summing import summed, summed_crops


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
        turns: Voxels after which each axis of the image comes round, 0 where it does not; empty
            where none does. The tables then hold two turns of such an axis, from a voxel before
            the first one on, so that boxes that wrap are read as any other.

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
    turns: tuple[int, ...] = ()

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
        copies = 3 ** sum(turn > 0 for turn in self.turns)  # a turn and a half is in the table
        return copies * constant * torch.finfo(torch.float64).eps * self.sizes

    @property
    def device(self) -> torch.device:
        """Where the tables lie."""
        return self.table.device

    def __len__(self) -> int:
        """Number of masks."""
        return self.starts.shape[0]

    def unwrapped(self, boxes: Boxes, *, validate: bool | None = None) -> Boxes:
        """The boxes where they lie in the tables: in float64 if an axis comes round, else the same.

        Args:
            boxes: Minima, then maxima, in voxels of the image, shape (N, 2 * ndim).
            validate: Look at the values too; by default on for CPU tensors.

        Returns:
            The boxes moved by whole turns, same shape.

        Raises:
            ValueError: If a box is longer than an axis that comes round.

        Examples:
            >>> import torch
            >>> volume = SummedVolume.from_masks(torch.rand(1, 10), periodic=True)
            >>> volume.unwrapped(torch.tensor([[-2.0, 3.0]]))
            tensor([[ 9., 14.]], dtype=torch.float64)
        """
        if not any(self.turns):
            return boxes
        check_arcs([turn or None for turn in self.turns], validate, boxes=boxes)
        boxes = plain(boxes).double()  # half a voxel may be lost by adding a turn
        turns = boxes.new_tensor(self.turns)
        low = boxes.detach()[:, : self.ndim]
        first = (low / turns.clamp(min=1)).floor() * turns - (turns > 0).to(boxes)
        return boxes - first.repeat(1, 2)

    @classmethod
    def from_masks(
        cls,
        masks: LesionMasks,
        *,
        periodic: bool | Sequence[bool] = False,
        validate: bool | None = None,
    ) -> SummedVolume:
        """Tables of whole-image masks.

        On the CPU, and where no gradient to the masks is asked for, each mask is first cropped to
        its support, so that K lesions cost their own voxels. Elsewhere the tables cover the whole
        image: cropping would need a synchronisation, or lose the gradient of voxels that are 0.

        Args:
            masks: Probabilities, shape (K, *spatial).
            periodic: Whether the spatial axes come round: the first voxel follows the last one, so
                that a box may lie across both, or anywhere; for all axes, or one an axis. The
                tables of a mask then cover two turns of such an axis, however small its support.
            validate: Look at the values too; by default on for CPU tensors.

        Returns:
            The tables of K masks.

        Raises:
            ValueError: If there is no spatial axis or a value lies outside [0, 1].

        Examples:
            >>> import torch
            >>> len(SummedVolume.from_masks(torch.rand(3, 8, 8, 8)))
            3
            >>> from softoverlap import mask_box_mass
            >>> ring = SummedVolume.from_masks(torch.tensor([[0.5, 0.0, 1.0]]), periodic=True)
            >>> mask_box_mass(ring, torch.tensor([[2.0, 4.0]]))
            tensor([[1.5000]])
        """
        if periodic is not False:
            return cls._from_periodic(masks, periodic, validate)
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
    def _from_periodic(
        cls, masks: Tensor, periodic: bool | Sequence[bool], validate: bool | None
    ) -> SummedVolume:
        """Tables of two turns of each axis that comes round, from a voxel before the first on.

        So no face of a box whose minimum lies in the first turn is at the border of the table.
        """
        check_rank(2, "(K, *spatial)", masks=masks)
        check_probabilities(masks=masks, validate=validate)
        shape = masks.shape[1:]
        axes = list(periodic) if isinstance(periodic, Sequence) else [periodic] * len(shape)
        if len(axes) != len(shape) or not all(isinstance(axis, bool) for axis in axes):
            raise refusal(
                "periodic", f"must be a boolean or {len(shape)}, one an axis, got {periodic}"
            )
        masks = turned = plain(masks)
        for axis, (side, comes_round) in enumerate(zip(shape, axes, strict=True), start=1):
            if comes_round and side:
                places = (torch.arange(2 * side + 1, device=masks.device) - 1) % side
                turned = turned.index_select(axis, places)
        volume = cls.from_masks(turned, validate=False)
        return replace(
            volume,
            sizes=widened(masks).flatten(1).sum(dim=1),
            turns=tuple(int(s) if round_ else 0 for s, round_ in zip(shape, axes, strict=True)),
        )

    @classmethod
    def _from_whole(cls, masks: Tensor) -> SummedVolume:
        count, shape = masks.shape[0], _sent(list(masks.shape[1:]), masks.device)
        tables = summed(masks).flatten(1)
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
        table, shapes = summed_crops(crops), [list(crop.shape) for crop in crops]
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
