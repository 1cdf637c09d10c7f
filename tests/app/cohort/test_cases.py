"""One case: every column against the metric it is named after; boxes, raters, labels too."""

from __future__ import annotations

import json
import math
import pickle
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, strategies as st

from softoverlap.app.cohort import ScorePair, ScoreSettings, islands as parts, score_case, voxels
from softoverlap.app.cohort.marked import marked_by_mask
from softoverlap.app.cohort.mask_lesions import mask_lesions
from softoverlap.app.cohort.tables import box_rows
from softoverlap.images import BoxFile, save_nifti, write_box_files, write_boxes, write_markups
from softoverlap.lesions import lesions_from_mask
from softoverlap.measures import (
    Brier,
    CalibrationError,
    ExpectedDice,
    FalsePositives,
    LesionRecall,
    ThresholdedDice,
    compute_lesionwise_dice,
    compute_soft_dice,
    compute_soft_iou,
    inputs,
    near,
)
from tests.support.cohort_makers import masks, write_pair

ROOT = Path(__file__).parents[3]
AFFINE = torch.diag(torch.tensor([1.0, 2.0, 1.5, 1.0]))


def save(path, mask, affine=AFFINE):
    save_nifti(path, mask, affine)
    return path


def scored(tmp_path, pred, truth, affine=AFFINE, **settings):
    found = save(tmp_path / "pred.nii.gz", pred, affine)
    pair = ScorePair("a", found, (save(tmp_path / "truth.nii.gz", truth, affine),))
    return score_case(pair, ScoreSettings(**settings))


def batch(*volumes):
    return [volume[None, None] for volume in volumes]


def test_columns_equal_the_metrics_that_they_are_named_after(tmp_path):
    pred, truth = masks(0)
    pred[0, 0, 0] = 0.9  # a false positive
    (row,) = scored(tmp_path, pred, truth).rows
    pair, spacing = batch(pred, truth), (1.0, 2.0, 1.5)
    expected = {
        "soft_dice": compute_soft_dice(*pair),
        "soft_iou": compute_soft_iou(*pair),
        "hard_dice": compute_soft_dice(*[(mask >= 0.5).float() for mask in pair]),
        "hard_iou": compute_soft_iou(*[(mask >= 0.5).float() for mask in pair]),
        "thresholded_dice": ThresholdedDice()(*pair),
        "expected_dice": ExpectedDice(method="histogram")(*pair),
        "brier": Brier()(*pair),
        "calibration_error": CalibrationError()(*pair),
        "false_positives": FalsePositives()(*pair, spacing=spacing),
        "false_positive_ml": FalsePositives(measured_in="ml")(*pair, spacing=spacing),
    }
    for name, value in expected.items():
        assert row[name] == pytest.approx(value.item(), abs=1e-6), name
    assert row["pred_volume_ml"] == pytest.approx(3 * pred.sum().item() / 1000, rel=1e-6)
    assert row["volume_bias_ml"] == row["pred_volume_ml"] - row["truth_volume_ml"]


def test_lesions_equal_the_rows_of_the_metric(tmp_path):
    pred, truth = masks(1)
    result = scored(tmp_path, pred, truth)
    expected = LesionRecall().matches(*batch(pred, truth), spacing=(1.0, 2.0, 1.5))
    assert len(result.lesions) == len(expected) == 2
    for row, match in zip(result.lesions, expected, strict=True):
        for name in ("volume_mm3", "soft_dice", "soft_iou", "detected", "existence", "n_pred"):
            assert row[name] == pytest.approx(getattr(match, name), rel=1e-6)
        assert tuple(row[f"axis{axis}_min"] for axis in range(3)) == match.box[:3]
        assert row["centre_axis2"] == pytest.approx(match.centre[2])


def test_lesionwise_dice_is_the_challenge_s_without_dilation(tmp_path):
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(2, 16, 14, 12, generator=generator)
    pred, truth = torch.where(noise > 0.93, noise, 0)
    truth[3:8, 4:9, 2:6], pred[4:9, 4:9, 2:6] = 0.7, 0.6
    (row,) = scored(tmp_path, pred, truth).rows
    expected = compute_lesionwise_dice(*batch(pred, truth), dilation=0, min_mm3=0.0)
    assert row["lesionwise_dice"] == pytest.approx(expected.item(), rel=1e-9)


