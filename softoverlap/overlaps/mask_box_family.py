"""The family of overlaps of a soft mask and a box: masks come first, the box is the prediction.

The mass of a mask inside a box is exact, parts of a box outside the image hold no mass but count
in its volume, and the cost per box does not depend on the box. Gradients flow to the masks and to
the boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from softoverlap._types import Boxes
from softoverlap.mask_boxes import SummedVolume
from softoverlap.overlaps._mask_box_scores import (
    Aligned,
    AnyMasks,
    Pairwise,
    Penalty,
    aligned_penalty,
    aligned_ratios,
    all_ratios,
    in_parts,
    less_penalty,
    prepared,
    ratio_of,
    result_dtype,
)
from softoverlap.overlaps.overlap import Overlap, Pairs


class MaskBoxOverlap(Overlap):
    """Overlap of a soft mask and a box.

    Args:
        definition: A score from the mass of the mask in the box, the volume of the box and the
            size of the mask; `empty` is one of its parameters.
        tversky_weights: From its parameters to the weights of the Tversky index that it is, of the
            box outside the mask and of the mask outside the box; None if it is none. Where it is,
            some box is the best of all (`best_box`).
        penalty: What distance takes off; by default nothing.
        form: The name of its ratio in `softoverlap.scores`, if its definition is nothing else.
        facts: What is said of every `Overlap`.
    """

    _weights: Callable[..., tuple[float, float]] | None
    _penalty: Penalty | None
    _form: str | None

    def __init__(
        self,
        definition: Callable[..., Tensor],
        *,
        tversky_weights: Callable[..., tuple[float, float]] | None = None,
        penalty: Penalty | None = None,
        form: str | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(definition, symmetric=False, **facts)
        vars(self).update(_weights=tversky_weights, _penalty=penalty, _form=form)

    def __call__(
        self,
        masks: AnyMasks,
        boxes: Boxes,
        *,
        validate: bool | None = None,
        **parameters: float,
    ) -> Pairwise:
        """Score all pairs of masks and boxes.

        Args:
            masks: Probabilities, shape (K, *spatial), or K lesions, or a `SummedVolume` to reuse.
            boxes: Minima, then maxima, in voxels of the image, shape (N, 2 * ndim).
            parameters: Of the overlap, by name.
            empty: Score where the mask is empty and the box has no volume.
            validate: Look at the values too; by default on for CPU tensors.

        Returns:
            Score in its range, without unit, shape (K, N); of mask i and box i by `.pairs`.

        Raises:
            ValueError: If shapes disagree, a probability lies outside [0, 1], a box is inverted or
                an argument is out of range.
        """
        ratio = self.defined(parameters)

        def score(volume: SummedVolume, boxes: Tensor, dtype: torch.dtype) -> Tensor:
            found = all_ratios(ratio, volume, boxes, dtype, form=self._form)
            if self._penalty is None:
                return found
            return less_penalty(found, self._penalty, volume, boxes)

        return in_parts(score, masks, boxes, validate)

    @property
    def pairs(self) -> MaskBoxPairs:
        """The aligned form."""
        return self._pairs

    def _aligned(self) -> MaskBoxPairs:
        return MaskBoxPairs(self)

    @property
    def tversky_weights(self) -> tuple[float, float] | None:
        """Weights of the box outside the mask and of the mask outside the box; None if it has none.

        Examples:
            >>> from softoverlap import mask_box_diou, mask_box_iou
            >>> mask_box_iou.tversky_weights, mask_box_diou.tversky_weights
            ((1.0, 1.0), None)
        """
        return None if self._weights is None else self._weights(**self._parameters)

    def ratio(self, mass: Tensor, volume: Tensor, size: Tensor) -> Tensor:
        """The score, without any penalty, of masses, volumes and sizes that broadcast."""
        return self.defined({})(mass, volume, size)

    def of_rows(
        self, volume: SummedVolume, boxes: Tensor, rows: Tensor, columns: Tensor
    ) -> Aligned:
        """The score, float64, of masks and boxes by their numbers; nothing is checked."""
        if self._penalty is not None:
            raise ValueError(f"{self!r} has a penalty and is formed of all pairs")
        return ratio_of(self.defined({}), volume, boxes, rows, columns)

    def _of_pairs(
        self, masks: AnyMasks, boxes: Tensor, validate: bool | None, parameters: Mapping[str, Any]
    ) -> Tensor:
        ratio = self.defined(parameters, self.pairs.__name__)
        volume, moved = prepared(masks, boxes, validate)
        score = aligned_ratios(ratio, volume, moved).to(result_dtype(volume, boxes))
        if self._penalty is None:
            return score
        return score - aligned_penalty(self._penalty, volume, moved).to(score.dtype)


class MaskBoxPairs(Pairs):
    """Overlap of mask i and box i."""

    overlap: MaskBoxOverlap

    def __call__(
        self,
        masks: AnyMasks,
        boxes: Boxes,
        *,
        validate: bool | None = None,
        **parameters: float,
    ) -> Aligned:
        """Score mask i and box i.

        Args:
            masks: Probabilities, shape (N, *spatial), or N lesions, or a `SummedVolume`.
            boxes: As many, minima, then maxima, in voxels of the image, shape (N, 2 * ndim).
            parameters: Of the overlap, by name.
            empty: Score where the mask is empty and the box has no volume.
            validate: Look at the values too; by default on for CPU tensors.

        Returns:
            Score in its range, without unit, shape (N,).

        Raises:
            ValueError: As in the form for all pairs, or if masks and boxes are not as many.
        """
        return self.overlap._of_pairs(masks, boxes, validate, parameters)
