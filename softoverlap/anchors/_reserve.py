"""One anchor for every lesion, reserved before the others are handed out."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from softoverlap import boxes as geometry


def reserve_one_each(
    index: Int[Tensor, "anchors"],
    quality: Float[Tensor, "lesions anchors"],
    boxes: Shaped[Tensor, "lesions coords"],
    anchors: Shaped[Tensor, "anchors coords"],
) -> Int[Tensor, "anchors"]:
    """The index, changed so that every lesion has a positive; as it was if all have one.

    An augmenting path may take an anchor from a lesion that can do with another, so each lesion
    with positives reserves one of them (its best, if it may). M candidates a lesion are enough
    for an assignment of largest cardinality: a lesion with M of them always finds a free one.
    """
    count = len(boxes)
    served = torch.bincount(index[index >= 0], minlength=count) > 0
    if bool(served.all()):
        return index
    reserved = _assign(_candidates(index, quality), (~served).tolist())
    index = index.clone()
    for lesion, anchor in reserved.items():
        index[anchor] = lesion
    _give_nearest(index, [k for k in range(count) if k not in reserved], boxes, anchors)
    return index


def _candidates(
    index: Int[Tensor, "anchors"], quality: Float[Tensor, "lesions anchors"]
) -> list[list[int]]:
    """Per lesion up to M anchors that overlap it: its own positives first, then by quality."""
    lesions = torch.arange(len(quality), device=quality.device)
    preference = quality + 2.0 * (index[None] == lesions[:, None])
    preference = preference.where(quality > 0, 0.0)
    top = preference.topk(min(quality.shape), dim=1)
    return [
        [anchor for anchor, value in zip(anchors, values, strict=True) if value > 0]
        for anchors, values in zip(top.indices.tolist(), top.values.tolist(), strict=True)
    ]


def _assign(candidates: list[list[int]], starved: list[bool]) -> dict[int, int]:
    """Lesion -> anchor for as many lesions as possible; lesions with few candidates choose first.

    References: H. Kuhn, The Hungarian method for the assignment problem, 1955 (alternating paths).
    """
    owner: dict[int, int] = {}
    order = sorted(range(len(candidates)), key=lambda k: (not starved[k], len(candidates[k])))
    for lesion in order:
        _augment(lesion, candidates, owner)
    return {lesion: anchor for anchor, lesion in owner.items()}


def _augment(lesion: int, candidates: list[list[int]], owner: dict[int, int]) -> None:
    """Breadth-first search for a free anchor; on the way back every owner moves on by one."""
    came_from: dict[int, int] = {}
    queue = [lesion]
    for seeker in queue:
        for anchor in candidates[seeker]:
            if anchor in came_from:
                continue
            came_from[anchor] = seeker
            if anchor not in owner:
                _move_on(anchor, lesion, came_from, owner)
                return
            queue.append(owner[anchor])


def _move_on(anchor: int, lesion: int, came_from: dict[int, int], owner: dict[int, int]) -> None:
    held = {kept: taken for taken, kept in owner.items()}
    while True:
        seeker = came_from[anchor]
        owner[anchor] = seeker
        if seeker == lesion:
            return
        anchor = held[seeker]


def _give_nearest(
    index: Int[Tensor, "anchors"], lesions: list[int], boxes: Tensor, anchors: Tensor
) -> None:
    """Fill the index: the nearest anchor without a lesion for each of these lesions."""
    centres = geometry.centres(anchors)
    for position, lesion in enumerate(lesions):
        free = (index < 0).nonzero()[:, 0]
        if not len(free):
            free = _spare(index)
        if not len(free):
            warnings.warn(
                f"{len(anchors)} anchors cannot serve {len(boxes)} lesions: "
                f"{len(lesions) - position} lesions have no positive anchor",
                stacklevel=4,
            )
            return
        distance = (centres[free] - geometry.centres(boxes[lesion : lesion + 1])).square().sum(1)
        index[free[distance.argmin()]] = lesion


def _spare(index: Int[Tensor, "anchors"]) -> Int[Tensor, "spare"]:
    """Anchors of lesions that have more than one."""
    return (torch.bincount(index)[index] > 1).nonzero()[:, 0]