def test_the_case_counts_what_its_rows_say(tmp_path):
    pred, truth = masks(2)
    pred[9:12] = 0
    pred[0, 0, 0] = 0.9
    result = scored(tmp_path, pred, truth)
    (row,) = result.rows
    found = [lesion["soft_dice"] for lesion in result.lesions if lesion["detected"]]
    assert (row["lesions"], row["lesions_found"], row["lesion_recall"]) == (2, 1, 0.5)
    assert (row["pred_lesions"], row["false_positives"]) == (2, 1)
    assert row["lesionwise_dice"] == pytest.approx(sum(found) / 3)
    assert [box["outcome"] for box in result.boxes] == ["false positive", "hit"]
    assert result.boxes[1]["lesion"] == 0
    assert result.boxes[0]["score"] == pytest.approx(0.9, abs=1e-6)


@given(st.integers(0, 10_000))
def test_hard_masks_score_as_in_simpleitk(seed):
    generator = np.random.default_rng(seed)
    a, b = (generator.random((2, 6, 5, 4)) < generator.random()).astype(np.uint8)
    oracle = sitk.LabelOverlapMeasuresImageFilter()
    oracle.Execute(sitk.GetImageFromArray(a), sitk.GetImageFromArray(b))
    pred, truth = (torch.from_numpy(mask).float() for mask in (a, b))
    columns, _ = voxels.mask_columns(pred, truth, voxel_mm3=1.0, threshold=0.5)
    if a.any() or b.any():
        assert columns["soft_dice"] == pytest.approx(oracle.GetDiceCoefficient(), abs=1e-12)
        assert columns["hard_iou"] == pytest.approx(oracle.GetJaccardCoefficient(), abs=1e-12)
    if b.any():  # SimpleITK's volume similarity is 2 (a - b) / (a + b)
        total = columns["pred_volume_ml"] + columns["truth_volume_ml"]
        similarity = 2 * columns["volume_bias_ml"] / total
        assert similarity == pytest.approx(oracle.GetVolumeSimilarity(), abs=1e-9)


@given(st.integers(1, 400), st.integers(2, 9), st.permutations(range(3)))
def test_slabs_and_blocks_change_nothing(voxels_at_once, block, order):
    pred, truth = (mask.permute(order) for mask in masks(3))
    whole = voxels.mask_columns(pred, truth, voxel_mm3=1.0, threshold=0.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inputs, "VOXELS_AT_ONCE", voxels_at_once)
        patch.setattr(near, "_BLOCK", block)
        patch.setattr(near, "_MARGINS", 0)
        cut = voxels.mask_columns(pred, truth, voxel_mm3=1.0, threshold=0.5)
    assert cut[0] == pytest.approx(whole[0], rel=1e-12)
    assert cut[1]["calibration"] == pytest.approx(whole[1]["calibration"], rel=1e-12)


@pytest.mark.parametrize("with_raters", [False, True])
@pytest.mark.parametrize("min_mm3", [0.0, 40.0])
def test_a_scan_in_parts_has_the_same_lesions(monkeypatch, with_raters, min_mm3):
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(2, 20, 18, 16, generator=generator)
    pred, truth = torch.where(noise > 0.93, noise, 0)
    truth[3:8, 4:9, 2:6] = 0.7
    pred[4:9, 4:9, 2:6] = 0.6
    raters = torch.stack([truth, pred.roll(1, 0)]) if with_raters else None
    options = {"spacing": (1.0, 1.0, 1.0), "settings": ScoreSettings(min_mm3=min_mm3)}
    whole = mask_lesions(pred, truth, raters, **options)
    alone = marked_by_mask(truth, raters, **options)
    monkeypatch.setattr(parts, "VOXELS_IN_ONE", 0)
    monkeypatch.setattr(parts, "CELL", 2)
    cut = mask_lesions(pred, truth, raters, **options)
    assert cut.columns == pytest.approx(whole.columns, nan_ok=True)
    tables = (cut.lesions, whole.lesions), (box_rows(cut.matches), box_rows(whole.matches))
    for ours, theirs in tables:
        assert len(ours) == len(theirs) > (0 if min_mm3 else 10)
        for mine, other in zip(ours, theirs, strict=True):  # in one order, with one numbering
            assert mine == pytest.approx(other)
    again = marked_by_mask(truth, raters, **options)
    assert sorted(again.volumes) == pytest.approx(sorted(alone.volumes))


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize("level", [0.1, 0.3, 0.6, 0.7, 0.9])
def test_a_lesion_at_the_threshold_is_one_in_every_column(tmp_path, monkeypatch, level, in_parts):
    if in_parts:
        monkeypatch.setattr(parts, "VOXELS_IN_ONE", 0)
    mask = torch.zeros(8, 8, 8)
    mask[2:5, 2:5, 2:5] = level
    (row,) = scored(tmp_path, mask, mask, threshold=level).rows
    assert (row["hard_dice"], row["lesions"], row["lesions_found"]) == (1.0, 1, 1)
    write_boxes(tmp_path / "a.json", torch.tensor([[2.0, 2, 2, 5, 5, 5]]), affine=AFFINE)
    pair = ScorePair("a", tmp_path / "a.json", (tmp_path / "truth.nii.gz",))
    (row,) = score_case(pair, ScoreSettings(threshold=level, hit_iou=level / 2)).rows
    assert (row["lesions"], row["lesions_found"]) == (1, 1)


