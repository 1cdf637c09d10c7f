"""Scans of given shapes: true to the shapes, to their raters and to their patients."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from softoverlap.images import (
    find_cases,
    load_case,
    read_boxes,
    write_lesion_scans,
)
from softoverlap.lesion import Lesion
from softoverlap.lesions import lesions_from_mask
from softoverlap.phantoms import LesionScans

SMALL = {"shape": (48, 48, 32), "count": 6}


def block(*edges, raters=4, marks=4):
    """A cuboid that the first `marks` of the raters mark."""
    masks = torch.zeros(raters, *edges, dtype=torch.uint8)
    masks[:marks] = 1
    return masks


def voxels(scan):
    """Number of voxels of each lesion's union."""
    return [int((lesion.crop > 0).sum()) for lesion in scan.lesions]


LESIONS = {"a": [block(5, 3, 2), block(3, 3, 3, marks=1)], "b": [block(4, 4, 4, marks=3)], "c": []}


@pytest.fixture(scope="module")
def scans():
    return list(LesionScans(3, LESIONS, **SMALL))


def test_a_scan_depends_on_seed_index_and_lesions_alone(scans):
    def images(*arguments, **options):
        return LesionScans(*arguments, **{**SMALL, **options})[1].image

    assert torch.equal(images(3, LESIONS, count=2), scans[1].image)
    assert not torch.equal(images(4, LESIONS), scans[1].image)
    assert not torch.equal(images(3, {**LESIONS, "b": [block(4, 4, 3)]}), scans[1].image)
    with pytest.raises(IndexError, match="index must be below the count of 6, got 6"):
        LesionScans(3, LESIONS, **SMALL)[6]


def test_a_scan_has_lesions_of_its_patient_alone(scans):
    named = LesionScans(3, LESIONS, **SMALL)
    assert [named.patient(index) for index in range(6)] == ["a", "b", "c", "a", "b", "c"]
    assert named.case(4) == "b_0004"
    sizes = {"a": {30, 27}, "b": {64}, "c": set()}
    for index, scan in enumerate(scans):
        assert set(voxels(scan)) <= sizes[named.patient(index)]
    assert {size for scan in scans for size in voxels(scan)} == {30, 27, 64}


def test_raters_are_those_that_the_shape_was_given_with(scans):
    existence = {30: 1.0, 27: 0.25, 64: 0.75}
    for scan in scans:
        assert torch.equal(scan.mask, scan.raters.float().mean(dim=0))
        for lesion, size in zip(scan.lesions, voxels(scan), strict=True):
            assert lesion.existence == existence[size]
            assert lesion.crop.max() == existence[size]


def test_shapes_are_used_in_turn_before_any_comes_again():
    lesions = {"a": [block(2, 2, edge) for edge in range(1, 7)]}
    for scan in LesionScans(0, lesions, shape=(96, 96, 64), count=3):
        assert len(set(voxels(scan))) == len(voxels(scan))


def test_lesions_are_at_least_4_mm_apart_and_whole():
    lesions = {"a": [block(6, 4, 2), block(2, 2, 2)]}
    spacing = (1, 1, 5)
    for scan in LesionScans(1, lesions, shape=(64, 64, 24), spacing=spacing, count=6):
        assert set(voxels(scan)) <= {48, 8}
        boxes = [lesion.box.numpy().reshape(2, 3) for lesion in scan.lesions]
        for one, other in combinations(boxes, 2):
            gap = np.maximum(one[0] - other[1], other[0] - one[1]).clip(0) * spacing
            assert np.linalg.norm(gap) >= 4


def test_shapes_are_turned_and_mirrored_within_their_slices():
    corner = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    corner[0, :, 0, 0] = corner[0, 0, :, 0] = corner[0, 0, 0, 1] = 1  # no two turns are alike
    seen = set()
    for scan in LesionScans(0, {"a": [corner]}, count=24, shape=(48, 48, 32)):
        for lesion in scan.lesions:
            crop = lesion.crop.numpy()
            assert crop.shape[2] == 2
            assert crop.sum() == 5
            seen.add((crop.shape, crop.tobytes()))
    assert len(seen) == 16


def test_a_lesion_without_raters_is_pasted_with_its_probabilities():
    soft = torch.zeros(9, 9, 6)
    soft[2:6, 2:5, 2:4] = 0.6
    soft[3:5, 3, 2:4] = 0.9
    (lesion,) = lesions_from_mask(soft, spacing=(1.0, 1.0, 1.5))
    assert isinstance(lesion, Lesion)
    found = [x for scan in LesionScans(0, {"a": [lesion]}, **SMALL) for x in scan.lesions]
    assert found
    for other in found:
        assert other.volume_mm3 == pytest.approx(lesion.volume_mm3)
        assert sorted(other.crop.flatten().tolist()) == sorted(lesion.crop.flatten().tolist())
    assert LesionScans(0, {"a": [lesion]}, **SMALL)[0].raters.shape == (0, 48, 48, 32)


@pytest.mark.parametrize("contrast", [10.0, 60.0])
def test_a_lesion_is_as_bright_as_asked(contrast):
    ball = {"a": [block(8, 8, 8)]}
    inside, outside = [], []
    for scan in LesionScans(0, ball, contrasts=(contrast, contrast), **SMALL):
        for lesion in scan.lesions:
            low, high = lesion.box.int().chunk(2)
            inner = tuple(map(slice, (low + 2).tolist(), (high - 2).tolist()))
            inside.append(scan.image[inner].mean().item())
        outside.append(scan.image[scan.mask == 0].median().item())
    assert np.mean(inside) - np.mean(outside) == pytest.approx(contrast, rel=0.35)


