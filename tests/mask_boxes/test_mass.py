"""Mass of a soft mask inside a real-valued box, and the scores made of it."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from scipy import ndimage

from softoverlap.lesion import Lesion
from softoverlap.mask_boxes import SummedVolume, mass as _mass, meeting_boxes
from softoverlap.overlaps import (
    box_iou,
    box_volume,
    mask_box_dice,
    mask_box_iou,
    mask_box_mass,
    mask_box_pair_dice,
    mask_box_pair_iou,
    mask_box_pair_mass,
    mask_box_pair_tversky,
    mask_box_tversky,
)
from tests.support.reference import reference_mass
from tests.support.strategies import masks_and_boxes

OPEN_MS = Path(__file__).parents[3] / "shared" / "data" / "open_ms"
PAIRS = {
    mask_box_mass: mask_box_pair_mass,
    mask_box_dice: mask_box_pair_dice,
    mask_box_iou: mask_box_pair_iou,
    mask_box_tversky: mask_box_pair_tversky,
}
SCORES = [mask_box_dice, mask_box_iou, mask_box_tversky]


@given(masks_and_boxes())
def test_mass_equals_the_sum_of_covered_voxels(case):
    masks, boxes = case
    mass = mask_box_mass(masks, boxes)
    for row, mask in enumerate(masks):
        for column, box in enumerate(boxes):
            expected = reference_mass(mask.numpy(), box.numpy())
            assert mass[row, column].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("sides", [(9,), (5, 7), (4, 6, 5), (3, 0, 2)])
def test_mass_read_corner_by_corner_is_that_of_one_read_to_the_bit(monkeypatch, sides, count):
    generator = torch.Generator().manual_seed(count)
    masks = torch.rand(count, *sides, generator=generator)
    low = 8 * torch.rand(60, len(sides), generator=generator) - 2
    boxes = torch.cat([low, low + 4 * torch.rand(60, len(sides), generator=generator)], dim=1)
    boxes[:20] = boxes[:20].round()
    boxes[20] = 1e30
    tables = SummedVolume.from_masks(masks)
    monkeypatch.setattr(_mass, "_WORTH_SHIFTS", 0)
    found = mask_box_mass(tables, boxes)
    monkeypatch.setattr(_mass._Nodes, "mass", _mass._Nodes.plain_mass)
    assert torch.equal(found, mask_box_mass(tables, boxes))
    monkeypatch.setattr(_mass, "_READS_PER_BLOCK", {"cpu": 100})
    monkeypatch.setattr(_mass, "_ENTRIES_IN_CACHE", 0)  # in the order of their places
    assert torch.equal(found, mask_box_mass(tables, boxes))


@given(masks_and_boxes())
def test_scores_equal_their_definitions(case):
    masks, boxes = case
    mass = mask_box_mass(masks, boxes)
    size, volume = masks.flatten(1).sum(1)[:, None], box_volume(boxes)[None]
    for score, denominator in [
        (mask_box_dice, (size + volume) / 2),
        (mask_box_iou, size + volume - mass),
        (mask_box_tversky, mass + 0.2 * (volume - mass) + 0.7 * (size - mass)),
    ]:
        options = {"alpha": 0.2, "beta": 0.7} if score is mask_box_tversky else {}
        expected = torch.where(size + volume > 0, mass / denominator.clamp(min=1e-300), 1)
        torch.testing.assert_close(score(masks, boxes, **options), expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("score", SCORES)
@given(case=masks_and_boxes())
def test_scores_are_bounded(score, case):
    value = score(*case)
    assert ((value >= 0) & (value <= 1)).all()


@pytest.mark.parametrize("score", PAIRS)
@given(case=masks_and_boxes())
def test_aligned_scores_are_the_diagonal_of_pairwise_ones(score, case):
    masks, boxes = case
    count = min(len(masks), len(boxes))
    pairwise = score(masks[:count], boxes[:count])
    assert torch.equal(PAIRS[score](masks[:count], boxes[:count]), pairwise.diagonal())


@given(masks_and_boxes())
def test_mass_grows_with_the_box_and_is_additive(case):
    masks, boxes = case
    ndim = boxes.shape[1] // 2
    grown = boxes + torch.cat([-torch.ones(ndim), torch.ones(ndim)])
    assert (mask_box_mass(masks, grown) >= mask_box_mass(masks, boxes) - 1e-12).all()
    cut = (boxes[:, :1] + boxes[:, ndim : ndim + 1]) / 2
    lower = torch.cat([boxes[:, :ndim], cut, boxes[:, ndim + 1 :]], dim=1)
    upper = torch.cat([cut, boxes[:, 1:]], dim=1)
    halves = mask_box_mass(masks, lower) + mask_box_mass(masks, upper)
    torch.testing.assert_close(halves, mask_box_mass(masks, boxes), atol=1e-12, rtol=1e-12)


@given(masks_and_boxes(), st.integers(0, 5))
def test_scores_ignore_translation_of_mask_and_box_together(case, shift):
    masks, boxes = case
    ndim = boxes.shape[1] // 2
    moved = torch.nn.functional.pad(masks, [shift, 2] * ndim)
    torch.testing.assert_close(
        mask_box_iou(moved, boxes + shift), mask_box_iou(masks, boxes), atol=1e-12, rtol=1e-12
    )


@given(masks_and_boxes())
def test_lesions_crops_and_whole_masks_agree(case):
    masks, boxes = case
    whole = SummedVolume._from_whole(masks)
    lesions = [_lesion(mask, torch.zeros(mask.ndim, dtype=torch.int64)) for mask in masks]
    for source in (whole, lesions, SummedVolume.from_masks(masks)):
        torch.testing.assert_close(
            mask_box_dice(source, boxes), mask_box_dice(masks, boxes), atol=1e-12, rtol=1e-12
        )


def test_a_box_over_a_hard_cuboid_scores_its_box_iou():
    mask = torch.zeros(1, 12, 12, 12)
    mask[0, 2:6, 3:8, 4:9] = 1
    tight = torch.tensor([[2.0, 3.0, 4.0, 6.0, 8.0, 9.0]])
    boxes = torch.tensor([[2.0, 3.0, 4.0, 6.0, 8.0, 9.0], [0.0, 1.0, 2.0, 5.5, 7.25, 8.125]])
    torch.testing.assert_close(mask_box_iou(mask, boxes), box_iou(tight, boxes))


def test_a_box_half_over_a_voxel_holds_half_of_it():
    mask = torch.tensor([[[0.0, 0.0], [0.0, 0.8]]], dtype=torch.float64)
    mass = mask_box_mass(mask, torch.tensor([[1.0, 1.5, 2.0, 9.0]]))
    assert mass.item() == pytest.approx(0.4, abs=1e-15)


def test_a_gaussian_blob_holds_its_analytic_mass():
    sigma, centre, side = 4.0, 24.0, 48
    positions = torch.arange(side, dtype=torch.float64) + 0.5
    profile = torch.exp(-((positions - centre) ** 2) / (2 * sigma**2))
    blob = profile[:, None, None] * profile[:, None] * profile
    box = torch.tensor([[20.3, 18.7, 10.0, 30.9, 24.0, 38.2]], dtype=torch.float64)
    expected = 1.0
    for low, high in zip(box[0, :3].tolist(), box[0, 3:].tolist(), strict=True):
        bounds = [(x - centre) / (sigma * math.sqrt(2)) for x in (low, high)]
        expected *= sigma * math.sqrt(math.pi / 2) * (math.erf(bounds[1]) - math.erf(bounds[0]))
    # midpoint voxels sample the integral: the error is of order (1 / sigma)^2 / 24 an axis
    assert mask_box_mass(blob[None], box).item() == pytest.approx(expected, rel=3 / 24 / sigma**2)


def test_parts_outside_the_image_hold_no_mass_but_count_in_the_volume():
    mask = torch.ones(1, 4, 4)
    boxes = torch.tensor([[-4.0, 0.0, 4.0, 4.0], [10.0, 10.0, 12.0, 12.0]])
    assert mask_box_mass(mask, boxes).tolist() == [[16.0, 0.0]]
    assert mask_box_iou(mask, boxes).tolist() == [[0.5, 0.0]]


def test_empty_masks_score_zero_and_empty_only_against_flat_boxes():
    mask = torch.zeros(2, 4, 4)
    mask[1, 1, 1] = 1
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 1.0, 3.0]])
    expected = torch.tensor([[0.0, 0.5], [0.4, 0.0]])
    torch.testing.assert_close(mask_box_dice(mask, boxes, empty=0.5), expected)
    assert mask_box_mass(torch.zeros(1, 0, 3), boxes).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("score", [*PAIRS, *PAIRS.values()])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_gradients_pass_gradcheck_away_from_voxel_edges(score, ndim):
    generator = torch.Generator().manual_seed(ndim)
    masks = torch.rand(2, *[4, 3, 5][:ndim], generator=generator, dtype=torch.float64)
    low = torch.randint(-1, 3, (2, ndim), generator=generator) + 0.3
    high = low.floor() + torch.randint(1, 4, (2, ndim), generator=generator) + 0.6
    boxes = torch.cat([low, high], dim=1).double()
    inputs = (masks.requires_grad_(), boxes.requires_grad_())
    assert torch.autograd.gradcheck(lambda m, b: score(m, b, validate=False), inputs)


@given(masks_and_boxes())
def test_gradient_to_a_face_is_the_mean_of_both_sides(case):
    """Also on voxel edges, where tight boxes lie, and on the border of the image."""
    masks, boxes = case
    masks, step = masks[:1], 1 / 16  # corners lie on eighths, so no step crosses an edge
    boxes = boxes.clone().requires_grad_()
    mask_box_mass(masks, boxes).sum().backward()
    plain = boxes.detach()
    for face in range(boxes.shape[1]):
        move = torch.zeros(boxes.shape[1]).index_fill(0, torch.tensor(face), step)
        ahead, behind = (_signed_mass(masks, plain + sign * move) for sign in (1, -1))
        central = (ahead - behind)[0] / (2 * step)
        torch.testing.assert_close(boxes.grad[:, face], central, atol=1e-9, rtol=1e-9)


def test_gradient_to_the_mask_is_the_coverage_also_of_voxels_that_are_zero():
    mask = torch.zeros(1, 4, dtype=torch.float64)
    mask[0, 2] = 1
    mask.requires_grad_()
    mask_box_mass(mask, torch.tensor([[0.5, 2.25]])).sum().backward()
    assert mask.grad.tolist() == [[0.5, 1.0, 0.25, 0.0]]


def test_gradient_flows_to_the_crops_of_lesions():
    crop = torch.tensor([0.5, 1.0], dtype=torch.float64, requires_grad=True)
    lesion = _lesion(crop, torch.tensor([3]))
    mask_box_mass([lesion], torch.tensor([[3.5, 9.0]])).sum().backward()
    assert crop.grad.tolist() == [0.5, 1.0]


@pytest.mark.slow
def test_float32_masks_keep_a_relative_error_below_1e_6_at_256_cubed():
    mask = torch.ones(1, 256, 256, 256)
    box = torch.tensor([[0.0, 0.0, 0.0, 256.0, 256.0, 256.0], [3.5, 7.25, 9.0, 250.0, 249.5, 13.0]])
    mass = mask_box_mass(mask, box)[0]
    torch.testing.assert_close(mass.double(), box_volume(box).double(), rtol=1e-6, atol=0)
    mask[0, 100:102, 100:105, 100] = 0.3
    lesion_box = torch.tensor([[100.0, 100.0, 100.0, 102.0, 105.0, 101.0]])
    assert mask_box_mass(mask, lesion_box).item() == pytest.approx(
        10 * float(np.float32(0.3)), rel=1e-6
    )


@pytest.mark.slow
def test_the_error_of_slivers_stays_below_the_stated_bound():
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(1, 128, 128, 128, generator=generator)
    low = 127 * torch.rand(200, 3, generator=generator, dtype=torch.float64)
    high = low + torch.tensor([1e-7, 20.0, 1e-3], dtype=torch.float64)
    mass = mask_box_mass(mask, torch.cat([low, high], dim=1))[0]
    exact = torch.stack([_separable_mass(mask[0], a, b) for a, b in zip(low, high, strict=True)])
    assert (mass - exact).abs().max() <= SummedVolume.from_masks(mask).error_bound.item() < 1e-5


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to see the peak")
@pytest.mark.parametrize("haze", [0.0, 1e-3])
def test_scoring_half_a_million_anchors_needs_less_than_a_gigabyte(haze):
    """Also where a haze covers the image; in a process of its own, whose peak is not yet high."""
    script = """
