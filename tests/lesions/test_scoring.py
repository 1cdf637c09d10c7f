"""Scores of the lesions of a probability map, against loops over voxels and known answers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as arrays

from softoverlap import (
    HaloDice,
    LesionCandidate,
    MassAboveBackground,
    MaxProbability,
    MeanProbability,
    compute_froc,
    lesion_candidates,
    lesion_scores,
    mask_dice,
)
from tests.support.reference_lesion_scores import reference_lesion_scores

REACH = 2.1
SCORES = (MaxProbability(), MeanProbability(), MassAboveBackground(REACH), HaloDice(REACH))


@st.composite
def maps(draw):
    shape = draw(st.sampled_from([(9,), (5, 6), (3, 4, 5)]))
    values = st.sampled_from([0.0, 0.004, 0.1, 0.25, 0.5, 0.75, 1.0])
    image = draw(arrays.arrays("float64", shape, elements=values))
    edges = draw(
        st.lists(st.sampled_from([0.7, 1.0, 2.0]), min_size=len(shape), max_size=len(shape))
    )
    return torch.from_numpy(image), edges


def scored(image, spacing, scores=SCORES, **options):
    found = lesion_candidates(image, spacing=spacing, threshold=0.5, **options)
    return torch.tensor([[score(one) for score in scores] for one in found]).reshape(
        -1, len(scores)
    )


@settings(max_examples=40)
@given(maps())
def test_scores_equal_the_reference(item):
    image, spacing = item
    expected = reference_lesion_scores(image.numpy(), spacing, 0.5, REACH)
    expected = torch.tensor(expected).reshape(-1, 4)
    torch.testing.assert_close(scored(image, spacing), expected, atol=1e-6, rtol=1e-6)


def test_small_components_are_no_background_of_others():
    image = torch.zeros(9)
    image[2:4] = image[5] = 0.9
    (large,) = scored(image, [1.0], min_mm3=1)
    assert torch.equal(large, scored(image, [1.0])[0])


@settings(max_examples=40)
@given(maps())
def test_flips_change_no_score(item):
    image, spacing = item
    here = scored(image, spacing)
    there = scored(image.flip(list(range(image.ndim))), spacing)
    torch.testing.assert_close(here.sort(dim=0)[0], there.sort(dim=0)[0], atol=1e-6, rtol=1e-6)


@settings(max_examples=40)
@given(maps())
def test_zeros_around_the_map_change_the_background_alone(item):
    image, spacing = item
    wide = torch.nn.functional.pad(image, [4] * 2 * image.ndim)
    here, there = scored(image, spacing), scored(wide, spacing)
    torch.testing.assert_close(there[:, [0, 1, 3]], here[:, [0, 1, 3]], atol=1e-6, rtol=1e-6)


@settings(max_examples=40)
@given(maps(), st.sampled_from([0.5, 3.0]))
def test_scores_scale_with_the_voxels_and_the_reach(item, factor):
    image, spacing = item
    larger = (*SCORES[:2], MassAboveBackground(REACH * factor), HaloDice(REACH * factor))
    here = scored(image, spacing)
    there = scored(image, [edge * factor for edge in spacing], larger)
    here[:, 2] *= factor**image.ndim
    torch.testing.assert_close(there, here, atol=1e-5, rtol=1e-5)


@settings(max_examples=40)
@given(maps())
def test_scores_are_in_their_range(item):
    found = scored(*item)
    assert bool((found[:, [0, 1, 3]] > 0).all() & (found[:, [0, 1, 3]] <= 1).all())
    assert bool((found[:, 2] >= 0).all() & (found[:, 0] >= found[:, 1] - 1e-6).all())


def test_the_dice_of_a_lesion_and_its_halo_is_that_of_two_masks():
    image = torch.rand(7, 8, 9, generator=torch.Generator().manual_seed(0)).double() * 0.4
    image[2:5, 3:5, 4:6] = 0.8
    component = (image >= 0.5).double()
    score = lesion_scores(image, spacing=[1, 1, 1], threshold=0.5, score=HaloDice(20)).scores
    torch.testing.assert_close(score, mask_dice(component[None, None], image[None, None])[0])


def test_a_hard_lesion_alone_has_a_dice_of_one():
    image = torch.zeros(6, 6)
    image[2:4, 1:5] = 1
    assert lesion_scores(image, spacing=[1, 1], threshold=0.5, score=HaloDice()).scores.item() == 1


def test_a_neighbour_is_not_part_of_the_halo():
    image = torch.tensor([0.0, 1.0, 1.0, 0.2, 0.9, 0.9, 0.0])
    first, second = scored(image, [1.0], [HaloDice(3.0)])[:, 0]
    assert first.item() == pytest.approx(2 * 2 / (2 + 2 + 0.2))
    assert second.item() == pytest.approx(2 * 1.8 / (2 + 1.8 + 0.2))


def test_thick_slices_are_no_neighbours_within_a_few_millimetres():
    image = torch.full((3, 3, 3), 0.4)
    image[1, 1, 1] = 1.0
    (flat,) = lesion_candidates(image, spacing=[1, 1, 5], threshold=0.5)
    assert [len(flat.around(reach)) for reach in (0.9, 1.0, 1.5, 4.9, 5.0)] == [0, 4, 8, 8, 10]


def test_a_lesion_that_fills_the_map_has_nothing_around_it():
    (one,) = lesion_candidates(torch.full((3, 4), 0.7).double(), spacing=[1, 2], threshold=0.5)
    assert len(one.around(5.0)) == 0
    assert MassAboveBackground()(one) == pytest.approx(0.7 * 12 * 2)
    assert HaloDice()(one) == pytest.approx(2 * 0.7 / 1.7)


def test_one_voxel_is_a_lesion():
    image = torch.zeros(3, 3, 3)
    image[1, 2, 0] = 0.5
    found = lesion_scores(image, spacing=[1, 2, 3], threshold=0.5, score=MassAboveBackground())
    assert found.box.tolist() == [[1, 2, 0, 2, 3, 1]]
    assert found.volume_mm3.tolist() == found.scores.tolist() == [3.0]


@pytest.mark.parametrize("shape", [(4, 5, 6), (0, 3), (7,)])
def test_a_map_without_lesions_has_no_boxes(shape):
    found = lesion_scores(torch.zeros(shape), spacing=[1] * len(shape), threshold=0.5)
    assert (found.box.shape, found.scores.shape) == ((0, 2 * len(shape)), (0,))
    assert (found.volume_mm3.tolist(), found.lesions) == ([], ())


def test_the_haze_of_a_network_is_no_part_of_a_volume():
    image = torch.full((20, 20), 0.001)
    image[4:6, 4:6] = 0.9
    found = lesion_scores(image, spacing=[1, 1], threshold=0.5)
    assert found.volume_mm3.tolist() == pytest.approx([3.6])
    low = lesion_scores(image, spacing=[1, 1], threshold=0.5, low=0.0005)
    assert low.box.tolist() == [[0, 0, 20, 20]]


def test_with_low_a_component_reaches_from_its_core_into_its_edge():
    image = torch.tensor([0.3, 0.9, 0.3, 0.0, 0.3])
    found = lesion_scores(image, spacing=[1.0], threshold=0.5, low=0.2, score=MeanProbability())
    assert (found.box.tolist(), found.scores.tolist()) == ([[0, 3]], pytest.approx([0.5]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.uint8])
def test_maps_of_other_types_are_read_exactly(dtype):
    image = torch.tensor([0.0, 1.0, 1.0, 0.0]).to(dtype)
    found = lesion_scores(image, spacing=[1.0], threshold=0.5, score=HaloDice())
    assert (found.scores.tolist(), found.scores.dtype) == ([1.0], torch.float64)


def test_a_score_of_ones_own_takes_the_candidate():
    def contrast(candidate: LesionCandidate) -> float:
        return float(candidate.values.mean() - candidate.around(1.0).mean())

    image = torch.tensor([0.2, 0.9, 0.4])
    found = lesion_scores(image, spacing=[1.0], threshold=0.5, score=contrast)
    assert found.scores.tolist() == pytest.approx([0.6])


def test_the_lesions_are_what_froc_takes():
    image = torch.zeros(8, 8, 8)
    image[1:4, 1:4, 1:4] = 0.9
    found = lesion_scores(image, spacing=[1, 1, 1], threshold=0.5)
    target = {"box": found.box, "label": torch.zeros(1)}
    assert compute_froc([found.prediction], [target]).cpm == 1


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (
            {"probabilities": torch.tensor([0.5, float("nan")])},
            ValueError,
            "probabilities must .* NaN",
        ),
        ({"probabilities": torch.tensor([0.5, 1.5])}, ValueError, r"probabilities in \[0, 1\]"),
        ({"probabilities": [0.5]}, TypeError, "probabilities must be a torch.Tensor"),
        ({"threshold": 0}, ValueError, r"threshold must lie in \(0, 1\]"),
        ({"threshold": "best"}, TypeError, "threshold must be a number, got 'best'"),
        ({"low": 0.7}, ValueError, r"low must lie in \(0, 0.5\]"),
        ({"spacing": [1.0, 1.0]}, ValueError, "spacing must hold 1 positive lengths"),
        ({"score": lambda one: float("nan")}, ValueError, r"score must return finite numbers"),
    ],
)
def test_bad_input_is_refused(options, error, words):
    given_ = {"probabilities": torch.tensor([0.5, 0.1]), "spacing": [1.0], "threshold": 0.5}
    given_ |= options
    with pytest.raises(error, match=words):
        lesion_scores(given_.pop("probabilities"), **given_)


@pytest.mark.bad_input
@pytest.mark.parametrize("kind", [HaloDice, MassAboveBackground])
@pytest.mark.parametrize("reach", [0, -1.0, float("inf")])
def test_a_reach_must_be_above_zero(kind, reach):
    with pytest.raises(ValueError, match="reach_mm must be above 0 and finite"):
        kind(reach)
