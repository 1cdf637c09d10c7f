"""Boxes of other tools: they read back, and lie where the other tool has them."""

from __future__ import annotations

import csv
import json
import math
import warnings

import jsonschema
import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from reference_boxes import coco_box, monai_box, nndetection_box, world_corners
from strategies import box_batches

from softoverlap.data import (
    FORMATS,
    BoxFile,
    box_schema,
    read_box_files,
    read_boxes,
    read_label_map,
    save_nifti,
    write_box_files,
    write_boxes,
    write_markups,
)

BOXES = torch.tensor(
    [[0.125, 1.0, 2.0, 3.3, 4.0, 5.5], [0.0, 0.0, 0.0, 7.0, 8.0, 9.0]], dtype=torch.float64
)
SCORES = torch.tensor([0.1, 1 / 3], dtype=torch.float64)
LABELS = torch.tensor([2, 0])


def affine_of(degrees=0.0, flips=(1, 1, 1), spacing=(0.7, 1.3, 2.5), swap=False):
    """Anisotropic, perhaps flipped, permuted, turned about two axes."""
    a, b = math.radians(degrees), math.radians(degrees / 2)
    first = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
    second = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = first @ second @ np.diag(np.array(flips) * spacing)
    if swap:
        affine[:3, :3] = affine[:3, [2, 0, 1]]
    affine[:3, 3] = 12.0, -30.5, 71.25
    return torch.from_numpy(affine)


AFFINES = {
    "plain": affine_of(),
    "flipped": affine_of(flips=(-1, 1, -1)),
    "permuted": affine_of(flips=(1, -1, 1), swap=True),
    "oblique": affine_of(20, flips=(1, -1, 1)),
}
upright = pytest.mark.parametrize("name", ["plain", "flipped", "permuted"])
every = pytest.mark.parametrize("name", list(AFFINES))


def assert_same(found, boxes, scores=SCORES, labels=LABELS, *, tolerance=0.0):
    torch.testing.assert_close(found.boxes, boxes, rtol=0, atol=tolerance)
    assert (found.scores is None) == (scores is None)
    assert (found.labels is None) == (labels is None)
    if scores is not None:
        assert torch.equal(found.scores, scores)
    if labels is not None:
        assert torch.equal(found.labels, labels)


# Round trips ----------------------------------------------------------------------------------


@given(box_batches(ndim=3), st.floats(-1e3, 1e3), st.sampled_from(["csv", "json"]))
@settings(max_examples=40)
def test_our_formats_read_back_to_the_last_bit(tmp_path_factory, boxes, shift, name):
    boxes = boxes + shift / 3
    scores, labels = torch.rand(len(boxes), dtype=torch.float64), torch.arange(len(boxes))
    path = tmp_path_factory.mktemp("boxes") / f"a.{name}"
    write_boxes(path, boxes, scores=scores, labels=labels, case="sub-01")
    found = read_boxes(path)
    assert_same(found, boxes, scores, labels)
    assert found.case == "sub-01"


@given(box_batches(ndim=3), st.sampled_from([name for name in AFFINES if name != "oblique"]))
@settings(max_examples=40)
@pytest.mark.parametrize("frame", ["RAS", "LPS"])
def test_monai_lists_read_back_where_no_axis_is_oblique(tmp_path_factory, frame, boxes, name):
    path = tmp_path_factory.mktemp("monai") / "a.json"
    scores, labels = torch.rand(len(boxes), dtype=torch.float64), torch.arange(len(boxes))
    write_boxes(
        path, boxes, scores=scores, labels=labels, affine=AFFINES[name], case="sub-01",
        format="monai", frame=frame,
    )  # fmt: skip
    found = read_boxes(path)
    assert_same(found, boxes, scores, labels, tolerance=1e-11)
    assert found.case == "sub-01"


@given(box_batches(ndim=3), st.sampled_from(list(AFFINES)))
@settings(max_examples=40)
def test_slicer_markups_read_back_under_every_affine(tmp_path_factory, boxes, name):
    path = tmp_path_factory.mktemp("slicer") / "sub-01_boxes.mrk.json"
    scores, labels = torch.rand(len(boxes), dtype=torch.float64), torch.arange(len(boxes))
    write_boxes(path, boxes, scores=scores, labels=labels, affine=AFFINES[name])
    found = read_boxes(path, affine=AFFINES[name])
    assert_same(found, boxes, scores, labels, tolerance=1e-11)
    assert found.case == "sub-01"


