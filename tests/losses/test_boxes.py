"""Losses of boxes: one minus the score, with MONAI's GIoU loss as the oracle."""

from __future__ import annotations

import pytest
import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.losses.giou_loss import BoxGIoULoss as MonaiGIoULoss
from monai.utils import LossReduction

from softoverlap.for_monai import SoftRetinaNetDetector, lesion_retinanet, lesion_target
from softoverlap.losses import (
    BoxCIoULoss,
    BoxDIoULoss,
    BoxEIoULoss,
    BoxGIoULoss,
    BoxIoULoss,
    BoxNWDLoss,
    RotatedBoxDIoULoss,
    RotatedBoxGIoULoss,
    RotatedBoxIoULoss,
)
from softoverlap.overlaps import (
    box_pair_ciou,
    box_pair_diou,
    box_pair_eiou,
    box_pair_giou,
    box_pair_iou,
    box_pair_nwd,
    rotated_box_pair_diou,
    rotated_box_pair_giou,
    rotated_box_pair_iou,
)
from tests.support import reference
from tests.support.conformance import assert_is_expected, cases_of, needs_vectors
from tests.support.reference_oriented import reference_rotated_diou, reference_rotated_giou

SCORE = {
    BoxIoULoss: box_pair_iou,
    BoxGIoULoss: box_pair_giou,
    BoxDIoULoss: box_pair_diou,
    BoxCIoULoss: box_pair_ciou,
    BoxEIoULoss: box_pair_eiou,
    BoxNWDLoss: box_pair_nwd,
    RotatedBoxIoULoss: rotated_box_pair_iou,
    RotatedBoxGIoULoss: rotated_box_pair_giou,
    RotatedBoxDIoULoss: rotated_box_pair_diou,
}
LOSSES = list(SCORE)
TURNED = {
    RotatedBoxIoULoss: reference.reference_rotated_iou,
    RotatedBoxGIoULoss: reference_rotated_giou,
    RotatedBoxDIoULoss: reference_rotated_diou,
}
UPRIGHT = [loss for loss in LOSSES if loss not in TURNED]
FOCUS = {BoxNWDLoss: box_pair_nwd, **dict.fromkeys(TURNED, rotated_box_pair_iou)}  # others: the IoU


def pairs(loss, count=6, ndim=3, seed=0, dtype=torch.float64):
    """Boxes that mostly meet, away from touching faces."""
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(2, 2, count, ndim, generator=generator, dtype=dtype)
    low, edge = 2 * unit[:, 0], 1 + 2 * unit[:, 1]
    if loss in TURNED:
        angle = torch.rand(2, count, 1, generator=generator, dtype=dtype)
        return tuple(torch.cat([low, edge, angle], dim=2))
    return tuple(torch.cat([low, low + edge], dim=2))


def reference_terms(loss, a, b):
    """The IoU and each penalty by itself."""
    if loss in TURNED:
        iou = reference.reference_rotated_iou(a, b)
        return iou, [iou - TURNED[loss](a, b)]
    if loss is BoxNWDLoss:
        return reference.reference_box_nwd(a, b), []
    iou, diou = reference.reference_box_iou(a, b), reference.reference_box_diou(a, b)
    if loss is BoxIoULoss:
        return iou, []
    if loss is BoxGIoULoss:
        return iou, [iou - reference.reference_box_giou(a, b)]
    if loss is BoxCIoULoss:
        return iou, [iou - diou, diou - reference.reference_box_ciou(a, b)]
    ndim = len(a) // 2
    shape = [] if loss is BoxDIoULoss else [_edge_penalty(a, b, k, ndim) for k in range(ndim)]
    return iou, [iou - diou, *shape]


def _edge_penalty(a, b, axis, ndim):
    hull = max(a[axis + ndim], b[axis + ndim]) - min(a[axis], b[axis])
    return ((a[axis + ndim] - a[axis] - b[axis + ndim] + b[axis]) / hull) ** 2


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("ndim", [2, 3])
def test_the_loss_is_one_minus_the_score(loss, ndim):
    pred, target = pairs(loss, ndim=ndim)
    expected = 1 - SCORE[loss](pred, target)
    torch.testing.assert_close(loss("none")(pred, target), expected)
    torch.testing.assert_close(loss()(pred, target), expected.mean())
    torch.testing.assert_close(loss("sum")(pred, target), expected.sum())


