"""The command: help, dry run, bad input in one line, interruption, and the path end to end."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from typer.testing import CliRunner

from softoverlap.app.cli import app
from softoverlap.app.cli.console import TrainingBar
from softoverlap.app.train import Progress, fresh_detector, load_checkpoint, save_checkpoint
from softoverlap.images import load_nifti, read_boxes, save_nifti, write_phantoms
from tests.support.processes import takes_interrupts

COMMAND = [sys.executable, "-m", "softoverlap"]
SMALL = TrainingConfig(patch_size=16, channels=(8, 8), feature_channels=8, anchor_sizes=(5.0,))


def run(*arguments, status=0):
    """Run the command in this process; what it printed, output and errors together."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder, 4, seed=0, shape=(40, 40, 24))
    return folder


@pytest.fixture
def data(tmp_path):
    """Two tiny cases of two patients."""
    folder = tmp_path / "data"
    for room in ("images", "masks"):
        (folder / room).mkdir(parents=True)
    mask = torch.zeros(16, 16, 16)
    mask[4:9, 5:9, 6:10] = 0.8
    generator = torch.Generator().manual_seed(0)
    for case in ("sub-01", "sub-02"):
        image = 10 * mask + torch.randn(mask.shape, generator=generator)
        save_nifti(folder / "images" / f"{case}.nii.gz", image, torch.eye(4))
        save_nifti(folder / "masks" / f"{case}.nii.gz", mask, torch.eye(4))
    return folder


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, build_detector(SMALL, (1.0, 1.0, 1.0), Intensity("scan")))
    return path


def tiny(*more):
    """Options of the shortest training."""
    return ["--patch", 16, "--batch", 1, "--steps", 2, "--device", "cpu", *more]


def finding_in(path):
    """The score threshold in a checkpoint, and its rule."""
    return torch.load(path, weights_only=True)["finding"]


def test_help_is_quick_because_it_imports_neither_torch_nor_monai():
    code = "import sys, softoverlap.app.cli; print({'torch', 'monai', 'scipy'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()", result.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((), "softoverlap demo"),
        (("train",), "images/CASE.nii.gz"),
        (("detect",), "SCAN_boxes.mrk.json"),
        (("demo",), "metrics.json"),
        (("phantoms",), "--count"),
        (("train",), "layout above"),
        (("train",), "lesions are where any rater marked one"),
        (("train",), "--threshold"),
        (("detect",), "its peaks are slightly lower than the score of the best box"),
        (("demo",), "they replace those of an earlier demo"),
        (("phantoms",), "Incomplete cases in the folder are written again"),
    ],
)
def test_help_teaches_with_layout_and_examples(command, words):
    text = run(*command, "--help")
    assert words in " ".join(text.replace("│", " ").split())
    assert "\\b" not in text


def test_a_dry_run_lists_what_was_found_and_what_could_not_be_paired(data):
    (data / "masks" / "sub-02.nii.gz").unlink()
    (data / "masks" / "stray.nii.gz").write_bytes(b"")
    text = run("train", "--data", data, "--dry-run")
    assert (
        "1 case of 1 patient: sub-01; if this is wrong, list the patients in patients.csv" in text
    )
    assert "sub-01: patient sub-01, mask, 0 raters" in text
    assert "no mask and no raters" in text
    assert "no image of case stray" in text


def spoil(path, value):
    save_nifti(path, torch.full((16, 16, 16), float(value)), torch.eye(4))


def test_a_dry_run_opens_every_case_and_fails_if_one_cannot_be_used(data):
    text = run("train", "--data", data, "--dry-run")
    assert "16 x 16 x 16 voxels of 1 x 1 x 1 mm, 1 lesion" in text
    assert "2 lesions at --threshold 0.5" in text
    spoil(data / "masks" / "sub-01.nii.gz", 255)
    (data / "images" / "sub-02.nii.gz").write_bytes(b"no scan")
    text = run("train", "--data", data, "--dry-run", status=1)
    assert "sub-01.nii.gz must hold probabilities in [0, 1]" in text
    assert "sub-02.nii.gz must be a readable NIfTI file" in text
    assert "2 of 2 cases cannot be used" in text