@pytest.mark.parametrize("which", ["both", "truth", "pred"])
def test_empty_masks_are_normal(tmp_path, which):
    pred, truth = masks(4)
    pred = 0 * pred if which in ("both", "pred") else pred
    truth = 0 * truth if which in ("both", "truth") else truth
    result = scored(tmp_path, pred, truth)
    (row,) = result.rows
    assert row["error"] is None
    assert row["soft_dice"] == row["expected_dice"] == (1.0 if which == "both" else 0.0)
    assert row["lesions"] == (2 if which == "pred" else 0)
    assert row["lesion_recall"] == (0.0 if which == "pred" else None)
    assert (row["brier"] is None) == (which == "both")


def test_a_sheared_grid_has_one_volume_of_a_voxel(tmp_path):
    sheared = AFFINE.double()
    sheared[0, 1] = 1.5  # the second axis leans over: edges 1, 2.5, 1.5 mm, and 3 mm³ a voxel
    truth = torch.zeros(8, 8, 8)
    truth[2:5, 2:5, 2:5] = 1
    result = scored(tmp_path, truth, truth, sheared)
    (lesion,) = result.lesions
    assert lesion["volume_mm3"] == pytest.approx(27 * 3.0, rel=1e-6)
    assert result.rows[0]["truth_volume_ml"] == pytest.approx(lesion["volume_mm3"] / 1000, rel=1e-6)
    assert scored(tmp_path, truth, truth, sheared, min_mm3=82.0).lesions == []
    write_boxes(tmp_path / "a.json", torch.tensor([[2.0, 2, 2, 5, 5, 5]]), affine=sheared)
    pair = ScorePair("a", tmp_path / "a.json", (tmp_path / "truth.nii.gz",))
    (met,) = score_case(pair).lesions
    assert met["volume_mm3"] == pytest.approx(met["pred_volume_mm3"], rel=1e-6)
    assert met["volume_mm3"] == pytest.approx(27 * 3.0, rel=1e-6)


@pytest.mark.parametrize("in_parts", [True, False])
def test_a_haze_is_told_and_a_higher_halo_parts_its_lesions(tmp_path, monkeypatch, in_parts):
    monkeypatch.setattr(parts, "VOXELS_IN_ONE", 0 if in_parts else 1 << 22)
    clear = torch.zeros(20, 20, 20)
    clear[2:5, 2:5, 2:5], clear[12:17, 12:17, 12:17] = 0.9, 0.8
    hazy = clear.clamp(min=0.05)
    result = scored(tmp_path, hazy, clear)
    assert (
        "98% of its voxels between the halo 0.01 and the threshold 0.5"
        in (result.rows[0]["warning"])
    )
    assert max(row["soft_dice"] for row in result.lesions) < 0.5
    result = scored(tmp_path, hazy, clear, halo=0.1)
    assert result.rows[0]["warning"] is None
    assert [row["soft_dice"] for row in result.lesions] == pytest.approx([1.0, 1.0])
    full = scored(tmp_path, torch.full((4, 4, 4), 0.75), torch.full((4, 4, 4), 0.75))
    assert full.rows[0]["warning"] is None  # no haze, but a lesion that fills its scan


def test_results_are_plain_and_travel(tmp_path):
    result = scored(tmp_path, *masks(5))
    assert pickle.loads(pickle.dumps(result)) == result
    assert json.loads(json.dumps(result.rows, allow_nan=False)) == result.rows


