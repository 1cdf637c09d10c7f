"""Planned anchors: the best overlap with a grid, the choice under a budget, plan and JSON."""

import itertools
import json
import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap import AnchorPlan, mask_box_dice, mask_box_iou, plan_anchors
from softoverlap.anchors import level_strides
from softoverlap.anchors.choice import greedy_choice, reached
from softoverlap.anchors.grid_quality import grid_quality
from tests.support.lesion_makers import ball_lesion, lesion_from_crop


def random_lesions(count, size, seed=0, *, largest=6):
    """Lesions of random voxels in an image of this size; some are of one voxel."""
    generator = torch.Generator().manual_seed(seed)
    lesions = []
    for _ in range(count):
        sides = [int(torch.randint(1, largest + 1, (), generator=generator)) for _ in size]
        low = [
            int(torch.randint(0, whole - side + 1, (), generator=generator))
            for side, whole in zip(sides, size, strict=True)
        ]
        lesions.append(lesion_from_crop(torch.rand(sides, generator=generator) + 0.01, low))
    return [lesion for lesion in lesions if float(lesion.crop.max()) <= 1]


def brute_force(plan, lesions, shape, overlap=mask_box_dice):
    return overlap(lesions, plan.anchors(shape)).amax(dim=1)


PLANS = {
    "3D": AnchorPlan(
        strides=[(2, 2, 2), (4, 4, 4)],
        sizes=[[(2, 2, 2), (3, 2.5, 5)], [(4, 4, 4), (9, 6, 4), (1, 2, 3)]],
    ),
    "thick slices": AnchorPlan(
        strides=[(2, 2, 1), (4, 4, 2)], sizes=[[(3, 3, 1)], [(8, 8, 2), (5, 7, 1.5)]]
    ),
    "2D": AnchorPlan(strides=[(1, 1), (3, 6)], sizes=[[(1, 1), (2, 5)], [(4, 6)]]),
    "1D": AnchorPlan(strides=[(2,)], sizes=[[(2,), (5,)]]),
}


@pytest.mark.parametrize("overlap", [mask_box_dice, mask_box_iou], ids=lambda o: o.__name__)
@pytest.mark.parametrize("name", PLANS)
def test_quality_is_that_of_the_best_of_all_anchors(name, overlap):
    plan = PLANS[name]
    shape = (16, 12, 8)[: plan.ndim]
    lesions = random_lesions(25, shape, seed=3)
    quality = plan.quality(lesions, overlap=overlap)
    torch.testing.assert_close(quality, brute_force(plan, lesions, shape, overlap))
    assert ((quality >= 0) & (quality <= 1)).all()
    best = plan.best_anchors(lesions, overlap=overlap)
    torch.testing.assert_close(overlap.pairs(lesions, best), quality)
    made = {tuple(anchor) for anchor in plan.anchors(shape).tolist()}
    assert {tuple(anchor) for anchor in best.tolist()} <= made


@given(seed=st.integers(0, 2**31), stride=st.integers(1, 5), edges=st.lists(
    st.sampled_from([0.5, 1.0, 2.0, 2.5, 3.0, 7.0, 20.0]), min_size=2, max_size=2
))  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_quality_is_exact_for_every_stride_and_edge(seed, stride, edges):
    plan = AnchorPlan(strides=[(stride, 2)], sizes=[[edges]])
    lesions = random_lesions(4, (15, 12), seed)
    torch.testing.assert_close(plan.quality(lesions), brute_force(plan, lesions, (15, 12)))


@given(seed=st.integers(0, 2**31), steps=st.tuples(*[st.integers(0, 3)] * 3))
@settings(max_examples=20, deadline=None)
def test_a_shift_by_whole_strides_leaves_quality_alone(seed, steps):
    plan, lesions = PLANS["3D"], random_lesions(3, (8, 8, 8), seed)
    moved = [
        lesion_from_crop(lesion.crop, lesion.offset + 4 * torch.tensor(steps)) for lesion in lesions
    ]
    assert torch.equal(plan.quality(moved), plan.quality(lesions))


def test_a_large_lesion_is_read_in_blocks(monkeypatch):
    lesions = [ball_lesion(14, [3, 1, 2]), ball_lesion(3, [5, 6, 7])]
    whole = PLANS["3D"].quality(lesions)
    monkeypatch.setattr("softoverlap.anchors.grid_quality._ELEMENTS_PER_BLOCK", 1)
    assert torch.equal(PLANS["3D"].quality(lesions), whole)