@given(box_batches(), st.sampled_from(["xyz", "zyx"]))
@settings(max_examples=40)
def test_coco_reads_back_in_two_and_three_dimensions(tmp_path_factory, boxes, order):
    path = tmp_path_factory.mktemp("coco") / "a.json"
    labels = torch.arange(len(boxes))
    options = {"labels": labels, "case": "sub-01", "format": "coco", "axis_order": order}
    if boxes.shape[1] not in (4, 6):
        with pytest.raises(ValueError, match=r"must get 2D or 3D boxes in this format, got \dD"):
            write_boxes(path, boxes, **options)
        return
    write_boxes(path, boxes, **options)
    assert_same(read_boxes(path), boxes, None, labels)  # exact: the boxes lie on eighths


@given(box_batches(ndim=3), st.sampled_from(list(AFFINES)), st.sampled_from(["npz", "json"]))
@settings(max_examples=40)
def test_nndetection_reads_back_with_its_grid(tmp_path_factory, boxes, name, suffix):
    path = tmp_path_factory.mktemp("nndet") / f"sub-01_boxes.{suffix}"
    scores, labels = torch.rand(len(boxes), dtype=torch.float64), torch.arange(len(boxes))
    affine = AFFINES[name]
    write_boxes(
        path, boxes, scores=scores, labels=labels, affine=affine, format="nndetection"
    )  # fmt: skip
    found = read_boxes(path)
    assert_same(found, boxes, scores, labels, tolerance=1e-12)
    torch.testing.assert_close(found.affine, affine)


@pytest.mark.parametrize("name", list(FORMATS))
def test_no_boxes_are_normal_in_every_format_that_can_say_so(tmp_path, name):
    save_nifti(tmp_path / "scan.nii.gz", torch.zeros(4, 4, 4), AFFINES["plain"])
    path = tmp_path / f"a{FORMATS[name].suffix}"
    options = {"image": tmp_path / "scan.nii.gz"}
    none = torch.zeros(0, 6)
    write_boxes(path, none, scores=torch.zeros(0), case="a", format=name, **options)
    if name == "csv":  # a case without boxes has no row
        assert read_box_files(path) == {}
        return
    found = read_boxes(path, format=name, **options)
    assert found.boxes.shape == (0, 6)


@pytest.mark.parametrize("name", [name for name in FORMATS if FORMATS[name].many])
def test_files_of_many_cases_keep_them_apart(tmp_path, name):
    files = {
        "sub-01": BoxFile(BOXES, SCORES, LABELS, AFFINES["plain"]),
        "sub-02": BoxFile(BOXES[1:], SCORES[1:], LABELS[1:], AFFINES["flipped"]),
    }
    path = tmp_path / f"all{FORMATS[name].suffix}"
    write_box_files(path, files, format=name)
    found = read_box_files(path)
    assert list(found) == list(files)
    for case, file in found.items():
        assert_same(
            file, files[case].boxes, files[case].scores, files[case].labels, tolerance=1e-11
        )
        assert file.case == case
    assert torch.equal(read_boxes(path, case="sub-02").scores, SCORES[1:])
    with pytest.raises(ValueError, match="must name one of its cases, got 2: sub-01, sub-02"):
        read_boxes(path)
    with pytest.raises(ValueError, match="must hold the case 'sub-03'"):
        read_boxes(path, case="sub-03")


@pytest.mark.parametrize("name", [name for name in FORMATS if not FORMATS[name].many])
def test_a_format_of_one_case_refuses_two(tmp_path, name):
    one = BoxFile(BOXES, SCORES, LABELS, AFFINES["plain"])
    with pytest.raises(ValueError, match="must get one case, since its format holds no more"):
        write_box_files(tmp_path / f"a{FORMATS[name].suffix}", {"a": one, "b": one}, format=name)
    assert not list(tmp_path.iterdir())


# Where boxes lie ------------------------------------------------------------------------------


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
    with pytest.warns(UserWarning, match=r"axes at an angle.* up to [\d.]+ times its volume"):
        write_boxes(path, BOXES, affine=affine, case="a", format="monai")
    with pytest.warns(UserWarning, match="axes at an angle"):
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
    with pytest.warns(UserWarning, match="1 markups are no ROIs and were passed by"):
        found = read_boxes(path, affine=torch.eye(4))
    torch.testing.assert_close(found.boxes, BOXES[:1])
    assert (found.scores, found.labels) == (None, None)


