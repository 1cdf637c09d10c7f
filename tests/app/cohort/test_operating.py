"""From which score found boxes count: stored, given, or chosen on the scored cases."""

from __future__ import annotations

import csv
import json
import math

import pytest
import torch

from softoverlap.app.cohort import (
    ScorePair,
    ScoreSettings,
    SummarySettings,
    cases,
    find_pairs,
    score_cohort,
    summarize,
)
from softoverlap.app.report import write_report
from softoverlap.measures import match_scan, operating_point
from tests.support.box_scans import as_boxes, box_file, mask_file

LESIONS = [[4, 4, 4, 10, 10, 10], [20, 4, 4, 26, 10, 10]]
AWAY = [[34, 14, 14, 38, 18, 18], [34, 2, 2, 38, 6, 6]]
FOUND = [LESIONS[0], AWAY[0], LESIONS[1], AWAY[1]]
SCORES = {"a": [0.9, 0.7, 0.6, 0.2], "b": [0.8, 0.3, 0.1, 0.1], "c": [0.5, 0.4, 0.35, 0.3]}
FIGURES = ("sensitivity", "precision", "f1", "fps_per_scan")


def write(folder, scores=SCORES, **fields):
    """A folder of found boxes and one of true ones; fields of the found are one a case."""
    for number, (case, own) in enumerate(scores.items()):
        stored = {name: values[number] for name, values in fields.items() if values[number]}
        box_file(folder / "pred" / f"{case}.json", FOUND, scores=own, **stored)
        box_file(folder / "truth" / f"{case}.json", LESIONS)
    return find_pairs(folder / "pred", folder / "truth").pairs


def run(folder, pairs=None, settings=None, **options):
    pairs = write(folder) if pairs is None else pairs
    options = SummarySettings(resamples=50, **options)
    return score_cohort(pairs, folder / "out", settings, options=options)


def table(folder, name):
    with (folder / "out" / name).open(newline="") as stream:
        return list(csv.DictReader(stream))


def expected(at, scores=SCORES):
    """The library's point of the same boxes."""
    target = {"box": as_boxes(LESIONS), "label": torch.zeros(2)}
    found = {"box": as_boxes(FOUND), "label": torch.zeros(4)}
    outcomes = [
        match_scan({**found, "label_scores": torch.tensor(own, dtype=torch.float64)}, target)
        for own in scores.values()
    ]
    return operating_point(outcomes, at)


@pytest.mark.parametrize("at", [None, "f1", "fp:1", "fp:0.25", 0.5, "0.35", 2])
def test_the_point_is_that_of_the_library(tmp_path, at):
    result = run(tmp_path, at_score=at)
    point, library = result.summary["operating_point"], expected("f1" if at is None else at)
    assert point["threshold"] == pytest.approx(library.threshold)
    for name in FIGURES:
        value = getattr(library, name)
        assert point[name] == (None if math.isnan(value) else value), name
    assert (point["hits"], point["false_positives"]) == (library.hits, library.false_positives)
    chosen = at is None or (isinstance(at, str) and not at[0].isdigit())
    assert point["optimistic"] == chosen
    assert point["rule"] == (("f1" if at is None else at) if chosen else "given")
    assert ("on these very cases, which is optimistic" in point["words"]) == chosen
    for name in FIGURES:
        assert f"{name}_interval" not in point  # of three patients


@pytest.mark.parametrize("at", ["f1", "fp:1", 0.5])
def test_the_tables_are_those_at_the_point(tmp_path, at):
    result = run(tmp_path, at_score=at)
    point = result.summary["operating_point"]
    found, boxes = table(tmp_path, "cases.csv"), table(tmp_path, "boxes.csv")
    assert sum(int(row["lesions_found"]) for row in found) == point["hits"]
    assert sum(int(row["false_positives"]) for row in found) == point["false_positives"]
    assert len(boxes) == 12  # all of them, with a word on which count
    for row in boxes:
        assert row["above"] == str(float(row["score"]) >= point["threshold"])
    above = [row for row in boxes if row["above"] == "True"]
    assert sum(int(row["pred_lesions"]) for row in found) == len(above)
    hits = {(row["case"], row["lesion"]) for row in above if row["outcome"] == "hit"}
    for row in table(tmp_path, "lesions.csv"):
        assert (row["detected"] == "True") == ((row["case"], row["lesion"]) in hits)
        assert (row["score"] == "") == (row["detected"] == "False")
        assert (float(row["box_iou"]) > 0) == (row["detected"] == "True")
        assert row["found_by_centre"] == row["detected"]  # these boxes fit
    by_size = {part["size"]: part["sensitivity"] for part in result.summary["by_size"]}
    assert by_size == {"100–1000 mm³": pytest.approx(point["sensitivity"])}
    by_centre = result.summary["by_centre"]
    assert by_centre["sensitivity"] == point["sensitivity"]
    assert by_centre["fps_per_scan"] == point["fps_per_scan"]


