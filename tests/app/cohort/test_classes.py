"""Classes of label maps and boxes: scored one by one, or all together, which is said."""

from __future__ import annotations

import pytest

from softoverlap.app.cohort import SummarySettings, summarize
from softoverlap.app.cohort.methods import methods_text
from tests.support.box_scans import box_file, mask_file, scored

BOXES = [[2, 2, 2, 8, 8, 8], [20, 2, 2, 26, 8, 8], [30, 14, 14, 36, 20, 20]]
LABELS = {"truth_values": "labels"}


def label_map(tmp_path, value=(1, 2, 2)):
    return mask_file(tmp_path / "truth" / "a.nii.gz", BOXES, value=list(value))


def found(tmp_path, name, labels=None):
    path = tmp_path / "pred" / f"{name}.json"
    return box_file(path, BOXES, scores=[0.9, 0.8, 0.7], labels=labels)


def test_boxes_of_a_label_that_is_not_scored_are_refused(tmp_path):
    truth, both = label_map(tmp_path), {"labels": (1, 2), **LABELS}
    wrong, right = found(tmp_path, "wrong", [0, 1, 1]), found(tmp_path, "right", [1, 2, 2])
    told = r"wrong\.json must hold boxes of `labels=` 1, 2 alone, got boxes labelled 0: label each"
    with pytest.raises(ValueError, match=told):
        scored(wrong, truth, **both)
    assert [row["lesion_recall"] for row in scored(right, truth, **both).rows] == [1, 1]
    for sides in ((wrong, right), (right, wrong), (truth, wrong)):
        with pytest.raises(ValueError, match=r"wrong\.json must hold boxes of `labels=` 1, 2"):
            scored(*sides, labels=(1, 2), values="labels")
    with pytest.raises(ValueError, match=r"`labels=` 1 alone, got boxes labelled 2"):
        scored(right, truth, labels=(1,), **LABELS)
    (row,) = scored(right, truth, labels=(1,), ignore=(2,), **LABELS).rows
    assert row["lesion_recall"] == 1


def rule(result):
    summary = summarize([result], SummarySettings(resamples=20))
    words = (summary.get("hit") or summary["labels"]["1"]["hit"])["words"]
    assert words in methods_text(summary)
    return words


def test_the_rule_of_a_hit_says_where_classes_are_not_told_apart(tmp_path):
    two, one = label_map(tmp_path), mask_file(tmp_path / "one.nii.gz", BOXES, value=2.0)
    plain, mixed = found(tmp_path, "plain"), found(tmp_path, "mixed", [0, 1, 1])
    same = found(tmp_path, "same", [1] * 3)
    maps = {"values": "labels", **LABELS}
    merged = [
        scored(plain, two, **LABELS), scored(mixed, one, **LABELS), scored(mixed, same),
        scored(two, plain, values="labels"), scored(one, two, **maps),
    ]  # fmt: skip
    for result in merged:
        assert rule(result).endswith("; classes are not told apart")
    apart = [
        scored(plain, one, **LABELS), scored(same, plain), scored(one, one, **maps),
        scored(plain, two, ignore=(1,), **LABELS), scored(two, two, labels=(1, 2), **maps),
    ]  # fmt: skip
    for result in apart:
        assert "told apart" not in rule(result)
