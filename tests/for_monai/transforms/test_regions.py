"""Regions of lesions through MONAI's transforms, to a loss."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Flipd, SpatialCropd, Zoomd

from softoverlap.for_monai import LesionRegionsd
from softoverlap.lesion_losses import LesionwiseSoftLoss, lesion_regions
from softoverlap.losses import SoftDiceLoss


def scan():
    mask = torch.zeros(2, 12, 10, 8)
    mask[0, 2:4, 2:4, 2:4] = mask[0, 9, 8, 6] = mask[1, 6, 5, 4] = 1
    return {"mask": MetaTensor(mask, affine=torch.diag(torch.tensor([1.0, 1, 2, 1])))}


def test_reach_is_in_mm_of_the_scan_and_each_channel_has_its_regions():
    item = LesionRegionsd(reach=3)(scan())
    assert item["regions"].dtype == torch.int32
    assert torch.equal(item["regions"].affine, item["mask"].affine)
    for mask, regions in zip(item["mask"], item["regions"], strict=True):
        expected = lesion_regions(mask.as_tensor(), reach=3, spacing=[1.0, 1, 2])
        assert torch.equal(regions.as_tensor(), expected)


def test_regions_go_through_transforms_to_the_loss_and_back():
    keys = ("mask", "regions")
    steps = [
        LesionRegionsd(reach=3),
        Flipd(keys, spatial_axis=0),
        Zoomd(keys, 2.0, mode="nearest", keep_size=False),
        SpatialCropd(keys, roi_start=(0, 4, 0), roi_end=(14, 20, 16)),
    ]
    item = Compose(steps)(scan())
    assert item["regions"][0].unique().tolist() == [0, 1, 2]  # of the first only surroundings
    pred = item["mask"] * (torch.arange(14).view(1, -1, 1, 1) > 8)  # misses the second
    loss = LesionwiseSoftLoss(SoftDiceLoss(), lambda_global=0)
    found = loss(pred[None, :1], item["mask"][None, :1], item["regions"][None, :1])
    assert found.item() == pytest.approx(1, abs=1e-4)
    assert set(LesionRegionsd().inverse({"mask": 1, "regions": 2})) == {"mask"}


@pytest.mark.bad_input
def test_what_is_no_mask_is_named():
    with pytest.raises(ValueError, match=r"item\['mask'\] must hold probabilities"):
        LesionRegionsd()({"mask": 2 * torch.ones(1, 4, 4)})
    with pytest.raises(ValueError, match="reach must be at least 0"):
        LesionRegionsd(reach=-1)
