"""The library names arguments; the command line says its own names for them, and only for them."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from softoverlap._checks import refusal
from softoverlap.app.cli import (
    app,
    console,
    converting,
    detecting,
    flags,
    images,
    scoring,
    training,
)
from softoverlap.app.cohort import ScorePair, ScoreSettings, find_pairs, score_case
from softoverlap.app.train import pick_device, training_config
from softoverlap.images import as_probabilities, find_files, read_boxes, save_nifti


def run(*arguments, status=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def running(monkeypatch):
    """Make a command the running one."""
    return lambda command: monkeypatch.setattr(flags, "_running", command.__wrapped__)


@pytest.mark.parametrize(
    ("command", "text", "expected"),
    [
        (scoring.score, "raise `halo=`", "raise --halo"),
        (scoring.score, "(`truth_values=`), or", "(--truth-values), or"),
        (scoring.score, "choose `geometry='resample'` if", "choose --geometry resample if"),
        (scoring.score, "pass `overwrite=True` or", "pass --overwrite or"),
        (scoring.score, "share with `pred=`, got", "share with PRED, got"),
        (training.train, "`minutes=` ends", "--minutes ends"),
        (training.train, "and `resume=True` continues", "and --resume continues"),
        (detecting.demo, "and `resume=True` continues", "and --resume continues"),
        (converting.convert, "name it with `format=`, one", "name it with --from, one"),
        (converting.convert, "by `score_table=`", "by --scores"),
        (images.inspect, "name it with `image=`", "name it with --image"),
        (scoring.score, "with `frame=`, RAS", "with `softoverlap convert --frame`, RAS"),
    ],
)
def test_an_argument_becomes_the_option_of_the_running_command(running, command, text, expected):
    running(command)
    assert flags.in_flags(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "values must hold one DICOM series",  # a folder of this name
        "scans/`halo=`.nii.gz must be an image",
        "`halo=`.nii.gz must be an image",
        "halo=`halo`.nii must be an image",
        "`unknown=` is no option of score",
        "`softoverlap score` writes it",
    ],
)
def test_other_text_stays_as_it_is(running, text):
    running(scoring.score)
    assert flags.in_flags(text) == text
    assert console.message_of(ValueError(text)) == text


def test_without_a_command_arguments_keep_their_names():
    assert flags.in_flags("raise `halo=`") == "raise `halo=`"
    assert console.message_of(refusal("halo", "must be low")) == "halo must be low"


def test_the_error_of_an_argument_starts_with_its_option(running):
    running(training.train)
    error = refusal("patch_size", "must be a multiple of 8, got `patch_size`")
    assert str(error) == "patch_size must be a multiple of 8, got `patch_size`"
    assert console.message_of(error) == "--patch must be a multiple of 8, got `patch_size`"
    running(images.fuse)  # which has no such option
    assert console.message_of(error) == str(error)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("score a b --output o --threshold 2", "--threshold must lie in (0, 1], got 2.0"),
        ("score a b --output o --halo 0", "--halo must lie in (0, 1], got 0.0"),
        ("score a b --output o --min-mm3 -1", "--min-mm3 must be at least 0"),
        ("score a b --output o --truth-values odd", "--truth-values must be one of"),
        ("score a b --output o --labels 1,1", "--labels must be different"),
        ("score none b --output o", "PRED must exist, found no none"),
        ("train --data . --patch 7", "--patch must be a multiple of 8"),
        ("train --data . --minutes -1", "--minutes must be above 0"),
        ("train --data . --learning-rate 0", "--learning-rate must be above 0"),
        ("train --data . --lr 0", "--learning-rate must be above 0"),
        ("demo --output o --patch 7", "--patch must be a multiple of 8"),
        ("fuse a.nii b.nii --output o.nii --method odd", "--method must be one of"),
        ("fuse a.nii b.nii --output o.nii --threshold 0", "--threshold must lie in (0, 1]"),
        ("inspect a.nii --threshold 0", "--threshold must lie in (0, 1]"),
        ("inspect no*.nii", "FILES must be files ending in"),
    ],
)
def test_each_command_names_its_own_option(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    text = run(*arguments.split(), status=2)
    assert text.startswith(f"error: {words}")
    assert len(text.splitlines()) == 1


@pytest.mark.bad_input
def test_python_gets_the_names_of_its_arguments(tmp_path):
    for make, words in (
        (lambda: ScoreSettings(threshold=2.0), "threshold must lie in (0, 1], got 2.0"),
        (lambda: ScoreSettings(truth_values="odd"), "truth_values must be one of"),
        (lambda: training_config("d", "o", settings={"threshold": 0}), "threshold must lie in (0,"),
        (lambda: pick_device("abacus"), "device must be auto, cpu"),
        (lambda: find_pairs(tmp_path / "none", tmp_path), "pred must exist, found no"),
        (lambda: find_files([tmp_path / "*.nii"], [".nii"], "images"), "images must be files"),
    ):
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            make()
        assert str(caught.value).startswith(words)


@pytest.mark.bad_input
def test_how_to_read_values_is_said_in_the_words_of_the_caller(tmp_path):
    mask = torch.tensor([0.0, 50.5, 99.0]).reshape(3, 1, 1)
    with pytest.raises(ValueError, match=r"`values=`: .*`label=`"):
        as_probabilities(mask)
    path, good = tmp_path / "a.nii", tmp_path / "b.nii"
    save_nifti(path, mask, torch.eye(4))
    save_nifti(good, mask.clamp(0, 1), torch.eye(4))
    with pytest.raises(ValueError, match=r"a\.nii must hold .*`truth_values=`: .*`labels=`"):
        score_case(ScorePair("a", good, (path,)))
    assert "--values: " in run("boxes", path, "--output", tmp_path / "o", status=1)
    assert "--values: " in run("score", path, good, "--output", tmp_path / "p", status=1)
    text = run("score", good, path, "--output", tmp_path / "q", status=1)
    assert "--truth-values: " in text
    assert "--labels" in text
    assert "`" not in text


@pytest.mark.bad_input
def test_a_file_that_does_not_say_its_format_is_explained_in_each_command(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("{}")
    with pytest.raises(ValueError, match="name it with `format=`, one of json"):
        read_boxes(path)
    assert "name it with --from, one of" in run("convert", path, tmp_path / "b.csv", status=1)
    text = run("inspect", path, status=1)
    assert "name it with `softoverlap convert --from`, one of" in text


def test_a_warning_names_the_option_too(running, capsys):
    running(scoring.score)
    console.one_line_warning("a.nii is a haze; raise `halo=`")
    assert capsys.readouterr().err == "warning: a.nii is a haze; raise --halo\n"
