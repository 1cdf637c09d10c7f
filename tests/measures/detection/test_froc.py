"""FROC weighted by existence, by class and size, and its bootstrap interval."""

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap.for_monai import FROCMetric
from softoverlap.measures import BoxFROC, compute_froc
from softoverlap.measures.detection._bootstrap import draw_patients, numbered, times_drawn
from softoverlap.measures.detection.froc import events_of
from tests.support.box_cohorts import RATES, cohort_of, cohorts, cube, found, lesions
from tests.support.lesion_makers import lesion_from_crop
from tests.support.reference_detection import reference_froc, reference_volume

READINGS = {"abs": 1e-12, "nan_ok": True}


def big_cohort(seed=0, scans=40):
    generator = np.random.default_rng(seed)
    counts = zip(generator.integers(0, 4, scans), generator.integers(0, 9, scans), strict=True)
    return cohort_of(generator, counts)


def existence_in(targets):
    return lambda scan, lesion: targets[scan]["existence"][lesion].item()


@given(cohorts(), st.sampled_from([0.1, 0.3, 0.5]))
def test_froc_by_existence_equals_the_brute_force(cohort, threshold):
    froc = compute_froc(*cohort, threshold=threshold, fp_rates=RATES)
    weigh = existence_in(cohort[1])
    expected = reference_froc(*cohort, threshold, RATES, weigh=weigh)
    assert froc.sensitivity == pytest.approx(expected, **READINGS)
    assert froc.existence == pytest.approx(sum(t["existence"].sum().item() for t in cohort[1]))
    assert froc.lesions == sum(int((t["existence"] > 0).sum()) for t in cohort[1])
    assert froc.boxes == sum(len(p["label"]) for p in cohort[0])


@given(cohorts())
@settings(max_examples=30)
def test_existence_one_everywhere_gives_the_hard_form(cohort):
    predictions, targets = cohort
    sure = [{**target, "existence": torch.ones(len(target["label"]))} for target in targets]
    soft, hard = compute_froc(predictions, sure), compute_froc(predictions, targets, weight=None)
    assert soft.sensitivity == pytest.approx(hard.sensitivity, abs=0, nan_ok=True)
    assert torch.equal(soft.fps_per_scan, hard.fps_per_scan)
    assert soft.existence == hard.existence == hard.lesions


def test_sensitivity_is_the_share_of_existence_and_not_of_lesions():
    truth = [lesions([cube(0), cube(10), cube(20)], existence=[1.0, 0.5, 0.25])]
    froc = compute_froc([found([cube(0), cube(20)], [0.9, 0.8])], truth)
    assert froc.cpm == pytest.approx(1.25 / 1.75)
    assert (froc.lesions, froc.existence) == (3, 1.75)


def test_a_box_on_what_no_rater_marked_is_a_false_positive():
    truth = [lesions([cube(0), cube(10)], existence=[1.0, 0.0])]
    predictions = [found([cube(10), cube(0), cube(0)], [0.9, 0.8, 0.7])]
    froc = compute_froc(predictions, truth, fp_rates=[0.5, 1.0])
    assert froc.sensitivity == (0.0, 1.0)
    assert froc.fps_per_scan.max() == 1  # the duplicate is neither
    hard = compute_froc(predictions, truth, fp_rates=[0.5, 1.0], weight=None)
    assert hard.sensitivity == (1.0, 1.0)


def test_existence_is_read_from_lesions_and_the_key_goes_first():
    records = [
        lesion_from_crop(torch.ones(4, 4, 4), [start, 0, 0], existence=existence)
        for start, existence in ((0, 0.75), (10, 0.25))
    ]
    target = {**lesions([cube(0), cube(10)]), "lesions": records}
    predictions = [found([cube(0)], [0.9])]
    assert compute_froc(predictions, [target]).cpm == 0.75
    target["existence"] = torch.tensor([0.5, 0.5])
    assert compute_froc(predictions, [target]).cpm == 0.5
    assert compute_froc(predictions, [{**lesions([cube(0)]), "lesions": None}]).cpm == 1


