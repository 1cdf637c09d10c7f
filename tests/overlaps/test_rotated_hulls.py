"""GIoU and DIoU of oriented boxes: exact hulls, closed forms, laws and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.spatial import ConvexHull

from softoverlap import losses, rotated_hulls
from softoverlap.anchors import ATSSMatcher, MaxOverlapMatcher
from softoverlap.overlaps import (
    box_diou,
    box_giou,
    rotated_box_diou,
    rotated_box_giou,
    rotated_box_iou,
)
from softoverlap.rotated import circumscribed
from tests.support.reference_oriented import (
    corner_points,
    reference_rotated_diou,
    reference_rotated_giou,
)
from tests.support.strategies import box_batches
from tests.test_rotated import (
    hard_sets,
    moved,
    oriented_boxes,
    random_boxes,
    resized,
    turned_upright,
    with_height,
)

REFERENCE = {rotated_box_giou: reference_rotated_giou, rotated_box_diou: reference_rotated_diou}
BOTH = pytest.mark.parametrize("overlap", REFERENCE, ids=repr)


def boxes_of(*rows):
    return torch.tensor(rows, dtype=torch.float64)


@BOTH
@pytest.mark.parametrize("name", hard_sets())
def test_scores_are_those_of_exact_hulls(overlap, name):
    pred, target = (boxes[:12] for boxes in hard_sets()[name])
    expected = [
        REFERENCE[overlap](a, b) for a, b in zip(pred.tolist(), target.tolist(), strict=True)
    ]
    value = overlap.pairs(pred, target)
    torch.testing.assert_close(value, torch.tensor(expected), atol=1e-5, rtol=0)


@BOTH
def test_boxes_with_yaw_are_enclosed_by_a_prism(overlap):
    pred, target = with_height(random_boxes(15, seed=3)), with_height(random_boxes(15, 4), seed=5)
    target[-5:, 2] += 100
    expected = [
        REFERENCE[overlap](a, b) for a, b in zip(pred.tolist(), target.tolist(), strict=True)
    ]
    value = overlap.pairs(pred, target)
    torch.testing.assert_close(value, torch.tensor(expected), atol=1e-5, rtol=0)
    assert (value[-5:] < -0.5).all()


def test_the_hull_is_that_of_an_independent_library():
    a, b = random_boxes(40, 1, torch.float64), random_boxes(40, 2, torch.float64)
    found = rotated_hulls.enclosing_volume(a, b)
    for area, *pair in zip(found.tolist(), a.tolist(), b.tolist(), strict=True):
        points = [point for box in pair for point in corner_points(box)]
        assert area == pytest.approx(ConvexHull(points).volume, rel=1e-12)  # of two axes the area


def test_hulls_whose_area_is_known():
    square = boxes_of([0, 0, 2, 2, 0])
    others = boxes_of(
        [0, 0, 2, 2, math.pi / 4], [5, 0, 2, 2, 0], [0, 0, 2, 2, math.pi / 2], [0, 0, 6, 1, 0]
    )
    # an octagon, a bar, the square itself, and a hexagon
    expected = torch.tensor([4 * math.sqrt(2), 14, 4, 10], dtype=torch.float64)
    found = rotated_hulls.enclosing_volume(square, others)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@settings(max_examples=40)
@given(st.integers(2, 3), st.data())
def test_a_hull_is_in_the_box_around_both_and_its_diameter_at_most_the_diagonal(ndim, data):
    pred, target = (data.draw(box_batches(ndim=ndim, count=2)) for _ in range(2))
    turned = turned_upright(pred, 0), turned_upright(target, 0)
    assert (rotated_box_giou(*turned) >= box_giou(pred, target) - 1e-12).all()
    assert (rotated_box_diou(*turned) <= box_diou(pred, target) + 1e-12).all()


def test_in_a_row_the_hull_is_the_box_around_both():
    a, b = boxes_of([1, 1, 2, 2, 0]), boxes_of([6, 1, 4, 2, 0])
    upright = [boxes_of([0, 0, 2, 2]), boxes_of([4, 0, 8, 2])]
    assert torch.equal(rotated_box_giou(a, b), box_giou(*upright))
    torch.testing.assert_close(rotated_box_diou(a, b), box_diou(*upright))


@settings(max_examples=40)
@given(oriented_boxes())
def test_scores_are_bounded_by_the_iou_and_one_on_equal_boxes(boxes):
    iou = rotated_box_iou(boxes, boxes)
    for overlap in REFERENCE:
        value = overlap(boxes, boxes)
        assert (value <= iou + 1e-12).all()
        assert (value >= iou - 1).all()
        torch.testing.assert_close(value.diagonal(), torch.ones(3).double(), atol=1e-12, rtol=0)
        torch.testing.assert_close(value, value.T, atol=1e-10, rtol=0)


@settings(max_examples=40)
@given(oriented_boxes(), st.floats(-4, 4), st.integers(-3, 3))
def test_scores_ignore_place_scale_rotation_and_half_turns(boxes, turn, halves):
    ndim = (boxes.shape[1] - 1) // 2
    spun = boxes.clone()
    spun[:, 0] = math.cos(turn) * boxes[:, 0] - math.sin(turn) * boxes[:, 1] + 8
    spun[:, 1] = math.sin(turn) * boxes[:, 0] + math.cos(turn) * boxes[:, 1] - 4
    spun[:, -1] += turn
    spun[:, : 2 * ndim] *= 4
    other = spun.clone()
    other[:, -1] += halves * math.pi
    for overlap in REFERENCE:
        expected = overlap(boxes, boxes)
        torch.testing.assert_close(overlap(spun, other), expected, atol=1e-10, rtol=0)


@BOTH
def test_scores_fall_as_boxes_move_apart_where_the_iou_says_nothing(overlap):
    box = random_boxes(1, seed=3, dtype=torch.float64).expand(30, 5)
    away = torch.cat([moved(box[:1], step, step / 3) for step in torch.linspace(1.6, 20, 30)])
    away[:, -1] += 0.7
    score = overlap.pairs(box, away)
    assert (rotated_box_iou.pairs(box, away)[-28:] == 0).all()
    assert (score.diff() < 0).all()


@pytest.mark.parametrize("loss", [losses.RotatedBoxGIoULoss(), losses.RotatedBoxDIoULoss()])
def test_a_loss_moves_and_turns_a_box_onto_one_that_it_misses(loss):
    target = boxes_of([6, 5, 4, 1, 0.8])
    box = boxes_of([0, 0, 3, 2, 0.1]).requires_grad_()
    optimizer = torch.optim.Adam([box], lr=0.15)
    assert rotated_box_iou(box, target).item() == 0
    for _ in range(150):
        optimizer.zero_grad()
        loss(box, target).backward()
        optimizer.step()
    assert rotated_box_iou(box.detach(), target).item() > 0.8


@BOTH
@pytest.mark.parametrize("ndim", [2, 3])
def test_gradients_pass_gradcheck_in_all_parameters(overlap, ndim):
    pred, target = (random_boxes(3, seed=seed, dtype=torch.float64) for seed in (7, 8))
    pred[0, 0] += 9  # apart
    if ndim == 3:
        pred, target = with_height(pred), with_height(target, seed=5)
    inputs = (pred.requires_grad_(), target.requires_grad_())
    for form in (overlap, overlap.pairs):
        call = lambda a, b, form=form: form(a, b, validate=False)  # noqa: E731
        assert torch.autograd.gradcheck(call, inputs)
    (gradient,) = torch.autograd.grad(overlap.pairs(*inputs)[0], pred)
    assert (gradient[0] != 0).sum() >= 3


@BOTH
def test_gradients_have_gradients(overlap):
    inputs = [random_boxes(2, seed, torch.float64).requires_grad_() for seed in (7, 8)]
    call = lambda a, b: overlap.pairs(a, b, validate=False)  # noqa: E731
    assert torch.autograd.gradgradcheck(call, inputs)


@pytest.mark.parametrize(
    ("along", "across", "w", "h"),
    [(0, 0, 1, 1), (1, 0, 1, 1), (0.5, 0, 1, 1), (0, 0.25, 1, 0.5), (0, 0, 0.5, 2)],
)
def test_gradients_of_hulls_where_sides_coincide_are_the_mean_of_both_sides(along, across, w, h):
    target = boxes_of([0, 0, 2, 1, 0])
    pred = resized(moved(target, along, across), w=w, h=h).requires_grad_()
    hull = rotated_hulls.enclosing_volume
    hull(pred, target).sum().backward()
    step, here = 1e-6 * torch.eye(5, dtype=torch.float64), hull(pred, target)
    forward = (hull(pred + step, target) - here) / 1e-6
    backward = (here - hull(pred - step, target)) / 1e-6
    torch.testing.assert_close(pred.grad[0], (forward + backward) / 2, atol=1e-5, rtol=0)


@BOTH
@pytest.mark.parametrize("name", hard_sets())
def test_gradients_are_finite_also_where_edges_coincide(overlap, name):
    inputs = [boxes[:20].clone().requires_grad_() for boxes in hard_sets()[name]]
    overlap.pairs(*inputs).sum().backward()
    assert all(torch.isfinite(boxes.grad).all() for boxes in inputs)


@BOTH
@pytest.mark.parametrize("edges", [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_boxes_without_width_have_scores_and_finite_gradients(overlap, edges):
    flat = torch.tensor([[1.0, 1.0, *edges, 0.3]], requires_grad=True)
    for other in (flat.detach(), random_boxes(1), flat.detach() + 1):
        for pair in ((flat, other), (other, flat)):
            flat.grad = None
            value = overlap.pairs(*pair)
            value.sum().backward()
            assert -1 <= value.item() <= 1
            assert torch.isfinite(flat.grad).all()
    assert overlap(flat, flat).item() == 1


@BOTH
def test_aligned_scores_can_be_mapped(overlap):
    pred, target = (random_boxes(6, seed).reshape(2, 3, 5) for seed in (7, 8))
    mapped = torch.vmap(lambda a, b: overlap.pairs(a, b, validate=False))(pred, target)
    expected = overlap.pairs(pred.flatten(0, 1), target.flatten(0, 1))
    torch.testing.assert_close(mapped.flatten(), expected)


@pytest.mark.parametrize(
    "matcher", [MaxOverlapMatcher(0.4, 0.5), ATSSMatcher(2)], ids=["max_overlap", "atss"]
)
def test_matchers_take_the_iou_of_oriented_anchors(matcher):
    lesion = boxes_of([10, 10, 12, 3, 0.785])
    anchors = boxes_of([10, 10, 12, 3, -0.7], [10, 10, 12, 3, 0.7], [30, 30, 12, 3, 0])
    upright = circumscribed(lesion), circumscribed(anchors)
    matches = matcher(
        rotated_box_iou(lesion, anchors),
        *upright,
        num_locations_per_level=[3],
        num_anchors_per_loc=1,
    )
    assert matches.index.tolist() == [-1, 0, -1]
