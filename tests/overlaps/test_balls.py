"""Overlap of balls with balls, boxes and masks, against integrals over slices and closed forms."""

from __future__ import annotations

import itertools
import math

import mpmath
import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap import (
    Hit,
    Lesion,
    anchor_quality,
    balls as geometry,
    box_nms,
    boxes_of_balls,
    compute_average_precision,
    compute_froc,
    match_scan,
)
from softoverlap.losses import BoxLoss
from softoverlap.overlaps import (
    ball_centreness,
    ball_dice,
    ball_iou,
    box_ball_dice,
    box_ball_iou,
    box_dice,
    box_iou,
    mask_ball_dice,
    mask_ball_iou,
    mask_ball_mass,
)
from tests.support.reference import reference_nms
from tests.support.reference_balls import (
    FULL,
    reference_ball_iou,
    reference_luna16,
    reference_shared_with_box,
)

OF_BALLS = [ball_iou, ball_dice, ball_centreness]
OF_BOXES = [box_ball_iou, box_ball_dice]
EVERY = [*OF_BALLS, *OF_BOXES]
SEEDS = st.integers(0, 10**6)
few = settings(max_examples=10, deadline=None)


def drawn(count, ndim, seed):
    """Balls `(centre..., diameter)`, float64: some apart, some inside each other."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(count, ndim + 1, generator=generator, dtype=torch.float64)
    return torch.cat([3 * draw[:, :-1], 0.2 + 3 * draw[:, -1:]], dim=1)


def drawn_boxes(count, ndim, seed):
    generator = torch.Generator().manual_seed(seed)
    low, edge = 3 * torch.rand(2, count, ndim, generator=generator, dtype=torch.float64)
    return torch.cat([low, low + 0.1 + edge], dim=1)


def balls(*rows):
    return boxes_of_balls(torch.tensor(rows, dtype=torch.float64))


def soft_masks(count, *shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("ndim", [2, 3])
@given(seed=SEEDS)
@few
def test_two_balls_score_as_an_integral_over_slices(ndim, seed):
    a, b = drawn(3, ndim, seed), drawn(3, ndim, seed + 1)
    iou, dice = (score(boxes_of_balls(a), boxes_of_balls(b)) for score in (ball_iou, ball_dice))
    for (i, one), (j, other) in itertools.product(enumerate(a.tolist()), enumerate(b.tolist())):
        expected = reference_ball_iou(one, other)
        assert iou[i, j].item() == pytest.approx(expected, abs=1e-9)
        assert dice[i, j].item() == pytest.approx(2 * expected / (1 + expected), abs=1e-9)


def lens_to_40_digits(distance, one, other, ndim):
    """The field's closed forms, which cancel, with digits to spare."""
    with mpmath.workdps(60):
        d, r, s = (mpmath.mpf(x) for x in (distance, one, other))
        if ndim == 3:
            square = d**2 + 2 * d * (r + s) - 3 * (r - s) ** 2
            return mpmath.pi * (r + s - d) ** 2 * square / (12 * d)
        first = r**2 * mpmath.acos((d**2 + r**2 - s**2) / (2 * d * r))
        second = s**2 * mpmath.acos((d**2 + s**2 - r**2) / (2 * d * s))
        kite = mpmath.sqrt((r + s - d) * (d + r - s) * (d - r + s) * (d + r + s)) / 2
        return first + second - kite


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(
    ("distance", "other"),
    [
        (1.9999999, 1.0),  # nearly apart
        (1e-9, 1.0),  # nearly one
        (0.5 + 2**-40, 0.5),  # nearly inside
        (1.0, 1e-7),  # tiny on the surface of a large one
        (1 + 2**-30, 2**-29),
        (1.7, 0.9),
    ],
)
def test_lenses_of_any_thinness_keep_their_digits(ndim, distance, other):
    expected = lens_to_40_digits(distance, 1.0, other, ndim)
    at = [torch.tensor(x, dtype=torch.float64) for x in (distance, 1.0, other)]
    found = geometry._Lens.apply(*at, ndim).item()
    assert found == pytest.approx(float(expected), rel=2e-9 if distance > 1.99 else 1e-12)
    assert found > 0


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_ball_inside_another_is_its_share_of_it(ndim):
    origin = [0.0] * ndim
    outer, inner = balls([*origin, 4.0]), balls([0.5, *origin[1:], 2.0])
    assert ball_iou(inner, outer).item() == pytest.approx(0.5**ndim, rel=1e-14)
    apart = balls([9.0, *origin[1:], 4.0])
    for score in EVERY:
        assert score(apart, outer).item() == 0
    for score in OF_BALLS:
        assert score(outer, outer).item() == 1


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("height", [1.0, 1e-6])
def test_a_box_beside_a_ball_shares_nothing_and_one_that_dips_in_shares_something(ndim, height):
    around = drawn_boxes(400, ndim, 7) - 1.5
    around[:, ndim - 1 :: ndim] *= height
    nearest = around[:, :ndim].clamp(min=0) + around[:, ndim:].clamp(max=0)
    boxes, distance = around[nearest.any(dim=1)], nearest[nearest.any(dim=1)].norm(dim=1)
    origin = torch.zeros(len(boxes), ndim, dtype=torch.float64)
    for gap in (1e-9, 1e-3, 0.5):
        beside = boxes_of_balls(torch.cat([origin, 2 * (1 - gap) * distance[:, None]], dim=1))
        into = boxes_of_balls(torch.cat([origin, 2 * (1 + gap) * distance[:, None]], dim=1))
        for score in OF_BOXES:
            assert not score.pairs(boxes, beside).any()
            assert gap < 1e-3 or score.pairs(boxes, into).all()


