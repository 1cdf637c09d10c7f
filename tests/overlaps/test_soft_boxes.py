"""Soft boxes against sums over a grid, draws of raters, and the overlaps of boxes and masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap import (
    ATSSMatcher,
    Hit,
    anchor_quality,
    box_dice,
    box_iou,
    box_nms,
    compute_average_precision,
    mask_box_dice,
    mask_box_iou,
    mask_dice,
    mask_soft_box_mass,
    soft_box_dice,
    soft_box_faces,
    soft_box_iou,
    soft_box_masks,
    soft_box_mass,
    soft_boxes,
    soft_boxes_from_raters,
)
from tests.support.reference_soft_boxes import (
    axes_of,
    reference_mask,
    reference_probability,
    reference_shared,
    reference_shared_edge,
    reference_soft,
)

OVERLAPS = {"iou": soft_box_iou, "dice": soft_box_dice}
SEEDS = st.integers(0, 10**6)


def drawn(seed, count=4, ndim=2):
    """Means and deviations of boxes that meet, nest and miss; some faces are sure."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    low = 6 * draw(count, ndim)
    mean = torch.cat([low, low + 0.2 + 5 * draw(count, ndim)], dim=1)
    deviation = (1.3 * draw(count, 2 * ndim) - 0.3).clamp(min=0)
    return mean, deviation


def as_pair(mean, deviation, row):
    return mean[row].tolist(), deviation[row].tolist()


@pytest.mark.parametrize("ndim", [2, 3])
@settings(max_examples=8, deadline=None)
@given(seed=SEEDS)
def test_scores_and_masses_equal_the_reference(ndim, seed):
    (mean, deviation), (other, spread) = drawn(seed, 2, ndim), drawn(seed + 1, 2, ndim)
    a, b = soft_boxes(mean, deviation), soft_boxes(other, spread)
    masses = soft_box_mass(a, other)
    for i in range(2):
        one, sure = as_pair(mean, deviation, i), [0.0] * (2 * ndim)
        for j in range(2):
            for name, overlap in OVERLAPS.items():
                expected = reference_soft(name, one, as_pair(other, spread, j))
                assert overlap(a, b)[i, j].item() == pytest.approx(expected, abs=1e-6)
            expected = reference_shared(one, (other[j].tolist(), sure))
            assert masses[i, j].item() == pytest.approx(expected, abs=1e-5)


def test_what_is_shared_on_an_axis_is_the_integral_of_the_lesser_probability():
    for seed in range(5):
        mean, deviation = drawn(seed, 2)
        pairs = [axes_of(*as_pair(mean, deviation + 0.05, row))[0] for row in (0, 1)]
        x = np.linspace(-12, 24, 200001)
        lesser = np.minimum(*(reference_probability(x, faces) for faces in pairs))
        assert reference_shared_edge(*pairs) == pytest.approx(np.trapezoid(lesser, x), abs=1e-6)


def test_the_mass_in_a_box_is_the_mean_over_boxes_as_raters_draw_them():
    generator = torch.Generator().manual_seed(4)
    mean, deviation = drawn(11, 1)
    boxes = drawn(12, 3)[0]
    normal = torch.randn(100_000, 2, generator=generator, dtype=torch.float64)
    outward = torch.cat([-normal, normal], dim=1) * deviation
    raters = mean + outward
    valid = (raters[:, 2:] >= raters[:, :2]).all(dim=1)
    shared = torch.minimum(raters[:, None, 2:], boxes[:, 2:])
    shared = shared - torch.maximum(raters[:, None, :2], boxes[:, :2])
    volume = (shared.clamp(min=0).prod(dim=2) * valid[:, None]).mean(dim=0)
    found = soft_box_mass(soft_boxes(mean, deviation), boxes)[0]
    assert torch.allclose(found, volume, atol=0.1)