@pytest.mark.parametrize("loss", UPRIGHT)
def test_intervals_have_losses_too(loss):
    pred, target = pairs(loss, ndim=1)
    torch.testing.assert_close(loss("none")(pred, target), 1 - SCORE[loss](pred, target))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("alpha", [0.5, 2.0, 3.0])
def test_alpha_is_a_power_of_the_iou_and_of_each_penalty(loss, alpha):
    pred, target = pairs(loss)
    expected = []
    for a, b in zip(pred.tolist(), target.tolist(), strict=True):
        score, penalties = reference_terms(loss, a, b)
        expected.append(1 - score**alpha + sum(penalty**alpha for penalty in penalties))
    value = loss("none", alpha=alpha)(pred, target)
    torch.testing.assert_close(value, torch.tensor(expected).double(), atol=1e-7, rtol=0)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_focal_weight_counts_without_a_gradient(loss):
    pred, target = pairs(loss)
    pred.requires_grad_()
    plain = loss("none")(pred, target)
    weight = (1 - FOCUS.get(loss, box_pair_iou)(pred, target)).detach() ** 1.5
    focal = loss("none", focal_gamma=1.5)(pred, target)
    torch.testing.assert_close(focal, weight * plain)
    (expected,) = torch.autograd.grad((weight * plain).sum(), pred)
    torch.testing.assert_close(torch.autograd.grad(focal.sum(), pred)[0], expected)


def test_the_focal_weight_leads_with_boxes_that_are_far_off():
    pred = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 1.0]])
    target = torch.tensor([[0.0, 0.0, 4.0, 4.0]]).expand(2, 4) + torch.tensor([0.0, 0.0, 0.1, 0.0])
    near, far = BoxIoULoss("none", focal_gamma=2.0)(pred, target) / BoxIoULoss("none")(pred, target)
    assert near < far


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_gradient_passes_gradcheck(loss, alpha):
    options = {"gate": 1.0} if loss is BoxCIoULoss else {}  # its weight is detached
    inputs = [boxes.requires_grad_() for boxes in pairs(loss, count=3)]
    assert torch.autograd.gradcheck(loss(alpha=alpha, validate=False, **options), inputs)


def test_the_gate_of_ciou_is_that_of_the_score():
    pred, target = pairs(BoxCIoULoss)
    expected = 1 - box_pair_ciou(pred, target, gate=0.5)
    torch.testing.assert_close(BoxCIoULoss("none", gate=0.5)(pred, target), expected)


def test_the_constant_of_nwd_is_that_of_the_score():
    pred, target = pairs(BoxNWDLoss)
    expected = 1 - box_pair_nwd(pred, target, constant=3.0)
    torch.testing.assert_close(BoxNWDLoss("none", constant=3.0)(pred, target), expected)


REDUCTIONS = ["none", "mean", "sum", *LossReduction]


