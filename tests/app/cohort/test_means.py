"""Intervals over patients are those of a bootstrap written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from softoverlap.app.cohort import CaseResult, SummarySettings, subject_of, summarize
from softoverlap.app.cohort.means import interval

CASES = [f"sub-{name}" for name in ("1_ses-1", "1_ses-2", "2", "3", "4", "5_ses-1", "5_ses-2")]
VALUES = [0.1, 0.2, 0.15, 0.9, 0.5, 0.4, 0.3]


def naive(values, patients, statistic, *, seed, resamples):
    """Draw patients with replacement, and take all of the values of each."""
    names = list(dict.fromkeys(patients))
    generator = np.random.default_rng(seed)
    samples = []
    for draw in generator.integers(len(names), size=(resamples, len(names))):
        drawn = []
        for number in draw:
            drawn += [
                v for v, patient in zip(values, patients, strict=True) if patient == names[number]
            ]
        samples.append(statistic(drawn))
    return tuple(np.quantile(samples, [0.025, 0.975]))


@pytest.mark.parametrize("statistic", [np.mean, np.median])
@pytest.mark.parametrize(
    "patients", [None, [1, 2, 1, 2, 3, 4, 5], [*"aabbcde"], [1] * 3 + [2, 3, 4, 5]]
)
def test_the_interval_is_that_of_patients_drawn_again(statistic, patients):
    found = interval(VALUES, statistic, seed=3, resamples=200, patients=patients)
    owners = list(range(7)) if patients is None else patients
    assert found == pytest.approx(naive(VALUES, owners, statistic, seed=3, resamples=200))


@pytest.mark.parametrize("patients", [["a"], ["a"] * 6, [*"abcda"]])
def test_fewer_than_five_patients_have_no_interval(patients):
    found = interval(VALUES[: len(patients)], np.mean, seed=0, resamples=20, patients=patients)
    assert all(math.isnan(end) for end in found)


def test_scans_of_a_bids_subject_are_drawn_together():
    results = [
        CaseResult(case, [{"case": case, "soft_dice": value}])
        for case, value in zip(CASES, VALUES, strict=True)
    ]
    options = SummarySettings(resamples=200, seed=5)
    metric = summarize(results, options)["metrics"]["soft_dice"]
    owners = [subject_of(case) for case in CASES]
    for name, statistic in (("mean", np.mean), ("median", np.median)):
        expected = naive(VALUES, owners, statistic, seed=5, resamples=200)
        assert metric[f"{name}_interval"] == pytest.approx(list(expected))
    assert metric["mean"] == pytest.approx(np.mean(VALUES))  # of scans, not of patients


def test_a_table_of_patients_goes_before_the_names():
    results = [
        CaseResult(case, [{"case": case, "soft_dice": value}])
        for case, value in zip(CASES, VALUES, strict=True)
    ]
    names = ["ann", "bob", "cat", "dan", "eve", "ann", "bob"]
    table = dict(zip(CASES, names, strict=True))
    summary = summarize(results, SummarySettings(resamples=200, patients=table))
    expected = naive(VALUES, list(table.values()), np.mean, seed=0, resamples=200)
    assert summary["metrics"]["soft_dice"]["mean_interval"] == pytest.approx(list(expected))
    assert (summary["counts"]["patients"], summary["counts"]["scans"]) == (5, 7)
