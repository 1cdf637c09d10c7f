"""Scans with lesions and found boxes for tests of detection metrics."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st

RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)


_COLUMNS = (
    "boxes", "labels", "scores", "outcome", "lesion",
    "lesion_boxes", "lesion_labels", "existence", "sizes", "scans", "ignored", "found_by",
)  # fmt: skip


def found(boxes, scores, labels=None):
    """A prediction of boxes (6 numbers each)."""
    labels = torch.zeros(len(boxes)) if labels is None else labels
    return {
        "box": torch.as_tensor(np.asarray(boxes), dtype=torch.float32).reshape(-1, 6),
        "label": torch.as_tensor(labels).long(),
        "label_scores": torch.as_tensor(np.asarray(scores), dtype=torch.float32),
    }


def lesions(boxes, labels=None, existence=None):
    labels = torch.zeros(len(boxes)) if labels is None else labels
    target = {
        "box": torch.as_tensor(np.asarray(boxes), dtype=torch.float32).reshape(-1, 6),
        "label": torch.as_tensor(labels).long(),
    }
    if existence is not None:
        target["existence"] = torch.as_tensor(np.asarray(existence), dtype=torch.float64)
    return target


def cube(start, side=4):
    """A cube that starts at (start, 0, 0)."""
    return [start, 0, 0, start + side, side, side]


@st.composite
def cohorts(draw, distinct_scores=False):
    """A few scans with 0-4 lesions and 0-8 boxes near them, of two classes."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = [
        (draw(st.integers(0, 4)), draw(st.integers(0, 8))) for _ in range(draw(st.integers(1, 5)))
    ]
    return cohort_of(generator, counts, decimals=None if distinct_scores else 1)


def cohort_of(generator, counts, *, decimals=None, whole=True):
    """Scans with so many lesions and boxes; existence in fifths, 0 among them."""
    predictions, targets = [], []
    for lesion_count, box_count in counts:
        truth = _random_boxes(generator, lesion_count, whole)
        existence = generator.integers(0, 6, lesion_count) / 5
        targets.append(lesions(truth, generator.integers(0, 2, lesion_count), existence))
        boxes = _random_boxes(generator, box_count, whole)
        if lesion_count:
            near = truth[generator.integers(0, lesion_count, len(boxes[::2]))]
            boxes[::2] = near + np.array([0, 0, 0, 0, 0, 1])
        scores = generator.random(box_count)
        scores = scores if decimals is None else scores.round(decimals)
        predictions.append(found(boxes, scores, generator.integers(0, 2, box_count)))
    return predictions, targets


def _random_boxes(generator, count, whole):
    if whole:
        starts = generator.integers(0, 12, (count, 3))
        return np.concatenate([starts, starts + generator.integers(2, 6, (count, 3))], axis=1)
    starts = generator.uniform(0, 12, (count, 3))
    return np.concatenate([starts, starts + generator.uniform(2, 6, (count, 3))], axis=1)


def assert_equal(ours, theirs):
    """Every column of two records of outcomes is the same, to its type."""
    for name in _COLUMNS:
        column, other = getattr(ours, name), getattr(theirs, name)
        assert column.dtype == other.dtype
        torch.testing.assert_close(column, other, rtol=0, atol=0, equal_nan=True, msg=name)
    assert repr(ours.thresholds) == repr(theirs.thresholds)  # NaN is not equal to itself
    assert ours.size_classes == theirs.size_classes
