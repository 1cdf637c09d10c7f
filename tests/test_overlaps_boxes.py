"""Overlap of axis-aligned boxes, against rational arithmetic and MONAI."""

from __future__ import annotations

import json
from pathlib import Path

import monai.data.box_utils as monai_boxes
import pytest
import torch
from hypothesis import given
from reference import reference_box_dice, reference_box_giou, reference_box_iou
from strategies import box_batches

from softoverlap import boxes as geometry
from softoverlap.overlaps import (
    box_dice,
    box_giou,
    box_iou,
    box_pair_dice,
    box_pair_giou,
    box_pair_iou,
    box_volume,
)

VECTORS = Path(__file__).parents[2] / "shared" / "data" / "vectors" / "boxes.json"
PAIRWISE = {box_iou: box_pair_iou, box_dice: box_pair_dice, box_giou: box_pair_giou}
REFERENCE = {
    box_iou: reference_box_iou,
    box_dice: reference_box_dice,
    box_giou: reference_box_giou,
}


@pytest.mark.parametrize("score", PAIRWISE)
@given(pred=box_batches(ndim=3), target=box_batches(ndim=3))
def test_pairwise_scores_equal_rational_arithmetic(score, pred, target):
    value = score(pred, target)
    for i, a in enumerate(pred.tolist()):
        for j, b in enumerate(target.tolist()):
            assert value[i, j].item() == pytest.approx(REFERENCE[score](a, b), abs=1e-12)


@pytest.mark.parametrize("score", PAIRWISE)
@given(boxes=box_batches())
def test_aligned_scores_are_the_diagonal_of_pairwise_ones(score, boxes):
    other = boxes.roll(1, dims=0)
    assert torch.equal(PAIRWISE[score](boxes, other), score(boxes, other).diagonal())


@pytest.mark.parametrize("score", PAIRWISE)
@given(boxes=box_batches())
def test_scores_are_bounded_symmetric_and_one_on_equal_boxes(score, boxes):
    value = score(boxes, boxes)
    assert ((value >= (-1 if score is box_giou else 0)) & (value <= 1)).all()
    assert torch.equal(value, value.T)
    assert (value.diagonal() == 1).all()


@pytest.mark.parametrize("score", PAIRWISE)
@given(boxes=box_batches())
def test_scores_ignore_translation_and_scale(score, boxes):
    value = score(boxes, boxes)
    torch.testing.assert_close(score(boxes + 16, boxes + 16), value)
    torch.testing.assert_close(score(boxes * 4, boxes * 4), value)


@given(box_batches())
def test_giou_never_exceeds_iou(boxes):
    assert (box_giou(boxes, boxes) <= box_iou(boxes, boxes)).all()


@pytest.mark.parametrize("score", PAIRWISE)
@pytest.mark.parametrize("side", [1e-6, 1.0, 1e6])
def test_identical_boxes_of_any_side_score_one(score, side):
    box = torch.tensor([[0.0, 0.0, 0.0, side, side, side]])
    assert score(box, box).item() == 1


def test_points_score_one_if_equal_and_zero_if_not():
    points = torch.tensor([[1.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
    assert torch.equal(box_iou(points, points), torch.eye(2))
    assert torch.equal(box_dice(points, points), torch.eye(2))
    around = torch.tensor([[0.0, 0.0, 3.0, 3.0]])
    assert torch.equal(box_iou(points, around), torch.zeros(2, 1))


@pytest.mark.parametrize("score", PAIRWISE.values())
def test_gradients_of_points_are_finite(score):
    point = torch.ones(1, 6, requires_grad=True)
    score(point, torch.ones(1, 6)).sum().backward()
    assert torch.isfinite(point.grad).all()


@pytest.mark.parametrize("score", PAIRWISE.values())
def test_gradient_passes_gradcheck_away_from_touching_faces(score):
    pred = torch.tensor([[0.0, 0.0, 4.0, 5.0], [0.0, 0.0, 2.0, 2.0]], dtype=torch.float64)
    target = torch.tensor([[1.0, 2.0, 6.0, 4.0], [5.0, 6.0, 7.0, 8.0]], dtype=torch.float64)
    inputs = (pred.requires_grad_(), target.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: score(a, b, validate=False), inputs)


def test_touching_faces_pass_half_of_the_gradient():
    left = torch.tensor([[0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    geometry.intersection(left, torch.tensor([[1.0, 2.0]], dtype=torch.float64)).sum().backward()
    assert left.grad.tolist() == [[0.0, 0.5]]


@pytest.mark.parametrize("ours", [box_iou, box_giou])
@pytest.mark.parametrize("ndim", [2, 3])
def test_scores_equal_monais(ours, ndim):
    generator = torch.Generator().manual_seed(ndim)
    corners = 20 * torch.rand(2, 30, ndim, generator=generator)
    boxes = torch.cat([corners[0], corners[0] + corners[1]], dim=1)
    theirs = getattr(monai_boxes, ours.__name__)(boxes, boxes.flip(0))
    torch.testing.assert_close(ours(boxes, boxes.flip(0)), theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not VECTORS.exists(), reason="the shared conformance cases are not here")
@pytest.mark.parametrize("score", [box_iou, box_giou])
def test_conformance_cases_of_the_field(score):
    name = score.__name__.removeprefix("box_")
    cases = json.loads(VECTORS.read_text())["cases"]
    cases = [case for case in cases if case["op"] in (name, f"{name}_loss")]
    assert len(cases) >= 8
    for case in cases:
        a, b = (torch.tensor(case[side], dtype=torch.float64) for side in "ab")
        value = (score if case["pairwise"] else PAIRWISE[score])(a, b)
        value = 1 - value if case["op"].endswith("loss") else value
        value = value.sum() if case.get("reduction") == "sum" else value
        expected = torch.tensor(case["expected"], dtype=torch.float64)
        torch.testing.assert_close(value, expected, atol=case["atol"], rtol=0, msg=case["id"])


def test_half_and_integers_are_computed_in_float32():
    box = torch.tensor([[0, 0, 0, 60, 60, 60]])
    assert box_volume(box.half()).item() == 216000
    assert box_iou(box, box).dtype == torch.get_default_dtype()
    assert box_iou(box.bfloat16(), box.bfloat16()).dtype == torch.bfloat16
    assert box_iou(box.double(), box.float()).dtype == torch.float64


@pytest.mark.parametrize("score", [*PAIRWISE, *PAIRWISE.values()])
def test_nan_stays_nan_where_values_are_not_looked_at(score):
    box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    assert score(box * float("nan"), box, validate=False).isnan().all()


def test_no_boxes_are_normal_input():
    none, one = torch.zeros(0, 6), torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]])
    assert box_iou(none, one).shape == (0, 1)
    assert box_giou(one, none).shape == (1, 0)
    assert box_pair_iou(none, none).shape == (0,)


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
def test_aligned_scores_need_as_many_boxes():
    with pytest.raises(ValueError, match="pred and target must have as many rows"):
        box_pair_iou(torch.zeros(2, 4), torch.zeros(3, 4))


def test_clip_keeps_the_part_inside_the_image():
    boxes = torch.tensor([[-2.0, 1.0, 3.0, 9.0], [6.0, 6.0, 8.0, 8.0]])
    clipped = geometry.clip(boxes, (4, 5))
    assert clipped.tolist() == [[0.0, 1.0, 3.0, 5.0], [4.0, 5.0, 4.0, 5.0]]


def test_centres_lie_in_the_middle():
    assert geometry.centres(torch.tensor([[0.0, 2.0, 3.0, 4.0]])).tolist() == [[1.5, 3.0]]
