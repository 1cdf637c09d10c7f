"""The settings and the result of scoring a case: plain data, to be stored and sent."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import Any

from softoverlap._checks import (
    check_choice,
    check_positive,
    check_score,
    check_threshold,
    check_weight,
    refusal,
)
from softoverlap.app.cohort.hit_rule import DEFAULT_HIT_IOU, check_hit
from softoverlap.app.cohort.matches import LesionMatches
from softoverlap.app.cohort.pairing import ScorePair
from softoverlap.app.cohort.stamps import file_stamps
from softoverlap.app.cohort.tables import Row, box_rows
from softoverlap.images import GEOMETRIES, VALUES

CaseFiles = list[list[str]]
"""Paths of the prediction, none or one, and of the truths."""


@dataclass(frozen=True)
class ScoreSettings:
    """How cases are scored, the same for all cases of a run.

    Args:
        values: Kind of the predictions' values: auto, probabilities, percent, 0-255 or labels.
        truth_values: The same for the truths.
        geometry: strict, index (trust the voxel grid) or resample.
        threshold: Lowest probability inside a lesion and a hard mask, in (0, 1].
        labels: Classes of label maps, each scored separately; none for a single mask.
        halo: Lowest probability that belongs to a lesion, in (0, 1]: voxels from here on to the
            threshold are its soft edge. Above the threshold it counts as the threshold.
        min_mm3: Smallest lesion, in mm³, of truths and predictions.
        hit: What hits a lesion: a criterion, such as `"centre_in_mask"`, or with its threshold, as
            in `"mask_box_dice:0.3"`. By default any voxel in common between two masks, and where a
            box takes part a box IoU of at least `hit_iou` with the lesion's tight box. With another
            criterion than `"any_voxel"`, predicted lesions of a mask stand for their tight boxes.
        hit_iou: That box IoU, in (0, 1]. Other than 0.1, it is a criterion between masks too.
        max_lesion_mm: A lesion is too large for a box where an edge of its tight box is longer: it
            is reported apart. None means 32 where a side is boxes, and no limit between masks.
        ignore: Labels of lesions that are neither found nor missed.
        ignore_below_existence: The same of lesions that fewer raters marked than this share.

    Raises:
        ValueError: If a choice is unknown, a number out of range or a criterion unknown.

    Examples:
        >>> ScoreSettings(threshold=0.3).geometry
        'strict'
    """

    values: str = "auto"
    truth_values: str = "auto"
    geometry: str = "strict"
    threshold: float | int = 0.5
    halo: float | int = 0.01
    labels: tuple[int, ...] = ()
    min_mm3: float | int = 0.0
    hit: str | None = None
    hit_iou: float | int = DEFAULT_HIT_IOU
    max_lesion_mm: float | int | None = None
    ignore: tuple[int, ...] = ()
    ignore_below_existence: float | int = 0.0

    def __post_init__(self) -> None:
        check_choice("values", self.values, VALUES)
        check_choice("truth_values", self.truth_values, VALUES)
        check_choice("geometry", self.geometry, GEOMETRIES)
        check_threshold(threshold=self.threshold, halo=self.halo, hit_iou=self.hit_iou)
        check_weight(min_mm3=self.min_mm3)
        check_score(ignore_below_existence=self.ignore_below_existence)
        if self.max_lesion_mm is not None:
            check_positive(max_lesion_mm=self.max_lesion_mm)
        for name in ("labels", "ignore"):
            labels = getattr(self, name)
            if any(label < 1 for label in labels) or len(set(labels)) < len(labels):
                raise refusal(name, f"must be different and at least 1, got {list(labels)}")
        if both := sorted(set(self.labels) & set(self.ignore)):
            raise refusal("ignore", f"must hold none of `labels=`, got {both}")
        if self.hit is not None and self.hit_iou != DEFAULT_HIT_IOU:
            raise refusal("hit", f"must be left out where `hit_iou=` is given, got {self.hit!r}")
        check_hit(self.hit)

    def as_dict(self) -> dict[str, Any]:
        """The settings with the types of JSON."""
        return json.loads(json.dumps(asdict(self)))


@dataclass(frozen=True)
class CaseResult:
    """The result of scoring a case: rows of plain values; None means not defined.

    Args:
        case: Name of the case.
        rows: Its rows of `cases.csv`: one, or one per label.
        lesions: Its rows of `lesions.csv`.
        matches: What hit what, a `LesionMatches` as plain data, one a row, with its names.
        statistics: Sums that can be pooled over cases, by row.

    Examples:
        >>> failed("sub-01", "no truth").error
        'no truth'
    """

    case: str
    rows: list[dict[str, Any]]
    lesions: list[dict[str, Any]] = field(default_factory=list)
    matches: list[dict[str, Any]] = field(default_factory=list)
    statistics: list[dict[str, Any]] = field(default_factory=list)

    @property
    def error(self) -> str | None:
        """Why the case could not be scored, or None."""
        return next((row["error"] for row in self.rows if row.get("error")), None)

    @property
    def lesion_matches(self) -> list[LesionMatches]:
        """What hit what, of each row."""
        return [LesionMatches.from_dict(match) for match in self.matches]

    @property
    def boxes(self) -> list[Row]:
        """Its rows of `boxes.csv`."""
        names = [{k: match[k] for k in ("case", "label") if k in match} for match in self.matches]
        return [
            {**name, **row}
            for name, matches in zip(names, self.lesion_matches, strict=True)
            for row in box_rows(matches)
        ]


def failed(case: str, error: str, pair: ScorePair | None = None) -> CaseResult:
    """The result of a case that cannot be scored.

    Examples:
        >>> failed("sub-01", "no truth").rows
        [{'case': 'sub-01', 'error': 'no truth'}]
    """
    row: dict[str, Any] = {"case": case, "error": " ".join(error.split())}
    return CaseResult(case, [row | ({} if pair is None else file_columns(pair))])


def file_columns(pair: ScorePair) -> Row:
    """The columns that name the files; those of the truth are a list."""
    pred = None if pair.pred is None else str(pair.pred)
    return {"pred": pred, "truth": [str(path) for path in pair.truth]}


def plain_result(result: CaseResult) -> CaseResult:
    """The same with None for NaN and infinity, for JSON and CSV."""
    return replace(
        result,
        rows=plain_values(result.rows),
        lesions=plain_values(result.lesions),
        matches=plain_values(result.matches),
        statistics=plain_values(result.statistics),
    )


def plain_values(value: Any) -> Any:
    """The same with None for NaN and infinity, and lists for tuples.

    Examples:
        >>> plain_values({"a": (1.0, float("nan"))})
        {'a': [1.0, None]}
    """
    if isinstance(value, dict):
        return {key: plain_values(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def case_key(pair: ScorePair, settings: ScoreSettings) -> str:
    """A hash of version, settings and stamps of the files; equal keys mean equal results."""
    stamps: list[Any] = [version("softoverlap"), settings.as_dict(), pair.case, pair.error]
    for path in (pair.pred, *pair.truth):
        stamps.append([] if path is None else file_stamps(path))
    return hashlib.sha256(json.dumps(stamps).encode()).hexdigest()[:32]


def case_files(pair: ScorePair) -> CaseFiles:
    """Absolute paths of the prediction and of the truths of a case; each may be empty.

    Examples:
        >>> from pathlib import Path
        >>> case_files(ScorePair("a", None, (Path("/truth/a.nii"),)))
        [[], ['/truth/a.nii']]
    """
    pred = () if pair.pred is None else (pair.pred,)
    return [[os.path.abspath(path) for path in side] for side in (pred, pair.truth)]
