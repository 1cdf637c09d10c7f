"""Fuse the masks of several raters: by mean, majority, weighted mean or STAPLE."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from softoverlap._checks import (
    check_choice,
    check_probabilities,
    check_rank,
    check_tensors,
    check_threshold,
)
from softoverlap._types import accumulation_dtype, plain

FUSION_METHODS = ("mean", "majority", "weighted", "staple")

Raters = Shaped[Tensor, "raters *spatial"]
"""One mask of each rater."""


@dataclass(frozen=True, eq=False)
class StapleResult:
    """The estimate of STAPLE from several raters.

    Args:
        probability: Probability that a voxel is foreground, in [0, 1], float64, shape (*spatial).
        sensitivity: Share of the estimated foreground that each rater marked, in [0, 1], float64,
            shape (R,); NaN where there is no foreground.
        specificity: Share of the estimated background that each rater left out, in [0, 1],
            float64, shape (R,); NaN where there is no background.
        iterations: Number of iterations: 0 if all raters are equal, `max_iterations` if the
        estimate
            had not converged.

    Examples:
        >>> import torch
        >>> fused = staple(torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]))
        >>> fused.sensitivity
        tensor([1., 1.], dtype=torch.float64)
    """

    probability: Float[Tensor, "*spatial"]
    sensitivity: Float[Tensor, "raters"]
    specificity: Float[Tensor, "raters"]
    iterations: int


def fuse_raters(
    raters: Raters,
    *,
    method: str = "mean",
    weights: Float[Tensor, "raters"] | Sequence[float] | None = None,
    threshold: float | None = None,
) -> Float[Tensor, "*spatial"]:
    """Fuse the masks of several raters into one.

    | method | voxel by voxel |
    | --- | --- |
    | `"mean"` | the share of raters that marked it; for soft masks the mean |
    | `"majority"` | 1 if more than half of the raters marked it; a tie gives 0 |
    | `"weighted"` | the mean weighted by `weights`, which need not add up to 1 |
    | `"staple"` | the probability that `staple` estimates |

    Args:
        raters: Masks, 0 and 1 or probabilities, shape (R, *spatial).
        method: How to fuse them.
        weights: One per rater, at least 0; only for `"weighted"`.
        threshold: A rater marked a voxel if its probability is at least this, in (0, 1]; without it
            masks are used as they are, and must be hard for `"majority"` and `"staple"`.

    Returns:
        Probabilities in [0, 1], shape (*spatial), a plain tensor on the raters' device; float32,
        or float64 if the raters are or the method is `"staple"`.

    Raises:
        TypeError: If raters is not a tensor of real numbers.
        ValueError: If there is no rater, a probability is outside [0, 1], the method is unknown or
            needs hard masks, or the weights or the threshold are wrong.

    References:
        Warfield et al., Simultaneous truth and performance level estimation (STAPLE),
        https://doi.org/10.1109/TMI.2004.828354

    Examples:
        >>> import torch
        >>> raters = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
        >>> fuse_raters(raters)
        tensor([1.0000, 0.5000, 0.0000])
        >>> fuse_raters(raters, method="majority")
        tensor([1., 0., 0.])
        >>> fuse_raters(raters, method="weighted", weights=[3.0, 1.0])
        tensor([1.0000, 0.7500, 0.0000])
    """
    check_choice("method", method, FUSION_METHODS)
    if (weights is None) == (method == "weighted"):
        raise ValueError(
            f"weights must be given for `method='weighted'` and no other, got {weights} "
            f"for {method!r}"
        )
    if method == "staple":
        return staple(raters, threshold=threshold).probability
    masks = _checked_raters(raters, threshold, hard=method == "majority")
    masks = masks.to(accumulation_dtype(raters)).clamp(0, 1)  # what the check's slack let pass
    if method == "majority":
        return (2 * masks.sum(dim=0) > len(masks)).to(masks.dtype)
    if weights is None:
        return masks.mean(dim=0)
    shares = _checked_shares(weights, len(masks)).to(masks)
    return torch.tensordot(shares, masks, dims=1).clamp(0, 1)


def staple(
    raters: Raters, *, threshold: float | None = None, max_iterations: int = 1000
) -> StapleResult:
    """Estimate the true mask and the quality of each rater with SimpleITK's STAPLE.

    The estimate depends on the whole image: the prior of a voxel is the share of all voxels that
    were marked, so a wide empty margin makes all raters look specific, and takes time (several
    seconds for 256³ voxels): crop it. If all raters are equal, or there is only one, the estimate
    is their mask (SimpleITK returns NaN if all of them are empty). If raters agree only by chance,
    the estimate is near the prior everywhere, and takes many iterations.

    Args:
        raters: Masks of 0 and 1, or probabilities with a threshold, shape (R, *spatial).
        threshold: A rater marked a voxel if its probability is at least this, in (0, 1]; without it
            masks must be hard.
        max_iterations: Largest number of iterations.

    Returns:
        The probability of each voxel, and the sensitivity and specificity of each rater, on the
        raters' device; they are computed on the CPU.

    Raises:
        TypeError: If raters is not a tensor of real numbers.
        ValueError: If there is no rater, the masks are neither hard nor cut by a threshold, or the
            threshold or the number of iterations is out of range.

    References:
        Warfield et al., Simultaneous truth and performance level estimation (STAPLE),
        https://doi.org/10.1109/TMI.2004.828354

    Examples:
        >>> import torch
        >>> raters = torch.zeros(3, 10)
        >>> raters[:, :4], raters[2, 3] = 1, 0
        >>> fused = staple(raters)
        >>> fused.probability.round(decimals=2)[:5]
        tensor([1., 1., 1., 1., 0.], dtype=torch.float64)
        >>> fused.sensitivity.round(decimals=2)
        tensor([1.0000, 1.0000, 0.7500], dtype=torch.float64)
    """
    import SimpleITK  # here, since the import takes 0.3 s

    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
    masks = _checked_raters(raters, threshold, hard=True).bool()
    if bool((masks == masks[0]).all()):
        return _agreed(masks)
    stages = SimpleITK.STAPLEImageFilter()
    stages.SetForegroundValue(1)
    stages.SetMaximumIterations(max_iterations)
    rows = masks.cpu().byte().reshape(len(masks), 1, -1).numpy()  # STAPLE does not use neighbours
    images = [SimpleITK.GetImageFromArray(row) for row in rows]
    probability = SimpleITK.GetArrayFromImage(stages.Execute(images))
    return StapleResult(
        probability=torch.from_numpy(probability).reshape(masks.shape[1:]).to(masks.device),
        sensitivity=torch.tensor(stages.GetSensitivity(), dtype=torch.float64, device=masks.device),
        specificity=torch.tensor(stages.GetSpecificity(), dtype=torch.float64, device=masks.device),
        iterations=stages.GetElapsedIterations(),
    )


def _agreed(masks: Tensor) -> StapleResult:
    """The result for equal raters; without background there is no specificity."""
    marked, left = bool(masks.any()), bool((~masks).any())
    ones = torch.ones(len(masks), dtype=torch.float64, device=masks.device)
    return StapleResult(
        probability=masks[0].double(),
        sensitivity=ones if marked else ones * math.nan,
        specificity=ones if left else ones * math.nan,
        iterations=0,
    )


def _checked_raters(raters: Tensor, threshold: float | None, *, hard: bool) -> Tensor:
    """The masks, thresholded if there is a threshold."""
    check_rank(1, "(R, *spatial)", raters=raters)
    if not len(raters):
        raise ValueError(f"raters must hold one mask or more, got shape {tuple(raters.shape)}")
    check_probabilities(raters=raters, validate=True)
    masks = plain(raters).detach()
    if threshold is not None:
        check_threshold(threshold=threshold)
        return masks >= threshold
    if hard and not bool(((masks == 0) | (masks == 1)).all()):
        soft = masks[(masks != 0) & (masks != 1)][0].item()
        raise ValueError(f"raters must hold 0 and 1, or be cut with `threshold=`, got {soft:g}")
    return masks


def _checked_shares(weights: Tensor | Sequence[float], count: int) -> Tensor:
    """The weights, as shares of their sum."""
    if isinstance(weights, Tensor):
        check_tensors(weights=weights)
    values = torch.as_tensor(weights, dtype=torch.float64)
    if values.shape != (count,):
        raise ValueError(f"weights must have shape ({count},), got {tuple(values.shape)}")
    if not bool((torch.isfinite(values) & (values >= 0)).all()) or not bool((values > 0).any()):
        raise ValueError(f"weights must be at least 0, and one above it, got {values.tolist()}")
    return values / values.sum()
