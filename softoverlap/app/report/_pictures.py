"""A picture of a case: three planes through what went worst, on a dark ground."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from softoverlap.app.report._case_files import CaseVolumes, load_volumes
from softoverlap.app.report._results import Row, Table
from softoverlap.app.report._style import Figure, Style, rc_context
from softoverlap.app.report._worst import Focus
from softoverlap.app.report.display import moved_boxes, name_planes
from softoverlap.app.report.plots import plot_case
from softoverlap.images import axis_names

REACH_MM = 100.0
"""How far from the middle a picture reaches: a small lesion would be lost in a whole body."""

ZOOM_MM = (40.0, 80.0)
"""Least and largest edge of what is enlarged."""

MOST_BOXES = 60
_WHITE = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
_BLACK = ("figure.facecolor", "axes.facecolor")
_DARK: Style = dict.fromkeys(_WHITE, "white") | dict.fromkeys(_BLACK, "black")


@dataclass(frozen=True)
class Marks:
    """Boxes of a case in voxels, with what is written at them."""

    truth: Tensor
    existence: Tensor | None
    found: Tensor
    scores: Tensor | None


def case_picture(
    row: Row,
    lesions: Table,
    boxes: Table,
    *,
    settings: Mapping[str, Any],
    image: Path | None,
    folder: Path,
    focus: Focus | None,
    least_score: float,
) -> tuple[str, str]:
    """The picture as a data URI, and a note, empty if there is none.

    Raises:
        OSError: If a file is gone.
        ValueError: If a file cannot be read, or there is nothing to draw on.
    """
    volumes = load_volumes(row, settings, image, folder)
    shown = volumes.turned()
    marks = _marks(lesions, boxes, least_score)
    boxes_affine = volumes.affine if volumes.boxes_affine is None else volumes.boxes_affine
    turn = (boxes_affine, shown.affine)
    marks = replace(
        marks, truth=moved_boxes(marks.truth, *turn), found=moved_boxes(marks.found, *turn)
    )
    middle, zoom = [length / 2 for length in shown.background.shape], None
    if focus is not None:
        point = torch.tensor([*focus.point, *focus.point], dtype=torch.float64)[None]
        middle = moved_boxes(point, *turn)[0, :3].tolist()
        zoom = _zoom(focus, boxes_affine)
    with rc_context(_DARK):
        figure = _drawn(shown, marks, middle, zoom)
        return _data_uri(figure), volumes.note


def _zoom(focus: Focus, affine: Tensor) -> float:
    """How much to enlarge, in mm: what is there and its surroundings, within limits."""
    if focus.box is None:
        return ZOOM_MM[0]
    box = torch.tensor(focus.box, dtype=torch.float64)
    edges = (box[3:] - box[:3]) * torch.linalg.norm(affine[:3, :3], dim=0).double()
    return min(max(1.5 * float(edges.max()), ZOOM_MM[0]), ZOOM_MM[1])


def _drawn(
    volumes: CaseVolumes, marks: Marks, middle: Sequence[float], zoom: float | None
) -> Figure:
    """The planes near the middle."""
    spacing = torch.linalg.norm(volumes.affine[:3, :3], dim=0).tolist()
    shape = volumes.background.shape
    centre = [min(max(at, 0.0), size - 0.5) for at, size in zip(middle, shape, strict=True)]
    window = [
        slice(max(0, int(at - REACH_MM / edge)), int(at + REACH_MM / edge) + 1)
        for at, edge in zip(centre, spacing, strict=True)
    ]
    start = torch.tensor([side.start for side in window] * 2, dtype=torch.float64)
    part = volumes.map(lambda volume: volume[tuple(window)])
    inside = [_meets(group - start, part.background.shape) for group in (marks.truth, marks.found)]
    figure = plot_case(
        part.background,
        spacing=spacing,
        soft_mask=part.truth,
        found_mask=part.found,
        truth_boxes=(marks.truth - start)[inside[0]],
        existence=None if marks.existence is None else marks.existence[inside[0]],
        found_boxes=(marks.found - start)[inside[1]],
        scores=None if marks.scores is None else marks.scores[inside[1]],
        centre=[at - side.start for at, side in zip(centre, window, strict=True)],
        zoom=zoom,
    )
    name_planes(figure)
    return figure


def _marks(lesions: Table, boxes: Table, least_score: float) -> Marks:
    """The boxes of the tables, found ones from a score on, the surest first."""
    truth = lesions.numbers(*axis_names(3))
    shares = [row.get("existence") for row, _ in truth]
    shares = [share if isinstance(share, float) else 1.0 for share in shares]
    scored = boxes.numbers("score", *axis_names(3))
    scored_boxes = [values for _, values in scored if values[0] >= least_score]
    if len(scored) < len(boxes.rows):  # boxes without scores are all drawn
        scored_boxes = [(0.0, *values) for _, values in boxes.numbers(*axis_names(3))]
    surest = sorted(scored_boxes, key=lambda values: -values[0])[:MOST_BOXES]
    return Marks(
        _boxes([values for _, values in truth]),
        torch.tensor(shares) if any(share != 1 for share in shares) else None,
        _boxes([values[1:] for values in surest]),
        torch.tensor([values[0] for values in surest]) if scored else None,
    )


def _boxes(rows: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 6)


def _meets(boxes: Tensor, shape: Sequence[int]) -> Tensor:
    high = torch.tensor(list(shape), dtype=torch.float64)
    return ((boxes[:, :3] < high) & (boxes[:, 3:] > 0)).all(dim=1)


def _data_uri(figure: Figure) -> str:
    """A JPEG with full colours, since thin lines lose theirs otherwise."""
    file = io.BytesIO()
    figure.savefig(
        file, format="jpeg", dpi=100, facecolor="black",
        pil_kwargs={"quality": 88, "subsampling": 0},
    )  # fmt: skip
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