@pytest.mark.parametrize("reduction", REDUCTIONS, ids=str)
@pytest.mark.parametrize("ndim", [2, 3])
def test_giou_loss_equals_monais(reduction, ndim):
    values, gradients = [], []
    for loss in (BoxGIoULoss(reduction), MonaiGIoULoss(reduction)):
        pred, target = pairs(BoxGIoULoss, ndim=ndim, dtype=torch.float32)
        value = loss(pred.requires_grad_(), target)
        value.sum().backward()
        values.append(value.detach())
        gradients.append(pred.grad)
    torch.testing.assert_close(*values, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("reduction", REDUCTIONS, ids=str)
def test_reductions_may_be_monais_enum(loss, reduction):
    pred, target = pairs(loss)
    each = loss("none")(pred, target)
    name = getattr(reduction, "value", reduction)
    expected = each if name == "none" else getattr(each, name)()
    torch.testing.assert_close(loss(reduction)(pred, target), expected)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_weight_counts_per_box_and_the_mean_is_over_all(loss):
    pred, target = pairs(loss, count=3)
    pred.requires_grad_()
    weight = torch.tensor([1.0, 0.0, 2.5], dtype=torch.float64)
    each = loss("none")(pred, target)
    torch.testing.assert_close(loss("none")(pred, target, weight), weight * each)
    torch.testing.assert_close(loss()(pred, target, weight), (weight * each).sum() / 3)
    (gradient,) = torch.autograd.grad(loss("sum")(pred, target, weight), pred)
    assert (gradient[1] == 0).all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("options", [{}, {"alpha": 2.0, "focal_gamma": 1.0}])
def test_the_loss_of_no_boxes_is_zero_and_attached(loss, options):
    pred, target = (boxes[:0] for boxes in pairs(loss))
    pred = pred.clone().requires_grad_()
    for reduction in ("mean", "sum"):
        value = loss(reduction, **options)(pred, target)
        assert value.item() == 0
        (gradient,) = torch.autograd.grad(value, pred)
        assert gradient.shape == pred.shape
    assert loss("none")(pred, target).shape == (0,)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_boxes_are_computed_in_float32(loss, dtype):
    pred, target = (30 * boxes.to(dtype) for boxes in pairs(loss))
    value = loss("none")(pred, target)
    assert value.dtype == dtype
    assert torch.equal(value, loss("none")(pred.float(), target.float()).to(dtype))


@pytest.mark.parametrize("loss", UPRIGHT)
@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_flat_and_equal_boxes_have_finite_gradients(loss, alpha):
    pred = torch.tensor([[4.0, 5.0, 6.0, 5.0], [1.0] * 4, [1.0] * 4, [0.0, 0.0, 1.0, 1.0]])
    target = torch.tensor(
        [[4.0, 4.0, 6.0, 6.0], [1.0] * 4, [0.0, 0.0, 3.0, 3.0], [0.0, 0.0, 1.0, 1.0]]
    )
    value = loss("none", alpha=alpha, focal_gamma=0.5)(pred.requires_grad_(), target)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(pred.grad).all()
    assert (value[[1, 3]] == 0).all()


@needs_vectors
@pytest.mark.parametrize(
    ("name", "loss", "count"),
    [
        ("giou_loss", BoxGIoULoss, 2),
        ("diou_loss", BoxDIoULoss, 4),
        ("ciou_loss", BoxCIoULoss, 3),
    ],
)
def test_conformance_cases_of_the_field(name, loss, count):
    cases = cases_of(name)
    assert len(cases) == count
    for case in cases:
        assert_is_expected(loss(case["reduction"])(case["a"], case["b"]), case)


@needs_vectors
@pytest.mark.parametrize("loss", UPRIGHT)
def test_a_predicted_height_of_zero_has_a_finite_gradient(loss):
    (case,) = cases_of("ciou_loss_grad_finite")
    pred = case["a"].requires_grad_()
    value = loss()(pred, case["b"])
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(pred.grad).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_of_metatensors_is_a_plain_tensor(loss):
    pred, target = pairs(loss)
    value = loss()(MetaTensor(pred), MetaTensor(target))
    assert type(value) is torch.Tensor
    torch.testing.assert_close(value, loss()(pred, target))


def test_it_takes_the_place_of_monais_in_a_config():
    config = {"loss": {"_target_": "softoverlap.BoxGIoULoss", "reduction": "sum"}}
    loss = ConfigParser(config).get_parsed_content("loss")
    assert type(loss) is BoxGIoULoss
    assert loss.reduction == "sum"


def tiny_network():
    torch.manual_seed(0)
    return lesion_retinanet(channels=(8, 16, 16), feature_channels=16, anchor_sizes=(5.0, 8.0))


def box_loss_in_training(loss):
    """The detector's box loss on one image, and the gradient of the network."""
    detector = SoftRetinaNetDetector(tiny_network())
    detector.set_box_regression_loss(loss, encode_gt=False, decode_pred=True)
    target = lesion_target([])
    target.update(
        {
            "boxes": torch.tensor([[3.0, 4, 5, 9, 10, 12]]),
            "labels": torch.tensor([0]),
            "lesions": None,
        }
    )
    image = torch.randn(1, 1, 24, 24, 24, generator=torch.Generator().manual_seed(1))
    value = detector(image, [target])["box_regression"]
    value.backward()
    return value.detach(), torch.cat([p.grad.flatten() for p in detector.parameters()])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_detector_trains_with_it_as_with_monais(reduction):
    value, gradient = box_loss_in_training(BoxGIoULoss(reduction))
    expected, expected_gradient = box_loss_in_training(MonaiGIoULoss(reduction))
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("loss", UPRIGHT)
def test_every_loss_plugs_into_a_detector(loss):
    value, gradient = box_loss_in_training(loss(alpha=2.0, focal_gamma=0.5))
    assert value > 0
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).any()


