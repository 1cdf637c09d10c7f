"""The command inspect: what it says, what it writes, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch

from softoverlap.images import BoxFile, save_nifti, write_box_files, write_boxes
from tests.support.image_commands import STRAIGHT, blob, run, saved
from tests.support.image_makers import affine, itk_image, oblique, write_dicom


def test_a_mask_is_told_with_grid_kind_and_lesions(tmp_path):
    mask = blob(1, 1, 1) + blob(7, 6, 4, size=2, value=0.75)
    text = run("inspect", saved(tmp_path / "mask.nii.gz", mask))
    assert "format   NIfTI, compressed" in text
    assert "grid     12 x 10 x 8 voxels of 1 x 2 x 3 mm, axes RAS\n" in text
    assert "first voxel's centre at 5, 6, 7 mm (RAS)" in text
    assert "values   probabilities, from 0 to 1" in text
    assert "lesions  2 at 0.5 or above: 36 to 162 mm³, median 99 mm³" in text
    assert "volume   0.198 ml" in text


def test_thresholds_and_hysteresis_are_passed_on(tmp_path):
    mask = blob(1, 1, 1, value=0.4) + blob(7, 6, 4, size=2, value=0.75)
    mask[9, 6, 4] = 0.3
    path = saved(tmp_path / "mask.nii", mask)
    assert "lesions  1 at 0.5 or above:" in run("inspect", path)
    assert "lesions  2 at 0.4 or above:" in run("inspect", path, "--threshold", 0.4)
    assert "lesions  1 at 0.5 or above, down to 0.3:" in run("inspect", path, "--low", 0.3)
    assert "--low must lie in (0, 0.5]" in run("inspect", path, "--low", 0.6, status=2)


@pytest.mark.parametrize(
    ("values", "words", "options", "lesions"),
    [
        ([0, 1], "binary: only 0 and 1", (), 1),
        ([0, 0], "binary: only 0 and 1, from 0 to 0", (), 0),
        ([0, 255], "look like 0-255", (), None),
        ([0, 255], "look like 0-255", ("--values", "0-255"), 1),
        ([0, 80.5], "look like percent", ("--values", "percent"), 1),
        ([-900, 3000], "other: probably not a mask", (), None),
        ([0, 4], "label    4: 27 voxels, 0.162 ml", (), None),
        ([0, 4], "labels: whole numbers", ("--label", 4), 1),
        ([0, 4], "labels: whole numbers", ("--label", 2), 0),
        ([0, float("nan")], "other: probably not a mask, 27 voxels NaN or infinite", (), None),
    ],
)
def test_kinds_of_values_are_named(tmp_path, values, words, options, lesions):
    low, high = values
    data = torch.where(blob(2, 2, 2) > 0, high, low).numpy().astype(np.float32)
    path = tmp_path / "scan.nii"
    nibabel.save(nibabel.Nifti1Image(data, STRAIGHT.numpy()), path)
    text = run("inspect", path, *options)
    assert words in text
    found = None if "lesions" not in text else int(text.split("lesions ")[1].split()[0])
    assert found == lesions


def test_every_format_is_read_and_oblique_grids_are_told(tmp_path):
    image = itk_image(np.zeros((4, 5, 6), dtype=np.uint8), direction=oblique(degrees=(0, 0, 10)))
    SimpleITK.WriteImage(image, str(tmp_path / "scan.nrrd"))
    SimpleITK.WriteImage(SimpleITK.Compose(image, image), str(tmp_path / "two.mha"))
    write_dicom(tmp_path / "ct", np.zeros((3, 4, 4)))
    text = run("inspect", tmp_path / "scan.nrrd", tmp_path / "two.mha", tmp_path / "ct")
    assert "format   NRRD" in text
    assert "axes LPS, oblique by up to 10 degrees" in text
    assert "2 channels of 6 x 5 x 4 voxels" in text
    assert "format   DICOM series" in text


def test_boxes_are_counted_with_their_scores(tmp_path):
    boxes = torch.tensor([[0.0, 0, 0, 2, 3, 4], [1.0, 1, 1, 2, 2, 9]])
    path = tmp_path / "found.json"
    write_boxes(path, boxes, scores=torch.tensor([0.25, 0.75]), affine=STRAIGHT, case="sub-01")
    text = run("inspect", path)
    assert "format   boxes in 3D, of sub-01" in text
    assert "boxes    2, edges from 1 to 8 voxels" in text
    assert "scores   from 0.25 to 0.75, median 0.5" in text
    write_boxes(path, torch.zeros(0, 6))
    assert "boxes    0\n" in run("inspect", path)


def test_inspect_tells_the_threshold_what_is_ignored_and_the_smallest_anchor(tmp_path):
    boxes = torch.tensor([[0.0, 0, 0, 2, 2, 2], [3, 3, 3, 4, 4, 4]], dtype=torch.float64)
    file = BoxFile(
        boxes,
        torch.tensor([0.9, 0.1], dtype=torch.float64),
        score_threshold=0.42,
        threshold_rule="f1 on 3 validation scans",
        ignored=torch.tensor([False, True]),
        smallest_anchor=(5.0, 5.0, 2.5),
    )
    write_box_files(tmp_path / "a.json", {"a": file})
    text = run("inspect", tmp_path / "a.json")
    assert "above    1 of 2 at or above 0.42 (f1 on 3 validation scans)\n" in text
    assert "ignored  1 of 2\n" in text
    assert "anchor   smallest 5 x 5 x 2.5 voxels\n" in text


def boxes_of_cases(path, counts, **options):
    """A file of several cases with so many boxes each."""
    box = torch.tensor([[4.0, 4, 3, 7, 7, 6]], dtype=torch.float64)
    files = {
        case: BoxFile(
            box.repeat(count, 1), torch.full((count,), 0.5).double(), None, STRAIGHT, case
        )
        for case, count in counts.items()
    }
    write_box_files(path, files, **options)
    return path


@pytest.mark.parametrize("format", ["csv", "coco", "monai"])
def test_a_file_of_many_cases_is_told_case_by_case(tmp_path, format):
    path = tmp_path / f"all.{'csv' if format == 'csv' else 'json'}"
    text = run("inspect", boxes_of_cases(path, {"a": 1, "b": 2}, format=format))
    assert "boxes    3 in 2 cases" in text
    assert "case     a: 1 box in 3D, edges from 3 to 3 voxels, scores from 0.5 to 0.5\n" in text
    assert "case     b: 2 boxes in 3D" in text
    text = run("inspect", boxes_of_cases(path, {f"s{k}": 1 for k in range(23)}, format=format))
    assert text.count("case     s") == 20
    assert "case     and 3 more" in text


def test_markups_are_told_in_millimetres_or_by_their_scan_in_voxels(tmp_path):
    path, scan = tmp_path / "a.mrk.json", saved(tmp_path / "scan.nii", torch.rand(12, 10, 8))
    boxes = torch.tensor([[4.0, 4, 3, 7, 6, 6], [0.0, 0, 0, 1, 1, 1]])
    write_boxes(path, boxes, affine=STRAIGHT)
    assert "boxes    2, edges from 1 to 9 mm\n" in run("inspect", path)
    text = run("inspect", path, "--image", scan)
    assert "boxes    2, edges from 1 to 3 voxels\n" in text
    assert "affine   known (RAS)" in text
    run("inspect", path, "--image", scan, "--picture", tmp_path / "p.png")


def test_inspect_is_told_what_boxes_of_others_do_not_say(tmp_path):
    scan, luna, coco = saved(tmp_path / "s" / "a.nii", torch.rand(12, 10, 8)), *(
        tmp_path / name for name in ("luna.json", "coco.json")
    )  # fmt: skip
    entry = {"image": "a.nii", "box": [[-6, -9, 13, 2, 4, 6]], "label": [0]}
    luna.write_text(json.dumps({"training": [entry]}))
    assert "--frame" in run("inspect", luna, status=1)
    assert "edges from 2 to 2 voxels" in run("inspect", luna, "--frame", "lps", "--image", scan)
    boxes_of_cases(coco, {"a": 1}, format="coco")
    content = json.loads(coco.read_text())
    bare = {key: content[key] for key in ("images", "annotations", "categories")}
    coco.write_text(json.dumps(bare))
    assert "--axis-order" in run("inspect", coco, status=1)
    text = run("inspect", coco, "--axis-order", "xyz", "--image", scan)
    assert "affine   known (RAS)" in text


@pytest.mark.parametrize("turn", [[[0, -1], [1, 1], [2, -1]], [[2, 1], [0, -1], [1, 1]]])
def test_boxes_of_a_turned_grid_are_drawn_where_they_lie(tmp_path, monkeypatch, turn):
    from softoverlap.app import report

    seen, plot_case = {}, report.plot_case

    def remembered(image, **options):
        seen.update(options, image=image)
        return plot_case(image, **options)

    monkeypatch.setattr(report, "plot_case", remembered)
    scan = saved(tmp_path / "scan.nii", blob(4, 3, 2))
    image = nibabel.load(scan).as_reoriented(turn)
    places = np.argwhere(image.get_fdata())
    box = torch.tensor([[*places.min(0), *(places.max(0) + 1)]], dtype=torch.float64)
    near = image.affine.copy()
    near[0, 3] += 0.4
    for number, matrix in enumerate((image.affine, near)):
        write_boxes(tmp_path / "b.json", box, affine=torch.from_numpy(matrix))
        options = ("--image", scan, "--picture", tmp_path / f"{number}.png")
        text = run("inspect", tmp_path / "b.json", *options)
        assert ("0.4 voxels apart" in text) == (number == 1)
        shown = seen["image"].nonzero()
        expected = [*shown.amin(0).tolist(), *(shown.amax(0) + 1).tolist()]
        assert seen["found_boxes"][0].tolist() == pytest.approx(expected, abs=1e-6)


def test_boxes_below_the_score_threshold_are_not_drawn(tmp_path, monkeypatch):
    from softoverlap.app import report

    seen, plot_case = {}, report.plot_case

    def remembered(image, **options):
        seen.update(options)
        return plot_case(image, **options)

    monkeypatch.setattr(report, "plot_case", remembered)
    scan = saved(tmp_path / "scan.nii", torch.rand(12, 10, 8))
    boxes = torch.tensor([[1.0, 1, 1, 3, 3, 3], [4, 4, 3, 7, 7, 6], [0, 0, 0, 9, 9, 7]])
    scores = torch.tensor([0.5, 0.9, 0.1], dtype=torch.float64)
    file = BoxFile(boxes.double(), scores, affine=STRAIGHT.double(), score_threshold=0.5)
    write_box_files(tmp_path / "b.json", {"b": file})
    run("inspect", tmp_path / "b.json", "--image", scan, "--picture", tmp_path / "p.png")
    assert seen["scores"].tolist() == [0.9, 0.5]
    assert len(seen["found_boxes"]) == 2


def test_a_scan_in_whole_numbers_is_not_told_as_labels(tmp_path):
    generator = torch.Generator().manual_seed(0)
    ct = (1000 + 30 * torch.randn(12, 10, 8, generator=generator)).round().short().numpy()
    nibabel.save(nibabel.Nifti1Image(ct, STRAIGHT.numpy()), tmp_path / "ct.nii")
    write_dicom(tmp_path / "series", ct)
    for path in (tmp_path / "ct.nii", tmp_path / "series"):
        text = run("inspect", path)
        assert "other: probably not a mask" in text
        assert "label " not in text


def test_volumes_of_a_sheared_grid_agree(tmp_path):
    sheared = torch.diag(torch.tensor([1.0, 2.0, 1.5, 1.0], dtype=torch.float64))
    sheared[0, 1] = 1.5  # 3 mm³ a voxel, though the product of its edges is 3.75
    text = run("inspect", saved(tmp_path / "mask.nii.gz", blob(2, 2, 2), sheared))
    assert "81 to 81 mm³" in text
    assert "volume   0.081 ml" in text
    labels = saved(tmp_path / "labels.nii.gz", blob(2, 2, 2, value=2.0), sheared)
    assert "label    2: 27 voxels, 0.081 ml" in run("inspect", labels)


def test_a_bad_file_is_named_and_the_others_go_on(tmp_path):
    good = saved(tmp_path / "b[1].nii", blob(1, 1, 1))
    (tmp_path / "a.nii").write_bytes(b"broken")
    text = run("inspect", tmp_path / "*.nii", status=1)
    assert "a.nii must be a readable NIfTI file" in text
    assert f"{good}\n  format   NIfTI\n" in text
    assert "1 of 2 files cannot be read" in text
    assert "binary" in run("inspect", good)  # a bracket in a name is no pattern
    assert "found none in" in run("inspect", tmp_path / "*.nrrd", status=2)


def rows_of(path):
    """The rows of a table, each without its empty cells, by the names of the files."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader(stream)]
    return {Path(row.pop("file")).name: row for row in rows}


