"""A network and a detector whose levels are those of a plan."""

import io

import pytest
import torch

from softoverlap import AnchorPlan, ATSSMatcher, SimOTAMatcher, TaskAlignedMatcher
from softoverlap.for_monai import (
    ExactAnchorGenerator,
    SoftRetinaNetDetector,
    lesion_retinanet,
    lesion_target,
)
from tests.support.detectors import batch
from tests.support.lesion_makers import ball_lesion, scene

PLAN = AnchorPlan(
    strides=[(2, 2, 2), (4, 4, 4), (8, 8, 8)],
    sizes=[[(2, 2, 2), (3, 3, 3)], [(5, 5, 5)], [(8, 8, 8), (12, 9, 8), (16, 16, 16)]],
)
FLAT = AnchorPlan(strides=[(2, 2, 1), (4, 4, 2)], sizes=[[(3, 3, 1)], [(6, 6, 2), (8, 8, 3)]])
IN_2D = AnchorPlan(strides=[(2, 2), (4, 4)], sizes=[[(3, 3), (4, 2)], [(7, 7)]])
PLANS = {"3D": PLAN, "thick slices": FLAT, "2D": IN_2D}


def planned(plan=PLAN, seed=0, *, iou_branch=False, num_classes=1, **options):
    torch.manual_seed(seed)
    network = lesion_retinanet(
        plan=plan,
        channels=(8, 16),
        feature_channels=16,
        iou_branch=iou_branch,
        num_classes=num_classes,
    )
    return SoftRetinaNetDetector(network, **options)


