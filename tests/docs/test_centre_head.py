"""The study of a head without anchors works, and the page on planning says what its run says."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest
import torch

from softoverlap import AnchorPlan, box_iou, lesion_target, lesions_from_mask
from softoverlap.losses import BoxDIoULoss
from tests.support.scripts import loaded_script

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / "benchmarks/results/centre_head.json").read_text())
PAGE = (ROOT / "docs/planning.md").read_text()
PLAN = AnchorPlan(strides=[(2, 2, 2), (4, 4, 4)], sizes=[[(4, 4, 4)], [(8, 8, 8), (9, 9, 9)]])


@pytest.fixture(scope="module")
def study():
    with loaded_script("benchmarks/centre_head.py") as module:
        yield module


@pytest.fixture
def detector(study):
    torch.manual_seed(0)
    made = study.CentreDetector(study.centre_retinanet(plan=PLAN, channels=(8, 8)))
    made.set_box_regression_loss(BoxDIoULoss(), encode_gt=False, decode_pred=True)
    return made


@pytest.fixture
def target():
    mask = torch.zeros(16, 16, 16)
    mask[2:8, 4:10, 5:9] = 0.8
    mask[12:14, 10:12, 12:14] = 1.0
    return lesion_target(lesions_from_mask(mask, spacing=(1.0, 1.0, 1.0)))


class Told(torch.nn.Module):
    """A network that returns the maps that it was given."""

    def __init__(self, logits, codes):
        super().__init__()
        self.maps = {"classification": logits, "box_regression": codes}

    def forward(self, images):
        return {key: [level] for key, level in self.maps.items()}


def grid(detector):
    detector.anchors = None
    maps = {"classification": [torch.zeros(1, 1, 8, 8, 8)]}
    detector.generate_anchors(torch.zeros(1, 1, 16, 16, 16), maps)
    return detector.anchors[0]


def perfect(study, detector, target):
    """Maps that say exactly where the lesions are, with the boxes as codes."""
    cells = grid(detector)
    heat, lesion = study.heat_map(target["lesions"], cells)
    boxes = torch.where((lesion >= 0)[:, None], target["boxes"][lesion], cells)
    codes = detector.box_coder.encode_single(boxes, cells)
    logits = torch.where(heat == 1, 30.0, -30.0)
    return logits.view(1, 1, 8, 8, 8), codes.T.reshape(1, 6, 8, 8, 8)


def test_the_figures_of_the_page_are_the_stored_run(study):
    assert study.block(STORED) in PAGE
    settings = json.loads(json.dumps(asdict(study.Settings())))
    assert STORED["settings"] == settings


def test_the_page_says_whether_the_head_found_more_from_every_seed(study):
    lead = study.leads(study.CENTRE, STORED)
    assert len(lead) == 3
    assert ("has no such head" in PAGE) == (min(lead) <= 0)


def test_both_heads_trained_for_as_long_and_once_for_as_many_steps(study):
    runs = [study.of(arm, STORED) for arm in (study.PLANNED, study.CENTRE, study.AS_MANY)]
    for planned, centre, alike in zip(*runs, strict=True):
        assert planned["seed"] == centre["seed"] == alike["seed"]
        assert planned["steps"] == alike["steps"] == STORED["settings"]["steps"]
        spent = [run["steps"] * run["step_seconds"] for run in (planned, centre)]
        assert spent[0] == pytest.approx(spent[1], abs=centre["step_seconds"])


def test_the_heat_is_1_at_the_middle_of_a_lesion_and_fades_around_it(study, detector, target):
    cells = grid(detector)
    heat, lesion = study.heat_map(target["lesions"], cells)
    for number, box in enumerate(target["boxes"]):
        peak = cells[(heat == 1) & (lesion == number)]
        assert len(peak) == 1
        middle = (box[:3] + box[3:]) / 2
        assert ((peak[0, :3] + peak[0, 3:]) / 2 - middle).abs().max() <= 1
    assert heat.view(8, 8, 8)[7, 0, 7] < 1e-3
    assert 0 <= heat.min() <= heat.max() == 1


def test_a_scan_without_lesions_is_cold_and_trains(detector):
    losses = detector(torch.zeros(1, 1, 16, 16, 16), [lesion_target([])])
    assert losses["box_regression"] == 0
    sum(losses.values()).backward()
    assert all(weights.grad is not None for weights in detector.network.parameters())


def test_maps_that_are_right_cost_nothing_and_give_each_lesion_once(study, detector, target):
    logits, codes = perfect(study, detector, target)
    rows = {
        "classification": logits.flatten(2).mT,
        "box_regression": codes.flatten(2).mT,
    }
    losses = detector.compute_loss(rows, [target], detector.anchors, [512])
    assert all(loss < 1e-5 for loss in losses.values())
    detector.network = Told(logits, codes)
    (found,) = detector.eval()(torch.zeros(1, 1, 16, 16, 16))
    assert box_iou(found["boxes"], target["boxes"]).round().sum(dim=0).tolist() == [1, 1]
    assert len(found["boxes"]) == 2


def test_what_is_beside_a_peak_is_no_detection(detector):
    logits = torch.full((1, 1, 8, 8, 8), -9.0)
    logits[0, 0, 3, 3, 3:6] = torch.tensor([1.0, 2.0, 1.5])
    codes = torch.zeros(1, 6, 8, 8, 8)
    codes[0, 3:] = -3.0  # so small that no box suppresses another
    detector.network = Told(logits, codes)
    (found,) = detector.eval()(torch.zeros(1, 1, 16, 16, 16))
    assert found["labels_scores"].tolist() == pytest.approx([torch.tensor(2.0).sigmoid().item()])


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
