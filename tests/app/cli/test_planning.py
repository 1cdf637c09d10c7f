"""`softoverlap plan`: what it prints and writes, and what it says of bad folders."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from softoverlap import read_plan
from softoverlap.app.cli import app
from softoverlap.app.train import plan_scans, scan_facts
from softoverlap.images import find_cases, load_case, save_nifti, split_of, write_phantoms
from tests.support.data_sets import box_list, entry, nnunet


def run(*arguments, status=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return " ".join(result.output.split())


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    write_phantoms(folder, 2, seed=0, shape=(40, 40, 24))
    return folder


def test_a_plan_is_printed_written_and_drawn(data, tmp_path):
    output = tmp_path / "new" / "plan.json"
    text = run("plan", "--data", data, "--output", output)
    plan = read_plan(output)
    assert f"patch: {plan.patch_size[0]} x " in text
    for stride in plan.strides:
        assert f"stride {stride[0]} x {stride[1]} x {stride[2]}" in text
    assert "sampling: " in text
    assert "share of any box" in text
    assert json.loads(output.read_text())["anchors_per_voxel"] <= 0.55
    assert output.with_suffix(".png").read_bytes()[1:4] == b"PNG"
    assert "must not exist yet: pass --overwrite" in run(
        "plan", "--data", data, "--output", output, status=2
    )
    run("plan", "--data", data, "--output", output, "--overwrite", "--max-anchors-per-voxel", 0.1)
    assert read_plan(output).anchors_per_voxel <= 0.1


@pytest.mark.parametrize(
    ("options", "asked"),
    [((), {}), (("--folds", 2, "--fold", 1), {"folds": 2, "fold": 1})],
)
def test_scans_that_the_training_validates_on_are_left_out(tmp_path, options, asked):
    data, output = tmp_path / "data", tmp_path / "plan.json"
    write_phantoms(data, 3, seed=0, shape=(40, 40, 24))
    table = find_cases(data)
    fold = split_of(table, data, **asked).fold
    for name in fold.validation:
        (data / "images" / f"{name}.nii.gz").write_bytes(b"no image")
    text = run("plan", "--data", data, "--output", output, *options)
    assert f"to train on, {len(fold.validation)} to validate on" in text
    cases = [case for case in table.cases if case.name in fold.train]
    expected = plan_scans([scan_facts(load_case(case)) for case in cases]).plan
    assert read_plan(output).to_dict() == expected.to_dict()
    assert "--folds needs --fold" in run("plan", "--data", data, "--folds", 2, status=2)


def test_all_scans_of_one_patient_are_planned_for(data, tmp_path):
    (data / "patients.csv").write_text("case,patient\nphantom-0000,a\nphantom-0001,a\n")
    text = run("plan", "--data", data, "--output", tmp_path / "plan.json")
    assert "2 scans to train on, 0 to validate on" in text


def test_a_case_that_cannot_be_read_is_named_and_the_others_are_planned_for(data, tmp_path):
    (data / "images" / "phantom-0000.nii.gz").write_bytes(b"no image")
    every = ("--validation", 0)
    text = run("plan", "--data", data, "--output", tmp_path / "plan.json", *every, status=1)
    assert "failed: " in text
    assert "phantom-0000.nii.gz" in text
    assert "1 of 2 cases could not be read" in text
    assert read_plan(tmp_path / "plan.json").expected_quality["all"]["lesions"] > 0


def test_a_folder_without_cases_or_lesions_ends_in_one_line(data, tmp_path):
    (tmp_path / "empty").mkdir()
    text = run("plan", "--data", tmp_path / "empty", "--output", tmp_path / "p.json", status=2)
    assert "must be a data set in one of these layouts" in text
    assert "found an empty folder" in text
    (tmp_path / "empty" / "images").mkdir()
    text = run("plan", "--data", tmp_path / "empty", "--output", tmp_path / "p.json", status=2)
    assert "images must hold scans" in text
    for room in ("masks", "raters"):
        for path in (data / room).glob("*.nii.gz"):
            save_nifti(path, torch.zeros(40, 40, 24), torch.eye(4))
    for path in (data / "images").glob("*.nii.gz"):
        save_nifti(path, torch.rand(40, 40, 24), torch.eye(4))
    every = ("--validation", 0)
    text = run("plan", "--data", data, "--output", tmp_path / "p.json", *every, status=2)
    assert "plan needs at least one lesion in 2 scans, found none at --threshold 0.5" in text
    assert not (tmp_path / "p.json").exists()


def test_a_plan_never_replaces_a_file_of_the_data_set(tmp_path):
    folder = nnunet(tmp_path / "data")
    for name in ("imagesTr/pat-1_a_0001.nii.gz", "labelsTr/pat-1_a.nii.gz", "dataset.json"):
        kept = (folder / name).read_bytes()
        text = run("plan", "--data", folder, "--output", folder / name, "--overwrite", status=2)
        assert "is read and must not be replaced" in text
        assert (folder / name).read_bytes() == kept


def test_a_list_of_boxes_is_planned_for_and_kept(tmp_path):
    folder = box_list(tmp_path, training=[entry("a"), entry("b")])
    path, options = folder / "list.json", ("--images", folder / "scans", "--overwrite")
    for data in (path, folder):
        text = run("plan", "--data", data, "--output", path, *options, status=2)
        assert "is read and must not be replaced" in text
    options = (*options, "--validation", 0)
    run("plan", "--data", path, "--output", tmp_path / "plan.json", *options)
    assert read_plan(tmp_path / "plan.json").expected_quality["all"]["lesions"] == 2


def test_scans_are_turned_to_the_axes_asked_for(tmp_path):
    output, folder = tmp_path / "plan.json", nnunet(tmp_path / "data")
    text = run("plan", "--data", folder, "--layout", "nnunet", "--axes", "SAR", "--output", output)
    assert "axes: SAR" in text
    plan = read_plan(output)
    assert plan.axes == "SAR"
    assert "3D only" not in text


def test_a_plan_in_2d_says_that_the_bundle_does_not_train_with_it(tmp_path):
    for folder in ("images", "masks"):
        mask = torch.zeros(32, 32, 1)
        mask[8:13, 9:15] = 1
        (tmp_path / folder).mkdir()
        save_nifti(tmp_path / folder / "a1.nii.gz", mask, torch.eye(4))
    text = run("plan", "--data", tmp_path, "--output", tmp_path / "plan.json")
    assert "the bundle lesion_detection trains in 3D only" in text
    assert read_plan(tmp_path / "plan.json").axes == "RA"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--axes", "RAR"), "--axes must name 3 of R or L, A or P, S or I, each once"),
        (("--layout", "bids"), "must hold images as sub-*/anat/"),
        (("--patch", 13), "--patch must be multiples of the last stride"),
        (("--max-anchors-per-voxel", 0), "--max-anchors-per-voxel must be above 0"),
        (("--step-memory", -1), "--step-memory must be above 0"),
        (("--threshold", 0), "threshold must lie in (0, 1]"),
    ],
)
def test_bad_settings_are_told_by_their_options(data, tmp_path, options, message):
    text = run("plan", "--data", data, "--output", tmp_path / "p.json", *options, status=2)
    assert message in text


def test_a_plan_that_was_edited_badly_is_named_with_its_field(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text('{"strides": [[2, 2]], "sizes": [[[3]]]}')
    with pytest.raises(
        ValueError, match=r"plan.json must hold a plan of anchors: sizes must have 2"
    ):
        read_plan(path)
