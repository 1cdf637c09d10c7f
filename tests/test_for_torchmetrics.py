"""Any measure as a metric of torchmetrics: equal to MONAI's, alone and in a collection.

Over ranks too: `tests/measures/test_every_metric.py`, where both gather in the same processes.
"""

from __future__ import annotations

import importlib
import io
import pickle
import sys

import pytest
import torch
import torchmetrics

from softoverlap import Brier, ExpectedDice, SoftDice, SoftIoU, ThresholdedDice
from softoverlap.for_torchmetrics import MeasureMetric, OutcomesMetric
from softoverlap.measures import BoxAP
from tests.support.metric_makers import ITEMS, METRICS, OF_BOXES, OF_MASKS, OF_RATERS
from tests.support.torch_metrics import batch_of, metric_of


def ours(name):
    """The value that MONAI's metric of the same measure gives."""
    metric = METRICS[name]()
    for number in range(ITEMS):
        metric(*(list(batch) for batch in batch_of(name, number)))
    return metric.aggregate().squeeze()


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_gives_what_monais_gives_also_copied_pickled_and_after_a_reset(name):
    metric, expected = metric_of(name), ours(name)
    metric.update(*batch_of(name, 1))
    metric.reset()
    for number in range(2):
        metric.update(*batch_of(name, number))
    for other in (metric, metric.clone(), pickle.loads(pickle.dumps(metric))):
        for number in range(2, ITEMS):
            other.update(*batch_of(name, number))
        found = other.compute()
        assert found.dtype == torch.float64
        close(found, expected)


@pytest.mark.parametrize("name", METRICS)
def test_a_call_gives_the_value_of_the_batch_and_keeps_it(name):
    metric, alone = metric_of(name), metric_of(name)
    alone.update(*batch_of(name, ITEMS - 1))
    for number in range(ITEMS):
        value = metric(*batch_of(name, number))
    close(value, alone.compute())
    close(metric.compute(), ours(name))


@pytest.mark.parametrize("name", ["SoftDice", "froc"])
def test_a_saved_state_goes_on_where_it_was_left(name):
    metric, again = metric_of(name), metric_of(name)
    assert not metric.state_dict()  # as torchmetrics has it, unless it is asked to
    metric.persistent(True)
    for number in range(3):
        metric.update(*batch_of(name, number))
    file = io.BytesIO()
    torch.save(metric.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file))
    for number in range(3, ITEMS):
        again.update(*batch_of(name, number))
    close(again.compute(), ours(name))


def test_a_collection_keeps_measures_apart_whose_first_batch_is_alike():
    """torchmetrics then updates one of them alone, and gives its value for both."""
    measures = {
        f"at_{round(100 * level)}": ThresholdedDice(thresholds=[level]) for level in (0.3, 0.7)
    }
    collection = torchmetrics.MetricCollection(
        {name: MeasureMetric(measure) for name, measure in measures.items()}
    )
    hard, soft = torch.tensor([[[1.0, 1.0, 0.0]]]), torch.tensor([[[1.0, 0.5, 0.2]]])
    for batch in (hard, soft):
        collection.update(batch, hard)
    for name, value in collection.compute().items():
        scores = [measures[name](batch, hard).mean() for batch in (hard, soft)]
        close(value, torch.stack(scores).mean())


def test_masks_of_what_counts_go_to_every_measure_of_a_collection():
    pred, target = torch.rand(2, 2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 1, 4, 4)
    mask[..., 2:] = 0
    measures = {"dice": SoftDice(), "brier": Brier(margin=None)}
    collection = torchmetrics.MetricCollection({n: MeasureMetric(m) for n, m in measures.items()})
    found = collection(pred, target, mask=mask)
    for name, measure in measures.items():
        close(found[name], measure(pred, target, mask=mask).mean())


def test_a_score_for_each_class_gets_its_name_by_torchmetrics_wrapper():
    pred, target = torch.rand(2, 3, 2, 8, generator=torch.Generator().manual_seed(1))
    metric = MeasureMetric(SoftIoU(), reduction="dataset_batch")
    named = torchmetrics.ClasswiseWrapper(metric, labels=["core", "edema"], prefix="iou_")
    named.update(pred, target)
    assert set(named.compute()) == {"iou_core", "iou_edema"}


def test_half_precision_of_a_module_leaves_what_is_kept_as_it_is():
    """Lightning makes the whole module of its metric half or bfloat16."""
    module = torch.nn.ModuleDict({"dice": metric_of("SoftDice")})
    for number in range(2):
        module["dice"].update(*batch_of("SoftDice", number))
    before = module["dice"].compute()
    module.half().to("cpu").bfloat16()
    module["dice"].update(*batch_of("SoftDice", 2))
    module["dice"].reset()
    for number in range(2):
        module["dice"].update(*batch_of("SoftDice", number))
    close(module["dice"].compute(), before)


def test_a_call_keeps_no_graph_of_the_network():
    metric = MeasureMetric(SoftDice())
    metric(torch.rand(1, 1, 4).requires_grad_(), torch.ones(1, 1, 4))
    assert not any(rows.requires_grad for rows in metric.rows)


@pytest.mark.bad_input
@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
@pytest.mark.parametrize("name", ["SoftDice", "froc"])
def test_a_metric_that_saw_nothing_says_so(name):
    with pytest.raises(ValueError, match=r"nothing was collected: call update\(\)"):
        metric_of(name).compute()


@pytest.mark.bad_input
@pytest.mark.parametrize("name", [*OF_MASKS, *OF_RATERS])
def test_what_is_no_measure_of_boxes_is_refused(name):
    measure = METRICS[name]().measure
    with pytest.raises(TypeError, match="measure must be a measure of boxes such as BoxAP"):
        OutcomesMetric(measure)


@pytest.mark.bad_input
def test_what_is_no_measure_and_what_a_measure_has_not_is_refused():
    with pytest.raises(TypeError, match="measure must be a measure such as SoftDice"):
        MeasureMetric(BoxAP())
    with pytest.raises(ValueError, match="reduction must not be one of .*'dataset'"):
        MeasureMetric(ExpectedDice(), reduction="dataset")
    with pytest.raises(ValueError, match="reduction must be one of .* got 'typo'"):
        MeasureMetric(SoftDice(), reduction="typo")


@pytest.mark.bad_input
def test_updates_of_other_classes_are_refused():
    metric = MeasureMetric(SoftDice())
    for classes in (1, 2):
        metric.update(torch.ones(1, classes, 4), torch.ones(1, classes, 4))
    with pytest.raises(ValueError, match="preds must have as many classes.* in every update"):
        metric.compute()


@pytest.mark.bad_input
def test_without_torchmetrics_the_room_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.delitem(sys.modules, "softoverlap.for_torchmetrics")
    with pytest.raises(ModuleNotFoundError, match="pip install torchmetrics"):
        importlib.import_module("softoverlap.for_torchmetrics")


def test_every_metric_of_boxes_is_among_them():
    assert {type(metric_of(name)).__name__ for name in OF_BOXES} == {"OutcomesMetric"}