def test_another_point_scores_no_case_again(tmp_path, monkeypatch):
    pairs = write(tmp_path)
    first = run(tmp_path, pairs)
    read = []
    monkeypatch.setattr(cases, "score_case", lambda *args: read.append(args))
    for options in (
        {"at_score": 0.5}, {"patients": dict.fromkeys("abc", "ann")}, {"fp_rates": (0.5, 1.0)},
        {"seed": 1}, {},
    ):  # fmt: skip
        again = run(tmp_path, pairs, **options)
        assert again.resumed == 3
        assert not read
    assert again.summary == first.summary
    rates = run(tmp_path, pairs, fp_rates=(0.5, 1.0)).summary["froc"]
    assert rates["fp_rates"] == [0.5, 1.0]
    assert run(tmp_path, pairs, fp_rates=(0.1,)).summary["froc"]["coarse_rates"] == [0.1]


def test_the_stored_score_is_taken_and_is_not_optimistic(tmp_path):
    pairs = write(
        tmp_path, score_threshold=[0.5] * 3, threshold_rule=["f1 on 3 validation scans"] * 3
    )
    point = run(tmp_path, pairs).summary["operating_point"]
    assert (point["threshold"], point["rule"], point["optimistic"]) == (0.5, "stored", False)
    assert point["words"] == "stored with the boxes (f1 on 3 validation scans)"
    assert point["hits"] == expected(0.5).hits
    asked = run(tmp_path, pairs, at_score=0.85).summary["operating_point"]
    assert (asked["threshold"], asked["rule"]) == (0.85, "given")


def test_one_score_may_have_been_chosen_in_several_words(tmp_path):
    rules = ["f1 on 3 scans", "by eye", None]
    pairs = write(tmp_path, score_threshold=[0.5] * 3, threshold_rule=rules)
    words = run(tmp_path, pairs).summary["operating_point"]["words"]
    assert words.endswith("stored with the boxes (f1 on 3 scans, by eye)")


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("stored", "words"),
    [
        ([0.5, 0.5, 0.3], r"got 0\.5 \(a, b\), 0\.3 \(c\)"),
        ([None, 0.5, 0.5], r"got none \(a\), 0\.5"),
    ],
)
def test_different_stored_scores_are_an_error_that_names_the_cases(tmp_path, stored, words):
    pairs = write(tmp_path, score_threshold=stored)
    with pytest.raises(ValueError, match=rf"at_score must be given where .*, {words}"):
        run(tmp_path, pairs)
    assert run(tmp_path, pairs, at_score="f1").resumed == 3  # what was scored is kept


