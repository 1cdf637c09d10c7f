"""Volumes on a grid that holds all of them: nothing outside their overlap is lost."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap.images import Volume, align_to, lost_affine, on_common_grid
from tests.support.image_makers import affine, oblique

SHAPE = (12, 10, 8)
SPACING = (0.8, 1.0, 2.5)


def whole(seed=0, direction=None):
    data = torch.rand(*SHAPE, generator=torch.Generator().manual_seed(seed))
    data[:2] = data[-2:] = 0
    return Volume(data * (data > 0.7), affine(SPACING, (10, -20, 30), direction))


def cropped(volume, low, high):
    """The same voxels at the same places, fewer of them."""
    matrix = volume.affine.clone()
    matrix[:3, 3] += matrix[:3, :3] @ torch.tensor(low, dtype=torch.float64)
    window = tuple(slice(first, end) for first, end in zip(low, high, strict=True))
    return Volume(volume.data[window].clone(), matrix)


def on_one(reference, *others, nearest=False):
    names = ["first", *(f"other {number}" for number in range(len(others)))]
    return on_common_grid(
        reference, others, geometry="resample", nearest=[nearest] * len(others), names=names
    )


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(4, 8)), min_size=3, max_size=3),
    st.sampled_from(list(itertools.permutations(range(3)))),
    st.booleans(),
)
def test_a_cropped_volume_comes_back_whole_whatever_its_axis_order(ends, order, oblique_axes):
    truth, pred = (whole(seed, oblique() if oblique_axes else None) for seed in (0, 1))
    low, high = zip(*ends, strict=True)
    small = cropped(truth, low, high)
    data = small.data.permute(order).flip(0)
    matrix = small.affine[:, [*order, 3]].clone()
    matrix[:3, 3] += (data.shape[0] - 1) * matrix[:3, 0]
    matrix[:3, 0] *= -1
    common = on_one(Volume(data, matrix), pred)
    expected = torch.zeros(SHAPE)
    window = tuple(slice(*axis) for axis in ends)
    expected[window] = truth.data[window]
    back = align_to(Volume(common.reference.data, common.reference.affine), pred).volume.data
    assert torch.equal(back, expected)
    again = align_to(common.aligned[0].volume, pred).volume.data
    assert torch.equal(again, pred.data)
    assert common.reference.grid == common.aligned[0].volume.grid


def test_two_crops_apart_lie_on_the_grid_around_both():
    scan = whole()
    first, other = cropped(scan, (2, 1, 1), (4, 3, 3)), cropped(scan, (8, 6, 5), (10, 9, 8))
    common = on_one(first, other)
    assert common.reference.grid == (8, 8, 7)
    assert common.start == (0, 0, 0)
    assert torch.equal(common.aligned[0].volume.data[6:8, 5:8, 4:7], other.data)
    assert float(common.aligned[0].volume.data.sum()) == float(other.data.sum())
    assert "shares no space with it" in common.aligned[0].notes[0]
    assert on_one(other, first).start == (-6, -5, -4)


def test_what_lies_between_the_voxels_is_interpolated_and_kept():
    scan = whole()
    matrix = scan.affine.clone()
    matrix[:3, 3] += torch.tensor([30.4 * 0.8, 0, 0], dtype=torch.float64)
    common = on_one(cropped(scan, (0, 0, 0), (4, 10, 8)), Volume(scan.data, matrix))
    kept = common.aligned[0].volume.data
    assert float(kept.sum()) == pytest.approx(float(scan.data.sum()), rel=1e-5)
    assert common.aligned[0].notes[0].endswith(": resampled")


def test_one_grid_stays_as_it_is():
    scan = whole()
    common = on_one(scan, whole(1))
    assert (common.start, common.aligned[0].notes) == ((0, 0, 0), ())
    assert common.reference.data.data_ptr() == scan.data.data_ptr()


def test_channels_and_labels_are_placed_alike():
    labels = Volume((whole().data * 5).to(torch.uint8), whole().affine)
    raters = Volume(torch.stack([labels.data, labels.data]), labels.affine)
    common = on_one(cropped(labels, (1, 1, 1), (3, 3, 3)), raters, nearest=True)
    assert common.aligned[0].volume.data.dtype == torch.uint8
    assert torch.equal(common.aligned[0].volume.data, raters.data)


@pytest.mark.parametrize("place", [(0, 0, 0), (4000, -9000, 2000)])
@pytest.mark.parametrize("matrix", ["own", "identity"])
def test_one_voxel_that_marks_nothing_lies_anywhere(place, matrix):
    pred = whole()
    own = affine(SPACING, place) if matrix == "own" else affine()
    common = on_one(Volume(torch.zeros(1, 1, 1), own), pred)
    assert not common.reference.data.any()
    marked = pred.data[pred.data > 0]
    moved = common.aligned[0].volume.data
    assert torch.equal(moved[moved > 0], marked)  # not interpolated
    back = on_one(pred, Volume(torch.zeros(1, 1, 1), own))
    assert not back.aligned[0].volume.data.any()
    kept = back.reference.data
    assert torch.equal(kept[kept > 0], marked)


@pytest.mark.bad_input
def test_grids_too_far_apart_for_one_are_refused():
    scan = whole()
    far = Volume(scan.data, affine(SPACING, (9000, 9000, 9000)))
    with pytest.raises(ValueError, match="must lie near first, got grids so far apart"):
        on_one(scan, far)


def defaults(shape):
    """What a library writes if it is given no affine: nibabel, SimpleITK, nibabel's header."""
    centred = torch.diag(torch.tensor([-1.0, 1, 1, 1]).double())
    centred[:3, 3] = -(centred[:3, :3] @ (torch.tensor(shape).double() - 1)) / 2
    return [affine(), torch.diag(torch.tensor([-1.0, -1, 1, 1]).double()), centred]


