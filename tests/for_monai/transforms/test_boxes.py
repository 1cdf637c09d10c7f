"""Boxes without masks: soft masks from them, and the same boxes back after transforms."""

from __future__ import annotations

import math

import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Compose, Flipd, RandAffined, Rotate90d, SpatialCropd, Zoomd

from softoverlap import mask_box_dice
from softoverlap.for_monai import LesionsFromBoxesd, LesionsFromInstancesd
from tests.support.lesion_items import KEYS, MODES

BOXES = torch.tensor([[2.25, 3.5, 4.0, 7.5, 9.0, 8.75], [12.1, 12.2, 12.3, 12.9, 12.8, 12.7]])


def image(shape=(20, 18, 16), affine=None):
    affine = torch.eye(len(shape) + 1, dtype=torch.float64) if affine is None else affine
    return MetaTensor(torch.zeros(1, *shape), affine=affine)


def given_back(item, *steps, shape="box", lazy=False, **options):
    chain = [LesionsFromBoxesd(shape=shape), *steps, LesionsFromInstancesd(**options)]
    return Compose(chain, lazy=lazy)(item)


@pytest.mark.parametrize("shape", ["box", "ellipsoid"])
@pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
def test_real_valued_boxes_come_back_turned_and_flipped(shape, lazy):
    item = {"image": image(), "boxes": BOXES}
    steps = [Flipd(KEYS, 1), Rotate90d(KEYS, 1, (0, 2))]
    out = given_back(item, *steps, shape=shape, lazy=lazy)
    low, high = BOXES[:, :3].clone(), BOXES[:, 3:].clone()
    low[:, 1], high[:, 1] = 18 - BOXES[:, 4], 18 - BOXES[:, 1]
    corners = torch.stack([16 - high[:, 2], low[:, 1], low[:, 0]], 1)
    others = torch.stack([16 - low[:, 2], high[:, 1], high[:, 0]], 1)
    torch.testing.assert_close(out["boxes"], torch.cat([corners, others], 1), atol=1e-4, rtol=0)
    for lesion, box in zip(out["lesions"], BOXES, strict=True):
        volume = (box[3:] - box[:3]).prod().item() * (1 if shape == "box" else math.pi / 6)
        assert lesion.volume_mm3 == pytest.approx(volume, rel=2e-3)


def test_zoomed_and_cropped_boxes_are_scaled_and_clipped():
    item = {"image": image(), "boxes": BOXES, "classes": torch.tensor([2, 0])}
    spread = LesionsFromBoxesd(label_key="classes")
    zoom = Zoomd(KEYS, 2, mode="nearest", keep_size=False)
    crop = SpatialCropd(KEYS, roi_start=(8, 0, 0), roi_end=(40, 36, 32))
    out = Compose([spread, zoom, crop, LesionsFromInstancesd()])(item)
    shift = torch.tensor([8.0, 0, 0, 8, 0, 0])
    torch.testing.assert_close(out["boxes"], (2 * BOXES - shift).clamp(min=0), atol=1e-4, rtol=0)
    assert out["labels"].tolist() == [2, 0]
    whole = Compose([spread, zoom, crop, LesionsFromInstancesd(amodal=True)])(item)
    torch.testing.assert_close(whole["boxes"], 2 * BOXES - shift, atol=1e-4, rtol=0)
    assert whole["lesions"][0].visible == pytest.approx((15 - 8) / (15 - 4.5), rel=1e-4)


def test_a_box_fills_its_own_mask_exactly():
    out = given_back({"image": image(), "boxes": BOXES})
    whole = torch.tensor([[2.0, 3, 4, 8, 9, 9]])
    mass = (BOXES[0, 3:] - BOXES[0, :3]).prod()
    score = mask_box_dice(out["mask"].as_tensor(), whole).item()
    assert score == pytest.approx(2 * mass.item() / (out["mask"].sum().item() + 6 * 6 * 5))


