"""Pictures of the page: which case and plane, masks and scan from their files, boxes on them."""

from __future__ import annotations

import base64
import io
import json
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from softoverlap.app.cli import app
from softoverlap.app.report import _case_files, write_report
from softoverlap.app.report._case_files import CaseVolumes, ScanFinder
from softoverlap.app.report._results import read_results
from softoverlap.app.report._style import FOUND, TRUTH
from softoverlap.app.report._worst import focus, of_case, worst_cases
from softoverlap.app.report.viewer.cases import read_cases
from softoverlap.app.report.viewer.layers import Layer, nifti_bytes
from softoverlap.images import boxes_between_grids, load_nifti, save_nifti, write_boxes
from tests.support.parsed_pages import Parsed
from tests.support.report_pages import page_of
from tests.support.report_results import edges, headline, metric, write_cohort, write_results


def test_the_worst_come_first_with_a_picture_each(page, cohort):
    assert [row["case"] for row in worst_cases(read_results(cohort), 2)] == ["sub-00", "sub-01"]
    worst = page.words.split("The worst cases")[1].split("All cases")[0]
    assert re.findall(r"(sub-\d+) Soft Dice", worst) == ["sub-00", "sub-01", "sub-02"]
    assert "through lesion 0, missed, 60 mm³" in worst
    assert "through lesion 0, found with a soft Dice of 0.5, 60 mm³" in worst
    assert worst.count("Enlarged") == 0  # the scans are hardly larger
    assert [attrs["alt"] for attrs in pictures_of(page, "worst")[:3]] == [
        "axial, S 4 mm",
        "coronal, A 4 mm",
        "sagittal, R 4 mm",
    ]
    assert len(pictures_of(page, "worst")) == 3 * 3


def pictures_of(page, section):
    """The images of a section, in order."""
    found, inside = [], False
    for tag, attrs in page.elements:
        if tag == "section":
            inside = attrs["id"] == section
        elif tag == "img" and inside:
            found.append(attrs)
    return found


def drawn(page, section="worst"):
    """The pixels of a section's first picture, plane after plane."""
    return [pixels(attrs["src"]) for attrs in pictures_of(page, section)[:3]]


def test_a_picture_shows_the_scan_where_it_is_known_and_contours_of_both_masks(cohort):
    plain = page_of(cohort, worst=1)
    scans = page_of(cohort, worst=1, images=cohort.parent / "scans")
    pattern = str(cohort.parent / "scans" / "{case}_flair.nii.gz")
    assert page_of(cohort, worst=1, images=pattern).of("img") == scans.of("img")
    pictures = [drawn(page)[0] for page in (plain, scans)]
    grey = [(np.ptp(pixel, axis=2) < 12) & (pixel.mean(axis=2) > 40) for pixel in pictures]
    assert grey[1].mean() > 2 * grey[0].mean()
    for picture in pictures:
        for color in (TRUTH, FOUND):
            assert count_of(picture, color) > 100


def pixels(uri):
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))), dtype=float)


def count_of(picture, color):
    """How many pixels have a colour, about."""
    wanted = [int(color[at : at + 2], 16) for at in (1, 3, 5)]
    return int((np.abs(picture - wanted).max(axis=2) < 40).sum())


def test_a_picture_that_cannot_be_drawn_is_told_and_the_others_are_drawn(tmp_path):
    folder = write_cohort(tmp_path)
    (tmp_path / "masks" / "0_truth.nii.gz").unlink()
    (tmp_path / "masks" / "1_pred.nii.gz").write_bytes(b"no image")
    report = write_report(folder)
    assert report.pictures == 1
    assert set(report.without) == {"sub-00", "sub-01"}
    words = Parsed(report.path.read_text()).words
    assert "0_truth.nii.gz is not there any more" in words
    assert "1_pred.nii.gz" in words.split("The worst cases")[1].split("No picture:")[2]


def test_a_scan_that_cannot_be_read_is_told_and_the_masks_are_drawn(tmp_path):
    folder = write_cohort(tmp_path)
    (tmp_path / "scans" / "sub-00_flair.nii.gz").write_bytes(b"no image")
    report = write_report(folder, images=tmp_path / "scans", worst=1)
    assert report.pictures == 1
    assert "The scan is not shown: " in Parsed(report.path.read_text()).words


