"""Detection on the scan's own grid, by one detector and by several together."""

from __future__ import annotations

import itertools

import pytest
import torch
from monai.data import MetaTensor

from softoverlap.app.train import detect, detect_files, find_scans
from softoverlap.images import Volume, read_boxes, read_table, save_nifti
from tests.support.checkpoints import lively_detector, noise, small_detector, spaced


def stored_otherwise(scan, order, flips):
    """The same scan with its voxel axes in another order and direction."""
    data = scan.data.permute(order).flip(flips) if flips else scan.data.permute(order)
    affine = torch.eye(4, dtype=torch.float64)
    for axis, source in enumerate(order):
        column = scan.affine[:3, source]
        affine[:3, axis] = -column if axis in flips else column
    affine[:3, 3] = scan.affine[:3, 3]
    for axis in flips:
        affine[:3, 3] -= affine[:3, axis] * (data.shape[axis] - 1)
    return Volume(data.contiguous(), affine)


def boxes_otherwise(boxes, shape, order, flips):
    low, high = boxes[:, list(order)], boxes[:, [axis + 3 for axis in order]]
    size = torch.tensor(shape, dtype=boxes.dtype)
    for axis in flips:
        low[:, axis], high[:, axis] = size[axis] - high[:, axis], size[axis] - low[:, axis]
    return torch.cat([low, high], dim=1)


@pytest.mark.parametrize(
    ("order", "flips"), [((0, 1, 2), (0, 1)), ((2, 0, 1), ()), ((1, 0, 2), (0, 2))]
)  # fmt: skip
def test_the_order_of_voxel_axes_changes_nothing(order, flips):
    model, scan = lively_detector(spacing=[1.0, 1.0, 1.0]), noise(affine=spaced(1.0, 1.2, 0.9))
    other = stored_otherwise(scan, order, flips)
    first, second = detect(model, scan), detect(model, other)
    assert len(first.box) > 20
    assert torch.allclose(second.scores, first.scores, atol=1e-4)
    expected = boxes_otherwise(first.box, other.grid, order, flips)
    assert torch.allclose(second.box, expected, atol=1e-2)
    turned = first.heat_map.permute(order)
    assert torch.allclose(second.heat_map, turned.flip(flips) if flips else turned, atol=1e-4)
    assert second.smallest_anchor == pytest.approx([first.smallest_anchor[axis] for axis in order])


def test_where_only_axes_are_turned_the_heat_map_is_that_of_the_network_voxel_by_voxel():
    model, scan = lively_detector(), noise()
    turned = stored_otherwise(scan, (1, 2, 0), (1,))
    same = lively_detector(axes=None)
    plain, back = detect(same, scan), detect(model, turned)
    assert torch.equal(detect(model, scan).heat_map, plain.heat_map)
    assert torch.allclose(back.heat_map, plain.heat_map.permute(1, 2, 0).flip(1), atol=1e-6)


def test_a_scan_of_half_the_spacing_has_the_boxes_of_the_network_twice_as_large():
    model, fine = lively_detector(spacing=[2.0, 2.0, 2.0]), noise((40, 36, 32))
    seen = model.prepare({"image": MetaTensor(fine.data[None].clone(), affine=fine.affine)})
    coarse = Volume(seen["image"].as_tensor()[0].contiguous(), seen["image"].affine.double())
    assert coarse.spacing == pytest.approx((2, 2, 2))
    here, there = detect(model, fine), detect(model, coarse)
    shift = coarse.affine[:3, 3].float() - 0.5 * 2 + 0.5  # of the first corner, in fine voxels
    expected = there.box * 2 + shift.repeat(2)
    limits = torch.tensor([40.0, 36, 32] * 2)
    assert torch.allclose(here.box, expected.clamp(min=0).minimum(limits), atol=1e-2)
    assert torch.allclose(here.scores, there.scores, atol=1e-4)
    assert here.heat_map.shape == (40, 36, 32)
    assert here.heat_map.mean().item() == pytest.approx(there.heat_map.mean().item(), rel=0.05)
    assert here.smallest_anchor == pytest.approx((10, 10, 10))


def test_detections_lie_within_the_grid_of_a_scan_of_any_spacing():
    found = detect(lively_detector(spacing=[1.0] * 3), noise(affine=spaced(1.0, 2.0, 0.8)))
    assert found.heat_map.shape == (24, 22, 20)
    assert 0 <= found.heat_map.min() < found.heat_map.max() <= 1
    assert len(found.box) > 0
    assert (found.box >= 0).all()
    assert (found.box[:, 3:] <= torch.tensor([24.0, 22, 20])).all()
    assert found.smallest_anchor == pytest.approx((5, 2.5, 6.25))


