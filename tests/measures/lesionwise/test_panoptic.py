"""Panoptic quality, against loops, MONAI and torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from monai.metrics.panoptic_quality import compute_panoptic_quality as monai_panoptic_quality

from tests.support.lesion_maps import batch, hard_pair, panoptic_quality_metric, panoptic_quality_of
from tests.support.reference_lesions import reference_components, reference_panoptic
from tests.support.strategies import masks


@pytest.mark.parametrize("shape", [(18, 17), (9, 10, 11)])
def test_hard_masks_have_monais_panoptic_quality(shape):
    everything = torch.zeros(4, dtype=torch.float64)
    for seed in range(5):
        pred, truth = hard_pair(shape, seed=seed)
        labels = (torch.from_numpy(reference_components(side, side.ndim)) for side in (pred, truth))
        tp, fp, fn, total = monai_panoptic_quality(*labels, output_confusion_matrix=True).tolist()
        metric = panoptic_quality_metric()
        score = metric(batch(pred), batch(truth)).item()
        quality = metric.details()["label_0"]
        assert (quality.tp, quality.fp, quality.fn) == (tp, fp, fn)
        assert score == pytest.approx(total / (tp + fp / 2 + fn / 2), rel=1e-6)
        everything += torch.tensor([total, tp, fp, fn])
    assert (everything > 0).all()


def test_hard_masks_have_torchmetrics_panoptic_quality():
    functional = pytest.importorskip("torchmetrics.functional.detection")
    for seed in range(3):
        sides = hard_pair((18, 17), seed=seed)
        pairs = [
            torch.from_numpy(np.stack([side, reference_components(side, 2)], axis=-1).astype(int))
            for side in sides
        ]
        theirs = functional.panoptic_quality(
            *(pair[None] for pair in pairs),
            things={1},
            stuffs={0},
            return_per_class=True,
            return_sq_and_rq=True,
        )
        thing = theirs[0, 0].tolist() if theirs.ndim == 3 else theirs[0].tolist()
        for name, expected in zip(("pq", "sq", "rq"), thing, strict=True):
            ours = panoptic_quality_of(*map(batch, sides), metric_name=name)
            assert ours.item() == pytest.approx(expected, rel=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_panoptic_quality_equals_the_reference_and_a_match_is_unique(data):
    shape = data.draw(st.sampled_from([(9,), (4, 4), (3, 3, 3)]))
    pred, truth = data.draw(masks(shape)), data.draw(masks(shape))
    total, tp, fp, fn = reference_panoptic(pred.numpy(), truth.numpy())
    metric = panoptic_quality_metric()
    score = metric(pred[None, None], truth[None, None]).item()
    quality = metric.details()["label_0"]
    assert (quality.tp, quality.fp, quality.fn) == (tp, fp, fn)
    assert min(fp, fn) >= 0  # a lesion with two matches would make one negative
    weight = tp + fp / 2 + fn / 2
    assert score == pytest.approx(total / weight if weight else np.nan, abs=1e-9, nan_ok=True)
    if tp:
        assert score == pytest.approx(quality.sq * quality.rq, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_no_soft_mask_matches_two_disjoint_ones(data):
    mask, other = data.draw(masks((6,))).numpy(), data.draw(masks((6,))).numpy()
    owner = np.array(data.draw(st.lists(st.booleans(), min_size=6, max_size=6)))
    parts = np.where(owner, other, 0), np.where(owner, 0, other)
    matches = 0
    for part in parts:
        larger = np.maximum(mask, part).sum()
        matches += bool(larger) and np.minimum(mask, part).sum() / larger > 0.5 + 1e-9
    assert matches <= 1


def test_an_iou_of_one_half_is_no_match():
    truth, pred = torch.zeros(1, 1, 8), torch.zeros(1, 1, 8)
    truth[..., 1:3], pred[..., 1:5] = 1, 1
    assert panoptic_quality_of(pred, truth).item() == 0
    assert panoptic_quality_of(pred, truth, metric_name="sq").isnan().all()
    pred[..., 4] = 0
    assert panoptic_quality_of(pred, truth).item() == pytest.approx(2 / 3)