def test_in_one_dimension_balls_are_intervals():
    a, b = drawn_boxes(4, 1, 0), drawn_boxes(5, 1, 1)
    for score in (ball_iou, box_ball_iou):
        torch.testing.assert_close(score(a, b), box_iou(a, b))
    for score in (ball_dice, box_ball_dice):
        torch.testing.assert_close(score(a, b), box_dice(a, b))
    mask = soft_masks(1, 7)
    covered = mask_ball_mass(mask, torch.tensor([[1.25, 4.5]], dtype=torch.float64))
    expected = 0.75 * mask[0, 1] + mask[0, 2:4].sum() + 0.5 * mask[0, 4]
    assert covered.item() == pytest.approx(expected.item(), rel=1e-14)


@given(seed=SEEDS)
@few
def test_ellipsoids_of_other_proportions_share_no_less_than_is_said(seed):
    a, b = drawn_boxes(1, 2, seed), drawn_boxes(1, 2, seed + 1)
    grid = torch.arange(120, dtype=torch.float64) / 20 + 0.0251
    points = torch.cartesian_prod(grid, grid)
    inside = []
    for box in (a, b):
        centre, half = (box[:, :2] + box[:, 2:]) / 2, (box[:, 2:] - box[:, :2]) / 2
        inside.append((((points - centre) / half) ** 2).sum(dim=1) <= 1)
    true = (inside[0] & inside[1]).sum() / (inside[0] | inside[1]).sum().clamp(min=1)
    assert ball_iou(a, b).item() <= true.item() + 0.1
    assert ball_iou(a, a).item() == 1
    assert ball_iou(a, b).item() < 1


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_box_and_a_ball_share_what_slices_add_up_to(ndim):
    boxes, round_ones = drawn_boxes(4, ndim, 5), boxes_of_balls(drawn(4, ndim, 6))
    shared, of_boxes, of_balls = geometry.shared_with_box(boxes[:, None], round_ones[None])
    iou, dice = box_ball_iou(boxes, round_ones), box_ball_dice(boxes, round_ones)
    for i, j in itertools.product(range(4), range(4)):
        low, high = round_ones[j, :ndim], round_ones[j, ndim:]
        centre, radii = ((low + high) / 2).tolist(), ((high - low) / 2).tolist()
        expected = reference_shared_with_box(boxes[i].tolist(), centre, radii)
        size = math.prod(x.item() for x in boxes[i, ndim:] - boxes[i, :ndim])
        ball = FULL[ndim] * math.prod(radii)
        share = (shared / of_balls)[i, j].item()
        assert share == pytest.approx(expected / ball, abs=1e-10)
        assert (of_boxes / of_balls)[i, j].item() == pytest.approx(size / ball, rel=1e-13)
        assert iou[i, j].item() == pytest.approx(expected / (size + ball - expected), abs=1e-10)
        assert dice[i, j].item() == pytest.approx(2 * expected / (size + ball), abs=1e-10)


