"""Boxes of other tools lie where the other tool has them."""

from __future__ import annotations

import csv
import json
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from softoverlap.images import read_box_files, read_boxes, save_nifti, write_boxes, write_markups
from tests.support.box_makers import AFFINES, BOXES, affine_of
from tests.support.reference_boxes import coco_box, monai_box, nndetection_box, world_corners
from tests.support.strategies import box_batches

every = pytest.mark.parametrize("name", list(AFFINES))


def test_the_half_voxel_is_where_each_format_has_it(tmp_path):
    """One voxel, index (3, 5, 7): ours [3, 4), a world centre at the affine's (3, 5, 7)."""
    voxel = torch.tensor([[3.0, 5, 7, 4, 6, 8]])
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    write_boxes(tmp_path / "m.json", voxel, affine=affine, case="a", format="monai")
    (entry,) = json.loads((tmp_path / "m.json").read_text())["validation"]
    assert entry["box"] == [[6.0, 15.0, 28.0, 2.0, 3.0, 4.0]]
    write_boxes(tmp_path / "m.mrk.json", voxel, affine=affine)
    (roi,) = json.loads((tmp_path / "m.mrk.json").read_text())["markups"]
    assert roi["center"] == [-6.0, -15.0, 28.0]
    assert roi["size"] == [2.0, 3.0, 4.0]
    write_boxes(tmp_path / "n.npz", voxel)
    assert np.load(tmp_path / "n.npz")["pred_boxes"].tolist() == [[6, 4, 8, 6, 2, 4]]
    write_boxes(tmp_path / "c.json", voxel, case="a", format="coco")
    (row,) = json.loads((tmp_path / "c.json").read_text())["annotations"]
    assert row["bbox"] == [3, 5, 7, 1, 1, 1]


@given(box_batches(ndim=3, count=2), st.sampled_from(list(AFFINES)))
@settings(max_examples=30)
@pytest.mark.parametrize("frame", ["RAS", "LPS"])
def test_monai_boxes_are_those_of_the_reference(tmp_path_factory, frame, boxes, name):
    path = tmp_path_factory.mktemp("monai") / "a.json"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        write_boxes(path, boxes, affine=AFFINES[name], case="a", format="monai", frame=frame)
    (entry,) = json.loads(path.read_text())["validation"]
    expected = [monai_box(box, AFFINES[name].numpy(), frame) for box in boxes.tolist()]
    np.testing.assert_allclose(entry["box"], expected, atol=1e-10)


def test_monai_puts_our_boxes_half_a_voxel_lower_and_nothing_else(tmp_path):
    """MONAI's own transform to voxels, on a list that we wrote: its voxel i has its centre at i."""
    from monai.apps.detection.transforms.box_ops import apply_affine_to_boxes
    from monai.data.box_utils import convert_box_to_standard_mode

    affine = affine_of(flips=(-1, 1, 1))
    write_boxes(tmp_path / "a.json", BOXES, affine=affine, case="a", format="monai")
    (entry,) = json.loads((tmp_path / "a.json").read_text())["validation"]
    world = convert_box_to_standard_mode(np.array(entry["box"]), mode="cccwhd")
    voxels = apply_affine_to_boxes(world, np.linalg.inv(affine.numpy()))
    np.testing.assert_allclose(voxels, BOXES.numpy() - 0.5, atol=1e-4)


