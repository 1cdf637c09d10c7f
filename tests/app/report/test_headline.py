"""The first screen: how good, on how much, how sure, by which rule, and what failed."""

from __future__ import annotations

import json
import re

import pytest

from softoverlap.app.report import _charts, _worst_cards, write_report
from softoverlap.app.report._results import read_results
from softoverlap.app.report._worst import ranking, worst_false_positives, worst_misses
from tests.support.parsed_pages import Parsed
from tests.support.report_results import edges, headline, metric, pooled, write_results

BOXES = [{"case": "a", "kind": "boxes in masks", "lesion_recall": 0.5, "lesion_dice": 0.3}]


def page_of(folder, cases=None, worst=0, **parts):
    write_results(folder, cases or BOXES, **{"metrics": {}, **parts})
    return Parsed(write_report(folder, overwrite=True, worst=worst).path.read_text())


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    return page_of(tmp_path_factory.mktemp("headline"), **pooled(), **headline()).words


def test_each_figure_stands_with_its_interval_and_the_second_figure(words):
    assert "Sensitivity 0.75 90 % interval 0.60 to 0.90 by centre 0.875" in words
    assert "Precision 0.60 90 % interval 0.50 to 0.70 by centre 0.6" in words
    assert "F1 0.67 90 % interval 0.60 to 0.72 by centre 0.667" in words
    assert "False positives a scan 0.5 no interval by centre 0.5" in words
    assert "Lesions of all scans pooled" in words
    assert "Means over cases" in words


def test_it_is_said_on_how_much_and_how_sure(words, tmp_path):
    assert "On 3 patients, 4 scans and 5 lesions." in words
    assert "bootstrap over patients: of fewer than 10, they are rough." in words
    many = headline(counts={"patients": 10, "scans": 12, "lesions": 1})
    more = page_of(tmp_path, **many).words
    assert "On 10 patients, 12 scans and 1 lesion. Intervals are by bootstrap over pat" in more
    assert "rough" not in more


def test_it_is_said_by_which_rule_and_at_which_threshold(words):
    assert "A hit: box IoU of at least 0.1." in words
    assert "By centre: centre within 2 mm." in words
    assert "Scores of at least 0.5 count: highest F1 on the scored cases." in words
    assert "average precision (box IoU 0.1) 0.375" in words


def test_a_threshold_chosen_on_the_scored_cases_is_called_optimistic(words, tmp_path):
    assert "Optimistic: the threshold 0.5 was chosen on these very cases." in words
    point = {**headline()["operating_point"], "threshold": None, "rule": "all", "words": ""}
    point["optimistic"] = False
    plain = page_of(tmp_path, **headline(operating_point=point)).words
    assert "Optimistic" not in plain
    assert "Every box or predicted lesion counts, of any score." in plain


def test_lesions_that_are_not_in_the_figures_have_a_sentence_each(words, tmp_path):
    assert "2 lesions are too large for a box (an edge above 32 mm) and not in these" in words
    assert "cover 61 % of the volume. 7 boxes are on such lesions" in words
    assert "3 lesions are ignored, 1 of them found" in words
    assert "1 lesion is beyond the rule" in words
    assert "12 lesions are too small for the detector" in words
    none = {
        "too_large": {"lesions": 0, "max_lesion_mm": 32, "volume_covered": None, "boxes": 0},
        "ignored": {"lesions": 0, "found": 0, "boxes": 0},
        "unreachable": {"own_box": 0, "smallest_anchor": None},
    }
    few = page_of(tmp_path, **headline(**none)).words
    for sentence in ("too large", "ignored", "beyond the rule", "too small"):
        assert sentence not in few


@pytest.mark.parametrize(
    ("rule", "said"), [("f1", "No box or predicted lesion counts"), ("all", "counts, of any score")]
)
def test_without_a_threshold_all_boxes_count_or_none(tmp_path, rule, said):
    point = {**headline()["operating_point"], "threshold": None, "rule": rule, "optimistic": False}
    assert said in page_of(tmp_path, **headline(operating_point=point)).words


