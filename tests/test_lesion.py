import math

import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap import mask_box_dice
from softoverlap.lesion import Lesion, crop_lesion
from tests.support.lesion_makers import ball_lesion, lesion_from_crop


def whole(lesion, size):
    """The lesion's probabilities on the whole image."""
    image = torch.zeros(size)
    window = tuple(
        slice(o, o + s) for o, s in zip(lesion.offset.tolist(), lesion.crop.shape, strict=True)
    )
    image[window] = lesion.crop
    return image


@given(st.integers(-3, 14), st.integers(-3, 14), st.integers(1, 8), st.integers(1, 8))
def test_a_patch_shows_what_the_image_shows(x, y, width, height):
    lesion = ball_lesion(5, [6, 7], ndim=2, existence=0.6, label=2)
    part = crop_lesion(lesion, [x, y], [width, height], min_visible=0.0)
    margin = 10
    padded = torch.nn.functional.pad(whole(lesion, (20, 20)), [margin] * 4)
    seen = padded[x + margin : x + margin + width, y + margin : y + margin + height]
    if part is None:
        low = lesion.box[:2].maximum(torch.tensor([x, y]))
        high = lesion.box[2:].minimum(torch.tensor([x + width, y + height]))
        assert seen.sum() == 0 or (high <= low).any()
        return
    assert torch.equal(whole(part, (width, height)), seen)
    assert part.volume_mm3 == pytest.approx(float(seen.sum()), rel=1e-5)
    assert (part.box >= 0).all()
    assert (part.box <= torch.tensor([width, height, width, height])).all()
    assert (part.existence, part.label) == (0.6, 2)
    rows = (seen.sum(1) * (torch.arange(width) + 0.5)).sum() / seen.sum()
    assert part.centre[0].item() == pytest.approx(float(rows), abs=1e-4)


def test_a_lesion_inside_the_patch_is_only_shifted():
    lesion = ball_lesion(4, [5, 6, 7])
    part = crop_lesion(lesion, [2, 3, 4], [16, 16, 16])
    assert part is not None
    assert torch.equal(part.crop, lesion.crop)
    assert part.offset.tolist() == [3, 3, 3]
    assert torch.equal(part.box, lesion.box - torch.tensor([2, 3, 4] * 2))
    assert torch.allclose(part.centre, lesion.centre - torch.tensor([2.0, 3, 4]))
    assert part.volume_mm3 == pytest.approx(lesion.volume_mm3)


def test_the_original_is_left_as_it_was():
    lesion = ball_lesion(4, [5, 6], ndim=2)
    before = lesion.box.clone()
    crop_lesion(lesion, [6, 6], [4, 4])
    assert torch.equal(lesion.box, before)


@pytest.mark.parametrize(("min_visible", "stays"), [(0.24, True), (0.26, False)])
def test_a_lesion_of_which_too_little_shows_is_gone(min_visible, stays):
    lesion = lesion_from_crop(torch.ones(8), [0])
    part = crop_lesion(lesion, [6], [10], min_visible=min_visible)
    assert (part is not None) == stays


@pytest.mark.parametrize("start", [-40, 40])
def test_a_lesion_outside_the_patch_is_gone(start):
    assert crop_lesion(ball_lesion(4, [5, 6, 7]), [start] * 3, [16] * 3, min_visible=0.0) is None


def test_a_patch_that_shows_only_the_halo_shows_no_lesion():
    lesion = lesion_from_crop(torch.tensor([0.1, 0.2, 1.0, 0.2, 0.1]), [0])
    assert crop_lesion(lesion, [3], [10], min_visible=0.0) is None


def test_a_lesion_without_mass_is_gone():
    hollow = Lesion(
        box=torch.tensor([0.0, 2.0]),
        crop=torch.zeros(2),
        offset=torch.tensor([0]),
        centre=torch.tensor([1.0]),
        volume_mm3=0.0,
    )
    assert crop_lesion(hollow, [0], [4]) is None


@pytest.mark.parametrize(
    ("start", "size", "options", "message"),
    [
        ([0], [4, 4], {}, "start must hold 2 integers"),
        ([0, 0], [4], {}, "size must hold 2 integers"),
        ([0, 0], [4, 0], {}, "size must be at least 1 on every axis"),
        ([0, 0], [4, 4], {"min_visible": 2.0}, r"min_visible must lie in \[0, 1\]"),
    ],
)
def test_a_patch_that_does_not_fit_is_refused(start, size, options, message):
    with pytest.raises(ValueError, match=message):
        crop_lesion(ball_lesion(3, [0, 0], ndim=2), start, size, **options)


