"""Soft Dice and IoU as MONAI metrics, with MONAI's own as the oracle on hard masks."""

from __future__ import annotations

import inspect
from functools import partial

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import DiceMetric, MeanIoU, compute_dice
from sklearn.metrics import f1_score, jaccard_score
from torchmetrics.classification import BinaryJaccardIndex

from softoverlap.for_monai import SoftDiceMetric, SoftIoUMetric, SoftTverskyMetric
from softoverlap.measures import SoftTversky, compute_soft_dice, compute_soft_iou
from tests.support.reference import reference_dice, reference_iou, reference_tversky
from tests.support.strategies import mask_pairs

METRICS = [SoftDiceMetric, SoftIoUMetric, SoftTverskyMetric]
THEIRS = {SoftDiceMetric: DiceMetric, SoftIoUMetric: MeanIoU, SoftTverskyMetric: DiceMetric}


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
        (
            lambda *pair, ignore_empty: SoftTversky(
                alpha=0.25, beta=0.75, ignore_empty=ignore_empty
            )(*pair),
            partial(reference_tversky, alpha=0.25, beta=0.75),
        ),
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


@given(mask_pairs())
def test_tversky_of_halves_is_dice_and_of_ones_is_iou(pair):
    for weight, other in ((0.5, compute_soft_dice), (1.0, compute_soft_iou)):
        score = SoftTversky(alpha=weight, beta=weight)(*pair)
        torch.testing.assert_close(score, other(*pair), equal_nan=True, rtol=0, atol=1e-12)


def _naive_miou(pred, target):
    """The three mIoU of https://arxiv.org/abs/2310.19252, by loops; classes without target skip."""
    pred, target = pred.double().numpy(), target.double().numpy()
    items, classes = pred.shape[:2]
    table = np.full((items, classes), np.nan)
    for i in range(items):
        for c in range(classes):
            if target[i, c].sum() > 0:
                table[i, c] = reference_iou(pred[i, c], target[i, c])
    pooled = [reference_iou(pred[:, c], target[:, c]) for c in range(classes)]
    image = [np.nanmean(row) for row in table if not np.isnan(row).all()]
    of_class = [np.nanmean(column) for column in table.T if not np.isnan(column).all()]
    return {"dataset": np.mean(pooled), "image": np.mean(image), "class": np.mean(of_class)}


def test_the_three_miou_of_the_papers_equal_naive_loops():
    pred, target = _hard()
    pred = pred * 0.7
    metric = SoftIoUMetric()
    for item in range(4):
        metric(pred[item : item + 1], target[item : item + 1])
    expected = _naive_miou(pred, target)
    assert len({round(value, 6) for value in expected.values()}) == 3
    for name, value in expected.items():
        assert metric.aggregate(name).item() == pytest.approx(value, abs=1e-12), name
    per_class = metric.aggregate("dataset_batch")
    assert per_class.mean().item() == pytest.approx(expected["dataset"], abs=1e-12)


def test_dataset_reduction_equals_torchmetrics_on_hard_masks():
    pred, target = _hard(channels=1)
    metric, theirs = SoftIoUMetric(reduction="dataset"), BinaryJaccardIndex()
    metric(pred, target)
    theirs(pred.long(), target.long())
    assert metric.aggregate().item() == pytest.approx(theirs.compute().item(), abs=1e-7)


def test_hard_masks_score_as_simpleitk_scores_them():
    pred, target = _hard(channels=1)
    for item in (1, 2, 3):
        overlap = sitk.LabelOverlapMeasuresImageFilter()
        overlap.Execute(
            *(sitk.GetImageFromArray(m[item, 0].numpy().astype("uint8")) for m in (target, pred))
        )
        pair = pred[item : item + 1], target[item : item + 1]
        dice, iou = overlap.GetDiceCoefficient(1), overlap.GetJaccardCoefficient(1)
        assert compute_soft_dice(*pair).item() == pytest.approx(dice, abs=1e-12)
        assert compute_soft_iou(*pair).item() == pytest.approx(iou, abs=1e-12)


