"""A calibrated score: how probably a lesion is a hit, from two or more scores of it.

It is a logistic regression whose weights are all above 0: a lesion with a higher score of one kind,
all else equal, never has the same probability, but for rounding near 0 and 1, so that no plateau of
equal scores lowers FROC.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float64, Shaped
from scipy.special import expit
from torch import Tensor

from softoverlap._checks import (
    check_boolean,
    check_choice,
    check_finite,
    check_number,
    check_tensors,
    check_threshold,
    check_weight,
    check_within,
    refusal,
)
from softoverlap._types import plain
from softoverlap.lesions.candidates import (
    HaloDice,
    LesionCandidate,
    LesionScore,
    MassAboveBackground,
    MaxProbability,
    MeanProbability,
)
from softoverlap.lesions.components import CONNECTIVITIES, check_low
from softoverlap.lesions.logistic import binned_error, fitted, out_of_fold

VERSION = 1
"""Of the data that `as_dict` returns."""

_BINS = 10
_LEAST = 1e-4  # keeps log odds finite at 0 and 1, where they rise still

_STORED = {
    score.__name__: score
    for score in (MaxProbability, MeanProbability, MassAboveBackground, HaloDice)
}


@dataclass(frozen=True, eq=False)
class LesionCalibration:
    """The probability that a lesion is a hit, from scores of it: `fit` makes one.

    The probability is 1 / (1 + exp(−z)), z = bias + Σ weight · s(score), and rises with each score.
    Of a score whose `range` is (0, 1), s is its log odds, log((x + ε) / (1 − x + ε)) with ε = 1e-4;
    of others, such as masses, which span several powers of ten, `sign(x) · log(1 + |x|)`.

    How good it is on patients that it has not seen is kept with it: each candidate's probability
    by the fit without the candidate's fold of patients.

    Args:
        scores: The scores that it is made of, two or more.
        threshold: The threshold of the candidates that it was fitted to, in (0, 1].
        low: Their lower threshold (hysteresis), or None.
        weights: One for each score, above 0.
        bias: What is added.
        out_of_fold: For each candidate the probability by the fit without its patient.
        hits: Whether it was a hit.
        connectivity: The connectivity of the candidates, as of `lesion_candidates`.
        min_mm3: Their smallest volume, in mm³.

    Raises:
        TypeError: If a number is none, or a score cannot be called.
        ValueError: If there are fewer than two scores, not a weight for each, or a number is out of
            range.

    References:
        Platt, Probabilistic Outputs for Support Vector Machines and Comparisons to Regularized
        Likelihood Methods, 1999

    Examples:
        >>> calibration = LesionCalibration(
        ...     scores=(MaxProbability(), HaloDice()), threshold=0.5, low=None, weights=(1.0, 2.0),
        ...     bias=-1.0, out_of_fold=(0.2, 0.9), hits=(False, True),
        ... )
        >>> calibration.brier
        0.025...
        >>> LesionCalibration.from_dict(calibration.as_dict()).weights
        (1.0, 2.0)
    """

    scores: tuple[LesionScore, ...]
    threshold: float
    low: float | None
    weights: tuple[float, ...]
    bias: float
    out_of_fold: tuple[float, ...]
    hits: tuple[bool, ...]
    connectivity: int = 26
    min_mm3: float = 0.0

    def __post_init__(self) -> None:
        _check_scores(self.scores)
        if len(self.weights) != len(self.scores):
            counts = f"{len(self.scores)} and {len(self.weights)}"
            raise refusal("weights", f"must be as many as `scores=`, got {counts}")
        check_threshold(threshold=self.threshold)
        check_low(self.low, self.threshold)
        check_choice("connectivity", self.connectivity, CONNECTIVITIES)
        check_weight(min_mm3=self.min_mm3)
        _check_finite("weights", self.weights)
        _check_finite("bias", [self.bias])
        if min(self.weights) <= 0:
            raise refusal("weights", f"must be above 0, got {list(self.weights)}")
        for probability in self.out_of_fold:
            check_within(0, 1, out_of_fold=probability)
        if not (0 < len(self.hits) == len(self.out_of_fold)):
            counts = f"{len(self.hits)} and {len(self.out_of_fold)}"
            raise refusal("hits", f"must be as many as `out_of_fold=`, at least one, got {counts}")
        for hit in self.hits:
            check_boolean(hits=hit)

    @classmethod
    def fit(
        cls,
        features: Shaped[Tensor, "candidates scores"],
        hits: Bool[Tensor, "candidates"],
        patients: Sequence[Hashable],
        *,
        scores: Sequence[LesionScore],
        threshold: float | int,
        low: float | int | None = None,
        connectivity: int = 26,
        min_mm3: float | int = 0.0,
    ) -> LesionCalibration:
        """Fit it to the candidates of validation scans, those that are no lesion included.

        Weights are those of the least logistic loss with half the squared length of the weights
        (by standard deviations of s(score)) added, each at least 0.001. Then it is fitted again
        without each of up to five folds of patients, of about as many candidates each.

        Args:
            features: The scores of each candidate, a column for each of `scores`.
            hits: Whether the candidate hits a lesion.
            patients: Whose it is.
            scores: What made the columns.
            threshold: The threshold of the candidates.
            low: Their lower threshold, or None.
            connectivity: Their connectivity.
            min_mm3: Their smallest volume, in mm³.

        Returns:
            The calibration, with the probabilities of each candidate by a fit without its patient.

        Raises:
            TypeError: If features or hits are no tensors.
            ValueError: If shapes disagree, a score is not finite, or there are too few patients:
                without any fold there must be hits and others to fit to.

        Examples:
            >>> generator = torch.Generator().manual_seed(0)
            >>> features = torch.rand(60, 2, generator=generator)
            >>> hits = features.sum(dim=1) > 1
            >>> calibration = LesionCalibration.fit(
            ...     features, hits, [number % 6 for number in range(60)],
            ...     scores=(MaxProbability(), HaloDice()), threshold=0.5,
            ... )
            >>> calibration.brier < 0.1
            True
        """
        rows, found = _checked(features, hits, patients, scores)
        weights, bias = fitted(rows, found)
        return cls(
            scores=tuple(scores),
            threshold=float(threshold),
            low=None if low is None else float(low),
            weights=tuple(weights.tolist()),
            bias=bias,
            out_of_fold=tuple(out_of_fold(rows, found, patients).tolist()),
            hits=tuple(found.tolist()),
            connectivity=connectivity,
            min_mm3=float(min_mm3),
        )

    def __call__(self, candidate: LesionCandidate) -> float:
        """The probability that a candidate is a hit, in (0, 1): a score as others are."""
        row = [[float(score(candidate)) for score in self.scores]]
        return float(self.probabilities(torch.tensor(row, dtype=torch.float64)))

    def probabilities(
        self, features: Shaped[Tensor, "candidates scores"]
    ) -> Float64[Tensor, "candidates"]:
        """The probability of each row of scores, in (0, 1), shape (N,)."""
        rows = _scaled(features, self.scores)
        return torch.from_numpy(expit(rows @ np.array(self.weights) + self.bias))

    @property
    def brier(self) -> float:
        """Brier score of the probabilities out of fold: mean squared error, lower is better."""
        return float(np.square(np.array(self.out_of_fold) - np.array(self.hits)).mean())

    @property
    def constant_brier(self) -> float:
        """Brier score of a constant, the share p of hits: p (1 − p), to compare `brier` with."""
        share = float(np.mean(self.hits))
        return share * (1 - share)

    @property
    def calibration_error(self) -> float:
        """Their calibration error in ten bins of as many candidates each, lower is better.

        The mean over candidates of the difference, in their bin, of the mean probability and the
        share of hits.
        """
        return binned_error(self.out_of_fold, self.hits, _BINS)

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as JSON holds it.

        Raises:
            TypeError: If one of the scores is not one of this package.
        """
        scores = []
        for score in self.scores:
            if type(score) not in _STORED.values():
                names = ", ".join(_STORED)
                raise TypeError(f"scores must be {names} to be stored, got {score!r}")
            scores.append({"name": type(score).__name__, **asdict(score)})  # pyright: ignore
        values = {name: getattr(self, name) for name in _FIELDS if name != "scores"}
        lists = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        return {"version": VERSION, "scores": scores, **lists}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LesionCalibration:
        """The calibration of such data, equal to the last digit.

        Raises:
            TypeError: If something is not of the type that was written.
            ValueError: If it is of another version, a field is missing or unknown, or a number is
                out of range.
        """
        if not isinstance(values, Mapping) or values.get("version") != VERSION:
            found = values.get("version") if isinstance(values, Mapping) else type(values).__name__
            raise ValueError(f"calibration must be of version {VERSION}, got {found}")
        if set(values) != {"version", *_FIELDS}:
            apart = ", ".join(sorted(set(values) ^ {"version", *_FIELDS}))
            raise ValueError(f"calibration must hold version, {', '.join(_FIELDS)}; see {apart}")
        lists = {name: tuple(_listed(name, values[name])) for name in _LISTS}
        lists["scores"] = tuple(map(_stored_score, lists["scores"]))
        return cls(**{**{name: values[name] for name in _FIELDS}, **lists})


