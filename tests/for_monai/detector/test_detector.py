import warnings
from dataclasses import replace

import pytest
import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector

from softoverlap import anchors as matchers
from softoverlap.anchors import AnchorWeighting, ATSSMatcher, Matches, MaxOverlapMatcher
from softoverlap.for_monai import SoftRetinaNetDetector, lesion_target
from softoverlap.lesion import crop_lesion
from softoverlap.losses import BoxGIoULoss
from softoverlap.overlaps import box_iou
from tests.support.detectors import SIZE, batch, tiny_detector
from tests.support.lesion_makers import ball_lesion, scene


def all_gradients(detector, images, targets):
    losses = detector(images, targets)
    detector.zero_grad()
    sum(losses.values()).backward()
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())
    return {name: parameter.grad for name, parameter in detector.named_parameters()}


def test_it_is_monais_detector():
    assert isinstance(tiny_detector(), RetinaNetDetector)


def test_a_batch_gives_two_finite_losses_and_reaches_every_parameter():
    for name, gradient in all_gradients(tiny_detector(), *batch()).items():
        assert gradient is not None, name
        assert torch.isfinite(gradient).all(), name


@pytest.mark.parametrize("lesions", ["none", "empty"])
def test_a_batch_without_lesions_trains_every_parameter(lesions):
    target = lesion_target([])
    if lesions == "none":
        target["lesions"] = None
    gradients = all_gradients(tiny_detector(), torch.randn(1, 1, *SIZE), [target])
    for name, gradient in gradients.items():
        assert gradient is not None, name
        assert torch.isfinite(gradient).all(), name
    assert any(gradient.abs().sum() > 0 for gradient in gradients.values())


def test_each_loss_alone_stays_attached_to_both_heads():
    for key in ("classification", "box_regression"):
        detector = tiny_detector()
        detector(torch.randn(1, 1, *SIZE), [lesion_target([])])[key].backward()
        assert all(parameter.grad is not None for parameter in detector.parameters())


def test_empty_boxes_of_any_shape_are_no_lesions():
    target = {"boxes": torch.zeros(0), "labels": torch.zeros(0), "lesions": None}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = tiny_detector()(torch.zeros(1, 1, *SIZE), [target])
    assert losses["box_regression"].item() == 0


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_evaluation_returns_monais_keys(spatial_dims):
    detector = tiny_detector(spatial_dims=spatial_dims).eval()
    detector.set_box_selector_parameters(score_thresh=0.0, detections_per_img=7)
    with torch.no_grad():
        found = detector(torch.randn(2, 1, *SIZE[:spatial_dims]))
    for one in found:
        assert sorted(one) == ["boxes", "labels", "labels_scores"]
        assert one["boxes"].shape == (7, 2 * spatial_dims)
        assert one["labels"].shape == one["labels_scores"].shape == (7,)
        assert (one["labels_scores"].diff() <= 0).all()
        assert (one["boxes"] >= 0).all()
        assert (one["boxes"] <= SIZE[0]).all()


def test_an_image_in_which_nothing_is_found_gives_empty_tensors():
    detector = tiny_detector().eval()
    detector.set_box_selector_parameters(score_thresh=0.9)
    with torch.no_grad():
        found = detector([torch.zeros(1, *SIZE), torch.zeros(1, 16, 20, 24)])
    assert [tuple(one["boxes"].shape) for one in found] == [(0, 6), (0, 6)]


def test_the_quality_is_of_the_soft_mask_and_of_the_box_without_one():
    detector = tiny_detector()
    anchors = torch.tensor([[3.0, 4, 5, 9, 10, 11], [4.0, 5, 6, 8, 9, 10]])
    target = lesion_target([ball_lesion(6, [3, 4, 5])])
    layout = [[anchors], [target], [1]]
    soft = detector.learning.match(*layout)[0]
    target["lesions"] = None
    boxes = detector.learning.match(*layout)[0]
    assert torch.equal(boxes.quality, box_iou(target["boxes"], anchors).amax(dim=0))
    assert not torch.equal(soft.quality, boxes.quality)
    assert torch.equal(detector.compute_anchor_matched_idxs(*layout)[0], boxes.index)


def test_targets_of_both_kinds_mix_in_one_batch():
    images, targets = batch()
    targets[1] = {"boxes": targets[0]["boxes"], "labels": targets[0]["labels"], "lesions": None}
    losses = tiny_detector()(images, targets)
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())