def test_train_names_all_bad_files_and_leaves_no_folder(data, tmp_path):
    spoil(data / "masks" / "sub-01.nii.gz", 255)
    spoil(data / "masks" / "sub-02.nii.gz", -4)
    text = run("train", "--data", data, *tiny("--output", tmp_path / "out"), status=2)
    assert text.count("must hold probabilities") == 2
    assert "2 of 2 cases cannot be used" in text
    assert not (tmp_path / "out").exists()


def test_masks_below_the_threshold_are_told_and_a_lower_one_trains(data, tmp_path):
    mask = torch.zeros(16, 16, 16)
    mask[4:9, 5:9, 6:10] = 0.4
    save_nifti(data / "masks" / "sub-01.nii.gz", mask, torch.eye(4))
    arguments = ("train", "--data", data, *tiny("--output", tmp_path / "out", "--validation", 0))
    assert "sub-01: no lesion, although voxels are positive: the highest is 0.4" in run(*arguments)
    save_nifti(data / "masks" / "sub-02.nii.gz", mask, torch.eye(4))
    assert "at least one lesion" in run(*arguments, "--overwrite", status=2)
    assert "at least one lesion" in run("train", "--data", data, "--dry-run", status=1)
    text = run(*arguments, "--overwrite", "--threshold", 0.3)
    assert "2 lesions in 2 scans to train on" in text
    assert json.loads((tmp_path / "out" / "config.json").read_text())["threshold"] == 0.3
    assert "--threshold must lie in (0, 1]" in run(*arguments, "--threshold", 0, status=2)


def test_scans_without_any_lesion_are_nothing_to_train_on(data, tmp_path):
    for case in ("sub-01", "sub-02"):
        spoil(data / "masks" / f"{case}.nii.gz", 0)
    text = run("train", "--data", data, *tiny("--output", tmp_path / "out"), status=2)
    assert "train needs at least one lesion" in text
    assert not (tmp_path / "out").exists()


def test_cheap_checks_come_before_scans_are_read(data, tmp_path):
    output = tmp_path / "out"
    arguments = ("train", "--data", data, *tiny("--output", output, "--validation", 0))
    text = run(*arguments, "--device", "abacus", status=2)
    assert "device must be auto" in text
    assert "--resume needs" in run(*arguments, "--resume", status=2)
    assert "exclude each other" in run(*arguments, "--resume", "--overwrite", status=2)
    assert not output.exists()
    run(*arguments)
    text += run(*arguments, "--resume", "--batch", 2, status=2)
    assert "--batch must stay 1" in text
    text += run(*arguments, "--resume")
    assert "already 2/2 steps" in text  # and there is nothing to judge
    assert "reading" not in text
    file = tmp_path / "file"
    file.touch()
    arguments = ("train", "--data", data, *tiny("--output", file))
    assert "--output must be a folder, got the file" in run(*arguments, status=2)


def test_the_printed_loss_is_the_mean_of_what_came_and_resuming_prints_no_single_step(capsys):
    def state(step, loss):
        return Progress(step, 100, step / 100, 1.0, 1.0, loss)

    bar = TrainingBar()
    for step in range(1, 11):
        bar(state(step, 2.0))
    assert "step 10/100  loss 2.000" in capsys.readouterr().out
    resumed = TrainingBar()
    resumed(state(56, 9.0))
    assert capsys.readouterr().out == ""
    for step in range(57, 61):
        resumed(state(step, 1.0))
    assert "step 60/100" in capsys.readouterr().out


def test_a_missing_and_an_empty_folder_are_usage_errors(tmp_path):
    assert "must be a folder" in run("train", "--data", tmp_path / "none", status=2)
    (tmp_path / "images").mkdir()
    assert "must hold scans" in run("train", "--data", tmp_path, status=2)


def test_an_unknown_option_and_a_bad_number_are_usage_errors(data):
    run("train", "--data", data, "--epochs", 3, status=2)
    text = run("train", "--data", data, *tiny("--threshold", 1.5), status=2)
    assert "--threshold must lie in (0, 1]" in text
    assert "Traceback" not in text


