"""Batches of items with lesions: loaders, decollation, caches."""

from __future__ import annotations

import pickle
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from monai.data import (
    CacheDataset,
    DataLoader,
    MetaTensor,
    PersistentDataset,
    decollate_batch,
)
from monai.transforms import Compose, Flipd, RandSpatialCropSamplesd

from softoverlap.for_monai import (
    LesionInstancesd,
    LesionsFromInstancesd,
    LesionWeightMapd,
    PerItem,
    lesion_collate,
)
from softoverlap.lesion import Lesion
from tests.support.lesion_items import KEYS, blobs, item_of

ITEMS = [item_of(blobs((24, 24), seed=seed)) | {"name": f"scan {seed}"} for seed in range(2)]
ITEMS += [item_of(torch.zeros(24, 24)) | {"name": "empty"}]


def read(items):
    chain = Compose([LesionInstancesd(), LesionsFromInstancesd()])
    return [chain(item) for item in items]


def test_images_are_stacked_and_targets_stay_lists():
    items = read(ITEMS)
    batch = lesion_collate(items)
    assert batch["image"].shape == batch["mask"].shape == (3, 1, 24, 24)
    assert [len(boxes) for boxes in batch["boxes"]] == [len(item["boxes"]) for item in items]
    assert batch["name"] == ["scan 0", "scan 1", "empty"]
    assert isinstance(batch["lesion_table"][0], dict)
    assert all(isinstance(lesion, Lesion) for lesions in batch["lesions"] for lesion in lesions)


@pytest.mark.parametrize("detach", [True, False])
def test_monais_decollation_gives_the_items_back(detach):
    items = read(ITEMS)
    back = decollate_batch(lesion_collate(items), detach=detach)
    assert len(back) == 3
    for old, new in zip(items, back, strict=True):
        assert set(old) == set(new)
        torch.testing.assert_close(new["image"].as_tensor(), old["image"].as_tensor())
        torch.testing.assert_close(new["image"].affine, old["image"].affine)
        torch.testing.assert_close(new["boxes"], old["boxes"])
        assert new["labels"].tolist() == old["labels"].tolist()
        assert new["lesions"] == old["lesions"]
        assert new["name"] == old["name"]
    again = LesionsFromInstancesd()(back[0])
    torch.testing.assert_close(again["boxes"], items[0]["boxes"])


def test_images_of_different_shapes_stay_a_list():
    items = read([ITEMS[0], item_of(blobs((20, 24))) | {"name": "other"}])
    batch = lesion_collate(items)
    assert [tuple(image.shape) for image in batch["image"]] == [(1, 24, 24), (1, 20, 24)]
    assert tuple(decollate_batch(batch)[1]["image"].shape) == (1, 20, 24)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_of_several_patches_an_image(workers):
    steps = [
        LesionInstancesd(),
        LesionWeightMapd(),
        RandSpatialCropSamplesd([*KEYS, "weight"], (16, 16), num_samples=2, random_size=False),
        Flipd(KEYS, 0),
        LesionsFromInstancesd(),
    ]
    data = CacheDataset(ITEMS, Compose(steps), progress=False, num_workers=0)
    loader = DataLoader(data, batch_size=3, collate_fn=lesion_collate, num_workers=workers)
    (batch,) = list(loader)
    assert batch["image"].shape == (6, 1, 16, 16)
    assert len(batch["boxes"]) == len(batch["lesions"]) == 6


def test_the_table_is_kept_on_the_disk(tmp_path):
    chain = Compose([LesionInstancesd(), LesionsFromInstancesd()])
    kept = {"cache_dir": tmp_path, "track_meta": True, "weights_only": False}
    data = PersistentDataset(ITEMS[:1], Compose([LesionInstancesd()]), **kept)
    first, second = data[0], data[0]
    expected = chain(ITEMS[0])["boxes"]
    for found in (first, second):
        torch.testing.assert_close(LesionsFromInstancesd()(found)["boxes"], expected)


@pytest.mark.bad_input
def test_what_is_no_batch_is_refused():
    with pytest.raises(ValueError, match="at least one item"):
        lesion_collate([])
    with pytest.raises(TypeError, match="must hold dictionaries, got Tensor"):
        lesion_collate([torch.zeros(1)])
    with pytest.raises(ValueError, match="items with the same keys"):
        lesion_collate([{"a": 1}, {"b": 1}])


def test_a_batch_goes_from_a_process_to_another_as_it_is():
    """Small tensors go by value; large and other ones as torch sends them."""
    lesion = read(ITEMS)[0]["lesions"][0]
    values = PerItem(
        [
            [lesion],
            torch.zeros(0, 4),
            torch.rand(200, 200),
            torch.ones(2, dtype=torch.bfloat16),
            {"affine": MetaTensor(torch.eye(3))},
            torch._neg_view(torch.rand(3)),
        ]
    )
    taken = pickle.loads(ForkingPickler.dumps(values))
    assert type(taken) is PerItem
    for name in ("box", "crop", "offset", "centre"):
        assert torch.equal(getattr(taken[0][0], name), getattr(lesion, name))
    taken[0][0].crop.add_(1)  # their own
    assert all(torch.equal(one, other) for one, other in zip(taken[1:4], values[1:4], strict=True))
    assert [each.dtype for each in taken[1:4]] == [each.dtype for each in values[1:4]]
    assert torch.equal(taken[4]["affine"].affine, values[4]["affine"].affine)
    assert torch.equal(taken[5], values[5])
    sparse = pickle.loads(ForkingPickler.dumps(PerItem([torch.eye(2).to_sparse()])))
    assert torch.equal(sparse[0].to_dense(), torch.eye(2))


def test_lesions_of_a_loaders_worker_need_no_files():
    """Each tensor that is shared is opened in the process that takes it, at a cost of its own."""
    batch = lesion_collate(read(ITEMS))
    assert sum(map(len, batch["lesions"])) > 1
    assert b"rebuild_storage" not in bytes(ForkingPickler.dumps(batch["lesions"]))
