"""What is said of a cohort: means and intervals as in scipy, pooled curves as in the metrics."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from scipy import stats

from softoverlap.app.cohort import (
    CaseResult,
    ScoreSettings,
    SummarySettings,
    score_case,
    score_cohort,
    serial,
    summarize,
)
from softoverlap.app.cohort.cases import score_safely
from softoverlap.app.cohort.mask_lesions import mask_lesions
from softoverlap.app.cohort.means import interval
from softoverlap.app.report import write_report
from softoverlap.for_monai import MeasureMetric
from softoverlap.images import save_nifti
from softoverlap.measures import (
    CalibrationError,
    compute_average_precision,
    compute_froc,
    operating_point,
)
from softoverlap.measures.detection import matching
from softoverlap.measures.detection._assignment import shared
from softoverlap.overlaps import box_iou
from tests.support.cohort_makers import masks, pairs_of, spoil, write_cohort, write_pair
from tests.support.reference_detection import reference_touching

QUICK = SummarySettings(resamples=50)
numbers = st.lists(st.floats(-100, 100), min_size=2, max_size=30)


def results_of(values, name="soft_dice"):
    return [CaseResult(f"{n:03d}", [{"case": f"{n:03d}", name: v}]) for n, v in enumerate(values)]


@given(numbers)
def test_figures_of_a_column(values):
    metric = summarize(results_of(values), SummarySettings(resamples=20))["metrics"]["soft_dice"]
    assert metric["mean"] == pytest.approx(np.mean(values), abs=1e-9)
    assert metric["median"] == pytest.approx(np.median(values), abs=1e-9)
    assert metric["sd"] == pytest.approx(np.std(values, ddof=1), abs=1e-9)
    assert (metric["min"], metric["max"], metric["n"]) == (min(values), max(values), len(values))


def test_the_interval_is_scipy_s_percentile_bootstrap():
    values = np.random.default_rng(0).beta(5, 2, 80)
    oracle = stats.bootstrap(
        (values,), np.mean, n_resamples=9999, method="percentile", random_state=1
    ).confidence_interval
    found = interval(values.tolist(), np.mean, seed=0, resamples=9999)
    assert found == pytest.approx(tuple(oracle), abs=2e-3)


@given(numbers, st.randoms())
def test_the_order_of_the_cases_does_not_matter(values, random):
    results = results_of(values)
    shuffled = results.copy()
    random.shuffle(shuffled)
    assert summarize(shuffled, QUICK) == summarize(results, QUICK)


def test_the_seed_is_kept_and_matters():
    results = results_of([0.1, 0.5, 0.7, 0.9])
    one, again, other = (summarize(results, SummarySettings(seed=s)) for s in (0, 0, 1))
    assert one == again
    assert one["bootstrap"]["seed"] == 0
    assert other["metrics"]["soft_dice"]["mean"] == one["metrics"]["soft_dice"]["mean"]


def test_what_is_not_defined_is_null_and_left_out():
    results = [*results_of([0.5, None]), CaseResult("x", [{"case": "x", "error": "broken"}])]
    summary = summarize(results)
    assert (summary["n"], summary["n_failed"]) == (2, 1)
    metric = summary["metrics"]["soft_dice"]
    assert (metric["n"], metric["mean"], metric["sd"]) == (1, 0.5, None)
    assert metric["mean_interval"] == [None, None]
    json.dumps(summary, allow_nan=False)


def test_no_case_at_all_has_a_summary():
    summary = summarize([CaseResult("x", [{"case": "x", "error": "broken"}])])
    assert (summary["n"], summary["metrics"]) == (0, {})


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = write_cohort(tmp_path_factory.mktemp("cohort"), 24)
    spoil(folder)
    for number in range(12, 16):  # false positives, and a lesion in pieces
        pred, truth = masks(number)
        pred[0, 0, number - 12 :] = 0.55 + 0.1 * (number - 12)
        pred[10] = 0
        write_pair(folder, f"case-{number:03d}", pred, truth)
    settings = ScoreSettings()
    return list(serial(pairs_of(folder), lambda pair: score_safely(pair, settings), print))


def as_scans(results):
    """Predictions and targets for the metrics, and which boxes share a voxel with which lesion."""
    scans = []
    for one in (one for one in results if one.error is None):
        corner = lambda row: [row[f"axis{a}_{end}"] for end in ("min", "max") for a in range(3)]  # noqa: E731
        boxes = torch.tensor([corner(row) for row in one.boxes]).reshape(-1, 6)
        truth = torch.tensor([corner(row) for row in one.lesions]).reshape(-1, 6)
        found = {"box": boxes, "label": torch.zeros(len(boxes))}
        found["label_scores"] = torch.tensor([row["score"] for row in one.boxes]).double()
        scans.append((found, {"box": truth, "label": torch.zeros(len(truth))}))
    return [scan[0] for scan in scans], [scan[1] for scan in scans]


def test_froc_and_precision_equal_the_metrics_and_the_reference(results):
    """Boxes that overlap stand for lesions that touch: in these cases the two are the same."""
    summary = summarize(results, SummarySettings(resamples=20))
    scans = as_scans(results)
    froc = compute_froc(*scans, threshold=1e-6)
    assert summary["froc"]["cpm"] == froc.cpm
    assert summary["froc"]["sensitivity"] == list(froc.sensitivity)
    assert summary["froc"]["curve"]["fps_per_scan"] == froc.fps_per_scan.tolist()
    assert summary["froc"]["scans"] == len(scans[0])
    touching = [
        (
            (box_iou(truth["box"], found["box"]) > 0).tolist(),
            found["label_scores"].tolist(),
            [1.0] * len(truth["box"]),
            [False] * len(truth["box"]),
        )
        for found, truth in zip(*scans, strict=True)
    ]
    points, read, area = reference_touching(touching, froc.fp_rates)
    assert summary["froc"]["sensitivity"] == pytest.approx(read, abs=1e-12)
    assert summary["average_precision"] == pytest.approx(area, abs=1e-12)
    assert area > compute_average_precision(*scans, threshold=1e-6).mean  # a lesion in pieces
    point = summary["operating_point"]
    assert (point["hits"], point["false_positives"]) == points[-1][1:3]
    assert point["sensitivity"] == pytest.approx(points[-1][3], abs=1e-12)
    assert 0 < froc.cpm < 1
    low, high = summary["froc"]["cpm_interval"]
    assert low <= froc.cpm <= high


def test_a_case_is_matched_once_and_everything_else_is_read(results, tmp_path, monkeypatch):
    calls = []

    def counted(*args, **kwargs):
        calls.append(args)
        return shared(*args, **kwargs)

    monkeypatch.setattr(matching, "match_shared", counted)
    folder = write_cohort(tmp_path, 3)
    scored = score_cohort(pairs_of(folder), tmp_path / "results")
    assert scored.summary["counts"]["scans"] == len(calls) == 3
    again = score_cohort(pairs_of(folder), tmp_path / "results")  # from the journal
    write_report(tmp_path / "results", tmp_path / "page.html")
    assert again.summary == scored.summary
    assert len(calls) == 3


def test_calibration_is_pooled_over_all_voxels(results, tmp_path_factory):
    found = summarize(results, SummarySettings(resamples=20))["calibration"]
    metric = MeasureMetric(CalibrationError(), "dataset")
    from softoverlap.images import load_image

    for one in results:
        if one.error is None:
            row = one.rows[0]
            paths = row["pred"], *row["truth"]
            metric(*(load_image(path).data[None, None] for path in paths))
    assert found["error"] == pytest.approx(metric.aggregate().item(), abs=1e-9)
    assert sum(found["counts"]) > 0


def test_volumes_have_their_limits_of_agreement(results):
    found = summarize(results, SummarySettings(resamples=20))["bland_altman"]
    rows = [one.rows[0] for one in results if one.error is None]
    bias = [row["volume_bias_ml"] for row in rows]
    assert found["n"] == len(bias)
    assert found["mean_difference"] == pytest.approx(math.fsum(bias) / len(bias), abs=1e-12)
    width = found["upper"] - found["lower"]
    assert width == pytest.approx(2 * 1.96 * np.std(bias, ddof=1), rel=1e-9)


def test_boxes_without_scores_have_no_curve(tmp_path):
    from softoverlap.app.cohort import ScorePair
    from softoverlap.images import write_boxes

    write_boxes(tmp_path / "a.json", torch.tensor([[0.0, 0, 0, 4, 4, 4]]))
    result = score_case(ScorePair("a", tmp_path / "a.json", (tmp_path / "a.json",)))
    summary = summarize([result])
    assert "froc" not in summary
    assert summary["metrics"]["lesion_recall"]["mean"] == 1.0


def test_labels_are_summed_up_one_by_one():
    rows = [
        [{"case": case, "label": label, "soft_dice": case_score + label} for label in (1, 2)]
        for case, case_score in (("a", 0.0), ("b", 0.5))
    ]
    summary = summarize([CaseResult(row[0]["case"], row) for row in rows])
    means = {name: part["metrics"]["soft_dice"]["mean"] for name, part in summary["labels"].items()}
    assert means == {"1": 1.25, "2": 2.25}


def cubes(*starts, value=1.0):
    """A mask with cubes of three voxels at these places along the first axis."""
    mask = torch.zeros(24, 8, 8)
    for start in starts:
        mask[start : start + 3, 2:5, 2:5] = value
    return mask


def all_recalls(summary):
    """What is found of all lesions, by each part of a summary that says it."""
    sizes = summary["by_size"]
    by_size = sum(part["lesions"] * part["sensitivity"] for part in sizes)
    return {
        "mean recall": summary["metrics"]["lesion_recall"]["mean"],
        "operating point": summary["operating_point"]["sensitivity"],
        "froc": max(summary["froc"]["curve"]["sensitivities"]),
        "by size": by_size / sum(part["lesions"] for part in sizes),
    }


def test_one_prediction_over_two_lesions_finds_both_by_every_figure(tmp_path):
    pred = cubes(20, value=0.7)
    pred[1:10, 2:5, 2:5] = 0.9
    write_pair(tmp_path, "a", pred, cubes(1, 7, 14))
    result = score_case(pairs_of(tmp_path)[0])
    summary = summarize([result])
    assert [row["detected"] for row in result.lesions] == [True, True, False]
    assert all_recalls(summary) == dict.fromkeys(all_recalls(summary), pytest.approx(2 / 3))
    point = summary["operating_point"]
    assert (point["hits"], point["false_positives"], point["precision"]) == (1, 1, 0.5)
    assert summary["average_precision"] == pytest.approx(2 / 3)
    assert [row["outcome"] for row in result.boxes] == ["hit", "false positive"]


def test_two_predictions_on_one_lesion_are_two_hits(tmp_path):
    pred = cubes(20, value=0.7)
    pred[1, 2:5, 2:5], pred[3, 2:5, 2:5] = 0.6, 0.9
    write_pair(tmp_path, "a", pred, cubes(1))
    result = score_case(pairs_of(tmp_path)[0])
    summary = summarize([result])
    assert set(all_recalls(summary).values()) == {1.0}
    assert [row["outcome"] for row in result.boxes] == ["hit", "hit", "false positive"]
    assert [row["lesion"] for row in result.boxes] == [0, 0, None]
    point = summary["operating_point"]
    assert (point["hits"], point["false_positives"]) == (2, 1)
    assert point["precision"] == pytest.approx(2 / 3)
    assert summary["average_precision"] == 1.0


@pytest.mark.parametrize("threshold", [0.5, 0.85])
def test_raters_and_ignored_lesions_count_alike_in_every_figure(tmp_path, threshold):
    """Of three lesions one was marked by one of two raters, and one is too large."""
    pred = cubes(20, value=0.8)
    pred[1:10, 2:5, 2:5] = 0.9
    long = cubes(1, 7)
    long[13:24, 0, 7] = 1
    write_pair(tmp_path, "a", pred, long)
    (tmp_path / "truth" / "a.nii.gz").unlink()
    for number, mask in enumerate((long, long - cubes(7)), start=1):
        save_nifti(tmp_path / "truth" / f"a_rater{number}.nii.gz", mask, torch.eye(4))
    settings = ScoreSettings(threshold=threshold, max_lesion_mm=10.0)
    result = score_case(pairs_of(tmp_path)[0], settings)
    summary = summarize([result], settings=settings)
    assert [row["existence"] for row in result.lesions if not row["not_counted"]] == [1.0, 0.5]
    assert result.rows[0]["lesion_recall"] == 1.0
    assert summary["operating_point"]["sensitivity"] == 1.0
    assert [part["sensitivity"] for part in summary["by_size"]] == [1.0]
    assert summary["operating_point"]["hits"] == 1
    assert summary["operating_point"]["false_positives"] == int(threshold < 0.8)


@pytest.mark.parametrize("seed", range(3))
def test_rows_and_outcomes_of_masks_agree_at_every_score(seed):
    """In a cohort with boxes too, lesions of masks below the operating point do not count."""
    generator = torch.Generator().manual_seed(seed)
    pred, truth = torch.rand(2, 12, 11, 10, generator=generator)
    pred, truth = torch.where(pred > 0.9, pred, 0), torch.where(truth > 0.95, truth, 0)
    whole = mask_lesions(pred, truth, None, spacing=(1.0, 1.0, 1.0), settings=ScoreSettings())
    found = []
    for score in (None, 0.0, *sorted(row["score"] for row in whole.lesions if row["score"]), 1.1):
        tables = whole.at(score)
        point = operating_point(whole.matches.outcomes, score)
        kept = operating_point(tables.matches.counted, None)
        found.append(point.sensitivity)
        assert tables.columns["lesion_recall"] == point.sensitivity == kept.sensitivity
        assert tables.columns["false_positives"] == point.false_positives == kept.false_positives
        assert point.hits == kept.hits
    assert found[0] == found[1] > found[-1] == 0
