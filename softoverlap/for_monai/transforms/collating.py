"""Items to a batch: images are stacked, what has another length in each item stays a list."""

from __future__ import annotations

import io
import pickle
from collections.abc import Hashable, Mapping, Sequence
from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from monai.data.utils import list_data_collate
from torch import Tensor

_IMAGE_AXES = 3  # a channel-first image has three axes or more, boxes and labels have fewer
_SMALL = 1 << 16  # bytes of a tensor that is copied sooner than shared


class PerItem(list):
    """One value an item of a batch: a list that MONAI's `decollate_batch` takes apart by items.

    Of a plain list of tensors it would take the first rows of all. It asks what has no axes for
    its `item`, and zips what it gets.
    """

    ndim = 0

    def item(self) -> list[Any]:
        """The values, one an item."""
        return list(self)


class _ByValue(ForkingPickler):
    """Small tensors as they are: a loader's worker would hand each over as a file to be opened.

    The crops, boxes and centres of a batch's lesions are dozens of them.
    """

    def reducer_override(self, value: Any) -> Any:
        if type(value) is not Tensor or value.layout != torch.strided or value.nbytes > _SMALL:
            return NotImplemented
        if value.requires_grad or value.is_neg() or value.dtype not in _WITH_NUMPY:
            return NotImplemented
        return (
            (torch.from_numpy, (value.numpy(),)) if value.device.type == "cpu" else NotImplemented
        )


_WITH_NUMPY = {torch.bool, torch.uint8, torch.int32, torch.int64, torch.float32, torch.float64}


def _handed_over(values: PerItem) -> tuple[Any, ...]:
    buffer = io.BytesIO()
    _ByValue(buffer, pickle.HIGHEST_PROTOCOL).dump(list(values))
    return _taken, (buffer.getvalue(),)


def _taken(packed: bytes) -> PerItem:
    return PerItem(pickle.loads(packed))


ForkingPickler.register(PerItem, _handed_over)  # between processes only: no file is written so


def lesion_collate(batch: Sequence[Any]) -> dict[Hashable, Any]:
    """The `collate_fn` of a loader whose items have lesions.

    Images, masks and all else that has three axes or more are stacked where all items have one
    shape; boxes, labels, lesions, tables, names, and images of different shapes become a list with
    an entry an item. MONAI's `decollate_batch` gives the items back.

    Args:
        batch: Items, dictionaries with the same keys; or lists of them, as transforms give that
            draw several patches of an image.

    Returns:
        For each key a tensor (B, C, *spatial), or a list of length B.

    Raises:
        TypeError: If an item is no dictionary.
        ValueError: If there is no item, or the items have different keys.

    Examples:
        >>> import torch
        >>> items = [
        ...     {"image": torch.zeros(1, 8, 8), "boxes": torch.zeros(n, 4)} for n in (2, 0)
        ... ]
        >>> batch = lesion_collate(items)
        >>> batch["image"].shape, [len(boxes) for boxes in batch["boxes"]]
        (torch.Size([2, 1, 8, 8]), [2, 0])
    """
    items = [item for entry in batch for item in (entry if isinstance(entry, list) else [entry])]
    if not items:
        raise ValueError("batch must hold at least one item, got none")
    for item in items:
        if not isinstance(item, Mapping):
            raise TypeError(f"batch must hold dictionaries, got {type(item).__name__}")
        if set(item) != set(items[0]):
            raise ValueError(
                f"batch must hold items with the same keys, got {sorted(map(str, items[0]))} "
                f"and {sorted(map(str, item))}"
            )
    return {key: _joined([item[key] for item in items]) for key in items[0]}


def _joined(values: list[Any]) -> Any:
    images = all(isinstance(value, Tensor) and value.ndim >= _IMAGE_AXES for value in values)
    if images and len({tuple(value.shape) for value in values}) == 1:
        return list_data_collate(values)
    return PerItem(values)
