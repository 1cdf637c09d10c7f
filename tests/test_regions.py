"""The record of a polygon, what it refuses, and the regions where most of a density lies."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap import Polygon, highest_density_region
from tests.support.reference_regions import reference_hdr

SQUARE = torch.tensor([[0.0, 0.0], [4.0, 0.0], [4.0, 4.0], [0.0, 4.0]])
BOW_TIE = SQUARE[[0, 2, 1, 3]]


def test_the_area_is_that_of_the_ring_less_its_holes():
    holes = [SQUARE / 4 + 0.5, (SQUARE / 4 + 2).flip(0)]
    assert Polygon(SQUARE).area.item() == 16
    assert Polygon(SQUARE.flip(0), holes).area.item() == 14
    leaf = SQUARE.clone().requires_grad_()
    Polygon(leaf, holes).area.backward()
    assert leaf.grad[2].tolist() == [2, 2]


def test_rings_may_touch():
    hole = torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0]])  # along the outer ring
    assert Polygon(SQUARE, [hole, hole + 2]).area.item() == 12  # and corner to corner
    comb = torch.tensor([[0, 0], [4, 0], [4, 4], [2, 0], [0, 4]])  # touches itself
    assert Polygon(comb).area.item() == 8


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("outer", "words"),
    [
        (SQUARE[:2], r"outer must have shape \(V, 2\) of 3 or more vertices, got \(2, 2\)"),
        (SQUARE[:, :1], r"outer must have shape \(V, 2\).*got \(4, 1\)"),
        (SQUARE[0], r"outer must have shape \(V, 2\).*got \(2,\)"),
        (SQUARE * math.nan, "outer must hold finite values, got NaN or infinity"),
        (SQUARE / 0, "outer must hold finite values"),
        (BOW_TIE, "outer must be a ring that does not cross itself"),
        (BOW_TIE + SQUARE / 8, "outer must be a ring that does not cross itself"),
        (SQUARE[[0, 1, 2, 0, 1, 2]], "outer must be a ring that does not cross itself"),  # twice
        (SQUARE[[0, 2, 1, 1, 2]], "outer must enclose an area, got none"),
        (SQUARE.double() * 1e200, "outer must enclose an area below 1e308"),
    ],
)
def test_what_is_no_ring_is_refused(outer, words):
    with pytest.raises(ValueError, match=f"^{words}"):
        Polygon(outer)
    with pytest.raises(ValueError, match=rf"^{words.replace('outer', r'holes.1.')}"):
        Polygon(1e3 * SQUARE - 9, [SQUARE + 20, outer])


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "holes",
    [
        [SQUARE + 5],
        [SQUARE / 4 + 3.5],
        [2 * SQUARE - 2],
        [SQUARE],
        [SQUARE / 4 + 1, SQUARE / 4 + 1.5],
        [SQUARE / 4 + 1] * 2,
        [SQUARE / 2 + 1, SQUARE / 8 + 2],
    ],
)
def test_holes_lie_inside_beside_each_other(holes):
    with pytest.raises(ValueError, match="^holes must lie inside outer, beside each other"):
        Polygon(SQUARE, holes)


@pytest.mark.bad_input
def test_a_ring_is_a_tensor_of_coordinates():
    with pytest.raises(TypeError, match=r"outer must be a torch.Tensor, got list"):
        Polygon([[0, 0], [1, 0], [1, 1]])
    with pytest.raises(TypeError, match=r"holes\[0\] must hold real coordinates, got dtype.*bool"):
        Polygon(SQUARE, [SQUARE.bool()])


@given(
    values=st.lists(st.integers(0, 8), min_size=1, max_size=12),
    mass=st.sampled_from([0.125, 0.25, 0.5, 0.75, 0.9375, 1]),
)
@settings(max_examples=50)
def test_the_highest_density_region_equals_the_reference(values, mass):
    found = highest_density_region(torch.tensor(values), mass)
    assert set(found.nonzero().flatten().tolist()) == reference_hdr(values, mass)


def test_no_smaller_region_holds_the_mass():
    density = torch.rand(9, 9, generator=torch.Generator().manual_seed(0))
    region = highest_density_region(density, 0.7)
    total, least = density.sum(), density[region].min()
    assert density[region].sum() >= 0.7 * total > density[density > least].sum()
    assert least > density[~region].max()


def test_a_region_of_no_mass_is_empty():
    assert not highest_density_region(torch.zeros(2, 2), 0.5).any()
    assert highest_density_region(torch.zeros(0, 2), 0.5).shape == (0, 2)


@pytest.mark.bad_input
def test_a_density_and_a_share_are_numbers_in_range():
    density = torch.ones(2, 2)
    with pytest.raises(ValueError, match="density must hold finite densities .* got -1"):
        highest_density_region(-density, 0.5)
    with pytest.raises(ValueError, match="density must hold finite densities .* got nan"):
        highest_density_region(density * math.nan, 0.5)
    for mass in (0, 1.5, math.nan):
        with pytest.raises(ValueError, match=r"mass must lie in \(0, 1\], got"):
            highest_density_region(density, mass)
    with pytest.raises(TypeError, match="mass must be a number, got '0.5'"):
        highest_density_region(density, "0.5")