def test_a_table_has_a_row_a_file_and_a_bad_file_is_a_row_with_its_error(tmp_path):
    mask = blob(1, 1, 1) + blob(7, 6, 4, size=2, value=0.75)
    files = [saved(tmp_path / "mask.nii.gz", mask), tmp_path / "a.nii", tmp_path / "labels.nii"]
    files[1].write_bytes(b"broken")
    labels = (3 * blob(1, 1, 1) + 2 * blob(7, 6, 4, size=2)).byte()
    save_nifti(files[2], labels, STRAIGHT)
    boxes = tmp_path / "b.json"
    write_boxes(
        boxes,
        torch.tensor([[0.0, 0, 0, 2, 3, 4], [1.0, 1, 1, 2, 2, 9]]),
        scores=torch.tensor([0.25, 0.75]),
        affine=STRAIGHT,
    )
    table = tmp_path / "files.csv"
    text = run("inspect", *files, boxes, "--csv", table, status=1)
    assert f"table: {table}" in text
    assert "1 of 4 files cannot be read" in text
    rows = rows_of(table)
    grid = {
        "channels": "1", "shape": "12 x 10 x 8", "spacing_mm": "1.0 x 2.0 x 3.0", "axes": "RAS",
        "oblique_degrees": "0.0", "lowest": "0.0", "not_finite": "0",
    }  # fmt: skip
    assert rows["mask.nii.gz"] == grid | {
        "format": "NIfTI, compressed", "dtype": "float32", "values": "probabilities",
        "highest": "1.0", "lesions": "2", "volume_ml": "0.198",
    }  # fmt: skip
    assert rows["labels.nii"] == grid | {
        "format": "NIfTI",
        "dtype": "uint8",
        "values": "labels",
        "highest": "3.0",
        "labels": "2;3",
    }
    assert rows["b.json"] == {
        "format": "boxes", "values": "scores", "lowest": "0.25", "highest": "0.75", "cases": "1",
        "boxes": "2",
    }  # fmt: skip
    assert list(rows["a.nii"]) == ["error"]
    assert "a.nii must be a readable NIfTI file" in rows["a.nii"]["error"]


