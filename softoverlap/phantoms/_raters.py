"""Simulated raters: each outlines lesions slightly too large or small, and misses some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from softoverlap.phantoms._anatomy import Body, Grid, smooth_noise


@dataclass(frozen=True)
class Rater:
    """The habits of a rater.

    Args:
        bias: Distance of the outline outside the edge, in mm; negative inside.
        jitter: Random deviation of the outline, in mm.
        haste: Share of the least visible lesions that the rater overlooks, in [0, 1].
    """

    bias: float
    jitter: float
    haste: float


def rater_panel(rng: np.random.Generator, count: int) -> list[Rater]:
    """Raters with biases spread evenly around zero and other habits drawn at random."""
    biases = rng.permutation(np.linspace(-0.4, 0.4, count)) if count > 1 else np.zeros(1)
    return [Rater(float(bias), rng.uniform(0.1, 0.4), rng.uniform(0.6, 1.0)) for bias in biases]


def who_marks(rng: np.random.Generator, panel: Sequence[Rater], visibility: float) -> list[bool]:
    """Which raters see a lesion; the least hasty one always does, so every lesion is marked."""
    marks = [rng.random() >= rater.haste * (1 - visibility) for rater in panel]
    careful = min(range(len(panel)), key=lambda index: panel[index].haste)
    return [mark or index == careful for index, mark in enumerate(marks)]


def outline(rng: np.random.Generator, grid: Grid, body: Body, rater: Rater) -> np.ndarray:
    """The voxels of the body's window that the rater marks: one component, never empty."""
    waver = smooth_noise(rng, body.field.shape, [1.5 / edge for edge in grid.spacing])
    care = min(1.0, body.radius / 3)  # outlines of small lesions are off by less
    inside = body.field + care * rater.jitter * waver <= care * rater.bias
    heart = np.unravel_index(int(body.field.argmin()), body.field.shape)
    inside[heart] = True
    labels = np.zeros(inside.shape, dtype=np.int32)
    ndimage.label(inside, output=labels)
    return labels == labels[heart]
