"""Lesions of a few voxels live through larger voxels, if they are smoothed first."""

from __future__ import annotations

import pytest
import torch
from monai.transforms import Spacingd

from softoverlap.for_monai import SmoothForSpacingd
from tests.support.lesion_items import KEYS, MODES, carried, item_of


def small_lesions():
    """One at every remainder of the first axis, of 2 x 2 x 1 voxels."""
    mask = torch.zeros(44, 44, 44)
    for k in range(8):
        mask[5 * k + 2 : 5 * k + 4, 20:22, 4 + 4 * k] = 1
    return mask


@pytest.mark.parametrize("spacing", [(1, 1, 5), (3, 3, 3)])
def test_no_lesion_is_lost_where_voxels_become_larger(spacing):
    item, resampled = item_of(small_lesions()), Spacingd(KEYS, spacing, mode=MODES)
    left = carried(item, SmoothForSpacingd(KEYS[:2], spacing), resampled)
    assert len(carried(item, resampled)["boxes"]) < len(left["boxes"]) == 8
    centres = (left["boxes"][:, :3] + left["boxes"][:, 3:]) / 2 * torch.tensor(spacing)
    wanted = torch.tensor([[5 * k + 3.0, 21.0, 4.5 + 4 * k] for k in range(8)])
    assert (centres - wanted).abs().max() <= max(spacing)


def test_voxels_that_stay_or_become_smaller_are_left_alone():
    item = item_of(small_lesions(), [1.0, 1.0, 2.0])
    same = SmoothForSpacingd(KEYS[:2], (0.5, 1.005, 2.0))(item)
    assert same["mask"] is item["mask"]
    smooth = SmoothForSpacingd("mask", (1.0, 3.0, 1.0))(item)["mask"]
    assert torch.equal(smooth.affine, item["mask"].affine)
    assert torch.allclose(smooth.sum(dim=2), item["mask"].sum(dim=2), atol=1e-5)


def test_bad_edges_and_axes_are_refused():
    with pytest.raises(ValueError, match="pixdim must be above 0"):
        SmoothForSpacingd("mask", (1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match=r"item\['mask'\] must have 2 axes, got 3"):
        SmoothForSpacingd("mask", (1.0, 1.0))(item_of(small_lesions()))