@pytest.mark.parametrize("ndim", [2, 3])
def test_parts_of_a_ball_have_their_closed_forms(ndim):
    ball, far = balls([*[0.0] * ndim, 2.0]), 5.0
    whole, others = FULL[ndim], [[-far, far]] * (ndim - 1)

    def share(*sides):
        rows = [[low for low, _ in sides] + [high for _, high in sides]]
        box = torch.tensor(rows, dtype=torch.float64)
        return geometry.shared_with_box(box, ball)[0].item()

    cap = math.pi * 0.6**2 * 2.4 / 3 if ndim == 3 else math.acos(0.4) - 0.4 * math.sqrt(0.84)
    inner = [[-0.3, 0.4]] * ndim
    cases = [
        (share([-far, far], *others), whole),
        (share([0.0, far], *others), whole / 2),
        (share(*[[0.0, far]] * ndim), whole / 2**ndim),
        (share([0.4, far], *others), cap),
        (share([1.0, far], *others), 0.0),
        (share(*inner), 0.7**ndim),
        (share(*[[1.0, 2.0]] * ndim), 0.0),
    ]
    for found, expected in cases:
        assert found == pytest.approx(expected, abs=1e-13)


def up_to_corner_to_20_digits(x, y, z):
    """The slices of the unit ball in front of a corner, each a part of a disc, added up."""

    def in_disc(height):
        radius = mpmath.sqrt(1 - height**2)
        width, length = min(x, radius), min(y, radius)
        if width**2 + length**2 <= radius**2:
            return width * length
        angle = mpmath.asin(width / radius) + mpmath.asin(length / radius) - mpmath.pi / 2
        triangles = [side * mpmath.sqrt(abs(radius**2 - side**2)) for side in (width, length)]
        return (radius**2 * angle + sum(triangles)) / 2

    kinks = [1 - x * x, 1 - y * y, 1 - x * x - y * y]
    kinks = {mpmath.sqrt(k) for k in kinks if 0 < k < z * z}
    return mpmath.quad(in_disc, sorted({mpmath.mpf(0), *kinks, z}))


@pytest.mark.parametrize(
    "corner",
    [(0.5, 0.6, 0.7), (0.9, 0.2, 0.8), (0.25, 0.99, 0.3), (0.01, 0.02, 0.9999), (0.6, 0.61, 0.6)],
)
def test_the_share_up_to_a_corner_has_all_digits(corner):
    with mpmath.workdps(20):
        expected = up_to_corner_to_20_digits(*map(mpmath.mpf, corner))
    at = [torch.tensor(x, dtype=torch.float64) for x in corner]
    assert geometry.up_to_corner(*at).item() == pytest.approx(float(expected), abs=5e-16)


