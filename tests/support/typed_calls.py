"""Every public function, loss and measure that takes tensors, with arguments that any type holds.

Masks are of 0 and 1, labels of 0 to 2, boxes and all else of small whole numbers. An argument is
named as messages name it.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import softoverlap as so
from softoverlap import anchors, images, lesions, losses, measures, overlaps
from softoverlap.for_monai import OutcomesMetric
from softoverlap.lesion import crop_lesion
from tests.support.detectors import tiny_detector
from tests.support.metric_makers import METRICS, OF_RATERS

EYE = torch.eye(4, dtype=torch.float64)


@dataclass(frozen=True)
class Call:
    """A function of named tensors, and the tensors, as float64."""

    function: Callable[..., Any]
    arguments: dict[str, Tensor]

    def __call__(self, **changed: Tensor) -> Any:
        return self.function(**{**self.arguments, **changed})


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def _block(*spatial, low=1, high=4):
    mask = torch.zeros(spatial, dtype=torch.float64)
    mask[tuple(slice(low, high) for _ in spatial)] = 1
    return mask


PRED, TRUTH = _block(6, 6, 6), _block(6, 6, 6, low=2, high=5)
PAIR = {"y_pred": PRED[None, None], "y": TRUTH[None, None]}
MASKS = torch.stack([_block(6, 6), _block(6, 6, low=2, high=5)])
LABELS = (MASKS[0] + MASKS[1])[None, None]
BOXES = tensor([[0, 0, 4, 4], [1, 2, 5, 5], [0, 1, 3, 4]])
OTHERS = tensor([[1, 1, 5, 5], [1, 2, 5, 5], [3, 1, 6, 6]])
ROTATED = tensor([[3, 3, 2, 4, 0], [4, 3, 4, 2, 1]])
OTHER_ROTATED = tensor([[3, 3, 4, 4, 0], [4, 4, 4, 2, 2]])
CLASSES = tensor([0, 1, 0])
SCORES = tensor([1, 0, 1])
LOGITS = torch.stack([2 - MASKS[0], MASKS[0] + 1, 3 * MASKS[1]])[None]
RATERS = torch.stack([MASKS[0], MASKS[1], MASKS[0]])
CODES = tensor([[0, 1, 0, 1], [1, 0, 1, 0], [0, 0, 1, 1]])


def _overlap_calls():
    for name in overlaps.overlap_names(overlaps.BoxOverlap):
        overlap = overlaps.overlap_named(name)
        yield name, overlap, {"pred": BOXES, "target": OTHERS}
        yield overlap.pairs.__name__, overlap.pairs, {"pred": BOXES, "target": OTHERS}
    for name in overlaps.overlap_names(overlaps.RotatedBoxOverlap):
        overlap = overlaps.overlap_named(name)
        yield name, overlap, {"pred": ROTATED, "target": OTHER_ROTATED}
        yield overlap.pairs.__name__, overlap.pairs, {"pred": ROTATED, "target": OTHER_ROTATED}
    for name in overlaps.overlap_names(overlaps.MaskBoxOverlap):
        overlap = overlaps.overlap_named(name)
        yield name, overlap, {"masks": MASKS, "boxes": BOXES}
        yield overlap.pairs.__name__, overlap.pairs, {"masks": MASKS, "boxes": BOXES[:2]}
    for name in overlaps.overlap_names(overlaps.MaskOverlap):
        pair = {"pred": MASKS[None], "target": MASKS.flip(0)[None]}
        yield name, overlaps.overlap_named(name), pair
    yield "mask_box_mass", so.mask_box_mass, {"masks": MASKS, "boxes": BOXES}
    yield "mask_box_pair_mass", so.mask_box_pair_mass, {"masks": MASKS, "boxes": BOXES[:2]}
    yield "box_volume", so.box_volume, {"boxes": BOXES}
    yield (
        "best_iou_of_size",
        lambda lesion_boxes: overlaps.best_iou_of_size(lesion_boxes, (2, 3)),
        {"lesion_boxes": BOXES},
    )
    yield "SummedVolume", _summed, {"masks": MASKS}
    yield "encode_boxes", so.encode_boxes, {"boxes": BOXES, "anchors": OTHERS}
    yield "decode_boxes", so.decode_boxes, {"codes": CODES, "anchors": OTHERS}


def _summed(masks):
    return so.mask_box_mass(so.SummedVolume.from_masks(masks), BOXES)


def _loss_calls():
    of_labels = {"softmax": True, "to_onehot_y": True}
    for loss in (so.SoftDiceLoss, so.SoftIoULoss, so.SoftTverskyLoss, so.SoftDiceCELoss):
        pair = {"input": MASKS[None], "target": MASKS.flip(0)[None]}
        name, kinds = loss.__name__, {"cross_entropy": "regions"}
        kinds = kinds if loss is so.SoftDiceCELoss else {}
        yield name, loss(**kinds), pair
        yield f"{name} of labels", loss(**of_labels), {"input": LOGITS, "target": LABELS}
        ignored = {"input": LOGITS, "target": LABELS}
        for index in (1, -100, 255, 70000):
            yield f"{name} without {index}", loss(**of_labels, ignore_index=index), ignored
    aligned = {"input": BOXES, "target": OTHERS, "weight": SCORES}
    for loss in vars(losses).values():
        if (
            inspect.isclass(loss)
            and issubclass(loss, losses.BoxLoss)
            and loss is not losses.BoxLoss
        ):
            rotated = {"input": ROTATED, "target": OTHER_ROTATED}
            yield loss.__name__, loss(), rotated if loss is so.RotatedBoxIoULoss else aligned
    coarse = so.CoarseToFineBoxLoss(start=0, end=2).eval()
    coarse.step += 1
    yield "CoarseToFineBoxLoss", coarse, {"input": CODES, "target": CODES.flip(0)}
    mixed = {"masks": MASKS, "boxes": BOXES[:2], "weight": SCORES[:2]}
    yield "MaskBoxDiceLoss", so.MaskBoxDiceLoss(), mixed | {"best": tensor([1, 1])}
    yield "MaskBoxIoULoss", so.MaskBoxIoULoss(), mixed | {"best": tensor([1, 1])}
    yield "BoxProjectionLoss", so.BoxProjectionLoss(), mixed
    yield "SizePriorLoss", so.SizePriorLoss(0.3, 0.4), mixed
    yield "PairwiseAffinityLoss", so.PairwiseAffinityLoss(), mixed | {"images": 2 * MASKS}
    elements = {"input": LOGITS[0], "target": torch.cat([MASKS, MASKS[:1]])}
    yield "QualityFocalLoss", so.QualityFocalLoss(), elements
    yield "VarifocalLoss", so.VarifocalLoss(), elements
    yield "iou_aware_score", so.iou_aware_score, {"p": SCORES, "q": tensor([1, 1, 0])}


def _metric_calls():
    for name, make in METRICS.items():
        stands_in = name[0].islower()  # for one of MONAI's
        called = f"{type(make()).__name__} of {name}" if stands_in else name
        if isinstance(make(), OutcomesMetric):
            told = _UNTOLD if name in ("box_ap", "box_ar") else _SCAN
            yield called, _of_scans(make), told
        elif name in OF_RATERS:
            samples = RATERS[:2] if name == "GeneralisedEnergyDistance" else RATERS[:1]
            yield called, _of_batch(make), {"y_pred": samples[None], "y": RATERS[None]}
        else:
            yield called, _of_batch(make), PAIR


def _measure_calls():
    labels = {"y_pred": LABELS, "y": LABELS.flip(2)}
    functions = {name: getattr(so, name) for name in ("compute_soft_dice", "compute_soft_iou")}
    functions["compute_lesionwise_dice"] = _lesionwise
    for name, function in functions.items():
        yield name, function, PAIR
        yield f"{name} of labels", _with(function, num_classes=3), labels
        for index in (1, -100, 255, 70000):
            yield (
                f"{name} without {index}",
                _with(function, num_classes=3, ignore_index=index),
                labels,
            )
    yield "compute_soft_dice of many labels", _with(so.compute_soft_dice, num_classes=259), labels
    masked = {**PAIR, "mask": _block(6, 6, 6, high=5)[None, None]}
    yield "SoftDice", so.SoftDice(), masked
    recall = so.LesionRecall(spacing=1.0, weight_by="existence")
    raters = {**PAIR, "raters": torch.stack([PRED, TRUTH])[None, :, None]}
    yield "LesionRecall of raters", recall.statistics, raters
    measured = {"pred": SCORES, "target": CLASSES}
    yield "compute_bland_altman", measures.compute_bland_altman, measured
    for name in ("compute_average_precision", "compute_average_recall"):
        yield name, _of_scan(getattr(measures, name)), _UNTOLD
    for name in ("compute_froc", "compute_score_existence_correlation"):
        yield name, _of_scan(getattr(measures, name)), _SCAN
    yield "match_scan", _by("box_iou"), _UNTOLD
    for hit in ("mask_box_dice", "centre_in_mask", "relative_mask_box_iou"):
        yield f"match_scan by {hit}", _by(hit), _UNTOLD | {"masks": _TRUE_MASKS}


_LOW = tensor([[0, 0], [4, 4], [0, 4]])
_SCAN = {
    "['box']": torch.cat([_LOW, _LOW + 3], dim=1),
    "['label']": CLASSES,
    "['label_scores']": SCORES,
    "['existence']": tensor([1, 1, 0]),
}
_UNTOLD = {name: values for name, values in _SCAN.items() if name != "['existence']"}
_TRUE_MASKS = torch.stack([_block(8, 8, high=4), _block(8, 8, low=4, high=7), _block(8, 8)])


def _scans(scan):
    known = {name.strip("[]'"): values for name, values in scan.items()}
    target = {key: values for key, values in known.items() if key != "label_scores"}
    prediction = {key: known[key] for key in ("box", "label", "label_scores")}
    return [prediction], [target]


def _of_scan(function):
    return lambda **scan: function(*_scans(scan))


def _by(hit):
    return _of_scan(lambda *scans: so.match_scan(scans[0][0], scans[1][0], hit=hit))


def _of_scans(make):
    def call(**scan):
        metric = make()
        metric(*_scans(scan))
        return metric.aggregate()

    return call


def _of_batch(make):
    def call(**batch):
        metric = make()
        return metric(**batch), metric.aggregate()

    return call


def _with(function, /, **options):
    return lambda **arguments: function(**(options | arguments))


def _lesionwise(**options):
    return so.compute_lesionwise_dice(**options, spacing=1.0, min_mm3=0.0)


def _room_calls():
    spacing = {"spacing": (1.0, 2.0)}
    mask = {"mask": MASKS[0]}
    yield "lesions_from_mask", _with(so.lesions_from_mask, **spacing), mask
    halo = _with(so.lesions_from_mask, **spacing, low=0.2, halo=0.1)
    yield "lesions_from_mask of raters", halo, mask | {"raters": RATERS}
    for method in ("mean", "majority", "staple"):
        yield f"fuse_raters by {method}", _with(so.fuse_raters, method=method), {"raters": RATERS}
    weighted = _with(so.fuse_raters, method="weighted")
    yield "fuse_raters by weights", weighted, {"raters": RATERS, "weights": tensor([1, 2, 1])}
    yield "fuse_raters by a threshold", _with(so.fuse_raters, threshold=0.5), {"raters": RATERS}
    yield "staple", so.staple, {"raters": RATERS}
    for threshold in (2, 300, -200):
        bright = _with(lesions.threshold_boxes, threshold=threshold, **spacing)
        yield f"threshold_boxes above {threshold}", bright, {"image": 3 * MASKS[0]}
    fields = {
        "box": tensor([4, 2, 6, 5]),
        "crop": torch.ones(2, 3).double(),
        "centre": tensor([5, 3]),
    }
    scored = {**fields, "boxes": 4 + BOXES}
    for name in ("mask_box_dice", "mask_box_diou"):
        yield f"{name} of lesions", _with(_of_lesions, function=getattr(so, name)), scored
    anchored = {**fields, "anchors": 4 + BOXES}
    yield "anchor_quality of lesions", _with(_of_lesions, function=so.anchor_quality), anchored
    yield "lesion_target", _targeted, fields
    yield "crop_lesion", _cropped, fields
    yield "crop_lesion far away", _with(_cropped, start=(-300, 1), size=(999, 900)), fields
    yield "anchor_quality", so.anchor_quality, {"lesions": MASKS, "anchors": BOXES}
    boxed = _with(so.anchor_quality, overlap=so.box_iou, normalize=None)
    yield "anchor_quality of boxes", boxed, {"lesions": OTHERS, "anchors": BOXES}
    numbered = {"lesions": MASKS[0], "labels": LABELS[0, 0].long(), "anchors": BOXES}
    yield "anchor_quality of labels", so.anchor_quality, numbered
    matched = {"quality": torch.eye(3).double(), "boxes": BOXES, "anchors": OTHERS}
    for matcher in (so.MaxOverlapMatcher(0.4, 0.5), so.ATSSMatcher(), so.SimOTAMatcher()):
        yield type(matcher).__name__, _matched(matcher), matched
    predicted = {"pred_scores": torch.eye(3).double(), "pred_boxes": BOXES}
    yield "TaskAlignedMatcher", _matched(so.TaskAlignedMatcher()), matched | predicted
    yield "AnchorWeighting", _weighted, {"existence": tensor([1, 0])}
    yield "best_box", anchors.best_box, {"crop": MASKS[0]}
    for name in ("box_nms", "soft_nms", "weighted_box_clustering"):
        ranked = {"boxes": BOXES, "scores": SCORES, "labels": CLASSES}
        yield name, _ranked(name), ranked
    ranked = {"boxes": ROTATED, "scores": SCORES[:2], "labels": CLASSES[:2]}
    yield "rotated_nms", _ranked("rotated_nms"), ranked
    told = {"weights": tensor([1, 2, 1]), "expected": tensor([2, 2, 1])}
    counted = {"boxes": BOXES, "scores": SCORES, **told}
    yield "weighted_box_clustering of views", _ranked("weighted_box_clustering"), counted


def _lesion(box, crop, centre):
    offset = torch.tensor([4, 2])
    return so.Lesion(box=box, crop=crop, centre=centre, offset=offset, volume_mm3=6.0)


def _of_lesions(box, crop, centre, function, **others):
    return function([_lesion(box, crop, centre)], *others.values())


def _targeted(**fields):
    return so.lesion_target([_lesion(**fields)], spatial_dims=2)


def _cropped(start=(3, 1), size=(9, 9), **fields):
    return crop_lesion(_lesion(**fields), start, size)


def _matched(matcher):
    return _with(matcher, num_locations_per_level=[3], num_anchors_per_loc=1)


def _weighted(existence):
    matches = anchors.Matches(tensor([0.5, 0.2, 0.0]), torch.tensor([0, 1, -1]))
    return so.AnchorWeighting()(matches, existence)


def _ranked(name):
    options = {} if name == "soft_nms" else {"iou_threshold": 0.3}
    return _with(getattr(so, name), **options)


def _image_calls():
    volume, eye = PRED, EYE
    yield "value_kind", images.value_kind, {"data": LABELS}
    yield "as_probabilities", _read, {"mask": PRED}
    for label in (1, 300):
        reading = _with(_read, label=label)
        yield f"as_probabilities of label {label}", reading, {"mask": LABELS[0, 0]}
    yield "boxes_to_world", lambda boxes: images.boxes_to_world(boxes, eye), {"boxes": _SOLID}
    for geometry in ("index", "resample"):
        yield f"align_to by {geometry}", _with(_aligned, geometry=geometry), {"data": volume}
    shift = EYE.clone()
    shift[0, 3] = 1
    moved = _with(_aligned, affine=shift, geometry="resample")
    yield "align_to of labels", _with(moved, nearest=True), {"data": 2 * volume}
    yield (
        "Volume",
        lambda data, affine: so.Volume(data, affine).spacing,
        {
            "data": volume,
            "affine": EYE,
        },
    )

    yield "save_nifti", _saved, {"data": volume, "affine": EYE}
    solid = torch.cat([BOXES[:, :2], BOXES[:, :1], BOXES[:, 2:], BOXES[:, 2:3]], dim=1)
    for suffix in ("json", "csv"):
        stored = {"boxes": solid, "scores": SCORES, "labels": CLASSES.long()}
        yield f"write_boxes to {suffix}", _with(_written, suffix=suffix), stored


def _saved(data, affine):
    with tempfile.TemporaryDirectory() as folder:
        so.save_nifti(Path(folder, "a.nii"), data, affine)
        return so.load_nifti(Path(folder, "a.nii"))


def _written(suffix, **stored):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a.{suffix}")
        so.write_boxes(path, **stored)
        file = so.read_boxes(path)
        return file.boxes, file.scores, file.labels


def _detector_calls():
    true = {
        "box": tensor([[3, 4, 9, 10], [14, 12, 20, 20]]),
        "label": torch.tensor([0, 1]),
    }
    yield "SoftRetinaNetDetector", _learned, true


@cache
def _detector():
    return tiny_detector(spatial_dims=2, num_classes=2).eval()


def _learned(box, label):
    detector = _detector().train()
    keys = detector.target_box_key, detector.target_label_key
    target = dict(zip(keys, (box, label), strict=True))
    try:
        return detector([torch.arange(576.0).reshape(1, 24, 24).sin()], [target])
    finally:
        detector.eval()


_SOLID = tensor([[0, 0, 0, 2, 3, 4]])


def _read(mask, label=None):
    return so.as_probabilities(mask, label=label)


def _aligned(data, affine=EYE, geometry="index", nearest=False):
    moving, reference = so.Volume(data, affine), so.Volume(torch.zeros(6, 6, 6), EYE)
    options = {"nearest": True} if nearest else {}
    return so.align_to(moving, reference, geometry=geometry, **options)


def _all_calls():
    rooms = (_overlap_calls, _loss_calls, _metric_calls, _measure_calls, _room_calls)
    for calls in (*rooms, _image_calls, _detector_calls):
        for name, function, arguments in calls():
            yield name, Call(function, arguments)


CALLS = dict(_all_calls())

LEFT_OUT = {
    "Hit": "a criterion and its threshold, without tensors",
    "Lesion": "a record; it is given to the calls of lesions",
    "LesionPhantoms": "takes no tensors",
    "Measure": "what all measures share",
    "MeasureMetric": "called with every measure, under the measure's name",
    "lesion_retinanet": "a network, which takes what its layers take",
    "load_nifti": "reads a file; its types are those of the file",
    "read_boxes": "reads a file",
}
"""Public names without a call of their own, and why."""
