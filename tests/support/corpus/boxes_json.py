"""The formats of boxes that are JSON: every key and every number in them."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.support.corpus.record import AFFINE, Damaged, cut_short, damaged

_ROWS = [list(row) for row in AFFINE]
_TURN = [1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0]


def _ours() -> dict[str, Any]:
    boxes = [
        {"box": [2, 3, 2, 6, 7, 5.5], "score": 0.9, "label": 1, "ignored": False},
        {"box": [8, 6, 5, 11, 9, 7], "score": 0.25, "label": 0, "ignored": True},
    ]
    return {
        "format": "softoverlap-boxes", "version": 1, "case": None,
        "coordinates": "voxel corners, half-open: voxel i fills [i, i + 1)", "ndim": 3, "axes": [
            *(f"axis{axis}_min" for axis in range(3)), *(f"axis{axis}_max" for axis in range(3)),
        ],
        "affine": _ROWS, "score_threshold": 0.5, "threshold_rule": "given",
        "smallest_anchor": [4, 4, 4], "boxes": boxes,
    }  # fmt: skip


def _coco() -> dict[str, Any]:
    def row(number: int, box: list[float]) -> dict[str, Any]:
        return {
            "id": number, "image_id": 1, "category_id": 1, "bbox": box, "area": 24, "iscrowd": 0,
            "score": 0.5, "segmentation": [],
        }  # fmt: skip

    return {
        "info": {"description": "two boxes", "axis_order": "xyz"},
        "licenses": [],
        "images": [{
            "id": 1, "file_name": "CASE.nii.gz", "ndim": 3, "width": 12, "height": 10, "depth": 8,
            "affine": _ROWS,
        }],
        "annotations": [row(1, [2, 3, 2, 4, 4, 3]), row(2, [8, 6, 5, 3, 3, 2])],
        "categories": [{"id": 1, "name": "lesion"}],
    }  # fmt: skip


def _monai() -> dict[str, Any]:
    entry = {
        "image": "CASE.nii.gz", "box": [[-2, 10, 7, 4, 4.8, 7.5], [3, 15, 16, 3, 3.6, 5]],
        "label": [1, 0], "score": [0.9, 0.2],
    }  # fmt: skip
    affines = {"CASE.nii.gz": _ROWS}
    return {"frame": "RAS", "box_mode": "cccwhd", "affines": affines, "validation": [entry]}


def _nndetection() -> dict[str, Any]:
    return {
        "pred_boxes": [[1, 2, 5, 7, 1, 6], [4, 5, 7, 9, 7, 11]],
        "pred_scores": [0.9, 0.2],
        "pred_labels": [1, 0],
        "itk_origin": [5.0, -7.0, 3.0],
        "itk_spacing": [1.0, 1.2, 2.5],
        "itk_direction": [-1.0, 0, 0, 0, -1.0, 0, 0, 0, 1.0],
    }


def _instances() -> dict[str, Any]:
    return {
        "1": {"score": 0.9, "label": 1, "box": [1, 2, 5, 7, 1, 6]},
        "2": {"score": 0.2, "label": 0, "box": [4, 5, 7, 9, 7, 11]},
    }


def _slicer() -> dict[str, Any]:
    def roi(centre: list[float]) -> dict[str, Any]:
        point = {
            "id": "1", "label": "box", "description": "score 0.5 class 1", "position": centre,
            "positionStatus": "defined",
        }  # fmt: skip
        return {
            "type": "ROI", "name": "box", "coordinateSystem": "LPS", "coordinateUnits": "mm",
            "locked": True, "roiType": "Box", "center": centre, "orientation": _TURN,
            "size": [4, 4.8, 7.5], "insideOut": False, "controlPoints": [point],
        }  # fmt: skip

    return {"@schema": "markups", "markups": [roi([2, -10, 7]), roi([-3, -15, 16])]}


FORMATS = {
    "json": (_ours, ".json"),
    "coco": (_coco, ".json"),
    "monai": (_monai, ".json"),
    "nndetection": (_nndetection, ".json"),
    "instances": (_instances, ".json"),
    "slicer": (_slicer, ".mrk.json"),
}

_WRONG = (
    "null", "true", "-1", "0", "1e400", "NaN", "-Infinity", "1" + "0" * 40, '""', '"x"', '"=1+1"',
    "[]", "{}", "[[]]", "[null]", '{"a": 1}', "1.5", '"1.5"', "[1, 2]", '"\\ud800"', '"\\u0000"',
)  # fmt: skip
"""Values in the words of JSON, each wrong in most places."""


def json_boxes(name: str, seed: int) -> Iterator[Damaged]:
    """Files of one of the formats."""
    rng = random.Random(seed)
    whole, suffix = FORMATS[name]
    for number, (change, text) in enumerate(_changed(whole(), rng)):
        yield _named(f"{name} {number:03d} key {change}", suffix, text)
    text = json.dumps(whole(), indent=1)
    for what, content in _texts(text):
        yield _named(f"{name} {what}", suffix, content)


def _named(what: str, suffix: str, content: str | bytes) -> Damaged:
    """The file; the name of the case in it is that of the file."""
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    one = damaged(what, suffix, data)
    case = one.name.removesuffix(suffix).encode()
    return replace(one, files={one.name: data.replace(b"CASE", case)})


def _changed(content: Any, rng: random.Random) -> Iterator[tuple[str, str]]:
    """Each key away, twice, misspelt, and each value replaced by some of the wrong ones."""
    for place in _places(content):
        *outer, last = place
        for value in rng.sample(_WRONG, 5):
            yield "wrong", _with(content, place, value)
        for change in ("away", "twice", "misspelt"):
            changed = copy.deepcopy(content)
            inner = _at(changed, outer)
            if change == "away":
                del inner[last]
            elif isinstance(inner, list):
                continue
            elif change == "twice":
                inner["SECOND"] = inner[last]
            else:
                inner[f" {str(last).upper()}"] = inner.pop(last)
            yield change, json.dumps(changed).replace('"SECOND"', json.dumps(last))


def _places(content: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value lies; of lists, the first and the last one."""
    if isinstance(content, dict):
        items = list(content.items())
    else:
        items = [(k, content[k]) for k in sorted({0, len(content) - 1}) if content]
    for key, value in items:
        yield (*place, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*place, key))