def test_where_nothing_is_hit_no_box_counts(tmp_path):
    for case in "ab":
        box_file(tmp_path / "pred" / f"{case}.json", AWAY, scores=[0.9, 0.3])
        box_file(tmp_path / "truth" / f"{case}.json", LESIONS)
    result = run(tmp_path, find_pairs(tmp_path / "pred", tmp_path / "truth").pairs)
    point = result.summary["operating_point"]
    assert (point["threshold"], point["sensitivity"], point["false_positives"]) == (None, 0, 0)
    assert point["words"].startswith("no score gains anything under the rule of the highest F1")
    methods = (tmp_path / "out" / "methods.txt").read_text(encoding="utf-8")
    assert "No box counted (no score gains anything" in methods
    write_report(tmp_path / "out", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "No box or predicted lesion counts: no score gains anything under the rule of" in page
    assert {row["above"] for row in table(tmp_path, "boxes.csv")} == {"False"}
    assert {row["false_positives"] for row in table(tmp_path, "cases.csv")} == {"0"}
    assert result.summary["froc"]["cpm"] == 0


def test_boxes_without_scores_all_count(tmp_path):
    pairs = write(tmp_path, dict.fromkeys("ab"))
    summary = run(tmp_path, pairs).summary
    point = summary["operating_point"]
    assert (point["threshold"], point["rule"], point["optimistic"]) == (None, "all", False)
    assert point["words"] == "boxes have no scores"
    assert (point["hits"], point["false_positives"]) == (4, 4)
    assert summary["no_curve"].endswith("boxes have no scores in a, b.")
    assert {row["above"] for row in table(tmp_path, "boxes.csv")} == {"True"}


@pytest.mark.bad_input
def test_boxes_without_scores_cannot_be_cut(tmp_path):
    pairs = write(tmp_path, {**SCORES, "d": None})
    for at in ("f1", 0.5):
        with pytest.raises(
            ValueError, match="at_score must be left out where boxes have no scores, as in d"
        ):
            run(tmp_path, pairs, at_score=at)


@pytest.mark.bad_input
def test_masks_are_cut_by_their_threshold(tmp_path):
    pred = mask_file(tmp_path / "pred" / "a.nii.gz", FOUND, value=SCORES["a"])
    truth = mask_file(tmp_path / "truth" / "a.nii.gz", LESIONS)
    pairs = [ScorePair("a", pred, (truth,))]
    point = run(tmp_path, pairs).summary["operating_point"]
    assert (point["rule"], point["threshold"]) == ("all", None)
    with pytest.raises(
        ValueError, match=r"at_score must be left out between masks, which `threshold=`"
    ):
        run(tmp_path, pairs, at_score="f1")
    ruled = run(tmp_path / "ruled", pairs, ScoreSettings(hit="box_iou")).summary["operating_point"]
    assert (ruled["rule"], ruled["threshold"]) == ("all", None)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"at_score": "f2"}, "at_score must be a score threshold, .*got 'f2'"),
        ({"at_score": "fp:-1"}, "at_score must be a score threshold"),
        ({"at_score": math.nan}, "at_score must be a score threshold"),
        ({"at_score": True}, "at_score must be a number, text or None, got bool"),
        ({"fp_rates": (-1.0, 1.0)}, "fp_rates must"),
        ({"fp_rates": ()}, "fp_rates must"),
    ],
)
def test_what_is_no_point_is_refused_before_a_case_is_scored(options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        SummarySettings(**options)


def test_three_hundred_candidates_a_scan_are_no_result(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for case in "abcdefgh":
        low = 40 * torch.rand(300, 3, generator=generator).double()
        boxes = torch.cat([low, low + 2 + 3 * torch.rand(300, 3, generator=generator)], dim=1)
        boxes = [*LESIONS, *boxes.tolist()]
        scores = [0.9, 0.8, *(0.6 * torch.rand(300, generator=generator)).tolist()]
        box_file(tmp_path / "pred" / f"{case}.json", boxes, scores=scores)
        box_file(tmp_path / "truth" / f"{case}.json", LESIONS)
    result = run(tmp_path, find_pairs(tmp_path / "pred", tmp_path / "truth").pairs)
    assert result.summary["operating_point"]["fps_per_scan"] <= 1
    assert result.summary["metrics"]["false_positives"]["mean"] <= 1
    assert result.summary["metrics"]["pred_lesions"]["mean"] <= 3
    assert result.summary["froc"]["boxes"] == 8 * 302  # candidates are kept for the curve
    json.dumps(result.summary, allow_nan=False)


def test_every_label_has_a_point_of_its_own(tmp_path):
    for case, own in SCORES.items():
        scores = [*own, *(score / 2 for score in own)]
        box_file(
            tmp_path / "pred" / f"{case}.json", FOUND * 2, scores=scores, labels=[1] * 4 + [2] * 4
        )
        box_file(tmp_path / "truth" / f"{case}.json", LESIONS * 2, labels=[1, 1, 2, 2])
    pairs = find_pairs(tmp_path / "pred", tmp_path / "truth").pairs
    result = run(tmp_path, pairs, ScoreSettings(labels=(1, 2)))
    assert "operating_point" not in result.summary
    parts = result.summary["labels"]
    first, second = (parts[name]["operating_point"] for name in "12")
    assert second["threshold"] == first["threshold"] / 2
    assert {name: first[name] for name in FIGURES} == {name: second[name] for name in FIGURES}
    assert parts["1"]["counts"] == parts["2"]["counts"] == {
        "patients": 3, "scans": 3, "cases_failed": 0, "missing": [], "lesions": 6,
    }  # fmt: skip
    below = [row for row in table(tmp_path, "boxes.csv") if row["above"] == "False"]
    assert len({row["label"] for row in below}) == 2


def test_a_cohort_of_scans_without_lesions_or_boxes(tmp_path):
    for case, boxes in (("a", []), ("b", [])):
        box_file(tmp_path / "pred" / f"{case}.json", boxes)
        box_file(tmp_path / "truth" / f"{case}.json", [])
    result = run(tmp_path, find_pairs(tmp_path / "pred", tmp_path / "truth").pairs)
    point = result.summary["operating_point"]
    assert (point["sensitivity"], point["fps_per_scan"]) == (None, 0)
    assert result.summary["no_curve"] == "Neither FROC nor CPM nor AP: nothing was found."
    assert result.summary["counts"]["lesions"] == 0
    assert summarize([])["n"] == 0
