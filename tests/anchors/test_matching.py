import itertools
import warnings

import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap.anchors import (
    AnchorWeighting,
    ATSSMatcher,
    Matches,
    MaxOverlapMatcher,
    SimOTAMatcher,
    TaskAlignedMatcher,
    anchor_quality,
)
from softoverlap.overlaps import box_iou
from tests.support.anchor_grids import crowds, random_boxes, two_levels
from tests.support.lesion_makers import ball_lesion
from tests.support.reference import reference_atss, reference_max_overlap


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("center_in_gt", [False, True])
def test_atss_matches_as_the_reference_where_every_lesion_gets_an_anchor(ndim, center_in_gt):
    anchors, layout = two_levels(ndim=ndim)
    levels = [count * 2 for count in layout["num_locations_per_level"]]
    matcher, compared = ATSSMatcher(4, center_in_gt=center_in_gt), 0
    for seed in range(30):
        boxes = random_boxes(3, torch.Generator().manual_seed(seed), ndim=ndim, low=4.0)
        quality = box_iou(boxes, anchors)
        expected = reference_atss(
            quality.double().numpy(),
            boxes.double().numpy(),
            anchors.double().numpy(),
            levels,
            8,
            center_in_gt,
        )
        if set(range(3)) - set(expected):
            continue
        compared += 1
        assert matcher(quality, boxes, anchors, **layout).index.tolist() == expected
    assert compared >= 5


def test_anchors_of_one_place_may_have_centres_of_their_own():
    anchors, layout = two_levels(ndim=2)
    generator = torch.Generator().manual_seed(0)
    anchors = (anchors + torch.rand(len(anchors), 1, generator=generator)).double()
    levels = [count * 2 for count in layout["num_locations_per_level"]]
    boxes = random_boxes(3, generator, ndim=2, low=6.0).double()
    quality = box_iou(boxes, anchors)
    expected = reference_atss(quality.numpy(), boxes.numpy(), anchors.numpy(), levels, 8)
    assert set(range(3)) <= set(expected)
    assert ATSSMatcher(4)(quality, boxes, anchors, **layout).index.tolist() == expected


@pytest.mark.parametrize(
    "matcher", [ATSSMatcher(), MaxOverlapMatcher(0.4, 0.5), TaskAlignedMatcher(), SimOTAMatcher()]
)
def test_a_level_without_places_is_passed_over(matcher):
    anchors, layout = two_levels(ndim=2)
    boxes = random_boxes(2, torch.Generator().manual_seed(1), ndim=2)
    fine, coarse = layout["num_locations_per_level"]
    layout = {"num_locations_per_level": [0, fine, 0, coarse], "num_anchors_per_loc": 2}
    matches = matcher(box_iou(boxes, anchors), boxes, anchors, **layout)
    assert set(matches.index[matches.positive].tolist()) == {0, 1}


def test_atss_equals_monai_where_both_are_defined():
    from monai.apps.detection.utils.ATSS_matcher import ATSSMatcher as MonaiMatcher

    anchors, layout = two_levels(size=48)
    monai, compared = MonaiMatcher(4, box_iou, center_in_gt=False), 0
    for seed in range(20):
        boxes = random_boxes(3, torch.Generator().manual_seed(seed), size=48, low=4.0)
        _, theirs = monai.compute_matches(
            boxes, anchors, layout["num_locations_per_level"], layout["num_anchors_per_loc"]
        )
        quality = box_iou(boxes, anchors)
        zero = (theirs >= 0) & (quality.gather(0, theirs.clamp(min=0)[None])[0] == 0)
        if zero.any() or set(range(3)) - set(theirs.tolist()):
            continue  # MONAI matches without overlap, or leaves a lesion empty
        compared += 1
        assert torch.equal(ATSSMatcher(4)(quality, boxes, anchors, **layout).index, theirs)
    assert compared >= 5


@pytest.mark.parametrize(
    "matcher", [ATSSMatcher(), MaxOverlapMatcher(0.4, 0.5), TaskAlignedMatcher(), SimOTAMatcher()]
)
def test_without_lesions_all_is_background(matcher):
    anchors, layout = two_levels()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matches = matcher(torch.zeros(0, len(anchors)), torch.zeros(0, 6), anchors, **layout)
    assert (matches.index == -1).all()
    assert matches.index.dtype == torch.int64
    assert (matches.quality == 0).all()


def test_tiny_soft_lesions_all_get_an_anchor_on_a_coarse_grid():
    anchors, layout = two_levels(size=32, sides=(5.0, 8.0, 12.0))
    lesions = [ball_lesion(2, [x, y, z]) for x, y, z in itertools.product((1, 12, 29), repeat=3)]
    quality = anchor_quality(lesions, anchors)
    boxes = torch.stack([lesion.box for lesion in lesions])
    matches = ATSSMatcher()(quality, boxes, anchors, **layout)
    assert set(matches.index[matches.positive & ~matches.fallback].tolist()) == set(range(27))


