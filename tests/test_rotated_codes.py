"""Codes of oriented boxes: they go round without a jump, and come back."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap import (
    box_pair_iou,
    decode_boxes,
    decode_rotated_boxes,
    encode_boxes,
    encode_rotated_boxes,
    rotated_box_pair_iou,
)
from tests.support.reference_oriented import reference_rotated_code
from tests.test_rotated import oriented_boxes, random_boxes, with_height

WEIGHTS = {5: (2.0, 2.0, 1.0, 1.0, 3.0, 3.0), 7: (2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 3.0, 3.0)}


@pytest.mark.parametrize("ndim", [2, 3])
def test_codes_are_those_of_the_definition(ndim):
    boxes, anchors = (random_boxes(8, seed, torch.float64) for seed in (1, 2))
    if ndim == 3:
        boxes, anchors = with_height(boxes), with_height(anchors, seed=5)
    pairs = zip(boxes.tolist(), anchors.tolist(), strict=True)
    expected = torch.tensor([reference_rotated_code(*pair) for pair in pairs]).double()
    torch.testing.assert_close(encode_rotated_boxes(boxes, anchors), expected)


@given(st.integers(2, 3), st.data())
def test_what_is_decoded_is_the_same_box(ndim, data):
    boxes, anchors = (data.draw(oriented_boxes(ndim=ndim)) for _ in range(2))
    for weights in (None, WEIGHTS[boxes.shape[1]]):
        codes = encode_rotated_boxes(boxes, anchors, weights=weights)
        back = decode_rotated_boxes(codes, anchors, weights=weights, clamp=20)
        torch.testing.assert_close(back[:, :-1], boxes[:, :-1], atol=1e-9, rtol=1e-9)
        turn = (back[:, -1] - boxes[:, -1]) / math.pi
        torch.testing.assert_close(turn, turn.round(), atol=1e-9, rtol=0)
        assert ((back[:, -1] - anchors[:, -1]).abs() <= math.pi / 2 + 1e-12).all()


def test_a_box_that_turns_on_has_codes_without_a_jump():
    angles = torch.linspace(-2 * math.pi, 2 * math.pi, 2001, dtype=torch.float64)
    boxes = torch.tensor([[0.0, 0.0, 4.0, 2.0, 0.0]], dtype=torch.float64).repeat(2001, 1)
    boxes[:, -1] = (angles + math.pi / 2) % math.pi - math.pi / 2  # as an angle is held in a range
    anchors = torch.tensor([[1.0, 0.0, 4.0, 2.0, 0.3]], dtype=torch.float64).expand(2001, 5)
    codes = encode_rotated_boxes(boxes, anchors)
    assert boxes[:, -1].diff().abs().max() > 3  # the angle jumps
    assert codes.diff(dim=0).abs().max() < 0.02
    assert rotated_box_pair_iou(decode_rotated_boxes(codes, anchors), boxes).min() > 1 - 1e-9


def test_upright_boxes_have_the_codes_of_upright_boxes():
    low = torch.rand(2, 6, 2, generator=torch.Generator().manual_seed(0)).double()
    corners = torch.cat([low, low + 1 + low.flip(0)], dim=2)
    middles, edges = (corners[..., 2:] + corners[..., :2]) / 2, corners[..., 2:] - corners[..., :2]
    upright = torch.cat([middles, edges, torch.zeros(2, 6, 1)], dim=2)
    codes = encode_rotated_boxes(*upright)
    torch.testing.assert_close(codes[:, :4], encode_boxes(*corners))
    assert (codes[:, 4:] == torch.tensor([1, 0])).all()
    back = decode_boxes(codes[:, :4].contiguous(), corners[1])
    assert box_pair_iou(back, corners[0]).min() > 1 - 1e-9


def test_codes_and_boxes_have_gradients():
    boxes, anchors = (random_boxes(3, seed, torch.float64) for seed in (1, 2))
    codes = encode_rotated_boxes(boxes, anchors)
    assert torch.autograd.gradcheck(
        lambda b: encode_rotated_boxes(b, anchors, validate=False), boxes.requires_grad_()
    )
    assert torch.autograd.gradcheck(
        lambda c: decode_rotated_boxes(c, anchors, validate=False), codes.requires_grad_()
    )


def test_an_angle_that_nobody_says_is_that_of_the_anchor():
    codes = torch.zeros(1, 6, requires_grad=True)
    box = decode_rotated_boxes(codes, torch.tensor([[1.0, 2.0, 3.0, 4.0, 0.5]]))
    box.sum().backward()
    assert box.tolist() == [[1.0, 2.0, 3.0, 4.0, 0.5]]
    assert torch.isfinite(codes.grad).all()


def test_no_boxes_have_no_codes():
    none = torch.zeros(0, 7)
    codes = encode_rotated_boxes(none, none)
    assert codes.shape == (0, 8)
    assert decode_rotated_boxes(codes, none).shape == (0, 7)


@pytest.mark.bad_input
def test_bad_boxes_and_codes_are_named():
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.0]])
    with pytest.raises(ValueError, match=r"boxes must have edges above 0, got \[0.0, 0.0, 0.0"):
        encode_rotated_boxes(0 * box, box)
    with pytest.raises(ValueError, match="anchors must have edges above 0, got .* in row 0"):
        encode_rotated_boxes(box, 0 * box)
    with pytest.raises(ValueError, match=r"anchors must have shape \(N, 5\), got \(1, 7\)"):
        encode_rotated_boxes(box, torch.ones(1, 7))
    with pytest.raises(ValueError, match="boxes and anchors must have as many rows, got"):
        encode_rotated_boxes(box, torch.ones(2, 5))
    with pytest.raises(ValueError, match="weights must be 6 numbers above 0, got"):
        encode_rotated_boxes(box, box, weights=(1.0,))
    with pytest.raises(ValueError, match=r"codes must have shape \(N, 6\), got \(1, 5\)"):
        decode_rotated_boxes(box, box)
    with pytest.raises(ValueError, match="codes must hold finite values, got NaN or infinity"):
        decode_rotated_boxes(torch.full((1, 6), math.nan), box)
    with pytest.raises(ValueError, match="clamp must be above 0 and finite, got 0"):
        decode_rotated_boxes(torch.ones(1, 6), box, clamp=0)
