"""A plan and the bundle's transforms speak of the same axes, however a file stores them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, Orientationd, Spacingd

from softoverlap.app.train import ScanFacts, plan_scans, scan_facts
from softoverlap.for_monai import LoadLesionCased, lesion_cases
from softoverlap.images import axis_codes, find_cases, load_case, save_nifti
from softoverlap.lesions import lesions_from_mask
from tests.support.bundle_runs import files_of

SAGITTAL = np.array([[0, 0, 4, -30], [1, 0, 0, -20], [0, 1, 0, -10], [0, 0, 0, 1.0]])  # A, S, R
TURNED = np.array([[0, 0, -4, 30], [0, -1, 0, 20], [1, 0, 0, -10], [0, 0, 0, 1.0]])  # S, P, L


@pytest.fixture
def data(tmp_path):
    """Scans of thick slices from right to left, each with its own order of axes."""
    generator = torch.Generator().manual_seed(0)
    for name, affine in (("a1", SAGITTAL), ("b1", TURNED), ("c1", SAGITTAL[:, [2, 0, 1, 3]])):
        shape = (20, 40, 48) if name == "c1" else (40, 48, 20)
        mask = torch.zeros(shape)
        mask[6:9, 20:27, 8:14] = torch.rand(3, 7, 6, generator=generator) * 0.5 + 0.5
        mask[2:4, 3:6, 2:4] = 1
        for folder, values in (("images", torch.rand(shape)), ("masks", mask)):
            (tmp_path / folder).mkdir(exist_ok=True)
            save_nifti(tmp_path / folder / f"{name}.nii.gz", values, torch.from_numpy(affine))
    return tmp_path


def read(folder, **options):
    return [scan_facts(load_case(case), **options) for case in find_cases(folder).cases]


@pytest.mark.parametrize("axes", ["RAS", "PIR"])
def test_a_plan_and_the_transforms_agree_for_scans_stored_in_any_order(data, axes):
    facts = read(data, axes=axes)
    plan = plan_scans(facts).plan
    thick = next(number for number, letter in enumerate(axes) if letter in "RL")
    assert plan.axes == axes
    assert plan.spacing == tuple(4.0 if axis == thick else 1.0 for axis in range(3))
    assert plan.strides[0][thick] == 1
    keys = ["image", "mask"]
    bundle = Compose([
        LoadLesionCased(),
        Orientationd(keys, axcodes=plan.axes, labels=None),
        Spacingd(keys, pixdim=plan.spacing),
    ])  # fmt: skip
    for scan, case in zip(facts, lesion_cases(data), strict=True):
        made = bundle(case)
        assert axis_codes(made["image"].affine) == axes
        assert tuple(made["image"].shape[1:]) == scan.shape
        expected = lesions_from_mask(made["mask"][0].as_tensor(), spacing=plan.spacing)
        assert len(scan.lesions) == len(expected) == 2
        by_place = [
            sorted(some, key=lambda one: one.box.tolist()) for some in (scan.lesions, expected)
        ]
        for lesion, truth in zip(*by_place, strict=True):
            torch.testing.assert_close(lesion.box, truth.box)
            torch.testing.assert_close(lesion.centre, truth.centre)
            assert torch.equal(lesion.offset, truth.offset)
            assert torch.equal(lesion.crop, truth.crop)
            assert lesion.volume_mm3 == pytest.approx(truth.volume_mm3)


def test_the_bundle_takes_the_axes_of_a_plan(data, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(plan_scans(read(data, axes="PIR")).plan.to_json())
    for name in ("train.yaml", "inference.yaml"):
        config = ConfigParser()
        config.read_config([*files_of(name), str(path)])
        assert config["axes"] == "PIR"
        assert config["spacing"] == [1.0, 1.0, 4.0]


def test_scans_whose_axes_point_elsewhere_are_not_planned_together():
    scans = [ScanFacts(axes, (8, 8, 8), (1.0, 1.0, 1.0), [], axes) for axes in ("RAS", "LPS")]
    with pytest.raises(ValueError, match="axes that point alike, got RAS of RAS and LPS of LPS"):
        plan_scans(scans)


@pytest.mark.parametrize("axes", ["RA", "RLS", "RASL", "ras", ""])
def test_axes_that_name_no_orientation_are_refused(data, axes):
    with pytest.raises(ValueError, match="axes must name 3 of R or L, A or P, S or I"):
        read(data, axes=axes)
