import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from softoverlap.anchors import best, best_box
from softoverlap.lesions import lesions_from_mask
from softoverlap.overlaps import mask_box_dice, mask_box_iou, mask_box_tversky
from tests.support.strategies import probabilities

OPEN_MS = Path(__file__).parents[3] / "shared" / "data" / "open_ms"
SCORES = {"dice": mask_box_dice, "iou": mask_box_iou, "tversky": mask_box_tversky}
WEIGHTS = {"dice": (0.5, 0.5), "iou": (1, 1)}


def reference_best(crop, alpha, beta):
    """The highest score of every box on voxel edges."""
    size, top = float(crop.sum()), 0.0
    spans = [itertools.combinations(range(side + 1), 2) for side in crop.shape]
    for box in itertools.product(*spans):
        inside = crop[tuple(slice(*edges) for edges in box)]
        mass, volume = float(inside.sum()), inside.size
        if mass:
            top = max(top, mass / (mass + alpha * (volume - mass) + beta * (size - mass)))
    return top


@st.composite
def crops(draw):
    ndim = draw(st.integers(1, 3))
    shape = draw(st.lists(st.integers(1, (24, 7, 4)[ndim - 1]), min_size=ndim, max_size=ndim))
    return draw(hnp.arrays(np.float64, shape, elements=probabilities))


@given(crops(), st.floats(0, 2), st.floats(0, 2))
def test_best_box_is_as_good_as_the_best_of_all_boxes(crop, alpha, beta):
    score = best_box(
        torch.from_numpy(crop), overlap=mask_box_tversky.with_(alpha=alpha, beta=beta)
    ).score
    assert score == pytest.approx(reference_best(crop, alpha, beta), abs=1e-12)


@given(crops(), st.sampled_from(["dice", "iou"]))
def test_the_box_has_the_score_that_comes_with_it(crop, overlap):
    box, score, _ = best_box(torch.from_numpy(crop), overlap=overlap)
    again = SCORES[overlap](torch.from_numpy(crop)[None], box[None], empty=0.0)
    assert again.item() == pytest.approx(score, abs=1e-12)
    assert score == pytest.approx(reference_best(crop, *WEIGHTS[overlap]), abs=1e-12)


@given(crops(), st.integers(0, 10**6))
def test_no_real_valued_box_beats_the_best(crop, seed):
    mask = torch.from_numpy(crop)
    generator = torch.Generator().manual_seed(seed)
    sides = torch.tensor(crop.shape)
    corners = torch.rand(2, 200, mask.ndim, generator=generator, dtype=torch.float64) * sides
    boxes = torch.cat([corners.amin(0), corners.amax(0)], dim=1)
    for overlap, score in SCORES.items():
        if overlap == "tversky":
            score = score.with_(alpha=0.3, beta=0.7)
        top = best_box(mask, overlap=score)[1]
        assert score(mask[None], boxes, empty=0.0).max() <= top + 1e-12


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("overlap", ["dice", "iou", "tversky"])
def test_a_full_box_is_its_own_best(shape, overlap):
    crop = torch.zeros([side + 2 for side in shape])
    crop[tuple(slice(1, side + 1) for side in shape)] = 1
    box, score, _ = best_box(crop, overlap=overlap)
    assert score == 1
    assert box.tolist() == [1] * len(shape) + [side + 1 for side in shape]


def test_a_constant_crop_has_the_closed_form():
    # filling all of it: 2 p V / (p V + V)
    assert best_box(torch.full((4, 5), 0.25))[1] == pytest.approx(2 * 0.25 / 1.25, abs=1e-12)


def test_a_lesion_that_few_raters_marked_still_has_a_best_box():
    crop = torch.zeros(6, 6, 6)
    crop[2:4, 1:4, 2:5] = 0.2
    box, score, _ = best_box(crop)
    assert box.tolist() == [2, 1, 2, 4, 4, 5]
    assert score == pytest.approx(2 * 0.2 / 1.2, rel=1e-6)


def test_a_crop_without_mass_scores_zero():
    box, score, _ = best_box(torch.zeros(3, 3))
    assert score == 0
    assert box.tolist() == [0, 0, 0, 0]


