"""The bundle trains, judges and detects on tiny scans, alone and under torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from monai.utils import set_determinism

from softoverlap.app.train import detect, fresh_detector, load_checkpoint
from softoverlap.for_monai import LoadLesionCased, lesion_cases
from softoverlap.for_monai.detector.targets import centred_in
from softoverlap.images import (
    find_cases,
    load_image,
    read_boxes,
    read_splits,
    read_table,
    save_nifti,
)
from tests.support.bundle_runs import (
    CONFIGS,
    TINY,
    curve,
    files_of,
    run_bundle,
    sides,
    tiny_scans,
    weights_in,
)
from tests.support.data_sets import NAMES, label_map, nnunet

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return tiny_scans(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def trained(scans, tmp_path_factory):
    """The folder of a run of two epochs on three scans, with one to validate on."""
    folder = tmp_path_factory.mktemp("run")
    run_bundle(
        "train.yaml", data_dir=str(scans), output_dir=str(folder), max_epochs=2, val_interval=1,
        workers=1, pictures=3, **{"train#saver#n_saved": 9},
    )  # fmt: skip
    return folder


def test_two_epochs_leave_curve_checkpoints_and_metrics(trained):
    rows = curve(trained)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for row in rows:
        assert float(row["loss"]) == pytest.approx(
            float(row["classification"]) + float(row["box_regression"]), abs=1e-5
        )
        assert 0 <= float(row["val_cpm"]) <= 1
    names = {path.name for path in trained.iterdir()}
    assert {"last.pt", "best.pt", "checkpoint_epoch=1.pt", "checkpoint_epoch=2.pt"} <= names
    assert len((trained / "validation" / "val_cpm_raw.csv").read_text().splitlines()) == 2
    assert "curve.png" in names
    assert "failed.csv" not in names
    (fold,) = read_splits(trained / "splits_final.json")
    pictures = {path.name for path in (trained / "pictures").iterdir()}
    assert pictures == {f"{name}.png" for name in fold.validation}


def test_a_run_resumed_at_an_epoch_ends_with_the_weights_of_the_uninterrupted_one(
    scans, trained, tmp_path
):
    run_bundle(
        "train.yaml", data_dir=str(scans), output_dir=str(tmp_path), max_epochs=2, val_interval=1,
        workers=1, resume=str(trained / "checkpoint_epoch=1.pt"),
    )  # fmt: skip
    assert torch.equal(weights_in(tmp_path / "last.pt"), weights_in(trained / "last.pt"))
    first = weights_in(trained / "checkpoint_epoch=1.pt")
    assert not torch.equal(first, weights_in(trained / "last.pt"))
    assert [row["epoch"] for row in curve(tmp_path)] == ["2"]
    counts = [
        torch.load(folder / "last.pt", weights_only=True)["early_stop"]["counter"]
        for folder in (trained, tmp_path)
    ]
    assert counts == [1, 1]  # the first validation of two was the best


def test_a_run_that_time_ends_validates_keeps_its_best_and_goes_on(scans, tmp_path):
    settings = {"data_dir": str(scans), "output_dir": str(tmp_path)}
    settings |= {"batch_size": 1, "patches_per_scan": 1, "max_epochs": 2, "val_interval": 5}
    workflow = run_bundle("train.yaml", minutes=1e-4, **settings)
    assert workflow.trainer.state.iteration < workflow.trainer.state.epoch_length == 3
    (row,) = curve(tmp_path)
    assert float(row["val_cpm"]) >= 0
    assert (tmp_path / "best.pt").is_file()
    run_bundle("train.yaml", resume=str(tmp_path / "checkpoint_epoch=1.pt"), **settings)
    rows = [(row["epoch"], row["step"], bool(row["val_cpm"])) for row in curve(tmp_path)]
    broken = (row["epoch"], row["step"], True)  # whose weights may be the best
    assert rows == [broken, ("1", "3", False), ("2", "6", True)]


def test_a_checkpoint_is_judged_as_in_its_training(scans, trained):
    workflow = run_bundle(
        "train.yaml", "evaluate.yaml", data_dir=str(scans), output_dir=str(trained),
        checkpoint=str(trained / "last.pt"), split_seed=9,
    )  # fmt: skip
    metrics = workflow.evaluator.state.metrics
    assert metrics["val_cpm"] == pytest.approx(float(curve(trained)[-1]["val_cpm"]), abs=1e-12)
    (fold,) = read_splits(trained / "splits_final.json", find_cases(scans).cases)
    written = [path.name for path in (trained / "evaluation" / "boxes").iterdir()]
    assert written == [f"{name}_boxes.json" for name in fold.validation]


def test_a_checkpoint_with_other_anchors_or_another_spacing_is_refused(scans, trained):
    """Its weights would load, and give boxes of another size."""
    other = {"checkpoint": str(trained / "last.pt"), "anchor_sizes": [20.0, 31.0]}
    with pytest.raises(RuntimeError) as caught:
        run_bundle("inference.yaml", dataset_dir=str(scans / "images"), **other)
    assert str(caught.value.__cause__) == (
        "anchor_sizes must be [5.0, 8.0], as in the training of the checkpoint, got [20.0, 31.0]"
    )
    other = {"resume": str(trained / "checkpoint_epoch=1.pt"), "spacing": [2, 2, 2]}
    with pytest.raises(RuntimeError) as caught:
        run_bundle("train.yaml", data_dir=str(scans), output_dir=str(trained), **other)
    assert "spacing must be None" in str(caught.value.__cause__)


def test_scans_without_labels_get_boxes_on_their_own_grid(scans, trained, tmp_path):
    checkpoint = torch.load(trained / "last.pt", weights_only=True)
    checkpoint["settings"]["spacing"] = [1.5, 1.5, 1.5]
    torch.save(checkpoint, tmp_path / "last.pt")  # taken, since there is no best.pt beside it
    images = scans / "images"
    run_bundle("inference.yaml", dataset_dir=str(images), output_dir=str(tmp_path), lowest_score=0)
    files = sorted((tmp_path / "boxes").iterdir())
    assert len(files) == 4
    boxes = read_boxes(files[0])
    model = load_checkpoint(tmp_path / "last.pt", device="cpu", config=[lowest(tmp_path)])
    found = detect(model, load_image(sorted(images.iterdir())[0]))
    assert torch.equal(found.box.double(), boxes.boxes)
    assert torch.equal(found.scores.double(), boxes.scores)
    assert len(boxes.boxes) > 0
    assert bool((boxes.boxes >= 0).all())
    assert bool((boxes.boxes[:, 3:] <= torch.tensor([32.0, 32.0, 24.0])).all())


def lowest(folder):
    """A file of one's own with which every box is written."""
    path = folder / "mine.yaml"
    path.write_text("lowest_score: 0.0\n")
    return path


