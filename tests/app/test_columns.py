"""The table of columns is whole: what `score` writes, the page shows and the docs list."""

from __future__ import annotations

import csv

import pytest

from softoverlap.app.cohort import score_cohort
from softoverlap.app.columns import CASES, RANKED_BY, TABLES, file_header, find_column
from softoverlap.images.tables import axis_names
from tests.support.cohort_makers import pairs_of, write_cohort


@pytest.mark.parametrize("file", TABLES)
def test_names_are_unique_and_every_column_says_what_it_is(file):
    names = [column.name for column in TABLES[file]]
    assert len(set(names)) == len(names)
    assert all(column.title and column.meaning for column in TABLES[file])
    titles = [column.heading for column in TABLES[file]]
    assert len(set(titles)) == len(titles)


def test_scoring_writes_the_columns_of_the_tables_in_their_order(tmp_path):
    score_cohort(pairs_of(write_cohort(tmp_path, 2)), tmp_path / "results")
    for file, table in TABLES.items():
        with (tmp_path / "results" / file).open(newline="") as stream:
            header = next(csv.reader(stream))
        assert header == [column.name for column in table if column.name != "label"]


def test_names_that_scripts_read_stay():
    kept = {"case", "pred", "truth", "error", "warning"}
    kept |= {"soft_dice", "lesion_recall", "false_positives"}
    assert kept <= {column.name for column in CASES}
    assert file_header(CASES, []) == ["case", "error", "warning"]


def test_cases_are_ranked_by_scores_that_are_better_when_higher():
    assert {find_column(CASES, name).better for name in RANKED_BY} == {"higher"}


@pytest.mark.parametrize("file", ["lesions.csv", "boxes.csv"])
def test_boxes_have_the_names_that_they_have_everywhere(file):
    edges = [column.name for column in TABLES[file] if column.name.endswith(("_min", "_max"))]
    assert edges == axis_names(3)
