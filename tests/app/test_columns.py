"""The table of columns is whole: what `score` writes, the page shows and the docs list."""

from __future__ import annotations

import csv

import pytest

from softoverlap.app.cohort import ScorePair, ScoreSettings, score_cohort
from softoverlap.app.columns import CASES, RANKED_BY, TABLES, file_header, find_column
from softoverlap.images import axis_names
from tests.support.box_scans import box_file, mask_file
from tests.support.cohort_makers import pairs_of, write_cohort


@pytest.mark.parametrize("file", TABLES)
def test_names_are_unique_and_every_column_says_what_it_is(file):
    names = [column.name for column in TABLES[file]]
    assert len(set(names)) == len(names)
    assert all(column.title and column.meaning for column in TABLES[file])
    titles = [column.heading for column in TABLES[file]]
    assert len(set(titles)) == len(titles)


def header(path):
    with path.open(newline="") as stream:
        return next(csv.reader(stream))


def score_boxes(folder):
    """Boxes against a label map with a lesion that counts, a large one and an ignored one."""
    lesion, large, ignored = [2, 2, 2, 6, 6, 6], [0, 16, 2, 40, 20, 6], [20, 2, 2, 24, 6, 6]
    pred = box_file(
        folder / "pred" / "a.json", [lesion, large], scores=[0.9, 0.8], labels=[1, 1],
        smallest_anchor=(4.0, 4.0, 4.0),
    )  # fmt: skip
    truth = mask_file(folder / "truth" / "a.nii.gz", [lesion, large, ignored], value=[1, 1, 2])
    settings = ScoreSettings(labels=(1,), ignore=(2,), truth_values="labels")
    score_cohort([ScorePair("a", pred, (truth,))], folder / "out", settings)


def test_scoring_writes_the_columns_of_the_tables_in_their_order(tmp_path):
    score_cohort(pairs_of(write_cohort(tmp_path / "masks", 2)), tmp_path / "masks" / "out")
    score_boxes(tmp_path / "boxes")
    for file, table in TABLES.items():
        names = [column.name for column in table]
        masks, boxes = (header(tmp_path / kind / "out" / file) for kind in ("masks", "boxes"))
        for written in (masks, boxes):
            assert written == [name for name in names if name in written]
        assert {*masks, *boxes} == set(names)
        assert "label" not in masks
    of_boxes = {"found_by_centre", "box_iou", "too_large_covered", "lesions_below_smallest_anchor"}
    assert of_boxes <= set(header(tmp_path / "boxes" / "out" / "cases.csv"))
    assert not of_boxes & set(header(tmp_path / "masks" / "out" / "cases.csv"))


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
