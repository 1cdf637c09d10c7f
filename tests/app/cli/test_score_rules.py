"""The options of `score` that say what a hit is, what counts, and from which score on."""

from __future__ import annotations

import csv
import json

import pytest
from typer.testing import CliRunner

from softoverlap.app.cli import app
from softoverlap.app.cli.score_tables import figure
from softoverlap.app.cli.scoring import score
from softoverlap.measures import CRITERION_NOTES
from tests.support.box_scans import box_file, mask_file

LESIONS, AWAY = [[4, 4, 4, 10, 10, 10], [20, 4, 4, 26, 10, 10]], [34, 14, 14, 38, 18, 18]
LARGE = [0, 16, 0, 40, 20, 4]


def run(*arguments, status=0):
    result = CliRunner().invoke(app, ["score", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def folder(tmp_path):
    """Two scans of one subject and one of another, each with two lesions and a large one."""
    for number, case in enumerate(("sub-1_run-1", "sub-1_run-2", "sub-2_run-1")):
        scores = [0.9, 0.5 - number / 10, 0.3 + number / 10]
        box_file(tmp_path / "pred" / f"{case}.json", [*LESIONS, AWAY], scores=scores)
        mask_file(tmp_path / "truth" / f"{case}.nii.gz", [*LESIONS, LARGE])
    return tmp_path


def scored(folder, *options):
    out = folder / "out"
    text = run(folder / "pred", folder / "truth", "--output", out, *options)
    return text, json.loads((out / "summary.json").read_text(encoding="utf-8"))


def test_the_help_lists_every_criterion_and_what_it_is():
    text = run("--help")
    assert "\\b" not in text
    listed = [line.strip() for line in (score.__doc__ or "").splitlines()]
    start = listed.index(f"box_iou: {CRITERION_NOTES['box_iou']}")
    lines = [f"{name}: {note}" for name, note in CRITERION_NOTES.items()]
    assert listed[start : start + len(lines) + 1] == [*lines, ""]
    assert max(map(len, lines)) <= 76  # one line each on a terminal of 80
    assert [line for line in lines if line not in text] == []


def test_what_is_printed_has_sizes_missing_cases_and_no_noise(folder):
    (folder / "pred" / "sub-2_run-1.json").unlink()
    out = folder / "out"
    text = run(folder / "pred", folder / "truth", "--output", out, status=1)
    assert "2 cases scored, 0 failed, 1 missing" in text
    assert "1 case with no prediction: sub-2_run-1" in text
    mask_file(folder / "truth" / "sub-1_run-2.nii.gz", [[4, 4, 4, 6, 6, 6], LESIONS[1]])
    text = run(folder / "pred", folder / "truth", "--output", folder / "sizes", status=1)
    sizes = json.loads((folder / "sizes" / "summary.json").read_text(encoding="utf-8"))["by_size"]
    assert len(sizes) == 2
    assert "sensitivity by size" in text
    assert all(size["size"] in text for size in sizes)


@pytest.mark.parametrize(("value", "shown"), [(-1e-7, "0"), (0.51239, "0.5124"), (None, "")])
def test_the_noise_of_sums_is_not_printed(value, shown):
    assert figure(value) == shown


def test_a_score_above_all_is_said_to_be(folder):
    text, summary = scored(folder, "--at-score", "0.95")
    assert "scores of at least 0.95 count: as given, above the highest score, 0.9" in text
    assert summary["operating_point"]["sensitivity"] == 0


def test_what_is_printed_says_how_good_by_which_rule_and_what_was_left_out(folder):
    text, summary = scored(folder)
    assert "6 lesions in 3 scans of 2 patients" in text
    assert f"softoverlap report {folder / 'out'} draws them as a page" in text
    for word in ("sensitivity", "precision", "F1", "false positives a scan", "by centre", "AP@0.1"):
        assert word in text
    assert f"a hit: {summary['hit']['words']}" in text
    assert "count: the highest F1 on these very cases, which is optimistic" in text
    assert "3 lesions with an edge above 32 mm left out as too large for a box: 0% of" in text
    assert "no intervals: fewer than 5 patients are too few" in text


def test_between_masks_there_is_no_figure_by_centre(tmp_path):
    for side in ("pred", "truth"):
        mask_file(tmp_path / side / "a.nii.gz", LESIONS)
    text, _ = scored(tmp_path)
    assert "by the rule" in text
    assert "by centre" not in text
    assert "Neither FROC nor CPM nor AP: all that was found has the same score." in text


def test_another_summary_of_the_same_scores(folder):
    scored(folder)
    text, summary = scored(folder, "--at-score", "0.45", "--fp-rates", "0.1,1")
    assert "3 of them by an earlier run" in text
    assert summary["operating_point"]["threshold"] == 0.45
    assert summary["froc"]["fp_rates"] == [0.1, 1.0]
    assert summary["counts"]["patients"] == 2
    table = folder / "patients.csv"
    with table.open("w", newline="") as stream:
        rows = [("case", "patient"), *((f"sub-{n}", n[0]) for n in ("1_run-1", "1_run-2"))]
        csv.writer(stream).writerows([*rows, ("sub-2_run-1", "1")])
    text, summary = scored(folder, "--patients", table, "--at-score", "fp:1")
    assert "3 of them by an earlier run" in text
    assert summary["counts"]["patients"] == 1
    assert summary["operating_point"]["rule"] == "fp:1"


def test_the_rule_and_what_counts(folder):
    options = ("--hit", "mask_box_dice:0.3", "--max-lesion-mm", "50")
    _, summary = scored(folder, *options)
    assert (summary["hit"]["criterion"], summary["hit"]["threshold"]) == ("mask_box_dice", 0.3)
    assert summary["counts"]["lesions"] == 9
    assert "too_large" not in summary
    assert summary["settings"]["hit"] == "mask_box_dice:0.3"


def test_labels_that_are_ignored(tmp_path):
    box_file(tmp_path / "pred" / "a.json", LESIONS, scores=[0.9, 0.5])
    mask_file(tmp_path / "truth" / "a.nii.gz", LESIONS, value=[1, 2])
    options = ("--truth-values", "labels", "--ignore", "2", "--at-score", "0")
    text, summary = scored(tmp_path, *options)
    assert "1 lesion ignored, 1 of them found" in text
    assert summary["ignored"] == {"lesions": 1, "found": 1, "boxes": 1}
    assert summary["operating_point"]["precision"] == 1


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--hit", "iou"), "--hit must be one of box_iou, "),
        (("--hit", "box_iou:7"), "--hit must be NAME or NAME:THRESHOLD, got 'box_iou:7'"),
        (
            ("--hit", "box_dice", "--hit-iou", "0.3"),
            "--hit must be left out where --hit-iou is",
        ),
        (("--ignore", "2", "--labels", "2"), "--ignore must hold none of --labels, got [2]"),
        (("--ignore", "two"), "--ignore must be whole numbers such as 1,2,3, got 'two'"),
        (("--ignore", "2", "--truth-values", "percent"), "--ignore must be labels of a truth of"),
        (("--ignore-below-existence", "2"), "--ignore-below-existence must"),
        (("--max-lesion-mm", "0"), "--max-lesion-mm must"),
        (("--at-score", "best"), "--at-score must be a score threshold"),
        (("--fp-rates", "1,two"), "--fp-rates must be numbers such as 0.5,1,2, got '1,two'"),
        (("--fp-rates", "-1"), "must hold finite numbers of at least 0"),
        (("--patients", "gone.csv"), "gone.csv must be a CSV table, found no such file"),
    ],
)
def test_bad_options_end_before_anything_is_scored(folder, options, words):
    text = run(folder / "pred", folder / "truth", "--output", folder / "out", *options, status=2)
    assert words in text
    assert not (folder / "out").exists()
