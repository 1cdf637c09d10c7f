"""Logistic regression with weights above 0, and folds of patients: numbers alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from scipy import optimize, special

_FOLDS = 5
_LEAST_WEIGHT = 1e-3
"""What a feature at least counts, for each of its standard deviations."""


def fitted(rows: np.ndarray, hits: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights, each above 0, and bias of the least loss.

    That is the logistic loss and half the squared length of the weights by standard deviations.

    Args:
        rows: A row of features for each candidate.
        hits: Truth values.

    Raises:
        ValueError: If all are hits, or none is.

    Examples:
        >>> weights, bias = fitted(np.array([[0.0], [1.0], [2.0]]), np.array([False, True, True]))
        >>> weights.shape, bool(weights[0] > 0)
        ((1,), True)
    """
    if hits.all() or not hits.any():
        raise ValueError(
            "hits must be of several patients, and false candidates too: without one fold of "
            f"patients only {'hits' if hits.any() else 'false candidates'} are left"
        )
    centre, scale = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(scale > 1e-9 * (1 + np.abs(centre)), scale, 1.0)
    standard, target = (rows - centre) / scale, hits.astype(np.float64)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights, logit = parameters[:-1], standard @ parameters[:-1] + parameters[-1]
        gap = special.expit(logit) - target
        value = (np.logaddexp(0, logit) - target * logit).sum() + weights @ weights / 2
        gradient = np.append(standard.T @ gap + weights, gap.sum())
        return value / len(target), gradient / len(target)

    start = np.append(np.ones(rows.shape[1]), special.logit(target.mean()))
    bounds = [*[(_LEAST_WEIGHT, None)] * rows.shape[1], (None, None)]
    found: Any = optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=bounds,
        options={"ftol": 1e-14, "gtol": 1e-8, "maxiter": 1000},
    )  # fmt: skip
    if not found.success:
        raise ValueError(f"features must allow a fit, but it did not converge: {found.message}")
    weights = found.x[:-1] / scale
    return weights, float(found.x[-1] - weights @ centre)


def out_of_fold(rows: np.ndarray, hits: np.ndarray, patients: Sequence[Hashable]) -> np.ndarray:
    """The probability of each candidate by the fit without its fold of patients.

    Raises:
        ValueError: If without a fold all that is left are hits, or none is.
    """
    places = folds_of(patients)
    found = np.empty(len(rows))
    for fold in range(places.max() + 1):
        held = places == fold
        weights, bias = fitted(rows[~held], hits[~held])
        found[held] = special.expit(rows[held] @ weights + bias)
    return found


def folds_of(patients: Sequence[Hashable]) -> np.ndarray:
    """The fold of each candidate, from 0: a patient has one, and folds have about as many each.

    Patients of most candidates come first, of as many in the order in which they are given, and
    each goes to the fold that has fewest candidates by then.

    Examples:
        >>> folds_of(["a", "b", "a", "c"])
        array([0, 1, 0, 2])
    """
    counts = Counter(patients)
    filled = [0] * min(_FOLDS, len(counts))
    fold_of = {}
    for patient, count in counts.most_common():
        fold_of[patient] = filled.index(min(filled))
        filled[fold_of[patient]] += count
    return np.array([fold_of[patient] for patient in patients], dtype=np.int64)


def binned_error(probabilities: Sequence[float], hits: Sequence[bool], bins: int) -> float:
    """Mean over candidates of |mean probability − share of hits| of their bin, of as many each.

    Candidates of equal probability count as their share of hits each, wherever a bin ends.

    Examples:
        >>> binned_error([0.25, 0.75], [False, True], 2)
        0.25
    """
    values, group = np.unique(np.array(probabilities), return_inverse=True)
    counts = np.bincount(group)
    share = np.bincount(group, weights=np.array(hits, dtype=np.float64)) / counts
    gap = np.repeat(values - share, counts)
    return sum(abs(float(part.sum())) for part in np.array_split(gap, bins)) / len(gap)
