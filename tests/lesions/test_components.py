"""Lesions from masks: components, halos, existence, against a reference that walks voxels."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from softoverlap.images import load_nifti
from softoverlap.lesions import lesions_from_mask, threshold_boxes

REAL = Path(__file__).parents[2] / ".." / "shared" / "data" / "open_ms"
needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason="the open_ms scans are not beside the project"
)


def connected(inside, reach):
    """Sets of voxels that are connected by steps along at most `reach` axes; found by walking."""
    left = {tuple(map(int, voxel)) for voxel in np.argwhere(inside)}
    steps = [
        step
        for step in itertools.product((-1, 0, 1), repeat=inside.ndim)
        if 0 < sum(map(abs, step)) <= reach
    ]
    parts = []
    for start in sorted(left):
        if start not in left:
            continue
        part, waiting = set(), [start]
        left.discard(start)
        while waiting:
            voxel = waiting.pop()
            part.add(voxel)
            for step in steps:
                near = tuple(a + b for a, b in zip(voxel, step, strict=True))
                if near in left:
                    left.discard(near)
                    waiting.append(near)
        parts.append(part)
    return parts


def gap(voxel, part, spacing):
    """Distance in mm between the centres of a voxel and the nearest one of a component."""
    return min(
        sum(((a - b) * edge) ** 2 for a, b, edge in zip(voxel, other, spacing, strict=True)) ** 0.5
        for other in part
    )


def whole(lesion, shape):
    """The lesion's crop in the whole image."""
    image = torch.zeros(shape, dtype=lesion.crop.dtype)
    window = tuple(
        slice(start, start + length)
        for start, length in zip(lesion.offset.tolist(), lesion.crop.shape, strict=True)
    )
    image[window] = lesion.crop
    return image


def mask_arrays():
    sixths = st.sampled_from([0.0, 0.0, 0.0, 0.25, 0.5, 0.75, 1.0])
    shapes = arrays.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=6)
    return shapes.flatmap(lambda shape: arrays.arrays(np.float64, shape, elements=sixths))


@given(mask_arrays(), st.sampled_from([0.25, 0.5, 1.0]))
def test_boxes_and_order_are_those_of_the_walked_components(array, threshold):
    lesions = lesions_from_mask(
        torch.from_numpy(array), spacing=[1.0] * array.ndim, threshold=threshold
    )
    parts = connected(array >= threshold, array.ndim)
    assert len(lesions) == len(parts)
    for lesion, part in zip(lesions, parts, strict=True):
        voxels = np.array(sorted(part))
        assert lesion.box.tolist() == [*voxels.min(axis=0), *(voxels.max(axis=0) + 1)]


@given(mask_arrays(), st.integers(1, 3))
def test_each_positive_voxel_is_owned_by_a_nearest_connected_component(array, thick):
    spacing = [1.0, 2.5, 0.7][: array.ndim]
    spacing[0] *= thick
    lesions = lesions_from_mask(torch.from_numpy(array), spacing=spacing, threshold=0.5)
    crops = [whole(lesion, array.shape).numpy() for lesion in lesions]
    parts = connected(array >= 0.5, array.ndim)
    for island in connected(array > 0, array.ndim):
        here = [number for number, part in enumerate(parts) if part & island]
        for voxel in island:
            owners = [number for number, crop in enumerate(crops) if crop[voxel] > 0]
            assert len(owners) == (1 if here else 0)
            if here:
                nearest = min(gap(voxel, parts[number], spacing) for number in here)
                assert gap(voxel, parts[owners[0]], spacing) == pytest.approx(nearest)
                assert crops[owners[0]][voxel] == array[voxel]


@given(mask_arrays(), st.sampled_from([(0.25, 0.5), (0.25, 1.0), (0.5, 0.75), (0.5, 0.5)]))
def test_hysteresis_keeps_the_walked_components_that_hold_a_core(array, thresholds):
    low, threshold = thresholds
    options = {"spacing": [1.0] * array.ndim, "threshold": threshold, "low": low}
    lesions = lesions_from_mask(torch.from_numpy(array), **options)
    parts = [
        part
        for part in connected(array >= low, array.ndim)
        if any(array[voxel] >= threshold for voxel in part)
    ]
    assert len(lesions) == len(parts)
    for lesion, part in zip(lesions, parts, strict=True):
        voxels = np.array(sorted(part))
        assert lesion.box.tolist() == [*voxels.min(axis=0), *(voxels.max(axis=0) + 1)]