def test_without_lesions_shapes_are_the_phantoms_own():
    scans = LesionScans(5, count=4, shape=(64, 64, 48))
    lesions = [lesion for scan in scans for lesion in scan.lesions]
    assert len(lesions) >= 4
    assert {scan.raters.shape[0] for scan in scans} == {5}
    assert len({lesion.existence for lesion in lesions}) > 1
    assert (scans.case(2), scans.patient(2)) == ("scan-0002", "scan-0002")


def test_a_larger_scan_holds_more():
    lesions = {"a": [block(2, 2, 2)]}
    spacing = (2.0, 2.0, 3.0)
    sizes = [(48, 48, 32), (80, 80, 48)]
    small, large = ([len(scan.lesions) for scan in LesionScans(
        0, lesions, count=4, shape=shape, spacing=spacing)] for shape in sizes)  # fmt: skip
    assert max(small) <= 6 < max(large) <= 25


def test_scans_that_are_written_are_read_as_a_training_folder(tmp_path):
    scans = LesionScans(3, LESIONS, **SMALL)
    write_lesion_scans(tmp_path, scans)
    table = find_cases(tmp_path)
    assert table.unpaired == ()
    assert [case.name for case in table.cases] == sorted(scans.case(k) for k in range(6))
    for case in table.cases:
        scan = scans[int(case.name[-4:])]
        assert case.patient == case.name[0]
        loaded = load_case(case)
        assert torch.equal(loaded.image, scan.image)
        assert torch.equal(loaded.mask, scan.mask)
        boxes = [lesion.box.tolist() for lesion in scan.lesions]
        assert [lesion.box.tolist() for lesion in loaded.lesions] == boxes
        if boxes:
            stored = read_boxes(tmp_path / "boxes" / f"{case.name}.json")
            assert stored.boxes.tolist() == boxes
            assert stored.scores.tolist() == [lesion.existence for lesion in loaded.lesions]


def test_a_folder_grows_and_keeps_its_patients(tmp_path):
    lesions = {"x": [block(3, 3, 3)], "y": [block(2, 2, 2)]}
    for count in (3, 1):
        write_lesion_scans(tmp_path, LesionScans(0, lesions, count=count, shape=(24, 24, 16)))
        patients = [case.patient for case in find_cases(tmp_path).cases]
        assert patients == ["x", "x", "y"]


def test_a_folder_of_other_lesions_is_not_mixed(tmp_path):
    small = {"count": 1, "shape": (24, 24, 16)}
    write_lesion_scans(tmp_path, LesionScans(0, {"x": [block(3, 3, 3)]}, **small))
    with pytest.raises(ValueError, match="must hold phantoms of LesionScans"):
        write_lesion_scans(tmp_path, LesionScans(0, {"x": [block(3, 3, 2)]}, **small))


SOFT = Lesion(torch.tensor([0.0, 0, 0, 1, 1, 1]), torch.full((1, 1, 1), 0.4),
              torch.zeros(3, dtype=torch.int64), torch.full((3,), 0.5), 0.4)  # fmt: skip


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"spacing": (1, 1)}, "spacing must hold three positive lengths"),
        ({"contrasts": (0, 5)}, r"contrasts must be two numbers above 0 in order, got \(0, 5\)"),
        ({"contrasts": (5, 4)}, "contrasts must be two numbers above 0 in order"),
        ({"contrasts": 10}, "contrasts must be two numbers above 0 in order, got 10"),
        ({"lesions": {7: []}}, "lesions must name patients as files are named, got 7"),
        ({"lesions": {}}, "lesions must be those of at least one patient, got none"),
        ({"lesions": {"../a": []}}, "lesions must name patients as files are named, got '../a'"),
        ({"lesions": {"a": [block(2, 2, 2), block(2, 2, 2, raters=3)]}},
         r"lesions must all have as many raters, got \[3, 4\]"),
        ({"lesions": {"a": [torch.ones(2, 2, 2)]}}, r"lesions\['a'\]\[0\] must be of three axes"),
        ({"lesions": {"a": [0.5 * torch.ones(1, 2, 2, 2)]}}, "must hold masks of raters, 0 or 1"),
        ({"lesions": {"a": [block(2, 2, 2, marks=0)]}},
         r"lesions\['a'\]\[0\] must hold a voxel of a rater, got at most 0"),
        ({"lesions": {"a": [SOFT]}}, "must hold a probability of 0.5 or more, got at most 0.4"),
        ({"lesions": {"a": [block(8, 50, 2)]}},
         r"must fit into scans of \(48, 48, 32\) voxels, got \(8, 50, 2\)"),
        ({"lesions": {"a": [2 * torch.ones(1, 2, 2, 2)]}}, "lesions"),
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        LesionScans(**{"seed": 0, **SMALL, **arguments})


@pytest.mark.bad_input
def test_lesions_are_given_by_patient_each_a_lesion_or_a_tensor():
    with pytest.raises(TypeError, match="lesions must hold lists by patient, got <class 'list'>"):
        LesionScans(0, [torch.ones(1, 2, 2, 2)])
    with pytest.raises(TypeError, match=r"lesions\['a'\]\[0\]"):
        LesionScans(0, {"a": [[[1.0]]]})
