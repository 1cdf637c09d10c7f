"""The command `detect`: bad input in one line, what it writes, and several checkpoints."""

from __future__ import annotations

import csv
import gzip
import re

import pytest
import torch
from typer.testing import CliRunner

from softoverlap.app.cli import app
from softoverlap.app.train import detect, write_checkpoint
from softoverlap.images import load_nifti, read_boxes, save_nifti
from tests.support.checkpoints import lively_detector, noise, small_detector


def run(*arguments, status=0):
    """Run the command in this process; what it printed, output and errors together."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def data(tmp_path):
    """A folder with two scans."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    for number, case in enumerate(("sub-01", "sub-02")):
        image = torch.randn(16, 16, 16, generator=torch.Generator().manual_seed(number))
        save_nifti(folder / "images" / f"{case}.nii.gz", image, torch.eye(4))
    return folder


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, small_detector())
    return path


def spoil(path, value):
    save_nifti(path, torch.full((16, 16, 16), float(value)), torch.eye(4))


def test_a_corrupt_scan_is_noted_and_the_others_go_on(data, checkpoint, tmp_path):
    path = data / "images" / "sub-01.nii.gz"
    path.write_bytes(path.read_bytes()[:200])
    output = tmp_path / "found"
    arguments = ("detect", checkpoint, data, "--output", output, "--device", "cpu")
    text = run(*arguments, status=1)
    assert "1 scan done, 1 failed" in text
    rows = list(csv.DictReader((output / "scans.csv").open()))
    assert [(row["case"], row["state"]) for row in rows] == [("sub-01", "failed"), ("sub-02", "ok")]
    assert "readable NIfTI" in rows[0]["error"]
    assert (output / "sub-02_heatmap.nii.gz").exists()


def test_a_sheared_scan_has_all_results_and_the_next_one_too(checkpoint, tmp_path):
    scans, output = tmp_path / "scans", tmp_path / "found"
    scans.mkdir()
    tilted = torch.eye(4)
    tilted[1, 2] = 0.3
    for name, affine in (("a_tilt", tilted), ("b_ok", torch.eye(4))):
        save_nifti(scans / f"{name}.nii.gz", torch.rand(16, 16, 16), affine)
    run("detect", checkpoint, scans, "--output", output, "--device", "cpu")
    assert len(list(output.glob("*_boxes.mrk.json"))) == 2
    assert len(list(output.glob("*_heatmap.nii.gz"))) == 2
    rows = list(csv.DictReader((output / "scans.csv").open()))
    assert [row["state"] for row in rows] == ["ok", "ok"]


def test_results_that_cannot_be_written_are_noted_and_the_others_go_on(
    data, checkpoint, tmp_path, monkeypatch
):
    def refuse(path, *args, **kwargs):
        if "sub-01" in str(path):
            raise OSError(f"{path}: no space left")

    monkeypatch.setattr("softoverlap.app.train.files.write_markups", refuse)
    output = tmp_path / "found"
    text = run("detect", checkpoint, data, "--output", output, "--device", "cpu", status=1)
    assert "1 scan done, 1 failed" in text
    assert "no space left" in (output / "scans.csv").read_text()


def test_a_damaged_header_is_noted_and_the_others_go_on(data, checkpoint, tmp_path):
    path = data / "images" / "sub-01.nii.gz"
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[123] = 5
    path.write_bytes(gzip.compress(bytes(raw)))
    output = tmp_path / "found"
    text = run("detect", checkpoint, data, "--output", output, "--device", "cpu", status=1)
    assert "1 scan done, 1 failed" in text
    assert "sub-01.nii.gz must have a unit of length" in text