def _at(content: Any, place: Any) -> Any:
    for key in place:
        content = content[key]
    return content


def _with(content: Any, place: tuple[Any, ...], value: str) -> str:
    """The file with another value, in words, since JSON has some that Python has not."""
    changed = copy.deepcopy(content)
    _at(changed, place[:-1])[place[-1]] = "REPLACED"
    return json.dumps(changed).replace('"REPLACED"', value)


def _texts(text: str) -> Iterator[tuple[str, str | bytes]]:
    """Damages of the text."""
    whole = text.encode()
    yield from cut_short(whole, {"first key": 20, "boxes": 3 * len(whole) // 4})
    yield "of nothing but spaces", "   \n"
    yield "deep", "[" * 100_000
    yield "deep and closed", '{"boxes": ' + "[" * 5000 + "]" * 5000 + "}"
    yield "array", f"[{text}]"
    yield "twice", text + text
    yield "comma", text.replace("\n}", ",\n}")
    yield "quotes", text.replace('"', "'")
    yield "comment", "// boxes\n" + text
    yield "utf 16", text.encode("utf-16")
    yield "mark of utf 8", b"\xef\xbb\xbf" + whole
    yield "not utf 8", whole + b"\xff\xfe"
    yield "null bytes", whole + bytes(100)
    yield "long number", text.replace("0.9", "9" * 5000)
    words = ("null", "true", "0", '"text"', "[]", "{}", "[[]]", "[{}]", '{"boxes": {}}')
    for number, word in enumerate(words):
        yield f"only word {number}", word