def test_targets_are_left_as_they_came():
    images, targets = batch()
    targets[0]["labels"] = targets[0]["labels"].to(torch.int32)
    before = dict(targets[0])
    tiny_detector()(images, targets)
    assert targets[0].keys() == before.keys()
    assert all(targets[0][key] is before[key] for key in before)


def test_indices_alone_are_taken_as_perfect_matches():
    detector = tiny_detector()
    _, targets = batch()
    logits = torch.zeros(1, 4, 1)
    index = torch.tensor([0, -1, -2, 1])
    perfect = Matches(torch.tensor([1.0, 0, 0, 1]), index)
    plain = detector.compute_cls_loss(logits, targets[:1], [index])
    assert plain == detector.compute_cls_loss(logits, targets[:1], [perfect])


def test_a_better_anchor_weighs_more_in_the_regression_where_asked():
    detector = tiny_detector(weighting=AnchorWeighting(box_weight="quality"))
    target = lesion_target([ball_lesion(6, [3, 4, 5])])
    anchors = [target["boxes"].repeat(2, 1) + torch.tensor([[0.0], [2.0]])]
    codes = torch.zeros(1, 2, 6)
    index = torch.tensor([0, 0])
    first = Matches(torch.tensor([0.9, 0.1]), index)  # the first anchor is right already
    second = Matches(torch.tensor([0.1, 0.9]), index)
    low = detector.compute_box_loss(codes, [target], anchors, [first])
    high = detector.compute_box_loss(codes, [target], anchors, [second])
    assert high == pytest.approx(9 * low.item(), rel=1e-5)


def test_a_lesion_that_few_raters_marked_is_pulled_to_a_lower_score_where_asked():
    detector = tiny_detector(weighting=AnchorWeighting(target="existence"))
    sure = lesion_target([ball_lesion(6, [3, 4, 5], existence=1.0)])
    doubtful = lesion_target([ball_lesion(6, [3, 4, 5], existence=0.2)])
    match = Matches(torch.ones(1), torch.zeros(1, dtype=torch.int64))
    logit = torch.full((1, 1, 1), 0.2).logit()
    assert detector.compute_cls_loss(logit, [doubtful], [match]).item() == pytest.approx(
        0, abs=1e-6
    )
    assert detector.compute_cls_loss(logit, [sure], [match]) > 0.5


@pytest.mark.parametrize("lesions", [True, False])
def test_training_runs_under_bfloat16_with_losses_in_float32(lesions):
    detector = tiny_detector()
    images, targets = batch()
    if not lesions:
        targets = [lesion_target([])] * 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = detector(images, targets)
    sum(losses.values()).backward()
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    assert all(bool(torch.isfinite(p.grad).all()) for p in detector.parameters())


def test_evaluation_under_bfloat16_keeps_boxes_in_float32():
    detector = tiny_detector().eval()
    detector.set_box_selector_parameters(score_thresh=0.0, detections_per_img=3)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = detector(torch.randn(1, 1, *SIZE))
    assert found[0]["boxes"].dtype == torch.float32


def test_images_of_monais_kind_are_taken():
    from monai.data.meta_tensor import MetaTensor

    images, targets = batch()
    detector = tiny_detector()
    with_meta = detector(MetaTensor(images), targets)
    assert with_meta["classification"] == detector(images, targets)["classification"]


def test_the_matchers_of_monais_methods_need_no_torchvision():
    detector = tiny_detector()
    detector.set_regular_matcher(0.5, 0.4)
    assert isinstance(detector.proposal_matcher, MaxOverlapMatcher)
    detector.set_atss_matcher(num_candidates=9, center_in_gt=True)
    assert isinstance(detector.proposal_matcher, ATSSMatcher)
    assert detector.proposal_matcher.num_candidates == 9


def test_another_overlap_of_boxes_is_used_for_suppression_too():
    from monai.data.box_utils import box_giou

    detector = tiny_detector(box_overlap_metric=box_giou).eval()
    detector.set_box_selector_parameters(score_thresh=0.0, topk_candidates_per_level=20)
    with torch.no_grad():
        found = detector(torch.randn(1, 1, *SIZE))
    assert len(found[0]["boxes"]) > 0