@given(mask_arrays())
def test_hysteresis_marks_what_scipy_propagates(array):
    array = np.where(array >= 0.5, array, 0)  # no halo
    lesions = lesions_from_mask(
        torch.from_numpy(array), spacing=[1.0] * array.ndim, threshold=1.0, low=0.5
    )
    structure = ndimage.generate_binary_structure(array.ndim, array.ndim)
    marked = ndimage.binary_propagation(array >= 1, structure, mask=array >= 0.5)
    crops = [whole(lesion, array.shape).numpy() >= 0.5 for lesion in lesions]
    assert np.array_equal(np.any([np.zeros_like(marked), *crops], axis=0), marked)


def test_hysteresis_at_the_threshold_is_none_and_joins_cores_below_it():
    mask = torch.tensor([0.9, 0.4, 0.8, 0.0, 0.4, 0.4])
    boxes = {
        low: [lesion.box.tolist() for lesion in lesions_from_mask(mask, spacing=[1.0], low=low)]
        for low in (None, 0.5, 0.3)
    }
    assert boxes == {None: [[0, 1], [2, 3]], 0.5: [[0, 1], [2, 3]], 0.3: [[0, 3]]}


def test_hysteresis_on_raters_grows_their_union_and_counts_who_is_sure():
    raters = torch.tensor([[0.9, 0.4, 0.0, 0.4], [0.0, 0.4, 0.4, 0.0], [0.4, 0.0, 0.0, 0.4]])
    (lesion,) = lesions_from_mask(raters.mean(dim=0), spacing=[1.0], raters=raters, low=0.3)
    assert lesion.box.tolist() == [0, 4]
    assert lesion.existence == pytest.approx(1 / 3)


@pytest.mark.parametrize("low", [0.0, -0.1, 0.6, float("nan")])
def test_a_low_threshold_above_the_other_is_refused(low):
    with pytest.raises(ValueError, match=r"low must lie in \(0, 0\.5\], up to the threshold, got"):
        lesions_from_mask(torch.zeros(3), spacing=[1.0], low=low)


@given(mask_arrays())
def test_crops_share_the_mass_of_islands_that_hold_a_lesion(array):
    lesions = lesions_from_mask(torch.from_numpy(array), spacing=[2.0] * array.ndim)
    total = sum(
        array[voxel]
        for island in connected(array > 0, array.ndim)
        if any(array[voxel] >= 0.5 for voxel in island)
        for voxel in island
    )
    volume = sum(lesion.volume_mm3 for lesion in lesions)
    assert volume == pytest.approx(total * 2.0**array.ndim)
    assert sum(float(lesion.crop.sum()) for lesion in lesions) == pytest.approx(total)


@given(mask_arrays())
def test_centres_are_centres_of_mass_and_crops_are_tight(array):
    for lesion in lesions_from_mask(torch.from_numpy(array), spacing=[1.0] * array.ndim):
        image = whole(lesion, array.shape).numpy()
        places = np.argwhere(image > 0)
        weights = image[tuple(places.T)]
        centre = ((places + 0.5) * weights[:, None]).sum(axis=0) / weights.sum()
        assert lesion.centre.tolist() == pytest.approx(centre.tolist(), rel=1e-6)
        assert lesion.offset.tolist() == places.min(axis=0).tolist()
        assert list(lesion.crop.shape) == (np.ptp(places, axis=0) + 1).tolist()


@given(mask_arrays().filter(lambda array: array.ndim > 1), st.data())
def test_connectivity_counts_neighbours_as_the_walk_does(array, data):
    names = {2: {4: 1, 8: 2, 26: 2}, 3: {6: 1, 18: 2, 26: 3}}[array.ndim]
    connectivity = data.draw(st.sampled_from(sorted(names)))
    lesions = lesions_from_mask(
        torch.from_numpy(array), spacing=[1.0] * array.ndim, connectivity=connectivity
    )
    assert len(lesions) == len(connected(array >= 0.5, names[connectivity]))


