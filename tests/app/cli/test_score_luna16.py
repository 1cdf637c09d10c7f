"""`softoverlap score` on LUNA16's files: candidates without a size, scans without a nodule."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from softoverlap.app.cli import app
from tests.support.reference_balls import reference_luna16

NODULES = {
    "A": [(-24.0, 190.0, -396.0, 8.0), (56.0, 170.0, -300.0, 5.0)],
    "B": [(30.0, 100.0, -120.0, 12.0)],
}
CANDIDATES = {
    "A": [
        (-22.0, 191.0, -396.5, 0.95),  # 2.3 mm off the first nodule, whose radius is 4 mm
        (-24.0, 189.0, -397.0, 0.9),  # the same nodule again: neither right nor wrong
        (59.0, 170.0, -300.0, 0.8),  # 3 mm off the second, whose radius is 2.5 mm: false
    ],
    "B": [(33.0, 104.0, -118.0, 0.7)],  # 5.4 mm off, and the radius is 6 mm
    "C": [(0.0, 0.0, 0.0, 0.85)],  # false, in a scan without a nodule
}
SERIES = ["A", "B", "C", "D"]  # D has neither


def rows(content, width=""):
    return [
        f"{series},{','.join(map(str, numbers[:3]))}{width},{numbers[3]}\n"
        for series, all_numbers in content.items()
        for numbers in all_numbers
    ]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files as the challenge has them."""
    monkeypatch.chdir(tmp_path)
    head = "seriesuid,coordX,coordY,coordZ,"
    files = {
        "annotations.csv": [f"{head}diameter_mm\n", *rows(NODULES)],
        "result.csv": [f"{head}probability\n", *rows(CANDIDATES)],
        "sized.csv": [f"{head}diameter_mm,probability\n", *rows(CANDIDATES, ",0")],
        "seriesuids.csv": [f"{series}\n" for series in SERIES],
    }
    for name, lines in files.items():
        (tmp_path / name).write_text("".join(lines))
    return tmp_path


def run(*arguments, status=0):
    result = CliRunner().invoke(app, ["score", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return " ".join(result.output.split())


def scored(folder, *options, pred="result.csv", hit="ball_centreness"):
    text = run(pred, "annotations.csv", "--hit", hit, "--output", "o", *options)
    return text, json.loads((folder / "o/summary.json").read_text())


@pytest.mark.parametrize("pred", ["result.csv", "sized.csv"])
def test_a_submission_is_counted_as_by_hand_in_all_scans(folder, pred):
    _, summary = scored(folder, "--cases", "seriesuids.csv", pred=pred)
    assert summary["counts"]["scans"] == 4
    curve = summary["froc"]["curve"]
    assert curve["thresholds"] == [None, 0.95, 0.9, 0.85, 0.8, 0.7]
    assert curve["sensitivities"] == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 2 / 3])
    assert curve["fps_per_scan"] == [0, 0, 0, 1 / 4, 2 / 4, 2 / 4]
    scans = [(NODULES.get(series, []), CANDIDATES.get(series, [])) for series in SERIES]
    assert [
        (level, round(3 * found), 4 * false)
        for level, found, false in list(zip(*(curve[key] for key in (
            "thresholds", "sensitivities", "fps_per_scan")), strict=True))[1:]
    ] == reference_luna16(scans)  # fmt: skip


def test_the_command_of_the_page_does_so(folder):
    page = (Path(__file__).parents[3] / "docs/balls.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^softoverlap score (result\.csv .*)$", page, flags=re.MULTILINE)
    assert "3 lesions in 4 scans" in run(*shlex.split(command))
    assert (folder / "results/summary.json").exists()


def test_without_a_list_of_series_the_scans_of_both_lists_count(folder):
    _, summary = scored(folder)
    assert summary["counts"]["scans"] == 3
    assert summary["froc"]["curve"]["fps_per_scan"] == pytest.approx([0, 0, 0, 1 / 3, 2 / 3, 2 / 3])
    with (folder / "o/cases.csv").open(newline="") as file:
        cases = {row["case"]: row for row in csv.DictReader(file)}
    assert cases["C"]["false_positives"] == "1"
    assert "has no row of C, which counts as no boxes: it has rows of A, B" in cases["C"]["warning"]


def test_what_the_list_of_series_lacks_is_left_out_and_told(folder):
    (folder / "fold.csv").write_text("seriesuid\nA\nD\n")
    text, summary = scored(folder, "--cases", "fold.csv")
    assert summary["counts"]["scans"] == 2
    assert summary["counts"]["lesions"] == 2
    assert "result.csv (not among the listed cases: B, C)" in text
    assert "annotations.csv (not among the listed cases: B)" in text


@pytest.mark.parametrize(
    ("hit", "hits"), [("ball_centreness:0.75", 1), ("centre_within_radius", 2)]
)
def test_points_are_found_by_other_rules_of_distance_too(folder, hit, hits):
    """Within half of the radius lies the second candidate alone, 1.4 mm off."""
    _, summary = scored(folder, hit=hit)
    assert summary["operating_point"]["hits"] == hits


@pytest.mark.bad_input
@pytest.mark.parametrize("pred", ["result.csv", "sized.csv"])
@pytest.mark.parametrize("last", [("--dry-run",), ("--output", "o")])
@pytest.mark.parametrize("hit", [(), ("--hit", "ball_iou"), ("--hit", "any_voxel")])
def test_points_are_refused_where_a_size_is_needed(folder, pred, last, hit):
    text = run(pred, "annotations.csv", *hit, *last, status=2)
    assert f"{pred} must have a diameter_mm above 0 for each ball, got a point in A" in text
    assert "--hit ball_centreness" in text
    assert not (folder / "o").exists()


@pytest.mark.bad_input
def test_points_are_no_truth(folder):
    (folder / "annotations.csv").write_text(
        "seriesuid,coordX,coordY,coordZ,diameter_mm\nA,0,0,0,5\nB,0,0,0,0\n"
    )
    options = ("--hit", "ball_centreness", "--dry-run")
    text = run("result.csv", "annotations.csv", *options, status=2)
    assert "annotations.csv must have a diameter_mm above 0 for each nodule" in text
    assert "got a point in B" in text
    assert "as it is the truth" in run("sized.csv", "result.csv", *options, status=2)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "gone.csv must be a list of cases, found no such file"),
        ("", "cases.csv must name a case in each line, or have a column case or seriesuid"),
        ("a,b\n1,2\n", "got the columns a, b"),
        ("seriesuid\n", "must name a case in each line, got no line"),
        ("seriesuid,fold\nA,0\n,1\n", "must name a case in each line, got an empty one"),
        ("E\nF\n", "--cases must name some cases of PRED, got E, F, and there A, B, C"),
    ],
)
def test_a_list_of_series_that_is_none_is_refused(folder, content, words):
    name = "gone.csv" if content is None else "cases.csv"
    if content is not None:
        (folder / name).write_text(content)
    assert words in run("result.csv", "annotations.csv", "--dry-run", "--cases", name, status=2)


@pytest.mark.bad_input
def test_a_list_of_series_goes_with_sides_of_many_cases(folder):
    (folder / "one.json").write_text("{}")
    options = ("--cases", "seriesuids.csv", "--dry-run")
    assert "--cases must be left out for one pair" in run(
        "one.json", "result.csv", *options, status=2
    )
    assert "--table must stand alone" in run("--table", "t.csv", *options, status=2)
