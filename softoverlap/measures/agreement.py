"""How far two measurements of the same things agree: the figures of a Bland–Altman plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from torch import Tensor

from softoverlap._checks import check_number, check_tensors

Measured = Sequence[float] | np.ndarray | Tensor
Interval = tuple[float, float]
_WIDTH = 1.96  # standard deviations between the mean difference and a limit of agreement


@dataclass(frozen=True)
class BlandAltman:
    """Bias and limits of agreement of two measurements, prediction less target.

    A figure that needs more pairs than there are is NaN: an SD needs two.

    Args:
        n: Number of pairs.
        mean_difference: The bias.
        mean_interval: Its confidence interval.
        sd: Standard deviation of the differences, by n - 1.
        lower: Lower limit of agreement, 1.96 SD below the bias.
        lower_interval: Its confidence interval.
        upper: Upper limit of agreement, 1.96 SD above the bias.
        upper_interval: Its confidence interval.
        pearson: Pearson's correlation, NaN where one side never varies.
        concordance: Lin's concordance correlation, which also counts the bias; NaN where all
            values are the same.
        means: Mean of each pair, the plot's horizontal axis.
        differences: Difference of each pair, the plot's vertical axis.

    Examples:
        >>> compute_bland_altman([1.0, 3.0], [1.0, 2.0]).mean_difference
        0.5
    """

    n: int
    mean_difference: float
    mean_interval: Interval
    sd: float
    lower: float
    lower_interval: Interval
    upper: float
    upper_interval: Interval
    pearson: float
    concordance: float
    means: tuple[float, ...]
    differences: tuple[float, ...]


def compute_bland_altman(
    pred: Measured, target: Measured, *, confidence: float = 0.95
) -> BlandAltman:
    """Bias, limits of agreement and their confidence intervals, by Bland and Altman (1999).

    The intervals take the differences for normal; a limit's variance is
    (1/n + 1.96² / (2(n - 1))) · SD².

    Args:
        pred: One measurement of each thing, any unit.
        target: The other one, the same unit, as many.
        confidence: Level of the intervals, in (0, 1).

    Returns:
        The figures, in the unit of the measurements.

    Raises:
        ValueError: If the two are not as many, a value is not finite, or `confidence` is none.

    References:
        Bland and Altman, Measuring agreement in method comparison studies,
        https://doi.org/10.1177/096228029900800204; Lin, A concordance correlation coefficient to
        evaluate reproducibility, https://doi.org/10.2307/2532051

    Examples:
        >>> figures = compute_bland_altman([2.0, 4.0, 6.0], [1.0, 4.0, 7.0])
        >>> figures.mean_difference, figures.sd
        (0.0, 1.0)
    """
    first, second = _measured(pred, "pred"), _measured(target, "target")
    if len(first) != len(second):
        raise ValueError(
            f"target must hold as many values as pred, {len(first)}, got {len(second)}"
        )
    check_number(confidence=confidence)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence!r}")
    differences = first - second
    n = len(differences)
    mean = float(differences.mean()) if n else math.nan
    sd = float(differences.std(ddof=1)) if n > 1 else math.nan
    mean_error, limit_error = _margins(n, sd, confidence)
    lower, upper = mean - _WIDTH * sd, mean + _WIDTH * sd
    return BlandAltman(
        n=n,
        mean_difference=mean,
        mean_interval=(mean - mean_error, mean + mean_error),
        sd=sd,
        lower=lower,
        lower_interval=(lower - limit_error, lower + limit_error),
        upper=upper,
        upper_interval=(upper - limit_error, upper + limit_error),
        pearson=_pearson(first, second),
        concordance=_concordance(first, second),
        means=tuple(((first + second) / 2).tolist()),
        differences=tuple(differences.tolist()),
    )


def _measured(values: Measured, name: str) -> np.ndarray:
    if isinstance(values, Tensor):
        check_tensors(**{name: values})
        values = values.detach().cpu().double().numpy()
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold real numbers, got type {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must have one axis of values, got shape {array.shape}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must hold finite values, got NaN or infinity")
    return array


def _margins(n: int, sd: float, confidence: float) -> tuple[float, float]:
    """Half-widths of the intervals of the mean difference and of a limit."""
    if n < 2:
        return math.nan, math.nan
    quantile = float(stats.t.ppf((1 + confidence) / 2, n - 1))
    limit = math.sqrt(1 / n + _WIDTH**2 / (2 * (n - 1)))
    return quantile * sd / math.sqrt(n), quantile * sd * limit


def _pearson(first: np.ndarray, second: np.ndarray) -> float:
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    units = [(side - side.mean()) / np.ptp(side) for side in (first, second)]  # no underflow
    share = units[0] @ units[1] / math.sqrt((units[0] @ units[0]) * (units[1] @ units[1]))
    return float(np.clip(share, -1, 1))


def _concordance(first: np.ndarray, second: np.ndarray) -> float:
    """Lin's, with moments by n."""
    if not len(first):
        return math.nan
    shift = first.mean() - second.mean()
    spread = first.var() + second.var() + shift**2
    covariance = ((first - first.mean()) * (second - second.mean())).mean()
    return float(2 * covariance / spread) if spread > 0 else math.nan
