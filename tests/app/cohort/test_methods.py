"""Words and a table for a paper, from the summary alone."""

from __future__ import annotations

import pytest

from softoverlap.app.cohort.methods import latex_table, methods_text
from softoverlap.app.cohort.names import LATEX, METHODS, OUTPUTS
from softoverlap.app.cohort.outputs import check_outputs, write_outputs
from tests.support.report_results import headline, metric, pooled, summary

WHOLE = summary(**pooled(), **headline())


def test_the_paragraph_tells_version_basis_rule_threshold_figures_and_intervals():
    text = methods_text(WHOLE)
    for words in (
        "Scores were computed with softoverlap 0.1.0.",
        "4 scans, 3 patients and 5 lesions were scored. 1 scan was missing: sub-98.",
        "A prediction hit a lesion by this rule: box IoU of at least 0.1.",
        "2 lesions with an edge above 32 mm did not count.",
        "3 lesions to be ignored did not count.",
        "score of at least 0.5 counted (highest F1 on the scored cases).",
        "chosen on the scored scans, so these figures are optimistic.",
        "sensitivity 0.75 (90 % interval 0.60 to 0.90), precision 0.60",
        "and false positives a scan 0.5.",
        "By centre (centre within 2 mm), sensitivity was 0.875.",
        "CPM (mean sensitivity at 0.125 and 1 false positives a scan) was 0.50 (90 % int",
        "Average precision at a box IoU of 0.1 was 0.375.",
        "90 % percentile bootstrap intervals over patients (10 draws, seed 0).",
    ):
        assert words in text
    assert text.count("\n") == 1


@pytest.mark.parametrize("key", [*headline(), *pooled(), "version", "n", "bootstrap", "settings"])
def test_what_the_summary_does_not_tell_is_left_out(key):
    part = {name: value for name, value in WHOLE.items() if name != key}
    assert methods_text(part).startswith("Scores were computed with softoverlap")
    for words in (methods_text(part), latex_table(part)):
        assert "None" not in words
        assert "nan" not in words


def test_a_run_without_failures_threshold_or_curve_says_so_in_words():
    counts = {"patients": 1, "scans": 1, "lesions": 1}
    point = {**headline()["operating_point"], "threshold": None, "rule": "all", "words": ""}
    point["optimistic"] = False
    parts = headline(counts=counts, operating_point=point)
    text = methods_text({**summary(no_curve="All scores are equal", **parts), "n_failed": 0})
    assert "1 scan, 1 patient and 1 lesion were scored." in text
    assert "All predictions counted. Pooled" in text
    assert "All scores are equal." in text
    for words in ("could not", "missing", "optimistic", "CPM"):
        assert words not in text


def test_labels_have_a_paragraph_and_rows_each():
    whole = summary(labels={"1": headline(), "2": {"metrics": {"soft_dice": metric(0.5)}}})
    first, second = methods_text(whole).split("\n\n")
    assert first.startswith("Scores of label 1 were computed")
    assert second.startswith("Scores of label 2 were computed")
    table = latex_table(whole)
    assert r"\multicolumn{3}{l}{Label 2} \\" + "\nSoft Dice (mean) & 0.50" in table


def test_the_table_has_a_row_a_figure_and_nothing_that_latex_would_read():
    lines = latex_table(WHOLE).splitlines()
    assert r"Sensitivity & 0.75 & 0.60 to 0.90 \\" in lines
    assert r"Sensitivity, by centre & 0.875 & -- \\" in lines
    assert r"CPM & 0.50 & 0.30 to 0.70 \\" in lines
    assert r"Volume bias (mean, ml) & $-$0.25 & $-$0.35 to $-$0.15 \\" in lines
    assert all(line.count("&") == 2 for line in lines if line.endswith(r"\\"))
    hostile = latex_table(summary(labels={r"50 % & a_b {$x^2$} #1 \input{~}": headline()}))
    written = r"50 \% \& a\_b \{\$x\textasciicircum{}2\$\} \#1 \textbackslash{}input\{\textasci"
    assert written in hostile


def test_the_dice_of_boxes_in_masks_is_not_in_the_table():
    metrics = {"lesion_dice": metric(0.25), "lesion_recall": metric(0.5)}
    assert "Dice" not in latex_table(summary(metrics=metrics))
    assert "Dice over true" in latex_table(summary(metrics={**metrics, "soft_dice": metric(0.5)}))


def test_both_files_are_outputs_that_are_not_written_over(tmp_path):
    assert {METHODS, LATEX} <= set(OUTPUTS)
    write_outputs(tmp_path, [], WHOLE)
    assert (tmp_path / METHODS).read_text() == methods_text(WHOLE)
    assert (tmp_path / LATEX).read_text() == latex_table(WHOLE)
    with pytest.raises(ValueError, match="must not hold an input of that name"):
        check_outputs(tmp_path, [tmp_path / LATEX], overwrite=True)
