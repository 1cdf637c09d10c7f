"""The page's charts, each a figure and the words at its points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from softoverlap.app.figures import number, rounded
from softoverlap.app.report._operating import Estimate
from softoverlap.app.report._style import (
    BLUE,
    ORANGE,
    VERMILION,
    Axes,
    Figure,
    FigureCanvasAgg,
    LogLocator,
    NullFormatter,
    PlainLogFormatter,
    Style,
    rc_context,
)
from softoverlap.app.report._summary import Agreement, Detection, Reliability
from softoverlap.app.report.froc_plot import plot_froc

MOST_POINTS = 3000
"""More are drawn as one picture, without words at each."""

_STYLE: Style = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
}


@dataclass(frozen=True)
class Chart:
    """A figure, and for artists by their gid the words at each point."""

    figure: Figure
    tips: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Point:
    """A point of a chart, and what it is."""

    x: float
    y: float
    words: str


def distribution_chart(columns: Mapping[str, Sequence[tuple[float, str]]]) -> Chart:
    """A row for each score in [0, 1]: the box of its quartiles above a point for each case."""
    figure, axes = _figure(height=0.9 + 0.55 * len(columns))
    tips = {}
    for row, (name, values) in enumerate(columns.items()):
        numbers = np.array([value for value, _ in values])
        gid = f"row{row}"
        points = [
            Point(x, row + 0.22 + 0.2 * math.sin(12.9898 * place), f"{words}: {name} {x:.4g}")
            for place, (x, words) in enumerate(values)
        ]
        tips |= _scatter(axes, gid, points, color=BLUE, s=12.0)
        _quartiles(axes, numbers, row - 0.2)
    axes.set_yticks(range(len(columns)), list(columns))
    axes.set_ylim(len(columns) - 0.4, -0.6)
    axes.set_xlim(-0.02, 1.02)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    return Chart(figure, tips)


def scatter_chart(
    points: Mapping[str, Sequence[Point]], *, x: str, y: str, limits: tuple[float, float]
) -> Chart:
    """Groups of points over a logarithmic axis."""
    figure, axes = _figure()
    tips = {}
    shades = ((BLUE, "o"), (VERMILION, "x"))
    for place, (name, group) in enumerate(points.items()):
        color, marker = shades[place % 2]
        legend = name if len(points) > 1 else None
        tips |= _scatter(axes, f"group{place}", group, color=color, marker=marker, label=legend)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(PlainLogFormatter())
    axes.xaxis.set_minor_formatter(PlainLogFormatter(minor_thresholds=(1.2, 0.4)))
    axes.set_ylim(*limits)
    axes.grid(alpha=0.3)
    _name(axes, x, y)
    if len(points) > 1:
        _legend(figure)
    return Chart(figure, tips)


def agreement_chart(points: Sequence[Point], figures: Agreement) -> Chart:
    """Bland and Altman's plot: differences over means, bias, limits, and their intervals."""
    figure, axes = _figure()
    lines = (
        (figures.mean_difference, figures.mean_interval, "bias", BLUE, "-"),
        (figures.upper, figures.upper_interval, "+1.96 SD", VERMILION, "--"),
        (figures.lower, figures.lower_interval, "−1.96 SD", VERMILION, ":"),
    )
    for height, interval, words, color, dashes in lines:
        if math.isfinite(height):
            name = f"{words} {number(height)}"
            axes.axhline(height, color=color, linestyle=dashes, linewidth=1.2, label=name)
        if all(map(math.isfinite, interval)):
            axes.axhspan(*interval, color=color, alpha=0.12, linewidth=0)
    tips = _scatter(axes, "cases", points, color=BLUE)
    _name(axes, "Mean of both volumes (ml)", "Prediction minus truth (ml)")
    axes.margins(y=0.12)
    _legend(figure)
    return Chart(figure, tips)


