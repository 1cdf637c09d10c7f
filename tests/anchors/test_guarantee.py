"""Every lesion gets an anchor, whatever the matcher, and the best that can be had."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from softoverlap.anchors import (
    AnchorWeighting,
    ATSSMatcher,
    MaxOverlapMatcher,
    SimOTAMatcher,
    TaskAlignedMatcher,
)
from softoverlap.anchors._assignment import best_assignment
from softoverlap.anchors._reserve import reserve_one_each
from softoverlap.overlaps import box_diou, box_iou, box_nwd
from tests.support.anchor_grids import crowds, two_levels

MATCHERS = (
    MaxOverlapMatcher(0.4, 0.5),
    MaxOverlapMatcher(0.0, 1.0),
    ATSSMatcher(4),
    ATSSMatcher(4, center_in_gt=True),
    TaskAlignedMatcher(),
    TaskAlignedMatcher(topk=1, center_in_gt=True),
    SimOTAMatcher(),
    SimOTAMatcher(candidates=3, center_radius=0.5),
)
# values on eighths, so that sums of them are exact; some miss
qualities = hnp.arrays(
    np.int64,
    st.tuples(st.integers(1, 6), st.integers(1, 8)),
    elements=st.sampled_from([-4, 0, 0, 0, 1, 2, 3, 5, 8]),
).map(lambda eighths: torch.from_numpy(eighths / 8))


def best_of_scipy(gain):
    """Largest number of rows that meet a column, and the highest total gain of that many."""
    gain = np.asarray(gain, dtype=np.float64)
    bonus = 1 + gain.max(initial=0) * len(gain)
    rows, columns = linear_sum_assignment(np.where(gain > 0, -gain - bonus, 0))
    chosen = gain[rows, columns]
    return int((chosen > 0).sum()), float(chosen[chosen > 0].sum())


def predictions(shape, generator):
    """Scores of any size, some of them 0."""
    scores = torch.rand(shape, generator=generator)
    return scores.where(scores > 0.2, 0.0)


@given(qualities)
def test_the_assignment_is_as_large_and_as_good_as_scipys(gain):
    chosen = best_assignment(gain)
    met = chosen >= 0
    own = gain[met, chosen[met]]
    assert (own > 0).all()
    assert len(chosen[met].unique()) == met.sum()
    assert (int(met.sum()), float(own.sum())) == best_of_scipy(gain)


def test_the_assignment_of_a_large_random_case_is_scipys():
    gain = torch.rand(60, 90, generator=torch.Generator().manual_seed(0)).double()
    gain = gain.where(gain > 0.9, 0.0)
    chosen = best_assignment(gain)
    met = chosen >= 0
    count, total = best_of_scipy(gain)
    assert int(met.sum()) == count
    assert float(gain[met, chosen[met]].sum()) == pytest.approx(total, abs=1e-12)


def test_values_that_are_no_number_are_misses():
    gain = torch.tensor([[torch.nan, 0.5], [torch.inf, 0.25]])
    assert best_assignment(gain).tolist() == [1, -1]


def places(count):
    line = torch.arange(float(count))
    return torch.stack([line, line + 1], dim=1)


@given(qualities, st.data())
def test_reserving_changes_only_what_it_must(quality, data):
    lesions, anchors = quality.shape
    owners = [[k for k in range(lesions) if quality[k, n] > 0] for n in range(anchors)]
    index = torch.tensor([data.draw(st.sampled_from([-1, -2, *owner])) for owner in owners])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if lesions > anchors else "error")
        after = reserve_one_each(index, quality, places(lesions), places(anchors))
    served = {k for k in after.tolist() if k >= 0}
    assert len(served) == min(lesions, anchors)
    met = {k for n, k in enumerate(after.tolist()) if k >= 0 and quality[k, n] > 0}
    assert len(met) == best_of_scipy(quality)[0]
    for anchor in (after != index).nonzero()[:, 0].tolist():  # it went to a lesion with no other
        assert (after == after[anchor]).sum() == 1
    for lesion in served - met:  # a fallback: nothing that meets its lesion is free
        assert not ((quality[lesion] > 0) & (after < 0)).any()


@given(qualities)
def test_lesions_that_all_come_away_empty_share_the_anchors_as_well_as_can_be(quality):
    lesions, anchors = quality.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if lesions > anchors else "error")
        index = reserve_one_each(
            torch.full((anchors,), -1), quality, places(lesions), places(anchors)
        )
    own = quality[index.clamp(min=0), torch.arange(anchors)].where(index >= 0, 0.0).clamp(min=0)
    assert (int((own > 0).sum()), float(own.sum())) == best_of_scipy(quality)


@given(crowds(), st.sampled_from(MATCHERS), st.booleans(), st.integers(0, 99))
def test_every_lesion_gets_an_anchor_and_only_fallbacks_miss(crowd, matcher, predicted, seed):
    boxes, anchors, layout = crowd
    quality, options = box_iou(boxes, anchors), {}
    if predicted:
        generator = torch.Generator().manual_seed(seed)
        moved = anchors + 2 * torch.rand(len(anchors), 1, generator=generator)
        options = {"pred_scores": predictions(quality.shape, generator), "pred_boxes": moved}
    matches = matcher(quality, boxes, anchors, **layout, **options)
    assert set(range(len(boxes))) <= set(matches.index.tolist())
    for lesion in range(len(boxes)):
        mine = matches.index == lesion
        if (matches.quality[mine] <= 0).any():  # a fallback is the only anchor of its lesion
            assert mine.sum() == 1
            assert matches.fallback[mine].all()
            assert not ((quality[lesion] > 0) & (matches.index < 0)).any()
    met = {int(k) for k in matches.index[matches.positive & ~matches.fallback]}
    assert len(met) == best_of_scipy(quality)[0]


@given(crowds(), st.sampled_from(MATCHERS), st.permutations(range(8)))
def test_as_many_lesions_are_met_whatever_their_order(crowd, matcher, order):
    boxes, anchors, layout = crowd
    order = [k for k in order if k < len(boxes)]
    quality = box_iou(boxes, anchors)
    first = matcher(quality, boxes, anchors, **layout)
    second = matcher(quality[order], boxes[order], anchors, **layout)
    assert first.fallback.sum() == second.fallback.sum()


@given(crowds(), st.sampled_from(MATCHERS))
def test_an_overlap_with_a_distance_term_misses_where_it_is_not_positive(crowd, matcher):
    boxes, anchors, layout = crowd
    quality = box_diou(boxes, anchors)
    matches = matcher(quality, boxes, anchors, **layout)
    assert set(range(len(boxes))) <= set(matches.index.tolist())
    met = matches.positive & ~matches.fallback
    assert (matches.quality[met] > 0).all()
    assert len(matches.index[met].unique()) == best_of_scipy(quality)[0]


@pytest.mark.parametrize("matcher", MATCHERS)
def test_an_overlap_that_never_is_zero_has_no_fallback(matcher):
    anchors, layout = two_levels(16)
    boxes = torch.tensor([[0.0, 0, 0, 1, 1, 1], [7, 7, 7, 8, 8, 8], [7, 7, 7, 8, 8, 8]])
    matches = matcher(box_nwd(boxes, anchors), boxes, anchors, **layout)
    assert set(matches.index[matches.positive].tolist()) == {0, 1, 2}
    assert not matches.fallback.any()


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


@pytest.mark.parametrize("matcher", MATCHERS)
def test_no_anchor_at_all_is_reported(matcher):
    with pytest.warns(UserWarning, match="0 anchors cannot serve 2 lesions: 2 lesions have no"):
        matches = matcher(
            torch.zeros(2, 0),
            torch.tensor([[1.0, 2.0], [2.0, 3.0]]),
            torch.zeros(0, 2),
            num_locations_per_level=[0],
            num_anchors_per_loc=1,
        )
    assert matches.index.shape == matches.quality.shape == (0,)


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


def test_a_lesion_left_without_takes_the_anchor_of_highest_total_quality():
    # first come, first served would give lesion 0 anchor 0 and leave 0.1 for lesion 1
    quality = torch.tensor([[0.30, 0.29, 0.0], [0.28, 0.10, 0.0]])
    boxes = torch.tensor([[0.0, 3.0], [0.0, 2.0]])
    matches = MaxOverlapMatcher(0.4, 0.5)(
        quality, boxes, places(3), num_locations_per_level=[3], num_anchors_per_loc=1
    )
    assert matches.index.tolist() == [1, 0, -1]


def test_a_lesion_that_can_do_without_an_anchor_keeps_the_others():
    # lesion 1 is met by anchor 0 alone; lesion 0, with three positives, takes no other instead
    quality = torch.tensor([[0.9, 0.8, 0.7, 0.2], [0.6, 0.0, 0.0, 0.0]])
    boxes = torch.tensor([[0.0, 3.0], [0.0, 1.0]])
    matches = MaxOverlapMatcher(0.5, 0.5)(
        quality, boxes, places(4), num_locations_per_level=[4], num_anchors_per_loc=1
    )
    assert matches.index.tolist() == [1, 0, 0, -1]


@pytest.mark.parametrize("matcher", MATCHERS)
def test_lesions_of_one_voxel_side_by_side_are_all_served(matcher):
    anchors, layout = two_levels(16, sides=(5.0,))
    low = torch.tensor(list(itertools.product((3.0, 4.0, 5.0), repeat=3)))
    boxes = torch.cat([low, low + 1], dim=1)
    quality = box_iou(boxes, anchors)
    matches = matcher(quality, boxes, anchors, **layout)
    assert set(range(27)) <= set(matches.index.tolist())
    met = matches.index[matches.positive & ~matches.fallback].unique()
    assert len(met) == best_of_scipy(quality)[0] < 27


def test_a_quality_below_zero_ranks_the_anchors_that_miss():
    """The quality of the second is lower, though its centre is nearer."""
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    anchors = torch.tensor([[3.5, 0.0, 11.5, 4.0], [4.5, 0.0, 8.5, 4.0]])
    case = {"num_locations_per_level": [2], "num_anchors_per_loc": 1}
    matches = ATSSMatcher()(torch.tensor([[-0.1, -0.2]]), boxes, anchors, **case)
    assert matches.index.tolist() == [0, -1]
    assert matches.fallback.tolist() == [True, False]
    assert ATSSMatcher()(torch.zeros(1, 2), boxes, anchors, **case).index.tolist() == [-1, 0]


@pytest.mark.bad_input
def test_values_that_are_no_quality_and_no_prediction_are_refused():
    boxes = anchors = torch.tensor([[0.0, 4.0]])
    case = {"num_locations_per_level": [1], "num_anchors_per_loc": 1}
    good, nan = torch.ones(1, 1), torch.full((1, 1), float("nan"))
    for bad in (nan, 2 * good):
        with pytest.raises(ValueError, match="quality must be at most 1 and not NaN"):
            ATSSMatcher()(bad, boxes, anchors, **case)
    with pytest.raises(ValueError, match=r"pred_scores must hold probabilities in \[0, 1\]"):
        TaskAlignedMatcher()(good, boxes, anchors, pred_scores=3 * good, **case)
    with pytest.raises(ValueError, match="pred_boxes must hold finite coordinates"):
        TaskAlignedMatcher()(good, boxes, anchors, pred_boxes=torch.cat([nan, good], 1), **case)
    with pytest.raises(ValueError, match=r"existence must hold probabilities in \[0, 1\]"):
        AnchorWeighting()(ATSSMatcher()(good, boxes, anchors, **case), torch.tensor([5.0]))


def test_a_lesion_that_nothing_meets_leaves_others_their_best():
    quality = torch.tensor([[0.9, 0.2], [0.0, 0.0]])
    boxes = anchors = torch.tensor([[0.0, 4.0], [1.0, 5.0]])
    case = {"num_locations_per_level": [2], "num_anchors_per_loc": 1}
    assert MaxOverlapMatcher(0.1, 0.15)(quality, boxes, anchors, **case).index.tolist() == [0, 1]
