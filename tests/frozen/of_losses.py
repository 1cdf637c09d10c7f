"""Losses, each with its gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from tests.frozen.inputs import (
    DTYPES,
    SPATIAL,
    any_boxes,
    box_sets,
    label_maps,
    lesions,
    mask_pairs,
    rotated_sets,
    uniform,
    with_gradients,
)
from tests.frozen.names import api

Entries = dict[str, Callable[[], Any]]

_OF_MASKS = ("SoftDiceLoss", "SoftIoULoss", "SoftTverskyLoss", "SoftDiceCELoss")
_OF_BOXES = ("BoxIoULoss", "BoxGIoULoss", "BoxDIoULoss", "BoxCIoULoss", "BoxEIoULoss", "BoxNWDLoss")
_OF_MASK_BOXES = ("MaskBoxDiceLoss", "MaskBoxIoULoss")


def entries() -> Entries:
    """Every loss by number of axes and type."""
    made: Entries = {}
    for name, dtype in DTYPES.items():
        for ndim in (1, 2, 3):
            place = f"{ndim}d/{name}"
            for loss in _OF_MASKS:
                made[f"{loss}/{place}"] = partial(_of_masks, loss, ndim, dtype)
            for loss in _OF_BOXES:
                made[f"{loss}/{place}"] = partial(_of_boxes, loss, ndim, dtype)
            for loss in _OF_MASK_BOXES:
                made[f"{loss}/{place}"] = partial(_of_mask_boxes, loss, ndim, dtype)
            made[f"BoxProjectionLoss/{place}"] = partial(
                _weak, "BoxProjectionLoss", (), ndim, dtype
            )
            made[f"SizePriorLoss/{place}"] = partial(
                _weak, "SizePriorLoss", (0.2, 0.4), ndim, dtype
            )
            made[f"PairwiseAffinityLoss/{place}"] = partial(_affinity, ndim, dtype)
            made[f"CoarseToFineBoxLoss/{place}"] = partial(_coarse_to_fine, ndim, dtype)
        for loss in ("VarifocalLoss", "QualityFocalLoss"):
            made[f"{loss}/{name}"] = partial(_quality, loss, dtype)
        made[f"iou_aware_score/{name}"] = partial(_score, dtype)
        for ndim in (2, 3):
            made[f"RotatedBoxIoULoss/{ndim}d/{name}"] = partial(_rotated, ndim, dtype)
    made.update({f"{loss}/options": partial(_options, loss) for loss in _OF_MASKS})
    return made


def _of_masks(loss: str, ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    kinds = {
        kind: with_gradients(api[loss](), *(mask.to(dtype) for mask in pair))
        for kind, pair in mask_pairs(ndim).items()
        if loss != "SoftDiceCELoss"
    }
    logits = uniform(40 + ndim, 2, 3, *SPATIAL[ndim], low=-3, high=3).to(dtype)
    labels = label_maps(ndim, classes=3)[1]
    made = api[loss](softmax=True, to_onehot_y=True)
    soft = uniform(50 + ndim, *logits.shape).to(dtype)
    return {
        **kinds,
        "labels": with_gradients(lambda x: made(x, labels), logits),
        "sigmoid": with_gradients(api[loss](sigmoid=True), logits, soft),
    }


def _options(loss: str) -> dict[str, Any]:
    """The arguments that stand in for MONAI's."""
    logits, target = uniform(60, 2, 3, 8, 9, low=-3, high=3), uniform(61, 2, 3, 8, 9)
    options: dict[str, dict[str, Any]] = {
        "no_background": {"include_background": False},
        "sum": {"reduction": "sum"},
        "none": {"reduction": "none"},
        "batch": {"batch": True},
        "smooth": {"smooth_nr": 0.1, "smooth_dr": 1.0},
        "min": {"intersection": "min"},
        "product": {"intersection": "product"},
    }
    if loss == "SoftDiceCELoss":
        del options["none"]
    if loss == "SoftTverskyLoss":
        options["weights"] = {"alpha": 0.2, "beta": 0.9}
    else:
        options["squared"] = {"squared_pred": True}
        options["weight"] = {"weight": torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)}
    if loss == "SoftDiceCELoss":
        options["lambdas"] = {"lambda_dice": 0.3, "lambda_ce": 2.0, "label_smoothing": 0.1}
    return {
        kind: with_gradients(api[loss](sigmoid=True, **chosen), logits, target)
        for kind, chosen in options.items()
    }