@given(arrays.arrays(np.bool_, (3, 4, 4, 3), elements=st.sampled_from([False, False, False, True])))
def test_existence_is_the_share_of_raters_that_touch_a_component_of_the_union(stack):
    raters = torch.from_numpy(stack)
    mask = raters.float().mean(dim=0)
    lesions = lesions_from_mask(mask, spacing=[1.0, 1.0, 1.0], raters=raters)
    parts = connected(stack.any(axis=0), 3)
    assert len(lesions) == len(parts)
    for lesion, part in zip(lesions, parts, strict=True):
        touching = [any(rater[voxel] for voxel in part) for rater in stack]
        assert lesion.existence == pytest.approx(np.mean(touching))
        assert lesion.crop.sum().item() == pytest.approx(
            sum(float(mask[voxel]) for voxel in part), rel=1e-6
        )


def test_two_confluent_halos_are_shared_between_their_lesions():
    mask = torch.tensor([1.0, 0.4, 0.3, 0.2, 0.9, 0.1, 0.0, 0.3])
    first, second = lesions_from_mask(mask, spacing=[1.0])
    torch.testing.assert_close(first.crop, torch.tensor([1.0, 0.4, 0.3]))
    torch.testing.assert_close(second.crop, torch.tensor([0.2, 0.9, 0.1]))
    assert second.offset.tolist() == [3]
    assert second.box.tolist() == [4, 5]


def test_spacing_decides_which_lesion_is_nearest():
    mask = torch.zeros(3, 4)
    mask[0, 0] = mask[2, 3] = 1
    mask[0, 1] = mask[0, 2] = mask[1, 2] = 0.2
    mask[1, 3] = 0.2

    def owners(spacing):
        lesions = lesions_from_mask(mask, spacing=spacing)
        return [int((lesion.crop > 0).sum()) for lesion in lesions]

    assert owners([1.0, 1.0]) == [3, 3]
    assert owners([1.0, 10.0]) == [2, 4]


def test_a_far_faint_voxel_does_not_grow_the_crop():
    mask = torch.zeros(40, 40, 40)
    mask[2:5, 2:5, 2:5] = 1
    mask[39, 39, 39] = 0.01
    (lesion,) = lesions_from_mask(mask, spacing=[1.0, 1.0, 1.0])
    assert lesion.crop.shape == (3, 3, 3)


def test_the_mask_may_leave_out_what_a_rater_marked():
    raters = torch.zeros(2, 5)
    raters[0, 1:3] = 1
    (lesion,) = lesions_from_mask(torch.zeros(5), spacing=[1.0], raters=raters)
    assert (lesion.volume_mm3, lesion.existence) == (0.0, 0.5)
    assert lesion.centre.tolist() == [2.0]


def test_empty_masks_have_no_lesions():
    assert lesions_from_mask(torch.zeros(4, 4, 4), spacing=[1.0, 1.0, 1.0]) == []
    assert lesions_from_mask(torch.full((4, 4), 0.49), spacing=[1.0, 1.0]) == []
    assert lesions_from_mask(torch.zeros(0, 4), spacing=[1.0, 1.0]) == []
    none = torch.zeros(3, 4, 4)
    assert lesions_from_mask(none[0], spacing=[1.0, 1.0], raters=none) == []


def test_small_lesions_are_left_out_by_their_volume():
    mask = torch.tensor([0.5, 0.0, 1.0, 1.0, 0.0, 1.0])
    lesions = lesions_from_mask(mask, spacing=[3.0], min_mm3=3.0)
    assert [lesion.volume_mm3 for lesion in lesions] == [6.0, 3.0]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.bool, torch.float32),
        (torch.uint8, torch.float32),
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_crops_come_in_float32_or_wider(dtype, expected):
    mask = torch.tensor([0, 1, 1, 0]).to(dtype)
    (lesion,) = lesions_from_mask(mask, spacing=[1.0])
    assert lesion.crop.dtype == expected
    assert lesion.box.dtype == torch.float32
    assert lesion.crop.tolist() == [1.0, 1.0]


