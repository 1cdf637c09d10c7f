"""Overlap of axis-aligned boxes, against rational arithmetic and MONAI."""

from __future__ import annotations

import itertools
import subprocess
import sys
from functools import partial
from pathlib import Path

import monai.data.box_utils as monai_boxes
import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap import boxes as geometry, overlaps
from softoverlap.overlaps import (
    box_dice,
    box_giou,
    box_iof,
    box_iou,
    box_nwd,
    box_pair_iof,
    box_pair_iou,
    box_volume,
)
from tests.support import reference
from tests.support.conformance import assert_is_expected, cases_of, needs_vectors
from tests.support.strategies import box_batches

NAMES = ("iou", "dice", "iof", "giou", "diou", "ciou", "eiou", "nwd")
PAIRWISE = {getattr(overlaps, f"box_{n}"): getattr(overlaps, f"box_pair_{n}") for n in NAMES}
REFERENCE = {getattr(overlaps, f"box_{n}"): getattr(reference, f"reference_box_{n}") for n in NAMES}
SYMMETRIC = [score for score in PAIRWISE if score is not box_iof]
SCALE_FREE = [score for score in PAIRWISE if score is not box_nwd]
LOWEST = {"giou": -1, "diou": -1, "ciou": -1.5, "eiou": -4}  # others: 0
BOX = torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]])


def generic_boxes(count, ndim, seed, dtype=torch.float64):
    """Boxes without touching faces or equal coordinates; most of them meet."""
    generator = torch.Generator().manual_seed(seed)
    corners = 4 * torch.rand(2, count, ndim, generator=generator, dtype=dtype)
    return torch.cat([corners[0], corners[0] + 1 + corners[1]], dim=1)


@pytest.mark.parametrize("score", PAIRWISE)
@given(ndim=st.integers(1, 4), data=st.data())
def test_pairwise_scores_equal_rational_arithmetic(score, ndim, data):
    pred, target = data.draw(box_batches(ndim=ndim)), data.draw(box_batches(ndim=ndim))
    value = score(pred, target)
    for (i, a), (j, b) in itertools.product(enumerate(pred.tolist()), enumerate(target.tolist())):
        assert value[i, j].item() == pytest.approx(REFERENCE[score](a, b), abs=1e-12)


@pytest.mark.parametrize("score", PAIRWISE)
@given(boxes=box_batches())
def test_aligned_scores_are_the_diagonal_of_pairwise_ones(score, boxes):
    other = boxes.roll(1, dims=0)
    assert torch.equal(PAIRWISE[score](boxes, other), score(boxes, other).diagonal())


@pytest.mark.parametrize("score", PAIRWISE)
@given(boxes=box_batches(ndim=3))
def test_scores_are_bounded_and_one_on_equal_boxes(score, boxes):
    value = score(boxes, boxes)
    assert (value >= LOWEST.get(score.__name__.removeprefix("box_"), 0)).all()
    assert (value <= 1).all()
    assert (value.diagonal() == 1).all()


@pytest.mark.parametrize("score", SYMMETRIC)
@given(boxes=box_batches())
def test_scores_are_symmetric(score, boxes):
    value = score(boxes, boxes)
    assert torch.equal(value, value.T)


def test_iof_is_not_symmetric():
    inner, outer = torch.tensor([[1.0, 3.0]]), torch.tensor([[0.0, 8.0]])
    assert box_iof(inner, outer).item() == 1
    assert box_iof(outer, inner).item() == 0.25


@pytest.mark.parametrize("score", PAIRWISE)
@given(boxes=box_batches())
def test_scores_ignore_translation(score, boxes):
    torch.testing.assert_close(score(boxes + 16, boxes + 16), score(boxes, boxes))


@pytest.mark.parametrize("score", SCALE_FREE)
@given(boxes=box_batches())
def test_scores_ignore_scale(score, boxes):
    torch.testing.assert_close(score(boxes * 4, boxes * 4), score(boxes, boxes))


@pytest.mark.parametrize("score", PAIRWISE)
@given(boxes=box_batches(ndim=3), order=st.permutations(range(3)))
def test_scores_ignore_the_order_of_axes(score, boxes, order):
    moved = boxes[:, [*order, *(axis + 3 for axis in order)]]
    torch.testing.assert_close(score(moved, moved), score(boxes, boxes))


@pytest.mark.parametrize("score", PAIRWISE)
@pytest.mark.parametrize("side", [1e-6, 1.0, 1e6])
def test_identical_boxes_of_any_side_score_one(score, side):
    assert score(side * BOX, side * BOX).item() == 1
    assert PAIRWISE[score](side * BOX, side * BOX).item() == 1


