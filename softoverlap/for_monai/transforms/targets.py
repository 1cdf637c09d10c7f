"""What the detector learns from: the lesions that are left in a patch."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from torch import Tensor

from softoverlap._checks import check_boolean, check_within
from softoverlap._types import plain
from softoverlap.for_monai.detector.targets import lesion_target
from softoverlap.for_monai.transforms.grid import Grid
from softoverlap.for_monai.transforms.items import (
    Item,
    channels_of,
    check_same_grid,
    entry,
    named,
    probabilities_of,
    without,
)
from softoverlap.for_monai.transforms.layers import UNLABELLED
from softoverlap.for_monai.transforms.left import Patch, lesions_left
from softoverlap.for_monai.transforms.table import checked_table

_MAKER = "LesionInstancesd"


class LesionsFromInstancesd(MapTransform, InvertibleTransform):
    """The target of a patch: what spatial transforms left of the lesions of `LesionInstancesd`.

    Each voxel of the soft mask belongs to the lesion whose number the instance map has there, with
    or without a minus. A lesion's box is that of the table wherever whole voxels went onto whole
    voxels (flips, quarter turns, integer zooms). Else it is tight around the voxels at or above the
    threshold, as if the lesion were found anew. Where interpolation left less than half of the
    lesion's own voxels so high, and for lesions of raters, it is tight around these; where neither
    are left, around the voxels of at least half its highest probability. A lesion that is gone from
    the map is sought where MONAI's affine says that its centre went.

    A lesion's visible share is the mass that is left, in mm³, over the mass of the table. A lesion
    of which less is left than `min_visible` is dropped. With `amodal` the others keep the whole
    box, which the affine gives, and `Lesion.visible` says the share; a deformation that the affine
    does not know of, as MONAI's elastic ones, leaves such a box at what is seen and what the affine
    says together.

    Args:
        mask_key: Where the transformed soft mask is, shape (1, *spatial), or (L, *spatial) where
            lesions lie in layers.
        instances_key: Where the transformed instance map is, a `MetaTensor` on that grid.
        table_key: Where the table is.
        box_key: Where the boxes go, float32 in voxels, shape (M, 2 * ndim).
        label_key: Where the labels go, int64, shape (M,).
        lesions_key: Where the list of `Lesion` goes.
        amodal: Give lesions that are cut the box of the whole lesion.
        min_visible: Least share of a lesion's mass that must be left, in [0, 1].
        unlabelled_key: Where the voxels go that nobody has labelled, bool, shape (1, *spatial), or
            None if all are labelled (`LesionInstancesd` with its `unlabelled_key`); None for not.

    Raises:
        TypeError: When called, if the instances are no `MetaTensor`, or the table is none.
        ValueError: When called, if a key is missing, a shape is wrong, the mask holds anything but
            probabilities, or the instances hold anything but the numbers of the table (as after
            bilinear resampling); the message names the key.

    Examples:
        >>> import torch
        >>> from monai.transforms import Compose, Flipd
        >>> from softoverlap.for_monai import LesionInstancesd
        >>> mask = torch.zeros(1, 8, 8)
        >>> mask[0, 1:3, 1] = 0.75
        >>> steps = [LesionInstancesd(), Flipd(["mask", "instances"], 1), LesionsFromInstancesd()]
        >>> Compose(steps)({"mask": mask})["boxes"]
        tensor([[1., 6., 3., 7.]])
    """

    def __init__(
        self,
        mask_key: Hashable = "mask",
        instances_key: Hashable = "instances",
        table_key: Hashable = "lesion_table",
        box_key: Hashable = "boxes",
        label_key: Hashable = "labels",
        lesions_key: Hashable = "lesions",
        amodal: bool = False,
        min_visible: float | int = 0.25,
        unlabelled_key: Hashable | None = None,
    ) -> None:
        super().__init__((mask_key, instances_key))
        self.unlabelled_key = unlabelled_key
        check_boolean(amodal=amodal)
        check_within(0, 1, min_visible=min_visible)
        self.mask_key, self.instances_key, self.table_key = mask_key, instances_key, table_key
        self.box_key, self.label_key, self.lesions_key = box_key, label_key, lesions_key
        self.amodal, self.min_visible = amodal, float(min_visible)

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """The item with boxes, labels and lesions."""
        mask = probabilities_of(data, self.mask_key, one=False)
        instances = channels_of(data, self.instances_key, maker=_MAKER)
        check_same_grid(self.instances_key, instances, self.mask_key, mask)
        table = checked_table(entry(data, self.table_key, _MAKER), self.table_key)
        numbers, unlabelled = self._numbers(instances, len(mask), len(table["label"]))
        ndim = mask.ndim - 1
        grid = Grid.of(instances, ndim, named(self.instances_key))
        soft = plain(mask).detach().cpu().float().clamp(0, 1).numpy()
        layers = [Patch(*layer, grid) for layer in zip(soft, numbers, strict=True)]
        lesions = lesions_left(layers, table, amodal=self.amodal, min_visible=self.min_visible)
        target = lesion_target(lesions, spatial_dims=ndim)
        found = {
            **data,
            self.box_key: target["boxes"],
            self.label_key: target["labels"],
            self.lesions_key: target["lesions"],
        }
        if self.unlabelled_key is not None:
            found[self.unlabelled_key] = unlabelled
        return found

    def inverse(self, data: Item) -> dict[Hashable, Any]:
        """The item without boxes, labels and lesions."""
        more = () if self.unlabelled_key is None else (self.unlabelled_key,)
        return without(data, self.box_key, self.label_key, self.lesions_key, *more)

    def _numbers(
        self, instances: Tensor, layers: int, count: int
    ) -> tuple[np.ndarray, Tensor | None]:
        """The instance map of each layer as whole numbers, and what nobody has labelled."""
        name = named(self.instances_key)
        if not isinstance(instances, MetaTensor):
            raise TypeError(
                f"{name} must be a MetaTensor, whose affine says where lesions went, "
                f"got {type(instances).__name__}; track_meta=True keeps it one"
            )
        values = plain(instances).detach().cpu()
        numbers = values.to(torch.int32)
        unlabelled = numbers == UNLABELLED
        whole = not values.is_floating_point() or bool((values == numbers).all())
        numbers = numbers.masked_fill(unlabelled, 0)
        if not whole or int(numbers.abs().max()) > count:
            raise ValueError(
                f"{name} must hold the numbers of {count} lesions, as LesionInstancesd gives and "
                f"resampling with mode='nearest' keeps; was it resampled otherwise?"
            )
        if len(numbers) not in (layers, layers + 1) or bool(numbers[layers:].any()):
            raise ValueError(
                f"{name} must have the {layers} layers of {named(self.mask_key)}, "
                f"and one more for voxels without label, got {len(numbers)}"
            )
        seen = unlabelled.any(dim=0, keepdim=True)
        return numbers[:layers].numpy(), seen if len(numbers) > layers else None