def test_files_give_the_boxes_of_the_scan_in_memory(tmp_path):
    model, scan = lively_detector(), noise(affine=spaced(-1.0, 1.0, 2.0))
    save_nifti(tmp_path / "a.nii.gz", scan.data, scan.affine)
    (result,) = detect_files(model, find_scans([tmp_path]), tmp_path / "found")
    expected = detect(model, scan)
    assert torch.equal(result.detections.box, expected.box)
    assert torch.equal(result.detections.heat_map, expected.heat_map)
    boxes = read_boxes(tmp_path / "found" / "a_boxes.json")
    assert torch.equal(boxes.boxes, expected.box.double())


def test_the_image_that_was_given_stays_as_it_is():
    image = noise(channels=2).data
    before, model = image.clone(), lively_detector(in_channels=2)
    affine = torch.eye(4, dtype=torch.float64)
    first = detect(model, MetaTensor(image, affine=affine))
    assert torch.equal(image, before)
    assert torch.equal(first.box, detect(model, Volume(image, affine)).box)


def test_several_channels_and_classes_are_found():
    model = lively_detector(in_channels=2, num_classes=3)
    scan = noise(channels=2)
    found = detect(model, scan)
    assert set(found.label.tolist()) == {0, 1, 2}
    other = Volume(scan.data[[1, 0]], scan.affine)
    assert not torch.allclose(detect(model, other).heat_map, found.heat_map)


def test_files_hold_the_value_of_a_class_in_label_maps(tmp_path):
    values, scan = [4, 1, 2], noise()
    models = [lively_detector(seed, num_classes=3, class_values=values) for seed in (0, 1)]
    save_nifti(tmp_path / "a.nii.gz", scan.data, scan.affine)
    for name, model in (("one", models[0]), ("joined", models)):
        (result,) = detect_files(model, [tmp_path / "a.nii.gz"], tmp_path / name)
        found = result.detections
        expected = [values[label] for label in found.label.tolist()]
        assert set(expected) == set(values)
        assert read_boxes(tmp_path / name / "a_boxes.json").labels.tolist() == expected
        rows = read_table(tmp_path / name / "detections.csv").rows
        assert [int(row["label"]) for row in rows] == expected


def test_intensities_may_be_normalised_alike_for_all_scans():
    scan = noise()
    fixed, each = lively_detector(intensity=[[0.5], [0.1]]), lively_detector()
    brighter = Volume(scan.data + 1, scan.affine)
    maps = {
        model: [detect(model, one).heat_map for one in (scan, brighter)] for model in (fixed, each)
    }
    assert torch.allclose(*maps[each], atol=1e-3)
    assert not torch.allclose(*maps[fixed], atol=1e-3)
    item = fixed.prepare({"image": MetaTensor(scan.data[None].clone(), affine=scan.affine)})
    assert torch.allclose(item["image"].as_tensor()[0], (scan.data - 0.5) / 0.1, atol=1e-5)


def test_images_that_are_no_scan_of_the_training_are_refused():
    model = small_detector(in_channels=2, channel_names=["FLAIR", "T1"])
    with pytest.raises(ValueError, match=r"hold 2 channels \(FLAIR, T1\), as .* got 1 of 24 x 22"):
        detect(model, noise())
    nan = Volume(noise(channels=2).data * float("nan"), torch.eye(4, dtype=torch.float64))
    with pytest.raises(ValueError, match="image must hold finite intensities"):
        detect(model, nan)
    with pytest.raises(TypeError, match="image must be a Volume or a MetaTensor, got Tensor"):
        detect(model, torch.zeros(2, 8, 8, 8))
    with pytest.raises(ValueError, match=r"image must have shape \(C, D, H, W\), got \(8, 8, 8\)"):
        detect(model, MetaTensor(torch.zeros(8, 8, 8)))


def with_threshold(model, threshold, rule):
    from dataclasses import replace

    return replace(model, score_threshold=threshold, threshold_rule=rule)


