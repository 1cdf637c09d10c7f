"""`softoverlap score` end to end: statuses, dry run, interruption, real scans."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from softoverlap.app.cli import app
from softoverlap.images import load_image, save_nifti, write_boxes
from tests.support.cohort_makers import masks, spoil, write_cohort, write_pair
from tests.support.processes import takes_interrupts

ROOT = Path(__file__).parents[3]
OPEN_MS = ROOT.parent / "shared" / "data" / "open_ms"
COMMAND = [sys.executable, "-m", "softoverlap", "score"]


def run(*arguments, status=0):
    """Run the command in this process; what it printed, output and errors together."""
    result = CliRunner().invoke(app, ["score", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result.output


def start(*arguments):
    """Run it in a process of its own."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=takes_interrupts,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def running(group):
    """The processes of a group that have not ended."""
    psutil = pytest.importorskip("psutil")
    found = []
    for process in psutil.process_iter(["status", "cmdline"]):
        try:
            if os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.info)
        except ProcessLookupError:
            continue
    return found


def lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def sides(folder):
    return folder / "pred", folder / "truth"


def test_a_folder_of_good_cases_has_status_0(tmp_path):
    folder = write_cohort(tmp_path, 3)
    text = run(*sides(folder), "--output", tmp_path / "out")
    assert "3 cases scored, 0 failed" in text
    assert "soft_dice" in text
    assert "95 % interval" in text
    assert "left" in text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "boxes.csv", "cases.csv", "lesions.csv", "methods.txt", "results.tex", "scores.jsonl",
        "summary.json",
    ]  # fmt: skip
    assert [row["case"] for row in rows(tmp_path / "out/lesions.csv")][::2] == [
        "case-000", "case-001", "case-002",
    ]  # fmt: skip
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert summary["settings"]["geometry"] == "strict"
    assert summary["n"] == 3


def test_bad_cases_are_rows_with_their_error_among_hundreds(tmp_path):
    folder = write_cohort(tmp_path, 220)
    errors = spoil(folder)
    text = run(*sides(folder), "--output", tmp_path / "out", status=1)
    failed = f"{len(errors) - 2} failed, 2 missing"
    assert f"{220 - len(errors)} cases scored, {failed}" in text
    found = {row["case"]: row for row in rows(tmp_path / "out/cases.csv")}
    assert len(found) == 220
    assert {case for case, row in found.items() if row["error"]} == set(errors)
    for case, words in errors.items():
        assert words in found[case]["error"]
        assert f"failed: {case}: " in text
    assert found["case-010"]["soft_dice"] == "0.0"
    assert found["case-011"]["soft_dice"] == "1.0"


def test_a_dry_run_lists_what_matches_and_what_does_not(tmp_path):
    folder = write_cohort(tmp_path, 3)
    assert "3 cases matched" in run(*sides(folder), "--dry-run")
    (folder / "pred" / "case-001.nii.gz").unlink()
    text = run(*sides(folder), "--dry-run", status=1)
    assert "2 cases matched" in text
    assert f"case-001: no prediction ({folder}/truth/case-001.nii.gz)" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pred", "truth"]


def test_patterns_tables_and_single_pairs_give_the_same_scores(tmp_path):
    folder = write_cohort(tmp_path, 2)
    table = tmp_path / "pairs.csv"
    names = ["case-000", "case-001"]
    table.write_text(
        "case,pred,truth\n" + "".join(f"{n},pred/{n}.nii.gz,truth/{n}.nii.gz\n" for n in names)
    )
    run(*sides(folder), "--output", tmp_path / "a")
    run("--table", table, "--output", tmp_path / "b")
    run(f"{folder}/pred/*.nii.gz", f"{folder}/truth/{{case}}.nii.gz", "--output", tmp_path / "c")
    tables = [
        [{k: v for k, v in row.items() if k not in ("pred", "truth")} for row in rows(path)]
        for path in (tmp_path / name / "cases.csv" for name in "abc")
    ]
    assert tables[0] == tables[1] == tables[2]
    one = [side / "case-001.nii.gz" for side in sides(folder)]
    run(*one, "--output", tmp_path / "d")
    assert rows(tmp_path / "d/cases.csv")[0]["soft_dice"] == tables[0][1]["soft_dice"]