def test_nndetection_boxes_of_a_mask_are_tight_boxes_of_ours(tmp_path):
    mask = np.zeros((12, 10, 8), dtype=bool)
    mask[2:5, 3:9, 4] = True
    path = tmp_path / "a.npz"
    np.savez(path, pred_boxes=np.array([nndetection_box(mask)], dtype=np.float32))
    with pytest.raises(ValueError, match=r"a\.npz does not tell its format"):
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
    with pytest.raises(ValueError, match=r"a_boxes\.json does not tell its format"):
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


# Label maps -----------------------------------------------------------------------------------


def label_map(path, values, affine=None):
    nibabel.save(
        nibabel.Nifti1Image(values.astype(np.uint16), np.eye(4) if affine is None else affine), path
    )


def test_label_maps_give_boxes_and_soft_crops(tmp_path):
    values = np.zeros((6, 6, 6))
    values[1:3, 2:5, 3] = 300
    values[4, 4, 4] = values[5, 5, 5] = 2  # one lesion of two parts
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    path = tmp_path / "a.nii.gz"
    label_map(path, values, affine)
    assert read_boxes(path).scores is None
    (tmp_path / "a.csv").write_text("value,score,label\n300,0.5,1\n2,0.25,0\n")
    found = read_boxes(path)
    assert found.boxes.tolist() == [[4, 4, 4, 6, 6, 6], [1, 2, 3, 3, 5, 4]]
    assert found.scores.tolist() == [0.25, 0.5]
    assert found.labels.tolist() == [0, 1]
    second, first = read_label_map(path)
    assert first.volume_mm3 == 6 * 6 * 0.5
    assert first.centre.tolist() == [2.0, 3.5, 3.5]
    assert torch.equal(first.crop, torch.full((2, 3, 1), 0.5))
    assert (first.label, first.offset.tolist()) == (1, [1, 2, 3])
    assert second.crop.sum() == 0.5
    assert second.crop[0, 0, 0] == 0.25
    assert second.crop[0, 1, 0] == 0
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"300": {"score": 1.0, "label": 0}, "2": {"score": 0, "label": 0}}))
    assert read_boxes(path, score_table=other).scores.tolist() == [0.0, 1.0]
    assert read_label_map(path, scores=other)[0].crop.sum() == 0


def test_whole_boxes_that_do_not_overlap_read_back_from_a_label_map(tmp_path):
    save_nifti(tmp_path / "scan.nii.gz", torch.zeros(9, 8, 7), AFFINES["oblique"])
    boxes = torch.tensor([[0.0, 0, 0, 2, 3, 4], [5, 5, 5, 9, 8, 7]], dtype=torch.float64)
    path, scan = tmp_path / "b_boxes.nii.gz", tmp_path / "scan.nii.gz"
    write_boxes(path, boxes, scores=SCORES, labels=LABELS, image=scan)
    assert_same(read_boxes(path), boxes)
    assert read_boxes(path).case == "b"
    boxes[1] = torch.tensor([0.0, 0, 0, 2, 3, 4])
    with pytest.warns(UserWarning, match="1 boxes have no voxel of their own"):
        write_boxes(path, boxes, scores=SCORES, image=scan)
    with pytest.warns(UserWarning, match="lists values without a voxel: 1"):
        assert read_boxes(path).scores.tolist() == SCORES[1:].tolist()  # the higher score won


