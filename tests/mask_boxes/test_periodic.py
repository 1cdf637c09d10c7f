"""Masks on grids that come round, voxel by voxel and turn by turn."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap import mask_box_dice, mask_box_diou, mask_box_iou, mask_box_mass
from softoverlap.losses import MaskBoxDiceLoss
from softoverlap.mask_boxes import SummedVolume
from softoverlap.overlaps import mask_box_pair_mass
from tests.support.reference_periodic import reference_periodic_mass
from tests.support.strategies import box_batches, masks

SHAPE = (4, 3)
KINDS = [*itertools.product([True, False], repeat=2), True, False]


def fitting(boxes, shape=SHAPE):
    """Boxes with no edge longer than the grid."""
    low, high = boxes.chunk(2, dim=1)
    return torch.cat([low, torch.minimum(high, low + torch.tensor(shape))], dim=1)


@pytest.mark.parametrize("periodic", KINDS)
@given(data=st.data())
def test_mass_equals_the_reference(periodic, data):
    kept, boxes = data.draw(masks((2, *SHAPE))), fitting(data.draw(box_batches(ndim=2)))
    volume = SummedVolume.from_masks(kept, periodic=periodic)
    axes = [periodic] * 2 if isinstance(periodic, bool) else periodic
    found = mask_box_mass(volume, boxes)
    for (i, mask), (j, box) in itertools.product(enumerate(kept), enumerate(boxes.tolist())):
        expected = reference_periodic_mass(mask, box, axes)
        assert found[i, j].item() == pytest.approx(expected, abs=1e-12)
    assert torch.allclose(volume.sizes, kept.sum(dim=(1, 2)), rtol=1e-14)
    assert torch.equal(mask_box_pair_mass(volume, boxes[:1].expand(2, -1)), found[:, 0])


@given(data=st.data())
def test_scores_do_not_change_when_the_origin_turns(data):
    kept, boxes = data.draw(masks((1, *SHAPE))), fitting(data.draw(box_batches(ndim=2)))
    turn = [data.draw(st.integers(-5, 5)) for _ in SHAPE]
    rolled = SummedVolume.from_masks(kept.roll(turn, dims=(1, 2)), periodic=True)
    moved = boxes + torch.tensor(turn).repeat(2)
    for score in (mask_box_dice, mask_box_iou):
        found = score(SummedVolume.from_masks(kept, periodic=True), boxes)
        assert torch.allclose(score(rolled, moved), found, atol=1e-12, rtol=0)


def test_gradients_are_the_numerical_ones_also_across_the_seam():
    kept = torch.rand(2, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    boxes = torch.tensor([[2.3, -1.4, 5.2, 0.7], [-7.6, 1.1, -4.2, 3.9]], dtype=torch.float64)

    def score(mask, box):
        return mask_box_dice(SummedVolume.from_masks(mask, periodic=(True, True)), box)

    inputs = (kept.requires_grad_(), boxes.requires_grad_())
    assert torch.autograd.gradcheck(score, inputs)


def test_a_face_on_the_seam_has_the_mean_of_both_slopes():
    ring = SummedVolume.from_masks(
        torch.tensor([[0.2, 0.0, 0.0, 0.8]], dtype=torch.float64), periodic=True
    )
    for box in ([0.0, 2.0], [4.0, 6.0], [-8.0, -6.0]):
        face = torch.tensor([box], dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(mask_box_mass(ring, face).sum(), face)
        assert slope[0, 0].item() == pytest.approx(-0.5)
    face = torch.tensor([[2.0, 4.0]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(mask_box_mass(ring, face).sum(), face)
    assert slope[0, 1].item() == pytest.approx(0.5)


def test_the_whole_circle_holds_all_mass():
    kept = torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(2))
    volume = SummedVolume.from_masks(kept, periodic=True)
    boxes = torch.tensor([[2.5, -3.0, 7.5, 3.0]])
    assert torch.allclose(mask_box_mass(volume, boxes)[:, 0].double(), volume.sizes)
    assert torch.equal(
        volume.unwrapped(boxes.long()), torch.tensor([[3.0, 4.0, 8.0, 10.0]]).double()
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_boxes_lose_nothing_by_being_moved(dtype):
    kept = torch.rand(1, 3001, generator=torch.Generator().manual_seed(4))
    boxes = torch.tensor([[2900, 2980], [2048, 2060], [0.001, 0.002]]).to(dtype)
    plain = SummedVolume.from_masks(kept)
    ring = SummedVolume.from_masks(kept, periodic=True)
    for score in (mask_box_mass, mask_box_iou, mask_box_dice.pairs):
        many = (kept.expand(3, -1), boxes) if score is mask_box_dice.pairs else None
        if many is not None:
            sides = [SummedVolume.from_masks(many[0], periodic=turns) for turns in (False, True)]
        else:
            sides = [plain, ring]
        expected, found = (score(side, boxes) for side in sides)
        assert found.dtype == expected.dtype
        assert torch.allclose(found, expected, rtol=1e-6)


@pytest.mark.bad_input  # sizes are tensors under tracing
def test_tables_are_traced_as_plain_ones():
    kept, boxes = torch.rand(1, 10), torch.tensor([[8.0, 12.0]])

    def score(mask, box):
        return mask_box_dice(SummedVolume.from_masks(mask, periodic=True), box)

    traced = torch.jit.trace(score, (kept, boxes), check_trace=False)
    assert torch.allclose(traced(kept, boxes + 3), score(kept, boxes + 3))


@pytest.mark.bad_input
def test_what_does_not_fit_is_refused():
    kept = torch.rand(1, 4, 3)
    with pytest.raises(ValueError, match="^periodic must be a boolean or 2, one an axis"):
        SummedVolume.from_masks(kept, periodic=(True,))
    with pytest.raises(ValueError, match="^periodic must be a boolean or 2, one an axis"):
        SummedVolume.from_masks(kept, periodic=None)
    with pytest.raises(ValueError, match=r"^masks must hold probabilities in \[0, 1\]"):
        SummedVolume.from_masks(2 * kept + 1, periodic=True)
    volume = SummedVolume.from_masks(kept, periodic=(True, False))
    with pytest.raises(ValueError, match="^boxes must have no edge longer than the period"):
        mask_box_dice(volume, torch.tensor([[0.0, 0.0, 5.0, 1.0]]))
    box = torch.tensor([[0.0, 0.0, 2.0, 1.0]])
    with pytest.raises(ValueError, match="^masks must have plain axes to have a centre"):
        mask_box_diou(volume, box)
    with pytest.raises(ValueError, match="^masks must have plain axes to have a centre"):
        MaskBoxDiceLoss()(volume, box)
