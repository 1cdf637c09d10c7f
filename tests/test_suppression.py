import time

import pytest
import torch
from hypothesis import given, strategies as st
from reference import reference_box_iou
from strategies import box_batches

from softoverlap import suppression
from softoverlap.suppression import box_nms


def reference_nms(boxes, scores, threshold, labels):
    kept = []
    for candidate in sorted(range(len(boxes)), key=lambda k: (-scores[k], k)):
        rivals = [k for k in kept if labels[k] == labels[candidate]]
        if all(reference_box_iou(boxes[k], boxes[candidate]) <= threshold for k in rivals):
            kept.append(candidate)
    return kept


@st.composite
def detections(draw):
    count = draw(st.integers(0, 12))
    boxes = draw(box_batches(ndim=draw(st.integers(1, 3)), count=count, low=0, high=2))
    scores = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    labels = draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    return boxes, torch.tensor(scores, dtype=torch.float64) / 4, torch.tensor(labels, dtype=int)


@given(detections(), st.sampled_from([0.0, 0.1, 0.3, 0.7, 1.0]), st.sampled_from([1, 3, 1024]))
def test_box_nms_is_the_greedy_suppression(detected, threshold, block):
    boxes, scores, labels = detected
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suppression, "_BOXES_PER_BLOCK", block)
        kept = box_nms(boxes, scores, threshold, labels)
    assert kept.tolist() == reference_nms(
        boxes.tolist(), scores.tolist(), threshold, labels.tolist()
    )


def random_detections(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 3, generator=generator) * 60
    boxes = torch.cat([low, low + 4 + 12 * torch.rand(count, 3, generator=generator)], dim=1)
    return boxes, torch.rand(count, generator=generator)


def test_box_nms_equals_monai():
    from monai.data.box_utils import non_max_suppression

    boxes, scores = random_detections(200)
    theirs = non_max_suppression(boxes, scores, 0.2)
    assert box_nms(boxes, scores, 0.2).tolist() == theirs.tolist()


@given(detections(), st.sampled_from([0.0, 0.3, 0.7]))
def test_a_second_suppression_changes_nothing(detected, threshold):
    boxes, scores, labels = detected
    kept = box_nms(boxes, scores, threshold, labels)
    again = box_nms(boxes[kept], scores[kept], threshold, labels[kept])
    assert again.tolist() == list(range(len(kept)))


def test_a_long_chain_is_resolved_one_after_the_other():
    low = torch.arange(300.0)
    boxes = torch.stack([low, low + 2], dim=1)
    kept = box_nms(boxes, torch.linspace(1, 0, 300), 0.3)
    assert kept.tolist() == list(range(0, 300, 2))


def test_two_thousand_boxes_take_well_below_a_second():
    boxes, scores = random_detections(2000)
    box_nms(boxes, scores, 0.3)
    start = time.perf_counter()
    box_nms(boxes, scores, 0.3)
    assert time.perf_counter() - start < 1


def test_no_box_gives_no_index():
    kept = box_nms(torch.zeros(0, 6), torch.zeros(0), 0.5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64


def test_nan_scores_are_refused():
    with pytest.raises(ValueError, match="scores must be numbers, got NaN"):
        box_nms(torch.tensor([[0.0, 1.0]]), torch.tensor([float("nan")]), 0.5)


def test_a_threshold_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"iou_threshold must lie in \[0, 1\], got 50"):
        box_nms(torch.tensor([[0.0, 1.0]]), torch.tensor([0.5]), 50.0)


@pytest.mark.bad_input
def test_scores_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"scores must have shape \(1,\)"):
        box_nms(torch.tensor([[0.0, 1.0]]), torch.tensor([0.5, 0.6]), 0.5)
