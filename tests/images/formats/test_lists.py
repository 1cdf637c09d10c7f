"""Lists of nodules of LUNA16, classes of nnDetection, and what 3D Slicer once wrote."""

from __future__ import annotations

import json

import pytest
import SimpleITK
import torch

from softoverlap.images import boxes_to_world, read_box_files, read_boxes, save_nifti, write_boxes
from softoverlap.images._itk import to_itk
from softoverlap.images.formats.grids import read_grid
from tests.support.box_makers import AFFINES

HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm\n"
LPS = torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)


def list_file(path, *rows, header=HEADER):
    path.write_text(header + "".join(f"{row}\n" for row in rows))
    return path


def balls_inside(boxes, affine, centre, diameter):
    """Whether the ball touches each face of its box from inside, by sampling its surface."""
    normal = torch.randn(
        200_000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    surface = centre + diameter / 2 * normal / normal.norm(dim=1, keepdim=True)
    voxels = torch.linalg.solve(affine[:3, :3], (surface * LPS - affine[:3, 3]).T).T + 0.5
    around = torch.cat([voxels.amin(0), voxels.amax(0)])
    return (around - boxes[0]).abs().max() < 1e-2 and (voxels.amin(0) >= boxes[0, :3]).all()


@pytest.mark.parametrize("name", AFFINES)
def test_a_nodule_is_the_smallest_box_around_its_ball(tmp_path, name, recwarn):
    path = list_file(tmp_path / "annotations.csv", "1.3.6,-20.5,31.25,80,9.5")
    affine = AFFINES[name]
    (file,) = read_box_files(path, affine=affine).values()
    centre = torch.tensor([-20.5, 31.25, 80.0], dtype=torch.float64)
    assert balls_inside(file.boxes, affine, centre, 9.5)
    middle = boxes_to_world(file.boxes, affine)[0].mean(0) * LPS
    torch.testing.assert_close(middle, centre)
    assert (file.case, file.scores, file.labels) == ("1.3.6", None, None)
    assert not recwarn.list


def test_the_box_is_that_of_metaimage_as_the_challenge_has_it(tmp_path):
    scan = SimpleITK.Image(40, 30, 20, SimpleITK.sitkInt16)
    scan.SetSpacing((0.5, 0.5, 2.0))
    scan.SetOrigin((-10.0, -20.0, -300.0))
    SimpleITK.WriteImage(scan, tmp_path / "1.2.3.mhd")
    centre = scan.TransformIndexToPhysicalPoint((10, 12, 4))
    path = list_file(tmp_path / "a.csv", f"1.2.3,{centre[0]},{centre[1]},{centre[2]},4")
    for image in (tmp_path, tmp_path / "1.2.3.mhd"):
        found = read_boxes(path, image=image)
        assert found.boxes.tolist() == [[6.5, 8.5, 3.5, 14.5, 16.5, 5.5]]


def test_of_the_scan_of_a_nodule_only_the_header_is_read(tmp_path):
    """The data file of a list's scan may be anything, even of another length."""
    affine = AFFINES["oblique"]
    for end in (".mhd", ".nhdr", ".nii.gz"):
        scan = to_itk(torch.zeros(4, 5, 6), affine)
        SimpleITK.WriteImage(scan, tmp_path / f"1.2{end}", useCompression=True)
        for data in (*tmp_path.glob("*raw"), *tmp_path.glob("*.gz")):
            if not data.name.endswith(".nii.gz"):
                data.write_bytes(b"damaged")
        grid = read_grid(tmp_path / f"1.2{end}")
        assert grid.shape == (4, 5, 6)
        torch.testing.assert_close(grid.affine, affine, rtol=0, atol=1e-4)


def test_every_series_whose_scan_is_there_is_read_and_the_others_are_told(tmp_path):
    scans = tmp_path / "subset0"
    scans.mkdir()
    for name in ("1.1", "1.2"):
        save_nifti(scans / f"{name}.nii.gz", torch.zeros(4, 4, 4), AFFINES["plain"])
    rows = ["1.1,0,0,0,4", "1.2,1,1,1,5", "1.1,2,2,2,6", "1.3,0,0,0,4"]
    path = list_file(tmp_path / "annotations.csv", *rows)
    with pytest.warns(
        UserWarning, match=r"1 series left out, of which .*subset0 has no scan: 1\.3"
    ):
        files = read_box_files(path, image=scans)
    assert {case: len(file.boxes) for case, file in files.items()} == {"1.1": 2, "1.2": 1}
    with pytest.warns(
        UserWarning, match=r"2 series left out, of which .*1\.1\.nii\.gz has no scan: 1\.2"
    ):
        assert list(read_box_files(path, image=scans / "1.1.nii.gz")) == ["1.1"]
    with pytest.warns(UserWarning, match="holds 3 cases, all read with the one affine given"):
        assert list(read_box_files(path, affine=AFFINES["plain"])) == ["1.1", "1.2", "1.3"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty must hold the scan 1\.3\.nii\.gz"):
        read_box_files(path, image=tmp_path / "empty")


def test_a_probability_is_a_score(tmp_path):
    for name in ("probability", "Probability "):
        header = f"{HEADER.strip()},{name}\n"
        path = list_file(tmp_path / "a.csv", "1,0,0,0,4,0.25", "1,0,0,0,4,1", header=header)
        assert read_boxes(path, affine=AFFINES["plain"]).scores.tolist() == [0.25, 1.0]


def test_other_columns_of_a_list_are_told(tmp_path):
    header = HEADER.strip() + ",class\n"
    path = list_file(tmp_path / "a.csv", "1,0,0,0,4,0", header=header)
    with pytest.warns(UserWarning, match=r"a\.csv: not read: 'class'"):
        read_boxes(path, affine=AFFINES["plain"])


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (f"{HEADER}1,0,0,0,4\n", {}, "needs the affine of 1, since its format is in mm"),
        (f"{HEADER}1,0,0,0,-1\n", {"affine": torch.eye(4)}, "of at least 0, got -1 of 1 in line 2"),
        (f"{HEADER}1,0,0,0,\n", {"affine": torch.eye(4)}, "a number as diameter_mm in line 2"),
        (f"{HEADER}1,0,0,0,nan\n", {"affine": torch.eye(4)}, "must hold finite coordinates"),
        (f"{HEADER}1,0,x,0,4\n", {"affine": torch.eye(4)}, "a number as coordy in line 2, got 'x'"),
        (f"{HEADER}\n1,0,0,0,x\n", {"affine": torch.eye(4)}, "diameter_mm in line 3, got 'x'"),
        (
            f"{HEADER.strip()},Frame\n1,0,0,0,4,RAS\n",
            {"affine": torch.eye(4)},
            "must have boxes in LPS mm, got frame 'ras'",
        ),
        (f"{HEADER},0,0,0,4\n", {"affine": torch.eye(4)}, "must have a seriesuid in each line"),
        (f"{HEADER}1,0,0,0,4\n", {"frame": "RAS"}, "frame must be that of .* itself, LPS"),
        (
            "seriesuid,coordX,coordY,coordZ,class\n1,0,0,0,1\n",
            {"affine": torch.eye(4)},
            "since a point has no size, got none called diameter_mm",
        ),
        (
            "coordX,coordY,coordZ,diameter_mm\n0,0,0,1\n",
            {"affine": torch.eye(4)},
            "got none called seriesuid",
        ),
    ],
)
def test_a_list_that_is_not_understood_is_refused(tmp_path, text, options, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_box_files(tmp_path / "a.csv", **options)


def instances(folder, classes, name="case0000"):
    labels = torch.zeros(6, 6, 6, dtype=torch.uint8)
    labels[1:3, 1, 1], labels[4, 4, 2:6] = 1, 2
    save_nifti(folder / f"{name}.nii.gz", labels, AFFINES["plain"])
    (folder / f"{name}.json").write_text(json.dumps({"instances": classes}))
    return folder / f"{name}.json"


@pytest.mark.parametrize("classes", [{"1": 0, "2": 1}, {"1": 0.0, "2": 1.0}])
@pytest.mark.parametrize("by", [None, "labelmap", "nndetection"])
def test_classes_of_nndetection_are_those_of_its_label_map(tmp_path, classes, by):
    path = instances(tmp_path, classes)
    for source in (path, path.with_suffix(".nii.gz")):
        form = by if source == path else None
        (case,), (found,) = zip(*read_box_files(source, format=form).items(), strict=True)
        assert (case, found.case) == ("case0000", "case0000")
        assert found.boxes.tolist() == [[1, 1, 1, 3, 2, 2], [4, 4, 2, 5, 5, 6]]
        assert found.labels.tolist() == [0, 1]
        assert found.scores is None
        torch.testing.assert_close(found.affine, AFFINES["plain"], rtol=0, atol=1e-4)


def test_classes_without_their_label_map_name_it(tmp_path):
    path = instances(tmp_path, {"1": 0, "2": 1})
    path.with_suffix(".nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"case0000\.nii\.gz must lie beside it"):
        read_boxes(path)


def test_no_instances_are_no_boxes(tmp_path):
    save_nifti(tmp_path / "a.nii.gz", torch.zeros(4, 4, 4, dtype=torch.uint8), torch.eye(4))
    (tmp_path / "a.json").write_text('{"instances": {}}')
    assert read_boxes(tmp_path / "a.json").boxes.shape == (0, 6)


@pytest.mark.parametrize("name", ["F.fcsv", "R.acsv"])
def test_what_slicer_wrote_once_is_refused_with_a_way_to_bring_it_over(tmp_path, name):
    (tmp_path / name).write_text(
        "# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n"
        "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
        "1,1,2,3,0,0,0,1,1,1,0,F-1,,\n"
    )
    for options in ({}, {"format": "csv"}, {"format": "slicer"}):
        with pytest.raises(ValueError, match=r"ROIs are read from \.mrk\.json; load the file in"):
            read_boxes(tmp_path / name, **options)


def test_an_empty_list_holds_no_case(tmp_path):
    assert read_box_files(list_file(tmp_path / "a.csv"), affine=AFFINES["plain"]) == {}
    write_boxes(tmp_path / "b.csv", torch.zeros(0, 6), case="a")
    assert read_box_files(tmp_path / "b.csv") == {}


def test_a_diameter_of_0_is_a_point(tmp_path):
    path = list_file(tmp_path / "a.csv", "1,-3,-2,4,0")
    assert read_boxes(path, affine=torch.eye(4)).boxes.tolist() == [[3.5, 2.5, 4.5] * 2]


@pytest.mark.bad_input
def test_one_affine_and_one_case_of_a_list_are_read_without_a_word(tmp_path, recwarn):
    path = list_file(tmp_path / "a.csv", "1,0,0,0,4", "2,0,0,0,4")
    assert read_boxes(path, case="2", affine=AFFINES["plain"]).case == "2"
    with pytest.raises(ValueError, match=r"holds 2 cases: name one .* read_box_files, got: 1, 2"):
        read_boxes(path, affine=AFFINES["plain"])
    assert not recwarn.list
    with pytest.raises(ValueError, match=r"b\.csv must hold a case, got 0: none"):
        read_boxes(list_file(tmp_path / "b.csv"), affine=AFFINES["plain"])
