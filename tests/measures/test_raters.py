"""Scores beside several raters, with MONAI, SimpleITK and scikit-learn as oracles of hard masks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given, strategies as st
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import compute_dice
from sklearn.metrics import jaccard_score

from softoverlap.for_monai import MeasureMetric
from softoverlap.lesions import fuse_raters
from softoverlap.measures import (
    GeneralisedEnergyDistance,
    HumanCeiling,
    RaterOverlap,
    compute_soft_dice,
    compute_soft_iou,
)
from softoverlap.overlaps import mask_dice, mask_iou, mask_tversky
from softoverlap.phantoms import LesionPhantoms
from tests.support.measure_forms import as_function, as_metric
from tests.support.reference_raters import reference_ceiling, reference_ged, reference_rater_overlap
from tests.support.strategies import masks

AGAINST = ["each", "mean", "majority", "staple"]
SOFT = {"dice": compute_soft_dice, "iou": compute_soft_iou}
MEASURES = [RaterOverlap, HumanCeiling, GeneralisedEnergyDistance]
rater_overlap_of, human_ceiling_of, energy_distance_of = map(as_function, MEASURES)
rater_overlap_metric, human_ceiling_metric, energy_distance_metric = METRICS = [
    as_metric(measure) for measure in MEASURES
]


def _panel(raters=4, items=2, shape=(6, 7, 8), seed=0):
    """Hard masks (B, R, *spatial) of a ball with mistakes at the rim."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.meshgrid(*[torch.arange(edge) - edge / 2 for edge in shape], indexing="ij")
    distance = sum(axis**2 for axis in axes).sqrt()
    noise = torch.randn(items, raters, *shape, generator=generator)
    return (distance + 0.7 * noise < 2.5).float()


def _soft(channels=1, items=2, shape=(6, 7, 8), seed=9):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(items, channels, *shape, generator=generator, dtype=torch.float64)


@st.composite
def stacks(draw, low=1):
    """Two stacks of soft masks (1, count, voxels), with empty ones among them."""
    counts, voxels = (
        draw(st.tuples(st.integers(low, 4), st.integers(low, 4))),
        draw(st.integers(1, 5)),
    )
    found = []
    for count in counts:
        stack = draw(masks((1, count, voxels)))
        found.append(stack * draw(masks((1, count, 1))).round())
    return tuple(found)


@given(
    stacks(),
    st.sampled_from(["each", "mean"]),
    st.sampled_from(["dice", "iou"]),
    st.booleans(),
    st.sampled_from([0.0, 0.25, 1.0]),
)
def test_overlap_and_ceiling_equal_the_reference(pair, against, overlap, ignore_empty, empty):
    samples, raters = pair
    options = {"ignore_empty": ignore_empty, "empty": empty}
    names = {"against": against, "overlap": overlap}
    score = rater_overlap_of(samples[:, :1], raters, **options, **names)
    arrays = list(raters[0].numpy())
    expected = reference_rater_overlap(samples[0, 0].numpy(), arrays, **options, **names)
    assert score.item() == pytest.approx(expected, abs=1e-12, nan_ok=True)
    ceiling = human_ceiling_of(raters, **options, **names)
    expected = reference_ceiling(arrays, **options, **names)
    assert ceiling.item() == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(stacks(), st.sampled_from(["dice", "iou"]))
def test_the_majority_equals_the_reference(pair, overlap):
    samples, raters = pair[0][:, :1], pair[1].round()
    score = rater_overlap_of(samples, raters, against="majority", overlap=overlap)
    arrays = list(raters[0].numpy())
    expected = reference_rater_overlap(samples[0, 0].numpy(), arrays, "majority", overlap)
    assert score.item() == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("against", AGAINST[1:])
@pytest.mark.parametrize("overlap", SOFT)
def test_a_fusion_is_scored_as_the_soft_metrics_score_it(against, overlap):
    raters, pred = _panel().double(), _soft()
    fused = torch.stack([fuse_raters(item, method=against) for item in raters])[:, None]
    expected = SOFT[overlap](pred, fused)
    score = rater_overlap_of(pred, raters, against=against, overlap=overlap)
    torch.testing.assert_close(score, expected, atol=1e-12, rtol=0)


