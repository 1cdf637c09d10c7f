"""The trainers' losses and steps: on labels nnU-Net's own, and right where raters differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import multiprocessing

from tests.support.nnunet_makers import (
    CLASSES,
    KINDS,
    label_maps,
    logits,
    loss_and_gradients,
    targets,
    trainer,
)
from tests.support.nnunet_ranks import rank_losses

pytest.importorskip("nnunetv2", reason="nnU-Net is not installed: `make nnunet` sets it up")

from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from softoverlap.for_nnunet.losses import shares_of_raters
from softoverlap.for_nnunet.trainers import (
    nnUNetTrainerLesionwise,
    nnUNetTrainerSoftDiceCE,
    nnUNetTrainerSoftRaters,
)

BOTH = (nnUNetTrainer, nnUNetTrainerSoftDiceCE)
OURS = (nnUNetTrainerSoftDiceCE, nnUNetTrainerSoftRaters)
CLOSE = {"rtol": 0, "atol": 2e-5}
kinds = pytest.mark.parametrize("labels", KINDS.values(), ids=KINDS)


@kinds
@pytest.mark.parametrize("batch", [True, False], ids=["of the batch", "of each item"])
def test_on_labels_loss_and_gradient_are_nnunets_own(labels, batch):
    theirs, ours = (
        trainer(c, labels, batch=batch) for c in (nnUNetTrainer, nnUNetTrainerSoftDiceCE)
    )
    maps = label_maps(labels)
    outputs, truth = logits(ours, maps), targets(ours, maps)
    expected, slopes = loss_and_gradients(theirs, outputs, truth)
    loss, found = loss_and_gradients(ours, outputs, truth)
    torch.testing.assert_close(loss, expected, **CLOSE)
    for ours_slope, their_slope in zip(found, slopes, strict=True):
        torch.testing.assert_close(ours_slope, their_slope, **CLOSE)


@kinds
def test_on_one_resolution_the_loss_is_nnunets_own(labels):
    theirs, ours = (trainer(kind, labels, supervised=False) for kind in BOTH)
    maps = label_maps(labels)
    output, truth = logits(ours, maps)[0], targets(ours, maps)[0]
    torch.testing.assert_close(ours.loss(output, truth), theirs.loss(output, truth), **CLOSE)


@pytest.mark.parametrize("name", ["classes, some ignored", "regions, some ignored"])
def test_a_patch_that_nobody_looked_at_has_nnunets_loss_and_no_gradient(name):
    labels = KINDS[name]
    theirs, ours = (trainer(kind, labels) for kind in BOTH)
    maps = [torch.full_like(each, 3) for each in label_maps(labels)]
    outputs, truth = logits(ours, maps), targets(ours, maps)
    loss, slopes = loss_and_gradients(ours, outputs, truth)
    torch.testing.assert_close(loss, theirs.loss(outputs, truth).detach(), **CLOSE)
    assert all(bool((slope == 0).all()) for slope in slopes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_logits_of_half_precision_are_summed_in_float32(dtype):
    ours = trainer(nnUNetTrainerSoftDiceCE, CLASSES)
    maps = label_maps(CLASSES)
    halves = [each.detach().to(dtype).requires_grad_() for each in logits(ours, maps)]
    loss, slopes = loss_and_gradients(ours, halves, targets(ours, maps))
    expected = ours.loss([each.float() for each in halves], targets(ours, maps))
    torch.testing.assert_close(loss, expected.detach(), rtol=0, atol=1e-6)
    assert all(slope.dtype == dtype and bool(slope.isfinite().all()) for slope in slopes)


def test_batch_dice_is_of_all_ranks_as_nnunets_is(tmp_path):
    multiprocessing.spawn(rank_losses, args=(str(tmp_path),), nprocs=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        (alone, _), (loss, slopes) = (
            found["nnUNetTrainerSoftDiceCE", all] for all in (False, True)
        )
        expected, their_slopes = found["nnUNetTrainer", True]
        torch.testing.assert_close(loss, expected, **CLOSE)
        assert abs(loss - alone) > 1e-3
        for ours, theirs in zip(slopes, their_slopes, strict=True):
            torch.testing.assert_close(ours, theirs, **CLOSE)


def test_the_loss_is_compiled_where_nnunet_compiles_its_own(monkeypatch):
    plain = trainer(nnUNetTrainerSoftDiceCE, CLASSES, supervised=False)
    monkeypatch.setattr(nnUNetTrainer, "_do_i_compile", lambda self: True)
    compiled = trainer(nnUNetTrainerSoftDiceCE, CLASSES, supervised=False)
    assert compiled.loss.loss._compiled_call_impl is not None
    assert plain.loss.loss._compiled_call_impl is None
    maps = label_maps(CLASSES)
    output, truth = logits(plain, maps)[0], maps[0]
    with torch.compiler.set_stance("force_eager"):
        torch.testing.assert_close(compiled.loss(output, truth), plain.loss(output, truth))


def certain(made, marked):
    """Logits that are sure of label 2, which lies in both regions, where it is marked."""
    if made.label_manager.has_regions:
        return torch.where(marked, 8.0, -8.0).repeat(1, 2, 1, 1, 1)
    classes = torch.cat([~marked, torch.zeros_like(marked), marked], dim=1)
    return torch.where(classes, 8.0, -8.0)


@kinds
def test_a_small_lesion_that_is_missed_costs_the_lesionwise_loss_far_more(labels):
    large, both = (torch.zeros(2, 1, 16, 16, 16, dtype=torch.bool) for _ in range(2))
    large[..., 1:9, 1:9, 1:9] = both[..., 1:9, 1:9, 1:9] = both[..., 12:14, 12:14, 12:14] = True
    costs = []
    for kind in (nnUNetTrainer, nnUNetTrainerLesionwise):
        made = trainer(kind, labels, supervised=False)
        (truth,) = targets(made, [2 * both.short()])
        found, missed = (made.loss(certain(made, each), truth) for each in (both, large))
        costs.append(float(missed - found))
    assert costs[1] > 5 * costs[0] > 0


@kinds
def test_without_a_lesion_in_the_patch_the_lesionwise_loss_is_nnunets_own(labels):
    theirs, ours = (
        trainer(kind, labels, supervised=False) for kind in (nnUNetTrainer, nnUNetTrainerLesionwise)
    )
    maps = [torch.zeros_like(label_maps(labels)[0])]
    (output, _, _), (truth,) = logits(ours, label_maps(labels)), targets(ours, maps)
    torch.testing.assert_close(ours.loss(output, truth), theirs.loss(output, truth), **CLOSE)


def test_the_share_of_raters_is_of_those_who_looked():
    maps = torch.tensor([[[0, 1, 2, 3]], [[0, 2, 2, 3]], [[1, 3, 2, 3]]]).movedim(1, 0)
    shares, counted = shares_of_raters(maps, [(0,), (1, 2), (2,)], ignore_label=3)
    third = 1 / 3
    expected = torch.tensor([[2 * third, 0, 0, 0], [third, 1, 1, 0], [0, 0.5, 1, 0]])
    torch.testing.assert_close(shares, expected[None])
    assert counted.tolist() == [[[True, True, True, False]]]


@kinds
def test_raters_who_agree_are_one_rater(labels):
    one, several = (trainer(kind, labels) for kind in OURS)
    maps = label_maps(labels)
    outputs = logits(one, maps)
    fused = several._fused([each.expand(-1, 4, -1, -1, -1) for each in maps])
    expected = one.loss(outputs, targets(one, maps))
    torch.testing.assert_close(several.loss(outputs, fused), expected, rtol=0, atol=1e-6)


def test_the_loss_is_least_at_the_share_of_raters():
    several = trainer(nnUNetTrainerSoftRaters, CLASSES, supervised=False)
    fused = several._fused(label_maps(CLASSES, raters=3)[0])
    at_target = several.loss(fused.log().clamp(min=-30), fused)
    draw = torch.Generator().manual_seed(0)
    for scale in (0.01, 0.1, 1.0):
        moved = fused + scale * torch.rand(fused.shape, generator=draw)
        assert several.loss((moved / moved.sum(dim=1, keepdim=True)).log(), fused) > at_target


@kinds
def test_the_counts_of_the_pseudo_dice_are_means_over_raters(labels):
    one, several = (trainer(kind, labels) for kind in OURS)
    maps = label_maps(labels, raters=3)
    for each in maps:
        each[each[:, :1].expand_as(each) == 3] = 3  # all raters look at the same voxels
        each[(each[:, :1].expand_as(each) != 3) & (each == 3)] = 0
    outputs = [each.detach() for each in logits(one, maps)]
    data = torch.zeros(1)
    one.network = several.network = lambda _: outputs
    found = several.validation_step({"data": data, "target": maps})
    of_each = [
        one.validation_step(
            {"data": data, "target": targets(one, [m[:, k : k + 1].clone() for m in maps])}
        )
        for k in range(3)
    ]
    for name in ("tp_hard", "fp_hard", "fn_hard"):
        expected = sum(counts[name] for counts in of_each) / 3
        assert found[name] == pytest.approx(expected, rel=1e-5)
    assert found["loss"] == several.loss(outputs, several._fused(maps)).numpy()


@pytest.mark.parametrize("part", ["training", "validation"])
def test_raters_are_not_made_regions_before_they_are_fused(part, monkeypatch):
    asked = {}
    name = f"get_{part}_transforms"
    monkeypatch.setattr(nnUNetTrainer, name, staticmethod(lambda *a, **k: asked.update(k)))
    getattr(nnUNetTrainerSoftRaters, name)(None, regions=[(1, 2)], ignore_label=3)
    assert asked == {"ignore_label": 3}


def test_raters_are_resampled_each_by_itself():
    first, second = (label_maps(CLASSES, seed=seed)[0][0].float().numpy() for seed in (0, 1))
    new = {"new_shape": (6, 12, 9), "current_spacing": (1, 1, 1), "new_spacing": (1.3, 0.7, 0.9)}
    both = resample_data_or_seg_to_shape(
        np.concatenate([first, second]), **new, is_seg=True, order=1
    )
    for map, rater in zip(both, (first, second), strict=True):
        np.testing.assert_array_equal(
            map, resample_data_or_seg_to_shape(rater, **new, is_seg=True, order=1)[0]
        )


def test_raters_are_augmented_alike():
    scales = [[1, 1, 1], [0.5, 0.5, 0.5]]
    augment = nnUNetTrainerSoftRaters.get_training_transforms(
        (12, 12, 12), (-3.0, 3.0), scales, (0, 1, 2), False, regions=[(1, 2)], ignore_label=3
    )
    one = label_maps(CLASSES, size=16)[0][0]
    other = (one > 0).to(one.dtype)
    for seed in range(8):
        np.random.seed(seed)  # noqa: NPY002 (nnU-Net draws from it)
        torch.manual_seed(seed)
        image = torch.zeros(1, 16, 16, 16)
        found = augment(image=image, segmentation=torch.cat([one, other, one]))["segmentation"]
        assert [tuple(maps.shape) for maps in found] == [(3, 12, 12, 12), (3, 6, 6, 6)]
        assert all(bool((maps[0] == maps[2]).all()) for maps in found)
        assert bool((found[0][0] != one[0, 2:14, 2:14, 2:14]).any())
        assert found[0][1].unique().tolist() == [0, 1]


def test_raters_are_refused_in_a_cascade():
    several = trainer(nnUNetTrainerSoftRaters, CLASSES)
    several.is_cascaded, several.configuration_name = True, "3d_fullres"
    with pytest.raises(ValueError, match="without a previous stage, got 3d_fullres"):
        several.initialize()
