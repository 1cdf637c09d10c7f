"""The page "Metrics" says what the stored runs say, and its examples run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import softoverlap
from softoverlap.measures import Measure

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/metrics.md").read_text()
RESULTS = ROOT / "benchmarks/results"
SEEN = json.loads((RESULTS / "what_metrics_see.json").read_text())
TIMES = json.loads((RESULTS / "thresholds.json").read_text())


def rows_of(start):
    """Name and cells of each row of the table whose first line starts so, and that line's cells."""
    lines = PAGE[PAGE.index(start) :].splitlines()
    end = next(k for k, line in enumerate(lines) if not line.startswith("|"))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:end]]
    return cells[0][1:], {name: row for name, *row in cells[2:]}


def test_the_table_of_what_metrics_see_is_the_stored_run():
    versions, rows = rows_of("| metric | itself")
    assert versions == list(SEEN["versions"])
    assert list(rows) == list(SEEN["versions"]["itself"])
    for name, cells in rows.items():
        stored = [SEEN["versions"][version][name] for version in versions]
        assert cells == [f"{value:.2f}".replace("-", "−") for value in stored], name
    assert f"lesions of {SEEN['patients']} patients" in PAGE


def test_what_the_page_says_about_the_table_holds():
    seen = SEEN["versions"]
    unsure, missed, extra = seen["at 0.6"], seen["small missed"], seen["one too many"]
    for name in ("MONAI's Dice of ≥ 0.5", "surface Dice at 1 mm", "AP at IoU 0.5"):
        assert unsure[name] == pytest.approx(1)
    assert unsure["soft Dice"] < 0.8
    assert min(missed["soft Dice"], extra["soft Dice"]) > 0.97
    assert missed["lesion recall"] < 0.6 < 0.95 < missed["lesion-wise Dice"]
    assert missed["panoptic quality"] < 0.7
    assert extra["false positives"] == 1
    assert extra["lesion-wise Dice"] < 0.9
    assert extra["CPM"] < 0.6
    assert seen["dilated"]["lesion recall"] == 1
    assert seen["shifted"]["surface Dice at 1 mm"] == pytest.approx(1)
    assert seen["shifted"]["soft Dice"] < 0.75
    assert abs(seen["shifted"]["volume bias (ml)"]) < 1e-3
    assert seen["shifted"]["CPM"] == 0


def test_the_table_of_times_is_the_stored_run_and_meets_its_aims():
    _, rows = rows_of("| | lesion maps")
    keys = ("thresholded", "expected_histogram", "expected_exact", "best_threshold_listed")
    for cells, key in zip(rows.values(), keys, strict=True):
        ratios = [TIMES[kind]["bare_loop_over"][key] for kind in ("lesion", "dense")]
        assert cells == [f"{ratio:.1f}×" for ratio in ratios]
        aim = 1 / 4 if key == "expected_exact" else 15
        assert min(ratios) >= aim
    error, bound = (TIMES["lesion"][f"expected_histogram_error{end}"] for end in ("", "_bound"))
    assert f"the error was {error:.0e} and the bound {bound:.0e}" in PAGE


def test_every_measure_and_metric_is_named_on_the_page_and_every_name_exists():
    named = set(re.findall(r"`(\w+)`", PAGE))
    rooms = ("softoverlap.measures", "softoverlap.for_monai")
    offered = [name for name, room in softoverlap._ROOM_OF.items() if room in rooms]
    kinds = {name: getattr(softoverlap, name) for name in offered}
    measures = {n for n, k in kinds.items() if isinstance(k, type) and issubclass(k, Measure)}
    metrics = {name for name in offered if name.endswith("Metric")}
    assert measures | metrics <= named
    assert {n for n in named if n.endswith("Metric")} == metrics | {"CumulativeIterationMetric"}


def test_each_example_of_the_page_runs_by_itself(capsys):
    for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(code, "metrics.md", "exec"), {})
    assert "nan" not in capsys.readouterr().out