def test_a_table_tells_every_format_and_boxes_of_many_cases(tmp_path):
    image = itk_image(np.zeros((4, 5, 6), dtype=np.int16))
    SimpleITK.WriteImage(image, str(tmp_path / "scan.nrrd"))
    SimpleITK.WriteImage(SimpleITK.Compose(image, image), str(tmp_path / "two.mha"))
    write_dicom(tmp_path / "ct", np.zeros((3, 4, 4)))
    many = boxes_of_cases(tmp_path / "all.csv", {"a": 1, "b": 2})
    markups, table = tmp_path / "a.mrk.json", tmp_path / "files.csv"
    write_boxes(markups, torch.tensor([[4.0, 4, 3, 7, 6, 6]]), affine=STRAIGHT)
    names = ("scan.nrrd", "two.mha", "ct")
    run("inspect", *(tmp_path / name for name in names), many, markups, "--csv", table)
    rows = rows_of(table)
    assert (rows["scan.nrrd"]["dtype"], rows["scan.nrrd"]["lesions"]) == ("int16", "0")
    assert (rows["two.mha"]["dtype"], rows["two.mha"]["channels"]) == ("int16", "2")
    assert rows["ct"]["format"] == "DICOM series"
    assert "dtype" not in rows["ct"]
    assert (rows["all.csv"]["cases"], rows["all.csv"]["boxes"]) == ("2", "3")
    assert rows["a.mrk.json"] == {"format": "3D Slicer's markups", "boxes": "1"}


