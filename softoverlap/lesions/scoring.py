"""From a probability map to a detector's output: boxes of its lesions, each with a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor

from softoverlap._checks import refusal
from softoverlap.lesion import Lesion
from softoverlap.lesions.calibration import LesionCalibration
from softoverlap.lesions.candidates import LesionScore, MaxProbability, lesion_candidates


@dataclass(frozen=True, eq=False)
class LesionScores:
    """The lesions of a probability map, each with its box, its volume and its score.

    Args:
        box: Tight boxes in voxels, float32, shape (N, 2 * ndim).
        scores: Their scores, float64, shape (N,).
        volume_mm3: Volumes of the lesions in mm³: Σ probability of each times the voxel's volume,
            float64, shape (N,).
        lesions: The lesions themselves, N of them.

    Examples:
        >>> found = lesion_scores(torch.tensor([0.0, 0.9, 0.6]), spacing=[2.0], threshold=0.5)
        >>> sorted(found.prediction)
        ['box', 'label', 'label_scores']
    """

    box: Float[Tensor, "lesions coords"]
    scores: Float64[Tensor, "lesions"]
    volume_mm3: Float64[Tensor, "lesions"]
    lesions: tuple[Lesion, ...]

    @property
    def prediction(self) -> dict[str, Tensor]:
        """Boxes, labels (all 0) and scores under MONAI's keys, as `compute_froc` takes them."""
        label = torch.zeros(len(self.box), dtype=torch.int64, device=self.box.device)
        return {"box": self.box, "label": label, "label_scores": self.scores}


def lesion_scores(
    probabilities: Shaped[Tensor, "*spatial"],
    *,
    spacing: Sequence[float | int],
    threshold: float | int,
    low: float | int | None = None,
    score: LesionScore | None = None,
    calibration: LesionCalibration | None = None,
) -> LesionScores:
    """Lesions of a segmentation network's probability map as a detector gives them.

    Components of the map are cut out, boxed and scored, so that FROC, average precision and an
    operating point can be computed of any segmentation.

    Args:
        probabilities: The map of one class, in [0, 1], shape (*spatial) of one, two or three axes.
        spacing: Edges of a voxel in mm, one for each axis.
        threshold: Lowest probability inside a component, in (0, 1].
        low: With hysteresis, the lowest probability of a component that holds a voxel at or above
            the threshold, in (0, threshold]; None for none.
        score: What scores a component: `MaxProbability()` (the default), `MeanProbability()`,
            `MassAboveBackground()`, `HaloDice()`, or any callable that takes a `LesionCandidate`
            and returns a finite number, the higher the surer.
        calibration: In its place, the probability that the lesion is a hit, as fitted to lesions of
            validation scans at this threshold, of any size and with all neighbours.

    Returns:
        The lesions in the order of their first voxel, on the map's device.

    Raises:
        TypeError: If the map is not a tensor of real numbers, spacing one number, or `score` none.
        ValueError: If a shape, the spacing or a threshold is wrong, a probability is NaN or lies
            outside [0, 1], both score and calibration are given, the calibration is of lesions
            cut otherwise, or a score is not finite.

    Examples:
        >>> from softoverlap import HaloDice
        >>> image = torch.tensor([0.0, 0.9, 0.6, 0.0, 0.8])
        >>> found = lesion_scores(image, spacing=[2.0], threshold=0.5, score=HaloDice(2.0))
        >>> found.box, found.volume_mm3
        (tensor([[1., 3.],
                [4., 5.]]), tensor([3.0000, 1.6000], dtype=torch.float64))
    """
    chosen = _chosen(score, calibration, threshold, low)
    candidates = lesion_candidates(probabilities, spacing=spacing, threshold=threshold, low=low)
    lesions = tuple(one.lesion for one in candidates)
    scores = torch.tensor([float(chosen(one)) for one in candidates], dtype=torch.float64)
    if not bool(scores.isfinite().all()):
        raise refusal("score", f"must return finite numbers, got {scores.tolist()}")
    boxes = [one.box for one in lesions]
    device = probabilities.device
    volumes = torch.tensor([one.volume_mm3 for one in lesions], dtype=torch.float64)
    return LesionScores(
        box=torch.stack(boxes) if boxes else torch.zeros(0, 2 * probabilities.ndim, device=device),
        scores=scores.to(device),
        volume_mm3=volumes.to(device),
        lesions=lesions,
    )


def _chosen(
    score: LesionScore | None,
    calibration: LesionCalibration | None,
    threshold: float | int,
    low: float | int | None,
) -> LesionScore:
    """What scores a candidate."""
    if score is not None and (isinstance(score, type) or not callable(score)):
        words = f"must be a score such as MaxProbability() or HaloDice(), got {score!r}"
        raise refusal("score", words, TypeError)
    if calibration is None and isinstance(score, LesionCalibration):
        score, calibration = None, score
    if calibration is None:
        return MaxProbability() if score is None else score
    if score is not None:
        raise refusal("score", f"must be None where a calibration is given, got {score!r}")
    asked = (threshold, low, 26, 0.0)  # the last two as `lesion_candidates` has them by default
    names = ("threshold", "low", "connectivity", "min_mm3")
    known = tuple(getattr(calibration, name) for name in names)
    if asked != known:
        raise refusal(
            "calibration",
            f"must be of lesions cut at {asked}, got one of those cut at {known} "
            f"({', '.join(names)})",
        )
    return calibration