@given(cohorts())
@settings(max_examples=30)
def test_scans_without_lesions_and_boxes_scale_the_rate_of_false_positives(cohort):
    predictions, targets = cohort
    more = len(targets)
    before = compute_froc(predictions, targets)
    after = compute_froc(
        predictions + [found([], [])] * more, targets + [lesions([], existence=[])] * more
    )
    assert torch.equal(after.fps_per_scan, before.fps_per_scan / 2)
    assert torch.equal(
        after.sensitivities.nan_to_num(nan=-1), before.sensitivities.nan_to_num(nan=-1)
    )


@given(cohorts(), st.sampled_from([None, "existence"]))
@settings(max_examples=30)
def test_the_curve_of_a_class_is_that_of_its_boxes_and_lesions_alone(cohort, weight):
    froc = compute_froc(*cohort, per_class=True, class_names=("a", "b"), weight=weight)
    for label, name in enumerate("ab"):
        alone = compute_froc(*(only(scans, label) for scans in cohort), weight=weight)
        assert (name in froc.per_class) == (alone.lesions > 0)
        if alone.lesions:
            assert froc.per_class[name].sensitivity == pytest.approx(alone.sensitivity, abs=1e-12)
            assert froc.per_class[name].boxes == alone.boxes


def only(scans, label):
    return [{key: value[scan["label"] == label] for key, value in scan.items()} for scan in scans]


@given(cohorts())
@settings(max_examples=30)
def test_the_curve_of_a_size_counts_its_lesions_and_all_false_positives(cohort):
    predictions, targets = cohort
    froc = compute_froc(predictions, targets, size_edges=(20.0, 60.0), weight=None)
    sizes = {
        "<20 voxels": (0, 20),
        "20–60 voxels": (20, 60),
        "≥60 voxels": (60, math.inf),
    }
    for name, (low, high) in sizes.items():

        def weigh(scan, lesion, low=low, high=high):
            return float(low <= reference_volume(targets[scan]["box"][lesion].tolist()) < high)

        present = [{**t, "existence": torch.ones(len(t["label"]))} for t in targets]
        expected = reference_froc(predictions, present, 0.1, RATES, weigh=weigh)
        assert (name in froc.per_size) == (not math.isnan(expected[0]))
        if name in froc.per_size:
            assert froc.per_size[name].sensitivity == pytest.approx(expected, abs=1e-12)
    assert sum(curve.lesions for curve in froc.per_size.values()) == froc.lesions


def test_sizes_are_in_cubic_millimetres_where_spacing_is_given():
    truth = [{**lesions([cube(0), cube(10, 8)]), "spacing": torch.tensor([1.0, 0.5, 0.5])}]
    predictions = [found([cube(0)], [0.9])]
    assert list(compute_froc(predictions, truth, size_edges=[100.0]).per_size) == [
        "<100 voxels",
        "≥100 voxels",
    ]
    for spacing in ((1.0, 0.5, 0.5), "spacing"):
        froc = compute_froc(predictions, truth, size_edges=[128.0], spacing=spacing)
        assert {name: curve.lesions for name, curve in froc.per_size.items()} == {
            "<128 mm³": 1,
            "≥128 mm³": 1,  # 8³ voxels of 0.25 mm³: an edge belongs to the class above
        }
        assert froc.per_size["<128 mm³"].cpm == 1
        assert froc.per_size["≥128 mm³"].cpm == 0


