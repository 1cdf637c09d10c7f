"""The IoU-aware branch, from the network's head to the score of a detection."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap.anchors import Matches, anchor_quality, best_box
from softoverlap.app.train import detect, load_checkpoint, write_checkpoint
from softoverlap.for_monai import lesion_retinanet, lesion_target
from softoverlap.for_monai.detector.ranking import ranking_logits
from softoverlap.losses import QualityFocalLoss, iou_aware_score
from softoverlap.overlaps import box_pair_iou
from tests.support.checkpoints import small_detector
from tests.support.detectors import SIZE, aware, batch, scan, tiny_detector
from tests.support.lesion_makers import ball_lesion

CODED = 1.5
"""What the constant network says of the quality of every box, as a logit; of its class, 0."""
SCORES = {
    "cls": 0.5,
    "product": 0.5 / (1 + math.exp(-CODED)),
    "geometric": math.sqrt(0.5 / (1 + math.exp(-CODED))),
}


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_box_head_is_one_channel_an_anchor_wider(spatial_dims):
    network = lesion_retinanet(spatial_dims=spatial_dims, iou_branch=True)
    assert network.iou_branch is True
    maps = network(torch.zeros(1, 1, *[16] * spatial_dims))["box_regression"]
    assert [level.shape[1] for level in maps] == [3 * (2 * spatial_dims + 1)] * 2


def test_the_codes_start_with_the_weights_of_the_plain_network():
    weights = []
    for iou_branch in (True, False):
        torch.manual_seed(0)
        weights.append(lesion_retinanet(iou_branch=iou_branch).regression_head.bbox_reg.weight)
    wide, plain = weights[0].unflatten(0, (3, 7)), weights[1].unflatten(0, (3, 6))
    assert torch.equal(wide[:, :6], plain)
    assert wide[:, 6].abs().max() > 0


def test_training_gives_a_third_loss_and_reaches_every_parameter():
    detector = aware()
    losses = detector(*batch())
    assert sorted(losses) == ["box_quality", "box_regression", "classification"]
    sum(losses.values()).backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_a_batch_without_lesions_has_a_third_loss_of_zero_that_stays_attached():
    detector = aware()
    losses = detector(torch.randn(1, 1, *SIZE), [lesion_target([])])
    assert losses["box_quality"].item() == 0
    losses["box_quality"].backward()
    assert all(parameter.grad is not None for parameter in detector.parameters())


@pytest.mark.parametrize("masks", [True, False])
def test_the_branch_learns_the_overlap_of_the_predicted_box(masks):
    detector = aware()
    lesion = ball_lesion(6, [3, 4, 5])
    target = lesion_target([lesion])
    if not masks:
        target["lesions"] = None
    anchors = torch.tensor([[3.0, 4, 5, 9, 10, 11], [2.0, 4, 5, 8, 9, 12], [9.0, 9, 9, 14, 14, 14]])
    codes = 0.1 * torch.randn(1, 3, 6, generator=torch.Generator().manual_seed(0))
    codes.requires_grad_()
    logits = torch.tensor([[0.3, -0.2, 4.0]], requires_grad=True)
    match = Matches(torch.tensor([0.9, 0.5, 0.0]), torch.tensor([0, 0, -1]))
    loss = detector.learning.fit_loss(logits, codes, [target], [anchors], [match])
    boxes = detector.box_coder.decode_single(codes.detach()[0, :2], anchors[:2])
    if masks:
        wanted = anchor_quality([lesion], boxes)[0]
    else:
        wanted = box_pair_iou(boxes, lesion.box.expand(2, -1))
    p = logits.detach()[0, :2].sigmoid()
    expected = -(wanted * p.log() + (1 - wanted) * (1 - p).log()).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.backward()
    assert codes.grad is None
    assert torch.allclose(logits.grad[0], torch.tensor([*((p - wanted) / 2).tolist(), 0.0]))


def test_the_loss_of_the_branch_can_be_set():
    detector = aware()
    detector.set_box_quality_loss(QualityFocalLoss("sum"))
    assert torch.isfinite(detector(*batch())["box_quality"])
    with pytest.raises(TypeError, match="quality_loss must be a module"):
        detector.set_box_quality_loss(torch.nn.Identity())


@given(
    a=st.floats(-12, 12), b=st.floats(-12, 12), how=st.sampled_from(["product", "geometric", "cls"])
)
def test_the_score_is_the_iou_aware_one(a, b, how):
    logit, quality = torch.tensor([[a]]), torch.tensor([b])
    found = ranking_logits(logit, quality, score=how, are_logits=True).sigmoid()
    p, q = logit.double().sigmoid(), quality.double().sigmoid()
    expected = iou_aware_score(p, q[:, None], {"cls": 0.0}.get(how, 1.0))
    expected = expected.sqrt() if how == "geometric" else expected
    assert found.item() == pytest.approx(expected.item(), rel=2e-5)
    alone = ranking_logits(logit.sigmoid(), quality, score=how, are_logits=False)
    assert alone.item() == pytest.approx(expected.item(), rel=2e-5)


def constant(detector):
    """A detector that says the same of every box."""
    heads = detector.network.classification_head.cls_logits, detector.network.regression_head
    for layer in (heads[0], heads[1].bbox_reg):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    heads[1].bbox_reg.bias.data.view(-1, 7)[:, 6] = CODED
    return detector.eval()


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize(("score", "expected"), SCORES.items())
def test_detections_are_scored_as_asked_in_one_piece_and_by_windows(windows, score, expected):
    detector = constant(aware(score=score))
    detector.set_sliding_window_inferer(16, overlap=0.5)
    detector.set_box_selector_parameters(topk_candidates_per_level=20)
    with torch.no_grad():
        found = detector(torch.randn(1, 1, *SIZE), use_inferer=windows)[0]
    assert len(found["boxes"]) > 0
    assert found["labels_scores"].tolist() == pytest.approx(
        [expected] * len(found["boxes"]), rel=1e-5
    )


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("branch", [False, True])
def test_score_maps_come_with_the_detections_and_peak_at_the_best_score(windows, branch):
    detector = (aware() if branch else tiny_detector()).eval()
    detector.set_sliding_window_inferer(16, overlap=0.5)
    detector.set_box_selector_parameters(score_thresh=0.0, nms_thresh=1.0)
    images = torch.randn(2, 1, 22, *SIZE[1:], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = detector(images, use_inferer=windows)
        detections, levels = detector.detect_with_score_maps(images, use_inferer=windows)
    for image, wanted in zip(detections, expected, strict=True):
        assert all(torch.equal(image[key], wanted[key]) for key in wanted)
    assert [level.shape[1:] for level in levels] == [(1, 6, 6, 6), (1, 3, 3, 3)]
    peaks = torch.stack([level.flatten(1).amax(dim=1) for level in levels]).amax(dim=0)
    best = torch.stack([image["labels_scores"][0] for image in detections])
    assert torch.allclose(peaks, best, rtol=1e-5)


def test_score_maps_by_windows_need_an_inferer():
    with pytest.raises(ValueError, match="SlidingWindowInferer"):
        tiny_detector().eval().detect_with_score_maps(torch.zeros(1, 1, *SIZE), use_inferer=True)


def test_the_score_that_ranks_is_geometric_with_the_branch_and_of_the_class_without():
    assert aware().score == "geometric"
    assert tiny_detector().score == "cls"
    with pytest.raises(ValueError, match="score must be 'cls' for a network without iou_branch"):
        tiny_detector(score="product")
    with pytest.raises(ValueError, match="score must be one of"):
        aware(score="sum")


def test_a_head_of_another_width_is_named():
    detector = tiny_detector()
    with pytest.raises(ValueError, match=r"6 numbers for each box, or 7 .* got 5"):
        detector.compute_loss(
            {"classification": torch.zeros(1, 2, 1), "box_regression": torch.zeros(1, 2, 5)},
            [lesion_target([])],
            [torch.rand(2, 6)],
            [1],
        )


def test_a_detector_with_the_branch_comes_back(tmp_path):
    path, image = tmp_path / "c.pt", scan(5).image
    model = with_branch()
    write_checkpoint(path, model)
    first, second = detect(model, image), detect(load_checkpoint(path, device="cpu"), image)
    assert len(first.box) > 0
    assert torch.equal(first.scores, second.scores)


def with_branch():
    """A small detector whose network predicts the quality of its boxes, too."""
    return small_detector(
        channels=[8, 16, 16], strides=[2, 2, 2], feature_channels=16, anchor_sizes=[5.0, 8.0],
        iou_branch=True, lowest_score=0.0,
    )  # fmt: skip


def test_the_heat_map_shows_the_score_that_ranks():
    model = with_branch()
    constant(model.detector)
    found = detect(model, scan().image)
    assert found.heat_map.min().item() == pytest.approx(SCORES["geometric"], rel=1e-5)
    assert found.heat_map.max().item() == pytest.approx(SCORES["geometric"], rel=1e-5)
    assert found.scores[0].item() == pytest.approx(SCORES["geometric"], rel=1e-5)


def test_the_quality_of_a_box_is_that_for_its_own_lesion():
    """Anchors sit on the best boxes of two lesions, in another order than the lesions."""
    lesions = [ball_lesion(6, [3, 4, 5]), ball_lesion(8, [13, 12, 11])]
    best = [best_box(one.crop).box.float() + one.offset.repeat(2) for one in lesions]
    anchors = torch.stack([best[1], best[0]])
    match = Matches(torch.ones(2), torch.tensor([1, 0]))
    arguments = (torch.zeros(1, 2, 6), [lesion_target(lesions)], [anchors], [match])
    detector = aware()
    right = detector.learning.fit_loss(torch.full((1, 2), 20.0), *arguments)
    wrong = detector.learning.fit_loss(torch.full((1, 2), -20.0), *arguments)
    assert right.item() == pytest.approx(0, abs=1e-4)
    assert wrong.item() > 10