def test_two_channels_and_two_classes_in_the_layout_of_nnunet_train(tmp_path):
    labels = {"background": 0, "edema": 1, "core": 2, "ignore": 3}
    voxels = label_map()
    voxels[:, :2, 6:] = 3
    folder = nnunet(tmp_path / "data", voxels=voxels, labels=labels)
    (tmp_path / "splits.json").write_text(
        json.dumps([{"train": ["pat-1_a", "pat-1_b"], "val": ["pat-2_a"]}])
    )
    workflow = run_bundle(
        "train.yaml", data_dir=str(folder), output_dir=str(tmp_path / "run"), max_epochs=1,
        val_interval=1, folds=str(tmp_path / "splits.json"), lowest_score=0.0,
    )  # fmt: skip
    (batch,) = workflow.evaluator.state.batch
    assert batch["name"] == "pat-2_a"
    assert batch["labels"].tolist() == [0, 0, 1]
    (output,) = workflow.evaluator.state.output
    assert set(output["pred"]["labels"].tolist()) == {0, 1}
    assert len(output["label"]["lesions"]) == 3
    assert not bool(centred_in(output["pred"]["boxes"], voxels[None] == 3).any())
    (row,) = curve(tmp_path / "run")
    scores = [float(row[f"val_ap10_{name}"]) for name in ("edema", "core")]
    assert sum(scores) / 2 == pytest.approx(float(row["val_ap10"]))
    assert {"val_cpm_edema", "val_cpm_core"} <= set(row)
    run_bundle(
        "inference.yaml", dataset_dir=str(folder / "imagesTr"), output_dir=str(tmp_path / "found"),
        checkpoint=str(tmp_path / "run" / "last.pt"),
    )  # fmt: skip
    names = sorted(path.name for path in (tmp_path / "found" / "boxes").iterdir())
    assert names == [f"{name}_boxes.json" for name in NAMES]