def test_one_detector_twice_finds_what_it_finds_alone():
    model = with_threshold(lively_detector(), 0.5, "f1 on 3 scans")
    alone, twice = detect(model, noise()), detect([model, model], noise())
    assert torch.allclose(twice.box, alone.box, atol=1e-4)
    assert torch.allclose(twice.scores, alone.scores, atol=1e-6)
    assert torch.equal(twice.label, alone.label)
    assert torch.allclose(twice.heat_map, alone.heat_map)
    assert twice.score_threshold == 0.5
    assert twice.threshold_rule == "mean of 2 detectors: f1 on 3 scans"
    assert twice.smallest_anchor == alone.smallest_anchor


def test_a_box_that_only_some_find_loses_score():
    one, scan = lively_detector(), noise()
    blind = small_detector(lowest_score=1.0)
    alone, joined = detect(one, scan), detect([one, blind, blind], scan)
    assert torch.allclose(joined.scores, alone.scores / 3, atol=1e-6)
    assert torch.allclose(joined.box, alone.box, atol=1e-4)
    mean = (alone.heat_map + 2 * detect(blind, scan).heat_map) / 3
    assert torch.allclose(joined.heat_map, mean, atol=1e-6)
    assert (joined.score_threshold, joined.threshold_rule) == (None, None)


def test_thresholds_are_joined_by_their_mean_if_all_have_one():
    models = [with_threshold(lively_detector(seed), level, rule)
              for seed, level, rule in ((0, 0.3, "f1"), (1, 0.5, "fp:1"))]  # fmt: skip
    joined = detect(models, noise())
    assert joined.score_threshold == pytest.approx(0.4)
    assert joined.threshold_rule == "mean of 2 detectors: f1; fp:1"
    assert detect([*models, lively_detector(2)], noise()).score_threshold is None


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("in_channels", (1, 2)),
        ("num_classes", (1, 2)),
        ("class_names", (["cyst"], ["lesion"])),
        ("class_values", ([1], [2])),
        ("channel_names", (["T1"], ["T2"])),
    ],
)
def test_detectors_of_other_channels_or_classes_are_not_joined(name, pair):
    models = [small_detector(**{name: value}) for value in pair]
    with pytest.raises(ValueError, match=f"detectors with the same {name}, got"):
        detect(models, noise())
    with pytest.raises(ValueError, match="must be a detector, or several, got none"):
        detect([], noise())


def test_channels_in_files_of_their_own_make_one_scan(tmp_path):
    model, scan = lively_detector(in_channels=2), noise(channels=2)
    folder = tmp_path / "scans"
    folder.mkdir()
    for (name, number), channel in zip(
        itertools.product("ab", range(2)), (*scan.data, *scan.data), strict=True
    ):
        save_nifti(folder / f"{name}_{number:04d}.nii.gz", channel, scan.affine)
    save_nifti(folder / "c.nii.gz", scan.data[0], scan.affine)
    scans = find_scans([folder], 2)
    assert [len(files) for files in scans[:2]] == [2, 2]
    results = detect_files(model, scans, tmp_path / "found")
    assert [result.name for result in results] == ["a", "b", "c"]
    assert torch.equal(results[0].detections.box, detect(model, scan).box)
    assert (tmp_path / "found" / "b_heatmap.nii.gz").is_file()
    assert "c.nii.gz must hold 2 channels, as the scans of the training" in results[2].error


@pytest.mark.parametrize("axes", [(0,), (1, 2)])
def test_with_all_flips_a_flipped_scan_has_flipped_results(axes):
    model, scan = lively_detector(gain=10), noise((20, 18, 16))
    other = Volume(scan.data.flip(list(axes)), scan.affine)
    here, there = (detect(model, one, tta=True) for one in (scan, other))
    torch.testing.assert_close(there.heat_map, here.heat_map.flip(list(axes)))
    back = boxes_otherwise(there.box.clone(), scan.grid, (0, 1, 2), axes)
    assert len(here.box) == len(back) > 0
    near = (here.box[:, None] - back[None]).abs().amax(dim=-1).min(dim=1)[0]
    assert near.median() < 1e-3  # boxes of equal score may be joined in another order
    torch.testing.assert_close(there.scores[0], here.scores[0], atol=1e-4, rtol=1e-4)


def test_flips_are_joined_as_detectors_are():
    models, scan = [lively_detector(0), lively_detector(1)], noise((20, 18, 16))
    maps = []
    for model, flips in itertools.product(
        models, [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    ):
        found = detect(model, Volume(scan.data.flip(list(flips)), scan.affine))
        maps.append(found.heat_map.flip(list(flips)))
    joined = detect(models, scan, tta=True)
    torch.testing.assert_close(joined.heat_map, torch.stack(maps).mean(dim=0))
