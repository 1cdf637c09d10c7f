"""Hit criteria by name: overlaps of boxes, of masks and boxes, relative ones, and the centre."""

import inspect
import itertools
import math
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler

from softoverlap import overlaps
from softoverlap.for_monai import BoxAPMetric, FROCMetric, OutcomesMetric
from softoverlap.measures import (
    CRITERION_NOTES,
    HIT_CRITERIA,
    BoxAP,
    BoxAR,
    BoxFROC,
    Hit,
    ScoreExistence,
    any_voxel,
    centre_in_mask,
    centre_within_radius,
    compute_average_precision,
    compute_average_recall,
    compute_froc,
    compute_score_existence_correlation,
    match_scan,
)
from softoverlap.measures.hit import hit_of
from tests.support.box_cohorts import cube, found, lesions
from tests.support.lesion_makers import ball_lesion, lesion_from_crop
from tests.support.reference import (
    reference_box_dice,
    reference_box_giou,
    reference_box_iof,
    reference_box_iou,
    reference_mass,
)
from tests.support.reference_detection import reference_froc

SHAPE = (14, 13, 12)


def soft_scan(seed=0):
    """Three soft balls in an image, and boxes around them, on fractions of voxels."""
    generator = torch.Generator().manual_seed(seed)
    records = [ball_lesion(side, [3 * k, k, 2]) for k, side in enumerate((4, 5, 6))]
    boxes = torch.stack([record.box for record in records]).repeat(3, 1).double()
    boxes += torch.rand(boxes.shape, generator=generator, dtype=torch.float64) * 2 - 1
    target = {
        "box": torch.stack([record.box for record in records]),
        "label": torch.zeros(3, dtype=torch.long),
        "lesions": records,
        "spacing": (1.0, 1.0, 1.0),
    }
    prediction = {
        "box": boxes,
        "label": torch.zeros(9, dtype=torch.long),
        "label_scores": torch.rand(9, generator=generator),
    }
    return prediction, target


def whole_masks(target):
    masks = torch.zeros(len(target["lesions"]), *SHAPE)
    for mask, record in zip(masks, target["lesions"], strict=True):
        window = itertools.starmap(
            lambda start, side: slice(start, start + side),
            zip(record.offset.tolist(), record.crop.shape, strict=True),
        )
        mask[tuple(window)] = record.crop
    return masks


REFERENCES = {
    "box_iou": reference_box_iou,
    "box_dice": reference_box_dice,
    "box_giou": reference_box_giou,
    "box_iof": reference_box_iof,
}


@pytest.mark.parametrize("name", REFERENCES)
def test_a_box_overlap_by_name_scores_the_found_box_against_the_lesions_box(name):
    prediction, target = soft_scan()
    quality = hit_of(name).quality(prediction["box"], target)
    assert quality.shape == (3, 9)
    for lesion, box in itertools.product(range(3), range(9)):
        expected = REFERENCES[name](
            prediction["box"][box].tolist(), target["box"][lesion].double().tolist()
        )
        assert quality[lesion, box].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["mask_box_dice", "mask_box_iou", "mask_box_tversky"])
def test_a_mask_overlap_by_name_scores_the_found_box_against_the_soft_mask(name):
    prediction, target = soft_scan()
    quality = hit_of(name).quality(prediction["box"], target)
    masks = whole_masks(target).double().numpy()
    for lesion, box in itertools.product(range(3), range(9)):
        expected = reference_ratio(name, masks[lesion], prediction["box"][box].numpy())
        assert quality[lesion, box].item() == pytest.approx(expected, abs=1e-12)


def reference_ratio(name, mask, box):
    mass, size = reference_mass(mask, box), mask.sum()
    volume = np.prod(box[3:] - box[:3])
    if name == "mask_box_dice":
        return 2 * mass / (size + volume)
    if name == "mask_box_iou":
        return mass / (size + volume - mass)
    return mass / (0.5 * size + 0.5 * volume)


