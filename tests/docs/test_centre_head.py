"""The study of a head without anchors works, and the page on planning says what its run says."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

from tests.support.scripts import loaded_script

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / "benchmarks/results/centre_head.json").read_text())
PAGE = (ROOT / "docs/planning.md").read_text()


@pytest.fixture(scope="module")
def study():
    with loaded_script("benchmarks/centre_head.py") as module:
        yield module


def test_the_figures_of_the_page_are_the_stored_run(study):
    assert study.block(STORED) in PAGE
    settings = json.loads(json.dumps(asdict(study.Settings())))
    assert STORED["settings"] == settings


def test_the_page_says_whether_the_head_found_more_from_every_seed(study):
    lead = study.leads(study.CENTRE, STORED)
    assert len(lead) == 3
    assert ("At the same cost it finds more of them" in " ".join(PAGE.split())) == (min(lead) > 0)


def test_both_heads_trained_for_as_long_and_once_for_as_many_steps(study):
    runs = [study.of(arm, STORED) for arm in (study.PLANNED, study.CENTRE, study.AS_MANY)]
    for planned, centre, alike in zip(*runs, strict=True):
        assert planned["seed"] == centre["seed"] == alike["seed"]
        assert planned["steps"] == alike["steps"] == STORED["settings"]["steps"]
        spent = [run["steps"] * run["step_seconds"] for run in (planned, centre)]
        assert spent[0] == pytest.approx(spent[1], abs=centre["step_seconds"])


@pytest.mark.slow
def test_the_study_runs_and_goes_on_where_it_was_stopped(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks/centre_head.py"), "--fast", "--workers", "1"]
    run = partial(
        subprocess.run, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=400
    )
    first = run(command)
    finished = sorted(tmp_path.glob("runs/centre_head/fast/*-0.json"))
    assert len(finished) == 5  # a plan, a cost and three trainings
    before = {path: path.stat().st_mtime_ns for path in finished[1:]}
    finished[0].unlink()
    again = run(command)
    assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
    assert {path: path.stat().st_mtime_ns for path in finished[1:]} == before
