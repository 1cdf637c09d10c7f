"""FROC, AP and the rest by overlaps of soft boxes."""

from __future__ import annotations

import json

import pytest
import torch

from softoverlap import soft_box_iou, soft_boxes
from softoverlap.for_monai import BoxAPMetric
from softoverlap.measures import (
    BoxIoUErrors,
    Hit,
    Outcomes,
    compute_average_precision,
    compute_froc,
    match_scan,
)

HIT = Hit(soft_box_iou, 0.5)
FLAT = torch.tensor([[2.0, 2.0, 6.0, 7.0], [20.0, 20.0, 30.0, 32.0]])
SOLID = torch.cat([FLAT[:, :2], FLAT[:, :1], FLAT[:, 2:], FLAT[:, 2:3]], dim=1)


def scan_of(boxes, **more):
    count = len(boxes)
    target = {"box": boxes, "label": torch.zeros(count), **more}
    return {**target, "label_scores": torch.linspace(0.9, 0.5, count)}, target


@pytest.mark.parametrize("deviation", [0.3, None])
@pytest.mark.parametrize("boxes", [FLAT, SOLID], ids=["flat", "solid"])
def test_size_classes_are_those_of_the_mean_boxes(boxes, deviation):
    ndim = boxes.shape[1] // 2
    prediction, target = scan_of(boxes if deviation is None else soft_boxes(boxes, deviation))
    volumes = (boxes[:, ndim:] - boxes[:, :ndim]).prod(dim=1)
    options = {"hit": HIT, "size_edges": [50.0], "spacing": (0.5,) * ndim}
    unit = {2: "mm²", 3: "mm³"}[ndim]
    froc = compute_froc([prediction], [target], **options)
    assert {name: curve.lesions for name, curve in froc.per_size.items()} == (
        {f"<50 {unit}": 2} if ndim == 2 else {f"<50 {unit}": 1, f"≥50 {unit}": 1}
    )
    metric = BoxAPMetric(**options)
    metric([prediction], [target])
    assert metric.outcomes().ndim == ndim
    assert torch.allclose(metric.outcomes().sizes, volumes.double() / 2**ndim)


def test_a_record_of_soft_boxes_comes_back_with_their_axes():
    outcomes = match_scan(*scan_of(soft_boxes(FLAT, 0.5)), hit=HIT)
    again = Outcomes.from_dict(json.loads(json.dumps(outcomes.as_dict())))
    assert (again.ndim, again.boxes.shape) == (2, (2, 8))
    assert Outcomes.joined([outcomes, again]).ndim == 2
    older = {key: value for key, value in again.as_dict().items() if key != "soft"}
    assert Outcomes.from_dict(older).ndim == 4  # of boxes that were taken for upright ones


def test_of_lesions_hit_alike_the_nearer_by_the_overlap_of_soft_boxes_is_taken(monkeypatch):
    near = FLAT[:1] + torch.tensor([0.0, 0.0, 0.0, 0.3])  # nowhere do the last faces' ranges meet
    lesions = torch.cat([soft_boxes(FLAT[:1], 2.0), soft_boxes(near, 0.1)])
    found, _ = scan_of(soft_boxes(FLAT[:1], 0.1))
    monkeypatch.setattr(Hit, "quality", lambda *given: torch.ones(2, 1))
    outcomes = match_scan(found, scan_of(lesions)[1], hit=HIT)
    assert outcomes.lesion.flatten().tolist() == [1]


def test_a_box_centred_in_the_mean_box_of_an_ignored_lesion_does_not_count():
    truth = soft_boxes(FLAT, torch.tensor([[3.0, 0.1, 0.1, 0.1]] * 2))
    inside = torch.tensor([[23.0, 23.0, 26.0, 26.0]])
    apart = torch.tensor([[50.0, 50.0, 53.0, 53.0]])
    found, _ = scan_of(soft_boxes(torch.cat([FLAT[:1], inside, apart]), 0.1))
    found["box"][0] = truth[0]
    target = scan_of(truth, ignored=[False, True])[1]
    assert match_scan(found, target, hit=HIT).outcome.flatten().tolist() == [1, 2, -1]


def test_masks_give_sizes_to_soft_boxes():
    masks = torch.zeros(2, 40, 40)
    masks[0, 2:6, 2:7], masks[1, 20:30, 20:32] = 0.5, 1.0
    prediction, target = scan_of(soft_boxes(FLAT, 0.5), masks=masks)
    options = {"hit": HIT, "size_edges": [11.0], "size_of": "mask", "spacing": 1.0}
    precision = compute_average_precision([prediction], [target], **options)
    assert list(precision.per_size) == ["<11 mm²", "≥11 mm²"]


@pytest.mark.bad_input
def test_what_soft_boxes_cannot_be_is_named():
    soft = soft_boxes(FLAT, 0.5)
    crossed = soft + torch.tensor([[9.0, 0, 0, 0] * 2])
    with pytest.raises(ValueError, match=r"prediction\['box'\] must have every maximum, with its"):
        match_scan(*scan_of(crossed), hit=HIT)
    with pytest.raises(ValueError, match="target must hold 'masks' and 'existence' for soft boxes"):
        match_scan(*scan_of(soft, lesions=[]), hit=HIT)
    with pytest.raises(ValueError, match=r"prediction\['box'\] must have 4 columns, as"):
        match_scan(scan_of(soft)[0], scan_of(FLAT)[1], hit=HIT)
    with pytest.raises(ValueError, match="hit must be one of upright boxes, .* got soft ones"):
        BoxIoUErrors(hit=HIT)
    metric = BoxAPMetric(hit=HIT)
    metric(*([scan] for scan in scan_of(soft)))
    with pytest.raises(ValueError, match="as many axes as before, 2, got 3"):
        metric(*([scan] for scan in scan_of(soft_boxes(SOLID))))