@pytest.mark.parametrize("name", [name for name in HIT_CRITERIA if "mask" in name])
def test_lesions_and_whole_masks_are_judged_alike(name):
    prediction, target = soft_scan()
    by_masks = {"box": target["box"], "label": target["label"], "masks": whole_masks(target)}
    quality = hit_of(name).quality(prediction["box"], target)
    assert quality.shape == (3, 9)
    other = hit_of(name).quality(prediction["box"], by_masks)
    assert other.double() == pytest.approx(quality.double(), abs=1e-6)


@pytest.mark.parametrize("ratio", ["dice", "iou", "tversky"])
def test_a_relative_overlap_is_one_for_the_best_box_there_is(ratio):
    """All boxes on voxel edges are tried: one of them is a best one."""
    record = lesion_from_crop(torch.rand(3, 4, generator=torch.Generator().manual_seed(2)), [2, 1])
    intervals = [
        [
            (low, high)
            for low in range(first, first + side)
            for high in range(low + 1, first + side + 1)
        ]
        for first, side in ((2, 3), (1, 4))
    ]
    boxes = torch.tensor(
        [[a[0], b[0], a[1], b[1]] for a, b in itertools.product(*intervals)], dtype=torch.float64
    )
    target = {"box": record.box[None], "label": torch.zeros(1), "lesions": [record]}
    relative = hit_of(f"relative_mask_box_{ratio}").quality(boxes, target)
    plain = hit_of(f"mask_box_{ratio}").quality(boxes, target)
    assert relative.max().item() == pytest.approx(1, abs=1e-12)
    assert torch.allclose(relative, plain / plain.max(), atol=1e-12)


def test_a_relative_overlap_lets_the_best_box_of_a_faint_lesion_hit():
    record = lesion_from_crop(torch.full((4, 4, 4), 0.25), [0, 0, 0])
    target = {**lesions([cube(0)]), "lesions": [record]}
    prediction = found([cube(0)], [0.9])
    options = {"threshold": 0.9, "fp_rates": [8.0]}
    assert compute_froc([prediction], [target], hit="mask_box_dice", **options).cpm == 0
    assert compute_froc([prediction], [target], hit="relative_mask_box_dice", **options).cpm == 1


def test_the_centre_reads_the_probability_of_its_voxel():
    mask = torch.tensor([[0.0, 0.25, 0.5, 1.0]])
    target = {"box": torch.tensor([[1.0, 4.0]]), "label": torch.zeros(1), "masks": mask}
    boxes = torch.tensor([[0.0, 2.0], [0.5, 1.0], [2.0, 4.0], [3.5, 4.5], [2.0, 2.0], [-9, 3]])
    quality = hit_of("centre_in_mask").quality(boxes, target)
    assert quality.tolist() == [[0.25, 0.0, 1.0, 0.0, 0.5, 0.0]]
    record = lesion_from_crop(mask[0, 1:], [1])
    target = {"box": record.box[None], "label": torch.zeros(1), "lesions": [record]}
    assert torch.equal(hit_of("centre_in_mask").quality(boxes, target), quality)


def test_the_centre_hits_at_the_threshold_in_the_masks_own_precision():
    target = {**lesions([cube(0)]), "masks": torch.full((1, 4, 4, 4), 0.7)}
    for threshold, expected in ((0.7, 1), (0.71, 0)):
        froc = compute_froc(
            [found([cube(0)], [0.9])], [target], hit="centre_in_mask", threshold=threshold
        )
        assert froc.cpm == expected
    hard = {**target, "masks": torch.ones(1, 4, 4, 4, dtype=torch.uint8)}
    assert compute_froc([found([cube(0)], [0.9])], [hard], hit="centre_in_mask").cpm == 1


@pytest.mark.parametrize("name", [name for name in HIT_CRITERIA if hasattr(overlaps, name)])
def test_the_function_itself_is_its_name(name):
    prediction, target = soft_scan()
    by_name = hit_of(name).quality(prediction["box"], target)
    assert torch.equal(hit_of(getattr(overlaps, name)).quality(prediction["box"], target), by_name)


