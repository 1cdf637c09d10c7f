"""The page on nnU-Net runs as it stands, on a CPU: nnU-Net plans, trains a little and predicts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from softoverlap.for_nnunet import TRAINERS_FOLDER
from softoverlap.images import write_phantoms
from tests.support.pages import blocks, page_text

pytest.importorskip("nnunetv2", reason="nnU-Net is not installed: `make nnunet` sets it up")

from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

PAGE = page_text("nnunet.md")
TRAINERS = ("nnUNetTrainerLesionwise", "nnUNetTrainerSoftDiceCE", "nnUNetTrainerSoftRaters")
SHORT = """
import torch
from softoverlap.for_nnunet import trainers


def short(trainer):
    class Short(trainer):
        def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cpu")):
            super().__init__(plans, configuration, fold, dataset_json, device)
            self.num_epochs = self.num_iterations_per_epoch = 2
            self.num_val_iterations_per_epoch = 1

    Short.__name__ = f"{trainer.__name__}Short"
    return Short


"""
# nnU-Net imports all of its trainers, one of them torchvision, which as a build for GPUs lacks its
# operators beside a PyTorch without; it asks for two of them, and nnU-Net for none.
SITE = """
import sys


class Torchvision:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            from importlib.metadata import version

            import torch

            sys.meta_path.remove(self)
            if "+cpu" in torch.__version__ and "+cpu" not in version("torchvision"):
                schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                torch.library.define("torchvision::nms", schema)
                torch.library.define("torchvision::qnms", schema)


sys.meta_path.insert(0, Torchvision())
"""
QUICK = {
    "nnUNet_def_n_proc": "1",
    "OMP_NUM_THREADS": "1",
    "COLUMNS": "200",
    "MPLBACKEND": "Agg",
}


def shortened(script):
    """The page's commands for a CPU, in the second folder's trainers of two epochs."""
    script = re.sub(r"-tr (\w+)", r"-tr \1Short -device cpu", script)
    script = re.sub(r"^nnUNetv2_train", "nnUNet_n_proc_DA=0 nnUNetv2_train", script, flags=re.M)
    script = re.sub(r"(nnUNetv2_plan\w+)", r"\1 -npfp 1 -np 1", script)
    script = script.replace("$(softoverlap nnunet)", "$(softoverlap nnunet):short")
    script = re.sub(r"^softoverlap phantoms .*\n", "", script, flags=re.M)
    return script.replace("_predict", "_predict --disable_tta -npp 0 -nps 0")


def run_page(folder):
    """Run the blocks of the page one after the other; what the commands print."""
    scope, exports, printed = {}, "", ""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    for language, text in blocks(PAGE, "bash", "python"):
        if language == "python":
            exec(compile(text, "nnunet.md", "exec"), scope)
            continue
        script = shortened(text)
        done = subprocess.run(
            ["bash", "-e", "-c", exports + script],
            cwd=folder,
            env={**os.environ, **QUICK, "PATH": path, "PYTHONPATH": str(folder / "site")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        exports += "".join(re.findall(r"^export .*\n", script, flags=re.M))
        printed += done.stdout
    return printed


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The folder after the page."""
    folder = tmp_path_factory.mktemp("nnunet")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_phantoms("phantoms", 7, seed=10, shape=(24, 24, 16), num_raters=3)
        Path("short").mkdir()
        Path("site").mkdir()
        Path("site/sitecustomize.py").write_text(SITE)
        made = "".join(f"{name}Short = short(trainers.{name})\n" for name in TRAINERS)
        Path("short/short_nnunet_trainers.py").write_text(SHORT + made)
        Path("printed.txt").write_text(run_page(folder))
    return folder


def results(here, trainer):
    (found,) = here.glob(f"nnUNet_results/*/{trainer}Short__nnUNetPlans__3d_fullres/fold_0")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_trainer_is_found_in_the_second_folder_and_trains(here, trainer):
    assert f"Using trainer '{trainer}Short' from: short" in (here / "printed.txt").read_text()
    saved = torch.load(results(here, trainer) / "checkpoint_final.pth", weights_only=False)
    logged = saved["logging"]
    assert saved["trainer_name"] == f"{trainer}Short"
    assert len(logged["train_losses"]) == 2
    assert np.isfinite([*logged["train_losses"], *logged["val_losses"]]).all()


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["found", "shares", "small"])
def test_predictions_are_labels_on_the_grid_of_the_scan(here, folder):
    names = [f"phantom-{number:04d}" for number in (5, 6)]
    for name in names:
        scan = nibabel.load(here / f"phantoms/images/{name}.nii.gz")
        mask = nibabel.load(here / folder / f"{name}.nii.gz")
        assert mask.shape == scan.shape
        np.testing.assert_allclose(mask.affine, scan.affine, atol=1e-4)
        assert set(np.unique(mask.dataobj)) <= {0, 1}


@pytest.mark.slow
def test_a_voxel_is_labelled_where_more_than_half_of_the_raters_are_expected_to_mark_it(here):
    shares = np.load(here / "shares/phantom-0005.npz")["probabilities"]
    labels = np.asarray(nibabel.load(here / "shares/phantom-0005.nii.gz").dataobj)
    assert shares.shape == (2, *labels.shape[::-1])
    np.testing.assert_array_equal(labels.T, shares[1] > 0.5)


@pytest.mark.slow
def test_the_final_dice_is_that_of_all_raters(here):
    folder = results(here, "nnUNetTrainerSoftRaters") / "validation"
    for case in json.loads((folder / "summary.json").read_text())["metric_per_case"]:
        name = Path(case["prediction_file"]).name
        found = np.asarray(nibabel.load(folder / name).dataobj)[..., None] == 1
        raw = here / "nnUNet_raw/Dataset002_Raters/labelsTr" / name
        raters = np.asarray(nibabel.load(raw).dataobj) == 1
        hits, sizes = (found & raters).sum(), raters.shape[-1] * found.sum() + raters.sum()
        assert case["metrics"]["1"]["Dice"] == pytest.approx(2 * hits / sizes)


@pytest.mark.slow
@pytest.mark.parametrize("folder", ["results", "lesion_results"])
def test_the_page_scores_the_predictions(here, folder):
    assert len((here / folder / "cases.csv").read_text().splitlines()) == 3


def test_one_file_of_a_unique_name_hands_the_trainers_on():
    (file,) = TRAINERS_FOLDER.glob("*.py")
    assert set(re.findall(r" as (\w+)", file.read_text())) == set(TRAINERS)


def found_in(folder, trainer):
    """The trainer of this name, as nnU-Net looks for it in a folder."""
    return recursive_find_python_class(
        str(folder), trainer, None, str(folder), cleanup_imports_from_base_folder=True
    )


@pytest.mark.slow
def test_the_trainer_that_the_page_writes_differs_in_its_epochs_alone(here):
    found = found_in(here / "trainers", "nnUNetTrainerSoftRaters_100epochs")
    assert found.__base__ is found_in(TRAINERS_FOLDER, "nnUNetTrainerSoftRaters")
    assert set(vars(found)) <= {"__init__", "__module__", "__doc__", "__qualname__"}


@pytest.mark.parametrize("trainer", TRAINERS)
def test_nnunet_finds_a_trainer_and_leaves_none_of_its_file_behind(trainer):
    found = found_in(TRAINERS_FOLDER, trainer)
    assert (found.__name__, found.__module__) == (trainer, "softoverlap.for_nnunet.trainers")
    assert "softoverlap_nnunet_trainers" not in sys.modules
