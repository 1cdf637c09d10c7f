"""Lesions that are known by boxes alone, on the path of those with masks."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import torch
from monai.transforms import InvertibleTransform, MapTransform

from softoverlap._checks import check_choice
from softoverlap._types import plain
from softoverlap.for_monai.transforms.box_lists import (
    COORDINATES,
    LAYOUTS,
    boxes_on_grid,
    centres_and_edges,
)
from softoverlap.for_monai.transforms.grid import Grid
from softoverlap.for_monai.transforms.items import Item, channels_of, entry, like, named, without
from softoverlap.for_monai.transforms.layers import spread
from softoverlap.lesion import Lesion


class LesionsFromBoxesd(MapTransform, InvertibleTransform):
    """A soft mask, an instance map and a table from boxes: `LesionInstancesd` without masks.

    So lists of boxes, or of centres and diameters as those of LUNA16, train as masks do. Each voxel
    of the soft mask holds the share of it that the box or its ellipsoid fills (`Lesion.from_box`).
    Boxes that share voxels lie in layers of their own, further channels of mask and map, so that
    none hides another; `mask.amax(0)` is the mask of all. The inverse takes mask, map and table
    out.

    `LesionsFromInstancesd` gives the real-valued boxes back, moved by MONAI's affine, as long as
    that is within a voxel of what is seen.

    Args:
        box_key: Where the boxes are, shape (N, 2 * ndim), or (N, ndim + 1) with one diameter.
        label_key: Where the labels are, whole numbers from 0, shape (N,); None for one class.
        image_key: The image whose grid they are brought to, shape (C, *spatial).
        mask_key: Where the soft mask goes, float32, shape (1, *spatial), or (L, *spatial) for L
            layers.
        instances_key: Where the instance map goes, int32, of that shape.
        table_key: Where the table goes.
        layout: `"corners"` for all minima, then all maxima; `"centre"` for the centre, then the
            edges, or one diameter.
        coordinates: `"voxel"`, where voxel `i` fills `[i, i + 1)`, or `"RAS"` or `"LPS"` in mm.
        shape: `"box"` or `"ellipsoid"`, which fills the box up to its faces.

    Raises:
        ValueError: If a choice is unknown; when called, if a key is missing, boxes or labels have
            a wrong shape or value, or a box lies outside the image; the message names the key.

    Examples:
        >>> import torch
        >>> item = {"image": torch.zeros(1, 8, 8), "nodules": torch.tensor([[3.0, 4.0, 2.0]])}
        >>> spread = LesionsFromBoxesd("nodules", layout="centre", shape="ellipsoid")(item)
        >>> spread["mask"].sum().item()  # in voxels, of π
        3.14...
    """

    def __init__(
        self,
        box_key: Hashable = "boxes",
        label_key: Hashable | None = None,
        image_key: Hashable = "image",
        mask_key: Hashable = "mask",
        instances_key: Hashable = "instances",
        table_key: Hashable = "lesion_table",
        layout: str = "corners",
        coordinates: str = "voxel",
        shape: str = "box",
    ) -> None:
        super().__init__((image_key, box_key))
        check_choice("layout", layout, LAYOUTS)
        check_choice("coordinates", coordinates, COORDINATES)
        check_choice("shape", shape, ("box", "ellipsoid"))
        self.box_key, self.label_key, self.image_key = box_key, label_key, image_key
        self.mask_key, self.instances_key, self.table_key = mask_key, instances_key, table_key
        self.layout, self.coordinates, self.shape = layout, coordinates, shape

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """The item with the soft mask, the instance map and the table."""
        image = channels_of(data, self.image_key)
        ndim = image.ndim - 1
        grid = Grid.of(image, ndim, named(self.image_key))
        if self.coordinates != "voxel" and len(grid.origin) != ndim:
            raise ValueError(
                f"{named(self.image_key)} must have an affine of {ndim} axes for boxes in mm, "
                f"got {len(grid.origin)}"
            )
        shape = tuple(image.shape[1:])
        lesions = self._lesions(data, grid, shape)
        found = spread(lesions, shape, grid, threshold=0.5)
        return {
            **data,
            self.mask_key: like(image, found.masks.to(image.device)),
            self.instances_key: like(image, found.instances.to(image.device)),
            self.table_key: found.table,
        }

    def inverse(self, data: Item) -> dict[Hashable, Any]:
        """The item without the soft mask, the instance map and the table."""
        return without(data, self.mask_key, self.instances_key, self.table_key)

    def _lesions(self, data: Item, grid: Grid, shape: tuple[int, ...]) -> list[Lesion]:
        values = _array(entry(data, self.box_key))
        centres, edges = centres_and_edges(values, len(shape), self.layout, named(self.box_key))
        boxes = boxes_on_grid(centres, edges, grid, coordinates=self.coordinates, shape=self.shape)
        self._check_seen(boxes, shape)
        return [
            Lesion.from_box(
                torch.from_numpy(box), spacing=grid.spacing, shape=self.shape, label=label
            )
            for box, label in zip(boxes, self._labels(data, len(boxes)), strict=True)
        ]

    def _check_seen(self, boxes: np.ndarray, shape: tuple[int, ...]) -> None:
        """Each box shares something with the image."""
        low, high = boxes[:, : len(shape)], boxes[:, len(shape) :]
        outside = ((high <= 0) | (low >= np.array(shape))).any(axis=1)
        if outside.any():
            first = boxes[outside][0].round(1).tolist()
            raise ValueError(
                f"{named(self.box_key)} must hold boxes in the image, {shape} voxels, got "
                f"{first} in voxels: are layout and coordinates right?"
            )

    def _labels(self, data: Item, count: int) -> list[int]:
        if self.label_key is None:
            return [0] * count
        labels = _array(entry(data, self.label_key)).reshape(-1)
        whole = np.isfinite(labels).all() and (labels == np.rint(labels)).all()
        if len(labels) != count or not whole or (labels < 0).any():
            raise ValueError(
                f"{named(self.label_key)} must hold {count} whole numbers from 0, one a box, "
                f"got {labels.tolist()}"
            )
        return [int(label) for label in labels]


def _array(values: Any) -> np.ndarray:
    tensor = plain(values).detach().cpu() if isinstance(values, torch.Tensor) else values
    return np.asarray(tensor, dtype=np.float64)
