import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap.anchors import MaxOverlapMatcher, SimOTAMatcher, TaskAlignedMatcher, dynamic
from softoverlap.overlaps import box_iou
from tests.support.anchor_grids import crowds, grid_anchors, random_boxes, two_levels
from tests.support.reference import reference_sim_ota, reference_task_aligned


def scene(seed, *, ndim, lesions=4, size=24):
    """Large boxes, anchors that meet them, and predictions: all without equal values."""
    generator = torch.Generator().manual_seed(seed)
    anchors, layout = two_levels(size, ndim)
    boxes = random_boxes(lesions, generator, size, ndim, low=4.0).double()
    moved = anchors.double() + torch.rand(len(anchors), 2 * ndim, generator=generator)
    scores = 0.01 + 0.98 * torch.rand(lesions, len(anchors), generator=generator).double()
    return boxes, anchors.double(), layout, scores, moved


def without_guarantee(matcher):
    matcher.every_lesion = False
    return matcher


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("center_in_gt", [False, True])
@pytest.mark.parametrize("given_predictions", ["none", "scores", "boxes", "both"])
def test_task_aligned_matches_as_the_reference(ndim, center_in_gt, given_predictions):
    for seed in range(5):
        boxes, anchors, layout, scores, moved = scene(seed, ndim=ndim)
        quality = box_iou(boxes, anchors) * (0.5 + 0.5 * scores.flip(1))  # no two are equal
        pred_scores = scores if given_predictions in ("scores", "both") else None
        pred_boxes = moved if given_predictions in ("boxes", "both") else None
        overlap = quality if pred_boxes is None else box_iou(boxes, moved)
        matcher = without_guarantee(
            TaskAlignedMatcher(topk=5, alpha=0.7, beta=3.0, center_in_gt=center_in_gt)
        )
        matches = matcher(
            quality, boxes, anchors, **layout, pred_scores=pred_scores, pred_boxes=pred_boxes
        )
        seen = torch.ones_like(scores) if pred_scores is None else scores
        arrays = (x.numpy() for x in (quality, overlap, seen, boxes, anchors))
        expected = reference_task_aligned(*arrays, 5, 0.7, 3.0, center_in_gt)
        assert matches.index.tolist() == expected
        assert max(expected) >= 0


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("radius", [0.8, 2.5])
@pytest.mark.parametrize("given_predictions", ["none", "scores", "boxes", "both"])
def test_sim_ota_matches_as_the_reference(ndim, radius, given_predictions):
    for seed in range(5):
        boxes, anchors, layout, scores, moved = scene(seed, ndim=ndim)
        quality = box_iou(boxes, anchors) * (0.5 + 0.5 * scores.flip(1))
        pred_scores = scores if given_predictions in ("scores", "both") else None
        pred_boxes = moved if given_predictions in ("boxes", "both") else None
        overlap = quality if pred_boxes is None else box_iou(boxes, moved)
        matches = without_guarantee(SimOTAMatcher(6, radius))(
            quality, boxes, anchors, **layout, pred_scores=pred_scores, pred_boxes=pred_boxes
        )
        seen = torch.ones_like(scores) if pred_scores is None else scores
        fine = 2 * layout["num_locations_per_level"][0]
        strides = [4] * fine + [8] * (len(anchors) - fine)
        arrays = (x.numpy() for x in (quality, overlap, seen, boxes, anchors))
        expected = reference_sim_ota(*arrays, strides, 6, radius, 3.0, 1000.0)
        assert matches.index.tolist() == expected
        assert max(expected) >= 0


def test_blocks_change_nothing(monkeypatch):
    boxes, anchors, layout, scores, moved = scene(0, ndim=3)
    quality = box_iou(boxes, anchors)
    options = {"pred_scores": scores, "pred_boxes": moved, **layout}
    for matcher in (TaskAlignedMatcher(), SimOTAMatcher()):
        whole = matcher(quality, boxes, anchors, **options).index
        monkeypatch.setattr(dynamic, "_ELEMENTS_PER_BLOCK", 1)
        assert torch.equal(matcher(quality, boxes, anchors, **options).index, whole)
        monkeypatch.undo()


@given(crowds(), st.integers(1, 13))
def test_without_predictions_task_alignment_is_the_top_of_quality(crowd, topk):
    boxes, anchors, layout = crowd
    quality = box_iou(boxes, anchors)
    matcher = without_guarantee(TaskAlignedMatcher(topk))
    index = matcher(quality[:1], boxes[:1], anchors, **layout).index
    assert (index == 0).sum() == min(topk, (quality[0] > 0).sum())
    if (index < 0).any() and (index == 0).any():
        assert quality[0][index == 0].min() >= quality[0][index < 0].max()


@given(crowds(), st.integers(1, 10))
def test_a_lesion_has_as_many_positives_as_its_overlaps_sum_up_to(crowd, candidates):
    boxes, anchors, layout = crowd
    quality = box_iou(boxes, anchors)
    matcher = without_guarantee(SimOTAMatcher(candidates, center_radius=100.0))
    index = matcher(quality[:1], boxes[:1], anchors, **layout).index
    top = quality[0].double().sort(descending=True).values[:candidates]
    met = int((quality[0] > 0).sum())
    assert int((index == 0).sum()) == min(met, max(1, int(top.sum())))


