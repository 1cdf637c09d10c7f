"""Flips, quarter turns, crops, pads, integer zooms: mass, box and score are the analytic ones."""

from __future__ import annotations

import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import (
    BorderPadd,
    CenterSpatialCropd,
    Compose,
    Flipd,
    Rotate90d,
    SpatialCropd,
    SpatialPadd,
    Zoomd,
)

from softoverlap import lesions_from_mask, mask_box_pair_dice
from softoverlap.for_monai import LesionInstancesd, LesionsFromInstancesd
from softoverlap.lesion import crop_lesion
from tests.support.lesion_items import (
    KEYS,
    LAZY_MODES,
    blobs,
    carried,
    core_box,
    item_of,
    on_image,
)

SHAPES = {2: (40, 33), 3: (24, 21, 19)}
SPACING = {2: (1.0, 0.5), 3: (0.5, 1.0, 2.0)}
both = pytest.mark.parametrize("lazy", [False, True], ids=["eager", "lazy"])
dimensions = pytest.mark.parametrize("ndim", [2, 3])


def scores(lesions, shape):
    """Soft Dice of each lesion's mask and box."""
    masks = torch.stack([on_image(lesion, shape) for lesion in lesions])
    return mask_box_pair_dice(masks, torch.stack([lesion.box for lesion in lesions]))


def by_place(lesions):
    return sorted(lesions, key=lambda lesion: lesion.centre.tolist())


def check_moved(item, out, move, *, zoom=1):
    """All lesions are there, moved: `move` takes an image and gives the transformed one."""
    mask = item["mask"][0].as_tensor()
    spacing = item["mask"].affine.diagonal()[: mask.ndim].tolist()
    before = lesions_from_mask(mask, spacing=spacing)
    moved = [move(on_image(lesion, mask.shape)[None])[0] for lesion in before]
    shape = tuple(out["mask"].shape[1:])
    found = out["lesions"]
    assert len(found) == len(before)
    for lesion, old, soft in zip(found, before, moved, strict=True):
        torch.testing.assert_close(on_image(lesion, shape), soft, atol=1e-6, rtol=0)
        assert lesion.crop.sum().item() == pytest.approx(old.crop.sum().item() * zoom**mask.ndim)
        assert lesion.volume_mm3 == pytest.approx(old.volume_mm3)
        torch.testing.assert_close(lesion.box, core_box(soft))
        assert lesion.visible == 1
    torch.testing.assert_close(out["boxes"], torch.stack([lesion.box for lesion in found]))
    torch.testing.assert_close(scores(found, shape), scores(before, tuple(mask.shape)))
    assert out["labels"].tolist() == [0] * len(found)


@both
@dimensions
@pytest.mark.parametrize("amodal", [False, True])
def test_flips_and_quarter_turns(ndim, lazy, amodal):
    item = item_of(blobs(SHAPES[ndim]), SPACING[ndim])
    steps = [Flipd(KEYS, 1), Rotate90d(KEYS, 3, (0, ndim - 1)), Flipd(KEYS, 0)]
    out = carried(item, *steps, lazy=lazy, amodal=amodal)
    check_moved(item, out, lambda x: x.flip(2).rot90(3, (1, ndim)).flip(1))


@both
@dimensions
def test_pads(ndim, lazy):
    item = item_of(blobs(SHAPES[ndim]), SPACING[ndim])
    before, after = (3, 1, 2)[:ndim], (0, 4, 5)[:ndim]
    border = [width for pair in zip(before, after, strict=True) for width in pair]
    out = carried(item, BorderPadd(KEYS, border), lazy=lazy)
    padding = [w for pair in zip(reversed(before), reversed(after), strict=True) for w in pair]
    check_moved(item, out, lambda x: torch.nn.functional.pad(x, padding))


@dimensions
@pytest.mark.parametrize("factor", [2, 3])
def test_integer_zooms_to_the_nearest_voxel_repeat_voxels(ndim, factor):
    item = item_of(blobs(SHAPES[ndim]), SPACING[ndim])
    out = carried(item, Zoomd(KEYS, factor, mode="nearest", keep_size=False))

    def repeated(x):
        for axis in range(1, ndim + 1):
            x = x.repeat_interleave(factor, axis)
        return x

    check_moved(item, out, repeated, zoom=factor)