def test_a_table_replaces_no_input_and_no_earlier_result_unasked(tmp_path):
    mask, table = saved(tmp_path / "mask.nii", blob(4, 4, 3)), tmp_path / "files.csv"
    many = boxes_of_cases(tmp_path / "many.csv", {"a": 1, "b": 2})
    run("inspect", mask, "--csv", table)
    assert "must not exist yet" in run("inspect", mask, "--csv", table, status=2)
    assert "must not be replaced" in run("inspect", many, "--csv", many, "--overwrite", status=2)
    assert "--csv must end in .csv" in run("inspect", mask, "--csv", tmp_path / "t.xls", status=2)
    run("inspect", mask, "--csv", table, "--overwrite")


@pytest.mark.parametrize("matrix", [STRAIGHT, affine((1.0, 2.0, 3.0), (5.4, 6.0, 7.0))])
def test_a_picture_is_drawn_of_a_mask_on_a_scan_and_of_boxes(tmp_path, matrix):
    scan = saved(tmp_path / "scan.nii", torch.rand(12, 10, 8))
    mask = saved(tmp_path / "mask.nii", blob(4, 4, 3), matrix)
    boxes = tmp_path / "boxes.json"
    write_boxes(
        boxes, torch.tensor([[4.0, 4, 3, 7, 7, 6]]), scores=torch.tensor([0.5]), affine=matrix
    )
    for number, options in enumerate([(mask,), (mask, "--image", scan), (boxes, "--image", scan)]):
        picture = tmp_path / f"{number}.png"
        assert f"picture: {picture}" in run("inspect", *options, "--picture", picture)
        assert picture.read_bytes()[1:4] == b"PNG"
    assert "must not exist yet" in run("inspect", mask, "--picture", picture, status=2)
    run("inspect", mask, "--picture", picture, "--overwrite")


