"""The centre head: its heat map, what it learns, and what it finds."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap.anchors import AnchorPlan
from softoverlap.app.train import detect, load_checkpoint, training_config, write_checkpoint
from softoverlap.for_monai import (
    CentreDetector,
    HeatMapFocal,
    centre_retinanet,
    lesion_retinanet,
    lesion_target,
)
from softoverlap.for_monai.detector import loss_terms
from softoverlap.for_monai.detector.heat import blurred, grid_axes, heat_map, is_peak
from softoverlap.lesion import Lesion, crop_lesion
from softoverlap.losses import AmodalBoxLoss, BoxDIoULoss, MaskBoxDiceLoss
from softoverlap.overlaps import box_iou
from tests.support.checkpoints import noise, small_detector
from tests.support.lesion_makers import ball_lesion, lesion_from_crop, scene

PLANS = {
    2: AnchorPlan(strides=[(2, 2), (4, 4)], sizes=[[(3, 3), (5, 5)], [(9, 9)]]),
    3: AnchorPlan(strides=[(2, 2, 1), (4, 4, 2)], sizes=[[(3, 3, 3)], [(6, 6, 4), (9, 9, 6)]]),
}
SIZE = {2: (24, 20), 3: (16, 12, 8)}
SMALL = {"channels": (8, 8), "feature_channels": 8}


def centre_detector(ndim=2, *, seed=0, num_classes=1, plan=None):
    torch.manual_seed(seed)
    plan = PLANS[ndim] if plan is None else plan
    return CentreDetector(centre_retinanet(plan=plan, num_classes=num_classes, **SMALL))


def rough_lesion(seed, corner, shape, **options):
    """A lesion without symmetry, so that one cell alone is the highest."""
    crop = 0.4 + 0.6 * torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return lesion_from_crop(crop, corner, **options)


def cells_of(stride, grid):
    return [step * (torch.arange(side) + 0.5) for step, side in zip(stride, grid, strict=True)]


def reference_heat(lesion, axes):
    """At each cell the sum over voxels of mask times Gaussian, as a share of the highest."""
    ndim, heat = lesion.crop.ndim, {}
    edges = [float(lesion.box[axis + ndim] - lesion.box[axis]) for axis in range(ndim)]
    for cell in itertools.product(*(range(len(places)) for places in axes)):
        total = 0.0
        for voxel in itertools.product(*map(range, lesion.crop.shape)):
            exponent = 0.0
            for axis in range(ndim):
                centre = int(lesion.offset[axis]) + voxel[axis] + 0.5
                spread = max(1.0, edges[axis] / 6)
                exponent += ((float(axes[axis][cell[axis]]) - centre) / spread) ** 2 / 2
            total += float(lesion.crop[voxel]) * math.exp(-exponent)
        heat[cell] = total
    highest = max(heat.values())
    return {cell: value / highest for cell, value in heat.items()}


def as_grid(heat, axes):
    return torch.tensor(list(heat.values()), dtype=torch.float64).view([len(a) for a in axes])


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_heat_map_is_the_blurred_mask_and_the_hotter_lesion_has_the_cell(ndim):
    axes = cells_of((2, 2, 1)[:ndim], (6, 5, 4)[:ndim])
    lesions = [
        rough_lesion(0, [1, 2, 0][:ndim], (5, 4, 2)[:ndim]),
        rough_lesion(1, [5, 4, 1][:ndim], (3, 3, 2)[:ndim]),
    ]
    expected = torch.stack([as_grid(reference_heat(one, axes), axes).flatten() for one in lesions])
    made = heat_map(lesions, [0, 0], axes, 1)
    highest, owner = expected.max(dim=0)
    assert torch.allclose(made.heat[:, 0].double(), highest, atol=1e-6)
    clear = (expected[0] - expected[1]).abs() > 1e-6
    assert torch.equal(made.lesion[clear], owner[clear])
    assert (made.heat == 1).sum() == 2


def test_a_lesion_far_from_a_cell_leaves_it_cold_and_nobodys():
    axes = cells_of((1, 1), (40, 4))
    made = heat_map([rough_lesion(0, [0, 0], (3, 3))], [0], axes, 1)
    assert made.heat.view(40, 4)[30:].eq(0).all()
    assert made.lesion.view(40, 4)[30:].eq(-1).all()


@given(side=st.integers(1, 9), low=st.integers(0, 8), stride=st.sampled_from([1, 2, 8, 16]))
def test_heat_is_a_share_of_its_highest_however_small_the_lesion_and_coarse_the_grid(
    side, low, stride
):
    lesion = lesion_from_crop(torch.ones(side, side), [low, low])
    heat = blurred(lesion, cells_of((stride, stride), (32 // stride + 1,) * 2))
    assert heat.max() == 1
    assert heat.min() >= 0


def test_cells_that_a_symmetric_lesion_heats_alike_are_all_its_highest():
    lesion = ball_lesion(4, [2, 2, 2])
    heat = blurred(lesion, cells_of((1, 1, 1), (8, 8, 8)))
    assert (heat == 1).sum() == 8


def test_a_mask_without_mass_has_no_heat():
    lesion = lesion_from_crop(torch.ones(2, 2), [1, 1])
    empty = Lesion(lesion.box, torch.zeros(2, 2), lesion.offset, lesion.centre, 0.0)
    assert torch.equal(blurred(empty, cells_of((1, 1), (4, 4))), torch.zeros(4, 4))


def test_each_class_has_a_heat_map_and_a_cell_the_box_of_the_hotter_one():
    axes = cells_of((1, 1), (12, 8))
    lesions = [rough_lesion(0, [1, 1], (4, 4)), rough_lesion(1, [6, 2], (4, 4))]
    both = heat_map(lesions, [1, 0], axes, 2)
    for lesion, label in zip(lesions, (1, 0), strict=True):
        assert torch.equal(both.heat[:, label], blurred(lesion, axes).flatten())
    assert torch.equal(both.highest, both.heat.amax(dim=1))
    assert torch.equal(both.lesion, heat_map(lesions, [0, 0], axes, 1).lesion)


def test_the_axes_of_the_grid_are_those_of_the_anchors():
    detector = centre_detector(3)
    image = torch.zeros(1, 1, *SIZE[3])
    maps = detector.network(image)["classification"]
    anchors = detector.anchor_generator(image, maps)[0]
    found = grid_axes(anchors, maps[0].shape[2:])
    for axis, expected in zip(found, cells_of((2, 2, 1), (8, 6, 8)), strict=True):
        assert torch.equal(axis, expected)


@given(
    logit=st.floats(-8, 8), heat=st.sampled_from([0.0, 0.3, 0.99, 1.0]),
    gamma=st.sampled_from([0, 2]), beta=st.sampled_from([1.0, 4.0]),
)  # fmt: skip
def test_the_focal_loss_is_that_of_the_paper(logit, heat, gamma, beta):
    p = 1 / (1 + math.exp(-logit))
    expected = -((1 - p) ** gamma) * math.log(p)
    if heat != 1:
        expected = -((1 - heat) ** beta) * p**gamma * math.log(1 - p)
    loss = HeatMapFocal(gamma, beta)(*torch.tensor([[logit], [heat]], dtype=torch.float64))
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def by_hand(detector, images, targets):
    """The losses of one class, cell by cell, from the reference of the heat."""
    with torch.no_grad():
        maps = {name: levels[0] for name, levels in detector.network(images).items()}
    ndim = images.ndim - 2
    axes = cells_of((2, 2, 1)[:ndim], maps["classification"].shape[2:])
    cls, fits, weights = 0.0, 0.0, 0.0
    for logits, codes, target in zip(*maps.values(), targets, strict=True):
        heats = [reference_heat(lesion, axes) for lesion in target["lesions"]]
        for cell in itertools.product(*(range(len(places)) for places in axes)):
            heat, owner = max(((h[cell], i) for i, h in enumerate(heats)), default=(0.0, -1))
            p = float(logits[(0, *cell)].double().sigmoid())
            peak = heat > 1 - 1e-6
            cls -= (1 - p) ** 2 * math.log(p) if peak else (1 - heat) ** 4 * p**2 * math.log(1 - p)
            if heat >= 0.5:
                centre = torch.tensor([float(a[i]) for a, i in zip(axes, cell, strict=True)])
                code = codes[(slice(None), *cell)]
                middle, edges = centre + 6 * code[:ndim], 6 * code[ndim:].exp()
                box = torch.cat([middle - edges / 2, middle + edges / 2])[None]
                fit = BoxDIoULoss()(box, target["boxes"][owner][None])
                fits, weights = fits + heat * float(fit), weights + heat
    return cls / max(1, sum(len(t["boxes"]) for t in targets)), fits / weights


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_losses_are_the_heat_a_lesion_and_the_mean_of_boxes_weighed_by_it(ndim):
    size = SIZE[ndim]
    lesions = [
        rough_lesion(0, [2, 3, 1][:ndim], (5, 4, 4)[:ndim]),
        rough_lesion(1, [6, 5, 3][:ndim], (4, 4, 3)[:ndim], existence=0.4),
    ]
    images = torch.stack([scene(lesions, size, seed=1), scene([], size, seed=2)])
    targets = [lesion_target(one, spatial_dims=ndim) for one in (lesions, [])]
    detector = centre_detector(ndim)
    losses = detector(images, targets)
    cls, fit = by_hand(detector, images, targets)
    assert losses["classification"].item() == pytest.approx(cls, rel=1e-4)
    assert losses["box_regression"].item() == pytest.approx(fit, rel=1e-4)
    torch.stack(list(losses.values())).sum().backward()
    for name, weights in detector.named_parameters():
        assert weights.grad is not None, name
        assert torch.isfinite(weights.grad).all(), name
    for head in (detector.network.classification_head, detector.network.regression_head):
        assert all(weights.grad.abs().sum() > 0 for weights in head.levels[0].conv.parameters())


def test_a_batch_without_lesions_trains_and_its_box_loss_stays_attached():
    detector = centre_detector()
    target = lesion_target([], spatial_dims=2)
    losses = detector(torch.randn(2, 1, *SIZE[2]), [target, {**target, "lesions": None}])
    assert losses["box_regression"].item() == 0
    assert losses["classification"].item() > 0
    torch.stack(list(losses.values())).sum().backward()
    assert all(weights.grad is not None for weights in detector.parameters())


def test_lesions_are_counted_over_all_ranks(monkeypatch):
    detector, lesion = centre_detector(), rough_lesion(0, [4, 4], (5, 4))
    image, target = torch.randn(1, 1, *SIZE[2]), lesion_target([lesion], spatial_dims=2)
    alone = detector(image, [target])
    monkeypatch.setattr(loss_terms, "_mean_of_ranks", lambda value: (value * 2, 0.5))
    among = detector(image, [target])
    for name, loss in alone.items():
        assert among[name].item() == pytest.approx(loss.item() / 2)


def test_boxes_alone_train_as_the_boxes_that_lesions_fill():
    detector = centre_detector(num_classes=2)
    boxes = torch.tensor([[2.0, 3.0, 8.5, 7.0], [10.0, 9.0, 20.0, 17.25]])
    lesions = [
        Lesion.from_box(box, spacing=[1.0, 1.0], label=label)
        for box, label in zip(boxes, (1, 0), strict=True)
    ]
    image, whole = torch.randn(1, 1, *SIZE[2]), lesion_target(lesions, spatial_dims=2)
    expected = detector(image, [whole])
    found = detector(image, [{**whole, "lesions": None}])
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_voxels_that_nobody_has_labelled_are_no_background_but_a_lesion_there_counts():
    detector = centre_detector()
    lesion = rough_lesion(0, [4, 4], (5, 4))
    image, target = torch.randn(1, 1, *SIZE[2]), lesion_target([lesion], spatial_dims=2)
    everywhere = torch.ones(1, *SIZE[2], dtype=torch.bool)
    with torch.no_grad():
        plain = detector(image, [target])["classification"].item()
        nowhere = detector(image, [{**target, "unlabelled": ~everywhere}])["classification"]
        ignored = detector(image, [{**target, "unlabelled": everywhere}])["classification"]
        logits = detector.network(image)["classification"][0]
    assert nowhere.item() == plain
    peak = blurred(lesion, cells_of((2, 2), logits.shape[2:])) == 1
    p = logits[0, 0][peak].sigmoid()
    assert ignored.item() == pytest.approx(float(-((1 - p) ** 2) * p.log()), rel=1e-5)


def test_a_lesion_that_the_patch_cuts_learns_its_whole_box_where_it_shows():
    whole = rough_lesion(0, [-3, 5], (8, 6))
    cut = crop_lesion(whole, [0, 0], SIZE[2], keep_box=True)
    detector, target = centre_detector(), lesion_target([cut], spatial_dims=2)
    image = torch.randn(1, 1, *SIZE[2])
    detector.set_box_regression_loss(AmodalBoxLoss(), encode_gt=False, decode_pred=True)
    assert detector(image, [target])["box_regression"].item() > 0
    detector.set_box_regression_loss(MaskBoxDiceLoss(), encode_gt=False, decode_pred=True)
    with pytest.raises(ValueError, match="lesions must be wholly visible for MaskBoxDiceLoss"):
        detector(image, [target])
    shown = {**target, "lesions": [crop_lesion(whole, [0, 0], SIZE[2])]}
    assert detector(image, [shown])["box_regression"].item() > 0


def test_some_steps_on_one_image_find_its_lesions_with_their_classes():
    lesions = [ball_lesion(7, [2, 3], ndim=2, label=1), ball_lesion(5, [15, 11], ndim=2)]
    image, target = scene(lesions, SIZE[2])[None], lesion_target(lesions, spatial_dims=2)
    image[..., 13:, :] *= -1  # so that the classes differ
    detector = centre_detector(num_classes=2)
    optimizer = torch.optim.AdamW(detector.parameters(), lr=0.01)
    for _ in range(120):
        optimizer.zero_grad()
        torch.stack(list(detector(image, [target]).values())).sum().backward()
        optimizer.step()
    detector.eval().set_box_selector_parameters(score_thresh=0.3, nms_thresh=0.2)
    with torch.no_grad():
        (found,) = detector(image)
    overlap = box_iou(target["boxes"], found["boxes"])
    assert overlap.shape == (2, 2)
    assert overlap.amax(dim=1).min() > 0.6
    assert torch.equal(found["labels"][overlap.argmax(dim=1)], target["labels"])


@pytest.mark.parametrize("ndim", [2, 3])
def test_what_is_found_are_local_maxima_of_the_whole_image(ndim):
    detector = centre_detector(ndim, num_classes=2).eval()
    detector.set_box_selector_parameters(score_thresh=0.0, nms_thresh=1.0, detections_per_img=10**4)
    image = torch.randn(1, 1, *SIZE[ndim])
    with torch.no_grad():
        logits = detector.network(image)["classification"][0][0]
        (found,), (scores,) = detector.detect_with_score_maps(image)
    peaks = []
    for label, heat in enumerate(logits):
        for cell in itertools.product(*map(range, heat.shape)):
            around = heat[tuple(slice(max(0, i - 1), i + 2) for i in cell)]
            if heat[cell] == around.max():
                peaks.append((label, float(heat[cell].sigmoid())))
    assert 0 < len(found["boxes"]) <= len(peaks)
    told = list(zip(found["labels"].tolist(), found["labels_scores"].tolist(), strict=True))
    close = [min(abs(s - p) for lab, p in peaks if lab == label) for label, s in told]
    assert max(close) < 1e-6
    assert torch.allclose(scores[0, 0], logits.sigmoid().amax(dim=0))  # the whole heat map


class Told(torch.nn.Module):
    """A network that returns the maps that it was given."""

    def __init__(self, logits, codes):
        super().__init__()
        self.maps = {"classification": [logits], "box_regression": [codes]}

    def forward(self, images):
        return dict(self.maps)  # a detector puts others in its place


def test_maps_that_are_right_cost_nothing_and_give_each_lesion_once():
    lesions = [rough_lesion(0, [2, 3], (5, 4)), rough_lesion(1, [13, 12], (8, 5))]
    detector, target = centre_detector(), lesion_target(lesions, spatial_dims=2)
    image, axes = torch.zeros(1, 1, *SIZE[2]), cells_of((2, 2), (12, 10))
    made = heat_map(lesions, [0, 0], axes, 1)
    start = detector.anchor_generator(image, [torch.zeros(1, 1, 12, 10)])[0]
    codes = detector.box_coder.encode_single(target["boxes"][made.lesion.clamp(min=0)], start)
    logits = torch.where(made.heat == 1, 30.0, -30.0)
    detector.network = Told(logits.view(1, 1, 12, 10), codes.t().reshape(1, 4, 12, 10))
    losses = detector(image, [target])
    assert all(loss < 1e-5 for loss in losses.values())
    (found,) = detector.eval()(image)
    assert box_iou(found["boxes"], target["boxes"]).round().sum(dim=0).tolist() == [1, 1]
    assert len(found["boxes"]) == 2


def test_what_is_beside_a_peak_is_no_detection():
    logits = torch.full((1, 1, 12, 10), -9.0)
    logits[0, 0, 3, 3:6] = torch.tensor([1.0, 2.0, 1.5])
    codes = torch.zeros(1, 4, 12, 10)
    codes[0, 2:] = -3.0  # so small that no box suppresses another
    detector = centre_detector().eval()
    detector.network = Told(logits, codes)
    (found,) = detector(torch.zeros(1, 1, *SIZE[2]))
    assert found["labels_scores"].tolist() == pytest.approx([torch.tensor(2.0).sigmoid().item()])


def test_neighbours_of_equal_heat_are_peaks_alike():
    logits = torch.tensor([0.0, 2.0, 2.0, 1.0, 0.0, 1.0]).view(1, 6, 1)
    found = is_peak(logits, (6, 1))[0, :, 0]
    assert found.tolist() == [False, True, True, False, False, True]


def test_windows_find_what_the_whole_image_holds():
    detector = centre_detector(3).eval()
    detector.set_box_selector_parameters(score_thresh=0.0)
    detector.set_sliding_window_inferer(16, overlap=0.0)
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        (whole,), (windows,) = detector(image), detector(image, use_inferer=True)
    assert len(whole["boxes"])
    assert torch.allclose(windows["boxes"], whole["boxes"], atol=1e-4)


KEPT = {"strides": [[2, 2, 1], [4, 4, 2]], "sizes": [[[3, 3, 3]], [[6, 6, 4], [9, 6, 4]]]}


def test_a_checkpoint_keeps_its_head_and_runs_nothing(tmp_path):
    path = tmp_path / "c.pt"
    model = small_detector(head="centre", lowest_score=0.0, **KEPT)
    write_checkpoint(path, model)
    again = load_checkpoint(path, device="cpu")
    assert isinstance(again.detector, CentreDetector)
    first, second = detect(model, noise()), detect(again, noise())
    assert len(first.box) > 0
    assert torch.equal(first.box, second.box)
    assert second.smallest_anchor is None
    values = torch.load(path, weights_only=True)
    for head in ("center", "$1 / 0"):
        torch.save({**values, "settings": {**values["settings"], "head": head}}, path)
        with pytest.raises(ValueError, match=r"head must be one of \['anchors', 'centre'\], got"):
            load_checkpoint(path)
    torch.save({**values, "settings": {**values["settings"], "head": "anchors"}}, path)
    with pytest.raises(ValueError, match="must hold weights that fit its settings"):
        load_checkpoint(path)


def test_one_setting_gives_a_training_the_centre_head_and_later_ones_win(tmp_path):
    made = training_config("d", "o", settings={"head": "centre", **KEPT})
    assert (made["head"], made["box_codes"]) == ("centre", False)
    assert made["cls_loss"] == {"_target_": "softoverlap.for_monai.HeatMapFocal"}
    assert made["box_loss"] == {"_target_": "softoverlap.losses.BoxDIoULoss"}
    mine = tmp_path / "mine.yaml"
    mine.write_text("head: centre\nbox_loss:\n  _target_: softoverlap.losses.BoxCIoULoss\n")
    made = training_config("d", "o", config=[mine], settings=KEPT)
    assert made["box_loss"] == {"_target_": "softoverlap.losses.BoxCIoULoss"}
    made = training_config(
        "d", "o", config=[mine], settings={"head": "anchors", "box_codes": False}
    )
    assert made["cls_loss"] == {"_target_": "softoverlap.for_monai.QualityFocal"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"head": "center"}, r"head must be one of \['anchors', 'centre'\], got 'center'"),
        ({"head": "centre"}, "head must be anchors where there is no plan, .* got centre"),
        ({"head": "centre", **KEPT, "matcher#num_candidates": 9}, "matcher must stay .* head cent"),
        ({"head": "centre", **KEPT, "weighting#target": "existence"}, "weighting must stay"),
        ({"head": "centre", **KEPT, "iou_branch": True}, "iou_branch must stay False with head"),
    ],
)
def test_a_training_refuses_what_a_centre_head_would_ignore(settings, words):
    with pytest.raises(ValueError, match=words):
        training_config("d", "o", settings=settings)


@pytest.mark.bad_input
def test_what_does_not_fit_is_named():
    with pytest.raises(TypeError, match="plan must be an AnchorPlan, .* got None"):
        centre_retinanet(plan=None)
    with pytest.raises(ValueError, match="iou_branch must be False for a centre head, got True"):
        centre_retinanet(plan=PLANS[2], iou_branch=True)
    with pytest.raises(ValueError, match=r"network must have one place .* got \[3, 3\] on its lev"):
        CentreDetector(lesion_retinanet())
    single = AnchorPlan(strides=[(2, 2)], sizes=[[(3, 3)]])
    aware = lesion_retinanet(plan=single, iou_branch=True)
    with pytest.raises(ValueError, match=r"got \[1\] on its levels and an IoU-aware branch"):
        CentreDetector(aware)
    detector = centre_detector()
    with pytest.raises(ValueError, match="encode_gt and decode_pred must be False and True for a"):
        detector.set_box_regression_loss(torch.nn.L1Loss(), encode_gt=True, decode_pred=False)
    for name in ("set_regular_matcher", "set_atss_matcher", "set_hard_negative_sampler",
                 "set_balanced_sampler"):  # fmt: skip
        with pytest.raises(ValueError, match="to match or to sample anchors, got a CentreDetector"):
            getattr(detector, name)(0.5, 0.4)
    with pytest.raises(ValueError, match="gamma must be at least 0"):
        HeatMapFocal(gamma=-1.0)
