"""The detector under MONAI's trainer and evaluator, without a bundle."""

from __future__ import annotations

from math import nan

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data.meta_tensor import MetaTensor
from monai.data.utils import decollate_batch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import IgniteMetricHandler, from_engine

from softoverlap.for_monai import (
    BestCheckpoint,
    BoxAPMetric,
    BoxesToOriginald,
    ClipGradients,
    DetectionLoss,
    DetectorInferer,
    FROCMetric,
    OutcomesMetric,
    PerItem,
    WarmupCosine,
    lesion_collate,
    lesion_target,
    prepare_lesion_batch,
)
from softoverlap.measures import BoxAR
from tests.support.detectors import batch, tiny_detector
from tests.support.lesion_makers import ball_lesion


def as_batch():
    images, targets = batch()
    keys = ("boxes", "labels", "lesions")
    return {"image": images, **{key: PerItem(t[key] for t in targets) for key in keys}}


def trainer_of(detector, **options):
    return SupervisedTrainer(
        device="cpu", max_epochs=1, train_data_loader=[as_batch()], network=detector,
        optimizer=torch.optim.SGD(detector.parameters(), lr=0.01), loss_function=DetectionLoss(),
        prepare_batch=prepare_lesion_batch, inferer=DetectorInferer(), **options,
    )  # fmt: skip


def test_a_step_of_the_trainer_is_that_of_a_loop():
    plain, detector = tiny_detector(), tiny_detector()
    images, targets = batch()
    losses = plain(images, targets)
    sum(losses.values()).backward()
    torch.optim.SGD(plain.parameters(), lr=0.01).step()
    trainer = trainer_of(detector)
    trainer.run()
    for after, expected in zip(detector.parameters(), plain.parameters(), strict=True):
        assert torch.equal(after, expected)
    items = trainer.state.output  # decollated
    assert len(items) == len(trainer.state.batch) == 2
    assert items[0]["loss"] == pytest.approx(sum(loss.item() for loss in losses.values()))
    assert items[0]["pred"] == {key: loss.item() for key, loss in losses.items()}
    assert torch.equal(items[0]["label"]["boxes"], targets[0]["boxes"])
    assert len(trainer.state.batch[0]["lesions"]) == 2


def test_clipped_gradients_are_no_longer_than_asked():
    detector = tiny_detector()
    trainer_of(detector, train_handlers=[ClipGradients(0.01)]).run()
    norm = torch.stack([p.grad.norm() for p in detector.parameters()]).norm()
    assert norm.item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize(
    ("scores", "kept"),
    [((0.2, 0.6, 0.6, 0.1), 3), ((nan, nan, nan), 3), ((nan, 0.0, nan), 2), ((0.0, 0.0, 0.0), 3)],
)
def test_the_best_weights_are_the_last_of_the_highest_score_and_nan_is_the_lowest(
    tmp_path, scores, kept
):
    network, engine = torch.nn.Linear(1, 1), Engine(lambda *_: None)
    best = BestCheckpoint(str(tmp_path), {"network": network})

    def validate():
        epoch = engine.state.epoch
        torch.nn.init.constant_(network.weight, epoch)
        engine.state.key_metric_name, engine.state.metrics = "cpm", {"cpm": scores[epoch - 1]}

    engine.add_event_handler(Events.EPOCH_COMPLETED, validate)
    best.attach(engine)
    engine.run([0], max_epochs=len(scores))
    weights = torch.load(tmp_path / "best.pt", weights_only=True)
    assert weights["weight"].item() == kept
    again = BestCheckpoint(str(tmp_path), {"network": network})
    again.load_state_dict(best.state_dict())
    assert again.state_dict() == best.state_dict()
    (tmp_path / "best.pt").unlink()  # as where a run goes on in another folder
    elsewhere = BestCheckpoint(str(tmp_path), {"network": network})
    elsewhere.load_state_dict(best.state_dict())
    assert elsewhere.state_dict() == {"_saved": []}