@pytest.mark.parametrize("dependence", [0.0, 0.6, -1.0])
def test_however_faces_depend_on_each_other_the_probability_differs_by_what_is_said(dependence):
    low, low_deviation, high, high_deviation = 0.0, 0.5, 3.0, 0.9
    bound = 0.5 * math.erfc(3.0 / (0.5 + 0.9) / math.sqrt(2))
    generator = np.random.default_rng(0)
    first = generator.standard_normal(100_000)
    second = dependence * first + math.sqrt(1 - dependence**2) * generator.standard_normal(100_000)
    lows, highs = low - low_deviation * first, high + high_deviation * second
    for x in np.linspace(-2, 6, 17):
        drawn_share = np.mean((lows <= x) & (x <= highs))
        ours = reference_probability(x, (low, low_deviation, high, high_deviation))
        assert abs(drawn_share - ours) < bound + 0.01
    for x in np.linspace(-9, 12, 200):  # the product of independent faces, exactly
        one, other = (reference_probability(x, f) for f in ((0, 0.5, 99, 1), (-99, 1, 3, 0.9)))
        assert 0 <= min(one, other) - one * other <= bound


@pytest.mark.parametrize("overlap", OVERLAPS.values(), ids=repr)
@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, ndim=st.sampled_from([2, 3]))
def test_scores_keep_their_laws(overlap, seed, ndim):
    mean, deviation = drawn(seed, 4, ndim)
    boxes = soft_boxes(mean, deviation)
    score = overlap(boxes, boxes)
    assert ((score >= 0) & (score <= 1)).all()
    assert torch.allclose(score, score.T, atol=1e-12)
    assert torch.allclose(score.diagonal(), torch.ones(4, dtype=torch.float64), atol=1e-12)
    assert (score - torch.eye(4, dtype=torch.float64)).max() < 1  # of others it is less
    shift, factor = torch.full((1, 2 * ndim), 31.7).double(), 17.3
    moved = soft_boxes(factor * (mean + shift), factor * deviation)
    assert torch.allclose(overlap(moved, moved), score, atol=1e-9)
    nearer = soft_box_mass(boxes, mean)
    assert (nearer <= soft_box_mass(boxes, mean + torch.tensor([-1.0, 1]).repeat_interleave(ndim))
            + 1e-12).all()  # fmt: skip


@pytest.mark.parametrize("ndim", [2, 3])
def test_without_uncertainty_scores_are_those_of_boxes(ndim):
    boxes, others = drawn(5, 6, ndim)[0], drawn(6, 6, ndim)[0]
    sure, too = soft_boxes(boxes), soft_boxes(others)
    for overlap, plain in ((soft_box_iou, box_iou), (soft_box_dice, box_dice)):
        assert torch.allclose(overlap(sure, too), plain(boxes, others), atol=1e-12)
        assert torch.equal(overlap(boxes, others), plain(boxes, others))
        assert torch.equal(
            overlap(boxes.float(), others.float()), plain(boxes.float(), others.float())
        )
    flat = soft_boxes(torch.tensor([[0.0, 0, 0, 2], [0, 1, 0, 2]]))
    assert soft_box_iou(flat, flat).tolist() == [[1, 0], [0, 1]]


def test_with_a_box_scores_are_those_of_mask_and_box():
    mean, deviation = drawn(7, 3)
    soft = soft_boxes(mean + 8, deviation)
    boxes = torch.tensor([[9.0, 9, 14, 15], [3, 10, 12, 11], [20, 20, 24, 24]]).double()
    masks = soft_box_masks(soft, (32, 32))
    for overlap, of_masks in ((soft_box_iou, mask_box_iou), (soft_box_dice, mask_box_dice)):
        assert torch.allclose(overlap(soft, soft_boxes(boxes)), of_masks(masks, boxes), atol=1e-9)


@pytest.mark.parametrize("shape", [(5, 4), (3, 4, 2)])
def test_masks_and_their_masses_equal_the_reference(shape):
    mean, deviation = drawn(9, 2, len(shape))
    soft = soft_boxes(mean / 2, deviation)
    found = soft_box_masks(soft, shape)
    for row in range(2):
        expected = reference_mask(as_pair(mean / 2, deviation, row), shape)
        assert np.allclose(found[row], expected, atol=1e-5)
    masks = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = (masks[:, None] * found).flatten(2).sum(dim=2)
    assert torch.allclose(mask_soft_box_mass(masks, soft), expected, atol=1e-12)
    assert mask_dice(found[None], found[None]).eq(1).all()