@pytest.mark.parametrize("loss", UPRIGHT)
def test_monais_own_detector_takes_it(loss):
    network = tiny_network()
    detector = RetinaNetDetector(network, network.anchor_generator)
    detector.set_box_regression_loss(loss(), encode_gt=False, decode_pred=True)
    anchors = [torch.tensor([[2.0, 2, 2, 8, 8, 8], [20.0, 20, 20, 22, 22, 22]])]
    boxes = torch.tensor([[3.0, 2, 2, 9, 8, 8]])
    codes = torch.zeros(1, 2, 6, requires_grad=True)
    value = detector.compute_box_loss(codes, [{"boxes": boxes}], anchors, [torch.tensor([0, -1])])
    torch.testing.assert_close(value, 1 - SCORE[loss](anchors[0][:1], boxes)[0])
    value.backward()
    assert (codes.grad[0, 0] != 0).any()
    assert (codes.grad[0, 1] == 0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_arguments_out_of_range_are_refused(loss):
    with pytest.raises(ValueError, match=r"reduction must be one of .*, got 'median'"):
        loss("median")
    with pytest.raises(ValueError, match=r"alpha must be above 0 and finite, got 0"):
        loss(alpha=0.0)
    with pytest.raises(ValueError, match=r"focal_gamma must be at least 0 and finite, got -1"):
        loss(focal_gamma=-1.0)


def test_a_constant_of_zero_is_refused():
    with pytest.raises(ValueError, match="constant must be above 0 and finite, got 0"):
        BoxNWDLoss(constant=0.0)


@pytest.mark.bad_input
@pytest.mark.parametrize("loss", LOSSES)
def test_bad_boxes_and_weights_are_named(loss):
    pred, target = pairs(loss, count=2)
    with pytest.raises(ValueError, match="target must have shape"):
        loss()(pred, target[:, :4])
    with pytest.raises(ValueError, match="input and target must have as many rows"):
        loss()(pred, target[:1])
    with pytest.raises(ValueError, match="input must hold finite"):
        loss()(pred * float("nan"), target)
    with pytest.raises(ValueError, match=r"input must have (every maximum|edges of at least 0)"):
        loss()(-pred, target)
    with pytest.raises(ValueError, match=r"weight must have shape \(2,\), one a box, got \(1,\)"):
        loss()(pred, target, torch.ones(1))
    with pytest.raises(TypeError, match="input must be a torch.Tensor, got list"):
        loss()(pred.tolist(), target)


@pytest.mark.bad_input
def test_negative_weights_and_gates_out_of_range_are_refused():
    boxes = torch.tensor([[0.0, 1.0], [0.0, 2.0]])
    with pytest.raises(ValueError, match="weight must be at least 0, got -1"):
        BoxIoULoss()(boxes, boxes, torch.tensor([-1.0, 1.0]))
    with pytest.raises(TypeError, match=r"weight must be a torch.Tensor, got list"):
        BoxIoULoss()(boxes, boxes, [1.0, 1.0])
    with pytest.raises(ValueError, match=r"gate must lie in \[0, 1\] or be None, got 5"):
        BoxCIoULoss(gate=5.0)


@pytest.mark.slow
@pytest.mark.parametrize("loss", [BoxIoULoss, BoxGIoULoss, BoxCIoULoss])
def test_losses_compile_to_one_graph(loss):
    corners = torch.rand(2, 6, 3, generator=torch.Generator().manual_seed(0))
    pred, target = (torch.cat([low, low + 1], dim=1) for low in corners)
    torch._dynamo.reset()
    compiled = torch.compile(loss(validate=False), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(pred, target), loss()(pred, target))


def test_a_loss_shows_its_settings():
    assert repr(BoxNWDLoss(constant=3.0)).endswith("alpha=1.0, constant=3.0)")


def test_settings_that_travel_with_the_overlap_can_be_read_and_not_set():
    for loss, name, value in (
        (BoxCIoULoss(gate=0.2), "gate", 0.2),
        (BoxNWDLoss(constant=5.0), "constant", 5.0),
    ):
        assert getattr(loss, name) == value
        with pytest.raises(AttributeError):
            setattr(loss, name, 0.5)
