"""Two volumes on one grid for scoring: what is the same, what is near, and what is refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import nibabel.processing
import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given, settings, strategies as st

from softoverlap import mask_dice
from softoverlap.images import (
    Volume,
    align_to,
    boxes_to_world,
    corner_displacement,
    load_nifti,
    reorient_to,
)
from tests.support.image_makers import affine, oblique
from tests.support.reference import reference_resample

REAL = Path(__file__).parents[2] / ".." / "shared" / "data" / "open_ms"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the open_ms scans are not here")
SHAPE = (5, 6, 7)
SPACING = (0.8, 1.0, 2.5)
TURNED = oblique()
ORDERS = list(
    itertools.product(itertools.permutations(range(3)), itertools.product([1, -1], repeat=3))
)


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def reference(shape=SHAPE, **options):
    return Volume(noise(*shape), affine(SPACING, (10, -20, 30), **options))


def reordered(volume, order, signs):
    """The same voxels in the same places, stored in another axis order, by nibabel."""
    image = nibabel.Nifti1Image(volume.data.numpy(), volume.affine.numpy())
    turned = image.as_reoriented(np.stack([order, signs], axis=1))
    values = turned.get_fdata(dtype=np.float32).copy()  # strides may be negative
    return Volume(torch.from_numpy(values), torch.tensor(turned.affine))


def shifted(volume, *millimetres):
    matrix = volume.affine.clone()
    matrix[:3, 3] += torch.tensor(millimetres, dtype=torch.float64)
    return Volume(volume.data, matrix)


@pytest.mark.parametrize("direction", [np.eye(3), TURNED], ids=["straight", "oblique"])
@pytest.mark.parametrize(("order", "signs"), ORDERS)
def test_a_consistently_reoriented_file_is_the_same(order, signs, direction):
    truth = reference(direction=direction)
    moving = reordered(truth, order, signs)
    aligned = align_to(moving, truth)
    assert torch.equal(aligned.volume.data, truth.data)
    assert torch.equal(aligned.volume.affine, truth.affine)
    assert aligned.displacement == pytest.approx(0, abs=1e-9)
    assert aligned.notes == ()
    turned = reorient_to(moving, truth.affine)
    torch.testing.assert_close(turned.affine, truth.affine, atol=1e-9, rtol=0)


def test_nibabel_reorients_to_ras_alike():
    moving = reference(direction=TURNED @ np.diag([-1.0, 1.0, -1.0])[:, [2, 0, 1]])
    image = nibabel.Nifti1Image(moving.data.numpy(), moving.affine.numpy())
    canonical = nibabel.as_closest_canonical(image)
    turned = reorient_to(moving, torch.eye(4))
    np.testing.assert_array_equal(turned.data.numpy(), canonical.get_fdata(dtype=np.float32))
    np.testing.assert_allclose(turned.affine.numpy(), canonical.affine, atol=1e-12)


def test_channels_are_carried_along():
    truth = reference()
    turned = reordered(truth, (2, 0, 1), (1, -1, 1))
    moving = Volume(torch.stack([turned.data, 2 * turned.data]), turned.affine)
    for geometry in ("strict", "resample"):
        found = align_to(moving, truth, geometry=geometry).volume.data
        assert torch.equal(found, torch.stack([truth.data, 2 * truth.data]))


def test_up_to_a_hundredth_of_a_voxel_is_the_same_and_a_tenth_a_note():
    truth = reference()
    near = align_to(shifted(truth, 0.009 * 0.8, 0, 0), truth)
    assert (near.notes, near.displacement) == ((), pytest.approx(0.009))
    noted = align_to(shifted(truth, 0, 0, -0.09 * 2.5), truth, names=("p.nii", "t.nii"))
    assert noted.displacement == pytest.approx(0.09)
    (note,) = noted.notes
    assert "p.nii lies up to 0.09 voxels from the grid of t.nii" in note
    assert torch.equal(noted.volume.data, truth.data)
    assert torch.equal(noted.volume.affine, truth.affine)


def test_more_is_an_error_that_names_the_choices():
    truth = reference()
    words = (
        r"p\.nii lies up to 0\.4 voxels from the grid of t\.nii .* `geometry=`: index .* resample"
    )
    with pytest.raises(ValueError, match=words):
        align_to(shifted(truth, 0, 0.4, 0), truth, names=("p.nii", "t.nii"))


@pytest.mark.parametrize("geometry", ["strict", "index"])
@pytest.mark.parametrize("fault", ["shift of 10 mm", "flipped header", "doubled spacing"])
def test_wrong_headers_are_refused(fault, geometry):
    truth = reference(shape=(20, 20, 20))
    matrix = truth.affine.clone()
    if fault == "shift of 10 mm":
        matrix[0, 3] += 10
    elif fault == "flipped header":  # the data stay as they were
        matrix[0] *= -1
    else:
        matrix[:3, :3] *= 2
    with pytest.raises(ValueError, match="voxels from the grid of reference"):
        align_to(Volume(truth.data, matrix), truth, geometry=geometry)


def test_resampling_refuses_volumes_that_do_not_meet():
    truth = reference()
    with pytest.raises(ValueError, match="moving and reference must share some space"):
        align_to(shifted(truth, 0, 0, 500), truth, geometry="resample")


@pytest.mark.parametrize("geometry", ["strict", "index"])
def test_other_shapes_are_refused_in_one_axis_order(geometry):
    truth = reference()
    moving = reordered(reference(shape=(5, 6, 8)), (1, 2, 0), (1, 1, -1))
    words = r"shape of reference, \(5, 6, 7\), got \(5, 6, 8\) in the same axis order"
    with pytest.raises(ValueError, match=words):
        align_to(moving, truth, geometry=geometry)


def test_the_voxel_grid_is_trusted_up_to_one_voxel():
    truth = reference()
    aligned = align_to(shifted(truth, 0, 0.9, 0), truth, geometry="index")
    assert aligned.displacement == pytest.approx(0.9)
    assert torch.equal(aligned.volume.data, truth.data)
    assert torch.equal(aligned.volume.affine, truth.affine)
    assert len(aligned.notes) == 1
    with pytest.raises(ValueError, match=r"more than the 1 that is allowed by index"):
        align_to(shifted(truth, 0, 1.1, 0), truth, geometry="index")


def test_displacement_is_that_of_the_corners():
    truth, moving = reference(), shifted(reference(), 0.3, -0.2, 0.6)
    expected = corner_displacement(SHAPE, moving.affine, truth.affine)
    assert align_to(moving, truth, geometry="index").displacement == pytest.approx(expected)


def moved_volume(shape=(8, 9, 10), seed=1):
    """Another spacing, direction and size, over the reference."""
    matrix = affine((0.7, 0.6, 1.7), (9.3, -19.5, 30.9), oblique(degrees=(3, -5, 4)))
    return Volume(noise(*shape, seed=seed), matrix)


@pytest.mark.parametrize("nearest", [False, True])
@pytest.mark.parametrize("direction", [np.eye(3), oblique(degrees=(8, 2, -6))])
def test_resampling_equals_the_reference(direction, nearest):
    truth, moving = reference(direction=direction), moved_volume()
    found = align_to(moving, truth, geometry="resample", nearest=nearest)
    expected = reference_resample(
        moving.data.double().numpy(),
        moving.affine.numpy(),
        SHAPE,
        truth.affine.numpy(),
        nearest=nearest,
    )
    np.testing.assert_allclose(found.volume.data.numpy(), expected, atol=1e-5)
    assert 0 < (expected > 0).mean() < 1
    (note,) = found.notes
    assert "resampled" in note


def test_nibabel_resamples_alike_away_from_the_border():
    truth, moving = reference(), moved_volume()
    found = align_to(moving, truth, geometry="resample").volume.data.numpy()
    image = nibabel.Nifti1Image(moving.data.numpy(), moving.affine.numpy())
    grid = (SHAPE, truth.affine.numpy())
    other = nibabel.processing.resample_from_to(image, grid, order=1, cval=np.nan).get_fdata()
    inside = np.isfinite(other)
    assert inside.mean() > 0.2
    np.testing.assert_allclose(found[inside], other[inside], atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "nearest", "expected"),
    [
        (torch.bool, True, torch.bool),
        (torch.uint8, True, torch.uint8),
        (torch.int64, True, torch.int64),
        (torch.uint8, False, torch.float32),
        (torch.bool, False, torch.float32),
        (torch.float16, False, torch.float16),
        (torch.float64, False, torch.float64),
    ],
)
def test_labels_stay_labels_and_fractions_floating(dtype, nearest, expected):
    truth = reference()
    labels = (noise(*SHAPE, seed=2) > 0.5).to(dtype)
    moving = shifted(Volume(labels, truth.affine), 0, 0.4, 0)
    found = align_to(moving, truth, geometry="resample", nearest=nearest).volume.data
    assert found.dtype == expected
    if nearest:
        assert torch.equal(found, labels)
    else:
        assert ((found > 0) & (found < 1)).any()


def test_a_mask_of_twice_the_spacing_and_half_the_shape_comes_back():
    fine = Volume(torch.zeros(8, 8, 8), affine())
    fine.data[2:6, 2:6, 2:6] = 1
    coarse = Volume(fine.data[::2, ::2, ::2].clone(), affine((2, 2, 2), (0.5, 0.5, 0.5)))
    found = align_to(coarse, fine, geometry="resample", nearest=True)
    assert found.displacement == pytest.approx(0)
    assert torch.equal(found.volume.data, fine.data)


def test_the_same_grid_is_never_resampled():
    truth = reference()
    aligned = align_to(shifted(truth, 0.005, 0, 0), truth, geometry="resample")
    assert torch.equal(aligned.volume.data, truth.data)
    assert aligned.notes == ()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-0.3, 0.3), min_size=3, max_size=3), st.sampled_from(ORDERS))
def test_the_axis_order_of_a_file_changes_nothing(millimetres, turn):
    truth = reference()
    moving = shifted(reference(), *millimetres)
    straight = align_to(moving, truth, geometry="resample")
    turned = align_to(reordered(moving, *turn), truth, geometry="resample")
    assert turned.displacement == pytest.approx(straight.displacement, abs=1e-9)
    torch.testing.assert_close(turned.volume.data, straight.volume.data, atol=2e-6, rtol=0)


@pytest.mark.parametrize("direction", [np.eye(3), TURNED], ids=["straight", "oblique"])
def test_voxels_and_boxes_lie_where_simpleitk_has_them(direction):
    matrix = affine(SPACING, (10, -20, 30), direction)
    flip = np.diag([-1.0, -1.0, 1.0])
    image = SimpleITK.Image(8, 9, 10, SimpleITK.sitkUInt8)
    image.SetSpacing(SPACING)
    image.SetOrigin((-10, 20, 30))
    image.SetDirection((flip @ direction).flatten().tolist())
    box = torch.tensor([[1.0, 2.5, 0.0, 4.0, 6.0, 7.25]], dtype=torch.float64)
    corners = boxes_to_world(box, matrix)[0].numpy()
    ends = itertools.product(*zip(box[0, :3].tolist(), box[0, 3:].tolist(), strict=True))
    for corner, end in zip(corners, ends, strict=True):
        lps = image.TransformContinuousIndexToPhysicalPoint([c - 0.5 for c in end])
        np.testing.assert_allclose(corner, flip @ np.array(lps), atol=1e-9)
        np.testing.assert_allclose(
            np.linalg.solve(matrix[:3, :3], corner - matrix[:3, 3].numpy()) + 0.5, end, atol=1e-9
        )


@needs_real
@pytest.mark.parametrize("patient", [f"{number:02d}" for number in range(1, 21)])
def test_real_masks_work_under_each_choice(patient):
    brain = load_nifti(REAL / f"patient{patient}_native1mm_brainmask.nii.gz")
    lesions = load_nifti(REAL / f"patient{patient}_native1mm_consensus_gt.nii.gz")
    expected = {"11": 0.45, "18": 0.45, "12": 0.0}.get(patient, 0.4)
    trusted = align_to(lesions, brain, geometry="index")
    assert trusted.displacement == pytest.approx(expected, abs=1e-3)
    assert torch.equal(trusted.volume.data, lesions.data)
    if patient == "12":
        assert align_to(lesions, brain).notes == ()
        return
    with pytest.raises(ValueError, match="index trusts the voxel grid, .* resample trusts"):
        align_to(lesions, brain)
    moved = align_to(lesions, brain, geometry="resample").volume.data
    assert float(moved.sum()) == pytest.approx(float(lesions.data.sum()), rel=1e-4)
    score = float(mask_dice(moved[None, None], lesions.data[None, None]))
    assert 0.65 < score < 0.95  # what half a voxel costs


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match="geometry must be one of"):
        align_to(reference(), reference(), geometry="loose")


@given(cut=st.integers(0, 7), nearest=st.booleans(), flip=st.booleans())
def test_a_note_tells_the_share_of_the_mass_outside_the_reference(cut, nearest, flip):
    data, matrix = torch.zeros(8, 4, 4), torch.eye(4, dtype=torch.float64)
    data[:, 1:3, 1:3] = torch.arange(1.0, 9)[:, None, None] / 8
    if nearest:
        data = (data * 8).int()
    moved = Volume(data.flip(0), matrix.clone()) if flip else Volume(data, matrix)
    if flip:
        moved.affine[0, 0], moved.affine[0, 3] = -1, 7
    reference = Volume(torch.zeros(8 - cut, 4, 4), matrix)
    notes = align_to(moved, reference, geometry="resample", nearest=nearest).notes
    weights = [1] * 8 if nearest else list(range(1, 9))
    share = 100 * sum(weights[8 - cut :]) / sum(weights)
    if cut:
        assert f"{share:.3g} % of its mass lies outside reference" in notes[0]
    else:
        assert notes == ()


def test_a_mask_that_lies_inside_loses_no_mass_and_an_empty_one_has_none():
    small = Volume(torch.ones(2, 2, 2), affine(direction=TURNED))
    large = Volume(torch.ones(40, 40, 40), affine(direction=TURNED, origin=(-15, -15, -15)))
    assert align_to(small, large, geometry="resample").notes[0].endswith("resampled")
    empty = Volume(torch.zeros(40, 40, 40), large.affine)
    assert align_to(empty, small, geometry="resample").notes[0].endswith("resampled")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("geometry", "shift", "offered"),
    [
        ("strict", 0.4, ["index", "resample"]),
        ("strict", 3.0, ["resample"]),
        ("index", 3.0, ["resample"]),
        ("strict", 11.0, []),
        ("index", 11.0, []),
    ],
)
def test_only_choices_that_would_work_are_offered(geometry, shift, offered):
    there, here = affine(origin=(5, 0, 0)), affine(origin=(5 + shift, 0, 0))
    moving, reference = Volume(torch.ones(8, 8, 8), here), Volume(torch.ones(8, 8, 8), there)
    with pytest.raises(ValueError, match="lies up to") as caught:
        align_to(moving, reference, geometry=geometry)
    words = {"index": "index trusts the voxel grid", "resample": "resample trusts the affines"}
    assert [name for name, text in words.items() if text in str(caught.value)] == offered
    for name in offered:
        align_to(moving, reference, geometry=name)
