"""Losses lesion by lesion: two published ones, what every one promises, and both paths."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from monai.bundle import ConfigParser

from softoverlap.lesion_losses import (
    LesionCells,
    LesionwiseSoftLoss,
    OthersMasked,
    lesion_regions,
    weigh_by_existence,
    weigh_by_volume,
)
from softoverlap.losses import (
    SoftCalibrationLoss,
    SoftDiceCELoss,
    SoftDiceLoss,
    SoftIoULoss,
    SoftTverskyLoss,
)
from tests.support.reference_lesionwise import reference_blob_loss, reference_cc_dice_ce

SHAPE = (7, 6, 5)
DIAGONAL = 11


def lesions(*channels, seed=0):
    """Hard masks: a lesion of a voxel, two that touch by a corner, a large one, one at an edge."""
    mask = torch.zeros(SHAPE, dtype=torch.float64)
    mask[0, 0, 0] = mask[5, 5, 1] = mask[6, 4, 2] = 1
    mask[1:4, 2:5, 1:4] = 1
    mask[3:, 0, 4] = 1
    turned = [mask.flip(seed % 3), mask.flip((seed + 1) % 3)][: channels[0]]
    return torch.stack(turned * channels[1]).view(channels[0], channels[1], *SHAPE)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def soft(target, seed=1):
    """Like the target, with a soft edge and probabilities below 1."""
    kernel = torch.ones(1, 1, 3, 3, 3, dtype=torch.float64) / 27
    smooth = F.conv3d(target.flatten(0, 1)[:, None], kernel, padding=1).view(target.shape)
    return 0.6 * target + 0.3 * smooth


def test_with_whole_cells_it_is_cc_dice_ce():
    logits, target = 3 * drawn(2, 1, *SHAPE), lesions(2, 1)
    loss = LesionwiseSoftLoss(SoftDiceCELoss(sigmoid=True), LesionCells(DIAGONAL))
    expected = reference_cc_dice_ce(logits[:, 0].numpy(), target[:, 0].numpy())
    assert loss(logits, target).item() == pytest.approx(expected, abs=1e-6)


def test_two_logits_of_a_softmax_are_one_of_a_sigmoid():
    logits, target = 3 * drawn(2, 2, *SHAPE), lesions(2, 1)
    options = {"include_background": False, "softmax": True, "to_onehot_y": True}
    loss = LesionwiseSoftLoss(SoftDiceCELoss(**options), LesionCells(DIAGONAL))
    difference = (logits[:, 1:] - logits[:, :1])[:, 0]
    expected = reference_cc_dice_ce(difference.numpy(), target[:, 0].numpy())
    assert loss(logits, target.long()).item() == pytest.approx(expected, abs=1e-6)


def test_with_the_others_masked_it_is_blob_loss():
    logits, target = 3 * drawn(2, 1, *SHAPE), lesions(2, 1)
    loss = LesionwiseSoftLoss(
        SoftDiceLoss(sigmoid=True), OthersMasked(), lambda_global=2.0, lambda_lesions=0.5
    )
    expected = reference_blob_loss(
        logits.sigmoid()[:, 0].numpy(), target[:, 0].numpy(), alpha=2.0, beta=0.5
    )
    assert loss(logits, target).item() == pytest.approx(expected, abs=1e-6)


def cases():
    """Losses, and how many channels they take, with a target that each of them takes."""
    masks = soft(lesions(2, 2))
    labels = (lesions(2, 1) + lesions(2, 1, seed=1)).long()
    for view in (LesionCells(2), OthersMasked()):
        for make in (SoftDiceLoss, SoftIoULoss, SoftTverskyLoss):
            yield view, make(sigmoid=True), 2, masks
        yield view, SoftDiceLoss(sigmoid=True, intersection="product"), 2, masks
        yield view, SoftDiceLoss(sigmoid=True, squared_pred=True, weight=(0.3, 2.0)), 2, masks
        yield view, SoftDiceLoss(softmax=True, to_onehot_y=True), 3, labels
        yield view, SoftDiceCELoss(sigmoid=True), 1, masks[:, :1]
        yield view, SoftDiceCELoss(sigmoid=True, cross_entropy="regions"), 2, masks
        part = {"softmax": True, "include_background": False, "to_onehot_y": True}
        yield view, SoftDiceCELoss(**part), 3, labels
        yield view, SoftDiceCELoss(**part, cross_entropy="regions"), 3, labels
        yield view, SoftDiceCELoss(softmax=True, lambda_ce=0.3), 2, masks / 2


CASES = list(cases())
every = pytest.mark.parametrize(("view", "part", "channels", "target"), CASES)


@every
def test_a_lesion_that_sees_all_of_the_image_has_the_loss_of_the_image(
    view, part, channels, target
):
    logits = drawn(2, channels, *SHAPE).requires_grad_()
    regions = torch.ones(2, 1, *SHAPE)
    if isinstance(view, OthersMasked):
        regions[..., 2:] = 0
    loss = LesionwiseSoftLoss(part, view, weigh_by_volume, lambda_global=0)
    found, expected = loss(logits, target, regions), part(logits, target)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    gradients = (torch.autograd.grad(each, logits)[0] for each in (found, expected))
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-12)


def test_its_global_part_sums_over_the_batch_if_the_loss_does():
    logits, target = drawn(2, 1, *SHAPE), lesions(2, 1)
    one, other = (SoftDiceLoss(sigmoid=True, batch=batch) for batch in (True, False))
    of_one, of_other = (LesionwiseSoftLoss(part)(logits, target) for part in (one, other))
    torch.testing.assert_close(of_one - one(logits, target), of_other - other(logits, target))


@every
def test_its_global_part_is_the_loss_itself(view, part, channels, target):
    logits = drawn(2, channels, *SHAPE)
    alone = LesionwiseSoftLoss(part, view, lambda_lesions=0)
    torch.testing.assert_close(alone(logits, target), part(logits, target))


@pytest.mark.parametrize("part", [SoftDiceLoss(sigmoid=True), SoftDiceCELoss(sigmoid=True)])
def test_gradcheck_of_first_and_second_derivatives(part):
    logits, target = drawn(1, 1, 4, 4, 3), soft(lesions(1, 1))[..., :4, :4, :3]
    loss = LesionwiseSoftLoss(part, LesionCells(1), lambda_false=0.5, false_volume=3)
    regions = loss.view.regions(target)
    assert torch.autograd.gradcheck(lambda x: loss(x, target, regions), logits.requires_grad_())
    assert torch.autograd.gradgradcheck(lambda x: loss(x, target, regions), logits)


@pytest.mark.parametrize("view", [LesionCells(2), OthersMasked()])
def test_the_gradient_ends_at_the_target_also_where_that_is_soft(view):
    target = soft(lesions(2, 1))
    loss = LesionwiseSoftLoss(SoftDiceCELoss(sigmoid=True), view, lambda_false=1)
    logits = target.clamp(1e-9, 1 - 1e-9).logit()
    least = loss(logits, target)
    for seed in range(5):
        assert loss(logits + 0.3 * drawn(2, 1, *SHAPE, seed=seed), target) > least
    plain = LesionwiseSoftLoss(SoftDiceLoss(), view, lambda_false=1)
    assert plain(target, target).item() == pytest.approx(0, abs=1e-12)


def test_numbers_of_lesions_mean_nothing_and_may_have_gaps():
    logits, target = drawn(2, 1, *SHAPE), lesions(2, 1)
    loss = LesionwiseSoftLoss(SoftDiceCELoss(sigmoid=True), LesionCells(2), weigh_by_volume)
    regions = loss.view.regions(target)
    table = torch.tensor([0, 31, 4, 17, 9, 12])
    renumbered = table[regions.long()]
    torch.testing.assert_close(loss(logits, target, renumbered), loss(logits, target))
    as_float = renumbered.to(torch.float32)  # as MONAI's transforms return it
    torch.testing.assert_close(loss(logits, target, as_float), loss(logits, target))


@pytest.mark.parametrize("axis", [2, 3, 4])
def test_a_flip_changes_nothing(axis):
    logits, target = drawn(2, 1, *SHAPE), soft(lesions(2, 1))
    loss = LesionwiseSoftLoss(SoftDiceCELoss(sigmoid=True), LesionCells(2), lambda_false=1)
    regions = loss.view.regions(target)
    flipped = loss(*(each.flip(axis) for each in (logits, target, regions)))
    torch.testing.assert_close(flipped, loss(logits, target, regions))


def test_items_without_lesions_have_the_global_part_alone():
    logits, target = drawn(3, 1, *SHAPE), torch.cat([lesions(2, 1), lesions(1, 1) * 0])
    part = SoftDiceCELoss(sigmoid=True)
    loss = LesionwiseSoftLoss(part, LesionCells(2), lambda_global=0)
    torch.testing.assert_close(loss(logits, target), loss(logits[:2], target[:2]))
    nothing = logits[2:].requires_grad_()
    assert loss(nothing, target[2:]).item() == 0
    assert torch.autograd.grad(loss(nothing, target[2:]), nothing)[0].eq(0).all()
    torch.testing.assert_close(
        LesionwiseSoftLoss(part)(nothing, target[2:]), part(nothing, target[2:])
    )


def test_a_small_lesion_counts_as_much_as_a_large_one():
    target = lesions(1, 1)
    regions = lesion_regions(target[0, 0], reach=1)[None, None]
    loss = LesionwiseSoftLoss(SoftDiceLoss(), LesionCells(1), lambda_global=0)
    for number in range(1, 5):
        missed = target * (regions != number)
        assert loss(missed, target, regions).item() == pytest.approx(1 / 4, abs=1e-5)


def test_lesions_weigh_by_volume_or_existence():
    target = torch.zeros(1, 1, 30, dtype=torch.float64)
    target[..., 2:8], target[..., 20:22] = 1.0, 0.5
    missed = target * (torch.arange(30) < 15)
    for weight, share in ((None, 1 / 2), (weigh_by_volume, 1 / 7), (weigh_by_existence, 1 / 3)):
        loss = LesionwiseSoftLoss(SoftDiceLoss(), LesionCells(3), weight, lambda_global=0)
        assert loss(missed, target).item() == pytest.approx(share, abs=1e-4)


def test_false_lesions_cost_what_their_mass_says_with_or_without_true_ones():
    target = torch.zeros(1, 1, 40, dtype=torch.float64)
    target[..., 2:5] = 1
    pred = target.clone()
    pred[..., 20:25] = 0.8
    loss = LesionwiseSoftLoss(
        SoftDiceLoss(), LesionCells(3), lambda_lesions=0, lambda_global=0, lambda_false=2,
        false_volume=4,
    )  # fmt: skip
    expected = 2 * torch.tensor(2.0, dtype=torch.float64).log()
    torch.testing.assert_close(loss(pred, target), expected)
    torch.testing.assert_close(loss(pred - target, 0 * target), expected)


def test_the_size_of_a_lesion_is_the_sum_of_its_target_in_every_form():
    target, seen = torch.full((1, 1, 6), 0.5), []
    for options in ({}, {"intersection": "product"}, {"squared_pred": True}):
        part = SoftDiceLoss(**options)
        LesionwiseSoftLoss(part, weight=lambda size, peak: seen.append(size) or size)(
            target, target
        )
    assert [size[0, 1, 0].item() for size in seen] == [3, 3, 3]


def test_a_weight_has_only_to_make_sense_where_there_is_a_lesion():
    logits, target = drawn(2, 1, *SHAPE), lesions(2, 1)
    target[1] = 0
    part = SoftDiceLoss(sigmoid=True)
    loss = LesionwiseSoftLoss(part, weight=lambda size, peak: 1 / size)
    assert loss(logits, target).isfinite()


def test_a_lesion_that_a_patch_cuts_is_what_is_left_of_it():
    target = lesions(1, 1)
    regions = LesionCells(2).regions(target)
    patch = (..., slice(2, None), slice(2, None), slice(1, 4))
    logits = drawn(*target[patch].shape)
    loss = LesionwiseSoftLoss(SoftDiceLoss(sigmoid=True), lambda_global=0)
    numbers = [k for k in range(1, 5) if target[patch][regions[patch] == k].any()]
    assert 0 < len(numbers) < 4  # the patch has cells of lesions that lie beyond it
    assert set(numbers) < set(regions[patch].unique().tolist())
    part = SoftDiceLoss()
    parts = [
        part(*(each[regions[patch] == k][None, None] for each in (logits.sigmoid(), target[patch])))
        for k in numbers
    ]
    found = loss(logits, target[patch], regions[patch])
    torch.testing.assert_close(found, sum(parts) / len(parts))


def test_regions_of_one_channel_serve_all_classes():
    target = lesions(2, 2)
    regions = LesionCells(2).regions(target[:, :1])
    loss = LesionwiseSoftLoss(SoftDiceLoss(sigmoid=True))
    logits = drawn(2, 2, *SHAPE)
    both = loss(logits, target, regions.expand(-1, 2, -1, -1, -1))
    torch.testing.assert_close(loss(logits, target, regions), both)


def test_ignored_voxels_count_nowhere():
    logits, target = drawn(2, 1, *SHAPE).requires_grad_(), lesions(2, 1)
    target[:, :, 6] = 255
    for make in (SoftDiceLoss, SoftDiceCELoss):
        loss = LesionwiseSoftLoss(make(sigmoid=True, ignore_index=255), LesionCells(2))
        regions = loss.view.regions(target * (target < 2))
        kept = LesionwiseSoftLoss(make(sigmoid=True), LesionCells(2))
        expected = kept(logits[:, :, :6], target[:, :, :6], regions[:, :, :6])
        torch.testing.assert_close(loss(logits, target, regions), expected)
        torch.testing.assert_close(loss(logits, target), expected)


def test_half_precision_is_summed_in_float32():
    logits, target = drawn(2, 1, *SHAPE).half(), lesions(2, 1)
    loss = LesionwiseSoftLoss(SoftDiceCELoss(sigmoid=True))
    found = loss(logits, target.half())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), loss(logits.double(), target), rtol=1e-3, atol=0)


def test_a_configuration_of_monai_makes_it():
    config = {
        "_target_": "softoverlap.LesionwiseSoftLoss",
        "loss": {"_target_": "softoverlap.SoftDiceCELoss", "sigmoid": True},
        "view": {"_target_": "softoverlap.LesionCells", "reach": 3},
        "weight": "$__import__('softoverlap').weigh_by_volume",
    }
    loss = ConfigParser({"loss": config}).get_parsed_content("loss")
    assert "LesionCells(reach=3" in str(loss)
    assert loss(drawn(1, 1, *SHAPE), lesions(1, 1)) > 0


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LesionwiseSoftLoss("dice"), "loss must be one of SoftDiceLoss, .* got str"),
        (
            lambda: LesionwiseSoftLoss(SoftCalibrationLoss()),
            "must be one of .* got SoftCalibration",
        ),
        (lambda: LesionwiseSoftLoss(SoftDiceLoss(), "cells"), "view must be LesionCells or"),
        (
            lambda: LesionwiseSoftLoss(SoftDiceLoss(), weight="volume"),
            "weight must be a function such as weigh_by_volume, got 'volume'",
        ),
    ],
)
def test_what_is_no_loss_or_no_view_is_refused(make, words):
    with pytest.raises(TypeError, match=words):
        make()


@pytest.mark.bad_input
def test_settings_and_regions_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="loss must have reduction='mean', got 'sum'"):
        LesionwiseSoftLoss(SoftDiceLoss(reduction="sum"))
    with pytest.raises(ValueError, match="false_volume must be above 0"):
        LesionwiseSoftLoss(SoftDiceLoss(), false_volume=0)
    with pytest.raises(ValueError, match="lambda_lesions must be above 0 where `lambda_global=`"):
        LesionwiseSoftLoss(SoftDiceLoss(), lambda_lesions=0, lambda_global=0)
    with pytest.raises(ValueError, match="lambda_false must be at least 0"):
        LesionwiseSoftLoss(SoftDiceLoss(), lambda_false=-1)
    loss, target = LesionwiseSoftLoss(SoftDiceLoss()), lesions(2, 2)
    with pytest.raises(ValueError, match=r"regions must have shape \(2, 1, 7, 6, 5\) or \(2, 2"):
        loss(target, target, target[:1])
    for wrong in (target - 1, target / 2):
        with pytest.raises(ValueError, match="regions must hold whole numbers from 0"):
            loss(target, target, wrong)


@pytest.mark.bad_input
@pytest.mark.parametrize("options", [{"squared_pred": True}, {"intersection": "product"}])
@pytest.mark.parametrize("make", [SoftDiceLoss, SoftDiceCELoss])
def test_false_lesions_are_told_by_minima_alone(make, options):
    with pytest.raises(ValueError, match="lambda_false must be 0 unless .*, got 0.1"):
        LesionwiseSoftLoss(make(**options), lambda_false=0.1)


@pytest.mark.bad_input
def test_an_activation_that_may_look_at_places_is_refused():
    with pytest.raises(ValueError, match="loss must have no other_act, got <"):
        LesionwiseSoftLoss(SoftDiceLoss(other_act=lambda x: x / x.amax(dim=2, keepdim=True)))


@pytest.mark.bad_input
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_would_drop_lesions_is_refused_where_values_are_looked_at(value):
    target = lesions(1, 1)
    for validate in (None, True):
        part = SoftDiceLoss(validate=validate)
        loss = LesionwiseSoftLoss(part, weight=lambda size, peak: torch.full_like(size, value))
        with pytest.raises(ValueError, match=f"weight must be at least 0 and .*, got {value:g}"):
            loss(target, target)
    LesionwiseSoftLoss(SoftDiceLoss(validate=False), weight=loss.weight)(target, target)
