"""Fields that change what the rest of a file means are understood, refused or told."""

from __future__ import annotations

import json
import math

import pytest
import torch

from softoverlap.images import read_box_files, read_boxes, write_boxes
from tests.support.box_makers import AFFINES, BOXES, LABELS, SCORES

AFFINE = AFFINES["plain"]
OPTIONS = {
    "json": {},
    "coco": {"axis_order": "xyz"},
    "monai": {"frame": "RAS", "affine": AFFINE},
    "slicer": {"affine": AFFINE},
    "nndetection": {"format": "nndetection"},
}


def changed_file(tmp_path, name, change):
    """A file of two boxes in the format, with one change."""
    path = tmp_path / ("a.mrk.json" if name == "slicer" else "a.json")
    write_boxes(
        path, BOXES, scores=SCORES, labels=LABELS, affine=AFFINE, case="a", format=name,
    )  # fmt: skip
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def options_of(name, path):
    known = json.loads(path.read_text())
    options = dict(OPTIONS[name])
    if name == "monai" and isinstance(known, dict) and "frame" in known:
        options.pop("frame")
    if name == "coco" and isinstance(known, dict) and "axis_order" in (known.get("info") or {}):
        options.pop("axis_order")
    return {"format": name, **options}


def every(key, value, of):
    """The key with this value in every object of the list."""
    return lambda content: [row.update({key: value}) for row in of(content)]


def boxes_of(content):
    return content["boxes"]


def annotations_of(content):
    return content["annotations"]


def entries_of(content):
    return content["validation"]


def markups_of(content):
    return content["markups"]


