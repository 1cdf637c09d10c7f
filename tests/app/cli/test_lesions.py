"""The commands lesions and calibrate: scores, thresholds, nnU-Net's maps, and files that fail."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from softoverlap import HaloDice, LesionCalibration, MassAboveBackground, lesion_scores
from softoverlap.app.cli import app
from softoverlap.images import load_nifti, read_boxes, save_nifti
from tests.support.segmented import AFFINE, segmented_scan

SPACING = (1.0, 1.0, 2.0)


def run(*arguments, status=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.output


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def data(tmp_path):
    """Maps of six scans, and their truths."""
    for number in range(6):
        truth, found = segmented_scan(number)
        for name, mask in (("maps", found), ("truth", truth)):
            (tmp_path / name).mkdir(exist_ok=True)
            save_nifti(tmp_path / name / f"sub-{number}.nii.gz", mask, AFFINE)
    return tmp_path


def test_boxes_is_another_name_of_lesions(data):
    for name in ("lesions", "boxes"):
        run(name, data / "maps", "--output", data / name, "--threshold", 0.4, "--low", 0.3)
    for table in ("boxes.csv", "sub-3_boxes.json"):
        assert (data / "boxes" / table).read_text() == (data / "lesions" / table).read_text()
    assert "lesions " in run("--help")
    assert "softoverlap lesions nnunet_predictions" in run("boxes", "--help")


@pytest.mark.parametrize(("word", "score"), [("mass", MassAboveBackground()), ("dice", HaloDice())])
def test_a_score_by_its_word_is_that_of_the_library(data, word, score):
    run("lesions", data / "maps", "--output", data / word, "--score", word)
    image = load_nifti(data / "maps" / "sub-2.nii.gz")
    expected = lesion_scores(image.data, spacing=SPACING, threshold=0.5, score=score)
    found = read_boxes(data / word / "sub-2_boxes.json")
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.boxes, expected.box.double())
    rows = [row for row in rows_of(data / word / "boxes.csv") if row["case"] == "sub-2"]
    assert [float(row["volume_mm3"]) for row in rows] == expected.volume_mm3.tolist()


def test_the_best_threshold_is_that_of_the_truth(data):
    for number in range(6):
        save_nifti(data / "maps" / f"sub-{number}.nii.gz", 0.31 * segmented_scan(number)[0], AFFINE)
    text = run("lesions", data / "maps", "--truth", data / "truth", "--threshold", "best",
               "--output", data / "found")  # fmt: skip
    assert "best threshold 0.31: Dice 1.000 in 6 scans" in text
    assert len(read_boxes(data / "found" / "sub-0_boxes.json").boxes) == 3


def test_calibrated_scores_are_those_of_the_file_and_can_be_scored(data):
    file = data / "calibration.json"
    text = run("calibrate", data / "maps", "--truth", data / "truth", "--output", file,
               "--threshold", 0.45, "--scores", "mean,mass")  # fmt: skip
    assert "30 lesions in 6 scans, 18 hits: Brier score 0." in text
    assert "(of a constant: 0.2400)" in text
    known = LesionCalibration.from_dict(json.loads(file.read_text()))
    assert (known.threshold, len(known.hits), sum(known.hits)) == (0.45, 30, 18)
    run("lesions", data / "maps", "--calibration", file, "--output", data / "found")
    image = load_nifti(data / "maps" / "sub-1.nii.gz")
    expected = lesion_scores(image.data, spacing=SPACING, threshold=0.45, calibration=known)
    assert torch.equal(read_boxes(data / "found" / "sub-1_boxes.json").scores, expected.scores)
    run("score", data / "found", data / "truth", "--output", data / "results")
    rows = rows_of(data / "results" / "boxes.csv")
    assert sum(row["outcome"] == "hit" for row in rows) == 18
    text = run("lesions", data / "maps", "--calibration", file, "--output", data / "other",
               "--threshold", 0.5, status=2)  # fmt: skip
    assert "--calibration must be of lesions cut at --threshold 0.5" in text
    text = run("lesions", data / "maps", "--calibration", file, "--output", data / "other",
               "--score", "mean", status=2)  # fmt: skip
    assert "--score must be left out where --calibration is given" in text


def test_a_calibration_knows_connectivity_and_smallest_volume(data):
    cut = ("--connectivity", 6, "--min-mm3", 60)
    file = data / "c.json"
    text = run("calibrate", data / "maps", "--truth", data / "truth", "--output", file, *cut)
    assert "24 lesions in 6 scans" in text  # without the first false one of each
    known = LesionCalibration.from_dict(json.loads(file.read_text()))
    assert (known.connectivity, known.min_mm3) == (6, 60.0)
    command = ("lesions", data / "maps", "--calibration", file, "--output")
    run(*command, data / "found")
    assert len(read_boxes(data / "found" / "sub-1_boxes.json").boxes) == 4
    run(*command, data / "same", *cut)
    for option, value in (("--connectivity", 26), ("--min-mm3", 0.0)):
        text = run(*command, data / "other", option, value, status=2)
        assert f"--calibration must be of lesions cut at {option} {value}, got" in text


def test_a_label_is_of_maps_and_truths_in_both_passes(data):
    for name in ("maps", "truth"):
        for number in range(6):
            labels = 2 * segmented_scan(number)[0]
            labels[20:, 20:] = 1
            save_nifti(data / name / f"sub-{number}.nii.gz", labels, AFFINE)
    command = ("lesions", data / "maps", "--truth", data / "truth", "--threshold", "best",
               "--label", 2, "--output", data / "found", "--overwrite")  # fmt: skip
    read = ("--values", "labels", "--truth-values", "labels")
    assert "best threshold 0.5: Dice 1.000 in 6 scans" in run(*command, *read)
    save_nifti(data / "maps" / "sub-0.nii.gz", segmented_scan(0)[1], AFFINE)
    text = run(*command, *read, status=1)
    assert "Dice 1.000 in 5 scans" in text
    for number in range(6):
        save_nifti(data / "maps" / f"sub-{number}.nii.gz", segmented_scan(number)[0], AFFINE)
    assert "Dice 1.000 in 6 scans" in run(*command, "--values", "probabilities")


def test_a_region_is_no_label_of_a_truth(data):
    folder = data / "nnunet"
    folder.mkdir()
    for number in range(6):
        found = segmented_scan(number)[1]
        regions = torch.stack([found, found]).numpy().transpose(0, 3, 2, 1)
        np.savez(folder / f"sub-{number}.npz", probabilities=regions)
        save_nifti(folder / f"sub-{number}.nii.gz", (found >= 0.5).float(), AFFINE)
    for name, output, threshold in (("calibrate", "c.json", 0.5), ("lesions", "found", "best")):
        command = (name, folder, "--truth", data / "truth", "--label", 2,
                   "--threshold", threshold, "--output", data / output)  # fmt: skip
        text = run(*command, status=2)
        assert f"--label must be left out for {folder / 'sub-0.npz'}" in text
        assert "no scan could be read" in text
        run(*command, "--truth-values", "probabilities")


def test_a_calibration_at_the_best_threshold_keeps_it(data):
    file = data / "calibration.json"
    run("calibrate", data / "maps", "--truth", data / "truth", "--output", file,
        "--threshold", "best", "--low", 0.3)  # fmt: skip
    known = LesionCalibration.from_dict(json.loads(file.read_text()))
    assert known.low == 0.3
    assert known.threshold > 0.3
    text = run("calibrate", data / "maps", "--truth", data / "truth", "--output", file, status=2)
    assert "calibration.json must not exist yet: pass --overwrite" in text


def test_scans_of_a_patient_are_left_out_together(data):
    table = data / "patients.csv"
    table.write_text("case,patient\n" + "".join(f"sub-{n},one\n" for n in range(6)))
    command = ("calibrate", data / "maps", "--truth", data / "truth", "--output", data / "c.json")
    assert "two patients or more must have lesions to fit to, got 30 lesions of one at" in run(
        *command, "--patients", table, status=2
    )
    assert "--scores must be two or more" in run(*command, "--scores", "mean", status=2)


def test_what_cannot_be_read_fails_alone(data):
    (data / "maps" / "sub-4.nii.gz").write_bytes(b"no gzip")
    file = data / "c.json"
    text = run("calibrate", data / "maps", "--truth", data / "truth", "--output", file, status=1)
    assert "failed: " in text
    assert "25 lesions in 5 scans, 15 hits" in text
    (data / "truth" / "sub-3.nii.gz").unlink()
    text = run("calibrate", data / "maps", "--truth", data / "truth", "--output", file,
               "--overwrite", status=2)  # fmt: skip
    assert "sub-3.nii.gz must have a truth in" in text
    assert "got: no truth" in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--threshold", "good"), "--threshold must be a number in (0, 1], or best, got 'good'"),
        (("--threshold", 1.5), "--threshold must lie in (0, 1], got 1.5"),
        (("--threshold", "best"), "--threshold must be a number, or go with --truth"),
        (("--truth", "truth"), "--truth must go with --threshold best"),
        (("--score", "size"), "--score must be one of ['dice', 'mass', 'maximum', 'mean']"),
        (("--calibration", "gone.json"), "gone.json must be a JSON file, found none"),
        (("--truth-pattern", "{case}.nii.gz"), "--truth-pattern must go with --threshold best"),
        (
            ("--mean",),
            "two maps or more of each case, as many of all, with --mean, got 1 of sub-0",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(data, options, words):
    text = run("lesions", data / "maps", "--output", data / "found", *options, status=2)
    assert words in text
    assert not (data / "found").exists()


@pytest.mark.parametrize("content", ["no json", "[]", '{"version": 1}'])
def test_a_file_that_is_no_calibration_is_refused(data, content):
    (data / "c.json").write_text(content)
    command = ("lesions", data / "maps", "--output", data / "found")
    text = run(*command, "--calibration", data / "c.json", status=2)
    assert f"{data / 'c.json'} must be a" in text


def test_maps_of_nnunet_are_boxed_as_the_same_maps_in_nifti(data):
    folder = data / "nnunet"
    folder.mkdir()
    for number in range(4):
        found = segmented_scan(number)[1]
        both = torch.stack([1 - found, found]).numpy().transpose(0, 3, 2, 1)
        np.savez(folder / f"sub-{number}.npz", probabilities=both)
        (folder / f"sub-{number}.pkl").write_bytes(b"not to be read")
        save_nifti(folder / f"sub-{number}.nii.gz", (found > 0.5).float(), AFFINE)
    text = run("lesions", folder, "--output", data / "a", "--score", "dice")
    assert "4 masks boxed, 0 failed" in text
    assert "left out" not in text
    run("lesions", data / "maps", "--output", data / "b", "--score", "dice")
    first, second = (read_boxes(data / name / "sub-3_boxes.json") for name in "ab")
    assert torch.equal(first.boxes, second.boxes)
    torch.testing.assert_close(first.scores, second.scores, atol=1e-6, rtol=1e-6)
    assert torch.equal(first.affine, second.affine)
    run("calibrate", folder, "--truth", data / "truth", "--output", data / "c.json", "--label", 1,
        "--truth-values", "labels")  # fmt: skip
    run("lesions", folder, "--output", data / "c", "--label", 1, "--calibration", data / "c.json")
    assert read_boxes(data / "c" / "sub-3_boxes.json").labels.tolist() == [1] * 5
    (folder / "sub-0.nii.gz").unlink()
    text = run("lesions", folder, "--output", data / "d", status=1)
    assert "3 masks boxed, 1 failed" in text
    assert "the segmentation that nnU-Net writes beside it" in text


def test_a_truth_that_cannot_be_read_for_the_best_threshold_is_told_by_the_status(data):
    (data / "truth" / "sub-1.nii.gz").write_bytes(b"no image")
    text = run("lesions", data / "maps", "--truth", data / "truth", "--threshold", "best",
               "--output", data / "found", status=1)  # fmt: skip
    assert "in 5 scans" in text
    assert "6 masks boxed, 0 failed" in text


def test_maps_and_truths_of_other_names_are_paired_by_patterns(data):
    for number in range(6):
        for name, end in (("maps", "prob"), ("truth", "seg")):
            path = data / name / f"sub-{number}.nii.gz"
            path.rename(path.with_name(f"scan{number}_{end}.nii.gz"))
    best = ("lesions", data / "maps", "--truth", data / "truth", "--threshold", "best",
            "--output", data / "found")  # fmt: skip
    hint = run(*best, status=2)
    assert 'pass --pred-pattern "{case}_prob.nii.gz" and --truth-pattern "{case}_seg' in hint
    patterns = ("--pred-pattern", "{case}_prob.nii.gz", "--truth-pattern", "{case}_seg.nii.gz")
    assert "in 6 scans" in run(*best, *patterns)
    fit = ("calibrate", data / "maps", "--truth", data / "truth", "--output", data / "c.json")
    assert "lesions in 6 scans" in run(*fit, *patterns)
    text = run(*best, "--pred-pattern", "{case}_x.nii.gz", "--overwrite", status=2)
    assert f"--pred-pattern must match every map, got {{case}}_x.nii.gz and {data}" in text
    (data / "maps" / "other.nii.gz").write_bytes(b"")
    text = run(*best, *patterns, "--overwrite", status=2)
    assert "--pred-pattern must match every map, got {case}_prob.nii.gz and" in text
    assert str(data / "maps" / "other.nii.gz") in text


def test_the_mean_of_several_maps_is_cut(data):
    for fold, share in (("a", 0.8), ("b", 1.0)):
        (data / fold).mkdir()
        for number in range(3):
            found = share * segmented_scan(number)[1]
            save_nifti(data / fold / f"sub-{number}.nii.gz", found, AFFINE)
    folders = (data / "a", data / "b")
    run("lesions", *folders, "--mean", "--threshold", 0.4, "--output", data / "found")
    mean = 0.9 * segmented_scan(2)[1]
    expected = lesion_scores(mean, spacing=SPACING, threshold=0.4)
    found = read_boxes(data / "found" / "sub-2_boxes.json")
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-6, rtol=0)
    assert torch.equal(found.boxes, expected.box.double())
    (row,) = (row for row in rows_of(data / "found" / "cases.csv") if row["case"] == "sub-2")
    assert row["file"] == "; ".join(str(folder / "sub-2.nii.gz") for folder in folders)
    assert "lesions in 3 scans" in run("calibrate", *folders, "--mean", "--truth", data / "truth",
                                       "--output", data / "c.json")  # fmt: skip
    text = run("lesions", *folders, "--output", data / "d", status=2)
    assert "MASKS must have different names (--mean is for maps of one scan), got" in text
    (data / "b" / "sub-1.nii.gz").unlink()
    text = run("lesions", *folders, "--mean", "--output", data / "d", status=2)
    assert "got 1 of sub-1 and 2 of sub-0" in text


def test_maps_to_average_on_other_grids_fail_alone(data):
    (data / "other").mkdir()
    for number in range(6):
        found = segmented_scan(number)[1]
        found = found[:-1] if number == 4 else found
        save_nifti(data / "other" / f"sub-{number}.nii.gz", found, AFFINE)
    text = run("lesions", data / "maps", data / "other", "--mean", "--output", data / "found",
               status=1)  # fmt: skip
    assert "5 masks boxed, 1 failed" in text
    assert str(data / "other" / "sub-4.nii.gz") in text


def test_the_table_of_cases_says_how_they_were_cut_and_scored(data):
    run("lesions", data / "maps", "--output", data / "a", "--threshold", 0.4, "--low", 0.3,
        "--score", "dice")  # fmt: skip
    row = rows_of(data / "a" / "cases.csv")[0]
    cut = ("threshold", "low", "connectivity", "min_mm3", "score")
    assert [row[name] for name in cut] == ["0.4", "0.3", "26", "0.0", "dice"]
    file = data / "c.json"
    run("calibrate", data / "maps", "--truth", data / "truth", "--output", file)
    run("lesions", data / "maps", "--output", data / "b", "--calibration", file)
    row = rows_of(data / "b" / "cases.csv")[0]
    assert [row[name] for name in cut] == ["0.5", "", "26", "0.0", str(file)]


def test_lesions_without_an_order_and_fits_to_few_are_warned_of(data):
    few = "warning: 18 hits and 12 false lesions are few: with less than 30 of each"
    fit = ("calibrate", data / "maps", "--truth", data / "truth", "--output", data / "c.json")
    assert few in run(*fit)
    assert "warning" not in run("lesions", data / "maps", "--output", data / "a")
    text = run("lesions", data / "truth", "--output", data / "b")
    assert "have the score 1, so none comes before another in FROC" in text


def test_a_segmentation_is_no_map_where_others_have_one(data):
    found = segmented_scan(0)[1]
    both = torch.stack([1 - found, found]).numpy().transpose(0, 3, 2, 1)
    folder = data / "nnunet"
    folder.mkdir()
    np.savez(folder / "sub-0.npz", probabilities=both)
    for number in range(2):  # the map of the second is lost
        save_nifti(folder / f"sub-{number}.nii.gz", (found > 0.5).float(), AFFINE)
    text = run("lesions", folder, "--output", data / "found", status=1)
    assert "1 mask boxed, 1 failed" in text
    assert "sub-1.nii.gz must hold probabilities, or have a map sub-1.npz beside it" in text


def test_lesions_of_one_patient_are_too_few_to_fit_to(data):
    for number in range(1, 6):
        (data / "maps" / f"sub-{number}.nii.gz").unlink()
    text = run("calibrate", data / "maps", "--truth", data / "truth", "--output", data / "c.json",
               status=2)  # fmt: skip
    assert "two patients or more must have lesions to fit to, got 5 lesions of one at --th" in text


def test_a_map_is_not_its_own_truth(data):
    fit = ("calibrate", data / "maps", "--truth", data / "maps", "--output", data / "c.json")
    assert "must have a truth that is another file, got the map itself" in run(*fit, status=2)
    assert not (data / "c.json").exists()


def test_maps_of_two_kinds_are_not_averaged(data):
    found = segmented_scan(0)[1]
    folder = data / "nnunet"
    folder.mkdir()
    np.savez(folder / "sub-0.npz", probabilities=torch.stack([1 - found, found]).numpy())
    text = run("lesions", data / "maps" / "sub-0.nii.gz", folder, "--mean", "--output", data / "o",
               status=2)  # fmt: skip
    assert "MASKS must be of one kind in all folders, with nnU-Net's .npz in all or in none" in text
