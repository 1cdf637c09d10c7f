"""A sliding window whose windows lie on the grid of the coarsest feature map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from monai.inferers.inferer import SlidingWindowInferer
from monai.utils.misc import ensure_tuple_rep
from torch import Tensor


class AlignedWindowInferer(SlidingWindowInferer):
    """MONAI's sliding window, kept on the grid of the feature maps.

    MONAI moves windows by any number of voxels and pads small images on both sides; feature maps
    of stride 8 are then put together up to a cell off, without a word. Here the step between
    windows is rounded down to a multiple of the stride, and is one stride at least: the overlap is
    at least the one asked for, if a window has strides enough. A window of a single stride could
    not overlap the next, and is doubled where the image is longer. Small images are padded at their
    end.

    Args:
        roi_size: Voxels of a window, one number or one an axis; multiples of `size_divisible`.
        sw_batch_size: Windows in one pass.
        overlap: Least overlap of neighbouring windows, in [0, 1); with 0 no window is doubled.
        size_divisible: Largest stride of the network, one an axis.
        options: The other arguments of MONAI's `SlidingWindowInferer`.

    Raises:
        ValueError: If a window is no multiple of the stride or the overlap is out of range.

    Examples:
        >>> AlignedWindowInferer(48, overlap=0.25, size_divisible=(8, 8, 8)).steps
        (32, 32, 32)
    """

    def __init__(
        self,
        roi_size: Sequence[int] | int,
        sw_batch_size: int = 1,
        overlap: Sequence[float] | float = 0.5,
        *,
        size_divisible: Sequence[int],
        **options: Any,
    ) -> None:
        window = ensure_tuple_rep(roi_size, len(size_divisible))
        overlaps = ensure_tuple_rep(overlap, len(size_divisible))
        if any(side < 1 or side % step for side, step in zip(window, size_divisible, strict=True)):
            raise ValueError(
                f"roi_size must be a multiple of the network's stride {tuple(size_divisible)} "
                f"on every axis, got {window}"
            )
        if any(not 0 <= share < 1 for share in overlaps):
            raise ValueError(f"overlap must lie in [0, 1), got {overlaps}")
        self.steps = tuple(map(_step, window, overlaps, size_divisible))
        self.strides, self.shares, self.options = tuple(size_divisible), overlaps, options
        # MONAI truncates roi * (1 - overlap): half a voxel more keeps rounding away from it
        exact = [
            0.0 if step == side else 1 - (step + 0.5) / side
            for step, side in zip(self.steps, window, strict=True)
        ]
        super().__init__(window, sw_batch_size, exact, **options)  # pyright: ignore[reportArgumentType]

    def __call__(
        self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Run the network window by window.

        Args:
            inputs: Images, shape (B, C, *spatial), sizes that are multiples of the stride.
            network: Called with windows; returns a feature map or a sequence of them.
            args: Passed on to the network.
            kwargs: Passed on to the network.

        Returns:
            The map of whole images, or a list of them.

        Examples:
            >>> import torch
            >>> inferer = AlignedWindowInferer(8, size_divisible=(4, 4))
            >>> pool = torch.nn.AvgPool2d(4)
            >>> inferer(torch.ones(1, 1, 4, 12), pool).shape
            torch.Size([1, 1, 1, 3])
        """
        size = inputs.shape[2:]
        window: Sequence[int] = self.roi_size  # pyright: ignore[reportAssignmentType]
        wide = tuple(map(_wide_enough, window, self.strides, self.shares, size))
        if wide != tuple(window):
            again = {"size_divisible": self.strides, **self.options}
            wider = AlignedWindowInferer(wide, self.sw_batch_size, self.shares, **again)
            return wider(inputs, network, *args, **kwargs)
        missing = [max(0, side - voxels) for side, voxels in zip(window, size, strict=True)]
        if not any(missing):
            return super().__call__(inputs, network, *args, **kwargs)
        # as tall as F.pad wants it: the last axis first, nothing at the beginning
        margins = [margin for side in reversed(missing) for margin in (0, side)]
        padded = F.pad(inputs, margins, mode=str(self.padding_mode), value=self.cval)
        maps = super().__call__(padded, network, *args, **kwargs)
        if isinstance(maps, Tensor):  # what MONAI makes of a single map
            return _crop(maps, size, padded.shape[2:])
        return [_crop(level, size, padded.shape[2:]) for level in maps]


def in_one_piece(images: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run the network on whole images, where an inferer is asked for."""
    return network(images, *args, **kwargs)


def _step(side: int, overlap: float, stride: int) -> int:
    return max(stride, int(side * (1 - overlap) / stride + 1e-9) * stride)


def _wide_enough(side: int, stride: int, overlap: float, voxels: int) -> int:
    """Two strides in place of one, where one would leave windows side by side."""
    return 2 * side if overlap and side == stride and voxels > side else side


def _crop(level: Tensor, size: Sequence[int], padded: Sequence[int]) -> Tensor:
    """The cells of the map that belong to the image."""
    cells = [
        slice(voxels * places // whole)
        for voxels, places, whole in zip(size, level.shape[2:], padded, strict=True)
    ]
    return level[(..., *cells)]
