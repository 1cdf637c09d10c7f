"""The IoU-aware branch: its place in the box head, and the score that ranks detections."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap._checks import check_choice, is_finite
from softoverlap._types import plain
from softoverlap.losses import iou_aware_score

SCORES = ("cls", "product", "geometric")


def score_name(score: str | None, iou_branch: bool) -> str:
    """How detections are ranked: as asked, else by what the network predicts."""
    if score is None:
        return "geometric" if iou_branch else "cls"
    check_choice("score", score, SCORES)
    if score != "cls" and not iou_branch:
        raise ValueError(f"score must be 'cls' for a network without iou_branch, got {score!r}")
    return score


def split_codes(
    outputs: Float[Tensor, "*rows channels"], coords: int
) -> tuple[Float[Tensor, "*rows coords"], Float[Tensor, "*rows"] | None]:
    """Box codes, and the logits of the quality where the head is wide enough to hold them."""
    if outputs.shape[-1] == coords:
        return outputs, None
    if outputs.shape[-1] != coords + 1:
        raise ValueError(
            f"network must return {coords} numbers for each box, or {coords + 1} with an IoU "
            f"branch, got {outputs.shape[-1]}"
        )
    return outputs[..., :coords], outputs[..., coords]


def ranking_score(
    p: Float[Tensor, "*anchors classes"], quality: Float[Tensor, "*anchors"] | None, score: str
) -> Float[Tensor, "*anchors classes"]:
    """`p`, `p · q`, or its square root, which stays on the scale of probabilities."""
    if score == "cls" or quality is None:
        return p
    product = iou_aware_score(p, quality.sigmoid()[..., None], validate=False)
    return product if score == "product" else product.sqrt()


def ranking_logits(
    logits: Float[Tensor, "*anchors classes"],
    quality: Float[Tensor, "*anchors"] | None,
    *,
    score: str,
    are_logits: bool,
) -> Float[Tensor, "*anchors classes"]:
    """What the box selector takes in place of the logits; probabilities if it was told so."""
    if score == "cls" or quality is None:
        return logits
    p = logits.sigmoid() if are_logits else logits
    ranking = ranking_score(p, quality, score)
    return ranking.logit() if are_logits else ranking


def score_maps(
    scores: Float[Tensor, "batch anchors"],
    grids: Sequence[Sequence[int]],
    anchors_per_place: Sequence[int],
) -> list[Float[Tensor, "batch 1 *places"]]:
    """The highest score of any anchor at each place of each level."""
    layout = list(zip(grids, anchors_per_place, strict=True))
    levels = scores.split([math.prod(grid) * each for grid, each in layout], dim=1)
    return [
        level.view(len(level), 1, *grid, each).amax(dim=-1)
        for level, (grid, each) in zip(levels, layout, strict=True)
    ]


def in_rows(
    maps: Sequence[Tensor], anchors_per_place: Sequence[int]
) -> Float[Tensor, "batch anchors channels"]:
    """The maps of all levels behind each other: place by place in C order, anchor by anchor."""
    levels = [
        level.unflatten(1, (each, -1)).movedim((1, 2), (-2, -1)).flatten(1, -2)
        for level, each in zip(maps, anchors_per_place, strict=True)
    ]
    return torch.cat(levels, dim=1)


def finite_maps(maps: Sequence[Tensor]) -> list[Tensor]:
    """The maps in float32; NaN in them is an error."""
    wide = [plain(level).float().contiguous() for level in maps]
    if not all(map(is_finite, wide)):
        raise ValueError(
            "network must return finite values, got NaN or infinity: "
            "has the training diverged, or does its checkpoint hold NaN?"
        )
    return wide
