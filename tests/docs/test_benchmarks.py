"""The page of benchmarks and the README say what the stored runs say, and growth is fitted well."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from PIL import Image

from tests.support.scripts import loaded_script

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/benchmarks.md").read_text()
README = (ROOT / "README.md").read_text()
SIZES = [32**3, 64**3, 128**3, 192**3, 256**3, 384**3]


@pytest.fixture(scope="module")
def page():
    with loaded_script("docs/benchmarks.py") as module:
        yield module


@pytest.fixture(scope="module")
def growth():
    with loaded_script("benchmarks/growth.py") as module:
        yield module


@pytest.fixture(scope="module")
def fit():
    with loaded_script("benchmarks/_fit.py") as module:
        yield module


def test_the_page_and_the_readme_are_the_stored_runs(page):
    stored = page.stored_runs()
    assert page.with_blocks(PAGE, stored) == PAGE
    assert page.with_speed(README, stored) == README


def test_the_pictures_are_of_the_stored_runs(page):
    stored = page.stored_runs()
    with loaded_script("docs/_plots.py") as plots:
        pass
    drawn = {"headlines": stored.get("headlines"), "growth": page.growth_run(stored)}
    for name, run in drawn.items():
        if run is not None:
            assert f"figures/{name}.png" in PAGE
            with Image.open(ROOT / f"docs/figures/{name}.png") as picture:
                assert picture.info["Comment"] == plots.digest(run)


def test_the_page_says_what_was_not_run(page):
    blocks = page.blocks({})
    assert blocks.keys() == {"headlines", "comparisons", "scans", "growth", "gpu"}
    assert all(page.NOT_RUN in text for text in blocks.values())
    assert "not been measured" in page.speed({})
    page.with_speed(README, {})


def test_the_readme_says_what_a_plan_gains_in_the_demo(page):
    runs = [
        {"arm": arm, "cpm": cpm + seed / 100, "training_steps": 400 + seed, "baselines_cpm": low}
        for arm, cpm, low in (("planned", 0.8, {"threshold": 0.1}), ("without a plan", 0.6, {}))
        for seed in range(3)
    ]
    words = " ".join(page.demo_words({"demo_seeds": {"runs": runs}}).split())
    assert "with 400 to 402 steps, it was 0.80 to 0.82, without a plan 0.60 to 0.62." in words
    assert "at most 0.10" in words
    assert "not been measured" in page.demo_words({"demo_seeds": {"runs": [{"cpm": 0.9}]}})


def test_the_page_shows_where_the_peer_is_faster(page):
    turns = {"time_over_peer": 3.0, "time_over_peer_min_max": [2.5, 3.5], "memory_over_peer": 2.0}
    machine = {"device": "x86_64", "cpu_cores": 2, "torch_threads": 1, "torch": "2", "monai": "1"}
    stored = {
        "losses": {"machine": machine, "ours min, against MONAI Dice": turns},
        "new": {"machine": machine, "monai_over_ours, once": {"seconds": 4.0, "peak_memory": 2.0}},
        "old": {"machine": machine, "crops_over_monai": 5.9},
        "most": {"machine": machine, "bare_loop_over": {"bare_loop": 1.0, "expected_exact": 8.0}},
    }
    text = page.comparisons(stored)
    assert "| ours min | MONAI Dice | 3.00 | 2.50 to 3.50 | 2.00 |" in text
    assert "| once | MONAI | 0.25 |  | 0.50 |" in text
    assert "| crops | MONAI | 5.90 |  |  |" in text
    assert "| expected exact | a loop over the thresholds | 0.12 |  |  |" in text
    assert text.count(page.NOT_RUN) == len(page.TITLES) - 1


def test_the_page_shows_the_targets_of_a_gpu(page):
    machine = {"device": "Some GPU", "cpu_cores": 2, "torch_threads": 1, "torch": "2", "monai": "1"}
    targets = {
        "over MONAI's box_iou, crops": {"measured": 0.3, "at_most": 0.2, "reached": False},
        "bandwidth": {"measured": 0.8, "at_least": 0.7, "reached": True},
    }
    stored = {"gpu_Some_GPU": {"machine": machine, "targets": targets}}
    text = page.gpu(stored)
    assert page.NOT_RUN not in text
    assert "| over MONAI's box_iou, crops | 0.3 | at most 0.2 | **no** |" in text
    assert "| bandwidth | 0.8 | at least 0.7 | yes |" in text
    headline = {"time_over_peer": 1.0, "time_over_peer_min_max": [1, 1], "peer": {"case": "MONAI"}}
    stored["headlines"] = {"mask_box_dice": headline, "SoftDiceLoss": headline}
    assert "took 0.3 times as long" in " ".join(page.speed(stored).split())
    del stored["headlines"]
    stored["mask_boxes"] = {"box_iou": {"crops_over_monai": 0.26}}
    assert "takes 0.26 of the time" in " ".join(page.speed(stored).split())


def test_the_page_shows_scans_of_the_new_script_and_of_the_old(page):
    machine = {"device": "x86_64", "cpu_cores": 2, "torch_threads": 1, "torch": "2", "monai": "1"}
    runners = {"scans": 9, "shape": [4, 4, 4], "runs": {}}
    large = {"shape": [8, 8, 8], "seconds": 2.0, "peak_bytes": 30, "volumes_bytes": 10}
    cohort = {"pairs": 5, "shape": [6], "workers": 2, "seconds": 9.0, "seconds_a_pair": 0.25}
    new = {"runners": runners, "large": large, "cohort": {"uint8": cohort}, "machine": machine}
    text = page.scans({"scans": new | {"haze": {"shape": [5], "volumes_with_both_masks": 6.0}}})
    assert "5 pairs of uint8, 6, 2 workers: 9 s in all, 0.25 s a pair" in text
    assert "A pair of 8×8×8 takes 2.0 s and holds 3.0 times" in text
    assert "holds 6.0 volumes" in text
    old = page.scans({"cohort": {"speed": runners, "memory": large, "machine": machine}})
    assert "A pair of 8×8×8 takes 2.0 s and holds 3.0 times" in old


def test_the_page_can_be_found():
    assert "docs/benchmarks.md" in README
    assert re.search(r"^benchmarks$", (ROOT / "docs/index.md").read_text(), flags=re.MULTILINE)
    for target in re.findall(r"^make (\S+)", PAGE, flags=re.MULTILINE):
        assert f"\n{target}:" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize(("theory", "power"), [("n", 1), ("n log n", 1), ("n^(5/3)", 5 / 3)])
def test_a_curve_that_keeps_its_theory_is_not_above_it(fit, theory, power):
    times = [0.1 + 1e-9 * fit.GROWTHS[theory](n) for n in SIZES]
    found = fit.fitted(SIZES, times, theory)
    assert found["exponent"] == pytest.approx(found["expected"], abs=0.02)
    assert found["expected"] > power
    assert not found["above"]


def test_a_curve_that_is_steeper_than_its_theory_is_above_it(fit):
    found = fit.fitted(SIZES, [0.1 + 1e-9 * n**1.2 for n in SIZES], "n")
    assert found["above"]
    assert found["exponent"] == pytest.approx(1.2, abs=0.02)


def test_what_is_too_little_has_no_exponent_and_what_is_constant_that_of_a_constant(fit):
    assert "exponent" not in fit.fitted(SIZES, [1.0] * 6, "n", floor=2.0)
    stages = [max(13.0, 0.5 * n) for n in (1, 20, 50, 100)]
    assert not fit.fitted([1, 20, 50, 100], stages, "n", fixed_cost=False)["above"]
    constant = fit.fitted([1, 2, 5, 10, 20], [math.e] * 5, "1")
    assert constant["exponent"] == pytest.approx(0)
    assert not constant["above"]


def test_a_run_that_was_cut_off_goes_on_after_the_last_stored_curve(growth, tmp_path):
    path, asked = tmp_path / "growth.json", dict(list(growth.CURVES.items())[:3])
    measured = []

    def measure(case):
        if len(measured) == 10:
            raise KeyboardInterrupt
        measured.append(case)
        return {"best": 1e-9 * int(case.split(", ")[-1]) ** 3, "bytes": 0}

    with pytest.raises(KeyboardInterrupt):
        growth.grow(path, growth.QUICK, asked, measure)
    assert list(json.loads(path.read_text())["curves"]) == list(asked)[:2]
    measured.clear()
    growth.grow(path, growth.QUICK, asked, measure)
    assert measured == [f"{list(asked)[2]}, {size}" for size in growth.QUICK["voxels"]]
    stored = json.loads(path.read_text())
    assert list(stored["curves"]) == list(asked)
    assert "unfinished" not in stored


def test_points_of_growth_are_measured(growth):
    with loaded_script("benchmarks/_fresh.py") as fresh:
        pass
    for case in ("mask_dice, 32", "match_scan, two boxes a lesion, 5", "box_nms, sparse, 100"):
        point = fresh.measured(growth.CASES[case](), repeats=1)
        assert point["seconds"] >= point["best"] > 0
    assert set(growth.QUICK_CURVES) <= set(growth.CURVES)