REFUSED = {
    "json": [
        (lambda c: c.update(boxes={}), r"\{\} as boxes, which is no list"),
        (lambda c: c.update(boxes=""), "'' as boxes, which is no list"),
        (lambda c: c.update(boxes=None), "None as boxes, which is no list"),
        (lambda c: c.update(boxes=[[0] * 6]), "in boxes, which is no object"),
        (lambda c: c["boxes"][0].update(box={}), r"\{\} as box, which is no list"),
        (lambda c: c["boxes"][0].update(box="123456"), "'123456' as box, which is no list"),
        (lambda c: c.update(axes=c["axes"][::-1]), "must have the axes"),
        (lambda c: c.update(axes=["x0", "y0", "z0", "x1", "y1", "z1"]), "must have the axes"),
        (lambda c: c.update(axes=[]), "must have the axes"),
        (lambda c: c.update(coordinates="mm"), "must have 'voxel corners, .* as coordinates"),
        (lambda c: c.update(coordinates=None), "must have 'voxel corners, .* as coordinates"),
        (lambda c: c.update(version=True), "must have version 1, got True"),
        (lambda c: c.update(version="1"), "must have version 1, got '1'"),
        (lambda c: c.update(ndim=10**12, boxes=[]), "a whole number of axes as ndim"),
        (lambda c: c.update(ndim=3.0), "a whole number of axes as ndim"),
        (every("score", "0.5", boxes_of), "must have finite numbers as score"),
        (every("score", math.nan, boxes_of), "must have finite numbers as score"),
        (every("score", -math.inf, boxes_of), "must have finite numbers as score"),
        (every("score", 10**400, boxes_of), "must have finite numbers as score"),
        (every("score", True, boxes_of), "must have finite numbers as score"),
        (every("label", 1.5, boxes_of), "must have whole numbers as label"),
        (every("label", "1", boxes_of), "must have whole numbers as label"),
        (every("label", True, boxes_of), "must have whole numbers as label"),
        (every("label", math.nan, boxes_of), "must have whole numbers as label"),
        (every("label", 2**70, boxes_of), "must have numbers as label"),
        (every("ignored", 1, boxes_of), "must have true or false as ignored"),
        (every("ignored", "no", boxes_of), "must have true or false as ignored"),
        (lambda c: c["boxes"][0]["box"].__setitem__(0, math.nan), "must hold finite coordinates"),
        (lambda c: c["boxes"][0]["box"].__setitem__(3, 1e999), "must hold finite coordinates"),
        (lambda c: c.update(score_threshold=math.nan), "must be a finite number"),
        (lambda c: c.update(score_threshold=10**400), "must be a finite number"),
        (lambda c: c.update(smallest_anchor=[math.inf] * 3), "must hold edges above 0"),
        (lambda c: c["affine"][0].__setitem__(0, math.nan), "affine"),
    ],
    "coco": [
        (every("iscrowd", 2, annotations_of), "must have 0 or 1 as iscrowd, got 2"),
        (every("iscrowd", "1", annotations_of), "must have 0 or 1 as iscrowd, got '1'"),
        (every("iscrowd", None, annotations_of), "must have 0 or 1 as iscrowd, got None"),
        (every("ignore", -1, annotations_of), "must have 0 or 1 as ignore"),
        (
            every("bbox_mode", 0, annotations_of),
            "must have boxes as xywh in pixels, got bbox_mode 0",
        ),
        (every("bbox_mode", "XYXY_ABS", annotations_of), "got bbox_mode 'XYXY_ABS'"),
        (lambda c: c["info"].update(bbox_format="xyxy"), "got bbox_format 'xyxy'"),
        (lambda c: c.update(bbox_mode="xyxy"), "must have boxes as xywh .* got bbox_mode 'xyxy'"),
        (lambda c: c.update(BoxFormat="xyxy"), "must have boxes as xywh .* got BoxFormat 'xyxy'"),
        (lambda c: c.update(units="mm"), "must have boxes in pixels, got units 'mm'"),
        (every("Unit", "mm", annotations_of), "must have boxes in pixels, got Unit 'mm'"),
        (lambda c: c["info"].update(units="mm"), "must have boxes in pixels, got units 'mm'"),
        (lambda c: c["info"].update(axis_order="yxz"), "axis_order must be one of"),
        (lambda c: c["images"][0].update(units="mm"), "must have boxes in pixels"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, 3, 4]), "must hold 6 numbers a bbox"),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 3, 4]), "must hold 6 numbers a bbox"),
        (lambda c: c["annotations"][0].update(bbox={}), "as bbox, which is no list"),
        (
            lambda c: c["annotations"][0].pop("bbox"),
            "must have a bbox in every annotation, got one without",
        ),
        (lambda c: c.update(annotations={}), "as annotations, which is no list"),
        (lambda c: c.update(images={}), "as images, which is no list"),
        (
            lambda c: c.update(images=[*c["images"], *c["images"]]),
            "must have one image for each id",
        ),
        (lambda c: c["images"][0].update(file_name=None), "must have names as file_name"),
        (every("category_id", None, annotations_of), "must have whole numbers as label"),
        (every("category_id", 1.5, annotations_of), "must have whole numbers as label"),
        (every("score", "0.5", annotations_of), "must have finite numbers as score"),
        (lambda c: c["annotations"][0].pop("score"), "must have a score in all boxes or none"),
        (lambda c: c["annotations"][0].update(image_id="1"), "must list every image, got '1'"),
    ],
    "monai": [
        (lambda c: c.update(box_mode="xyzxyz"), "must have boxes as cccwhd, got box_mode 'xyzxyz'"),
        (
            every("box_mode", "xyzxyz", entries_of),
            "must have boxes as cccwhd, got box_mode 'xyzxyz'",
        ),
        (lambda c: c.update(frame="lps"), "frame must be one of"),
        (lambda c: c.update(units="cm"), "must have boxes in mm, got units 'cm'"),
        (every("units", "voxel", entries_of), "must have boxes in mm, got units 'voxel'"),
        (every("frame", "LPS", entries_of), "must have boxes in RAS, as the list, got frame 'LPS'"),
        (lambda c: c.update(space="LPS"), "must have boxes in RAS, as the list, got space 'LPS'"),
        (lambda c: c.update(affines=[1]), "must have affines by image"),
        (lambda c: c.update(validation={}), "as validation, which is no list"),
        (lambda c: c.update(training={}), "as training, which is no list"),
        (
            lambda c: c.update(training=[], fold1=c.pop("validation")),
            "must hold lists named training or validation .*, got 'fold1'",
        ),
        (every("box", {}, entries_of), "as box, which is no list"),
        (every("box", [1, 2, 3, 4, 5, 6], entries_of), "1 as box, which is no list"),
        (every("label", [], entries_of), "must have a label in all boxes or none, got 0"),
        (every("label", {}, entries_of), "as label, which is no list"),
        (every("label", [0.5, 1], entries_of), "must have whole numbers as label"),
        (every("label", "labels/a.nii.gz", entries_of), "as label, which is no list"),
        (every("score", [], entries_of), "must have a score in all boxes or none, got 0"),
        (every("score", ["a", "b"], entries_of), "must have finite numbers as score"),
        (every("image", ["t1.nii.gz", "t2.nii.gz"], entries_of), "must name one file as image"),
        (lambda c: c["validation"].append("b.nii.gz"), "in validation, which is no object"),
        (lambda c: c["validation"][0]["box"][0].__setitem__(3, math.nan), "finite coordinates"),
    ],
    "slicer": [
        (every("coordinateUnits", "m", markups_of), "in mm, got 'm' as coordinateUnits"),
        (every("coordinateUnits", ["um"] * 3, markups_of), "must have ROIs in mm"),
        (every("coordinateUnits", None, markups_of), "must have ROIs in mm"),
        (every("coordinateUnits", {"unit": "mm"}, markups_of), "must have ROIs in mm"),
        (every("coordinateSystem", "IJK", markups_of), "must have ROIs in LPS or RAS"),
        (every("coordinateSystem", 0, markups_of), "must have ROIs in LPS or RAS"),
        (every("roiType", "Sphere", markups_of), "that are boxes, got 'Sphere' as roiType"),
        (every("insideOut", True, markups_of), "whose inside counts, got True"),
        (every("orientation", [0] * 9, markups_of), "must have a rotation as orientation"),
        (every("orientation", [2, 0, 0, 0, 1, 0, 0, 0, 1], markups_of), "must have a rotation"),
        (every("orientation", [1, 0, 0], markups_of), "must hold 9 numbers a orientation"),
        (every("size", [1, 2], markups_of), "must hold 3 numbers a size"),
        (every("size", [1, 2, math.nan], markups_of), "must hold finite coordinates"),
        (every("center", {}, markups_of), "must have ROIs with center and size"),
        (
            lambda c: c["markups"][0]["controlPoints"][0].update(positionStatus="undefined"),
            "must have ROIs that are placed",
        ),
        (
            lambda c: c["markups"][0]["controlPoints"][0].update(description="score 0.5 class 1.5"),
            "no whole number: '1.5'",
        ),
        (lambda c: c.update(markups={}), "as markups, which is no list"),
        (lambda c: c.update(coordinateUnits="um"), "boxes in mm, got coordinateUnits 'um'"),
        (
            lambda c: c.update(coordinateSystem="RAS"),
            "boxes in LPS, as its markups, got coordinateSystem 'RAS'",
        ),
        (lambda c: c["markups"].append(3), "in markups, which is no object"),
    ],
    "nndetection": [
        (lambda c: c.update(restore=False), "must hold boxes of the original image"),
        (lambda c: c.update(restore="no"), "must hold boxes of the original image"),
        (lambda c: c.update(pred_boxes={}), "as pred_boxes, which is no list"),
        (lambda c: c.update(pred_boxes=""), "as pred_boxes, which is no list"),
        (lambda c: c.update(pred_labels=[0.5, 1]), "must have whole numbers as label"),
        (lambda c: c.update(pred_labels=[]), "must have a label in all boxes or none, got 0"),
        (lambda c: c.update(pred_scores={}), "as score, which is no list"),
        (lambda c: c.update(pred_scores=["a", "b"]), "must have finite numbers as score"),
        (lambda c: c.update(itk_spacing=[1, 1]), "an origin, spacing and direction in 3D"),
        (lambda c: c.update(itk_direction=[1, 0, 0, 1]), "an origin, spacing and direction in 3D"),
        (lambda c: c.pop("itk_spacing"), "got no 'itk_spacing'"),
        (lambda c: c.update(units="mm"), "must have boxes in voxels, got units 'mm'"),
        (lambda c: c.update(box_mode="xyzxyz"), "as xyxyzz in voxels, got box_mode 'xyzxyz'"),
    ],
}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [(name, *case) for name, cases in REFUSED.items() for case in cases],
)
def test_what_is_not_understood_is_refused(tmp_path, name, change, message):
    path = changed_file(tmp_path, name, change)
    with pytest.raises(ValueError, match=message) as error:
        read_box_files(path, **options_of(name, path))
    assert "\n" not in str(error.value)


