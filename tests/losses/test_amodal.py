"""The loss of full box, visible box and fraction: its terms, its gradients, and in a detector."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from softoverlap import (
    AmodalBoxLoss,
    BoxGIoULoss,
    BoxIoULoss,
    RotatedBoxIoULoss,
    SoftBoxIoULoss,
    visible_box,
    visible_fraction,
)
from softoverlap.for_monai import lesion_target
from tests.support.detectors import batch, tiny_detector

ROOT = Path(__file__).parents[2]
FIELD = torch.tensor([0.0, 0.0, 9.0, 9.0], dtype=torch.float64)
FULL = torch.tensor([[-2.0, 0.0, 2.0, 4.0], [6.0, 5.0, 11.0, 10.0]], dtype=torch.float64)
PRED = torch.tensor([[-1.0, 0.5, 2.5, 4.0], [5.0, 5.5, 9.5, 11.0]], dtype=torch.float64)


def test_it_is_the_sum_of_its_three_terms():
    loss = AmodalBoxLoss("none", box_loss=BoxIoULoss(), visible_weight=0.5, fraction_weight=2.0)
    boxes = BoxIoULoss("none")
    fractions = visible_fraction(PRED, FIELD) - visible_fraction(FULL, FIELD)
    expected = boxes(PRED, FULL) + 2 * fractions.abs()
    expected += 0.5 * boxes(visible_box(PRED, FIELD), visible_box(FULL, FIELD))
    torch.testing.assert_close(loss(PRED, FULL, visible=FIELD), expected)
    each = FIELD.expand(2, 4)
    torch.testing.assert_close(loss(PRED, FULL, visible=each), expected)


def test_where_all_is_in_view_it_is_the_loss_of_the_full_box_twice():
    everything = torch.tensor([-99.0, -99.0, 99.0, 99.0])
    found = AmodalBoxLoss("none")(PRED, FULL, visible=everything)
    torch.testing.assert_close(found, 2 * BoxGIoULoss("none")(PRED, FULL))


def test_it_is_0_for_the_truth_and_above_for_its_visible_part():
    assert AmodalBoxLoss()(FULL, FULL, visible=FIELD) == 0
    seen = visible_box(FULL, FIELD)
    each = AmodalBoxLoss("none", box_loss=BoxIoULoss())(seen, FULL, visible=FIELD)
    hidden = 1 - visible_fraction(FULL, FIELD)
    torch.testing.assert_close(each, 2 * hidden)  # the IoU of the full box, and the fraction


def test_gradient_passes_gradcheck_and_reaches_a_box_that_is_out_of_view():
    pred = PRED.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: AmodalBoxLoss()(p, FULL, visible=FIELD), pred)
    far = (PRED + 30).requires_grad_()
    (gradient,) = torch.autograd.grad(AmodalBoxLoss()(far, FULL, visible=FIELD), far)
    assert gradient.isfinite().all()
    assert gradient.any(dim=1).all()


def test_where_neither_box_is_in_view_it_is_the_loss_of_the_full_boxes():
    beyond = torch.tensor([[10.0, 2.0, 14.0, 6.0]], dtype=torch.float64, requires_grad=True)
    target = beyond.detach() + 1e-4
    loss = AmodalBoxLoss()(beyond, target, visible=FIELD)
    assert loss == BoxGIoULoss()(beyond, target) < 1e-3
    (gradient,) = torch.autograd.grad(loss, beyond)
    assert gradient.isfinite().all()
    assert gradient.any()


def test_it_learns_a_full_box_of_which_half_is_in_view():
    pred = torch.tensor([[0.5, 1.0, 3.0, 5.0]], requires_grad=True)
    optimizer, loss = torch.optim.Adam([pred], lr=0.2), AmodalBoxLoss()
    for _ in range(60):
        optimizer.zero_grad()
        loss(pred, FULL[:1].float(), visible=FIELD).backward()
        optimizer.step()
    assert BoxIoULoss()(pred.detach(), FULL[:1]) < 0.1
    assert (visible_fraction(pred.detach(), FIELD) - 0.5).abs() < 0.05


def test_weights_reductions_and_types_are_those_of_other_box_losses():
    weight = torch.tensor([0.0, 3.0], dtype=torch.float64)
    each = AmodalBoxLoss("none")(PRED, FULL, visible=FIELD)
    assert AmodalBoxLoss("sum")(PRED, FULL, weight, visible=FIELD) == 3 * each[1]
    assert AmodalBoxLoss()(PRED, FULL, visible=FIELD) == each.mean()
    half = AmodalBoxLoss()(PRED.half(), FULL.half(), visible=FIELD)
    assert half.dtype == torch.float16
    nothing = PRED[:0].clone().requires_grad_()
    AmodalBoxLoss()(nothing, FULL[:0], visible=FIELD).backward()
    assert nothing.grad.shape == (0, 4)
    assert "fraction_weight=1.0" in repr(AmodalBoxLoss())


def amodal_batch():
    """Two images with lesions; that of the first one is moved, so that the image cuts it."""
    images, targets = batch()
    box = targets[0]["boxes"][:1] - torch.tensor([6.0, 0, 0, 6.0, 0, 0])
    return images, [
        {**lesion_target([]), "boxes": box, "labels": torch.tensor([0]), "lesions": None},
        targets[1],
    ]


@pytest.mark.parametrize("as_list", [False, True])
def test_a_detector_trains_with_it_and_hands_over_the_field_of_view(as_list):
    detector = tiny_detector()
    detector.set_box_regression_loss(AmodalBoxLoss(), encode_gt=False, decode_pred=True)
    images, targets = amodal_batch()
    seen = []
    detector.box_loss_func.register_forward_hook(
        lambda module, inputs, options, output: seen.append(options["visible"]), with_kwargs=True
    )
    loss = detector(list(images) if as_list else images, targets)["box_regression"]
    loss.backward()
    assert loss > 0
    assert any(p.grad is not None and p.grad.any() for p in detector.parameters())
    assert len(seen[0])
    assert (seen[0] == torch.tensor([0.0, 0, 0, 24, 24, 24])).all()
    targets[0]["visible"] = torch.tensor([0, 0, 0, 20, 24, 24])
    detector(images, targets)
    assert (seen[1] == torch.tensor([0.0, 0, 0, 20, 24, 24])).all()


def test_the_bundle_takes_it_as_the_page_says():
    page = (ROOT / "docs" / "occlusion.md").read_text()
    (changes,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    parser = ConfigParser()
    parser.read_config(ROOT / "softoverlap/bundles/lesion_detection/configs/train.yaml")
    parser.update(yaml.safe_load(changes))
    assert type(parser.get_parsed_content("box_loss")) is AmodalBoxLoss
    assert parser["box_codes"] is False
    assert parser["train#target_transforms#0#_target_"].endswith(".LesionsFromInstancesd")


@pytest.mark.bad_input
def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match="box_loss must be a loss of axis-aligned boxes, got Rotat"):
        AmodalBoxLoss(box_loss=RotatedBoxIoULoss())
    with pytest.raises(
        TypeError, match="box_loss must be a loss of axis-aligned boxes, got SoftBo"
    ):
        AmodalBoxLoss(box_loss=SoftBoxIoULoss())
    with pytest.raises(ValueError, match="box_loss must have no period"):
        AmodalBoxLoss(box_loss=BoxIoULoss(period=360))
    with pytest.raises(ValueError, match="visible_weight must be at least 0 and finite, got -1"):
        AmodalBoxLoss(visible_weight=-1)
    with pytest.raises(
        ValueError, match=r"visible must have shape \(4,\), or \(2, 4\) .* got \(6,\)"
    ):
        AmodalBoxLoss()(PRED, FULL, visible=torch.zeros(6))
    with pytest.raises(ValueError, match="input and target must have as many rows"):
        AmodalBoxLoss()(PRED, FULL[:1], visible=FIELD)


@pytest.mark.bad_input
def test_a_detector_refuses_codes_and_fields_that_do_not_fit():
    detector = tiny_detector()
    with pytest.raises(ValueError, match="for AmodalBoxLoss, which takes boxes, got True and Fal"):
        detector.set_box_regression_loss(AmodalBoxLoss(), encode_gt=True, decode_pred=False)
    detector.set_box_regression_loss(AmodalBoxLoss(), encode_gt=False, decode_pred=True)
    images, targets = amodal_batch()
    targets[0]["visible"] = torch.zeros(1, 6)
    with pytest.raises(ValueError, match=r"targets\[0\]\['visible'\] must have shape \(6,\)"):
        detector(images, targets)
    anchors = [torch.tensor([[2.0, 2, 2, 8, 8, 8]])]
    matched = [torch.tensor([0])]
    with pytest.raises(ValueError, match="targets must have 'visible', the field of view"):
        detector.compute_box_loss(torch.zeros(1, 1, 6), [amodal_batch()[1][0]], anchors, matched)