def test_a_partial_of_our_functions_keeps_its_options():
    prediction, target = soft_scan()
    hit = partial(overlaps.mask_box_tversky, alpha=0.2, beta=0.8)
    quality = hit_of(hit).quality(prediction["box"], target)
    expected = overlaps.mask_box_tversky(target["lesions"], prediction["box"], alpha=0.2, beta=0.8)
    assert torch.equal(quality, expected)


@pytest.mark.parametrize(
    ("name", "threshold"), [("mask_box_dice", 0.6), ("mask_box_iou", 0.4), ("mask_box_iou", 0.5)]
)
def test_froc_by_a_mask_overlap_equals_the_brute_force(name, threshold):
    scans = [soft_scan(seed) for seed in range(4)]
    predictions, targets = [list(side) for side in zip(*scans, strict=True)]
    masks = whole_masks(targets[0]).double().numpy()
    boxes = [prediction["box"].numpy() for prediction in predictions]
    kept = {
        (scan, box, lesion): reference_ratio(name, masks[lesion], boxes[scan][box])
        for scan, box, lesion in itertools.product(range(4), range(9), range(3))
    }
    options = {"threshold": threshold, "rates": [0.25, 0.5, 1.0, 2.0]}
    expected = reference_froc(
        predictions, targets, **options, overlap=lambda scan, box, lesion: kept[scan, box, lesion]
    )
    froc = compute_froc(
        predictions, targets, hit=name, threshold=threshold, fp_rates=options["rates"]
    )
    assert froc.sensitivity == pytest.approx(expected, abs=1e-12)
    assert 0 < froc.cpm < 1


MEASURES = {
    BoxFROC: (compute_froc, "cpm"),
    BoxAP: (compute_average_precision, "mean"),
    BoxAR: (compute_average_recall, "mean"),
    ScoreExistence: (compute_score_existence_correlation, "spearman"),
}
METRICS = {BoxFROC: FROCMetric, BoxAP: BoxAPMetric}


@pytest.mark.parametrize("measure", MEASURES)
def test_metrics_are_built_from_plain_strings_in_a_bundle(measure):
    options = {"hit": "mask_box_dice", "thresholds": "nndetection"}
    if measure in (BoxFROC, ScoreExistence):
        options = {"hit": "relative_mask_box_dice", "threshold": 0.5}
    room = OutcomesMetric.__module__
    inner = {"_target_": f"softoverlap.measures.{measure.__name__}", **options}
    configs = [{"_target_": f"{room}.OutcomesMetric", "measure": inner}]
    if measure in METRICS:
        configs.append({"_target_": f"{room}.{METRICS[measure].__name__}", **options})
    prediction, target = soft_scan()
    target["existence"] = torch.tensor([0.2, 0.6, 1.0])
    function, value = MEASURES[measure]
    result = function([prediction], [target], **options)
    for config in configs:
        built = ConfigParser({"key": config}).get_parsed_content("key")
        built([prediction], [target])
        assert built.aggregate().item() == getattr(result, value)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_measure_its_function_and_its_metric_take_the_same_options(measure):
    function, _ = MEASURES[measure]
    options = inspect.signature(measure).parameters
    taken = list(inspect.signature(function).parameters.values())[2:]
    of_scans = {"patients"}  # no setting: the scans' own, as predictions and targets are
    assert {one.name: one.default for one in taken if one.name not in of_scans} == {
        name: one.default for name, one in options.items()
    }
    if measure in METRICS:
        assert inspect.signature(METRICS[measure]).parameters == options


@pytest.mark.parametrize("measure", MEASURES)
def test_metrics_run_in_a_monai_handler_on_meta_tensors(measure):
    scans = [soft_scan(seed) for seed in range(2)]
    nothing = {"box": torch.zeros(0, 6), "label": torch.zeros(0)}
    scans.append(({**nothing, "label_scores": torch.zeros(0)}, nothing))
    for prediction, target in scans[:2]:
        prediction["box"], target["box"] = MetaTensor(prediction["box"]), MetaTensor(target["box"])
        target["existence"] = MetaTensor(torch.tensor([0.2, 0.6, 1.0]))
    engine = Engine(lambda _, batch: batch)
    IgniteMetricHandler(metric_fn=OutcomesMetric(measure())).attach(engine, "key")
    engine.run([([prediction], [target]) for prediction, target in scans])
    direct = OutcomesMetric(measure())
    direct(*[list(side) for side in zip(*scans, strict=True)])
    assert engine.state.metrics["key"] == direct.aggregate().item()
    assert type(direct.aggregate()) is torch.Tensor
    direct.reset()
    with pytest.raises(ValueError, match="at least one scan"):
        direct.aggregate()