@pytest.mark.parametrize("iou_branch", [False, True])
@pytest.mark.parametrize("name", PLANS)
@torch.no_grad()
def test_each_level_has_the_maps_and_anchors_of_its_shapes(name, iou_branch):
    plan = PLANS[name]
    shape = (16, 24, 8)[: plan.ndim]
    network = planned(plan, iou_branch=iou_branch, num_classes=2).network
    images = torch.zeros(2, 1, *shape)
    maps = network(images)
    coords = 2 * plan.ndim + iou_branch
    for level, (stride, shapes) in enumerate(zip(plan.strides, plan.sizes, strict=True)):
        places = [side // step for side, step in zip(shape, stride, strict=True)]
        assert list(maps["classification"][level].shape[1:]) == [2 * len(shapes), *places]
        assert list(maps["box_regression"][level].shape[1:]) == [coords * len(shapes), *places]
    anchors = network.anchor_generator(images, maps["classification"])
    assert torch.equal(anchors[1], plan.anchors(shape))
    assert network.size_divisible == plan.strides[-1]


@torch.no_grad()
def test_a_planned_network_starts_at_one_percent():
    maps = lesion_retinanet(plan=PLAN)(torch.randn(1, 1, 16, 16, 16))
    for level in maps["classification"]:
        assert 0.005 < level.sigmoid().mean() < 0.02


def test_a_fine_level_is_cheap():
    network = lesion_retinanet(plan=PLAN)
    assert network.feature_extractor.level_channels == [8, 32, 32]
    fine, coarse, _ = network.classification_head.levels
    assert len(fine.conv) == 6
    assert len(coarse.conv) == 12


@pytest.mark.slow  # and so not run where shapes are enforced, which no script can hold
@pytest.mark.parametrize(("plan", "iou_branch"), [(PLAN, True), (FLAT, False), (IN_2D, False)])
@torch.no_grad()
def test_a_planned_network_is_scripted_and_exported(plan, iou_branch):
    network = planned(plan, iou_branch=iou_branch).network.eval()
    images = torch.rand(1, 1, *(16, 16, 8)[: plan.ndim])
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(network), file)
    file.seek(0)
    scripted, expected = torch.jit.load(file)(images), network(images)
    exported = torch.export.export(network, (images,), strict=False).module()(images)
    for key, levels in expected.items():
        for other in (scripted, exported):
            for one, level in zip(other[key], levels, strict=True):
                torch.testing.assert_close(one, level, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("matcher", [ATSSMatcher(), SimOTAMatcher(), TaskAlignedMatcher()])
def test_a_planned_detector_learns_from_every_anchor_that_serves(matcher):
    detector = planned(matcher=matcher, iou_branch=True)
    images, targets = batch()
    losses = detector(images, targets)
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    heads = detector.network.classification_head.levels
    assert all(head.cls_logits.weight.grad.abs().sum() > 0 for head in heads)
    matches = detector.compute_anchor_matched_idxs(detector.anchors, targets, [12**3, 6**3, 3**3])
    assert matches[0].unique().tolist()[-2:] == [0, 1]  # each of both lesions is served


@torch.no_grad()
def test_maps_and_anchors_are_in_one_order():
    """What an anchor's channels say is told of that anchor, on every level."""
    detector = planned(num_classes=2).eval()
    detector.set_box_selector_parameters(score_thresh=0.5, nms_thresh=1.0)
    images = torch.zeros(1, 1, 16, 16, 16)
    maps = {
        key: [torch.zeros_like(m) for m in levels]
        for key, levels in detector.network(images).items()
    }
    for level in maps["classification"]:
        level.fill_(-9)
    wanted = []
    for level, (stride, shapes) in enumerate(zip(PLAN.strides, PLAN.sizes, strict=True)):
        shape = len(shapes) - 1
        maps["classification"][level][0, 2 * shape + 1, 1, 0, 1] = 9 - level  # second class
        centre = torch.tensor([1.5, 0.5, 1.5]) * torch.tensor(stride)
        half = torch.tensor(shapes[shape]) / 2
        wanted.append(torch.cat([centre - half, centre + half]).clamp(0, 16))
    detector.network.forward = lambda _: maps
    found = detector(images)[0]
    torch.testing.assert_close(found["boxes"], torch.stack(wanted))
    assert found["labels"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("plan", [PLAN, FLAT, IN_2D], ids=PLANS)
@torch.no_grad()
def test_score_maps_hold_the_highest_score_of_each_place(plan):
    detector = planned(plan).eval()
    images = torch.rand(1, 1, *(16, 16, 8)[: plan.ndim])
    _, levels = detector.detect_with_score_maps(images)
    for level, logits in zip(levels, detector.network(images)["classification"], strict=True):
        torch.testing.assert_close(level, logits.sigmoid().amax(dim=1, keepdim=True))


@pytest.mark.parametrize("plan", [PLAN, FLAT, IN_2D], ids=PLANS)
@torch.no_grad()
def test_a_sliding_window_over_one_window_finds_what_the_whole_image_shows(plan):
    detector = planned(plan).eval()
    window = (16, 16, 8)[: plan.ndim]
    detector.set_sliding_window_inferer(window, overlap=0.5)
    detector.set_box_selector_parameters(score_thresh=0.0)
    images = torch.rand(1, 1, *window)
    whole, windowed = detector(images)[0], detector(images, use_inferer=True)[0]
    torch.testing.assert_close(windowed["boxes"], whole["boxes"])
    larger = torch.rand(1, 1, *(2 * side for side in window))
    assert len(detector(larger, use_inferer=True)[0]["boxes"])


@torch.no_grad()
def test_images_that_no_stride_divides_are_padded_as_the_plan_says():
    detector = planned().eval()
    detector(torch.zeros(1, 1, 13, 17, 9))
    assert torch.equal(detector.anchors[0], PLAN.anchors((13, 17, 9)))


@pytest.mark.slow
def test_a_planned_detector_overfits_lesions_of_two_voxels():
    lesions = [ball_lesion(2, [5, 4, 9]), ball_lesion(3, [11, 12, 3])]
    images, target = scene(lesions, (16, 16, 16))[None], lesion_target(lesions)
    detector = planned()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        sum(detector(images, [target]).values()).backward()
        optimizer.step()
    found = detector.eval()(images)[0]
    assert (found["labels_scores"][:2] > 0.5).all()
    centres = (found["boxes"][:2, :3] + found["boxes"][:2, 3:]) / 2
    true = torch.stack([lesion.centre for lesion in lesions])
    assert torch.cdist(true, centres).amin(dim=1).max() < 1


def test_without_a_plan_weights_and_outputs_are_what_they_were():
    torch.manual_seed(0)
    plain = lesion_retinanet()
    torch.manual_seed(0)
    again = lesion_retinanet(plan=None)
    assert all(
        torch.equal(a, b) for a, b in zip(plain.parameters(), again.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": (12,)}, "channels must be multiples of 8"),
        ({"feature_channels": 12}, "feature_channels must be multiples of 8"),
    ],
)
def test_a_planned_network_that_cannot_be_built_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        lesion_retinanet(plan=PLAN, **options)


def test_shapes_of_levels_must_be_positive():
    with pytest.raises(ValueError, match="must be positive"):
        ExactAnchorGenerator(level_shapes=[[(3.0, 0.0)]])


def test_matchers_take_a_number_of_anchors_for_each_level():
    anchors = PLAN.anchors((16, 16, 16))
    layout = {"num_locations_per_level": [8**3, 4**3, 2**3]}
    quality, boxes = torch.rand(2, len(anchors)), torch.tensor([[1.0, 1, 1, 4, 4, 4]] * 2)
    matches = ATSSMatcher(2)(quality, boxes, anchors, num_anchors_per_loc=[2, 1, 3], **layout)
    assert len(matches.index) == len(anchors)
    with pytest.raises(ValueError, match="num_anchors_per_loc must be a number, or one for each"):
        ATSSMatcher()(quality, boxes, anchors, num_anchors_per_loc=[2, 1], **layout)
    with pytest.raises(ValueError, match="must give the number of anchors"):
        ATSSMatcher()(quality, boxes, anchors, num_anchors_per_loc=2, **layout)