@given(seed=SEEDS, ndim=st.integers(2, 3), cut=st.floats(0, 1))
@few
def test_what_a_box_shares_is_the_sum_over_its_parts(seed, ndim, cut):
    box, ball = drawn_boxes(1, ndim, seed), boxes_of_balls(drawn(1, ndim, seed + 1))
    place = torch.lerp(box[0, 0], box[0, ndim], cut)
    left, right = box.clone(), box.clone()
    left[0, ndim], right[0, 0] = place, place
    parts = [geometry.shared_with_box(part, ball)[0].item() for part in (left, right)]
    whole = geometry.shared_with_box(box, ball)[0].item()
    assert sum(parts) == pytest.approx(whole, abs=1e-13)  # the bound that is stated
    assert all(0 <= part <= whole + 1e-13 for part in parts)


@pytest.mark.parametrize("score", EVERY)
@given(seed=SEEDS, ndim=st.integers(1, 3))
@few
def test_scores_keep_their_laws(score, seed, ndim):
    a, b = boxes_of_balls(drawn(3, ndim, seed)), boxes_of_balls(drawn(3, ndim, seed + 1))
    found = score(a, b)
    assert ((found >= 0) & (found <= 1)).all()
    generator = torch.Generator().manual_seed(seed)
    stretch = (0.2 + torch.rand(ndim, generator=generator, dtype=torch.float64)).repeat(2)
    shift = torch.rand(ndim, generator=generator, dtype=torch.float64).repeat(2)
    again = score(stretch * (a + shift), stretch * (b + shift))
    torch.testing.assert_close(again, found, atol=1e-9, rtol=0)  # mm or voxels of any spacing
    if score.symmetric:
        torch.testing.assert_close(score(b, a).mT, found, atol=1e-14, rtol=0)


@pytest.mark.parametrize("score", EVERY)
def test_scores_fall_as_balls_move_apart(score):
    away = torch.linspace(0, 3, 61, dtype=torch.float64)
    found = torch.stack([away, 0 * away, 0 * away, 0 * away + 2], dim=1)
    falling = score(boxes_of_balls(found), balls([0.0, 0.0, 0.0, 2.0]))[:, 0]
    assert (falling.diff() <= 1e-14).all()
    assert falling[0] == falling.max()
    assert falling[-1] == 0


def test_the_centre_counts_in_radii_of_the_second_ball():
    nodule = balls([10.0, 0.0, 0.0, 6.0])
    for apart, expected in ((0.0, 1.0), (1.5, 0.75), (2.999999, 0.5), (3.0, 0.0), (30.0, 0.0)):
        for diameter in (0.0, 1.0, 40.0):  # a candidate may be a point
            found = balls([10.0, apart, 0.0, diameter])
            score = ball_centreness(found, nodule).item()
            assert score == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("score", EVERY)
@pytest.mark.parametrize("ndim", [2, 3])
def test_gradients_are_those_of_differences_also_for_gradients(score, ndim):
    near = torch.tensor([0.5] * ndim + [1.0], dtype=torch.float64)
    inputs = [(near * drawn(2, ndim, seed)).requires_grad_() for seed in (1, 2)]
    call = lambda a, b: score(boxes_of_balls(a), boxes_of_balls(b), validate=False)  # noqa: E731
    assert (call(*inputs) > 0).any()
    assert torch.autograd.gradcheck(call, inputs)
    if ndim == 3 and score in OF_BOXES:
        return  # the same operations, at some cost
    pairs = lambda a, b: score.pairs(boxes_of_balls(a[:1]), boxes_of_balls(b[:1]))  # noqa: E731
    assert torch.autograd.gradgradcheck(pairs, inputs, fast_mode=True)


