"""What is drawn of a validation, scores of each class, and the scale of the losses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data.meta_tensor import MetaTensor

from softoverlap import compute_average_precision, compute_froc
from softoverlap.for_monai import (
    BoxAPMetric,
    ClassScores,
    CurveTable,
    FoundPictures,
    FROCMetric,
    ScalerState,
)
from softoverlap.images import read_table

BOXES = torch.tensor([[2.0, 4, 6, 4, 8, 12], [20, 20, 20, 24, 24, 24]])


def validation(items):
    """An engine that went over one batch of items with what was found in them."""
    engine = Engine(lambda engine, batch: None)
    engine.state.batch = [item for item, _ in items]
    engine.state.output = [output for _, output in items]
    return engine


def scan(name, scores, truth=BOXES):
    """Boxes on a grid of 1 mm; the image has voxels of 2 mm."""
    affine = torch.diag(torch.tensor([2.0, 2, 2, 1]))
    affine[:3, 3] = 0.5
    image = MetaTensor(torch.zeros(1, 16, 16, 16), affine=affine)
    image.meta["original_affine"] = torch.eye(4)
    found = {"boxes": BOXES[: len(scores)], "labels_scores": torch.tensor(scores)}
    return {"name": name, "image": image}, {"pred": found, "label": {"boxes": truth}}


def test_the_first_scans_are_drawn_on_the_grid_of_the_image(tmp_path):
    drawn = []
    pictures = FoundPictures(tmp_path / "new", lambda *given: drawn.append(given), scans=2, boxes=1)
    batch = validation([scan("a", [0.1, 0.7]), scan("b", [], BOXES[:0]), scan("c", [0.5])])
    pictures.add(batch)
    assert [given[0] for given in drawn] == [tmp_path / "new" / f"{name}.png" for name in "ab"]
    _, image, affine, truth, found, scores = drawn[0]
    assert image.shape == (16, 16, 16)
    assert affine[0, 0] == 2
    assert torch.allclose(truth, BOXES.double() / 2)
    assert torch.allclose(found, BOXES[1:].double() / 2)  # the surest
    assert scores.tolist() == pytest.approx([0.7])
    assert drawn[1][3].shape == drawn[1][4].shape == (0, 6)


def test_boxes_are_drawn_with_their_classes_where_there_are_several(tmp_path):
    told = []
    item, output = scan("a", [0.1, 0.7])
    output["pred"]["labels"], output["label"]["labels"] = torch.tensor([[1, 0], [0, 1]])
    for names in (["lesion"], ["edema", "core"]):
        pictures = FoundPictures(tmp_path, lambda *_, **more: told.append(more), names=names)
        pictures.add(validation([(item, output)]))
    assert told == [
        {},
        {
            "truth_classes": ["edema", "core"],
            "found_classes": ["edema", "core"],
        },  # the surest first
    ]


def test_tensorboard_gets_the_pictures_of_each_validation(tmp_path):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    pixels = np.zeros((4, 5, 3), dtype=np.uint8)
    pictures = FoundPictures(tmp_path, lambda *_: pixels, log_dir=tmp_path / "logs")
    items = [scan("a", [0.5])]

    def step(engine, batch):
        engine.state.batch, engine.state.output = [items[0][0]], None
        return [items[0][1]]

    engine = Engine(step)
    pictures.attach(engine)
    engine.run([0], max_epochs=2)
    logged = event_accumulator.EventAccumulator(str(tmp_path / "logs"))
    logged.Reload()
    assert [event.step for event in logged.Images("found/a")] == [1, 2]


def test_a_curve_is_drawn_after_each_validation_and_at_the_end(tmp_path):
    evaluator, drawn = Engine(lambda *_: None), []
    trainer = Engine(lambda *_: {"loss": 1.0})

    def validate(engine):
        if engine.state.epoch == 2:
            evaluator.state.epoch, evaluator.state.metrics = 2, {"val_cpm": 0.5}

    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    path = tmp_path / "curve.csv"
    table = CurveTable(path, evaluator, lambda path: drawn.append(path.read_text().count("\n")))
    table.attach(trainer)
    trainer.run([0], max_epochs=4)
    assert drawn == [3, 5]  # lines of the file, with its header


def test_a_curve_keeps_both_parts_of_an_epoch_that_time_broke_off(tmp_path):
    path = tmp_path / "curve.csv"
    path.write_text("epoch,step,learning_rate,loss,val_cpm\n1,3,,1.0,\n2,4,,2.0,0.5\n2,6,,9.0,\n")
    trainer = Engine(lambda *_: {"loss": 3.0})
    trainer.load_state_dict({"iteration": 4, "max_epochs": 2, "epoch_length": 3})
    CurveTable(path).attach(trainer)
    trainer.run([0, 1, 2])
    rows = [
        (row["epoch"], row["step"], row["loss"], row["val_cpm"]) for row in read_table(path).rows
    ]
    assert rows == [("1", "3", "1.0", ""), ("2", "4", "2.0", "0.5"), ("2", "6", "3.0", "")]


def test_each_class_has_its_scores():
    labels, scores = torch.tensor([0, 1]), torch.tensor([0.9, 0.8])
    targets = [{"box": BOXES, "label": labels}]
    found = [{"box": BOXES + torch.tensor([[0.0], [9.0]]), "label": labels, "label_scores": scores}]
    metrics = {"val_cpm": FROCMetric(per_class=True), "val_ap10": BoxAPMetric()}
    for metric in metrics.values():
        metric(found, targets)
    engine = Engine(lambda *_: None)
    ClassScores(metrics, ["edema", "core"]).attach(engine)
    froc = compute_froc(found, targets, per_class=True).per_class
    area = compute_average_precision(found, targets).per_class
    assert engine.run([0]).metrics == {
        "val_cpm_edema": froc[0].cpm, "val_cpm_core": froc[1].cpm,
        "val_ap10_edema": area[0], "val_ap10_core": area[1],
    }  # fmt: skip
    assert (froc[0].cpm, froc[1].cpm) == (1, 0)
    alone = Engine(lambda *_: None)
    ClassScores(metrics, ["lesion"]).attach(alone)
    assert alone.run([0]).metrics == {}


def test_a_resumed_run_goes_on_with_the_scale_of_the_losses():
    first, second, plain = (Engine(lambda *_: None) for _ in range(3))
    first.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    second.scaler = torch.amp.GradScaler("cpu")
    plain.scaler = None
    states = [ScalerState() for _ in range(3)]
    for state, engine in zip(states, (first, second, plain), strict=True):
        state.attach(engine)
    first.run([0])
    assert states[0].state_dict()["scale"] == 8
    for state, engine in zip(states[1:], (second, plain), strict=True):
        state.load_state_dict(states[0].state_dict())
        engine.run([0])
    assert second.scaler.get_scale() == 8
    assert ScalerState().state_dict() == {}