def test_hard_pairs_score_as_monai_and_simpleitk_score_them():
    raters, pred = _panel(), _panel(raters=1, seed=5)
    dice = rater_overlap_of(pred, raters)
    iou = rater_overlap_of(pred, raters, overlap="iou")
    for item in range(len(raters)):
        rows = raters[item][:, None]
        theirs = compute_dice(pred[item].expand_as(rows[:, 0])[:, None], rows).mean()
        assert dice[item].item() == pytest.approx(theirs.item(), abs=1e-6)
        found = []
        for rater in raters[item]:
            measures = SimpleITK.LabelOverlapMeasuresImageFilter()
            measures.Execute(
                *[SimpleITK.GetImageFromArray(m.byte().numpy()) for m in (rater, pred[item, 0])]
            )
            found.append((measures.GetDiceCoefficient(), measures.GetJaccardCoefficient()))
        expected = np.mean(found, axis=0)
        assert dice[item].item() == pytest.approx(expected[0], abs=1e-12)
        assert iou[item].item() == pytest.approx(expected[1], abs=1e-12)


def test_the_score_against_staple_is_that_against_simpleitks():
    phantom = LesionPhantoms(3, num_raters=5, shape=(32, 32, 24))[0]
    stages = SimpleITK.STAPLEImageFilter()
    stages.SetForegroundValue(1)
    images = [SimpleITK.GetImageFromArray(rater.numpy()) for rater in phantom.raters]
    theirs = torch.from_numpy(SimpleITK.GetArrayFromImage(stages.Execute(images)))
    pred = phantom.mask[None, None]
    score = rater_overlap_of(pred, phantom.raters[None], against="staple")
    expected = compute_soft_dice(pred, theirs[None, None])
    torch.testing.assert_close(score, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("against", AGAINST)
@pytest.mark.parametrize("overlap", SOFT)
def test_the_ceiling_puts_each_rater_in_the_place_of_the_prediction(against, overlap):
    raters = _panel()
    options = {"against": against, "overlap": overlap}
    scores = []
    for own in range(raters.shape[1]):
        others = [rater for rater in range(raters.shape[1]) if rater != own]
        scores.append(rater_overlap_of(raters[:, [own]], raters[:, others], **options))
    expected = torch.stack(scores).mean(dim=0)
    ceiling = human_ceiling_of(raters, **options)
    torch.testing.assert_close(ceiling, expected, atol=1e-12, rtol=0)


def test_the_ceiling_against_each_is_the_mean_over_pairs_of_raters():
    raters = _panel(items=1)
    pairs = itertools.combinations(raters[0], 2)
    scores = [jaccard_score(a.flatten().numpy(), b.flatten().numpy()) for a, b in pairs]
    ceiling = human_ceiling_of(raters, overlap="iou")
    assert ceiling.item() == pytest.approx(np.mean(scores), abs=1e-12)


def test_one_rater_has_no_ceiling_and_is_not_counted():
    assert human_ceiling_of(_panel(raters=1)).isnan().all()
    metric = human_ceiling_metric(get_not_nans=True)
    metric([_panel(items=1, raters=1)[0], _panel(items=1)[0]])
    score, counted = metric.aggregate()
    assert counted.item() == 1
    assert score.item() == human_ceiling_of(_panel(items=1)).item()


def test_empty_raters_are_left_out_or_score_as_told():
    pred, raters = torch.ones(1, 1, 4), torch.zeros(1, 3, 4)
    raters[0, 0] = 1
    assert rater_overlap_of(pred, raters).item() == 1
    assert rater_overlap_of(pred, raters, ignore_empty=False).item() == pytest.approx(1 / 3)
    nothing = torch.zeros(1, 1, 4)
    assert rater_overlap_of(nothing, raters, ignore_empty=False).item() == pytest.approx(2 / 3)
    for against in AGAINST:
        empty = raters[:, 1:]
        assert rater_overlap_of(pred, empty, against=against).isnan().all()
        assert human_ceiling_of(empty, against=against).isnan().all()
        options = {"against": against, "ignore_empty": False, "empty": 0.25}
        assert rater_overlap_of(pred, empty, **options).item() == 0
        assert rater_overlap_of(nothing, empty, **options).item() == 0.25
        assert human_ceiling_of(empty, **options).item() == 0.25


@given(stacks(), st.sampled_from([0.0, 0.5, 1.0]))
def test_the_energy_distance_equals_the_reference_and_is_never_negative(pair, empty):
    found = energy_distance_of(*pair, empty=empty).item()
    samples, raters = (list(stack[0].numpy()) for stack in pair)
    expected = reference_ged(samples, raters, empty)
    assert expected >= -1e-12  # the reference is not clamped
    assert found == pytest.approx(expected, abs=1e-12)
    assert 0 <= found <= 2


@given(stacks(low=2))
def test_the_energy_distance_of_a_set_with_itself_is_zero(pair):
    for stack in pair:
        assert energy_distance_of(stack, stack).item() == 0
        shuffled = torch.cat([stack, stack], dim=1).flip(1)
        found = energy_distance_of(shuffled, stack).item()
        assert found == pytest.approx(0, abs=1e-12)
    there, back = (energy_distance_of(*order) for order in (pair, pair[::-1]))
    assert there.item() == pytest.approx(back.item(), abs=1e-12)


def test_rounding_does_not_make_the_energy_distance_negative():
    generator = torch.Generator().manual_seed(10)
    raters = torch.rand(1, 3, 7, generator=generator, dtype=torch.float64)
    samples = torch.cat([raters, raters], dim=1).flip(1)
    assert reference_ged(samples[0].numpy(), raters[0].numpy()) < 1e-12
    for pair in itertools.product([samples, raters, raters.flip(1)], repeat=2):
        assert energy_distance_of(*pair).item() >= 0


def test_closed_forms_of_the_energy_distance():
    left, right, both = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]).split(1)
    nothing = torch.zeros(1, 2)
    cases = [
        (left, right, 2.0),  # disjoint, one mask each
        (left, both, 1.0),  # 2 (1 - 1/2)
        (left, torch.cat([left, right]), 0.5),  # one of two modes: 2/2 - 0 - 1/2
        (0.25 * both, both, 1.5),  # soft: 2 (1 - 1/4)
        (nothing, nothing, 0.0),
        (nothing, left, 2.0),
        (torch.cat([nothing, left]), torch.cat([nothing, left]), 0.0),
    ]
    for samples, raters, expected in cases:
        found = energy_distance_of(samples[None], raters[None])
        assert found.item() == pytest.approx(expected, abs=1e-15)