def test_the_size_of_a_mask_is_the_sum_of_its_probabilities():
    records = [lesion_from_crop(torch.full((4, 4, 4), 0.25), [0, 0, 0])]
    truth = [{**lesions([cube(0)]), "lesions": records}]
    predictions = [found([cube(0)], [0.9])]
    assert list(compute_froc(predictions, truth, size_edges=[17.0]).per_size) == ["≥17 voxels"]
    assert list(compute_froc(predictions, truth, size_edges=[17.0], size_of="mask").per_size) == [
        "<17 voxels"
    ]
    masked = [{**lesions([cube(0)]), "masks": torch.full((1, 4, 4, 4), 0.25)}]
    froc = compute_froc(
        predictions, masked, size_edges=[33.0], size_of="mask", spacing=(2.0, 1.0, 1.0)
    )
    assert list(froc.per_size) == ["<33 mm³"]


def test_the_interval_equals_a_loop_that_draws_the_scans_again():
    predictions, targets = big_cohort()
    outcomes = BoxFROC().statistics(predictions, targets)
    draws = draw_patients(range(40), 25, seed=3)
    rates = torch.tensor(RATES).double()
    samples = events_of(outcomes).sensitivities(times_drawn(draws, torch.arange(40)), rates)
    for draw, sample in zip(draws.tolist(), samples.tolist(), strict=True):
        drawn = [targets[k] for k in draw]
        expected = reference_froc(
            [predictions[k] for k in draw], drawn, 0.1, RATES, weigh=existence_in(drawn)
        )
        assert sample == pytest.approx(expected, **READINGS)


def test_the_interval_holds_percentiles_of_the_resamples_and_its_band_agrees():
    measure = BoxFROC(fp_rates=RATES, resamples=200, seed=5)
    outcomes = measure.statistics(*big_cohort())
    froc, events = measure.details(outcomes), events_of(outcomes)
    times = events.drawn(200, 5, torch.arange(40))
    samples = events.sensitivities(times, torch.tensor(RATES).double()).numpy()
    low, high = np.quantile(samples, [0.025, 0.975], axis=0)
    ends = np.array(froc.interval.sensitivity)
    assert ends == pytest.approx(np.stack([low, high], axis=1), abs=1e-12)
    expected = np.quantile(samples.mean(axis=1), [0.025, 0.975])
    assert froc.interval.cpm == pytest.approx(expected.tolist(), abs=1e-12)
    assert froc.interval.resamples == 200
    at = torch.searchsorted(froc.interval.fps_per_scan, torch.tensor(RATES).double())
    assert froc.interval.low[at].tolist() == pytest.approx(low, abs=1e-12)
    assert froc.interval.high[at].tolist() == pytest.approx(high, abs=1e-12)
    assert froc.interval.cpm[0] < froc.cpm < froc.interval.cpm[1]


def test_the_interval_by_patient_equals_a_loop_that_draws_patients_with_all_their_scans():
    predictions, targets = big_cohort(scans=24)
    patients = [f"patient {number % 7}" for number in range(24)]
    outcomes = BoxFROC().statistics(predictions, targets)
    patient_of_scan = numbered(patients, 24)
    order = events_of(outcomes).order_by_content(patient_of_scan)
    assert sorted(order) == list(range(7))
    samples = []
    for drawn in draw_patients(order, 60, seed=3).tolist():
        scans = [scan for patient in drawn for scan in range(patient, 24, 7)]
        truths = [targets[scan] for scan in scans]
        found_in = [predictions[scan] for scan in scans]
        samples.append(reference_froc(found_in, truths, 0.1, RATES, weigh=existence_in(truths)))
    expected = np.quantile(np.array(samples), [0.025, 0.975], axis=0).T
    options = {"fp_rates": RATES, "resamples": 60, "seed": 3}
    froc = compute_froc(predictions, targets, patients=patients, **options)
    assert np.array(froc.interval.sensitivity) == pytest.approx(expected, abs=1e-12)
    assert BoxFROC(**options).details(outcomes, patients).interval.cpm == froc.interval.cpm
    backwards = compute_froc(predictions[::-1], targets[::-1], patients=patients[::-1], **options)
    assert backwards.interval.cpm == pytest.approx(froc.interval.cpm, abs=1e-12)


