"""Soft distance IoU: the overlap that also ranks boxes that miss."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from softoverlap.boxes import volume as box_volumes
from softoverlap.mask_boxes import SummedVolume, centres_of_mass, supports
from softoverlap.overlaps import box_diou, mask_box_diou, mask_box_iou, mask_box_pair_diou
from tests.support.lesion_makers import ball, lesion_from_crop
from tests.support.reference import reference_mask_box_diou
from tests.support.strategies import box_batches

seen = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(1e-3, 1))
"""Probabilities that don't vanish in a sum."""


@st.composite
def seen_masks_and_boxes(draw):
    ndim = draw(st.integers(1, 3))
    shape = (2, *draw(st.lists(st.integers(1, 5), min_size=ndim, max_size=ndim)))
    masks = torch.from_numpy(draw(hnp.arrays("float64", shape, elements=seen)))
    return masks, draw(box_batches(ndim=ndim, low=-4, high=9))


@given(seen_masks_and_boxes(), st.floats(0, 1))
def test_the_score_equals_its_definition(case, empty):
    masks, boxes = case
    score = mask_box_diou(masks, boxes, empty=empty)
    for row, mask in enumerate(masks):
        for column, box in enumerate(boxes):
            expected = reference_mask_box_diou(mask.numpy(), box.numpy(), empty)
            assert score[row, column].item() == pytest.approx(expected, abs=1e-12)


@given(seen_masks_and_boxes())
def test_the_score_is_bounded_and_never_above_the_iou(case):
    score = mask_box_diou(*case)
    assert (score >= -1).all()
    assert (score <= mask_box_iou(*case)).all()


@given(seen_masks_and_boxes())
def test_aligned_scores_are_the_diagonal_of_pairwise_ones(case):
    masks, boxes = case
    count = min(len(masks), len(boxes))
    pairwise = mask_box_diou(masks[:count], boxes[:count])
    assert torch.equal(mask_box_pair_diou(masks[:count], boxes[:count]), pairwise.diagonal())


@given(seen_masks_and_boxes())
def test_only_a_filled_box_scores_one(case):
    masks, boxes = case
    score = mask_box_diou(masks, boxes, empty=0.0)
    for row, column in (score >= 1 - 1e-12).nonzero().tolist():
        ndim = masks.ndim - 1
        box = boxes[column]
        window = tuple(slice(int(box[a]), int(box[a + ndim])) for a in range(ndim))
        assert (masks[row][window] == 1).all()
        assert masks[row].sum() == box_volumes(box)


@given(seen_masks_and_boxes(), st.integers(0, 5))
def test_mask_and_box_may_move_together(case, shift):
    masks, boxes = case
    moved = torch.nn.functional.pad(masks, [shift, 2] * (masks.ndim - 1))
    torch.testing.assert_close(
        mask_box_diou(moved, boxes + shift), mask_box_diou(masks, boxes), atol=1e-12, rtol=0
    )


@given(seen_masks_and_boxes(), st.integers(2, 3))
def test_mask_and_box_may_grow_together(case, factor):
    masks, boxes = case
    grown = masks
    for axis in range(1, masks.ndim):
        grown = grown.repeat_interleave(factor, dim=axis)
    torch.testing.assert_close(
        mask_box_diou(grown, factor * boxes), mask_box_diou(masks, boxes), atol=1e-12, rtol=0
    )


@given(box_batches(ndim=3, count=3, low=-4, high=9))
def test_against_a_full_box_it_is_the_distance_iou_of_boxes(boxes):
    mask = torch.zeros(1, 6, 7, 8, dtype=torch.float64)
    mask[0, 1:5, 2:4, 3:8] = 1
    tight = torch.tensor([[1.0, 2, 3, 5, 4, 8]], dtype=torch.float64)
    torch.testing.assert_close(
        mask_box_diou(mask, boxes), box_diou(tight, boxes), atol=1e-12, rtol=0
    )