@pytest.mark.parametrize("ndim", [2, 3])
def test_between_equal_balls_the_gradient_is_the_mean_of_both_sides(ndim):
    truth = torch.tensor([[0.5] * ndim + [2.0]], dtype=torch.float64)
    pred, step = truth.clone().requires_grad_(), 1e-6 * torch.eye(ndim + 1, dtype=torch.float64)
    for score in (ball_iou, ball_dice):
        call = lambda x: score(boxes_of_balls(x), boxes_of_balls(truth))  # noqa: B023, E731
        (gradient,) = torch.autograd.grad(call(pred).sum(), pred)
        sides = [(call(truth + side * step)[:, 0] - 1) / 1e-6 for side in (-1, 1)]
        torch.testing.assert_close(gradient[0], (sides[1] - sides[0]) / 2, atol=1e-5, rtol=0)
        assert sides[0].max() < -0.1
    size = pred.clone().detach().requires_grad_()
    shared = geometry.shared_and_own(boxes_of_balls(size), boxes_of_balls(truth))[0]
    (gradient,) = torch.autograd.grad(shared.sum(), size)
    assert gradient[0, :-1].abs().max() < 1e-12
    assert gradient.isfinite().all()


def test_a_loss_moves_a_ball_onto_its_target():
    class BallLoss(BoxLoss):
        overlap = ball_iou

    target = balls([4.0, 5.0, 6.0, 8.0])
    ball = torch.tensor([[6.0, 5.5, 5.0, 5.0]], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([ball], lr=0.2)
    for _ in range(60):
        optimizer.zero_grad()
        BallLoss()(boxes_of_balls(ball), target).backward()
        optimizer.step()
    assert ball_iou(boxes_of_balls(ball.detach()), target).item() > 0.95


@pytest.mark.parametrize("size", [1e-120, 1e-30, 1.0, 1e30, 1e120])
def test_balls_of_any_size_score_alike(size):
    a, b = drawn(4, 3, 1), drawn(4, 3, 2)
    for score in EVERY:
        expected = score(boxes_of_balls(a), boxes_of_balls(b))
        found = score(boxes_of_balls(size * a), boxes_of_balls(size * b))
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_scores_have_the_type_of_their_boxes(dtype):
    rows = torch.tensor([[2.0, 2.0, 2.0, 4.0], [3.0, 2.0, 2.0, 2.0]])
    exact = boxes_of_balls(rows.double())
    narrow = boxes_of_balls(rows.to(dtype))
    assert narrow.dtype == dtype
    for score in EVERY:
        found = score(narrow, narrow)
        assert found.dtype == dtype
        torch.testing.assert_close(found, score(exact, exact).to(dtype))
    assert boxes_of_balls(torch.tensor([[1, 1, 3]])).tolist() == [[-0.5, -0.5, 2.5, 2.5]]


def test_points_are_equal_or_share_nothing_and_nothing_scores_nothing():
    points = balls([1.0, 1.0, 0.0], [1.0, 2.0, 0.0])
    for score in EVERY:
        assert score(points, points).tolist() == [[1, 0], [0, 1]]
        assert score(points, balls([1.0, 1.0, 2.0])).shape == (2, 1)
        assert score(points[:0], points).shape == (0, 2)
        assert score.pairs(points[:0], points[:0]).shape == (0,)
    assert boxes_of_balls(torch.zeros(0, 4)).shape == (0, 6)
    assert mask_ball_dice(torch.zeros(2, 3, 3), points[:0].float()).shape == (2, 0)
    assert mask_ball_dice([], points).shape == (0, 2)
    assert mask_ball_dice(torch.zeros(1, 3, 3), points.float()).tolist() == [[1, 1]]
    assert mask_ball_dice(torch.zeros(1, 3, 3), points.float(), empty=0.5).tolist() == [[0.5, 0.5]]


def test_balls_can_be_mapped():
    a, b = boxes_of_balls(drawn(6, 3, 1)), boxes_of_balls(drawn(6, 3, 2))
    for score in EVERY:
        mapped = torch.vmap(lambda x, y: score.pairs(x, y, validate=False))  # noqa: B023
        found = mapped(a.view(2, 3, 6), b.view(2, 3, 6)).flatten()
        torch.testing.assert_close(found, score.pairs(a, b))


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 3)])
def test_the_mass_in_a_ball_is_the_sum_over_voxels(shape):
    ndim = len(shape)
    masks, box = soft_masks(2, *shape, seed=ndim), drawn_boxes(2, ndim, 3) - 0.4
    found, pairs = mask_ball_mass(masks, box), mask_ball_iou.pairs(masks, box)
    for j in range(2):
        low, high = box[j, :ndim], box[j, ndim:]
        centre, radii = ((low + high) / 2).tolist(), ((high - low) / 2).tolist()
        expected = [0.0, 0.0]
        for voxel in itertools.product(*map(range, shape)):
            corners = [*voxel, *(place + 1 for place in voxel)]
            share = reference_shared_with_box(corners, centre, radii)
            for i in range(2):
                expected[i] += masks[i][voxel].item() * share
        for i in range(2):
            assert found[i, j].item() == pytest.approx(expected[i], abs=1e-9)
        union = masks[j].sum().item() + FULL[ndim] * math.prod(radii) - expected[j]
        assert pairs[j].item() == pytest.approx(expected[j] / union, abs=1e-9)
    dice = mask_ball_dice(masks, box)
    torch.testing.assert_close(
        2 * mask_ball_iou(masks, box) / (1 + mask_ball_iou(masks, box)), dice
    )
    torch.testing.assert_close(mask_ball_dice.pairs(masks, box), dice.diagonal())


