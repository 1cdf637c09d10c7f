"""The figures at one score threshold, the rules that choose it, and their bootstrap intervals."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap.measures import BoxFROC, Outcomes, operating_point, operating_rule
from softoverlap.measures.detection._bootstrap import draw_patients, numbered
from softoverlap.measures.detection.froc import events_of
from tests.support.box_cohorts import cohort_of, cohorts, cube, found, lesions
from tests.support.reference_detection import reference_operating_point

RULES = ("f1", "fp:0", "fp:0.5", "fp:1", "fp:4", 0.35, -0.5, math.inf, None)
FIGURES = ("sensitivity", "precision", "f1", "fps_per_scan")
CLOSE = {"abs": 1e-12, "nan_ok": True}


def outcomes_of(cohort):
    return BoxFROC().statistics(*cohort)


def big_cohort(seed=0, scans=30, decimals=None):
    generator = np.random.default_rng(seed)
    counts = zip(generator.integers(0, 4, scans), generator.integers(0, 9, scans), strict=True)
    return cohort_of(generator, counts, decimals=decimals)


def test_the_figures_of_a_case_worked_by_hand():
    truth = lesions([cube(0), cube(10), cube(20)], existence=[1.0, 0.5, 0.5])
    prediction = found([cube(0), cube(10), cube(0), cube(40)], [0.9, 0.7, 0.6, 0.5])
    point = operating_point(outcomes_of(([prediction, found([], [])], [truth, lesions([])])), 0.5)
    assert (point.hits, point.false_positives, point.lesions, point.scans) == (2, 1, 3, 2)
    assert point.sensitivity == 0.75
    assert point.precision == pytest.approx(2 / 3)  # the duplicate at 0.6 is neither
    assert point.f1 == pytest.approx(2 * 0.75 * (2 / 3) / (0.75 + 2 / 3))
    assert point.fps_per_scan == 0.5
    assert (point.threshold, point.rule, point.interval) == (0.5, None, None)


@given(cohorts(), st.sampled_from(RULES), st.booleans())
@settings(max_examples=150)
def test_the_point_equals_the_brute_force(cohort, at, weighted):
    outcomes = BoxFROC(weight="existence" if weighted else None).statistics(*cohort)
    point = operating_point(outcomes, at)
    expected = reference_operating_point(outcomes.split(), at)
    ours = asdict(point)
    for name, value in expected.items():
        assert ours[name] == pytest.approx(value, **CLOSE), name
    assert point.rule == (at if isinstance(at, str) else None)


@given(cohorts(), st.sampled_from(RULES))
def test_the_point_lies_on_the_froc_curve(cohort, at):
    outcomes = outcomes_of(cohort)
    point, froc = operating_point(outcomes, at), BoxFROC().details(outcomes)
    last = int((froc.thresholds >= point.threshold).sum()) - 1
    assert point.sensitivity == pytest.approx(froc.sensitivities[last].item(), **CLOSE)
    assert point.fps_per_scan == pytest.approx(froc.fps_per_scan[last].item(), abs=1e-12)
    assert (point.lesions, point.scans) == (froc.lesions, froc.scans)


@given(cohorts(), st.sampled_from(["f1", "fp:0.5", "fp:1", "fp:2"]))
def test_a_chosen_threshold_gives_the_same_point_when_it_is_given(cohort, at):
    outcomes = outcomes_of(cohort)
    chosen = operating_point(outcomes, at)
    given_back = operating_point(outcomes, chosen.threshold)
    for name, value in asdict(replace(chosen, rule=None)).items():
        assert asdict(given_back)[name] == pytest.approx(value, **CLOSE), name
    assert repr(operating_point(outcomes, str(chosen.threshold))) == repr(given_back)


@given(cohorts(distinct_scores=True), st.floats(0, 4))
def test_no_lower_threshold_keeps_within_the_rate_of_false_positives(cohort, rate):
    outcomes = outcomes_of(cohort)
    point = operating_point(outcomes, f"fp:{rate}")
    assert point.fps_per_scan <= rate
    for score in outcomes.scores[outcomes.scores < point.threshold].tolist():
        assert operating_point(outcomes, score).fps_per_scan > rate


@given(cohorts())
def test_no_threshold_has_a_higher_f1_and_none_above_has_the_same(cohort):
    outcomes = outcomes_of(cohort)
    best = operating_point(outcomes, "f1")
    for score in outcomes.scores.unique().tolist():
        other = operating_point(outcomes, score)
        assert not other.f1 > best.f1 + 1e-12
        assert not (score > best.threshold and other.f1 > best.f1 - 1e-13)


def test_what_is_not_defined_is_nan():
    nothing = [found([], [])]
    no_boxes = operating_point(outcomes_of((nothing, [lesions([cube(0)])])), "f1")
    assert (no_boxes.sensitivity, no_boxes.f1, no_boxes.fps_per_scan) == (0.0, 0.0, 0.0)
    assert math.isnan(no_boxes.precision)
    assert no_boxes.threshold == math.inf
    no_lesions = operating_point(outcomes_of(([found([cube(0)], [0.5])], [lesions([])])), 0.5)
    assert math.isnan(no_lesions.sensitivity)
    assert (no_lesions.precision, no_lesions.f1, no_lesions.fps_per_scan) == (0.0, 0.0, 1.0)
    neither = operating_point(outcomes_of((nothing, [lesions([])])), None)
    assert all(math.isnan(getattr(neither, name)) for name in FIGURES[:3])
    assert neither.fps_per_scan == 0.0


def without_scores(outcomes):
    return replace(outcomes, scores=torch.full_like(outcomes.scores, math.nan))


def test_all_boxes_count_where_none_has_a_score():
    outcomes = outcomes_of(big_cohort())
    expected = operating_point(outcomes, None, resamples=30)
    silent = operating_point(without_scores(outcomes), None)
    assert expected.threshold == -math.inf
    assert expected.interval.threshold == (-math.inf, -math.inf)
    assert replace(expected, interval=None) == silent
    assert operating_point(without_scores(outcomes), None, resamples=30).interval is not None


@pytest.mark.parametrize("at", RULES)
@pytest.mark.parametrize("by_patient", [False, True])
@pytest.mark.parametrize("decimals", [None, 1])
def test_the_interval_equals_a_loop_over_drawn_patients(at, by_patient, decimals):
    scans = 20
    outcomes = outcomes_of(big_cohort(seed=4, scans=scans, decimals=decimals))
    patients = [f"patient {number % 6}" for number in range(scans)] if by_patient else None
    patient_of_scan = numbered(patients, scans)
    draws = draw_patients(events_of(outcomes).order_by_content(patient_of_scan), 40, 7)
    parts, samples = outcomes.split(), []
    for drawn in draws.tolist():
        rows = [s for patient in drawn for s in range(scans) if patient_of_scan[s] == patient]
        samples.append(reference_operating_point([parts[row] for row in rows], at))
    options = {"patients": patients, "resamples": 40, "seed": 7, "confidence": 0.8}
    interval = operating_point(outcomes, at, **options).interval
    for name in FIGURES:
        values = [sample[name] for sample in samples if not math.isnan(sample[name])]
        ends = np.quantile(values, [0.1, 0.9]) if values else [math.nan] * 2
        assert getattr(interval, name) == pytest.approx(tuple(ends), **CLOSE), name
    thresholds = sorted(sample["threshold"] for sample in samples)
    places = math.floor(39 * 0.1), math.ceil(39 * 0.9)
    assert interval.threshold == tuple(thresholds[place] for place in places)
    assert interval.resamples == sum(not math.isnan(s["sensitivity"]) for s in samples)
    assert interval.confidence == 0.8


@pytest.mark.parametrize("at", ["f1", "fp:1", 0.4])
def test_the_order_of_scans_and_how_many_records_they_come_in_do_not_matter(at):
    outcomes = outcomes_of(big_cohort(seed=2))
    patients = [number // 3 for number in range(30)]
    expected = operating_point(outcomes, at, patients=patients, resamples=60)
    order = np.random.default_rng(0).permutation(30).tolist()
    parts, shuffled = outcomes.split(), [patients[k] for k in order]
    again = operating_point([parts[k] for k in order], at, patients=shuffled, resamples=60)
    assert again.threshold == expected.threshold
    for name in FIGURES:
        assert getattr(again, name) == pytest.approx(getattr(expected, name), abs=1e-12)
        ends = getattr(expected.interval, name)
        assert getattr(again.interval, name) == pytest.approx(ends, abs=1e-12)
    assert again.interval.threshold == expected.interval.threshold
    other = operating_point(outcomes, at, patients=patients, resamples=60, seed=1)
    assert other.interval.f1 != expected.interval.f1


@pytest.mark.parametrize("at", ["f1", "fp:1", 0.4])
def test_the_order_of_boxes_in_a_scan_does_not_matter(at):
    predictions, targets = big_cohort(seed=3, decimals=1)
    shuffled = []
    for number, scan in enumerate(predictions):
        order = np.random.default_rng(number).permutation(len(scan["box"])).tolist()
        shuffled.append({key: values[order] for key, values in scan.items()})
    expected, again = (
        operating_point(outcomes_of((scans, targets)), at, resamples=60)
        for scans in (predictions, shuffled)
    )
    assert asdict(again) == asdict(expected)


def test_draws_read_a_few_at_a_time_give_the_same(monkeypatch):
    outcomes = outcomes_of(big_cohort())
    before = operating_point(outcomes, "f1", resamples=30)
    monkeypatch.setattr("softoverlap.measures.detection._bootstrap._ELEMENTS_AT_ONCE", 1)
    assert operating_point(outcomes, "f1", resamples=30) == before


def test_a_figure_that_no_draw_defines_has_no_interval():
    outcomes = outcomes_of(([found([cube(0)], [0.5])] * 3, [lesions([])] * 3))
    interval = operating_point(outcomes, 0.5, resamples=10).interval
    assert interval.resamples == 0
    assert all(math.isnan(end) for end in interval.sensitivity)
    assert interval.fps_per_scan == (1.0, 1.0)


def many_outcomes(scans, boxes, per_scan=5):
    """Outcomes of many boxes, made without matching."""
    generator = torch.Generator().manual_seed(0)
    each = boxes // scans
    shape = scans, each
    lesion = torch.full(shape, -1)
    lesion[:, :per_scan] = torch.arange(per_scan)
    return Outcomes(
        boxes=torch.zeros(boxes, 6).double(),
        labels=torch.zeros(boxes).double(),
        scores=torch.rand(boxes, generator=generator).double(),
        outcome=torch.where(lesion >= 0, 1, -1).reshape(-1, 1, 1),
        lesion=lesion.reshape(-1, 1, 1),
        lesion_boxes=torch.zeros(scans * per_scan, 6).double(),
        lesion_labels=torch.zeros(scans * per_scan).double(),
        existence=torch.ones(scans * per_scan).double(),
        sizes=torch.ones(scans * per_scan).double(),
        scans=torch.tensor([[each, per_scan]] * scans),
    )


@pytest.mark.slow
@pytest.mark.parametrize("at", ["f1", "fp:1", 0.5])
def test_a_thousand_draws_of_a_hundred_thousand_boxes_take_seconds(at):
    outcomes = many_outcomes(400, 100_000)
    start = time.perf_counter()
    operating_point(outcomes, at, resamples=1000)
    assert time.perf_counter() - start < 30  # 4 s on an idle core


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (None, None), (1, 1.0), (0.5, 0.5), (" 0.35", 0.35), ("1e-3", 0.001), ("f1 ", "f1"),
        ("fp:1", "fp:1"), ("fp:0.125", "fp:0.125"), ("inf", math.inf), (-math.inf, -math.inf),
    ],
)  # fmt: skip
def test_a_rule_is_a_number_or_text(at, expected):
    assert operating_rule(at) == expected
    assert type(operating_rule(at)) is type(expected)


@pytest.mark.bad_input
@pytest.mark.parametrize("at", ["", "f2", "fp:", "fp:-1", "fp:inf", "fp:x", "fp", "nan", math.nan])
def test_a_rule_that_is_none_is_named(at):
    words = 'at must be a score threshold, "f1" or "fp:" and a number .* "fp:1", got '
    with pytest.raises(ValueError, match=words + repr(at)):
        operating_rule(at)


@pytest.mark.bad_input
def test_bad_input_is_named():
    outcomes = outcomes_of(big_cohort(scans=3))
    for at, kind in ((True, "bool"), ([0.5], "list"), (torch.tensor(0.5), "Tensor")):
        with pytest.raises(TypeError, match=f"at must be a number, text or None, got {kind}"):
            operating_point(outcomes, at)
    with pytest.raises(ValueError, match="outcomes must hold at least one scan, got none"):
        operating_point([], 0.5)
    for options, words in (
        ({"resamples": -1}, "resamples must be at least 0, got -1"),
        ({"confidence": 0.0}, r"confidence must lie in \(0, 1\), got 0.0"),
        ({"patients": ["a"]}, "patients must hold one for each of 3 scans, got 1"),
    ):
        with pytest.raises(ValueError, match=words):
            operating_point(outcomes, 0.5, **options)
    for at in (0.5, "f1", "fp:1", -math.inf):
        words = "outcomes must have a score for each box to be read at a threshold.*at=None"
        with pytest.raises(ValueError, match=words):
            operating_point(without_scores(outcomes), at)
