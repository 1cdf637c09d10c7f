"""The command fuse: what it says, what it writes, and what it refuses."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from softoverlap.app.cli import fusing
from softoverlap.images import load_nifti, write_phantoms
from softoverlap.lesions import staple
from tests.support.image_commands import STRAIGHT, blob, run, saved
from tests.support.image_makers import affine

REAL = Path(__file__).parents[3] / ".." / "shared" / "data" / "open_ms"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the open_ms scans are not here")


@pytest.fixture
def raters(tmp_path):
    """Three masks of three raters, each a voxel further on."""
    return [saved(tmp_path / f"{name}.nii.gz", blob(2 + k, 3, 3)) for k, name in enumerate("abc")]


def test_the_mean_of_raters_lies_on_their_grid(tmp_path, raters):
    output = tmp_path / "mean.nii.gz"
    text = run("fuse", *raters, "--output", output)
    assert f"{output}: 3 raters by mean, 0.162 ml" in text
    found = load_nifti(output)
    expected = torch.stack([load_nifti(path).data for path in raters]).mean(dim=0)
    torch.testing.assert_close(found.data, expected)
    torch.testing.assert_close(found.affine, STRAIGHT)


def test_each_method_gives_its_own_mask(tmp_path, raters):
    stack = torch.stack([load_nifti(path).data for path in raters])
    run("fuse", *raters, "--output", tmp_path / "m.nii", "--method", "majority")
    assert torch.equal(load_nifti(tmp_path / "m.nii").data, (stack.sum(dim=0) >= 2).float())
    weights = ("--method", "weighted", "--weights", "2,1,1")
    run("fuse", *raters, "--output", tmp_path / "w.nii", *weights)
    expected = (2 * stack[0] + stack[1] + stack[2]) / 4
    torch.testing.assert_close(load_nifti(tmp_path / "w.nii").data, expected)
    text = run("fuse", *raters, "--output", tmp_path / "s.nii", "--method", "staple")
    estimate = staple(stack)
    torch.testing.assert_close(load_nifti(tmp_path / "s.nii").data, estimate.probability.float())
    assert f"b.nii.gz: sensitivity {float(estimate.sensitivity[1]):.4f}" in text


def test_raters_in_other_axis_orders_and_one_label_of_many(tmp_path):
    labels = 2 * blob(2, 3, 3) + 5 * blob(7, 3, 3)
    image = nibabel.Nifti1Image(labels.numpy(), STRAIGHT.numpy())
    nibabel.save(image, tmp_path / "a.nii")
    nibabel.save(image.as_reoriented([[2, -1], [0, 1], [1, -1]]), tmp_path / "b.nii")
    files, output = (tmp_path / "a.nii", tmp_path / "b.nii"), tmp_path / "f.nii"
    assert "name the one label to take with --label" in run(
        "fuse", *files, "--output", output, status=2
    )
    run("fuse", *files, "--output", output, "--label", 5)
    assert torch.equal(load_nifti(output).data, blob(7, 3, 3))


def test_raters_on_other_grids_need_a_choice(tmp_path, raters):
    shifted = affine((1.0, 2.0, 3.0), (5.0, 6.8, 7.0))
    off = saved(tmp_path / "off.nii.gz", blob(2, 3, 3), shifted)
    output = tmp_path / "f.nii"
    text = run("fuse", raters[0], off, "--output", output, status=2)
    assert "off.nii.gz lies up to 0.4 voxels from the grid" in text
    assert not output.exists()
    text = run("fuse", raters[0], off, "--output", output, "--geometry", "index")
    assert "warning: " in text
    assert torch.equal(load_nifti(output).data, blob(2, 3, 3))
    resample = ("--geometry", "resample", "--overwrite")
    run("fuse", raters[0], off, "--output", output, *resample)
    values = load_nifti(output).data
    assert float(values[3, 5, 4]) == pytest.approx(1)
    assert float(values[3, 2, 4]) == pytest.approx(0)
    assert float(values[3, 3, 4]) == pytest.approx((1 + 0.6) / 2, abs=1e-6)
    run("fuse", raters[0], off, "--output", output, "--method", "majority", *resample)
    assert set(load_nifti(output).data.unique().tolist()) == {0, 1}


def test_neither_inputs_nor_earlier_results_are_replaced(tmp_path, raters):
    before = raters[0].read_bytes()
    text = run("fuse", *raters, "--output", raters[0], "--overwrite", status=2)
    assert "is read and must not be replaced" in text
    assert raters[0].read_bytes() == before
    output = saved(tmp_path / "old.nii", blob(0, 0, 0))
    assert "must not exist yet" in run("fuse", *raters, "--output", output, status=2)
    run("fuse", *raters, "--output", output, "--overwrite")
    assert load_nifti(output).data[0, 0, 0] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--output", "f.mha"), "--output must end in .nii or .nii.gz, got f.mha"),
        (("--output", "f.nii", "--method", "median"), "--method must be one of"),
        (("--output", "f.nii", "--method", "weighted"), "--weights must be given for --method"),
        (("--output", "f.nii", "--weights", "1,2,3"), "--weights must be given for --method"),
        (("--output", "f.nii", "--method", "weighted", "--weights", "1,x"), "numbers with commas"),
        (("--output", "f.nii", "--geometry", "loose"), "--geometry must be one of"),
        (("--output", "f.nii", "--threshold", 0), "--threshold must lie in (0, 1], got 0"),
        (("--output", "f.nii", "--values", "percent", "--label", 1), "--label goes with --values"),
    ],
)
def test_wrong_options_are_one_line(raters, options, words):
    assert words in run("fuse", *raters, *options, status=2)


def test_soft_raters_need_a_threshold_for_a_vote(tmp_path):
    files = [saved(tmp_path / f"{k}.nii", blob(2, 2, 2, value=v)) for k, v in enumerate([0.4, 0.8])]
    vote = ("--output", tmp_path / "f.nii", "--method", "majority")
    text = run("fuse", *files, *vote, status=2)
    assert f"{files[0]} must hold 0 and 1 for --method majority" in text
    assert "pass --threshold" in text
    run("fuse", *files, *vote, "--threshold", 0.3)
    assert torch.equal(load_nifti(tmp_path / "f.nii").data, blob(2, 2, 2))


def test_a_single_mask_is_fused_with_a_warning(tmp_path, raters):
    output = tmp_path / "f.nii.gz"
    text = run("fuse", raters[0], "--output", output)
    assert "warning: this is the mask of a single rater" in text
    assert torch.equal(load_nifti(output).data, load_nifti(raters[0]).data)
    assert "single rater" not in run("fuse", *raters, "--output", output, "--overwrite")


def test_a_file_of_four_axes_holds_a_rater_in_each_volume(tmp_path, raters):
    stack = torch.stack([load_nifti(path).data for path in raters])
    path, output = tmp_path / "all.nii.gz", tmp_path / "f.nii.gz"
    image = nibabel.Nifti1Image(stack.movedim(0, 3).numpy(), STRAIGHT.numpy())
    nibabel.save(image, path)
    assert "3 raters by mean" in run("fuse", path, "--output", output)
    torch.testing.assert_close(load_nifti(output).data, stack.mean(dim=0))
    text = run("fuse", path, "--output", output, "--method", "staple", "--overwrite")
    quality = float(staple(stack).sensitivity[1])
    assert f"all.nii.gz, rater 2: sensitivity {quality:.4f}" in text
    weights = ("--method", "weighted", "--weights", "2,1,1", "--overwrite")
    run("fuse", path, "--output", output, *weights)
    torch.testing.assert_close(load_nifti(output).data, (2 * stack[0] + stack[1] + stack[2]) / 4)


def test_cases_of_fewer_raters_than_most_are_noted(tmp_path):
    counts = {"a": 3, "b": 1, "c": 3, "d": 2}
    for case, count in counts.items():
        for number in range(1, count + 1):
            saved(tmp_path / "data" / "raters" / f"{case}_rater{number}.nii.gz", blob(2, 3, 3))
    (tmp_path / "data" / "raters" / "d_rater3.npz").touch()
    text = run("fuse", tmp_path / "data", "--output", tmp_path / "out")
    with (tmp_path / "out" / "fused.csv").open(newline="") as stream:
        notes = {row["case"]: row["warning"] for row in csv.DictReader(stream)}
    assert notes["a"] == notes["c"] == ""
    assert notes["b"] == ("most cases have 3 raters; this is the mask of a single rater")
    assert notes["d"] == "most cases have 3 raters; d_rater3.npz left out"
    assert "warning: d: most cases have 3 raters" in text


def test_a_folder_is_fused_case_by_case_and_a_bad_case_is_noted(tmp_path):
    write_phantoms(tmp_path / "data", 3, seed=0, shape=(40, 40, 24))
    bad = tmp_path / "data" / "raters" / "phantom-0001_rater2.nii.gz"
    bad.write_bytes(bad.read_bytes()[:200])
    (tmp_path / "data" / "raters" / "stray.nii.gz").write_bytes(b"")
    output = tmp_path / "fused"
    text = run("fuse", tmp_path / "data", "--output", output, status=1)
    assert "2 cases fused, 1 failed" in text
    assert "failed: phantom-0001: " in text
    assert "stray.nii.gz: its name must be CASE_rater1" in text
    assert not (output / "phantom-0001.nii.gz").exists()
    with (output / "fused.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["case"] for row in rows] == ["phantom-0000", "phantom-0001", "phantom-0002"]
    assert "phantom-0001_rater2.nii.gz must be a readable NIfTI" in rows[1]["error"]
    for row in (rows[0], rows[2]):
        stack = [
            load_nifti(path).data
            for path in sorted((tmp_path / "data" / "raters").glob(f"{row['case']}_rater*"))
        ]
        found = load_nifti(output / f"{row['case']}.nii.gz")
        torch.testing.assert_close(found.data, torch.stack(stack).mean(dim=0))
        ml = float(found.data.double().sum()) * np.prod(found.spacing) / 1000
        assert float(row["volume_ml"]) == pytest.approx(ml, rel=1e-6)
        assert row["error"] == ""
    assert "must not exist yet" in run("fuse", tmp_path / "data", "--output", output, status=2)


def test_an_interrupted_folder_keeps_its_table(tmp_path, monkeypatch):
    write_phantoms(tmp_path / "data", 2, seed=0, shape=(24, 24, 16))
    whole = fusing.fuse_files

    def second_is_interrupted(paths, output, fusion):
        if "0001" in output.name:
            raise KeyboardInterrupt
        return whole(paths, output, fusion)

    monkeypatch.setattr(fusing, "fuse_files", second_is_interrupted)
    text = run("fuse", tmp_path / "data", "--output", tmp_path / "out", status=130)
    assert "interrupted: 1 of 2 cases are done" in text
    assert (tmp_path / "out" / "fused.csv").read_text().count("phantom-") == 1


def test_a_folder_without_raters_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    text = run("fuse", tmp_path / "data", "--output", tmp_path / "out", status=2)
    assert "must hold masks named CASE_rater1.nii.gz and so on, found none" in text


@needs_real
def test_a_real_mask_and_brain_are_fused_only_by_choice(tmp_path):
    files = [REAL / f"patient01_native1mm_{kind}.nii.gz" for kind in ("consensus_gt", "brainmask")]
    output = tmp_path / "f.nii.gz"
    text = run("fuse", *files, "--output", output, status=2)
    assert "index trusts the voxel grid" in text
    run("fuse", *files, "--output", output, "--geometry", "index")
    first, second, found = (load_nifti(path).data for path in (*files, output))
    torch.testing.assert_close(found, (first + second) / 2)
