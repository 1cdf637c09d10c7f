"""The calibrated score: least loss, strictly rising, by patient, and stored to the last digit."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap import (
    LesionCalibration,
    MassAboveBackground,
    MaxProbability,
    MeanProbability,
    lesion_scores,
)
from softoverlap.lesions.logistic import folds_of
from tests.support.reference_lesion_scores import reference_calibration_error, reference_loss

TWO = (MaxProbability(), MassAboveBackground())


def cohort(count=120, *, seed=0, patients=12):
    """Scores of candidates, and hits that follow log odds of one and the log of the other."""
    generator = torch.Generator().manual_seed(seed)
    odds = 2 * torch.randn(count, generator=generator, dtype=torch.float64)
    second = 10 ** (4 * torch.rand(count, generator=generator, dtype=torch.float64) - 1)
    chance = torch.sigmoid(odds + 0.8 * second.log1p() - 3)
    hits = torch.rand(count, generator=generator) < chance
    return torch.stack([odds.sigmoid(), second], dim=1), hits, [n % patients for n in range(count)]


def fit(features, hits, patients, **options):
    options = {"scores": TWO, "threshold": 0.5} | options
    return LesionCalibration.fit(features, hits, patients, **options)


FITTED = fit(*cohort())


@pytest.mark.parametrize("seed", range(3))
def test_no_other_weights_have_less_loss(seed):
    features, hits, patients = cohort(seed=seed)
    found = fit(features, hits, patients)
    rows, hit = features.tolist(), hits.tolist()
    least = reference_loss(found.weights, found.bias, rows, hit)
    for step in (1e-3, -1e-3):
        for place in range(3):
            moved = [*found.weights, found.bias]
            moved[place] += step
            assert reference_loss(moved[:2], moved[2], rows, hit) > least


def test_a_score_that_misleads_still_counts_a_little():
    features, hits, patients = cohort()
    features[:, 1] = 3.0 - 2 * hits.double()
    found = fit(features, hits, patients)
    deviation = features[:, 1].log1p().std(correction=0)
    assert found.weights[1] == pytest.approx(1e-3 / deviation.item())
    assert found.weights[0] > 0.5


SHARES, MASSES = st.floats(0, 1), st.floats(0, 1e6)


@given(st.tuples(SHARES, SHARES), st.tuples(MASSES, MASSES), st.sampled_from([0, 1]))
def test_the_probability_rises_with_each_score(shares, masses, place):
    found = replace(FITTED, weights=tuple(1e-1 * weight for weight in FITTED.weights))
    low, high = torch.tensor([shares, masses], dtype=torch.float64).sort(dim=1)[0].mT.clone()
    low[1 - place] = high[1 - place]
    first, second = found.probabilities(torch.stack([low, high])).tolist()
    apart = high[place] - low[place] > 1e-6 * (1 + high[place])
    assert second > first if apart else second >= first


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([0, 1]))
def test_beside_a_constant_score_the_order_is_that_of_the_other(seed, place):
    features, hits, patients = cohort(seed=seed)
    features[:, place] = 0.7
    found = fit(features, hits, patients).probabilities(features)
    assert found.unique().numel() == len(found)
    assert torch.equal(found.argsort(), features[:, 1 - place].argsort())


def test_probabilities_of_a_model_that_holds_are_calibrated():
    found = fit(*cohort(3000, patients=60))
    assert found.calibration_error < 0.05
    assert found.brier < 0.2
    torch.testing.assert_close(
        torch.tensor(found.weights), torch.tensor([1.0, 0.8]), rtol=0.15, atol=0.0
    )


def test_out_of_fold_nothing_is_known_of_the_patients_own_hits():
    features, hits, patients = cohort()
    folds = torch.from_numpy(folds_of(patients))
    before = torch.tensor(fit(features, hits, patients).out_of_fold)
    after = torch.tensor(fit(features, hits ^ (folds == 2), patients).out_of_fold)
    assert torch.equal(before[folds == 2], after[folds == 2])
    assert not torch.isclose(before[folds != 2], after[folds != 2]).any()


@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=40))
def test_a_patient_has_one_fold_and_folds_have_about_as_many(patients):
    folds = folds_of(patients).tolist()
    assert len(set(zip(patients, folds, strict=True))) == len(set(patients))
    assert sorted(set(folds)) == list(range(min(5, len(set(patients)))))
    counts = [folds.count(fold) for fold in set(folds)]
    assert max(counts) - min(counts) <= max(patients.count(name) for name in patients)


@pytest.mark.parametrize("count", [3, 10, 47])
def test_brier_and_calibration_error_are_those_of_the_loops(count):
    generator = torch.Generator().manual_seed(count)
    values = torch.rand(count, generator=generator, dtype=torch.float64).tolist()
    hits = (torch.rand(count, generator=generator) < 0.5).tolist()
    found = replace(FITTED, out_of_fold=tuple(values), hits=tuple(hits))
    squares = [(value - hit) ** 2 for value, hit in zip(values, hits, strict=True)]
    assert found.brier == pytest.approx(sum(squares) / count)
    constant = [(sum(hits) / count - hit) ** 2 for hit in hits]
    assert found.constant_brier == pytest.approx(sum(constant) / count)
    assert found.calibration_error == pytest.approx(reference_calibration_error(values, hits))


def test_equal_probabilities_have_the_error_of_their_share_of_hits():
    hits = (True,) * 15 + (False,) * 15
    found = replace(FITTED, out_of_fold=(0.4,) * 30, hits=hits)
    assert found.calibration_error == pytest.approx(0.1)


def test_a_calibration_is_read_back_to_the_last_digit():
    scores = (MeanProbability(), MassAboveBackground(2.5))
    found = fit(*cohort(), scores=scores, threshold=0.3, low=0.1, connectivity=6, min_mm3=2)
    again = LesionCalibration.from_dict(json.loads(json.dumps(found.as_dict())))
    names = LesionCalibration.__dataclass_fields__
    assert [getattr(again, name) for name in names] == [getattr(found, name) for name in names]


def test_a_calibrated_lesion_has_the_probability_of_its_scores():
    found = FITTED
    image = torch.tensor([0.0, 0.4, 1.0, 0.8, 0.0, 0.6])
    scores = [lesion_scores(image, spacing=[1], threshold=0.5, score=s).scores for s in TWO]
    calibrated = lesion_scores(image, spacing=[1], threshold=0.5, calibration=found).scores
    assert torch.equal(calibrated, found.probabilities(torch.stack(scores, dim=1)))


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"patients": [0] * 120}, "patients must be two or more, got 1"),
        ({"hits": torch.ones(120).bool()}, "hits must be of several patients"),
        ({"hits": torch.arange(120) % 12 == 0}, "only false candidates are left"),
        ({"hits": torch.ones(120)}, "hits must hold truth values, got dtype torch.float32"),
        ({"hits": torch.ones(7).bool()}, r"of as many candidates, got \(120, 7, 120\)"),
        ({"features": torch.ones(120)}, r"features must have shape \(N, 2\), got \(120,\)"),
        ({"features": torch.full((120, 2), torch.nan)}, "features must hold finite values"),
        ({"features": torch.full((120, 2), 2)}, r"features of MaxProb.* must lie in \[0, 1\]"),
        ({"scores": TWO[:1]}, "scores must be two or more"),
        ({"scores": ("maximum", "dice")}, "scores must be callables, got 'maximum'"),
        ({"threshold": 0}, "threshold must lie in"),
        ({"low": 0.6}, "low must lie in"),
        ({"connectivity": 7}, "connectivity must be one of"),
        ({"min_mm3": -1}, "min_mm3 must be at least 0"),
    ],
)
def test_what_cannot_be_fitted_is_refused(changed, words):
    features, hits, patients = cohort()
    given_ = {"features": features, "hits": hits, "patients": patients} | changed
    with pytest.raises((ValueError, TypeError), match=words):
        fit(given_.pop("features"), given_.pop("hits"), given_.pop("patients"), **given_)


@pytest.mark.bad_input
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"version": 2}, "calibration must be of version 1, got 2"),
        ({"more": 1}, "calibration must hold version, scores, .*; see more"),
        ({"bias": float("nan")}, "bias must hold finite numbers, got nan"),
        ({"weights": [1.0, 10**400]}, "weights must hold finite numbers"),
        ({"weights": [1.0]}, "weights must be as many as `scores=`, got 2 and 1"),
        ({"weights": [1.0, -1.0]}, "weights must be above 0"),
        ({"weights": 1.0}, "weights must be a list, got 1.0"),
        ({"weights": ["a", 1.0]}, "weights must be a number, got 'a'"),
        ({"hits": [1, 0]}, "hits must be as many as"),
        ({"out_of_fold": [], "hits": []}, "at least one, got 0 and 0"),
        ({"out_of_fold": [0.5], "hits": [1]}, "hits must be True or False, got 1"),
        ({"out_of_fold": [1.5], "hits": [True]}, r"out_of_fold must lie in \[0, 1\]"),
        ({"scores": [{"name": "os.system"}] * 2}, "scores must each have a name of MaxProb"),
        ({"scores": [{"name": "HaloDice"}] * 2}, "scores must have the settings of HaloDice"),
        ({"scores": ["MaxProbability"] * 2}, "scores must each have a name of MaxProb"),
        ({"threshold": None}, "threshold must be a number, got None"),
    ],
)
def test_data_that_is_no_calibration_is_refused(changed, words):
    values = FITTED.as_dict() | changed
    with pytest.raises((ValueError, TypeError), match=words):
        LesionCalibration.from_dict(values)


@pytest.mark.bad_input
def test_other_data_and_other_scores_are_refused():
    with pytest.raises(ValueError, match="must be of version 1, got list"):
        LesionCalibration.from_dict([1])  # pyright: ignore[reportArgumentType]
    own = fit(*cohort(), scores=(MaxProbability(), lambda one: 1.0))
    with pytest.raises(TypeError, match="scores must be MaxProbability, .* to be stored"):
        own.as_dict()
    with pytest.raises(ValueError, match=r"features must have shape \(N, 2\), got \(1, 3\)"):
        own.probabilities(torch.zeros(1, 3))


@pytest.mark.bad_input
def test_a_calibration_is_of_one_cut_and_stands_alone():
    found, image = fit(*cohort(), threshold=0.3), torch.tensor([0.9])
    words = "lesions cut at (0.5, None, 26, 0.0), got one of those cut at (0.3, None, 26, 0.0)"
    with pytest.raises(ValueError, match=re.escape(words)):
        lesion_scores(image, spacing=[1], threshold=0.5, calibration=found)
    with pytest.raises(ValueError, match=re.escape(words)):
        lesion_scores(image, spacing=[1], threshold=0.5, score=found)
    for other in ({"connectivity": 6}, {"min_mm3": 2.0}):
        with pytest.raises(ValueError, match="got one of those cut at"):
            lesion_scores(image, spacing=[1], threshold=0.3, calibration=replace(found, **other))
    for none in ("dice", MaxProbability):
        with pytest.raises(TypeError, match=r"score must be a score such as MaxProbability\(\)"):
            lesion_scores(image, spacing=[1], threshold=0.3, score=none)
    with pytest.raises(ValueError, match="score must be None where a calibration is given"):
        lesion_scores(image, spacing=[1], threshold=0.3, calibration=found, score=MaxProbability())
