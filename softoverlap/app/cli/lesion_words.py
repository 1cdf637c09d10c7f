"""Options of `lesions` and `calibrate`: where maps are cut, and what scores their lesions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from softoverlap.lesions import LesionCalibration, LesionScore

BEST = "best"

Maps = Annotated[
    list[str],
    typer.Argument(help="Probability maps or soft masks: files, folders, or patterns in quotes."),
]
Threshold = Annotated[
    str | None,
    typer.Option(help="Lowest probability inside a lesion, in (0, 1], by default 0.5; or best."),
]
Low = Annotated[
    float | None,
    typer.Option(help="Hysteresis: lesions with a voxel at --threshold extend down to this."),
]
Connectivity = Annotated[int, typer.Option(help="Neighbours of a voxel: 6, 18 or 26.")]
MinMm3 = Annotated[float, typer.Option(min=0, help="Smallest lesion, in mm³.")]
Values = Annotated[str, typer.Option(help="auto, probabilities, percent, 0-255 or labels.")]
Label = Annotated[
    int | None,
    typer.Option(help="Of label maps and nnU-Net's maps, use only this label or class."),
]
Truth = Annotated[
    Path | None,
    typer.Option(help="With --threshold best: true masks, as TRUTH of `softoverlap score`."),
]


@dataclass(frozen=True)
class Cut:
    """Where maps are cut; a threshold of None is the best one."""

    threshold: float | None
    low: float | None


def cut_of(threshold: str | None, low: float | None, known: LesionCalibration | None) -> Cut:
    """Where to cut, as the options say it, or as the calibration was fitted.

    Raises:
        ValueError: If an option is no threshold, or not that of the calibration.
    """
    from softoverlap._checks import check_threshold, refusal
    from softoverlap.lesions import check_low

    given = None if threshold in (None, BEST) else _number(threshold)
    if known is not None:
        wanted = known.threshold if threshold is None else given, known.low if low is None else low
        if wanted != (known.threshold, known.low):
            raise refusal(
                "calibration",
                f"must be of lesions cut at `threshold={threshold}` and `low={low}`, got one of "
                f"those cut at {known.threshold:g} and {known.low}: leave these options out",
            )
        return Cut(*wanted)
    if threshold != BEST:
        given = 0.5 if given is None else given
        check_threshold(threshold=given)
    check_low(low, 1.0 if given is None else given)
    return Cut(given, low)


def _number(threshold: str) -> float:
    from softoverlap._checks import refusal

    try:
        return float(threshold)
    except ValueError:
        complaint = f"must be a number in (0, 1], or {BEST}, got {threshold!r}"
        raise refusal("threshold", complaint) from None


def score_named(
    score: str | None, calibration: Path | None
) -> tuple[LesionScore, LesionCalibration | None]:
    """What scores lesions, and the calibration if it is one."""
    from softoverlap._checks import refusal
    from softoverlap.images import read_json
    from softoverlap.lesions import LesionCalibration

    if calibration is None:
        return scores_named("score", "maximum" if score is None else score)[0], None
    if score is not None:
        raise refusal("score", f"must be left out where `calibration=` is given, got {score!r}")
    try:
        known = LesionCalibration.from_dict(read_json(calibration))
    except (ValueError, TypeError) as error:
        if str(error).startswith(str(calibration)):
            raise
        message = f"{calibration} must be a file of `softoverlap calibrate`, got: {error}"
        raise ValueError(message) from error
    return known, known


def scores_named(argument: str, words: str) -> tuple[LesionScore, ...]:
    """The scores of words such as `maximum,dice`."""
    from softoverlap._checks import check_choice
    from softoverlap.lesions import HaloDice, MassAboveBackground, MaxProbability, MeanProbability

    named = {
        "maximum": MaxProbability(),
        "mean": MeanProbability(),
        "mass": MassAboveBackground(),
        "dice": HaloDice(),
    }
    chosen = [word.strip() for word in words.split(",")]
    for word in chosen:
        check_choice(argument, word, named)
    return tuple(named[word] for word in chosen)