def test_labels_have_a_part_each_and_pictures_of_their_own_label(tmp_path):
    mask = torch.zeros(8, 8, 8)
    mask[1:4, 1:4, 1:4], mask[5:7, 5:7, 5:7] = 1, 2
    save_nifti(tmp_path / "mask.nii.gz", mask, torch.eye(4))
    files = dict.fromkeys(("pred", "truth"), str(tmp_path / "mask.nii.gz")) | {"kind": "masks"}
    cases = [{"case": "a", "label": n, "soft_dice": n / 4, **files} for n in (1, 2)]
    parts = {str(n): {"metrics": {"soft_dice": metric(n / 4)}} for n in (1, 2)}
    page = page_of(write_results(tmp_path / "results", cases, labels=parts))
    assert "Summary: label 1" in page.words
    assert "Summary: label 2 On 1 scan." in page.words
    assert "a, label 1 Soft Dice 0.25" in page.words
    assert [attrs["id"] for attrs in page.of("article")] == ["worst-0", "worst-1"]
    first, second = (pictures_of(page, "worst")[at]["src"] for at in (0, 3))
    assert first != second
    assert "a: Soft Dice 0.25" in page.words


def test_boxes_without_scores_are_drawn_all_and_weak_ones_are_left_out(tmp_path):
    folder = write_cohort(tmp_path, count=1)
    table = (folder / "boxes.csv").read_text()
    summary = json.loads((folder / "summary.json").read_text())
    summary["operating_point"] = headline()["operating_point"]
    (folder / "summary.json").write_text(json.dumps(summary))
    assert "Boxes with a score of 0.5 or more." in page_of(folder).words
    orange = [_orange(folder)]
    for score in ("0.375", ""):
        (folder / "boxes.csv").write_text(table.replace("0.625", score))
        orange.append(_orange(folder))
    assert orange[0] > 1.5 * orange[1]
    assert orange[2] > 1.5 * orange[1]


def _orange(folder):
    return sum(count_of(picture, FOUND) for picture in drawn(page_of(folder)))


def test_planes_are_turned_as_radiologists_look_and_boxes_with_them():
    data = torch.arange(24.0).reshape(2, 3, 4)
    affine = torch.diag(torch.tensor([1.5, 2.0, 3.0, 1.0], dtype=torch.float64))
    turned = CaseVolumes(affine, image=data).turned()
    assert torch.equal(turned.background, data.permute(2, 1, 0).flip(0, 1, 2))
    boxes = torch.tensor([[0.0, 1, 3, 1, 3, 4], [0.25, 0, 0, 2, 3, 4]], dtype=torch.float64)
    expected = torch.tensor([[0.0, 0, 1, 1, 2, 2], [0, 0, 0, 4, 3, 1.75]], dtype=torch.float64)
    torch.testing.assert_close(boxes_between_grids(boxes, affine, turned.affine), expected)
    assert boxes_between_grids(boxes[:0], affine, turned.affine).shape == (0, 6)


def test_the_planes_go_through_the_largest_missed_lesion_else_the_surest_false_positive(tmp_path):
    def lesion(number, volume, detected):
        place = {f"centre_axis{axis}": float(number) for axis in range(3)}
        score = {"soft_dice": number / 10, "detected": detected, "volume_mm3": volume}
        return {"case": "a", "lesion": number, **score, **place}

    def false(score, at):
        box = {"case": "b", "score": score, "outcome": "false positive"}
        return box | edges((at,) * 3, (at + 2,) * 3)

    cases = [{"case": name, "soft_dice": 0.5} for name in "abc"]
    lesions = [lesion(1, 90, True), lesion(2, 20, False), lesion(3, 30, False)]
    results = read_results(write_results(tmp_path, cases, lesions, [false(0.5, 1), false(0.75, 4)]))
    rows = results.cases.rows
    places = [focus(of_case(results.lesions, row), of_case(results.boxes, row)) for row in rows]
    assert places[0].point == (3.0, 3.0, 3.0)
    assert places[1].point == (5.0, 5.0, 5.0)
    assert places[2] is None
    found = results.lesions.where(lambda row: row["detected"] == "True")
    assert focus(found, results.boxes).words == "lesion 1, found with a soft Dice of 0.1, 90 mm³"


