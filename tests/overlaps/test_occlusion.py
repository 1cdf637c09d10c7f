"""What is in view of a box, and which IoU that allows, against references, oracles and a search."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from monai.data import MetaTensor

from softoverlap import (
    SummedVolume,
    amodal_iou_bound,
    box_iou,
    box_pair_iou,
    box_volume,
    visible_box,
    visible_fraction,
)
from tests.support.reference import reference_mass
from tests.support.reference_occlusion import reference_visible_box, reference_visible_fraction
from tests.support.strategies import box_batches, masks

BOX = torch.tensor([[0.0, 0.0, 4.0, 4.0]])


def random_boxes(count, ndim, seed, size=6.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    low, edge = torch.rand(2, count, ndim, generator=generator, dtype=dtype)
    return torch.cat([size * low, size * low + 1 + size * edge], dim=1)


@st.composite
def scenes(draw):
    """Boxes, a field of view or none, and occluders, on so coarse a lattice that faces meet."""
    ndim = draw(st.integers(1, 3))
    boxes = draw(box_batches(ndim=ndim, count=2, low=-1, high=2))
    field = draw(st.none() | box_batches(ndim=ndim, count=1, low=-1, high=2))
    count = draw(st.integers(0, 3))
    occluders = draw(box_batches(ndim=ndim, count=count, low=-1, high=2)) if count else boxes[:0]
    return boxes.round(decimals=0), None if field is None else field[0], occluders


@given(scenes())
def test_the_fraction_and_the_visible_box_are_those_of_the_reference(scene):
    boxes, field, occluders = scene
    fractions = visible_fraction(boxes, field, occluders=occluders)
    tight = visible_box(boxes, field, occluders=occluders)
    for row, box in enumerate(boxes):
        expected = reference_visible_fraction(box, field, occluders)
        assert fractions[row].item() == pytest.approx(expected, abs=1e-12)
        assert tight[row].tolist() == reference_visible_box(box, field, occluders)


@settings(max_examples=50)
@given(st.data())
def test_a_mask_hides_the_mass_that_it_has_in_the_part_in_the_field(data):
    ndim = data.draw(st.integers(1, 3))
    mask = data.draw(masks((3,) * ndim))
    boxes, fields = (data.draw(box_batches(ndim=ndim, count=2, low=-1, high=4)) for _ in range(2))
    found = visible_fraction(boxes, fields, occluder_mask=mask)
    tables = SummedVolume.from_masks(mask[None])
    assert torch.equal(found, visible_fraction(boxes, fields, occluder_mask=tables))
    for row, (box, field) in enumerate(zip(boxes, fields, strict=True)):
        part = torch.cat([box.maximum(field)[:ndim], box.minimum(field)[ndim:]])
        seen = reference_visible_fraction(box, field)
        if seen and box_volume(box[None]).item():
            seen -= reference_mass(mask, part) / box_volume(box[None]).item()
        assert found[row].item() == pytest.approx(seen, abs=1e-12)


def test_a_hard_mask_hides_what_its_boxes_hide():
    boxes, occluders = (
        random_boxes(6, 2, 0),
        torch.tensor([[1, 2, 4, 5], [3, 1, 6, 4], [0, 6, 2, 8]]),
    )
    mask = torch.zeros(14, 14, dtype=torch.float64)
    for top, left, bottom, right in occluders.tolist():
        mask[top:bottom, left:right] = 1
    by_mask = visible_fraction(boxes, occluder_mask=mask)
    torch.testing.assert_close(visible_fraction(boxes, occluders=occluders), by_mask)


def test_dozens_of_occluders_hide_what_they_cover_on_a_grid():
    generator = torch.Generator().manual_seed(1)
    corners = torch.randint(0, 21, (2, 36, 3), generator=generator)
    occluders = torch.cat([corners.amin(dim=0), (corners.amin(dim=0) + 6).clamp(max=20)], dim=1)
    boxes = torch.tensor([[0, 0, 0, 20, 20, 20], [3, 5, 2, 9, 17, 8], [10, 1, 4, 12, 3, 19]])
    hidden = np.zeros((20, 20, 20), dtype=bool)
    for low, high in zip(occluders[:, :3].tolist(), occluders[:, 3:].tolist(), strict=True):
        hidden[tuple(slice(*ends) for ends in zip(low, high, strict=True))] = True
    found = visible_fraction(boxes.double(), occluders=occluders)
    for box, fraction in zip(boxes.tolist(), found.tolist(), strict=True):
        inside = hidden[tuple(slice(box[axis], box[axis + 3]) for axis in range(3))]
        assert fraction == pytest.approx(1 - inside.mean(), abs=1e-12)


def test_shapely_finds_the_same_area_in_view():
    shapely = pytest.importorskip("shapely")
    boxes, occluders = random_boxes(8, 2, 2), random_boxes(7, 2, 3)
    field = torch.tensor([1.0, 2.0, 9.0, 8.0], dtype=torch.float64)
    hiding = shapely.union_all([shapely.box(*each) for each in occluders.tolist()])
    for box, fraction in zip(
        boxes, visible_fraction(boxes, field, occluders=occluders), strict=True
    ):
        whole = shapely.box(*box.tolist())
        seen = whole.intersection(shapely.box(*field.tolist())).difference(hiding)
        assert fraction.item() == pytest.approx(seen.area / whole.area, abs=1e-12)


@pytest.mark.parametrize(
    ("occluders", "expected"),
    [
        ([], 1.0),
        ([[0, 0, 4, 1]], 0.75),
        ([[0, 0, 4, 1], [0, 0, 4, 1]], 0.75),  # what two hide is hidden once
        ([[0, 0, 4, 2], [2, 0, 4, 4]], 0.25),
        ([[1, 1, 3, 3]], 0.75),
        ([[-9, -9, 2, 9], [2, -9, 9, 9]], 0.0),
        ([[5, 5, 6, 6], [4, 0, 6, 4]], 1.0),  # beside it
    ],
)
def test_the_fraction_of_a_square_behind_squares(occluders, expected):
    hiding = torch.tensor(occluders).reshape(-1, 4)
    assert visible_fraction(BOX, occluders=hiding).item() == expected


def inputs_of(ndim=2):
    """Boxes, fields and occluders in general position."""
    boxes, fields = random_boxes(3, ndim, 4), random_boxes(3, ndim, 5)
    return [each.requires_grad_() for each in (boxes, fields, random_boxes(3, ndim, 6))]


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_fraction_passes_gradcheck(ndim):
    def fraction(boxes, fields, occluders):
        return visible_fraction(boxes, fields, occluders=occluders, validate=False)

    assert torch.autograd.gradcheck(fraction, inputs_of(ndim))


def test_the_fraction_behind_a_mask_and_the_visible_box_pass_gradcheck():
    boxes, fields, occluders = inputs_of()
    mask = torch.rand(9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(7))

    def behind_a_mask(boxes, fields, mask):
        return visible_fraction(boxes, fields, occluder_mask=mask, validate=False)

    def in_view(boxes, fields, occluders):
        return visible_box(boxes, fields, occluders=occluders, validate=False)

    assert torch.autograd.gradcheck(behind_a_mask, (boxes, fields, mask.requires_grad_()))
    assert torch.autograd.gradcheck(in_view, (boxes, fields, occluders))


TIES = {
    "two occluders that touch": [[0.0, 0.0, 2.0, 3.0], [2.0, 0.0, 4.0, 3.0]],
    "faces of three on one line": [
        [0.0, 0.0, 2.0, 2.0],
        [1.0, 1.0, 2.0, 3.0],
        [0.0, 2.0, 2.0, 4.0],
    ],
    "faces on those of box and field": [[0.0, 1.0, 3.0, 4.0], [-1.0, 0.0, 1.0, 1.0]],
    "equal occluders": [[1.0, 1.0, 3.0, 3.0], [1.0, 1.0, 3.0, 3.0]],
}


@pytest.mark.parametrize("occluders", TIES.values(), ids=TIES)
def test_where_faces_meet_the_gradient_is_the_mean_of_both_one_sided_ones(occluders):
    field = torch.tensor([-1.0, 0.0, 3.0, 4.0], dtype=torch.float64)
    given = [BOX.double(), field, torch.tensor(occluders, dtype=torch.float64)]

    def fraction(boxes, field, occluders):
        return visible_fraction(boxes, field, occluders=occluders).sum()

    for place, each in enumerate(given):
        leaf = each.clone().requires_grad_()
        with_leaf = [leaf if place == other else value for other, value in enumerate(given)]
        (gradient,) = torch.autograd.grad(fraction(*with_leaf), leaf)
        for index in itertools.product(*map(range, each.shape)):
            values = []
            for step in (-1e-6, 1e-6):
                moved = each.clone()
                moved[index] += step
                changed = [moved if place == other else v for other, v in enumerate(given)]
                values.append(fraction(*changed).item())
            slope = (values[1] - values[0]) / 2e-6  # the mean of both sides
            assert gradient[index].item() == pytest.approx(slope, abs=1e-6), (place, index)


FACES = {
    "a face that cuts nothing": (None, [[1.0, 0.0, 2.0, 1.0]]),
    "an occluder that ends at the box": (None, [[-1.0, -1.0, 5.0, 0.0]]),
    "and where the field ends": ([0.0, 0.0, 9.0, 9.0], [[-1.0, -1.0, 5.0, 0.0]]),
    "and where another one begins": (None, [[-1.0, -1.0, 5.0, 0.0], [1.0, 0.0, 2.0, 1.0]]),
    "one beside the field": ([0.0, 0.0, 3.0, 9.0], [[1.0, 0.0, 3.0, 1.0]]),
    "two that cut together": (None, [[-1.0, -1.0, 3.0, 1.0], [1.0, -1.0, 5.0, 1.0]]),
    "one that cuts, and one far away": (None, [[-1.0, -1.0, 5.0, 1.0], [7.0, -3.0, 8.0, 1.0]]),
    "one slab after the other": (None, [[-1.0, -1.0, 5.0, 1.5], [-1.0, 1.0, 5.0, 2.0]]),
}


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("field", "occluders"), FACES.values(), ids=FACES)
def test_each_face_in_view_has_the_mean_of_both_one_sided_gradients(field, occluders, mirrored):
    field = [-99.0, -99.0, 99.0, 99.0] if field is None else field
    scene = [torch.tensor(each, dtype=torch.float64) for each in ([0, 0, 4, 4], field, occluders)]
    if mirrored:
        scene = [-each.roll(2, -1) for each in scene]
    given = torch.cat([each.reshape(-1) for each in scene]).requires_grad_()

    def in_view(flat):
        return visible_box(flat[None, :4], flat[4:8], occluders=flat[8:].reshape(-1, 4))[0]

    gradient = torch.autograd.functional.jacobian(in_view, given)
    steps = 1e-6 * torch.eye(len(given), dtype=torch.float64)
    slopes = [(in_view(given + step) - in_view(given - step)) / 2e-6 for step in steps]
    torch.testing.assert_close(gradient, torch.stack(slopes, dim=1), atol=1e-6, rtol=0)


def test_what_is_no_number_comes_out_where_nobody_looks_at_the_values():
    unknown = torch.full((1, 4), torch.nan)
    for sets in ((unknown, BOX[0], BOX), (BOX, unknown[0], BOX), (BOX, BOX[0], unknown)):
        boxes, field, occluders = sets
        for view in (visible_fraction, visible_box):
            assert view(boxes, field, occluders=occluders, validate=False).isnan().all()


@settings(max_examples=40)
@given(scenes())
def test_the_fraction_lies_in_0_to_1_and_falls_with_each_occluder_and_with_the_field(scene):
    boxes, field, occluders = scene
    free = visible_fraction(boxes, field)
    behind = visible_fraction(boxes, field, occluders=occluders)
    assert ((behind >= 0) & (behind <= free + 1e-12) & (free <= 1)).all()
    some = visible_fraction(boxes, field, occluders=occluders[:-1])
    assert (behind <= some + 1e-12).all()
    assert (free <= visible_fraction(boxes)).all()


@settings(max_examples=40)
@given(scenes())
def test_neither_place_nor_scale_nor_order_of_occluders_matters(scene):
    boxes, field, occluders = scene
    expected = visible_fraction(boxes, field, occluders=occluders)
    again = torch.cat([occluders.flip(0), occluders])
    moved = (None if each is None else 4 * each + 3 for each in (boxes, field, again))
    boxes, field, again = moved
    torch.testing.assert_close(visible_fraction(boxes, field, occluders=again), expected)


@settings(max_examples=40)
@given(scenes())
def test_the_visible_box_lies_within_holds_all_that_is_in_view_and_is_its_own(scene):
    boxes, field, occluders = scene
    tight = visible_box(boxes, field, occluders=occluders)
    seen = visible_fraction(boxes, field, occluders=occluders) * box_volume(boxes)
    own = visible_fraction(tight, field, occluders=occluders) * box_volume(tight)
    torch.testing.assert_close(own, seen, atol=1e-12, rtol=0)
    assert torch.equal(visible_box(tight, field, occluders=occluders), tight)


def test_a_box_of_no_volume_hides_nothing():
    flat = torch.tensor([[1.0, 1.0, 1.0, 3.0], [8.0, 8.0, 8.0, 8.0]], requires_grad=True)
    field, cover = torch.tensor([0.0, 0.0, 4.0, 4.0]), torch.tensor([[0.0, 0.0, 9.0, 9.0]])
    fraction = visible_fraction(flat, field, occluders=cover)
    assert fraction.tolist() == [1.0, 1.0]
    (gradient,) = torch.autograd.grad(fraction.sum(), flat)
    assert not gradient.any()


def test_no_boxes_and_no_occluders_are_taken():
    nothing = torch.zeros(0, 4)
    assert visible_fraction(nothing, BOX[0], occluders=BOX).shape == (0,)
    assert visible_box(nothing, BOX[0], occluders=BOX).shape == (0, 4)
    assert (
        visible_fraction(BOX).tolist() == visible_fraction(BOX, occluders=nothing).tolist() == [1]
    )
    assert torch.equal(visible_box(BOX), BOX)


def test_a_box_out_of_view_has_a_fraction_of_0_and_a_point_in_view():
    far = BOX + 10
    assert visible_fraction(far, BOX[0]).item() == 0
    assert visible_box(far, BOX[0]).tolist() == [[12.0] * 4]
    assert visible_fraction(BOX, occluders=BOX).item() == 0
    assert visible_box(BOX, occluders=BOX).tolist() == [[2.0] * 4]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int32])
def test_half_and_whole_numbers_are_computed_in_float64(dtype):
    boxes, field, occluders = (random_boxes(4, 2, seed).round().to(dtype) for seed in (8, 9, 10))
    found = visible_fraction(boxes, field, occluders=occluders)
    exact = visible_fraction(boxes.double(), field.double(), occluders=occluders.double())
    assert found.dtype == (dtype if dtype.is_floating_point else torch.float32)
    assert torch.equal(found, exact.to(found.dtype))
    tight = visible_box(boxes, field, occluders=occluders)
    assert tight.dtype == found.dtype
    assert type(visible_fraction(MetaTensor(boxes), field)) is torch.Tensor


def lattice_boxes(side):
    """All boxes of whole numbers in a square."""
    edges = list(itertools.combinations(range(side + 1), 2))
    pairs = itertools.product(edges, edges)
    return torch.tensor([[a, c, b, d] for (a, b), (c, d) in pairs], dtype=torch.float64)


def test_no_box_in_the_field_beats_the_bound_and_one_of_them_reaches_it():
    truth = torch.tensor([[2.0, 1.0, 8.0, 5.0]], dtype=torch.float64)
    field = torch.tensor([0.0, 0.0, 6.0, 6.0], dtype=torch.float64)
    bound = amodal_iou_bound(visible_fraction(truth, field))
    found = box_iou(lattice_boxes(6), truth)
    torch.testing.assert_close(found.max(), bound[0])
    torch.testing.assert_close(box_pair_iou(visible_box(truth, field), truth), bound)


def test_behind_an_occluder_amid_the_bound_is_that_of_the_visible_parts_tight_box():
    truth = torch.tensor([[0.0, 0.0, 6.0, 6.0]], dtype=torch.float64)
    amid = torch.tensor([[2.0, 1.0, 4.0, 5.0]], dtype=torch.float64)
    fraction = visible_fraction(truth, occluders=amid)
    candidates = lattice_boxes(6)
    score = box_iou(candidates, truth)[:, 0]
    in_view = visible_fraction(candidates, occluders=amid) == 1
    assert score[in_view].max() < amodal_iou_bound(fraction)  # what is in view is no box
    assert fraction == pytest.approx(1 - 8 / 36)
    tight = visible_box(truth, occluders=amid)
    bound = amodal_iou_bound(visible_fraction(truth, tight))
    assert score.max() == bound == 1  # the tight box is the whole one

    across = torch.tensor([[2.0, -1.0, 9.0, 7.0]], dtype=torch.float64)  # a plane
    tight = visible_box(truth, occluders=across)
    within = (candidates[:, :2] >= tight[0, :2]).all(1) & (candidates[:, 2:] <= tight[0, 2:]).all(1)
    assert score[within].max() == pytest.approx(2 / 6)
    assert amodal_iou_bound(visible_fraction(truth, tight)) == pytest.approx(2 / 6)


@settings(max_examples=40)
@given(scenes())
def test_no_box_within_the_visible_box_beats_its_bound(scene):
    boxes, field, occluders = scene
    tight = visible_box(boxes, field, occluders=occluders)
    bound = amodal_iou_bound(visible_fraction(boxes, tight))
    for place in (0.25, 0.75):
        smaller = tight.clone()
        smaller[:, 0] += place * (tight[:, tight.shape[1] // 2] - tight[:, 0])
        assert (box_pair_iou(smaller, boxes) <= bound + 1e-12).all()
    solid = box_volume(tight) > 0
    torch.testing.assert_close(box_pair_iou(tight, boxes)[solid], bound[solid])


def test_the_bound_is_the_fraction_of_a_number_and_of_a_tensor():
    assert amodal_iou_bound(0.25) == 0.25
    assert amodal_iou_bound(1) == 1
    fractions = torch.tensor([[0.0, 1.0]], dtype=torch.float16)
    assert torch.equal(amodal_iou_bound(fractions), fractions)
    assert amodal_iou_bound(torch.tensor([True])).tolist() == [1.0]


@pytest.mark.bad_input
def test_bad_boxes_fields_and_occluders_are_named():
    with pytest.raises(
        ValueError, match=r"visible must have shape \(4,\), or \(1, 4\) .* got \(3,\)"
    ):
        visible_fraction(BOX, torch.zeros(3))
    with pytest.raises(
        ValueError, match=r"visible must have shape \(4,\), .* as boxes have, got \(2, 4\)"
    ):
        visible_fraction(BOX, torch.zeros(2, 4))
    with pytest.raises(ValueError, match="visible must have every maximum at or above"):
        visible_box(BOX, torch.tensor([1.0, 0.0, 0.0, 1.0]))
    with pytest.raises(TypeError, match=r"visible must be a torch.Tensor, got tuple"):
        visible_fraction(BOX, (0, 0, 4, 4))
    with pytest.raises(ValueError, match=r"occluders must have shape \(N, 4\), got \(2, 6\)"):
        visible_fraction(BOX, occluders=torch.zeros(2, 6))
    with pytest.raises(ValueError, match="boxes must hold finite coordinates"):
        visible_box(BOX * torch.nan)


@pytest.mark.bad_input
def test_bad_masks_and_fractions_are_named():
    with pytest.raises(ValueError, match="occluder_mask must be None where occluders are given"):
        visible_fraction(BOX, occluders=BOX, occluder_mask=torch.zeros(4, 4))
    with pytest.raises(ValueError, match=r"occluder_mask must have 2 axes, got shape \(1, 4, 4\)"):
        visible_fraction(BOX, occluder_mask=torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match=r"occluder_mask must hold probabilities in \[0, 1\]"):
        visible_fraction(BOX, occluder_mask=torch.full((4, 4), 2.0))
    two = SummedVolume.from_masks(torch.zeros(2, 4, 4))
    with pytest.raises(ValueError, match="occluder_mask must hold one mask of 2 axes, got 2 of 2"):
        visible_fraction(BOX, occluder_mask=two)
    with pytest.raises(ValueError, match=r"visible_fraction must lie in \[0, 1\], got 1.5"):
        amodal_iou_bound(1.5)
    with pytest.raises(ValueError, match=r"visible_fraction must hold probabilities in \[0, 1\]"):
        amodal_iou_bound(torch.tensor([-0.5]))
    with pytest.raises(TypeError, match="visible_fraction must be a number, got 'half'"):
        amodal_iou_bound("half")
