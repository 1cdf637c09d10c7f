"""Tables and pictures of a judged set of scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from softoverlap.app.train import Detections, Evaluation
from softoverlap.images import LoadedCase, axis_names, write_json, write_table


def write_tables(
    output: Path,
    scans: Sequence[LoadedCase],
    evaluations: Mapping[str, Evaluation],
) -> None:
    """Write `detections.csv`, `lesions.csv` and `froc.csv`.

    Args:
        output: An existing folder.
        scans: Scans with their lesions.
        evaluations: Curves by method, and what the trained detector hit under `"trained"`.
    """
    boxes: list[list[object]] = []
    lesions: list[list[object]] = []
    for scan, outcomes in zip(scans, evaluations["trained"].outcomes.split(), strict=True):
        scores = {}
        for score, outcome, lesion, box in outcomes.each_box():
            boxes.append([scan.name, score, outcome, "" if lesion is None else lesion, *box])
            scores[lesion] = score
        for number, truth in enumerate(scan.lesions):
            size = [truth.volume_mm3, truth.existence, scores.get(number, "")]
            lesions.append([scan.name, number, *size, *truth.box.tolist()])
    points = [
        [name, *point]
        for name, result in evaluations.items()
        for point in zip(
            result.froc.fps_per_scan.tolist(),
            result.froc.sensitivities.tolist(),
            result.froc.thresholds.tolist(),
            strict=True,
        )
    ]
    header = ["case", "score", "outcome", "lesion", *axis_names(3)]
    write_table(output / "detections.csv", header, boxes)
    header = ["case", "lesion", "volume_mm3", "existence", "score", *axis_names(3)]
    write_table(output / "lesions.csv", header, lesions)
    header = ["method", "fps_per_scan", "sensitivity", "threshold"]
    write_table(output / "froc.csv", header, points)


def draw(
    output: Path,
    scans: Sequence[LoadedCase],
    detections: Sequence[Detections],
    evaluations: Mapping[str, Evaluation],
    *,
    count: int,
) -> None:
    """Write `froc.png`, and `overlays/` of the first scans with lesions.

    Boxes are drawn from the score threshold on.

    Args:
        output: An existing folder.
        scans: Scans with their lesions.
        detections: What was found in each.
        evaluations: Curves by method, the trained detector's under `"trained"`.
        count: Number of overlays.
    """
    from softoverlap.app.report import plot_case, plot_froc, save_figure

    save_figure(
        plot_froc({name: result.froc for name, result in evaluations.items()}), output / "froc.png"
    )
    (output / "overlays").mkdir(exist_ok=True)
    pairs = zip(scans, detections, strict=True)
    drawn = [(scan, detected) for scan, detected in pairs if scan.lesions][:count]
    for scan, detected in drawn:
        shown = detected.above
        figure = plot_case(
            scan.image,
            affine=scan.affine,
            soft_mask=scan.mask,
            truth_boxes=torch.stack([lesion.box for lesion in scan.lesions]),
            existence=torch.tensor([lesion.existence for lesion in scan.lesions]),
            found_boxes=detected.box[shown],
            scores=detected.scores[shown],
            title=f"{scan.name}: found boxes from score {detected.score_threshold:.3f} on",
        )
        save_figure(figure, output / "overlays" / f"{scan.name}.png")


def write_page(output: Path, metrics: Mapping[str, Any]) -> None:
    """Score the found boxes as `softoverlap score` does, into `results/`, and write `report.html`.

    The truth is what the raters drew, from the files: the page knows what a user's would know. What
    it cannot know, how long the training was and how good the baselines are, lies beside the
    results in `training.json`.

    Args:
        output: The demo's folder, with its phantoms and detections.
        metrics: What `metrics.json` holds.
    """
    from softoverlap.app.cohort import find_pairs, score_cohort
    from softoverlap.app.report import write_report

    unseen = output / "phantoms" / "unseen"
    pairs = find_pairs(
        output / "detections", unseen / "raters", pred_pattern="{case}_boxes.json",
        truth_pattern="{case}_rater{rater}.nii.gz",
    ).pairs  # fmt: skip
    score_cohort(pairs, output / "results", overwrite=True)
    training = {name: metrics["training"][name] for name in ("steps", "planned", "stopped_by")}
    known = {**training, "baselines": metrics["baselines"]}
    write_json(output / "results" / "training.json", known)
    write_report(
        output / "results", output / "report.html", images=unseen / "images",
        title="softoverlap demo: lesions found in unseen phantoms", overwrite=True,
    )  # fmt: skip
