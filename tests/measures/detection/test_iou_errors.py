"""Truncation and localisation add up to what a found box loses of the IoU, and say why."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings

from softoverlap import (
    SummedVolume,
    amodal_iou_bound,
    box_pair_iou,
    compute_iou_errors,
    visible_box,
    visible_fraction,
)
from softoverlap.measures import BoxIoUErrors
from tests.support.reference_occlusion import reference_visible_fraction
from tests.support.strategies import box_batches

IMAGE = torch.tensor([0.0, 0.0, 9.0, 9.0])
LESIONS = torch.tensor([[-2.0, 0.0, 2.0, 4.0], [3.0, 3.0, 6.0, 6.0], [7.0, 5.0, 11.0, 9.0]])


def scan_of(boxes, **views):
    return {"box": boxes, "label": torch.zeros(len(boxes)), **views}


def found_of(boxes):
    return {**scan_of(boxes), "label_scores": torch.ones(len(boxes))}


def errors(found, truth, **views):
    return compute_iou_errors([found_of(found)], [scan_of(truth, **views)])


def reference_errors(found, truth, field):
    """By volumes: what is missed out of view, what else is wrong, over the union."""
    ndim = len(truth) // 2
    both = torch.cat([found.maximum(truth)[:ndim], found.minimum(truth)[ndim:]])
    of_both = (both[ndim:] - both[:ndim]).clamp(min=0).prod().item()
    sizes = [(box[ndim:] - box[:ndim]).prod().item() for box in (found, truth)]
    union = sum(sizes) - of_both
    hidden = (1 - reference_visible_fraction(truth, field)) * sizes[1]
    reached = (1 - reference_visible_fraction(both, field)) * of_both if of_both else 0.0
    truncation = (hidden - reached) / union
    return truncation, 1 - of_both / union - truncation


def test_the_visible_parts_of_lesions_lose_by_truncation_alone():
    found = errors(visible_box(LESIONS, IMAGE), LESIONS, visible=IMAGE)
    hidden = 1 - visible_fraction(LESIONS, IMAGE)
    assert found.truncation == pytest.approx(hidden.mean().item())
    assert found.localisation == pytest.approx(0)
    assert (found.hits, found.lesions) == (3, 3)


def test_whole_boxes_lose_nothing_and_shifted_ones_in_view_by_localisation():
    whole = errors(LESIONS, LESIONS, visible=IMAGE)
    assert (whole.iou, whole.truncation, whole.localisation) == (1, 0, 0)
    inside = LESIONS[1:2]
    shifted = errors(inside + torch.tensor([1.0, 0, 1.0, 0]), inside, visible=IMAGE)
    assert shifted.truncation == 0
    assert shifted.localisation == pytest.approx(0.5)


@settings(max_examples=30)
@given(box_batches(ndim=2, count=2, low=0, high=3), box_batches(ndim=2, count=2, low=0, high=3))
def test_both_errors_are_those_of_the_reference_and_add_up(found, truth):
    truth = torch.cat([truth[:, :2], truth[:, 2:] + 1], dim=1)
    found = torch.cat([found[:, :2], found[:, 2:] + 1], dim=1)
    field = torch.tensor([0.5, 0.25, 2.5, 9.0], dtype=torch.float64)
    measure = BoxIoUErrors(hit=lambda boxes, target: torch.eye(len(boxes)).bool())
    sums = measure.statistics([found_of(found)], [scan_of(truth, visible=field)])
    assert sums[0, :2].tolist() == [2, 2]
    expected = [reference_errors(*pair, field) for pair in zip(found, truth, strict=True)]
    torch.testing.assert_close(sums[0, 2:], torch.tensor(expected).double().sum(dim=0))
    lost = (1 - box_pair_iou(found, truth)).sum()
    torch.testing.assert_close(sums[0, 2:].sum(), lost)


@settings(max_examples=30)
@given(box_batches(ndim=2, count=1, low=0, high=3))
def test_truncation_is_at_most_what_the_bound_takes(found):
    truth = torch.tensor([[0.0, 0.0, 3.0, 4.0]], dtype=torch.float64)
    field = torch.tensor([1.0, 0.0, 9.0, 3.0], dtype=torch.float64)
    measure = BoxIoUErrors(hit=lambda boxes, target: torch.ones(1, 1).bool())
    *_, truncation, localisation = measure.statistics(
        [found_of(found)], [scan_of(truth, visible=field)]
    )[0].tolist()
    assert 0 <= truncation <= 1 - amodal_iou_bound(visible_fraction(truth, field)).item() + 1e-12
    assert localisation >= 0


def test_occluders_as_boxes_and_as_masks_truncate_alike_and_one_amid_does_not():
    truth = torch.tensor([[1.0, 1.0, 7.0, 7.0]])
    across = torch.tensor([[4.0, 0.0, 9.0, 9.0]])
    mask = torch.zeros(9, 9)
    mask[4:] = 1
    found = visible_box(truth, occluders=across)
    by_boxes = errors(found, truth, occluders=across)
    assert by_boxes.truncation == pytest.approx(0.5)
    assert errors(found, truth, occluder_mask=mask) == by_boxes
    assert errors(found, truth, occluder_mask=SummedVolume.from_masks(mask[None])) == by_boxes
    amid = torch.tensor([[2.0, 2.0, 5.0, 5.0]])
    assert errors(visible_box(truth, occluders=amid), truth, occluders=amid).truncation == 0


def test_a_field_a_lesion_goes_with_its_lesion():
    fields = torch.stack([IMAGE, IMAGE, torch.tensor([0.0, 0.0, 99.0, 99.0])])
    found = errors(visible_box(LESIONS, fields).flip(0), LESIONS, visible=fields)
    assert found.truncation == pytest.approx(0.5 / 3)
    assert found.localisation == pytest.approx(0)


def test_sums_of_scans_add_up_and_misses_and_ignored_lesions_do_not_count():
    measure = BoxIoUErrors(threshold=0.3)
    far = found_of(LESIONS[:1] + 50)
    target = {**scan_of(LESIONS, visible=IMAGE), "ignored": torch.tensor([False, True, False])}
    sums = measure.statistics([found_of(visible_box(LESIONS, IMAGE)), far], [target, target])
    assert sums[1].tolist() == [2, 0, 0, 0]
    total = measure.details(sums)
    assert (total.hits, total.lesions) == (2, 4)
    assert total.truncation == pytest.approx(0.5)
    assert measure.score(sums)[0].item() == pytest.approx(total.iou)
    assert math.isnan(measure.score(sums)[1].item())
    assert math.isnan(measure.details(sums[1:]).truncation)


@pytest.mark.parametrize("count", [0, 3])
def test_scans_without_lesions_or_boxes_are_taken(count):
    boxes = LESIONS[:count]
    assert errors(LESIONS[:0], boxes, visible=IMAGE).hits == 0
    assert errors(boxes, LESIONS[:0], visible=IMAGE).lesions == 0


@pytest.mark.bad_input
def test_what_is_in_view_must_be_said_and_fit():
    with pytest.raises(ValueError, match=r"targets\[0\] must have one of the keys \['visible', 'o"):
        errors(LESIONS, LESIONS)
    with pytest.raises(
        ValueError, match=r"targets\[0\]\['visible'\] must be one box, .* or one for"
    ):
        errors(LESIONS, LESIONS, visible=IMAGE.expand(2, 4))
    with pytest.raises(TypeError, match=r"targets\[0\]\['occluders'\] must be a torch.Tensor"):
        errors(LESIONS, LESIONS, occluders=[[0, 0, 1, 1]])
    with pytest.raises(ValueError, match=r"threshold must be an IoU in \(0, 1\], got 2"):
        BoxIoUErrors(threshold=2)