def test_the_energy_distance_of_hard_masks_is_that_of_scikit_learns_jaccard():
    samples, raters = _panel(raters=3, items=1, seed=1), _panel(items=1)

    def mean(first, second):
        pairs = itertools.product(first[0].flatten(1).numpy(), second[0].flatten(1).numpy())
        return np.mean([1 - jaccard_score(a, b) for a, b in pairs])

    expected = 2 * mean(samples, raters) - mean(samples, samples) - mean(raters, raters)
    found = energy_distance_of(samples, raters)
    assert found.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("against", AGAINST)
def test_classes_are_scored_one_by_one_from_channels_or_from_labels(against):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (2, 4, 6, 6), generator=generator)
    encoded = torch.nn.functional.one_hot(labels, 3).movedim(-1, 2)
    pred = labels[:, :1].roll(1, dims=-1)
    options = {"against": against, "overlap": "iou"}
    expected = torch.cat(
        [rater_overlap_of((pred == c).float(), encoded[:, :, c], **options) for c in range(3)],
        dim=1,
    )
    from_labels = rater_overlap_of(pred, labels, num_classes=3, **options)
    from_channels = rater_overlap_of(
        encoded[:, 0].roll(1, dims=-1), encoded, include_background=False, **options
    )
    assert torch.equal(from_labels, expected)
    assert torch.equal(from_channels, expected[:, 1:])
    ceiling = human_ceiling_of(labels, num_classes=3, **options)
    assert torch.equal(ceiling, human_ceiling_of(encoded, class_axis=True, **options))
    metric = human_ceiling_metric(num_classes=3, **options)
    assert torch.equal(metric(pred, labels), ceiling)
    assert torch.equal(human_ceiling_metric(**options)(encoded[:, 0], encoded), ceiling)