@pytest.mark.parametrize("overlap", OVERLAPS.values(), ids=repr)
@pytest.mark.parametrize("ndim", [2, 3])
def test_gradients_are_the_numerical_ones(overlap, ndim):
    a = soft_boxes(*(part + 0.03 for part in drawn(1, 2, ndim))).requires_grad_()
    b = soft_boxes(*(part + 0.05 for part in drawn(2, 2, ndim))).requires_grad_()
    assert torch.autograd.gradcheck(overlap.pairs, (a, b))
    if ndim == 2:
        assert torch.autograd.gradcheck(overlap, (a, b))
        assert torch.autograd.gradgradcheck(overlap.pairs, (a[:1], b[:1]))


def test_many_batches_are_mapped_at_once():
    a, b = soft_boxes(*drawn(1, 6)), soft_boxes(*drawn(2, 6))
    pairs = torch.vmap(lambda one, other: soft_box_iou.pairs(one[None], other[None])[0])
    assert torch.allclose(pairs(a, b), soft_box_iou.pairs(a, b))


def test_gradients_reach_boxes_masks_and_deviations():
    mean, deviation = (part.requires_grad_() for part in drawn(3, 2))
    boxes = (drawn(4, 2)[0] + 0.01).requires_grad_()
    masks = torch.rand(2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def mass(mean, deviation, boxes):
        return soft_box_mass(soft_boxes(mean, deviation.abs() + 0.1), boxes)

    def shared(mean, deviation, masks):
        return mask_soft_box_mass(masks, soft_boxes(mean, deviation.abs() + 0.1), validate=False)

    assert torch.autograd.gradcheck(mass, (mean, deviation + 0.1, boxes))
    assert torch.autograd.gradcheck(shared, (mean, deviation + 0.1, masks.requires_grad_()))


@pytest.mark.parametrize("deviation", [0.0, 0.7])
def test_equal_boxes_have_the_mean_of_both_one_sided_gradients(deviation):
    box = soft_boxes(torch.tensor([[0.0, 0, 4, 5]]).double(), deviation)
    moving = box.clone().requires_grad_()
    (found,) = torch.autograd.grad(soft_box_iou.pairs(moving, box).sum(), moving)
    step = 1e-6
    for column in range(4):  # both ends of a face move, and so its mean
        way = torch.zeros(1, 8, dtype=torch.float64)
        way[0, [column, column + 4]] = step
        up, down = (soft_box_iou.pairs(box + sign * way, box).item() for sign in (1, -1))
        assert (found * way).sum().item() == pytest.approx((up - down) / 2, abs=1e-9)
    assert found.isfinite().all()


def test_touching_sure_boxes_learn_that_uncertainty_lets_them_meet():
    deviation = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    mean = torch.tensor([[0.0, 0, 2, 2]]).double()
    other = torch.tensor([[2.0, 0, 4, 2]]).double()
    soft_box_mass(soft_boxes(mean, deviation), other).sum().backward()
    assert deviation.grad[0, 2].item() == pytest.approx(2 / math.sqrt(2 * math.pi))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int32])
def test_every_type_is_summed_in_float64(dtype):
    rows = soft_boxes(torch.tensor([[0, 0, 4, 5], [2, 2, 6, 6]]), 1).to(dtype)
    expected = soft_box_iou(rows.double(), rows.double())
    found = soft_box_iou(rows, rows)
    assert found.dtype == (dtype if dtype.is_floating_point else torch.float32)
    assert torch.allclose(found.double(), expected, atol=1e-2 if dtype.itemsize == 2 else 1e-6)
    assert soft_box_mass(rows, torch.tensor([[0, 0, 2, 2]])).dtype == torch.float32


