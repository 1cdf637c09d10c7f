"""Measures of found boxes, anchors and their matchers, the detector."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tests.frozen.inputs import DTYPES, any_boxes, generator, lesions, uniform
from tests.frozen.names import api

Entries = dict[str, Callable[[], Any]]
Scan = dict[str, Any]

_HITS = (
    "box_iou",
    "box_dice",
    "box_iof",
    "box_nwd",
    "box_giou",
    "box_diou",
    "box_ciou",
    "box_eiou",
)
_MASK_HITS = (
    "mask_box_dice",
    "mask_box_iou",
    "mask_box_tversky",
    "mask_box_diou",
    "centre_in_mask",
)
_MASK_HITS += tuple(f"relative_mask_box_{ratio}" for ratio in ("dice", "iou", "tversky"))
_RATIOS = ("dice", "iou", "tversky", "diou")
_MATCHERS: dict[str, list[tuple]] = {
    "MaxOverlapMatcher": [(0.2, 0.4)],
    "ATSSMatcher": [(4,), (2,)],
    "TaskAlignedMatcher": [(5,), (3, 0.5, 2.0)],
    "SimOTAMatcher": [(), (4, 1.0)],
}


def entries() -> Entries:
    """Scans, anchors, a small detector."""
    made: Entries = {}
    for name, dtype in DTYPES.items():
        for ndim in (1, 2, 3):
            made[f"anchor_quality/{ndim}d/{name}"] = partial(_quality, ndim, dtype)
        for ndim in (2, 3):
            for measure in ("compute_froc", "compute_average_precision", "compute_average_recall"):
                made[f"{measure}/{ndim}d/{name}"] = partial(_pooled, measure, ndim, dtype)
            made[f"compute_score_existence_correlation/{ndim}d/{name}"] = partial(
                _correlation, ndim, dtype
            )
            made[f"match_scan/{ndim}d/{name}"] = partial(_matched_scans, ndim, dtype)
            for matcher in _MATCHERS:
                made[f"{matcher}/{ndim}d/{name}"] = partial(_matched, matcher, ndim, dtype)
        made[f"AnchorWeighting/{name}"] = partial(_weighted, dtype)
        made[f"Matches/{name}"] = partial(_matches, dtype)
    for metric in ("FROCMetric", "BoxAPMetric", "BoxARMetric", "ScoreExistenceMetric"):
        made[f"{metric}/class"] = partial(_class, metric)
    made["match_scan/hits"] = _hits
    made["anchor_quality/labels"] = _of_label_map
    made["lesion_target/3d"] = lambda: _tensors(api.lesion_target(lesions(3)))
    made["lesion_retinanet/3d"] = _network_outputs
    made["SoftRetinaNetDetector/3d"] = _detector_losses
    return made


def scans(ndim: int, dtype: torch.dtype, count: int = 8) -> tuple[list[Scan], list[Scan]]:
    """Found boxes near and far from lesions of two classes; scans without either among them."""
    predictions, targets = [], []
    for number in range(count):
        lesion_count, extra = number % 4, (number * 3) % 5
        truth = any_boxes(200 + number, lesion_count, ndim, 20.0)
        moved = truth + uniform(300 + number, lesion_count, 1, low=-1.2, high=1.2)
        boxes = torch.cat([moved, moved + 0.5, any_boxes(400 + number, extra, ndim, 20.0)])
        numbers = generator(600 + number)
        labels = torch.from_numpy(numbers.integers(0, 2, lesion_count))
        others = torch.from_numpy(numbers.integers(0, 2, extra))
        scores = torch.from_numpy(numbers.random(len(boxes)).round(1))
        predictions.append(
            {
                "box": boxes.to(dtype),
                "label": torch.cat([labels, labels, others]),
                "label_scores": scores.to(dtype),
            }
        )
        existence = torch.from_numpy(numbers.integers(0, 6, lesion_count) / 5).to(dtype)
        targets.append({"box": truth.to(dtype), "label": labels, "existence": existence})
    return predictions, targets


def _pooled(measure: str, ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    call = partial(api[measure], *scans(ndim, dtype))
    sizes = {"size_edges": (10.0, 40.0), "class_names": ["one", "two"]}
    made: dict[str, Any] = {"default": call(), "sizes": call(**sizes), "giou": call(hit="box_giou")}
    if measure == "compute_froc":
        made["plain"] = call(weight=None, threshold=0.5, per_class=True)
        made["interval"] = call(resamples=50, seed=3)
    elif measure == "compute_average_precision":
        made["coco"] = call(thresholds="coco")
        made["spacing"] = call(spacing=2.0, size_edges=(80.0,))
    else:
        made["few"] = call(thresholds=(0.1, 0.5), max_detections=(1, 2))
    return made


def _correlation(ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    call = partial(api.compute_score_existence_correlation, *scans(ndim, dtype))
    return {kind: call(false_positives=kind) for kind in ("omit", "zero")}


def _matched_scans(ndim: int, dtype: torch.dtype) -> list[Any]:
    return [list(api.match_scan(*pair)) for pair in zip(*scans(ndim, dtype), strict=True)]


def _hits() -> dict[str, Any]:
    """Every criterion on a scan of soft lesions."""
    target = api.lesion_target(lesions(3))
    boxes = torch.cat([target["boxes"] + shift for shift in (0.3, -1.0, 2.0)])
    prediction = {
        "box": boxes,
        "label": target["labels"].repeat(3),
        "label_scores": uniform(7, len(boxes)).float(),
    }
    return {
        hit: list(api.match_scan(prediction, target, hit=hit, threshold=0.3))
        for hit in (*_HITS, *_MASK_HITS)
    }


def _class(name: str) -> dict[str, Any]:
    more = {
        "FROCMetric": "curve",
        "BoxAPMetric": "average_precision",
    }
    metric = api[name]()
    predictions, targets = scans(3, torch.float64)
    metric(predictions[:3], targets[:3])
    metric(predictions[3:], targets[3:])
    result = getattr(metric, more.get(name, "details"))()
    return {"aggregate": metric.aggregate(), "result": result, "buffer": metric.get_buffer()}


def _grid(ndim: int, dtype: torch.dtype) -> tuple[Tensor, dict[str, Any]]:
    """Anchors of two levels, two at each place."""
    made, places = [], []
    for stride, edge in ((2, 3.0), (4, 6.0)):
        axis = torch.arange(0, 16, stride).double() + stride / 2
        centres = torch.stack(torch.meshgrid(*[axis] * ndim, indexing="ij"), dim=-1).flatten(0, -2)
        half = torch.tensor([[edge / 2], [edge * 0.8]]).double()
        made.append(
            torch.cat([centres[:, None] - half, centres[:, None] + half], dim=2).flatten(0, 1)
        )
        places.append(len(centres))
    layout = {"num_locations_per_level": places, "num_anchors_per_loc": 2}
    return torch.cat(made).to(dtype), layout


def _quality(ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    of_lesions, (anchors, _) = lesions(ndim, dtype), _grid(ndim, dtype)
    call = partial(api.anchor_quality, of_lesions, anchors)
    uneven = api.mask_box_tversky.with_(alpha=0.3, beta=0.7)
    meant = {name: uneven if name == "tversky" else name for name in (*_RATIOS, *_HITS)}
    made: dict[str, Any] = {name: call(overlap=overlap) for name, overlap in meant.items()}
    for name in _RATIOS:
        made[f"{name}_as_it_is"] = call(overlap=meant[name], normalize=None)
    made["sparse"] = call(overlap="dice", sparse=True)
    masks = uniform(9, 2, *[16] * ndim).square().to(dtype)
    masks[:, 9:] = 0
    made["masks"] = api.anchor_quality(masks, anchors[::7], overlap="iou")
    return made


def _of_label_map() -> dict[str, Any]:
    mask = uniform(10, 16, 16)
    labels = torch.zeros(16, 16, dtype=torch.long)
    labels[2:6, 3:8], labels[9:15, 10:12] = 3, 1
    anchors, _ = _grid(2, torch.float64)
    call = partial(api.anchor_quality, mask, anchors, labels=labels)
    return {overlap: call(overlap=overlap) for overlap in ("dice", "iou")}


def _matched(matcher: str, ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    of_lesions, (anchors, layout) = lesions(ndim, dtype), _grid(ndim, dtype)
    count = len(anchors)
    # beside the grid, where anchors would be equally good and the processor's rounding would choose
    anchors = anchors + uniform(10, count, 1, low=-0.01, high=0.01).to(dtype)
    quality = api.anchor_quality(of_lesions, anchors)
    boxes = torch.stack([lesion.box for lesion in of_lesions])
    predicted = {
        "pred_scores": uniform(11, len(boxes), count).to(dtype),
        "pred_boxes": anchors + uniform(12, count, 1, low=-0.5, high=0.5).to(dtype),
    }
    made: dict[str, Any] = {}
    for number, arguments in enumerate(_MATCHERS[matcher]):
        call = partial(api[matcher](*arguments), quality, boxes, anchors, **layout)
        made[f"plain_{number}"] = _places(call())
        made[f"predicted_{number}"] = _places(call(**predicted))
    signed = api.anchor_quality(of_lesions, anchors, overlap="box_giou")
    made["giou"] = _places(api[matcher](*_MATCHERS[matcher][0])(signed, boxes, anchors, **layout))
    return made


def _places(matches: Any) -> dict[str, Any]:
    """All anchors in sums, and those with a lesion one by one."""
    chosen = matches.positive.nonzero()[:, 0][:40]
    return {
        "quality": matches.quality,
        "index": matches.index,
        "anchors": chosen.tolist(),
        "lesions": matches.index[chosen].tolist(),
        "fallback": int(matches.fallback.sum()),
    }


def _some_matches(dtype: torch.dtype) -> Any:
    index = torch.tensor([0, 0, 1, -1, -2, 2, 0, -1, 1])
    return api.Matches(quality=uniform(13, 9).to(dtype), index=index)


def _matches(dtype: torch.dtype) -> dict[str, Any]:
    matches = _some_matches(dtype)
    return {"positive": matches.positive, "fallback": matches.fallback, "quality": matches.quality}


def _weighted(dtype: torch.dtype) -> dict[str, Any]:
    existence = torch.tensor([0.2, 1.0, 0.6], dtype=dtype)
    options: dict[str, dict[str, Any]] = {
        target: {"target": target}
        for target in ("hard", "existence", "quality", "existence_quality")
    }
    options |= {
        weight: {"box_weight": weight} for weight in ("one", "focal", "iou_balanced", "rank")
    }
    options["cls_quality"] = {"cls_weight": "quality", "floor": 0.4}
    options["band"] = {"ignore_band": (0.3, 0.7)}
    options["per_lesion"] = {"normalize_per_lesion": True}
    base = {"target": "existence_quality", "box_weight": "quality"}
    return {
        kind: api.AnchorWeighting(**{**base, **chosen})(_some_matches(dtype), existence)
        for kind, chosen in options.items()
    }


def _tensors(target: Scan) -> Scan:
    return {key: value for key, value in target.items() if isinstance(value, Tensor)}


def _network(iou_branch: bool) -> Any:
    """In float64, its weights by a formula, so that no generator of PyTorch's is asked."""
    network = api.lesion_retinanet(
        num_classes=2,
        channels=(8, 16),
        strides=(2, 2),
        num_levels=1,
        feature_channels=8,
        anchor_sizes=(4.0, 7.0),
        iou_branch=iou_branch,
    ).double()
    with torch.no_grad():
        for number, parameter in enumerate(network.parameters()):
            spread = 0.2 if parameter.ndim > 1 else 0.05
            parameter.copy_(uniform(900 + number, *parameter.shape, low=-spread, high=spread))
    return network