def test_a_lesion_without_mass_has_no_quality():
    empty = lesion_from_crop(torch.ones(2, 2), [1, 1])
    object.__setattr__(empty, "crop", torch.zeros(2, 2))
    assert PLANS["2D"].quality([empty]).tolist() == [0.0]
    assert PLANS["2D"].quality([]).shape == (0,)


@given(st.integers(0, 2**31), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_the_greedy_choice_is_near_the_best_one_among_equal_costs(seed, count):
    quality = torch.rand(6, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    best = max(reached(quality, some) for some in itertools.combinations(range(7), count))
    chosen = greedy_choice(quality, torch.ones(7), count)
    assert len(chosen) == len(set(chosen)) <= count
    assert reached(quality, chosen) >= (1 - 1 / math.e) * best - count * 1e-3 * 6


@given(st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_the_greedy_choice_keeps_to_the_budget_and_more_is_never_worse(seed):
    generator = torch.Generator().manual_seed(seed)
    quality = torch.rand(5, 7, generator=generator, dtype=torch.float64) ** 3
    costs = torch.tensor([0.5, 0.25, 1.0])[torch.randint(0, 3, (7,), generator=generator)]
    values = []
    for budget in (0.2, 0.25, 0.6, 1.0, 1.3, 2.0, 5.0):
        chosen = greedy_choice(quality, costs, budget, firsts=[0, 1, 2])
        assert float(costs[chosen].sum()) <= budget + 1e-9
        values.append(reached(quality, chosen))
        sets = [s for n in range(8) for s in itertools.combinations(range(7), n)]
        best = max(reached(quality, s) for s in sets if float(costs[list(s)].sum()) <= budget)
        assert values[-1] >= (1 - 1 / math.e) / 2 * best - 0.035
    assert values == sorted(values)


def test_a_plan_maximises_what_its_candidates_allow():
    lesions = random_lesions(30, (24, 24), seed=1)
    plan = plan_anchors(lesions, max_anchors_per_voxel=0.3, strides=[2], edges=(1, 2, 3))
    shapes = torch.tensor(list(itertools.product((2.0, 4.0, 6.0), repeat=2)))
    table = grid_quality(lesions, shapes, (2, 2), mask_box_dice)
    assert plan.strides == ((2, 2),)
    assert len(plan.sizes[0]) == 1
    assert plan.quality(lesions).sum().item() == pytest.approx(table.sum(0).max().item(), abs=1e-4)


def test_more_anchors_never_give_a_worse_plan():
    lesions = random_lesions(40, (24, 24, 24), seed=5, largest=9)
    budgets = (0.002, 0.02, 0.1, 0.3, 0.55, 1.2)
    plans = [plan_anchors(lesions, max_anchors_per_voxel=b, edges=(1, 2, 4)) for b in budgets]
    means = [plan.quality(lesions).mean().item() for plan in plans]
    assert all(low <= high + 1e-6 for low, high in itertools.pairwise(means))
    assert all(p.anchors_per_voxel <= b for p, b in zip(plans, budgets, strict=True))


def test_thick_slices_are_not_halved():
    assert level_strides((0.5, 0.5, 3.0), 4) == [(1, 1, 1), (2, 2, 1), (4, 4, 1), (8, 8, 2)]
    lesions = random_lesions(20, (32, 32, 6), seed=2, largest=5)
    plan = plan_anchors(lesions, spacing=(0.5, 0.5, 3.0), max_anchors_per_voxel=0.6)
    assert plan.spacing == (0.5, 0.5, 3.0)
    assert plan.strides[0] == (2, 2, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_anchors_per_voxel": 0}, "max_anchors_per_voxel must be above 0"),
        ({"max_anchors_per_voxel": 1e-4}, r"at least 0.0156\d*, one anchor at stride \(8, 8\)"),
        ({"strides": [2, 3]}, "strides must grow by multiples"),
        ({"strides": [(2, 2, 2)]}, "strides must have 2 axes"),
        ({"spacing": (1.0,)}, "spacing must hold 2 numbers"),
        ({"edges": ()}, "edges must hold numbers"),
        ({"edges": (0,)}, "edges must be above 0"),
        ({"overlap": "mask_box_diou"}, "overlap must be a Tversky index"),
    ],
)
def test_what_cannot_be_planned_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        plan_anchors([ball_lesion(4, [2, 2], ndim=2)], **options)


@pytest.mark.bad_input
def test_lesions_that_cannot_be_planned_for_are_refused():
    with pytest.raises(ValueError, match="lesions must hold at least one Lesion, got none"):
        plan_anchors([])
    with pytest.raises(TypeError, match="lesions must hold Lesion, got int"):
        plan_anchors([3])
    mixed = [ball_lesion(4, [2, 2], ndim=2), ball_lesion(4, [2, 2, 2])]
    with pytest.raises(ValueError, match="lesions must all have 2 axes, got one with 3"):
        plan_anchors(mixed)
    with pytest.raises(ValueError, match="lesions must all have 3 axes"):
        PLANS["3D"].quality(mixed)


FULL = {
    "strides": [[2, 2, 1], [4, 4, 2]],
    "sizes": [[[2.0, 2.0, 1.0]], [[5.0, 4.0, 2.0], [8.0, 8.0, 4.0]]],
    "axes": "LPS",
    "spacing": [0.7, 0.7, 3.0],
    "patch_size": [64, 64, 16],
    "batch_size": 2,
    "foreground": 0.6,
    "expected_quality": {"<10 mm³": {"lesions": 3, "median": 0.5, "best": None}},
}


def test_a_plan_is_read_back_as_it_was_written():
    plan = AnchorPlan.from_dict(FULL)
    again = AnchorPlan.from_json(plan.to_json())
    assert again == plan
    values = json.loads(plan.to_json())
    assert values["anchors_per_voxel"] == pytest.approx(1 / 4 + 2 / 32)
    assert set(values) == {*FULL, "anchors_per_voxel"}


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("strides", [], "strides must hold levels, got none"),
        ("strides", [[2, 2, 1], [3, 4, 2]], "strides must grow by multiples"),
        ("strides", [[2, 2, 1], [2, 2, 1]], "strides must grow by multiples"),
        ("strides", [[2, 2], [4, 4, 2]], "strides must hold as many axes"),
        ("strides", [[0, 2, 1], [4, 4, 2]], "strides must be at least 1"),
        ("strides", [[2.5, 2, 1], [4, 4, 2]], "strides must hold whole numbers, got 2.5"),
        ("strides", 2, "strides must be a list of levels, got 2"),
        ("sizes", [[[2, 2, 1]]], "sizes must hold a list for each of 2 levels, got 1"),
        ("sizes", [[[2, 2, 1]], []], "sizes must hold shapes on level 1, got none"),
        ("sizes", [[[2, 2]], [[4, 4, 4]]], r"sizes must have 3 edges, got \[2, 2\] on level 0"),
        ("sizes", [[[2, 2, 1]], [[4, -4, 4]]], "sizes must hold edges above 0, got -4 on level 1"),
        ("sizes", [[[2, 2, "1"]], [[4, 4, 4]]], "sizes must hold numbers, got '1' on level 0"),
        ("axes", "LP", "axes must name 3 of R or L, A or P, S or I, each once, got 'LP'"),
        ("axes", "LRS", "axes must name 3"),
        ("axes", ["L", "P", "S"], "axes must be letters such as RAS"),
        ("spacing", [1, 1], "spacing must hold 3 numbers"),
        ("spacing", [1, 1, 0], "spacing must be above 0"),
        ("spacing", "1 1 1", "spacing must be a list of lengths"),
        (
            "patch_size",
            [64, 64, 15],
            r"patch_size must be multiples of the last stride \(4, 4, 2\)",
        ),
        ("patch_size", [64, 64], "patch_size must hold 3 numbers"),
        ("batch_size", 0, "batch_size must be at least 1"),
        ("batch_size", True, "batch_size must hold whole numbers"),
        ("foreground", 1.5, r"foreground must lie in \[0, 1\]"),
        ("foreground", "most", "foreground must be a number"),
        ("expected_quality", {"all": 3}, "expected_quality must hold figures for each class"),
        ("expected_quality", {"all": {"median": "x"}}, "expected_quality must be a number"),
        ("anchors_per_voxel", 3, "anchors_per_voxel must be 0.3125 by strides and sizes, got 3"),
        ("anchor_sizes", [], "plan must hold the fields .*, got 'anchor_sizes'"),
    ],
)
def test_a_bad_field_of_a_plan_is_named(field, value, message):
    with pytest.raises((ValueError, TypeError), match=message):
        AnchorPlan.from_json(json.dumps({**FULL, field: value}))


@pytest.mark.bad_input
@pytest.mark.parametrize("text", ["", "[", "3", "[]", "[" * 100_000])
def test_text_that_is_no_plan_is_refused(text):
    with pytest.raises((ValueError, TypeError), match="plan must be"):
        AnchorPlan.from_json(text)
