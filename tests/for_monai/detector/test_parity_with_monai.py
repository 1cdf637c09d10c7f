"""With hard settings the losses are those of MONAI's own detector.

MONAI's detector trains with torchvision's matcher only, which is not installed: the rule of Faster
R-CNN (section 3.1.2) takes its place in MONAI and, through our interface, in ours.
"""

from __future__ import annotations

import pytest
import torch
from monai.apps.detection.networks import retinanet_detector as monai
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from monai.losses.giou_loss import BoxGIoULoss

from softoverlap.anchors import AnchorWeighting, Matches, MaxOverlapMatcher
from softoverlap.for_monai import SoftRetinaNetDetector, lesion_target
from softoverlap.losses import BoxGIoULoss as OurGIoULoss
from softoverlap.overlaps import box_iou
from tests.support.detectors import SIZE, tiny_detector
from tests.support.lesion_makers import ball_lesion, scene

HIGH, LOW = 0.45, 0.3


class FasterRCNNMatcher:
    """Positive from `high` on, background below `low`; a true box's best anchors are positive."""

    BELOW_LOW_THRESHOLD, BETWEEN_THRESHOLDS = -1, -2

    def __init__(self, low_quality):
        self.low_quality = low_quality

    def __call__(self, quality):
        best, serves = quality.max(dim=0)
        index = torch.full_like(serves, self.BETWEEN_THRESHOLDS)
        index[best < LOW] = self.BELOW_LOW_THRESHOLD
        index[best >= HIGH] = serves[best >= HIGH]
        if self.low_quality:  # (i) of the paper: all anchors with the highest IoU of some true box
            tops = (quality == quality.amax(dim=1, keepdim=True)).any(dim=0)
            index[tops] = serves[tops]
        return index


class AsOurs:
    """The same rule behind the interface of this package's matchers."""

    def __init__(self, rule):
        self.rule = rule

    def __call__(self, quality, boxes, anchors, **layout):
        if not len(quality):
            zeros = torch.zeros(len(anchors))
            return Matches(zeros, zeros.long() - 1)
        return Matches(quality.amax(dim=0), self.rule(quality))


def targets_without_masks():
    """Lesions of which some meet no anchor well enough, and an image without any."""
    lesions = [
        ball_lesion(6, [3, 4, 5]),
        ball_lesion(3, [14, 15, 12]),
        ball_lesion(9, [12, 2, 13]),
    ]
    targets = [lesion_target(lesions), lesion_target([])]
    for target in targets:
        target["lesions"] = None
    return torch.stack([scene(lesions, SIZE, seed=1), scene([], SIZE, seed=2)]), targets


def generator():
    return AnchorGeneratorWithAnchorShape((1, 2), ((4.0,) * 3, (8.0,) * 3))


def pair(matcher, weighting=None):
    """Our detector and MONAI's on the same network and with MONAI's anchors."""
    network = tiny_detector().network
    ours = SoftRetinaNetDetector(
        network,
        generator(),
        matcher=matcher,
        weighting=weighting or AnchorWeighting(target="hard", box_weight="one"),
    )
    theirs = monai.RetinaNetDetector(network, generator())
    return ours, theirs


def losses_of(detector, images, targets):
    """Losses, and the gradient of their sum, under the sampler's seed."""
    torch.manual_seed(5)
    found = detector(images, targets)
    detector.zero_grad()
    sum(found.values()).backward()
    gradient = torch.cat([p.grad.flatten() for p in detector.parameters()])
    return found, gradient


def assert_equal_losses(ours, theirs):
    images, targets = targets_without_masks()
    found, gradient = losses_of(ours, images, targets)
    expected, wanted = losses_of(theirs, images, targets)
    assert sorted(found) == sorted(expected)
    assert expected["box_regression"] > 0
    for key in expected:
        assert found[key].item() == pytest.approx(expected[key].item(), abs=1e-5)
    assert torch.allclose(gradient, wanted, atol=1e-5)


def test_the_low_quality_rule_adds_anchors_to_these_targets():
    ours, _ = pair(None)
    images, targets = targets_without_masks()
    anchors = generator()(images, list(ours.network(images)["classification"]))
    quality = box_iou(targets[0]["boxes"], anchors[0])
    plain, more = (FasterRCNNMatcher(low)(quality) for low in (False, True))
    assert set(plain[plain >= 0].tolist()) < set(more[more >= 0].tolist())
    assert set(more[plain < 0].tolist()) & {0, 1, 2}


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("low_quality", [False, True])
@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou"])
def test_with_hard_settings_the_losses_are_monais(monkeypatch, sampled, low_quality, box_loss):
    monkeypatch.setattr(monai, "Matcher", FasterRCNNMatcher)
    rule = FasterRCNNMatcher(low_quality)
    ours, theirs = pair(AsOurs(rule))
    theirs.proposal_matcher = rule
    for detector in (ours, theirs):
        detector.set_cls_loss(torch.nn.BCEWithLogitsLoss(reduction="mean"))
        if box_loss == "giou":
            detector.set_box_regression_loss(BoxGIoULoss(reduction="mean"), False, True)
        if sampled:
            detector.set_hard_negative_sampler(32, 0.3, pool_size=4)
    assert_equal_losses(ours, theirs)


@pytest.mark.parametrize("low_quality", [False, True])
def test_max_overlap_matcher_is_that_rule_where_no_anchors_tie(monkeypatch, low_quality):
    monkeypatch.setattr(monai, "Matcher", FasterRCNNMatcher)
    ours, theirs = pair(MaxOverlapMatcher(LOW, HIGH, allow_low_quality_matches=low_quality))
    ours.set_regular_matcher(HIGH, LOW, allow_low_quality_matches=low_quality)
    theirs.proposal_matcher = FasterRCNNMatcher(low_quality)
    for detector in (ours, theirs):
        detector.set_cls_loss(torch.nn.BCEWithLogitsLoss(reduction="mean"))
    images, targets = targets_without_masks()
    shift = torch.tensor([[0.1, -0.2, 0.3], [0.3, 0.1, -0.2], [-0.3, 0.2, 0.1]])
    targets[0]["boxes"] = targets[0]["boxes"] + shift.repeat(1, 2)
    found, expected = ours(images, targets), theirs(images, targets)
    for key in expected:
        assert found[key].item() == pytest.approx(expected[key].item(), abs=1e-5)


@pytest.mark.parametrize("pair_of", [(BoxGIoULoss, OurGIoULoss)])
def test_our_giou_loss_in_place_of_monais_changes_nothing(monkeypatch, pair_of):
    monkeypatch.setattr(monai, "Matcher", FasterRCNNMatcher)
    rule = FasterRCNNMatcher(True)
    ours, theirs = pair(AsOurs(rule))
    theirs.proposal_matcher = rule
    for detector, loss in zip((theirs, ours), pair_of, strict=True):
        detector.set_cls_loss(torch.nn.BCEWithLogitsLoss(reduction="mean"))
        detector.set_box_regression_loss(loss(reduction="mean"), False, True)
    assert_equal_losses(ours, theirs)
