"""Overlap of soft masks and balls: Dice and IoU, and the mass behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap import balls as geometry, scores
from softoverlap._checks import check_boxes, check_probabilities, check_tensors
from softoverlap._types import Boxes, LesionMasks, plain, score_dtype
from softoverlap.lesion import Lesion
from softoverlap.overlaps._ball_mass import mass_in_balls
from softoverlap.overlaps._mask_box_scores import Aligned, Pairwise, Ratio, check_as_many
from softoverlap.overlaps.overlap import Overlap, Pairs

MasksOrLesions = LesionMasks | Sequence[Lesion]


class MaskBallOverlap(Overlap):
    """Overlap of a soft mask and a ball, which is the prediction.

    Args:
        definition: A score from the mass of the mask in the ball, the volume of the ball and the
            size of the mask; `empty` is one of its parameters.
        facts: What is said of every `Overlap`.
    """

    def __init__(self, definition: Ratio, **facts: Any) -> None:
        super().__init__(definition, symmetric=False, **facts)

    def __call__(
        self,
        masks: MasksOrLesions,
        boxes: Boxes,
        *,
        validate: bool | None = None,
        **parameters: float,
    ) -> Pairwise:
        """Score all pairs of masks and balls.

        The cost of a ball is that of the voxels around it, for each mask. On a GPU the call waits
        once, to learn which voxels these are.

        Args:
            masks: Probabilities, shape (K, *spatial) with two or three axes, or K lesions.
            boxes: Minima, then maxima, in voxels of the image, shape (N, 2 * ndim): those around
                the balls. Where a ball in mm spans more voxels along one axis than along another,
                its box is no cube, and it is met as the ellipsoid that it is there.
            parameters: Of the overlap, by name.
            empty: Score where the mask is empty and the ball has no volume.
            validate: Look at the values too; by default on for CPU tensors.

        Returns:
            Score in its range, without unit, shape (K, N); of mask i and ball i by `.pairs`.

        Raises:
            TypeError: If an argument has a type that is not taken.
            ValueError: If shapes disagree, a probability lies outside [0, 1], a box is inverted or
                an argument is out of range.
        """
        return self._scored(masks, boxes, validate, self.defined(parameters))

    @property
    def pairs(self) -> MaskBallPairs:
        """The aligned form."""
        return self._pairs

    def _aligned(self) -> MaskBallPairs:
        return MaskBallPairs(self)

    def _of_pairs(
        self,
        masks: MasksOrLesions,
        boxes: Tensor,
        validate: bool | None,
        parameters: Mapping[str, Any],
    ) -> Tensor:
        definition = self.defined(parameters, self.pairs.__name__)
        return self._scored(masks, boxes, validate, definition, aligned=True)

    @staticmethod
    def _scored(
        masks: MasksOrLesions,
        boxes: Tensor,
        validate: bool | None,
        definition: Ratio,
        *,
        aligned: bool = False,
    ) -> Tensor:
        stacks, boxes = _prepared(masks, boxes, validate, aligned)
        mass = _mass(stacks, boxes, aligned)
        size = [each.to(torch.float64).flatten(1).sum(dim=1) for each, _ in stacks]
        size = torch.cat([mass.new_zeros(0), *size])
        volume = geometry.volume(boxes)
        return definition(mass, volume, size if aligned else size[:, None]).to(
            _dtype(stacks, boxes)
        )


class MaskBallPairs(Pairs):
    """Overlap of mask i and ball i."""

    overlap: MaskBallOverlap

    def __call__(
        self,
        masks: MasksOrLesions,
        boxes: Boxes,
        *,
        validate: bool | None = None,
        **parameters: float,
    ) -> Aligned:
        """Score mask i and ball i.

        Args:
            masks: Probabilities, shape (N, *spatial), or N lesions.
            boxes: As many, around the balls, in voxels of the image, shape (N, 2 * ndim).
            parameters: Of the overlap, by name.
            empty: Score where the mask is empty and the ball has no volume.
            validate: Look at the values too; by default on for CPU tensors.

        Returns:
            Score in its range, without unit, shape (N,).

        Raises:
            TypeError: If an argument has a type that is not taken.
            ValueError: As in the form for all pairs, or if masks and balls are not as many.
        """
        return self.overlap._of_pairs(masks, boxes, validate, parameters)


def mask_ball_mass(
    masks: MasksOrLesions, boxes: Boxes, *, validate: bool | None = None
) -> Pairwise:
    """Mass of each mask inside each ball: the integral of the probability over the ball.

    Args:
        masks: Probabilities, shape (K, *spatial) with up to three axes, or K lesions.
        boxes: Around the balls, as in `mask_ball_dice`, shape (N, 2 * ndim).
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Mass in voxels, from 0 to the size of the mask, shape (K, N), in float32 or wider. What
        each voxel shares with the ball is right to 1e-14 of the ball's volume, before rounding to
        that type. Gradients flow to the masks and to the boxes.

    Raises:
        TypeError: If an argument has a type that is not taken.
        ValueError: If shapes disagree, a probability lies outside [0, 1] or a box is inverted.

    References:
        Strobl et al., Exact calculation of the overlap volume of spheres and mesh elements,
        Journal of Computational Physics 311, 2016: of cells of any form.

    Examples:
        A quarter of a disc of area π in a whole voxel, another one in half a voxel.

        >>> import torch
        >>> mask = torch.tensor([[[1.0, 0.5], [0.0, 0.0]]])
        >>> mask_ball_mass(mask, torch.tensor([[0.0, 0.0, 2.0, 2.0]]))
        tensor([[1.1781]])
    """
    stacks, boxes = _prepared(masks, boxes, validate, aligned=False)
    mass = _mass(stacks, boxes, aligned=False)
    return mass.to(torch.promote_types(_dtype(stacks, boxes), torch.float32))


@partial(MaskBallOverlap, zero_apart=True)
def mask_ball_dice(mass: Tensor, volume: Tensor, size: Tensor, *, empty: float = 1.0) -> Tensor:
    """Soft Dice score of a mask and a ball.

    Parts of the ball outside the image hold no mass but count in its volume.

    Examples:
        >>> import torch
        >>> from softoverlap import boxes_of_balls
        >>> mask = torch.zeros(1, 4, 4, 4)
        >>> mask[:, 1:3, 1:3, 1:3] = 0.5
        >>> nodule = boxes_of_balls(torch.tensor([[2.0, 2.0, 2.0, 2.0]]))  # centre, diameter
        >>> mask_ball_dice(mask, nodule), mask_ball_dice.pairs(mask, nodule)
        (tensor([[0.5115]]), tensor([0.5115]))
    """
    return scores.dice(mass, volume, size, empty=empty)


@partial(MaskBallOverlap, zero_apart=True)
def mask_ball_iou(mass: Tensor, volume: Tensor, size: Tensor, *, empty: float = 1.0) -> Tensor:
    """Soft IoU of a mask and a ball; see `mask_ball_dice`.

    Examples:
        >>> import torch
        >>> mask = torch.ones(1, 2, 2)
        >>> disc = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        >>> mask_ball_iou(mask, disc), mask_ball_iou.pairs(mask, disc)
        (tensor([[0.7854]]), tensor([0.7854]))
    """
    return scores.iou(mass, volume, size, empty=empty)


mask_ball_pair_dice, mask_ball_pair_iou = mask_ball_dice.pairs, mask_ball_iou.pairs

Stack = tuple[Tensor, list[int]]
"""Masks (k, *spatial) of one place, and the index of their first voxel in the image."""


def _prepared(
    masks: MasksOrLesions, boxes: Tensor, validate: bool | None, aligned: bool
) -> tuple[list[Stack], Tensor]:
    """Masks, and boxes as a plain tensor; all checked."""
    geometry.check_ball_boxes(partial(check_boxes, boxes=boxes, validate=validate), boxes=boxes)
    boxes, ndim = plain(boxes), boxes.shape[1] // 2
    if isinstance(masks, Tensor):
        check_tensors(masks=masks)
        stacks = [(plain(masks), [0] * ndim)]
    else:
        stacks = [(plain(each.crop)[None], each.offset.tolist()) for each in _lesions(masks)]
    for each, _ in stacks:
        check_probabilities(masks=each, validate=validate)
        if each.ndim != ndim + 1 or ndim > 3:
            raise ValueError(
                f"masks must have shape (K, *spatial) with up to three spatial axes, {ndim} for "
                f"boxes of shape {tuple(boxes.shape)}, got {tuple(each.shape)}"
            )
        if each.device != boxes.device:
            raise ValueError(
                f"boxes must be on {each.device}, where the masks are, got {boxes.device}"
            )
    if aligned:
        check_as_many(masks, boxes)
    return stacks, boxes


def _lesions(masks: Sequence[Lesion]) -> list[Lesion]:
    if not isinstance(masks, Sequence):
        raise TypeError(f"masks must be a tensor or a list of Lesion, got {type(masks).__name__}")
    for each in masks:
        if not isinstance(each, Lesion):
            raise TypeError(f"masks must hold Lesion, got {type(each).__name__}")
    return list(masks)


def _mass(stacks: Sequence[Stack], boxes: Tensor, aligned: bool) -> Float[Tensor, "*pairs"]:
    """Mass of all masks in all balls, or of mask i in ball i, float64."""
    wide, found, first = boxes.to(torch.float64), [], 0
    for each, offset in stacks:
        own = wide[first : first + len(each)] if aligned else wide
        first += len(each)
        found.append(mass_in_balls(each, own - own.new_tensor(offset * 2), aligned=aligned))
    return torch.cat(found) if found else wide.new_zeros((0,) if aligned else (0, len(wide)))


def _dtype(stacks: Sequence[Stack], boxes: Tensor) -> torch.dtype:
    return score_dtype(*[each for each, _ in stacks], boxes)