@given(seed=SEEDS, ndim=st.integers(2, 3))
@few
def test_voxels_around_a_ball_share_all_of_it(seed, ndim):
    ball = boxes_of_balls(drawn(1, ndim, seed)) + 1.7  # at least 0.1 from 0
    found = mask_ball_mass(torch.ones(1, *[7] * ndim, dtype=torch.float64), ball).item()
    assert found == pytest.approx(geometry.volume(ball).item(), rel=1e-13)


def test_layers_add_up_to_the_whole(monkeypatch):
    masks, ball = soft_masks(2, 6, 5, 4), boxes_of_balls(drawn(3, 3, 4))
    expected = mask_ball_mass(masks, ball)
    monkeypatch.setattr("softoverlap.overlaps._ball_mass._VOXELS_PER_BLOCK", 1)
    torch.testing.assert_close(mask_ball_mass(masks, ball), expected, atol=1e-13, rtol=0)


def test_lesions_score_as_their_masks():
    masks, ball = torch.zeros(2, 6, 6, 6), boxes_of_balls(drawn(2, 3, 4).float())
    masks[0, 1:4, 1:4, 2:5] = soft_masks(1, 3, 3, 3)[0].float()
    masks[1, 2:4, 1:3, 0:2] = 0.5
    lesions = [
        Lesion(box=ball[0], crop=masks[0, 1:4, 1:4, 2:5], offset=torch.tensor([1, 1, 2]),
               centre=torch.zeros(3), volume_mm3=1.0),
        Lesion(box=ball[0], crop=masks[1, 2:4, 1:3, 0:2], offset=torch.tensor([2, 1, 0]),
               centre=torch.zeros(3), volume_mm3=1.0),
    ]  # fmt: skip
    for score in (mask_ball_mass, mask_ball_dice, mask_ball_dice.pairs):
        torch.testing.assert_close(score(lesions, ball), score(masks, ball))


@pytest.mark.parametrize("score", [mask_ball_dice, mask_ball_iou.pairs, mask_ball_mass])
@pytest.mark.parametrize("shape", [(4, 3), (3, 3, 2)])
def test_gradients_flow_to_the_masks_and_the_balls(score, shape):
    masks = (0.1 + 0.8 * soft_masks(2, *shape)).requires_grad_()
    rows = drawn(2, len(shape), 8).requires_grad_()
    call = lambda m, x: score(m, boxes_of_balls(x), validate=False)  # noqa: E731
    assert torch.autograd.gradcheck(call, (masks, rows))
    found = call(masks, rows).sum()
    (gradient,) = torch.autograd.grad(found, rows, create_graph=True)
    with pytest.raises(RuntimeError, match="a mask in a ball can be differentiated once"):
        gradient.sum().backward()


