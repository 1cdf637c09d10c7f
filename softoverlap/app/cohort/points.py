"""Points among balls, such as LUNA16's candidates: they have a centre and no size."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from softoverlap.app.cohort.hit_rule import takes_points
from softoverlap.app.cohort.pairing import ScorePair
from softoverlap.app.cohort.records import ScoreSettings
from softoverlap.images import BoxFile, format_of, is_in_mm, listed_points


def check_lists(pairs: Iterable[ScorePair], settings: ScoreSettings) -> None:
    r"""Refuse tables with points where a size is needed, before any case is scored.

    Args:
        pairs: The cases; a table that cannot be read costs its own case later, as every file does.
        settings: The rule of a hit.

    Raises:
        ValueError: If true balls are points, or found ones are and the rule asks for a size.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "found.csv"
        >>> _ = path.write_text("seriesuid,coordX,coordY,coordZ\n1.3.6,0,0,0\n")
        >>> pairs = [ScorePair("1.3.6", path, ())]
        >>> check_lists(pairs, ScoreSettings(hit="ball_centreness"))
    """
    pairs = list(pairs)
    for is_truth, paths in (
        (False, [pair.pred for pair in pairs if pair.pred is not None]),
        (True, [path for pair in pairs for path in pair.truth]),
    ):
        for path in dict.fromkeys(paths):
            for case in _points_in(path)[:1]:
                _check_rule(path, case, settings, is_truth=is_truth)


def check_sizes(
    path: Path, case: str, file: BoxFile, settings: ScoreSettings, *, is_truth: bool
) -> None:
    """Refuse the points of a case in a list where a size is needed.

    Args:
        path: The file.
        case: The case.
        file: Its boxes.
        settings: The rule of a hit.
        is_truth: Whether it is the truth.

    Raises:
        ValueError: If true balls are points, or found ones are and the rule asks for a size.

    Examples:
        >>> import torch
        >>> check_sizes(
        ...     Path("a.csv"), "a", BoxFile(torch.zeros(0, 6)), ScoreSettings(), is_truth=True
        ... )
    """
    flat = bool((file.boxes[:, 3:] <= file.boxes[:, :3]).all(dim=1).any())
    if flat and format_of(path) == "csv" and is_in_mm(path, "csv"):
        _check_rule(path, case, settings, is_truth=is_truth)


def _points_in(path: Path) -> tuple[str, ...]:
    if path.suffix.lower() != ".csv":
        return ()
    try:
        return listed_points(path)
    except (ValueError, OSError):
        return ()


def _check_rule(path: Path, case: str, settings: ScoreSettings, *, is_truth: bool) -> None:
    if is_truth:
        raise ValueError(
            f"{path} must have a diameter_mm above 0 for each nodule, as it is the truth, got a "
            f"point in {case}"
        )
    if not takes_points(settings):
        raise ValueError(
            f"{path} must have a diameter_mm above 0 for each ball, got a point in {case}: a point "
            "has no size, and hits by distance alone, as LUNA16 counts: `hit='ball_centreness'`"
        )