@pytest.mark.parametrize("scale", [1e-12, 1e-40, 1e12, 1e60])
def test_boxes_of_any_size_and_hardly_any_uncertainty_have_finite_scores_and_gradients(scale):
    mean, deviation = drawn(8, 4)
    expected = soft_box_iou(*[soft_boxes(mean, deviation)] * 2)
    boxes = soft_boxes(scale * mean, scale * deviation)
    assert torch.allclose(soft_box_iou(boxes, boxes), expected, atol=1e-9)
    faint = (1e-9 * deviation).requires_grad_()
    soft_box_iou(soft_boxes(mean, faint), soft_boxes(mean + 0.1)).sum().backward()
    assert faint.grad.isfinite().all()
    assert faint.grad.abs().max() < 10


def test_a_deviation_below_the_rounding_of_the_coordinates_is_lost_as_it_is_said():
    box = torch.tensor([[500.0, 500.0, 510.0, 510.0]])
    assert not soft_box_faces(soft_boxes(box, 1e-5))[1].any()
    assert soft_box_faces(soft_boxes(box.double(), 1e-5))[1].all()


def test_nothing_has_no_score():
    nothing = torch.zeros(0, 8, requires_grad=True)
    assert soft_box_iou(nothing, torch.zeros(2, 8)).shape == (0, 2)
    soft_box_dice.pairs(nothing, nothing).sum().backward()
    assert nothing.grad.shape == (0, 8)
    assert soft_box_masks(nothing, (3, 4)).shape == (0, 3, 4)
    assert mask_soft_box_mass(torch.zeros(2, 3, 4), nothing).shape == (2, 0)
    assert soft_box_mass(nothing, torch.zeros(2, 4)).shape == (0, 2)


def test_raters_boxes_give_mean_and_deviation_of_each_face():
    moved = torch.stack([drawn(seed, 3, 3)[1] for seed in range(4)])  # each face by its own
    raters = drawn(0, 3, 3)[0] + 0.2 * moved.sort(dim=2).values
    mean, deviation = soft_box_faces(soft_boxes_from_raters(raters))
    assert np.allclose(mean, raters.numpy().mean(axis=0))
    assert np.allclose(deviation, raters.numpy().std(axis=0))
    assert not soft_box_faces(soft_boxes_from_raters(raters[:1]))[1].any()
    assert soft_boxes_from_raters(torch.zeros(3, 0, 6)).shape == (0, 12)


@pytest.mark.bad_input
def test_boxes_of_other_objects_are_not_those_of_more_raters():
    apart = torch.tensor([[0.0, 0, 4, 4], [10, 10, 14, 14], [20, 20, 24, 24]])
    raters = torch.stack([apart, apart + 1])
    assert soft_boxes_from_raters(raters).shape == (3, 8)
    with pytest.raises(ValueError, match="of object 0 that nowhere meet: is the first axis"):
        soft_boxes_from_raters(raters.transpose(0, 1))
    assert soft_boxes_from_raters(raters.transpose(0, 1), validate=False).shape == (2, 8)


def test_anchors_hits_suppression_and_precision_take_soft_boxes_as_they_are():
    truth = torch.tensor([[10.0, 10, 20, 20], [40, 40, 48, 50]])
    soft = soft_boxes(truth, torch.tensor([[0.5] * 4, [3.0] * 4]))
    anchors = torch.tensor([[10.0, 10, 20, 21], [38, 39, 47, 52], [60, 60, 70, 70]])
    quality = anchor_quality(soft, soft_boxes(anchors), overlap="soft_box_iou")
    assert torch.allclose(quality, soft_box_iou(soft, soft_boxes(anchors)))
    matches = ATSSMatcher()(
        quality, truth, anchors, num_locations_per_level=[3], num_anchors_per_loc=1
    )
    assert matches.index.tolist() == [0, 1, -1]
    found = torch.cat([soft, soft_boxes(truth + 1, 0.5), soft_boxes(truth + 30, 0.5)])
    scores = torch.linspace(0.9, 0.4, 6)
    assert box_nms(found, scores, 0.4, overlap=soft_box_iou).tolist() == [0, 1, 5]
    prediction = {"box": found, "label": torch.zeros(6), "label_scores": scores}
    target = {"box": soft, "label": torch.zeros(2)}
    precision = compute_average_precision([prediction], [target], hit=Hit(soft_box_iou, 0.9))
    assert precision.mean == 1


