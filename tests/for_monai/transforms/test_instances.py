"""The instance map and the table: numbers, margins, raters, classes, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor

from softoverlap import lesions_from_mask
from softoverlap.for_monai import FuseRatersd, LesionInstancesd, LesionsFromInstancesd
from softoverlap.for_monai.transforms.surroundings import REACH, grown
from tests.support.lesion_items import blobs, item_of


def raters_of(*rows):
    """Raters' masks of one line of voxels, as an item in 2D."""
    line = torch.tensor(rows, dtype=torch.float32)
    return {"raters": MetaTensor(torch.nn.functional.pad(line[:, None], (0, 0, 2, 2)))}


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_table_says_what_lesions_from_mask_says(ndim):
    spacing = (0.5, 2.0, 1.5)[:ndim]
    item = item_of(blobs((20,) * ndim), spacing)
    table = LesionInstancesd()(item)["lesion_table"]
    lesions = lesions_from_mask(item["mask"][0].as_tensor(), spacing=spacing)
    affine = item["mask"].affine
    assert len(lesions) == len(table["label"]) > 2
    for row, lesion in enumerate(lesions):
        assert table["volume_mm3"][row].item() == pytest.approx(lesion.volume_mm3)
        torch.testing.assert_close(table["box"][row].float(), lesion.box)
        world = affine[:ndim, :ndim] @ (lesion.centre.double() - 0.5) + affine[:ndim, -1]
        torch.testing.assert_close(table["centre"][row], world)


def test_each_voxel_of_the_mask_belongs_to_its_lesion_or_to_none():
    mask = blobs((40, 40), count=12, apart=1, seed=4)
    mask[0, 38:] = 0.2  # positive, and connected to no lesion
    item = LesionInstancesd()(item_of(mask))
    numbers = item["instances"][0].as_tensor()
    assert numbers.dtype == torch.int32
    for number, lesion in enumerate(lesions_from_mask(mask, spacing=[1.0, 1.0]), start=1):
        own = numbers.abs() == number
        assert mask[own].sum().item() == pytest.approx(lesion.crop.sum().item(), rel=1e-5)
        assert (mask[numbers == number] >= 0.5).all()
        places = own.nonzero()
        low, _ = lesion.box.long().split(2)
        assert (places.amin(0) <= (low - REACH).clamp(min=0)).any()
    assert (numbers[0, 38:] == 0).all()


def test_margins_go_to_the_nearest_lesion_in_mm():
    owned = np.zeros((1, 8), dtype=np.int32)
    owned[0, 0], owned[0, 5] = 1, 2
    found = grown(owned, np.zeros_like(owned, dtype=bool), np.array([1.0, 1.0]))
    assert found.tolist() == [[1, 1, 1, 2, 2, 2, 2, 2]]
    grid = np.zeros((7, 7), dtype=np.int32)
    grid[0, 3], grid[3, 0] = 1, 2  # the voxel between is nearer to the first if rows are thin
    thin = grown(grid, grid < 0, np.array([0.5, 1.0]))
    thick = grown(grid, grid < 0, np.array([2.0, 1.0]))
    assert (thin[2, 2], thick[2, 2]) == (1, 2)


def test_existence_is_the_share_of_raters_that_touch_a_lesion():
    item = raters_of([1, 1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0])
    found = LesionInstancesd(raters_key="raters")(FuseRatersd()(item))
    assert found["lesion_table"]["existence"].tolist() == pytest.approx([1, 1 / 3])
    target = LesionsFromInstancesd()(found)
    assert target["boxes"].tolist() == [[2, 0, 3, 2], [2, 5, 3, 6]]  # of the union, not of ≥ 0.5
    assert [lesion.existence for lesion in target["lesions"]] == pytest.approx([1, 1 / 3])


def test_a_bridge_between_lesions_is_told():
    item = raters_of([1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 0, 0, 0])
    fused = FuseRatersd()(item)
    with pytest.warns(UserWarning, match=r"item\['raters'\]: in 1 lesions one rater joined"):
        found = LesionInstancesd(raters_key="raters")(fused)
    assert found["lesion_table"]["existence"].tolist() == [1]


def test_a_lesion_without_mass_is_left_out():
    item = raters_of([1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 0, 0, 1])
    found = LesionInstancesd(raters_key="raters")(FuseRatersd(method="majority")(item))
    assert found["lesion_table"]["volume_mm3"].tolist() == [2]
    assert found["instances"].max() == 1


def test_classes_that_touch_are_lesions_of_their_own():
    item = item_of(torch.tensor([[0.25, 1, 1, 1, 0, 0, 1, 1]]).repeat(2, 1))
    classes = torch.tensor([[[0, 1, 2, 0, 0, 0, 3, 1]]]).repeat(1, 2, 1)
    find = LesionInstancesd(classes_key="classes")
    found = find({**item, "classes": classes})
    assert found["lesion_table"]["label"].tolist() == [0, 0, 1, 2]
    assert found["lesion_table"]["volume_mm3"].tolist() == [2.5, 2, 4, 2]
    assert found["instances"][0, 0].tolist() == [-1, 1, 3, 3, -3, -4, 4, 2]
    mask = item["mask"].as_tensor()
    other = mask * torch.tensor([1, 1, 0, 0, 1, 1, 1, 1])  # who saw no lesion of the second class
    raters = torch.cat([mask, other])
    find_of_raters = LesionInstancesd(raters_key="raters", classes_key="classes")
    table = find_of_raters({**item, "classes": classes, "raters": raters})["lesion_table"]
    assert table["existence"].tolist() == [1, 1, 0.5, 1]


