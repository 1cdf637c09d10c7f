"""Results that the page cannot be made of: one line, and what is named."""

from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from softoverlap.app.cli import app
from softoverlap.app.report import _html, write_report
from tests.support.parsed_pages import Parsed
from tests.support.report_results import HOSTILE, metric, pooled, write_cohort, write_results


def run(*arguments, status=0):
    result = CliRunner().invoke(app, ["report", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return " ".join(result.output.split())


def test_the_command_says_where_the_page_is_and_takes_its_options(tmp_path):
    folder = write_cohort(tmp_path)
    output = tmp_path / "page.html"
    said = run(folder, "--output", output, "--worst", 1, "--title", "Trial 7")
    assert re.search(r"page.html: \d+\.\d MB, 1 picture$", said)
    assert Parsed(output.read_text()).words.startswith("Trial 7")
    assert "must not exist yet: pass --overwrite" in run(folder, "--output", output, status=2)
    run(folder, "--output", output, "--worst", 0, "--overwrite")
    assert "None asked for." in Parsed(output.read_text()).words


def spoil(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def cut_off(folder):
    (folder / "summary.json").unlink()
    (folder / "scores.jsonl").touch()


def without(*path):
    def change(folder):
        content = json.loads((folder / "summary.json").read_text())
        inner = content
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        (folder / "summary.json").write_text(json.dumps(content))

    return change


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: (folder / "cases.csv").unlink(), "must hold cases.csv, found none"),
        (lambda folder: (folder / "summary.json").unlink(), "must hold summary.json, found none"),
        (cut_off, "found none: the run was cut off: run the same command again"),
        (spoil("summary.json", b"{"), "summary.json must be a JSON file, got"),
        (spoil("summary.json", b"\xff"), "summary.json must be a JSON file in UTF-8"),
        (spoil("summary.json", b"[]"), "must be a summary of softoverlap score"),
        (spoil("cases.csv", b"name\na\n"), "must have a column case, got name"),
        (spoil("cases.csv", b""), "must have a column case, got nothing"),
        (spoil("cases.csv", b"case\n\xff\n"), "cases.csv must be a CSV file in UTF-8"),
        (spoil("cases.csv", b"case,error\na\n"), "a cell for each column, line 2 has not"),
        (spoil("lesions.csv", b"case,lesion\na,1,2\n"), "a cell for each column, line 2 has not"),
        (spoil("boxes.csv", b'case\n"a\n'), "boxes.csv must be a CSV file, got"),
        (without("bootstrap"), "summary.json must be as softoverlap score writes it"),
        (without("metrics", "soft_dice", "sd"), "KeyError 'sd'"),
        (without("froc", "curve", "thresholds"), "KeyError 'thresholds'"),
        (without("calibration", "edges"), "KeyError 'edges'"),
    ],
)
def test_damaged_results_are_one_line_and_status_2(change, words, tmp_path):
    folder = write_results(tmp_path / "results", [{"case": "a"}], **pooled())
    change(folder)
    said = run(folder, status=2)
    assert said.startswith("error: ")
    assert words in said
    assert not (folder / "report.html").exists()


@pytest.mark.bad_input
def test_bad_arguments_are_named(cohort, tmp_path):
    assert "must be a folder of results, found none" in run(tmp_path / "none", status=2)
    assert "output must end in .html" in run(cohort, "--output", cohort / "cases.csv", status=2)
    assert "found no" in run(cohort, "--output", tmp_path / "no" / "a.html", status=2)
    assert "a folder or a pattern with {case}" in run(
        cohort, "--overwrite", "--images", "nowhere", status=2
    )
    (tmp_path / "folder.html").mkdir()
    assert "got the folder" in run(cohort, "--output", tmp_path / "folder.html", status=2)
    with pytest.raises(ValueError, match="worst must be a whole number of at least 0, got -1"):
        write_report(cohort, worst=-1)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("metrics", {"soft_dice": 3}),
        ("metrics", {"soft_dice": {**metric(0.5), "mean": "high"}}),
        ("metrics", {"soft_dice": {**metric(0.5), "mean_interval": [1, 2, 3]}}),
        ("froc", {**pooled()["froc"], "curve": {key: [] for key in pooled()["froc"]["curve"]}}),
        ("calibration", {**pooled()["calibration"], "counts": [1.0]}),
        ("labels", [1]),
    ],
)
def test_a_summary_of_other_values_is_named(key, value, tmp_path):
    folder = write_results(tmp_path, [{"case": "a"}], **{key: value})
    with pytest.raises(ValueError, match="summary.json must be as softoverlap score writes it"):
        write_report(folder)


def test_json_for_scripts_reads_back_and_holds_no_markup():
    value = {"a": HOSTILE, "b": [1, None, "\u2028<!--"]}
    text = _html.embedded_json("n", value)
    inner = text.removeprefix('<script type="application/json" id="n">').removesuffix("</script>")
    assert json.loads(inner) == value
    assert not set("<>&\u2028") & set(inner)


@pytest.mark.parametrize("name", ["{case}_nosuch.nii.gz", ""])
def test_images_that_fit_no_case_are_named(cohort, tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="images must have the scan of one case at least"):
        write_report(cohort, tmp_path / "page.html", images=tmp_path / "empty" / name)
    assert not (tmp_path / "page.html").exists()