def test_a_patient_for_each_scan_changes_nothing_and_one_patient_has_no_spread():
    cohort = big_cohort()
    froc = compute_froc(*cohort, resamples=50)
    alone = compute_froc(*cohort, resamples=50, patients=range(40)).interval
    assert alone.sensitivity == froc.interval.sensitivity
    assert torch.equal(alone.low, froc.interval.low)
    one = compute_froc(*cohort, resamples=50, patients=["the only one"] * 40).interval
    assert one.sensitivity == tuple((reading, reading) for reading in froc.sensitivity)


def test_a_tensor_or_array_of_patients_is_read_by_its_values():
    cohort = big_cohort(scans=12)
    numbers = [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3]
    expected = compute_froc(*cohort, resamples=20, patients=numbers).interval.cpm
    assert compute_froc(*cohort, resamples=20, patients=np.array(numbers)).interval.cpm == expected


@pytest.mark.bad_input
def test_patients_that_are_not_one_a_scan_are_named():
    cohort = big_cohort(scans=3)
    with pytest.raises(ValueError, match="patients must hold one for each of 3 scans, got 2"):
        compute_froc(*cohort, patients=["a", "b"])
    with pytest.raises(TypeError, match="patients must be a list of patients, got 'abc'"):
        compute_froc(*cohort, patients="abc")
    with pytest.raises(TypeError, match="patients must be hashable, such as names, got a list"):
        compute_froc(*cohort, patients=[["a"], ["b"], ["c"]])


def test_there_is_a_curve_only_where_scores_differ():
    truth = [lesions([cube(0), cube(10)])]
    for scores, expected in (([0.5, 0.5], False), ([0.5, 0.6], True)):
        froc = compute_froc([found([cube(0), cube(20)], scores)], truth)
        assert froc.has_curve == expected
    assert not compute_froc([found([], [])], truth).has_curve


def test_rates_below_one_false_positive_in_all_scans_are_coarse():
    scans = [found([], [])] * 49, [lesions([cube(0)])] * 49
    froc = compute_froc(*scans, fp_rates=(0.0, 1 / 64, 1 / 49, 1.0))
    assert froc.coarse_rates == (0.0, 1 / 64)  # 49 * (1 / 49) is less than 1 in floats


def test_the_interval_depends_on_the_seed_alone_and_not_on_the_order_of_scans():
    predictions, targets = big_cohort()
    before = compute_froc(predictions, targets, resamples=50)
    again = compute_froc(predictions[::-1], targets[::-1], resamples=50)
    other = compute_froc(predictions, targets, resamples=50, seed=1)
    assert before.interval.cpm == pytest.approx(again.interval.cpm, abs=1e-12)
    assert before.interval.low.tolist() == pytest.approx(again.interval.low.tolist(), abs=1e-12)
    assert before.interval.cpm != other.interval.cpm


def test_a_wider_confidence_gives_a_wider_interval_and_equal_scans_give_none():
    predictions, targets = big_cohort()
    narrow, wide = (
        compute_froc(predictions, targets, resamples=100, confidence=confidence).interval.cpm
        for confidence in (0.5, 0.95)
    )
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    same = [found([cube(0), cube(9)], [0.9, 0.8])] * 9, [lesions([cube(0), cube(20)])] * 9
    assert compute_froc(*same, resamples=20).interval.cpm == (0.5, 0.5)


def test_resamples_without_a_lesion_are_left_out_and_counted():
    targets = [lesions([cube(0)]), lesions([])]
    predictions = [found([cube(0)], [0.9]), found([], [])]
    interval = compute_froc(predictions, targets, resamples=400).interval
    assert 250 < interval.resamples < 350  # three quarters
    assert interval.cpm == (1.0, 1.0)
    nothing = compute_froc(predictions[1:], targets[1:], resamples=20).interval
    assert nothing.resamples == 0
    assert all(math.isnan(end) for end in nothing.cpm)
    assert nothing.low.isnan().all()


