"""Components and distances: by the packages of the extra `fast` and by SciPy, the same."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy import ndimage

from softoverlap.lesions import (
    components,
    distances,
    fast,
    lesions_from_mask,
    nearest,
    numbered,
    slabs,
)


@pytest.fixture(params=["with", "without"], autouse=True)
def packages(request, monkeypatch):
    """The packages of the extra, or none."""
    if request.param == "without":
        monkeypatch.setattr(fast, "package", lambda name: None)
    elif not all(map(fast.package, ("cc3d", "edt"))):
        pytest.skip("needs the extra `fast`")


def noise(shape, seed, share=0.4):
    return np.random.default_rng(seed).random(shape) < share


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.8, 1.0])
def test_components_are_numbered_by_their_first_voxel(ndim, share):
    for seed in range(4):
        inside = noise((13, 9, 11)[:ndim], seed, share)
        layouts = (inside, np.asfortranarray(inside), inside[::-1], inside[..., ::2])
        for steps in range(1, ndim + 1):
            for given in layouts:
                expected, count = ndimage.label(
                    np.ascontiguousarray(given), ndimage.generate_binary_structure(ndim, steps)
                )
                found = numbered(given, steps)
                assert found.dtype == np.int32
                assert found.flags.c_contiguous
                assert np.array_equal(found, expected)
                firsts = np.unique(found, return_index=True)[1][int(found.min() == 0) :]
                assert len(firsts) == count
                assert (np.diff(firsts) > 0).all()


def test_an_image_without_voxels_has_no_component():
    assert numbered(np.zeros((0, 3, 4), dtype=bool), 3).shape == (0, 3, 4)


@pytest.mark.parametrize("edges", [(0.7,), (1.0, 2.5), (0.9765625, 0.3, 5.0)])
def test_distances_are_those_in_space(edges):
    marked = noise((30, 24, 17)[: len(edges)], 3, 0.02)
    marked.flat[0] = True
    expected = ndimage.distance_transform_edt(~marked, sampling=edges)
    for given in (marked, np.asfortranarray(marked)):
        assert distances(given, edges) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 1.3, 3.0)])
def test_lesions_own_what_is_nearest_in_their_island(spacing):
    values = ndimage.gaussian_filter(np.random.default_rng(5).random((24, 22, 20)), 1.2)
    values = (values - 0.5) * 6  # islands of one core, of several, and of none
    mask = torch.from_numpy(values).clamp(0, 1)
    array = mask.numpy()
    core, positive = array >= 0.5, array > 0.3
    labels, islands = (ndimage.label(part, np.ones((3, 3, 3)))[0] for part in (core, positive))
    expected = labels.copy()
    counts = set()
    for island in range(1, islands.max() + 1):
        inside = islands == island
        own = np.where(inside, labels, 0)
        counts.add(min(2, len(np.unique(own)) - 1))
        if not own.any():
            continue
        places = ndimage.distance_transform_edt(
            own == 0, sampling=spacing, return_distances=False, return_indices=True
        )
        expected[inside] = own[tuple(places)][inside]
    assert counts == {0, 1, 2}
    found = components.component_maps(positive, core, 3, spacing)
    assert np.array_equal(found.core, labels)
    assert np.array_equal(found.owned, expected)
    lesions = lesions_from_mask(mask, spacing=spacing, halo=np.nextafter(0.3, 1))
    assert len(lesions) == labels.max()
    volumes = np.bincount(expected.ravel(), array.ravel())[1:] * np.prod(spacing)
    assert [lesion.volume_mm3 for lesion in lesions] == pytest.approx(volumes.tolist())


def test_large_images_are_looked_up_in_slabs(monkeypatch):
    numbers = np.arange(7 * 5 * 6).reshape(7, 5, 6)
    assert [part.indices(7) for part in slabs(numbers, 100)][:2] == [(0, 3, 1), (3, 6, 1)]
    monkeypatch.setattr(components, "slabs", partial(slabs, at_once=100))
    table = np.arange(300)[::-1].copy()
    assert np.array_equal(components.looked_up(table, numbers), table[numbers])


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 1.3, 3.0), (0.977, 0.977, 0.977)])
@pytest.mark.parametrize("share", [0.0005, 0.01, 0.2])
def test_large_islands_are_shared_out_as_small_ones(spacing, share, monkeypatch):
    for seed in range(6):
        rng = np.random.default_rng(seed)
        shape = tuple(rng.integers(1, 30, 3))
        labels = np.where(rng.random(shape) < share, rng.integers(1, 9, shape), 0).astype(np.int16)
        labels.flat[rng.integers(labels.size)] = 9
        inside = (rng.random(shape) < 0.9) | (labels == 9)
        found = []
        for large, rows in ((1 << 21, 1 << 17), (0, 1 << 17), (0, 100)):
            monkeypatch.setattr(nearest, "LARGE", large)
            monkeypatch.setattr(nearest, "_ROWS_AT_ONCE", rows)
            owners = np.full(shape, -1, dtype=np.int16)
            nearest.share_out(owners, inside, labels, spacing)
            found.append(owners)
        assert np.array_equal(found[1], found[2])
        assert (found[1][~inside] == -1).all()
        apart = np.argwhere(found[0] != found[1])
        assert len(apart) <= (0.01 * labels.size if spacing[0] == 0.977 else 0)
        for place in apart:  # rounding decides between equal distances
            gaps = [
                np.linalg.norm((np.argwhere(inside & (labels == own)) - place) * spacing, axis=1)
                for own in (found[0][tuple(place)], found[1][tuple(place)])
            ]
            assert gaps[0].min() == pytest.approx(gaps[1].min(), rel=1e-12)