def reliability_chart(curve: Reliability) -> Chart:
    """Observed over predicted probability, and below how many voxels each bin holds."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(4.6, 4.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
    bins = zip(curve.predicted, curve.observed, curve.counts, strict=True)
    points = [
        Point(p, o, f"predicted {p:.3f}, observed {o:.3f}, {count:.0f} voxels")
        for p, o, count in bins
        if math.isfinite(p) and math.isfinite(o)
    ]
    axes.plot([point.x for point in points], [point.y for point in points], color=BLUE)
    tips = _scatter(axes, "bins", points, color=BLUE, s=26.0, alpha=1.0)
    below.stairs(curve.counts, curve.edges, fill=True, color=BLUE, alpha=0.6)
    _count_axis(below, curve.counts)
    for each in (axes, below):
        each.set_xlim(-0.02, 1.02)
        each.grid(alpha=0.3)
    axes.set_ylim(-0.02, 1.02)
    _name(axes, "", "Truth (mean)")
    _name(below, "Predicted probability", "Voxels")
    return Chart(figure, tips)


def _count_axis(axes: Axes, counts: Sequence[float]) -> None:
    """Whole decades, a few of them labelled: the axis is low."""
    some = [count for count in counts if count > 0]
    axes.set_yscale("log")
    if some:
        low, high = math.log10(0.9 * min(some)), math.log10(1.1 * max(some))
        axes.set_ylim(10.0 ** math.floor(low), 10.0 ** math.ceil(high))
    axes.yaxis.set_major_locator(LogLocator(numticks=4))
    axes.yaxis.set_minor_formatter(NullFormatter())


def froc_chart(
    detection: Detection, name: str, point: Mapping[str, Estimate] | None = None
) -> Chart:
    """`plot_froc` at the size of the others, with intervals, and the operating point on it."""
    froc = detection.froc
    with rc_context(_STYLE):
        figure = plot_froc({name: froc})
    figure.set_size_inches(4.6, 3.6)
    for words in figure.legends[0].get_texts():
        words.set_fontsize(9)
    axes = figure.axes[0]
    ends = detection.sensitivity_interval or ((math.nan, math.nan),) * len(froc.fp_rates)
    for rate, height, (low, high) in zip(froc.fp_rates, froc.sensitivity, ends, strict=True):
        if all(map(math.isfinite, (height, low, high))) and rate > 0:
            axes.vlines(rate, low, high, color=BLUE, alpha=0.45, linewidth=3)
        if rate in detection.coarse_rates:
            hollow: Style = {
                "markerfacecolor": "white",
                "markeredgecolor": BLUE,
                "linestyle": "none",
            }
            axes.plot([rate], [height], marker="o", markersize=6, zorder=4, **hollow)
    if point is not None:
        x, y = point["fps_per_scan"].value, point["sensitivity"].value
        if math.isfinite(x) and math.isfinite(y):
            x = max(x, axes.get_xlim()[0])  # a logarithmic axis has no 0
            axes.plot([x], [y], marker="D", markersize=7, color=VERMILION, zorder=5, clip_on=False)
    return Chart(figure)


def point_chart(point: Mapping[str, Estimate]) -> Chart:
    """Sensitivity at false positives a scan: the one point where scores make no curve."""
    figure, axes = _figure()
    x, y = point["fps_per_scan"], point["sensitivity"]
    if all(map(math.isfinite, (*x.interval, y.value))):
        axes.hlines(y.value, *x.interval, color=BLUE, alpha=0.45, linewidth=3)
    if all(map(math.isfinite, (*y.interval, x.value))):
        axes.vlines(x.value, *y.interval, color=BLUE, alpha=0.45, linewidth=3)
    words = (
        f"sensitivity {rounded(y.value, y.interval)} at {rounded(x.value, x.interval)} false "
        "positives a scan"
    )
    tips = _scatter(axes, "point", [Point(x.value, y.value, words)], color=BLUE, s=60.0, alpha=1.0)
    axes.set_ylim(-0.02, 1.02)
    right = max((end for end in (x.value, *x.interval) if math.isfinite(end)), default=0.0)
    axes.set_xlim(-0.03 * max(right, 1.0), 1.2 * max(right, 1.0))
    axes.grid(alpha=0.3)
    _name(axes, "False positives a scan", "Sensitivity")
    return Chart(figure, tips)


def _figure(height: float = 3.4) -> tuple[Figure, Axes]:
    with rc_context(_STYLE):
        figure = Figure(figsize=(4.6, height), layout="constrained")
        FigureCanvasAgg(figure)
        return figure, figure.add_subplot()


def _legend(figure: Figure) -> None:
    """Above the axes, where it covers nothing."""
    legend = figure.legend(loc="outside upper right", ncols=3, fontsize=9, frameon=False)
    for words in legend.get_texts():
        words.set_parse_math(False)


def _name(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _scatter(
    axes: Axes,
    gid: str,
    points: Sequence[Point],
    *,
    marker: str = "o",
    **style: Any,
) -> dict[str, list[str]]:
    """Draw the points; the words at each, unless they are too many."""
    many = len(points) > MOST_POINTS
    axes.scatter(
        [point.x for point in points],
        [point.y for point in points],
        marker=marker,
        linewidths=0.0 if marker == "o" else 1.2,
        rasterized=many,
        gid=gid,
        **{"s": 18.0, "alpha": 0.65, **style},
    )
    return {} if many or not points else {gid: [point.words for point in points]}


def _quartiles(axes: Axes, values: np.ndarray, height: float) -> None:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    axes.hlines(height, values.min(), values.max(), color=BLUE, linewidth=1)
    axes.barh(height, high - low, left=low, height=0.22, color=BLUE, alpha=0.35)
    axes.vlines(middle, height - 0.15, height + 0.15, color=ORANGE, linewidth=2.5)