_FIELDS = tuple(field.name for field in fields(LesionCalibration))
_LISTS = ("scores", "weights", "out_of_fold", "hits")


def _scaled(features: Tensor, scores: Sequence[LesionScore]) -> np.ndarray:
    """Rows of s(score), float64."""
    check_finite(features=features, validate=True)
    if features.ndim != 2 or features.shape[1] != len(scores):
        shape = tuple(features.shape)
        raise ValueError(f"features must have shape (N, {len(scores)}), got {shape}")
    columns = plain(features).detach().cpu().double().numpy().T
    scaled = [_scaled_column(*pair) for pair in zip(columns, scores, strict=True)]
    return np.stack(scaled, axis=1)


def _scaled_column(column: np.ndarray, score: LesionScore) -> np.ndarray:
    if getattr(score, "range", None) != (0, 1):
        return np.sign(column) * np.log1p(np.abs(column))
    if len(column) and not -1e-6 <= column.min() <= column.max() <= 1 + 1e-6:
        seen = f"{column.min():g} to {column.max():g}"
        raise ValueError(f"features of {score!r} must lie in [0, 1], got {seen}")
    share = column.clip(0, 1)
    return np.log(share + _LEAST) - np.log(1 - share + _LEAST)


def _checked(
    features: Tensor, hits: Tensor, patients: Sequence[Hashable], scores: Sequence[LesionScore]
) -> tuple[np.ndarray, np.ndarray]:
    """Scaled features and hits, as arrays."""
    _check_scores(scores)
    rows = _scaled(features, scores)
    check_tensors(hits=hits)
    if hits.dtype != torch.bool:
        raise TypeError(f"hits must hold truth values, got dtype {hits.dtype}")
    counts = len(rows), hits.numel(), len(patients)
    if hits.ndim != 1 or len(set(counts)) > 1:
        raise ValueError(f"features, hits and patients must be of as many candidates, got {counts}")
    if len(set(patients)) < 2:
        raise refusal("patients", f"must be two or more, got {len(set(patients))}")
    return rows, hits.detach().cpu().numpy()


