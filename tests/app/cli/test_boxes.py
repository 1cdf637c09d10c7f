"""The commands boxes and convert: what they write, what they never replace, what they note."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from softoverlap.app.cli import app
from softoverlap.images import (
    FORMATS,
    BoxFile,
    read_box_files,
    read_boxes,
    read_label_map,
    save_nifti,
    write_boxes,
)
from softoverlap.lesions import lesions_from_mask

AFFINE = torch.diag(torch.tensor([-1.0, 1.0, 2.5, 1.0], dtype=torch.float64))


def run(*arguments, status=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == status, result.output
    return result.output


def soft_mask():
    """Two lesions, the first with a halo; whole-number corners."""
    mask = torch.zeros(12, 10, 8)
    mask[1:5, 2:6, 2:5] = 0.25
    mask[2:4, 3:5, 3] = 0.75
    mask[8:11, 7, 6:8] = 1.0
    return mask


@pytest.fixture
def masks(tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    for case in ("sub-01", "sub-02"):
        save_nifti(folder / f"{case}.nii.gz", soft_mask(), AFFINE)
    save_nifti(folder / "empty.nii.gz", torch.zeros(12, 10, 8), AFFINE)
    return folder


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_masks_become_boxes_with_their_peak_and_volume(masks, tmp_path):
    output = tmp_path / "found"
    text = run("boxes", masks, "--output", output)
    assert "3 masks boxed, 0 failed" in text
    found = read_boxes(output / "sub-01_boxes.json")
    assert found.boxes.tolist() == [[2, 3, 3, 4, 5, 4], [8, 7, 6, 11, 8, 8]]
    assert found.scores.tolist() == [0.75, 1.0]
    assert torch.equal(found.affine, AFFINE)
    assert read_boxes(output / "empty_boxes.json").boxes.shape == (0, 6)
    rows = [row for row in rows_of(output / "boxes.csv") if row["case"] == "sub-02"]
    lesions = lesions_from_mask(soft_mask(), spacing=(1.0, 1.0, 2.5))
    assert [float(row["volume_mm3"]) for row in rows] == [one.volume_mm3 for one in lesions]
    assert [row["boxes"] for row in rows_of(output / "cases.csv")] == ["0", "2", "2"]
    table = read_box_files(output / "boxes.csv")
    assert torch.equal(table["sub-02"].boxes, found.boxes)


@pytest.mark.parametrize("command", ["boxes", "calibrate", "convert", "fuse", "inspect"])
def test_overwrite_has_the_same_words_in_each_command(command):
    assert "Replace an earlier result." in run(command, "--help")


def test_threshold_connectivity_and_size_are_those_of_the_library(masks, tmp_path):
    output = tmp_path / "found"
    options = ("--threshold", 0.2, "--connectivity", 6, "--min-mm3", 20)
    run("boxes", masks / "sub-01.nii.gz", "--output", output, *options)
    found = read_boxes(output / "sub-01_boxes.json")
    lesions = lesions_from_mask(
        soft_mask(), spacing=(1.0, 1.0, 2.5), threshold=0.2, connectivity=6, min_mm3=20.0
    )
    assert found.boxes.tolist() == [lesion.box.tolist() for lesion in lesions]
    assert len(lesions) == 1
    assert found.scores.tolist() == [0.75]


def test_with_low_a_lesion_reaches_from_its_core_into_its_halo(masks, tmp_path):
    output = tmp_path / "found"
    run("boxes", masks / "sub-01.nii.gz", "--output", output, "--low", 0.2)
    found = read_boxes(output / "sub-01_boxes.json")
    lesions = lesions_from_mask(soft_mask(), spacing=(1.0, 1.0, 2.5), low=0.2)
    assert found.boxes.tolist() == [lesion.box.tolist() for lesion in lesions]
    assert found.boxes[0].tolist() == [1, 2, 2, 5, 6, 5]
    assert found.scores.tolist() == [0.75, 1.0]
    text = run("boxes", masks, "--output", tmp_path / "b", "--low", 0.7, status=2)
    assert "--low must lie in (0, 0.5]" in text


@pytest.mark.parametrize("name", list(FORMATS))
def test_boxes_are_written_in_every_format(masks, tmp_path, name):
    output = tmp_path / "found"
    mask = masks / "sub-01.nii.gz"
    run("boxes", mask, "--output", output, "--format", name)
    path = output / f"sub-01_boxes{FORMATS[name].suffix}"
    found = read_boxes(path, format=name, image=mask)
    torch.testing.assert_close(
        found.boxes,
        torch.tensor([[2, 3, 3, 4, 5, 4], [8, 7, 6, 11, 8, 8]], dtype=torch.float64),
    )
    assert found.scores.tolist() == [0.75, 1.0]
    if name == "labelmap":
        assert [one.volume_mm3 for one in read_label_map(path)] == [4 * 2.5 * 0.75, 6 * 2.5]


def test_a_bad_mask_is_noted_and_the_others_go_on(masks, tmp_path):
    (masks / "broken.nii.gz").write_bytes(b"no gzip")
    save_nifti(masks / "percent.nii.gz", 100 * soft_mask(), AFFINE)
    output = tmp_path / "found"
    gone = masks / "gone.nii.gz"
    text = run("boxes", masks, gone, "--output", output, status=1)
    assert "3 masks boxed, 3 failed" in text
    assert text.count("say how to read them with --values") == 1
    assert text.count("broken.nii.gz must be a readable NIfTI") == 1
    rows = {row["case"]: row for row in rows_of(output / "cases.csv")}
    assert {case for case, row in rows.items() if row["state"] == "failed"} == {
        "broken",
        "percent",
        "gone",
    }
    assert "broken.nii.gz must be a readable NIfTI" in rows["broken"]["error"]
    assert not (output / "percent_boxes.json").exists()
    run("boxes", masks / "percent.nii.gz", "--output", tmp_path / "b", "--values", "percent")
    found = read_boxes(tmp_path / "b" / "percent_boxes.json")
    assert found.scores.tolist() == [0.75, 1.0]


def test_other_images_than_nifti_are_boxed(masks, tmp_path):
    import SimpleITK as sitk

    image = sitk.ReadImage(str(masks / "sub-01.nii.gz"))
    sitk.WriteImage(image, str(tmp_path / "sub-09.nrrd"))
    run("boxes", tmp_path / "sub-09.nrrd", "--output", tmp_path / "found", "--format", "monai")
    run("boxes", masks / "sub-01.nii.gz", "--output", tmp_path / "found2", "--format", "monai")
    first = read_boxes(tmp_path / "found" / "sub-09_boxes.json")
    second = read_boxes(tmp_path / "found2" / "sub-01_boxes.json")
    torch.testing.assert_close(first.boxes, second.boxes)
    torch.testing.assert_close(first.affine, second.affine)


def test_names_in_capitals_are_found_in_folders(masks, tmp_path):
    for path in masks.iterdir():
        path.rename(path.with_name(path.name.upper()))
    assert "3 masks boxed" in run("boxes", masks, "--output", tmp_path / "found")
    assert (tmp_path / "found" / "SUB-01_boxes.json").exists()


def test_a_dry_run_reads_and_writes_nothing(masks, tmp_path):
    text = run("boxes", masks, "--output", tmp_path / "found", "--dry-run")
    assert "sub-01.nii.gz: 2 boxes" in text
    assert not (tmp_path / "found").exists()
    source = tmp_path / "a.json"
    write_boxes(source, torch.tensor([[0.0, 0, 0, 1, 1, 1]]), affine=AFFINE)
    text = run("convert", source, tmp_path / "b.csv", "--dry-run")
    assert "1 file would be written, 0 failed; nothing was written" in text
    assert not (tmp_path / "b.csv").exists()


def test_an_earlier_result_is_replaced_only_where_that_is_asked_for(masks, tmp_path):
    output = tmp_path / "found"
    run("boxes", masks, "--output", output)
    (output / "boxes.csv").write_text("mine")
    assert "must not exist yet" in run("boxes", masks, "--output", output, status=2)
    assert (output / "boxes.csv").read_text() == "mine"
    run("boxes", masks, "--output", output, "--overwrite")
    assert len(rows_of(output / "boxes.csv")) == 4


def test_an_input_is_never_replaced(masks, tmp_path):
    label_map = masks / "sub-01_boxes.nii.gz"
    save_nifti(label_map, soft_mask(), AFFINE)
    before = label_map.read_bytes()
    options = ("--output", masks, "--format", "labelmap", "--overwrite")
    assert "is read and must not be replaced" in run("boxes", masks, *options, status=2)
    source = tmp_path / "a.json"
    write_boxes(source, torch.tensor([[0.0, 0, 0, 1, 1, 1]]), affine=AFFINE, case="a")
    for target, more in ((source, ()), (label_map, ("--image", label_map))):
        text = run("convert", source, target, *more, "--overwrite", status=2)
        assert "is read and must not be replaced" in text
    table = masks / "sub-01.csv"  # the scores beside a label map are read too
    table.write_text("value,score\n1,0.5\n")
    save_nifti(masks / "sub-01.nii.gz", (soft_mask() > 0).byte(), AFFINE)
    text = run("convert", masks / "sub-01.nii.gz", table, "--overwrite", status=2)
    assert "is read and must not be replaced" in text
    assert label_map.read_bytes() == before
    assert read_boxes(source).case == "a"


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "json"])
def test_a_file_converts_there_and_back(masks, tmp_path, name):
    source, scan = tmp_path / "sub-01_boxes.json", masks / "sub-01.nii.gz"
    boxes = torch.tensor([[2.0, 3, 3, 4, 5, 4], [8, 7, 6, 11, 8, 8]], dtype=torch.float64)
    file = BoxFile(
        boxes, torch.tensor([0.25, 0.125]).double(), torch.tensor([1, 0]), AFFINE, "sub-01"
    )
    write_boxes(
        source, boxes, scores=file.scores, labels=file.labels, affine=AFFINE, case="sub-01"
    )  # fmt: skip
    middle = tmp_path / f"there{FORMATS[name].suffix}"
    run("convert", source, middle, "--to", name, "--image", scan)
    back = tmp_path / "back.json"
    run("convert", middle, back, "--from", name, "--image", scan)
    found = read_boxes(back)
    torch.testing.assert_close(found.boxes, boxes)
    assert torch.equal(found.scores, file.scores)
    assert torch.equal(found.labels, file.labels)
    torch.testing.assert_close(found.affine, AFFINE)


def test_a_folder_becomes_one_file_and_one_file_a_folder(masks, tmp_path):
    found, all_boxes = tmp_path / "found", tmp_path / "all.json"
    run("boxes", masks, "--output", found)
    (found / "sub-01_boxes.mrk.json").write_text("not ours")
    (found / "cases.json").unlink(missing_ok=True)
    text = run("convert", found, all_boxes, "--from", "json", "--to", "coco")
    assert "1 file written, 0 failed" in text
    assert list(read_box_files(all_boxes)) == ["empty", "sub-01", "sub-02"]
    run("convert", all_boxes, tmp_path / "slicer", "--to", "slicer")
    rois = json.loads((tmp_path / "slicer" / "sub-02_boxes.mrk.json").read_text())["markups"]
    assert len(rois) == 2
    assert len(list((tmp_path / "slicer").iterdir())) == 3
    scan = ("--image", masks / "sub-01.nii.gz")  # of one case, not of three
    back = ("convert", tmp_path / "slicer", tmp_path / "b", "--from", "slicer", "--to", "json")
    text = run(*back, *scan, status=2)
    assert "--image must be a folder of scans for 3 files" in text
    run(*back, "--image", masks)
    assert torch.equal(read_boxes(tmp_path / "b" / "sub-02_boxes.json").affine, AFFINE)
    assert "--from must name" in run("convert", found, tmp_path / "x.csv", status=2)
    assert "--to must name" in run("convert", all_boxes, tmp_path / "folder", status=2)
    text = run("convert", all_boxes, tmp_path / "one.npz", status=2)
    assert "OUT must be a folder, since nndetection holds one case per file and IN has 3" in text


def test_cases_that_a_table_cannot_hold_are_named(masks, tmp_path):
    found = tmp_path / "found"
    run("boxes", masks, "--output", found)
    text = run("convert", found, tmp_path / "all.csv", "--from", "json")
    assert "not in the table, since they have no boxes: empty" in text
    assert list(read_box_files(tmp_path / "all.csv")) == ["sub-01", "sub-02"]
    text = run("convert", found, tmp_path / "all.json", "--from", "json", "--to", "coco")
    assert "not in the table" not in text


def test_a_bad_file_is_named_and_the_others_are_converted(masks, tmp_path):
    found = tmp_path / "found"
    run("boxes", masks, "--output", found)
    (found / "sub-03_boxes.json").write_text("{")
    again = json.loads((found / "sub-01_boxes.json").read_text())
    (found / "twice_boxes.json").write_text(json.dumps(again))
    text = run("convert", found, tmp_path / "all.csv", "--from", "json", status=1)
    assert text.count("sub-03_boxes.json must be a JSON file") == 1
    assert "twice_boxes.json must not repeat the case sub-01 of" in text
    assert "1 file written, 2 failed" in text
    assert list(read_box_files(tmp_path / "all.csv")) == ["sub-01", "sub-02"]
    # a case that the format cannot hold
    write_boxes(tmp_path / "flat.json", torch.zeros(1, 4), affine=AFFINE, case="flat")
    text = run("convert", tmp_path / "flat.json", tmp_path / "flat.mrk.json", status=1)
    assert "0 files written, 1 failed; nothing was written" in text
    assert "must get 3D boxes in this format, got 2D" in text


def test_what_a_file_does_not_say_must_be_named(tmp_path):
    lists = {"validation": [{"image": "a.nii.gz", "box": [[0, 0, 0, 2, 2, 5]], "label": [0]}]}
    source = tmp_path / "luna.json"
    source.write_text(json.dumps(lists))
    text = run("convert", source, tmp_path / "a.json", status=1)
    assert "--frame" in text
    text = run("convert", source, tmp_path / "a.json", "--frame", "LPS", status=1)
    assert "--image" in text
    save_nifti(tmp_path / "a.nii.gz", torch.zeros(4, 4, 4), AFFINE)
    run("convert", source, tmp_path / "a.json", "--frame", "LPS")
    assert read_boxes(tmp_path / "a.json").boxes.tolist() == [[-0.5, -0.5, -0.5, 1.5, 1.5, 1.5]]


def test_a_case_does_not_lead_out_of_the_folder(tmp_path):
    source = tmp_path / "a.csv"
    source.write_text("case,axis0_min,axis0_max\n../evil,0,1\n")
    text = run("convert", source, tmp_path / "out", "--to", "json", status=2)
    assert "the case '../evil' must be a plain name" in text
    assert not (tmp_path / "evil_boxes.json").exists()


def test_wrong_arguments_are_one_line(masks, tmp_path):
    output = ("--output", tmp_path / "found")
    for arguments, words in (
        (("boxes", masks, *output, "--format", "yolo"), "--format must be one of"),
        (("boxes", masks, *output, "--threshold", 0), "--threshold must lie in (0, 1]"),
        (("boxes", masks, *output, "--connectivity", 8), "--connectivity must be one of"),
        (("boxes", masks, *output, "--values", "odd"), "--values must be one of"),
        (("boxes", tmp_path / "no*", *output), "MASKS must be files ending in"),
        (("convert", "a.json", "b.json", "--to", "yolo"), "--to must be one of"),
        (("convert", tmp_path / "no*", "b.json", "--from", "csv"), "IN must be files ending in"),
    ):
        text = run(*arguments, status=2)
        assert words in text
        assert len(text.strip().splitlines()) == 1
    np.savez(tmp_path / "a.npz", pred_boxes=np.zeros((0, 6)))
    text = run("convert", tmp_path / "a.npz", tmp_path / "b.csv", status=1)
    assert "name it with --from" in text
    (tmp_path / "none.csv").write_text("case,axis0_min,axis0_max\n")
    text = run("convert", tmp_path / "none.csv", tmp_path / "b.json", status=2)
    assert "IN must hold boxes of a case, found none" in text


def test_masks_of_one_name_are_refused(masks, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    save_nifti(other / "sub-01.nii", soft_mask(), AFFINE)
    text = run("boxes", masks, other, "--output", tmp_path / "found", status=2)
    assert "MASKS must have different names" in text


def test_an_interruption_keeps_the_tables_of_what_is_done(masks, tmp_path, monkeypatch):
    from softoverlap.app.cli import boxes

    real, calls = boxes.boxes_of_mask, []

    def interrupted(path, case, **settings):
        calls.append(case)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(path, case, **settings)

    monkeypatch.setattr(boxes, "boxes_of_mask", interrupted)
    text = run("boxes", masks, "--output", tmp_path / "found", status=130)
    assert "interrupted: 2 of 3 masks are done" in text
    assert len(rows_of(tmp_path / "found" / "cases.csv")) == 2


@pytest.mark.parametrize("command", ["boxes", "convert"])
def test_help_has_examples(command):
    assert f"softoverlap {command} " in run(command, "--help")


def test_the_boxes_of_masks_score_as_the_masks_do(masks, tmp_path):
    truth, found = tmp_path / "truth", tmp_path / "found"
    truth.mkdir()
    generator = torch.Generator().manual_seed(0)
    for case in ("sub-01", "sub-02"):
        noise = 0.5 * torch.rand(soft_mask().shape, generator=generator)
        save_nifti(masks / f"{case}.nii.gz", (soft_mask() * (0.5 + noise)).clamp(0, 1), AFFINE)
        save_nifti(truth / f"{case}.nii.gz", soft_mask(), AFFINE)
    (masks / "empty.nii.gz").unlink()
    options = ("--threshold", 0.3)
    run("boxes", masks, "--output", found, *options)
    run("score", masks, truth, "--output", tmp_path / "by_mask", *options)
    pattern = ("--pred-pattern", "{case}_boxes.json")
    run("score", found, truth, "--output", tmp_path / "by_box", *pattern, *options)
    by_mask, by_box = (rows_of(tmp_path / name / "boxes.csv") for name in ("by_mask", "by_box"))
    assert [row["score"] for row in by_mask] == [row["score"] for row in by_box]
    assert len(by_mask) > 2
