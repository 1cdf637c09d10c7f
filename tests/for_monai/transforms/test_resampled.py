"""Affine and elastic transforms: the target is the one computed anew from the transformed mask.

The bound, for lesions that stay in one piece: the mass to 2 %; most boxes are the very same, their
faces differ by one voxel at most, and by two in lesions of less than twenty voxels. And none that
is in the patch is lost.
"""

from __future__ import annotations

import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import (
    Compose,
    Rand2DElasticd,
    Rand3DElasticd,
    RandAffined,
    RandGridDistortiond,
    Resized,
    Spacingd,
    Zoomd,
)

from softoverlap import lesions_from_mask
from softoverlap.for_monai import LesionInstancesd, LesionsFromInstancesd, SmoothForSpacingd
from tests.support.lesion_items import KEYS, MODES, blobs, carried, item_of, on_image

SHAPES = {2: (64, 60), 3: (32, 36, 30)}
LARGEST = {2: 7.0, 3: 4.0}
LINEAR = {2: "bilinear", 3: "trilinear"}
ROTATION = {2: 0.7, 3: (0.5, 0.6, 0.7)}
both = pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
dimensions = pytest.mark.parametrize("ndim", [2, 3])


def affine(ndim, **options):
    return RandAffined(
        KEYS, prob=1, mode=MODES, padding_mode="zeros", rotate_range=ROTATION[ndim], **options
    )


def zoom(ndim, factor):
    modes = (LINEAR[ndim], LINEAR[ndim], "nearest")
    return Zoomd(KEYS, factor, mode=modes, padding_mode="constant", keep_size=False)


def elastic(ndim):
    options = {"prob": 1, "mode": MODES, "padding_mode": "zeros"}
    if ndim == 2:
        return Rand2DElasticd(KEYS, spacing=(12, 12), magnitude_range=(1, 3), **options)
    return Rand3DElasticd(KEYS, sigma_range=(4, 6), magnitude_range=(40, 80), **options)


AFFINE = {
    "turned": affine,
    "scaled": lambda ndim: affine(ndim, scale_range=0.25),
    "sheared and moved": lambda ndim: affine(ndim, shear_range=0.2, translate_range=2),
    "zoomed out": lambda ndim: zoom(ndim, 0.8),
    "zoomed in": lambda ndim: zoom(ndim, 1.3),
    "another spacing": lambda ndim: Spacingd(
        KEYS, (0.8, 1.3, 1.1)[:ndim], mode=MODES, padding_mode="zeros"
    ),
}
DEFORMED = {
    "elastic": elastic,
    "grid": lambda ndim: RandGridDistortiond(
        KEYS, prob=1, mode=MODES, padding_mode="zeros", distort_limit=0.2
    ),
}


def voxel_mm(tensor):
    ndim = tensor.ndim - 1
    return tensor.affine[:ndim, :ndim].det().abs().item()


def check_as_anew(out):
    """For each lesion that could be compared, whether its box is the very same."""
    soft, ndim = out["mask"][0].as_tensor().clamp(0, 1), out["mask"].ndim - 1
    voxel = voxel_mm(out["instances"])
    anew = lesions_from_mask(soft, spacing=[voxel ** (1 / ndim)] * ndim)
    images = [on_image(lesion, soft.shape) for lesion in anew]
    same = []
    for lesion in out["lesions"]:
        own = on_image(lesion, soft.shape)
        torch.testing.assert_close(own[own > 0], soft[own > 0])
        met = [k for k, image in enumerate(images) if torch.minimum(image, own).sum() > 0]
        if len(met) != 1:
            continue  # lost or in pieces when found anew
        other = anew[met[0]]
        assert lesion.volume_mm3 == pytest.approx(other.volume_mm3, rel=0.02)
        off = (lesion.box - other.box).abs().max().item()
        assert off <= (1 if lesion.volume_mm3 >= 20 * voxel else 2)
        same.append(off == 0)
    return same


def inside_by(out, margin):
    """How many lesions have their whole box in the patch, and so far from its border."""
    table, (first, *rest) = out["lesion_table"], out["mask"].shape[1:]
    ndim, ends = 1 + len(rest), out["lesion_table"]["hull_end"].tolist()
    grid = out["instances"].affine
    points = torch.linalg.solve(grid[:ndim, :ndim], (table["hull"] - grid[:ndim, -1]).T).T + 0.5
    inside = (points >= margin) & (points <= torch.tensor([first, *rest]) - margin)
    return sum(bool(inside[a:b].all()) for a, b in zip([0, *ends], ends, strict=False))


@both
@dimensions
@pytest.mark.parametrize("name", AFFINE)
def test_affine_transforms(ndim, name, lazy):
    same = []
    for seed in range(2):
        item = item_of(blobs(SHAPES[ndim], seed=seed, apart=5, largest=LARGEST[ndim]))
        out = carried(item, AFFINE[name](ndim), lazy=lazy, seed=seed)
        same += check_as_anew(out)
        assert len(out["lesions"]) >= inside_by(out, 0) >= 2
        amodal = LesionsFromInstancesd(amodal=True)(out)["lesions"]
        assert sum(lesion.visible == 1 for lesion in amodal) >= inside_by(out, 4)
        for lesion in amodal:
            voxels = lesion.box[ndim:] - lesion.box[:ndim]
            assert (voxels > 0).all()
    assert len(same) >= 4
    assert sum(same) >= 0.6 * len(same)


