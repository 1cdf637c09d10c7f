"""Which files are meant: the same rule for every command, and every format of image."""

from __future__ import annotations

import csv
import json
import os

import numpy as np
import pytest
import SimpleITK
import torch
from typer.testing import CliRunner

from softoverlap.app.cli import app
from softoverlap.app.cohort import find_pairs
from softoverlap.app.train import detect_files, find_scans
from softoverlap.images import (
    find_cases,
    find_files,
    find_raters,
    is_dicom_folder,
    left_out,
    load_image,
    load_nifti,
)
from tests.support.checkpoints import small_detector
from tests.support.image_makers import itk_image, write_dicom

MASK = np.zeros((8, 10, 12), dtype=np.uint8)
MASK[2:5, 3:6, 4:8] = 1


def run(*arguments, status=0):
    """Run the command in this process; what it printed, output and errors together."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.output


def write_mask(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    SimpleITK.WriteImage(itk_image(MASK, direction=np.eye(3)), str(path))
    return path


def test_files_folders_and_patterns_are_found_once_in_order(tmp_path):
    for name in ("b.nii", "a.NII.GZ", ".hidden.nii", "note.txt", "deep/c.nii"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    a, b = tmp_path / "a.NII.GZ", tmp_path / "b.nii"
    suffixes = (".nii", ".nii.gz")
    assert find_files([tmp_path], suffixes, "X") == [a, b]
    assert find_files([b, tmp_path / "*"], suffixes, "X") == [b, a]
    assert find_files([tmp_path / "gone.nii"], suffixes, "X") == [tmp_path / "gone.nii"]
    assert find_files([tmp_path], suffixes, "X", without=(".gz",)) == [b]


def test_a_bracket_in_the_name_of_a_file_that_is_there_is_no_pattern(tmp_path):
    path = tmp_path / "b[1].nii"
    path.touch()
    assert find_files([path], (".nii",), "X") == [path]


@pytest.mark.bad_input
@pytest.mark.parametrize("source", ["", "*.mha"])
def test_a_folder_or_pattern_without_such_files_is_named(tmp_path, source):
    (tmp_path / "note.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"X must be files ending in \.nii, found none in"):
        find_files([tmp_path / source], (".nii",), "X")


def test_a_dicom_folder_is_a_file_unless_other_images_lie_in_it(tmp_path):
    folder = write_dicom(tmp_path / "ct", MASK)
    assert is_dicom_folder(folder)
    assert find_files([folder], (".nii",), "X") == [folder]
    (folder / "mask.nii").touch()
    assert not is_dicom_folder(folder)
    assert not is_dicom_folder(tmp_path)
    assert not is_dicom_folder(tmp_path / "gone")


def test_boxes_are_made_of_a_dicom_series(tmp_path):
    folder = write_dicom(tmp_path / "ct", MASK)
    run("boxes", folder, "--output", tmp_path / "found")
    found = json.loads((tmp_path / "found" / "ct_boxes.json").read_text())
    assert [box["box"] for box in found["boxes"]] == [[4, 3, 2, 8, 6, 5]]
    json_file, slicer = tmp_path / "found" / "ct_boxes.json", tmp_path / "ct.mrk.json"
    run("convert", json_file, slicer)
    for image in (folder, tmp_path):  # the series, or the folder that holds it by the case's name
        back = tmp_path / f"{image.name}.json"
        run("convert", slicer, back, "--image", image)
        boxes = json.loads(back.read_text())["boxes"]
        assert boxes[0]["box"] == pytest.approx([4, 3, 2, 8, 6, 5], abs=1e-3)


def test_a_dicom_series_is_scored_as_a_file_and_folders_of_them_as_cases(tmp_path):
    pair = find_pairs(
        write_dicom(tmp_path / "p" / "a", MASK), write_dicom(tmp_path / "t" / "a", MASK)
    )
    assert [(one.case, one.error) for one in pair.pairs] == [("a", None)]
    write_dicom(tmp_path / "p" / "b", MASK)
    table = find_pairs(tmp_path / "p", tmp_path / "t")
    assert [(one.case, one.error) for one in table.pairs] == [("a", None), ("b", "no truth")]
    run("score", tmp_path / "p", tmp_path / "t", "--output", tmp_path / "out", status=1)
    with (tmp_path / "out" / "cases.csv").open() as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert float(rows["a"]["soft_dice"]) == 1.0


def test_raters_of_other_formats_are_fused_from_a_folder(tmp_path):
    raters = tmp_path / "raters"
    write_mask(raters / "a_rater1.nrrd")
    write_mask(raters / "a_rater2.mhd")  # its a_rater2.raw is no file that is left out
    found, left = find_raters(tmp_path)
    assert [path.name for path in found["a"]] == ["a_rater1.nrrd", "a_rater2.mhd"]
    assert left == []
    run("fuse", tmp_path, "--output", tmp_path / "fused")
    fused = load_nifti(tmp_path / "fused" / "a.nii.gz")
    assert torch.equal(fused.data, load_image(raters / "a_rater1.nrrd").data)


def test_a_training_folder_may_hold_any_format(tmp_path):
    write_mask(tmp_path / "images" / "sub-01.mha")
    write_mask(tmp_path / "masks" / "sub-01.nrrd")
    (case,) = find_cases(tmp_path).cases
    assert (case.name, case.image.suffix, case.mask.suffix) == ("sub-01", ".mha", ".nrrd")


def test_detection_reads_every_format_and_a_file_that_is_gone_fails_by_itself(tmp_path):
    noise = torch.rand(16, 16, 16, generator=torch.Generator().manual_seed(0)).numpy()
    write_mask(tmp_path / "a.nrrd")
    SimpleITK.WriteImage(itk_image(noise), str(tmp_path / "a.nrrd"))
    folder = write_dicom(tmp_path / "ct", 1000 * noise)
    model = small_detector()
    scans = find_scans([tmp_path / "gone.nii.gz", tmp_path / "*.nrrd", folder])
    results = detect_files(model, scans, tmp_path / "out")
    assert [result.ok for result in results] == [False, True, True]
    assert "gone.nii.gz must be an image, found no such file" in results[0].error
    assert (tmp_path / "out" / "ct_heatmap.nii.gz").is_file()


def test_inspect_takes_the_images_of_a_folder(tmp_path):
    write_mask(tmp_path / "a.nrrd")
    write_mask(tmp_path / "b.mha")
    (tmp_path / "a.json").write_text("{}")  # a sidecar
    text = run("inspect", tmp_path)
    assert text.count("format   ") == 2
    assert "boxes    0\n" not in text


def test_what_a_folder_holds_beside_images_is_named_with_a_reason(tmp_path):
    write_mask(tmp_path / "a.nrrd")
    for name in ("a.json", "b.npz", "c.hdr", "notes.txt", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "d.nii.gz").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "e.nrrd").symlink_to("e.nrrd")
    (tmp_path / "f.nrrd").symlink_to("gone.nrrd")
    os.mkfifo(tmp_path / "g.nii")
    reasons = {file.path.name: file.reason for file in left_out([tmp_path, tmp_path / "a.nrrd"])}
    assert {name: reason[:19] for name, reason in reasons.items()} == {
        "b.npz": "not a file ending i", "notes.txt": "not a file ending i",
        "c.hdr": "no c.img beside it", "d.nii.gz": "a folder", "e.nrrd": "a link that leads t",
        "f.nrrd": "a link whose target", "g.nii": "a pipe or a device",
    }  # fmt: skip
    text = run("inspect", tmp_path, status=1)
    assert "left out: b.npz, notes.txt (not a file ending in .nii" in text
    assert "d.nii.gz (a folder)" in text


def test_inspect_takes_boxes_of_a_folder_without_images(tmp_path):
    write_mask(tmp_path / "masks/a.nrrd")
    run("boxes", tmp_path / "masks", "--output", tmp_path / "found")
    (tmp_path / "found/cases.csv").unlink()
    (tmp_path / "found/boxes.csv").unlink()
    assert "boxes    1" in run("inspect", tmp_path / "found")
