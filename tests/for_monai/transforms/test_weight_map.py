"""Where patches are sampled: every lesion is as likely to be seen."""

from __future__ import annotations

import pytest
import torch
from monai.transforms import Compose, RandWeightedCropd

from softoverlap.for_monai import LesionInstancesd, LesionsFromInstancesd, LesionWeightMapd
from tests.support.lesion_items import KEYS, item_of


def two_lesions():
    """A large lesion, and one of a voxel in a corner, where no patch can be centred."""
    mask = torch.zeros(40, 40)
    mask[18:30, 16:28] = 1
    mask[0, 38] = 1
    return LesionInstancesd()(item_of(mask))


def test_each_lesion_has_the_same_weight():
    item = two_lesions()
    weight = LesionWeightMapd()(item)["weight"][0]
    for number in (1, 2):
        assert weight[item["instances"][0] == number].sum().item() == pytest.approx(1)
    assert weight.sum().item() == pytest.approx(2)


def test_patches_show_the_large_lesion_as_often_as_the_small_one():
    size, count = (16, 16), 200
    steps = [
        LesionWeightMapd(spatial_size=size, shift=2),
        RandWeightedCropd(KEYS, "weight", size, num_samples=count),
        LesionsFromInstancesd(),
    ]
    chain = Compose(steps)
    chain.set_random_state(0)
    patches = chain(two_lesions())
    seen = [{round(lesion.volume_mm3) > 1 for lesion in patch["lesions"]} for patch in patches]
    assert all(seen)  # every patch shows a lesion
    small = sum(False in kinds for kinds in seen) / count
    assert 0.4 < small < 0.6


def test_every_patch_of_thick_slices_shows_a_lesion():
    mask = torch.zeros(60, 60, 20)
    mask[30:33, 20:23, 9:11] = 1
    size = (40, 40, 8)
    steps = [
        LesionWeightMapd(spatial_size=size, shift=[side // 4 for side in size]),
        RandWeightedCropd("mask", "weight", size, num_samples=50),
    ]
    chain = Compose(steps)
    chain.set_random_state(0)
    assert {patch["mask"].sum().item() for patch in chain(LesionInstancesd()(item_of(mask)))} == {
        18
    }
    too_large = LesionWeightMapd(spatial_size=size, shift=4)
    with pytest.raises(
        ValueError, match=r"shift must be less than half of the patch \(40, 40, 8\)"
    ):
        too_large(LesionInstancesd()(item_of(mask)))


def test_the_background_has_its_share():
    weight = LesionWeightMapd(background=0.25)(two_lesions())["weight"]
    assert weight.sum().item() == pytest.approx(2 / 0.75, rel=1e-4)
    assert weight.min().item() == pytest.approx(2 / 0.75 * 0.25 / 1600)
    assert (LesionWeightMapd(background=1)(two_lesions())["weight"] == 1).all()
    empty = LesionInstancesd()(item_of(torch.zeros(5, 6, 7)))
    assert (LesionWeightMapd()(empty)["weight"] == 1).all()


def test_a_patch_as_large_as_the_image_has_one_centre():
    weight = LesionWeightMapd(spatial_size=(40, -1))(two_lesions())["weight"][0]
    assert weight[20, 20].item() == pytest.approx(weight.sum().item()) == pytest.approx(2)


def test_a_lesion_that_resampling_left_no_voxel_has_its_weight_around():
    item = two_lesions()
    numbers = item["instances"].clone()
    numbers[numbers == 2] = -2
    weight = LesionWeightMapd()({**item, "instances": numbers})["weight"]
    assert weight.sum().item() == pytest.approx(2)
    assert weight[numbers == -2].sum().item() == pytest.approx(1)


def test_the_inverse_takes_the_map_out_and_bad_input_is_named():
    item = two_lesions()
    weigh = LesionWeightMapd()
    assert set(weigh.inverse(weigh(item))) == set(item)
    with pytest.raises(ValueError, match="must have the key 'instances'.*; LesionInstancesd makes"):
        weigh({})
    with pytest.raises(ValueError, match="background must lie in"):
        LesionWeightMapd(background=2)
