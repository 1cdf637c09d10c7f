"""The command: help, dry run, bad input in one line, interruption, and the path end to end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

from softoverlap.app.cli import app
from softoverlap.app.cli.console import TrainingBar
from softoverlap.app.train import Progress
from softoverlap.app.train.folder import RunFolder
from softoverlap.for_monai import read_checkpoint
from softoverlap.images import save_nifti, write_phantoms
from tests.support.processes import takes_interrupts

COMMAND = [sys.executable, "-m", "softoverlap"]


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


def tiny(*more):
    """Options of the shortest training."""
    return ["--patch", 16, "--batch", 1, "--steps", 2, "--device", "cpu", *more]


def finding_in(path):
    """The score threshold in a checkpoint, and its rule."""
    return read_checkpoint(path)["finding"]


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
        (("train",), "a network, detector or preparation of your own goes with it"),
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
    assert "warning: cases must be of two patients at least" in text
    assert "or pass --validation 0" in text


def spoil(path, value):
    save_nifti(path, torch.full((16, 16, 16), float(value)), torch.eye(4))


def test_a_dry_run_opens_every_case_and_fails_if_one_cannot_be_used(data):
    text = run("train", "--data", data, "--dry-run")
    assert "16 x 16 x 16 voxels of 1 x 1 x 1 mm, 1 lesion" in text
    assert "2 lesions at --threshold 0.5" in text
    assert "1 scan to train on, 1 to validate on" in text
    assert "1 lesion to train on, 1 to validate on" in text
    assert "warning: only 1 lesion is held out, so each moves sensitivity by 100 points" in text
    assert "(--validation), or train all folds (--folds)" in text
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
    assert "2 of 2 cases cannot be used, see above: remove or mend them" in text
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:1 of 3 scans could not be read")
def test_damaged_cases_are_left_out_if_asked_and_listed(data, tmp_path):
    for room in ("images", "masks"):
        (data / room / "sub-03.nii.gz").write_bytes(b"no scan")
    arguments = ("train", "--data", data, *tiny("--output", tmp_path / "out", "--validation", 0))
    text = run(*arguments, status=2)
    assert "1 of 3 cases cannot be used, see above: remove or mend it, or leave it out" in text
    assert "(--skip-damaged)" in text
    text = run(*arguments, "--skip-damaged", status=1)
    assert "sub-03.nii.gz must be a readable NIfTI file" in text
    assert "2 lesions in 2 scans to train on" in text
    assert f"1 case left out, see {tmp_path / 'out' / 'failed.csv'}" in text
    assert RunFolder(tmp_path / "out").damaged == ("sub-03",)
    assert "pass --skip-damaged as then" in run(*arguments, "--resume", status=2)
    assert "already 2/2 steps" in run(*arguments, "--resume", "--skip-damaged", status=1)


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
    arguments = ("train", "--data", data, *tiny("--output", tmp_path / "out"))
    text = run(*arguments, "--minutes", 1e-5)
    assert "stopped by --minutes at 1 of 2 steps" in text
    text = run(*arguments, "--minutes", 1e-5, "--resume")
    assert "minutes, all of which --minutes counts: pass more to continue" in text


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


def test_without_scans_held_out_the_threshold_is_called_one_of_training_scans(data, tmp_path):
    text = run("train", "--data", data, *tiny("--output", tmp_path / "out", "--validation", 0))
    assert "evaluation holds detections in scans that were trained on" in text
    rule = finding_in(tmp_path / "out" / "checkpoint.pt")["threshold_rule"]
    assert rule == "f1 on 2 training scans"


def test_a_wrong_rule_for_the_threshold_is_named(data, tmp_path):
    arguments = ("train", "--data", data, *tiny("--output", tmp_path / "out"))
    text = run(*arguments, "--at-score", "best", status=2)
    assert '--at-score must be a score threshold, "f1" or "fp:" and a number' in text
    assert not (tmp_path / "out").exists()


def test_the_version_is_told():
    from softoverlap import __version__

    assert run("--version").strip() == f"softoverlap {__version__}"


@pytest.mark.slow
def test_ctrl_c_keeps_a_checkpoint_and_resume_goes_on_from_it(data, tmp_path):
    output = tmp_path / "out"
    arguments = ["train", "--data", data, "--output", output, "--patch", 16, "--batch", 1]
    arguments += ["--steps", 200, "--device", "cpu", "--validation", 0]
    arguments += ["--set", "epoch_steps=10"]
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
    assert re.search(r"checkpoint_epoch=\d+\.pt is kept, and --resume continues from it", errors)
    assert not (output / "checkpoint.pt").exists()
    text = run(*arguments, "--resume")
    assert "step 200/200" in text
    assert read_checkpoint(output / "checkpoint.pt")["training"]["steps"] == 200


@pytest.mark.slow
def test_what_was_trained_on_a_folder_finds_lesions_in_scans_without_labels(phantoms, tmp_path):
    text = run(
        "train", "--data", phantoms, "--output", tmp_path / "run", "--patch", 32, "--batch", 2,
        "--steps", 40, "--device", "cpu", "--validation", 0.25,
    )  # fmt: skip
    assert "3 scans to train on, 1 to validate on" in text
    assert (tmp_path / "run" / "validation.json").exists()