def test_suppression_anchors_and_hits_take_balls_without_more_ado():
    rows = drawn(40, 3, 0)
    found, scores = boxes_of_balls(rows), torch.linspace(1, 0.1, 40)
    kept = box_nms(found, scores, 0.1, overlap=ball_iou)
    overlap = lambda i, j: reference_ball_iou(rows[i].tolist(), rows[j].tolist())  # noqa: E731
    table = [[overlap(i, j) for j in range(40)] for i in range(40)]
    lookup = {tuple(box): i for i, box in enumerate(found.tolist())}
    by_table = lambda a, b: table[lookup[tuple(a)]][lookup[tuple(b)]]  # noqa: E731
    expected = reference_nms(found.tolist(), scores.tolist(), 0.1, [0] * 40, by_table)
    assert kept.tolist() == list(expected)
    for overlap in EVERY:
        for sparse in (False, True):
            quality = anchor_quality(found[:5], found, overlap=overlap, sparse=sparse)
            quality = quality.to_dense() if sparse else quality
            torch.testing.assert_close(quality, overlap(found, found[:5]).mT)
        at = {"label": torch.zeros(5), "box": found[:5]}
        torch.testing.assert_close(Hit(overlap).quality(found, at), overlap(found, found[:5]).mT)


def luna16_scans(seed):
    """Nodules and candidates of three scans; no candidate lies in two nodules."""
    generator = torch.Generator().manual_seed(seed)
    scans = []
    for count in (3, 0, 2):
        places = torch.rand(12, 3, generator=generator, dtype=torch.float64)
        nodules = [[60.0 * k, *(20 * places[k, :2]).tolist(), 6.0 + 4 * k] for k in range(count)]
        candidates = []
        for k in range(12):
            middle = nodules[k % count][:3] if count else [0.0] * 3
            away = (8 * (places[k] - 0.5)).tolist()
            score = round(0.05 + 0.9 * places[k, 0].item(), 3)
            candidates.append([*(m + x for m, x in zip(middle, away, strict=True)), score])
        scans.append((nodules, candidates))
    return scans


@pytest.mark.parametrize("spacing", [1.0, (0.7, 0.7, 2.5)])
@pytest.mark.parametrize("threshold", [0.1, 0.5])
def test_froc_counts_hits_by_distance_as_luna16_does(spacing, threshold):
    edges = torch.as_tensor(spacing, dtype=torch.float64).expand(3).repeat(2)
    for seed in range(4):
        scans = luna16_scans(seed)
        predictions, targets = [], []
        for nodules, candidates in scans:
            nodule = torch.tensor(nodules, dtype=torch.float64).view(-1, 4)
            rows = torch.tensor(candidates, dtype=torch.float64)
            points = torch.cat([rows[:, :3], torch.zeros(len(rows), 1)], dim=1)
            predictions.append({
                "box": boxes_of_balls(points) / edges, "label": torch.zeros(len(rows)),
                "label_scores": rows[:, 3],
            })  # fmt: skip
            targets.append(
                {"box": boxes_of_balls(nodule) / edges, "label": torch.zeros(len(nodule))}
            )
        froc = compute_froc(predictions, targets, hit=Hit(ball_centreness, threshold))
        expected = reference_luna16(scans)
        assert froc.thresholds[1:].tolist() == pytest.approx([level for level, _, _ in expected])
        assert (froc.sensitivities[1:] * 5).tolist() == pytest.approx([n for _, n, _ in expected])
        assert (froc.fps_per_scan[1:] * 3).tolist() == pytest.approx([n for _, _, n in expected])