def test_boxes_are_scored_by_a_pattern(tmp_path):
    _, truth = masks(0)
    write_pair(tmp_path, "a", truth, truth)
    (tmp_path / "found").mkdir()
    box = torch.tensor([[1.0, 2, 2, 5, 5, 4]])
    write_boxes(tmp_path / "found/a_boxes.json", box, scores=torch.tensor([0.7]))
    run(tmp_path / "found", tmp_path / "truth", "--pred-pattern", "{case}_boxes.json",
        "--output", tmp_path / "out")  # fmt: skip
    (row,) = rows(tmp_path / "out/boxes.csv")
    assert (row["score"], row["outcome"], row["lesion"]) == (
        str(float(torch.tensor(0.7))),
        "hit",
        "0",
    )


@pytest.mark.parametrize(("sign", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on(tmp_path, sign, status):
    folder, out = write_cohort(tmp_path, 150), tmp_path / "out"
    process = start(*sides(folder), "--output", out)
    deadline = time.monotonic() + 120
    while lines(out / "scores.jsonl") < 20 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(sign)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == status, text
    if sign == signal.SIGINT:
        assert "interrupted: finished cases are kept in" in text
        assert "the same command goes on from there" in text
    finished = lines(out / "scores.jsonl") - 1
    assert 19 <= finished < 150
    assert not (out / "cases.csv").exists()
    assert f"{finished} of them by an earlier run" in run(*sides(folder), "--output", out)
    assert lines(out / "scores.jsonl") == 151
    run(*sides(folder), "--output", tmp_path / "fresh")
    for name in ("cases.csv", "lesions.csv", "boxes.csv", "summary.json"):
        assert (out / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [("--workers", 2), ("--scheduler", "local:2")])
def test_ctrl_c_of_a_terminal_ends_a_run_with_workers_and_keeps_what_is_done(tmp_path, workers):
    if "--scheduler" in workers:
        pytest.importorskip("distributed")
    folder, out = write_cohort(tmp_path, 80), tmp_path / "out"
    process = start(*sides(folder), "--output", out, *workers)
    deadline = time.monotonic() + 180
    while lines(out / "scores.jsonl") < 6 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)  # the workers get it too
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 130, text
    assert "stopping after the case in hand" in text
    assert "interrupted: finished cases are kept in" in text
    finished = lines(out / "scores.jsonl") - 1
    assert 5 <= finished < 80
    assert f"{finished} of them by an earlier run" in run(*sides(folder), "--output", out)
    deadline = time.monotonic() + 60  # Dask's watchers end a moment after their cluster
    while (left := running(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "PRED and TRUTH must be given, or --table"),
        (["pred", "truth"], "--output must name a folder"),
        (["pred", "gone", "--output", "o"], "TRUTH must exist"),
        (["pred", "truth", "--output", "o", "--geometry", "x"], "--geometry must be one of"),
        (["pred", "truth", "--output", "o", "--labels", "1,x"], "--labels must be whole numbers"),
        (
            ["pred", "truth", "--output", "o", "--labels", "1,2", "--values", "percent"],
            "--labels must be one label, or --values auto or labels",
        ),
        (["pred", "truth", "--output", "o", "--table", "t.csv"], "--table must stand alone"),
        (
            ["pred", "truth", "--output", "o", "--scheduler", "local:0"],
            "--scheduler must be local:N",
        ),
        (
            ["pred", "truth", "--output", "o", "--workers", "2", "--scheduler", "local:2"],
            "exclude each other",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(tmp_path, monkeypatch, arguments, words):
    write_cohort(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    text = run(*arguments, status=2)
    assert words in text
    assert len(text.splitlines()) == 1
    assert not (tmp_path / "o").exists()


@pytest.mark.bad_input
def test_changed_settings_need_overwrite(tmp_path):
    folder, out = write_cohort(tmp_path, 2), tmp_path / "out"
    run(*sides(folder), "--output", out)
    text = run(*sides(folder), "--output", out, "--threshold", 0.3, status=2)
    assert "pass --overwrite or another --output" in text
    run(*sides(folder), "--output", out, "--threshold", 0.3, "--overwrite")
    assert json.loads((out / "summary.json").read_text())["settings"]["threshold"] == 0.3


def test_a_table_is_checked_by_a_dry_run(tmp_path):
    folder = write_cohort(tmp_path, 1)
    table = tmp_path / "pairs.csv"
    row = "pred/case-000.nii.gz,truth/case-000.nii.gz"
    table.write_text(f"case,pred,truth\na,{row}\nb,gone.nii,truth/case-000.nii.gz\n")
    text = run("--table", table, "--dry-run", status=1)
    assert "1 case matched" in text
    assert f"b: found no such file: {folder}/gone.nii" in text


def test_results_may_lie_among_the_boxes(tmp_path):
    box = torch.tensor([[1.0, 2, 2, 5, 5, 4]])
    for name in ("pred", "truth"):
        (tmp_path / name).mkdir()
        write_boxes(tmp_path / name / "a.json", box, scores=torch.tensor([0.7]))
    for output in ("pred/res", "truth"):
        run(*sides(tmp_path), "--output", tmp_path / output)
        text = run(*sides(tmp_path), "--output", tmp_path / output)
        assert "1 case scored, 1 of them by an earlier run, 0 failed" in text
    assert "0 cases not matched" in run(*sides(tmp_path), "--dry-run")


@pytest.mark.bad_input
def test_another_cohort_needs_overwrite(tmp_path):
    folder, out = write_cohort(tmp_path, 2), tmp_path / "out"
    run(*sides(folder), "--output", out)
    before = (out / "cases.csv").read_bytes()
    (folder / "pred").rename(folder / "other")
    arguments = (folder / "other", folder / "truth", "--output", out)
    assert "results of the same files" in run(*arguments, status=2)
    assert (out / "cases.csv").read_bytes() == before
    run(*arguments, "--overwrite")
    assert "other/case-000" in (out / "cases.csv").read_text()


@pytest.mark.parametrize("finished", [0, 1])
def test_an_overwriting_run_that_was_cut_off_says_what_is_left(tmp_path, monkeypatch, finished):
    def cut_off(pairs, score, report):
        yield from map(score, pairs[:finished])
        raise KeyboardInterrupt

    folder, out = write_cohort(tmp_path, 2), tmp_path / "out"
    run(*sides(folder), "--output", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr("softoverlap.app.cohort.serial", cut_off)
    text = run(*sides(folder), "--output", out, "--overwrite", status=130)
    same = before == {path.name: path.read_bytes() for path in out.iterdir()}
    assert same == (not finished)
    assert ("is as it was" in text) == (not finished)
    assert ("goes on from there, without --overwrite" in text) == bool(finished)


@pytest.mark.parametrize("error", [RuntimeError("odd"), KeyError("odd"), MemoryError()])
def test_an_unforeseen_error_is_not_taken_for_a_failed_case(tmp_path, monkeypatch, error):
    def fails(*_, **options):
        raise error

    folder = write_cohort(tmp_path, 1)
    monkeypatch.setattr("softoverlap.app.cohort.score_cohort", fails)
    text = run(*sides(folder), "--output", tmp_path / "out", status=3)
    assert "Traceback" in text
    assert type(error).__name__ in text
    assert f"error: {error or type(error).__name__}" in text


@pytest.mark.bad_input
def test_the_traceback_of_bad_input_is_shown_on_demand(tmp_path, monkeypatch):
    monkeypatch.setenv("SOFTOVERLAP_TRACEBACK", "1")
    assert "Traceback" in run("--labels", "x", status=2)


def test_a_name_that_is_not_utf8_is_a_case_like_others(tmp_path):
    folder, name = write_cohort(tmp_path, 2), os.fsdecode(b"caf\xe9.nii.gz")
    try:
        for side in sides(folder):
            (side / "case-001.nii.gz").rename(side / name)
    except OSError:
        pytest.skip("this disk takes UTF-8 alone")
    assert r"caf\udce9" in run(*sides(folder), "--dry-run")
    run(*sides(folder), "--output", tmp_path / "out")
    found = {row["case"]: row for row in rows(tmp_path / "out/cases.csv")}
    assert found[r"caf\udce9"]["error"] == ""
    (folder / "pred" / name).write_bytes(b"broken")
    text = run(*sides(folder), "--output", tmp_path / "out", status=1)
    assert r"failed: caf\udce9: " in text


def test_a_prediction_is_never_written_over(tmp_path):
    folder = write_cohort(tmp_path, 1)
    table = tmp_path / "cases.csv"
    table.write_text("case,pred,truth\na,pred/case-000.nii.gz,truth/case-000.nii.gz\n")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    run("--table", table, "--output", tmp_path, "--overwrite", status=2)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.slow
@pytest.mark.skipif(not OPEN_MS.exists(), reason="the shared scans are not here")
def test_real_scans_end_to_end(tmp_path):
    """The consensus of six patients against itself, blurred and moved by a third of a voxel."""
    (tmp_path / "pred").mkdir()
    (tmp_path / "truth").mkdir()
    for number in range(1, 7):
        name = f"patient{number:02d}"
        source = OPEN_MS / f"{name}_native1mm_consensus_gt.nii.gz"
        truth = load_image(source)
        mask = (truth.data > 0).float()
        soft = torch.nn.functional.avg_pool3d(mask[None, None], 3, stride=1, padding=1)[0, 0]
        moved = truth.affine.clone()
        moved[:3, 3] += truth.affine[:3, 0] / 3
        save_nifti(tmp_path / "truth" / f"{name}_gt.nii.gz", mask, truth.affine)
        save_nifti(tmp_path / "pred" / f"{name}_soft.nii.gz", soft, moved)
    patterns = ["--pred-pattern", "{case}_soft.nii.gz", "--truth-pattern", "{case}_gt.nii.gz"]
    command = [*COMMAND, *map(str, sides(tmp_path)), *patterns, "--workers", "2", "--output"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    scores = {}
    for geometry, status in (("strict", 1), ("index", 0), ("resample", 0)):
        out = tmp_path / geometry
        result = subprocess.run(
            [*command, str(out), "--geometry", geometry],
            cwd=ROOT, capture_output=True, text=True, env=environment,
        )  # fmt: skip
        assert result.returncode == status, result.stdout + result.stderr
        scores[geometry] = rows(out / "cases.csv")
    assert all("index trusts the voxel grid" in row["error"] for row in scores["strict"])
    for row, other in zip(scores["index"], scores["resample"], strict=True):
        assert float(row["geometry_displacement_voxels"]) == pytest.approx(1 / 3, abs=1e-3)
        assert float(row["soft_dice"]) > float(other["soft_dice"]) > 0.4
        assert int(row["lesions"]) > 0
        assert 0 < float(row["lesion_recall"]) <= 1


def test_a_label_that_is_in_no_file_is_told(tmp_path):
    labels = torch.zeros(8, 8, 8)
    labels[1:4, 1:4, 1:4] = 2
    write_pair(tmp_path, "a", labels, labels)
    sides = (tmp_path / "pred", tmp_path / "truth")
    text = run(*sides, "--output", tmp_path / "out", "--labels", "2,7")
    assert "no file has label 7" in text
    assert "no file has label 2" not in text
    assert "1 case with empty prediction and truth: their overlaps count as 1" in text