def test_one_scan_given_twice_is_read_once(data, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(data)
    output = tmp_path / "found"
    twice = ("images/sub-01.nii.gz", data / "images" / "sub-01.nii.gz")
    assert "1 scan done" in run("detect", checkpoint, *twice, "--output", output)


def test_an_interrupted_detection_keeps_what_is_done_and_says_so(
    data, checkpoint, tmp_path, monkeypatch
):
    from softoverlap.app.train import files

    find, output = files.detect, tmp_path / "found"
    calls = []

    def interrupted(model, image, **options):
        calls.append(image)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return find(model, image, **options)

    monkeypatch.setattr(files, "detect", interrupted)
    text = run("detect", checkpoint, data, "--output", output, "--device", "cpu", status=130)
    assert "interrupted: 1 of 2 scans are done" in text
    assert "checkpoint" not in text
    rows = list(csv.DictReader((output / "scans.csv").open()))
    assert [row["case"] for row in rows] == ["sub-01"]


def test_results_lie_on_the_grid_of_a_scan_without_labels(checkpoint, tmp_path):
    affine = torch.tensor([[0.0, -2, 0, 5], [1.5, 0, 0, -3], [0, 0, 1, 2], [0, 0, 0, 1]])
    image = torch.rand(12, 20, 18, generator=torch.Generator().manual_seed(0))
    save_nifti(tmp_path / "scan.nii", image, affine)
    output = tmp_path / "found"
    run("detect", checkpoint, tmp_path / "*.nii", "--output", output, "--device", "cpu")
    heat_map = load_nifti(output / "scan_heatmap.nii.gz")
    assert heat_map.data.shape == image.shape
    assert torch.equal(heat_map.affine, affine.double())
    boxes = read_boxes(output / "scan_boxes.json")
    assert boxes.affine is not None
    assert torch.equal(boxes.affine, affine.double())
    rows = list(csv.DictReader((output / "detections.csv").open()))
    assert len(rows) == len(boxes.boxes)


def test_existing_results_and_scans_are_never_replaced_unasked(data, checkpoint, tmp_path):
    arguments = ("detect", checkpoint, data, "--output", tmp_path / "found", "--device", "cpu")
    run(*arguments)
    assert "must not exist yet" in run(*arguments, status=2)
    run(*arguments, "--overwrite")
    scans = tmp_path / "scans"
    scans.mkdir()
    for name in ("a", "a_heatmap"):
        save_nifti(scans / f"{name}.nii.gz", torch.rand(16, 16, 16), torch.eye(4))
    before = (scans / "a_heatmap.nii.gz").read_bytes()
    text = run("detect", checkpoint, scans, "--output", scans, "--overwrite", status=2)
    assert "must not be replaced" in text
    assert (scans / "a_heatmap.nii.gz").read_bytes() == before


def test_tables_of_other_origin_are_not_replaced_even_if_asked(data, checkpoint, tmp_path):
    output = tmp_path / "found"
    output.mkdir()
    (output / "sub-01_boxes.json").write_text("mine")
    arguments = ("detect", checkpoint, data, "--output", output, "--device", "cpu", "--overwrite")
    for name, content in (("scans.csv", "case,mine\nsub-01,kept\n"), ("detections.csv", "no,\x00")):
        (output / name).write_text(content)
        text = run(*arguments, status=2)
        assert f"{name} must not be replaced, since it is no table of `softoverlap detect`" in text
        assert "pass another --output" in text
        assert (output / name).read_text() == content
        (output / name).unlink()
    assert (output / "sub-01_boxes.json").read_text() == "mine"


def test_overwriting_removes_what_an_earlier_table_lists(data, checkpoint, tmp_path):
    output = tmp_path / "found"
    arguments = ("--output", output, "--device", "cpu", "--overwrite")
    run("detect", checkpoint, data, *arguments)
    (output / "notes_boxes.json").write_text("mine")
    run("detect", checkpoint, data / "images" / "sub-02.nii.gz", *arguments)
    assert not list(output.glob("sub-01*"))
    assert len(list(output.glob("sub-02*"))) == 3
    assert (output / "notes_boxes.json").read_text() == "mine"


def test_a_scan_of_one_value_is_noted_and_has_no_boxes(checkpoint, tmp_path):
    spoil(tmp_path / "flat.nii.gz", 7)
    output = tmp_path / "found"
    scan = tmp_path / "flat.nii.gz"
    text = run("detect", checkpoint, scan, "--output", output, "--device", "cpu", "--score", 0)
    assert "flat.nii.gz: all voxels are 7: no boxes" in text
    (row,) = csv.DictReader((output / "scans.csv").open())
    assert (row["state"], row["boxes"], row["note"]) == ("ok", "0", "all voxels are 7: no boxes")
    assert len(read_boxes(output / "flat_boxes.json").boxes) == 0


def test_score_and_number_of_boxes_can_be_chosen(data, checkpoint, tmp_path):
    def boxes(*options):
        run("detect", checkpoint, data, "--output", tmp_path / "f", "--overwrite", *options)
        return list(csv.DictReader((tmp_path / "f" / "detections.csv").open()))

    every = boxes("--score", 0)
    middle = sorted(float(row["score"]) for row in every)[len(every) // 2]
    assert 0 < len(boxes("--score", middle)) < len(every)
    assert all(float(row["score"]) >= middle for row in boxes("--score", middle))
    assert len(boxes("--score", 0, "--max-boxes", 2)) == 4


def test_arguments_in_the_wrong_place_are_named_in_one_line(data, checkpoint, tmp_path):
    scan = data / "images" / "sub-01.nii.gz"
    text = run("detect", scan, scan, "--output", tmp_path / "found", status=2)
    assert "CHECKPOINT must be a file of `softoverlap train`, got the scan" in text
    assert "weights_only" not in text
    for command in (("detect", checkpoint, scan), ("demo",), ("phantoms",)):
        text = run(*command, "--output", scan, status=2)
        assert "--output must be a folder, got the file" in text


def test_wrong_sources_and_checkpoints_are_named(data, checkpoint, tmp_path):
    output = ("--output", tmp_path / "found", "--device", "cpu")
    assert "found none in" in run("detect", checkpoint, tmp_path / "no*", *output, status=2)
    assert "must be a file" in run("detect", tmp_path / "no.pt", data, *output, status=2)
    checkpoint.write_bytes(gzip.compress(b"not a checkpoint"))
    assert "readable checkpoint" in run("detect", checkpoint, data, *output, status=2)
    checkpoint.write_bytes(b"cfoo\nbar\n.")
    text = run("detect", checkpoint, data, *output, status=2)
    assert len([line for line in text.splitlines() if line.strip()]) == 1


def test_boxes_keep_the_threshold_of_the_checkpoint_and_are_counted_by_it(data, tmp_path):
    path, found = tmp_path / "c.pt", tmp_path / "found"
    write_checkpoint(path, lively_detector(), score_threshold=0.5)
    text = run("detect", path, data, "--output", found, "--device", "cpu")
    boxes = read_boxes(found / "sub-01_boxes.json")
    assert (boxes.score_threshold, boxes.threshold_rule) == (0.5, "given")
    assert boxes.smallest_anchor == (5.0, 5.0, 5.0)
    above, below = int(boxes.above.sum()), int((~boxes.above).sum())
    assert min(above, below) > 0
    assert re.search(rf"sub-01\.nii\.gz: {above} box(es)? at or above 0\.5, {below} cand", text)


@pytest.mark.parametrize("separator", [(), ("--",)])
def test_several_checkpoints_are_joined(data, tmp_path, separator):
    folds = [tmp_path / f"fold{number}.pt" for number in range(2)]
    for number, path in enumerate(folds):
        write_checkpoint(path, lively_detector(number), score_threshold=0.2 + 0.2 * number)
    output = ("--output", tmp_path / "found", "--device", "cpu", "--max-boxes", 5)
    run("detect", *folds, *separator, data / "images", *output)
    boxes = read_boxes(tmp_path / "found" / "sub-01_boxes.json")
    assert len(boxes.boxes) == 5
    assert boxes.score_threshold == pytest.approx(0.3)
    assert boxes.threshold_rule == "mean of 2 detectors: given"
    text = run("detect", *folds, *output, "--overwrite", status=2)
    assert "IMAGES must name at least one scan, got only" in text


def test_checkpoints_that_cannot_be_joined_are_refused_before_a_scan_is_read(
    data, checkpoint, tmp_path
):
    write_checkpoint(tmp_path / "other.pt", small_detector(num_classes=2))
    output = ("--output", tmp_path / "found", "--device", "cpu")
    text = run("detect", checkpoint, tmp_path / "other.pt", data, *output, status=2)
    assert "detectors with the same num_classes, got 1 and 2" in text
    assert not (tmp_path / "found").exists()


def test_channels_of_a_scan_may_lie_in_files_of_their_own(tmp_path):
    path, scan = tmp_path / "c.pt", noise(channels=2)
    write_checkpoint(path, lively_detector(in_channels=2, channel_names=["FLAIR", "T1"]))
    (tmp_path / "scans").mkdir()
    for number, channel in enumerate(scan.data):
        save_nifti(tmp_path / "scans" / f"a_{number:04d}.nii.gz", channel, scan.affine)
    output = ("--output", tmp_path / "found", "--device", "cpu")
    assert "1 scan done" in run("detect", path, tmp_path / "scans", *output)
    (row,) = csv.DictReader((tmp_path / "found" / "scans.csv").open())
    assert (row["case"], row["state"]) == ("a", "ok")
    alone = (path, tmp_path / "scans" / "a_0000.nii.gz", *output, "--overwrite")
    assert "IMAGES must hold 2 channels of a" in run("detect", *alone, status=2)


def test_settings_that_may_differ_come_from_a_file(data, checkpoint, tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("lowest_score: 0.0\n")
    output = ("--output", tmp_path / "found", "--device", "cpu")
    run("detect", checkpoint, data, *output, "--config", mine)
    assert len(read_boxes(tmp_path / "found" / "sub-01_boxes.json").boxes) > 0
    mine.write_text("spacing: [2, 2, 2]\n")
    arguments = ("detect", checkpoint, data, *output, "--overwrite", "--config", mine)
    assert "spacing must be None, as in the training" in run(*arguments, status=2)


def test_joined_boxes_are_limited_after_they_are_joined(data, tmp_path):
    folds = [tmp_path / f"fold{number}.pt" for number in range(2)]
    for number, path in enumerate(folds):
        write_checkpoint(path, lively_detector(number))

    def found(*options):
        output = ("--output", tmp_path / "f", "--overwrite", "--device", "cpu")
        run("detect", *folds, data / "images" / "sub-01.nii.gz", *output, *options)
        return list(csv.DictReader((tmp_path / "f" / "detections.csv").open()))

    every = found()
    half = float(every[len(every) // 2]["score"])
    assert found("--score", half) == [row for row in every if float(row["score"]) >= half]
    assert found("--max-boxes", 5) == every[:5]


def test_with_tta_flips_are_joined_in_every_checkpoint(data, tmp_path):
    models = [lively_detector(0), lively_detector(1)]
    paths = [tmp_path / f"{number}.pt" for number in range(2)]
    for path, model in zip(paths, models, strict=True):
        write_checkpoint(path, model)
    scan = data / "images" / "sub-01.nii.gz"
    run("detect", *paths, "--", scan, "--tta", "--output", tmp_path / "found", "--device", "cpu")
    expected = detect(models, load_nifti(scan), tta=True)
    found = load_nifti(tmp_path / "found" / "sub-01_heatmap.nii.gz").data
    torch.testing.assert_close(found, expected.heat_map)
    assert not torch.allclose(found, detect(models, load_nifti(scan)).heat_map)
