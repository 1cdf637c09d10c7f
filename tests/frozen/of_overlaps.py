"""Overlaps of masks, boxes and oriented boxes, box codes, tables and suppression."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tests.frozen.inputs import (
    DTYPES,
    SPATIAL,
    any_boxes,
    box_sets,
    lesions,
    mask_pairs,
    rotated_sets,
    uniform,
    with_gradients,
)
from tests.frozen.names import api

Entries = dict[str, Callable[[], Any]]

_MASKS = {"mask_dice": {}, "mask_iou": {}, "mask_tversky": {"alpha": 0.3, "beta": 0.7}}
_BOXES = {
    "iou": {},
    "dice": {},
    "iof": {},
    "giou": {},
    "diou": {},
    "ciou": {},
    "eiou": {},
    "nwd": {},
}
_MASK_BOXES = {
    "mass": {},
    "dice": {},
    "iou": {},
    "tversky": {"alpha": 0.3, "beta": 0.7},
    "diou": {},
}


def entries() -> Entries:
    """Every overlap by number of axes and type."""
    made: Entries = {}
    for name, dtype in DTYPES.items():
        for ndim in (1, 2, 3):
            calls = {**_overlaps(ndim, dtype), **_others(ndim, dtype)}
            made.update({f"{call}/{ndim}d/{name}": calls[call] for call in calls})
    sides = box_sets(2)
    made["box_ciou/gate"] = lambda: with_gradients(partial(api.box_ciou, gate=0.5), *sides)
    made["box_nwd/constant"] = lambda: with_gradients(partial(api.box_nwd, constant=3.0), *sides)
    made["box_iou/blocks"] = lambda: api.box_iou(*box_sets(3), block_size=2)
    return made


def _overlaps(ndim: int, dtype: torch.dtype) -> Entries:
    """Each overlap, pairwise and aligned."""
    made: Entries = {name: partial(_of_masks, name, ndim, dtype) for name in _MASKS}
    for form in ("", "pair_"):
        for name in _BOXES:
            made[f"box_{form}{name}"] = partial(_of_boxes, form + name, ndim, dtype)
        for name in _MASK_BOXES:
            made[f"mask_box_{form}{name}"] = partial(_of_mask_boxes, form + name, ndim, dtype)
        for name in ("iou", "iof") if ndim > 1 else ():
            made[f"rotated_box_{form}{name}"] = partial(_of_rotated, form + name, ndim, dtype)
    return made


def _others(ndim: int, dtype: torch.dtype) -> Entries:
    made: Entries = {
        "box_volume": partial(_volume, ndim, dtype),
        "encode_boxes": partial(_codes, ndim, dtype),
        "decode_boxes": partial(_decoded, ndim, dtype),
        "SummedVolume": partial(_summed, ndim, dtype),
    }
    if ndim > 1:
        made["rotated_nms"] = partial(_rotated_nms, ndim, dtype)
        for name in ("box_nms", "soft_nms", "weighted_box_clustering"):
            made[name] = partial(_suppressed, name, ndim, dtype)
    return made


def _of_masks(overlap: str, ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    function = partial(api[overlap], **_MASKS[overlap])
    made: dict[str, Any] = {
        kind: with_gradients(function, *(mask.to(dtype) for mask in pair))
        for kind, pair in mask_pairs(ndim).items()
    }
    made["empty_0"] = function(*mask_pairs(ndim)["both_empty"], empty=0.0)
    return made


def _of_boxes(overlap: str, ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    sides = [side.to(dtype) for side in box_sets(ndim)]
    whole = [side.long() for side in sides]
    function = api[f"box_{overlap}"]
    return {"real": with_gradients(function, *sides), "integers": function(*whole)}


def _masks(ndim: int, dtype: torch.dtype) -> Tensor:
    """Soft, hard, one voxel, empty, and soft again."""
    pairs = mask_pairs(ndim, batch=1, channels=1)
    kinds = [pairs["soft"][1], pairs["hard"][0], pairs["one_voxel"][0], pairs["both_empty"][0]]
    return torch.cat([*kinds, pairs["soft"][0]])[:, 0].to(dtype)


def _meeting(ndim: int) -> Tensor:
    """Real-valued, on voxel edges, flat, outside, and over everything; five."""
    extent = torch.tensor(SPATIAL[ndim]).double()
    low = torch.stack([extent * 0.13, extent // 3, extent * 0.4, extent + 2, extent * 0])
    high = torch.stack([extent * 0.71, extent // 3 + 2, extent * 0.4, extent + 4, extent])
    return torch.cat([low, high], dim=1)


def _of_mask_boxes(overlap: str, ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    options = _MASK_BOXES[overlap.removeprefix("pair_")]
    function, boxes = partial(api[f"mask_box_{overlap}"], **options), _meeting(ndim).to(dtype)
    of_lesions = lesions(ndim, dtype)
    near = torch.stack([lesion.box for lesion in of_lesions]) + 0.25
    return {
        "masks": with_gradients(function, _masks(ndim, dtype), boxes),
        "lesions": with_gradients(lambda moved: function(of_lesions, moved), near),
    }


def _summed(ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    tables = {
        "masks": api.SummedVolume.from_masks(_masks(ndim, dtype)),
        "lesions": api.SummedVolume.from_lesions(lesions(ndim, dtype)),
    }
    boxes = any_boxes(3, 4, ndim).to(dtype)
    return {
        kind: {
            "sizes": table.sizes,
            "error_bound": table.error_bound,
            "mass": api.mask_box_mass(table, boxes),
        }
        for kind, table in tables.items()
    }


def _volume(ndim: int, dtype: torch.dtype) -> Any:
    return with_gradients(api.box_volume, box_sets(ndim)[0].to(dtype))


def _codes(ndim: int, dtype: torch.dtype) -> Any:
    boxes, anchors = (any_boxes(seed, 5, ndim).to(dtype) for seed in (1, 2))
    weights = [2.0] * ndim + [5.0] * ndim
    return {
        "plain": with_gradients(api.encode_boxes, boxes, anchors),
        "weights": api.encode_boxes(boxes, anchors, weights=weights),
    }


def _decoded(ndim: int, dtype: torch.dtype) -> Any:
    codes = uniform(4, 5, 2 * ndim, low=-1, high=1).to(dtype)
    codes[0, -1] = 9.0
    anchors = any_boxes(2, 5, ndim).to(dtype)
    return {
        "plain": with_gradients(api.decode_boxes, codes, anchors),
        "clamp": api.decode_boxes(codes, anchors, clamp=0.5, weights=[2.0] * 2 * ndim),
    }


def _of_rotated(overlap: str, ndim: int, dtype: torch.dtype) -> Any:
    sides = [side.to(dtype) for side in rotated_sets(ndim)]
    return with_gradients(api[f"rotated_box_{overlap}"], *sides)


def _rotated_nms(ndim: int, dtype: torch.dtype) -> Any:
    boxes = torch.cat([*rotated_sets(ndim)]).to(dtype)
    return api.rotated_nms(boxes, uniform(5, len(boxes)).to(dtype), 0.3)


def _suppressed(kind: str, ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    boxes, scores = any_boxes(8, 40, ndim, extent=8.0).to(dtype), uniform(9, 40).to(dtype)
    labels = torch.arange(40) % 2
    function = api[kind]
    if kind == "soft_nms":
        return {
            decay: function(boxes, scores, labels, decay=decay) for decay in ("gaussian", "linear")
        }
    if kind == "box_nms":
        signed = function(boxes, scores, 0.1, overlap=api.box_diou)
        return {
            "plain": function(boxes, scores, 0.3),
            "labels": function(boxes, scores, 0.3, labels),
            "diou": signed,
        }
    expected = {"weights": scores + 0.5, "expected": torch.full((40,), 3)}
    return {
        "plain": function(boxes, scores, 0.3, labels),
        "weights": function(boxes, scores, 0.2, **expected),
    }