def test_raters_are_the_truth_together(tmp_path):
    pred, first = masks(6)
    first, second = (first > 0).float(), torch.zeros_like(first)
    second[1:5, 2:5, 2:4] = 1
    found = save(tmp_path / "pred.nii", pred)
    files = tuple(save(tmp_path / f"{n}.nii", m) for n, m in enumerate((first, second)))
    result = score_case(ScorePair("a", found, files))
    assert [row["existence"] for row in result.lesions] == [1.0, 0.5]
    mean = (first + second) / 2
    expected = compute_soft_dice(*batch(pred, mean)).item()
    assert result.rows[0]["soft_dice"] == pytest.approx(expected, abs=1e-6)

    stack = sitk.JoinSeries([sitk.ReadImage(file) for file in files])
    sitk.WriteImage(stack, tmp_path / "stack.nii")
    again = score_case(ScorePair("a", found, (tmp_path / "stack.nii",)))
    assert again.lesions == result.lesions


def test_labels_are_scored_one_by_one(tmp_path):
    labels = torch.zeros(8, 8, 8, dtype=torch.uint8)
    labels[1:4, 1:4, 1:4], labels[5:7, 5:7, 5:7] = 1, 3
    other = labels.clone()
    other[5:7] = 0
    result = scored(tmp_path, other, labels, labels=(1, 2, 3))
    assert [(row["label"], row["soft_dice"]) for row in result.rows] == [
        (1, 1.0),
        (2, 1.0),
        (3, 0.0),
    ]
    assert [row["label"] for row in result.lesions] == [1, 3]


def test_a_map_of_probabilities_is_of_one_label(tmp_path):
    pred, truth = masks(7)
    classes = (2 * (truth > 0)).to(torch.uint8)
    for values in ("probabilities", "percent", "0-255"):
        with pytest.raises(
            ValueError, match=rf"labels must be .* `values=` .* labels 1, 2 of {values}"
        ):
            scored(tmp_path, pred, classes, values=values, labels=(1, 2))
        with pytest.raises(ValueError, match="labels must be .* `truth_values=` auto or labels"):
            scored(tmp_path, classes, pred, truth_values=values, labels=(1, 2))
    (row,) = scored(tmp_path, pred, classes, values="probabilities", labels=(2,)).rows
    expected = compute_soft_dice(*batch(pred, (truth > 0).float())).item()
    assert (row["label"], row["soft_dice"]) == (2, pytest.approx(expected, abs=1e-6))


@pytest.mark.bad_input
def test_classes_along_a_fourth_axis_are_no_raters(tmp_path):
    pred, truth = masks(3)
    hard = (truth > 0).float()
    one_hot = torch.stack([1 - hard, hard]).permute(1, 2, 3, 0).numpy()
    path = tmp_path / "truth.nii.gz"
    nibabel.save(nibabel.Nifti1Image(one_hot, AFFINE.numpy()), path)
    pair = ScorePair("a", save(tmp_path / "pred.nii.gz", pred), (path,))
    with pytest.raises(ValueError, match="2 channels that add up to 1 everywhere"):
        score_case(pair)
    layers = sitk.JoinSeries([sitk.GetImageFromArray(hard.numpy())] * 2)
    sitk.WriteImage(layers, tmp_path / "a.seg.nrrd")
    with pytest.raises(ValueError, match="must have one layer, got 2"):
        score_case(ScorePair("a", pair.pred, (tmp_path / "a.seg.nrrd",)))


def test_probabilities_are_resampled_linearly_whatever_label_they_are_of(tmp_path):
    pred, truth = masks(3)
    told = {"values": "probabilities", "truth_values": "probabilities", "geometry": "resample"}
    shifted = torch.eye(4)
    shifted[0, 3] = 0.4
    save(tmp_path / "pred.nii.gz", pred, shifted)
    save(tmp_path / "truth.nii.gz", truth, torch.eye(4))
    pair = ScorePair("a", tmp_path / "pred.nii.gz", (tmp_path / "truth.nii.gz",))
    (plain,) = score_case(pair, ScoreSettings(**told)).rows
    (labelled,) = score_case(pair, ScoreSettings(**told, labels=(1,))).rows
    assert labelled["soft_dice"] == plain["soft_dice"]
    assert labelled["pred_volume_ml"] == plain["pred_volume_ml"]


