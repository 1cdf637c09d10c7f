"""What holds for every metric: ranks, MONAI's handler, bundles, nothing collected."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from monai.handlers import IgniteMetricHandler
from monai.handlers.utils import write_metrics_reports

import softoverlap.for_monai
import softoverlap.measures
from tests.support.metric_makers import (
    EXTRA,
    ITEMS,
    METRICS,
    OF_BOXES,
    OF_MASKS,
    OF_RATERS,
    item_of,
)

MEASURES = [*OF_MASKS, *OF_RATERS]
WORKER = Path(__file__).parents[1] / "support" / "metrics_worker.py"


def alone(name, *more):
    metric = METRICS[name]()
    for number in (*range(ITEMS), *more):
        metric(*item_of(name, number))
    return metric.aggregate()


def test_every_metric_of_the_rooms_is_among_them():
    offered = [*softoverlap.measures.__all__, *softoverlap.for_monai.__all__]
    named = {name for name in offered if name.endswith("Metric")}
    assert named == {type(make()).__name__ for make in METRICS.values()}


@pytest.mark.parametrize("name", MEASURES)
def test_statistics_of_a_batch_are_those_of_its_items(name):
    measure = METRICS[name]().measure
    batch = [torch.stack(masks * 2) for masks in item_of(name, 0)]
    statistics = measure.statistics(*batch)
    assert statistics.dtype == torch.float64
    assert statistics.shape[2] == measure.width
    alone = measure.statistics(*(masks[:1] for masks in batch))
    torch.testing.assert_close(
        statistics, alone.repeat(2, 1, 1), rtol=0, atol=1e-12, equal_nan=True
    )
    score = measure(*batch)
    torch.testing.assert_close(score, measure.score(statistics), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("options", [{}, {"include_background": False}])
def test_labels_score_as_their_one_hot_maps(name, options):
    generator = torch.Generator().manual_seed(0)
    labels = [torch.randint(0, 3, (2, 1, 6, 7, 8), generator=generator) for _ in range(2)]
    if name in OF_RATERS:  # two samples or one prediction, three raters
        shape = (2, 2 if name == "GeneralisedEnergyDistance" else 1, 6, 7, 8)
        labels = [torch.randint(0, 3, shape, generator=generator), labels[1].repeat(1, 3, 1, 1, 1)]
        labels[1][:, 0, 0] = 1
    one_hot = [torch.stack([mask == label for label in range(3)], dim=2) for mask in labels]
    if name not in OF_RATERS:
        one_hot = [stack[:, 0] for stack in one_hot]
    elif name != "GeneralisedEnergyDistance":
        one_hot[0] = one_hot[0][:, 0]
    measure = dataclasses.replace(METRICS[name]().measure, **options)
    from_labels = dataclasses.replace(measure, num_classes=3)(*labels)
    if "class_axis" in vars(measure):
        measure = dataclasses.replace(measure, class_axis=True)
    for masks in (one_hot, [stack.double() for stack in one_hot]):
        expected = measure(*masks)
        torch.testing.assert_close(from_labels, expected, rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", [name for name in OF_MASKS if METRICS[name]().measure.adds_up])
def test_sums_of_items_are_those_of_the_data_set(name):
    metric = METRICS[name]()
    for number in range(ITEMS):
        metric(*item_of(name, number))
    total = metric.statistics().sum(dim=0)
    expected = metric.measure.score(total)
    torch.testing.assert_close(metric.aggregate("dataset_batch"), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_is_frozen_and_pickles(name):
    measure = METRICS[name]().measure
    assert repr(pickle.loads(pickle.dumps(measure))) == repr(measure)  # NaN is not NaN
    with pytest.raises(dataclasses.FrozenInstanceError):
        measure.validate = False


@pytest.mark.slow
@pytest.mark.parametrize("counts", [(3, 2), (5, 0), (0, 5)])
def test_two_ranks_equal_one_process_even_if_one_saw_nothing(counts, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    arguments = [str(WORKER), str(tmp_path), *map(str, counts)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    for rank in range(2):
        gathered = torch.load(tmp_path / f"{rank}.pt")
        assert len(gathered) == 3 * len(METRICS)
        for name in METRICS:
            for value, expected in (
                (gathered[name], alone(name)),
                (gathered[f"{name}, one more"], alone(name, EXTRA)),
                (gathered[f"{name}, of torchmetrics"], alone(name)),
            ):
                torch.testing.assert_close(value, expected, rtol=0, atol=1e-12, msg=name)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_runs_in_monais_ignite_handler(name):
    engine = Engine(lambda engine, number: item_of(name, number))
    handler = IgniteMetricHandler(metric_fn=METRICS[name](), output_transform=lambda pair: pair)
    handler.attach(engine, name="score")
    engine.run(list(range(ITEMS)), max_epochs=1)
    value = torch.as_tensor(engine.state.metrics["score"], dtype=torch.float64)
    torch.testing.assert_close(value, alone(name).reshape(value.shape), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_forgets_when_it_is_reset(name):
    metric = METRICS[name]()
    metric(*item_of(name, 1))
    metric.aggregate()
    metric.reset()
    for number in range(ITEMS):
        metric(*item_of(name, number))
    torch.testing.assert_close(metric.aggregate(), alone(name), rtol=0, atol=0)


@pytest.mark.parametrize("name", METRICS)
def test_monais_saver_writes_a_score_an_item(name, tmp_path):
    metric = METRICS[name]()
    scores = [metric(*item_of(name, number)) for number in range(ITEMS)]
    details = metric.get_buffer()
    assert details.shape[0] == ITEMS
    if name not in OF_BOXES:
        torch.testing.assert_close(details, torch.cat(scores), rtol=0, atol=0, equal_nan=True)
    write_metrics_reports(
        tmp_path, [f"{number}.nii" for number in range(ITEMS)], {}, {name: details}, None
    )
    lines = (tmp_path / f"{name}_raw.csv").read_text().splitlines()
    assert len(lines) == 1 + ITEMS


@pytest.mark.bad_input
@pytest.mark.parametrize("name", [*OF_MASKS, *OF_RATERS])
def test_calls_with_other_classes_than_before_are_named(name):
    metric = METRICS[name]()
    (pred,), (truth,) = item_of(name, 0)
    metric([pred], [truth])
    two = [pred.repeat(2, 1, 1, 1)], [truth.repeat(2, 1, 1, 1)]
    if name in OF_RATERS:  # samples and raters with an axis of classes
        if name != "RaterOverlap":
            metric.measure = dataclasses.replace(metric.measure, class_axis=True)
        two = [torch.stack([pred, pred], dim=1)], [torch.stack([truth, truth], dim=1)]
        two = (two[0], two[1]) if name == "GeneralisedEnergyDistance" else ([two[0][0][0]], two[1])
    with pytest.raises(ValueError, match="y_pred must have as many classes as before"):
        metric(*two)


@pytest.mark.bad_input
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_that_saw_nothing_says_so(name):
    with pytest.raises(ValueError, match="at least one scan" if name in OF_BOXES else "nothing"):
        METRICS[name]().aggregate()


@pytest.mark.bad_input
@pytest.mark.parametrize("name", [*OF_MASKS, *OF_RATERS])
def test_a_switch_of_a_measure_is_true_or_false(name):
    metric = METRICS[name]()
    switches = [field.name for field in dataclasses.fields(metric.measure) if "bool" in field.type]
    assert {"include_background", "validate"} <= set(switches)
    for switch in switches:
        with pytest.raises(TypeError, match=f"{switch} must be True or False, got 'no'"):
            dataclasses.replace(metric.measure, **{switch: "no"})
    with pytest.raises(TypeError, match="get_not_nans must be True or False, got 'no'"):
        softoverlap.for_monai.MeasureMetric(metric.measure, get_not_nans="no")


@pytest.mark.bad_input
@pytest.mark.parametrize("name", [n for n in softoverlap.for_monai.__all__ if n.endswith("Metric")])
def test_a_misspelt_argument_names_the_metric_that_was_called(name):
    with pytest.raises(TypeError, match=rf"^{name}(\.__init__)?\(\) got an unexpected .* 'typo'"):
        getattr(softoverlap.for_monai, name)(typo=1)


@pytest.mark.bad_input
@pytest.mark.parametrize("name", OF_BOXES)
def test_scans_of_other_axes_than_before_are_named(name):
    metric = METRICS[name]()
    for boxes in item_of(name, 0):
        assert boxes[0]["box"].shape[1] == 6
    metric(*item_of(name, 0))
    flat = [[scan | {"box": scan["box"][:, [0, 1, 3, 4]]} for scan in s] for s in item_of(name, 0)]
    with pytest.raises(ValueError, match="y must hold boxes of as many axes as before, 3, got 2"):
        metric(*flat)
    metric.reset()
    metric(*flat)
