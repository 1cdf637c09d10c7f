"""Dwell time: how long something is in view, or held, from an overlap per frame.

Frame k of a film of `fps` frames a second fills the time from k / fps to (k + 1) / fps. Intervals
are boxes of one axis, in seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from softoverlap._checks import (
    check_boxes,
    check_positive,
    check_probabilities,
    check_tensors,
    check_weight,
    refusal,
)
from softoverlap._types import plain, score_dtype

_SLACK = 1 + 1e-9  # a gap of 3 frames at 10 a second is one of 0.3 seconds


def dwell_intervals(
    overlap: Shaped[Tensor, "frames"],
    threshold: float | int | tuple[float | int, float | int],
    *,
    min_length: float | int = 0.0,
    max_gap: float | int = 0.0,
    fps: float | int = 1.0,
) -> Float[Tensor, "intervals 2"]:
    """From a series of overlaps, one a frame, to the intervals in which it is high.

    Frames at or above the threshold are joined to runs. Then gaps between runs are filled, if they
    are no longer than `max_gap`, and after that runs shorter than `min_length` are dropped: a
    flicker never splits a run, and one alone makes none.

    Args:
        overlap: Overlap of each frame, such as the IoU of the found box and the true one, or of
            player and ball, shape (T,).
        threshold: From which overlap on a frame counts. A pair (low, high) is hysteresis: a run
            of frames at or above `low` counts if one of them reaches `high`.
        min_length: Shortest run that is kept, in seconds, at least 0.
        max_gap: Longest gap that is filled, in seconds, at least 0.
        fps: Frames a second, above 0.

    Returns:
        Start and end in seconds, in order, apart from each other, float64, shape (N, 2).

    Raises:
        TypeError: If `overlap` is no tensor of numbers.
        ValueError: If `overlap` has another shape or holds NaN, a threshold is no number or the
            pair not in order, or a time is out of range.

    Examples:
        >>> import torch
        >>> overlap = torch.tensor([0.0, 0.7, 0.8, 0.1, 0.9, 0.0, 0.0, 0.6])
        >>> dwell_intervals(overlap, 0.5)
        tensor([[1., 3.],
                [4., 5.],
                [7., 8.]], dtype=torch.float64)
        >>> dwell_intervals(overlap, (0.5, 0.75), max_gap=0.1, fps=10)
        tensor([[0.1000, 0.5000]], dtype=torch.float64)
    """
    check_tensors(overlap=overlap)
    if overlap.ndim != 1:
        raise ValueError(f"overlap must have shape (frames,), got {tuple(overlap.shape)}")
    values = plain(overlap.detach())
    if values.isnan().any():
        frame = int(values.isnan().nonzero()[0, 0])
        raise ValueError(f"overlap must hold numbers, got NaN in frame {frame}")
    low, high = _levels(threshold)
    check_weight(min_length=min_length, max_gap=max_gap)
    check_positive(fps=fps)
    runs = _runs(values >= low)
    if high > low:
        reached = torch.cat([values.new_zeros(1).long(), (values >= high).long().cumsum(0)])
        runs = runs[reached[runs[:, 1]] > reached[runs[:, 0]]]
    if len(runs) > 1:
        apart = runs[1:, 0] - runs[:-1, 1] > max_gap * fps * _SLACK
        ends = torch.ones(1, dtype=torch.bool, device=apart.device)
        first, last = torch.cat([ends, apart]), torch.cat([apart, ends])
        runs = torch.stack([runs[first, 0], runs[last, 1]], dim=1)
    runs = runs[(runs[:, 1] - runs[:, 0]) * _SLACK >= min_length * fps]
    return runs.double() / fps


def dwell_time(intervals: Shaped[Tensor, "intervals 2"], *, validate: bool | None = None) -> float:
    """The time that intervals cover together; where they overlap it counts once.

    Args:
        intervals: Start and end, shape (N, 2).
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        The time in the unit of the intervals, at least 0.

    Raises:
        ValueError: If the shape is wrong, a value is not finite or an end lies before its start.

    Examples:
        >>> import torch
        >>> dwell_time(torch.tensor([[0.0, 2.0], [1.0, 3.0], [5.0, 6.0]]))
        4.0
    """
    check_boxes(intervals=intervals, ndim=1, validate=validate)
    return _covered(plain(intervals.detach()).double())


def expected_dwell_time(
    probabilities: Float[Tensor, "frames"],
    *,
    fps: float | int = 1.0,
    validate: bool | None = None,
) -> Float[Tensor, ""]:
    """The expected time in view, from the probability of each frame: Σ p / fps, with gradient.

    It holds whatever frames have to do with each other. It is the expectation of
    `dwell_time(dwell_intervals(...))` of the frames in view where neither gaps are filled nor short
    runs dropped. Both depend on several frames at once, so their expectation needs the joint
    probability of frames, and can lie on either side.

    Args:
        probabilities: Of the thing being in view in each frame, in [0, 1], shape (T,).
        fps: Frames a second, above 0.
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Seconds, in float32 or wider, shape ().

    Raises:
        TypeError: If `probabilities` is no tensor of numbers.
        ValueError: If it has another shape or a value outside [0, 1], or `fps` is not above 0.

    Examples:
        >>> import torch
        >>> expected_dwell_time(torch.tensor([0.5, 1.0, 0.25]), fps=10)
        tensor(0.1750)
    """
    check_probabilities(probabilities=probabilities, validate=validate)
    if probabilities.ndim != 1:
        raise ValueError(
            f"probabilities must have shape (frames,), got {tuple(probabilities.shape)}"
        )
    check_positive(fps=fps)
    total = plain(probabilities).double().sum() / fps
    return total.to(torch.promote_types(score_dtype(probabilities), torch.float32))


@dataclass(frozen=True)
class Dwell:
    """Found and true dwell time.

    Args:
        temporal_iou: Time that both cover over time that either covers, in [0, 1]; 1 where neither
            covers any.
        seconds_error: Found less true time, in the unit of the intervals.
        seconds: Found time.
        true_seconds: True time.

    Examples:
        >>> Dwell(temporal_iou=0.5, seconds_error=1.0, seconds=3.0, true_seconds=2.0).seconds_error
        1.0
    """

    temporal_iou: float
    seconds_error: float
    seconds: float
    true_seconds: float


def compute_dwell(
    pred: Shaped[Tensor, "found 2"],
    truth: Shaped[Tensor, "intervals 2"],
    *,
    validate: bool | None = None,
) -> Dwell:
    """Compare found intervals with true ones: the time that both cover, and the error of the total.

    Each side counts as the union of its intervals, so neither their order nor their number
    matters; detections of single intervals are judged by `compute_average_precision`.

    Args:
        pred: Start and end, shape (N, 2).
        truth: Start and end, shape (M, 2).
        validate: Look at the values too; by default on for CPU tensors.

    Returns:
        Temporal IoU, error, and both times.

    Raises:
        ValueError: As in `dwell_time`.

    Examples:
        >>> import torch
        >>> compute_dwell(torch.tensor([[0.0, 2.0], [4.0, 5.0]]), torch.tensor([[1.0, 5.0]]))
        Dwell(temporal_iou=0.4, seconds_error=-1.0, seconds=3.0, true_seconds=4.0)
    """
    check_boxes(pred=pred, ndim=1, validate=validate)
    check_boxes(truth=truth, ndim=1, validate=validate)
    sides = [plain(side.detach()).cpu().double() for side in (pred, truth)]
    found, true, either = _covered(sides[0]), _covered(sides[1]), _covered(torch.cat(sides))
    iou = min(1.0, max(0.0, (found + true - either) / either)) if either > 0 else 1.0
    return Dwell(iou, found - true, found, true)


def _levels(threshold: Any) -> tuple[float | int, float | int]:
    """The lower and the higher threshold."""
    pair = threshold if isinstance(threshold, tuple) else (threshold, threshold)
    numbers = [one for one in pair if isinstance(one, float | int) and not math.isnan(one)]
    if len(numbers) != 2 or len(pair) != 2 or numbers[0] > numbers[1]:
        raise refusal("threshold", f"must be a number, or a pair (low, high), got {threshold!r}")
    return numbers[0], numbers[1]


def _runs(inside: Bool[Tensor, "frames"]) -> Shaped[Tensor, "runs 2"]:
    """First frame of each run of True, and the one behind it."""
    edge = inside.new_zeros(1)
    steps = torch.cat([edge, inside, edge]).long().diff()
    return torch.stack([(steps == 1).nonzero()[:, 0], (steps == -1).nonzero()[:, 0]], dim=1)


def _covered(intervals: Float[Tensor, "intervals 2"]) -> float:
    """Length of the union."""
    start, end = intervals[intervals[:, 0].argsort()].unbind(1)
    if not len(start):
        return 0.0
    before = torch.cat([start[:1], end.cummax(dim=0).values[:-1]])
    return float((end - torch.maximum(start, before)).clamp(min=0).sum())