def test_scales_are_told_and_not_guessed(tmp_path):
    pred, truth = masks(7)
    percent = (100 * pred).round()
    result = scored(tmp_path, percent, truth, values="percent")
    expected = compute_soft_dice(*batch(percent / 100, truth)).item()
    assert result.rows[0]["soft_dice"] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="say how to read them"):
        scored(tmp_path, percent, truth)


@pytest.mark.parametrize(
    ("shift", "geometry", "displacement"),
    [(0.05, "strict", 0.05), (0.4, "index", 0.4), (0.4, "resample", 0.4)],
)
def test_displacement_is_a_column_and_a_warning(tmp_path, shift, geometry, displacement):
    pred, truth = masks(8)
    moved = torch.eye(4)
    moved[0, 3] = shift
    write_pair(tmp_path, "a", pred, truth, moved)
    files = [tmp_path / side / "a.nii.gz" for side in ("pred", "truth")]
    pair = ScorePair("a", files[0], (files[1],))
    (row,) = score_case(pair, ScoreSettings(geometry=geometry)).rows
    assert row["geometry_displacement_voxels"] == pytest.approx(displacement, abs=1e-6)
    assert "voxels from the grid" in row["warning"]
    if geometry == "index":
        with pytest.raises(ValueError, match="index trusts the voxel grid"):
            score_case(pair)


def boxes_of(mask):
    lesions = lesions_from_mask(mask, spacing=(1.0, 2.0, 1.5))
    return torch.stack([lesion.box for lesion in lesions]).double()


@pytest.mark.parametrize("flipped", [False, True])
def test_boxes_against_a_mask(tmp_path, flipped):
    _, truth = masks(9)
    boxes = torch.cat([boxes_of(truth), torch.tensor([[0.0, 0, 7, 2, 2, 9]]).double()])
    affine = AFFINE.double()
    if flipped:  # the same places, stored on a grid whose first axis runs the other way
        length = truth.shape[0]
        low, high = boxes[:, 0].clone(), boxes[:, 3].clone()
        boxes[:, 0], boxes[:, 3] = length - high, length - low
        affine = affine @ torch.diag(torch.tensor([-1.0, 1, 1, 1]).double())
        affine[0, 3] = length - 1
    write_boxes(tmp_path / "a.json", boxes, scores=torch.tensor([0.9, 0.8, 0.7]), affine=affine)
    pair = ScorePair("a", tmp_path / "a.json", (save(tmp_path / "truth.nii.gz", truth),))
    result = score_case(pair)
    (row,) = result.rows
    assert (row["kind"], row["lesions_found"], row["false_positives"]) == ("boxes in masks", 2, 1)
    assert [box["outcome"] for box in result.boxes] == ["hit", "hit", "false positive"]
    # the rule is of boxes: how sure the mask is within its own is another matter
    assert [lesion["box_iou"] for lesion in result.lesions] == pytest.approx([1, 1], abs=1e-6)
    assert [lesion["score"] for lesion in result.lesions] == pytest.approx([0.9, 0.8])
    assert all("soft_iou" not in lesion for lesion in result.lesions)
    assert row["geometry_displacement_voxels"] == pytest.approx(0, abs=1e-5)


def test_boxes_of_slicer_are_brought_onto_the_grid(tmp_path):
    _, truth = masks(9)
    boxes = boxes_of(truth)
    write_markups(tmp_path / "a.mrk.json", boxes, AFFINE.double(), scores=torch.tensor([0.9, 0.8]))
    pair = ScorePair("a", tmp_path / "a.mrk.json", (save(tmp_path / "truth.nii.gz", truth),))
    result = score_case(pair)
    assert result.rows[0]["lesions_found"] == 2
    assert [row["axis0_min"] for row in result.boxes] == pytest.approx(boxes[:, 0].tolist())


def test_one_table_holds_the_boxes_of_many_cases(tmp_path):
    _, truth = masks(9)
    boxes = boxes_of(truth)
    files = {"a": BoxFile(boxes, case="a"), "b": BoxFile(boxes[:1], case="b")}
    write_box_files(tmp_path / "all.csv", files)
    mask = save(tmp_path / "truth.nii.gz", truth)
    found = [
        score_case(ScorePair(case, tmp_path / "all.csv", (mask,))).rows[0]["lesions_found"]
        for case in "ab"
    ]
    assert found == [2, 1]