@given(crowds(), st.floats(0, 1), st.floats(0, 1))
def test_max_overlap_matches_as_the_reference(crowd, one, other):
    boxes, anchors, layout = crowd
    quality = box_iou(boxes, anchors).double()
    low, high = sorted((one, other))
    matcher = MaxOverlapMatcher(low, high, allow_low_quality_matches=False)
    expected = reference_max_overlap(quality.numpy(), low, high)
    assert matcher(quality, boxes, anchors, **layout).index.tolist() == expected


def test_max_overlap_splits_at_low_and_high():
    quality = torch.tensor([[0.39, 0.40, 0.49, 0.50, 0.10], [0.0, 0.0, 0.45, 0.6, 0.9]])
    anchors = torch.arange(5.0)[:, None] + torch.tensor([0.0, 1.0])
    boxes = torch.tensor([[0.0, 1.0], [3.0, 4.0]])
    options = {"num_locations_per_level": [5], "num_anchors_per_loc": 1}
    strict = MaxOverlapMatcher(0.4, 0.5, allow_low_quality_matches=False)
    assert strict(quality, boxes, anchors, **options).index.tolist() == [-1, -2, -2, 1, 1]
    matches = MaxOverlapMatcher(0.4, 0.5)(quality, boxes, anchors, **options)
    assert matches.index.tolist() == [-1, -2, -2, 0, 1]  # lesion 0 takes its best
    assert matches.quality.tolist() == pytest.approx([0.39, 0.40, 0.49, 0.50, 0.9])


@given(crowds(), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_never_adds_positives(crowd, one, other):
    boxes, anchors, layout = crowd
    quality = box_iou(boxes, anchors)
    low, high = sorted((one, other))
    loose = MaxOverlapMatcher(low, low, allow_low_quality_matches=False)
    tight = MaxOverlapMatcher(low, high, allow_low_quality_matches=False)
    more = loose(quality, boxes, anchors, **layout).positive
    fewer = tight(quality, boxes, anchors, **layout).positive
    assert not (fewer & ~more).any()
    assert not (more & (quality.amax(dim=0) == 0)).any()


def test_the_quality_of_a_match_is_that_of_its_lesion():
    anchors, layout = two_levels()
    boxes = random_boxes(4, torch.Generator().manual_seed(0))
    quality = box_iou(boxes, anchors)
    matches = ATSSMatcher()(quality, boxes, anchors, **layout)
    own = quality[matches.index[matches.positive], matches.positive.nonzero()[:, 0]]
    assert torch.equal(matches.quality[matches.positive], own)
    rest = ~matches.positive
    assert torch.equal(matches.quality[rest], quality.amax(dim=0)[rest])


@pytest.mark.parametrize(("low", "high"), [(0.6, 0.5), (-0.1, 0.5), (0.5, 1.1)])
def test_thresholds_out_of_order_are_refused(low, high):
    with pytest.raises(ValueError, match="low and high must satisfy"):
        MaxOverlapMatcher(low, high)


def test_no_candidate_is_refused():
    with pytest.raises(ValueError, match="num_candidates must be at least 1"):
        ATSSMatcher(0)


def test_a_layout_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="must give the number of anchors, 2, got"):
        ATSSMatcher()(
            torch.zeros(1, 2),
            torch.tensor([[0.0, 1.0]]),
            torch.tensor([[0.0, 1.0], [1.0, 2.0]]),
            num_locations_per_level=[3],
            num_anchors_per_loc=1,
        )


@pytest.mark.bad_input
def test_a_quality_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"quality must have shape \(M, N\) = \(1, 2\)"):
        ATSSMatcher()(
            torch.zeros(2, 2),
            torch.tensor([[0.0, 1.0]]),
            torch.tensor([[0.0, 1.0], [1.0, 2.0]]),
            num_locations_per_level=[2],
            num_anchors_per_loc=1,
        )


@pytest.mark.bad_input
def test_matches_of_different_length_are_refused():
    with pytest.raises(ValueError, match="quality must have shape"):
        Matches(torch.zeros(2), torch.zeros(3, dtype=torch.int64))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda value: ATSSMatcher(center_in_gt=value), "center_in_gt"),
        (lambda value: TaskAlignedMatcher(center_in_gt=value), "center_in_gt"),
        (
            lambda value: MaxOverlapMatcher(0.4, 0.5, allow_low_quality_matches=value),
            "allow_low_quality_matches",
        ),
        (lambda value: AnchorWeighting(normalize_per_lesion=value), "normalize_per_lesion"),
        (lambda value: anchor_quality([], torch.zeros(0, 6), sparse=value), "sparse"),
    ],
)
@pytest.mark.parametrize("value", ["no", 1, None])
def test_a_switch_is_true_or_false(make, name, value):
    with pytest.raises(TypeError, match=f"{name} must be True or False, got {value!r}"):
        make(value)