@pytest.mark.slow
def test_two_processes_give_the_losses_and_gradients_of_one(scans, tmp_path):
    """Whole scans as the batch, without augmentation; the step shows the gradient, ten times.

    There is one scan to validate on, which both processes judge.
    """
    names = [f"phantom-{number:04d}" for number in range(3)]
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps([{"train": names[:2], "val": names[2:]}]))
    settings = {
        "data_dir": str(scans), "folds": str(splits), "val_interval": 1, "max_epochs": 1,
        "patch_size": [32, 32, 24], "patches_per_scan": 1,
        "train#patch_transforms": [], "train#augmentation": [],
        "learning_rate": 0.1, "warmup": 0, "clip_norm": 1e9,
        "optimizer#_target_": "torch.optim.SGD",
    }  # fmt: skip
    one = tmp_path / "one"
    workflow = run_bundle("train.yaml", output_dir=str(one), batch_size=2, **settings)
    assert workflow.trainer.state.iteration == 1
    two = tmp_path / "two"
    run_by_torchrun({**settings, "output_dir": str(two), "batch_size": 1})
    for key in ("loss", "classification", "box_regression", "val_cpm", "val_ap10"):
        assert float(curve(two)[0][key]) == pytest.approx(float(curve(one)[0][key]), abs=1e-5)
    alone, together = weights_in(one / "last.pt"), weights_in(two / "last.pt")
    assert (alone - together).abs().max() < 0.1 * 1e-5
    assert (alone - fresh_weights()).abs().max() > 0.1 * 1e-2


def fresh_weights():
    """Those that a run starts from."""
    parser = ConfigParser()
    parser.read_config(files_of("train.yaml"))
    parser.update({**TINY, "in_channels": 1, "num_classes": 1})
    set_determinism(TINY["seed"])
    network = parser.get_parsed_content("network_def")
    return torch.cat([weight.flatten() for weight in network.state_dict().values()])


def run_by_torchrun(settings):
    options = {**TINY, **settings}
    flags = [part for key, value in options.items() for part in (f"--{key}", f"{value}")]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "monai.bundle", "run",
        "--config_file", str(files_of("train.yaml", "multi_gpu_train.yaml")), *flags,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=240, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_metadata_say_what_the_network_takes_and_gives():
    meta = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))
    parser = ConfigParser()
    parser.read_config(files_of("inference.yaml"))
    parser["known"] = fresh_detector().settings
    network = parser.get_parsed_content("network_def")
    given, returned = (meta["network_data_format"][part] for part in ("inputs", "outputs"))
    shape = sides(given["image"]["spatial_shape"])
    image = torch.zeros(1, given["image"]["num_channels"], *shape)
    found = network(image.to(getattr(torch, given["image"]["dtype"])))
    assert set(found) == set(returned)
    for name, levels in found.items():
        places = [sides(level) for level in returned[name]["spatial_shape"]]
        assert [list(level.shape[2:]) for level in levels] == places
        assert {level.shape[1] for level in levels} == {returned[name]["num_channels"]}


def parsed(item, scans, **settings):
    """An item of the configuration of training on these scans."""
    parser = ConfigParser()
    parser.read_config(files_of("train.yaml"))
    parser.update({**TINY, "data_dir": str(scans), **settings})
    return parser.get_parsed_content(item)