def test_equal_scores_rank_by_false_positives_and_cases_without_a_score_do_not_rank(tmp_path):
    rows = [("a", 0.5, 1), ("b", "", 9), ("c", 0.5, 3), ("d", 0.25, 0)]
    cases = [{"case": c, "soft_dice": s, "false_positives": f} for c, s, f in rows]
    found = worst_cases(read_results(write_results(tmp_path, cases)), 9)
    assert [row["case"] for row in found] == ["d", "c", "a"]


def test_scans_are_found_by_the_whole_name_or_by_what_follows_it(tmp_path):
    for name in ("a.nii", "a_t1.nii", "b_t1.nii.gz", "c_t1.nii", "c_flair.nii", "bb_t1.nii"):
        (tmp_path / name).touch()
    (tmp_path / "E.NII.GZ").touch()
    (tmp_path / "series").mkdir()
    finder = ScanFinder(tmp_path)
    assert finder("a") == (tmp_path / "a.nii", "")
    assert finder("b") == (tmp_path / "b_t1.nii.gz", "")
    assert finder("c") == (None, "2 scans could be this case's, c_flair.nii among them.")
    assert finder("E") == (tmp_path / "E.NII.GZ", "")
    assert finder("series") == (tmp_path / "series", "")
    assert finder("d") == (None, "No scan is known for this case.")
    assert ScanFinder(None)("a") == (None, "")


def test_rater_masks_are_averaged_as_they_were_scored(tmp_path):
    masks = torch.zeros(3, 4, 4, 4)
    masks[0, 1], masks[1, 1] = 1, 1
    paths = [tmp_path / f"{number}.nii.gz" for number in range(3)]
    for path, mask in zip(paths, masks, strict=True):
        save_nifti(path, mask, torch.eye(4))
    row = {"truth": tuple(map(str, paths)), "pred": str(paths[0]), "label": None}
    volumes = _case_files.load_volumes(row, {}, None, tmp_path)
    torch.testing.assert_close(volumes.truth, masks.mean(dim=0))
    assert torch.equal(volumes.background, volumes.truth)
    assert torch.equal(volumes.found, masks[0])


def test_label_maps_of_raters_are_drawn_and_shown_as_they_were_scored(tmp_path):
    labels = torch.zeros(8, 8, 8)
    labels[1:4, 1:4, 1:4], labels[4:7, 4:7, 4:7] = 1, 3
    shifted = torch.eye(4)
    shifted[0, 3] = 0.4
    paths = [tmp_path / f"{number}.nii.gz" for number in range(2)]
    for path, matrix in zip(paths, (torch.eye(4), shifted), strict=True):
        save_nifti(path, labels, matrix)
    settings = {"geometry": "resample"}
    row = {"truth": tuple(map(str, paths)), "pred": str(paths[1]), "label": 1.0}
    drawn = _case_files.load_volumes(row, settings, None, tmp_path)
    expected = (labels == 1).float()
    assert torch.equal(drawn.truth, expected)  # to the nearest voxel
    assert torch.equal(drawn.found, expected)
    layer = Layer("truth", tuple(paths), "auto", label=1, geometry="resample")
    (tmp_path / "shown.nii.gz").write_bytes(nifti_bytes(layer))
    assert torch.equal(load_nifti(tmp_path / "shown.nii.gz").data, expected)


def masks_of_two_sides(folder):
    for side in ("pred", "truth"):
        (folder / side).mkdir(parents=True)
        save_nifti(folder / side / "a.nii.gz", torch.eye(8).expand(8, 8, 8), torch.eye(4))


def test_files_that_are_not_named_by_whole_paths_lie_from_the_results(tmp_path, monkeypatch):
    masks_of_two_sides(tmp_path / "trial")
    masks_of_two_sides(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "elsewhere")
    files = {side: f"../{side}/a.nii.gz" for side in ("pred", "truth")}
    folder = tmp_path / "trial" / "results"
    write_results(folder, [{"case": "a", "soft_dice": 0.5, **files}])
    assert len(pictures_of(page_of(folder), "worst")) == 3
    (case,) = read_cases(folder)
    assert {layer.paths[0].resolve().parents[1] for layer in case.layers} == {tmp_path / "trial"}
    (tmp_path / "trial" / "truth" / "a.nii.gz").unlink()
    assert "No picture" in page_of(folder).words


