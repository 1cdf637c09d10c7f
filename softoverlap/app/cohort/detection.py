"""What a summary says of found lesions: the operating point, both figures, sizes, and the curve."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from softoverlap.app.cohort.classes import MERGED_WORDS
from softoverlap.app.cohort.hit_rule import (
    BY_CENTRE_WORDS,
    IGNORED,
    TOO_LARGE,
    hit_words,
    largest_mm,
)
from softoverlap.app.cohort.matches import LesionMatches
from softoverlap.app.cohort.operating import ChosenPoint, SummarySettings
from softoverlap.app.cohort.records import ScoreSettings
from softoverlap.app.cohort.tables import Row
from softoverlap.app.figures import FEWEST_PATIENTS
from softoverlap.measures import FROC, BoxAP, BoxFROC, Outcomes, SizeClasses, operating_point

SIZES = SizeClasses((10.0, 100.0, 1000.0), spacing=1.0)
"""Classes of lesions by their volume in mm³."""

MOST_DRAWS = 1000
"""Draws for curves and points, which cost more than means."""

_FIGURES = ("sensitivity", "precision", "f1", "fps_per_scan")


@dataclass(frozen=True)
class Found:
    """The matches of a label in all cases, with the rows of its lesions, and how to sum them up."""

    cases: Sequence[str]
    matches: Sequence[LesionMatches]
    lesions: Sequence[Row]
    point: ChosenPoint
    patients: Sequence[Hashable]
    settings: ScoreSettings
    options: SummarySettings
    merged: bool = False
    """Whether several classes count as one in some case."""

    @cached_property
    def has_boxes(self) -> bool:
        """Whether a box takes part in some case."""
        return any(match.has_boxes for match in self.matches)

    @property
    def resamples(self) -> int:
        """Draws of a bootstrap over patients: none of too few."""
        enough = len(set(self.patients)) >= FEWEST_PATIENTS
        return min(self.options.resamples, MOST_DRAWS) if enough else 0


def detection_summary(found: Found) -> dict[str, Any]:
    """The parts of a summary that are read from what hit what; nothing where nothing was matched.

    Args:
        found: The matches.

    Returns:
        Plain values by the names that `summary.json` has.
    """
    if not found.matches:
        return {}
    outcomes = [match.outcomes for match in found.matches]
    parts: dict[str, Any] = {
        "hit": _hit(found),
        "operating_point": _point(found, outcomes),
        "by_size": _by_size(found),
        "too_large": _too_large(found),
        "ignored": _ignored(found),
    }
    if found.has_boxes:
        parts |= {"by_centre": _by_centre(found), "unreachable": _unreachable(found)}
    return {name: part for name, part in parts.items() if part} | _curve(found, outcomes)


def _hit(found: Found) -> dict[str, Any]:
    """The rule, or both where cases are of masks and of boxes; and if it is blind to classes."""
    hit = hit_words(found.settings, boxes=found.has_boxes)
    words = [hit["words"]]
    if not all(match.has_boxes == found.has_boxes for match in found.matches):
        words.append(f"between masks, {hit_words(found.settings, boxes=False)['words']}")
    if found.merged:
        words.append(MERGED_WORDS)
    return {**hit, "words": "; ".join(words)}


def _point(found: Found, outcomes: Sequence[Outcomes]) -> dict[str, Any]:
    point = found.point
    read = operating_point(
        outcomes, point.at, patients=found.patients, resamples=found.resamples,
        seed=found.options.seed,
    )  # fmt: skip
    part = {
        "threshold": point.score,
        "rule": point.rule,
        "words": point.words,
        "optimistic": point.optimistic,
        **{name: getattr(read, name) for name in _FIGURES},
        "hits": read.hits,
        "false_positives": read.false_positives,
    }
    if read.interval is not None:
        part |= {f"{name}_interval": getattr(read.interval, name) for name in _FIGURES}
    return part


def _by_centre(found: Found) -> dict[str, Any]:
    outcomes = [match.by_centre for match in found.matches if match.by_centre is not None]
    read = operating_point(outcomes, found.point.score)
    return {
        **{name: getattr(read, name) for name in _FIGURES},
        "words": f"{BY_CENTRE_WORDS}, at the same score",
    }


def _by_size(found: Found) -> list[dict[str, Any]]:
    """The share of lesions found in each class of size that some lesion has."""
    volumes = [row["volume_mm3"] for row in found.lesions]
    if any(mm3 is None or math.isnan(mm3) for mm3 in volumes):
        return []
    outside = SIZES.outside(torch.tensor(volumes, dtype=torch.float64))[1:]
    classes = []
    for name, away in zip(SIZES.names(3), outside.tolist(), strict=True):
        rows = [
            row for row, out in zip(found.lesions, away, strict=True)
            if not out and not row["not_counted"]
        ]  # fmt: skip
        if rows:
            shares = {"sensitivity": _share(rows, "detected")}
            if found.has_boxes:
                boxed = [row for row in rows if "found_by_centre" in row]
                shares["by_centre"] = _share(boxed, "found_by_centre")
            classes.append({"size": name, "lesions": len(rows), **shares})
    return classes


def _share(rows: Sequence[Row], name: str) -> float:
    """Σ existence of the lesions found over Σ existence of all."""
    total = math.fsum(row["existence"] for row in rows)
    hit = math.fsum(row["existence"] for row in rows if row.get(name))
    return hit / total if total else math.nan


def _too_large(found: Found) -> dict[str, Any] | None:
    rows = [row for row in found.lesions if row["not_counted"] == TOO_LARGE]
    if not rows:
        return None
    sums = [match.too_large for match in found.matches]
    volume, covered = (math.fsum(side) for side in zip(*sums, strict=True))
    return {
        "lesions": len(rows),
        "max_lesion_mm": largest_mm(found.settings, boxes=True),
        "volume_covered": covered / volume if volume else math.nan,
        "boxes": _boxes_on(found, TOO_LARGE),
    }


def _ignored(found: Found) -> dict[str, Any] | None:
    rows = [row for row in found.lesions if row["not_counted"] == IGNORED]
    if not rows:
        return None
    return {
        "lesions": len(rows),
        "found": sum(bool(row["detected"]) for row in rows),
        "boxes": _boxes_on(found, IGNORED),
    }


def _boxes_on(found: Found, reason: str) -> int:
    """How many found boxes that count took, or lie on, lesions of this kind alone."""
    return sum(match.left_out_for(reason) for match in found.matches)


def _unreachable(found: Found) -> dict[str, Any]:
    own = [match.own_box for match in found.matches if match.own_box is not None]
    smallest = [m.smallest_anchor for m in found.matches if m.smallest_anchor is not None]
    return {"own_box": sum(own), "smallest_anchor": sum(smallest) if smallest else None}


def _curve(found: Found, outcomes: Sequence[Outcomes]) -> dict[str, Any]:
    """FROC and average precision over all cases, or why there is neither."""
    silent = [
        case for case, match in zip(found.cases, outcomes, strict=True)
        if bool(match.scores.isnan().any())
    ]  # fmt: skip
    if silent:
        names = ", ".join(silent[:5]) + (", …" if len(silent) > 5 else "")
        return {"no_curve": f"Neither FROC nor CPM nor AP: boxes have no scores in {names}."}
    measure = BoxFROC(
        fp_rates=found.options.fp_rates, seed=found.options.seed, resamples=found.resamples
    )
    froc = measure.details(outcomes, patients=found.patients)
    if not froc.has_curve:
        what = "nothing was found" if not froc.boxes else "all that was found has the same score"
        return {"no_curve": f"Neither FROC nor CPM nor AP: {what}."}
    if not froc.lesions:
        return {"no_curve": "Neither FROC nor CPM nor AP: there is no lesion that counts."}
    hit = hit_words(found.settings, boxes=found.has_boxes)
    return {
        "froc": _froc(froc),
        "average_precision": BoxAP().value(outcomes),
        "average_precision_iou": hit["threshold"] if hit["criterion"] == "box_iou" else None,
    }


def _froc(froc: FROC) -> dict[str, Any]:
    curve: Mapping[str, Any] = {
        name: getattr(froc, name).tolist()
        for name in ("fps_per_scan", "sensitivities", "thresholds")
    }
    curve["thresholds"][0] = None  # above all scores
    names = ("fp_rates", "sensitivity", "cpm", "scans", "lesions", "boxes", "coarse_rates")
    read: dict[str, Any] = {name: getattr(froc, name) for name in names} | {"curve": curve}
    if froc.interval is not None:
        read["sensitivity_interval"] = froc.interval.sensitivity
        read["cpm_interval"] = froc.interval.cpm
    return read
