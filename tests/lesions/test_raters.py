"""Raters fused to one mask: closed forms, a naive STAPLE, and what SimpleITK does at the edge."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from monai.data import MetaTensor

from softoverlap.lesions import fuse_raters, staple
from softoverlap.phantoms import LesionPhantoms
from tests.support.reference_raters import reference_staple
from tests.support.strategies import masks

METHODS = ["mean", "majority", "staple"]


def _panel(seed=0, raters=4, shape=(6, 7, 8)):
    """Hard masks of a ball, each with its own mistakes at the rim."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*[torch.arange(edge) - edge / 2 for edge in shape], indexing="ij")
    distance = sum(axis**2 for axis in axes).sqrt()
    noise = torch.randn(raters, *shape, generator=generator)
    return (distance + 0.7 * noise < 2.5).float()


def _panels():
    shape = st.tuples(st.integers(2, 4), st.integers(1, 6))
    return shape.flatmap(lambda size: hnp.arrays(np.int64, size, elements=st.integers(0, 1)))


@given(masks((3, 2, 3)))
def test_the_mean_is_the_share_of_raters(raters):
    expected = (raters[0] + raters[1] + raters[2]) / 3
    torch.testing.assert_close(fuse_raters(raters), expected, atol=1e-15, rtol=0)
    equal = fuse_raters(raters, method="weighted", weights=[2.0, 2.0, 2.0])
    torch.testing.assert_close(equal, expected, atol=1e-15, rtol=0)


@given(_panels())
def test_the_majority_is_a_strict_one(panel):
    fused = fuse_raters(torch.from_numpy(panel), method="majority")
    for voxel, votes in enumerate(panel.sum(axis=0)):
        assert fused[voxel].item() == (votes > len(panel) / 2)


def test_a_tie_is_no_majority():
    raters = torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert fuse_raters(raters, method="majority").tolist() == [1, 0, 0]


def test_weights_pick_one_rater_and_their_sum_does_not_matter():
    raters = _panel()
    alone = fuse_raters(raters, method="weighted", weights=[0.0, 0.0, 7.0, 0.0])
    assert torch.equal(alone, raters[2])
    one = fuse_raters(raters, method="weighted", weights=torch.tensor([1.0, 2.0, 3.0, 2.0]))
    two = fuse_raters(raters, method="weighted", weights=[0.5, 1.0, 1.5, 1.0])
    assert torch.equal(one, two)


@pytest.mark.parametrize("shape", [(40,), (9, 8), (6, 7, 8), (3, 4, 3, 4)])
def test_staple_equals_the_reference_in_any_dimension(shape):
    raters = _panel(shape=shape)
    fused = staple(raters)
    found, sensitivity, specificity = reference_staple(raters.numpy(), fused.iterations)
    assert 0 < fused.iterations < 1000
    assert fused.probability.shape == shape
    np.testing.assert_allclose(fused.probability.flatten(), found, atol=1e-6)
    np.testing.assert_allclose(fused.sensitivity, sensitivity, atol=1e-6)
    np.testing.assert_allclose(fused.specificity, specificity, atol=1e-6)


def test_staple_is_simpleitks_on_the_volume_itself():
    raters = LesionPhantoms(2, num_raters=3, shape=(32, 32, 24))[0].raters.float()
    stages = SimpleITK.STAPLEImageFilter()
    stages.SetForegroundValue(1)
    theirs = stages.Execute([SimpleITK.GetImageFromArray(r.byte().numpy()) for r in raters])
    fused = staple(raters)
    for ours, volume in (
        (fused.probability, SimpleITK.GetArrayFromImage(theirs)),
        (fused.sensitivity, stages.GetSensitivity()),
        (fused.specificity, stages.GetSpecificity()),
    ):
        np.testing.assert_allclose(ours, volume, atol=1e-9)


@settings(deadline=None)
@given(_panels())
def test_staple_is_a_probability_whatever_the_raters_marked(panel):
    fused = staple(torch.from_numpy(panel), max_iterations=50)
    assert ((fused.probability >= 0) & (fused.probability <= 1)).all()
    known = [values[~values.isnan()] for values in (fused.sensitivity, fused.specificity)]
    for values in known:
        assert ((values >= 0) & (values <= 1)).all()
    assert fused.sensitivity.isnan().any() == (not panel.any())
    assert fused.specificity.isnan().any() == bool(panel.all())


@pytest.mark.parametrize("count", [1, 3])
def test_raters_that_are_equal_are_their_own_estimate(count):
    mask = _panel()[0]
    for one in (mask, torch.zeros_like(mask), torch.ones_like(mask)):
        for method in METHODS:
            fused = fuse_raters(torch.stack([one] * count), method=method)
            assert torch.equal(fused.double(), one.double())
    empty, full = staple(torch.zeros(count, 4)), staple(torch.ones(count, 4))
    assert empty.sensitivity.isnan().all()
    assert empty.specificity.eq(1).all()
    assert full.sensitivity.eq(1).all()
    assert full.specificity.isnan().all()