def test_two_classes_are_told_apart():
    lesions = [ball_lesion(6, [3, 4, 5], label=1), ball_lesion(6, [14, 13, 12], label=0)]
    detector = tiny_detector(num_classes=2)
    image, target = scene(lesions, SIZE)[None], lesion_target(lesions)
    losses = detector(image, [target])
    assert torch.isfinite(losses["classification"])


@pytest.mark.slow
def test_a_few_steps_learn_a_toy_lesion():
    lesions = [ball_lesion(6, [3, 4, 5]), ball_lesion(8, [13, 12, 11])]
    images, target = scene(lesions, SIZE)[None], lesion_target(lesions)
    detector = tiny_detector()
    optimiser = torch.optim.AdamW(detector.parameters(), lr=3e-3)
    history = []
    for _ in range(60):
        loss = sum(detector(images, [target]).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    assert sum(history[-5:]) < 0.4 * sum(history[:5])
    detector.eval()
    with torch.no_grad():
        found = detector(images)[0]
    assert box_iou(target["boxes"], found["boxes"][:2]).amax(dim=1).min() > 0.4


def test_a_lesion_cut_by_the_patch_trains():
    lesion = crop_lesion(ball_lesion(8, [20, 4, 5]), [0, 0, 0], SIZE)
    assert lesion is not None
    losses = tiny_detector()(scene([lesion], SIZE)[None], [lesion_target([lesion])])
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())


def test_anchors_follow_the_device_and_the_shape():
    detector = tiny_detector().eval()
    with torch.no_grad():
        detector(torch.zeros(1, 1, *SIZE))
        first = detector.anchors
        detector(torch.zeros(1, 1, *SIZE))
        assert detector.anchors is first
        detector(torch.zeros(1, 1, 16, 16, 16))
    assert len(detector.anchors[0]) < len(first[0])


class Broken(torch.nn.Module):
    """A network that returns NaN, without MONAI's own look at it."""

    spatial_dims, num_classes, size_divisible, num_anchors = 3, 1, 4, 1
    cls_key, box_reg_key = "classification", "box_regression"

    def forward(self, images):
        size = [side // 4 for side in images.shape[2:]]
        bad = torch.full((len(images), 1, *size), float("nan"))
        return {"classification": [bad], "box_regression": [bad.repeat(1, 6, 1, 1, 1)]}


@pytest.mark.parametrize("training", [True, False])
def test_nan_in_the_output_is_an_error_in_training_and_in_evaluation(training):
    from softoverlap.for_monai import ExactAnchorGenerator

    detector = SoftRetinaNetDetector(Broken(), ExactAnchorGenerator((1.0,), ((5.0,) * 3,)))
    detector.train(training)
    with torch.set_grad_enabled(training), pytest.raises(ValueError, match="network must return"):
        detector(torch.zeros(1, 1, 8, 8, 8), [lesion_target([])])


def test_nan_in_an_image_is_refused():
    images = torch.zeros(2, 1, *SIZE)
    images[1, 0, 3, 3, 3] = float("nan")
    with pytest.raises(ValueError, match=r"input_images\[1\] must hold finite values"):
        tiny_detector()(images, [lesion_target([])] * 2)


def test_a_network_without_anchors_is_refused():
    with pytest.raises(ValueError, match="anchor_generator must be given"):
        SoftRetinaNetDetector(Broken())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.tensor([1])}, r"targets\[0\]\['labels'\] must lie in \[0, 0\]"),
        ({"labels": torch.tensor([0, 0])}, r"\['labels'\] must have shape \(1,\)"),
        ({"lesions": []}, r"\['lesions'\] must hold a Lesion for each of 1 boxes, got 0"),
        ({"boxes": torch.tensor([[0.0, 0, 0, 4, 4, 0]])}, "must hold boxes with a volume"),
        ({"boxes": torch.tensor([[0.0, 0, 4, 4]])}, r"must have shape \(N, 6\)"),
        ({"boxes": torch.tensor([[9.0, 0, 0, 4, 4, 4]])}, "every maximum at or above its minimum"),
    ],
)
def test_a_target_that_does_not_fit_is_refused(change, message):
    target = {**lesion_target([ball_lesion(4, [3, 3, 3])]), **change}
    with pytest.raises(ValueError, match=message):
        tiny_detector()(torch.zeros(1, 1, *SIZE), [target])