def test_a_metatensor_and_a_gradient_pass_through_unharmed():
    from monai.data import MetaTensor

    mask = torch.tensor([0.2, 0.9, 0.0], requires_grad=True)
    (lesion,) = lesions_from_mask(MetaTensor(mask), spacing=[1.0])
    assert type(lesion.crop) is torch.Tensor
    assert not lesion.crop.requires_grad


def test_raters_at_a_threshold_written_in_decimals_are_counted():
    raters = torch.full((1, 3), 0.7)
    (lesion,) = lesions_from_mask(raters[0], spacing=[1.0], raters=raters, threshold=0.7)
    assert lesion.existence == 1


@needs_real
@pytest.mark.parametrize(("patient", "count"), [("01", 251), ("02", 27), ("04", 116)])
def test_real_lesions_are_all_found_with_all_their_volume(patient, count):
    scan = load_nifti(REAL / f"patient{patient}_mni_lesions.nii.gz")
    lesions = lesions_from_mask(scan.data, spacing=scan.spacing)
    assert len(lesions) == count
    volume = sum(lesion.volume_mm3 for lesion in lesions)
    assert volume == pytest.approx(float(scan.data.sum()) * np.prod(scan.spacing), rel=1e-6)
    for lesion in lesions[:20]:
        low, high = lesion.box.long().chunk(2)
        assert lesion.offset.tolist() == low.tolist()
        assert list(lesion.crop.shape) == (high - low).tolist()


@needs_real
def test_real_soft_lesions_keep_their_halo():
    scan = load_nifti(REAL / "patient19_native1mm_consensus_gt.nii.gz")
    blocks = torch.nn.functional.avg_pool3d(scan.data[None, None], (2, 4, 4))[0, 0]
    lesions = lesions_from_mask(blocks, spacing=[2.0, 4.0, 4.0])
    crops = [whole(lesion, blocks.shape) for lesion in lesions]
    together = torch.stack(crops).sum(dim=0)
    assert ((together == blocks) | (together == 0)).all()
    assert (together[blocks >= 0.5] == blocks[blocks >= 0.5]).all()
    assert (together[blocks < 0.5] > 0).sum() > (together >= 0.5).sum()


@needs_real
def test_hundreds_of_lesions_cost_no_pass_over_the_image_each():
    scan = load_nifti(REAL / "patient01_mni_lesions.nii.gz")
    one = torch.zeros_like(scan.data)
    one[90, 100, 90] = 1

    def seconds(mask):
        start = time.perf_counter()
        lesions_from_mask(mask, spacing=scan.spacing)
        return time.perf_counter() - start

    single = min(seconds(one) for _ in range(3))
    assert min(seconds(scan.data) for _ in range(3)) < 10 * single


def test_bright_voxels_become_boxes_ranked_as_asked():
    image = torch.tensor([0.0, 5.0, 7.0, 0.0, 9.0, 0.0])
    found = threshold_boxes(image, 4.0, spacing=[10.0])
    assert found["box"].tolist() == [[1, 3], [4, 5]]
    assert found["label_scores"].tolist() == [6, 9]
    by_size = threshold_boxes(image, 4.0, spacing=[10.0], score="volume")
    assert by_size["label_scores"].tolist() == [20, 10]
    nothing = threshold_boxes(image, 99.0, spacing=[10.0])
    assert nothing["box"].shape == (0, 2)
    assert nothing["label_scores"].shape == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing": [1.0]}, "spacing must hold 2 positive lengths in mm, got"),
        ({"spacing": [1.0, 0.0]}, "spacing must hold 2 positive lengths in mm, got"),
        ({"spacing": [1.0, float("nan")]}, "spacing must hold 2 positive lengths in mm, got"),
        ({"threshold": 0.0}, r"threshold must lie in \(0, 1\], got 0.0"),
        ({"threshold": 1.5}, r"threshold must lie in \(0, 1\], got 1.5"),
        ({"connectivity": 6}, "connectivity must be one of .* got 6"),
        ({"min_mm3": -1.0}, "min_mm3 must be at least 0 and finite, got -1.0"),
        ({"halo": -0.1}, r"halo must lie in \[0, 0\.5\], got -0\.1"),
        ({"halo": 0.6}, r"halo must lie in \[0, 0\.5\], got 0\.6"),
        ({"halo": 0.3, "low": 0.2}, r"halo must lie in \[0, 0\.2\], got 0\.3"),
    ],
)
def test_numbers_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        lesions_from_mask(torch.zeros(3, 3), **{"spacing": [1.0, 1.0], **options})