def _check_scores(scores: Sequence[LesionScore]) -> None:
    if len(scores) < 2:
        raise refusal("scores", f"must be two or more, got {len(scores)}")
    for score in scores:
        if not callable(score):
            raise refusal("scores", f"must be callables, got {score!r}", TypeError)


def _check_finite(name: str, numbers: Sequence[float]) -> None:
    for number in numbers:
        check_number(**{name: number})
        if not -sys.float_info.max <= number <= sys.float_info.max:
            raise refusal(name, f"must hold finite numbers, got {number!r:.20}")


def _listed(name: str, values: object) -> list[Any]:
    if not isinstance(values, list):
        raise refusal(name, f"must be a list, got {values!r}", TypeError)
    return values


def _stored_score(stored: Any) -> LesionScore:
    """One of the scores of this package, by its name and its settings."""
    if not isinstance(stored, dict) or stored.get("name") not in _STORED:
        raise refusal("scores", f"must each have a name of {', '.join(_STORED)}, got {stored!r}")
    kind = _STORED[stored["name"]]
    settings = {name: value for name, value in stored.items() if name != "name"}
    if set(settings) != {field.name for field in fields(kind)}:
        raise refusal("scores", f"must have the settings of {kind.__name__}, got {stored!r}")
    return kind(**settings)
