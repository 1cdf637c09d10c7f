"""The page on planning: its figures are those of the stored run, and real lesions reach them."""

from __future__ import annotations

import json
import re
from itertools import combinations_with_replacement
from pathlib import Path

import pytest

from softoverlap import AnchorPlan, plan_anchors
from softoverlap.anchors.planning import EDGES
from tests.support.scripts import loaded_script

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / "benchmarks/results/anchor_plan.json").read_text())
PAGE = (ROOT / "docs/planning.md").read_text()
OPEN_MS = ROOT.parent / "shared" / "data" / "open_ms"


@pytest.fixture(scope="module")
def study():
    with loaded_script("benchmarks/anchor_plan.py") as module:
        yield module


def test_the_figures_of_the_page_are_the_stored_run(study):
    assert study.block(STORED) in PAGE
    assert study.EDGES == EDGES


def test_the_plan_reaches_most_of_all_candidates_and_says_what_it_misses():
    main = STORED["rows"]["planned, at most 0.55"]
    assert main["anchors_per_voxel"] <= 0.55
    sorted_ones, every = STORED["reach"].values()
    assert min(sorted_ones.values()) >= 0.95
    assert min(every.values()) >= 0.9
    assert ("is missed" in PAGE) == (every["mean"] < 0.95)
    assert AnchorPlan.from_dict(STORED["plan"]).anchors_per_voxel == main["anchors_per_voxel"]


def test_the_keys_of_a_plan_are_those_that_the_page_explains():
    table = PAGE[PAGE.index("| key of") : PAGE.index("Candidate strides")]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    keys = {key for first in rows for key in re.findall(r"`(\w+)`", first)}
    assert keys == {*AnchorPlan.__dataclass_fields__, "anchors_per_voxel"}


def test_the_example_of_the_page_runs():
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(compile(code, "planning.md", "exec"), {})


@pytest.mark.slow
@pytest.mark.skipif(not OPEN_MS.is_dir(), reason="the open_ms scans are not here")
def test_a_plan_of_some_patients_serves_others(study):
    plan = plan_anchors(study.patients(OPEN_MS, 2, 5))
    lesions = study.patients(OPEN_MS, 12, 15)
    every = study.all_shapes((2, 2, 2), combinations_with_replacement(EDGES, 3))
    assert plan.strides[0] == (2, 2, 2)
    assert plan.anchors_per_voxel <= 0.55
    assert plan.quality(lesions).mean() >= 0.95 * every.quality(lesions).mean()
