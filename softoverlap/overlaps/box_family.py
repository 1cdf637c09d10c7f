"""The families of overlaps of boxes: axis-aligned ones, and oriented ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap import boxes as geometry
from softoverlap._checks import check_boxes, check_rotated_boxes, check_same_rows, may_look
from softoverlap._periodic import Period, as_period, check_arcs
from softoverlap._types import FLOATS, Boxes, OtherBoxes, plain, score_dtype
from softoverlap.overlaps._aligned import aligned, aligned_if
from softoverlap.overlaps._blocks import pairwise
from softoverlap.overlaps._extremes import (
    CORNERS,
    TURNED,
    Layout,
    are_ordinary_boxes,
    in_wider_type,
    on_one_scale,
)
from softoverlap.overlaps.overlap import Overlap, Pairs

_WORTH_A_LOOK = 1 << 12  # pairs

Terms = tuple[Tensor, list[Tensor]]
"""A score in [0, 1], such as the IoU, and the penalties, each at least 0, that are taken off it.

A loss with a power (alpha-IoU) raises each of them by itself.
"""

Definition = Callable[[Tensor, Tensor], Terms]
Parameters = Mapping[str, Any]


class BoxLikeOverlap(Overlap):
    """Overlap of boxes of any kind: its definition returns `Terms` of boxes that broadcast.

    Args:
        definition: `Terms` of two sets of boxes that broadcast.
        scale_free: Whether it has no unit of length: boxes times any factor have the same score.
        stretch_free: Whether they also have it stretched along an axis, as volumes alone count.
        least_iou: From a threshold of at least 0 to the lowest IoU of boxes whose overlap exceeds
            it: suppression scores no others. By default 0, all that meet, for an overlap that is 0
            where boxes are apart, and None, all pairs, for others.
        facts: What is said of every `Overlap`.
    """

    scale_free: bool
    stretch_free: bool
    _layout: Layout
    _least_iou: Callable[[float], float] | None

    def __init__(
        self,
        definition: Callable[..., Terms],
        *,
        scale_free: bool = False,
        stretch_free: bool = False,
        least_iou: Callable[[float], float] | None = None,
        **facts: Any,
    ) -> None:
        super().__init__(definition, **facts)
        if least_iou is None and self.zero_apart:
            least_iou = _any_iou
        vars(self).update(
            scale_free=scale_free or stretch_free, stretch_free=stretch_free, _least_iou=least_iou
        )

    @property
    def least_iou(self) -> Callable[[float], float] | None:
        """As it was given; None, all pairs, where an axis comes round."""
        return None if self.period is not None else self._least_iou

    @property
    def period(self) -> Period:
        """After which length each axis comes round; None where none does."""
        return self._period({})

    @property
    def pairs(self) -> BoxPairs:
        """The aligned form."""
        return self._pairs

    def _aligned(self) -> BoxPairs:
        return BoxPairs(self)

    def check(self, validate: bool | None, parameters: Parameters, /, **boxes: Any) -> None:
        """Refuse what is not two sets of boxes of one layout; they are called as they are given."""
        raise NotImplementedError

    def _period(self, parameters: Parameters) -> Period:
        """After which lengths the axes come round."""
        return (parameters if "period" in parameters else self._parameters).get("period")

    def terms(self, validate: bool | None, **boxes: Any) -> Terms:
        """The score and the penalties of aligned boxes; they are called as they are given."""
        score, *penalties = self._of_rows(_listed, {}, self.name, validate, **boxes)
        return score, penalties

    def score(self, a: Tensor, b: Tensor) -> Tensor:
        """The score less the penalties of boxes that broadcast over their leading axes."""
        return _total(self._scaled(self.defined({}), {}), *in_wider_type(a, b, self._layout))

    def _of_all(
        self,
        pred: Tensor,
        target: Tensor,
        block_size: int | None,
        validate: bool | None,
        parameters: Parameters,
    ) -> Tensor:
        score = partial(_total, self._scaled(self.defined(parameters), parameters))
        self.check(validate, parameters, pred=pred, target=target)
        wide = in_wider_type(plain(pred), plain(target), self._layout)
        return pairwise(score, *wide, block_size).to(score_dtype(pred, target))

    def _of_pairs(
        self, pred: Tensor, target: Tensor, validate: bool | None, parameters: Parameters
    ) -> Tensor:
        called = self.pairs.__name__
        (total,) = self._of_rows(_alone, parameters, called, validate, pred=pred, target=target)
        return total.to(score_dtype(pred, target))

    def _of_rows(
        self,
        kind: Callable[[Definition, Tensor, Tensor], tuple[Tensor, ...]],
        parameters: Parameters,
        called: str,
        validate: bool | None,
        **boxes: Any,
    ) -> tuple[Tensor, ...]:
        """What `kind` makes of the terms of aligned boxes, which are looked at.

        Many are taken for valid boxes of ordinary size, and looked at as they are read. If that
        turns out wrong they are looked at first, and refused, or scored in another type.
        """
        found, definition = None, self.defined(parameters, called)
        plain_axes = self._layout is CORNERS and self._period(parameters) is None
        if plain_axes and _may_be_boxes(*boxes.values()):
            a, b = map(plain, boxes.values())
            found = aligned_if(are_ordinary_boxes, partial(kind, definition), a, b)
        if found is None:
            self.check(validate, parameters, **boxes)
            check_same_rows(**boxes)
            a, b = map(plain, boxes.values())
            a, b = in_wider_type(a, b, self._layout)  # for all blocks alike
            found = aligned(partial(kind, self._scaled(definition, parameters)), a, b)
        return found

    def _scaled(self, definition: Definition, parameters: Parameters) -> Definition:
        """The definition of boxes of any size; a period would have to be scaled, too."""
        if not self.scale_free or self._period(parameters) is not None:
            return definition
        scale = partial(on_one_scale, layout=self._layout, by_axis=self.stretch_free)
        return lambda a, b: definition(*scale(a, b))


def _total(definition: Definition, a: Tensor, b: Tensor) -> Tensor:
    """The score less the penalties."""
    result, penalties = definition(a, b)
    for penalty in penalties:
        result = result - penalty
    return result


def _alone(definition: Definition, a: Tensor, b: Tensor) -> tuple[Tensor]:
    """The same, as a tuple of one."""
    return (_total(definition, a, b),)


def _listed(definition: Definition, a: Tensor, b: Tensor) -> tuple[Tensor, ...]:
    """The score and the penalties, all in one tuple."""
    score, penalties = definition(a, b)
    return score, *penalties


def _may_be_boxes(a: object, b: object) -> bool:
    """Whether these are boxes as they should be, as far as no value is looked at."""
    return (
        isinstance(a, Tensor)
        and isinstance(b, Tensor)
        and a.dtype == b.dtype
        and a.dtype in FLOATS
        and a.layout == b.layout == torch.strided
        and a.ndim == 2
        and a.shape == b.shape
        and a.shape[1] > 0
        and a.shape[1] % 2 == 0
    )


class BoxPairs(Pairs):
    """Overlap of aligned boxes of any kind."""

    overlap: BoxLikeOverlap

    def __call__(
        self,
        pred: Boxes,
        target: Boxes,
        *,
        validate: bool | None = None,
        **parameters: Period,
    ) -> Float[Tensor, "boxes"]:
        """Score box i and box i.

        Args:
            pred: N boxes in the layout of the form for all pairs.
            target: As many, of the same layout.
            parameters: Of the overlap, by name.
            period: After which length each axis comes round, as in the form for all pairs.
            validate: Look at the values too; by default on for CPU tensors.

        Returns:
            Score in its range, without unit, shape (N,).

        Raises:
            ValueError: As in the form for all pairs, or if the rows are not as many.
        """
        return self.overlap._of_pairs(pred, target, validate, parameters)


def at_most_the_iou(threshold: float) -> float:
    """For `least_iou`: the overlap never exceeds the IoU."""
    return threshold


def score_of_nothing(
    a: Tensor, b: Tensor, size_a: Tensor, size_b: Tensor, *, period: Period = None
) -> Tensor | None:
    """1 where the boxes are equal, else 0: the score where there is no volume.

    None says that no size is zero: all pairs on the CPU, and many aligned ones, are looked at
    first, since comparing them and guarding the division cost half of the time of an IoU. On a GPU
    looking would wait for the device, in a graph it would break the graph.
    """
    looks = (a.shape != b.shape or len(a) > _WORTH_A_LOOK) and may_look(a, b)
    if looks and all(not size.numel() or size.detach().min() > 0 for size in (size_a, size_b)):
        return None
    dtype = torch.promote_types(size_a.dtype, size_b.dtype)
    return geometry.equal(a, b, period).to(dtype)


def _any_iou(threshold: float) -> float:
    return 0.0


class BoxOverlap(BoxLikeOverlap):
    """Overlap of axis-aligned boxes."""

    _layout = CORNERS

    def _values(self, given: Parameters, called: str) -> dict[str, Any]:
        if "period" in given:
            given = {**given, "period": as_period(given["period"])}
        return super()._values(given, called)

    def __call__(
        self,
        pred: Boxes,
        target: OtherBoxes,
        *,
        block_size: int | None = None,
        validate: bool | None = None,
        **parameters: Period,
    ) -> Float[Tensor, "boxes others"]:
        """Score all pairs of boxes.

        Args:
            pred: Minima, then maxima, shape (N, 2 * ndim).
            target: Same layout, shape (M, 2 * ndim).
            parameters: Of the overlap, by name.
            period: After which length each axis comes round, such as 360 for angles: one number
                for all, or one an axis, None where it never does. No edge is longer than that.
            block_size: Rows of `pred` that are scored at once, forward and backward; by default
                as many as keep the working memory small. The result does not depend on it.
            validate: Look at the values too; by default on for CPU tensors.

        Returns:
            Score in its range, without unit, shape (N, M); of aligned boxes by `.pairs`.

        Raises:
            ValueError: If a shape is wrong, a value is not finite, a maximum is below its minimum,
                an edge is longer than the period of its axis, or an argument is out of range.
        """
        return self._of_all(pred, target, block_size, validate, parameters)

    def check(self, validate: bool | None, parameters: Parameters, /, **boxes: Any) -> None:
        """Refuse what is not two sets of boxes of one layout; they are called as they are given."""
        (first, pred), (second, target) = boxes.items()
        check_boxes(**{first: pred}, validate=validate)
        check_boxes(**{second: target}, ndim=pred.shape[1] // 2, validate=validate)
        check_arcs(self._period(parameters), validate, **boxes)


class RotatedBoxOverlap(BoxLikeOverlap):
    """Overlap of oriented boxes."""

    _layout = TURNED

    def __call__(
        self,
        pred: Boxes,
        target: OtherBoxes,
        *,
        block_size: int | None = None,
        validate: bool | None = None,
        **parameters: float | None,
    ) -> Float[Tensor, "boxes others"]:
        """Score all pairs of boxes.

        Args:
            pred: `(cx, cy, w, h, angle)` or `(cx, cy, cz, w, h, d, yaw)`, radians
                counter-clockwise from axis 0 to axis 1, shape (N, 5) or (N, 7).
            target: Same layout, shape (M, 5) or (M, 7).
            parameters: Of the overlap, by name.
            block_size: Rows of `pred` that are scored at once, as in `box_iou`.
            validate: Look at the values too; by default on for CPU tensors.

        Returns:
            Score in its range, without unit, shape (N, M); of aligned boxes by `.pairs`.

        Raises:
            ValueError: If a shape is wrong, a value is not finite or an edge is negative.
        """
        return self._of_all(pred, target, block_size, validate, parameters)

    def check(self, validate: bool | None, parameters: Parameters, /, **boxes: Any) -> None:
        """Refuse what is not two sets of oriented boxes with as many parameters."""
        (first, pred), (second, target) = boxes.items()
        check_rotated_boxes(**{first: pred}, validate=validate)
        check_rotated_boxes(**{second: target}, parameters=pred.shape[1], validate=validate)
