"""The ratios themselves: closed forms, ranges, guards at zero, and gradients that stay finite."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap import scores


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


@st.composite
def sets(draw):
    """Two sizes, and an intersection no larger than either; sizes below 1e-6 are 0."""
    unit = st.floats(0, 1)
    size_a, size_b = (1e3 * size if size > 1e-6 else 0.0 for size in (draw(unit), draw(unit)))
    return tensor(draw(unit) * min(size_a, size_b)), tensor(size_a), tensor(size_b)


SHARED, A, B = tensor(2), tensor(4), tensor(6)  # |A & B|, |A|, |B|, so |A or B| is 8


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (scores.dice(SHARED, A, B), 4 / 10),
        (scores.iou(SHARED, A, B), 2 / 8),
        (scores.tversky(SHARED, A, B, alpha=0.3, beta=0.7), 2 / (2 + 0.3 * 2 + 0.7 * 4)),
        (scores.iof(SHARED, A), 2 / 4),
        (scores.hull_penalty(tensor(8), tensor(10)), 2 / 10),
        (scores.smoothed_dice(SHARED, A, B, smooth_nr=0.5, smooth_dr=1.5), 4.5 / 11.5),
        (scores.smoothed_iou(SHARED, A, B, smooth_nr=0.5, smooth_dr=1.5), 4.5 / 17.5),
        (
            scores.smoothed_tversky(
                SHARED, A, B, alpha=0.3, beta=0.7, smooth_nr=0.5, smooth_dr=1.5
            ),
            2.5 / (2 + 0.3 * 2 + 0.7 * 4 + 1.5),
        ),
        (scores.distance_penalty(tensor(3), tensor(12)), 3 / 12),
        (scores.aspect_penalty(tensor(0.25), tensor(0.5)), 0.5 / (0.75 + 0.5) * 0.5),
        (scores.nwd(tensor(9), constant=2.0), math.exp(-3 / 2)),
    ],
)
def test_closed_forms(score, expected):
    assert score.dtype == torch.float64
    assert score.item() == pytest.approx(expected, abs=1e-15)


@given(sets())
def test_scores_lie_in_their_range_and_are_ordered(drawn):
    dice, iou = scores.dice(*drawn), scores.iou(*drawn)
    tversky = scores.tversky(*drawn, alpha=0.3, beta=0.7)
    for score in (dice, iou, tversky, scores.iof(*drawn[:2])):
        assert 0 <= score.item() <= 1
    assert iou <= dice
    assert dice.item() == pytest.approx(2 * iou.item() / (1 + iou.item()), abs=1e-12)


@given(sets())
def test_dice_and_iou_are_symmetric_and_cases_of_tversky(drawn):
    shared, size_a, size_b = drawn
    for score, weight in ((scores.dice, 0.5), (scores.iou, 1.0)):
        value = score(*drawn)
        assert torch.equal(value, score(shared, size_b, size_a))
        general = scores.tversky(*drawn, alpha=weight, beta=weight)
        assert general.item() == pytest.approx(value.item(), abs=1e-12)


@given(sets())
def test_tversky_turned_round_swaps_its_weights(drawn):
    shared, size_a, size_b = drawn
    there = scores.tversky(*drawn, alpha=0.2, beta=0.9)
    back = scores.tversky(shared, size_b, size_a, alpha=0.9, beta=0.2)
    assert there.item() == pytest.approx(back.item(), abs=1e-12)


@given(st.floats(1e-3, 1e3))
def test_equal_sets_score_one_and_sets_apart_zero(size):
    size, nothing = tensor(size), tensor(0)
    for score in (scores.dice, scores.iou):
        assert score(size, size, size).item() == 1
        assert score(nothing, size, size).item() == 0
    assert scores.tversky(size, size, size, alpha=0.3, beta=0.7).item() == 1
    assert scores.tversky(nothing, size, size, alpha=0.3, beta=0.7).item() == 0


@pytest.mark.parametrize("empty", [1.0, 0.0, 0.25, math.nan])
def test_two_empty_sets_score_what_is_asked_for(empty):
    nothing = torch.zeros(2)
    for score in (
        scores.dice(nothing, nothing, nothing, empty=empty),
        scores.iou(nothing, nothing, nothing, empty=empty),
        scores.tversky(nothing, nothing, nothing, alpha=0.3, beta=0.7, empty=empty),
        scores.iof(nothing, nothing, empty=empty),
    ):
        assert score.tolist() == pytest.approx([empty, empty], nan_ok=True)


def test_empty_may_differ_from_place_to_place():
    nothing, empty = torch.zeros(2), torch.tensor([0.25, 0.75])
    assert torch.equal(scores.dice(nothing, nothing, nothing, empty=empty), empty)
    assert torch.equal(scores.iou(nothing, nothing, nothing, empty=empty), empty)


def test_one_empty_set_scores_zero_whatever_empty_says():
    nothing, size = tensor(0), tensor(3)
    for score in (scores.dice, scores.iou):
        assert score(nothing, nothing, size, empty=1.0).item() == 0
        assert score(nothing, size, nothing, empty=1.0).item() == 0
    for sizes in ((nothing, size), (size, nothing)):
        assert scores.tversky(nothing, *sizes, alpha=0.0, beta=0.0, empty=1.0).item() == 0


def test_who_knows_that_nothing_is_empty_gets_the_same_scores():
    assert torch.equal(scores.dice(SHARED, A, B, empty=None), scores.dice(SHARED, A, B))
    assert torch.equal(scores.iou(SHARED, A, B, empty=None), scores.iou(SHARED, A, B))
    assert torch.equal(scores.iof(SHARED, A, empty=None), scores.iof(SHARED, A))
    hulls = tensor(8), tensor(10)
    assert torch.equal(scores.hull_penalty(*hulls, empty=None), scores.hull_penalty(*hulls))


@pytest.mark.parametrize("sizes", [(0.0, 0.0), (0.0, 2.0), (2.0, 2.0)])
@pytest.mark.parametrize("name", ["dice", "iou", "tversky"])
def test_gradients_are_finite_where_sets_are_empty_or_equal(name, sizes):
    weights = {"alpha": 0.3, "beta": 0.7} if name == "tversky" else {}
    values = [tensor(value).requires_grad_() for value in (min(sizes), *sizes)]
    getattr(scores, name)(*values, **weights).sum().backward()
    assert all(torch.isfinite(value.grad).all() for value in values)


@pytest.mark.parametrize(
    "score",
    [
        scores.dice,
        scores.iou,
        lambda *sets: scores.tversky(*sets, alpha=0.3, beta=0.7),
        lambda *sets: scores.smoothed_dice(*sets, smooth_nr=0.1, smooth_dr=0.2),
        lambda *sets: scores.smoothed_iou(*sets, smooth_nr=0.1, smooth_dr=0.2),
        lambda *sets: scores.smoothed_tversky(
            *sets, alpha=0.3, beta=0.7, smooth_nr=0.1, smooth_dr=0.2
        ),
    ],
)
def test_gradients_equal_numeric_ones(score):
    values = [value.clone().requires_grad_() for value in (SHARED, A, B)]
    assert torch.autograd.gradcheck(score, values)


def test_nan_comes_out_as_nan():
    unknown, size = tensor(math.nan), tensor(2)
    for score in (
        scores.dice(unknown, size, size),
        scores.iou(size, unknown, size),
        scores.tversky(unknown, size, size, alpha=0.3, beta=0.7),
        scores.iof(unknown, size),
        scores.nwd(unknown, constant=1.0),
    ):
        assert score.isnan().all()


def test_no_rounding_lifts_a_score_above_one():
    size = torch.tensor([0.1, 0.3, 0.7]).cumsum(0)  # float32
    above = size * (1 + 1e-6)
    for score in (scores.dice(above, size, size), scores.iou(above, size, size)):
        assert torch.equal(score, torch.ones(3))
        with torch.no_grad():
            assert scores.dice(above, size, size).max() == 1
    assert scores.iof(above, size).max() == 1
    assert scores.tversky(above, size, size, alpha=0.3, beta=0.7).max() == 1


def test_inputs_are_left_alone_without_gradients():
    shared, size_a, size_b = SHARED.clone(), A.clone(), B.clone()
    with torch.no_grad():
        for score in (scores.dice, scores.iou):
            score(shared, size_a, size_b)
        scores.iof(shared, size_a)
        scores.hull_penalty(size_a, size_b)
    assert (shared.item(), size_a.item(), size_b.item()) == (2, 4, 6)


def test_without_smoothing_the_smoothed_forms_are_the_plain_ones():
    none = {"smooth_nr": 0.0, "smooth_dr": 0.0}
    weights = {"alpha": 0.3, "beta": 0.7}
    assert torch.equal(scores.smoothed_dice(SHARED, A, B, **none), scores.dice(SHARED, A, B))
    assert torch.equal(scores.smoothed_iou(SHARED, A, B, **none), scores.iou(SHARED, A, B))
    smoothed = scores.smoothed_tversky(SHARED, A, B, **weights, **none)
    assert torch.equal(smoothed, scores.tversky(SHARED, A, B, **weights))
    nothing = tensor(0)
    for score in (
        scores.smoothed_dice(nothing, nothing, nothing, **none),
        scores.smoothed_iou(nothing, nothing, nothing, **none),
        scores.smoothed_tversky(nothing, nothing, nothing, **weights, **none),
    ):
        assert score.item() == 1


def test_penalties_are_zero_where_they_have_no_meaning():
    nothing, one = tensor(0), tensor(1)
    assert scores.hull_penalty(nothing, nothing).item() == 0
    assert scores.distance_penalty(one, nothing).item() == 0
    assert scores.distance_penalty(tensor(5), one).item() == 1  # never above 1
    assert scores.aspect_penalty(one, nothing).item() == 0


def test_the_aspect_counts_only_above_its_gate_and_its_weight_has_no_gradient():
    iou, difference = tensor(0.4, 0.5, 0.6), tensor(0.2, 0.2, 0.2).requires_grad_()
    penalty = scores.aspect_penalty(iou, difference, gate=0.5)
    assert penalty[:2].tolist() == [0, 0]
    assert penalty[2].item() == pytest.approx(0.2 * 0.2 / (0.4 + 0.2))
    penalty.sum().backward()
    assert difference.grad.tolist() == pytest.approx([0, 0, 0.2 / (0.4 + 0.2)])


def test_nwd_is_one_and_flat_at_distance_zero():
    squared = tensor(0, 1e-12).requires_grad_()
    score = scores.nwd(squared, constant=2.0)
    assert score[0].item() == 1
    assert score[1].item() == pytest.approx(1, abs=1e-5)
    score[0].backward()
    assert squared.grad.tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_of_the_sizes_is_kept(dtype):
    values = [value.to(dtype) for value in (SHARED, A, B)]
    assert scores.dice(*values).dtype == dtype
    assert scores.iou(*values).dtype == dtype
    assert scores.tversky(*values, alpha=0.3, beta=0.7).dtype == dtype


def test_sizes_broadcast():
    score = scores.dice(torch.ones(3, 2), torch.full((3, 1), 2.0), torch.full((1, 2), 4.0))
    assert score.shape == (3, 2)
    assert score.unique().tolist() == pytest.approx([2 / 6])


@given(sets(), st.sampled_from([0.0, 0.3, 1.0]), st.sampled_from([0.0, 0.7, 1.5]))
def test_the_tversky_index_of_numbers_is_that_of_tensors_to_the_bit(sizes, alpha, beta):
    options = {"alpha": alpha, "beta": beta, "empty": 0.25}
    numbers = [size.item() for size in sizes]
    found = scores.tversky_of_numbers(*numbers, **options)
    assert found == scores.tversky(*sizes, **options).item()