TOLD = {
    "json": [
        (lambda c: c.update(units="mm", frame="LPS"), "not read: 'units', 'frame'"),
        (every("iscrowd", 1, boxes_of), "not read: 'iscrowd'"),
    ],
    "coco": [
        (lambda c: c["annotations"][0].update(iscrowd=1), "1 box of a marked as crowd"),
        (every("iscrowd", True, annotations_of), "2 boxes of a marked as crowd"),
        (every("ignore", 1, annotations_of), "2 boxes of a marked as crowd"),
        (every("normalized", True, annotations_of), "not read: 'normalized'"),
        (lambda c: c.update(Scores=[1]), "not read: 'Scores'"),
        (lambda c: c["images"][0].update(frame="LPS"), "not read: 'frame'"),
    ],
    "monai": [
        (every("boxes", [], entries_of), "not read: 'boxes'"),
        (lambda c: c.update(threshold=0.5), "not read: 'threshold'"),
    ],
    "nndetection": [(lambda c: c.update(pred_masks=[]), "not read: 'pred_masks'")],
    "slicer": [(lambda c: c["markups"][0].update(type="Line"), "1 markup is not an ROI")],
}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [(name, *case) for name, cases in TOLD.items() for case in cases],
)
def test_what_has_another_meaning_is_told(tmp_path, name, change, message):
    path = changed_file(tmp_path, name, change)
    with pytest.warns(UserWarning, match=message) as told:
        file = read_boxes(path, **options_of(name, path))
    assert [str(one.message) for one in told] == list(file.notes)
    assert str(path) in file.notes[0]