@pytest.mark.bad_input
def test_a_box_of_other_axes_than_the_crop_is_refused():
    with pytest.raises(ValueError, match=r"box must have shape \(4,\) for a crop of 2 axes"):
        Lesion(
            box=torch.zeros(6),
            crop=torch.zeros(2, 2),
            offset=torch.zeros(2, dtype=torch.int64),
            centre=torch.zeros(2),
            volume_mm3=0.0,
        )


def made(**changes):
    """A lesion of one axis with some fields changed."""
    fields = {
        "box": torch.tensor([2.0, 4.0]), "crop": torch.tensor([0.5, 1.0]),
        "offset": torch.tensor([2]), "centre": torch.tensor([3.2]), "volume_mm3": 1.5,
    }  # fmt: skip
    return Lesion(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"existence": 7.0}, r"existence must be a number in \[0, 1\], got 7.0"),
        ({"existence": float("nan")}, "existence must be a number"),
        ({"volume_mm3": float("nan")}, "volume_mm3 must be a finite number, at least 0, got nan"),
        ({"volume_mm3": -1.0}, "volume_mm3 must be a finite number"),
        ({"volume_mm3": float("inf")}, "volume_mm3 must be a finite number"),
        ({"label": -1}, "label must be an integer, at least 0, got -1"),
    ],
)
def test_numbers_out_of_range_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        made(**changes)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offset": torch.tensor([0.5])}, "offset must hold integers, got dtype torch.float32"),
        ({"label": 0.7}, "label must be an integer, at least 0, got 0.7"),
        ({"existence": "likely"}, "existence must be a number"),
    ],
)
def test_numbers_of_another_kind_are_named(changes, message):
    with pytest.raises(TypeError, match=message):
        made(**changes)


@pytest.mark.bad_input
@pytest.mark.parametrize(("start", "size"), [([0.5], [4]), ([0], [4.0])])
def test_a_patch_between_voxels_is_refused(start, size):
    with pytest.raises(TypeError, match="must hold 1 integers, one an axis"):
        crop_lesion(made(), start, size)


def test_a_centre_of_integers_does_not_round_that_of_the_patch():
    part = crop_lesion(made(centre=torch.tensor([3])), [0], [10])
    assert part is not None
    assert part.centre.item() == pytest.approx(2 + (0.5 * 0.5 + 1.5) / 1.5)


@given(st.integers(0, 14), st.integers(1, 8), st.booleans())
def test_a_kept_box_is_only_shifted_and_the_visible_share_is_that_of_the_mass(x, width, twice):
    lesion = ball_lesion(5, [6, 7], ndim=2, existence=0.6)
    part = crop_lesion(lesion, [x, 0], [width, 20], min_visible=0.0, keep_box=True)
    modal = crop_lesion(lesion, [x, 0], [width, 20], min_visible=0.0)
    assert (part is None) == (modal is None)
    if part is None or modal is None:
        return
    assert torch.equal(part.box, lesion.box - torch.tensor([x, 0, x, 0]))
    for name in ("crop", "offset", "centre"):
        assert torch.equal(getattr(part, name), getattr(modal, name))
    assert part.visible == pytest.approx(float(part.crop.sum() / lesion.crop.sum()), rel=1e-5)
    assert modal.visible == 1
    if twice:
        again = crop_lesion(part, [0, 8], [width, 20], min_visible=0.0, keep_box=True)
        if again is not None:
            share = float(again.crop.sum() / lesion.crop.sum())
            assert again.visible == pytest.approx(share, rel=1e-5)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("value", "error"), [(0.0, ValueError), (1.5, ValueError), ("half", TypeError)]
)
def test_a_visible_share_out_of_range_is_refused(value, error):
    lesion = ball_lesion(5, [6, 7], ndim=2)
    with pytest.raises(error, match=r"visible must be a number in \(0, 1\], got"):
        Lesion(lesion.box, lesion.crop, lesion.offset, lesion.centre, 1.0, visible=value)


