"""`train` on data sets of other tools: what a dry run tells, what is refused, and folds."""

from __future__ import annotations

import json
import re

import pytest
import torch
from typer.testing import CliRunner

from softoverlap.app.cli import app
from softoverlap.app.cli.data_sets import say_split
from softoverlap.images import find_cases, read_boxes, read_splits, split_of
from tests.support import data_sets
from tests.support.data_sets import bids, box_list, decathlon, entry, nnunet

TINY = ("--patch", 8, "--batch", 1, "--steps", 1, "--device", "cpu")


def run(*arguments, status=0):
    """What `train` printed, on one line."""
    result = CliRunner().invoke(app, ["train", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return " ".join(result.output.split())


def one_class(folder):
    """nnU-Net's layout with one channel and one class."""
    return nnunet(
        folder,
        channels=1,
        channel_names={"0": "T1"},
        labels={"background": 0, "lesion": [1, 2]},
    )


@pytest.mark.parametrize(
    ("make", "title", "channels", "classes"),
    [
        (nnunet, "nnU-Net", "T1, FLAIR", "edema, core"),
        (decathlon, "Medical Segmentation Decathlon", "T1, FLAIR", "edema, core"),
        (bids, "BIDS", "FLAIR, T1w", "lesion"),
    ],
)
def test_a_dry_run_tells_what_a_data_set_holds(tmp_path, make, title, channels, classes):
    text = run("--data", make(tmp_path), "--dry-run")
    assert f"layout: {title} channels: {channels}; classes: {classes} 3 cases of 2 p" in text
    assert "2 channels of 12 x 10 x 8 voxels of 1 x 1 x 1 mm, 3 lesions" in text
    assert "9 lesions at --threshold 0.5" in text
    assert ("edema: 6 lesions core: 3 lesions" in text) == ("edema" in classes)
    assert "0 files not paired" in text
    assert re.search(r"[36] lesions to train on, [36] to validate on warning: only [36] les", text)


def test_a_dry_run_tells_every_problem(tmp_path):
    nnunet(tmp_path, numTraining=4)
    (tmp_path / "imagesTr" / "pat-1_a_0001.nii.gz").unlink()
    (tmp_path / "labelsTr" / "pat-1_b.nii.gz").write_bytes(b"no image")
    text = run("--data", tmp_path, "--dry-run", status=1)
    assert "warning: " in text
    assert "dataset.json says numTraining 4, but 2 cases are complete" in text
    assert "pat-1_b: patient pat-1, label map, CANNOT BE USED:" in text
    assert "pat-1_b.nii.gz must be a readable NIfTI file" in text
    assert "pat-1_a_0000.nii.gz: case pat-1_a lacks channel 1 (FLAIR)" in text
    assert "1 of 2 cases cannot be used" in text


@pytest.mark.parametrize(
    ("make", "case", "files"),
    [
        (nnunet, "pat-1_a", "imagesTr/pat-1_a_0001*"),
        (bids, "sub-01_ses-2", "sub-01/ses-2/*/*FLAIR*"),
    ],
)
def test_a_case_without_a_channel_fails_a_dry_run_and_is_named_by_a_training(
    tmp_path, capsys, make, case, files
):
    (lost,) = make(tmp_path).glob(files)
    lost.unlink()
    text = run("--data", tmp_path, "--dry-run", status=1)
    assert f"left out: case {case} lacks channel" in text
    table = find_cases(tmp_path)
    say_split(table, split_of(table, tmp_path, validation=0.5))
    assert f"warning: case {case} lacks channel" in capsys.readouterr().out


def test_several_channels_and_classes_train(tmp_path):
    nnunet(tmp_path / "a")
    more = ("--set", "lowest_score=0.0")  # so that a network of one step finds boxes
    text = run("--data", tmp_path / "a", "--output", tmp_path / "out", *TINY, *more)
    assert "9 lesions" not in text
    settings = torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)["settings"]
    assert settings["channel_names"] == ["T1", "FLAIR"]
    assert (settings["class_names"], settings["class_values"]) == (["edema", "core"], [1, 2])
    files = (tmp_path / "out" / "evaluation" / "boxes").iterdir()
    assert {label for path in files for label in read_boxes(path).labels.tolist()} == {1, 2}


def test_folds_are_drawn_once_for_all_and_written(tmp_path):
    one_class(tmp_path / "a")
    held = []
    for fold in range(2):
        output = tmp_path / f"fold{fold}"
        arguments = ("--data", tmp_path / "a", "--folds", 2, "--fold", fold, "--seed", fold)
        text = run(*arguments, "--output", output, *TINY)
        assert f"fold {fold} of 2, drawn by patient" in text
        cases = find_cases(tmp_path / "a").cases
        folds = read_splits(output / "folds" / "splits_final.json", cases)
        held += folds[fold].validation
        (own,) = read_splits(output / "splits_final.json", cases)
        assert set(own.train) == set(folds[fold].train)
        assert (output / "validation.json").exists()
    assert sorted(held) == sorted(data_sets.NAMES)


def test_a_dry_run_takes_files_and_single_settings_as_the_training_does(tmp_path):
    one_class(tmp_path / "a")
    mine = tmp_path / "mine.yaml"
    mine.write_text("threshold: 0.25\nfolds: 2\n")
    dry = ("--data", tmp_path / "a", "--dry-run")
    text = run(*dry, "--config", mine)
    assert "at --threshold 0.25" in text
    assert "fold 0 of 2, drawn by patient" in text
    assert "images as sub-*/anat" in run(*dry, "--set", "layout=bids", status=2)
    assert "got no_such" in run(*dry, "--set", "no_such=3", status=2)
    assert "none.yaml must be a file of settings" in run(
        *dry, "--config", tmp_path / "none.yaml", status=2
    )


def test_folds_of_the_data_set_are_used(tmp_path):
    one_class(tmp_path / "a")
    (tmp_path / "a" / "labelsTr" / "more.nii.gz").touch()
    splits = tmp_path / "a" / "splits_final.json"
    splits.write_text(json.dumps([{"train": ["pat-2_a"], "val": ["pat-1_a"]}]))
    output = ("--output", tmp_path / "out", *TINY)
    text = run("--data", tmp_path / "a", "--fold", 0, *output)
    assert f"fold 0 of 1, as in {splits} warning: 1 case in neither part" in text
    assert "1 scan to train on, 1 to validate on; 1 file not paired (see --dry-run)" in text
    assert not (tmp_path / "out" / "folds").exists()
    dry = ("--data", tmp_path / "a", "--dry-run")
    assert "1 scan to train on, 1 to validate on" in run(*dry, "--fold", 0)
    assert "--folds must be that of" in run(*dry, "--folds", 5, "--fold", 0, status=2)
    assert "--fold must lie in [0, 1), got 3" in run(*dry, "--fold", 3, status=2)
    assert "--folds needs --fold" in run(*dry, "--folds", 5, status=2)
    splits.write_text(json.dumps([{"train": ["pat-1_b"], "val": ["pat-1_a"]}]))
    assert "a patient in both parts of fold 0, got pat-1" in run(*dry, "--fold", 0, status=2)


def test_a_list_of_boxes_trains_and_validates_on_its_own_parts(tmp_path):
    box_list(tmp_path, training=[entry("a"), entry("b")], validation=[entry("c")])
    arguments = ("--data", tmp_path / "list.json", "--images", tmp_path / "scans")
    text = run(*arguments, "--dry-run")
    assert "layout: MONAI's detection list channels: one; classes: lesion" in text
    assert "a: patient a, boxes, 12 x 10 x 8 voxels of 1 x 1 x 1 mm, 1 lesion" in text
    text = run(*arguments, "--output", tmp_path / "out", *TINY)
    assert "2 scans to train on, 1 to validate on" in text


def test_what_a_list_or_a_folder_lacks_is_told_by_its_option(tmp_path):
    box_list(tmp_path, training=[entry("a")])
    (tmp_path / "list.json").write_text(json.dumps({"training": [entry("a")]}))
    text = run("--data", tmp_path, "--dry-run", status=2)
    assert "does not say in which frame its boxes are: name it with --frame" in text
    nnunet(tmp_path)
    (tmp_path / "sub-01").mkdir()
    assert "choose with --layout" in run("--data", tmp_path, "--dry-run", status=2)
    text = run("--data", tmp_path, "--layout", "nnunet", "--frame", "RAS", "--dry-run", status=2)
    assert "--frame goes with a list of boxes, got nnU-Net" in text