def _network_outputs() -> dict[str, Any]:
    image = uniform(14, 1, 1, 16, 16, 16)
    return {str(branch): dict(_network(branch)(image)) for branch in (False, True)}


def _detector_losses() -> dict[str, Any]:
    """Losses and gradients of a step, and what is found; one image has no lesion."""
    images = uniform(15, 2, 1, 16, 16, 16)
    targets = [api.lesion_target(lesions(3)[:2]), api.lesion_target([])]
    made: dict[str, Any] = {}
    soft = api.AnchorWeighting(target="existence_quality", box_weight="quality")
    options: dict[str, dict[str, Any]] = {
        "default": {},
        "soft": {"weighting": soft},
        "box_iou": {
            "overlap": "box_iou",
            "matcher": api.MaxOverlapMatcher(0.2, 0.4),
            "weighting": soft,
        },
        "aligned": {
            "overlap": api.mask_box_tversky.with_(alpha=0.3),
            "matcher": api.TaskAlignedMatcher(5),
            "weighting": soft,
        },
        "weighting": {"weighting": api.AnchorWeighting(target="quality", box_weight="rank")},
    }
    for kind, chosen in options.items():
        detector = api.SoftRetinaNetDetector(_network(kind in ("default", "soft")), **chosen)
        losses = detector(images, targets)
        sum(losses.values()).backward()
        sums = [float(parameter.grad.abs().sum()) for parameter in detector.parameters()]
        made[kind] = {"losses": losses, "gradients": sums}
    return made
