"""Soft and hard maps of several lesions, and the measures of them by name."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from softoverlap.for_monai import LesionwiseDiceMetric
from softoverlap.measures import (
    FalsePositives,
    LesionRecall,
    PanopticQuality,
    compute_lesionwise_dice,
)
from tests.support.measure_forms import as_function, as_metric

false_positives_of, lesion_recall_of = as_function(FalsePositives), as_function(LesionRecall)
panoptic_quality_of = as_function(PanopticQuality)
false_positive_metric, lesion_recall_metric = as_metric(FalsePositives), as_metric(LesionRecall)
panoptic_quality_metric = as_metric(PanopticQuality)
METRICS = {
    LesionwiseDiceMetric: (compute_lesionwise_dice, {"dilation": 1, "min_mm3": 2.0}),
    lesion_recall_metric: (lesion_recall_of, {}),
    false_positive_metric: (false_positives_of, {"measured_in": "ml"}),
    panoptic_quality_metric: (panoptic_quality_of, {}),
}


def blobs(shape, *, seed, share=0.12, wide=0.8):
    """A soft map of several lesions: smoothed noise, cut so that this share is 0.5 or more."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), wide)
    level, spread = np.quantile(noise, 1 - share), noise.std()
    soft = 1 / (1 + np.exp(-(noise - level) / (spread / 4)))
    return np.where(soft < 0.05, 0, soft)


def hard_pair(shape, *, seed, share=0.12):
    """Two hard maps that agree in part, and not at all at one end."""
    first, other = (blobs(shape, seed=s, share=share, wide=0.6) for s in (seed, seed + 1000))
    second = 0.6 * first + 0.4 * other
    second[: shape[0] // 2] = other[: shape[0] // 2]
    return first >= 0.5, second >= 0.45


def batch(*maps):
    return torch.from_numpy(np.stack(maps).astype(np.float64))[:, None]


SHAPES = [(60,), (20, 18), (12, 10, 11)]