def test_the_readings_of_drawn_scans_do_not_depend_on_how_many_are_read_at_once(monkeypatch):
    cohort = big_cohort()
    before = compute_froc(*cohort, resamples=50).interval
    monkeypatch.setattr("softoverlap.measures.detection._bootstrap._ELEMENTS_AT_ONCE", 1)
    assert compute_froc(*cohort, resamples=50).interval.cpm == before.cpm


@pytest.mark.slow
def test_a_thousand_resamples_of_four_hundred_scans_take_about_a_second():
    cohort = big_cohort(scans=400)
    seconds = []
    for resamples in (0, 1000):
        start = time.perf_counter()
        compute_froc(*cohort, resamples=resamples)
        seconds.append(time.perf_counter() - start)
    assert seconds[1] - seconds[0] < 5  # 0.3 s on an idle core


def test_the_metric_gives_the_interval_classes_and_sizes_too():
    predictions, targets = big_cohort()
    options = {"resamples": 30, "per_class": True, "size_edges": (20.0, 60.0), "seed": 2}
    metric = FROCMetric(**options)
    for start in range(0, 40, 7):
        metric(predictions[start : start + 7], targets[start : start + 7])
    expected, curve = compute_froc(predictions, targets, **options), metric.details()
    assert curve.interval.cpm == expected.interval.cpm
    assert curve.per_class[1].cpm == expected.per_class[1].cpm
    middle, expected_middle = (one.per_size["20–60 voxels"] for one in (curve, expected))
    assert middle.interval.cpm == expected_middle.interval.cpm
    assert metric.aggregate().item() == expected.cpm


def test_options_out_of_range_are_named():
    scans = [found([cube(0)], [0.9])], [lesions([cube(0)])]
    for options, words in (
        ({"resamples": -1}, "resamples must be at least 0, got -1"),
        ({"confidence": 1.0}, r"confidence must lie in \(0, 1\), got 1.0"),
        ({"weight": "size"}, "weight must be one of .*'existence'.*, got 'size'"),
        ({"size_edges": (5.0, 5.0)}, "size_edges must hold rising numbers above 0"),
        ({"size_edges": (0.0,)}, "size_edges must hold rising numbers above 0"),
        ({"size_of": "voxels"}, "size_of must be one of .*got 'voxels'"),
        ({"size_edges": (5.0,), "spacing": (1.0, 0.0, 1.0)}, r"spacing\[1\] must be above 0"),
        ({"size_edges": (5.0,), "spacing": (1.0, 1.0)}, "spacing must hold 3 numbers"),
        ({"size_edges": (5.0,), "spacing": "mm"}, "targets must have the key 'mm'"),
        ({"size_edges": (5.0,), "size_of": "mask"}, "targets must hold 'lesions'.* or 'masks'"),
        ({"per_class": True, "class_names": ()}, "class_names must name every label"),
    ):
        with pytest.raises(ValueError, match=words):
            compute_froc(*scans, **options)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            {"existence": torch.tensor([1.5])},
            ValueError,
            r"\['existence'\] must hold probabilities",
        ),
        ({"existence": torch.tensor([math.nan])}, ValueError, r"\['existence'\] .* got NaN"),
        ({"existence": torch.ones(2)}, ValueError, r"\['existence'\] must have shape \(1,\)"),
        ({"existence": [1.0]}, TypeError, r"\['existence'\] must be a torch.Tensor, got list"),
        ({"lesions": ["lesion"]}, TypeError, r"\['lesions'\] must hold Lesion, got str"),
        ({"lesions": []}, ValueError, r"\['lesions'\] must hold one Lesion for each of 1 .*got 0"),
    ],
)
def test_a_wrong_existence_is_named(change, error, words):
    with pytest.raises(error, match=words):
        compute_froc([found([cube(0)], [0.9])], [{**lesions([cube(0)]), **change}])
