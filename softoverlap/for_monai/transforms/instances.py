"""Which voxels belong to which lesion, and what is known of each: once, before augmentation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from monai.transforms import InvertibleTransform, MapTransform
from torch import Tensor

from softoverlap._checks import check_threshold, check_weight, check_within, refusal
from softoverlap._types import plain
from softoverlap.for_monai.transforms.bridges import bridged
from softoverlap.for_monai.transforms.classes import classes_of
from softoverlap.for_monai.transforms.grid import Grid
from softoverlap.for_monai.transforms.items import (
    Item,
    channels_of,
    check_same_grid,
    entry,
    like,
    named,
    probabilities_of,
    without,
)
from softoverlap.for_monai.transforms.layers import (
    Spread,
    check_count,
    spread,
    with_unlabelled,
)
from softoverlap.for_monai.transforms.surroundings import grown
from softoverlap.for_monai.transforms.table import Maps, lesion_table
from softoverlap.lesion import Lesion
from softoverlap.lesions import check_low, labelled_lesions, marked_voxels

_MORE_THAN_NOTHING = float(np.nextafter(0.0, 1.0))


class LesionInstancesd(MapTransform, InvertibleTransform):
    """Find the lesions of a soft mask once: an instance map, and a table with a row a lesion.

    Nothing is drawn by chance, so `CacheDataset` keeps both. Any spatial transform may then run on
    image and mask (bilinear) and on the instance map (nearest); `LesionsFromInstancesd` reads from
    them what is left. The inverse takes both out again.

    In the map a lesion's own voxels have its number, from 1; the voxels around, up to three along
    each axis and nearer to it than to another lesion, have the number with a minus; the rest is 0.
    So resampling to the nearest voxel hardly loses a lesion, however small.

    With raters, a lesion is a component of their union, and its existence the share of them that
    touch it. A rater who marked one of two lesions that another one joined counts for both: a
    warning says so. A lesion without any mass in the soft mask is left out.

    Args:
        mask_key: Where the soft mask is, shape (1, *spatial).
        raters_key: Where the raters' masks are, shape (R, *spatial), or None for existence 1.
        classes_key: Where a map of classes is, whole numbers of shape (1, *spatial): 0 for
            background, 1 for the first class, which has the label 0. Where the class changes, a
            lesion ends. None for one class.
        instances_key: Where the instance map goes, shape (1, *spatial), int32; a channel a layer.
        table_key: Where the table goes, a dictionary of tensors.
        threshold: Lowest probability inside a lesion, in (0, 1]; of raters' masks too.
        low: Lowest probability of a lesion's voxels other than its core (hysteresis), or None.
        halo: Lowest probability of a soft edge, in [0, threshold]; lower ones count as 0.
        connectivity: Neighbours of a voxel, 6, 18 or 26 in 3D, 4 or 8 in 2D; 26 for all of them.
        min_mm3: Smallest volume of a lesion, in mm³.
        lesions_key: Where the lesions are, a list of `Lesion` in voxels of the mask, if they are
            known, as `LoadLesionCased` gives them. None is sought then: each keeps its box, class
            and existence, the soft mask is made of them anew, and raters say which of its voxels
            are a lesion's own; where the mask itself stands for the only rater, the threshold does.
            Lesions that share voxels, such as regions within regions, lie in layers, further
            channels of map and mask. None to seek them.
        unlabelled_key: Where the voxels are that nobody has labelled, shape (1, *spatial), or None
            in an item where all are. They get a layer of their own in the instance map, and
            `LesionsFromInstancesd` gives them back. None if all voxels are labelled.

    Raises:
        ValueError: If a setting is out of range; when called, if a key is missing, a shape is
            wrong, the mask or the raters hold anything but probabilities, or a lesion has no class;
            the message names the key.

    Examples:
        >>> import torch
        >>> mask = torch.zeros(1, 8, 8)
        >>> mask[0, 1, 1], mask[0, 6, 5:7] = 1.0, 0.75
        >>> item = LesionInstancesd()({"mask": mask})
        >>> item["instances"][0, 1].tolist()
        [-1, 1, -1, -1, -1, 0, 0, 0]
        >>> item["lesion_table"]["volume_mm3"]
        tensor([1.0000, 1.5000], dtype=torch.float64)
    """

    def __init__(
        self,
        mask_key: Hashable = "mask",
        raters_key: Hashable | None = None,
        classes_key: Hashable | None = None,
        instances_key: Hashable = "instances",
        table_key: Hashable = "lesion_table",
        threshold: float | int = 0.5,
        low: float | int | None = None,
        halo: float | int = 0.0,
        connectivity: int = 26,
        min_mm3: float | int = 0.0,
        lesions_key: Hashable | None = None,
        unlabelled_key: Hashable | None = None,
    ) -> None:
        if lesions_key is not None and (classes_key is not None or low is not None):
            raise refusal(
                "lesions_key", "goes without `classes_key=` and `low=`: lesions are known"
            )
        self.lesions_key, self.unlabelled_key = lesions_key, unlabelled_key
        read = [key for key in (mask_key, raters_key, classes_key) if key is not None]
        super().__init__(tuple(read))
        self.mask_key, self.raters_key, self.classes_key = mask_key, raters_key, classes_key
        self.instances_key, self.table_key = instances_key, table_key
        check_threshold(threshold=threshold)
        check_low(None if low is None else float(low), float(threshold))
        check_within(0, threshold if low is None else low, halo=halo)
        check_weight(min_mm3=min_mm3)
        self.settings: dict[str, Any] = {
            "threshold": float(threshold),
            "low": None if low is None else float(low),
            "halo": float(halo),
            "connectivity": connectivity,
            "min_mm3": max(float(min_mm3), _MORE_THAN_NOTHING),
        }

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """The item with the instance map and the table."""
        mask = probabilities_of(data, self.mask_key, maker="FuseRatersd")
        raters = self._raters(data, mask)
        grid = Grid.of(mask, mask.ndim - 1, named(self.mask_key))
        if self.lesions_key is None:
            found = self._found(data, mask, raters, grid)
        else:
            found = self._known(data, mask, raters, grid)
        instances = with_unlabelled(found.instances, self._unlabelled(data, mask))
        made = {
            self.instances_key: like(mask, instances.to(mask.device)),
            self.table_key: found.table,
        }
        if self.lesions_key is not None:
            made[self.mask_key] = like(mask, found.masks.to(mask.device))
        return {**data, **made}

    def _found(self, data: Item, mask: Tensor, raters: Tensor | None, grid: Grid) -> Spread:
        """The components of the mask, or of the raters."""
        lesions, (core, owned) = self._of_classes(data, mask, raters, grid)
        check_count(len(lesions))
        core = core.astype(np.int32)
        stray = (plain(mask)[0] > 0).cpu().numpy() & (owned == 0)
        maps = Maps(core, grown(owned.astype(np.int32), stray, grid.edges))
        if raters is not None:
            self._warn_of_bridges(core, marked_voxels(raters, plain(mask)[0], self._least))
        numbers = torch.from_numpy(np.where(core > 0, core, -maps.surroundings))
        count = len(lesions)
        table = lesion_table(
            lesions, [maps], grid, level=[self._level] * count, real_boxes=[False] * count
        )
        return Spread(plain(mask), numbers[None], table)

    def _known(self, data: Item, mask: Tensor, raters: Tensor | None, grid: Grid) -> Spread:
        """The lesions that the item holds."""
        lesions, soft = self._lesions(data, mask), plain(mask)[0]
        alone = raters is None or (len(raters) == 1 and torch.equal(raters[0], soft))
        marked = None if raters is None or alone else marked_voxels(raters, soft, self._least)
        found = spread(
            lesions,
            tuple(mask.shape[1:]),
            grid,
            threshold=self.settings["threshold"],
            marked=None if marked is None else np.any(marked, axis=0),
            level=self.settings["threshold"] if alone else math.inf,
        )
        if marked is not None and len(marked) > 1:
            core = found.instances.clamp(min=0).amax(dim=0).numpy()
            self._warn_of_bridges(core, marked)
        return found

    def _lesions(self, data: Item, mask: Tensor) -> list[Lesion]:
        lesions, name = entry(data, self.lesions_key), named(self.lesions_key)
        if not isinstance(lesions, Sequence) or not all(isinstance(x, Lesion) for x in lesions):
            raise TypeError(f"{name} must be a list of Lesion, got {type(lesions).__name__}")
        if any(lesion.crop.ndim != mask.ndim - 1 for lesion in lesions):
            raise ValueError(f"{name} must hold lesions of {mask.ndim - 1} axes, got others")
        least = self.settings["min_mm3"]
        return [lesion for lesion in lesions if lesion.volume_mm3 >= least]

    def _unlabelled(self, data: Item, mask: Tensor) -> Tensor | None:
        """What nobody has labelled; None if all voxels are labelled."""
        if self.unlabelled_key is None or entry(data, self.unlabelled_key) is None:
            return None
        unlabelled = channels_of(data, self.unlabelled_key, one=True)
        check_same_grid(self.unlabelled_key, unlabelled, self.mask_key, mask)
        return plain(unlabelled).cpu()

    def inverse(self, data: Item) -> dict[Hashable, Any]:
        """The item without the instance map and the table."""
        return without(data, self.instances_key, self.table_key)

    @property
    def _least(self) -> float:
        low, threshold = self.settings["low"], self.settings["threshold"]
        return threshold if low is None else low

    @property
    def _level(self) -> float:
        """From which probability on a voxel is a lesion's own, if that alone decides."""
        alone = self.raters_key is None and self.settings["low"] is None
        return float(self.settings["threshold"]) if alone else math.inf

    def _raters(self, data: Item, mask: Tensor) -> Tensor | None:
        if self.raters_key is None:
            return None
        raters = probabilities_of(data, self.raters_key, one=False)
        check_same_grid(self.raters_key, raters, self.mask_key, mask)
        return plain(raters)

    def _of_classes(
        self, data: Item, mask: Tensor, raters: Tensor | None, grid: Grid
    ) -> tuple[list[Lesion], Sequence[np.ndarray]]:
        """The components, those of each class apart, and where their own voxels and edges are."""
        options = {"spacing": grid.spacing, **self.settings}
        lesions, found = labelled_lesions(plain(mask)[0], raters=raters, **options)
        if self.classes_key is None:
            return lesions, found
        classes = channels_of(data, self.classes_key, one=True)
        check_same_grid(self.classes_key, classes, self.mask_key, mask)
        numbers, name = plain(classes)[0].cpu().numpy(), named(self.classes_key)
        there = torch.from_numpy(classes_of(numbers, *found, grid.edges.tolist(), name))
        there = there.to(mask.device)
        lesions, maps = [], [np.zeros(there.shape, dtype=np.int32) for _ in found]
        for number in there.unique().tolist():
            if number:
                inside = there == number
                marked = None if raters is None else raters * inside
                more, parts = labelled_lesions(plain(mask)[0] * inside, raters=marked, **options)
                for whole, part in zip(maps, parts, strict=True):
                    whole[part > 0] = part[part > 0].astype(np.int32) + len(lesions)
                lesions += [replace(lesion, label=number - 1) for lesion in more]
        return lesions, maps

    def _warn_of_bridges(self, core: np.ndarray, marked: np.ndarray) -> None:
        count = bridged(core, marked, self.settings["connectivity"])
        if count:
            warnings.warn(
                f"{named(self.raters_key)}: in {count} lesions one rater joined what another one "
                f"marked apart; a rater who marked one of the parts counts for the whole lesion",
                stacklevel=3,
            )
