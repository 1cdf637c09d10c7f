"""Which of a cohort's lesions count, what finds them, and the words for it."""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Any

from torch import Tensor

from softoverlap._checks import refusal
from softoverlap._size_limit import is_too_long
from softoverlap._units import MAX_LESION_MM
from softoverlap.measures import (
    CRITERION_NOTES,
    Hit,
    centre_in_mask,
    centre_within_radius,
    hit_of,
)
from softoverlap.overlaps import MaskBoxOverlap, ball_centreness, box_iou, mask_box_mass

if TYPE_CHECKING:
    from softoverlap.app.cohort.records import ScoreSettings

ANY_VOXEL = "any_voxel"
DEFAULT_HIT_IOU = Hit().threshold

IGNORED, TOO_LARGE = "ignored", "too large"
"""Why a lesion does not count."""

BY_CENTRE = Hit(centre_within_radius)
"""The second figure beside every score of boxes."""

BY_CENTRE_WORDS = "centre of the box within the larger of the lesion's radius and 2 mm"

CRITERIA = tuple(CRITERION_NOTES)
"""The names that the setting `hit` takes."""


def check_hit(text: str | None) -> None:
    """Check that a criterion is known and its threshold one that it can reach.

    Raises:
        ValueError: If not; the message lists the criteria.

    Examples:
        >>> check_hit("box_iou:2")
        Traceback (most recent call last):
        ValueError: hit must be NAME or NAME:THRESHOLD, got 'box_iou:2': ...
    """
    if text is not None:
        _parsed(text)


def hit_of_boxes(settings: ScoreSettings, *, masks: bool = True) -> Hit:
    """What hits wherever a box takes part.

    Args:
        settings: The rule.
        masks: Whether the true lesions have masks.

    Raises:
        ValueError: If they have none, and the rule asks for them.

    Examples:
        >>> from softoverlap.app.cohort import ScoreSettings
        >>> hit_of_boxes(ScoreSettings()) == Hit(box_iou, 0.1)
        True
    """
    hit = Hit(box_iou, settings.hit_iou) if settings.hit is None else _parsed(settings.hit)
    if not masks and (hit.overlap is centre_in_mask or isinstance(hit.overlap, MaskBoxOverlap)):
        raise refusal(
            "hit", f"must be a criterion of boxes where the truth is boxes, got {settings.hit!r}"
        )
    return hit


def takes_points(settings: ScoreSettings) -> bool:
    """Whether the centre of what is found says all, so that it may be a point.

    Examples:
        >>> from softoverlap.app.cohort import ScoreSettings
        >>> [takes_points(ScoreSettings(hit=hit)) for hit in ("ball_centreness", "ball_iou")]
        [True, False]
    """
    by_centre = (ball_centreness, centre_in_mask, centre_within_radius)
    return any(hit_of_boxes(settings).overlap is rule for rule in by_centre)


def is_any_voxel(settings: ScoreSettings) -> bool:
    """Whether a voxel in common is enough between two masks."""
    if settings.hit is None:
        return settings.hit_iou == DEFAULT_HIT_IOU
    return settings.hit == ANY_VOXEL


def largest_mm(settings: ScoreSettings, *, boxes: bool) -> float | int:
    """The longest edge of a lesion that counts, in mm.

    Args:
        settings: The limit, if one is given.
        boxes: Whether a side is boxes.

    Examples:
        >>> from softoverlap.app.cohort import ScoreSettings
        >>> [largest_mm(ScoreSettings(), boxes=boxes) for boxes in (True, False)]
        [32.0, inf]
    """
    if settings.max_lesion_mm is not None:
        return settings.max_lesion_mm
    return MAX_LESION_MM if boxes else math.inf


def why_not_counted(
    longest_mm: float | int, existence: float | int, settings: ScoreSettings, *, boxes: bool
) -> str:
    """Why a lesion does not count, empty if it does.

    Examples:
        >>> from softoverlap.app.cohort import ScoreSettings
        >>> why_not_counted(40.0, 1.0, ScoreSettings(), boxes=True)
        'too large'
    """
    if existence < settings.ignore_below_existence:
        return IGNORED
    return TOO_LARGE if is_too_long(longest_mm, largest_mm(settings, boxes=boxes)) else ""


def hit_words(settings: ScoreSettings, *, boxes: bool) -> dict[str, Any]:
    """The rule as `summary.json` has it.

    Args:
        settings: The rule.
        boxes: Whether lesions are matched by boxes.

    Examples:
        >>> from softoverlap.app.cohort import ScoreSettings
        >>> hit_words(ScoreSettings(), boxes=True)["words"]
        "box IoU of at least 0.1 with the lesion's tight box (mask cut at 0.5)"
    """
    cut = f"cut at {settings.threshold:g}"
    if not boxes:
        words = f"at least one voxel in common between predicted and true lesion (both {cut})"
        return {"criterion": ANY_VOXEL, "threshold": None, "words": words}
    hit = hit_of_boxes(settings)
    name = (settings.hit or "box_iou").partition(":")[0]
    if name == ANY_VOXEL:
        words = "box and lesion, its soft edge included, have a part in common"
        return {"criterion": ANY_VOXEL, "threshold": None, "words": words}
    return {"criterion": name, "threshold": hit.threshold, "words": _words(name, hit, cut)}


def _words(name: str, hit: Hit, cut: str) -> str:
    if hit.overlap is box_iou:
        return f"box IoU of at least {hit.threshold:g} with the lesion's tight box (mask {cut})"
    if hit == BY_CENTRE:
        return BY_CENTRE_WORDS
    return f"{name.replace('_', ' ')} of at least {hit.threshold:g} (masks {cut})"


def _parsed(text: str) -> Hit:
    name, colon, level = text.partition(":")
    if name not in CRITERIA:
        near = difflib.get_close_matches(name, CRITERIA, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise refusal("hit", f"must be one of {', '.join(CRITERIA)}, got {name!r}{hint}")
    if name == ANY_VOXEL:
        if colon:
            raise refusal("hit", f"must be {ANY_VOXEL} without a threshold, got {text!r}")
        return Hit(_any_common, 1.0)
    try:
        return hit_of(name, float(level) if colon else None)
    except ValueError as error:
        raise refusal("hit", f"must be NAME or NAME:THRESHOLD, got {text!r}: {error}") from error


def _any_common(boxes: Tensor, target: dict[str, Any]) -> Tensor:
    """Whether a box and a lesion, or the lesion's box where it has no mask, share anything."""
    if "lesions" in target:
        return mask_box_mass(target["lesions"], boxes.double()) > 0
    return box_iou(target["box"].double(), boxes.double()) > 0