def test_a_missing_target_is_refused():
    with pytest.raises(ValueError, match="targets must hold one dict for each of 1 images"):
        tiny_detector()(torch.zeros(1, 1, *SIZE))
    with pytest.raises(ValueError, match=r"must have the keys \['boxes', 'labels'\]"):
        tiny_detector()(torch.zeros(1, 1, *SIZE), [{"boxes": torch.zeros(0, 6)}])


def test_keys_are_those_of_monai_by_default_and_others_are_set():
    target = lesion_target([ball_lesion(6, [3, 4, 5])])
    image, detector = scene(target["lesions"], SIZE)[None], tiny_detector()
    theirs = RetinaNetDetector(detector.network, detector.anchor_generator)
    names = ("target_box_key", "target_label_key", "pred_score_key")
    assert [getattr(detector, name) for name in names] == [getattr(theirs, name) for name in names]
    renamed = {"box": target["boxes"], "label": target["labels"], "lesions": target["lesions"]}
    with pytest.raises(ValueError, match=r"\['boxes', 'labels'\], got \['box.*set_target_keys"):
        detector(image, [renamed])
    expected = detector(image, [target])
    detector.set_target_keys("box", "label")
    assert detector(image, [renamed]) == expected
    with torch.no_grad():
        assert sorted(detector.eval()(image)[0]) == ["box", "label", "label_scores"]


def test_something_else_than_lesions_is_refused():
    target = {**lesion_target([ball_lesion(4, [3, 3, 3])]), "lesions": [torch.ones(4, 4, 4)]}
    with pytest.raises(TypeError, match="must be a list of Lesion or None"):
        tiny_detector()(torch.zeros(1, 1, *SIZE), [target])


def test_a_loss_that_cannot_be_weighted_is_refused():
    with pytest.raises(TypeError, match="cls_loss must be a module with an attribute `reduction`"):
        tiny_detector().set_cls_loss(torch.nn.Identity())


def test_lesions_of_other_axes_are_refused():
    with pytest.raises(ValueError, match="lesions must have 3 axes, got 2 in lesion 0"):
        lesion_target([ball_lesion(4, [3, 3], ndim=2)])


@pytest.mark.bad_input
def test_images_that_are_no_tensor_are_refused():
    with pytest.raises(TypeError, match="input_images must be a tensor or a list of them"):
        tiny_detector().eval()("image")


def test_no_image_is_refused():
    with pytest.raises(ValueError, match="input_images must hold at least one image"):
        tiny_detector().eval()([])


@pytest.mark.bad_input
def test_labels_between_classes_are_refused():
    target = lesion_target([ball_lesion(6, [3, 4, 5])])
    target["labels"] = torch.tensor([0.7])
    with pytest.raises(TypeError, match=r"\['labels'\] must hold integers, got dtype torch.f"):
        tiny_detector()(torch.zeros(1, 1, *SIZE), [target])


class Recorder:
    """A matcher that keeps what it was given."""

    uses_predictions = True

    def __init__(self):
        self.given = []

    def __call__(self, quality, boxes, anchors, *, pred_scores=None, pred_boxes=None, **layout):
        self.given.append((boxes, anchors, pred_scores, pred_boxes))
        return MaxOverlapMatcher(0.2, 0.3)(quality, boxes, anchors, **layout)


def test_a_matcher_that_asks_for_predictions_gets_scores_and_boxes_of_each_image():
    detector = tiny_detector(num_classes=2, matcher=Recorder())
    lesions = [ball_lesion(6, [3, 4, 5], label=1), ball_lesion(4, [14, 15, 12])]
    images, targets = scene(lesions, SIZE)[None].repeat(2, 1, 1, 1, 1), [lesion_target(lesions)]
    detector(images, [*targets, lesion_target([])])
    with torch.no_grad():
        outputs = detector.network(images)
        logits, codes = (
            detector._reshape_maps(outputs[key]) for key in ("classification", "box_regression")
        )
    for image, (boxes, anchors, scores, decoded) in enumerate(detector.proposal_matcher.given):
        labels = [1, 0][: len(boxes)]
        assert scores.shape == (len(boxes), len(anchors))
        for row, label in enumerate(labels):
            assert torch.allclose(scores[row], logits[image, :, label].sigmoid(), atol=1e-6)
        expected = detector.box_coder.decode_single(codes[image], anchors)
        assert torch.allclose(decoded, expected, atol=1e-4)
        assert not scores.requires_grad
        assert not decoded.requires_grad