def test_the_energy_distance_takes_classes_too():
    generator = torch.Generator().manual_seed(0)
    samples, raters = (
        torch.randint(0, 3, (2, count, 6, 6), generator=generator) for count in (5, 3)
    )
    encoded = [torch.nn.functional.one_hot(s, 3).movedim(-1, 2) for s in (samples, raters)]
    expected = energy_distance_of(*encoded, class_axis=True)
    assert expected.shape == (2, 3)
    found = energy_distance_of(samples, raters, num_classes=3)
    assert torch.equal(found, expected)
    found = energy_distance_of(samples, raters, include_background=False, num_classes=3)
    assert torch.equal(found, expected[:, 1:])
    alone = energy_distance_of(*[stack[:, :, 1] for stack in encoded])
    assert torch.equal(alone, expected[:, 1:2])


def _with_mask(pred, raters, mask, against):
    return (
        rater_overlap_of(pred, raters, against=against, mask=mask),
        human_ceiling_of(raters, against=against, mask=mask),
        energy_distance_of(pred, raters, mask=mask),
    )


@pytest.mark.parametrize("against", AGAINST)
def test_voxels_that_do_not_count_are_as_if_cut_off(against):
    raters, pred = _panel(shape=(6, 7, 8)), _panel(raters=1, seed=4)
    mask = torch.ones(2, 1, 6, 7, 8)
    mask[..., 5:] = 0
    inside = _with_mask(pred[..., :5], raters[..., :5], None, against)
    raters, pred = raters.clone(), pred.clone()
    raters[..., 5:], pred[..., 5:] = math.nan, 7  # nobody looks there
    for masked, cut in zip(_with_mask(pred, raters, mask, against), inside, strict=True):
        torch.testing.assert_close(masked, cut, atol=1e-12, rtol=0)


def test_one_mask_of_voxels_serves_all_classes():
    raters, pred = torch.cat([_panel()[:, :, None]] * 3, dim=2), _soft(channels=3)
    raters[:, :, 1:] = raters[:, :, 1:].roll(1, dims=-1)
    mask = (_soft(seed=3) > 0.4).double()
    found = rater_overlap_of(pred, raters, mask=mask)
    for channel in range(3):
        alone = rater_overlap_of(pred[:, [channel]], raters[:, :, channel], mask=mask)
        assert torch.equal(found[:, [channel]], alone)


@pytest.mark.parametrize("against", AGAINST[:3])
def test_a_voxel_that_counts_half_is_half_a_voxel(against):
    raters, pred = _panel(shape=(4, 5)), _panel(raters=1, seed=4, shape=(4, 5))
    mask = torch.ones(2, 1, 4, 5)
    mask[..., 2:] = 0.5  # so the others, written twice, have the same weight
    twice = [torch.cat([stack[..., :2], stack], dim=-1) for stack in (pred, raters)]
    weighted = _with_mask(pred, raters, mask, against)
    for one, two in zip(weighted, _with_mask(*twice, None, against), strict=True):
        torch.testing.assert_close(one, two, atol=1e-12, rtol=0)


@pytest.mark.parametrize("against", AGAINST)
def test_soft_raters_are_cut_where_a_threshold_is_given(against):
    raters, pred = _panel(), _soft()
    options = {"against": against, "rater_threshold": 0.7}
    score = rater_overlap_of(pred, 0.2 + 0.5 * raters, **options)
    assert torch.equal(score, rater_overlap_of(pred, raters, against=against))
    ceiling = human_ceiling_of(0.2 + 0.5 * raters, **options)
    assert torch.equal(ceiling, human_ceiling_of(raters, against=against))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float16, torch.float64])
@pytest.mark.parametrize("against", AGAINST)
def test_types_do_not_change_the_score_and_inputs_stay_as_they_are(dtype, against):
    raters, pred = _panel(), _panel(raters=1, seed=4)
    typed = MetaTensor(raters.to(dtype)), MetaTensor(pred.to(dtype))
    before = [stack.clone() for stack in typed]
    score = rater_overlap_of(typed[1], typed[0], against=against)
    assert type(score) is torch.Tensor
    assert torch.equal(score, rater_overlap_of(pred, raters, against=against))
    assert all(torch.equal(a, b) for a, b in zip(typed, before, strict=True))


def test_what_half_precision_adds_to_one_is_taken_off():
    pred = torch.full((1, 1, 4), 1 + 1 / 1024, dtype=torch.float16)
    assert pred.max() > 1
    for against in ("each", "mean"):
        assert rater_overlap_of(pred, torch.ones(1, 2, 4), against=against).item() == 1