def _of_boxes(loss: str, ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    sides, weight = [side.to(dtype) for side in box_sets(ndim)], uniform(70, 7).to(dtype)
    focal = api[loss]("none", focal_gamma=1.5, alpha=2.0)
    return {
        "none": with_gradients(api[loss]("none"), *sides),
        "mean": with_gradients(api[loss](), *sides),
        "weight": with_gradients(api[loss]("sum"), *sides, weight),
        "focal": with_gradients(focal, *(any_boxes(seed, 5, ndim).to(dtype) for seed in (11, 12))),
    }


def _rotated(ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    sides = [side.to(dtype) for side in rotated_sets(ndim)]
    return {kind: with_gradients(api.RotatedBoxIoULoss(kind), *sides) for kind in ("none", "mean")}


def _of_mask_boxes(loss: str, ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    pairs = mask_pairs(ndim, batch=3, channels=1)
    masks = pairs["soft"][1][:, 0].to(dtype)
    extent = torch.tensor(SPATIAL[ndim]).double()
    low = torch.stack([extent * 0.13, extent // 3, extent + 2])
    boxes = torch.cat([low, low + extent * 0.4], dim=1).to(dtype)
    of_lesions = lesions(ndim, dtype)
    near = torch.stack([lesion.box for lesion in of_lesions]) + 0.25
    relative = torch.full((3,), 0.9, dtype=dtype)
    made = api[loss]("none", distance_weight=0.5)
    return {
        "masks": with_gradients(api[loss]("none"), masks, boxes),
        "mean": with_gradients(api[loss](), masks, boxes),
        "lesions": with_gradients(lambda moved: made(of_lesions, moved), near),
        "best": with_gradients(lambda moved: made(of_lesions, moved, best=relative), near),
    }


def _weak(loss: str, arguments: tuple, ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    masks, boxes = uniform(80, 3, *SPATIAL[ndim]).to(dtype), any_boxes(81, 3, ndim, 2.0).to(dtype)
    weight = uniform(82, 3).to(dtype)
    made = {kind: api[loss](*arguments, reduction=kind) for kind in ("none", "mean")}
    return {
        "none": with_gradients(lambda x: made["none"](x, boxes), masks),
        "weight": with_gradients(lambda x: made["mean"](x, boxes, weight), masks),
        "hard": made["none"]((masks > 0.5).to(dtype), boxes),
    }


def _affinity(ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    masks, images = (uniform(seed, 3, *SPATIAL[ndim]).to(dtype) for seed in (83, 84))
    boxes = any_boxes(81, 3, ndim, 2.0).to(dtype)
    made = api.PairwiseAffinityLoss("none", scale=0.7, dilation=2)
    return {
        "none": with_gradients(lambda x: made(x, images, boxes), masks),
        "mean": with_gradients(lambda x: api.PairwiseAffinityLoss()(x, images, boxes), masks),
    }


def _coarse_to_fine(ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    """Six steps of a training: coarse, between, fine; then evaluation."""
    codes = [uniform(seed, 4, 2 * ndim, low=-0.5, high=0.5).to(dtype) for seed in (85, 86)]
    loss = api.CoarseToFineBoxLoss("none", start=2, end=5)
    made: dict[str, Any] = {f"step_{step}": with_gradients(loss, *codes) for step in range(6)}
    made["evaluation"] = loss.eval()(*codes)
    return made


def _quality(loss: str, dtype: torch.dtype) -> dict[str, Any]:
    logits, target = uniform(87, 4, 5, low=-4, high=4).to(dtype), uniform(88, 4, 5).to(dtype)
    target = torch.where(target < 0.5, 0, target)
    return {
        "none": with_gradients(lambda x: api[loss]("none")(x, target), logits),
        "gamma": with_gradients(lambda x: api[loss](gamma=1.5)(x, target), logits),
    }


def _score(dtype: torch.dtype) -> Any:
    p, q = (uniform(seed, 9).to(dtype) for seed in (89, 90))
    return with_gradients(lambda p, q: api.iou_aware_score(p, q, 0.7), p, q)