def score_found(tmp_path, found, case, **settings):
    """The result of a file of boxes against a mask with two lesions."""
    _, truth = masks(9)
    mask = save(tmp_path / "truth.nii.gz", truth)
    return score_case(ScorePair(case, tmp_path / found, (mask,)), ScoreSettings(**settings))


def test_a_case_without_a_row_has_no_boxes_and_not_those_of_another(tmp_path):
    boxes = boxes_of(masks(9)[1])
    write_box_files(tmp_path / "all.csv", {"a": BoxFile(boxes, case="a")})
    result = score_found(tmp_path, "all.csv", "b")
    assert result.boxes == []
    assert (result.rows[0]["pred_lesions"], result.rows[0]["lesion_recall"]) == (0, 0.0)
    assert (
        "has no row of b, which counts as no boxes: it has rows of a" in result.rows[0]["warning"]
    )
    (tmp_path / "all.csv").write_text((tmp_path / "all.csv").read_text().splitlines()[0])
    assert "it has no rows" in score_found(tmp_path, "all.csv", "b").rows[0]["warning"]


@pytest.mark.parametrize("kind", ["coco", "monai"])
def test_a_list_that_does_not_hold_the_case_is_an_error(tmp_path, kind):
    file = BoxFile(boxes_of(masks(9)[1]), torch.tensor([0.9, 0.8]).double(), None, AFFINE.double())
    mask = save(tmp_path / "a.nii.gz", masks(9)[1])
    write_box_files(tmp_path / "all.json", {"a": file}, format=kind, image=mask)
    with pytest.raises(ValueError, match="must hold the case 'b', got 1: a"):
        score_found(tmp_path, "all.json", "b")


def test_a_table_that_names_no_case_is_of_the_case_that_it_is_called_as(tmp_path):
    write_box_files(tmp_path / "a_found.csv", {"a": BoxFile(boxes_of(masks(9)[1]))})
    lines = (tmp_path / "a_found.csv").read_text().splitlines()
    unnamed = [lines[0], *("," + line.split(",", 1)[1] for line in lines[1:])]
    (tmp_path / "a_found.csv").write_text("\n".join(unnamed))
    assert score_found(tmp_path, "a_found.csv", "a").rows[0]["lesions_found"] == 2
    with pytest.raises(ValueError, match="must name the case of each row"):
        score_found(tmp_path, "a_found.csv", "b")


def test_a_file_that_says_it_is_of_another_case_is_told(tmp_path):
    for name in ("b_boxes.json", "a.json"):
        write_boxes(tmp_path / name, boxes_of(masks(9)[1]), case="a", affine=AFFINE)
    (row,) = score_found(tmp_path, "b_boxes.json", "b").rows
    assert row["lesions_found"] == 2
    assert "b_boxes.json says that it is of case a, not b" in row["warning"]
    for case, name in (("a", "b_boxes.json"), ("b", "a.json")):
        assert score_found(tmp_path, name, case).rows[0]["warning"] is None


def test_a_mask_against_boxes(tmp_path):
    pred, _ = masks(9)
    pred = (pred > 0).float()
    write_boxes(tmp_path / "truth.json", boxes_of(pred), affine=AFFINE)
    pair = ScorePair("a", save(tmp_path / "a.nii.gz", pred), (tmp_path / "truth.json",))
    result = score_case(pair)
    assert result.rows[0]["kind"] == "masks in boxes"
    assert [row["box_iou"] for row in result.lesions] == [1.0, 1.0]
    assert [row["score"] for row in result.boxes] == [1.0, 1.0]


def test_boxes_against_boxes(tmp_path):
    truth = torch.tensor([[0.0, 0, 0, 4, 4, 4], [6, 6, 6, 8, 8, 8]])
    found = torch.tensor([[0.0, 0, 0, 4, 4, 2], [0, 0, 0, 4, 4, 4]])
    write_boxes(tmp_path / "truth.json", truth)
    write_boxes(tmp_path / "found.json", found, scores=torch.tensor([0.9, 0.4]))
    pair = ScorePair("a", tmp_path / "found.json", (tmp_path / "truth.json",))
    result = score_case(pair)
    assert [row["outcome"] for row in result.boxes] == ["hit", "duplicate"]
    assert [row["box_iou"] for row in result.lesions] == [0.5, 0.0]
    assert "one has no affine" in result.rows[0]["warning"]