@every
def test_lps_boxes_lie_where_simpleitk_has_their_corners(tmp_path, name):
    """ITK's continuous index has voxel centres at integers: a corner c of ours is its c - 0.5."""
    import SimpleITK as sitk

    save_nifti(tmp_path / "a.nii.gz", torch.zeros(9, 9, 9), AFFINES[name])
    image = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    box = BOXES[0].tolist()
    corners = np.array(
        [
            image.TransformContinuousIndexToPhysicalPoint(
                [box[3 * end + axis] - 0.5 for axis, end in enumerate(which)]
            )
            for which in np.ndindex(2, 2, 2)
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        write_boxes(
            tmp_path / "m.json", BOXES, image=tmp_path / "a.nii.gz", case="a", format="monai",
            frame="LPS",
        )  # fmt: skip
    centre = json.loads((tmp_path / "m.json").read_text())["validation"][0]["box"][0]
    low, high = corners.min(axis=0), corners.max(axis=0)
    np.testing.assert_allclose(centre, [*((low + high) / 2), *(high - low)], atol=1e-4)
    write_boxes(tmp_path / "m.mrk.json", BOXES, image=tmp_path / "a.nii.gz")
    roi = json.loads((tmp_path / "m.mrk.json").read_text())["markups"][0]
    np.testing.assert_allclose(roi["center"], corners.mean(axis=0), atol=1e-4)


@every
def test_monai_lists_of_others_are_read_by_the_scan_beside_them(tmp_path, name):
    affine = AFFINES[name]
    (tmp_path / "scans").mkdir()
    save_nifti(tmp_path / "scans" / "a.nii.gz", torch.zeros(9, 9, 9), affine)
    world = [monai_box(box, affine.numpy(), "LPS") for box in BOXES.tolist()]
    entry = {"image": "scans/a.nii.gz", "box": world, "label": [1, 0], "label_scores": [0.5, 0.25]}
    lists = {"training": [entry], "validation": [{"image": "b.nii.gz", "box": [], "label": []}]}
    path = tmp_path / "luna.json"
    path.write_text(json.dumps({"training": lists["training"]}))
    with pytest.raises(ValueError, match=r"luna\.json does not say in which frame"):
        read_boxes(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = read_boxes(path, frame="LPS")
    assert found.case == "a"
    assert found.scores.tolist() == [0.5, 0.25]
    if name != "oblique":
        torch.testing.assert_close(found.boxes, BOXES, rtol=0, atol=1e-4)  # NIfTI holds float32
    path.write_text(json.dumps(lists))
    with pytest.raises(ValueError, match=r"luna\.json needs the affine of b"):
        read_box_files(path, frame="LPS")
    found = read_box_files(path, frame="LPS", affine=torch.eye(4))
    assert found["b"].boxes.shape == (0, 6)


def test_under_a_rotation_a_world_box_encloses_all_corners_and_a_warning_says_so(tmp_path):
    affine, path = AFFINES["oblique"], tmp_path / "a.json"
    with pytest.warns(
        UserWarning, match=r"scan of a are at an angle.* up to [\d.]+ times its volume"
    ):
        write_boxes(path, BOXES, affine=affine, case="a", format="monai")
    with pytest.warns(UserWarning, match="scan of a are at an angle"):
        found = read_boxes(path)
    assert (found.boxes[:, :3] <= BOXES[:, :3]).all()
    assert (found.boxes[:, 3:] >= BOXES[:, 3:]).all()
    edges, grown = (boxes[:, 3:] - boxes[:, :3] for boxes in (BOXES, found.boxes))
    assert (grown.prod(1) > 1.2 * edges.prod(1)).all()


@given(st.floats(-40, 40), box_batches(ndim=3, count=1))
@settings(max_examples=30)
def test_an_oblique_roi_becomes_the_smallest_box_around_its_corners(
    tmp_path_factory, degrees, boxes
):
    folder = tmp_path_factory.mktemp("roi")
    roi_axes, scan = affine_of(degrees), affine_of(10)
    write_markups(folder / "a.mrk.json", boxes, roi_axes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = read_boxes(folder / "a.mrk.json", affine=scan).boxes[0].numpy()
    world = world_corners(boxes[0].tolist(), roi_axes.numpy())
    index = (np.linalg.inv(scan.numpy()) @ np.c_[world, np.ones(8)].T).T[:, :3] + 0.5
    np.testing.assert_allclose(found, [*index.min(0), *index.max(0)], atol=1e-9)


def test_rois_of_slicer_are_read_in_ras_too_and_points_are_passed_by(tmp_path):
    path = tmp_path / "a.mrk.json"
    write_markups(path, BOXES[:1], torch.eye(4))
    content = json.loads(path.read_text())
    (roi,) = content["markups"]
    for key in ("orientation",):
        row = np.array(roi[key]).reshape(3, 3)
        roi[key] = (np.diag([-1, -1, 1]) @ row).flatten().tolist()
    roi["center"] = [-roi["center"][0], -roi["center"][1], roi["center"][2]]
    roi["coordinateSystem"] = "RAS"
    content["markups"].append({"type": "Fiducial", "controlPoints": []})
    path.write_text(json.dumps(content))
    with pytest.warns(UserWarning, match="1 markup is not an ROI; skipped"):
        found = read_boxes(path, affine=torch.eye(4))
    torch.testing.assert_close(found.boxes, BOXES[:1])
    assert (found.scores, found.labels) == (None, None)


def test_nndetection_boxes_of_a_mask_are_tight_boxes_of_ours(tmp_path):
    mask = np.zeros((12, 10, 8), dtype=bool)
    mask[2:5, 3:9, 4] = True
    path = tmp_path / "a.npz"
    np.savez(path, pred_boxes=np.array([nndetection_box(mask)], dtype=np.float32))
    with pytest.raises(ValueError, match=r"a\.npz does not say its format"):
        read_boxes(path)
    found = read_boxes(path, format="nndetection")
    assert found.boxes.tolist() == [[2, 3, 4, 5, 9, 5]]


def test_nndetection_grid_is_that_of_simpleitk(tmp_path):
    import SimpleITK as sitk

    save_nifti(tmp_path / "scan.nii.gz", torch.zeros(5, 4, 3), AFFINES["oblique"])
    image = sitk.ReadImage(str(tmp_path / "scan.nii.gz"))
    np.savez(
        tmp_path / "a.npz",
        pred_boxes=np.zeros((0, 6)),
        itk_origin=image.GetOrigin(),
        itk_spacing=image.GetSpacing(),
        itk_direction=image.GetDirection(),
    )
    found = read_boxes(tmp_path / "a.npz")
    torch.testing.assert_close(found.affine, AFFINES["oblique"], rtol=0, atol=1e-4)


def test_json_of_nndetection_is_read_when_it_is_named(tmp_path):
    rows = {"1": {"score": 0.25, "label": 1, "box": [1, 2, 4, 5, 3, 9]}}
    (tmp_path / "a_boxes.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=r"a_boxes\.json does not say its format"):
        read_boxes(tmp_path / "a_boxes.json")
    found = read_boxes(tmp_path / "a_boxes.json", format="nndetection")
    assert found.boxes.tolist() == [[4, 3, 2, 9, 5, 4]]
    assert (found.case, found.scores.tolist(), found.labels.tolist()) == ("a", [0.25], [1])


def test_a_box_of_nndetection_that_holds_no_voxel_becomes_flat_and_is_counted(tmp_path):
    np.savez(tmp_path / "a.npz", pred_boxes=[[1.0, 2, 1.5, 5, 3, 9]], pred_labels=[0.0])
    with pytest.warns(UserWarning, match="1 boxes hold no voxel"):
        found = read_boxes(tmp_path / "a.npz", format="nndetection")
    assert found.boxes.tolist() == [[4, 3, 1.75, 9, 5, 1.75]]
    assert found.labels.tolist() == [0]


def test_pickles_are_refused_with_the_way_out(tmp_path):
    (tmp_path / "a_boxes.pkl").write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    with pytest.raises(ValueError, match=r"a_boxes\.pkl is a pickle.*numpy\.savez") as error:
        read_boxes(tmp_path / "a_boxes.pkl")
    assert "\n" not in str(error.value)
    np.savez(tmp_path / "b.npz", pred_boxes=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match=r"b\.npz must be a readable npz without pickles"):
        read_boxes(tmp_path / "b.npz", format="nndetection")


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("order", ["xyz", "zyx"])
def test_coco_boxes_are_those_of_the_reference(tmp_path, ndim, order):
    boxes = torch.cat([BOXES[:, :ndim], BOXES[:, 3 : 3 + ndim]], dim=1)
    path = tmp_path / "a.json"
    write_boxes(path, boxes, case="a", format="coco", axis_order=order)
    rows = json.loads(path.read_text())["annotations"]
    expected = [coco_box(box, x_is_last=order == "zyx") for box in boxes.tolist()]
    assert [row["bbox"] for row in rows] == expected
    for row in rows:
        assert row["area"] == pytest.approx(math.prod(row["bbox"][ndim:]))


def test_coco_of_others_must_name_its_axis_order(tmp_path):
    path = tmp_path / "a.json"
    results = [
        {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5},
        {"image_id": 9, "category_id": 0, "bbox": [0, 0, 1, 1], "score": 0.25},
    ]
    path.write_text(json.dumps(results))
    with pytest.raises(ValueError, match=r"a\.json does not say which axis its x is"):
        read_box_files(path)
    found = read_box_files(path, axis_order="zyx")
    assert list(found) == ["7", "9"]
    assert found["7"].boxes.tolist() == [[2, 1, 6, 4]]
    assert read_boxes(path, axis_order="xyz", case="7").boxes.tolist() == [[1, 2, 4, 6]]
    content = {
        "images": [{"id": 7, "file_name": "x/sub-01.nii.gz"}, {"id": 9, "file_name": "sub-02.nii"}],
        "annotations": results[:1],
        "categories": [],
    }
    path.write_text(json.dumps(content))
    found = read_box_files(path, axis_order="xyz")
    assert list(found) == ["sub-01", "sub-02"]
    assert found["sub-02"].boxes.shape == (0, 4)


def test_coco_tells_the_size_of_the_scan_where_it_is_named(tmp_path):
    save_nifti(tmp_path / "scan.nii.gz", torch.zeros(5, 4, 3), torch.eye(4))
    for order, sizes in (("xyz", (5, 4, 3)), ("zyx", (3, 4, 5))):
        write_boxes(
            tmp_path / "a.json", BOXES, case="a", format="coco", axis_order=order,
            image=tmp_path / "scan.nii.gz",
        )  # fmt: skip
        (image,) = json.loads((tmp_path / "a.json").read_text())["images"]
        assert tuple(image[key] for key in ("width", "height", "depth")) == sizes


def test_the_table_of_detect_is_read(tmp_path):
    header = ["case", "score", "label", *(f"axis{a}_{e}" for e in ("min", "max") for a in range(3))]
    with (tmp_path / "detections.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow([*header, "outcome"])
        writer.writerow(["b", 0.5, 0, 1, 2, 3, 4, 5, 6, "hit"])
        writer.writerow(["a", 0.25, 1, 0, 0, 0, 1, 1, 1, ""])
        writer.writerow(["b", 0.125, 0, 1, 2, 3, 4, 5, 7, ""])
    found = read_box_files(tmp_path / "detections.csv")
    assert list(found) == ["b", "a"]
    assert found["b"].scores.tolist() == [0.5, 0.125]
    assert found["a"].boxes.tolist() == [[0, 0, 0, 1, 1, 1]]
