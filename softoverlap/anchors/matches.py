"""What a matcher takes and returns: one interface, and the guarantee that all of them give."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from softoverlap._checks import check_boxes, check_probabilities, check_rank, should_validate
from softoverlap._types import plain
from softoverlap.anchors._reserve import reserve_one_each

BACKGROUND = -1
IGNORE = -2


@dataclass(frozen=True)
class Matches:
    """What each anchor shall learn.

    Args:
        quality: Quality of each anchor for its lesion, at most 1; for an anchor without lesion
            the highest for any. 0 and below mean that the anchor misses. Shape (N,).
        index: Lesion of each anchor, -1 for background, -2 to ignore it; int64, shape (N,).

    Raises:
        ValueError: If the shapes differ or are not (N,).

    Examples:
        >>> import torch
        >>> matches = Matches(torch.tensor([0.9, 0.0, 0.1]), torch.tensor([0, 1, -1]))
        >>> matches.positive
        tensor([ True,  True, False])
        >>> matches.fallback
        tensor([False,  True, False])
    """

    quality: Float[Tensor, "anchors"]
    index: Int[Tensor, "anchors"]

    def __post_init__(self) -> None:
        for name in ("quality", "index"):
            shape = tuple(getattr(self, name).shape)
            if shape != (self.index.numel(),):
                raise ValueError(
                    f"{name} must have shape (N,), one value an anchor, got shape {shape}"
                )

    @property
    def positive(self) -> Bool[Tensor, "anchors"]:
        """Anchors with a lesion."""
        return self.index >= 0

    @property
    def fallback(self) -> Bool[Tensor, "anchors"]:
        """Anchors that serve a lesion without meeting it, since no free anchor met it.

        No matcher picks an anchor of quality 0 or below for any other reason.
        """
        return self.positive & (self.quality <= 0)


@dataclass(frozen=True)
class Scene:
    """The lesions and anchors of one image, checked, as matchers see them."""

    quality: Float[Tensor, "lesions anchors"]
    boxes: Shaped[Tensor, "lesions coords"]
    anchors: Shaped[Tensor, "anchors coords"]
    levels: Sequence[int]
    anchors_per_place: Sequence[int]
    pred_scores: Float[Tensor, "lesions anchors"] | None
    pred_boxes: Shaped[Tensor, "anchors coords"] | None


class Matcher(ABC):
    """Which anchor serves which lesion; the base of all matchers.

    Quality is the overlap of an anchor with a lesion. 0 or below means that the anchor misses the
    lesion, so overlaps with a distance term, which are negative there, need no other matcher; an
    overlap that never reaches 0, like NWD, never misses. No matcher picks an anchor that misses,
    but for a lesion that gets none otherwise.
    """

    every_lesion = True
    """Whether a lesion that comes away empty is given an anchor."""

    uses_predictions = False
    """Whether it makes use of `pred_scores` and `pred_boxes`, else spared."""

    @abstractmethod
    def _index(self, scene: Scene) -> Int[Tensor, "anchors"]:
        """Lesion of each anchor, -1 for background, -2 to ignore it; at least one lesion."""

    def __call__(
        self,
        quality: Float[Tensor, "lesions anchors"],
        boxes: Shaped[Tensor, "lesions coords"],
        anchors: Shaped[Tensor, "anchors coords"],
        *,
        num_locations_per_level: Sequence[int],
        num_anchors_per_loc: int | Sequence[int],
        pred_scores: Float[Tensor, "lesions anchors"] | None = None,
        pred_boxes: Shaped[Tensor, "anchors coords"] | None = None,
        validate: bool | None = None,
    ) -> Matches:
        """Match the anchors of one image.

        A lesion without any positive gets the anchor of an assignment that serves as many lesions
        as possible with anchors that meet them, and of these the one of highest total quality;
        only a lesion that this leaves out takes the nearest free anchor (`Matches.fallback`). So
        every lesion has a positive, if there are at least as many anchors as lesions; if not, a
        warning says how many have none.

        Args:
            quality: Quality of each anchor for each lesion, at most 1, shape (M, N).
            boxes: Boxes of the lesions in voxels, shape (M, 2 * ndim).
            anchors: Candidate boxes in voxels, level by level, place by place, shape
                (N, 2 * ndim).
            num_locations_per_level: Places in each feature map, one number a level.
            num_anchors_per_loc: Anchors at each place, one number for all levels or one a level.
            pred_scores: Predicted probability, at each anchor, of each lesion's class, in [0, 1],
                shape (M, N); only for matchers that look at predictions.
            pred_boxes: Predicted box of each anchor in voxels, shape (N, 2 * ndim); likewise.
            validate: Look at the values too; by default on for CPU tensors.

        Returns:
            The matches of N anchors.

        Raises:
            ValueError: If the shapes do not fit together, a quality is NaN or above 1, or a
                predicted score or box is none.
        """
        per_place = on_each_level(num_anchors_per_loc, num_locations_per_level)
        check_matching(quality, boxes, anchors, num_locations_per_level, num_anchors_per_loc)
        check_predictions(quality, anchors, pred_scores, pred_boxes, validate)
        index = torch.full((len(anchors),), BACKGROUND, device=anchors.device)
        if not len(boxes):
            return Matches(torch.zeros(len(anchors), device=anchors.device), index)
        quality, boxes, anchors = plain(quality), plain(boxes), plain(anchors)
        best = quality.amax(dim=0)
        check_qualities(best, validate=validate)
        levels = _counts(num_locations_per_level, per_place)
        predicted = (None if p is None else plain(p).detach() for p in (pred_scores, pred_boxes))
        scene = Scene(quality, boxes, anchors, levels, per_place, *predicted)
        if len(anchors):
            index = self._index(scene)
        if self.every_lesion:
            index = reserve_one_each(index, quality, boxes, anchors)
        own = quality.gather(0, index.clamp(min=0)[None])[0]
        return Matches(own.where(index >= 0, best), index)


def resolve_claims(
    claims: Sequence[tuple[Tensor, Tensor, Tensor]], lesions: int, anchors: int
) -> Int[Tensor, "anchors"]:
    """Each anchor serves the lesion that claims it with the highest value, the first of equals.

    Claims are lesions, anchors and values, shape (claims,) each.
    """
    lesion, anchor, value = (torch.cat(part) for part in zip(*claims, strict=True))
    best = value.new_full((anchors,), -torch.inf).scatter_reduce(0, anchor, value, "amax")
    lesion = lesion.where(value == best[anchor], lesions)
    index = lesion.new_full((anchors,), lesions).scatter_reduce(0, anchor, lesion, "amin")
    return index.where(index < lesions, BACKGROUND)


def on_each_level(per_place: int | Sequence[int], levels: Sequence[int]) -> Sequence[int]:
    """Anchors at each place of each level."""
    if isinstance(per_place, int):
        return [per_place] * len(levels)
    if len(per_place) != len(levels):
        raise ValueError(
            f"num_anchors_per_loc must be a number, or one for each of {len(levels)} levels, "
            f"got {list(per_place)}"
        )
    return per_place


def _counts(places: Sequence[int], per_place: Sequence[int]) -> list[int]:
    """Anchors of each level."""
    return [count * each for count, each in zip(places, per_place, strict=True)]


def check_matching(
    quality: Tensor,
    boxes: Tensor,
    anchors: Tensor,
    num_locations_per_level: Sequence[int],
    num_anchors_per_loc: int | Sequence[int],
) -> None:
    """Whether what a matcher got fits together; values are not looked at."""
    check_rank(2, "(M, N)", quality=quality)
    check_boxes(anchors=anchors, validate=False)
    check_boxes(boxes=boxes, ndim=anchors.shape[1] // 2, validate=False)
    expected = (len(boxes), len(anchors))
    if tuple(quality.shape) != expected:
        raise ValueError(f"quality must have shape (M, N) = {expected}, got {tuple(quality.shape)}")
    per_place = on_each_level(num_anchors_per_loc, num_locations_per_level)
    if sum(_counts(num_locations_per_level, per_place)) != len(anchors):
        raise ValueError(
            f"num_locations_per_level times num_anchors_per_loc must give the number of anchors, "
            f"{len(anchors)}, got {list(num_locations_per_level)} times {num_anchors_per_loc}"
        )


def check_qualities(best: Float[Tensor, "anchors"], *, validate: bool | None) -> None:
    """Whether the highest quality of each anchor is a number, at most 1."""
    if should_validate(validate, best) and len(best) and not bool((best <= 1 + 1e-3).all()):
        raise ValueError(f"quality must be at most 1 and not NaN, got {best.max().item():g}")


def check_predictions(
    quality: Tensor,
    anchors: Tensor,
    pred_scores: Tensor | None,
    pred_boxes: Tensor | None,
    validate: bool | None,
) -> None:
    """Whether the predictions, if there are any, fit quality and anchors, and are predictions."""
    for name, given, like in (
        ("pred_scores", pred_scores, quality),
        ("pred_boxes", pred_boxes, anchors),
    ):
        if given is not None and given.shape != like.shape:
            raise ValueError(
                f"{name} must have shape {tuple(like.shape)}, got {tuple(given.shape)}"
            )
    if pred_scores is not None:
        check_probabilities(pred_scores=pred_scores, validate=validate)
    if pred_boxes is not None:
        check_boxes(pred_boxes=pred_boxes, ndim=anchors.shape[1] // 2, validate=validate)