ASKING = [name for name in ("TaskAlignedMatcher", "SimOTAMatcher") if hasattr(matchers, name)]


@pytest.mark.parametrize("name", ASKING)
def test_matchers_that_learn_from_predictions_ask_for_them_and_train(name):
    matcher = getattr(matchers, name)()
    assert matcher.uses_predictions is True
    losses = tiny_detector(matcher=matcher)(*batch())
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())


def test_without_predictions_such_a_matcher_gets_none_and_others_are_never_asked():
    detector = tiny_detector(matcher=Recorder())
    layout = [[torch.tensor([[3.0, 4, 5, 9, 10, 11]] * 2)], [lesion_target([])], [1]]
    assert detector.compute_anchor_matched_idxs(*layout)[0].tolist() == [-1, -1]
    assert detector.proposal_matcher.given[0][2:] == (None, None)
    detector.proposal_matcher.uses_predictions = False
    predictions = torch.zeros(1, 2, 1), torch.zeros(1, 2, 6)
    detector.learning.match(*layout, predictions=predictions)
    assert detector.proposal_matcher.given[1][2:] == (None, None)


@pytest.mark.bad_input
def test_parts_that_are_not_made_yet_are_refused():
    bad_parts = ("matcher", ATSSMatcher), ("matcher", "atss"), ("weighting", AnchorWeighting)
    for name, bad in bad_parts:
        with pytest.raises(TypeError, match=f"{name} must be an object such as"):
            tiny_detector(**{name: bad})


@pytest.mark.bad_input
@pytest.mark.parametrize("flags", [(True, False), (True, True), (False, False)])
def test_losses_of_boxes_are_not_given_codes(flags):
    with pytest.raises(ValueError, match="must be False and True for BoxGIoULoss, which takes box"):
        tiny_detector().set_box_regression_loss(BoxGIoULoss(), *flags)


def test_background_in_the_ignored_band_takes_no_sample():
    detector = tiny_detector(weighting=AnchorWeighting(ignore_band=(0.01, 1.0)))
    detector.set_hard_negative_sampler(4, 0.5, 1, 1)
    lesions = [ball_lesion(6, [3, 4, 5])]
    quality = torch.tensor([0.9, 0.5, 0.4, 0.0, 0.0, 0.0])
    match = Matches(quality, torch.tensor([0, -1, -1, -1, -1, -1]))
    logits = torch.tensor([0.0, 9.0, 9.0, -1.0, -1.0, -1.0])[None, :, None].requires_grad_()
    detector.compute_cls_loss(logits, [lesion_target(lesions)], [match]).backward()
    used = logits.grad[0, :, 0] != 0
    assert used[[1, 2]].sum() == 0
    assert used[3:].sum() >= 1


def test_boxes_alone_are_matched_by_the_box_overlap_that_was_asked_for():
    anchors, target = (
        torch.tensor([[3.0, 4, 5, 9, 10, 11], [12, 4, 5, 18, 10, 11]]),
        {
            "boxes": torch.tensor([[3.0, 4, 5, 9, 10, 11]]),
            "labels": torch.tensor([0]),
            "lesions": None,
        },
    )
    detector = tiny_detector(overlap="box_nwd", matcher=MaxOverlapMatcher(0.3, 0.9))
    quality = detector.learning.match([anchors], [target], [1])[0].quality
    assert quality[0] == 1
    assert quality[1] == pytest.approx(float(torch.exp(torch.tensor(-9 / 12.7))), rel=1e-5)


def test_every_label_is_that_of_the_anchors_own_lesion():
    lesions = [replace(ball_lesion(6, [3, 4, 5]), label=1), ball_lesion(8, [13, 12, 11])]
    match = Matches(torch.ones(2), torch.tensor([1, 0]))
    logits = torch.tensor([[[9.0, -9.0], [-9.0, 9.0]]])
    detector = tiny_detector(num_classes=2, weighting=AnchorWeighting(target="hard"))
    assert detector.compute_cls_loss(logits, [lesion_target(lesions)], [match]) < 1e-3
    assert detector.compute_cls_loss(-logits, [lesion_target(lesions)], [match]) > 1
