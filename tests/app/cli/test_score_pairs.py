"""What `softoverlap score` says of files that it pairs, and of those that it cannot."""

from __future__ import annotations

import csv
import re
import shlex

import pytest
import torch
from typer.testing import CliRunner

from softoverlap.app.cli import app
from softoverlap.images import load_nifti, save_nifti
from tests.support.cohort_makers import write_cohort


def run(*arguments, status=0):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == status, result.output
    return result.output


def rows(folder):
    with (folder / "cases.csv").open(newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


@pytest.mark.parametrize("end", ["json", "nndetection", "slicer"])
@pytest.mark.parametrize("turned", [False, True])
def test_what_boxes_wrote_is_scored_without_a_pattern(tmp_path, end, turned):
    write_cohort(tmp_path, 2)
    run("boxes", tmp_path / "truth", "--output", tmp_path / "found", "--format", end)
    sides = [tmp_path / "found", tmp_path / "truth"]
    text = run("score", *(sides[::-1] if turned else sides), "--output", tmp_path / "out")
    assert "2 cases scored, 0 failed" in text
    found = rows(tmp_path / "out")
    assert list(found) == ["case-000", "case-001"]
    assert {row["lesion_recall"] for row in found.values()} == {"1.0"}
    assert {row["false_positives"] for row in found.values()} == {"0"}


def test_the_last_line_counts_and_names_what_is_missing(tmp_path):
    write_cohort(tmp_path, 9)
    for number in range(1, 8):
        (tmp_path / f"pred/case-{number:03d}.nii.gz").unlink()
    (tmp_path / "truth/case-008.nii.gz").unlink()
    words = (
        "7 cases with no prediction: case-001, case-002, case-003, case-004, case-005, …; "
        "1 case with no truth: case-008"
    )
    for option in (["--output", tmp_path / "out"], ["--dry-run"]):
        text = run("score", tmp_path / "pred", tmp_path / "truth", *option, status=1)
        assert text.splitlines()[-1] == words


def test_the_patterns_that_are_proposed_can_be_pasted(tmp_path):
    write_cohort(tmp_path, 3)
    for path in (tmp_path / "pred").iterdir():
        path.rename(path.with_name(path.name.replace(".nii", "_p.nii")))
    sides = (tmp_path / "pred", tmp_path / "truth")
    text = run("score", *sides, "--dry-run", status=2)
    found = re.search(r"pass (.*), which pairs 3 cases", text)
    assert found is not None
    options = shlex.split(found[1].replace(" and ", " "))
    assert options == ["--pred-pattern", "{case}_p.nii.gz"]
    assert "3 cases matched" in run("score", *sides, "--dry-run", *options)


def test_some_that_match_leave_a_hint_for_the_others(tmp_path):
    write_cohort(tmp_path, 4)
    for number in (1, 2, 3):
        path = tmp_path / f"pred/case-{number:03d}.nii.gz"
        path.rename(path.with_name(f"case-{number:03d}_p.nii.gz"))
    text = run("score", tmp_path / "pred", tmp_path / "truth", "--dry-run", status=1)
    assert text.splitlines()[-1] == (
        'to pair more files, pass --pred-pattern "{case}_p.nii.gz", which pairs 3 cases'
    )


@pytest.mark.bad_input
def test_one_folder_twice_has_status_2(tmp_path):
    write_cohort(tmp_path, 1)
    text = run("score", tmp_path / "truth", tmp_path / "pred/../truth", "--dry-run", status=2)
    assert "TRUTH must be another folder than PRED" in text


def test_links_to_nothing_are_failures_of_score_and_of_boxes(tmp_path):
    write_cohort(tmp_path, 1)
    (tmp_path / "truth/x.nii.gz").symlink_to("gone")
    text = run("boxes", tmp_path / "truth", "--output", tmp_path / "found", status=1)
    assert "x.nii.gz must be an image, found a link whose target is missing" in text
    (tmp_path / "pred/x.nii.gz").symlink_to("gone")
    run("score", tmp_path / "pred", tmp_path / "truth", "--output", tmp_path / "out", status=1)
    assert "is a link whose target is missing" in rows(tmp_path / "out")["x"]["error"]


def test_a_lost_affine_is_told_in_flags_and_scored_by_index(tmp_path):
    mask = torch.zeros(10, 10, 10)
    mask[2:5, 2:5, 2:5] = 1
    save_nifti(tmp_path / "p.nii", mask, torch.eye(4))
    save_nifti(tmp_path / "t.nii", mask, torch.diag(torch.tensor([-1.0, 1, 2, 1])))
    command = ["score", tmp_path / "p.nii", tmp_path / "t.nii", "--output"]
    text = run(*command, tmp_path / "a", status=1)
    assert "looks as if it was lost" in text
    assert "choose with --geometry: index" in text
    assert "choose with --geometry: index" in rows(tmp_path / "a")["p"]["error"]
    run(*command, tmp_path / "b", "--geometry", "index")
    assert rows(tmp_path / "b")["p"]["soft_dice"] == "1.0"


def test_errors_in_the_table_are_in_flags(tmp_path):
    write_cohort(tmp_path, 1)
    path = tmp_path / "pred/case-000.nii.gz"
    mask = load_nifti(path).data
    save_nifti(path, 100 * mask, torch.eye(4))
    run("score", tmp_path / "pred", tmp_path / "truth", "--output", tmp_path / "out", status=1)
    error = rows(tmp_path / "out")["case-000"]["error"]
    assert "--values" in error
    assert "=`" not in error
    # words of the command are not kept for others: the journal has the library's
    assert "`values=" in (tmp_path / "out/scores.jsonl").read_text()


def test_files_beside_images_that_are_not_read_are_named(tmp_path):
    write_cohort(tmp_path, 2)
    (tmp_path / "truth/case-009.npz").touch()
    (tmp_path / "pred/case-001.json").touch()  # a sidecar
    (tmp_path / "pred/case-009.dcm").touch()
    text = run("score", tmp_path / "pred", tmp_path / "truth", "--output", tmp_path / "out")
    assert "left out: case-009.dcm, case-009.npz (not a file ending in" in text
    (tmp_path / "pred/case-000.nii.gz").unlink()
    (tmp_path / "pred/case-000.nii.gz").symlink_to("case-000.nii.gz")
    run("score", tmp_path / "pred", tmp_path / "truth", "--output", tmp_path / "two", status=1)
    assert rows(tmp_path / "two")["case-000"]["error"].endswith("is a link that leads to itself")
