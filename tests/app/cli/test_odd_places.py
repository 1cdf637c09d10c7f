"""Links to themselves, a full disk, names that are formulas, a package that is not installed."""

from __future__ import annotations

import csv
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from typer.main import get_command

import softoverlap
from softoverlap.app.cli import app
from softoverlap.app.train import write_checkpoint
from softoverlap.images import read_boxes, read_table, save_nifti, write_phantoms
from tests.support.checkpoints import small_detector
from tests.support.full_disk import full_disk

COMMAND = get_command(app)


def run(*arguments):
    """Status and output; an error that escaped the command is an error of the test."""
    result = CliRunner().invoke(COMMAND, [str(argument) for argument in arguments])
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert "Traceback" not in result.output
    return result.exit_code, result.output


def write_mask(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = torch.zeros(12, 10, 8, dtype=torch.uint8)
    mask[2:5, 2:5, 2:5] = 1
    save_nifti(path, mask, torch.eye(4))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Two sides of one case, a training folder, and links to themselves with every suffix."""
    monkeypatch.chdir(tmp_path)
    for path in ("p/a.nii", "t/a.nii", "d/images/a.nii", "d/raters/a_rater1.nii"):
        write_mask(tmp_path / path)
    for end in (
        "",
        ".nii",
        ".nii.gz",
        ".json",
        ".csv",
        ".mrk.json",
        ".npz",
        ".nrrd",
        ".mhd",
        ".pt",
    ):
        os.symlink(f"loop{end}", f"loop{end}")
    os.symlink("round", "about")
    os.symlink("about", "round")
    return tmp_path


LOOPS = [
    *([command, f"loop{end}", *more]
      for end in ("", ".nii", ".nii.gz", ".json", ".csv", ".mrk.json", ".npz", ".nrrd", ".mhd")
      for command, *more in (
          ("inspect",), ("convert", "x.json"), ("boxes", "--output", "b", "--overwrite"),
          ("score", "t", "--output", "o"))),
    ["inspect", "about"],
    ["score", "p", "loop", "--output", "o"],
    ["score", "p", "about", "--output", "o"],
    ["score", "p", "t", "--output", "loop"],
    ["score", "p", "t", "--output", "loop/inside"],
    ["score", "--table", "loop.csv", "--output", "o"],
    ["score", "p", "t", "--patients", "loop.csv", "--output", "o"],
    ["score", "p", "t", "--cases", "loop.csv", "--output", "o"],
    ["score", "p/{case}.nii", "loop/{case}.nii", "--output", "o"],
    ["boxes", "p", "--output", "loop"],
    ["boxes", "p", "--output", "about/inside"],
    ["convert", "p/a.nii", "y.json", "--image", "loop.nii"],
    ["convert", "p/a.nii", "y.json", "--scores", "loop.csv"],
    ["convert", "p/a.nii", "loop", "--to", "json"],
    ["convert", "p/a.nii", "loop/y.json"],
    ["inspect", "p/a.nii", "--csv", "loop/x.csv"],
    ["inspect", "p/a.nii", "--image", "loop.nii", "--picture", "x.png"],
    ["fuse", "p/a.nii", "loop.nii", "--output", "f.nii"],
    ["fuse", "d", "--output", "loop"],
    ["detect", "loop.pt", "p", "--output", "o"],
    ["report", "loop"],
    ["phantoms", "--output", "loop", "--count", "1"],
    ["demo", "--output", "loop/inside"],
    ["train", "--data", "loop", "--output", "r"],
    ["train", "--data", "d", "--output", "loop/inside", "--validation", "0"],
    ["plan", "--data", "loop", "--output", "p.json"],
    ["plan", "--data", "d", "--output", "loop/inside.json"],
]  # fmt: skip


@pytest.mark.usefixtures("here")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("arguments", LOOPS, ids=" ".join)
def test_a_link_to_itself_is_one_line(arguments):
    status, output = run(*arguments)
    assert status in (1, 2)
    assert "loop" in output or "about" in output


def test_a_link_to_itself_in_a_folder_costs_its_case_alone(here):
    for side in "pt":
        os.symlink("b.nii", here / side / "b.nii")
        os.symlink(".", here / side / "self")
    status, output = run("score", "p", "t", "--output", "o")
    assert status == 1
    errors = {row["case"]: row["error"] for row in read_table("o/cases.csv").rows}
    assert not errors.pop("a")
    assert "is a link that leads to itself" in errors["b"]
    status, output = run("boxes", "p", "--output", "b")
    assert status == 1
    assert "1 mask boxed, 1 failed" in output


def test_a_link_to_itself_in_a_training_folder_is_named(here):
    for name in ("images/b.nii", "raters/b_rater1.nii"):
        os.symlink(Path(name).name, here / "d" / name)
    _, output = run("train", "--data", "d", "--output", "r", "--dry-run")
    assert "d/images/b.nii: a link that leads to itself" in output
    os.symlink("patients.csv", here / "d/patients.csv")
    status, output = run("train", "--data", "d", "--output", "r", "--dry-run")
    assert status == 2
    assert "patients.csv" in output


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "arguments",
    [
        ["score", "p", "t", "--output", "o"],
        ["boxes", "p", "--output", "b"],
        ["fuse", "p/a.nii", "t/a.nii", "--output", "f.nii"],
        ["fuse", "p/a.nii", "t/a.nii", "--output", "f.nii.gz"],
        ["inspect", "p/a.nii", "--csv", "i.csv"],
        ["inspect", "p/a.nii", "--picture", "i.png"],
        ["phantoms", "--output", "ph", "--count", "1"],
        *(["convert", "p/a.nii", f"x{end}", "--to", to, "--image", "p/a.nii"] for to, end in (
            ("json", ".json"), ("monai", ".json"), ("coco", ".json"), ("slicer", ".mrk.json"),
            ("nndetection", ".npz"), ("csv", ".csv"), ("labelmap", ".nii.gz"))),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_full_disk_is_one_line_and_leaves_nothing(here, arguments):
    files = set(here.rglob("*"))
    with full_disk(20):
        status, output = run(*arguments)
    assert status in (1, 2)
    assert "File too large: '" in output
    left = {path for path in set(here.rglob("*")) - files if path.is_file()}
    assert all(path.name == "scores.jsonl" and not path.read_bytes() for path in left)
    assert run(*arguments)[0] == 0  # as soon as there is room


def test_a_full_disk_keeps_the_page_and_the_tables_that_were_there(here):
    run("score", "p", "t", "--output", "o")
    run("report", "o")
    page = Path("o/report.html").read_bytes()
    with full_disk(1000):
        status, output = run("report", "o", "--overwrite")
    assert (status, Path("o/report.html").read_bytes()) == (2, page)
    assert "File too large: 'o/report.html'" in output
    assert not list(here.glob("o/.*"))


def test_a_full_disk_ends_a_training_in_one_line(here):
    write_phantoms(here / "data", 1, seed=0, shape=(32, 32, 32))
    settings = ["--patch", "16", "--batch", "1", "--validation", "0", "--steps", "1"]
    settings += ["--set", "pictures=0", "--set", "tensorboard=false"]
    with full_disk(100_000):
        status, output = run("train", "--data", "data", "--output", "r", *settings)
    assert status == 2
    assert output.splitlines()[-1].startswith("error: ")
    assert "is the disk full?" in output
    assert not Path("r/checkpoint.pt").exists()


def test_a_full_disk_keeps_the_checkpoint_that_was_there(here):
    model = small_detector()
    Path("r").mkdir()
    write_checkpoint("r/checkpoint.pt", model)
    before = Path("r/checkpoint.pt").read_bytes()
    with pytest.raises(OSError, match=r"File too large: 'r/checkpoint\.pt'"), full_disk(100):
        write_checkpoint("r/checkpoint.pt", model)
    assert Path("r/checkpoint.pt").read_bytes() == before


FORMULAS = [
    "=cmd|calc!A1",
    "@SUM(1)",
    "+1+1",
    "-1-1",
    "'=2",
    "<img src=x onerror=alert(1)>",
    "a;=b",
]


@pytest.mark.usefixtures("here")
def test_no_cell_of_a_result_runs_and_all_are_read_back():
    for side in "pt":
        for name in FORMULAS:
            write_mask(Path(side, f"{name}.nii"))
    write_mask(Path("p", "=lost.nii"))
    assert run("score", "p", "t", "--output", "o")[0] == 1
    assert run("boxes", "p", "--output", "b")[0] == 0
    assert run("inspect", "p", "--csv", "i.csv")[0] == 0
    for path in (*Path("o").glob("*.csv"), *Path("b").glob("*.csv"), Path("i.csv")):
        with path.open(newline="", encoding="utf-8") as stream:
            for cell in (cell for row in csv.reader(stream) for cell in row):
                assert not cell.startswith(("=", "@", "+", "\t", "\r"))
                assert not cell.startswith("-") or np.isfinite(float(cell))
    for path in ("o/cases.csv", "o/lesions.csv", "o/boxes.csv", "b/boxes.csv", "b/cases.csv"):
        assert {row["case"] for row in read_table(path).rows} >= set(FORMULAS)
    assert read_boxes("b/boxes.csv", case="=lost").boxes.shape == (1, 6)
    assert run("report", "o")[0] == 0
    page = Path("o/report.html").read_text()
    assert "<img src=x" not in page
    assert "=cmd|calc!A1" in page
    assert "&#x27;=cmd" not in page


@pytest.mark.usefixtures("here")
def test_a_table_of_patients_and_of_pairs_may_name_such_cases():
    write_mask(Path("p/=1.nii"))
    write_mask(Path("t/=1.nii"))
    Path("who.csv").write_text("case,patient\n'=1,'@ann\na,bob\n")
    Path("pairs.csv").write_text("case,pred,truth\n'=1,p/=1.nii,t/=1.nii\n")
    assert run("score", "p", "t", "--output", "o", "--patients", "who.csv")[0] == 0
    assert run("score", "--table", "pairs.csv", "--output", "q")[0] == 0
    assert read_table("q/cases.csv").rows[0]["case"] == "=1"


@pytest.mark.usefixtures("here")
def test_points_of_an_old_slicer_are_refused_with_a_word_on_what_is_read():
    Path("q").mkdir()
    Path("q/a.fcsv").write_text("# Markups fiducial file version = 4.11\n1,1,2,3\n")
    for arguments in (("q", "t"), ("q/a.fcsv", "t/a.nii"), ("p/a.nii", "q/a.fcsv")):
        status, output = run("score", *arguments, "--output", "o", "--overwrite")
        assert status in (1, 2)
        assert "ROIs are read" in output
        assert ".mrk.json" in output


@pytest.mark.usefixtures("here")
def test_a_tree_that_is_not_installed_knows_its_version(monkeypatch):
    def nothing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", nothing)
    monkeypatch.setattr(importlib.metadata, "distribution", nothing)
    assert run("--version") == (0, f"softoverlap {softoverlap.__version__}\n")
    assert run("score", "p", "t", "--output", "o")[0] == 0
    assert softoverlap.__version__ in Path("o/methods.txt").read_text()
    assert run("score", "p", "t", "--output", "o")[0] == 0


@pytest.mark.usefixtures("here")
def test_a_name_that_is_no_text_is_written_as_escapes_wherever_it_stands():
    odd = os.fsdecode(b"caf\xe9")
    write_mask(Path(f"{odd}.nii"))
    os.rename(f"{odd}.nii", f"p/{odd}.nii")
    assert run("score", "p", "t", "--output", "o")[0] == 1
    assert run("report", "o")[0] == 0
    for name in ("cases.csv", "methods.txt", "report.html"):
        assert "caf\\udce9" in Path("o", name).read_text(encoding="utf-8")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no such device")
@pytest.mark.parametrize("option", ["--version", "--help"])
def test_a_full_disk_behind_the_output_is_one_line(option):
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "softoverlap", option],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr == "error: [Errno 28] No space left on device\n"
