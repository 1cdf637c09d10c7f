"""Bins of predicted probability: how prediction and target differ in each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap._checks import check_choice
from softoverlap.measures.inputs import MaskPair


@dataclass(frozen=True)
class ReliabilityCurve:
    """What was observed where so much was predicted; it lies on the diagonal if calibrated.

    Args:
        edges: Edges of the bins of predicted probability, one more than there are bins.
        predicted: Mean predicted probability of each bin, NaN where the bin is empty.
        observed: Mean probability of the target there, NaN where the bin is empty.
        counts: Number of voxels of each bin, fractional where voxels count in part.

    Examples:
        >>> import torch
        >>> from softoverlap import CalibrationError
        >>> measure = CalibrationError(num_bins=2)
        >>> pred, target = torch.tensor([[[0.25, 0.75]]]), torch.tensor([[[0.0, 1.0]]])
        >>> measure.details(measure.statistics(pred, target)[:, 0]).observed
        (0.0, 1.0)
    """

    edges: tuple[float, ...]
    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    counts: tuple[float, ...]


def bin_edges(num_bins: int, dtype: torch.dtype) -> Float[Tensor, "_"]:
    """Edges as a map of this dtype holds them, so that 0.7 lies on the edge 0.7 in float32 too."""
    edges = torch.arange(num_bins + 1, dtype=torch.float64) / num_bins
    return edges.to(dtype).double() if dtype.is_floating_point else edges


def bin_sums(pair: MaskPair, edges: Tensor, right: bool) -> Float[Tensor, "items width"]:
    """Of each bin: how many voxels count, Σ prediction, Σ target; all bins of one kind in a row."""
    items, bins = len(pair.pred), len(edges) - 1
    pred, truth = (values.double().reshape(items, -1) for values in pair[:2])
    weight = torch.ones_like(pred)
    if pair.counted is not None:
        weight = pair.counted.double().reshape(items, -1)
    row, _ = (kept := weight > 0).nonzero(as_tuple=True)
    pred, truth, weight = pred[kept], truth[kept], weight[kept]
    places = torch.bucketize(pred, edges[1:-1].to(pred.device), right=not right) + row * bins
    terms = (weight, weight * pred, weight * truth)
    # double(): torch counts in integers where nothing is counted
    sums = [torch.bincount(places, weights=t, minlength=items * bins).double() for t in terms]
    return torch.stack([total.view(items, bins) for total in sums], dim=1).flatten(1)


def _expected(gap: Tensor, counts: Tensor) -> Tensor:
    return ratio(gap.sum(dim=-1), counts.sum(dim=-1))


def _average(gap: Tensor, counts: Tensor) -> Tensor:
    return ratio(gap, counts).nanmean(dim=-1)


def _maximum(gap: Tensor, counts: Tensor) -> Tensor:
    largest = ratio(gap, counts).nan_to_num(nan=-1).amax(dim=-1)
    return torch.where(largest >= 0, largest, torch.nan)


_ERRORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "expected": _expected,
    "average": _average,
    "maximum": _maximum,
}


def calibration_error(sums: Tensor, calibration_reduction: str) -> Tensor:
    """The expected, average or maximum gap of the bins, from their sums."""
    counts, predicted, observed = sums.unflatten(-1, (3, -1)).unbind(-2)
    return _ERRORS[calibration_reduction]((predicted - observed).abs(), counts)


def reliability_curve(edges: tuple[float, ...], sums: Tensor) -> ReliabilityCurve:
    """What was predicted and what was there, bin by bin."""
    counts, predicted, observed = sums.unflatten(-1, (3, -1)).unbind(-2)
    return ReliabilityCurve(
        edges=edges,
        predicted=tuple(ratio(predicted, counts).tolist()),
        observed=tuple(ratio(observed, counts).tolist()),
        counts=tuple(counts.tolist()),
    )


def ratio(total: Tensor, count: Tensor) -> Tensor:
    """The mean, NaN where nothing was counted."""
    return torch.where(count > 0, total / torch.where(count > 0, count, 1), torch.nan)


def check_bins(num_bins: int, calibration_reduction: str) -> None:
    """The number of bins and the reduction are such."""
    if isinstance(num_bins, bool) or not isinstance(num_bins, int):
        raise TypeError(f"num_bins must be an integer, got {type(num_bins).__name__}")
    if num_bins < 1:
        raise ValueError(f"num_bins must be at least 1, got {num_bins}")
    check_choice("calibration_reduction", calibration_reduction, _ERRORS)
