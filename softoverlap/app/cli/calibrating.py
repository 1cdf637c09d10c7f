"""The command `calibrate`: scores of lesions that are probabilities of a hit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from softoverlap.app.cli.app import app
from softoverlap.app.cli.box_files import Batch, box_file
from softoverlap.app.cli.console import SOME_FAILED, CountBar, one_line_errors, plural, say
from softoverlap.app.cli.lesion_words import (
    Connectivity,
    Label,
    Low,
    Maps,
    Mean,
    MinMm3,
    PredPattern,
    Threshold,
    TruthPattern,
    TruthValues,
    Values,
    cut_of,
    scores_named,
)
from softoverlap.app.cli.options import Overwrite
from softoverlap.app.cli.reading import reads_files
from softoverlap.app.cli.truths import MapReading, best_threshold, grouped, truths_of

if TYPE_CHECKING:
    from softoverlap.lesions import LesionScore


@app.command()
@one_line_errors
@reads_files
def calibrate(
    masks: Maps,
    truth: Annotated[
        Path, typer.Option(help="True masks of validation scans, as TRUTH of `softoverlap score`.")
    ],
    output: Annotated[Path, typer.Option(help="The file, such as calibration.json.")],
    pred_pattern: PredPattern = None,
    truth_pattern: TruthPattern = None,
    mean: Mean = False,
    threshold: Threshold = None,
    low: Low = None,
    connectivity: Connectivity = None,
    min_mm3: MinMm3 = None,
    values: Values = "auto",
    label: Label = None,
    truth_values: TruthValues = "auto",
    scores: Annotated[
        str, typer.Option(help="Two or more of maximum, mean, mass, dice.")
    ] = "maximum,mean,mass",
    patients: Annotated[
        Path | None,
        typer.Option(
            help="CSV with the columns case, patient; by default the BIDS subject, or the case."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Fit the probability that a lesion of a segmentation is a hit.

    MASKS are a network's maps of validation scans, as of `softoverlap lesions`.
    Each lesion is a hit or not by the rule of `softoverlap score`: its box has an
    IoU of at least 0.1 with that of a true lesion. What lies on a lesion too large
    for a box is left out. A logistic regression makes a probability of the --scores
    of a lesion; it rises with each of them. Brier score and calibration error (in
    ten bins of as many lesions) are those of patients that were left out of the fit,
    though not of the choice of `--threshold best`.

    Never fit on the scans that the network was trained on: there it is too sure.

    softoverlap calibrate val_maps --truth val_masks --output calibration.json
    softoverlap lesions test_maps --calibration calibration.json --output found
    softoverlap score found test_masks --output results
    """
    from softoverlap._checks import refusal
    from softoverlap.app.cohort import ScoreSettings, read_patients, subject_of
    from softoverlap.images import check_written, find_maps, map_name, write_json
    from softoverlap.lesions import LesionCalibration

    scorers = scores_named("scores", scores)
    cut = cut_of(threshold, low, connectivity, min_mm3, None)
    if len(set(scorers)) < 2:
        raise refusal("scores", f"must be two or more different ones, got {scores!r}")
    settings = ScoreSettings(truth_values=truth_values, labels=() if label is None else (label,))
    paths = find_maps(masks)
    reading = MapReading(grouped(paths, mean=mean), values, label, truth_values)
    check_written([output], paths, overwrite=overwrite)
    output.parent.mkdir(parents=True, exist_ok=True)
    cases = [map_name(path) for path in reading.files]
    known = {case: subject_of(case) for case in cases}
    known = known if patients is None else read_patients(patients, cases)
    truths = truths_of(reading.files, truth, pred_pattern, truth_pattern)
    chosen = cut.threshold
    if chosen is None:
        chosen, _ = best_threshold(truths, cut.low, reading)  # what fails here fails again below
    cutting = {**asdict(cut), "threshold": chosen}
    gathered, batch = _gather(truths, scorers, settings, reading, cutting)
    for line in batch.failed:
        say(f"failed: {line}")
    if not gathered.cases:
        none = f"no map has a lesion at `threshold={chosen:g}` to fit to"
        raise ValueError("no scan could be read" if len(batch.failed) == len(cases) else none)
    owners = [known[case] for case in gathered.cases]
    if len(set(owners)) < 2:
        seen = f"{plural(len(owners), 'lesion')} of one at `threshold={chosen:g}`"
        raise ValueError(f"two patients or more must have lesions to fit to, got {seen}")
    fitted = LesionCalibration.fit(
        *gathered.columns(len(scorers)), owners, scores=scorers, **cutting
    )
    write_json(output, fitted.as_dict())
    read = plural(len(cases) - len(batch.failed), "scan")
    say(
        f"{plural(len(fitted.hits), 'lesion')} in {read}, "
        f"{plural(sum(fitted.hits), 'hit')}: Brier score {fitted.brier:.4f} (of a constant: "
        f"{fitted.constant_brier:.4f}), calibration error {fitted.calibration_error:.4f} "
        f"on patients left out; {output}"
    )
    hits, enough = sum(fitted.hits), _ENOUGH * len(scorers)
    if min(hits, len(fitted.hits) - hits) < enough:
        say(
            f"warning: {hits} hits and {len(fitted.hits) - hits} false lesions are few: with less "
            f"than {enough} of each, weights of {len(scorers)} scores are mostly noise"
        )
    if batch.failed:
        raise typer.Exit(SOME_FAILED)