def test_both_figures_stand_by_size(words):
    assert "Lesion size Lesions Sensitivity By centre <10 mm³ 2 0.5 –" in words


def test_missing_scans_are_counted_and_named(tmp_path):
    cases = [*BOXES, {"case": "sub-98", "error": "no prediction"}, {"case": "b", "error": "bad"}]
    words = page_of(tmp_path, cases, **headline()).words
    assert "1 case scored, 1 failed (b), 1 missing (sub-98)." in words


@pytest.mark.parametrize("key", headline())
def test_what_the_summary_does_not_tell_is_left_out(key, tmp_path):
    page = page_of(tmp_path, **pooled(), **headline(**{key: None}))
    assert "Summary" in page.words
    assert "nan" not in page.words


def test_where_there_is_no_curve_the_point_is_drawn(tmp_path):
    parts = pooled()
    del parts["froc"], parts["average_precision"]
    page = page_of(tmp_path, no_curve="All scores are equal", **{**parts, **headline()})
    assert "In place of FROC" in page.words
    assert "All scores are equal. Sensitivity and false positives a scan; bars" in page.words
    assert "sensitivity 0.75 at 0.5 false positives a scan" in page.words
    assert "CPM" not in page.words
    point = {**headline()["operating_point"], "sensitivity": None}
    bare = page_of(tmp_path, no_curve="All scores are equal", **headline(operating_point=point))
    assert "FROC: All scores are equal." in bare.words
    assert "Sensitivity – 90 % interval" in bare.words
    alone = page_of(tmp_path, no_curve="All scores are equal", metrics={}).words
    assert "FROC: All scores are equal." in alone


def test_rates_below_one_false_positive_in_all_are_marked(tmp_path):
    parts = pooled()
    parts["froc"]["coarse_rates"] = [0.125]
    results = read_results(write_results(tmp_path, BOXES, **parts, **headline()))
    (part,) = results.parts
    chart = _charts.froc_chart(part.detection, "all boxes", part.detected.point.figures)
    hollow = [line for line in chart.figure.axes[0].lines if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata() for line in hollow] == [[0.125]]
    (diamond,) = [line for line in chart.figure.axes[0].lines if line.get_marker() == "D"]
    assert (diamond.get_xdata(), diamond.get_ydata()) == ([0.5], [0.75])
    words = Parsed(write_report(tmp_path).path.read_text()).words
    assert "Hollow marks (at 0.125) stand for less than one false positive in all 3" in words


def test_masks_begin_with_their_overlaps(tmp_path):
    cases = [{"case": "a", "kind": "masks", "soft_dice": 0.5}]
    metrics = {"soft_dice": metric(0.5), "lesion_dice": metric(0.25)}
    words = page_of(tmp_path, cases, metrics=metrics, **headline()).words
    assert "Averaged over cases Soft Dice 0.50 90 % interval 0.40 to 0.60 Dice over true" in words


def test_overlaps_that_no_box_brings_to_1_are_left_out(tmp_path):
    metrics = {"lesion_recall": metric(0.5), "lesion_dice": metric(0.25)}
    page = page_of(tmp_path, metrics=metrics, **headline())
    assert page.words.index("1 more column") < page.words.index("Dice over true lesions")
    assert ranking(read_results(tmp_path)) == "lesion_recall"
    cases = [{**BOXES[0], "kind": "boxes"}]
    assert ranking(read_results(write_results(tmp_path, cases))) == "lesion_dice"


