"""The curves of a training run as a picture."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from softoverlap.app.report._style import (
    CURVES,
    DASHES,
    Axes,
    Figure,
    FigureCanvasAgg,
    MaxNLocator,
)
from softoverlap.app.report.plots import save_figure
from softoverlap.images import read_table

_NO_CURVE = ("epoch", "step", "learning_rate")
_METRIC = "val_"


def plot_curve(rows: Sequence[Mapping[str, str]]) -> Figure:
    """Losses, scores of the validation, and the learning rate over the steps of a run.

    Args:
        rows: Rows of the table that `softoverlap.for_monai.CurveTable` writes, at least one; what
            begins with `val_` is a score.

    Returns:
        A figure of its own, on no screen; `save_figure` writes it.

    Raises:
        ValueError: If there is no row, or a cell is no number.

    Examples:
        >>> row = {"epoch": "1", "step": "9", "learning_rate": "0.1", "loss": "1", "val_cpm": "0.5"}
        >>> [axes.get_ylabel() for axes in plot_curve([row]).axes]
        ['Loss', 'Validation', 'Learning rate']
    """
    if not rows:
        raise ValueError("rows must hold at least one epoch, got none")
    names = list(dict.fromkeys(name for row in rows for name in row if name not in _NO_CURVE))
    groups = {
        "Loss": [name for name in names if not name.startswith(_METRIC)],
        "Validation": [name for name in names if name.startswith(_METRIC)],
        "Learning rate": ["learning_rate"],
    }
    shown = {title: known for title, group in groups.items() if (known := _known(rows, group))}
    heights = [1 if title == "Learning rate" else 2 for title in shown] or [1]
    figure = Figure(figsize=(7, 1 + 1.2 * sum(heights)), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)
    for axes, (title, curves) in zip(grid[:, 0], shown.items(), strict=False):
        _draw(axes, title, curves)
    grid[-1, 0].set_xlabel("Step")
    grid[-1, 0].xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return figure


def save_curve(path: str | os.PathLike[str]) -> None:
    r"""Draw a table of curves, and write the picture beside it, with the suffix `.png`.

    Args:
        path: The CSV file of `softoverlap.for_monai.CurveTable`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has no row, or a cell is no number.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "curve.csv"
        >>> _ = path.write_text("epoch,step,learning_rate,loss\n1,9,0.1,1.0\n")
        >>> save_curve(path)
        >>> path.with_suffix(".png").read_bytes()[1:4]
        b'PNG'
    """
    save_figure(plot_curve(read_table(path).rows), Path(path).with_suffix(".png"), dpi=110.0)


def _known(
    rows: Sequence[Mapping[str, str]], names: Sequence[str]
) -> dict[str, list[tuple[float, float]]]:
    """For each name its steps and values, where it has some."""
    curves = {}
    for name in names:
        points = [(float(row["step"]), float(row[name])) for row in rows if row.get(name)]
        if finite := [point for point in points if math.isfinite(point[1])]:
            curves[name] = finite
    return curves


def _draw(axes: Axes, title: str, curves: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    for number, (name, points) in enumerate(curves.items()):
        color, dashes = CURVES[number % len(CURVES)], DASHES[number // len(CURVES) % len(DASHES)]
        label = name.removeprefix(_METRIC)
        axes.plot(
            *zip(*points, strict=True), color=color, linestyle=dashes, marker="o", markersize=3,
            label=label,
        )  # fmt: skip
    axes.set_ylabel(title)
    axes.grid(alpha=0.3)
    if title == "Validation":
        axes.set_ylim(-0.02, 1.02)
    elif title == "Loss":
        axes.set_ylim(bottom=0)
    if title == "Learning rate":
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        return
    legend = axes.legend(
        loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False
    )  # beside the curves, so that it hides none
    for words in legend.get_texts():
        words.set_parse_math(False)  # the name of a class may hold dollar signs