def test_empty_space_around_masks_changes_no_digit():
    raters, samples = _panel(), _soft(channels=3)
    wide = [torch.nn.functional.pad(stack, (3,) * 6) for stack in (samples, raters)]
    for against in AGAINST[:3]:
        one, two = (
            rater_overlap_of(pred[:, :1], panel, against=against)
            for pred, panel in ((samples, raters), wide)
        )
        torch.testing.assert_close(one, two, atol=1e-15, rtol=0)
    distance = energy_distance_of(*wide)
    expected = energy_distance_of(samples, raters)
    torch.testing.assert_close(distance, expected, atol=1e-15, rtol=0)


def _cohort():
    """Items of other shapes and with other numbers of raters."""
    sizes = [(4, (6, 7, 8)), (1, (5, 5, 5)), (2, (7, 6, 5))]
    panels = [_panel(r, 1, shape, seed)[0] for seed, (r, shape) in enumerate(sizes)]
    return [_panel(1, 1, panel.shape[1:], 9)[0] for panel in panels], panels


@pytest.mark.parametrize("metric", METRICS)
def test_lists_hold_items_of_other_shapes_and_other_numbers_of_raters(metric):
    preds, panels = _cohort()
    listed, single = metric(), metric()
    listed([MetaTensor(pred) for pred in preds], [MetaTensor(panel) for panel in panels])
    for pred, panel in zip(preds, panels, strict=True):
        single(pred[None], panel[None])
    assert listed.aggregate().item() == pytest.approx(single.aggregate().item(), abs=1e-15)
    assert type(listed.aggregate()) is torch.Tensor


def test_score_and_ceiling_are_read_side_by_side():
    preds, panels = _cohort()
    for against in AGAINST:
        score, ceiling = (
            rater_overlap_metric(against=against),
            human_ceiling_metric(against=against),
        )
        for metric in (score, ceiling):
            metric(preds, panels)
        assert score.summary().counted == 3
        assert ceiling.summary().counted == 2  # one of the items has a single rater
        assert 0 < ceiling.summary().value < 1


@pytest.mark.parametrize("measure", MEASURES)
def test_metrics_run_in_monais_ignite_handler_and_from_a_bundle(measure):
    raters, pred = _panel(), _panel(raters=1, seed=3)
    made = {"_target_": f"softoverlap.{measure.__name__}"}
    config = {"metric": {"_target_": "softoverlap.MeasureMetric", "measure": made}}
    config["metric"]["reduction"] = "image"
    parsed = ConfigParser(config).get_parsed_content("metric")
    engine = Engine(lambda engine, batch: {"pred": pred, "label": raters})
    handler = IgniteMetricHandler(metric_fn=parsed, output_transform=from_engine(["pred", "label"]))
    handler.attach(engine, name="raters")
    engine.run([0, 1], max_epochs=1)
    alone = MeasureMetric(measure())
    alone(pred, raters)
    expected = alone.aggregate().item()
    assert engine.state.metrics["raters"] == pytest.approx(expected, abs=1e-12)


def test_results_have_class_names_and_leave_nan_out():
    raters = torch.zeros(2, 3, 2, 6, 6)
    raters[:, :, 0], raters[0, :, 1, :3] = 1, 1  # nobody marks the second class of the second item
    metric = rater_overlap_metric(
        reduction="mean_batch", get_not_nans=True, return_with_label=["organ", "lesion"]
    )
    metric(raters[:, 0], raters)
    scores, counted = metric.aggregate()
    assert scores == {"organ": 1.0, "lesion": 1.0}
    assert counted.tolist() == [2, 1]


@pytest.mark.bad_input
@pytest.mark.parametrize("metric", METRICS)
def test_reductions_over_the_data_set_are_refused(metric):
    for reduction in ("dataset", "dataset_batch"):
        with pytest.raises(ValueError, match="reduction must not be one of .* not formed from"):
            metric(reduction=reduction)
        scores = metric()
        scores(_panel(raters=1), _panel())
        with pytest.raises(ValueError, match="reduction must not be one of .* not formed from"):
            scores.aggregate(reduction)
    with pytest.raises(ValueError, match="reduction must be one of .* got 'median'"):
        metric(reduction="median")


