import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from lesion_makers import ball_lesion

from softoverlap.anchors import ATSSMatcher, Matches, MaxOverlapMatcher, anchor_quality
from softoverlap.overlaps import box_iou


def grid_anchors(size, stride, sides, ndim=3):
    """Cubes of these sides at the centre of every cell, side by side."""
    axis = (torch.arange(size // stride) + 0.5) * stride
    centres = torch.stack(torch.meshgrid(*[axis] * ndim, indexing="ij"), -1).reshape(-1, 1, ndim)
    half = torch.tensor(sides).reshape(1, -1, 1) / 2
    return torch.cat([centres - half, centres + half], dim=2).reshape(-1, 2 * ndim)


def two_levels(size=24, ndim=3, sides=(4.0, 7.0)):
    fine, coarse = grid_anchors(size, 4, sides, ndim), grid_anchors(size, 8, sides, ndim)
    levels = [(size // 4) ** ndim, (size // 8) ** ndim]
    return torch.cat([fine, coarse]), {
        "num_locations_per_level": levels,
        "num_anchors_per_loc": len(sides),
    }


def random_boxes(count, generator, size=24, ndim=3, low=1.0, high=10.0):
    side = low + (high - low) * torch.rand(count, ndim, generator=generator)
    start = torch.rand(count, ndim, generator=generator) * (size - side)
    return torch.cat([start, start + side], dim=1)


def reference_atss(quality, boxes, anchors, levels, num_candidates, center_in_gt=False):
    """Lesion by lesion, anchor by anchor, without the fallback."""
    ndim = boxes.shape[1] // 2
    owner, top = [-1] * len(anchors), [0.0] * len(anchors)
    for lesion, box in enumerate(boxes):
        centre = (box[:ndim] + box[ndim:]) / 2
        candidates, start = [], 0
        for count in levels:
            place = (
                anchors[start : start + count, :ndim] + anchors[start : start + count, ndim:]
            ) / 2
            distance = np.linalg.norm(place - centre, axis=1)
            candidates += [start + k for k in np.argsort(distance, kind="stable")[:num_candidates]]
            start += count
        values = quality[lesion, candidates]
        threshold = values.mean() + (values.std(ddof=1) if len(values) > 1 else 0)
        for anchor in candidates:
            value, place = (
                quality[lesion, anchor],
                (anchors[anchor, :ndim] + anchors[anchor, ndim:]) / 2,
            )
            if center_in_gt and not ((place > box[:ndim]) & (place < box[ndim:])).all():
                continue
            if value >= threshold - 1e-12 and value > top[anchor]:
                owner[anchor], top[anchor] = lesion, value
    return owner


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


@st.composite
def crowds(draw):
    """Boxes down to a single voxel, many on one spot, and anchors too few or too large for them."""
    ndim = draw(st.integers(1, 3))
    size = draw(st.sampled_from([8, 16]))
    anchors, layout = two_levels(size, ndim, draw(st.sampled_from([(2.0,), (4.0, 7.0)])))
    count = draw(st.integers(1, min(8, len(anchors))))
    sides = st.integers(1, 4)
    boxes = []
    for _ in range(count):
        side = [draw(sides) for _ in range(ndim)]
        low = [draw(st.integers(0, size - edge)) for edge in side]
        boxes.append([*low, *[a + b for a, b in zip(low, side, strict=True)]])
    return torch.tensor(boxes, dtype=torch.float32), anchors, layout


@given(crowds(), st.booleans())
def test_every_lesion_gets_an_anchor_and_only_fallbacks_miss(crowd, center_in_gt):
    boxes, anchors, layout = crowd
    quality = box_iou(boxes, anchors)
    matches = ATSSMatcher(4, center_in_gt=center_in_gt)(quality, boxes, anchors, **layout)
    assert set(range(len(boxes))) <= set(matches.index.tolist())
    for lesion in range(len(boxes)):
        mine = matches.index == lesion
        if (matches.quality[mine] == 0).any():  # a fallback is the only anchor of its lesion
            assert mine.sum() == 1
            assert matches.fallback[mine].all()


@given(crowds())
def test_as_many_lesions_as_possible_get_an_anchor_that_meets_them(crowd):
    boxes, anchors, layout = crowd
    quality = box_iou(boxes, anchors)
    matches = ATSSMatcher(4)(quality, boxes, anchors, **layout)
    met = {int(k) for k in matches.index[matches.positive & ~matches.fallback]}
    assert len(met) == largest_assignment(quality > 0)


def largest_assignment(meets):
    """Kuhn's augmenting paths, written recursively."""
    owner = {}

    def place(lesion, seen):
        for anchor in meets[lesion].nonzero()[:, 0].tolist():
            if anchor not in seen:
                seen.add(anchor)
                if anchor not in owner or place(owner[anchor], seen):
                    owner[anchor] = lesion
                    return True
        return False

    return sum(place(lesion, set()) for lesion in range(len(meets)))


@given(crowds(), st.permutations(range(8)))
def test_a_lesion_is_served_whatever_its_place_in_the_list(crowd, order):
    boxes, anchors, layout = crowd
    order = [k for k in order if k < len(boxes)]
    quality = box_iou(boxes, anchors)
    first = ATSSMatcher(4)(quality, boxes, anchors, **layout)
    second = ATSSMatcher(4)(quality[order], boxes[order], anchors, **layout)
    assert first.fallback.sum() == second.fallback.sum()


def test_two_lesions_on_one_anchor_both_get_one():
    anchors = torch.tensor([[0.0, 4.0], [4.0, 8.0], [8.0, 12.0]])
    boxes = torch.tensor([[1.0, 2.0], [2.0, 3.0]])
    matches = ATSSMatcher(2)(
        box_iou(boxes, anchors),
        boxes,
        anchors,
        num_locations_per_level=[3],
        num_anchors_per_loc=1,
    )
    assert sorted(matches.index.tolist()) == [-1, 0, 1]
    assert matches.fallback.sum() == 1
    assert matches.index[2] == -1  # the nearest free one is the neighbour


def test_a_chain_of_lesions_moves_on_so_that_all_are_met():
    # lesion 0 meets only anchor 0, lesion 1 meets 0 and 1, lesion 2 meets 1 and 2, all prefer less
    quality = torch.tensor([[0.5, 0.0, 0.0], [0.9, 0.2, 0.0], [0.0, 0.9, 0.2]])
    anchors = torch.tensor([[0.0, 2.0], [2.0, 4.0], [4.0, 6.0]])
    boxes = torch.tensor([[0.0, 1.0], [1.0, 3.0], [3.0, 5.0]])
    matches = ATSSMatcher(1)(
        quality, boxes, anchors, num_locations_per_level=[3], num_anchors_per_loc=1
    )
    assert matches.index.tolist() == [0, 1, 2]
    assert not matches.fallback.any()


def test_more_lesions_than_anchors_is_reported():
    anchors, boxes = torch.tensor([[0.0, 4.0]]), torch.tensor([[1.0, 2.0], [2.0, 3.0]])
    with pytest.warns(UserWarning, match="1 anchors cannot serve 2 lesions: 1 lesions have no"):
        matches = ATSSMatcher(1)(
            box_iou(boxes, anchors),
            boxes,
            anchors,
            num_locations_per_level=[1],
            num_anchors_per_loc=1,
        )
    assert matches.index.item() in (0, 1)


@pytest.mark.parametrize("matcher", [ATSSMatcher(), MaxOverlapMatcher(0.4, 0.5)])
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


@given(crowds())
def test_max_overlap_serves_every_lesion(crowd):
    boxes, anchors, layout = crowd
    matches = MaxOverlapMatcher(0.4, 0.5)(box_iou(boxes, anchors), boxes, anchors, **layout)
    assert set(range(len(boxes))) <= set(matches.index.tolist())


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
