"""The rule by which a cohort's lesions are found, as the settings say it, and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from softoverlap._checks import refusal
from softoverlap.measures import HIT_CRITERIA, Hit, centre_within_radius, hit_of
from softoverlap.overlaps import box_iou, mask_box_mass

if TYPE_CHECKING:
    from softoverlap.app.cohort.records import ScoreSettings

ANY_VOXEL = "any_voxel"
DEFAULT_HIT_IOU = 0.1
MAX_LESION_MM = 32.0
"""The longest edge of a lesion's tight box, in mm, that a box is asked to find."""

BY_CENTRE = Hit(centre_within_radius)
"""The second figure beside every score of boxes."""

CRITERIA = (*HIT_CRITERIA, ANY_VOXEL)


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


def hit_of_boxes(settings: ScoreSettings) -> Hit:
    """What hits wherever a box takes part.

    Examples:
        >>> from softoverlap.app.cohort import ScoreSettings
        >>> hit_of_boxes(ScoreSettings()) == Hit(box_iou, 0.1)
        True
    """
    return Hit(box_iou, settings.hit_iou) if settings.hit is None else _parsed(settings.hit)


def is_any_voxel(settings: ScoreSettings) -> bool:
    """Whether a voxel in common is enough between two masks."""
    return settings.hit is None or settings.hit.partition(":")[0] == ANY_VOXEL


def hit_words(settings: ScoreSettings, *, boxes: bool) -> dict[str, Any]:
    """The rule as `summary.json` has it.

    Examples:
        >>> from softoverlap.app.cohort import ScoreSettings
        >>> hit_words(ScoreSettings(), boxes=True)["words"]
        "box IoU of at least 0.1 with the lesion's tight box (mask cut at 0.5)"
    """
    cut = f"cut at {settings.threshold:g}"
    if not boxes and is_any_voxel(settings):
        words = f"at least one voxel in common between predicted and true lesion (both {cut})"
        return {"criterion": ANY_VOXEL, "threshold": None, "words": words}
    if is_any_voxel(settings) and settings.hit is not None:
        words = "box and lesion have a part in common"
        return {"criterion": ANY_VOXEL, "threshold": None, "words": words}
    hit = hit_of_boxes(settings)
    name = "box_iou" if settings.hit is None else settings.hit.partition(":")[0]
    if hit.overlap is box_iou:
        words = f"box IoU of at least {hit.threshold:g} with the lesion's tight box (mask {cut})"
    elif hit.overlap is centre_within_radius:
        words = BY_CENTRE_WORDS
    else:
        words = f"{name.replace('_', ' ')} of at least {hit.threshold:g} (masks {cut})"
    return {"criterion": name, "threshold": hit.threshold, "words": words}


BY_CENTRE_WORDS = "centre of the box within the larger of the lesion's radius and 2 mm"


def _parsed(text: str) -> Hit:
    name, _, level = text.partition(":")
    if name == ANY_VOXEL and not level:
        return Hit(_any_common, 1.0)
    if name not in HIT_CRITERIA:
        raise refusal("hit", f"must be one of {', '.join(CRITERIA)}, got {name!r}")
    try:
        return hit_of(name, float(level) if level else None)
    except ValueError as error:
        raise refusal("hit", f"must be NAME or NAME:THRESHOLD, got {text!r}: {error}") from error


def _any_common(boxes: Tensor, target: dict[str, Any]) -> Tensor:
    """Whether a box and a lesion, or the lesion's box where it has no mask, share anything."""
    if "lesions" in target:
        return mask_box_mass(target["lesions"], boxes.double()) > 0
    return box_iou(target["box"].double(), boxes.double()) > 0
