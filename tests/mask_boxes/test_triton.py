"""Scores of all pairs by kernels have the values and gradients of the plain path."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from softoverlap import (
    mask_box_dice,
    mask_box_diou,
    mask_box_iou,
    mask_box_mass,
    mask_box_tversky,
)
from softoverlap.lesion import Lesion
from softoverlap.mask_boxes import SummedVolume, summing
from tests.support.kernels import DEVICE, kernels, with_gradients

_triton = pytest.importorskip("softoverlap.mask_boxes._triton", exc_type=ImportError)

pytestmark = pytest.mark.slow  # and so not run where shapes are enforced, which wraps kernels

SHAPES = {1: (9,), 2: (5, 6), 3: (3, 4, 5)}
SCORES = {
    "mass": mask_box_mass,
    "dice": mask_box_dice,
    "iou": partial(mask_box_iou, empty=0.3),
    "tversky": partial(mask_box_tversky, alpha=0.3, beta=1.7),
    "diou": mask_box_diou,
}


@pytest.fixture(autouse=True)
def taken(monkeypatch):
    """How often kernels were taken, for blocks of so many boxes as are interpreted quickly."""
    calls, real = [], _triton.scores_of_all
    monkeypatch.setattr(_triton, "_BLOCK", 16)
    monkeypatch.setattr(_triton, "scores_of_all", lambda *a: calls.append(1) or real(*a))
    return calls


def masks(ndim, dtype=torch.float32):
    """One dense, one of zeros and ones."""
    found = torch.rand(2, *SHAPES[ndim], generator=torch.Generator().manual_seed(ndim))
    found[1] = found[1].round()
    return found.to(dtype)


def boxes(ndim, dtype=torch.float32):
    """Inside, on voxel edges, across the border, around it all, flat, and far away."""
    shape = torch.tensor(SHAPES[ndim])
    generator = torch.Generator().manual_seed(3)
    low = torch.rand(4, ndim, generator=generator) * shape * 0.6 - 1
    drawn = torch.cat([low, low + torch.rand(4, ndim, generator=generator) * shape], dim=1)
    ends = [[1.0, 3.0], [0.0, 2.0], [-4.0, 20.0], [2.0, 2.0], [1.3, 1.3], [40.0, 41.0], [-7, -5]]
    along = [torch.tensor([[low] * ndim + [high] * ndim]) for low, high in ends]
    border = torch.cat([shape - 1, shape])[None]
    return torch.cat([drawn, *along, border, border + shape.repeat(2)]).to(dtype)


def assert_same(score, inputs, taken, rtol=1e-6, atol=1e-7):
    expected = with_gradients(score, inputs, taken=False)
    assert not taken
    found = with_gradients(score, inputs, taken=True)
    assert taken
    for one, other in zip(found, expected, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", SCORES)
def test_every_score(name, taken):
    inputs = masks(1, torch.float64), boxes(1, torch.float64)
    assert_same(SCORES[name], inputs, taken, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ndim", SHAPES)
def test_every_number_of_axes(ndim, taken):
    assert_same(mask_box_dice, (masks(ndim), boxes(ndim)), taken)


@pytest.mark.parametrize(
    "types",
    [
        (torch.float32, torch.float64),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.uint8, torch.int64),
    ],
    ids=str,
)
def test_every_type(types, taken):
    exact = types[0] == torch.uint8
    some = masks(1).round() if exact else masks(1), boxes(1).round()
    inputs = [each.to(dtype) for each, dtype in zip(some, types, strict=True)]
    if exact:  # without a gradient
        with kernels():
            found = mask_box_iou(*(each.to(DEVICE) for each in inputs))
        torch.testing.assert_close(found.cpu(), mask_box_iou(*some))
    else:
        half = 2**-7 if torch.bfloat16 in types else 1e-3
        assert_same(mask_box_iou, inputs, taken, rtol=half)


def test_several_blocks_and_parts_of_masks(taken, monkeypatch):
    monkeypatch.setattr(_triton, "_BLOCK", 8)
    monkeypatch.setattr(_triton, "_PROGRAMS", 4)
    three = torch.cat([masks(1), torch.zeros(1, *SHAPES[1])])
    assert_same(mask_box_dice, (three, boxes(1)), taken)


@pytest.mark.parametrize("count", [(0, 3), (2, 0), (0, 0)], ids=str)
def test_no_masks_or_no_boxes(count, taken):
    some = boxes(2)[: count[1]].to(DEVICE).requires_grad_()
    with kernels():
        score = mask_box_dice(masks(2)[: count[0]].to(DEVICE), some)
        score.sum().backward()
    assert taken
    assert (score.shape, some.grad.shape) == (count, some.shape)


def test_lesions_lie_where_their_crops_are(taken):
    def lesion(offset, crop):
        offset = torch.tensor(offset)
        box = torch.cat([offset, offset + torch.tensor(crop.shape)]).float()
        centre = box[:2] + 0.5
        return Lesion(box=box, crop=crop, offset=offset, centre=centre, volume_mm3=1.0)

    crops = lesion([1, 0], masks(2)[0, :3, :2]), lesion([0, 3], masks(2)[0, :2, :1])
    volume = SummedVolume.from_lesions(crops, device=DEVICE)
    assert_same(lambda boxes: mask_box_dice(volume, boxes), (boxes(2),), taken)


def test_boxes_that_are_not_looked_at(taken):
    """Inverted, infinite and NaN boxes, and a mask with NaN, as on the plain path."""
    odd = boxes(2)[:6]
    odd[0] = odd[0].flip(0)
    odd[1, 3], odd[2, 0] = torch.inf, -torch.inf
    odd[3, 0] = torch.nan
    some = torch.cat([masks(2), torch.zeros(1, *SHAPES[2])])
    some[1, 1, 1] = torch.nan
    found = []
    for kernel in (False, True):
        with kernels(kernel):
            volume = SummedVolume.from_masks(some.to(DEVICE), validate=False)
            found.append(mask_box_dice(volume, odd.to(DEVICE), validate=False))
    assert taken
    torch.testing.assert_close(found[1], found[0], equal_nan=True)


def test_the_gradient_to_tables_is_left_to_the_plain_path_if_it_shall_be_ordered(taken):
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with kernels():
            some, box = masks(1).to(DEVICE), boxes(1)[:2].to(DEVICE)
            mask_box_dice(some.clone().requires_grad_(), box)
            assert not taken
            mask_box_dice(some, box)
            assert taken
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_second_derivative_is_refused():
    some = boxes(1).to(DEVICE).requires_grad_()
    with kernels():
        score = mask_box_dice(masks(1).to(DEVICE), some).sum()
        gradient = torch.autograd.grad(score, some, create_graph=True)[0]
        with pytest.raises(RuntimeError, match="can be differentiated once"):
            gradient.sum().backward()


@pytest.mark.parametrize("ndim", [2, 3])
def test_tables_of_a_gpu_without_triton(ndim):
    some = [masks(ndim, torch.float64)]
    found = with_gradients(summing._summed_across_rows, some, taken=False)
    expected = with_gradients(summing.summed, some, taken=False)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    ("ndim", "dtype"),
    [(1, torch.float16), (2, torch.bfloat16), (2, torch.uint8), (3, torch.float64)],
)
def test_tables_by_kernels(ndim, dtype):
    some = masks(ndim) if dtype.is_floating_point else masks(ndim).round()
    crops = [some[0].to(dtype), some[1, 1:].to(dtype), some[0, :0].to(dtype)]
    if not dtype.is_floating_point:
        crops[0] = crops[0].float()
    for inputs, summed in (
        (crops, lambda *all: summing.summed_crops(list(all))),
        ([some], summing.summed),
    ):
        found = with_gradients(summed, inputs, taken=True)
        expected = with_gradients(summed, inputs, taken=False)
        close = 2**-7 if dtype == torch.bfloat16 else 1e-14  # the interpreter cuts bits off
        torch.testing.assert_close(found, expected, rtol=close, atol=1e-14)