@pytest.mark.bad_input
@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize("turned", [False, True])
def test_a_lost_affine_is_named_with_its_cure_and_index_takes_it(kind, turned):
    truth = Volume(whole().data, affine((-1, 1.2, 2.5), (90, -126, -72)))
    sides = [Volume(truth.data.clone(), defaults(SHAPE)[kind]), truth]
    moving, reference = sides[::-1] if turned else sides
    names = ("truth.nii", "pred.nii") if turned else ("pred.nii", "truth.nii")
    words = "the affine of pred.nii looks as if it was lost"
    with pytest.raises(ValueError, match=words) as caught:
        align_to(moving, reference, names=names)
    assert "index trusts the voxel grid where an affine was lost" in str(caught.value)
    kept = align_to(moving, reference, geometry="index", names=names)
    assert torch.equal(kept.volume.data, truth.data)  # as they are stored, not turned
    assert words in kept.notes[1]
    assert words in lost_affine(moving, reference, names)
    options = {"nearest": [False], "names": names[::-1]}
    with pytest.raises(ValueError, match=words) as caught:
        on_common_grid(reference, [moving], geometry="resample", **options)
    assert "`geometry='index'`" in str(caught.value)


@pytest.mark.bad_input
def test_a_lost_affine_of_a_scan_with_swapped_axes_is_told_too():
    sagittal = Volume(whole().data, affine((1, 1, 2.5), (3, 2, 1))[:, [1, 0, 2, 3]])
    lost = Volume(sagittal.data, affine())
    with pytest.raises(ValueError, match="must have the shape .* or choose `geometry='index'`"):
        align_to(lost, sagittal)
    kept = align_to(lost, sagittal, geometry="index").volume.data
    assert torch.equal(kept, sagittal.data)


def test_a_crop_of_a_scan_in_voxel_coordinates_is_not_called_lost():
    scan = Volume(whole().data, affine())
    assert lost_affine(scan, cropped(scan, (2, 2, 2), (6, 6, 6)), ("a", "b")) == ""


def test_a_lost_affine_is_told_where_the_masks_meet():
    truth = Volume(whole().data, affine((1, 1, 2.5), (-3, 2, 1)))
    common = on_one(truth, Volume(truth.data, affine()))
    assert "the affine of other 0 looks as if it was lost" in common.aligned[0].notes[-1]


@pytest.mark.bad_input
def test_a_mask_that_is_really_elsewhere_is_not_called_lost():
    truth = whole()
    away = Volume(truth.data, affine(SPACING, (90, -20, 30)))
    for geometry in ("strict", "index"):
        with pytest.raises(ValueError, match="share no space") as caught:
            align_to(away, truth, geometry=geometry)
        assert "lost" not in str(caught.value)
    (moved,) = on_one(truth, away).aligned
    assert "shares no space with it" in moved.notes[0]
    assert float(moved.volume.data.sum()) == pytest.approx(float(truth.data.sum()), rel=1e-5)
    np.testing.assert_equal(lost_affine(truth, truth, ("a", "b")), "")
