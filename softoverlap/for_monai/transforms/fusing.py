"""The masks of several raters as one soft mask."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from monai.transforms import InvertibleTransform, MapTransform
from torch import Tensor

from softoverlap._checks import check_choice
from softoverlap._types import plain
from softoverlap.for_monai.transforms.items import Item, like, named, probabilities_of, without
from softoverlap.lesions import FUSION_METHODS, fuse_raters

_MARGIN = 2  # voxels around the raters' union in which STAPLE looks
_LEAST_FOR_STAPLE = 3


class FuseRatersd(MapTransform, InvertibleTransform):
    """Fuse the masks of several raters into one soft mask, and keep them.

    The raters stay in the item, so that `LesionInstancesd` can say which share of them marked each
    lesion. The inverse takes the mask out again.

    `"staple"` is a posterior, near 0 or 1, and never the share of raters; it is taken from three
    raters on, and looks at a window of two voxels around all that they marked, since in a whole
    scan the background would make all of them look specific.

    Args:
        keys: Where the raters' masks are, shape (R, *spatial): 0 and 1, or probabilities.
        output_key: Where the soft mask goes, shape (1, *spatial), float32.
        method: `"mean"` (the share of raters), `"weighted"`, `"majority"` or `"staple"`, as in
            `fuse_raters`.
        weights: One per rater, at least 0; only for `"weighted"`.
        threshold: A rater marked a voxel if its probability is at least this, in (0, 1]; without it
            masks are used as they are, and must be hard for `"majority"` and `"staple"`.

    Raises:
        ValueError: If the method is unknown; when called, if the raters are missing, have a wrong
            shape or hold anything but probabilities, or are fewer than three for `"staple"`.

    Examples:
        >>> import torch
        >>> raters = torch.zeros(2, 4, 4)
        >>> raters[:, 1, 1], raters[0, 1, 2] = 1, 1
        >>> item = FuseRatersd()({"raters": raters})
        >>> item["mask"][0, 1].tolist()
        [0.0, 1.0, 0.5, 0.0]
    """

    def __init__(
        self,
        keys: Hashable = "raters",
        output_key: Hashable = "mask",
        method: str = "mean",
        weights: Sequence[float | int] | None = None,
        threshold: float | int | None = None,
    ) -> None:
        super().__init__(keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys must name one entry, got {list(self.keys)}")
        check_choice("method", method, FUSION_METHODS)
        if (weights is None) == (method == "weighted"):
            raise ValueError(
                f"weights must be given for `method='weighted'` and no other, got {weights} "
                f"for {method!r}"
            )
        self.output_key, self.method = output_key, method
        self.weights = None if weights is None else [float(weight) for weight in weights]
        self.threshold = None if threshold is None else float(threshold)

    def __call__(self, data: Item) -> dict[Hashable, Any]:
        """The item with the soft mask."""
        key = self.keys[0]
        raters = probabilities_of(data, key, one=False)
        try:
            mask = self._fused(plain(raters))
        except ValueError as error:
            raise ValueError(f"{named(key)}: {error}") from error
        return {**data, self.output_key: like(raters, mask[None].float())}

    def inverse(self, data: Item) -> dict[Hashable, Any]:
        """The item without the soft mask."""
        return without(data, self.output_key)

    def _fused(self, raters: Tensor) -> Tensor:
        if self.method != "staple":
            return fuse_raters(
                raters, method=self.method, weights=self.weights, threshold=self.threshold
            )
        if len(raters) < _LEAST_FOR_STAPLE:
            raise ValueError(f"method 'staple' needs three raters or more, got {len(raters)}")
        mask = torch.zeros(raters.shape[1:], dtype=torch.float64, device=raters.device)
        window = _around(raters)
        inside = raters[(slice(None), *window)]
        mask[window] = fuse_raters(inside, method="staple", threshold=self.threshold)
        return mask


def _around(raters: Tensor) -> tuple[slice, ...]:
    """The window around all that was marked; one voxel if nothing was."""
    marked = (raters > 0).any(dim=0).nonzero()
    if not len(marked):
        return (slice(0, 1),) * (raters.ndim - 1)
    first, last = marked.amin(dim=0).tolist(), marked.amax(dim=0).tolist()
    return tuple(
        slice(max(low - _MARGIN, 0), high + 1 + _MARGIN)
        for low, high in zip(first, last, strict=True)
    )