def test_centres_and_diameters_in_lps_are_luna16s():
    affine = torch.diag(torch.tensor([-0.5, -0.5, 2.0, 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.tensor([30.0, 20.0, -100.0])
    voxel = torch.tensor([20.0, 12.0, 8.0])
    ras = affine[:3, :3] @ (voxel.double() - 0.5) + affine[:3, 3]
    item = {"image": image((40, 30, 20), affine), "nodules": torch.zeros(1, 4)}
    item["nodules"][0] = torch.tensor([-ras[0], -ras[1], ras[2], 6.0])
    spread = LesionsFromBoxesd("nodules", layout="centre", coordinates="LPS", shape="ellipsoid")
    out = Compose([spread, LesionsFromInstancesd()])(item)
    expected = torch.tensor([[14.0, 6.0, 6.5, 26.0, 18.0, 9.5]])
    torch.testing.assert_close(out["boxes"], expected, atol=1e-4, rtol=0)
    assert out["lesions"][0].volume_mm3 == pytest.approx(math.pi / 6 * 6**3, rel=2e-3)
    torch.testing.assert_close(out["lesions"][0].centre, voxel, atol=1e-2, rtol=0)


def test_boxes_that_overlap_hide_nothing_of_each_other():
    boxes = torch.tensor([[2.0, 2, 8, 8], [6.0, 6, 12, 12], [2.0, 2, 8, 8], [3.0, 3, 5, 5.5]])
    spread = LesionsFromBoxesd()({"image": image((20, 20)), "boxes": boxes})
    assert spread["mask"].shape == spread["instances"].shape == (3, 20, 20)
    assert spread["mask"].amax(dim=0).sum() == 36 + 36 - 4
    assert spread["lesion_table"]["layer"].tolist() == [0, 1, 2, 1]
    flip = Compose([Flipd(KEYS, 0), LesionsFromInstancesd()])(spread)
    expected = boxes[:, [0, 1, 2, 3]].clone()
    expected[:, 0], expected[:, 2] = 20 - boxes[:, 2], 20 - boxes[:, 0]
    torch.testing.assert_close(flip["boxes"], expected, atol=1e-5, rtol=0)
    assert [lesion.volume_mm3 for lesion in flip["lesions"]] == pytest.approx([36, 36, 36, 5])


def test_a_slender_ellipsoid_gets_its_whole_box_back():
    box = torch.tensor([[2.0, 8.0, 8.0, 18.0, 9.5, 9.5]])
    out = given_back({"image": image(), "boxes": box}, shape="ellipsoid")
    torch.testing.assert_close(out["boxes"], box, atol=1e-5, rtol=0)


@pytest.mark.bad_input
def test_a_box_outside_the_image_is_refused():
    boxes = torch.tensor([[2.0, 2, 8, 8], [30.0, 30, 33, 33]])
    with pytest.raises(ValueError, match=r"in the image, \(20, 20\) voxels, got \[30.0, 30.0"):
        LesionsFromBoxesd()({"image": image((20, 20)), "boxes": boxes})


def test_under_other_transforms_boxes_stay_around_what_is_seen():
    item = {"image": image(), "boxes": BOXES[:1]}
    turn = RandAffined(KEYS, prob=1, mode=MODES, padding_mode="zeros", rotate_range=(0.4, 0.3, 0))
    out = Compose([LesionsFromBoxesd(shape="ellipsoid"), turn, LesionsFromInstancesd()])(item)
    (lesion,) = out["lesions"]
    seen = (out["mask"][0].as_tensor() >= 0.5).nonzero()
    tight = torch.cat([seen.amin(0), seen.amax(0) + 1])
    assert (lesion.box - tight).abs().max() <= 1


def test_no_boxes_give_an_empty_target_and_the_inverse_takes_all_out():
    item = {"image": image((9, 8)), "boxes": torch.zeros(0, 4)}
    spread = LesionsFromBoxesd()
    assert LesionsFromInstancesd()(spread(item))["boxes"].shape == (0, 4)
    assert set(spread.inverse(spread(item))) == set(item)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (torch.zeros(2, 5), r"item\['boxes'\] must have shape \(N, 6\), got \(2, 5\)"),
        (torch.full((1, 6), torch.nan), r"item\['boxes'\] must hold finite boxes"),
        (torch.zeros(1, 6), r"item\['boxes'\] must hold finite boxes with edges above 0"),
    ],
)
def test_bad_boxes_are_refused_by_key(boxes, message):
    with pytest.raises(ValueError, match=message):
        LesionsFromBoxesd()({"image": image(), "boxes": boxes})


@pytest.mark.bad_input
def test_bad_labels_and_choices_are_refused():
    item = {"image": image(), "boxes": BOXES, "labels": torch.tensor([0.5, 1.0])}
    with pytest.raises(ValueError, match=r"item\['labels'\] must hold 2 whole numbers"):
        LesionsFromBoxesd(label_key="labels")(item)
    with pytest.raises(ValueError, match="must have the key 'image'"):
        LesionsFromBoxesd()({"boxes": BOXES})
    with pytest.raises(ValueError, match="layout must be one of"):
        LesionsFromBoxesd(layout="middle")