def test_simpleitk_gives_nan_where_all_raters_are_empty_and_that_is_why_it_is_not_asked():
    empty = SimpleITK.GetImageFromArray(np.zeros((4, 4), np.uint8))
    stages = SimpleITK.STAPLEImageFilter()
    stages.SetForegroundValue(1)
    assert np.isnan(SimpleITK.GetArrayFromImage(stages.Execute([empty, empty]))).all()


def test_raters_that_never_agree_teach_staple_nothing():
    raters = torch.zeros(2, 30)
    raters[0, :2], raters[1, 5:7] = 1, 1
    estimate = staple(raters).probability
    assert (estimate - raters.mean()).abs().max() < 1e-3


def test_an_estimate_that_creeps_is_stopped_and_says_so():
    creeping = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 1]])  # they agree exactly as often as chance
    assert staple(creeping, max_iterations=20).iterations == 20
    assert staple(creeping).iterations == 1000


def test_a_wide_empty_margin_changes_the_estimate():
    raters = torch.zeros(3, 40)
    raters[0, :6], raters[1, 2:8], raters[2, 4:12] = 1, 1, 1
    wide, narrow = staple(raters).specificity, staple(raters[:, :12]).specificity
    assert (wide > narrow).any()


@pytest.mark.parametrize("method", METHODS)
def test_soft_masks_are_cut_where_a_threshold_is_given(method):
    raters = _panel()
    soft = 0.2 + 0.5 * raters
    fused = fuse_raters(soft, method=method, threshold=0.7)
    assert torch.equal(fused.double(), fuse_raters(raters, method=method).double())


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16, torch.float64])
@pytest.mark.parametrize("method", METHODS)
def test_types_and_meta_tensors_come_back_as_plain_floats(dtype, method):
    raters = _panel(shape=(4, 4, 4)).to(dtype)
    before = raters.clone()
    fused = fuse_raters(MetaTensor(raters), method=method)
    wide = dtype == torch.float64 or method == "staple"
    assert type(fused) is torch.Tensor
    assert fused.dtype == (torch.float64 if wide else torch.float32)
    assert torch.equal(raters, before)
    exact = fuse_raters(raters.double(), method=method)
    torch.testing.assert_close(fused.double(), exact, atol=1e-7, rtol=0)


def test_what_half_precision_adds_to_one_is_taken_off():
    raters = torch.full((2, 3), 1 + 1 / 1024, dtype=torch.float16)
    assert raters.max() > 1
    assert fuse_raters(raters).tolist() == [1, 1, 1]


def test_whoever_reads_files_does_not_wait_for_simpleitk():
    code = "import sys, softoverlap.images; sys.exit('SimpleITK' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.bad_input
def test_bad_input_is_named():
    raters = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(TypeError, match=r"raters must be a torch\.Tensor, got list"):
        fuse_raters([[1, 0]])
    with pytest.raises(ValueError, match="raters must hold probabilities .* got values in"):
        fuse_raters(raters * 2)
    with pytest.raises(ValueError, match=r"raters must hold one mask or more, got shape \(0, 2\)"):
        fuse_raters(raters[:0])
    with pytest.raises(ValueError, match=r"raters must have shape \(R, \*spatial\)"):
        fuse_raters(torch.tensor(1.0))
    with pytest.raises(ValueError, match="method must be one of .* got 'median'"):
        fuse_raters(raters, method="median")
    for method in ("majority", "staple"):
        with pytest.raises(ValueError, match="raters must hold 0 and 1, or be cut .* got 0.25"):
            fuse_raters(raters / 4, method=method)
    with pytest.raises(ValueError, match=r"threshold must lie in \(0, 1\], got 0"):
        fuse_raters(raters, threshold=0)
    with pytest.raises(ValueError, match="max_iterations must be at least 1, got 0"):
        staple(raters, max_iterations=0)


@pytest.mark.bad_input
def test_bad_weights_are_named():
    raters = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    for method in ("mean", "weighted"):
        with pytest.raises(ValueError, match="weights must be given for .method='weighted'."):
            fuse_raters(raters, method=method, weights=[1.0, 1.0] if method == "mean" else None)
    with pytest.raises(ValueError, match=r"weights must have shape \(2,\), got \(3,\)"):
        fuse_raters(raters, method="weighted", weights=[1.0, 1.0, 1.0])
    for weights in ([1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="weights must be at least 0, and one above it, got"):
            fuse_raters(raters, method="weighted", weights=weights)
