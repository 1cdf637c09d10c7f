"""Typed calls of lesions, anchors, suppression, images and the detector."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import torch

import softoverlap as so
from softoverlap import anchors, images, lesions
from softoverlap.lesion import crop_lesion
from tests.support.detectors import tiny_detector
from tests.support.typed_inputs import (
    BOXES,
    CLASSES,
    EYE,
    LABELS,
    MASKS,
    OTHERS,
    PRED,
    RATERS,
    ROTATED,
    SCORES,
    tensor,
    with_options,
)


def room_calls():
    spacing = {"spacing": (1.0, 2.0)}
    mask = {"mask": MASKS[0]}
    yield "lesions_from_mask", with_options(so.lesions_from_mask, **spacing), mask
    halo = with_options(so.lesions_from_mask, **spacing, low=0.2, halo=0.1)
    yield "lesions_from_mask of raters", halo, mask | {"raters": RATERS}
    found = {"probabilities": MASKS[0]}
    cut = with_options(so.lesion_candidates, threshold=0.5, **spacing)
    yield "lesion_candidates", cut, found
    for score in (so.MeanProbability(), so.MassAboveBackground(), so.HaloDice()):
        scored = with_options(so.lesion_scores, threshold=0.5, score=score, **spacing)
        yield f"lesion_scores by {score}", scored, found
    for method in ("mean", "majority", "staple"):
        yield (
            f"fuse_raters by {method}",
            with_options(so.fuse_raters, method=method),
            {"raters": RATERS},
        )
    weighted = with_options(so.fuse_raters, method="weighted")
    yield "fuse_raters by weights", weighted, {"raters": RATERS, "weights": tensor([1, 2, 1])}
    yield (
        "fuse_raters by a threshold",
        with_options(so.fuse_raters, threshold=0.5),
        {"raters": RATERS},
    )
    yield "staple", so.staple, {"raters": RATERS}
    for threshold in (2, 300, -200):
        bright = with_options(lesions.threshold_boxes, threshold=threshold, **spacing)
        yield f"threshold_boxes above {threshold}", bright, {"image": 3 * MASKS[0]}
    fields = {
        "box": tensor([4, 2, 6, 5]),
        "crop": torch.ones(2, 3).double(),
        "centre": tensor([5, 3]),
    }
    scored = {**fields, "boxes": 4 + BOXES}
    for name in ("mask_box_dice", "mask_box_diou"):
        yield f"{name} of lesions", with_options(_of_lesions, function=getattr(so, name)), scored
    anchored = {**fields, "anchors": 4 + BOXES}
    yield (
        "anchor_quality of lesions",
        with_options(_of_lesions, function=so.anchor_quality),
        anchored,
    )
    yield "plan_anchors", _planned, fields
    yield "lesion_target", _targeted, fields
    yield "crop_lesion", _cropped, fields
    yield "crop_lesion far away", with_options(_cropped, start=(-300, 1), size=(999, 900)), fields
    yield "anchor_quality", so.anchor_quality, {"lesions": MASKS, "anchors": BOXES}
    boxed = with_options(so.anchor_quality, overlap=so.box_iou, normalize=None)
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


def _planned(**fields):
    lesion = _lesion(**fields)
    return so.plan_anchors([lesion], edges=(1, 2)).quality([lesion])


def _cropped(start=(3, 1), size=(9, 9), **fields):
    return crop_lesion(_lesion(**fields), start, size)


def _matched(matcher):
    return with_options(matcher, num_locations_per_level=[3], num_anchors_per_loc=1)


def _weighted(existence):
    matches = anchors.Matches(tensor([0.5, 0.2, 0.0]), torch.tensor([0, 1, -1]))
    return so.AnchorWeighting()(matches, existence)


def _ranked(name):
    options = {} if name == "soft_nms" else {"iou_threshold": 0.3}
    return with_options(getattr(so, name), **options)


def image_calls():
    volume, eye = PRED, EYE
    yield "value_kind", images.value_kind, {"data": LABELS}
    yield "as_probabilities", _read, {"mask": PRED}
    for label in (1, 300):
        reading = with_options(_read, label=label)
        yield f"as_probabilities of label {label}", reading, {"mask": LABELS[0, 0]}
    yield "boxes_to_world", lambda boxes: images.boxes_to_world(boxes, eye), {"boxes": _SOLID}
    for geometry in ("index", "resample"):
        yield f"align_to by {geometry}", with_options(_aligned, geometry=geometry), {"data": volume}
    shift = EYE.clone()
    shift[0, 3] = 1
    moved = with_options(_aligned, affine=shift, geometry="resample")
    yield "align_to of labels", with_options(moved, nearest=True), {"data": 2 * volume}
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
        yield f"write_boxes to {suffix}", with_options(_written, suffix=suffix), stored


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


def detector_calls():
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
