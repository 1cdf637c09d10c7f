"""Regions of lesions: against a search over all voxels, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap.lesion_losses import LesionCells, OthersMasked, lesion_regions
from tests.support.reference_lesionwise import reference_cells


def spots(*shape, seed=0, share=0.06):
    """A mask of scattered voxels, some of which touch."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=generator) < share).float()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), reach=st.integers(0, 6), ndim=st.integers(1, 3))
def test_regions_equal_a_search_over_all_lesions(seed, reach, ndim):
    mask = spots(*(24, 7, 6)[:ndim], seed=seed)
    expected = reference_cells(mask.numpy(), reach)
    np.testing.assert_array_equal(lesion_regions(mask, reach=reach).numpy(), expected)


def test_reach_is_in_mm_with_a_spacing():
    mask, spacing = spots(9, 8, 5, seed=1), [0.5, 1.0, 3.0]
    found = lesion_regions(mask, reach=3.0, spacing=spacing)
    np.testing.assert_array_equal(found.numpy(), reference_cells(mask.numpy(), 3.0, spacing))


def test_a_reach_of_the_diagonal_leaves_no_rest():
    mask = spots(12, 9, seed=2)
    assert lesion_regions(mask, reach=15).min() == 1


def test_lesions_that_touch_by_a_corner_are_one():
    mask = torch.zeros(4, 4)
    mask[1, 1] = mask[2, 2] = 1
    assert lesion_regions(mask, reach=9).unique().tolist() == [1]


def test_a_soft_edge_goes_with_its_lesion_beyond_the_reach():
    mask = torch.tensor([0.1, 0.2, 0.9, 0.3, 0.2, 0.1, 0.0, 0.2])
    assert lesion_regions(mask, reach=0).tolist() == [1, 1, 1, 1, 1, 1, 0, 0]


def test_an_empty_mask_is_all_rest():
    assert not lesion_regions(torch.zeros(3, 4), reach=5).any()
    assert lesion_regions(torch.zeros(0, 4), reach=5).shape == (0, 4)


def test_views_find_the_regions_of_each_channel_of_each_item():
    masks = torch.stack([spots(8, 8, seed=seed) for seed in range(6)]).view(2, 3, 8, 8)
    cells, lesions = LesionCells(reach=2).regions(masks), OthersMasked().regions(masks)
    for item, channel in np.ndindex(2, 3):
        mask = masks[item, channel]
        assert torch.equal(cells[item, channel], lesion_regions(mask, reach=2))
        assert torch.equal(lesions[item, channel], lesion_regions(mask, reach=0))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"reach": -1}, "reach must be at least 0 and finite, got -1"),
        ({"reach": float("inf")}, "reach must be at least 0 and finite, got inf"),
        ({"threshold": 0}, "threshold must lie in"),
        ({"spacing": [1.0]}, "spacing must hold 2 positive lengths"),
        ({"mask": torch.full((3, 3), 2.0)}, "mask must hold probabilities"),
    ],
)
def test_what_is_out_of_range_is_refused(change, words):
    arguments = {"mask": torch.ones(3, 3), "reach": 1} | change
    with pytest.raises(ValueError, match=words):
        lesion_regions(arguments.pop("mask"), **arguments)


@pytest.mark.bad_input
def test_views_refuse_what_is_out_of_range():
    with pytest.raises(ValueError, match="reach must be at least 0"):
        LesionCells(reach=-2)
    with pytest.raises(ValueError, match="threshold must lie in"):
        OthersMasked(threshold=1.5)
