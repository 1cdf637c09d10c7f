"""Folders, checkpoints and thresholds, and what commands print about boxes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from softoverlap.app.cli.console import plural

if TYPE_CHECKING:
    from softoverlap.app.train import Detections, LesionDetector


def check_folder(output: Path) -> None:
    """The output is a folder, or does not exist yet."""
    for path in (output, *output.parents):
        if path.exists():
            if not path.is_dir():
                raise NotADirectoryError(f"--output must be a folder, got the file {path}")
            return


def check_checkpoint(path: Path) -> None:
    """It is not a scan: the order of the arguments is easily mistaken."""
    from softoverlap.images import is_image_name

    if is_image_name(path):
        raise ValueError(f"CHECKPOINT must be a file of `softoverlap train`, got the scan {path}")


def widen(models: list[LesionDetector], score: float | None, most: int) -> None:
    """Let each detector give all boxes from this score on, and so many.

    Never fewer than it gives of itself: what several find is joined before it is limited.
    """
    for model in models:
        selector = model.detector.box_selector
        if score is not None:
            selector.score_thresh = min(selector.score_thresh, score)
        selector.detections_per_img = max(selector.detections_per_img, most)


def found_boxes(detections: Detections | None) -> str:
    """How many boxes were found, and how many of them are candidates alone."""
    if detections is None:
        return "no boxes"
    count, above = len(detections.box), int(detections.above.sum())
    if detections.score_threshold is None:
        return _boxes(count)
    level = f"at or above {detections.score_threshold:.4g}"
    return f"{_boxes(above)} {level}, {plural(count - above, 'candidate')} below"


def _boxes(count: int) -> str:
    return f"{count} box" if count == 1 else f"{count} boxes"


def threshold_or_rule(at_score: str) -> float | str:
    """How to choose the score threshold, checked."""
    from softoverlap._checks import refusal
    from softoverlap.measures import operating_rule

    try:
        at = operating_rule(at_score)
    except ValueError as error:
        raise refusal("at_score", str(error).removeprefix("at ")) from error
    assert at is not None  # as only None is
    return at