def test_a_mask_in_another_axis_order_is_turned_onto_the_scan(tmp_path, monkeypatch):
    from softoverlap.app import report

    seen, plot_case = {}, report.plot_case

    def remembered(image, **options):
        seen.update(options, image=image)
        return plot_case(image, **options)

    monkeypatch.setattr(report, "plot_case", remembered)
    scan = saved(tmp_path / "scan.nii", torch.rand(12, 10, 8))
    image = nibabel.Nifti1Image(blob(1, 2, 3).numpy(), STRAIGHT.numpy())
    nibabel.save(image.as_reoriented([[2, 1], [0, -1], [1, 1]]), tmp_path / "mask.nii")
    run("inspect", tmp_path / "mask.nii", "--image", scan, "--picture", tmp_path / "p.png")
    # axial planes first, from above; in them the front above and the patient's right on the left
    shown = blob(1, 2, 3).permute(2, 1, 0).flip(0, 1, 2)
    assert torch.equal(seen["soft_mask"], shown)
    low, high = (bound.tolist() for bound in (shown.nonzero().amin(0), shown.nonzero().amax(0)))
    assert seen["centre"] == [(a + b + 1) / 2 for a, b in zip(low, high, strict=True)]
    assert seen["image"].shape == shown.shape


def test_pictures_of_the_wrong_things_are_refused(tmp_path):
    scan = saved(tmp_path / "scan.nii", torch.rand(12, 10, 8))
    boxes, picture = tmp_path / "boxes.json", tmp_path / "p.png"
    far = affine((1.0, 2.0, 3.0), (50.0, 6.0, 7.0))
    write_boxes(boxes, torch.tensor([[4.0, 4, 3, 7, 7, 6]]), affine=far)
    many = boxes_of_cases(tmp_path / "many.csv", {"a": 1, "b": 2})
    for options, words in (
        ((scan, scan, "--picture", picture), "--picture shows one file, got 2"),
        ((scan, "--picture", tmp_path / "p.jpg"), "--picture must end in .png"),
        ((scan, "--image", scan), "--image goes with --picture or with files of boxes"),
        ((many, "--image", scan, "--picture", picture), "the boxes of one case, got 2"),
        ((boxes, "--picture", picture), "pass --image"),
        ((boxes, "--image", scan, "--picture", picture), "up to 45 voxels apart"),
        ((scan, "--values", "percents"), "--values must be one of"),
    ):
        assert words in " ".join(run("inspect", *options, status=2).split())
    assert not picture.exists()