SAME = {
    "json": [
        (lambda c: c.pop("axes"), None),
        (lambda c: c.pop("coordinates"), None),
        (every("label", 2.0, boxes_of), 2),
        (every("ignored", None, boxes_of), None),
    ],
    "coco": [
        (every("bbox_mode", 1, annotations_of), None),
        (every("iscrowd", False, annotations_of), None),
        (every("category_id", 3.0, annotations_of), 3),
        (every("segmentation", {"counts": [1], "size": [2, 2]}, annotations_of), None),
    ],
    "monai": [
        (lambda c: c.update(box_mode="cccwhd", training=[], name="luna", numTraining=3), None),
        (every("frame", "RAS", entries_of), None),
        (lambda c: c.update(units="mm"), None),
        (every("label", [1.0, 1.0], entries_of), 1),
    ],
    "slicer": [
        (every("coordinateUnits", ["mm", "mm", "mm"], markups_of), None),
        (lambda c: c.update(coordinateUnits="mm", coordinateSystem="LPS"), None),
        (every("roiType", "BoundingBox", markups_of), None),
        (
            lambda c: [
                row["controlPoints"][0].update(description="score 0.5 class 4.0")
                for row in c["markups"]
            ],
            4,
        ),
    ],
    "nndetection": [
        (lambda c: c.update(restore=True), None),
        (lambda c: c.update(pred_labels=[1.0, 1.0]), 1),
    ],
}


@pytest.mark.parametrize(
    ("name", "change", "label"), [(name, *case) for name, cases in SAME.items() for case in cases]
)
def test_what_means_the_same_is_read_without_a_word(tmp_path, name, change, label, recwarn):
    path = changed_file(tmp_path, name, change)
    file = read_boxes(path, **options_of(name, path))
    torch.testing.assert_close(file.boxes, BOXES, rtol=0, atol=1e-9)
    assert file.ignored is None
    assert label is None or file.labels.tolist() == [label, label]
    assert not recwarn.list


@pytest.mark.parametrize("name", OPTIONS)
def test_a_key_twice_is_refused_in_every_format(tmp_path, name):
    path = changed_file(tmp_path, name, lambda content: None)
    content = json.loads(path.read_text())
    key = next(key for key in content if isinstance(content[key], list))
    path.write_text(path.read_text().rstrip()[:-1] + f', "{key}": []}}')
    with pytest.raises(ValueError, match=f"the key '{key}' twice in one object"):
        read_boxes(path, format=name)
    with pytest.raises(ValueError, match=f"the key '{key}' twice in one object"):
        read_boxes(path)