def test_a_higher_score_wins_between_anchors_of_equal_overlap():
    anchors = torch.tensor([[0.0, 4.0], [0.0, 4.0], [0.0, 4.0]])
    scores = torch.tensor([[0.2, 0.9, 0.0]])
    for matcher in (TaskAlignedMatcher(1), SimOTAMatcher(1)):
        matches = matcher(
            torch.tensor([[0.5, 0.5, 0.5]]),
            torch.tensor([[1.0, 3.0]]),
            anchors,
            num_locations_per_level=[3],
            num_anchors_per_loc=1,
            pred_scores=scores,
        )
        assert matches.index.tolist() == [-1, 0, -1]


def test_an_anchor_outside_the_region_is_taken_last():
    anchors = torch.tensor([[0.0, 4.0], [4.0, 8.0], [8.0, 12.0], [12.0, 16.0]])
    quality = torch.tensor([[0.1, 0.6, 0.95, 0.95]])
    boxes = torch.tensor([[0.0, 8.0]])  # its centre is 2 voxels from two places, 6 from the third
    layout = {"num_locations_per_level": [4], "num_anchors_per_loc": 1}
    near = SimOTAMatcher(4, center_radius=1.0)(quality, boxes, anchors, **layout)
    assert near.index.tolist() == [0, 0, -1, -1]
    far = SimOTAMatcher(4, center_radius=9.0)(quality, boxes, anchors, **layout)
    assert far.index.tolist() == [-1, -1, 0, 0]


def test_the_distance_of_places_is_read_from_the_anchors():
    anchors = torch.cat([grid_anchors(24, 4, (3.3, 5.7)), grid_anchors(8, 8, (5.0,))])
    centres = (anchors[:, :3] + anchors[:, 3:]) / 2
    distance = dynamic.place_distance(centres, [2 * 6**3, 1])
    assert distance[: 2 * 6**3].allclose(torch.tensor(4.0))
    assert torch.isinf(distance[-1]).all()  # one place sets no limit


def test_predictions_that_all_miss_leave_the_choice_to_quality():
    boxes, anchors, layout, _, _ = scene(1, ndim=2, lesions=2)
    quality = box_iou(boxes, anchors)
    best = MaxOverlapMatcher(1.0, 1.0)(quality, boxes, anchors, **layout).index
    away = anchors + 1000
    none = torch.zeros_like(quality)
    for options in ({"pred_boxes": away}, {"pred_scores": none, "pred_boxes": away}):
        for matcher in (TaskAlignedMatcher(), SimOTAMatcher()):
            matches = matcher(quality, boxes, anchors, **layout, **options)
            assert (matches.index >= 0).sum() == 2
            assert torch.equal(matches.index[matches.positive], best[best >= 0])


def test_a_score_that_is_no_number_and_not_looked_at_picks_nothing():
    boxes, anchors, layout, scores, _ = scene(2, ndim=2, lesions=2)
    quality = box_iou(boxes, anchors)
    broken = torch.full_like(scores, torch.nan)
    for matcher in (TaskAlignedMatcher(), SimOTAMatcher()):
        matches = matcher(quality, boxes, anchors, **layout, pred_scores=broken, validate=False)
        assert (matches.index >= 0).sum() == 2


def test_predictions_with_gradients_are_only_looked_at():
    boxes, anchors, layout, scores, moved = scene(3, ndim=2)
    scores, moved = scores.requires_grad_(), moved.requires_grad_()
    for matcher in (TaskAlignedMatcher(), SimOTAMatcher()):
        matches = matcher(
            box_iou(boxes, anchors),
            boxes,
            anchors,
            **layout,
            pred_scores=scores,
            pred_boxes=moved,
        )
        assert not matches.quality.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_taken(dtype):
    boxes, anchors, layout, scores, _ = scene(4, ndim=2)
    quality = box_iou(boxes, anchors)
    for matcher in (TaskAlignedMatcher(), SimOTAMatcher()):
        half = matcher(quality.to(dtype), boxes, anchors, **layout, pred_scores=scores.to(dtype))
        assert half.quality.dtype == dtype
        assert set(range(4)) <= set(half.index.tolist())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TaskAlignedMatcher(0), "topk must be at least 1, got 0"),
        (lambda: TaskAlignedMatcher(alpha=-1.0), "alpha must be at least 0"),
        (lambda: TaskAlignedMatcher(beta=-1.0), "beta must be at least 0"),
        (lambda: SimOTAMatcher(0), "candidates must be at least 1, got 0"),
        (lambda: SimOTAMatcher(center_radius=0.0), "center_radius must be above 0"),
        (lambda: SimOTAMatcher(overlap_weight=-1.0), "overlap_weight must be at least 0"),
        (lambda: SimOTAMatcher(penalty=-1.0), "penalty must be at least 0"),
    ],
)
def test_unknown_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.bad_input
@pytest.mark.parametrize("name", ["pred_scores", "pred_boxes"])
def test_predictions_of_another_shape_are_refused(name):
    boxes, anchors, layout, _, _ = scene(5, ndim=2)
    with pytest.raises(ValueError, match=rf"{name} must have shape"):
        TaskAlignedMatcher()(
            box_iou(boxes, anchors), boxes, anchors, **layout, **{name: torch.zeros(1, 4)}
        )
