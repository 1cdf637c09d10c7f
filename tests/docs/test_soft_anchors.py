"""The study of hard and soft anchors runs, and its page says what the stored run says."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from scipy import stats

from softoverlap.anchors import AnchorWeighting
from softoverlap.bundles import LESION_DETECTION
from softoverlap.measures import Outcomes
from tests.support.scripts import loaded_script

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / "benchmarks/results/soft_anchors.json").read_text())
PAGE = (ROOT / "docs/soft_anchors.md").read_text()


@pytest.fixture(scope="module")
def study():
    with loaded_script("benchmarks/soft_anchors.py") as module:
        yield module


def test_the_table_is_the_stored_run(study):
    assert study.table(STORED["arms"]) in PAGE
    assert list(STORED["arms"]) == list(study.ARMS)
    assert all(len(one["seeds"]) >= 5 for arm in STORED["arms"].values() for one in arm.values())


def test_the_stored_run_has_the_setting_that_the_page_and_the_script_tell(study):
    setting = STORED["setting"]
    config = study.SETTINGS[setting["name"]].config
    shared = setting["config"].keys() & config.keys()  # the run was of another loop
    assert shared == {"patch_size", "batch_size", "steps", "amp"}
    assert all(setting["config"][name] == config[name] for name in shared)
    for number in (setting["train_scans"], setting["test_scans"], setting["config"]["steps"]):
        assert f"{number} " in PAGE
    assert (ROOT / "docs/figures/soft_anchors.png").exists()
    assert "figures/soft_anchors.png" in PAGE


def test_the_readme_says_what_soft_matching_did_in_the_stored_run():
    readme = " ".join((ROOT / "README.md").read_text().split())
    hard, soft = (STORED["arms"][arm] for arm in ("hard ATSS", "soft"))
    cpm, ap = ((arm["mean"] for arm in (hard[name], soft[name])) for name in ("CPM", "AP@0.1"))
    assert "a CPM of {:.3f} (soft: {:.3f})".format(*cpm) in readme
    assert "an AP of {:.3f} (soft: {:.3f}) at IoU 0.1".format(*ap) in readme


def test_the_default_weighting_is_that_of_the_arm_that_found_lesions_best(study):
    for name in ("CPM", "AP@0.1"):
        assert max(STORED["arms"], key=lambda arm: STORED["arms"][arm][name]["mean"]) == "hard ATSS"
    bundle = yaml.safe_load((LESION_DETECTION / "configs" / "train.yaml").read_text())
    assert study.ARMS["hard ATSS"].keys() == {"overlap"}  # its weighting is the bundle's
    assert bundle["weighting"] == {"_target_": "softoverlap.anchors.AnchorWeighting"}
    assert AnchorWeighting() == AnchorWeighting(target="hard", box_weight="one")


def scan_of(scores, agreement, outcome, lesions):
    """A scan as the study stores it; the hits took the first lesions."""
    outcome = torch.tensor(outcome)
    taken = torch.where(outcome == 1, (outcome == 1).cumsum(0) - 1, -1)
    nowhere = torch.zeros(len(outcome), 6, dtype=torch.float64)
    record = Outcomes(
        boxes=nowhere,
        labels=nowhere[:, 0],
        scores=torch.as_tensor(scores, dtype=torch.float64),
        outcome=outcome[:, None, None],
        lesion=taken[:, None, None],
        lesion_boxes=torch.zeros(lesions, 6, dtype=torch.float64),
        lesion_labels=torch.zeros(lesions, dtype=torch.float64),
        existence=torch.ones(lesions, dtype=torch.float64),
        sizes=torch.ones(lesions, dtype=torch.float64),
        scans=torch.tensor([[len(outcome), lesions]]),
    )
    return {"agreement": agreement, "outcomes": {"0.1": record.as_dict()}}


def test_ranks_correlate_as_scipy_says(study):
    generator = torch.Generator().manual_seed(0)
    score = torch.randint(0, 6, (40,), generator=generator) / 6
    agreement = torch.randint(0, 5, (40,), generator=generator) / 5
    scan = scan_of(score, agreement.tolist(), [1] * 30 + [0] * 5 + [-1] * 5, lesions=30)
    expected = stats.spearmanr(score[:30], agreement[:30]).statistic
    assert study.rank_correlation([scan]) == pytest.approx(expected, abs=1e-12)


def test_calibration_is_that_of_the_definition(study):
    outcome = [1, 1, -1, 0]  # a false positive and a duplicate do not count
    scan = scan_of([0.95, 0.91, 0.15, 0.4], [1.0, 0.5, 0.0, 0.7], outcome, lesions=3)
    assert study.found_of([scan]) == 2 / 3
    assert study.brier([scan]) == pytest.approx((0.05**2 + 0.41**2) / 2)
    assert study.calibration_error([scan]) == pytest.approx(abs(0.95 + 0.91 - 1.5) / 2)


@pytest.mark.slow
def test_the_study_runs_and_goes_on_where_it_was_stopped(tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks/soft_anchors.py"), "--fast"]
    run = partial(
        subprocess.run, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=400
    )
    first = run(command)
    assert first.stdout.count("| soft + IoU-aware |") == 1
    finished = sorted(tmp_path.glob("runs/soft_anchors/fast-*/*.json"))
    assert len(finished) == 8
    before = {path: path.stat().st_mtime_ns for path in finished[1:]}
    finished[0].unlink()
    again = run(command)
    assert again.stdout.splitlines()[-1] == first.stdout.splitlines()[-1]
    assert {path: path.stat().st_mtime_ns for path in finished[1:]} == before
