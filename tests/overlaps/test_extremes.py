"""Boxes of any size in floating-point range have the scores of the same boxes at ordinary size."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import pytest
import torch
from hypothesis import given, settings, strategies as st

import softoverlap as api
from softoverlap.overlaps import BallOverlap, BoxLikeOverlap, best_iou_of_size
from softoverlap.overlaps.overlap import _NAMED

SCALE_FREE = [o for o in _NAMED.values() if isinstance(o, BoxLikeOverlap) and o.scale_free]
EXACT = ["box_iou", "box_dice", "box_iof", "box_giou", "box_diou", "box_eiou"]
SIZES = [
    (torch.float32, 1, 1e30), (torch.float32, 1, 1e-30), (torch.float32, 2, 1e20),
    (torch.float32, 2, 1e-22), (torch.float32, 3, 1e13), (torch.float32, 3, 1e37),
    (torch.float32, 3, 1e-13), (torch.float32, 3, 1e-36), (torch.float32, 4, 1e10),
    (torch.float32, 4, 1e-11), (torch.float32, 6, 1e33), (torch.bfloat16, 3, 1e30),
    (torch.float16, 3, 6e-5), (torch.float64, 1, 1e300), (torch.float64, 2, 1e-200),
    (torch.float64, 3, 1e104), (torch.float64, 3, 1e307), (torch.float64, 3, 1e-300),
]  # fmt: skip


def exact_scores(pred, target):
    """Every score of two boxes, in fractions."""
    ndim = len(pred) // 2
    low_a, high_a, low_b, high_b = (
        [Fraction(value) for value in half]
        for box in (pred, target)
        for half in (box[:ndim], box[ndim:])
    )
    axes = list(zip(low_a, high_a, low_b, high_b, strict=True))
    sizes = [
        math.prod(h - low for low, h, _, _ in axes),
        math.prod(h - low for _, _, low, h in axes),
    ]
    shared = math.prod(max(Fraction(0), min(b, d) - max(a, c)) for a, b, c, d in axes)
    hull = [max(b, d) - min(a, c) for a, b, c, d in axes]
    union = sum(sizes) - shared
    iou = shared / union
    diou = iou - sum(((a + b - c - d) / 2) ** 2 for a, b, c, d in axes) / sum(e**2 for e in hull)
    return {
        "box_iou": iou,
        "box_dice": 2 * shared / sum(sizes),
        "box_iof": shared / sizes[0],
        "box_giou": iou - (math.prod(hull) - union) / math.prod(hull),
        "box_diou": diou,
        "box_eiou": diou
        - sum((((b - a) - (d - c)) / e) ** 2 for (a, b, c, d), e in zip(axes, hull, strict=True)),
    }


def corners(ndim, dtype, size=1.0):
    """Two boxes that meet, of different edges, and a third that is apart."""
    low = torch.tensor([[0.0], [0.375], [3.0]], dtype=torch.float64).expand(3, ndim)
    edge = 1 + torch.arange(3 * ndim, dtype=torch.float64).view(3, ndim) / 8
    return (torch.cat([low, low + edge], dim=1) * (size / 8)).to(dtype)


def oriented(boxes):
    """The same boxes by centre, edges and a yaw of 0."""
    low, high = boxes.chunk(2, dim=1)
    return torch.cat([(low + high) / 2, high - low, torch.zeros(len(boxes), 1)], dim=1)


def scored(overlap, pred, target):
    """The score of aligned boxes, that of all pairs, and the gradients of the first."""
    pred, target = (boxes.clone().requires_grad_() for boxes in (pred, target))
    score = overlap.pairs(pred, target)
    everything = overlap(pred, target)
    found = [
        torch.autograd.grad(part.double().sum(), (pred, target)) for part in (score, everything)
    ]
    torch.testing.assert_close(everything.diagonal(), score, rtol=1e-5, atol=1e-6)
    assert all(torch.isfinite(grad).all() for grads in found for grad in grads)
    return score.detach(), found[0]


@pytest.mark.parametrize(("dtype", "ndim", "size"), SIZES)
@pytest.mark.parametrize("name", EXACT)
def test_scores_at_the_ends_of_a_type_are_those_of_fractions(name, dtype, ndim, size):
    boxes = corners(ndim, dtype, size)
    rows = torch.tensor([[0, 1], [1, 0], [0, 2], [1, 1]])
    pred, target = boxes[rows[:, 0]], boxes[rows[:, 1]]
    score, _ = scored(getattr(api, name), pred, target)
    pairs = zip(pred.double().tolist(), target.double().tolist(), strict=True)
    expected = torch.tensor([float(exact_scores(*pair)[name]) for pair in pairs])
    tolerance = 4 * max(torch.finfo(dtype).eps, torch.finfo(torch.float32).eps)
    torch.testing.assert_close(score.float(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("dtype", "small", "large"),
    [(torch.float32, 1e-15, 1e13), (torch.float32, 1e-36, 1e36), (torch.float64, 1e-90, 1e90)],
)
@pytest.mark.parametrize("name", EXACT)
def test_small_and_large_boxes_of_one_call_are_told_apart(name, dtype, small, large):
    boxes = torch.cat([corners(3, dtype, size) for size in (small, 1.0, large)])
    pred, target = boxes.repeat_interleave(len(boxes), 0), boxes.repeat(len(boxes), 1)
    score, _ = scored(getattr(api, name), pred, target)
    pairs = zip(pred.double().tolist(), target.double().tolist(), strict=True)
    expected = torch.tensor([float(exact_scores(*pair)[name]) for pair in pairs])
    torch.testing.assert_close(score.float(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("thin", "wide"), [(1e-15, 1e13), (1e-30, 1e30)])
@pytest.mark.parametrize("name", EXACT)
def test_needles_have_right_scores(name, thin, wide):
    edges = torch.tensor([[thin, wide, wide], [thin, wide, 2 * wide], [2 * thin, thin, wide]])
    boxes = torch.cat([torch.zeros(3, 3), edges], dim=1)
    score, _ = scored(getattr(api, name), boxes, boxes.roll(1, 0))
    pairs = zip(boxes.tolist(), boxes.roll(1, 0).tolist(), strict=True)
    expected = torch.tensor([float(exact_scores(*pair)[name]) for pair in pairs])
    torch.testing.assert_close(score, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [1e104, 1e110])
def test_oriented_boxes_whose_volume_is_infinite_suppress_each_other(size):
    boxes = oriented(corners(3, torch.float64)[[0, 0, 2]] * size)
    boxes[1, 0] *= 1 + 1e-9
    assert api.rotated_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 2]


OF_VOLUMES, WITH_DISTANCES = EXACT[:4], EXACT[4:]


@pytest.mark.parametrize(
    ("name", "power"),
    [*product(OF_VOLUMES, [110, 150, 170]), *product(WITH_DISTANCES, [60, 110, 150])],
)
def test_needles_in_float64_have_a_volume(name, power):
    edges = [[10.0**-power, 10.0**power, 1.0], [10.0**-power, 10.0**power, 2.0]]
    high = torch.tensor(edges, dtype=torch.float64)
    boxes = torch.cat([torch.zeros_like(high), high], dim=1)
    score, _ = scored(getattr(api, name), boxes, boxes.roll(1, 0))
    pairs = zip(boxes.tolist(), boxes.roll(1, 0).tolist(), strict=True)
    expected = [float(exact_scores(*pair)[name]) for pair in pairs]
    torch.testing.assert_close(score, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("overlap", SCALE_FREE, ids=repr)
def test_a_subnormal_edge_has_a_finite_gradient(overlap):
    if overlap._layout.angles:
        boxes = torch.tensor([[0.0, 0.0, 1e-320, 1.0, 0.0]], dtype=torch.float64)
    else:
        boxes = torch.tensor([[0.0, 0.0, 0.0, 1e-320, 1.0, 1.0]], dtype=torch.float64)
    scored(overlap, boxes, boxes)


@pytest.mark.parametrize("overlap", SCALE_FREE, ids=repr)
@settings(max_examples=30)
@given(st.data())
def test_a_power_of_two_changes_no_score_and_divides_the_gradient(overlap, data):
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    least, most = (-125, 123) if dtype is torch.float32 else (-1020, 1019)
    power = data.draw(st.integers(least, most))
    if overlap._layout.angles:
        ndim = data.draw(st.integers(2, 3))
        boxes = corners(2 * ndim, torch.float64)[:2, : 2 * ndim]
        boxes = torch.cat([boxes + 0.25, torch.tensor([[0.5], [-0.3]])], dim=1).to(dtype)
        factor = torch.tensor([2.0**power] * 2 * ndim + [1.0], dtype=torch.float64)
    else:
        most_axes = 3 if isinstance(overlap, BallOverlap) else 4
        boxes = corners(data.draw(st.integers(1, most_axes)), dtype)
        factor = torch.full(boxes.shape[1:], 2.0**power, dtype=torch.float64)
    moved = boxes.roll(1, 0)
    score, grads = scored(overlap, boxes, moved)
    far, far_grads = scored(overlap, *((x.double() * factor).to(dtype) for x in (boxes, moved)))
    torch.testing.assert_close(far, score, rtol=0, atol=2e-6)
    for grad, far_grad in zip(grads, far_grads, strict=True):
        back = far_grad.double() * factor
        if abs(power) < 100 or (dtype is torch.float64 and abs(power) < 990):
            torch.testing.assert_close(back, grad.double(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "ndim"), [(1e20, 2), (1e-22, 2), (1e13, 3), (1e-15, 3), (1e37, 3)]
)
@pytest.mark.parametrize("kind", ["IoU", "GIoU", "DIoU", "CIoU", "EIoU"])
def test_losses_of_extreme_boxes_are_those_of_ordinary_ones(kind, size, ndim):
    for options in ({}, {"alpha": 3.0}, {"focal_gamma": 2.0}):
        loss = getattr(api, f"Box{kind}Loss")(**options)
        ordinary = corners(ndim, torch.float64)
        boxes = (ordinary * size).float().requires_grad_()
        value = loss(boxes, boxes.detach().roll(1, 0))
        (grad,) = torch.autograd.grad(value, boxes)
        assert value.item() == pytest.approx(loss(ordinary, ordinary.roll(1, 0)).item(), rel=1e-5)
        assert torch.isfinite(grad).all()
        assert grad.any()


def test_scales_that_meet_a_unit_have_finite_similarities():
    for dtype, size in product((torch.float32, torch.float64), (1e30, 1e-30)):
        boxes = corners(3, dtype, size)
        score, _ = scored(api.box_nwd, boxes, boxes.roll(1, 0))
        torch.testing.assert_close(score, torch.full_like(score, float(size < 1)))


@pytest.mark.parametrize("power", [-100, -50, 43, 100])
def test_suppression_and_matching_know_no_scale(power):
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(40, 3, generator=generator) * 10
    boxes, scores = torch.cat([low, low + 3], dim=1), torch.rand(40, generator=generator)
    far = boxes * 2.0**power
    for keep in (
        lambda found: api.box_nms(found, scores, 0.1),
        lambda found: api.weighted_box_clustering(found, scores, 0.1)[2],
        lambda found: api.soft_nms(found, scores)[0],
        lambda found: api.rotated_nms(oriented(found.double()), scores, 0.1),
    ):
        assert keep(boxes).tolist() == keep(far).tolist()
    precision = [
        api.compute_average_precision(
            [{"box": found, "label": torch.zeros(40), "label_scores": scores}],
            [{"box": found[:9] + found[0, 5] / 100, "label": torch.zeros(9)}],
        )
        for found in (boxes, far)
    ]
    assert precision[0] == precision[1]
    size = [3.0 * 2.0**power, 2.0 * 2.0**power, 2.0**power]
    torch.testing.assert_close(best_iou_of_size(far, size), best_iou_of_size(boxes, (3, 2, 1)))


def test_a_pair_of_ordinary_size_keeps_its_gradient_beside_an_extreme_one():
    ordinary = corners(3, torch.float32)
    extreme = torch.cat([ordinary, corners(3, torch.float32, 1e15)])
    alone, beside = scored(api.box_giou, ordinary, ordinary.roll(1, 0)), None
    beside = scored(api.box_giou, extreme, torch.cat([ordinary.roll(1, 0), extreme[3:]]))
    torch.testing.assert_close(beside[0][:3], alone[0])
    torch.testing.assert_close(beside[1][0][:3], alone[1][0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("far", [2.0**53, 1e30, 1e37, 1e120, 1e160, 1e300])
def test_a_face_far_beyond_the_grid_has_no_gradient_of_mass(dtype, far):
    if dtype is torch.float32 and far > 1e38:
        pytest.skip("no float32")
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(1, 4, 5, 3, generator=generator, dtype=torch.float64).to(dtype)
    near = torch.tensor([[-1.5, -9.0, 0.5, 9.0, 3.3, 9.0]], dtype=dtype)
    box = torch.tensor([[-1.5, -far, 0.5, far, 3.3, far]], dtype=dtype, requires_grad=True)
    mass = api.mask_box_mass(masks, box)
    assert torch.equal(mass, api.mask_box_mass(masks, near))
    (grad,) = torch.autograd.grad(mass.sum(), box)
    (expected,) = torch.autograd.grad(api.mask_box_mass(masks, near.requires_grad_()).sum(), near)
    assert torch.equal(grad, expected)
    scores = api.mask_box_dice, api.mask_box_iou, api.mask_box_tversky, api.mask_box_diou
    for score in (*scores, api.MaskBoxDiceLoss(), api.MaskBoxIoULoss()):
        masks.requires_grad_()
        value = score(masks, box)
        grads = torch.autograd.grad(value.sum(), (masks, box))
        assert torch.isfinite(value).all()
        assert all(torch.isfinite(part).all() for part in grads)


def test_an_infinite_face_is_refused_or_counts_as_far():
    masks, box = torch.rand(1, 4), torch.tensor([[1.0, torch.inf]], requires_grad=True)
    with pytest.raises(ValueError, match="boxes must hold finite coordinates, got NaN or infinity"):
        api.mask_box_iou(masks, box)
    value = api.mask_box_tversky(masks, box, alpha=0.0, beta=1.0, validate=False)
    (grad,) = torch.autograd.grad(value.sum(), box)
    assert torch.isfinite(value).all()
    assert torch.isfinite(grad).all()