import re, torch
from pathlib import Path
from softoverlap.overlaps import mask_box_dice
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
generator = torch.Generator().manual_seed(0)
extent = torch.tensor([256.0, 256.0, 128.0])
centres = torch.rand(500_000, 3, generator=generator) * extent
half = 2 + 8 * torch.rand(500_000, 3, generator=generator)
anchors = torch.cat([centres - half, centres + half], dim=1)
masks = torch.zeros(20, 256, 256, 128)
for mask in masks:
    corner = torch.randint(0, 100, (3,), generator=generator).tolist()
    mask[tuple(slice(c, c + 12) for c in corner)] = torch.rand(12, 12, 12, generator=generator)
masks.clamp_(min=HAZE)  # touch every page, so that the inputs are counted before
before = peak()
scores = mask_box_dice(masks, anchors)
assert scores.shape == (20, 500_000) and scores.max() > 0.1
print(peak() - before)
"""
    script = script.replace("HAZE", str(haze))
    grown = int(subprocess.check_output([sys.executable, "-c", script]))
    assert 3e7 <= grown < 1e9  # the scores alone are 40 MB


def test_results_take_the_floating_type_of_the_inputs():
    mask, box = torch.ones(1, 4), torch.tensor([[0.0, 2.0]])
    assert mask_box_dice(mask.half(), box.half()).dtype == torch.float16
    assert mask_box_mass(mask.half(), box.half()).dtype == torch.float32
    assert mask_box_dice(mask, box.double()).dtype == torch.float64
    assert mask_box_dice(mask.to(torch.uint8), box.long()).dtype == torch.get_default_dtype()


def test_no_boxes_and_no_masks_are_normal_input():
    assert mask_box_dice(torch.ones(2, 4), torch.zeros(0, 2)).shape == (2, 0)
    assert mask_box_dice(torch.ones(0, 4), torch.zeros(3, 2)).shape == (0, 3)


@pytest.mark.bad_input
@pytest.mark.parametrize("score", PAIRS)
def test_bad_input_is_named(score):
    mask, box = torch.full((1, 4, 4), 0.5), torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    with pytest.raises(ValueError, match=r"boxes must have shape \(N, 4\), got \(1, 6\)"):
        score(mask, torch.zeros(1, 6))
    with pytest.raises(ValueError, match="boxes must have every maximum"):
        score(mask, box.flip(1))
    with pytest.raises(ValueError, match="masks must hold probabilities .* got NaN"):
        score(mask * float("nan"), box)
    with pytest.raises(ValueError, match="masks must hold probabilities .* logits"):
        score(mask - 4, box)
    with pytest.raises(ValueError, match="lesions must hold at least one"):
        score([], box)
    with pytest.raises(TypeError, match="masks must be a tensor, a sequence of Lesion"):
        score([mask], box)
    with pytest.raises(ValueError, match=r"masks must have shape \(K, \*spatial\)"):
        score(torch.zeros(3), box)


@pytest.mark.bad_input
def test_aligned_scores_need_as_many_masks_as_boxes():
    with pytest.raises(ValueError, match="masks and boxes must be as many, got 2 and 3"):
        mask_box_pair_dice(torch.zeros(2, 4), torch.zeros(3, 2))


@pytest.mark.parametrize("score", PAIRS)
def test_nan_stays_nan_where_values_are_not_looked_at(score):
    mask, box = torch.ones(1, 3, 3), torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    assert score(mask, box * float("nan"), validate=False).isnan().all()
    assert score(mask * float("nan"), box, validate=False).isnan().all()
    mask[0, 2, 2] = float("nan")
    if score is not mask_box_mass:
        assert score(mask, box, validate=False).isnan().all()  # its size is not known


@pytest.mark.parametrize("count", [1, 40])
def test_scores_do_not_depend_on_how_the_work_is_cut(count, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(5, 6, 6, generator=generator) * (torch.rand(5, 1, 1) > 0.3)
    low = 8 * torch.rand(count, 2, generator=generator) - 1
    boxes = torch.cat([low, low + 3], dim=1)
    whole = SummedVolume._from_whole(masks)
    expected = [mask_box_dice(masks, boxes), mask_box_mass(whole, boxes)]
    monkeypatch.setattr("softoverlap.mask_boxes.meeting._PAIRS_PER_GROUP", 7)
    monkeypatch.setattr("softoverlap.mask_boxes.mass._READS_PER_BLOCK", {"cpu": 64, "other": 64})
    monkeypatch.setattr("softoverlap.overlaps._mask_box_scores.VOXELS_AT_ONCE", 80)
    assert torch.equal(mask_box_dice(masks, boxes), expected[0])
    assert torch.equal(mask_box_mass(whole, boxes), expected[1])


@pytest.mark.slow
@pytest.mark.skipif(not OPEN_MS.exists(), reason="the shared lesion data are not here")
@pytest.mark.parametrize("patient", ["02", "07", "12"])
def test_tight_boxes_of_real_lesions_equal_brute_force(patient):
    path = OPEN_MS / f"patient{patient}_native1mm_consensus_gt.nii.gz"
    hard = np.asarray(nibabel.load(path).dataobj) > 0
    soft = _block_average(hard, (2, 4, 4))
    labels, count = ndimage.label(soft > 0, structure=np.ones((3, 3, 3)))
    assert count >= 10
    lesions, boxes, masses = [], [], []
    for label, window in enumerate(ndimage.find_objects(labels), start=1):
        crop = np.where(labels[window] == label, soft[window], 0)
        low, high = ([getattr(axis, side) for axis in window] for side in ("start", "stop"))
        jitter = np.array([-0.3, 0.25, 0.5, 0.4, -0.125, 0.2])
        lesions.append(_lesion(torch.from_numpy(crop), torch.tensor(low)))
        boxes.append(np.array([*low, *high]) + (jitter if label % 2 else 0))
        local = torch.from_numpy(boxes[-1] - np.tile(low, 2))
        masses.append(_separable_mass(lesions[-1].crop, local[:3], local[3:]))
    boxes = torch.from_numpy(np.stack(boxes)).double()
    sizes = torch.stack([lesion.crop.sum() for lesion in lesions])
    expected = 2 * torch.stack(masses) / (sizes + box_volume(boxes))
    torch.testing.assert_close(mask_box_pair_dice(lesions, boxes), expected, atol=1e-12, rtol=0)


def _lesion(crop, offset):
    box = torch.cat([offset, offset + torch.tensor(crop.shape)]).double()
    return Lesion(box=box, crop=crop, offset=offset, centre=offset.double(), volume_mm3=0.0)


def _signed_mass(masks, boxes):
    """The mass as a function of each face alone, also where a flat box turns inside out."""
    ndim = boxes.shape[1] // 2
    low, high = boxes[:, :ndim], boxes[:, ndim:]
    upright = torch.cat([torch.minimum(low, high), torch.maximum(low, high)], dim=1)
    return mask_box_mass(masks, upright) * torch.where(high < low, -1, 1).prod(1)


def _separable_mass(mask, low, high):
    """Coverage of each voxel along each axis, multiplied out in float64."""
    total = mask.double()
    for a, b in zip(low.tolist(), high.tolist(), strict=True):
        voxel = torch.arange(total.shape[0], dtype=torch.float64)
        cover = (torch.clamp(voxel + 1, max=b) - torch.clamp(voxel, min=a)).clamp(min=0)
        total = torch.tensordot(cover, total, dims=1)
    return total


def _block_average(mask, block):
    trimmed = mask[tuple(slice(0, n // b * b) for n, b in zip(mask.shape, block, strict=True))]
    shape = [part for n, b in zip(trimmed.shape, block, strict=True) for part in (n // b, b)]
    return trimmed.reshape(shape).mean(axis=(1, 3, 5))


@pytest.mark.bad_input
@pytest.mark.parametrize("score", [mask_box_mass, mask_box_dice])
def test_a_channel_axis_is_not_taken_for_a_spatial_one(score):
    words = r"masks must have shape \(K, \*spatial\) with 3 spatial axes .* got \(1, 1, 4, 4, 4\)"
    with pytest.raises(ValueError, match=words):
        score(torch.zeros(1, 1, 4, 4, 4), torch.tensor([[0.0, 0, 0, 1, 1, 1]]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.float16])
@pytest.mark.parametrize("bad", [None, float("nan")])
def test_sorted_windows_meet_the_boxes_that_each_alone_would(bad, dtype):
    generator = torch.Generator().manual_seed(0)
    low = 40 * torch.rand(300, 3, generator=generator)
    boxes = torch.cat([low, low + 9 * torch.rand(300, 3, generator=generator)], dim=1)
    boxes[:20] = boxes[:20].round()  # some only touch
    boxes = boxes.to(dtype)
    if bad is not None and dtype != torch.int64:
        boxes[40, 0], boxes[41, 3], boxes[42], boxes[43, 4] = bad, bad, bad, bad
    corners = (30 * torch.rand(40, 3, generator=generator)).round()
    windows = corners.tolist(), (corners + 6).tolist()
    alone = []
    for corner in zip(*windows, strict=True):
        alone += meeting_boxes(boxes, [corner[0]], [corner[1]])
    together = list(meeting_boxes(boxes, *windows))
    assert 0 < sum(map(len, together)) < 300 * 40
    for found, expected in zip(together, alone, strict=True):
        assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("both", [True, False])
def test_a_second_derivative_is_refused_and_not_left_out(both):
    mask = torch.rand(1, 5, 5, generator=torch.Generator().manual_seed(0)).double()
    boxes = torch.tensor([[0.7, 1.2, 3.3, 4.1]]).double().requires_grad_()
    mask = mask.requires_grad_(both)
    (gradient,) = torch.autograd.grad(mask_box_dice(mask, boxes), boxes, create_graph=True)
    with pytest.raises(RuntimeError, match="mass of a mask .* can be differentiated once"):
        torch.autograd.grad(gradient[0, 0], boxes)
