"""Perfect is perfect: boxes of the truth against the truth score 1, in any order of scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap import lesion_target, lesions_from_mask
from softoverlap.measures import (
    HIT_CRITERIA,
    compute_average_precision,
    compute_froc,
    match_scan,
)

BOX_CRITERIA = [name for name in HIT_CRITERIA if name.startswith(("box_", "ball_"))]
BOX_CRITERIA = [name for name in BOX_CRITERIA if "box_ball" not in name]  # of sets of one kind
ORDERS = ("random", "equal", "few values")


def truth_boxes(generator, ndim, count):
    """Tight boxes: some of one voxel, some nested, touching or overlapping, none twice."""
    boxes = []
    while len(boxes) < count:
        start = generator.integers(0, 8 if ndim > 1 else 40, ndim)
        edges = np.where(generator.random(ndim) < 0.3, 1, generator.integers(1, 9, ndim))
        box = [*start, *(start + edges)]
        if boxes and generator.random() < 0.3:  # the last one, without its border or beside it
            last = np.array(boxes[-1])
            inner = last + np.repeat([1, -1], ndim)
            beside = last + np.tile(last[ndim:] - last[:ndim], 2)
            box = [*(inner if (inner[:ndim] < inner[ndim:]).all() else beside)]
        if box not in boxes:
            boxes.append(box)
    return torch.tensor(np.array(boxes).reshape(count, 2 * ndim), dtype=torch.float64)


def scores_of(generator, order, count):
    values = {
        "random": generator.random(count),
        "equal": np.full(count, 0.5),
        "few values": generator.integers(1, 4, count) / 4,
    }
    return torch.from_numpy(values[order])


def oracle(generator, target, order):
    """The boxes of a target as what was found, in another order."""
    boxes = target["box"][torch.from_numpy(generator.permutation(len(target["box"])))]
    return {
        "box": boxes,
        "label": torch.zeros(len(boxes)),
        "label_scores": scores_of(generator, order, len(boxes)),
    }


def assert_perfect(predictions, targets, **options):
    """Recall, precision, AP and CPM are 1, and nothing is false."""
    for prediction, target in zip(predictions, targets, strict=True):
        outcomes = match_scan(prediction, target, **options)
        assert (outcomes.outcome == 1).all()
        assert outcomes.recall_by_scan.nan_to_num(nan=1).tolist() == [1.0]
    froc = compute_froc(predictions, targets, **options)
    assert froc.fps_per_scan.max() == 0
    assert froc.sensitivity == pytest.approx([1.0] * 7, abs=1e-12)
    assert froc.cpm == pytest.approx(1.0, abs=1e-12)
    precision = compute_average_precision(predictions, targets, **options)
    assert precision.mean == pytest.approx(1.0, abs=1e-12)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 3),
    st.sampled_from([*BOX_CRITERIA, "centre_within_radius"]),
    st.sampled_from(ORDERS),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_boxes_of_the_truth_are_perfect_under_every_criterion_of_boxes(
    seed, ndim, hit, order, raters
):
    generator = np.random.default_rng(seed)
    targets = []
    for count in (int(generator.integers(1, 8)), 0, int(generator.integers(1, 4))):
        target = {"box": truth_boxes(generator, ndim, count), "label": torch.zeros(count)}
        target["spacing"] = generator.uniform(0.5, 4, ndim)
        if raters:
            target["existence"] = torch.from_numpy(generator.integers(1, 5, count) / 4)
        targets.append(target)
    predictions = [oracle(generator, target, order) for target in targets]
    assert_perfect(predictions, targets, hit=hit)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([*BOX_CRITERIA, "centre_within_radius"]),
    st.sampled_from(ORDERS),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_boxes_of_lesions_of_masks_are_perfect(seed, hit, order, raters):
    generator = np.random.default_rng(seed)
    mask = torch.from_numpy((generator.random((9, 9, 7)) < 0.08) * 1.0)
    mask[0, 0, 0] = 1
    marks = torch.stack([mask, mask * torch.from_numpy(generator.random(mask.shape) < 0.7)])
    lesions = lesions_from_mask(mask, spacing=(1.0, 1.0, 2.0), raters=marks if raters else None)
    target = {**lesion_target(lesions), "spacing": (1.0, 1.0, 2.0)}
    found = oracle(generator, {"box": target["boxes"]}, order)
    assert_perfect([found], [target], hit=hit)