def test_a_centre_hits_within_the_radius_but_at_least_within_2_mm():
    small, large = [0.0, 0, 0, 1, 1, 1], [20.0, 20, 20, 32, 24, 28]  # 1 and 32/3 mm on average
    target = {
        "box": torch.tensor([small, large]), "label": torch.zeros(2), "spacing": (1.0, 1.0, 2.0)
    }  # fmt: skip
    limits = (2.0, (12 + 4 + 16) / 3 / 2)
    for row, limit in enumerate(limits):
        for factor, hits in ((0.0, True), (0.999, True), (1.001, False)):
            box = target["box"][row].double()
            moved = (
                box + torch.tensor([0, 0, 1, 0, 0, 1]).double() * factor * limit / 2
            )  # 2 mm a voxel
            score = centre_within_radius(moved[None], target)[row, 0].item()
            assert score == pytest.approx(1 / (1 + factor), abs=1e-12)
            found_box = {
                "box": moved[None], "label": torch.zeros(1), "label_scores": torch.ones(1)
            }  # fmt: skip
            outcomes = match_scan(found_box, target, hit="centre_within_radius")
            assert outcomes.box_of_lesion[row] == (0 if hits else None)
    cubes = {**target, "spacing": 1.0}
    assert centre_within_radius(target["box"], {**target, "spacing": torch.ones(3)}).shape == (2, 2)
    with pytest.raises(ValueError, match="must hold 'spacing' of 3 edges"):
        centre_within_radius(target["box"], cubes)
    with pytest.raises(ValueError, match="must be above 0"):
        centre_within_radius(target["box"], {**target, "spacing": (1.0, 0.0, 1.0)})
    with pytest.raises(ValueError, match="must hold 'spacing', the edges of a voxel in mm"):
        centre_within_radius(target["box"], lesions([small]))


def test_each_criterion_has_its_own_threshold_unless_one_is_given():
    for name in HIT_CRITERIA:
        assert hit_of(name).threshold == (0.5 if name == "centre_within_radius" else 0.1)
        assert hit_of(name, 0.3).threshold == 0.3
    assert Hit(centre_within_radius).threshold == 0.5
    assert Hit() == Hit(overlaps.box_iou, 0.1)


def test_every_criterion_has_a_word_on_who_uses_it():
    assert set(CRITERION_NOTES) == {*HIT_CRITERIA, "any_voxel"}


def test_a_hit_that_nothing_could_reach_is_refused():
    for criterion in (any_voxel, centre_in_mask, centre_within_radius):
        for threshold in (0.0, 2.0):
            with pytest.raises(ValueError, match=r"threshold must be a score in \(0, 1\]"):
                Hit(criterion, threshold)
    with pytest.raises(ValueError, match="hit must be one of boxes, .* got any_voxel"):
        match_scan(*soft_scan(), hit=Hit(any_voxel, 1.0))


def test_a_threshold_beside_several_is_refused():
    with pytest.raises(ValueError, match="threshold must be None where thresholds are given"):
        compute_average_precision(
            *([scan] for scan in soft_scan()), threshold=0.5, thresholds="coco"
        )


def test_of_lesions_that_a_box_hits_equally_well_it_takes_the_nearer():
    inner = [1, 1, 1, 3, 3, 3]
    truth = lesions([cube(0), inner])
    outcomes = match_scan(found([inner, cube(0)], [0.9, 0.8]), truth, hit="box_iof")
    assert outcomes.lesion.flatten().tolist() == [1, 0]


