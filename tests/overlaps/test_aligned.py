"""Many aligned boxes are scored in blocks: as all at once, in value and in every derivative."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import forward_ad

from softoverlap import losses
from softoverlap.overlaps import BoxLikeOverlap, BoxOverlap, SoftBoxOverlap, box_giou
from softoverlap.overlaps.overlap import _NAMED

OVERLAPS = [each for each in _NAMED.values() if isinstance(each, BoxLikeOverlap)]
OF_BOXES = [
    each
    for each in OVERLAPS
    if isinstance(each, BoxOverlap) and not isinstance(each, SoftBoxOverlap)  # always looked at
]
LAYOUTS = {
    "rows": lambda boxes: boxes,
    "columns": lambda boxes: boxes.mT.contiguous().mT,
    "every other row": lambda boxes: boxes.repeat_interleave(2, 0)[::2],
}


@pytest.fixture
def blocks_of_five(monkeypatch):
    monkeypatch.setattr("softoverlap.overlaps._aligned._PAIRS_PER_BLOCK", 5)
    monkeypatch.setattr("softoverlap.overlaps._aligned.torch.get_num_threads", lambda: 1)


def boxes_of_every_kind(overlap, dtype=torch.float64):
    """Boxes that meet, miss, touch and are equal, flat ones, points, tiny and huge ones."""
    if not isinstance(overlap, BoxOverlap):
        generator = torch.Generator().manual_seed(1)
        one = torch.rand(17, 7, generator=generator, dtype=torch.float64) + 0.5
        other = torch.where(torch.arange(17)[:, None] % 4 == 0, one, one.roll(1, 0))
        return one.to(dtype), other.to(dtype)
    low = torch.tensor([[0.0, 1.0, 2.0]]).expand(17, 3).clone()
    edges = 1 + torch.arange(51).view(17, 3) % 7 / 4
    one = torch.cat([low, low + edges], dim=1)
    other = one.roll(1, 0)
    other[2] = one[2]
    other[3] = one[3] + (one[3, 3:] - one[3, :3]).repeat(2) * torch.tensor([1, 0, 0] * 2)
    other[4] = one[4] + 9
    one[5, 3] = one[5, 0]
    one[6] = other[6] = torch.tensor([1.0, 2.0, 3.0] * 2)
    size = {torch.float64: 1e60, torch.float32: 1e13}.get(dtype, 100.0)
    one, other = one.double(), other.double()
    for rows, factor in ((slice(9, 11), size), (slice(11, 13), 1 / size)):
        one[rows] *= factor
        other[rows] *= factor
    return one.to(dtype), other.to(dtype)


def derivatives(function, boxes):
    boxes = [each.detach().clone(memory_format=torch.preserve_format) for each in boxes]
    boxes = [each.requires_grad_() for each in boxes]
    value = function(*boxes)
    weight = torch.linspace(1, 2, len(value), dtype=torch.float64)
    return [value, *torch.autograd.grad((value.double() * weight).sum(), boxes)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("overlap", OVERLAPS, ids=repr)
def test_blocks_change_neither_value_nor_gradient(overlap, dtype, request):
    boxes = boxes_of_every_kind(overlap, dtype)
    half = dtype in (torch.float16, torch.bfloat16)  # whose parts are rounded before their sum
    expected = derivatives(overlap.pairs, [x.float() for x in boxes] if half else boxes)
    expected = [each.to(dtype) for each in expected]
    request.getfixturevalue("blocks_of_five")
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-6}.get(dtype, 2e-2)
    for layout in LAYOUTS.values():
        found = derivatives(overlap.pairs, [layout(each) for each in boxes])
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("options", [{}, {"alpha": 2.0, "focal_gamma": 1.0}])
@pytest.mark.parametrize("kind", ["IoU", "GIoU", "DIoU", "CIoU", "EIoU", "NWD"])
def test_blocks_change_no_loss(kind, options, request):
    loss = getattr(losses, f"Box{kind}Loss")("none", **options)
    boxes = [each[:9] for each in boxes_of_every_kind(loss.overlap)]
    expected = derivatives(loss, boxes)
    request.getfixturevalue("blocks_of_five")
    for one, other in zip(derivatives(loss, boxes), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("overlap", OVERLAPS, ids=repr)
def test_one_side_may_need_no_gradient_and_hold_integers(overlap, blocks_of_five):
    one, other = boxes_of_every_kind(overlap, torch.float32)
    one, other = one[:9].requires_grad_(), other[:9].ceil().int()
    overlap.pairs(one, other, validate=False).sum().backward()
    assert torch.isfinite(one.grad).all()
    assert one.grad.abs().sum() > 0


@pytest.mark.parametrize("overlap", OVERLAPS, ids=repr)
def test_blocks_have_second_derivatives(overlap, request):
    one, other = (each[13:] for each in boxes_of_every_kind(overlap))
    one, other = one.repeat(2, 1).requires_grad_(), other.repeat(2, 1).requires_grad_()

    def second():
        value = overlap.pairs(one, other).square().sum()
        gradients = torch.autograd.grad(value, (one, other), create_graph=True)
        return torch.autograd.grad(sum(each.square().sum() for each in gradients), (one, other))

    expected = second()
    request.getfixturevalue("blocks_of_five")
    for found, reference in zip(second(), expected, strict=True):
        torch.testing.assert_close(found, reference, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("overlap", OVERLAPS, ids=repr)
def test_gradients_are_those_of_pytorchs_own_operations(overlap):
    """Which `torch.func` takes, and which give both faces half where they are one."""
    boxes = tuple(each[:9] for each in boxes_of_every_kind(overlap))

    def total(one, other):
        return overlap.pairs(one, other, validate=False).sum()

    expected = torch.func.grad(total, (0, 1))(*boxes)
    for found, reference in zip(derivatives_of_sum(total, boxes), expected, strict=True):
        torch.testing.assert_close(found, reference, rtol=1e-12, atol=1e-12)


def derivatives_of_sum(total, boxes):
    boxes = [each.clone().requires_grad_() for each in boxes]
    return torch.autograd.grad(total(*boxes), boxes)


def test_no_gradient_of_half_precision_overflows_in_blocks(blocks_of_five):
    low = torch.zeros(7, 3)
    boxes = [torch.cat([low, low + edge], dim=1).half() for edge in (6e-6, 8e-6)]
    for gradient in derivatives(_NAMED["box_iou"].pairs, boxes)[1:]:
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() > 6e4


@pytest.mark.parametrize("rows", [4, 60])
def test_other_kinds_of_derivatives_do_not_depend_on_the_number_of_boxes(blocks_of_five, rows):
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(2, rows, 3, generator=generator, dtype=torch.float64)
    pred, target = torch.cat([low, low + 1], dim=2)
    score = box_giou.pairs
    jacobian = torch.autograd.functional.jacobian
    one_by_one, at_once = (
        jacobian(lambda x: score(x, target).sum(0, keepdim=True), pred, vectorize=vectorize)
        for vectorize in (False, True)
    )
    torch.testing.assert_close(one_by_one, at_once)
    for requires_grad in (False, True):
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(pred.clone().requires_grad_(requires_grad), pred)
            slope = forward_ad.unpack_dual(score(dual, target).sum()).tangent
        torch.testing.assert_close(slope.detach(), (one_by_one[0] * pred).sum())


@pytest.mark.parametrize("rows", [4, 60])
def test_hooks_of_boxes_run_once(blocks_of_five, rows):
    pred, calls = torch.tensor([[0.0, 0.0, 2.0, 2.0]]).repeat(rows, 1).requires_grad_(), []
    pred.register_hook(lambda gradient: calls.append(1) or gradient)
    score = box_giou.pairs(pred, pred.detach() + 1).sum()
    torch.autograd.grad(score, pred, create_graph=True)
    assert len(calls) == 1


def test_a_huge_box_changes_all_blocks_alike(blocks_of_five, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(2, 60, 3, generator=generator)
    pred, target = torch.cat([low, low + torch.rand(2, 60, 3, generator=generator)], dim=2)
    pred[0, 3:] = 1e14
    few = box_giou.pairs(pred, target)
    monkeypatch.setattr("softoverlap.overlaps._aligned._PAIRS_PER_BLOCK", 1000)
    assert torch.equal(few, box_giou.pairs(pred, target))


def ordinary_boxes(dtype=torch.float32):
    generator = torch.Generator().manual_seed(2)
    low = 8 * torch.rand(2, 23, 3, generator=generator)
    pred, target = torch.cat([low, low + 1 + torch.rand(2, 23, 3, generator=generator)], dim=2)
    target[3:6] = pred[3:6]
    pred[7, 3] = pred[7, 0]  # flat
    return pred.to(dtype), target.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("overlap", OF_BOXES, ids=repr)
def test_boxes_that_are_looked_at_as_they_are_read_score_the_same(
    overlap, dtype, blocks_of_five, monkeypatch
):
    boxes = ordinary_boxes(dtype)
    with monkeypatch.context() as patch:
        patch.setattr("softoverlap.overlaps.box_family.check_boxes", pytest.fail)
        found = derivatives(overlap.pairs, boxes)
    monkeypatch.setattr("softoverlap.overlaps.box_family.aligned_if", lambda *_: None)
    for one, other in zip(found, derivatives(overlap.pairs, boxes), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("value", [torch.nan, -torch.inf, 99.0, 1e38])
def test_what_is_wrong_with_one_of_many_boxes_is_said_as_of_few(blocks_of_five, monkeypatch, value):
    pred, target = ordinary_boxes()
    target[-1, 0] = value
    messages = []
    for rows in (5, 1000):
        monkeypatch.setattr("softoverlap.overlaps._aligned._PAIRS_PER_BLOCK", rows)
        for score in (box_giou.pairs, losses.BoxGIoULoss()):
            with pytest.raises(ValueError, match="target must") as refused:
                score(*((pred, target)))
            messages.append(str(refused.value))
    assert len(set(messages)) == 1
    assert box_giou.pairs(pred, target, validate=False).shape == (23,)