def test_a_label_map_paints_the_voxels_whose_centre_a_box_holds(tmp_path):
    save_nifti(tmp_path / "scan.nii.gz", torch.zeros(5, 5, 5), torch.eye(4))
    box = torch.tensor([[0.5, 0.51, -3.0, 2.5, 2.51, 9.0]])
    path = tmp_path / "a.nii.gz"
    write_boxes(path, box, image=tmp_path / "scan.nii.gz")
    assert read_boxes(path).boxes.tolist() == [[0, 1, 0, 2, 3, 5]]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("value,score\n1,0.5\n", r"must have a score for each value, got none for \{2\}"),
        ("value,score\n1,0.5\n1,0.5\n2,1\n", r"must have one row a value, got two for 1"),
        ("value,score\n1,high\n2,1\n", "must have the columns value, score, label, got"),
        ("id,score\n1,1\n2,1\n", "must have the columns value, score, label, got"),
        ("value,score\n1,\n2,1\n", "must have a score in all boxes or none, got 1"),
        ("value,score\n1,nan\n2,1\n", "must have finite numbers as score"),
    ],
)
def test_a_table_that_does_not_fit_its_label_map_is_named(tmp_path, table, message):
    values = np.zeros((3, 3, 3))
    values[0], values[1] = 1, 2
    label_map(tmp_path / "a.nii.gz", values)
    (tmp_path / "a.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        read_boxes(tmp_path / "a.nii.gz")


def test_a_soft_map_is_no_label_map(tmp_path):
    save_nifti(tmp_path / "a.nii.gz", torch.full((3, 3, 3), 0.5), torch.eye(4))
    with pytest.raises(ValueError, match=r"a\.nii\.gz must hold whole numbers, as a label map"):
        read_boxes(tmp_path / "a.nii.gz")
    label_map(tmp_path / "b.nii.gz", np.ones((3, 3, 3)))
    (tmp_path / "b.csv").write_text("value,score\n1,1.5\n")
    with pytest.raises(ValueError, match=r"must have scores in \[0, 1\] for soft crops, got 1.5"):
        read_label_map(tmp_path / "b.nii.gz")
    with pytest.raises(FileNotFoundError, match=r"gone\.csv must be the table of"):
        read_boxes(tmp_path / "b.nii.gz", score_table=tmp_path / "gone.csv")


# The schema -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validator():
    schema = box_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("ndim", [1, 2, 3, 4])
@pytest.mark.parametrize("full", [False, True])
def test_what_we_write_is_what_the_schema_says(tmp_path, validator, ndim, full):
    boxes = torch.arange(4.0 * ndim).reshape(2, -1)
    options = {"scores": SCORES, "labels": LABELS, "affine": torch.eye(4), "case": "a"}
    write_boxes(tmp_path / "a.json", boxes, **(options if full else {}))
    validator.validate(json.loads((tmp_path / "a.json").read_text()))


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("boxes"),
        lambda c: c.pop("case"),
        lambda c: c.pop("affine"),
        lambda c: c.update(format="coco"),
        lambda c: c.update(version=2),
        lambda c: c.update(case=3),
        lambda c: c.update(ndim=0),
        lambda c: c.update(ndim=2),
        lambda c: c.update(affine=[[1.0]]),
        lambda c: c["boxes"][0].pop("box"),
        lambda c: c["boxes"][0].update(box=[0.0] * 5),
        lambda c: c["boxes"][0].update(box=["a"] * 6),
        lambda c: c["boxes"][0].update(box=[True] * 6),
        lambda c: [row.update(score="high") for row in c["boxes"]],
        lambda c: [row.update(label=1.5) for row in c["boxes"]],
    ],
)
def test_what_the_schema_refuses_the_reader_refuses(tmp_path, validator, change):
    path = tmp_path / "a.json"
    write_boxes(path, BOXES, scores=SCORES, labels=LABELS, affine=torch.eye(4), case="a")
    content = json.loads(path.read_text())
    assert validator.is_valid(content)
    change(content)
    assert not validator.is_valid(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"a\.json"):
        read_boxes(path, format="json")