@both
@dimensions
@pytest.mark.parametrize("factor", [2, 3])
def test_linear_integer_zooms_keep_mass_and_box(ndim, factor, lazy):
    item = item_of(blobs(SHAPES[ndim]), SPACING[ndim])
    linear = {2: "bilinear", 3: "trilinear"}[ndim]
    zoom = Zoomd(KEYS, factor, mode=(linear, linear, "nearest"), keep_size=False)
    out = carried(item, zoom, lazy=lazy)
    before = lesions_from_mask(item["mask"][0].as_tensor(), spacing=SPACING[ndim])
    inner = [
        k for k, old in enumerate(before)
        if all(o > 0 and o + n < side for o, n, side in zip(
            old.offset.tolist(), old.crop.shape, SHAPES[ndim], strict=True))
    ]  # where a lesion touches the border, its edge repeats  # fmt: skip
    assert len(out["lesions"]) == len(before)
    assert len(inner) > 2
    for k in inner:
        new, old = out["lesions"][k], before[k]
        assert new.volume_mm3 == pytest.approx(old.volume_mm3, rel=1e-5)
        torch.testing.assert_close(new.box, old.box * factor)
        torch.testing.assert_close(new.centre, old.centre * factor, atol=1e-3, rtol=0)


@both
@dimensions
@pytest.mark.parametrize("amodal", [False, True])
def test_crops_show_what_lies_in_the_patch(ndim, lazy, amodal):
    mask = blobs(SHAPES[ndim], seed=3, count=12, apart=2)
    item = item_of(mask, SPACING[ndim])
    size = tuple(side // 2 for side in SHAPES[ndim])
    shown = cut = 0
    for start in [(0, 0, 0), (9, 5, 3), (12, 10, 9)]:
        start = start[:ndim]
        end = [a + n for a, n in zip(start, size, strict=True)]
        crop = SpatialCropd(KEYS, roi_start=start, roi_end=end)
        out = carried(item, crop, lazy=lazy, amodal=amodal, min_visible=0.3)
        window = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
        whole = lesions_from_mask(mask, spacing=SPACING[ndim])
        parts = [
            (lesion, crop_lesion(lesion, start, size, min_visible=0.3, keep_box=amodal))
            for lesion in whole
        ]
        expected = [pair for pair in parts if pair[1] is not None]
        assert len(out["lesions"]) == len(expected)
        for found, (old, part) in zip(out["lesions"], expected, strict=True):
            soft = on_image(old, mask.shape)[window]
            torch.testing.assert_close(on_image(found, size), soft)
            assert found.volume_mm3 == pytest.approx(part.volume_mm3, rel=1e-5)
            assert found.visible == pytest.approx(part.visible, rel=1e-5)
            torch.testing.assert_close(found.centre, part.centre, atol=1e-4, rtol=0)
            inside = (soft >= 0.5).any()
            box = part.box if amodal else core_box(soft, 0.5 if inside else soft.max() / 2)
            torch.testing.assert_close(found.box, box)
            shown, cut = shown + 1, cut + (part.volume_mm3 < 0.99 * old.volume_mm3)
    assert shown >= 5
    assert cut >= 2


@dimensions
def test_a_crop_and_a_pad_behind_it_give_what_the_crop_left(ndim):
    item = item_of(blobs(SHAPES[ndim], seed=3, count=12), SPACING[ndim])
    size = tuple(side // 2 for side in SHAPES[ndim])
    crop, pad = CenterSpatialCropd(KEYS, size), SpatialPadd(KEYS, SHAPES[ndim], method="end")
    cropped, padded = carried(item, crop, amodal=True), carried(item, crop, pad, amodal=True)
    assert len(cropped["lesions"]) == len(padded["lesions"]) > 0
    for a, b in zip(cropped["lesions"], padded["lesions"], strict=True):
        torch.testing.assert_close(a.crop, b.crop)
        assert a.volume_mm3 == pytest.approx(b.volume_mm3)
        assert a.visible == pytest.approx(b.visible)
        torch.testing.assert_close(a.box, b.box)


@both
def test_a_2d_image_with_monais_default_affine(lazy):
    mask = MetaTensor(blobs((40, 33))[None])
    assert mask.affine.shape == (4, 4)
    item = {"image": mask.clone(), "mask": mask}
    out = carried(item, Flipd(KEYS, 1), Rotate90d(KEYS, 1), lazy=lazy, amodal=True)
    check_moved(item, out, lambda x: x.flip(2).rot90(1, (1, 2)))


@both
def test_a_chain_is_inverted(lazy):
    item = item_of(blobs(SHAPES[2]), SPACING[2])
    chain = Compose(
        [LesionInstancesd(), Flipd(KEYS, 1), LesionsFromInstancesd()],
        lazy=lazy,
        overrides=LAZY_MODES if lazy else None,
    )
    back = chain.inverse(chain(item))
    assert set(back) == set(item)
    torch.testing.assert_close(back["mask"].as_tensor(), item["mask"].as_tensor())