def test_hard_masks_score_as_scikit_learn_scores_them():
    pred, target = _hard(channels=1)
    flat = target[1].flatten().numpy(), pred[1].flatten().numpy()
    pair = pred[1:2], target[1:2]
    assert compute_soft_dice(*pair).item() == pytest.approx(f1_score(*flat), abs=1e-12)
    assert compute_soft_iou(*pair).item() == pytest.approx(jaccard_score(*flat), abs=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_voxels_that_a_mask_leaves_out_do_not_count(metric):
    pred, target = _hard()
    kept = (torch.rand(4, 1, 6, 5, 4, generator=torch.Generator().manual_seed(3)) > 0.4).float()
    masked, cut, listed = metric(), metric(), metric()
    score = masked(pred * 0.6, target, mask=kept)
    torch.testing.assert_close(score, cut(pred * 0.6 * kept, target * kept), equal_nan=True)
    assert score.ne(metric()(pred * 0.6, target)).any()
    listed(list(pred * 0.6), list(target), mask=list(kept))
    assert torch.equal(masked.aggregate(), listed.aggregate())


def test_a_summary_gives_numbers_by_class_and_says_how_many_counted():
    pred, target = _hard()
    metric = SoftDiceMetric(return_with_label=["core", "edge", "oedema"])
    metric(pred, target)
    summary = metric.summary()
    assert summary.value == metric.aggregate("mean").item()
    assert summary.per_class == metric.aggregate("mean_batch")
    assert summary.counted_per_class == {"core": 4, "edge": 3, "oedema": 4}
    assert (summary.counted, summary.items) == (4, 4)


@pytest.mark.parametrize("metric", METRICS)
def test_a_bundle_names_a_metric_by_its_target(metric):
    parser = ConfigParser(
        {"metric": {"_target_": f"softoverlap.{metric.__name__}", "reduction": "dataset"}}
    )
    built = parser.get_parsed_content("metric")
    assert type(built) is metric
    assert built.reduction == "dataset"


def test_what_is_kept_is_float64_whatever_comes_in():
    metric = SoftDiceMetric()
    metric(torch.full((1, 1, 3), 0.1, dtype=torch.float16), torch.full((1, 1, 3), 0.3))
    assert metric.statistics().dtype == torch.float64
    assert metric.aggregate().dtype == torch.float64


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
    with pytest.raises(ValueError, match=r"mask must have shape \(1, 1, 4\), got \(1, 3, 4\)"):
        compute(maps, maps, mask=maps)


@pytest.mark.bad_input
def test_labels_and_images_in_place_of_probabilities_are_told_from_logits():
    labels = torch.tensor([[[0, 1, 2]]])
    with pytest.raises(ValueError, match=r"got values in \[0, 2\]; are these labels"):
        compute_soft_dice(labels, labels)
    with pytest.raises(ValueError, match="were logits passed"):
        compute_soft_dice(labels - 1.5, labels)


@pytest.mark.bad_input
def test_options_of_the_wrong_type_are_named():
    for name, wrong in (("num_classes", "2"), ("num_classes", 2.0), ("ignore_index", "1")):
        with pytest.raises(TypeError, match=f"{name} must be an integer or None, got"):
            SoftDiceMetric(**{name: wrong})
    with pytest.raises(TypeError, match="include_background must be True or False, got 'no'"):
        SoftDiceMetric(include_background="no")
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        SoftDiceMetric(num_classes=0)
    with pytest.raises(TypeError, match="alpha must be a number, got 'a'"):
        SoftTverskyMetric(alpha="a")
    one = torch.ones(1, 1, 3)
    with pytest.raises(ValueError, match=r"empty must be a score in \[0, 1\] or NaN, got 5"):
        compute_soft_dice(one, one, empty=5)
    with pytest.raises(ValueError, match="all items must have as many channels, got \\[1, 2\\]"):
        SoftDiceMetric()([one[0], torch.ones(2, 3)], [one[0], torch.ones(2, 3)])


@pytest.mark.bad_input
def test_bad_weights_masks_and_reductions_are_named():
    pred = torch.full((2, 1, 4), 0.5)
    with pytest.raises(ValueError, match="alpha must be .*got -1"):
        SoftTverskyMetric(alpha=-1.0)
    with pytest.raises(ValueError, match="reduction must be one of .*'dataset'.* got 'median'"):
        SoftDiceMetric(reduction="median")
    with pytest.raises(ValueError, match="mask must hold 2 items, as y_pred does, got 1"):
        SoftDiceMetric()(list(pred), list(pred), mask=[pred[0]])
    by_class = SoftDiceMetric(reduction="none")
    by_class(pred, pred)
    with pytest.raises(ValueError, match="summary needs a reduction to one number, got 'none'"):
        by_class.summary()


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


@pytest.mark.bad_input
def test_nan_in_the_ignored_channel_is_no_voxel_to_leave_out():
    pred = torch.full((1, 3, 4), 0.25)
    truth = torch.eye(3)[[0, 1, 2, 0]].T[None].contiguous()
    truth[0, 2, 0] = torch.nan
    with pytest.raises(ValueError, match="y must hold probabilities in .*, got NaN"):
        compute_soft_dice(pred, truth, ignore_index=2)
