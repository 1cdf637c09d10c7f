"""MONAI's own calls of detection run with one import changed, and find what MONAI's finds.

MONAI's detector asks whether its matcher is torchvision's before it takes its own. There is no
torchvision here, so a class of that name stands in for the one that it asks about.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from monai.apps.detection.networks import retinanet_detector
from monai.transforms import Lambdad
from monai.utils import set_determinism

from tests.support import monai_detection as theirs

SCRIPT = Path(theirs.__file__)
LINE = "from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector\n"
CHANGED = "from softoverlap import SoftRetinaNetDetector as RetinaNetDetector\n"


@pytest.fixture(scope="module", autouse=True)
def no_torchvision():
    """Nor TorchScript's optimiser, which takes longer than these few steps."""
    with pytest.MonkeyPatch.context() as patch, torch.jit.optimized_execution(False):
        patch.setattr(retinanet_detector, "Matcher", type("Matcher", (), {}))
        yield


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """The script with the one import changed."""
    text = SCRIPT.read_text(encoding="utf-8")
    assert text.count(LINE) == 1
    path = tmp_path_factory.mktemp("script") / "changed.py"
    path.write_text(text.replace(LINE, CHANGED), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("changed", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return [tmp_path_factory.mktemp(name) for name in ("theirs", "ours")]


@pytest.fixture(scope="module")
def runs(ours, folders):
    """What the script gives as it stands, and with the import changed."""
    return [script.main(folder) for script, folder in zip((theirs, ours), folders, strict=True)]


def form(value):
    """Keys, types and numbers of columns, without the numbers themselves."""
    if isinstance(value, dict):
        return {key: form(part) for key, part in value.items()}
    if isinstance(value, torch.Tensor):
        return type(value), value.dtype, tuple(value.shape[1:])
    return type(value)


def test_the_script_runs_to_its_end_and_returns_what_monais_returns(runs):
    expected, found = runs
    assert len(found["losses"]) == len(expected["losses"]) == 5
    for key in ("losses", "outputs", "results"):
        assert [form(part) for part in found[key]] == [form(part) for part in expected[key]]
    assert found["metrics"].keys() == expected["metrics"].keys()
    assert all(torch.tensor(list(step.values())).isfinite().all() for step in found["losses"])


def test_weights_that_are_saved_and_loaded_find_the_same_boxes(runs):
    for run in runs:
        for output, loaded in zip(run["outputs"], run["loaded"], strict=True):
            assert len(output["box"]) > 0
            for key, value in output.items():
                torch.testing.assert_close(loaded[key], value)


@pytest.mark.parametrize("trained_by", [0, 1])
def test_a_saved_network_finds_the_same_boxes_in_both_detectors(ours, runs, folders, trained_by):
    network = torch.jit.load(folders[trained_by] / "model.pt")
    entries = theirs.listed(folders[trained_by] / "dataset.json", "validation")
    other = (ours, theirs)[trained_by].detect(network, entries)
    for found, expected in zip(other, runs[trained_by]["results"], strict=True):
        assert found["label"] == expected["label"]
        for key in ("box", "score"):
            assert found[key] == [pytest.approx(row, abs=1e-4) for row in expected[key]]


def test_with_monais_loss_of_classes_the_whole_training_is_monais(ours, tmp_path):
    """Boxes are moved off the voxels, so that no two anchors are equally near to one."""
    shift = Lambdad("box", lambda boxes: boxes + boxes.new_tensor([0.13, -0.21, 0.34] * 2))
    entries = theirs.listed(theirs.write_data(tmp_path), "training")
    histories = []
    for script in (theirs, ours):
        set_determinism(seed=0)
        detector = script.detector_to_train(script.network_of())
        detector.set_cls_loss(torch.nn.BCEWithLogitsLoss(reduction="mean"))
        loader = script.loader_of(entries, [*script.with_boxes(), shift])
        histories.append(script.train(detector, script.optimizer_of(detector), loader))
    expected, found = histories
    for step, wanted in zip(found, expected, strict=True):
        assert step == pytest.approx(wanted, abs=1e-5)
