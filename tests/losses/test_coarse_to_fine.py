"""The box loss that begins as smooth L1 on codes and ends as an IoU loss."""

from __future__ import annotations

import copy

import pytest
import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector

from softoverlap.boxes import encode_boxes
from softoverlap.for_monai import SoftRetinaNetDetector, lesion_retinanet, lesion_target
from softoverlap.losses import (
    BoxDIoULoss,
    BoxGIoULoss,
    BoxIoULoss,
    CoarseToFineBoxLoss,
    RotatedBoxIoULoss,
    SoftBoxIoULoss,
)


def boxes_and_anchors(count=5, ndim=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(3, 2, count, ndim, generator=generator, dtype=torch.float64)
    low, edge = 2 * unit[:, 0], 1 + 2 * unit[:, 1]
    return tuple(torch.cat([low, low + edge], dim=2))


def codes_of(ndim=3, weights=None):
    pred, target, anchors = boxes_and_anchors(ndim=ndim)
    return encode_boxes(pred, anchors, weights=weights), encode_boxes(
        target, anchors, weights=weights
    )


def at_step(step, **options):
    loss = CoarseToFineBoxLoss(**({"start": 10, "end": 20} | options))
    loss.step += step
    return loss


@pytest.mark.parametrize("step", [0, 5, 10])
def test_up_to_the_start_it_is_smooth_l1_as_in_monais_detector(step):
    pred, target = codes_of()
    expected = torch.nn.SmoothL1Loss(beta=1 / 9)(pred, target)
    torch.testing.assert_close(at_step(step)(pred, target), expected)


@pytest.mark.parametrize("step", [20, 21, 10**9])
@pytest.mark.parametrize("fine", [BoxIoULoss, BoxGIoULoss])
@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("weight", [None, 5.0])
def test_from_the_end_on_it_is_the_iou_loss_of_the_boxes_whatever_the_anchors(
    step, fine, ndim, weight
):
    weights = None if weight is None else [weight] * 2 * ndim
    loss = at_step(step, fine=fine(), weights=weights)
    pred, target, _ = boxes_and_anchors(ndim=ndim)
    torch.testing.assert_close(loss(*codes_of(ndim, weights)), fine()(pred, target))


def test_where_anchors_are_cubes_diou_is_that_of_the_boxes_too():
    pred, target, _ = boxes_and_anchors()
    cubes = torch.tensor([[1.0, 2.0, 3.0, 5.0, 6.0, 7.0]], dtype=torch.float64).expand(5, 6)
    codes = encode_boxes(pred, cubes), encode_boxes(target, cubes)
    value = at_step(20, fine=BoxDIoULoss())(*codes)
    torch.testing.assert_close(value, BoxDIoULoss()(pred, target))


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (10, 0.0), (13, 0.3), (20, 1.0), (30, 1.0)])
def test_in_between_it_is_blended_linearly(step, share):
    pred, target = codes_of()
    coarse, fine = (at_step(end, reduction="none")(pred, target) for end in (0, 20))
    loss = at_step(step, reduction="none")
    assert loss.fine_share().item() == pytest.approx(share)
    torch.testing.assert_close(loss(pred, target), (1 - share) * coarse + share * fine)


def test_steps_are_calls_in_training_mode_with_gradients():
    loss, codes = CoarseToFineBoxLoss(start=0, end=3), codes_of()
    for expected in (1, 2):
        loss(*codes)
        assert loss.step.item() == expected
    with torch.no_grad():
        loss(*codes)
    loss.eval()(*codes)
    assert loss.step.item() == 2
    loss.train()(*codes)
    assert loss.fine_share().item() == 1


def test_the_step_is_saved_and_loaded():
    loss = at_step(17)
    other = CoarseToFineBoxLoss(start=10, end=20)
    other.load_state_dict(loss.state_dict())
    assert set(loss.state_dict()) == {"step"}
    assert other.step.item() == 17
    assert copy.deepcopy(loss).step is not loss.step


