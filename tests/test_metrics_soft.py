"""Soft Dice and IoU as MONAI metrics, with MONAI's own as the oracle on hard masks."""

from __future__ import annotations

import inspect
import os
import socket

import pytest
import torch
from hypothesis import given
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import DiceMetric, MeanIoU, compute_dice
from reference import reference_dice, reference_iou
from strategies import mask_pairs

from softoverlap.metrics import (
    SoftDiceMetric,
    SoftIoUMetric,
    compute_soft_dice,
    compute_soft_iou,
)

METRICS = [SoftDiceMetric, SoftIoUMetric]
THEIRS = {SoftDiceMetric: DiceMetric, SoftIoUMetric: MeanIoU}


def _hard(channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    maps = (torch.rand(2, 4, channels, 6, 5, 4, generator=generator) > 0.6).float()
    maps[1, 0, 1 % channels] = 0  # an empty target
    return maps[0], maps[1]


@given(mask_pairs())
def test_scores_equal_the_reference(pair):
    pred, target = pair
    for compute, reference in (
        (compute_soft_dice, reference_dice),
        (compute_soft_iou, reference_iou),
    ):
        score = compute(pred, target, ignore_empty=False)
        for item in range(2):
            expected = reference(pred[item, 0].numpy(), target[item, 0].numpy())
            assert score[item, 0].item() == pytest.approx(expected, abs=1e-12)


def test_arguments_are_those_of_monais_dice_metric_in_their_order():
    theirs = list(inspect.signature(DiceMetric).parameters)
    for metric in METRICS:
        assert list(inspect.signature(metric).parameters)[: len(theirs)] == theirs


def test_arguments_of_the_functions_are_those_of_monais_compute_dice_in_their_order():
    theirs = list(inspect.signature(compute_dice).parameters)
    for compute in (compute_soft_dice, compute_soft_iou):
        assert list(inspect.signature(compute).parameters)[: len(theirs)] == theirs


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "mean_batch", "mean_channel", "none"])
@pytest.mark.parametrize("options", [{}, {"include_background": False}, {"ignore_empty": False}])
def test_hard_masks_score_as_monai_scores_them(metric, reduction, options):
    ours = metric(reduction=reduction, get_not_nans=True, **options)
    theirs = THEIRS[metric](reduction=reduction, get_not_nans=True, **options)
    for seed in range(2):
        ours(*_hard(seed=seed))
        theirs(*_hard(seed=seed))
    for a, b in zip(ours.aggregate(), theirs.aggregate(), strict=True):
        torch.testing.assert_close(a.double(), b.double(), equal_nan=True, rtol=1e-6, atol=1e-6)


def test_labels_score_as_monai_scores_them():
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.randint(0, 3, (2, 2, 1, 6, 6), generator=generator)
    ours, theirs = SoftDiceMetric(num_classes=3), DiceMetric(num_classes=3)
    ours(pred, target)
    theirs(pred, target)
    torch.testing.assert_close(ours.aggregate().float(), theirs.aggregate())
    one_hot = torch.nn.functional.one_hot(target[:, 0], 3).movedim(-1, 1)
    assert compute_soft_dice(one_hot, target).eq(1).all()


@pytest.mark.parametrize("metric", METRICS)
def test_a_probability_is_not_rounded(metric):
    scores = metric()
    scores(torch.full((1, 1, 8), 0.6), torch.full((1, 1, 8), 0.6))
    assert scores.aggregate().item() == 1
    scores.reset()
    scores(torch.full((1, 2, 8), 0.01), torch.ones(1, 2, 8))
    assert scores.aggregate().item() < 0.02


def test_lists_of_channel_first_items_and_meta_tensors_are_taken():
    pred, target = _hard()
    metric, listed = SoftDiceMetric(), SoftDiceMetric()
    metric(pred, target)
    listed([MetaTensor(item) for item in pred], [MetaTensor(item) for item in target])
    assert torch.equal(metric.aggregate(), listed.aggregate())
    assert type(listed.aggregate()) is torch.Tensor


def test_results_keep_full_precision_with_labels_for_any_reduction():
    pred = torch.full((1, 2, 3), 1 / 3, dtype=torch.float64)
    target = torch.full((1, 2, 3), 0.7, dtype=torch.float64)
    expected = 2 * (1 / 3) / (1 / 3 + 0.7)
    metric = SoftDiceMetric(reduction="mean_batch", return_with_label=["core", "edge"])
    metric(pred, target)
    assert metric.aggregate()["edge"] == pytest.approx(expected, abs=1e-12)
    metric = SoftDiceMetric(include_background=False, return_with_label=True)
    metric(pred, target)
    assert list(metric.aggregate("mean_batch")) == ["label_1"]
    assert metric.aggregate("mean").item() == pytest.approx(expected, abs=1e-12)


