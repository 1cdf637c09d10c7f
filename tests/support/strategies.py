"""Hypothesis strategies for masks and boxes."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

probabilities = st.one_of(
    st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1, allow_subnormal=False, width=32)
)


@st.composite
def masks(draw, shape):
    """A float64 mask of this shape with exact zeros, halves and ones among its values."""
    values = draw(hnp.arrays(np.float64, shape, elements=probabilities))
    return torch.from_numpy(values)


@st.composite
def mask_pairs(draw):
    """Two masks (B, C, *spatial) with one to three spatial axes."""
    shape = (2, 1, *draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    return draw(masks(shape)), draw(masks(shape))


@st.composite
def box_batches(draw, ndim=None, count=None, low=-8, high=8):
    """Boxes (N, 2 * ndim) on eighths, so that sums and shifts are exact; flat ones among them."""
    ndim = draw(st.integers(1, 4)) if ndim is None else ndim
    count = draw(st.integers(1, 4)) if count is None else count
    eighths = hnp.arrays(np.int64, (2, count, ndim), elements=st.integers(8 * low, 8 * high))
    corners = np.sort(draw(eighths), axis=0) / 8
    return torch.from_numpy(np.concatenate([corners[0], corners[1]], axis=1))


@st.composite
def masks_and_boxes(draw):
    """K masks (K, *spatial) in 1 to 3 dimensions and boxes inside, across and beyond the image."""
    ndim = draw(st.integers(1, 3))
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=ndim, max_size=ndim)))
    kept = draw(masks((2, *shape)))
    return kept, draw(box_batches(ndim=ndim, low=-2, high=7))