def test_inputs_are_left_as_they_are():
    prediction, target = soft_scan()
    before = prediction["box"].clone(), target["lesions"][0].crop.clone()
    for name in HIT_CRITERIA:
        match_scan(prediction, target, hit=name, threshold=0.5)
    assert torch.equal(prediction["box"], before[0])
    assert torch.equal(target["lesions"][0].crop, before[1])


def test_wrong_names_and_thresholds_are_named():
    prediction, target = soft_scan()
    for options, words in (
        ({"hit": "dice"}, "hit must be one of .*box_iou.*, got 'dice'"),
        ({"hit": "mask_box_dice", "threshold": 0.0}, r"threshold must be a score in \(0, 1\]"),
        ({"hit": "box_giou", "threshold": 1.5}, "threshold must be at most 1 for box_giou"),
        ({"hit": "box_giou", "threshold": math.inf}, "threshold must be a finite number"),
    ):
        with pytest.raises(ValueError, match=words):
            match_scan(prediction, target, **options)
        with pytest.raises(ValueError, match=words):
            FROCMetric(**options)
    assert match_scan(prediction, target, hit="box_giou", threshold=-0.5).outcome.max() == 1


@pytest.mark.bad_input
def test_what_a_criterion_misses_in_the_target_is_named():
    prediction, target = soft_scan()
    plain = {"box": target["box"], "label": target["label"]}
    for change, error, words in (
        ({}, ValueError, "targets must hold 'lesions', a list of Lesion, or 'masks'"),
        ({"lesions": target["lesions"][:2]}, ValueError, "for each of 3 boxes, got 2"),
        ({"lesions": [1, 2, 3]}, TypeError, r"target\['lesions'\] must hold Lesion, got int"),
        ({"masks": torch.ones(2, *SHAPE)}, ValueError, "one mask for each of 3 boxes, got 2"),
        ({"masks": torch.ones(3, 4, 4)}, ValueError, "masks with 3 axes, got 2"),
        ({"masks": torch.full((3, *SHAPE), 2.0)}, ValueError, r"probabilities in \[0, 1\]"),
        ({"masks": [1, 2, 3]}, TypeError, "masks must be a torch.Tensor, got list"),
    ):
        with pytest.raises(error, match=words):
            match_scan(prediction, {**plain, **change}, hit="centre_in_mask")
    with pytest.raises(TypeError, match="hit must be a name or a callable, got float"):
        FROCMetric(hit=0.5)
    with pytest.raises(TypeError, match="overlap must be an overlap or a callable, got 0.5"):
        Hit(0.5)


def test_a_hit_is_the_name_the_overlap_and_the_threshold_in_one():
    prediction, target = soft_scan()
    for hit, name in (
        (Hit(), "box_iou"),
        (Hit(overlaps.mask_box_dice, 0.4), "mask_box_dice"),
        (Hit(overlaps.mask_box_iou, 0.4, relative=True), "relative_mask_box_iou"),
        (Hit(centre_in_mask, 0.5), "centre_in_mask"),
    ):
        assert hit_of(name, hit.threshold) == hit
        for function in (compute_froc, compute_average_precision):
            scans = [prediction], [target]
            by_name = function(*scans, hit=name, threshold=hit.threshold)
            assert repr(function(*scans, hit=hit)) == repr(by_name)
        several = compute_average_precision(*scans, hit=hit, thresholds=(0.3, 0.6))
        by_name = compute_average_precision(*scans, hit=name, thresholds=(0.3, 0.6))
        assert several == by_name
    assert pickle.loads(pickle.dumps(Hit(overlaps.mask_box_dice, 0.4))).threshold == 0.4


@pytest.mark.bad_input
def test_a_hit_that_says_its_threshold_takes_no_other():
    prediction, target = soft_scan()
    with pytest.raises(ValueError, match="threshold must be None where hit is a Hit, got 0.3"):
        match_scan(prediction, target, hit=Hit(), threshold=0.3)
    with pytest.raises(ValueError, match=r"threshold must be a score in \(0, 1\], got 2"):
        Hit(overlaps.mask_box_dice, 2)
    with pytest.raises(ValueError, match="overlap must be one of .*mask_box_dice.* to be relative"):
        Hit(overlaps.box_iou, relative=True)
