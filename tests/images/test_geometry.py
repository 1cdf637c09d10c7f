"""Voxels in millimetres: corners, displacements, and which grids count as the same."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap.images import (
    Volume,
    affine_spacing,
    boxes_to_world,
    check_affine,
    check_same_grid,
    corner_displacement,
    load_nifti,
)

REAL = Path(__file__).parents[2] / ".." / "shared" / "data" / "open_ms"
SHAPE = (10, 20, 30)


def affine(spacing=(1.0, 1.0, 1.0), shift=(0.0, 0.0, 0.0), angle=0.0):
    matrix = torch.eye(4, dtype=torch.float64)
    turn = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    matrix[:2, :2] = torch.tensor(turn, dtype=torch.float64)
    matrix[:3, :3] = matrix[:3, :3] * torch.tensor(spacing, dtype=torch.float64)
    matrix[:3, 3] = torch.tensor(shift, dtype=torch.float64)
    return matrix


def volume(matrix, shape=SHAPE):
    return Volume(torch.zeros(shape), matrix)


def test_a_voxel_box_is_centred_where_the_affine_puts_the_voxel():
    matrix = affine((2.0, 3.0, 4.0), (5.0, 6.0, 7.0), angle=0.3)
    box = torch.tensor([[3.0, 1.0, 2.0, 4.0, 2.0, 3.0]])
    centre = boxes_to_world(box, matrix)[0].mean(dim=0)
    expected = matrix @ torch.tensor([3.0, 1.0, 2.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(centre, expected[:3])


@given(st.lists(st.floats(-50, 50), min_size=6, max_size=6), st.floats(-3, 3))
def test_corners_agree_with_one_product_per_corner(numbers, angle):
    matrix = affine((1.0, 2.0, 0.5), (10.0, -4.0, 3.0), angle)
    low = [min(numbers[k], numbers[k + 3]) for k in range(3)]
    high = [max(numbers[k], numbers[k + 3]) for k in range(3)]
    corners = boxes_to_world(torch.tensor([[*low, *high]], dtype=torch.float64), matrix)[0]
    expected = [
        [
            sum(float(matrix[r, c]) * (p - 0.5) for c, p in enumerate((x, y, z)))
            + float(matrix[r, 3])
            for r in range(3)
        ]
        for x in (low[0], high[0])
        for y in (low[1], high[1])
        for z in (low[2], high[2])
    ]
    torch.testing.assert_close(corners, torch.tensor(expected, dtype=torch.float64))


def test_no_boxes_have_no_corners():
    assert boxes_to_world(torch.zeros(0, 6), affine()).shape == (0, 8, 3)


def test_spacing_is_the_length_of_the_columns():
    spacing = affine_spacing(affine((2.0, 3.0, 4.0), angle=0.7))
    assert spacing == pytest.approx((2.0, 3.0, 4.0), abs=1e-12)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (affine(), 0.0),
        (affine(shift=(0.4, 0.0, 0.0)), 0.4),
        (affine(shift=(10.0, 0.0, 0.0)), 10.0),
        (affine((2.0, 1.0, 1.0)), 9.5),  # the far corner: index 9.5 lands on 19
        (affine((1.0, 1.0, -1.0)), 59.0),  # a flipped header without its data
    ],
)
def test_displacement_is_counted_in_voxels_of_the_second_grid(other, expected):
    assert corner_displacement(SHAPE, other, affine()) == pytest.approx(expected, abs=1e-12)


def test_displacement_of_a_shift_depends_on_whose_voxels_count():
    coarse, shifted = affine((4.0, 4.0, 4.0)), affine((4.0, 4.0, 4.0), (2.0, 0.0, 0.0))
    assert corner_displacement(SHAPE, shifted, coarse) == pytest.approx(0.5)


def test_equal_grids_pass_silently_and_near_ones_with_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_same_grid(volume(affine()), volume(affine())) == 0
        nearly = volume(affine(shift=(0.009, 0.0, 0.0)))
        assert check_same_grid(volume(affine()), nearly) == pytest.approx(0.009)
    half = volume(affine(shift=(0.45, 0.0, 0.0)))
    with pytest.warns(UserWarning, match=r"b\.nii is not on the grid of a\.nii: .* 0\.45 voxels"):
        check_same_grid(volume(affine()), half, names=("a.nii", "b.nii"))


@pytest.mark.parametrize(
    "other",
    [
        affine(shift=(0.0, 10.0, 0.0)),
        affine((2.0, 2.0, 2.0)),
        affine((1.0, 1.0, -1.0)),
        affine(angle=0.5),
    ],
)
def test_other_grids_are_refused_with_both_names(other):
    with pytest.raises(ValueError, match=r"m\.nii must lie on the grid of i\.nii within 0\.6"):
        check_same_grid(volume(affine()), volume(other), names=("i.nii", "m.nii"))


def test_other_shapes_are_refused_with_both_names():
    with pytest.raises(ValueError, match=r"m\.nii must have the shape of i\.nii, \(10, 20, 30\)"):
        check_same_grid(volume(affine()), volume(affine(), (9, 20, 30)), names=("i.nii", "m.nii"))


@pytest.mark.skipif(not REAL.is_dir(), reason="the open_ms scans are not beside the project")
@pytest.mark.parametrize(("patient", "expected"), [("01", 0.4), ("11", 0.45), ("12", 0.0)])
def test_real_masks_lie_as_far_apart_as_was_measured(patient, expected):
    brain = load_nifti(REAL / f"patient{patient}_native1mm_brainmask.nii.gz")
    lesions = load_nifti(REAL / f"patient{patient}_native1mm_consensus_gt.nii.gz")
    found = corner_displacement(brain.data.shape, brain.affine, lesions.affine)
    assert found == pytest.approx(expected, abs=1e-3)


def test_wrong_affines_are_refused_by_name():
    for matrix, message in (
        (torch.zeros(4, 4), "affine must end with the row 0, 0, 0, 1"),
        (torch.full((4, 4), torch.nan), "affine must hold finite values"),
        (torch.diag(torch.tensor([1.0, 1.0, 0.0, 1.0])), "affine must be invertible"),
    ):
        with pytest.raises(ValueError, match=message):
            check_affine(matrix)
    with pytest.raises(ValueError, match="affine_b must be invertible"):
        corner_displacement(SHAPE, affine(), torch.diag(torch.tensor([0.0, 1.0, 1.0, 1.0])))


def test_wrong_shapes_and_boxes_are_refused_by_name():
    with pytest.raises(ValueError, match="shape must hold three positive lengths"):
        corner_displacement((10, 20), affine(), affine())
    with pytest.raises(ValueError, match="boxes must have every maximum at or above its minimum"):
        boxes_to_world(torch.tensor([[2.0, 0, 0, 1, 1, 1]]), affine())


@pytest.mark.bad_input
def test_other_types_and_ranks_are_refused():
    with pytest.raises(TypeError, match=r"affine must be a torch\.Tensor, got list"):
        check_affine([[1.0]])
    with pytest.raises(ValueError, match=r"boxes must have shape \(N, 6\), got \(1, 4\)"):
        boxes_to_world(torch.zeros(1, 4), affine())
    with pytest.raises(ValueError, match=r"affine must have shape \(4, 4\), got \(3, 3\)"):
        affine_spacing(torch.eye(3))


def test_the_spacing_for_lesions_has_the_volume_of_a_voxel():
    affine = torch.diag(torch.tensor([-1.0, 2.0, 1.5, 1.0], dtype=torch.float64))
    straight = Volume(torch.zeros(2, 2, 2), affine)
    assert straight.lesion_spacing == straight.spacing
    assert straight.voxel_mm3 == pytest.approx(3.0)
    affine = affine.clone()
    affine[0, 1] = 1.5
    sheared = Volume(torch.zeros(2, 2, 2), affine)
    assert sheared.spacing == pytest.approx((1.0, 2.5, 1.5))
    assert sheared.voxel_mm3 == pytest.approx(3.0)
    assert math.prod(sheared.lesion_spacing) == pytest.approx(3.0)
    ratios = [a / b for a, b in zip(sheared.lesion_spacing, sheared.spacing, strict=True)]
    assert ratios == pytest.approx([ratios[0]] * 3)
