"""Lesions that a patch cuts and whose box is kept whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, strategies as st

from softoverlap.anchors import Matches, anchor_quality
from softoverlap.for_monai import lesion_target
from softoverlap.for_monai.detector.amodal import lesion_quality
from softoverlap.lesion import crop_lesion
from softoverlap.losses import MaskBoxDiceLoss
from softoverlap.overlaps import mask_box_dice, mask_box_diou, mask_box_iou, mask_box_tversky
from tests.support.detectors import SIZE, tiny_detector
from tests.support.lesion_makers import ball_lesion, lesion_from_crop, scene

OVERLAPS = [
    {"overlap": mask_box_dice},
    {"overlap": mask_box_iou},
    {"overlap": mask_box_tversky.with_(alpha=0.2, beta=0.9)},
]


def noisy(seed):
    """A soft lesion of any shape, the whole of it inside its tight box but for a faint halo."""
    generator = torch.Generator().manual_seed(seed)
    crop = torch.rand(6, 5, generator=generator)
    crop[2:4, 2:4] = 1.0
    return lesion_from_crop(crop, [4, 5])


def halved(lesion, cut, **options):
    """The lesion in a patch that ends at this voxel of the first axis."""
    return crop_lesion(lesion, [0, 0], [cut, 20], keep_box=True, min_visible=0.0, **options)


@pytest.mark.parametrize("options", OVERLAPS)
@given(seed=st.integers(0, 10**6), cut=st.integers(5, 9))
def test_the_whole_box_is_no_worse_than_if_nothing_were_hidden(options, seed, cut):
    lesion = noisy(seed)
    part = halved(lesion, cut)
    if part is None:
        return
    box = lesion.box[None]
    truth = anchor_quality([lesion], box, **options)
    found = lesion_quality([part], box, **options)
    assert found >= truth - 1e-6
    assert found >= part.visible * truth
    unscaled = lesion_quality([part], box, normalize=None, **options)
    assert unscaled >= anchor_quality([lesion], box, normalize=None, **options) - 1e-6


@pytest.mark.parametrize("options", OVERLAPS)
@given(seed=st.integers(0, 10**6), cut=st.integers(5, 10), box_seed=st.integers(0, 10**6))
def test_every_anchor_lies_between_no_and_all_of_the_hidden_mass(options, seed, cut, box_seed):
    part = halved(noisy(seed), cut)
    if part is None:
        return
    corners = 14 * torch.rand(20, 2, 2, generator=torch.Generator().manual_seed(box_seed)).double()
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    found = lesion_quality([part], boxes, normalize=None, **options)[0]
    alpha, beta = options["overlap"].tversky_weights
    size = part.crop.double().sum() / part.visible
    hidden = size - part.crop.double().sum()
    for box, score in zip(boxes, found, strict=True):
        low, high = box[:2], box[2:]
        cover = [
            (torch.arange(n) + o + 1).clamp(max=b) - (torch.arange(n) + o).clamp(min=a)
            for n, o, a, b in zip(part.crop.shape, part.offset, low, high, strict=True)
        ]
        mass = cover[0].clamp(min=0) @ part.crop.double() @ cover[1].clamp(min=0)
        volume = (high - low).prod()

        def ratio(m, volume=volume):
            return m / ((1 - alpha - beta) * m + alpha * volume + beta * size)

        most = mass + min(hidden, volume - mass)
        assert ratio(mass) - 1e-6 <= score <= ratio(most) + 1e-6
        if high[0] <= cut:
            assert score.item() == pytest.approx(ratio(mass).item(), abs=1e-6)


@pytest.mark.parametrize("options", OVERLAPS)
def test_an_anchor_on_the_whole_box_beats_one_on_the_part_of_a_filled_lesion(options):
    lesion = lesion_from_crop(torch.ones(8, 4), [4, 5])
    part = halved(lesion, 7)
    assert part.visible == pytest.approx(3 / 8)
    boxes = torch.stack([lesion.box, torch.tensor([4.0, 5, 7, 9])])
    whole, shown = lesion_quality([part], boxes, **options)[0].tolist()
    assert whole == pytest.approx(1)
    assert shown < whole
    old = anchor_quality([replace(part, visible=1.0)], boxes, **options)[0]
    assert old[0] < old[1]  # compared with the part alone it is the other way round


@pytest.mark.parametrize("options", OVERLAPS)
@pytest.mark.parametrize("normalize", ["best", None])
def test_a_lesion_that_is_all_there_has_the_quality_it_had(options, normalize):
    lesion = noisy(3)
    part = halved(lesion, 20)
    assert part.visible == 1
    nearly = replace(part, visible=1 - 1e-12)
    boxes = torch.tensor([[4.0, 5, 9, 9], [6.0, 7, 8, 9], [0.0, 0, 3, 3]])
    expected = anchor_quality([lesion], boxes, normalize=normalize, **options)
    for one in (part, nearly):
        found = lesion_quality([one], boxes, normalize=normalize, **options)
        assert torch.allclose(found, expected, atol=1e-6)


def test_whole_and_cut_lesions_keep_their_rows():
    lesions = [noisy(1), halved(noisy(2), 7), noisy(3)]
    boxes = torch.tensor([[4.0, 5, 9, 9], [6.0, 7, 8, 9]])
    found = lesion_quality(lesions, boxes)
    for row, lesion in enumerate(lesions):
        assert torch.equal(found[row], lesion_quality([lesion], boxes)[0])


def test_the_detector_regresses_the_whole_box():
    lesion = ball_lesion(8, [20, 4, 5])
    part = crop_lesion(lesion, [0, 0, 0], SIZE, keep_box=True)
    detector, target = tiny_detector(), lesion_target([part])
    assert torch.equal(target["boxes"][0], lesion.box)
    match = Matches(torch.ones(1), torch.zeros(1, dtype=torch.int64))
    loss = detector.compute_box_loss(torch.zeros(1, 1, 6), [target], [lesion.box[None]], [match])
    assert loss == 0
    anchors = [torch.stack([lesion.box, lesion.box])]
    assert detector.learning.match(anchors, [target], [1])[0].quality[0] > 0.6
    losses = detector(scene([crop_lesion(lesion, [0, 0, 0], SIZE)], SIZE)[None], [target])
    assert all(bool(torch.isfinite(loss)) for loss in losses.values())


@pytest.mark.bad_input
def test_what_hidden_mass_cannot_serve_is_refused():
    part = crop_lesion(ball_lesion(8, [2, 2, 2]), [6, 0, 0], SIZE, keep_box=True)
    assert part.visible < 1
    with pytest.raises(ValueError, match="overlap must be a ratio or one of boxes for amodal"):
        lesion_quality([part], torch.rand(3, 6), overlap=mask_box_diou)
    detector = tiny_detector()
    detector.set_box_regression_loss(MaskBoxDiceLoss(), encode_gt=False, decode_pred=True)
    with pytest.raises(ValueError, match="lesions must be wholly visible for MaskBoxDiceLoss"):
        detector(torch.zeros(1, 1, *SIZE), [lesion_target([part])])