def test_a_lesion_must_have_a_class():
    item = item_of(torch.ones(2, 8))
    find = LesionInstancesd(classes_key="classes")
    with pytest.raises(ValueError, match=r"item\['classes'\] must have a class in each lesion"):
        find({**item, "classes": torch.zeros(1, 2, 8)})
    with pytest.raises(ValueError, match=r"item\['classes'\] must hold whole numbers"):
        find({**item, "classes": torch.full((1, 2, 8), 0.5)})


def test_settings_are_those_of_lesions_from_mask():
    mask = torch.tensor([[0.3, 0.9, 0.3, 0, 0, 0, 0.6, 0.1]])
    settings = {"threshold": 0.55, "low": 0.2, "halo": 0.15, "connectivity": 4, "min_mm3": 1.0}
    found = LesionInstancesd(**settings)(item_of(mask))["lesion_table"]
    (lesion,) = lesions_from_mask(mask, spacing=[1.0, 1.0], **settings)
    assert found["volume_mm3"].tolist() == pytest.approx([lesion.volume_mm3])
    assert found["box"].tolist() == [lesion.box.tolist()]


@pytest.mark.parametrize("ndim", [2, 3])
def test_an_empty_mask_gives_an_empty_target(ndim):
    item = LesionInstancesd()(item_of(torch.zeros((6,) * ndim)))
    out = LesionsFromInstancesd(amodal=True)(item)
    assert out["boxes"].shape == (0, 2 * ndim)
    assert out["labels"].shape == (0,)
    assert out["lesions"] == []


def test_a_2d_image_may_have_an_affine_of_three_world_axes():
    affine = torch.eye(4, dtype=torch.float64)
    affine[:3, 0], affine[:3, 1] = torch.tensor([0, 2.0, 0]), torch.tensor([0, 0, 3.0])
    mask = MetaTensor(blobs((20, 20))[None], affine=affine)
    found = LesionInstancesd()({"mask": mask})
    lesions = lesions_from_mask(mask[0].as_tensor(), spacing=[2.0, 3.0])
    volumes = [lesion.volume_mm3 for lesion in lesions]
    assert found["lesion_table"]["volume_mm3"].tolist() == pytest.approx(volumes)
    out = LesionsFromInstancesd(amodal=True)(found)
    torch.testing.assert_close(out["boxes"], torch.stack([lesion.box for lesion in lesions]))


def test_the_inverse_takes_out_what_was_put_in():
    item = item_of(blobs((16, 16)))
    find, read = LesionInstancesd(), LesionsFromInstancesd()
    assert set(find.inverse(read.inverse(read(find(item))))) == set(item)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"mask": None}, TypeError, r"item\['mask'\] must be a torch.Tensor"),
        ({"mask": torch.zeros(8, 8)}, ValueError, r"item\['mask'\] must have shape \(1, "),
        ({"mask": torch.zeros(2, 8, 8)}, ValueError, r"item\['mask'\] must have shape \(1, "),
        ({"mask": torch.full((1, 8, 8), torch.nan)}, ValueError, r"item\['mask'\] .* got NaN"),
        ({"mask": torch.full((1, 8, 8), 1.5)}, ValueError, r"item\['mask'\] must hold prob"),
        ({"raters": torch.zeros(2, 8, 7)}, ValueError, r"item\['raters'\] must have the spatial"),
        ({"raters": torch.full((2, 8, 8), -1.0)}, ValueError, r"item\['raters'\] must hold prob"),
    ],
)
def test_bad_items_are_refused_by_key(change, kind, message):
    item = {"mask": torch.zeros(1, 8, 8), "raters": torch.zeros(2, 8, 8), **change}
    with pytest.raises(kind, match=message):
        LesionInstancesd(raters_key="raters")(item)


@pytest.mark.bad_input
def test_missing_keys_are_named():
    with pytest.raises(ValueError, match=r"must have the key 'mask', got \['image'\]; FuseRatersd"):
        LesionInstancesd()({"image": torch.zeros(1, 8, 8)})
    with pytest.raises(ValueError, match="must have the key 'instances'.*; LesionInstancesd makes"):
        LesionsFromInstancesd()({"mask": torch.zeros(1, 8, 8)})
    found = LesionInstancesd()({"mask": torch.zeros(1, 8, 8)})
    with pytest.raises(ValueError, match="must have the key 'lesion_table'"):
        LesionsFromInstancesd()({key: found[key] for key in ("mask", "instances")})
    with pytest.raises(TypeError, match=r"item\['lesion_table'\] must be a table of LesionInst"):
        LesionsFromInstancesd()({**found, "lesion_table": []})
    with pytest.raises(TypeError, match=r"item\['instances'\] must be a MetaTensor"):
        LesionsFromInstancesd()({**found, "instances": found["instances"].as_tensor()})
    with pytest.raises(ValueError, match="min_visible must lie in"):
        LesionsFromInstancesd(min_visible=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 0}, "threshold must lie in"),
        ({"low": 0.7}, "low must lie in"),
        ({"halo": 0.6}, "halo must lie in"),
        ({"min_mm3": -1}, "min_mm3 must be at least 0"),
    ],
)
def test_settings_out_of_range_are_refused_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        LesionInstancesd(**settings)


@pytest.mark.bad_input
def test_a_mask_elsewhere_than_the_map_is_refused():
    found = LesionInstancesd()(item_of(torch.zeros(6, 6, 6)))
    shifted = found["mask"].affine.clone()
    shifted[0, 3] += 2
    moved = MetaTensor(found["mask"].as_tensor(), affine=shifted)
    with pytest.raises(ValueError, match=r"must lie where item\['mask'\] does, got .* 2 mm apart"):
        LesionsFromInstancesd()({**found, "mask": moved})
