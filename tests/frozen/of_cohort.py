"""A cohort of twelve phantoms on disk, scored to its tables.

Predictions are made of the truths by arithmetic that every processor does alike: a mean over
neighbours, a shift, a factor, rounded to 250 steps. Paths, versions and times are left out, and of
messages it is kept whether there is one, not their words.
"""

from __future__ import annotations

import csv
import functools
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.frozen.names import api

Entries = dict[str, Callable[[], Any]]

COUNT = 12
_TABLES = ("cases.csv", "lesions.csv", "boxes.csv")
_PATHS = ("pred", "truth")
_MESSAGES = ("error", "warning")
_NOT_VALUES = ("version", "format", "settings")


def entries() -> Entries:
    """Each table of each kind of cohort, a key each."""
    made: Entries = {
        f"score_cohort/{kind}/{name}": partial(_table, kind, name)
        for kind in ("masks", "boxes", "raters", "labels", "truth_boxes", "both_boxes")
        for name in (*_TABLES, "summary.json")
    }
    made["score_case/masks"] = _one_case
    made["find_pairs/masks"] = partial(_paired, "find")
    made["read_pairs/masks"] = partial(_paired, "read")
    return made


@functools.cache
def _phantoms() -> list[Any]:
    phantoms = api.LesionPhantoms(11, count=COUNT, shape=(40, 36, 24), num_raters=3)
    return [phantoms[number] for number in range(COUNT)]


def _prediction(mask: Tensor, number: int) -> Tensor:
    """Blurred, shifted or fainter truths; one is empty, one has a false lesion."""
    soft = mask.double()
    if number % 3 != 2:
        for axis in range(3):
            soft = (soft.roll(1, axis) + 2 * soft + soft.roll(-1, axis)) / 4
    if number % 3 != 0:
        soft = soft.roll((1, -1, 0), (0, 1, 2))
    soft = soft * (1 - (number % 4) / 8)
    if number == 4:
        soft[3:6, 30:33, 2:5] = 0.8
    if number == 7:
        soft = 0 * soft
    return ((soft * 250).round() / 250).float()


def _boxes(number: int) -> tuple[Tensor, Tensor]:
    """Boxes near the lesions, and a false one; scores fall."""
    boxes = [
        lesion.box.double() + 0.5 - 0.25 * (n % 4)
        for n, lesion in enumerate(_phantoms()[number].lesions)
    ]
    boxes.append(torch.tensor([2.0, 2, 2, 6, 7, 5 + number / 4]).double())
    scores = 1 - (torch.arange(len(boxes)).double() + number % 5) / 20
    return torch.stack(boxes), scores


def _write(kind: str, folder: Path) -> None:
    for side in _PATHS:
        (folder / side).mkdir()
    for number, phantom in enumerate(_phantoms()):
        case, affine = f"case-{number:02d}", phantom.affine
        mask = phantom.mask if number != 9 else 0 * phantom.mask
        pred = _prediction(mask, number)
        if kind == "labels":
            pred, mask = (_labels(one) for one in (pred, mask))
        if kind in ("boxes", "both_boxes"):
            boxes, scores = _boxes(number)
            path = folder / "pred" / f"{case}.json"
            api.write_boxes(path, boxes, scores=scores, affine=affine, case=case)
        else:
            api.save_nifti(folder / "pred" / f"{case}.nii.gz", pred, affine)
        if kind in ("truth_boxes", "both_boxes"):
            boxes = torch.stack(
                [lesion.box.double() for lesion in phantom.lesions] or [torch.zeros(6).double()]
            )
            boxes = boxes[: len(phantom.lesions)]
            path = folder / "truth" / f"{case}.json"
            api.write_boxes(path, boxes, affine=affine, case=case)
        elif kind == "raters":
            for rater, marks in enumerate(phantom.raters):
                api.save_nifti(folder / "truth" / f"{case}_rater{rater}.nii.gz", marks, affine)
        else:
            api.save_nifti(folder / "truth" / f"{case}.nii.gz", mask, affine)


def _labels(mask: Tensor) -> Tensor:
    """Label 2 in the upper half of the image, 1 below."""
    hard = (mask >= 0.5).to(torch.uint8)
    hard[hard.shape[0] // 2 :] *= 2
    return hard


_SETTINGS: dict[str, dict[str, Any]] = {
    "raters": {"threshold": 0.4, "halo": 0.1, "min_mm3": 8.0},
    "labels": {"labels": (1, 2), "values": "labels", "truth_values": "labels"},
    "boxes": {"hit_iou": 0.2},
}


@functools.cache
def _scored(kind: str) -> dict[str, Any]:
    """The tables by column and the summary, as a run leaves them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(kind, folder)
        settings = api.ScoreSettings(**_SETTINGS.get(kind, {}))
        pairs = api.find_pairs(folder / "pred", folder / "truth")
        api.score_cohort(pairs, folder / "out", settings)
        made: dict[str, Any] = {table: _columns(folder / "out" / table) for table in _TABLES}
        summary = json.loads((folder / "out" / "summary.json").read_text(encoding="utf-8"))
    made["summary.json"] = {key: part for key, part in summary.items() if key not in _NOT_VALUES}
    return made


def _table(kind: str, name: str) -> Any:
    return _scored(kind)[name]


def _columns(path: Path) -> dict[str, list[Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    return {
        name: [bool(row[name]) if name in _MESSAGES else _cell(row[name]) for row in rows]
        for name in reader.fieldnames or ()
        if name not in _PATHS
    }


def _cell(text: str) -> float | str:
    """A number as a number, anything else as text."""
    try:
        return float(text)
    except ValueError:
        return text


def _one_case() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        phantom = _phantoms()[1]
        for side, mask in (("pred", _prediction(phantom.mask, 1)), ("truth", phantom.mask)):
            api.save_nifti(folder / f"{side}.nii.gz", mask, phantom.affine)
        pair = api.ScorePair("a", folder / "pred.nii.gz", (folder / "truth.nii.gz",))
        result = api.score_case(pair)
    left_out = (*_PATHS, *_MESSAGES)
    rows = [{key: row[key] for key in row if key not in left_out} for row in result.rows]
    return {"rows": rows, "lesions": result.lesions, "boxes": result.boxes}


_FILES = ("pred/a.nii.gz", "pred/b.nii.gz", "truth/a_rater1.nii.gz", "truth/a_rater2.nii.gz")
_ROWS = "case,pred,truth\na,pred/a.nii.gz,truth/a_rater1.nii.gz\nb,,truth/c.nii.gz\n"


def _paired(how: str) -> list[tuple[str, str, list[str], bool]]:
    """Cases of a small folder: names of files, and whether something is wrong."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in (*_FILES, "truth/c.nii.gz"):
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).touch()
        if how == "find":
            table = api.find_pairs(folder / "pred", folder / "truth")
        else:
            (folder / "pairs.csv").write_text(_ROWS, encoding="utf-8")
            table = api.read_pairs(folder / "pairs.csv")
        return [_names(pair) for pair in table.pairs]


def _names(pair: Any) -> tuple[str, str, list[str], bool]:
    pred = pair.pred.name if pair.pred else ""
    return pair.case, pred, [path.name for path in pair.truth], pair.error is not None