@given(seed=st.integers(0, 10_000), halo=st.sampled_from([0.01, 0.2, 0.5]))
def test_a_halo_is_the_mask_without_its_smaller_values(seed, halo):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(5, 6, 4, generator=generator) ** 4
    raters = (torch.rand(2, 5, 6, 4, generator=generator) > 0.9).float()
    for marked in (None, raters):
        options = {"spacing": [1.0, 2.0, 1.5], "raters": marked}
        with_halo = lesions_from_mask(mask, halo=halo, **options)
        zeroed = lesions_from_mask(torch.where(mask >= halo, mask, 0), **options)
        assert len(with_halo) == len(zeroed)
        for lesion, expected in zip(with_halo, zeroed, strict=True):
            assert torch.equal(lesion.crop, expected.crop)
            assert torch.equal(lesion.box, expected.box)
            assert torch.equal(lesion.centre, expected.centre)
            assert lesion.volume_mm3 == expected.volume_mm3
            assert lesion.existence == expected.existence


def test_without_a_halo_every_positive_voxel_is_a_soft_edge():
    mask = torch.tensor([1e-6, 0.6, 0.009, 0.0])
    assert lesions_from_mask(mask, spacing=[1.0])[0].crop.tolist() == mask[:3].tolist()
    assert lesions_from_mask(mask, spacing=[1.0], halo=0.01)[0].crop.tolist() == [mask[1].item()]


def test_values_outside_zero_to_one_are_named():
    with pytest.raises(ValueError, match=r"mask must hold probabilities .* were logits passed"):
        lesions_from_mask(torch.full((3,), -2.0), spacing=[1.0])
    with pytest.raises(ValueError, match="mask must hold probabilities .* got NaN"):
        lesions_from_mask(torch.full((3,), torch.nan), spacing=[1.0])
    raters = torch.tensor([[0.0, 255.0, 0.0]])
    with pytest.raises(ValueError, match=r"raters must hold probabilities .* \[0, 255\]"):
        lesions_from_mask(torch.zeros(3), spacing=[1.0], raters=raters)


@pytest.mark.bad_input
def test_other_types_and_shapes_are_named():
    with pytest.raises(TypeError, match=r"mask must be a torch\.Tensor, got ndarray"):
        lesions_from_mask(np.zeros(3), spacing=[1.0])
    with pytest.raises(ValueError, match="mask must have one, two or three axes, got 4"):
        lesions_from_mask(torch.zeros(1, 1, 3, 3), spacing=[1.0] * 4)
    for shape in ((3,), (2, 4), (0, 3)):
        with pytest.raises(ValueError, match=r"raters must have shape \(R > 0, 3\), got"):
            lesions_from_mask(torch.zeros(3), spacing=[1.0], raters=torch.zeros(shape))
    with pytest.raises(TypeError, match=r"raters must be a torch\.Tensor, got list"):
        lesions_from_mask(torch.zeros(3), spacing=[1.0], raters=[[1, 0, 0]])
    with pytest.raises(ValueError, match="score must be one of"):
        threshold_boxes(torch.zeros(3), 1.0, spacing=[1.0], score="median")


@pytest.mark.bad_input
def test_one_number_is_no_spacing():
    with pytest.raises(
        TypeError, match=r"spacing must hold 3 lengths in mm, one an axis, got 1\.0"
    ):
        lesions_from_mask(torch.zeros(4, 4, 4), spacing=1.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("level", [0.1, 0.2, 0.4, 0.7, 0.8, 0.9])
def test_a_voxel_at_the_threshold_is_inside_in_every_precision(dtype, level):
    mask = torch.full((3,), level, dtype=torch.float64).to(dtype)
    assert len(lesions_from_mask(mask, spacing=[1.0], threshold=level)) == 1
    assert len(lesions_from_mask(mask, spacing=[1.0], threshold=level, low=level)) == 1
