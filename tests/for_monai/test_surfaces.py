"""Surfaces at a stated threshold: MONAI, SimpleITK and brute force as oracles."""

from __future__ import annotations

import inspect
import math
import pickle
import warnings

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import (
    HausdorffDistanceMetric,
    SurfaceDiceMetric,
    compute_hausdorff_distance,
    compute_surface_dice,
)

from softoverlap.for_monai import ThresholdedHausdorff, ThresholdedSurfaceDice
from tests.support.measure_forms import as_function, as_metric
from tests.support.reference_calibration import reference_surface_distances

EDGES = (0.9, 1.5, 3.0)
BOTH = [
    (surface_dice_metric := as_metric(ThresholdedSurfaceDice), {"tolerance": 1.0}),
    (hausdorff_metric := as_metric(ThresholdedHausdorff), {}),
]
THEIRS = {surface_dice_metric: SurfaceDiceMetric, hausdorff_metric: HausdorffDistanceMetric}
surface_dice_of, hausdorff_of = map(as_function, (ThresholdedSurfaceDice, ThresholdedHausdorff))


def _maps(seed=0, items=2, channels=2, shape=(7, 8, 6)):
    generator = torch.Generator().manual_seed(seed)
    pred, target = torch.rand(2, items, channels, *shape, generator=generator)
    return pred, target


def _box(low, high, shape=(20, 18, 16)):
    mask = torch.zeros(1, 1, *shape)
    mask[(0, 0, *(slice(a, b) for a, b in zip(low, high, strict=True)))] = 1
    return mask


def _itk(mask):
    image = sitk.GetImageFromArray(mask[0, 0].byte().numpy())
    image.SetSpacing(tuple(reversed(EDGES)))  # SimpleITK counts axes from the other end
    return image


hard_pairs = hnp.arrays(bool, st.just((2, 4, 3, 4)))