def test_among_boxes_that_miss_the_nearer_one_ranks_higher():
    mask = torch.zeros(1, 20, 20)
    mask[0, 2:5, 2:5] = 0.7
    start = torch.arange(6.0, 17.0)
    boxes = torch.stack([start, start, start + 3, start + 3], dim=1)
    score = mask_box_diou(mask, boxes)[0]
    assert (score[1:] < score[:-1]).all()
    assert score[0] < 0


@pytest.mark.parametrize("score", [mask_box_diou, mask_box_pair_diou])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_gradients_pass_gradcheck_away_from_voxel_edges(score, ndim):
    generator = torch.Generator().manual_seed(ndim)
    masks = 0.1 + 0.9 * torch.rand(2, *[4, 3, 5][:ndim], generator=generator, dtype=torch.float64)
    low = torch.randint(-1, 3, (2, ndim), generator=generator) + 0.3
    high = low.floor() + torch.randint(1, 4, (2, ndim), generator=generator) + 0.6
    low[1], high[1] = low[1] + 20, high[1] + 20  # the second box misses
    boxes = torch.cat([low, high], dim=1).double()
    inputs = (masks.requires_grad_(), boxes.requires_grad_())
    assert torch.autograd.gradcheck(lambda m, b: score(m, b, validate=False), inputs)


def test_a_box_that_misses_is_drawn_to_the_mask():
    mask = torch.zeros(1, 12, dtype=torch.float64)
    mask[0, 1:3] = 0.5
    box = torch.tensor([[8.0, 10.0]], dtype=torch.float64, requires_grad=True)
    mask_box_pair_diou(mask, box).sum().backward()
    assert box.grad.sum() < 0  # a step up the score moves it to lower coordinates


def test_lesions_crops_tables_and_whole_masks_agree():
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(3, 9, 8, 7)
    crops = [torch.rand(side, side, side, generator=generator) + 0.01 for side in (2, 3, 4)]
    offsets = [torch.tensor([1, 2, 3]), torch.tensor([5, 0, 2]), torch.tensor([0, 3, 3])]
    for mask, crop, offset in zip(masks, crops, offsets, strict=True):
        low, high = offset.tolist(), (offset + crop.shape[0]).tolist()
        mask[tuple(slice(*edges) for edges in zip(low, high, strict=True))] = crop.clamp(max=1)
    lesions = [
        lesion_from_crop(crop.clamp(max=1), offset)
        for crop, offset in zip(crops, offsets, strict=True)
    ]
    low = 12 * torch.rand(40, 3, generator=generator) - 2
    boxes = torch.cat([low, low + 3], dim=1)
    expected = mask_box_diou(masks, boxes)
    whole = SummedVolume._from_whole(masks)
    for source in (lesions, SummedVolume.from_masks(masks), whole):
        torch.testing.assert_close(mask_box_diou(source, boxes), expected, atol=1e-6, rtol=0)
    for source in (SummedVolume.from_lesions(lesions), whole):
        centre = torch.stack([lesion.centre for lesion in lesions])
        torch.testing.assert_close(centres_of_mass(source).float(), centre, atol=1e-5, rtol=0)
        corners = [
            torch.cat([offset, offset + len(crop)])
            for offset, crop in zip(offsets, crops, strict=True)
        ]
        assert torch.equal(supports(source), torch.stack(corners).double())


def test_the_support_is_that_of_voxels_above_zero_not_of_the_crop():
    padded = torch.nn.functional.pad(ball(5, ndim=2), [3, 4, 0, 2])
    boxes = torch.tensor([[20.0, 20.0, 22.0, 23.0]])
    tight = lesion_from_crop(ball(5, ndim=2), [4, 6])
    loose = lesion_from_crop(padded, [4, 3])
    assert torch.equal(mask_box_diou([tight], boxes), mask_box_diou([loose], boxes))


@pytest.mark.parametrize("whole", [False, True])
def test_an_empty_mask_scores_like_its_iou(whole):
    mask = torch.zeros(2, 4, 4)
    mask[1, 1, 1] = 1
    source = SummedVolume._from_whole(mask) if whole else mask
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 1.0, 3.0]])
    assert mask_box_diou(source, boxes, empty=0.5)[0].tolist() == [0.0, 0.5]
    assert mask_box_pair_diou(source, boxes, empty=0.5)[0].item() == 0
    flat = mask_box_diou(torch.zeros(1, 0, 3), boxes)
    assert flat.tolist() == [[0.0, 1.0]]