def test_every_step_raises_the_score(monkeypatch):
    crop = torch.rand(12, 12, 12, generator=torch.Generator().manual_seed(3)).double()
    found = []
    monkeypatch.setattr(best, "_tight_boxes", lambda values: [((0, 1),) * 3])
    score = best._score

    def recorded(*args):
        found.append(score(*args))
        return found[-1]

    monkeypatch.setattr(best, "_score", recorded)
    best._search(crop, 0.5, 0.5)
    found.insert(0, score(crop, ((0, 1),) * 3, crop.sum(), 0.5, 0.5))
    assert len(found) >= 2
    assert found[-1] > found[0]
    assert all(later >= earlier for earlier, later in itertools.pairwise(found))


def test_blocks_do_not_change_the_result(monkeypatch):
    gain = torch.randn(9, 7, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = best.maximum_sum_box(gain)
    monkeypatch.setattr(best, "_ELEMENTS_PER_BLOCK", 1)
    assert best.maximum_sum_box(gain) == whole


@given(crops(), st.floats(0, 2), st.floats(0, 2))
def test_branch_and_bound_is_as_good_as_the_best_of_all_boxes(crop, alpha, beta):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(best, "EXACT_SUMS", 0)
        patch.setattr("softoverlap.anchors._branch_and_bound.NODES_AT_ONCE", 5)
        _, score, bound = best._search(torch.from_numpy(crop), alpha, beta)
    assert score == pytest.approx(reference_best(crop, alpha, beta), abs=1e-12)
    assert bound == score


@given(crops(), st.floats(0, 2), st.floats(0, 2), st.integers(0, 60))
def test_a_search_that_is_given_up_bounds_the_best_from_both_sides(crop, alpha, beta, nodes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(best, "EXACT_SUMS", 0)
        patch.setattr(best, "NODES", nodes)
        patch.setattr("softoverlap.anchors._branch_and_bound.NODES_AT_ONCE", 2)
        patch.setattr(best, "_ascend", lambda gain, box: box)  # start from a poor box
        _, score, bound = best._search(torch.from_numpy(crop), alpha, beta)
    expected = reference_best(crop, alpha, beta)
    assert 0 <= score <= expected + 1e-12
    assert expected - 1e-12 <= bound <= 1


def test_a_search_that_is_given_up_reports_its_gap(monkeypatch):
    noise = torch.rand(20, 20, 20, generator=torch.Generator().manual_seed(0)).double().pow(8)
    monkeypatch.setattr("softoverlap.anchors._branch_and_bound.NODES_AT_ONCE", 16)
    monkeypatch.setattr(best, "NODES", 100)
    _, score, bound = best._search(noise, 0.5, 0.5)
    assert score < bound <= 1
    monkeypatch.setattr(best, "NODES", 400)
    _, later, closer = best._search(noise, 0.5, 0.5)
    assert later >= score
    assert closer < bound


def lump(side, seed=0):
    """An irregular lesion with a soft edge that fills most of a cube."""
    noise = torch.randn(1, 1, *[side + 8] * 3, generator=torch.Generator().manual_seed(seed))
    rough = torch.nn.functional.avg_pool3d(noise, 9, stride=1)[0, 0]
    axis = (torch.arange(side) + 0.5) / (side / 2) - 1
    radius = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).square().sum(0).sqrt()
    return torch.sigmoid(8 * (0.85 - radius + 7 * rough)).double()


@pytest.mark.parametrize("shape", [(12, 12, 12), (20, 24), (100_000,), (3, 12, 200)])
def test_all_cross_sections_of_a_small_lesion_are_looked_at(shape, monkeypatch):
    monkeypatch.setattr(best, "highest_box", None)
    assert best._cost(shape) <= best.EXACT_SUMS
    best._search(torch.ones(shape, dtype=torch.float64), 0.5, 0.5)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (1.0, 1.0), (0.2, 0.8), (1.5, 0.1)])
