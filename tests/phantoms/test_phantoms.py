"""Phantoms: reproducible, true to their raters, and too hard for a threshold."""

from __future__ import annotations

from itertools import combinations

import nibabel
import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial.distance import cdist

from softoverlap.images import find_cases, load_case, load_nifti, read_boxes, write_phantoms
from softoverlap.lesions import lesions_from_mask, threshold_boxes
from softoverlap.measures import compute_froc
from softoverlap.phantoms import LesionPhantoms, _scenes as scenes
from softoverlap.phantoms._anatomy import Grid
from softoverlap.phantoms._raters import Rater, rater_panel, who_marks

SMALL = {"shape": (40, 40, 24)}


@pytest.fixture(scope="module")
def phantoms():
    """Thirty scans of one seed."""
    return list(map(LesionPhantoms(7, count=30).__getitem__, range(30)))


def equal(a, b):
    return all(
        torch.equal(getattr(a, name), getattr(b, name))
        for name in ("image", "mask", "raters", "affine")
    )


def test_a_scan_depends_on_seed_and_index_alone():
    some, more = LesionPhantoms(3, count=4, **SMALL), LesionPhantoms(3, count=9, **SMALL)
    assert equal(some[2], some[2])
    assert equal(some[2], more[2])
    assert equal(some[-1], some[3])
    assert not equal(some[1], some[2])
    assert not equal(some[2], LesionPhantoms(4, count=4, **SMALL)[2])


def test_iteration_ends_with_the_count():
    assert len(list(LesionPhantoms(0, count=3, **SMALL))) == 3
    with pytest.raises(IndexError, match="index must be below the count of 3, got 3"):
        LesionPhantoms(0, count=3, **SMALL)[3]


def test_the_truth_is_what_the_raters_marked(phantoms):
    for phantom in phantoms:
        assert torch.equal(phantom.mask, phantom.raters.float().mean(dim=0))
        assert set(phantom.raters.unique().tolist()) <= {0, 1}
        found = lesions_from_mask(phantom.mask, spacing=phantom.spacing, raters=phantom.raters)
        boxes = [lesion.box.tolist() for lesion in found]
        assert boxes == [lesion.box.tolist() for lesion in phantom.lesions]
        shares = {round(lesion.existence * 5) for lesion in phantom.lesions}
        assert shares <= {1, 2, 3, 4, 5}


def test_lesions_vary_in_number_size_and_agreement(phantoms):
    numbers = {len(phantom.lesions) for phantom in phantoms}
    assert min(numbers) == 0
    assert 5 <= max(numbers) <= 12
    volumes = np.array([lesion.volume_mm3 for p in phantoms for lesion in p.lesions])
    least, few, median, many = np.quantile(volumes, [0.05, 0.25, 0.5, 0.95])
    assert least < 15  # ten voxels
    assert 10 < few < 50 < median < 120
    assert 200 < many < 700
    assert len({round(x.existence, 2) for phantom in phantoms for x in phantom.lesions}) >= 4


def test_existence_follows_size_and_contrast(phantoms):
    lesions = [lesion for phantom in phantoms for lesion in phantom.lesions]
    small = [lesion.existence for lesion in lesions if lesion.volume_mm3 < 15]
    large = [lesion.existence for lesion in lesions if lesion.volume_mm3 > 100]
    assert np.mean(small) < 0.75
    assert np.mean(large) > 0.9
    assert min(small) <= 0.4


def test_some_lesions_have_a_neighbour_and_some_touch():
    grid = Grid((96, 96, 64), (1.0, 1.0, 1.5))
    gaps = []
    for seed in range(20):
        lesions, _ = scenes.bodies(np.random.default_rng(seed), grid)
        inside = [points_inside(body) for body in lesions]
        gaps += [cdist(a, b).min() for a, b in combinations(inside, 2) if len(a) and len(b)]
    near = np.array(gaps)
    assert (near < 1.5).sum() >= 3
    assert ((near > 1.5) & (near < 5)).sum() >= 3


def test_images_and_affines_are_sound(phantoms):
    codes = set()
    for phantom in phantoms:
        assert phantom.image.shape == (96, 96, 64)
        assert torch.isfinite(phantom.image).all()
        assert phantom.spacing == pytest.approx((1.0, 1.0, 1.5))
        axes = phantom.affine[:3, :3]
        assert (axes.abs() > 1e-3).sum() > 4  # oblique
        codes.add(nibabel.aff2axcodes(phantom.affine.numpy()))
    assert codes == {("L", "P", "S")}  # one axis order in a data set


def test_raters_differ_as_their_biases_do(phantoms):
    panel = LesionPhantoms(7).panel
    volumes = torch.zeros(5)
    for phantom in phantoms:
        for lesion in phantom.lesions:
            if lesion.existence == 1:
                low, high = lesion.box.long().chunk(2)
                window = tuple(map(slice, low.tolist(), high.tolist()))
                volumes += phantom.raters[(slice(None), *window)].flatten(1).sum(dim=1)
    by_bias = np.argsort([rater.bias for rater in panel])
    assert np.argsort(volumes.numpy()).tolist() == by_bias.tolist()
    assert volumes.max() > 1.3 * volumes.min()