def test_a_detection_ranks_and_normalises_as_its_training(tmp_path):
    folder = tiny_scans(tmp_path / "scans", 2)
    paths = {case.name: case.image for case in find_cases(folder).cases}
    for path in paths.values():
        scan = load_image(path)
        data = scan.data - scan.data.min() + 1
        data[:12] = 0  # as where the skull was removed
        save_nifti(path, data, scan.affine)
    settings = {"nonzero": True, "iou_branch": True, "score": "product"}
    names = ("patch_size", "channels", "strides", "feature_channels", "anchor_sizes")
    model = fresh_detector({**{name: TINY[name] for name in names}, **settings})
    train, validate, detector = (
        parsed(item, folder, validation=0.5, **settings)
        for item in ("train#dataset", "validate#dataset", "detector")
    )
    assert model.detector.score == detector.score == "product"
    for scans, images in ((train.scans, train._cache), (validate.scans, validate)):
        (name,) = {scan["name"] for scan in scans}
        seen = model.prepare(LoadLesionCased()({"image": str(paths[name])}))["image"]
        assert torch.equal(images[0]["image"].as_tensor(), seen.as_tensor())
        assert int((seen == 0).sum()) == 12 * 32 * 24  # what was 0 stays so


def test_a_damaged_scan_is_named_and_not_in_the_split(tmp_path):
    folder = tiny_scans(tmp_path / "scans", 3)
    damaged, other = lesion_cases(folder, "train", validation=0.4)
    damaged["case"].image.write_bytes(b"no image")
    settings = {"validation": 0.4, "output_dir": str(tmp_path)}
    parser = ConfigParser()
    parser.read_config(files_of("train.yaml"))
    parser.update({**TINY, "data_dir": str(folder), **settings})
    with pytest.warns(UserWarning, match=f"could not be read and is left out; {damaged['name']}: "):
        parser.get_parsed_content("failed_file")
    parser.get_parsed_content("split_file")
    (fold,) = read_splits(tmp_path / "splits_final.json")
    assert fold.train == (other["name"],)
    (row,) = read_table(tmp_path / "failed.csv").rows
    assert row["case"] == damaged["name"]
    assert str(damaged["case"].image) in row["error"]


def test_augmentation_leaves_the_cached_scans_alone(scans):
    """One that writes to the image it gets, as MONAI's `RandStdShiftIntensityd` does."""
    noisy = [{"_target_": "RandStdShiftIntensityd", "keys": "image", "factors": 0.5, "prob": 1.0}]
    dataset = parsed("train#dataset", scans, spacing=[1.5] * 3, **{"train#augmentation": noisy})
    cached = [case["image"].clone() for case in dataset._cache]
    patches = [patch for case in range(len(dataset)) for patch in dataset[case]]
    assert len(patches) == 6
    for case, before in zip(dataset._cache, cached, strict=True):
        assert torch.equal(case["image"], before)


def test_patches_and_cache_hold_no_more_than_they_need(scans):
    unfinished = {"train#augmentation": [], "train#target_transforms": []}
    dataset = parsed("train#dataset", scans, **unfinished)
    for patch in dataset[0]:
        assert set(patch) == {"image", "mask", "instances", "lesion_table"}
        assert all(patch[key].shape == (1, 16, 16, 16) for key in ("image", "mask", "instances"))
    (cached, *_) = dataset._cache
    assert cached["instances"].dtype == torch.int16
    assert set(cached) == {"image", "mask", "instances", "lesion_table", "weight"}


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
def test_a_step_has_as_many_patches_as_asked(scans, batch_size):
    settings = {key: value for key, value in TINY.items() if key != "patches_per_scan"}
    parser = ConfigParser()
    parser.read_config(files_of("train.yaml"))
    parser.update({**settings, "batch_size": batch_size})
    scans_of = parser.get_parsed_content("scans_per_batch")
    assert scans_of * parser.get_parsed_content("patches_per_scan") == batch_size
    assert parser.get_parsed_content("shift") == [4, 4, 4]  # a quarter of the patch


def test_patches_of_a_scan_that_do_not_fill_a_step_are_refused(scans):
    with pytest.raises(RuntimeError) as caught:
        parsed("scans_per_batch", scans, batch_size=3, patches_per_scan=2)
    assert "patches_per_scan must divide batch_size=3, got 2" in str(caught.value.__cause__)
