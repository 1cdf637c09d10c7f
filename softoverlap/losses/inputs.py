"""What MONAI's arguments do to prediction and target before an overlap is formed, in one place."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from softoverlap._checks import check_booleans, check_rank, check_same_shape, refusal
from softoverlap._types import accumulation_dtype, is_number, plain
from softoverlap.masks import counted_masks, counted_voxels, one_hot


@dataclass(frozen=True)
class Preparation:
    """Activation, one-hot, background and ignored voxels, with MONAI's names and in its order."""

    include_background: bool
    to_onehot_y: bool
    sigmoid: bool
    softmax: bool
    other_act: Callable[[Tensor], Tensor] | None
    ignore_index: int | None
    validate: bool | None
    regions: bool = False

    def __post_init__(self) -> None:
        check_booleans(self)
        if self.other_act is not None and not callable(self.other_act):
            raise TypeError(f"other_act must be callable, got {type(self.other_act).__name__}")
        asked = {"sigmoid": self.sigmoid, "softmax": self.softmax, "other_act": self.other_act}
        given = [name for name, value in asked.items() if value]
        if len(given) > 1:
            raise ValueError(
                f"at most one of sigmoid, softmax, other_act may be given, got {given}"
            )

    def __call__(self, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities of one shape, in float32 or wider."""
        check_rank(3, "(B, C, *spatial)", input=input, target=target)
        dtype = accumulation_dtype(input, target)
        pred, labels = self._activated(plain(input)), plain(target)
        channels = pred.shape[1]
        if channels == 1:
            self._warn_of_ignored()
        truth, counted = self.masks_of(labels, channels), self.counted(labels)
        if self.hides_background(channels):
            pred, truth = pred[:, 1:], truth[:, 1:]
        check_same_shape(input=pred, target=truth)
        pred, truth = counted_masks(counted, dtype, self.validate, input=pred, target=truth)
        return pred, truth

    def hides_background(self, channels: int) -> bool:
        """Whether the first of so many channels does not count; of one alone it always does."""
        return channels > 1 and not self.include_background

    def masks_of(self, labels: Tensor, channels: int) -> Tensor:
        """A plain target with one channel a class, if it shall become so."""
        if channels == 1 or not self.to_onehot_y:
            return labels
        return one_hot(labels, channels, ignore_index=self.ignore_index, validate=self.validate)

    def counted(self, labels: Tensor) -> Tensor | None:
        """How much each voxel of a plain target counts; None where all do.

        Regions have voxels of none of them: one is ignored where all its channels say so.
        """
        if self.ignore_index is None or not self.regions or labels.shape[1] == 1:
            return counted_voxels(labels, self.ignore_index)
        if 0 <= self.ignore_index < max(2, labels.shape[1]):
            expected = "must be a number that is no value and no channel of regions"
            raise refusal("ignore_index", f"{expected}, got {self.ignore_index}")
        return 1 - is_number(labels, self.ignore_index).all(dim=1, keepdim=True).to(torch.float32)

    def _activated(self, logits: Tensor) -> Tensor:
        """Probabilities, in float32 or wider where an activation makes them."""
        wide = logits.to(accumulation_dtype(logits))
        if self.sigmoid:
            return torch.sigmoid(wide)
        if self.softmax and logits.shape[1] > 1:
            return torch.softmax(wide, dim=1)
        return logits if self.other_act is None else self.other_act(wide)

    def _warn_of_ignored(self) -> None:
        """As MONAI does, of arguments that say nothing for one channel."""
        without_background = not self.include_background
        asked = {"softmax": self.softmax, "to_onehot_y": self.to_onehot_y}
        for name, given in (asked | {"include_background": without_background}).items():
            if given:
                warnings.warn(f"{name} is ignored: the prediction has one channel", stacklevel=4)
