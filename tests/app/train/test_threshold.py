"""The score threshold: chosen on an evaluation, kept with the checkpoint, written with boxes."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest
import torch

from softoverlap.app.train import (
    Detections,
    detect,
    detect_files,
    evaluate,
    find_scans,
    scan_target,
    write_detections,
)
from softoverlap.app.train.threshold import chosen_threshold
from softoverlap.for_monai import lesion_target
from softoverlap.images import LoadedCase, read_boxes, save_nifti
from softoverlap.lesions import lesions_from_mask
from tests.support.checkpoints import small_detector
from tests.support.detectors import scan
from tests.support.lesion_makers import ball_lesion

FALSE = torch.tensor([0.0, 0, 0, 4, 4, 4])


def found(scores, *, hits):
    """As many boxes, the first of which are those of the lesion of `scan()`, scores falling."""
    boxes = torch.stack([scan().lesions[0].box.float() if hit else FALSE for hit in hits])
    labels = torch.zeros(len(boxes), dtype=torch.int64)
    return Detections(boxes, labels, torch.tensor(scores), torch.zeros(24, 24, 20))


def judged(*detections, at="f1"):
    """What these detections reach, each in a scan with one lesion."""
    target = lesion_target(scan().lesions)
    predictions = [one.prediction for one in detections]
    return evaluate(predictions, [target] * len(detections), at=at)


def test_the_highest_f1_on_the_scans_is_the_default():
    result = judged(found([0.9, 0.3], hits=[True, False]), found([0.6, 0.5], hits=[True, False]))
    threshold, rule = chosen_threshold(result, 2)
    assert threshold == pytest.approx(0.6)
    assert rule == "f1 on 2 validation scans"
    assert (result.point.sensitivity, result.point.precision) == (1.0, 1.0)
    assert result.summary["point"]["rule"] == "f1"


def test_false_positives_a_scan_may_be_the_rule_and_training_scans_are_called_so():
    result = judged(found([0.9, 0.8, 0.3, 0.2], hits=[True, False, False, False]), at="fp:2")
    threshold, rule = chosen_threshold(result, 1, "training")
    assert threshold == pytest.approx(0.3)
    assert rule == "fp:2 on 1 training scan"
    assert result.point.fps_per_scan == 2


def test_a_given_threshold_is_called_given():
    assert chosen_threshold(judged(found([0.9], hits=[True]), at=0.35), 1) == (0.35, "given")


def test_where_no_box_hits_the_threshold_is_one_and_says_so():
    result = judged(found([0.9], hits=[False]))
    words = "f1 on 1 validation scan, where no score gains anything"
    assert chosen_threshold(result, 1) == (1.0, words)
    assert result.summary["point"]["threshold"] is None
    json.dumps(result.summary, allow_nan=False)


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
    fresh = small_detector(lowest_score=0.0)
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
    by_spacing = {
        (1.0, 1.0, 1.0): [True, False],
        (0.5, 1.0, 1.0): [False, False],
        (32.000001 / 34, 1.0, 1.0): [False, False],  # as an affine of float32 may have it
    }
    for spacing, expected in by_spacing.items():
        lesions = lesions_from_mask(mask, spacing=spacing)
        affine = torch.diag(torch.tensor([*spacing, 1.0], dtype=torch.float64))
        target = scan_target(LoadedCase("a", mask[None], mask, lesions, spacing, affine))
        assert target["ignored"].tolist() == expected
        assert target["spacing"] == spacing


def test_each_of_several_classes_is_judged_by_its_own_boxes_and_lesions():
    first, second = ball_lesion(5, [2, 2, 2]), replace(ball_lesion(5, [9, 9, 9]), label=1)
    target = {**lesion_target([first, second]), "ignored": torch.zeros(2).bool()}
    boxes = torch.stack([first.box.float(), FALSE + 18])
    prediction = {"boxes": boxes, "labels": torch.tensor([0, 1])}
    prediction["labels_scores"] = torch.tensor([0.9, 0.8])
    result = evaluate([prediction], [target], at=0.5, class_names=["edema", "core"])
    assert (result.point.sensitivity, result.point.precision) == (0.5, 0.5)
    edema, core = result.classes["edema"], result.classes["core"]
    assert (edema.point.sensitivity, edema.point.precision, edema.ap10) == (1, 1, 1)
    assert (core.point.sensitivity, core.point.false_positives, core.froc.lesions) == (0, 1, 1)
    assert result.summary["classes"]["core"] == core.summary
    assert evaluate([prediction], [target], class_names=["lesion"]).classes == {}
