"""Overlap of oriented boxes, against exact rational clipping of their float64 corners."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap import rotated
from softoverlap.overlaps import (
    box_iou,
    rotated_box_iof,
    rotated_box_iou,
    rotated_box_pair_iof,
    rotated_box_pair_iou,
)
from tests.support.conformance import assert_is_expected, cases_of, needs_vectors
from tests.support.reference import reference_rotated_iof, reference_rotated_iou
from tests.support.strategies import box_batches

PAIRWISE = {rotated_box_iou: rotated_box_pair_iou, rotated_box_iof: rotated_box_pair_iof}
REFERENCE = {
    rotated_box_pair_iou: reference_rotated_iou,
    rotated_box_pair_iof: reference_rotated_iof,
}


def random_boxes(count=60, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(count, 5, generator=generator, dtype=dtype)
    return unit * torch.tensor([3.0, 3.0, 3.0, 3.0, 8.0]) + torch.tensor([0, 0, 0.1, 0.1, -4.0])


def moved(boxes, along, across):
    """Shifted by these shares of their edges, along their own axes."""
    _, _, w, h, angle = boxes.unbind(1)
    shift = torch.stack(
        [
            along * w * angle.cos() - across * h * angle.sin(),
            along * w * angle.sin() + across * h * angle.cos(),
        ],
        dim=1,
    )
    return torch.cat([boxes[:, :2] + shift, boxes[:, 2:]], dim=1)


def resized(boxes, w=1.0, h=1.0, turn=0.0):
    return boxes * torch.tensor([1.0, 1.0, w, h, 1.0]) + torch.tensor([0.0, 0.0, 0.0, 0.0, turn])


def needles(turn, seed=1):
    boxes = random_boxes(30, seed)
    boxes[:, 2:4] = torch.tensor([1e3, 1e-3])
    return boxes, resized(boxes, turn=turn)


def hard_sets():
    """Pairs on which libraries of the field are wrong by more than 0.01, among others."""
    a, b = random_boxes(seed=1), random_boxes(seed=2)
    far = torch.tensor([1e6, -1e6, 0.0, 0.0, 0.0])
    tiny = torch.tensor([1e-4, 1e-4, 1e-4, 1e-4, 1.0])
    turned = a[:, [0, 1, 3, 2, 4]] + torch.tensor([0.0, 0.0, 0.0, 0.0, math.pi / 2])
    return {
        "random": (a, b),
        "identical": (a, a),
        "a full turn apart": (a, resized(a, turn=2 * math.pi)),
        "beside each other": (a, moved(a, 1.0, 0.0)),
        "sharing half of an edge": (a, moved(a, 1.0, 0.5)),
        "sharing an edge from inside": (a, moved(resized(a, h=0.5), 0.0, 0.5)),
        "a corner in the middle": (a, moved(a, 0.5, 0.5)),
        "half as wide": (a, resized(a, w=0.5)),
        "half as wide and high": (a, resized(a, w=0.5, h=0.5)),
        "turned by a right angle": (a, resized(a, turn=math.pi / 2)),
        "turned onto itself": (a, turned),
        "turned by 45 degrees": (a, resized(a, turn=math.pi / 4)),
        "turned by next to nothing": (a, resized(a, turn=1e-6)),
        "far": (a + far, b + far),
        "far and identical": (a + far, a + far),
        "tiny": (a * tiny, b * tiny),
        "tiny and identical": (a * tiny, a * tiny),
        "tiny and turned": (a * tiny, turned * tiny),
        "one much larger": (a, b * torch.tensor([1.0, 1.0, 1e3, 1e3, 1.0])),
        "identical needles": needles(0.0),
        "needles a little apart": needles(1e-6),
        "crossing needles": needles(1.0),
        "needles at right angles": needles(math.pi / 2),
        "needle and box": (needles(0.0)[0], a[:30]),
        "flat": (resized(a, w=0.0), b),
    }


@pytest.mark.parametrize("score", REFERENCE)
@pytest.mark.parametrize("name", hard_sets())
def test_float32_boxes_score_as_exact_clipping_says(score, name):
    pred, target = hard_sets()[name]
    value = score(pred, target)
    expected = [REFERENCE[score](a, b) for a, b in zip(pred.tolist(), target.tolist(), strict=True)]
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, torch.tensor(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("score", REFERENCE)
def test_boxes_with_yaw_score_as_exact_clipping_says(score):
    pred, target = with_height(random_boxes(seed=3)), with_height(random_boxes(seed=4), seed=5)
    pred, target = torch.cat([pred, pred, pred]), torch.cat([target, pred, pred.roll(1, dims=0)])
    target[-10:, 2] += 100  # apart on axis 2 alone
    value = score(pred, target)
    expected = [REFERENCE[score](a, b) for a, b in zip(pred.tolist(), target.tolist(), strict=True)]
    torch.testing.assert_close(value, torch.tensor(expected), atol=1e-5, rtol=0)
    assert (value[-10:] == 0).all()
    assert (value[60:120] == 1).all()


def with_height(boxes, seed=4):
    generator = torch.Generator().manual_seed(seed)
    z, d = 2 * torch.rand(2, len(boxes), 1, generator=generator, dtype=boxes.dtype)
    return torch.cat([boxes[:, :2], z, boxes[:, 2:4], d + 0.2, boxes[:, 4:]], dim=1)


@needs_vectors
@pytest.mark.parametrize(("operation", "count"), [("rotated_iou", 12), ("yaw3d_iou", 5)])
def test_conformance_cases_of_the_field(operation, count):
    cases = cases_of(operation)
    assert len(cases) == count
    for case in cases:
        score = rotated_box_iou if case["pairwise"] else rotated_box_pair_iou
        assert_is_expected(score(case["a"], case["b"]), case)


def test_a_turned_square_shares_an_octagon():
    square = torch.tensor([[0.0, 0.0, 2.0, 2.0, 0.0]], dtype=torch.float64)
    octagon = 8 * (math.sqrt(2) - 1)
    shared = rotated.intersection(square, resized(square, turn=math.pi / 4))
    assert shared.item() == pytest.approx(octagon, abs=1e-12)


def test_two_cars_at_right_angles_do_not_overlap_though_their_upright_boxes_do():
    cars = torch.tensor(
        [[0.0, 0.0, 4.5, 1.8, math.pi / 4], [2.4, 2.2, 4.5, 1.8, -math.pi / 4]],
        dtype=torch.float64,
    )
    upright = rotated.circumscribed(cars)
    assert box_iou(upright, upright)[0, 1] > 0.1
    assert rotated_box_iou(cars, cars)[0, 1] < 0.1


@st.composite
def oriented_boxes(draw, count=3, ndim=None):
    """Boxes (count, 5 or 7) on eighths, any angle; the edges are above 0."""
    ndim = draw(st.integers(2, 3)) if ndim is None else ndim
    eighths = st.lists(st.integers(-32, 32), min_size=ndim, max_size=ndim)
    edges = st.lists(st.integers(1, 32), min_size=ndim, max_size=ndim)
    rows = [
        [v / 8 for v in (*draw(eighths), *draw(edges))] + [draw(st.floats(-7, 7, width=32))]
        for _ in range(count)
    ]
    return torch.tensor(rows, dtype=torch.float64)


@given(oriented_boxes())
def test_scores_are_bounded_and_one_on_equal_boxes(boxes):
    for score in PAIRWISE:
        value = score(boxes, boxes)
        assert ((value >= 0) & (value <= 1)).all()
        torch.testing.assert_close(value.diagonal(), torch.ones(3).double(), atol=1e-12, rtol=0)


@given(oriented_boxes())
def test_iou_is_symmetric(boxes):
    value = rotated_box_iou(boxes, boxes)
    torch.testing.assert_close(value, value.T, atol=1e-10, rtol=0)


@given(oriented_boxes())
def test_iof_counts_the_first_box(boxes):
    shared = rotated_box_iof(boxes, boxes) * rotated.volume(boxes)[:, None]
    torch.testing.assert_close(shared, shared.T, atol=1e-9, rtol=1e-9)


@given(oriented_boxes())
def test_aligned_scores_are_the_diagonal_of_pairwise_ones(boxes):
    other = boxes.roll(1, dims=0)
    for score, aligned in PAIRWISE.items():
        assert torch.equal(aligned(boxes, other), score(boxes, other).diagonal())


@given(oriented_boxes())
def test_scores_ignore_translation_and_scale(boxes):
    ndim = rotated.spatial_dims(boxes)
    value = rotated_box_iou(boxes, boxes)
    shifted, scaled = boxes.clone(), boxes.clone()
    shifted[:, :ndim] += 16
    scaled[:, : 2 * ndim] *= 4
    torch.testing.assert_close(rotated_box_iou(shifted, shifted), value)
    torch.testing.assert_close(rotated_box_iou(scaled, scaled), value)


@given(oriented_boxes(), st.floats(-4, 4))
def test_scores_ignore_a_rotation_of_both_boxes(boxes, turn):
    spun = boxes.clone()
    x, y = boxes[:, 0], boxes[:, 1]
    spun[:, 0] = math.cos(turn) * x - math.sin(turn) * y
    spun[:, 1] = math.sin(turn) * x + math.cos(turn) * y
    spun[:, -1] += turn
    value = rotated_box_iou(boxes, boxes)
    torch.testing.assert_close(rotated_box_iou(spun, spun), value, atol=1e-10, rtol=0)


@given(oriented_boxes(), st.integers(-3, 3))
def test_half_turns_change_nothing(boxes, halves):
    turned = boxes.clone()
    turned[:, -1] += halves * math.pi
    value = rotated_box_iou(boxes, boxes)
    torch.testing.assert_close(rotated_box_iou(turned, boxes), value, atol=1e-10, rtol=0)


@given(st.integers(2, 3), st.data(), st.integers(-4, 4), st.integers(-4, 4))
def test_right_angles_give_the_axis_aligned_iou(ndim, data, turns_a, turns_b):
    pred, target = (data.draw(box_batches(ndim=ndim, count=2)) for _ in range(2))
    expected = box_iou(pred, target)
    edges = torch.cat([pred[:, ndim:] - pred[:, :ndim], target[:, ndim:] - target[:, :ndim]])
    if (edges == 0).any():
        turns_b = turns_a  # flat boxes are equal if their parameters are
    value = rotated_box_iou(turned_upright(pred, turns_a), turned_upright(target, turns_b))
    aspect = 8 * edges.max()  # the shortest edge that is not 0 is an eighth
    assert (value - expected).abs().max() <= 1e-14 * (1 + aspect)


@pytest.mark.parametrize("turns", [1, 2, 3, -1])
@pytest.mark.parametrize("aspect", [1.0, 1e3, 1e6])
def test_right_angles_give_the_axis_aligned_iou_of_needles(aspect, turns):
    needle = torch.tensor([[0.0, 0.0, aspect, 1.0]], dtype=torch.float64)
    longer = needle * torch.tensor([1.0, 1.0, 1.5, 1.0]).double()
    value = rotated_box_pair_iou(turned_upright(needle, turns), turned_upright(longer, 0))
    assert value.item() == pytest.approx(2 / 3, abs=1e-15 * (1 + aspect))


def test_what_is_apart_shares_nothing_whatever_the_rounding():
    boxes = random_boxes(20_000, seed=3) * torch.tensor([3.0, 3.0, 1.0, 1.0, 1.0])
    one_way = rotated_box_pair_iou(boxes, boxes.roll(1, 0))
    other_way = rotated_box_pair_iou(boxes.roll(1, 0), boxes)
    assert torch.equal(one_way > 0, other_way > 0)
    assert 0.1 < (one_way > 0).float().mean() < 0.9
    assert one_way[one_way > 0].min() > 1e-13


def turned_upright(boxes, turns):
    """The same boxes as a rotation by a multiple of 90 degrees writes them."""
    ndim = boxes.shape[1] // 2
    centres, edges = (boxes[:, :ndim] + boxes[:, ndim:]) / 2, boxes[:, ndim:] - boxes[:, :ndim]
    if turns % 2:
        edges = edges[:, [1, 0, *range(2, ndim)]]
    angle = torch.full((len(boxes), 1), turns * math.pi / 2, dtype=boxes.dtype)
    return torch.cat([centres, edges, angle], dim=1)


@pytest.mark.parametrize("score", [*PAIRWISE, *PAIRWISE.values()])
@pytest.mark.parametrize("ndim", [2, 3])
def test_gradient_passes_gradcheck_in_all_parameters(score, ndim):
    pred, target = (random_boxes(6, seed=seed, dtype=torch.float64) for seed in (7, 8))
    if ndim == 3:
        pred, target = with_height(pred), with_height(target, seed=5)
    inputs = (pred.requires_grad_(), target.requires_grad_())
    (gradient,) = torch.autograd.grad(score(*inputs).sum(), pred)
    assert (gradient != 0).any(dim=0).all()  # every parameter counts somewhere
    assert torch.autograd.gradcheck(lambda a, b: score(a, b, validate=False), inputs)


@pytest.mark.parametrize("score", PAIRWISE)
@pytest.mark.parametrize("name", hard_sets())
def test_gradients_are_finite_also_where_edges_coincide(score, name):
    inputs = [boxes.clone().requires_grad_() for boxes in hard_sets()[name]]
    PAIRWISE[score](*inputs).sum().backward()
    assert all(torch.isfinite(boxes.grad).all() for boxes in inputs)


@pytest.mark.parametrize("score", REFERENCE)
@pytest.mark.parametrize("edges", [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_boxes_without_width_have_scores_and_finite_gradients(score, edges):
    flat = torch.tensor([[1.0, 1.0, *edges, 0.3]], requires_grad=True)
    for other, expected in ((flat.detach(), 1), (random_boxes(1), 0), (flat.detach() + 1, 0)):
        for pair in ((flat, other), (other, flat)):
            flat.grad = None
            value = score(*pair)
            value.sum().backward()
            assert value.item() == expected
            assert torch.isfinite(flat.grad).all()


def test_block_size_changes_neither_values_nor_gradients():
    results = []
    for block_size in (None, 1, 3):
        inputs = [random_boxes(n, n, torch.float64).requires_grad_() for n in (7, 5)]
        value = rotated_box_iou(*inputs, block_size=block_size)
        value.sum().backward()
        results.append([value.detach(), *(boxes.grad for boxes in inputs)])
    for result in results[1:]:
        assert torch.equal(result[0], results[0][0])
        torch.testing.assert_close(result[1:], results[0][1:])


def test_scores_take_the_floating_type_of_the_boxes():
    boxes = torch.tensor([[0, 0, 60, 60, 0], [1, 1, 300, 300, 1]])
    assert torch.equal(rotated_box_iou(boxes, boxes).diagonal(), torch.ones(2))
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        value = rotated_box_iou(boxes.to(dtype), boxes.to(dtype))
        assert value.dtype == dtype
        assert torch.isfinite(value).all()


def test_the_circumscribed_box_touches_every_corner():
    boxes = torch.tensor([[1.0, 2.0, 3.0, 2.0, 2.0, 4.0, math.pi / 4]], dtype=torch.float64)
    half = math.sqrt(2)
    expected = torch.tensor([[1 - half, 2 - half, 1.0, 1 + half, 2 + half, 5.0]]).double()
    torch.testing.assert_close(rotated.circumscribed(boxes), expected, atol=1e-6, rtol=0)


def test_no_boxes_are_normal_input():
    none = torch.zeros(0, 5)
    assert rotated_box_iou(none, torch.ones(2, 5)).shape == (0, 2)
    assert rotated_box_pair_iou(none, none).shape == (0,)


@pytest.mark.bad_input
@pytest.mark.parametrize("score", [*PAIRWISE, *PAIRWISE.values()])
def test_bad_boxes_are_named(score):
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.0]])
    with pytest.raises(ValueError, match=r"pred must have shape \(N, 5\) or \(N, 7\), got \(1, 4"):
        score(box[:, :4], box)
    with pytest.raises(ValueError, match=r"target must have shape \(N, 5\), got \(1, 7\)"):
        score(box, torch.ones(1, 7))
    with pytest.raises(ValueError, match="pred must have edges of at least 0, got .* in row 0"):
        score(-box, box)
    with pytest.raises(ValueError, match="target must hold finite parameters"):
        score(box, box * float("nan"))
    with pytest.raises(TypeError, match="target must be a torch.Tensor, got list"):
        score(box, box.tolist())
    with pytest.raises(TypeError, match="pred must hold real parameters, got dtype torch.bool"):
        score(box.bool(), box)


@pytest.mark.bad_input
@pytest.mark.parametrize("score", PAIRWISE.values())
def test_aligned_scores_need_as_many_boxes(score):
    with pytest.raises(ValueError, match="pred and target must have as many rows"):
        score(torch.ones(2, 5), torch.ones(3, 5))


@pytest.mark.parametrize("angle", [0.0, 0.7, math.pi / 2])
@pytest.mark.parametrize("yaw_boxes", [False, True])
def test_gradients_pass_gradcheck_also_at_equal_angles(angle, yaw_boxes):
    """Edges are then parallel, and yet no kink is there: nested, shifted and crossing boxes."""
    flat = [[0.3, 0.2, 2.0, 1.0], [0.1, 0.05, 1.0, 0.5], [0.2, 0.1, 0.6, 3.0]]
    other = [0.0, 0.0, 2.2, 1.3]
    if yaw_boxes:
        flat = [[x, y, 0.1, w, h, 1.0] for x, y, w, h in flat]
        other = [0.0, 0.0, 0.0, 2.2, 1.3, 1.5]
    a = torch.tensor([[*box, angle] for box in flat], dtype=torch.float64)
    b = torch.tensor([[*other, angle]] * 3, dtype=torch.float64)
    inputs = (a.requires_grad_(), b.requires_grad_())
    assert torch.autograd.gradcheck(lambda x, y: rotated_box_pair_iou(x, y, validate=False), inputs)


@pytest.mark.parametrize("angle", [0.0, math.pi / 2, 0.7])
@pytest.mark.parametrize(
    ("along", "across", "w", "h"), [(0, 0, 1, 1), (0.5, 0, 1, 1), (0, 0.25, 1, 0.5), (0, 0, 0.5, 2)]
)
def test_gradients_where_edges_coincide_are_the_mean_of_both_sides(angle, along, across, w, h):
    target = torch.tensor([[0.0, 0.0, 2.0, 1.0, angle]], dtype=torch.float64)
    pred = resized(moved(target, along, across), w=w, h=h).requires_grad_()
    rotated.intersection(pred, target).sum().backward()
    step, here = 1e-6 * torch.eye(5, dtype=torch.float64), rotated.intersection(pred, target)
    forward = (rotated.intersection(pred + step, target) - here) / 1e-6
    backward = (here - rotated.intersection(pred - step, target)) / 1e-6
    if angle == 0:
        torch.testing.assert_close(pred.grad[0], (forward + backward) / 2, atol=1e-5, rtol=0)
    # a turned frame rounds coincident edges apart, and the gradient is that of some side
    assert (pred.grad[0] <= torch.maximum(forward, backward) + 1e-5).all()
    assert (pred.grad[0] >= torch.minimum(forward, backward) - 1e-5).all()


@pytest.mark.parametrize("score", PAIRWISE.values())
def test_gradients_have_gradients(score):
    inputs = [random_boxes(4, seed, torch.float64).requires_grad_() for seed in (7, 8)]
    assert torch.autograd.gradgradcheck(lambda a, b: score(a, b, validate=False), inputs)


@pytest.mark.parametrize("score", PAIRWISE.values())
def test_aligned_scores_can_be_mapped(score):
    pred, target = (random_boxes(6, seed).reshape(2, 3, 5) for seed in (7, 8))
    mapped = torch.vmap(lambda a, b: score(a, b, validate=False))(pred, target)
    torch.testing.assert_close(mapped.flatten(), score(pred.flatten(0, 1), target.flatten(0, 1)))
