"""The score threshold: chosen on validation scans, kept with the checkpoint, written with boxes."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace

import pytest
import torch

from softoverlap.app.train import (
    Detections,
    Intensity,
    build_detector,
    choose_threshold,
    detect,
    detect_files,
    evaluate,
    find_scans,
    keep_threshold,
    read_checkpoint,
    save_checkpoint,
    scan_target,
    threshold,
    train,
    write_detections,
)
from softoverlap.app.train._old import load_checkpoint
from softoverlap.images import read_boxes, save_nifti
from softoverlap.lesions import lesions_from_mask
from tests.support.detectors import TINY, scan

FALSE = torch.tensor([0.0, 0, 0, 4, 4, 4])


def model_of(**more):
    return replace(build_detector(TINY, (1.0, 1.0, 1.0), Intensity("scan")), **more)


def found(scores, *, hits):
    """As many boxes, the first of which are those of the lesion of `scan()`, scores falling."""
    boxes = torch.stack([scan().lesions[0].box.float() if hit else FALSE for hit in hits])
    labels = torch.zeros(len(boxes), dtype=torch.int64)
    return Detections(boxes, labels, torch.tensor(scores), torch.zeros(24, 24, 20))


@pytest.fixture
def finds(monkeypatch):
    """Let detectors find given boxes, scan by scan."""

    def pretend(*per_scan):
        queue = list(per_scan)
        monkeypatch.setattr(threshold, "detect", lambda model, image: queue.pop(0))

    return pretend


def test_the_highest_f1_on_the_scans_is_the_default(finds):
    finds(found([0.9, 0.3], hits=[True, False]), found([0.6, 0.5], hits=[True, False]))
    chosen, result = choose_threshold(model_of(), [scan(0), scan(1)])
    assert chosen.score_threshold == pytest.approx(0.6)
    assert chosen.threshold_rule == "f1 on 2 validation scans"
    assert (result.point.sensitivity, result.point.precision) == (1.0, 1.0)
    assert result.summary["point"]["rule"] == "f1"


def test_false_positives_a_scan_may_be_the_rule_and_training_scans_are_called_so(finds):
    finds(found([0.9, 0.8, 0.3, 0.2], hits=[True, False, False, False]))
    chosen, result = choose_threshold(model_of(), [scan()], "fp:2", kind="training")
    assert chosen.score_threshold == pytest.approx(0.3)
    assert chosen.threshold_rule == "fp:2 on 1 training scan"
    assert result.point.fps_per_scan == 2


def test_a_given_threshold_is_called_given(finds):
    finds(found([0.9], hits=[True]))
    chosen, _ = choose_threshold(model_of(), [scan()], 0.35)
    assert (chosen.score_threshold, chosen.threshold_rule) == (0.35, "given")


def test_where_no_box_hits_the_threshold_is_one_and_says_so(finds):
    finds(found([0.9], hits=[False]))
    chosen, result = choose_threshold(model_of(), [scan()])
    assert chosen.score_threshold == 1
    assert chosen.threshold_rule == "f1 on 1 validation scan, where no score gains anything"
    assert result.summary["point"]["threshold"] is None
    json.dumps(result.summary, allow_nan=False)


def test_a_checkpoint_keeps_the_threshold_and_all_else(tmp_path):
    path = tmp_path / "c.pt"
    model = train([scan()], TINY, device="cpu", checkpoint=path)
    before = read_checkpoint(path)
    keep_threshold(path, replace(model, score_threshold=0.4, threshold_rule="f1 on 1 scan"))
    again, values = load_checkpoint(path, device="cpu"), read_checkpoint(path)
    assert (again.score_threshold, again.threshold_rule) == (0.4, "f1 on 1 scan")
    assert set(values) == set(before)
    assert values["step"] == before["step"]
    assert all(
        torch.equal(weights, values["weights"][name]) for name, weights in before["weights"].items()
    )


def test_more_steps_need_another_threshold_and_no_more_steps_do_not(tmp_path):
    path = tmp_path / "c.pt"
    model = train([scan()], replace(TINY, steps=2), device="cpu", checkpoint=path)
    keep_threshold(path, replace(model, score_threshold=0.4, threshold_rule="given"))
    finished = replace(TINY, steps=2)
    same = train([scan()], finished, device="cpu", checkpoint=path, resume=True)
    assert same.score_threshold == 0.4
    assert read_checkpoint(path)["score_threshold"] == 0.4
    longer = train([scan()], replace(TINY, steps=3), device="cpu", checkpoint=path, resume=True)
    assert (longer.score_threshold, longer.threshold_rule) == (None, None)


def test_a_checkpoint_of_before_has_no_threshold(tmp_path):
    path = tmp_path / "c.pt"
    save_checkpoint(path, model_of())
    values = torch.load(path)
    torch.save({k: v for k, v in values.items() if "threshold" not in k}, path)
    model = load_checkpoint(path, device="cpu")
    assert (model.score_threshold, model.threshold_rule) == (None, None)


@pytest.mark.parametrize(
    "change", [{"score_threshold": "high"}, {"score_threshold": math.nan}, {"threshold_rule": 3}]
)
def test_a_checkpoint_with_another_threshold_is_named(tmp_path, change):
    path = tmp_path / "c.pt"
    save_checkpoint(path, model_of())
    torch.save({**torch.load(path), **change}, path)
    with pytest.raises(ValueError, match=r"c\.pt must hold settings that fit"):
        load_checkpoint(path)


def test_files_of_boxes_keep_candidates_and_markups_hold_findings(tmp_path):
    detections = replace(
        found([0.9, 0.3], hits=[True, False]),
        score_threshold=0.5,
        threshold_rule="f1 on 3 validation scans",
        smallest_anchor=(5.0, 5.0, 5.0),
    )
    write_detections(tmp_path, "a", detections, torch.eye(4, dtype=torch.float64))
    file = read_boxes(tmp_path / "a_boxes.json")
    assert file.above.tolist() == detections.above.tolist() == [True, False]
    assert (file.score_threshold, file.threshold_rule) == (0.5, "f1 on 3 validation scans")
    assert file.smallest_anchor == (5.0, 5.0, 5.0)
    markups = read_boxes(tmp_path / "a_boxes.mrk.json", affine=torch.eye(4))
    assert markups.boxes.tolist() == file.boxes[:1].tolist()


def test_without_a_threshold_markups_hold_all_boxes(tmp_path):
    detections = found([0.9, 0.3], hits=[True, False])
    write_detections(tmp_path, "a", detections, torch.eye(4, dtype=torch.float64))
    file = read_boxes(tmp_path / "a_boxes.json")
    assert (file.score_threshold, file.threshold_rule) == (None, None)
    assert len(read_boxes(tmp_path / "a_boxes.mrk.json", affine=torch.eye(4)).boxes) == 2


def test_the_tables_say_which_boxes_are_above(tmp_path):
    config = replace(TINY, score_threshold=0.0)
    fresh = build_detector(config, (1.0, 1.0, 1.0), Intensity("scan"))
    save_nifti(tmp_path / "a.nii.gz", scan().image.data, scan().image.affine)
    level = float(detect(fresh, scan().image).scores.median())
    model = replace(fresh, score_threshold=level, threshold_rule="given")
    detect_files(model, find_scans([tmp_path / "a.nii.gz"]), tmp_path / "found")
    rows = list(csv.DictReader((tmp_path / "found" / "detections.csv").open()))
    assert {row["above"] for row in rows} == {"True", "False"}
    assert all((float(row["score"]) >= level) == (row["above"] == "True") for row in rows)
    (counts,) = csv.DictReader((tmp_path / "found" / "scans.csv").open())
    assert int(counts["boxes"]) == len(rows)
    assert int(counts["above"]) == sum(row["above"] == "True" for row in rows)


def test_the_smallest_anchor_is_told_in_voxels_of_the_scan():
    assert detect(model_of(), scan().image).smallest_anchor == (5.0, 5.0, 5.0)
    coarse = detect(model_of(), scan(spacing=(1.0, 1.0, 2.5)).image)
    assert coarse.smallest_anchor == pytest.approx((5.0, 5.0, 2.0))


def test_a_lesion_counts_by_its_existence_in_the_evaluation():
    target = {
        "box": torch.tensor([[0.0, 4.0], [10.0, 14.0]]),
        "label": torch.zeros(2),
        "existence": torch.tensor([1.0, 0.25]),
    }
    one = {"box": target["box"][:1], "label": torch.zeros(1), "label_scores": torch.tensor([0.5])}
    result = evaluate([one], [target])
    assert result.froc.cpm == result.point.sensitivity == 0.8
    assert result.ap10 == 0.5


def test_lesions_too_large_for_a_box_are_marked_in_the_target():
    mask = torch.zeros(40, 10, 10)
    mask[1:35, 2:5, 2:5] = 1.0
    mask[37:39, 7:9, 7:9] = 1.0
    one = scan()
    by_spacing = {
        (1.0, 1.0, 1.0): [True, False],
        (0.5, 1.0, 1.0): [False, False],
        (32.000001 / 34, 1.0, 1.0): [False, False],  # as an affine of float32 may have it
    }
    for spacing, expected in by_spacing.items():
        lesions = lesions_from_mask(mask, spacing=spacing)
        affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
        image = replace(one.image, data=mask, affine=affine)
        target = scan_target(replace(one, image=image, lesions=lesions))
        assert target["ignored"].tolist() == expected
        assert target["spacing"] == spacing