def test_score_names_files_so_that_the_report_finds_them_from_anywhere(tmp_path, monkeypatch):
    masks_of_two_sides(tmp_path / "trial")
    masks_of_two_sides(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / "trial")
    scored = CliRunner().invoke(app, ["score", "pred", "truth", "--output", "scored"])
    assert scored.exit_code == 0, scored.output
    monkeypatch.chdir(tmp_path / "elsewhere")
    (case,) = read_cases(tmp_path / "trial" / "scored")
    assert {layer.paths[0].parents[1] for layer in case.layers} == {tmp_path / "trial"}
    page = page_of(tmp_path / "trial" / "scored")
    assert len(pictures_of(page, "worst")) == 3


def boxes_on(folder, affine, name="boxes.json"):
    """A row of boxes against boxes on a grid, and a scan with its first axis leftwards."""
    box = torch.tensor([[1.0, 2, 3, 3, 5, 7]])
    write_boxes(folder / name, box, scores=torch.tensor([0.5]), affine=affine)
    las = torch.diag(torch.tensor([-1.0, 1, 1, 1], dtype=torch.float64))
    las[0, 3] = 11
    save_nifti(folder / "scan.nii.gz", torch.rand(12, 14, 10), las)
    row = {"case": "a", "pred": str(folder / name), "truth": (str(folder / name),), "label": None}
    return box, las, row


def test_boxes_are_moved_from_their_own_grid_to_that_of_the_scan(tmp_path):
    box, las, row = boxes_on(tmp_path, torch.eye(4))
    volumes = _case_files.load_volumes(row, {}, tmp_path / "scan.nii.gz", tmp_path)
    moved = boxes_between_grids(box.double(), volumes.boxes_affine, volumes.affine)
    assert torch.equal(volumes.affine, las)
    assert moved[0].tolist() == [9, 2, 3, 11, 5, 7]
    assert volumes.note == ""


def test_a_picture_has_boxes_where_their_grid_puts_them(tmp_path):
    (tmp_path / "scans").mkdir()
    pictures = []
    for number, affine in enumerate((torch.eye(4).double(), None)):
        box, las, row = boxes_on(tmp_path, affine)
        place = (
            box.double() if number == 0 else boxes_between_grids(box.double(), torch.eye(4), las)
        )
        save_nifti(tmp_path / "scans" / "a.nii.gz", torch.ones(12, 14, 10), las)
        low, high = place[0].view(2, 3).tolist()
        folder = write_results(
            tmp_path / f"results{number}",
            [{**row, "truth": row["pred"], "label": "", "lesion_dice": 0.5, "kind": "boxes"}],
            boxes=[{"case": "a", "box": 0, "outcome": "false positive", **edges(low, high)}],
        )
        page = page_of(folder, images=tmp_path / "scans")
        assert drawn(page, "findings")
        pictures.append(np.concatenate([part.ravel() for part in drawn(page)]))
    np.testing.assert_array_equal(*pictures)


def test_boxes_on_a_grid_that_is_turned_are_left_out_with_a_sentence(tmp_path):
    turn = math.radians(20)
    affine = torch.eye(4, dtype=torch.float64)
    affine[:2, :2] = torch.tensor(
        [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
    )
    _, _, row = boxes_on(tmp_path, affine)
    with pytest.raises(ValueError, match="turned against that of the scan"):
        _case_files.load_volumes(row, {}, tmp_path / "scan.nii.gz", tmp_path)


def test_boxes_of_which_no_file_tells_the_place_are_drawn_with_a_note(tmp_path):
    _, _, row = boxes_on(tmp_path, None)
    volumes = _case_files.load_volumes(row, {}, tmp_path / "scan.nii.gz", tmp_path)
    assert volumes.boxes_affine is None
    assert "taken to lie on the scan's voxels" in volumes.note
