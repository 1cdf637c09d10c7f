"""Overlap of regions, against slabs in rational numbers, shapely, boxes, and its own laws."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap import box_iou, mask_iou, rotated_box_iou
from softoverlap.overlaps import region_dice, region_iou
from softoverlap.regions import Polygon
from tests.support.reference import reference_dice, reference_iou
from tests.support.reference_regions import reference_region

BOTH = [region_iou, region_dice]
EIGHT = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
PERIODS = [None, 4.0, (4.0, None), (None, 5)]
SEEDS = st.integers(0, 10**6)
few = settings(max_examples=8)


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def drawn(seed):
    return np.random.default_rng(seed)


def star(draw):
    """A polygon on eighths, not convex, at most 4 wide, with a hole in half of the cases."""
    centre = draw.integers(-20, 20, 2)
    reach = draw.integers(2, 17, 8)
    rings = [centre + reach[:, None] * EIGHT]
    if draw.random() < 0.5:
        rings.append(centre + draw.integers(1, reach)[:, None] * EIGHT)
    return rings_of(*(ring[:: draw.choice([-1, 1])] / 8 for ring in rings))


def rings_of(outer, *holes):
    return Polygon(tensor(outer), [tensor(hole) for hole in holes])


def listed(polygon):
    return [ring.tolist() for ring in (polygon.outer, *polygon.holes)]


def moved(polygon, by=(0.0, 0.0), factor=1.0):
    outer, *holes = (factor * ring + tensor(by) for ring in (polygon.outer, *polygon.holes))
    return Polygon(outer, holes)


def rectangle(x0, y0, x1, y1, **options):
    return torch.tensor([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=torch.float64, **options)


@pytest.mark.parametrize("period", PERIODS, ids=str)
@pytest.mark.parametrize("overlap", BOTH, ids=repr)
@given(seed=SEEDS)
@settings(max_examples=6)
def test_scores_equal_the_reference(overlap, period, seed):
    draw = drawn(seed)
    a, b = [star(draw)], [star(draw), star(draw)]
    found = overlap(a, b, period=period)
    axes = period if isinstance(period, tuple) else (period, period)
    name = overlap.name.removeprefix("region_")
    for (i, one), (j, other) in itertools.product(enumerate(a), enumerate(b)):
        expected = reference_region(name, listed(one), listed(other), axes)
        assert found[i, j].item() == pytest.approx(expected, abs=1e-12)
        assert overlap(one, other, period=period).item() == pytest.approx(expected, abs=1e-12)


@given(seed=SEEDS)
@few
def test_scores_are_those_of_shapely(seed):
    shapely = pytest.importorskip("shapely")
    draw = drawn(seed)
    a, b = (_many_sided(draw) for _ in range(2))
    plain = [_of_shapely(one) for one in (a, b)]
    expected = plain[0].intersection(plain[1]).area / plain[0].union(plain[1]).area
    assert region_iou(a, b).item() == pytest.approx(expected, abs=1e-10)
    turns = list(itertools.product((-7.0, 0.0, 7.0), repeat=2))
    torus = [
        shapely.union_all([_of_shapely(moved(one, turn)) for turn in turns]).intersection(
            shapely.box(0, 0, 7, 7)
        )
        for one in (a, b)
    ]
    expected = torus[0].intersection(torus[1]).area / torus[0].union(torus[1]).area
    assert region_iou(a, b, period=7).item() == pytest.approx(expected, abs=1e-10)


def _of_shapely(polygon):
    return pytest.importorskip("shapely").Polygon(polygon.outer, polygon.holes)


def _many_sided(draw):
    """A wavy ring round a place in [0, 7]², of no more than 6 across, with a hole."""
    angles = np.sort(draw.uniform(0, 2 * np.pi, 40))
    round_it = np.stack([np.cos(angles), np.sin(angles)], 1)
    reach = draw.uniform(1.5, 3, 40)[:, None]
    centre = draw.uniform(0, 7, 2)
    return rings_of(centre + reach * round_it, centre + reach * round_it * draw.uniform(0.1, 0.6))


@pytest.mark.parametrize("period", [None, 20.0, (20.0, None)], ids=str)
@given(seed=SEEDS)
@few
def test_rectangles_score_as_boxes_with_the_same_gradient(period, seed):
    """Corners on whole numbers: faces often touch or coincide, where gradients are means."""
    low, edge = torch.from_numpy(drawn(seed).integers(1, 5, (2, 2, 2))).double()
    boxes = [one.requires_grad_() for one in torch.cat([low, low + edge], dim=1)]
    a, b = (Polygon(_corners(box)) for box in boxes)
    found, expected = region_iou(a, b, period=period), box_iou(boxes[0][None], boxes[1][None])
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)
    gradients = [torch.autograd.grad(score.sum(), boxes) for score in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def _corners(box):
    x0, y0, x1, y1 = box
    return torch.stack([torch.stack(p) for p in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))])


def test_turned_rectangles_score_as_rotated_boxes():
    boxes = torch.rand(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    boxes = boxes * 3 + 0.1
    sides = tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    polygons = []
    for cx, cy, w, h, angle in boxes.tolist():
        turn = tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        polygons.append(Polygon(tensor([cx, cy]) + (sides * tensor([w, h])) @ turn))
    expected = rotated_box_iou(boxes, boxes)
    torch.testing.assert_close(region_iou(polygons, polygons), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("period", [None, 3.0], ids=str)
def test_the_gradient_is_the_derivative(period):
    draw = drawn(5)
    one, other = (
        draw.uniform(-1, 1, 2) + draw.uniform(1, 1.4, (4, 1)) * _directions(4) for _ in "ab"
    )
    leaves = [
        tensor(ring).requires_grad_() for ring in (one, other, one.mean(0) + 0.2 * _directions(3))
    ]

    def score(one, other, hole):
        return region_iou(Polygon(one, [hole]), Polygon(other.flip(0)), period=period)

    assert torch.autograd.gradcheck(score, leaves)
    if period is None:
        assert torch.autograd.gradgradcheck(score, leaves)


def _directions(count):
    angles = 2 * np.pi * (np.arange(count) + 0.3) / count
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def test_at_a_kink_the_gradient_is_the_mean_of_both_sides():
    """Along each direction in turn: edges coincide, are part of one another, or touch outside."""
    triangle = tensor([[0.0, 0.0], [3.0, 1.0], [1.0, 3.0]])
    half = tensor([[0.0, 0.0], [1.5, 0.5], [1.0, 3.0]])
    mirrored = tensor([[0.0, 0.0], [3.0, 1.0], [2.0, -2.0]])
    for other in (triangle, half, mirrored):
        leaf = triangle.clone().requires_grad_()
        region_iou(Polygon(leaf), Polygon(other)).backward()
        for vertex, axis in itertools.product(range(3), range(2)):
            step = torch.zeros(3, 2, dtype=torch.float64)
            step[vertex, axis] = 1e-7
            on, back = (region_iou(Polygon(triangle + by), Polygon(other)) for by in (step, -step))
            mean = (on - back) / 2e-7
            assert leaf.grad[vertex, axis].item() == pytest.approx(mean.item(), abs=1e-5)


@pytest.mark.parametrize("period", [None, 4], ids=str)
@given(seed=SEEDS)
@few
def test_laws_of_a_score(period, seed):
    draw = drawn(seed)
    a, b = [star(draw) for _ in range(3)], [star(draw) for _ in range(2)]
    iou, dice = (overlap(a, b, period=period) for overlap in BOTH)
    assert ((iou >= 0) & (iou <= dice) & (dice <= 1)).all()
    close = {"atol": 1e-12, "rtol": 0}
    torch.testing.assert_close(dice, 2 * iou / (1 + iou), **close)
    torch.testing.assert_close(region_iou(b, a, period=period).T, iou, **close)
    torch.testing.assert_close(region_iou.pairs(a, a, period=period), iou.new_ones(3), **close)
    by = draw.uniform(-9, 9, 2)
    a_moved, b_moved = ([moved(one, by) for one in many] for many in (a, b))
    torch.testing.assert_close(region_iou(a_moved, b_moved, period=period), iou, **close)
    factor = draw.uniform(0.1, 9)
    scaled = ([moved(one, factor=factor) for one in many] for many in (a, b))
    longer = None if period is None else period * factor
    torch.testing.assert_close(region_iou(*scaled, period=longer), iou, **close)
    if period:
        turned = [moved(one, (8 * period, -3 * period)) for one in a]
        torch.testing.assert_close(region_iou(turned, b, period=period), iou, **close)


@given(seed=SEEDS)
@few
def test_what_a_region_shares_is_what_its_parts_share(seed):
    """A hole takes from a region what it covered: the larger the hole, the lower the score."""
    draw = drawn(seed)
    outer, b = tensor(draw.integers(2, 17, (8, 1)) * EIGHT / 8), moved(star(draw), (0.3, 0.1))
    a, ring, larger = Polygon(outer), Polygon(outer, [outer / 4]), Polygon(outer, [outer / 2])
    parts = _shared(ring, b) + _shared(Polygon(outer / 4), b)
    torch.testing.assert_close(parts, _shared(a, b), atol=1e-12, rtol=0)
    assert region_iou(larger, a) < region_iou(ring, a) < 1


def _shared(a, b):
    return region_dice(a, b) * (a.area + b.area) / 2


def test_closed_forms():
    unit, ring = rectangle(0, 0, 1, 1), Polygon(rectangle(0, 0, 3, 3), [rectangle(1, 1, 2, 2)])
    assert region_iou(Polygon(unit), Polygon(unit + 0.5)).item() == pytest.approx(1 / 7)
    assert region_iou(ring, Polygon(unit + 1)).item() == 0  # in the hole
    assert region_iou(ring, Polygon(unit + 3)).item() == 0  # corner to corner
    assert region_iou(ring, ring).item() == 1
    assert region_dice(ring, Polygon(rectangle(0, 0, 3, 3))).item() == pytest.approx(16 / 17)
    far = [Polygon(one + 1e6) for one in (unit, unit + 0.5)]
    assert region_iou(*far).item() == pytest.approx(1 / 7, abs=1e-9)
    sides = [torch.from_numpy(radius * _directions(720)) for radius in (1, 2)]
    disc, larger = map(Polygon, sides)
    assert region_iou(disc, larger).item() == pytest.approx(1 / 4)
    assert disc.area.item() == pytest.approx(math.pi, rel=1e-4)


def test_neither_order_nor_direction_nor_a_repeated_vertex_matters():
    ring, other = rectangle(0, 0, 4, 3), Polygon(rectangle(1, -1, 6, 2))
    hole = rectangle(1, 1, 2, 2)
    expected = region_iou(Polygon(ring, [hole]), other)
    for outer, inner in (
        (ring.flip(0), hole),
        (ring, hole.flip(0)),
        (ring.roll(1, 0), hole.roll(2, 0)),
        (torch.cat([ring, ring[:1]]), hole),
        (torch.cat([ring[:1], ring]), torch.cat([hole[:1], hole])),
    ):
        torch.testing.assert_close(region_iou(Polygon(outer, [inner]), other), expected)


def test_a_polygon_may_wind_round_a_torus():
    whole = Polygon(rectangle(-math.pi, -math.pi, math.pi, math.pi).float())
    square = Polygon(rectangle(3, 3, 4, 4))
    share = region_iou(whole, square, period=2 * math.pi).item()
    assert share == pytest.approx(1 / (4 * math.pi**2), rel=1e-6)
    slope = tensor([[0.0, 0.0], [3.0, 6.0], [3.0, 6.5], [0.0, 0.5]])  # three turns, beside itself
    band = Polygon(slope)
    expected = reference_region("iou", [slope.tolist()], listed(square), (None, 2))
    assert region_iou(band, square, period=(None, 2)).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float16, 1e-3), (torch.float32, 1e-7)])
def test_types_are_kept(dtype, most):
    ring = rectangle(0, 0, 4, 3).to(dtype).requires_grad_()
    score = region_iou(Polygon(ring), Polygon(rectangle(1, 1, 5, 5).to(dtype)))
    assert score.dtype == dtype
    assert score.item() == pytest.approx(6 / 22, abs=most)
    score.backward()
    assert ring.grad.dtype == dtype
    whole = rectangle(0, 0, 4, 3).long()
    assert region_iou(Polygon(whole), Polygon(whole)).dtype == torch.float32


def test_of_no_regions_there_are_no_scores():
    one = Polygon(rectangle(0, 0, 1, 1))
    for period in (None, 3.0):
        assert region_iou([], [one, one], period=period).shape == (0, 2)
        assert region_iou(one, [], period=period).shape == (0,)
        assert region_iou.pairs([], [], period=period).shape == (0,)
    assert region_iou(torch.rand(0, 2, 2), torch.rand(3, 2, 2)).shape == (0, 3)


@pytest.mark.parametrize("overlap", BOTH, ids=repr)
@given(seed=SEEDS)
@few
def test_densities_equal_the_reference(overlap, seed):
    draw = drawn(seed)
    a, b = (
        torch.from_numpy(9 * draw.random((n, 3, 4)) * (draw.random((n, 3, 4)) < 0.7))
        for n in (2, 3)
    )
    reference = reference_iou if overlap is region_iou else reference_dice
    found = overlap(a, b)
    for i, j in itertools.product(range(2), range(3)):
        assert found[i, j].item() == pytest.approx(reference(a[i], b[j]), abs=1e-12)
        assert overlap(a[i], b[j]).item() == pytest.approx(found[i, j].item(), abs=1e-15)
    torch.testing.assert_close(overlap.pairs(a, b[:2]), found[:, :2].diagonal())
    torch.testing.assert_close(overlap(a, b, period=4.0), found)
    masks = [one.clamp(max=1)[None] for one in (a, b[:2])]
    torch.testing.assert_close(region_iou.pairs(masks[0][0], masks[1][0]), mask_iou(*masks)[0])


def test_densities_have_the_gradient_of_their_minima():
    generator = torch.Generator().manual_seed(0)
    pair = [torch.rand(2, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2)]
    assert torch.autograd.gradcheck(region_iou.pairs, [one.requires_grad_() for one in pair])
    density = tensor([[0.0, 2.0]]).requires_grad_()
    region_iou(density, density.detach()).backward()
    assert density.grad.tolist() == [[-0.5, 0.0]]  # at 0 it can only rise; else up and down cancel


def test_equal_densities_score_1_and_hard_ones_as_sets():
    nothing = torch.zeros(2, 2)
    assert region_iou(nothing, nothing).item() == 1
    hard = torch.tensor([[True, True], [False, False]])
    assert region_iou(hard, hard.T).item() == pytest.approx(1 / 3)
    assert region_iou(hard.half(), hard).dtype == torch.float16
    large = torch.full((3, 3), 1e38)
    assert region_iou(2 * large, large).item() == 0.5  # sums of float32 would be infinite
    counts = torch.tensor([[2**24]])
    assert region_iou(counts.double(), counts + 1).item() < 1


@pytest.mark.bad_input
def test_what_are_not_two_regions_of_one_kind_is_refused():
    one, grid = Polygon(rectangle(0, 0, 1, 1)), torch.rand(2, 2)
    for pred, target, name, kind in (
        (one, grid, "target", "Tensor"),
        (grid, one, "pred", "Tensor"),
        (one, [one, 3], "target", "list"),
        (None, one, "pred", "NoneType"),
    ):
        told = f"^{name} must be of the other's kind, a Polygon.*got {kind}"
        with pytest.raises(TypeError, match=told):
            region_iou(pred, target)
    with pytest.raises(ValueError, match=r"^pred must have shape \(H, W\) or \(N, .*\(2,\)"):
        region_iou(grid[0], grid)
    with pytest.raises(ValueError, match=r"^target must lie on the grid of pred, .* got \(2, 1\)"):
        region_iou(grid, grid[:, :1])
    for value in (math.nan, -0.5, math.inf):
        with pytest.raises(ValueError, match=f"target must hold finite densities.*got {value:g}"):
            region_iou(grid, torch.full((2, 2), value))
    with pytest.raises(ValueError, match=r"pred must be a density, got shape \(4, 2\): vertices"):
        region_iou(one.outer, one.outer)
    with pytest.raises(ValueError, match="pred and target must have as many rows"):
        region_iou.pairs([one], [one, one])


@pytest.mark.bad_input
@pytest.mark.parametrize("period", [0, -1.0, math.inf, (0.0, 1.0)])
def test_a_period_is_a_length_above_0(period):
    one = Polygon(rectangle(0, 0, 1, 1))
    with pytest.raises(ValueError, match="period must be a length above 0, or one or None an axis"):
        region_iou(one, one, period=period)
    with pytest.raises(ValueError, match="period must hold 2 lengths or None, one an axis, got"):
        region_iou(one, one, period=(2.0, 2.0, 2.0))


@pytest.mark.bad_input
def test_a_polygon_that_overlaps_itself_on_the_torus_is_refused():
    one, long = Polygon(rectangle(0, 0, 1, 1)), Polygon(rectangle(0, 0, 5, 1))
    words = "target must cover no place twice where axes come round after 4.0, got polygon 1"
    with pytest.raises(ValueError, match=words):
        region_iou([one, one], [one, long], period=4.0)
    assert region_iou(one, long, period=(5.0, 4.0)).item() == pytest.approx(0.2)
    assert region_iou(one, long, period=4.0, validate=False).item() <= 1
    with pytest.raises(
        ValueError, match="period must fit 1000 times at most in polygons, got 1e-09"
    ):
        region_iou(one, one, period=1e-9)
