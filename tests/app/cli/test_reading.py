"""What commands that read files have in common: limits, and one line for a damaged file."""

from __future__ import annotations

import csv
import inspect
import shutil

import nibabel
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from softoverlap.app.cli import app
from softoverlap.app.cohort import ProcessPool, ScorePair, score_cohort
from softoverlap.images import read_limits, save_nifti
from tests.support.itk_headers import meta, nrrd

READING = (
    *("calibrate", "convert", "detect", "fuse", "inspect", "lesions", "plan", "report", "score"),
    "train",
)


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "200"})


@pytest.fixture
def cohort(tmp_path):
    """Three cases, of which the predictions are MetaImage, NIfTI and NRRD."""
    mask = np.zeros((6, 5, 4), np.uint8)
    mask[1:3, 1:3, 1:3] = 1
    for side in ("pred", "truth"):
        (tmp_path / side).mkdir()
        for case in "abc":
            save_nifti(tmp_path / side / f"{case}.nii", torch.from_numpy(mask), torch.eye(4))
    for case, content in (("a.mha", meta(mask.tobytes())), ("c.nrrd", nrrd(mask.tobytes()))):
        (tmp_path / "pred" / case[0]).with_suffix(".nii").unlink()
        (tmp_path / "pred" / case).write_bytes(content)
    return tmp_path


def errors(folder):
    with (folder / "cases.csv").open(newline="") as file:
        return {row["case"]: row["error"] for row in csv.DictReader(file)}


@pytest.mark.parametrize("name", READING)
def test_every_command_that_reads_files_has_the_limits(name):
    command = next(each for each in app.registered_commands if each.callback.__name__ == name)
    parameters = inspect.signature(command.callback).parameters
    assert list(parameters)[-2:] == ["read_timeout", "max_memory"]
    assert all(parameter.annotation is not None for parameter in parameters.values())


def test_no_other_command_has_them():
    names = {each.callback.__name__ for each in app.registered_commands}
    assert names - set(READING) == {"demo", "export", "nnunet", "phantoms"}


def test_a_damaged_header_costs_one_case_of_a_serial_run_and_every_time_anew(cohort):
    (cohort / "pred" / "a.mha").write_bytes(meta(NDims="-3"))
    for _ in range(2):
        done = run("score", cohort / "pred", cohort / "truth", "--output", cohort / "out",
                   "--geometry", "index")  # fmt: skip
        assert done.exit_code == 1
        found = errors(cohort / "out")
        assert "a.mha must be a readable MHA file, got: NDims -3" in found["a"]
        assert found["b"] == ""


def test_the_error_of_a_limit_has_file_need_limit_and_flag(cohort):
    done = run("inspect", cohort / "pred" / "a.mha", "--max-memory", "100B")
    assert done.exit_code == 1
    assert "a.mha needs 600 bytes of memory, above the limit of 100 bytes" in done.output
    assert "raise it with --max-memory" in done.output


@pytest.mark.parametrize(
    ("flag", "value", "words"),
    [
        (
            "--max-memory",
            "plenty",
            "--max-memory must be a size with a unit, such as 8GB or 500MB, got 'plenty'",
        ),
        ("--max-memory", "8", "--max-memory must be a size with a unit"),
        ("--read-timeout", "0", "--read-timeout must be seconds above 0, got 0.0"),
    ],
)
def test_a_limit_that_is_none_is_bad_input(cohort, flag, value, words):
    done = run("inspect", cohort / "pred" / "a.mha", flag, value)
    assert done.exit_code == 2
    assert words in done.output


@pytest.mark.slow
def test_limits_reach_worker_processes(cohort):
    truth = cohort / "truth" / "a.nii"
    pairs = [ScorePair("a", cohort / "pred" / "a.mha", (truth,))]
    with read_limits(max_memory="100B"):
        result = score_cohort(pairs, cohort / "out", runner=ProcessPool(2))
    assert "above the limit of 100 bytes" in result.results[0].error


def test_files_that_cannot_be_read_are_a_line_each_and_stop_no_other(cohort):
    folder = cohort / "pred"
    (folder / "bad.npz").write_bytes(b"PK\x03\x04" + bytes(50))
    (folder / "self.nii").symlink_to("self.nii")
    (folder / "s.dcm").write_bytes(bytes(200))
    names = ("bad.npz", "self.nii", "s.dcm", "b.nii")
    done = run("inspect", *(folder / name for name in names))
    assert done.exit_code == 1
    assert "3 of 4 files cannot be read" in done.output
    assert "Traceback" not in done.output
    assert "readable npz" in done.output
    assert "name the folder with all slices" in done.output
    assert "6 x 5 x 4 voxels" in done.output


def test_labels_that_were_stored_scaled_are_told_by_inspect(tmp_path):
    labels = np.zeros((6, 5, 4))
    labels[1:3, 1:3, 1:3], labels[4, 4, 3] = 1, 4
    labels[4, 1:3, 1] = 2
    image = nibabel.Nifti1Image(labels, np.eye(4))
    image.header.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "map.nii.gz")
    done = run("inspect", tmp_path / "map.nii.gz")
    assert done.exit_code == 0
    assert "labels: whole numbers" in done.output
    assert "stored   scaled, and rounded: 4" in done.output
    assert "percent" not in done.output


def test_score_names_the_formats_where_the_sides_differ(cohort):
    shutil.rmtree(cohort / "out", ignore_errors=True)
    done = run("score", cohort / "pred", cohort / "truth", "--output", cohort / "out",
               "--geometry", "index")  # fmt: skip
    words = "images of PRED end in .mha, .nii, .nrrd, those of TRUTH in .nii"
    assert words in done.output