def test_the_iou_loss_that_was_passed_is_left_as_it_was():
    fine = BoxIoULoss("sum", focal_gamma=1.0)
    loss = at_step(20, fine=fine, reduction="none")
    assert fine.reduction == "sum"
    pred, target, _ = boxes_and_anchors()
    expected = BoxIoULoss("none", focal_gamma=1.0)(pred, target)
    torch.testing.assert_close(loss(*codes_of()), expected)


@pytest.mark.parametrize("step", [0, 15, 20])
def test_gradient_passes_gradcheck(step):
    pred, target = codes_of()
    loss = at_step(step).eval()
    assert torch.autograd.gradcheck(lambda codes: loss(codes, target), pred.requires_grad_())


@pytest.mark.parametrize(("step", "far"), [(0, 1e30), (15, 1e3), (20, 1e3)])
def test_codes_far_off_have_finite_losses_and_gradients(step, far):
    pred = torch.tensor([[far, -far, far, -far], [0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    value = at_step(step)(pred, torch.zeros(2, 4))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(pred.grad).all()


@pytest.mark.parametrize("step", [0, 15, 20])
def test_weights_reductions_and_half_precision_are_those_of_the_box_losses(step):
    pred, target = codes_of()
    weight = torch.tensor([1.0, 0.0, 2.0, 3.0, 0.5], dtype=torch.float64)
    each = at_step(step, reduction="none")(pred, target)
    weighted = at_step(step)(pred, target, weight)
    torch.testing.assert_close(weighted, (weight * each).sum() / 5)
    torch.testing.assert_close(at_step(step, reduction="sum")(pred, target), each.sum())
    half = at_step(step)(pred.half(), target.half())
    assert half.dtype == torch.float16
    assert half.item() == pytest.approx(each.mean().item(), abs=2e-3)


@pytest.mark.parametrize("step", [0, 15, 20])
def test_the_mean_over_no_boxes_is_zero_and_attached(step):
    none = torch.zeros(0, 6, requires_grad=True)
    value = at_step(step)(none, torch.zeros(0, 6))
    assert value.item() == 0
    assert torch.autograd.grad(value, none)[0].shape == (0, 6)


def tiny_network():
    torch.manual_seed(0)
    return lesion_retinanet(channels=(8, 16, 16), feature_channels=16, anchor_sizes=(5.0, 8.0))


def box_loss_of(loss, encode_gt, decode_pred, calls=1):
    """The detector, and its box loss on one image in each of the calls."""
    detector = SoftRetinaNetDetector(tiny_network())
    detector.set_box_regression_loss(loss, encode_gt=encode_gt, decode_pred=decode_pred)
    box = torch.tensor([[3.0, 4.0, 5.0, 9.0, 10.0, 12.0]])
    target = lesion_target([]) | {"boxes": box, "labels": torch.tensor([0]), "lesions": None}
    image = torch.randn(1, 1, 24, 24, 24, generator=torch.Generator().manual_seed(1))
    return detector, [detector(image, [target])["box_regression"] for _ in range(calls)]


def test_a_detector_walks_from_smooth_l1_to_giou():
    loss = CoarseToFineBoxLoss(start=1, end=3)
    detector, values = box_loss_of(loss, True, False, calls=4)
    _, (coarse,) = box_loss_of(torch.nn.SmoothL1Loss(beta=1 / 9), True, False)
    _, (fine,) = box_loss_of(BoxGIoULoss(), False, True)
    expected = torch.stack([coarse, coarse, (coarse + fine) / 2, fine])
    torch.testing.assert_close(torch.stack(values), expected, atol=1e-5, rtol=1e-5)
    assert loss.step.item() == 4  # shared with the copy that the detector made
    values[-1].backward()
    assert all(torch.isfinite(p.grad).all() for p in detector.parameters())


def test_the_step_is_part_of_the_detectors_state():
    detector, _ = box_loss_of(CoarseToFineBoxLoss(start=1, end=3), True, False, calls=2)
    state = detector.state_dict()
    assert state["box_loss_func.step"].item() == 2
    other, _ = box_loss_of(CoarseToFineBoxLoss(start=1, end=3), True, False, calls=0)
    other.load_state_dict(state)
    assert other.box_loss_func.step.item() == 2


def test_monais_own_detector_takes_it():
    network, loss = tiny_network(), CoarseToFineBoxLoss(start=0, end=1)
    detector = RetinaNetDetector(network, network.anchor_generator)
    detector.set_box_regression_loss(loss, encode_gt=True, decode_pred=False)
    anchors, boxes = torch.tensor([[2.0, 2, 2, 8, 8, 8]]), torch.tensor([[3.0, 2, 2, 9, 8, 7]])
    codes = torch.zeros(1, 1, 6, requires_grad=True)
    for expected in (
        torch.nn.SmoothL1Loss(beta=1 / 9)(codes[0], encode_boxes(boxes, anchors)),
        BoxGIoULoss()(anchors, boxes),
    ):
        value = detector.compute_box_loss(codes, [{"boxes": boxes}], [anchors], [torch.tensor([0])])
        torch.testing.assert_close(value, expected)


@pytest.mark.parametrize(("start", "end"), [(-1, 3), (3, 3), (4, 3)])
def test_a_range_without_steps_is_refused(start, end):
    message = f"start and end must fulfil 0 <= start < end, got {start} and {end}"
    with pytest.raises(ValueError, match=message):
        CoarseToFineBoxLoss(start=start, end=end)


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match="beta must be above 0 and finite, got 0"):
        CoarseToFineBoxLoss(start=0, end=1, beta=0.0)
    with pytest.raises(ValueError, match=r"reduction must be one of .*, got 'median'"):
        CoarseToFineBoxLoss("median", start=0, end=1)
    with pytest.raises(ValueError, match="weights must be 6 numbers above 0, got"):
        CoarseToFineBoxLoss(start=0, end=1, weights=[1.0])(*codes_of())


@pytest.mark.bad_input
def test_bad_input_is_named():
    loss = CoarseToFineBoxLoss(start=0, end=1)
    with pytest.raises(ValueError, match=r"input must have shape \(N, 2 \* ndim\), got \(1, 3\)"):
        loss(torch.zeros(1, 3), torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"target must have shape \(N, 4\), got \(1, 6\)"):
        loss(torch.zeros(1, 4), torch.zeros(1, 6))
    with pytest.raises(ValueError, match="input and target must have as many rows"):
        loss(torch.zeros(1, 4), torch.zeros(2, 4))
    with pytest.raises(ValueError, match="target must hold finite codes, got NaN or infinity"):
        loss(torch.zeros(1, 4), torch.full((1, 4), float("inf")))
    with pytest.raises(ValueError, match=r"weight must have shape \(1,\), one a box, got \(2,\)"):
        loss(torch.zeros(1, 4), torch.zeros(1, 4), torch.ones(2))
    for fine in (RotatedBoxIoULoss(), SoftBoxIoULoss(), torch.nn.L1Loss()):
        with pytest.raises(TypeError, match="fine must be a loss of axis-aligned boxes, got"):
            CoarseToFineBoxLoss(start=0, end=1, fine=fine)


@pytest.mark.bad_input
def test_boxes_in_place_of_codes_are_refused():
    boxes = torch.tensor([[2.0, 2.0, 9.0, 12.0]])
    with pytest.raises(ValueError, match=r"target must hold codes, .* got 12; were boxes passed"):
        at_step(0)(torch.zeros(1, 4), boxes)
    assert at_step(0, weights=(1.0, 1.0, 10.0, 10.0))(torch.zeros(1, 4), boxes) > 0


@pytest.mark.bad_input
def test_a_call_that_is_refused_is_no_step():
    loss = at_step(3)
    with pytest.raises(ValueError, match=r"weight must have shape \(1,\)"):
        loss(torch.zeros(1, 4), torch.zeros(1, 4), torch.ones(2))
    assert loss.step == 3