# Bad files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "options", "message"),
    [
        ("a.json", "{", {}, "must be a JSON file, got"),
        ("a.json", "[" * 100000, {}, "must be a JSON file, got"),
        ("a.txt", "x", {}, "does not tell its format"),
        ("a.json", "[]", {}, "does not tell its format"),
        ("a.npz", "x", {}, "must be a readable npz without pickles"),
        ("a.csv", "case;score\n", {}, "must have the columns axis0_min, axis1_min, axis2_min, "),
        ("a.csv", "axis0_min,axis0_max\n1\n", {}, "must have a number as axis0_max in line 2"),
        ("a.csv", "axis0_min,axis0_max\n1,x\n", {}, "in line 2, got 'x'"),
        ("a.csv", "axis0_min,axis0_max\n1,nan\n", {}, "must hold finite coordinates"),
        ("a.csv", "axis0_min,axis0_max\n3,1\n", {}, "must have every maximum at or above"),
        ("a.csv", "label,axis0_min,axis0_max\n1.5,1,2\n", {}, "whole number as label in line 2"),
        ("a.csv", "axis1_min,axis1_max\n3,4\n", {}, "must have the columns axis0_min"),
        ("a.json", "[1]", {"format": "monai", "frame": "RAS"}, "must be a MONAI list"),
        ("a.json", "{}", {"format": "monai", "frame": "RAS"}, "must hold a list named training"),
        (
            "a.json",
            '[{"image": "a.nii", "box": [[0, 0, 0, 1, 1, -1]], "label": [0]}]',
            {"frame": "RAS", "affine": torch.eye(4)},
            "must have edges of at least 0",
        ),
        (
            "a.json",
            '[{"image": "a.nii", "box": [[0, 0, 0, 1, 1]]}]',
            {"frame": "RAS", "affine": torch.eye(4)},
            "must hold 6 numbers a box",
        ),
        (
            "a.json",
            '[{"image": "a.nii", "box": []}, {"image": "b/a.nii.gz", "box": []}]',
            {"frame": "RAS", "affine": torch.eye(4)},
            "must list each image once, got a again",
        ),
        (
            "a.json",
            '[{"image": "a.nii", "box": [[0, 0, 0, 1, 1, 1]], "score": []}]',
            {"frame": "up", "affine": torch.eye(4)},
            "frame must be one of",
        ),
        (
            "a.json",
            '{"frame": "LPS", "validation": [{"image": "a.nii", "box": []}]}',
            {"frame": "RAS", "affine": torch.eye(4)},
            "must be read in its own frame, LPS, got RAS",
        ),
        ("a.json", "{}", {"format": "coco"}, "must be a COCO file, got no 'annotations'"),
        (
            "a.json",
            '{"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 2}]}',
            {"axis_order": "xyz"},
            "must list every image, got 2 unlisted",
        ),
        (
            "a.json",
            '[{"image_id": 1, "category_id": 0, "bbox": [1, 2, -3, 4]}]',
            {"axis_order": "xyz"},
            "must have every maximum at or above",
        ),
        (
            "a.json",
            '[{"image_id": 1, "category_id": 0, "bbox": [1, 2, 3]}]',
            {"axis_order": "xyz"},
            "must hold 4 or 6 numbers a bbox, got 3",
        ),
        ("a.json", "[]", {"format": "nndetection"}, "must be a file of nnDetection's boxes"),
        ("a.json", '{"pred_boxes": [[1, 2]]}', {"format": "nndetection"}, "4 or 6 numbers a box"),
        (
            "a.json",
            '{"pred_boxes": [[5, 2, 4, 5, 1, 2]]}',
            {"format": "nndetection"},
            "must have x2 at or above x1",
        ),
        (
            "a.json",
            '{"pred_boxes": [[1, 2, 4, 5, 1, 2]], "pred_scores": [0.5, 0.5]}',
            {"format": "nndetection"},
            "must have a score in all boxes or none",
        ),
        ("a.mrk.json", "{}", {"format": "slicer"}, "must be a file of 3D Slicer's markups"),
        ("a.mrk.json", '{"markups": []}', {}, "needs the affine of a, since its format is in mm"),
        (
            "a.mrk.json",
            '{"markups": [{"type": "ROI", "size": [1, 2, 3]}]}',
            {"affine": torch.eye(4)},
            "must have ROIs that are placed, got no center in one",
        ),
        (
            "a.mrk.json",
            '{"markups": [{"type": "ROI", "coordinateSystem": "IJK"}]}',
            {"affine": torch.eye(4)},
            "must have ROIs in LPS or RAS, got 'IJK'",
        ),
        (
            "a.mrk.json",
            '{"markups": [{"type": "ROI", "center": [0, 0, 0], "size": [1, -2, 3]}]}',
            {"affine": torch.eye(4)},
            "must have sizes of at least 0",
        ),
        ("a.nii.gz", "x", {}, "must be a readable NIfTI file"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it(tmp_path, name, text, options, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        read_boxes(tmp_path / name, **options)
    if "frame must" not in message:
        assert name in str(error.value)
    assert "\n" not in str(error.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 10**30) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def places_in(content, path=()):
    """Where every value of nested lists and objects lies."""
    yield path
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items if isinstance(content, (dict, list)) else ():
        if isinstance(value, (dict, list)):
            yield from places_in(value, (*path, key))
        else:
            yield (*path, key)


@pytest.mark.parametrize("name", ["json", "monai", "coco", "nndetection", "slicer"])
@given(st.data())
@settings(max_examples=150)
def test_whatever_stands_in_a_file_it_is_read_or_named_in_one_line(tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("odd")
    suffix = ".mrk.json" if name == "slicer" else ".json"
    path, affine = folder / f"odd{suffix}", AFFINES["flipped"]
    write_boxes(
        path, BOXES, scores=SCORES, labels=LABELS, affine=affine, case="a", format=name
    )  # fmt: skip
    content = json.loads(path.read_text())
    *place, last = data.draw(st.sampled_from([at for at in places_in(content) if at]))
    inner = content
    for key in place:
        inner = inner[key]
    inner[last] = data.draw(json_values)
    path.write_text(json.dumps(content))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found, message = outcome_of(path, name, affine)
    if message is not None:
        assert path.name in message
        assert "\n" not in message
    for file in found.values():
        assert torch.isfinite(file.boxes).all()
        assert file.scores is None or torch.isfinite(file.scores).all()


def outcome_of(path, name, affine):
    """What is read, or the one error that may come instead."""
    try:
        return read_box_files(path, format=name, affine=affine), None
    except ValueError as error:
        return {}, str(error)


def test_numbers_that_cannot_be_written_are_refused(tmp_path):
    odd = BoxFile(torch.tensor([[0.0, 0, 0, 1, 1, math.nan]], dtype=torch.float64))
    for name, kind in FORMATS.items():
        with pytest.raises(ValueError, match="boxes must hold finite coordinates"):
            write_box_files(tmp_path / f"a{kind.suffix}", {"a": odd}, format=name)
    assert not list(tmp_path.iterdir())


def test_what_a_format_cannot_hold_is_refused_before_a_file_is_there(tmp_path):
    flat = torch.zeros(1, 4)
    for name, message in (
        ("monai", "must get 3D boxes in this format, got 2D"),
        ("slicer", "must get 3D boxes in this format, got 2D"),
        ("labelmap", "must get 3D boxes in this format, got 2D"),
    ):
        with pytest.raises(ValueError, match=message):
            write_boxes(tmp_path / f"a{FORMATS[name].suffix}", flat, format=name, case="a")
    with pytest.raises(ValueError, match="needs the affine of a, since its format is in mm"):
        write_boxes(tmp_path / "a.mrk.json", BOXES, case="a")
    with pytest.raises(ValueError, match="needs the scan of a: its grid"):
        write_boxes(tmp_path / "a.nii.gz", BOXES, case="a")
    with pytest.raises(ValueError, match=r"path must end in \.csv for csv, got .*a\.json"):
        write_boxes(tmp_path / "a.json", BOXES, format="csv")
    with pytest.raises(ValueError, match=r"path must end in one of .*, got .*a\.txt"):
        write_boxes(tmp_path / "a.txt", BOXES)
    with pytest.raises(ValueError, match="format must be one of"):
        write_boxes(tmp_path / "a.json", BOXES, format="yolo")
    with pytest.raises(ValueError, match="must get boxes of one dimension, got"):
        write_box_files(
            tmp_path / "a.csv", {"a": BoxFile(BOXES), "b": BoxFile(flat.double())}
        )  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_a_scan_on_another_grid_than_the_files_is_refused(tmp_path):
    save_nifti(tmp_path / "scan.nii.gz", torch.zeros(4, 4, 4), AFFINES["plain"])
    write_boxes(tmp_path / "a.json", BOXES, affine=AFFINES["flipped"])
    with pytest.raises(ValueError, match=r"a\.json must lie on the grid of the scan named for it"):
        read_boxes(tmp_path / "a.json", image=tmp_path / "scan.nii.gz")
    write_boxes(tmp_path / "a.json", BOXES, affine=AFFINES["plain"])
    found = read_boxes(tmp_path / "a.json", image=tmp_path / "scan.nii.gz")
    assert torch.equal(found.affine, AFFINES["plain"])


def test_one_scan_is_not_taken_for_that_of_several_cases(tmp_path):
    save_nifti(tmp_path / "sub-01.nii.gz", torch.zeros(4, 4, 4), AFFINES["plain"])
    files = {case: BoxFile(BOXES) for case in ("sub-01", "sub-02")}
    write_box_files(tmp_path / "all.csv", files)
    with pytest.raises(ValueError, match="holds 2 cases: image must be a folder"):
        read_box_files(tmp_path / "all.csv", image=tmp_path / "sub-01.nii.gz")
    with pytest.raises(FileNotFoundError, match=r"must hold the scan sub-02\.nii\.gz, or of"):
        read_box_files(tmp_path / "all.csv", image=tmp_path)
    save_nifti(tmp_path / "sub-02.nii", torch.zeros(4, 4, 4), AFFINES["flipped"])
    found = read_box_files(tmp_path / "all.csv", image=tmp_path)
    torch.testing.assert_close(found["sub-02"].affine, AFFINES["flipped"], rtol=0, atol=1e-5)
    write_box_files(tmp_path / "all.json", found, format="monai")
    torch.testing.assert_close(read_boxes(tmp_path / "all.json", case="sub-02").boxes, BOXES)
