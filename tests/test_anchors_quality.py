import pytest
import torch
from lesion_makers import ball_lesion, lesion_from_crop
from reference import reference_mass

from softoverlap.anchors import anchor_quality, best_box
from softoverlap.lesions import Lesion


def some_anchors(count, extent, ndim=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, ndim, generator=generator) * extent - 2
    return torch.cat([low, low + 1 + 6 * torch.rand(count, ndim, generator=generator)], dim=1)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_quality_is_the_overlap_over_the_best_overlap(ndim):
    lesions = [ball_lesion(5, [3] * ndim, ndim=ndim), ball_lesion(4, [8] * ndim, ndim=ndim)]
    anchors = some_anchors(20, 12, ndim)
    quality = anchor_quality(lesions, anchors)
    assert quality.shape == (2, 20)
    for row, lesion in enumerate(lesions):
        shift = lesion.offset.repeat(2)
        for column, anchor in enumerate(anchors):
            mass = reference_mass(lesion.crop.double(), (anchor - shift).double())
            volume = float((anchor[ndim:] - anchor[:ndim]).double().prod())
            dice = 2 * mass / (float(lesion.crop.double().sum()) + volume)
            expected = dice / best_box(lesion.crop)[1]
            assert quality[row, column].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("overlap", ["dice", "iou", "tversky"])
def test_the_best_box_has_quality_one_and_no_anchor_more(overlap):
    lesion = ball_lesion(7, [4, 5, 6])
    box, score = best_box(lesion.crop, overlap=overlap, alpha=0.3, beta=0.7)
    best_anchor = (box + lesion.offset.repeat(2)).float()[None]
    options = {"overlap": overlap, "alpha": 0.3, "beta": 0.7}
    assert anchor_quality([lesion], best_anchor, **options).item() == pytest.approx(1, abs=1e-6)
    plain = anchor_quality([lesion], best_anchor, normalize=None, **options)
    assert plain.item() == pytest.approx(score, abs=1e-6)
    anchors = some_anchors(500, 14)
    assert anchor_quality([lesion], anchors, **options).min() >= 0
    assert anchor_quality([lesion], anchors, **options).max() <= 1


def test_no_lesion_gives_no_rows():
    assert anchor_quality([], some_anchors(4, 8)).shape == (0, 4)


def test_no_anchor_gives_no_columns():
    assert anchor_quality([ball_lesion(3, [0, 0, 0])], torch.zeros(0, 6)).shape == (1, 0)


def test_a_lesion_without_mass_has_no_quality():
    hollow = Lesion(
        box=torch.tensor([0.0, 2.0]),
        crop=torch.zeros(2),
        offset=torch.tensor([0]),
        centre=torch.tensor([1.0]),
        volume_mm3=0.0,
    )
    assert anchor_quality([hollow], torch.tensor([[0.0, 2.0], [5.0, 6.0]])).tolist() == [[0, 0]]


def test_anchors_far_outside_the_image_have_no_quality():
    anchors = torch.tensor([[-50.0, -50, -50, -40, -40, -40]])
    assert anchor_quality([ball_lesion(3, [0, 0, 0])], anchors).item() == 0


def test_tversky_with_a_cheap_outside_prefers_the_whole_lesion():
    lesion = lesion_from_crop(torch.tensor([0.3, 1.0, 1.0, 0.3]), [0])
    core, whole = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 4.0])
    anchors = torch.stack([core, whole])
    dice = anchor_quality([lesion], anchors)[0]
    tversky = anchor_quality([lesion], anchors, overlap="tversky", alpha=0.1, beta=0.9)[0]
    assert dice[0] > dice[1]
    assert tversky[1] > tversky[0]


def test_an_inverted_anchor_is_refused():
    with pytest.raises(ValueError, match="anchors must have every maximum at or above"):
        anchor_quality([], torch.tensor([[2.0, 1.0]]))


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(ValueError, match="normalize must be one of"):
        anchor_quality([], torch.zeros(0, 2), normalize="max")


@pytest.mark.bad_input
def test_anchors_of_other_axes_are_refused():
    with pytest.raises(ValueError, match=r"anchors must have shape \(N, 6\)"):
        anchor_quality([ball_lesion(3, [0, 0, 0])], torch.zeros(1, 4))
