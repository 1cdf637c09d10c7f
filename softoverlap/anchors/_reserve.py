"""One anchor for every lesion, reserved before the others are handed out."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from softoverlap import boxes as geometry
from softoverlap.anchors._assignment import best_assignment


def reserve_one_each(
    index: Int[Tensor, "anchors"],
    quality: Float[Tensor, "lesions anchors"],
    boxes: Shaped[Tensor, "lesions coords"],
    anchors: Shaped[Tensor, "anchors coords"],
) -> Int[Tensor, "anchors"]:
    """The index, changed so that every lesion has a positive; as it was if all have one.

    Lesions without positives, and those whose anchors they may take, each reserve one anchor: as
    many lesions as possible, then the highest total quality. A lesion gives up an anchor only to
    one without, and takes its own reserve only once it has lost all others.
    """
    served = torch.bincount(index[index >= 0], minlength=len(boxes)) > 0
    if bool(served.all()):
        return index
    starved = (~served).nonzero()[:, 0].tolist()
    lesions, columns = _rivals(starved, index, quality)
    rows = index.new_tensor(lesions)[:, None]
    chosen = best_assignment(quality[rows, columns]).tolist()
    reserved = {
        lesion: int(columns[column])
        for lesion, column in zip(lesions, chosen, strict=True)
        if column >= 0
    }
    index, empty = _hand_out(index, reserved, starved, len(boxes))
    _give_nearest(index, empty, quality, boxes, anchors)
    return index


def _rivals(
    starved: list[int], index: Int[Tensor, "anchors"], quality: Float[Tensor, "lesions anchors"]
) -> tuple[list[int], Int[Tensor, "columns"]]:
    """The lesions that compete, starting with the starved ones, and the anchors they compete for.

    M anchors a lesion are enough: of its M best one is always free.
    """
    lesions, fresh = list(starved), list(starved)
    columns = index.new_zeros(0)
    while fresh:
        for lesion in fresh:
            value, anchor = quality[lesion].nan_to_num(0).topk(min(quality.shape))
            columns = torch.cat([columns, anchor[value > 0]])
        columns = columns.unique()
        owners = index[columns]
        fresh = sorted(set(owners[owners >= 0].tolist()) - set(lesions))
        lesions += fresh
    return lesions, columns


def _hand_out(
    index: Int[Tensor, "anchors"], reserved: dict[int, int], starved: list[int], count: int
) -> tuple[Int[Tensor, "anchors"], list[int]]:
    """The starved lesions take their reserves, then those that lose their last anchor by that.

    Returned with the lesions that still have none.
    """
    index, empty, taken = index.clone(), starved, set()
    while waiting := [lesion for lesion in empty if lesion in reserved and lesion not in taken]:
        for lesion in waiting:
            index[reserved[lesion]] = lesion
        taken |= set(waiting)
        left = torch.bincount(index[index >= 0], minlength=count)
        empty = (left == 0).nonzero()[:, 0].tolist()
    return index, empty


def _give_nearest(
    index: Int[Tensor, "anchors"],
    lesions: list[int],
    quality: Tensor,
    boxes: Tensor,
    anchors: Tensor,
) -> None:
    """Fill the index: the nearest anchor without a lesion for each of these lesions.

    A quality below 0 ranks anchors that miss, and the highest is the nearest.
    """
    centres = geometry.centres(anchors)
    for position, lesion in enumerate(lesions):
        free = (index < 0).nonzero()[:, 0]
        if not len(free):
            free = _spare(index, quality)
        if not len(free):
            warnings.warn(
                f"{len(anchors)} anchors cannot serve {len(boxes)} lesions: "
                f"{len(lesions) - position} lesions have no positive anchor",
                stacklevel=4,
            )
            return
        distance = (centres[free] - geometry.centres(boxes[lesion : lesion + 1])).square().sum(1)
        missing = quality[lesion, free]
        if bool((missing < 0).any()):
            distance = -missing
        index[free[distance.argmin()]] = lesion


def _spare(
    index: Int[Tensor, "anchors"], quality: Float[Tensor, "lesions anchors"]
) -> Int[Tensor, "spare"]:
    """Anchors of lesions that have more than one, all but the best of each."""
    own = quality.gather(0, index[None])[0]
    order = own.argsort(descending=True, stable=True)
    order = order[index[order].argsort(stable=True)]
    first = torch.ones_like(index, dtype=torch.bool)
    first[1:] = index[order][1:] != index[order][:-1]
    return order[~first].sort().values