def test_gradients_of_an_empty_mask_are_finite():
    mask = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    box = torch.tensor([[1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    mask_box_diou(mask, box).sum().backward()
    assert mask.grad.isfinite().all()
    assert box.grad.tolist() == [[0, 0]]


def test_a_flat_box_on_a_single_voxel_has_a_finite_gradient():
    mask = torch.ones(1, 1, dtype=torch.float64, requires_grad=True)
    box = torch.tensor([[0.5, 0.5]], dtype=torch.float64, requires_grad=True)
    mask_box_diou(mask, box).sum().backward()
    assert mask.grad.isfinite().all()
    assert box.grad.isfinite().all()


def test_results_take_the_floating_type_of_the_inputs():
    mask, box = torch.ones(1, 4), torch.tensor([[0.0, 2.0]])
    assert mask_box_diou(mask.half(), box.half()).dtype == torch.float16
    assert mask_box_pair_diou(mask, box.double()).dtype == torch.float64
    assert mask_box_diou(mask.to(torch.uint8), box.long()).dtype == torch.get_default_dtype()


def test_half_precision_masks_keep_the_score():
    mask, box = ball(7)[None], torch.tensor([[1.0, 1.5, 2.0, 5.5, 6.0, 6.5]])
    exact = mask_box_diou(mask.half().double(), box.double())
    assert mask_box_diou(mask.half(), box.half()).item() == pytest.approx(exact.item(), abs=2e-3)


def test_no_boxes_and_no_masks_are_normal_input():
    assert mask_box_diou(torch.ones(2, 4), torch.zeros(0, 2)).shape == (2, 0)
    assert mask_box_diou(torch.ones(0, 4), torch.zeros(3, 2)).shape == (0, 3)


@pytest.mark.parametrize("score", [mask_box_diou, mask_box_pair_diou])
def test_nan_stays_nan_where_values_are_not_looked_at(score):
    mask, box = torch.ones(1, 3, 3), torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    assert score(mask, box * float("nan"), validate=False).isnan().all()
    assert score(mask * float("nan"), box, validate=False).isnan().all()


def test_scores_do_not_depend_on_how_the_work_is_cut(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(5, 6, 6, generator=generator)
    low = 8 * torch.rand(40, 2, generator=generator) - 1
    boxes = torch.cat([low, low + 3], dim=1)
    expected = mask_box_diou(masks, boxes)
    monkeypatch.setattr("softoverlap.overlaps._mask_box_scores._PAIRS_PER_BLOCK", 7)
    monkeypatch.setattr("softoverlap.overlaps._mask_box_scores.VOXELS_AT_ONCE", 80)
    assert torch.equal(mask_box_diou(masks, boxes), expected)


@pytest.mark.bad_input
@pytest.mark.parametrize("score", [mask_box_diou, mask_box_pair_diou])
def test_bad_input_is_named(score):
    mask, box = torch.full((1, 4, 4), 0.5), torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    with pytest.raises(ValueError, match=r"boxes must have shape \(N, 4\), got \(1, 6\)"):
        score(mask, torch.zeros(1, 6))
    with pytest.raises(ValueError, match="boxes must have every maximum"):
        score(mask, box.flip(1))
    with pytest.raises(ValueError, match="masks must hold probabilities .* logits"):
        score(mask - 4, box)
    with pytest.raises(TypeError, match="masks must be a tensor, a sequence of Lesion"):
        score([mask], box)
    with pytest.raises(ValueError, match=r"masks must have shape \(K, \*spatial\)"):
        score(torch.zeros(1, 1, 4, 4), box)


@pytest.mark.bad_input
def test_aligned_scores_need_as_many_masks_as_boxes():
    with pytest.raises(ValueError, match="masks and boxes must be as many, got 2 and 3"):
        mask_box_pair_diou(torch.zeros(2, 4), torch.zeros(3, 2))
