"""The demo leaves what it promises, and says so early where it cannot."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace

import pytest
import torch

from softoverlap.app.demo import DemoOptions, run_demo
from softoverlap.app.demo.baselines import Threshold, fit_threshold
from softoverlap.app.train import evaluate, load_checkpoint, scan_target
from softoverlap.for_monai import read_checkpoint
from softoverlap.images import LoadedCase, load_nifti, read_boxes, read_plan, read_splits
from softoverlap.phantoms import LesionPhantoms

SMALL = {"channels": [8, 8, 8], "feature_channels": 8, "workers": 0, "epoch_steps": 3}
"""Settings of a network that trains in seconds."""


def fast(seed=3):
    options = DemoOptions.fast(seed).with_training(**SMALL, steps=6)
    return replace(options, train_scans=2, validation_scans=1, test_scans=2)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "demo"
    said = []
    return folder, run_demo(folder, fast(), device="cpu", say=said.append), said


@pytest.mark.slow
def test_metrics_hold_the_promised_numbers_in_full_precision(demo):
    folder, result, _ = demo
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics == json.loads(json.dumps(result.metrics))
    assert metrics["seed"] == 3
    assert metrics["cpm"] == result.evaluations["trained"].froc.cpm
    assert {"ap@0.1", "ap@0.5", "sensitivity", "baselines", "training"} <= set(metrics)
    assert set(metrics["baselines"]) == {"untrained", "threshold"}
    training = metrics["training"]
    assert (training["steps"], training["planned"], training["stopped_by"]) == (6, 6, "steps")
    assert metrics["point"]["sensitivity"] == result.evaluations["trained"].point.sensitivity
    assert metrics["threshold_rule"].startswith("f1 on 1 validation scan")


@pytest.mark.slow
def test_the_detector_has_the_anchors_of_the_plan_and_trains_on_its_part(demo):
    folder, _, said = demo
    plan = read_plan(folder / "plan.json")
    settings = load_checkpoint(folder / "checkpoint.pt", device="cpu").settings
    assert settings["sizes"] == plan.to_dict()["sizes"]
    assert any("plan.json" in line for line in said)
    assert read_splits(folder / "phantoms" / "train" / "splits_final.json") == read_splits(
        folder / "splits_final.json"
    )


@pytest.mark.slow
def test_every_scan_has_boxes_markups_and_a_heat_map_on_its_grid(demo):
    folder, _, said = demo
    assert any("phantoms" in line for line in said)
    for path in sorted((folder / "phantoms" / "unseen" / "images").iterdir()):
        scan, name = load_nifti(path), path.name.removesuffix(".nii.gz")
        heat_map = load_nifti(folder / "detections" / f"{name}_heatmap.nii.gz")
        assert heat_map.data.shape == scan.data.shape
        assert torch.equal(heat_map.affine, scan.affine)
        assert read_boxes(folder / "detections" / f"{name}_boxes.json").case == name
        assert (folder / "detections" / f"{name}_boxes.mrk.json").exists()


@pytest.mark.slow
def test_tables_tell_every_lesion_and_every_box(demo):
    folder, result, _ = demo
    lesions = list(csv.DictReader((folder / "lesions.csv").open()))
    assert len(lesions) == result.metrics["lesions"]
    boxes = list(csv.DictReader((folder / "detections.csv").open()))
    hits = [row for row in boxes if row["outcome"] == "hit"]
    assert len(hits) == sum(row["score"] != "" for row in lesions)
    methods = {row["method"] for row in csv.DictReader((folder / "froc.csv").open())}
    assert methods == {"trained", "untrained", "threshold"}


@pytest.mark.slow
def test_pictures_are_png(demo):
    folder, _, _ = demo
    pictures = [folder / "froc.png", *(folder / "overlays").iterdir()]
    scans = {row["case"] for row in csv.DictReader((folder / "lesions.csv").open())}
    assert len(pictures) == 1 + len(scans) >= 2
    assert all(picture.read_bytes()[1:4] == b"PNG" for picture in pictures)


@pytest.mark.slow
def test_the_page_and_its_results_are_of_all_unseen_scans(demo):
    folder, result, said = demo
    cases = list(csv.DictReader((folder / "results" / "cases.csv").open()))
    assert [row["case"] for row in cases] == [f"phantom-{number:04d}" for number in range(2)]
    assert not any(row["error"] for row in cases)
    summary = json.loads((folder / "results" / "summary.json").read_text())
    assert summary["froc"]["lesions"] == result.metrics["lesions"]
    assert summary["froc"]["boxes"] == sum(1 for _ in (folder / "detections.csv").open()) - 1
    page = (folder / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "<h1>softoverlap demo" in page
    assert "No picture" not in page
    assert said[-1].endswith("report.html")


@pytest.mark.slow
def test_metrics_and_page_give_one_number(demo):
    folder, _, _ = demo
    summary = json.loads((folder / "results" / "summary.json").read_text())
    metrics = json.loads((folder / "metrics.json").read_text())
    assert summary["froc"]["cpm"] == pytest.approx(metrics["cpm"], abs=1e-6)
    rates = [metrics["sensitivity"][f"{rate:g}"] for rate in summary["froc"]["fp_rates"]]
    assert summary["froc"]["sensitivity"] == pytest.approx(rates, abs=1e-6)
    assert summary["average_precision"] == pytest.approx(metrics["ap@0.1"], abs=1e-6)
    point, shown = metrics["point"], summary["operating_point"]
    for name in ("threshold", "sensitivity", "precision", "f1", "fps_per_scan"):
        assert shown[name] == pytest.approx(point[name], abs=1e-6), name
    assert shown["hits"] == point["hits"]
    assert shown["false_positives"] == point["false_positives"]


@pytest.mark.slow
def test_the_page_knows_the_training_and_the_baselines(demo):
    folder, result, _ = demo
    known = json.loads((folder / "results" / "training.json").read_text())
    assert (known["steps"], known["planned"], known["stopped_by"]) == (6, 6, "steps")
    assert known["baselines"] == result.metrics["baselines"]
    assert {"point", "cpm"} <= set(known["baselines"]["threshold"])


@pytest.mark.slow
def test_boxes_carry_the_threshold_that_validation_phantoms_chose(demo):
    folder, result, _ = demo
    threshold = load_checkpoint(folder / "checkpoint.pt", device="cpu").score_threshold
    files = sorted((folder / "detections").glob("*_boxes.json"))
    assert {read_boxes(file).score_threshold for file in files} == {threshold}
    if threshold is not None:
        assert result.metrics["point"]["threshold"] == threshold
        assert result.metrics["point"]["rule"] is None


@pytest.mark.slow
def test_time_that_cuts_a_training_short_is_told(tmp_path):
    options = replace(
        fast().with_training(steps=10**6, minutes=0.02),
        train_scans=1, validation_scans=1, test_scans=1, overlays=0,
    )  # fmt: skip
    result = run_demo(tmp_path / "demo", options, device="cpu")
    training = result.metrics["training"]
    assert training["stopped_by"] == "minutes"
    assert training["steps"] < training["planned"] >= 10**6


@pytest.mark.slow
def test_a_resumed_demo_keeps_its_training(demo):
    folder, first, _ = demo
    steps = []
    again = run_demo(folder, fast(), device="cpu", resume=True, progress=steps.append)
    assert steps == []
    assert again.metrics == first.metrics
    assert read_checkpoint(folder / "checkpoint.pt")["training"]["steps"] == 6


@pytest.mark.slow
def test_another_demo_cannot_resume_this_one(demo):
    folder, _, _ = demo
    with pytest.raises(ValueError, match="options must be those of the demo"):
        run_demo(folder, fast(seed=4), device="cpu", resume=True)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="must be empty or hold a demo"):
        run_demo(tmp_path, DemoOptions.fast(), device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_missing_matplotlib_is_told_before_anything_is_written(tmp_path, monkeypatch):
    rooms = ("softoverlap.app.report", "matplotlib")
    for name in [name for name in sys.modules if name.startswith(rooms)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"softoverlap\[report\]"):
        run_demo(tmp_path / "demo", DemoOptions.fast(), device="cpu")
    assert not (tmp_path / "demo").exists()


def test_options_follow_the_seed_and_phantoms_are_never_smaller_than_a_patch():
    options = DemoOptions(seed=5).with_training(patch_size=[96, 96, 96], steps=None)
    assert options.training["seed"] == 5
    assert options.training["steps"] == DemoOptions().training["steps"]
    assert options.shape == (96, 96, 96)


def test_the_threshold_is_the_one_that_finds_most():
    phantoms = [LesionPhantoms(0, count=2, shape=(48, 48, 32))[index] for index in range(2)]
    scans = [
        LoadedCase(
            str(index), phantom.image[None], phantom.mask, phantom.lesions, phantom.spacing,
            phantom.affine,
        )
        for index, phantom in enumerate(phantoms)
    ]  # fmt: skip
    targets = [scan_target(scan) for scan in scans]

    def cpm(threshold):
        return evaluate([threshold.boxes(scan) for scan in scans], targets).froc.cpm

    best = fit_threshold(scans)
    others = [Threshold(best.level, score) for score in ("mean", "volume")]
    assert cpm(best) == max(map(cpm, others))
    assert cpm(best) > cpm(Threshold(0.0, "mean"))