def test_boxes_without_an_affine_have_the_voxels_of_the_other_side(tmp_path):
    write_boxes(tmp_path / "bare.json", torch.tensor([[0.0, 0, 0, 1, 1, 2]]))
    result = score_found(tmp_path, "bare.json", "a")
    assert result.rows[0]["false_positive_ml"] == pytest.approx(2 * 3.0 / 1000)
    write_boxes(tmp_path / "known.json", torch.tensor([[0.0, 0, 0, 1, 1, 2]]), affine=AFFINE)
    for found, truth in (("bare", "known"), ("known", "bare")):
        pair = ScorePair("a", tmp_path / f"{found}.json", (tmp_path / f"{truth}.json",))
        (lesion,) = score_case(pair).lesions
        assert lesion["volume_mm3"] == lesion["pred_volume_mm3"] == pytest.approx(6.0)


@pytest.mark.bad_input
@pytest.mark.parametrize("flat", ["found", "truth"])
def test_boxes_of_a_slice_are_named(tmp_path, flat):
    for name in ("found", "truth"):
        corners = [0.0, 0, 4, 4] if name == flat else [0.0, 0, 0, 4, 4, 4]
        write_boxes(tmp_path / f"{name}.json", torch.tensor([corners]))
    pair = ScorePair("a", tmp_path / "found.json", (tmp_path / "truth.json",))
    with pytest.raises(ValueError, match=rf"{flat}\.json must hold 3D boxes, got 4 numbers a box"):
        score_case(pair)


@pytest.mark.parametrize(("shift", "words"), [(10.0, "10 voxels off"), (0.5, "0.5 voxels off")])
def test_boxes_that_lie_elsewhere_are_refused(tmp_path, shift, words):
    _, truth = masks(9)
    moved = AFFINE.clone()
    moved[0, 3] = shift
    write_boxes(tmp_path / "a.json", boxes_of(truth), affine=moved)
    pair = ScorePair("a", tmp_path / "a.json", (save(tmp_path / "truth.nii.gz", truth),))
    with pytest.raises(ValueError, match=words):
        score_case(pair)
    placed = score_case(pair, ScoreSettings(geometry="resample")).boxes[0]
    assert placed["axis0_min"] == pytest.approx(1 + shift, abs=1e-5)
    if shift < 1:
        kept = score_case(pair, ScoreSettings(geometry="index")).boxes[0]
        assert kept["axis0_min"] == 1.0


@pytest.mark.bad_input
def test_what_cannot_be_scored_is_named(tmp_path):
    pred, truth = masks(0)
    mask = save(tmp_path / "a.nii", truth)
    write_boxes(tmp_path / "b.json", boxes_of(truth))
    cases = {
        "must have a prediction and a truth, got no truth": ScorePair("a", mask, (), "no truth"),
        "must have one truth of boxes": ScorePair("a", mask, (tmp_path / "b.json", mask)),
        "found no such file": ScorePair("a", tmp_path / "gone.nii", (mask,)),
    }
    for words, pair in cases.items():
        with pytest.raises((ValueError, OSError), match=words):
            score_case(pair)
    stack = sitk.JoinSeries([sitk.GetImageFromArray(pred.numpy())] * 2)
    sitk.WriteImage(stack, tmp_path / "stack.nii")
    with pytest.raises(ValueError, match=r"must hold one 3D volume, .* got shape \(2, "):
        score_case(ScorePair("a", tmp_path / "stack.nii", (mask,)))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"values": "logits"}, "values must be"),
        ({"geometry": "loose"}, "geometry must be"),
        ({"threshold": 0.0}, r"threshold must lie in \(0, 1\]"),
        ({"hit_iou": 2.0}, "hit_iou must lie in"),
        ({"halo": 0.0}, r"halo must lie in \(0, 1\]"),
        ({"min_mm3": math.nan}, "min_mm3 must be at least 0"),
        ({"labels": (0, 1)}, "labels must be different and at least 1"),
    ],
)
def test_settings_are_checked(options, words):
    with pytest.raises(ValueError, match=words):
        ScoreSettings(**options)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's VmHWM")
def test_a_large_pair_stays_within_its_memory():
    command = [sys.executable, "benchmarks/scans.py", "--shape", "256", "256", "200"]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, env=_environment()
    )
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["soft_dice"] > 0.5
    assert found["peak_bytes"] < found["bound_bytes"]


def _environment():
    import os

    return os.environ | {"PYTHONPATH": str(ROOT)}