@pytest.mark.parametrize("score", PAIRWISE)
@pytest.mark.parametrize("side", [1e-6, 1e6])
@pytest.mark.parametrize("ndim", [4, 5, 8])
def test_volumes_of_many_dimensions_do_not_overflow(score, side, ndim):
    box = side * torch.tensor([[1.0] * ndim + [2.0] * ndim])
    assert score(box, box).item() == 1
    assert PAIRWISE[score](box, box).item() == 1


@pytest.mark.parametrize("score", SCALE_FREE)
@pytest.mark.parametrize("side", [1e-6, 1e6])
def test_shifted_boxes_of_any_side_score_like_those_of_side_one(score, side):
    boxes = generic_boxes(4, 3, seed=0, dtype=torch.float32)
    expected = score(boxes, boxes)
    torch.testing.assert_close(score(side * boxes, side * boxes), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("score", [box_iou, box_dice, box_iof])
def test_points_score_one_if_equal_and_zero_if_not(score):
    points = torch.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
    assert torch.equal(score(points, points), torch.eye(2))
    around = torch.tensor([[0.0, 0.0, 3.0, 3.0]])
    assert torch.equal(score(points, around), torch.zeros(2, 1))


FLAT = {
    "equal points": ([[1.0, 1.0, 1.0, 1.0]], [[1.0, 1.0, 1.0, 1.0]]),
    "different points": ([[1.0, 1.0, 1.0, 1.0]], [[1.0, 2.0, 1.0, 2.0]]),
    "point in a box": ([[1.0, 1.0, 1.0, 1.0]], [[0.0, 0.0, 3.0, 3.0]]),
    "point at a corner": ([[0.0, 0.0, 0.0, 0.0]], [[0.0, 0.0, 3.0, 3.0]]),
    "height 0": ([[4.0, 5.0, 6.0, 5.0]], [[4.0, 4.0, 6.0, 6.0]]),
    "two lines": ([[4.0, 5.0, 6.0, 5.0]], [[5.0, 5.0, 8.0, 5.0]]),
    "crossing lines": ([[0.0, 1.0, 2.0, 1.0]], [[1.0, 0.0, 1.0, 2.0]]),
}


@pytest.mark.parametrize("score", [*PAIRWISE, *PAIRWISE.values()])
@pytest.mark.parametrize("case", FLAT)
def test_flat_boxes_have_finite_scores_and_gradients(score, case):
    for pred, target in (FLAT[case], FLAT[case][::-1]):
        inputs = [torch.tensor(boxes, requires_grad=True) for boxes in (pred, target)]
        value = score(*inputs)
        value.sum().backward()
        assert torch.isfinite(value).all()
        assert all(torch.isfinite(boxes.grad).all() for boxes in inputs)
        if case == "equal points":
            assert value.item() == 1


@pytest.mark.parametrize("score", SCALE_FREE)
@pytest.mark.parametrize("side", [1e-6, 1e6])
def test_gradients_of_tiny_and_huge_boxes_are_those_of_side_one_over_the_side(score, side):
    gradients = []
    for factor in (1.0, side):
        boxes = (factor * generic_boxes(4, 3, seed=1, dtype=torch.float32)).requires_grad_()
        score(boxes, boxes.detach().flip(0)).sum().backward()
        gradients.append(factor * boxes.grad)
    assert (gradients[0] != 0).any()
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("side", [1e-6, 1e6])
def test_gradients_of_nwd_are_finite_at_any_side(side):
    boxes = (side * generic_boxes(4, 3, seed=1, dtype=torch.float32)).requires_grad_()
    box_nwd(boxes, boxes.detach().flip(0)).sum().backward()
    assert torch.isfinite(boxes.grad).all()


@pytest.mark.parametrize("score", [*PAIRWISE, *PAIRWISE.values()])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_gradient_passes_gradcheck_away_from_touching_faces(score, ndim):
    if score.__name__.endswith("ciou") and ndim > 1:
        score = partial(score, gate=1.0)  # with the aspect: its weight is frozen, tested apart
    inputs = [generic_boxes(3, ndim, seed).requires_grad_() for seed in (2, 3)]
    assert torch.autograd.gradcheck(lambda a, b: score(a, b, validate=False), inputs)


def test_touching_faces_pass_half_of_the_gradient():
    left = torch.tensor([[0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    geometry.intersection(left, torch.tensor([[1.0, 2.0]], dtype=torch.float64)).sum().backward()
    assert left.grad.tolist() == [[0.0, 0.5]]


@pytest.mark.parametrize("ours", [box_iou, box_giou])
@pytest.mark.parametrize("ndim", [2, 3])
def test_scores_equal_monais(ours, ndim):
    boxes = generic_boxes(30, ndim, seed=ndim, dtype=torch.float32)
    theirs = getattr(monai_boxes, ours.__name__)(boxes, boxes.flip(0))
    torch.testing.assert_close(ours(boxes, boxes.flip(0)), theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("ndim", [2, 3])
def test_aligned_giou_equals_monais(ndim):
    boxes = generic_boxes(30, ndim, seed=ndim, dtype=torch.float32)
    theirs = monai_boxes.box_pair_giou(boxes, boxes.flip(0))
    ours = PAIRWISE[box_giou](boxes, boxes.flip(0))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


@needs_vectors
@pytest.mark.parametrize(("score", "count"), [("iou", 8), ("giou", 8), ("diou", 2), ("ciou", 3)])
def test_conformance_cases_of_the_field(score, count):
    cases = cases_of(score)
    assert len(cases) == count
    for case in cases:
        form = "box_" if case["pairwise"] else "box_pair_"
        assert_is_expected(getattr(overlaps, form + score)(case["a"], case["b"]), case)


@needs_vectors
def test_conformance_cases_of_intersection_over_the_smaller_box():
    cases = cases_of("ios")
    assert len(cases) == 3
    for case in cases:
        smaller_first = box_volume(case["a"]) <= box_volume(case["b"])
        pair = (case["a"], case["b"]) if smaller_first else (case["b"], case["a"])
        assert_is_expected(box_pair_iof(*pair), case)


@pytest.mark.parametrize("score", [*PAIRWISE, *PAIRWISE.values()])
def test_nan_stays_nan_where_values_are_not_looked_at(score):
    box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    assert score(box * float("nan"), box, validate=False).isnan().all()


@pytest.mark.parametrize("score", PAIRWISE)
def test_block_size_changes_neither_values_nor_gradients(score):
    results = []
    for block_size in (None, 1, 2, 3, 100):
        inputs = [generic_boxes(n, 3, seed=n).requires_grad_() for n in (7, 5)]
        value = score(*inputs, block_size=block_size)
        value.square().sum().backward()
        results.append([value.detach(), *(boxes.grad for boxes in inputs)])
    for value, *gradients in results[1:]:
        assert torch.equal(value, results[0][0])
        for gradient, expected in zip(gradients, results[0][1:], strict=True):
            torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_block_size_changes_no_gradient_of_half_precision(dtype):
    results = []
    for block_size in (None, 1, 7):
        inputs = [generic_boxes(n, 3, seed=n).to(dtype).requires_grad_() for n in (300, 5)]
        box_giou(*inputs, block_size=block_size, validate=False).sum().backward()
        results.append([boxes.grad for boxes in inputs])
    for gradients in results[1:]:
        for gradient, expected in zip(gradients, results[0], strict=True):
            torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("side", [0, 1])
def test_the_other_side_may_hold_integers(side):
    boxes = [torch.tensor([[0, 0, 4, 4]]), torch.tensor([[0, 0, 4, 4]])]
    boxes[side] = torch.tensor([[1.0, 1.0, 5.0, 5.0]], requires_grad=True)
    box_iou(*boxes).sum().backward()
    assert boxes[side].grad.abs().sum() > 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no peak of memory here")
def test_pairwise_memory_is_bounded_forward_and_backward():
    """In a process of its own, since the peak of this one may be higher already."""
    script = """
import torch
from pathlib import Path
from softoverlap.overlaps import box_giou
def peak():  # ru_maxrss would start at the peak of the process that started this one
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])
def score(rows, columns):
    corners = torch.rand(rows + columns, 3)
    boxes = torch.cat([corners, corners + 1], dim=1).requires_grad_()
    value = box_giou(boxes[:rows], boxes[rows:])
    value.sum().backward()
    return value.shape
score(10, 10)
before = peak()
assert score(2000, 10_000) == (2000, 10_000)
print(peak() - before)
"""
    grown = int(subprocess.check_output([sys.executable, "-c", script]))
    output = 4 * 2000 * 10_000
    assert output / 2 <= grown < 2 * output


@pytest.mark.parametrize("score", [*PAIRWISE, *PAIRWISE.values()])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int16])
def test_half_and_integers_are_computed_in_float32(score, dtype):
    boxes = torch.tensor([[0, 0, 0, 60, 60, 60], [20, 30, 5, 50, 90, 63]])
    value = score(boxes.to(dtype), boxes.flip(0).to(dtype))
    expected = score(boxes.float(), boxes.flip(0).float())
    assert value.dtype == (dtype if dtype.is_floating_point else torch.get_default_dtype())
    assert torch.equal(value, expected.to(value.dtype))


@pytest.mark.parametrize("score", [*PAIRWISE, *PAIRWISE.values()])
def test_float64_stays_float64_also_beside_float32(score):
    assert score(BOX.double(), BOX.double()).dtype == torch.float64
    assert score(BOX.double(), BOX).dtype == torch.float64


def test_the_volume_of_half_boxes_does_not_overflow():
    assert box_volume(60 * BOX.half()).item() == 216000


@pytest.mark.parametrize("score", PAIRWISE)
def test_no_boxes_are_normal_input(score):
    none = torch.zeros(0, 6, requires_grad=True)
    assert score(none, BOX).shape == (0, 1)
    assert score(BOX, none).shape == (1, 0)
    assert PAIRWISE[score](none, none).shape == (0,)
    score(BOX, none).sum().backward()
    assert none.grad.shape == (0, 6)


@pytest.mark.bad_input
@pytest.mark.parametrize("score", [*PAIRWISE, *PAIRWISE.values()])
def test_bad_boxes_are_named(score):
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    with pytest.raises(ValueError, match=r"target must have shape \(N, 4\), got \(1, 6\)"):
        score(box, torch.zeros(1, 6))
    with pytest.raises(ValueError, match="pred must have every maximum .* in row 0"):
        score(box.flip(1), box)
    with pytest.raises(ValueError, match="target must hold finite coordinates"):
        score(box, box * float("inf"))
    with pytest.raises(ValueError, match=r"pred must have shape \(N, 2 \* ndim\), got \(1, 3\)"):
        score(box[:, :3], box)


@pytest.mark.bad_input
@pytest.mark.parametrize("score", PAIRWISE.values())
def test_aligned_scores_need_as_many_boxes(score):
    with pytest.raises(ValueError, match="pred and target must have as many rows"):
        score(torch.zeros(2, 4), torch.zeros(3, 4))


@pytest.mark.bad_input
@pytest.mark.parametrize("score", PAIRWISE)
def test_wrong_types_and_block_sizes_are_refused(score):
    with pytest.raises(TypeError, match="pred must be a torch.Tensor, got list"):
        score([[0.0, 1.0]], BOX)
    with pytest.raises(TypeError, match="target must hold real coordinates, got dtype torch.bool"):
        score(BOX, BOX.bool())
    with pytest.raises(ValueError, match="block_size must be a whole number of at least 1, got 0"):
        score(BOX, BOX, block_size=0)


def test_clip_keeps_the_part_inside_the_image():
    boxes = torch.tensor([[-2.0, 1.0, 3.0, 9.0], [6.0, 6.0, 8.0, 8.0]])
    clipped = geometry.clip(boxes, (4, 5))
    assert clipped.tolist() == [[0.0, 1.0, 3.0, 5.0], [4.0, 5.0, 4.0, 5.0]]


def test_centres_lie_in_the_middle():
    assert geometry.centres(torch.tensor([[0.0, 2.0, 3.0, 4.0]])).tolist() == [[1.5, 3.0]]


@pytest.mark.parametrize("score", [*PAIRWISE, *PAIRWISE.values()])
def test_inverted_boxes_that_are_not_looked_at_give_no_nan(score):
    """As on a GPU, where values are not looked at by default."""
    pred = torch.tensor([[3.0, 0.0, 1.0, 2.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 2.0, 2.0]])
    target = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0], [3.0, 0.0, 1.0, 2.0]])
    value = score(pred.requires_grad_(), target, validate=False)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(pred.grad).all()
    if score in PAIRWISE:
        for block_size in (1, 2):
            assert torch.equal(score(pred, target, validate=False, block_size=block_size), value)


