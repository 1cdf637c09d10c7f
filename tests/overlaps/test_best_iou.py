"""The best IoU that a box of given edges has with a lesion's box, against trying places."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap.overlaps import best_iou_of_size, box_iou


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_the_best_iou_equals_that_of_all_places_on_a_grid(seed, ndim):
    """Whole edges: a best place has a face on one of the box's, so that the grid holds it."""
    generator = np.random.default_rng(seed)
    edges, size = generator.integers(1, 5, ndim), generator.integers(1, 5, ndim)
    box = torch.from_numpy(np.concatenate([np.zeros(ndim), edges])[None])
    starts = [range(-side, edge + 1) for side, edge in zip(size, edges, strict=True)]
    others = torch.tensor([[*start, *(start + size)] for start in itertools.product(*starts)])
    expected = box_iou(box, others.double()).max().item()
    assert best_iou_of_size(box, size.tolist()).item() == pytest.approx(expected, abs=1e-12)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_no_place_is_better_and_one_about_the_centre_is_as_good(seed):
    generator = torch.Generator().manual_seed(seed)
    low = 20 * torch.rand(5, 3, generator=generator).double()
    boxes = torch.cat([low, low + 10 * torch.rand(5, 3, generator=generator)], dim=1)
    size = 0.1 + 8 * torch.rand(3, generator=generator).double()
    best = best_iou_of_size(boxes, size.tolist())
    centres = (boxes[:, :3] + boxes[:, 3:]) / 2
    about = torch.cat([centres - size / 2, centres + size / 2], dim=1)
    assert torch.allclose(box_iou.pairs(boxes, about), best, rtol=0, atol=1e-12)
    moved = about.repeat(50, 1) + torch.randn(250, 1, generator=generator)
    assert (box_iou(boxes, moved) <= best[:, None] + 1e-12).all()


def test_a_box_of_its_own_size_is_perfect_and_one_without_volume_has_nothing():
    boxes = torch.tensor([[0, 0, 2, 3], [1, 1, 1, 4]])
    assert best_iou_of_size(boxes, (2, 3)).tolist() == [1.0, 0.0]
    assert best_iou_of_size(boxes[:0], (2, 3)).shape == (0,)


@pytest.mark.bad_input
def test_a_wrong_size_is_named():
    boxes = torch.zeros(1, 6)
    with pytest.raises(ValueError, match=r"size must hold 3 edges, one an axis, got \(1, 2\)"):
        best_iou_of_size(boxes, (1, 2))
    with pytest.raises(ValueError, match=r"size\[1\] must be above 0"):
        best_iou_of_size(boxes, (1, 0, 1))