@pytest.mark.bad_input
@pytest.mark.parametrize("metric", [rater_overlap_metric, human_ceiling_metric])
def test_bad_names_and_thresholds_are_refused(metric):
    with pytest.raises(ValueError, match="against must be one of .* got 'median'"):
        metric(against="median")
    with pytest.raises(ValueError, match="overlap must be one of .* got 'cosine'"):
        metric(overlap="cosine")
    with pytest.raises(ValueError, match=r"threshold must lie in \(0, 1\], got 2"):
        metric(rater_threshold=2)


@pytest.mark.bad_input
@pytest.mark.parametrize("metric", METRICS)
def test_bad_values_are_named(metric):
    raters, pred = _panel(), _panel(raters=1)
    with pytest.raises(ValueError, match="y must hold probabilities .* got values in"):
        metric()(pred, raters * 2)
    with pytest.raises(ValueError, match="y must hold one mask or more of each item"):
        metric()(pred, raters[:, :0])
    with pytest.raises(ValueError, match=r"mask must have shape \(2, 1, 6, 7, 8\)"):
        metric()(pred, raters, mask=torch.ones(2, 6, 7, 8))
    with pytest.raises(ValueError, match="y must hold labels from 0 to 2, got 0.5"):
        metric(num_classes=3)(pred, raters / 2)
    assert metric(validate=False)(pred, raters * 2).shape == (2, 1)


@pytest.mark.bad_input
@pytest.mark.parametrize("against", ["majority", "staple"])
def test_soft_raters_are_refused_where_they_must_be_hard(against):
    with pytest.raises(ValueError, match="raters must hold 0 and 1, or be cut .* got 0.5"):
        rater_overlap_of(_soft(), _panel() / 2, against=against)


@pytest.mark.bad_input
def test_shapes_that_do_not_belong_together_are_named():
    raters, pred = _panel(), _panel(raters=1)
    with pytest.raises(ValueError, match=r"y must have shape \(B, R, \*spatial\) or"):
        rater_overlap_of(pred, raters[0])
    with pytest.raises(ValueError, match="y must have the items, channels and voxels of y_pred"):
        rater_overlap_of(pred, raters[..., :4])
    with pytest.raises(ValueError, match="y must have the items, channels and voxels of y_pred"):
        rater_overlap_of(pred.repeat(1, 3, 1, 1, 1), raters)
    with pytest.raises(ValueError, match="y_pred must have 1 or num_classes=4 channels, got 3"):
        rater_overlap_of(pred.repeat(1, 3, 1, 1, 1), raters, num_classes=4)
    with pytest.raises(TypeError, match=r"y must be a torch\.Tensor, got NoneType"):
        rater_overlap_metric()(pred)
    with pytest.raises(ValueError, match=r"y_pred must have shape \(B, N, C, \*spatial\)"):
        energy_distance_of(pred[:, 0, 0], raters[:, 0, 0], class_axis=True)


@pytest.mark.bad_input
def test_an_axis_of_classes_is_not_taken_for_space():
    raters = torch.ones(1, 3, 2, 4, 4, 4)
    with pytest.raises(ValueError, match="at most three spatial axes.*pass class_axis=True"):
        human_ceiling_of(raters)
    with pytest.raises(ValueError, match="at most three spatial axes.*pass class_axis=True"):
        energy_distance_of(raters, raters)
    with pytest.raises(ValueError, match="include_background=False needs an axis of classes"):
        human_ceiling_of(raters[:, :, 0], include_background=False)


def test_an_overlap_of_two_masks_is_taken_as_it_is_and_by_name():
    generator = torch.Generator().manual_seed(0)
    pred = torch.rand(2, 1, 5, 4, generator=generator)
    raters = (torch.rand(2, 3, 5, 4, generator=generator) > 0.5).float()
    dice = RaterOverlap()(pred, raters)
    for overlap in ("dice", "mask_dice", mask_dice, mask_tversky):
        assert torch.allclose(RaterOverlap(overlap=overlap)(pred, raters), dice, atol=1e-12, rtol=0)
    strict = RaterOverlap(overlap=mask_tversky.with_(alpha=1.0, beta=1.0))(pred, raters)
    assert torch.allclose(strict, RaterOverlap(overlap=mask_iou)(pred, raters), atol=1e-12, rtol=0)