@pytest.mark.parametrize("side", [14, 20, 26])
def test_branch_and_bound_finds_what_looking_at_all_boxes_finds(side, alpha, beta, monkeypatch):
    crop = lump(side, seed=side)[:, :, : side - 4].contiguous()
    monkeypatch.setattr(best, "EXACT_SUMS", 0)
    found, score, bound = best._search(crop, alpha, beta)
    monkeypatch.setattr(best, "EXACT_SUMS", 10**9)
    monkeypatch.setattr(best, "highest_box", None)
    exact = best._search(crop, alpha, beta)
    assert score == bound == pytest.approx(exact[1], abs=1e-12)
    assert best._score(crop, found, crop.sum(), alpha, beta) == score


def test_the_largest_lesions_are_searched_to_the_end():
    crop = torch.nn.functional.interpolate(
        lump(48, seed=48)[None, None], size=(47, 85, 57), mode="trilinear"
    )[0, 0]
    _, score, bound = best_box(crop)
    assert bound == score


def soft_lesions(patient):
    """The consensus of raters, smoothed by a voxel."""
    path = OPEN_MS / f"patient{patient}_native1mm_consensus_gt.nii.gz"
    hard = torch.from_numpy(np.asarray(nibabel.load(path).dataobj) > 0).float()
    soft = torch.nn.functional.avg_pool3d(hard[None, None], 3, stride=1, padding=1)[0, 0]
    return lesions_from_mask(soft, spacing=(1, 1, 1), threshold=0.3)


@pytest.mark.slow
@pytest.mark.skipif(not OPEN_MS.exists(), reason="the shared lesion data are not here")
@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (0.2, 0.8)])
def test_real_lesions_are_searched_to_the_end(alpha, beta, monkeypatch):
    """And both ways to search agree, where looking at all boxes does not take too long."""
    lesions = [lesion for patient in ("02", "07", "12") for lesion in soft_lesions(patient)]
    crops = [lesion.crop.double() for lesion in lesions]
    assert len(crops) > 100
    assert max(crop.numel() for crop in crops) > 200_000
    both = 0
    for crop in crops:
        _, score, bound = best._search(crop, alpha, beta)
        assert bound == score
        assert 0 < score <= 1
        cost = best._cost(crop.shape)
        if cost < 10**7:
            with monkeypatch.context() as patch:
                patch.setattr(best, "EXACT_SUMS", 0 if cost <= best.EXACT_SUMS else 10**9)
                assert best._search(crop, alpha, beta)[1] == pytest.approx(score, abs=1e-12)
            both += 1
    assert both > 100


def test_threads_share_the_cache(monkeypatch):
    monkeypatch.setattr(best, "_CACHED_CROPS", 2)
    crops = [torch.rand(6, generator=torch.Generator().manual_seed(seed)) for seed in range(20)]
    expected = [best_box(crop)[1] for crop in crops]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda crop: best_box(crop)[1], crops * 50))
    assert found == expected * 50


def test_a_crop_is_searched_once(monkeypatch):
    crop = torch.rand(5, 5, generator=torch.Generator().manual_seed(7))
    first = best_box(crop)
    monkeypatch.setattr(best, "_search", None)
    assert best_box(crop.clone())[1] == first[1]


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16, torch.bfloat16])
def test_hard_crops_of_any_type_are_taken(dtype):
    crop = torch.tensor([0, 1, 1, 0]).to(dtype)
    assert best_box(crop)[0].tolist() == [1, 3]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.5])
def test_a_crop_without_probabilities_is_refused(value):
    with pytest.raises(ValueError, match="crop must hold finite probabilities"):
        best_box(torch.tensor([0.5, value]))


def test_an_unknown_overlap_is_refused():
    with pytest.raises(ValueError, match="overlap must be one of"):
        best_box(torch.ones(2), overlap="giou")


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="alpha must be at least 0"):
        best_box(torch.ones(2), overlap=mask_box_tversky.with_(alpha=-1.0))


def test_an_overlap_without_a_best_box_is_refused():
    with pytest.raises(ValueError, match="overlap must be a Tversky index, which has a best box"):
        best_box(torch.ones(2), overlap="diou")


@pytest.mark.bad_input
def test_four_axes_are_refused():
    with pytest.raises(ValueError, match="crop must have 1 to 3 axes"):
        best_box(torch.ones(2, 2, 2, 2))
