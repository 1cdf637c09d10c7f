"""The tables of "Which anchors serve real lesions" are the stored run; ours serve all lesions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / "benchmarks/results/real_lesions.json").read_text())
PAGE = (ROOT / "docs/anchors.md").read_text()
HEADING = "## Which anchors serve real lesions"


def rows_of(title):
    """Name and cells of each row of the table under this title, and its columns."""
    section = PAGE[PAGE.index(HEADING) :]
    lines = section[section.index(f"| {title} |") :].splitlines()
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    end = next((k for k, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return rows[0][1:], {name: cells for name, *cells in rows[2:end]}


def percent(value):
    return f"{100 * value:.1f} %"


@pytest.mark.parametrize(
    ("title", "measure", "shown"),
    [
        ("Share of lesions with a positive", "served", percent),
        ("Share of lesions with a positive that is no fallback", "met", percent),
        ("Best positive's quality, median (1: no box could do better)", "quality", "{:.2f}".format),
        ("All positives' quality, mean", "mean_quality", "{:.2f}".format),
        ("Positives per lesion, mean", "positives", "{:.1f}".format),
    ],
)
def test_the_tables_are_the_stored_run(title, measure, shown):
    sizes, rows = rows_of(title)
    assert sizes == list(STORED["lesions"])
    stored = {k: v for k, v in STORED["matchers"].items() if measure in v["all"]}
    assert list(rows) == list(stored)
    for name, by_size in stored.items():
        values = [by_size[size][measure] for size in sizes]
        assert rows[name] == ["–" if value is None else shown(value) for value in values]


def test_the_number_of_lesions_is_that_of_the_stored_run():
    sizes, rows = rows_of("Lesions")
    assert rows["number"] == [str(STORED["lesions"][size]) for size in sizes]
    assert STORED["lesions"]["all"] == sum(STORED["lesions"][size] for size in sizes[:-1])


def test_our_matchers_serve_every_real_lesion():
    ours = {k: v for k, v in STORED["matchers"].items() if "Matcher" in k}
    assert len(ours) == 3
    for by_size in ours.values():
        assert all(figures["served"] == 1 for figures in by_size.values())


def test_what_the_page_says_about_the_tables_holds():
    rows = STORED["matchers"]
    atss, recall = rows["`ATSSMatcher()`, soft"], rows["`MaxOverlapMatcher(0.2, 0.3)`, soft"]
    small, large = "< 10 mm³", "≥ 300"
    for name in rows:
        if "Matcher" in name:  # no fallback was needed
            assert rows[name]["all"]["met"] == 1
    assert rows["MONAI's ATSS"][small]["served"] < 0.5
    assert all(figures["served"] < 0.5 for figures in rows["hard IoU ≥ 0.5"].values())
    assert atss[small]["positives"] > 2 > 1.1 > recall[small]["positives"]
    assert atss[large]["positives"] < 5
    assert recall[large]["positives"] > 24
