"""The study of small lesions works, and the page on lesion-wise losses says what its run says."""

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
STORED = json.loads((ROOT / "benchmarks/results/lesion_segmentation.json").read_text())
PAGE = (ROOT / "docs/lesion_losses.md").read_text()


@pytest.fixture(scope="module")
def study():
    with loaded_script("benchmarks/lesion_segmentation.py") as module:
        yield module


def test_the_figures_of_the_page_are_the_stored_run(study):
    assert study.block(STORED) in PAGE
    assert STORED["settings"] == json.loads(json.dumps(asdict(study.Settings())))
    assert STORED["shapes"] == "real"


def test_leads_and_intervals_are_those_of_the_runs(study):
    runs = [{**run, "candidates": None} for run in STORED["runs"]]
    assert study.losses_beside(runs) == STORED["losses"]


def test_the_interval_of_a_mean_is_students(study):
    low, high = study.interval([1.0, 2.0, 3.0])
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), abs=1e-5)


@pytest.mark.slow
def test_the_study_runs_and_goes_on_where_it_was_stopped(tmp_path):
    script = str(ROOT / "benchmarks/lesion_segmentation.py")
    command = [sys.executable, script, "--fast", "--workers", "1"]
    run = partial(
        subprocess.run, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=600
    )
    first = run(command)
    networks = sorted(tmp_path.glob("runs/lesion_segmentation/fast/*.pt"))
    assert len(networks) == 4
    before = [path.stat().st_mtime_ns for path in networks]
    networks[0].with_suffix(".json").unlink()
    again = run(command)
    assert again.stdout.splitlines()[-8:] == first.stdout.splitlines()[-8:]
    assert [path.stat().st_mtime_ns for path in networks] == before
