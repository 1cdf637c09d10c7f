"""The page about scoring lists the columns as the package has them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.scripts import loaded_script

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    with loaded_script("docs/columns.py") as module:
        yield module


def test_the_page_lists_every_column(script):
    page = script.PAGE.read_text(encoding="utf-8")
    assert page == script.with_tables(page), "run: python docs/columns.py"


def test_a_page_without_the_marks_is_named(script):
    with pytest.raises(ValueError, match=r"must have the mark <!-- columns of cases.csv --> once"):
        script.with_tables("nothing")
