"""The tables and sentences of "Which anchors serve real lesions" are those of the stored run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.support.scripts import loaded_script

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / "benchmarks/results/real_lesions.json").read_text())
ATSS, HARD = "MONAI's ATSS", "box IoU ≥ 0.5, or the best anchor"
PAGE = (ROOT / "docs/anchors.md").read_text()
HEADING = "## Which anchors serve real lesions"


@pytest.fixture(scope="module")
def real_lesions():
    with loaded_script("benchmarks/real_lesions.py") as module:
        yield module


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
    small, large, total = "< 10 mm³", "≥ 300", STORED["lesions"]["all"]
    for figures in (row["all"] for row in rows.values() if "met" in row["all"]):
        assert figures["met"] == figures["served"]  # no fallback was needed
    assert round((1 - rows[ATSS]["all"]["served"]) * total) == 2
    assert f"MONAI's ATSS leaves out two of the {total} lesions, ours none" in PAGE
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"So does MONAI's own ATSS, but for two of {total} [real lesions]" in readme
    inside = rows[f"{ATSS}, `center_in_gt=True`"]
    assert all(inside[size]["served"] < 0.5 for size in (small, "10–30", "all"))
    assert round(1 / (1 - rows[HARD][small]["served"])) == 9
    for matcher in (row for name, row in rows.items() if "Matcher" in name):
        for size in ("100–300", large):
            peers = (rows[name][size]["mean_quality"] for name in (ATSS, HARD))
            assert matcher[size]["mean_quality"] > max(peers)
    for row in (atss, rows[ATSS]):
        assert row[small]["positives"] > 2 > 1.1 > recall[small]["positives"]
        assert row[large]["positives"] < 5
    assert recall[large]["positives"] > 24


def test_the_regular_rule_is_torchvisions(real_lesions):
    quality = torch.tensor([[0.6, 0.2, 0.3, 0.1], [0.4, 0.3, 0.3, 0.1], [0.0, 0.35, 0.1, 0.0]])
    # the best anchor of lesion 1 goes to lesion 0; lesion 2 keeps the poor one that fits it best
    assert real_lesions.index_of_torchvision(quality, 0.5).tolist() == [0, 2, -1, -1]