@pytest.mark.bad_input
def test_what_is_no_soft_box_is_refused():
    box, soft = torch.tensor([[0.0, 0, 2, 2]]), soft_boxes(torch.tensor([[0.0, 0, 2, 2]]), 0.5)
    nan = soft.clone()
    nan[0, 2] = torch.nan
    negative = torch.cat([soft[:, 4:], soft[:, :4]], dim=1)
    crossed = soft_boxes(box, 0.5) + torch.tensor([[4.0, 0, 0, 0] * 2])
    for wrong, words in (
        (nan, "must hold finite coordinates, got NaN"),
        (negative, "must have every maximum at or above its minimum"),
        (crossed, "must have every maximum, with its deviation, at or above its minimum"),
        (torch.zeros(1, 10), r"must have shape \(N, 8\) or \(N, 12\), as soft_boxes makes them"),
    ):
        for call in (soft_box_iou, soft_box_iou.pairs):
            with pytest.raises(ValueError, match=f"^pred {words}"):
                call(wrong, wrong)
        with pytest.raises(ValueError, match=f"^boxes {words}"):
            soft_box_masks(wrong, (4, 4))
        with pytest.raises(ValueError, match=f"^pred {words}"):
            soft_box_mass(wrong, box)
    with pytest.raises(ValueError, match=r"^target must have shape \(N, 8\), got \(1, 4\)"):
        soft_box_iou(soft, box)
    with pytest.raises(ValueError, match=r"^target must have shape \(N, 4\), got \(1, 8\)"):
        soft_box_iou(box, soft)
    with pytest.raises(ValueError, match=r"^boxes must have shape \(N, 8\) or"):
        soft_box_faces(box)
    with pytest.raises(ValueError, match=r"^boxes must have shape \(N, 4\), got \(1, 6\)"):
        soft_box_mass(soft, torch.zeros(1, 6))
    with pytest.raises(ValueError, match=r"^spatial_size must have 2 sides, one an axis, got"):
        soft_box_masks(soft, (4, 4, 4))
    for size in ((4, 2.5), (4, -1)):
        with pytest.raises(
            ValueError, match=r"^spatial_size must hold whole numbers of at least 0"
        ):
            soft_box_masks(soft, size)
    with pytest.raises(ValueError, match=r"^spatial_size must have 2 sides"):
        mask_soft_box_mass(torch.zeros(1, 4), soft)
    with pytest.raises(TypeError, match="unexpected keyword argument 'period'"):
        soft_box_iou(soft, soft, period=4.0)


@pytest.mark.bad_input
def test_wrong_means_deviations_and_raters_are_named():
    box = torch.tensor([[0.0, 0, 2, 2]])
    for deviation in (-0.1, torch.tensor([[0.0, -0.1, 0, 0]])):
        with pytest.raises(ValueError, match=r"^deviation must be at least 0, got -0\.1"):
            soft_boxes(box, deviation)
    with pytest.raises(ValueError, match="^deviation must hold finite values, got NaN"):
        soft_boxes(box, math.nan)
    with pytest.raises(ValueError, match=r"^deviation must hold a number a face, shape \(1, 4\)"):
        soft_boxes(box, torch.ones(4))
    with pytest.raises(TypeError, match="^deviation must be a tensor or number, got 'x'"):
        soft_boxes(box, "x")
    with pytest.raises(ValueError, match=r"^mean must have shape \(N, 4\) or \(N, 6\)"):
        soft_boxes(torch.tensor([[0.0, 1.0]]))
    with pytest.raises(ValueError, match="^mean must have every maximum at or above"):
        soft_boxes(box.flip(1) - torch.tensor([0.0, 0, 0, 1]))
    for wrong in (torch.zeros(0, 1, 4), torch.zeros(1, 1, 1, 4)):
        with pytest.raises(ValueError, match=r"^boxes must have shape \(R, N, 2 \* ndim\)"):
            soft_boxes_from_raters(wrong)
    with pytest.raises(ValueError, match="^boxes must hold finite coordinates"):
        soft_boxes_from_raters(box[None] * torch.nan)