def test_the_page_of_a_demo_shows_its_training_and_its_baselines(tmp_path):
    training = {
        "steps": 830, "planned": 2000, "stopped_by": "minutes",
        "baselines": {
            "untrained": {"cpm": 0.012, "sensitivity": {"1": 0.5}},
            "threshold": {"cpm": 0.67, "ap@0.1": 0.5, "point": {"precision": 0.25}},
        },
    }  # fmt: skip
    (tmp_path / "training.json").write_text(json.dumps(training))
    words = page_of(tmp_path, **pooled(), **headline()).words
    assert "trained for 830 of 2000 steps: time cut the training short." in words
    assert "trained detector untrained threshold" in words
    assert "CPM 0.5 0.012 0.67 AP at box IoU 0.1 0.375 – 0.5" in words
    assert " – 0.25 CPM" in words
    (tmp_path / "training.json").write_text(json.dumps({"steps": 9, "planned": 9}))
    assert "The detector was trained for 9 steps." in page_of(tmp_path).words
    (tmp_path / "training.json").write_text("{")
    assert "trained" not in page_of(tmp_path).words


def lesion(number, volume, detected, **more):
    place = {f"centre_axis{axis}": float(number) for axis in range(3)}
    row = {"case": "a", "lesion": number, "detected": detected, "volume_mm3": volume}
    return row | place | {"soft_dice": 0.0} | more


def test_the_largest_misses_and_the_surest_false_positives_come_first(tmp_path):
    lesions = [lesion(0, 9, True), lesion(1, 5, False), lesion(2, 7, False)]
    lesions.append(lesion(3, 99, False, not_counted="ignored"))
    false = {"case": "a", "outcome": "false positive", **edges((1, 1, 1), (3, 3, 3))}
    boxes = [{**false, "score": 0.5}, {**false, "score": 0.75}, {**false, "score": 0.1}]
    boxes = [{**box, "above": box["score"] > 0.2} for box in boxes]
    results = read_results(write_results(tmp_path, BOXES, lesions, boxes))
    assert [row["lesion"] for row, _ in worst_misses(results.lesions)] == [2, 1]
    assert [row["score"] for row, _ in worst_false_positives(results.boxes)] == [0.75, 0.5]
    words = Parsed(write_report(tmp_path, worst=1).path.read_text()).words
    assert "Missed, the largest first (1 of 2) a lesion 2, missed, 7 mm³ No picture:" in words
    assert "False positives, the surest first (1 of 2)" in words


def test_where_nothing_was_missed_the_page_says_so(tmp_path):
    words = page_of(tmp_path, worst=2).words
    assert "No lesion was missed." in words
    assert "There are no false positives." in words


def test_no_words_lie_on_the_lines_of_the_agreement(tmp_path):
    (part,) = read_results(write_results(tmp_path, BOXES, **pooled())).parts
    points = [_charts.Point(0.5, 0.1, "a"), _charts.Point(0.7, 0.2, "b")]
    figure = _charts.agreement_chart(points, part.agreement).figure
    assert not figure.axes[0].texts
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["bias −0.25", "+1.96 SD 0.5", "−1.96 SD −0.75"]


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("operating_point", {"threshold": 0.5}),
        ("operating_point", {**headline()["operating_point"], "f1_interval": [1, 2, 3]}),
        ("by_size", [{"size": "<10 mm³"}]),
        ("by_centre", {"sensitivity": "high"}),
        ("counts", {"patients": "many"}),
    ],
)
def test_a_headline_of_other_values_is_named(key, value, tmp_path):
    folder = write_results(tmp_path, BOXES, **{key: value})
    with pytest.raises(ValueError, match="summary.json must be as softoverlap score writes it"):
        write_report(folder)


def test_at_most_six_findings_are_drawn(tmp_path):
    lesions = [lesion(number, number + 1, False) for number in range(9)]
    write_results(tmp_path, BOXES, lesions)
    words = Parsed(write_report(tmp_path, worst=9).path.read_text()).words
    shown = re.findall(r"lesion (\d), missed", words.split("The worst cases")[0])
    assert shown == ["8", "7", "6", "5", "4", "3"]
    assert len(shown) == _worst_cards.MOST_FINDINGS
