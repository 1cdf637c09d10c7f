"""The figures of the house, on a tiny package whose figures are known."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "house.py"

FILES = {
    "softoverlap/__init__.py": '_ROOMS = {"masks": ("a", "b"), "losses": ("c",)}\n',
    "softoverlap/masks.py": (
        "def few(a, b, c, d, e, f): ...\n\n"
        "def many(a, b, c, /, d, e, *, f, g): ...\n\n"
        "class Thing:\n"
        "    def six(self, a, b, c, d, e, f): ...\n"
    ),
    "softoverlap/losses/__init__.py": "from softoverlap.losses.deep import x\n",
    "softoverlap/losses/deep.py": (
        '"""A line of more than twenty-five characters.\n\nShort.\n"""\n\n'
        "import softoverlap.masks\nfrom softoverlap.data import y\n"
    ),
    "softoverlap/data/__init__.py": '"""A line of more than twenty-five characters."""\n',
    "softoverlap/data/files.py": "from ..losses import deep, x\n" + "\n" * 360,
    "softoverlap/app/__init__.py": "",
    "softoverlap/app/words.py": "",
    "softoverlap/app/score/__init__.py": "from softoverlap.app.score.run import z\n",
    "softoverlap/app/score/run.py": "from softoverlap.app import words\n",
    "softoverlap/app/cli/__init__.py": (
        "from softoverlap.app.score import z\nfrom softoverlap.app.score.run import z\n"
    ),
    "tests/test_a.py": "\n" * 39,
}


@pytest.fixture
def tree(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def printed(*arguments):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def rows_of(text):
    cells = [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]
    return {name: values for name, *values in cells}


def test_the_figures_are_those_of_the_tree(tree):
    rows = rows_of(printed(tree))
    assert rows["public names"] == ["3"]
    assert rows["functions of more than 6 parameters"] == ["1 (33.3%)"]
    assert rows["most parameters of a function"] == ["7"]
    assert rows["repeated docstring lines"] == ["50.0%"]
    assert rows["files"] == ["11"]
    assert rows["longest file, lines"] == ["361 (softoverlap.data.files)"]
    assert rows["files of more than 350 lines"] == ["1"]
    assert rows["modules imported past another room's door"] == ["2"]
    assert rows["lines of tests"] == ["39"]


def test_what_is_imported_past_doors_is_listed(tree):
    lines = printed(tree / "softoverlap", "--past").splitlines()
    assert lines[-2:] == [
        "softoverlap.app.cli imports softoverlap.app.score.run",
        "softoverlap.data imports softoverlap.losses.deep",
    ]


def test_two_trees_stand_side_by_side(tree):
    rows = rows_of(printed("--compare", tree))
    assert all(len(values) == 2 for values in rows.values())
    assert rows["public names"][1] == "3"


def test_a_folder_without_the_package_is_refused(tmp_path):
    with pytest.raises(subprocess.CalledProcessError) as error:
        printed(tmp_path)
    assert error.value.returncode == 1
