"""The page "Which box loss?" says what the stored run says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / "benchmarks/results/box_regression.json").read_text())
PAGE = (ROOT / "docs/which_box_loss.md").read_text()
LOSSES = ("IoU", "GIoU", "DIoU", "CIoU", "EIoU", "NWD")


def rows_of(heading):
    """Cells of the table under the header that starts with these words."""
    lines = PAGE[PAGE.index(heading) :].splitlines()[2:]
    rows = [line.strip("| ").split(" | ") for line in lines]
    return rows[: next(k for k, line in enumerate(lines) if not line.startswith("|"))]


def test_the_table_of_arrivals_is_the_stored_run():
    rows = rows_of("| loss | 2D arrive")
    assert [row[0] for row in rows] == list(LOSSES)
    for name, *cells in rows:
        expected = []
        for kind in ("2D", "3D"):
            figures = STORED[kind][name]
            for part in (figures["all"], figures["apart"]):
                step = part["median_step"]
                expected += [
                    f"{100 * part['arrived']:.0f} %",
                    "–" if step is None else f"{step:.0f}",
                ]
            expected.append(f"{figures['overgrowth_from_apart']:.1f}")
        assert cells == expected


@pytest.mark.parametrize(
    ("heading", "name", "columns"),
    [
        ("| side | GIoU |", "growth of a disjoint box", ("GIoU", "DIoU")),
        ("| side | NWD |", "scale", ("NWD", "IoU")),
        ("| IoU | (1 − IoU)^γ", "factor at gamma 0.5", ("ours", "Focal-EIoU")),
    ],
)
def test_the_tables_of_weaknesses_are_the_stored_run(heading, name, columns):
    figures = STORED["weaknesses"][name]
    expected = [[key, *(f"{row[c]:.2f}" for c in columns)] for key, row in figures.items()]
    assert rows_of(heading) == expected


def test_the_examples_of_the_page_run(capsys):
    scope = {}
    for example in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(example, "which_box_loss.md", "exec"), scope)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "tensor([0, 2])"
    assert printed[-1] == "tensor([0, 1])"


def test_the_pictures_of_the_page_are_there():
    for name in ("desert", "fields", "curves", "steps", "scale", "weaknesses"):
        assert f"figures/box_losses_{name}.png" in PAGE
        assert (ROOT / f"docs/figures/box_losses_{name}.png").exists()