def test_the_evaluator_gives_what_the_metrics_give():
    detector = tiny_detector()
    detector.set_box_selector_parameters(score_thresh=0.0, detections_per_img=20)
    detector.set_sliding_window_inferer(16)
    images, targets = batch()
    metrics = {"cpm": FROCMetric(), "ap": BoxAPMetric(), "ar": OutcomesMetric(BoxAR())}
    handlers = {
        name: IgniteMetricHandler(metric, output_transform=from_engine(["pred", "label"]))
        for name, metric in metrics.items()
    }
    evaluator = SupervisedEvaluator(
        device="cpu", val_data_loader=[as_batch()], network=detector,
        prepare_batch=prepare_lesion_batch, inferer=DetectorInferer(),
        key_val_metric={"cpm": handlers.pop("cpm")}, additional_metrics=handlers,
    )  # fmt: skip
    evaluator.run()
    with torch.no_grad():
        found = detector.eval()(images, use_inferer=True)
    for metric in (FROCMetric(), BoxAPMetric(), OutcomesMetric(BoxAR())):
        metric(found, targets)
        name = {FROCMetric: "cpm", BoxAPMetric: "ap"}.get(type(metric), "ar")
        expected = pytest.approx(metric.aggregate().item(), nan_ok=True)
        assert evaluator.state.metrics[name] == expected
    assert evaluator.state.metric_details["cpm"].shape == (2, 1)


def test_images_of_several_sizes_stay_a_list():
    sizes = ((1, 16, 16, 16), (1, 16, 16, 24))
    items = [{"image": torch.zeros(size), **lesion_target([])} for size in sizes]
    images, targets, arguments, _ = prepare_lesion_batch(lesion_collate(items), torch.device("cpu"))
    assert [tuple(image.shape) for image in images] == list(sizes)
    assert arguments == (targets,)
    losses = DetectorInferer()(images, tiny_detector().train(), targets)
    one, other = (item["pred"] for item in decollate_batch({"pred": losses}))
    assert sorted(one) == sorted(other) == ["box_regression", "classification"]


def test_a_batch_without_boxes_or_with_too_few_is_refused():
    with pytest.raises(ValueError, match=r"must hold image, boxes and labels, got \['image'\]"):
        prepare_lesion_batch({"image": torch.zeros(1, 1, 8, 8)})
    batchdata = as_batch()
    with pytest.raises(ValueError, match=r"one of each for 2 images, got {'boxes': 1}"):
        prepare_lesion_batch({**batchdata, "boxes": batchdata["boxes"][:1]})


def test_losses_that_are_not_finite_stop_the_training():
    with pytest.raises(ValueError, match="must give finite losses"):
        DetectionLoss()({"classification": torch.tensor(float("nan"))})
    with pytest.raises(ValueError, match="weights must name losses among"):
        DetectionLoss({"mask": 1.0})({"classification": torch.tensor(1.0)})


def test_boxes_come_back_from_a_reoriented_and_resampled_grid():
    from monai.transforms import Orientation, Spacing

    lesion = ball_lesion(6, [5, 9, 2])
    affine = torch.diag(torch.tensor([-1.0, 2.0, 1.5, 1.0], dtype=torch.float64))
    meta = {"original_affine": affine, "spatial_shape": torch.tensor([24, 20, 16])}
    mask = torch.zeros(1, 24, 20, 16)
    low, high = lesion.box.int().tolist()[:3], lesion.box.int().tolist()[3:]
    mask[0, low[0] : high[0], low[1] : high[1], low[2] : high[2]] = 1
    image = MetaTensor(mask, affine=affine, meta=meta)
    moved = Spacing((0.5, 1.0, 0.75), mode="nearest")(Orientation("SRA")(image))
    inside = (moved[0] > 0.5).nonzero()
    box = torch.cat([inside.amin(0), inside.amax(0) + 1]).float()[None]
    back = BoxesToOriginald()({"image": moved, "pred": {"boxes": box}})["pred"]["boxes"]
    assert (back[0] - lesion.box).abs().max() <= 0.5


def test_time_ends_a_run_and_the_log_says_where(caplog):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = WarmupCosine(optimizer, minutes=1.0)
    schedule.load_state_dict({"seconds": 59.99999})
    engine, ended = Engine(lambda *_: None), []
    schedule.attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: ended.append(engine.state.epoch))
    with caplog.at_level("WARNING"):
        engine.run([0] * 100_000, max_epochs=2)
    assert engine.state.iteration < 100_000
    assert ended == [1]  # so that validation, curves and checkpoints have their turn
    assert f"stopped by minutes=1 at {engine.state.iteration} of 200000 steps" in caplog.text
    assert optimizer.param_groups[0]["lr"] < 0.01
