"""The page of a cohort: what is on it, that nothing in it can break out, and what it is without."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re

import pytest
import torch

from softoverlap.app.report import _charts, write_report
from softoverlap.app.report._results import label_name, read_results, truths_of
from softoverlap.app.report._summary import Reliability
from softoverlap.app.report._svg import inline_svg
from softoverlap.images import save_nifti
from tests.support.parsed_pages import Parsed
from tests.support.report_pages import page_of
from tests.support.report_results import HOSTILE, metric, pooled, write_cohort, write_results


def rows_of(page, name):
    """The rows of a table as its script gets them."""
    data = page.data(f"{name}-data")
    names = [column["name"] for column in data["columns"]]
    return [dict(zip(names, cells, strict=True)) for cells in data["rows"]]


def test_the_summary_has_every_figure_with_its_interval(page):
    assert "Soft Dice 0.62 0.53 to 0.72 0.625 0.625 to 0.625 0.10 3" in page.words
    assert "Mean, 90 % interval" in page.words
    assert "CPM 0.50 (90 % interval 0.30 to 0.70); average precision 0.375" in page.words


def test_failed_cases_are_counted_and_listed_with_their_errors(page):
    assert "3 cases scored, 1 failed (sub-99)." in page.words
    assert "Case Error sub-99 no truth" in page.words


def test_every_chart_is_there_and_says_what_it_shows(page):
    labels = [attrs["aria-label"].split(".")[0] for attrs in page.of("svg")]
    assert labels == [
        "Distribution of scores",
        "Score against volume",
        "Lesions against volume",
        "Agreement of volumes (Bland–Altman)",
        "FROC",
        "Calibration",
    ]
    assert "limits of agreement −0.75 to 0.50 ml, concordance –" in page.words
    assert "0.25 at 0.125, 0.75 at 1." in page.words
    assert "1 found" not in page.words
    assert "2 found, 1 missed" in page.words


def test_figures_that_come_twice_say_how_each_is_made(page):
    assert "by the normal model of Bland and Altman; those of the summary are by boot" in page.words
    assert "that of the summary is the mean over cases" in page.words


def test_the_curve_is_named_after_what_was_found(tmp_path):
    row = {"case": "a", "soft_dice": 0.5}
    for kind, name in (("masks", "predicted lesions"), ("boxes", "all boxes")):
        page = page_of(write_results(tmp_path / kind, [{**row, "kind": kind}], **pooled()))
        assert f"{name} (CPM" in page.words


def test_cases_of_two_empty_masks_are_counted_where_there_are_any(tmp_path, page):
    empty = {"soft_dice": 1, "truth_volume_ml": 0, "pred_volume_ml": 0}
    full = {**empty, "truth_volume_ml": 2}
    rows = [
        {"case": name, **volumes} for name, volumes in zip("abc", (empty, empty, full), strict=True)
    ]
    words = page_of(write_results(tmp_path, rows, n_empty=2), worst=0).words
    assert "In 2 cases both truth and prediction are empty; their overlaps count as 1." in words
    assert "both truth and prediction" not in page.words


def test_labels_keep_all_their_digits(tmp_path):
    results = read_results(write_results(tmp_path, [{"case": "a", "label": 1234567}]))
    assert label_name(results.cases.rows[0]) == "1234567"


def test_names_of_raters_may_hold_the_sign_that_parts_them(tmp_path):
    names = ("a;1.nii.gz", "b.nii.gz", "c;d;e.nii.gz")
    cells = {"a": ";".join(names), "b": "gone;too", "c": ""}
    write_results(tmp_path, [{"case": case, "truth": cell} for case, cell in cells.items()])
    line = json.dumps({"key": "0", "case": "a", "rows": [{"case": "a", "truth": names}]})
    (tmp_path / "scores.jsonl").write_text('{"format": "softoverlap-scores"}\n' + line + '\n{"cu')
    rows = read_results(tmp_path).cases.rows
    assert [truths_of(row) for row in rows] == [names, ("gone", "too"), ()]


def test_counts_of_voxels_have_few_labels():
    curve = Reliability(0.1, (0.0, 0.5, 1.0), (0.25, 0.75), (0.2, 0.8), (30.0, 4e6))
    below = _charts.reliability_chart(curve).figure.axes[1]
    below.figure.canvas.draw()
    low, high = below.get_ylim()
    major = [at for at in below.get_yticks() if low <= at <= high]
    assert 2 <= len(major) <= 4
    assert not any(label.get_text() for label in below.get_yticklabels(minor=True))


def test_points_say_which_case_they_are(page):
    assert "sub-01: Soft Dice 0.5, 1.2 ml" in page.words
    assert "sub-00, lesion 0: Soft Dice 0.25, 60 mm³" in page.words


def test_the_tables_hold_all_rows_with_numbers_as_numbers(page):
    cases, lesions = rows_of(page, "cases"), rows_of(page, "lesions")
    assert [row["case"] for row in cases] == ["sub-00", "sub-01", "sub-02", "sub-99"]
    assert cases[0]["soft_dice"] == 0.25
    assert cases[3]["soft_dice"] is None
    assert cases[3]["error"] == "no truth"
    assert [row["detected"] for row in lesions] == ["False", "True", "True"]
    assert page.data("cases-data")["links"] == ["worst-0", "worst-1", "worst-2", ""]


def test_the_page_needs_nothing_from_outside_and_forbids_it(page, cohort):
    policy = next(a["content"] for a in page.of("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for (tag, attrs), content in page.raw:
        if attrs.get("type") != "application/json":
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy
    links = [a.get("href") or a.get("src") or "#" for _, a in page.elements]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert not [attrs for _, attrs in page.elements if "style" in attrs]
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]


def test_ids_are_unique_and_every_reference_is_met(page):
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = {attrs["href"][1:] for _, attrs in page.elements if attrs.get("href", "")[:1] == "#"}
    clips = set(re.findall(r"url\(#([^)]+)\)", str(page.elements)))
    assert links | clips <= set(ids)


def test_names_and_errors_from_files_stay_text(tmp_path):
    folder = write_cohort(tmp_path, name=HOSTILE + "{}")
    cases = (folder / "cases.csv").read_text()
    (folder / "cases.csv").write_text(cases.replace("no truth", "<img src=x onerror=alert(1)>"))
    text = write_report(folder, title=HOSTILE).path.read_text()
    page = Parsed(text)
    assert len(page.of("script")) == 3
    assert all(attrs["src"].startswith("data:") for attrs in page.of("img"))
    assert text.count("<script") == text.count("</script") == 3
    assert f"{HOSTILE}0" in page.words
    assert "<img src=x onerror=alert(1)>" in page.words
    assert rows_of(page, "cases")[0]["case"] == f"{HOSTILE}0"
    assert f"{HOSTILE}1: Soft Dice 0.5" in page.words


def test_dollar_signs_in_names_are_no_formulas(tmp_path):
    page = page_of(write_cohort(tmp_path, name=r"$\frac{{{}$ 100%"))
    assert r"$\frac{0$ 100% Soft Dice" in page.words


def test_what_is_missing_is_left_out_with_a_sentence(tmp_path):
    cases = [{"case": "a", "lesion_dice": 0.5, "kind": "boxes"}, {"case": "b", "lesion_dice": 1.0}]
    page = page_of(write_results(tmp_path, cases, metrics={"lesion_dice": metric(0.75)}))
    assert [attrs["aria-label"].split(".")[0] for attrs in page.of("svg")] == [
        "Distribution of scores"
    ]
    assert (
        "Not shown: Score against volume, Lesions against volume, Agreement of volumes "
        "(Bland–Altman), FROC, Calibration Score against volume: Volumes are known only"
    ) in page.words
    assert "There are no lesions in lesions.csv." in page.words
    assert "No picture: boxes alone, and no scan is known" in page.words


def test_where_all_cases_failed_the_page_says_so(tmp_path):
    page = page_of(write_results(tmp_path, [{"case": "a", "error": "gone"}], metrics={}))
    assert "0 cases scored, 1 failed (a)." in page.words
    assert "No scores: no case could be scored." in page.words
    assert "No case has a score to rank it by." in page.words
    assert not page.of("svg")


@pytest.mark.parametrize("count", [1, 2, 7, 300])
def test_every_point_gets_its_own_words(count):
    points = [_charts.Point(n + 1.0, 0.5, f"point {n} <&>") for n in range(count)]
    chart = _charts.scatter_chart({"all": points}, x="x", y="y", limits=(0.0, 1.0))
    text = inline_svg(chart.figure, name="n", label="a label", tips=chart.tips)
    titles = re.findall(r"<title>(.*?)</title>", text)
    assert [html.unescape(title) for title in titles] == [point.words for point in points]


def test_very_many_points_become_one_picture():
    points = [_charts.Point(n + 1.0, n / 5000, str(n)) for n in range(5000)]
    chart = _charts.scatter_chart({"all": points}, x="x", y="y", limits=(0.0, 1.0))
    text = inline_svg(chart.figure, name="n", label="a label", tips=chart.tips)
    assert "data:image/png;base64," in text
    assert len(text) < 300_000


@pytest.mark.slow
def test_the_page_of_a_large_cohort_stays_below_fifteen_megabytes(tmp_path):
    noise = torch.rand(256, 256, 60, generator=torch.Generator().manual_seed(1))
    for name, data in (("c0", noise), ("mask", (noise > 0.999).float())):
        save_nifti(tmp_path / f"{name}.nii.gz", data, torch.eye(4))
    files = dict.fromkeys(("pred", "truth"), str(tmp_path / "mask.nii.gz")) | {"kind": "masks"}
    cases = [{"case": f"c{n}", "soft_dice": n / 1000, **files} for n in range(1000)]
    more = {f"column{m}": 1 / 3 for m in range(16)}
    lesions = [
        {"case": f"c{n // 30}", "lesion": n % 30, "soft_dice": n / 30_000, **more}
        for n in range(30_000)
    ]
    folder = write_results(tmp_path / "results", cases, lesions)
    without = write_report(folder, worst=0).path.read_text()
    report = write_report(folder, images=tmp_path, worst=1, overwrite=True)
    one = len(report.path.read_text()) - len(without)
    assert report.pictures == 1
    assert one > 50_000
    assert len(without) + 12 * one < 15e6
    page = Parsed(without)
    assert "The worst 20000 lesions; 10000 more are in lesions.csv." in page.words
    kept = max(row["soft_dice"] for row in rows_of(page, "lesions"))
    assert kept == pytest.approx(2 / 3, abs=1e-4)