def test_a_part_of_a_part_is_a_part_of_the_whole():
    whole = Lesion(
        box=torch.tensor([0.0, 8.0]),
        crop=torch.ones(8),
        offset=torch.tensor([0]),
        centre=torch.tensor([4.0]),
        volume_mm3=8.0,
    )
    half = crop_lesion(whole, [4], [10], keep_box=True)
    quarter = crop_lesion(half, [2], [10], keep_box=True)
    assert (half.visible, quarter.visible) == (0.5, 0.25)
    assert crop_lesion(half, [3], [10], keep_box=True) is None  # an eighth of the whole
    own = crop_lesion(half, [2], [10])
    assert own.visible == 1.0
    assert own.box.tolist() == [0.0, 2.0]


BOX = torch.tensor([1.25, 2.5, 3.0, 4.75, 3.25, 9.5])


def test_a_box_fills_each_voxel_by_its_exact_share():
    lesion = Lesion.from_box(BOX, spacing=[0.5, 1, 2], label=3, existence=0.5)
    image = whole(lesion, (6, 5, 11))
    assert (image[2, 2, 5], image[1, 3, 9]) == (0.5, 0.75 * 0.25 * 0.5)
    assert image.sum().item() == pytest.approx(3.5 * 0.75 * 6.5)
    assert lesion.volume_mm3 == pytest.approx(3.5 * 0.75 * 6.5)
    assert mask_box_dice(image[None], BOX[None]).item() == pytest.approx(
        2 * image.double().square().sum().item() / (2 * image.sum().item()), rel=1e-5
    )
    assert (lesion.label, lesion.existence, lesion.visible) == (3, 0.5, 1.0)
    torch.testing.assert_close(lesion.box, BOX)
    torch.testing.assert_close(lesion.centre, torch.tensor([3.0, 2.875, 6.25]))


@pytest.mark.parametrize(
    "edges", [(0.3, 0.2, 0.4), (1, 1, 1), (2.5, 4, 3.2), (7.5, 9, 13), (30, 3, 41)]
)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_an_ellipsoid_has_its_volume_and_fills_what_points_in_it_say(edges, ndim):
    low = torch.tensor([3.3, 2.9, 4.2])[:ndim]
    box = torch.cat([low, low + torch.tensor(edges[:ndim])])
    lesion = Lesion.from_box(box, spacing=[1] * ndim, shape="ellipsoid")
    unit = (1, math.pi / 4, math.pi / 6)[ndim - 1]
    assert lesion.volume_mm3 == pytest.approx(unit * math.prod(edges[:ndim]), rel=1e-3)
    assert 0 <= lesion.crop.min() <= lesion.crop.max() <= 1
    if max(edges) <= 13:  # shares of points, sixteen along each axis of a voxel
        lines = [
            (torch.arange(16 * side) + 0.5) / 16 + first
            for side, first in zip(lesion.crop.shape, lesion.offset.tolist(), strict=True)
        ]
        scaled = [
            (2 * line - a - b) / (b - a)
            for line, a, b in zip(lines, box[:ndim].tolist(), box[ndim:].tolist(), strict=True)
        ]
        inside = torch.stack(torch.meshgrid(*scaled, indexing="ij")).square().sum(0) <= 1
        share = inside.float()
        for axis in range(ndim):
            share = share.unflatten(axis, (-1, 16)).mean(axis + 1)
        torch.testing.assert_close(lesion.crop, share, atol=0.05, rtol=0)


def test_an_ellipsoid_touches_the_faces_of_its_box_and_is_symmetric():
    lesion = Lesion.from_box(
        torch.tensor([2.0, 2, 2, 9, 9, 9]), spacing=[1, 1, 1], shape="ellipsoid"
    )
    assert lesion.crop.shape == (7, 7, 7)
    for axes in ((0,), (1,), (2,)):
        torch.testing.assert_close(lesion.crop, lesion.crop.flip(axes))
    torch.testing.assert_close(lesion.crop, lesion.crop.transpose(0, 2), atol=0.02, rtol=0)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("box", "options", "message"),
    [
        ([0.0, 1, 1, 1], {}, "box must have edges above 0"),
        ([0.0, 0, float("nan"), 1], {}, "box must hold finite"),
        ([0.0, 0, 1, 1], {"spacing": [1]}, "spacing must hold 2 positive lengths"),
        ([0.0, 0, 1, 1], {"shape": "ball"}, "shape must be one of"),
        ([0.0, 0, 1, 1], {"existence": 2.0}, "existence must be"),
    ],
)
def test_bad_boxes_make_no_lesion(box, options, message):
    with pytest.raises(ValueError, match=message):
        Lesion.from_box(torch.tensor(box), **{"spacing": [1, 1], **options})