def test_the_truth_is_perfect_and_a_box_may_meet_a_ball():
    nodules = balls([20.0, 20.0, 20.0, 8.0], [40.0, 20.0, 20.0, 5.0])
    target = {"box": nodules, "label": torch.zeros(2)}
    found = {"box": nodules, "label": torch.zeros(2), "label_scores": torch.tensor([0.9, 0.8])}
    for overlap in EVERY:
        assert compute_froc([found], [target], hit=Hit(overlap)).cpm == 1
        assert compute_average_precision([found], [target], hit=overlap).mean == 1
    outcomes = match_scan(found, target, hit=Hit(box_ball_iou, 0.5))
    assert outcomes.outcome.flatten().tolist() == [1, 1]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[0.0, 0.0, 0.0, -2.0]], r"balls must have diameters of at least 0, got .* in row 0"),
        ([[0.0, math.nan, 0.0, 2.0]], "balls must hold finite numbers, got NaN or infinity"),
        ([[0.0, 0.0, 0.0, math.inf]], "balls must hold finite numbers, got NaN or infinity"),
        ([[1.0]], r"balls must have shape \(N, ndim \+ 1\), a centre .*, got \(1, 1\)"),
        ([1.0, 2.0, 3.0], r"balls must have shape \(N, ndim \+ 1\), a centre .*, got \(3,\)"),
        ([[1.0, 2.0, 3.0, 8.0, 0.9]], "a centre on one to three axes and a diameter, got"),
        ([[0.0, 0.0, 0.0, 1.0, 1.0, 1.0]], r"a centre on one to three axes .*, got \(1, 6\)"),
    ],
)
def test_what_is_no_ball_is_refused(rows, words):
    with pytest.raises(ValueError, match=words):
        boxes_of_balls(torch.tensor(rows))


@pytest.mark.bad_input
def test_what_holds_no_balls_is_refused():
    box, mask = torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.zeros(1, 3, 3)
    for score in EVERY:
        with pytest.raises(ValueError, match="pred must hold finite coordinates, got NaN"):
            score(box * math.nan, box)
        with pytest.raises(ValueError, match="target must have every maximum at or above"):
            score(box, box.flip(1))
        four = torch.zeros(1, 8)
        with pytest.raises(ValueError, match="pred must have one to three axes where boxes stand"):
            score(four, four)
    for score in (mask_ball_dice, mask_ball_mass, mask_ball_iou.pairs):
        with pytest.raises(
            ValueError, match=r"masks must have shape \(K, \*spatial\).* 2 for boxes"
        ):
            score(mask[None], box)
        with pytest.raises(ValueError, match=r"masks must hold probabilities in \[0, 1\]"):
            score(mask + 2, box)
        with pytest.raises(ValueError, match="boxes must hold finite coordinates"):
            score(mask, box * math.nan)
        with pytest.raises(TypeError, match="masks must hold Lesion, got Tensor"):
            score([mask], box)
        with pytest.raises(TypeError, match="masks must be a tensor or a list of Lesion, got int"):
            score(3, box)
    with pytest.raises(ValueError, match="masks and boxes must be as many, got 1 and 2"):
        mask_ball_dice.pairs(mask, box.repeat(2, 1))
    assert mask_ball_mass(mask, box * math.nan, validate=False).isnan().all()


@pytest.mark.bad_input
def test_centres_and_diameters_in_place_of_boxes_are_told_what_takes_them():
    disc, ball = torch.tensor([[8.0, 9.0, 4.0]]), torch.tensor([[8.0, 9.0, -3.0, 4.0]])
    mask = torch.zeros(1, 3, 3)
    for rows in (disc, ball):
        for score in (ball_iou, box_ball_dice.pairs):
            with pytest.raises(ValueError, match="; boxes_of_balls makes boxes of centre and dia"):
                score(rows, rows)
        with pytest.raises(ValueError, match="; boxes_of_balls makes boxes of centre and dia"):
            mask_ball_dice(mask, rows)
    inverted = torch.tensor([[1.0, 1.0, 1.0, 0.0, 2.0, 2.0]])
    with pytest.raises(ValueError, match="at or above its minimum, got .* in row 0$"):
        ball_iou(inverted, inverted)
