"""Pictures of a case: three planes through what went wrong, each with what is enlarged of it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from softoverlap.app.report._case_files import CaseVolumes, ScanFinder, load_volumes
from softoverlap.app.report._results import Results, Row, Table, label_name, text
from softoverlap.app.report._style import Figure, FigureCanvasAgg, Style, rc_context
from softoverlap.app.report._worst import Focus, of_case
from softoverlap.app.report.plots import plot_case
from softoverlap.images import axis_names, boxes_between_grids

REACH_MM = 100.0
"""How far from the middle a picture reaches: a small lesion would be lost in a whole body."""

ZOOM_MM = (40.0, 80.0)
"""Least and largest edge of what is enlarged."""

MOST_BOXES = 60
_WHITE = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor")
_BLACK = ("figure.facecolor", "axes.facecolor")
_DARK: Style = dict.fromkeys(_WHITE, "white") | dict.fromkeys(_BLACK, "black")


@dataclass(frozen=True)
class Panel:
    """A plane as data URIs, whole and enlarged, with what each shows.

    Where the scan is hardly larger than what would be enlarged of it, that is left empty.
    """

    name: str
    whole: str
    enlarged: str
    about: str


@dataclass(frozen=True)
class Picture:
    """The planes of a case, or why there are none; what is to be known of them."""

    panels: tuple[Panel, ...]
    why: str
    note: str


@dataclass(frozen=True)
class Marks:
    """Boxes of a case in voxels, with what is written at them."""

    truth: Tensor
    existence: Tensor | None
    found: Tensor
    scores: Tensor | None


class CaseDrawer:
    """Draws cases of a folder of results, and keeps the volumes of the last one.

    Args:
        results: The results.
        finder: Finds the scan of a case.
    """

    def __init__(self, results: Results, finder: ScanFinder) -> None:
        self.results, self.finder = results, finder
        self._last: tuple[Row | None, CaseVolumes | None, str] = (None, None, "")

    def __call__(self, row: Row, focus: Focus | None) -> Picture:
        """Draw a case about a point; what goes wrong is told in the picture's place."""
        try:
            volumes, note = self._volumes(row)
            panels = self._panels(row, volumes, focus)
        except (ValueError, OSError) as error:
            return Picture((), " ".join(str(error).split()), "")
        return Picture(panels, "", " ".join(filter(None, (note, volumes.note))))

    def least_score(self, row: Row) -> float:
        """From which score on boxes are drawn: the operating point's, 0 where all count."""
        mine = label_name(row)
        points = (part.detected.point for part in self.results.parts if part.name == mine)
        point = next(points, None)
        return 0.0 if point is None or math.isnan(point.threshold) else point.threshold

    def _volumes(self, row: Row) -> tuple[CaseVolumes, str]:
        last, volumes, note = self._last
        if last is not row or volumes is None:
            image, note = self.finder(text(row, "case"))
            volumes = load_volumes(row, self.results.settings, image, self.results.folder)
            self._last = row, volumes, note
        return volumes, note

    def _panels(self, row: Row, volumes: CaseVolumes, focus: Focus | None) -> tuple[Panel, ...]:
        shown = volumes.turned()
        lesions, boxes = of_case(self.results.lesions, row), of_case(self.results.boxes, row)
        marks = _marks(lesions, boxes, self.least_score(row))
        before = volumes.affine if volumes.boxes_affine is None else volumes.boxes_affine
        turn = (before, shown.affine)
        marks = replace(
            marks,
            truth=boxes_between_grids(marks.truth, *turn),
            found=boxes_between_grids(marks.found, *turn),
        )
        middle, zoom = [length / 2 for length in shown.background.shape], None
        if focus is not None:
            point = torch.tensor([*focus.point, *focus.point], dtype=torch.float64)[None]
            middle = boxes_between_grids(point, *turn)[0, :3].tolist()
            zoom = _zoom(focus, before)
        with rc_context(_DARK):
            return _split(_drawn(shown, marks, middle, zoom))


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
    affine = volumes.affine.clone()
    affine[:3, 3] += affine[:3, :3] @ start[:3].to(affine.dtype)
    return plot_case(
        part.background,
        affine=affine,
        soft_mask=part.truth,
        found_mask=part.found,
        truth_boxes=(marks.truth - start)[inside[0]],
        existence=None if marks.existence is None else marks.existence[inside[0]],
        found_boxes=(marks.found - start)[inside[1]],
        scores=None if marks.scores is None else marks.scores[inside[1]],
        centre=[at - side.start for at, side in zip(centre, window, strict=True)],
        zoom=zoom,
    )


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


def _split(figure: Figure) -> tuple[Panel, ...]:
    """The figure cut into its planes, so that a narrow page can put them below each other."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    height = len(pixels)
    parts = []
    for axes in figure.axes:
        box = axes.get_window_extent()
        rows = slice(max(height - math.ceil(box.y1), 0), height - math.floor(box.y0))
        columns = slice(max(math.floor(box.x0), 0), math.ceil(box.x1))
        parts.append(_data_uri(pixels[rows, columns]))
    names = [axes.get_title() for axes in figure.axes]
    enlarged = zip(parts[3:], names[3:], strict=True) if parts[3:] else (("", ""),) * 3
    return tuple(
        Panel(name, whole, *more)
        for name, whole, more in zip(names[:3], parts[:3], enlarged, strict=True)
    )


def _data_uri(pixels: np.ndarray) -> str:
    """A JPEG with full colours, since thin lines lose theirs otherwise."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="jpeg", quality=88, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
