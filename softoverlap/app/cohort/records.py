"""The settings and the result of scoring a case: plain data, to be stored and sent."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import Any

from softoverlap._checks import check_choice, check_threshold, check_weight, refusal
from softoverlap.app.cohort.pairing import ScorePair
from softoverlap.app.cohort.stamps import file_stamps
from softoverlap.app.cohort.tables import Row, box_rows
from softoverlap.images import GEOMETRIES, VALUES
from softoverlap.measures import Outcomes

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
        hit_iou: Lowest overlap that makes a found lesion a hit: IoU, or the box's soft IoU with a
            mask; in (0, 1].

    Raises:
        ValueError: If a choice is unknown or a number out of range.

    Examples:
        >>> ScoreSettings(threshold=0.3).geometry
        'strict'
    """

    values: str = "auto"
    truth_values: str = "auto"
    geometry: str = "strict"
    threshold: float = 0.5
    halo: float = 0.01
    labels: tuple[int, ...] = ()
    min_mm3: float = 0.0
    hit_iou: float = 0.1

    def __post_init__(self) -> None:
        check_choice("values", self.values, VALUES)
        check_choice("truth_values", self.truth_values, VALUES)
        check_choice("geometry", self.geometry, GEOMETRIES)
        check_threshold(threshold=self.threshold, halo=self.halo, hit_iou=self.hit_iou)
        check_weight(min_mm3=self.min_mm3)
        if any(label < 1 for label in self.labels) or len(set(self.labels)) < len(self.labels):
            raise refusal("labels", f"must be different and at least 1, got {list(self.labels)}")

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
        matches: Its `Outcomes` as plain data, one for each row, with the case and label of the row.
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
    def outcomes(self) -> list[Outcomes]:
        """The outcomes of each row."""
        return [Outcomes.from_dict(match["outcomes"]) for match in self.matches]

    @property
    def boxes(self) -> list[Row]:
        """Its rows of `boxes.csv`."""
        names = [{k: match[k] for k in ("case", "label") if k in match} for match in self.matches]
        return [
            {**name, **row}
            for name, outcomes in zip(names, self.outcomes, strict=True)
            for row in box_rows(outcomes)
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
