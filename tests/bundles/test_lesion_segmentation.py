"""The bundle of segmentation trains, judges and writes maps, on tiny scans."""

from __future__ import annotations

import json

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from softoverlap import compute_soft_dice
from softoverlap.bundles import LESION_SEGMENTATION
from softoverlap.for_monai import lesion_cases
from softoverlap.images import find_cases, load_case, load_image, read_splits
from tests.support.bundle_runs import sides, tiny_scans
from tests.support.data_sets import label_map, nnunet

CONFIGS = LESION_SEGMENTATION / "configs"
TINY = {"patch_size": [16, 16, 16], "channels": [8, 8, 8], "workers": 0, "learning_rate": 0.01}


def run_bundle(*names, **settings):
    """The workflow after its run, with these settings on top of the tiny ones."""
    kind = "train" if names[0] == "train.yaml" else "infer"
    files = [str(CONFIGS / name) for name in names]
    tiny = TINY if kind == "train" else {}
    workflow = ConfigWorkflow(
        config_file=files, logging_file=False, workflow_type=kind, **{**tiny, **settings}
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


def parsed(item, **settings):
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "train.yaml"))
    parser.update({**TINY, **settings})
    return parser.get_parsed_content(item)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Oblique scans, one of them to validate on."""
    return tiny_scans(tmp_path_factory.mktemp("scans"))


@pytest.fixture(scope="module")
def run(scans, tmp_path_factory):
    """A run of two epochs, on coarser voxels than those of the files; its folder and workflow."""
    folder = tmp_path_factory.mktemp("run")
    settings = {"max_epochs": 2, "val_interval": 1, "spacing": [1.5, 1.5, 1.5]}
    return folder, run_bundle("train.yaml", data_dir=str(scans), output_dir=str(folder), **settings)


def test_two_epochs_leave_weights_metrics_and_the_split(run):
    folder, workflow = run
    assert workflow.trainer.state.epoch == 2
    names = {path.name for path in folder.iterdir()}
    assert names == {"best.pt", "last.pt", "splits_final.json", "validation"}
    metrics = workflow.evaluator.state.metrics
    assert set(metrics) == {"val_soft_dice", "val_lesionwise_dice", "val_lesion_recall"}
    assert all(0 <= value <= 1 for value in metrics.values())
    (fold,) = read_splits(folder / "splits_final.json")
    assert (len(fold.train), len(fold.validation)) == (3, 1)


def test_the_loss_falls_on_patches_seen_again_and_again(scans):
    workflow = run_bundle(
        "train.yaml", data_dir=str(scans), max_epochs=8, validation=0.0, batch_size=3,
        initialize=["$monai.utils.set_determinism(seed=@seed)"], **{"train#handlers": []},
    )  # fmt: skip
    network, loss = workflow.network_def, parsed("loss_function")
    batch = next(iter(workflow.trainer.data_loader))
    fresh = parsed("network_def")
    with torch.no_grad():
        trained, before = (loss(n(batch["image"]), batch["label"]) for n in (network, fresh))
    assert float(trained) < 0.9 * float(before)


def test_a_checkpoint_is_judged_as_in_its_training_on_the_grid_of_the_files(scans, run):
    folder, workflow = run
    judged = run_bundle(
        "train.yaml", "evaluate.yaml", data_dir=str(scans), output_dir=str(folder),
        spacing=[1.5] * 3, checkpoint=str(folder / "last.pt"),
    )  # fmt: skip
    metrics = judged.evaluator.state.metrics
    assert metrics == pytest.approx(workflow.evaluator.state.metrics, abs=1e-6)
    (name,) = read_splits(folder / "splits_final.json")[0].validation
    found = load_image(folder / "evaluation" / "probabilities" / f"{name}.nii.gz")
    (case,) = (load_case(case) for case in find_cases(scans).cases if case.name == name)
    torch.testing.assert_close(found.affine, case.affine, rtol=0, atol=1e-4)
    score = compute_soft_dice(found.data[None, None], case.raters.float().mean(dim=0)[None, None])
    assert float(score) == pytest.approx(metrics["val_soft_dice"], abs=1e-5)


def test_scans_without_labels_get_the_maps_of_the_evaluation(scans, run, tmp_path):
    folder, _ = run
    run_bundle(
        "inference.yaml", dataset_dir=str(scans / "images"), output_dir=str(tmp_path),
        checkpoint=str(folder / "last.pt"),
    )  # fmt: skip
    written = sorted(path.name for path in (tmp_path / "probabilities").iterdir())
    assert written == [f"{case.name}.nii.gz" for case in find_cases(scans).cases]
    (kept,) = (folder / "evaluation" / "probabilities").iterdir()
    again = load_image(tmp_path / "probabilities" / kept.name)
    torch.testing.assert_close(again.data, load_image(kept).data, rtol=0, atol=1e-6)


def test_a_damaged_scan_is_named_and_the_others_get_their_maps(scans, run, tmp_path):
    first, *_ = sorted((scans / "images").iterdir())
    sources = tmp_path / "images"
    sources.mkdir()
    (sources / first.name).write_bytes(first.read_bytes())
    (sources / "bad.nii.gz").write_bytes(b"no image")
    with pytest.warns(UserWarning, match="1 of 2 scans could not be read and is left out; bad:"):
        run_bundle(
            "inference.yaml", dataset_dir=str(sources), output_dir=str(tmp_path),
            checkpoint=str(run[0] / "last.pt"),
        )  # fmt: skip
    written = {path.name for path in (tmp_path / "probabilities").iterdir()}
    assert written == {first.name, "failed.csv"}
    (failed,) = (tmp_path / "probabilities" / "failed.csv").read_text().splitlines()[1:]
    assert failed.startswith("bad,")
    assert str(sources / "bad.nii.gz") in failed


def test_a_checkpoint_of_another_spacing_is_refused(scans, run):
    folder, _ = run
    with pytest.raises(RuntimeError) as caught:
        run_bundle("train.yaml", "evaluate.yaml", data_dir=str(scans), output_dir=str(folder))
    assert "spacing must be [1.5, 1.5, 1.5]" in str(caught.value.__cause__)


@pytest.mark.parametrize("method", ["mean", "majority"])
def test_the_label_is_what_the_raters_are_fused_to(scans, method):
    settings = {"data_dir": str(scans), "fusion#method": method}
    scan = parsed("validate#dataset", **settings)[0]
    (case,) = (load_case(case) for case in find_cases(scans).cases if case.name == scan["name"])
    mean = case.raters.float().mean(dim=0)
    expected = mean if method == "mean" else (mean > 0.5).float()
    torch.testing.assert_close(scan["label"][0].as_tensor(), expected, rtol=0, atol=1e-6)


def test_channels_of_files_of_their_own_are_named_as_the_scan(tmp_path):
    folder = nnunet(tmp_path / "data")
    settings = {"data_dir": str(folder), "output_dir": str(tmp_path / "run"), "in_channels": 2}
    run_bundle("train.yaml", **settings, max_epochs=1, val_interval=9, validation=0.4)
    run_bundle(
        "inference.yaml", dataset_dir=str(folder / "imagesTr"), output_dir=str(tmp_path / "run")
    )
    written = {path.name for path in (tmp_path / "run" / "probabilities").iterdir()}
    assert written == {f"{case.name}.nii.gz" for case in find_cases(folder).cases}


@pytest.mark.bad_input
@pytest.mark.filterwarnings("ignore:case pat-1_a. 48 voxels are labelled ignore")
def test_a_scan_with_unlabelled_voxels_is_refused(tmp_path):
    voxels = label_map()
    voxels[:, :2, 6:] = 3
    labels = {"background": 0, "edema": 1, "core": 2, "ignore": 3}
    folder = nnunet(tmp_path / "data", voxels=voxels, labels=labels)
    (first, *_) = lesion_cases(folder)
    with pytest.raises(ValueError, match=r"must have a label for each voxel, got \d+ without"):
        parsed("reading")(first)


def test_the_metadata_say_what_the_network_takes_and_gives():
    meta = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))
    given, returned = (meta["network_data_format"][part] for part in ("inputs", "outputs"))
    image, pred = given["image"], returned["pred"]
    parser = ConfigParser()
    parser.read_config(str(CONFIGS / "train.yaml"))
    network = parser.get_parsed_content("network_def")
    shape = sides(image["spatial_shape"])
    found = network(torch.zeros(1, image["num_channels"], *shape))
    assert found.shape == (1, pred["num_channels"], *sides(pred["spatial_shape"]))
    assert found.dtype == getattr(torch, pred["dtype"])
