"""Options of `lesions` and `calibrate`: where maps are cut, and what scores their lesions."""

from __future__ import annotations

from collections.abc import Mapping
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
Connectivity = Annotated[
    int | None, typer.Option(help="Neighbours of a voxel: 6, 18 or 26, the default.")
]
MinMm3 = Annotated[
    float | None, typer.Option(min=0, help="Smallest lesion, in mm³; by default of any size.")
]
Values = Annotated[str, typer.Option(help="auto, probabilities, percent, 0-255 or labels.")]
Label = Annotated[
    int | None,
    typer.Option(
        help="Of label maps and nnU-Net's maps, use only this label or class; maps with --values "
        "probabilities are of it already."
    ),
]
TruthValues = Annotated[str, typer.Option(help="The same as --values for --truth.")]
Truth = Annotated[
    Path | None,
    typer.Option(help="With --threshold best: true masks, as TRUTH of `softoverlap score`."),
]
PredPattern = Annotated[
    str | None,
    typer.Option(help="Names of the maps beside --truth, such as {case}_prob.nii.gz."),
]
TruthPattern = Annotated[
    str | None, typer.Option(help="Names in --truth, such as {case}_rater{rater}.nii.gz.")
]
Mean = Annotated[
    bool,
    typer.Option(
        "--mean", help="Maps of one name in several folders, such as those of folds, are averaged."
    ),
]


@dataclass(frozen=True)
class Cut:
    """How maps are cut, as options of `lesion_candidates`; a threshold of None is the best one."""

    threshold: float | None
    low: float | None
    connectivity: int
    min_mm3: float


def cut_of(
    threshold: str | None,
    low: float | None,
    connectivity: int | None,
    min_mm3: float | None,
    known: LesionCalibration | None,
) -> Cut:
    """How to cut, as the options say it, or as the calibration was fitted.

    Raises:
        ValueError: If an option has no such value, or not that of the calibration.
    """
    from softoverlap._checks import check_choice, check_threshold
    from softoverlap.lesions import check_low

    given = None if threshold in (None, BEST) else _number(threshold)
    if known is not None:
        asked = {"low": low, "connectivity": connectivity, "min_mm3": min_mm3}
        _check_known(known, {"threshold": BEST if threshold == BEST else given, **asked})
        return Cut(known.threshold, known.low, known.connectivity, known.min_mm3)
    if threshold != BEST:
        given = 0.5 if given is None else given
        check_threshold(threshold=given)
    check_low(low, 1.0 if given is None else given)
    connectivity = 26 if connectivity is None else connectivity
    check_choice("connectivity", connectivity, (6, 18, 26))
    return Cut(given, low, connectivity, 0.0 if min_mm3 is None else min_mm3)


def _check_known(known: LesionCalibration, asked: Mapping[str, object]) -> None:
    """What is asked, if anything, is what the calibration was fitted to."""
    from softoverlap._checks import refusal

    for name, value in asked.items():
        if value is not None and value != getattr(known, name):
            raise refusal(
                "calibration",
                f"must be of lesions cut at `{name}={value}`, got one of those cut at "
                f"{getattr(known, name)}: leave `{name}=` out",
            )


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
