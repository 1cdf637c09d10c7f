"""Log-size coding of boxes, with MONAI's coder as the oracle."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st
from monai.apps.detection.utils.box_coder import BoxCoder

from softoverlap.boxes import decode_boxes, encode_boxes, volume
from softoverlap.losses import BoxIoULoss

WEIGHTS = {2: (1.0, 1.0, 1.0, 1.0), 3: (10.0, 10.0, 5.0, 5.0, 2.0, 1.0)}


@st.composite
def solid_boxes(draw, ndim, count=3):
    """Boxes (count, 2 * ndim) on eighths whose edges are above 0."""
    eighths = st.lists(st.integers(-64, 64), min_size=ndim, max_size=ndim)
    edges = st.lists(st.integers(1, 64), min_size=ndim, max_size=ndim)
    low = torch.tensor([draw(eighths) for _ in range(count)], dtype=torch.float64)
    return torch.cat([low, low + torch.tensor([draw(edges) for _ in range(count)])], dim=1) / 8


def random_pairs(ndim, count=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corners = 10 * torch.rand(2, 2, count, ndim, generator=generator)
    return torch.cat([corners[0], corners[0] + corners[1] + 0.5], dim=2)


@given(st.integers(1, 4), st.data())
def test_decoding_undoes_encoding(ndim, data):
    boxes, anchors = data.draw(solid_boxes(ndim)), data.draw(solid_boxes(ndim))
    weights = data.draw(st.lists(st.floats(0.1, 10), min_size=2 * ndim, max_size=2 * ndim))
    codes = encode_boxes(boxes, anchors, weights=weights)
    decoded = decode_boxes(codes, anchors, weights=weights, clamp=10.0)
    torch.testing.assert_close(decoded, boxes, atol=1e-12, rtol=1e-12)


@given(st.integers(1, 4), st.data())
def test_codes_ignore_translation_and_scale_of_box_and_anchor(ndim, data):
    boxes, anchors = data.draw(solid_boxes(ndim)), data.draw(solid_boxes(ndim))
    codes = encode_boxes(boxes, anchors)
    assert torch.equal(encode_boxes(4 * boxes + 16, 4 * anchors + 16), codes)
    assert (encode_boxes(anchors, anchors) == 0).all()


def test_the_code_of_an_interval_is_that_of_its_centre_and_its_duration():
    interval, anchor = torch.tensor([[3.0, 9.0]]), torch.tensor([[2.0, 4.0]])
    centre, duration = encode_boxes(interval, anchor)[0].tolist()
    assert centre == (6 - 3) / 2
    assert duration == pytest.approx(math.log(6 / 2))


@pytest.mark.parametrize("ndim", WEIGHTS)
def test_codes_equal_monais(ndim):
    boxes, anchors = random_pairs(ndim)
    theirs = BoxCoder(weights=WEIGHTS[ndim]).encode_single(boxes, anchors)
    ours = encode_boxes(boxes, anchors, weights=WEIGHTS[ndim])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("ndim", WEIGHTS)
def test_decoded_boxes_and_their_gradients_equal_monais(ndim):
    """Also where sizes are clamped."""
    _, anchors = random_pairs(ndim)
    coder = BoxCoder(weights=WEIGHTS[ndim])
    values, gradients = [], []
    for decode in (
        lambda codes: decode_boxes(codes, anchors, weights=WEIGHTS[ndim]),
        lambda codes: coder.decode_single(codes, anchors),
    ):
        codes = torch.randn(20, 2 * ndim, generator=torch.Generator().manual_seed(1))
        codes[:5] *= 20
        decoded = decode(codes.requires_grad_())
        decoded.square().sum().sqrt().backward()
        values.append(decoded.detach())
        gradients.append(codes.grad)
    torch.testing.assert_close(*values, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_decoding_clamps_so_that_no_size_overflows(dtype):
    anchors = torch.tensor([[0.0, 0.0, 0.0, 2000.0, 3000.0, 5000.0]], dtype=dtype)
    codes = torch.full((1, 6), 1e4, dtype=dtype)
    codes[:, :3] = 0
    decoded = decode_boxes(codes, anchors)
    assert decoded.dtype == torch.float32
    assert torch.isfinite(decoded).all()
    edges = decoded[:, 3:] - decoded[:, :3]
    torch.testing.assert_close(edges, 1000 / 16 * anchors[:, 3:].float(), rtol=1e-5, atol=0)
    smaller = decode_boxes(codes, anchors, clamp=math.log(2))
    torch.testing.assert_close(volume(smaller), 8 * volume(anchors), rtol=1e-5, atol=0)


def test_very_small_sizes_decode_to_points_with_finite_gradients():
    codes = torch.tensor([[0.5, -1e4]], requires_grad=True)
    decoded = decode_boxes(codes, torch.tensor([[0.0, 2.0]]))
    assert decoded.tolist() == [[2.0, 2.0]]
    decoded.sum().backward()
    assert torch.isfinite(codes.grad).all()


@pytest.mark.parametrize("code", [encode_boxes, decode_boxes])
def test_gradient_passes_gradcheck(code):
    boxes, anchors = random_pairs(3, count=3).double()
    first = boxes if code is encode_boxes else encode_boxes(boxes, anchors)
    inputs = (first.requires_grad_(), anchors.requires_grad_())
    assert torch.autograd.gradcheck(lambda a, b: code(a, b, validate=False), inputs)


def size_gradients(scale):
    """The derivative of 1 - IoU by the logarithm of each edge, and by the edge itself."""
    anchor = scale * torch.tensor([[0.0, 0.0, 0.0, 4.0, 3.0, 5.0]], dtype=torch.float64)
    target = scale * torch.tensor([[0.5, 0.25, 1.0, 4.0, 3.5, 5.5]], dtype=torch.float64)
    codes = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    loss = BoxIoULoss()(decode_boxes(codes, anchor), target)
    (gradient,) = torch.autograd.grad(loss, codes)
    log_edges = gradient[0, 3:]
    return log_edges, log_edges / (anchor[0, 3:] - anchor[0, :3])  # d ln w = dw / w


def test_the_gradient_by_the_log_of_a_size_ignores_scale_while_that_by_the_size_does_not():
    (by_log, by_edge), (by_log_large, by_edge_large) = size_gradients(1.0), size_gradients(100.0)
    assert (by_log != 0).all()
    torch.testing.assert_close(by_log_large, by_log)
    torch.testing.assert_close(100 * by_edge_large, by_edge)


def test_codes_take_the_type_of_the_boxes_and_boxes_are_float32_or_wider():
    boxes, anchors = random_pairs(2)
    codes = encode_boxes(boxes.half(), anchors.half())
    assert codes.dtype == torch.float16
    assert decode_boxes(codes, anchors.half()).dtype == torch.float32
    assert encode_boxes(boxes.double(), anchors).dtype == torch.float64
    assert decode_boxes(codes.double(), anchors).dtype == torch.float64
    whole = torch.tensor([[0, 0, 4, 2]])
    assert encode_boxes(whole, whole).dtype == torch.get_default_dtype()


def test_no_boxes_are_normal_input():
    none = torch.zeros(0, 6)
    assert encode_boxes(none, none).shape == (0, 6)
    assert decode_boxes(none, none).shape == (0, 6)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, float("nan")], [1.0, 1.0, 1.0]])
@pytest.mark.parametrize("code", [encode_boxes, decode_boxes])
def test_weights_that_do_not_fit_are_refused(code, weights):
    with pytest.raises(ValueError, match="weights must be 2 numbers above 0, got"):
        code(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 1.0]]), weights=weights)


def test_a_clamp_of_zero_is_refused():
    with pytest.raises(ValueError, match="clamp must be above 0 and finite, got 0"):
        decode_boxes(torch.zeros(1, 2), torch.tensor([[0.0, 1.0]]), clamp=0.0)


def test_flat_boxes_have_no_code():
    box, flat = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([[0.0, 0.0, 1.0, 0.0]])
    with pytest.raises(ValueError, match="boxes must have edges above 0, got .* in row 0"):
        encode_boxes(flat, box)
    with pytest.raises(ValueError, match="anchors must have edges above 0, got .* in row 0"):
        encode_boxes(box, flat)


@pytest.mark.bad_input
def test_bad_boxes_and_codes_are_named():
    box = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    with pytest.raises(ValueError, match=r"anchors must have shape \(N, 4\), got \(1, 6\)"):
        encode_boxes(box, torch.ones(1, 6))
    with pytest.raises(ValueError, match="boxes and anchors must have as many rows"):
        encode_boxes(box, torch.cat([box, box]))
    with pytest.raises(ValueError, match=r"codes must have shape \(N, 2 \* ndim\), got \(1, 3\)"):
        decode_boxes(box[:, :3], box)
    with pytest.raises(ValueError, match="codes must hold finite codes, got NaN or infinity"):
        decode_boxes(box * float("inf"), box)
    with pytest.raises(TypeError, match="codes must hold real codes, got dtype torch.bool"):
        decode_boxes(box.bool(), box)
    with pytest.raises(TypeError, match="boxes must be a torch.Tensor, got list"):
        encode_boxes(box.tolist(), box)
