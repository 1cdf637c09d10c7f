"""Every public function, loss and measure that takes tensors, with arguments that any type holds.

Masks are of 0 and 1, labels of 0 to 2, boxes and all else of small whole numbers. An argument is
named as messages name it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import softoverlap as so
from softoverlap import losses, measures, overlaps
from softoverlap.for_monai import OutcomesMetric
from tests.frozen.names import TRANSFORMS
from tests.support.metric_makers import METRICS, OF_RATERS
from tests.support.typed_inputs import (
    BOXES,
    CLASSES,
    CODES,
    HOLE,
    LABELS,
    LOGITS,
    MASKS,
    OTHER_ROTATED,
    OTHERS,
    PAIR,
    PRED,
    RATERS,
    ROTATED,
    ROTATED_CODES,
    SCORES,
    SOFT,
    SQUARE,
    TRUTH,
    block,
    tensor,
    with_options,
)
from tests.support.typed_rooms import detector_calls, image_calls, room_calls


@dataclass(frozen=True)
class Call:
    """A function of named tensors, and the tensors, as float64."""

    function: Callable[..., Any]
    arguments: dict[str, Tensor]

    def __call__(self, **changed: Tensor) -> Any:
        return self.function(**{**self.arguments, **changed})


_BOTH_FORMS = {
    overlaps.BoxOverlap: {"pred": BOXES, "target": OTHERS},
    overlaps.RotatedBoxOverlap: {"pred": ROTATED, "target": OTHER_ROTATED},
    overlaps.MaskBoxOverlap: {"masks": MASKS, "boxes": BOXES[:2]},
    overlaps.MaskBallOverlap: {"masks": MASKS, "boxes": BOXES[:2]},
    overlaps.MaskRotatedBoxOverlap: {"masks": MASKS, "boxes": ROTATED},
    overlaps.RegionOverlap: {"pred": MASKS, "target": MASKS.flip(0)},
}


def _overlap_calls():
    for family, given in _BOTH_FORMS.items():
        for overlap in map(overlaps.overlap_named, overlaps.overlap_names(family)):
            yield overlap.name, overlap, given
            yield overlap.pairs.__name__, overlap.pairs, given
    for name in overlaps.overlap_names(overlaps.MaskOverlap):
        pair = {"pred": MASKS[None], "target": MASKS.flip(0)[None]}
        yield name, overlaps.overlap_named(name), pair
    yield "mask_rotated_box_mass", so.mask_rotated_box_mass, {"masks": MASKS, "boxes": ROTATED}
    anchors = {"anchors": OTHER_ROTATED}
    yield "encode_rotated_boxes", so.encode_rotated_boxes, {"boxes": ROTATED, **anchors}
    yield "decode_rotated_boxes", so.decode_rotated_boxes, {"codes": ROTATED_CODES, **anchors}
    yield "mask_ball_mass", so.mask_ball_mass, {"masks": MASKS, "boxes": BOXES}
    yield "boxes_of_balls", so.boxes_of_balls, {"balls": tensor([[1, 2, 2], [3, 3, 4]])}
    yield "region_iou of polygons", _polygons_iou, {"outer": SQUARE, "holes[0]": HOLE}
    yield "Polygon", lambda outer: so.Polygon(outer).area, {"outer": SQUARE}
    dense = {"density": MASKS[0]}
    yield "highest_density_region", lambda density: so.highest_density_region(density, 0.5), dense
    yield "mask_box_mass", so.mask_box_mass, {"masks": MASKS, "boxes": BOXES}
    yield "mask_box_pair_mass", so.mask_box_pair_mass, {"masks": MASKS, "boxes": BOXES[:2]}
    arcs = {"pred": BOXES, "target": OTHERS}
    yield "box_giou of arcs", lambda pred, target: so.box_giou(pred, target, period=30), arcs
    yield "box_volume", so.box_volume, {"boxes": BOXES}
    yield (
        "best_iou_of_size",
        lambda lesion_boxes: overlaps.best_iou_of_size(lesion_boxes, (2, 3)),
        {"lesion_boxes": BOXES},
    )
    yield "SummedVolume", _summed, {"masks": MASKS}
    yield "encode_boxes", so.encode_boxes, {"boxes": BOXES, "anchors": OTHERS}
    yield "decode_boxes", so.decode_boxes, {"codes": CODES, "anchors": OTHERS}


def _polygons_iou(outer, **holes):
    ring = so.Polygon(outer, [*holes.values()])
    return so.region_iou(ring, so.Polygon(HOLE.long() + 1), period=20)


def _soft_box_calls():
    pair = {"pred": SOFT, "target": SOFT.flip(0)}
    for name in ("soft_box_iou", "soft_box_dice"):
        overlap = overlaps.overlap_named(name)
        yield f"{name} of soft boxes", overlap, pair
        yield f"{overlap.pairs.__name__} of soft boxes", overlap.pairs, pair
    soft = {"boxes": SOFT}
    yield "soft_box_mass", so.soft_box_mass, {"pred": SOFT, "boxes": OTHERS}
    yield "mask_soft_box_mass", so.mask_soft_box_mass, {"masks": MASKS} | soft
    yield "soft_box_masks", lambda boxes: so.soft_box_masks(boxes, (6, 5)), soft
    yield "soft_box_faces", so.soft_box_faces, soft
    yield "soft_boxes", so.soft_boxes, {"mean": BOXES + 1, "deviation": (BOXES > 2).double()}
    yield "soft_boxes_from_raters", so.soft_boxes_from_raters, {"boxes": BOXES[:, None]}
    aligned = {"input": SOFT, "target": SOFT.flip(0), "weight": SCORES}
    yield "SoftBoxCRPSLoss", so.SoftBoxCRPSLoss(), aligned
    yield "SoftBoxIoULoss of soft boxes", so.SoftBoxIoULoss(), aligned
    scan = {"['box']": SOFT[:2], "['label']": CLASSES[:2], "['label_scores']": SCORES[:2]}
    for name, measure in (("compute_pdq", so.compute_pdq), ("PDQ", so.PDQ())):
        yield name, with_options(_of_soft_scan, measure=measure), scan | {"['masks']": MASKS}


def _of_soft_scan(measure, **scan):
    known = {name.strip("[]'"): values for name, values in scan.items()}
    target = {key: known[key] for key in ("masks", "label")}
    return measure([{key: known[key] for key in ("box", "label", "label_scores")}], [target])


def _dwell_calls():
    runs, others = tensor([[0, 2], [1, 3], [7, 9]]), tensor([[1, 4]])
    frames = {"overlap": tensor([0, 1, 1, 0, 1, 0])}
    yield "dwell_intervals", lambda overlap: so.dwell_intervals(overlap, 1), frames
    yield "dwell_time", so.dwell_time, {"intervals": runs}
    yield "compute_dwell", so.compute_dwell, {"pred": runs, "truth": others}
    yield "expected_dwell_time", so.expected_dwell_time, {"probabilities": frames["overlap"]}


def _view_calls():
    views = {"boxes": BOXES, "visible": OTHERS}
    hidden = {"occluders": tensor([[0, 0, 2, 3], [3, 1, 4, 5]])}

    def behind(boxes, visible, occluders):
        return so.visible_fraction(boxes, visible, occluders=occluders)

    def in_view(boxes, visible, occluders):
        return so.visible_box(boxes, visible, occluders=occluders)

    def behind_mask(boxes, occluder_mask):
        return so.visible_fraction(boxes, occluder_mask=occluder_mask)

    yield "visible_fraction", behind, views | hidden
    yield "visible_fraction of a mask", behind_mask, {"boxes": BOXES, "occluder_mask": MASKS[0]}
    yield "visible_box", in_view, views | hidden
    yield "amodal_iou_bound", so.amodal_iou_bound, {"visible_fraction": SCORES}


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
            turned = isinstance(loss.overlap, overlaps.RotatedBoxOverlap)
            yield loss.__name__, loss(), rotated if turned else aligned
    coarse = so.CoarseToFineBoxLoss(start=0, end=2).eval()
    coarse.step += 1
    yield "CoarseToFineBoxLoss", coarse, {"input": CODES, "target": CODES.flip(0)}
    amodal = aligned | {"visible": OTHERS.flip(0)}
    yield "AmodalBoxLoss", so.AmodalBoxLoss(), amodal
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
        yield f"{name} of labels", with_options(function, num_classes=3), labels
        for index in (1, -100, 255, 70000):
            yield (
                f"{name} without {index}",
                with_options(function, num_classes=3, ignore_index=index),
                labels,
            )
    yield (
        "compute_soft_dice of many labels",
        with_options(so.compute_soft_dice, num_classes=259),
        labels,
    )
    masked = {**PAIR, "mask": block(6, 6, 6, high=5)[None, None]}
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
    cut = _of_scan(so.compute_iou_errors)
    yield "compute_iou_errors", cut, _UNTOLD | {"['visible']": tensor([1, 1, 6, 6])}
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
_TRUE_MASKS = torch.stack([block(8, 8, high=4), block(8, 8, low=4, high=7), block(8, 8)])


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


def _lesionwise(**options):
    return so.compute_lesionwise_dice(**options, spacing=1.0, min_mm3=0.0)


def _all_calls():
    rooms = (
        _overlap_calls,
        _soft_box_calls,
        _dwell_calls,
        _view_calls,
        _loss_calls,
        _metric_calls,
        _measure_calls,
        room_calls,
    )
    for calls in (*rooms, image_calls, detector_calls):
        for name, function, arguments in calls():
            yield name, Call(function, arguments)


CALLS = dict(_all_calls())

LEFT_OUT = {
    "AnchorPlan": "a record of plain numbers; it is given to the calls of plan_anchors",
    "CentreDetector": "takes what SoftRetinaNetDetector takes",
    **dict.fromkeys(TRANSFORMS, "takes a dictionary, which MONAI's transforms make"),
    "Hit": "a criterion and its threshold, without tensors",
    **dict.fromkeys(
        ("HaloDice", "MassAboveBackground", "MaxProbability", "MeanProbability"),
        "takes a candidate; called within lesion_scores",
    ),
    "Lesion": "a record; it is given to the calls of lesions",
    "LesionCalibration": "takes scores, float64 as lesion_scores gives them",
    "LesionCandidate": "a record, of arrays",
    "LesionPhantoms": "takes no tensors",
    "LesionScores": "a record; what lesion_scores returns",
    "Measure": "what all measures share",
    "MeasureMetric": "called with every measure, under the measure's name",
    **dict.fromkeys(
        ("centre_retinanet", "lesion_retinanet"), "a network, which takes what its layers take"
    ),
    "load_nifti": "reads a file; its types are those of the file",
    "read_boxes": "reads a file",
    "read_plan": "reads a file",
}
"""Public names without a call of their own, and why."""