def points_inside(body):
    """Voxels of a lesion, in voxels of the image."""
    return np.argwhere(body.field < 0) + [part.start for part in body.window]


def test_faint_lesions_are_overlooked_more_often_and_never_by_all():
    rng = np.random.default_rng(0)
    panel = rater_panel(rng, 5)
    faint = np.array([who_marks(rng, panel, 0.0) for _ in range(400)])
    clear = np.array([who_marks(rng, panel, 1.0) for _ in range(400)])
    assert clear.all()
    assert faint.any(axis=1).all()
    assert faint.mean() < 0.5  # one of five, and few others
    assert who_marks(rng, [Rater(0.0, 0.1, 1.0)], 0.0) == [True]


def test_unmarked_tissue_holds_more_bright_voxels_than_lesions_do(phantoms):
    image = torch.stack([phantom.image for phantom in phantoms])
    mask = torch.stack([phantom.mask for phantom in phantoms])
    typical = image[mask >= 0.5].median()
    outside = (image >= typical) & (mask == 0)
    inside = (image >= typical) & (mask > 0)
    assert outside.sum() > 2 * inside.sum()


@pytest.mark.slow
def test_the_best_threshold_with_components_stays_far_below_a_detector(phantoms):
    # thresholds, ranks and smoothing that did best among many more
    phantoms = phantoms[:20]
    targets = [
        {
            "box": torch.stack([lesion.box for lesion in p.lesions])
            if p.lesions
            else torch.zeros(0, 6),
            "label": torch.zeros(len(p.lesions), dtype=torch.int64),
        }
        for p in phantoms
    ]
    best = 0.0
    for sigma in (0.0, 1.0):
        images = [
            torch.from_numpy(ndimage.gaussian_filter(p.image.numpy(), sigma)) for p in phantoms
        ]
        for threshold in (106.0, 112.0, 126.0):
            for score in ("mean", "max"):
                found = [
                    threshold_boxes(image, threshold, spacing=p.spacing, score=score)
                    for image, p in zip(images, phantoms, strict=True)
                ]
                best = max(best, float(compute_froc(found, targets).cpm))
    assert 0.02 < best < 0.2


def test_a_folder_of_phantoms_reads_back_as_a_training_folder(tmp_path):
    write_phantoms(tmp_path, 2, seed=5, **SMALL)
    table = find_cases(tmp_path)
    assert [case.name for case in table.cases] == ["phantom-0000", "phantom-0001"]
    assert len({case.patient for case in table.cases}) == 2
    assert table.unpaired == ()
    for case, phantom in zip(table.cases, LesionPhantoms(5, count=2, **SMALL), strict=True):
        loaded = load_case(case)
        assert torch.equal(loaded.image, phantom.image)
        assert torch.equal(loaded.mask, phantom.mask)
        torch.testing.assert_close(loaded.affine, phantom.affine, atol=1e-5, rtol=0)
        stack = torch.stack([load_nifti(path, dtype=torch.uint8).data for path in case.raters])
        assert torch.equal(stack, phantom.raters)
        boxes = read_boxes(tmp_path / "boxes" / f"{case.name}.json")
        assert boxes.boxes.tolist() == [lesion.box.tolist() for lesion in loaded.lesions]
        if phantom.lesions:
            assert boxes.scores.tolist() == [lesion.existence for lesion in loaded.lesions]


def test_a_second_call_finishes_what_a_first_left_and_touches_nothing_else(tmp_path):
    write_phantoms(tmp_path, 1, seed=5, **SMALL)
    image = tmp_path / "images" / "phantom-0000.nii.gz"
    content, written = image.read_bytes(), image.stat().st_mtime_ns
    write_phantoms(tmp_path, 2, seed=5, **SMALL)
    assert image.stat().st_mtime_ns == written
    assert (tmp_path / "boxes" / "phantom-0001.json").exists()
    (tmp_path / "boxes" / "phantom-0000.json").unlink()
    image.write_bytes(b"half")
    write_phantoms(tmp_path, 2, seed=5, **SMALL)
    assert image.read_bytes() == content


def test_a_folder_of_other_phantoms_is_not_mixed(tmp_path):
    write_phantoms(tmp_path, 1, seed=5, **SMALL)
    with pytest.raises(ValueError, match=r"must hold phantoms of LesionPhantoms\(6,"):
        write_phantoms(tmp_path, 1, seed=6, **SMALL)


@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 40, 23)])
def test_small_images_hold_as_many_bodies_as_fit(shape):
    for phantom in LesionPhantoms(1, count=4, shape=shape, num_raters=1):
        assert phantom.image.shape == shape
        assert len(phantom.lesions) <= 12
        assert all(lesion.existence == 1 for lesion in phantom.lesions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"count": -1}, "count must be at least 0, got -1"),
        ({"num_raters": 0}, "num_raters must be at least 1, got 0"),
        ({"shape": (64, 64)}, "shape must hold three lengths of at least 16"),
        ({"shape": (64, 64, 8)}, "shape must hold three lengths of at least 16"),
        ({"spacing": (1.0, 1.0, 0.0)}, "spacing must hold three positive lengths in mm"),
    ],
)
def test_numbers_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        LesionPhantoms(**{"seed": 0, **options})