def test_empty_targets_are_nan_or_score_as_told():
    empty, one = torch.zeros(1, 1, 4), torch.ones(1, 1, 4)
    assert compute_soft_dice(empty, empty).isnan().all()
    assert compute_soft_dice(empty, empty, ignore_empty=False).item() == 1
    assert compute_soft_dice(empty, empty, ignore_empty=False, empty=0.25).item() == 0.25
    assert compute_soft_iou(one, empty, ignore_empty=False).item() == 0


def test_a_mean_over_nothing_is_nan_and_says_that_nothing_counted():
    metric = SoftDiceMetric(get_not_nans=True)
    metric(torch.zeros(2, 1, 4), torch.zeros(2, 1, 4))
    score, counted = metric.aggregate()
    assert score.isnan().all()
    assert counted.item() == 0


def test_ignored_voxels_do_not_count():
    pred, labels = torch.tensor([[[0.5, 0.5, 0.9]]]), torch.tensor([[[1.0, 0.0, 255.0]]])
    assert compute_soft_iou(pred, labels, ignore_index=255).item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_run_in_monais_ignite_handler(metric):
    pred, target = _hard()
    engine = Engine(lambda engine, batch: {"pred": pred, "label": target})
    handler = IgniteMetricHandler(
        metric_fn=metric(), output_transform=from_engine(["pred", "label"])
    )
    handler.attach(engine, name="soft")
    engine.run([0, 1], max_epochs=1)
    alone = metric()
    alone(pred, target)
    assert engine.state.metrics["soft"] == pytest.approx(alone.aggregate().item(), abs=1e-12)


def _rank(rank, port, counts, folder):
    """One process: its own share of the items, possibly none."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.distributed.init_process_group("gloo", rank=rank, world_size=len(counts))
    metric, start = SoftDiceMetric(), sum(counts[:rank])
    pred, target = _hard()
    for item in range(start, start + counts[rank]):
        metric(pred[item : item + 1], target[item : item + 1])
    torch.save(metric.aggregate(), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(3, 1), (4, 0)])
def test_two_ranks_equal_one_process_even_if_one_saw_nothing(counts, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_rank, (port, counts, tmp_path), nprocs=2)
    alone = SoftDiceMetric()
    alone(*_hard())
    for rank in range(2):
        score = torch.load(tmp_path / f"{rank}.pt")
        assert score.item() == pytest.approx(alone.aggregate().item(), abs=1e-12)


@pytest.mark.bad_input
@pytest.mark.parametrize("metric", METRICS)
def test_items_that_do_not_pair_are_refused(metric):
    item = torch.full((1, 4), 0.5)
    for y_pred, y, counts in (([item, item], [item], "2 and 1"), ([], [], "0 and 0")):
        with pytest.raises(ValueError, match=f"must hold as many items, one or more, got {counts}"):
            metric()(y_pred, y)
    with pytest.raises(ValueError, match="must hold as many items, one or more, got 1 and 0"):
        metric()([item])
    with pytest.raises(TypeError, match=r"y must be a torch\.Tensor, got NoneType"):
        metric()(item[None])


@pytest.mark.bad_input
@pytest.mark.parametrize("compute", [compute_soft_dice, compute_soft_iou])
def test_bad_arguments_of_the_functions_are_named(compute):
    maps = torch.full((1, 3, 4), 0.5)
    with pytest.raises(ValueError, match="y_pred must have 1 or num_classes=5 channels, got 3"):
        compute(maps, maps, num_classes=5)
    with pytest.raises(ValueError, match="y_pred must hold labels from 0 to 2, got 0.5"):
        compute(maps[:, :1], maps, num_classes=3)
    with pytest.raises(ValueError, match="per_component must be False"):
        compute(maps, maps, per_component=True)


@pytest.mark.bad_input
@pytest.mark.parametrize("metric", METRICS)
def test_bad_input_is_named(metric):
    mask = torch.full((1, 1, 4), 0.5)
    with pytest.raises(ValueError, match="y_pred must hold probabilities .* got values in"):
        metric()(mask * 4, mask)
    with pytest.raises(ValueError, match=r"y must have the shape of y_pred, \(1, 1, 4\)"):
        metric()(mask, mask[..., :2])
    with pytest.raises(ValueError, match="per_component must be False"):
        metric(per_component=True)
    with pytest.raises(ValueError, match="call the metric before aggregate"):
        metric().aggregate()
    named = metric(reduction="mean_batch", return_with_label=["a", "b"])
    named(mask, mask)
    with pytest.raises(ValueError, match="return_with_label must name 1 channels"):
        named.aggregate()