@given(hard_pairs, st.sampled_from([0.0, 1.0, 1.6, 3.0]), st.sampled_from([None, 50.0, 95.0]))
def test_scores_equal_brute_force(pair, tolerance, percentile):
    pred, target = (torch.from_numpy(mask)[None, None].float() for mask in pair)
    options = {"spacing": EDGES, "threshold": 0.5}
    dice = surface_dice_of(pred, target, tolerance=tolerance, **options).item()
    distance = hausdorff_of(pred, target, percentile=percentile, **options).item()
    some = [mask.any() for mask in pair]
    if not all(some):
        expected = (0.0, math.inf) if any(some) else (math.nan, math.nan)
    else:
        ways = [reference_surface_distances(*order, EDGES) for order in (pair, pair[::-1])]
        close = sum(each <= tolerance + 1e-9 for way in ways for each in way)
        largest = max(np.percentile(way, 100 if percentile is None else percentile) for way in ways)
        expected = (close / sum(map(len, ways)), largest)
    assert (dice, distance) == pytest.approx(expected, rel=1e-5, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize("subvoxels", [False, True])
@pytest.mark.parametrize("shape", [(7, 8, 6), (9, 8)])
def test_a_cut_map_has_monais_surface_dice(subvoxels, shape):
    pred, target = _maps(shape=shape)
    edges, tolerances = EDGES[: len(shape)], [0.5, 1.0]
    theirs = compute_surface_dice(
        (pred >= 0.6).float(),
        (target >= 0.3).float(),
        tolerances,
        include_background=True,
        spacing=edges,
        use_subvoxels=subvoxels,
    )
    ours = surface_dice_of(
        pred,
        target,
        tolerance=tolerances,
        include_background=True,
        spacing=edges,
        use_subvoxels=subvoxels,
        threshold=0.6,
        target_threshold=0.3,
    )
    torch.testing.assert_close(ours, theirs.double(), rtol=0, atol=0)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("distance", ["euclidean", "chessboard", "taxicab"])
@pytest.mark.parametrize("percentile", [None, 50.0, 95.0, 100.0])
def test_a_cut_map_has_monais_hausdorff_distance(directed, distance, percentile):
    pred, target = _maps()
    options = {
        "distance_metric": distance,
        "percentile": percentile,
        "directed": directed,
        "spacing": EDGES,
    }
    theirs = compute_hausdorff_distance((pred >= 0.9).float(), (target >= 0.9).float(), **options)
    ours = hausdorff_of(pred, target, threshold=0.9, **options)
    torch.testing.assert_close(ours, theirs.double(), rtol=0, atol=0)


@pytest.mark.parametrize(("metric", "options"), BOTH)
@pytest.mark.parametrize("reduction", ["mean", "mean_batch", "mean_channel", "sum", "none"])
def test_metrics_of_hard_masks_are_monais(metric, options, reduction):
    theirs_options = {"class_thresholds": [1.0, 1.0]} if options else {"percentile": 95}
    ours = metric(
        **options, include_background=True, reduction=reduction, threshold=0.5, spacing=EDGES
    )
    theirs = THEIRS[metric](**theirs_options, include_background=True, reduction=reduction)
    for seed in range(2):
        pred, target = ((maps > 0.7).float() for maps in _maps(seed))
        ours(pred, target)
        theirs(pred, target, spacing=EDGES)
    torch.testing.assert_close(
        ours.aggregate().flatten(), theirs.aggregate().double().flatten(), rtol=1e-6, atol=1e-6
    )


def test_options_are_those_of_monai_with_its_defaults():
    for metric, theirs in THEIRS.items():
        ours = metric(threshold=0.5, **dict(BOTH)[metric]).measure
        defaults = inspect.signature(theirs).parameters
        for name in ("include_background", "distance_metric", "use_subvoxels", "directed"):
            if name in defaults:
                assert getattr(ours, name) == defaults[name].default


@pytest.mark.parametrize(
    ("low", "high"),
    [((5, 4, 3), (9, 9, 6)), ((8, 3, 6), (17, 10, 15)), ((12, 11, 8), (19, 17, 15))],
)
def test_the_maximum_is_simpleitks_hausdorff_distance(low, high):
    """Of convex masks; SimpleITK measures masks, not surfaces, which is the same for these."""
    first, second = _box((3, 3, 3), (9, 9, 9)), _box(low, high)
    oracle = sitk.HausdorffDistanceImageFilter()
    oracle.Execute(_itk(first), _itk(second))
    ours = hausdorff_of(first, second, percentile=100.0, threshold=0.5, spacing=EDGES)
    assert ours.item() == pytest.approx(oracle.GetHausdorffDistance(), rel=1e-6)


@pytest.mark.parametrize("steps", [(2, 0, 0), (0, 3, 0), (1, 2, 2)])
def test_a_shifted_cube_is_as_far_as_it_was_shifted(steps):
    cube, shift = _box((3, 3, 3), (10, 10, 10)), math.dist((0, 0, 0), np.multiply(steps, EDGES))
    moved = cube.roll(steps, dims=(2, 3, 4))
    options = {"threshold": 0.5, "spacing": EDGES}
    distance = hausdorff_of(cube, moved, percentile=None, **options)
    assert distance.item() == pytest.approx(shift, rel=1e-6)
    within = surface_dice_of(cube, moved, tolerance=shift + 1e-3, **options)
    assert within.item() == 1


def test_a_shifted_cube_shares_the_sides_along_the_shift():
    """Side 7, shift 1: of 218 surface voxels, the four sides' 6 shared rings of 24 meet."""
    cube = _box((3, 3, 3), (10, 10, 10))
    moved = cube.roll(1, dims=2)
    score = surface_dice_of(cube, moved, tolerance=0.5, threshold=0.5, spacing=1.0)
    assert score.item() == pytest.approx(6 * 24 / (7**3 - 5**3))


@pytest.mark.parametrize(("metric", "options"), BOTH)
def test_a_threshold_must_be_stated(metric, options):
    with pytest.raises(TypeError, match="threshold"):
        metric(**options)


def test_at_the_threshold_is_inside_in_any_precision():
    pred = _box((3, 3, 3), (10, 10, 10)) * 0.7
    for values in (pred, pred.half(), pred.bfloat16()):
        score = surface_dice_of(
            values, pred.gt(0), tolerance=0.0, threshold=0.7, target_threshold=1.0, spacing=1.0
        )
        assert score.item() == 1
        score = surface_dice_of(pred.gt(0), values, tolerance=0.0, threshold=0.7, spacing=1.0)
        assert score.item() == 1


def test_thresholds_move_the_surface():
    near = _box((3, 3, 3), (10, 10, 10))
    pred = 0.8 * near + 0.2 * _box((1, 3, 3), (12, 10, 10))
    options = {"spacing": EDGES, "target_threshold": 0.5}
    for threshold, expected in ((0.5, 0.0), (0.2, 2 * EDGES[0])):
        distance = hausdorff_of(pred, near, percentile=None, threshold=threshold, **options)
        assert distance.item() == pytest.approx(expected, rel=1e-6)


def test_empty_masks_are_nan_or_far_and_never_a_warning():
    empty, cube = torch.zeros(1, 1, 8, 8, 8), _box((2, 2, 2), (5, 5, 5), shape=(8, 8, 8))
    options = {"threshold": 0.5, "spacing": 1.0}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for percentile in (None, 50.0, 95.0, 100.0):
            for pair in ((empty, cube), (cube, empty)):
                found = hausdorff_of(*pair, percentile=percentile, **options)
                assert found.item() == math.inf
                assert surface_dice_of(*pair, tolerance=1.0, **options).item() == 0
            both = hausdorff_of(empty, empty, percentile=percentile, **options)
            assert both.isnan().all()
        assert surface_dice_of(empty, empty, tolerance=1.0, **options).isnan().all()
        told = surface_dice_of(empty, empty, tolerance=1.0, empty=1.0, **options)
        assert told.item() == 1
        told = hausdorff_of(empty, empty, empty=0.0, **options)
        assert told.item() == 0


@pytest.mark.parametrize("reduction", ["mean", "sum", "mean_batch", "sum_batch", "class"])
def test_a_missed_lesion_is_infinitely_far_unless_told_otherwise(reduction):
    empty, cube = torch.zeros(1, 1, 8, 8, 8), _box((2, 2, 2), (5, 5, 5), shape=(8, 8, 8))
    pred, target = torch.cat([cube, empty, empty]), torch.cat([cube, cube, empty])
    options = {"threshold": 0.5, "spacing": 1.0, "reduction": reduction}
    for one_empty, expected, counted in (
        (math.inf, math.inf, 2),
        (30.0, 30.0, 2),
        (math.nan, 0, 1),
    ):
        metric = hausdorff_metric(**options, one_empty=one_empty, get_not_nans=True)
        metric(pred, target)
        score, count = metric.aggregate()
        scale = counted if reduction.startswith("mean") else 1
        scale = counted if reduction == "class" else scale
        assert score.item() == pytest.approx(expected / scale)
        assert metric.details() == {"label_1": 1}
        if reduction != "class":
            assert count.item() == (1 if reduction == "mean" and counted == 1 else counted)


def test_names_and_tolerances_are_those_of_the_classes_that_count():
    pred, target = _maps(channels=3)
    metric = surface_dice_metric(
        tolerance=[0.0, 9.0],
        threshold=0.9,
        spacing=1.0,
        return_with_label=["core", "edge"],
    )
    metric(pred, target)
    scores = metric.aggregate("mean_batch")
    assert scores["core"] < scores["edge"] == 1
    assert metric.details() == {"core": 0, "edge": 0}
    assert metric.summary().counted_per_class == {"core": 2, "edge": 2}


@pytest.mark.parametrize(("metric", "options"), BOTH)
def test_lists_of_meta_tensors_bring_their_own_shape_and_spacing(metric, options):
    maps = [_maps(seed, items=1, channels=1, shape=(6 + seed, 7, 8)) for seed in range(2)]
    edges = [(1.0, 1.0, 3.0), (2.0, 0.5, 1.0)]
    affines = [torch.diag(torch.tensor([*edge, 1.0])) for edge in edges]
    scores = metric(**options, threshold=0.8)
    scores(
        [MetaTensor(pred[0], affine=a) for (pred, _), a in zip(maps, affines, strict=True)],
        [target[0] for _, target in maps],
    )
    alone = [
        metric(**options, threshold=0.8)(*pair, spacing=edge).item()
        for pair, edge in zip(maps, edges, strict=True)
    ]
    assert scores.aggregate("none").flatten().tolist() == alone
    assert type(scores.aggregate()) is torch.Tensor


def test_voxels_that_do_not_count_are_background_in_both():
    pred, target = _maps(items=1, channels=1)
    mask = torch.zeros(1, 1, 7, 8, 6)
    mask[..., :4] = 1
    options = {"threshold": 0.6, "spacing": EDGES}
    found = hausdorff_of(pred, target, mask=mask, **options)
    expected = hausdorff_of(pred * mask, target * mask, **options)
    assert torch.equal(found, expected)
    labels = torch.where(mask > 0, (target > 0.6).float(), 255)
    assert torch.equal(hausdorff_of(pred, labels, ignore_index=255, **options), expected)


@pytest.mark.parametrize(("metric", "options"), BOTH)
def test_metrics_run_in_monais_ignite_handler_from_a_bundle(metric, options):
    arguments = {**options, "threshold": 0.8, "spacing": list(EDGES)}
    name = "ThresholdedSurfaceDice" if options else "ThresholdedHausdorff"
    made = {"_target_": f"softoverlap.{name}", **arguments}
    config = {"_target_": "softoverlap.MeasureMetric", "measure": made}
    pred, target = _maps()
    engine = Engine(lambda engine, batch: {"pred": pred, "label": target})
    handler = IgniteMetricHandler(
        metric_fn=ConfigParser({"metric": config}).get_parsed_content("metric"),
        output_transform=from_engine(["pred", "label"]),
    )
    handler.attach(engine, name="found")
    engine.run([0], max_epochs=1)
    alone = pickle.loads(pickle.dumps(metric(**arguments)))
    alone(pred, target)
    assert engine.state.metrics["found"] == pytest.approx(alone.aggregate().item(), abs=1e-12)


@pytest.mark.bad_input
@pytest.mark.parametrize(("metric", "options"), BOTH)
def test_bad_input_is_named(metric, options):
    maps = torch.full((1, 1, 4, 4), 0.5)
    given = {**options, "threshold": 0.5, "spacing": 1.0}
    with pytest.raises(ValueError, match="y_pred must hold probabilities .* got values in"):
        metric(**given)(maps * 4, maps)
    with pytest.raises(ValueError, match="y_pred must have 2 or 3 spatial axes .* got 1"):
        metric(**given)(maps[0], maps[0])
    with pytest.raises(ValueError, match="spacing must be given in mm where no input"):
        metric(**options, threshold=0.5)(maps, maps)
    with pytest.raises(ValueError, match="mask must hold 0 or 1 .* got 0.5"):
        metric(**given)(maps, maps, mask=maps)
    for wrong in (0, 1.5, -1, math.nan):
        with pytest.raises(ValueError, match=r"threshold must lie in \(0, 1\], got"):
            metric(**{**given, "threshold": wrong})
        with pytest.raises(ValueError, match=r"target_threshold must lie in \(0, 1\], got"):
            metric(**given, target_threshold=wrong)
    with pytest.raises(ValueError, match="distance_metric must be one of .* got 'cosine'"):
        metric(**given, distance_metric="cosine")


@pytest.mark.bad_input
@pytest.mark.parametrize(("metric", "options"), BOTH)
@pytest.mark.parametrize("reduction", ["dataset", "dataset_batch"])
def test_there_is_no_surface_of_a_data_set(metric, options, reduction):
    given = {**options, "threshold": 0.5, "spacing": 1.0}
    with pytest.raises(ValueError, match=f"not formed from sums over items, got '{reduction}'"):
        metric(**given, reduction=reduction)
    late = metric(**given)
    late(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4))
    with pytest.raises(ValueError, match=f"not formed from sums over items, got '{reduction}'"):
        late.aggregate(reduction)


@pytest.mark.bad_input
def test_tolerances_and_percentiles_that_make_no_sense_are_named():
    maps, given = torch.ones(1, 1, 4, 4), {"threshold": 0.5, "spacing": 1.0}
    for wrong in (-1.0, [-1.0], [math.inf], math.nan):
        with pytest.raises(ValueError, match="tolerance must hold finite numbers"):
            surface_dice_of(maps, maps, tolerance=wrong, **given)
    for wrong in ("x", None, ["x"]):
        with pytest.raises(TypeError, match="tolerance must be a number, got"):
            surface_dice_of(maps, maps, tolerance=wrong, **given)
    with pytest.raises(ValueError, match="a number for each of 1 classes, got 2"):
        surface_dice_of(maps, maps, tolerance=[1.0, 1.0], **given)
    for wrong in (0, 101, -1, 0.95):
        with pytest.raises(ValueError, match=r"percentile must lie in \[1, 100\] or be None, got"):
            hausdorff_of(maps, maps, percentile=wrong, **given)