@pytest.mark.parametrize("score", PAIRWISE.values())
def test_aligned_scores_can_be_mapped(score):
    boxes = generic_boxes(6, 3, seed=0)
    mapped = torch.vmap(lambda a, b: score(a, b, validate=False))(
        boxes.reshape(2, 3, 6), boxes.roll(1, 0).reshape(2, 3, 6)
    )
    torch.testing.assert_close(mapped.flatten(), score(boxes, boxes.roll(1, 0)))


def test_touching_faces_pass_half_of_the_gradient_forward_too():
    pred, target = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 2.0]])
    tangent = torch.tensor([[0.0, 1.0]])
    _, forward = torch.func.jvp(
        lambda a: box_pair_iou(a, target, validate=False), (pred,), (tangent,)
    )
    assert forward.item() == 0.25


@pytest.mark.parametrize("score", PAIRWISE)
def test_a_second_derivative_of_pairwise_scores_is_refused_and_not_left_out(score):
    boxes, others = (generic_boxes(3, 2, seed=seed).requires_grad_() for seed in (0, 1))
    loss = (1 - score(boxes, others)).square().sum()
    (gradient,) = torch.autograd.grad(loss, boxes, create_graph=True)
    with pytest.raises(RuntimeError, match="pairwise scores can be differentiated once"):
        torch.autograd.grad(gradient.sum() + boxes.square().sum(), boxes)