@dimensions
@pytest.mark.parametrize("name", DEFORMED)
def test_deformations_that_the_affine_does_not_know(ndim, name):
    same = []
    for seed in range(2):
        item = item_of(blobs(SHAPES[ndim], seed=seed, apart=5, largest=LARGEST[ndim]))
        out = carried(item, DEFORMED[name](ndim), seed=seed)
        same += check_as_anew(out)
        assert len(out["lesions"]) >= 0.7 * len(out["lesion_table"]["label"])
    assert len(same) >= 4
    assert sum(same) >= 0.6 * len(same)


@dimensions
@both
def test_a_single_voxel_is_never_lost(ndim, lazy):
    mask = torch.zeros((17,) * ndim)
    mask[(8,) * ndim] = 1
    for seed in range(8):
        out = carried(item_of(mask), affine(ndim, scale_range=0.2), lazy=lazy, seed=seed)
        (lesion,) = out["lesions"]
        size = (lesion.box[ndim:] - lesion.box[:ndim]).max()
        assert 1 <= size <= 3
        assert (lesion.box[:ndim] - 1 <= lesion.centre).all()
        assert (lesion.centre <= lesion.box[ndim:] + 1).all()


def test_a_lesion_that_vanished_from_the_map_is_sought_where_its_centre_went():
    mask = torch.zeros(48, 48)
    mask[30:33, 12] = 1
    found = LesionInstancesd()(item_of(mask))
    gone = {**found, "instances": torch.zeros_like(found["instances"])}
    target = LesionsFromInstancesd()(gone)
    assert target["boxes"].tolist() == [[30, 12, 33, 13]]
    empty = LesionsFromInstancesd()({**gone, "mask": torch.zeros_like(found["mask"])})
    assert empty["boxes"].shape == (0, 4)


@dimensions
def test_shrunk_many_times_small_lesions_are_still_there(ndim):
    item = item_of(blobs({2: (48, 48), 3: (30, 30, 30)}[ndim], seed=2, apart=8, count=4))
    shrink = Resized(
        KEYS, (10, 10) if ndim == 2 else (6, 6, 6), mode=(LINEAR[ndim], LINEAR[ndim], "nearest")
    )
    out = carried(item, shrink, min_visible=0.0)
    numbers = out["instances"].abs()
    held = [number for number in numbers.unique() if number > 0]
    assert len(held) == len(out["lesion_table"]["label"])  # though the mask lost some
    assert len(out["lesions"]) == sum(bool(out["mask"][numbers == n].any()) for n in held)


@pytest.mark.parametrize("spacing", [(1.5, 1.5, 1.5), (0.8, 0.8, 0.8)])
def test_a_mask_that_stands_for_the_only_rater_decides_alone_what_is_a_lesions_own(spacing):
    mask = (blobs((40, 40, 36), count=8, largest=5.0) >= 0.5).float()
    item = {**item_of(mask), "lesions": lesions_from_mask(mask, spacing=(1.0, 1.0, 1.0))}
    item["raters"] = item["mask"].clone()
    coarser = [
        SmoothForSpacingd("mask", spacing),
        Spacingd(KEYS[1:], spacing, mode=("bilinear", "nearest")),
        LesionsFromInstancesd(),
    ]
    alone, rated = (
        Compose([LesionInstancesd(raters_key=key, lesions_key="lesions"), *coarser])(item)
        for key in (None, "raters")
    )
    assert torch.equal(rated["boxes"], alone["boxes"])
    same = check_as_anew(rated)
    assert len(same) >= 8
    assert sum(same) >= 0.8 * len(same)


def test_padding_by_reflection_shows_a_lesion_twice():
    mask = torch.zeros(24, 24)
    mask[3:6, 8:11] = 1
    options = {"prob": 1, "mode": MODES, "padding_mode": "reflection"}
    shift = RandAffined(KEYS, translate_range=((-8, -8), (0, 0)), **options)
    out = carried(item_of(mask), shift)
    assert sorted(out["boxes"].tolist()) == [[2, 8, 5, 11], [11, 8, 14, 11]]


def test_turned_boxes_are_whole_where_the_patch_cuts_them():
    mask = torch.zeros(40, 40)
    mask[10:30, 18:22] = 1
    options = {"prob": 1, "mode": MODES, "padding_mode": "zeros", "rotate_range": ((0.9, 0.9),)}
    (cut,) = carried(
        item_of(mask), RandAffined(KEYS, spatial_size=(40, 14), **options), amodal=True
    )["lesions"]
    (whole,) = carried(item_of(mask), RandAffined(KEYS, **options))["lesions"]
    assert 0.5 < cut.visible < 1
    assert (cut.box - (whole.box - torch.tensor([0.0, 13, 0, 13]))).abs().max() <= 1.5
    assert cut.box[1] < 0
    assert cut.box[3] > 14


def test_the_instances_must_be_resampled_to_the_nearest_voxel():
    item = item_of(blobs((32, 32)))
    with pytest.raises(RuntimeError) as error:
        carried(item, RandAffined(KEYS, prob=1, rotate_range=0.5, mode="bilinear"))
    cause = error.value.__cause__
    assert "item['instances'] must hold the numbers" in str(cause)
    assert isinstance(item["mask"], MetaTensor)