def test_parts_are_exchanged_by_a_file_and_by_set_and_slips_are_refused(data, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("cls_loss:\n  _target_: softoverlap.for_monai.QualityFocal\n  gamma: 1.5\n")
    output = tmp_path / "out"
    arguments = ("train", "--data", data, *tiny("--output", output, "--config", mine))
    more = ("--set", "matcher#num_candidates=2", "--set", "trainer#amp=false")
    run(*arguments, *more, "--set", "learning_rate=1e-3")
    config = json.loads((output / "config.json").read_text())
    assert config["cls_loss"]["gamma"] == 1.5
    assert config["matcher"]["num_candidates"] == 2
    assert config["train"]["trainer"]["amp"] is False
    assert config["learning_rate"] == 1e-3
    for slip, words in (
        ("max_epoch=3", "--set must name settings of train.yaml, got max_epoch: did you mean"),
        ("matcher", "--set must be NAME=VALUE, got matcher"),
        ("seed=[1", "--set seed must be a value in YAML"),
    ):
        assert words in run(*arguments, "--overwrite", "--set", slip, status=2)


def test_what_ends_a_training_before_its_last_step_is_said(data, tmp_path):
    text = run("train", "--data", data, *tiny("--output", tmp_path / "out", "--minutes", 1e-5))
    assert "stopped by --minutes at 1 of 2 steps" in text


def test_a_truncated_scan_is_named(data, tmp_path):
    path = data / "images" / "sub-01.nii.gz"
    path.write_bytes(path.read_bytes()[:200])
    text = run("train", "--data", data, *tiny("--output", tmp_path / "out"), status=2)
    assert "sub-01.nii.gz must be a readable NIfTI file" in text


def test_a_mask_on_another_grid_is_named_with_its_displacement(data, tmp_path):
    shifted = torch.eye(4)
    shifted[0, 3] = 3.0
    for case in ("sub-01", "sub-02"):
        save_nifti(data / "masks" / f"{case}.nii.gz", torch.zeros(16, 16, 16), shifted)
    text = run("train", "--data", data, *tiny("--output", tmp_path / "out"), status=2)
    assert "up to 3 voxels apart" in text


def test_logits_in_place_of_probabilities_are_refused(data, tmp_path):
    for case in ("sub-01", "sub-02"):
        path = data / "masks" / f"{case}.nii.gz"
        save_nifti(path, torch.full((16, 16, 16), -4.0), torch.eye(4))
    text = run("train", "--data", data, *tiny("--output", tmp_path / "out"), status=2)
    assert "were logits passed?" in text


def test_one_patient_alone_cannot_be_split(data, tmp_path):
    (data / "images" / "sub-02.nii.gz").unlink()
    output = ("--output", tmp_path / "out")
    text = run("train", "--data", data, *tiny(*output), status=2)
    assert "pass --validation 0" in text
    run("train", "--data", data, *tiny(*output, "--validation", 0))
    assert (tmp_path / "out" / "checkpoint.pt").exists()


def test_an_earlier_result_is_replaced_only_when_asked(data, tmp_path):
    arguments = ("train", "--data", data, *tiny("--output", tmp_path / "out"))
    run(*arguments)
    before = (tmp_path / "out" / "checkpoint.pt").read_bytes()
    assert "--overwrite" in run(*arguments, status=2)
    assert (tmp_path / "out" / "checkpoint.pt").read_bytes() == before
    run(*arguments, "--overwrite", "--seed", 1)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["seed"] == 1


def test_a_corrupt_scan_is_noted_and_the_others_go_on(data, checkpoint, tmp_path):
    path = data / "images" / "sub-01.nii.gz"
    path.write_bytes(path.read_bytes()[:200])
    output = tmp_path / "found"
    arguments = ("detect", checkpoint, data, "--output", output, "--device", "cpu")
    text = run(*arguments, status=1)
    assert "1 scan done, 1 failed" in text
    rows = list(csv.DictReader((output / "scans.csv").open()))
    assert [(row["case"], row["state"]) for row in rows] == [("sub-01", "failed"), ("sub-02", "ok")]
    assert "readable NIfTI" in rows[0]["error"]
    assert (output / "sub-02_heatmap.nii.gz").exists()


def test_a_sheared_scan_has_all_results_and_the_next_one_too(checkpoint, tmp_path):
    scans, output = tmp_path / "scans", tmp_path / "found"
    scans.mkdir()
    tilted = torch.eye(4)
    tilted[1, 2] = 0.3
    for name, affine in (("a_tilt", tilted), ("b_ok", torch.eye(4))):
        save_nifti(scans / f"{name}.nii.gz", torch.rand(16, 16, 16), affine)
    run("detect", checkpoint, scans, "--output", output, "--device", "cpu")
    assert len(list(output.glob("*_boxes.mrk.json"))) == 2
    assert len(list(output.glob("*_heatmap.nii.gz"))) == 2
    rows = list(csv.DictReader((output / "scans.csv").open()))
    assert [row["state"] for row in rows] == ["ok", "ok"]


def test_results_that_cannot_be_written_are_noted_and_the_others_go_on(
    data, checkpoint, tmp_path, monkeypatch
):
    def refuse(path, *args, **kwargs):
        if "sub-01" in str(path):
            raise OSError(f"{path}: no space left")

    monkeypatch.setattr("softoverlap.app.train.files.write_markups", refuse)
    output = tmp_path / "found"
    text = run("detect", checkpoint, data, "--output", output, "--device", "cpu", status=1)
    assert "1 scan done, 1 failed" in text
    assert "no space left" in (output / "scans.csv").read_text()


def test_a_damaged_header_is_noted_and_the_others_go_on(data, checkpoint, tmp_path):
    path = data / "images" / "sub-01.nii.gz"
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[123] = 5
    path.write_bytes(gzip.compress(bytes(raw)))
    output = tmp_path / "found"
    text = run("detect", checkpoint, data, "--output", output, "--device", "cpu", status=1)
    assert "1 scan done, 1 failed" in text
    assert "sub-01.nii.gz must have a unit of length" in text


def test_patients_that_the_names_do_not_tell_are_shown(data, tmp_path):
    for room in ("images", "masks"):
        for number, case in enumerate(("sub-01", "sub-02"), start=1):
            old = data / room / f"{case}.nii.gz"
            old.rename(data / room / f"scan{number}_pat03.nii.gz")
    line = (
        "2 cases of 2 patients: scan1, scan2; if this is wrong, list the patients in patients.csv"
    )
    assert line in run("train", "--data", data, "--dry-run")
    assert line in run("train", "--data", data, *tiny("--output", tmp_path / "out"))


def test_one_scan_given_twice_is_read_once(data, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(data)
    output = tmp_path / "found"
    twice = ("images/sub-01.nii.gz", data / "images" / "sub-01.nii.gz")
    assert "1 scan done" in run("detect", checkpoint, *twice, "--output", output)


def test_an_interrupted_detection_keeps_what_is_done_and_says_so(
    data, checkpoint, tmp_path, monkeypatch
):
    from softoverlap.app.train import files

    find, output = files.detect, tmp_path / "found"
    calls = []

    def interrupted(model, image):
        calls.append(image)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return find(model, image)

    monkeypatch.setattr(files, "detect", interrupted)
    text = run("detect", checkpoint, data, "--output", output, "--device", "cpu", status=130)
    assert "interrupted: 1 of 2 scans are done" in text
    assert "checkpoint" not in text
    rows = list(csv.DictReader((output / "scans.csv").open()))
    assert [row["case"] for row in rows] == ["sub-01"]


def test_an_interruption_before_the_training_promises_no_checkpoint(data, tmp_path, monkeypatch):
    def interrupted(case, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("softoverlap.app.train.reading.load_case", interrupted)
    text = run("train", "--data", data, *tiny("--output", tmp_path / "out"), status=130)
    assert "interrupted" in text
    assert "checkpoint" not in text


def test_the_threshold_is_chosen_on_scans_held_out_and_kept_with_checkpoint_and_boxes(
    data, tmp_path
):
    output = tmp_path / "out"
    text = run("train", "--data", data, *tiny("--output", output, "--at-score", "fp:1"))
    assert "score threshold: " in text
    path = output / "checkpoint.pt"
    assert finding_in(path)["threshold_rule"] == "fp:1 on 1 validation scan"
    validation = json.loads((output / "validation.json").read_text())
    assert validation["point"]["rule"] == "fp:1"
    assert validation["point"]["fps_per_scan"] <= 1
    resume = ("train", "--data", data, *tiny("--output", output, "--resume"))
    assert "reading" not in run(*resume, "--at-score", "fp:1")
    text = run(*resume, "--at-score", "0.03")  # no step is left, and another threshold is wanted
    assert "score threshold: 0.03 (given)" in text
    found = tmp_path / "found"
    text = run("detect", path, data, "--output", found, "--device", "cpu")
    boxes = read_boxes(found / "sub-01_boxes.json")
    assert (boxes.score_threshold, boxes.threshold_rule) == (0.03, "given")
    assert boxes.smallest_anchor == (5.0, 5.0, 5.0)
    above, below = int(boxes.above.sum()), int((~boxes.above).sum())
    assert re.search(rf"sub-01\.nii\.gz: {above} box(es)? at or above 0\.03, {below} cand", text)


def test_without_scans_held_out_the_threshold_is_called_one_of_training_scans(data, tmp_path):
    run("train", "--data", data, *tiny("--output", tmp_path / "out", "--validation", 0))
    rule = finding_in(tmp_path / "out" / "checkpoint.pt")["threshold_rule"]
    assert rule == "f1 on 2 training scans"


def test_a_wrong_rule_for_the_threshold_is_named(data, tmp_path):
    arguments = ("train", "--data", data, *tiny("--output", tmp_path / "out"))
    text = run(*arguments, "--at-score", "best", status=2)
    assert '--at-score must be a score threshold, "f1" or "fp:" and a number' in text
    assert not (tmp_path / "out").exists()


def test_results_lie_on_the_grid_of_a_scan_without_labels(checkpoint, tmp_path):
    affine = torch.tensor([[0.0, -2, 0, 5], [1.5, 0, 0, -3], [0, 0, 1, 2], [0, 0, 0, 1]])
    image = torch.rand(12, 20, 18, generator=torch.Generator().manual_seed(0))
    save_nifti(tmp_path / "scan.nii", image, affine)
    output = tmp_path / "found"
    run("detect", checkpoint, tmp_path / "*.nii", "--output", output, "--device", "cpu")
    heat_map = load_nifti(output / "scan_heatmap.nii.gz")
    assert heat_map.data.shape == image.shape
    assert torch.equal(heat_map.affine, affine.double())
    boxes = read_boxes(output / "scan_boxes.json")
    assert boxes.affine is not None
    assert torch.equal(boxes.affine, affine.double())
    rows = list(csv.DictReader((output / "detections.csv").open()))
    assert len(rows) == len(boxes.boxes)


def test_existing_results_and_scans_are_never_replaced_unasked(data, checkpoint, tmp_path):
    arguments = ("detect", checkpoint, data, "--output", tmp_path / "found", "--device", "cpu")
    run(*arguments)
    assert "must not exist yet" in run(*arguments, status=2)
    run(*arguments, "--overwrite")
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("a", "a_heatmap"):
        save_nifti(scans / f"{name}.nii.gz", torch.rand(16, 16, 16), torch.eye(4))
    before = (scans / "a_heatmap.nii.gz").read_bytes()
    text = run("detect", checkpoint, scans, "--output", scans, "--overwrite", status=2)
    assert "must not be replaced" in text
    assert (scans / "a_heatmap.nii.gz").read_bytes() == before


def test_overwriting_removes_what_an_earlier_table_lists(data, checkpoint, tmp_path):
    output = tmp_path / "found"
    arguments = ("--output", output, "--device", "cpu", "--overwrite")
    run("detect", checkpoint, data, *arguments)
    (output / "notes_boxes.json").write_text("mine")
    run("detect", checkpoint, data / "images" / "sub-02.nii.gz", *arguments)
    assert not list(output.glob("sub-01*"))
    assert len(list(output.glob("sub-02*"))) == 3
    assert (output / "notes_boxes.json").read_text() == "mine"


def test_a_scan_of_one_value_is_noted_and_has_no_boxes(checkpoint, tmp_path):
    spoil(tmp_path / "flat.nii.gz", 7)
    output = tmp_path / "found"
    scan = tmp_path / "flat.nii.gz"
    text = run("detect", checkpoint, scan, "--output", output, "--device", "cpu", "--score", 0)
    assert "flat.nii.gz: all voxels are 7: no boxes" in text
    (row,) = csv.DictReader((output / "scans.csv").open())
    assert (row["state"], row["boxes"], row["note"]) == ("ok", "0", "all voxels are 7: no boxes")
    assert len(read_boxes(output / "flat_boxes.json").boxes) == 0


def test_score_and_number_of_boxes_can_be_chosen(data, checkpoint, tmp_path):
    def boxes(*options):
        run("detect", checkpoint, data, "--output", tmp_path / "f", "--overwrite", *options)
        return list(csv.DictReader((tmp_path / "f" / "detections.csv").open()))

    every = boxes("--score", 0)
    middle = sorted(float(row["score"]) for row in every)[len(every) // 2]
    assert 0 < len(boxes("--score", middle)) < len(every)
    assert all(float(row["score"]) >= middle for row in boxes("--score", middle))
    assert len(boxes("--score", 0, "--max-boxes", 2)) == 4


def test_arguments_in_the_wrong_place_are_named_in_one_line(data, checkpoint, tmp_path):
    scan = data / "images" / "sub-01.nii.gz"
    text = run("detect", scan, scan, "--output", tmp_path / "found", status=2)
    assert "CHECKPOINT must be a file of `softoverlap train`, got the scan" in text
    assert "weights_only" not in text
    for command in (("detect", checkpoint, scan), ("demo",), ("phantoms",)):
        text = run(*command, "--output", scan, status=2)
        assert "--output must be a folder, got the file" in text


def test_the_version_is_told():
    from softoverlap import __version__

    assert run("--version").strip() == f"softoverlap {__version__}"


def test_wrong_sources_and_checkpoints_are_named(data, checkpoint, tmp_path):
    output = ("--output", tmp_path / "found", "--device", "cpu")
    assert "found none in" in run("detect", checkpoint, tmp_path / "no*", *output, status=2)
    assert "must be a file" in run("detect", tmp_path / "no.pt", data, *output, status=2)
    checkpoint.write_bytes(gzip.compress(b"not a checkpoint"))
    assert "readable checkpoint" in run("detect", checkpoint, data, *output, status=2)
    checkpoint.write_bytes(b"cfoo\nbar\n.")
    text = run("detect", checkpoint, data, *output, status=2)
    assert len([line for line in text.splitlines() if line.strip()]) == 1


@pytest.mark.slow
def test_ctrl_c_keeps_a_checkpoint_and_resume_goes_on_from_it(data, tmp_path):
    output = tmp_path / "out"
    arguments = ["train", "--data", data, "--output", output, "--patch", 16, "--batch", 1]
    arguments += ["--steps", 400, "--device", "cpu", "--validation", 0]
    command = [*COMMAND, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=takes_interrupts,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:  # the first tenth is over
            if line.startswith("training: step"):
                break
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "checkpoint.pt is kept, and --resume continues from it" in errors
    step = read_checkpoint(output / "checkpoint.pt")["step"]
    assert 40 <= step < 400
    text = run(*arguments, "--resume")
    assert "step 400/400" in text
    assert read_checkpoint(output / "checkpoint.pt")["step"] == 400


@pytest.mark.slow
def test_what_was_trained_on_a_folder_finds_lesions_in_scans_without_labels(phantoms, tmp_path):
    text = run(
        "train", "--data", phantoms, "--output", tmp_path / "run", "--patch", 32, "--batch", 2,
        "--steps", 40, "--device", "cpu", "--validation", 0.25,
    )  # fmt: skip
    assert "3 scans to train on, 1 to validate on" in text
    assert (tmp_path / "run" / "validation.json").exists()
    model = load_checkpoint(tmp_path / "run" / "checkpoint.pt", device="cpu")
    assert model.spacing == pytest.approx((1.0, 1.0, 1.5), abs=1e-4)
    unlabelled, output = tmp_path / "unlabelled", tmp_path / "found"
    unlabelled.mkdir()
    for path in (phantoms / "images").iterdir():
        (unlabelled / path.name).write_bytes(path.read_bytes())
    start = time.monotonic()
    run(
        "detect", tmp_path / "run" / "checkpoint.pt", unlabelled, "--output", output,
        "--device", "cpu",
    )  # fmt: skip
    assert time.monotonic() - start < 120
    for index in range(4):
        assert load_nifti(output / f"phantom-000{index}_heatmap.nii.gz").data.max() > 0
        assert read_boxes(output / f"phantom-000{index}_boxes.json").scores is not None
        assert (output / f"phantom-000{index}_boxes.mrk.json").stat().st_size > 0