_ENOUGH = 10
"""Hits, and false lesions, for each score: Peduzzi et al., J Clin Epidemiol 49, 1996."""


@dataclass
class _Gathered:
    """Of each lesion that counts: its scores, whether it is a hit, and its case."""

    features: list[list[float]] = field(default_factory=list)
    hits: list[bool] = field(default_factory=list)
    cases: list[str] = field(default_factory=list)

    def columns(self, scores: int) -> tuple[Any, Any]:
        """Scores and hits as tensors."""
        import torch

        features = torch.tensor(self.features, dtype=torch.float64)
        return features.reshape(-1, scores), torch.tensor(self.hits, dtype=torch.bool)


def _gather(
    truths: Mapping[Path, tuple[Path, ...]],
    scorers: Sequence[LesionScore],
    settings: Any,
    reading: MapReading,
    cutting: Mapping[str, Any],
) -> tuple[_Gathered, Batch]:
    """The lesions of all maps; a map or a truth that cannot be read fails alone."""
    from softoverlap.images import map_name
    from softoverlap.lesions import lesion_candidates

    gathered, batch = _Gathered(), Batch()

    def work(path: Path, folder: str) -> int:
        volume, case = reading.map_of(path), map_name(path)
        candidates = lesion_candidates(volume.data, spacing=volume.lesion_spacing, **cutting)
        boxes = box_file(candidates, volume.affine, case, label=reading.label, score=None)
        hits = _hits(boxes, Path(folder, f"{case}.json"), truths[path], settings)
        for candidate, hit in zip(candidates, hits, strict=True):
            if hit is not None:
                gathered.features.append([float(score(candidate)) for score in scorers])
                gathered.hits.append(hit)
                gathered.cases.append(case)
        return len(candidates)

    with TemporaryDirectory() as folder, CountBar("map", len(truths)) as bar:
        for path in truths:
            batch.attempt(lambda p=path: work(p, folder), bar, path.name)
    return gathered, batch


def _hits(boxes: Any, place: Path, truth: tuple[Path, ...], settings: Any) -> list[bool | None]:
    """Which boxes hit a lesion by the rule of `softoverlap score`; None for those left out."""
    from softoverlap.app.cohort import ScorePair, score_case
    from softoverlap.images import write_box_files

    write_box_files(place, {boxes.case: boxes}, format="json")
    (matches,) = score_case(ScorePair(boxes.case, place, truth), settings).lesion_matches
    left_out, false = matches.outcomes.left_out.tolist(), matches.outcomes.false_positive.tolist()
    return [None if out else not wrong for out, wrong in zip(left_out, false, strict=True)]
