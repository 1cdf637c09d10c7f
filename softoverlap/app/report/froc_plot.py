"""The FROC curve as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from softoverlap.app.report._style import CURVES, DASHES, Axes, Figure, FigureCanvasAgg
from softoverlap.measures import FROC


def plot_froc(froc: FROC | Mapping[str, FROC]) -> Figure:
    """The FROC curve as the step function that it is, with a mark at each rate that is read.

    A bootstrap interval (`compute_froc(resamples=1000)`) is drawn as a band.

    Args:
        froc: One curve, or several by name.

    Returns:
        A figure of its own, on no screen; `save_figure` writes it.

    Raises:
        TypeError: If a curve is not a `FROC`.
        ValueError: If there is none.

    Examples:
        >>> import torch
        >>> from softoverlap import compute_froc
        >>> scan = {"box": torch.tensor([[0.0, 0.0, 4.0, 4.0]]), "label": torch.tensor([0])}
        >>> curve = compute_froc([{**scan, "label_scores": torch.tensor([0.9])}], [scan])
        >>> plot_froc({"ours": curve}).axes[0].get_xlabel()
        'False positives per scan'
    """
    curves = _checked_curves(froc)
    figure = Figure(figsize=(6.2, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    rates = sorted({rate for curve in curves.values() for rate in curve.fp_rates if rate > 0})
    low, high = (rates[0] / 2, rates[-1] * 1.2) if rates else (1 / 16, 8.0)
    for number, (name, curve) in enumerate(curves.items()):
        color, dashes = CURVES[number % len(CURVES)], DASHES[number // len(CURVES) % len(DASHES)]
        order = 3 - number / len(curves)  # the first lies on top
        _draw_curve(axes, name, curve, (low, high), color=color, linestyle=dashes, zorder=order)
    _label_froc(axes, rates, (low, high))
    legend = figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    for words in legend.get_texts():
        words.set_parse_math(False)  # a name may hold dollar signs
    return figure


def _checked_curves(froc: FROC | Mapping[str, FROC]) -> dict[str, FROC]:
    """Curves by name; a single one is called FROC."""
    if not isinstance(froc, FROC | Mapping):
        raise TypeError(f"froc must be a FROC or a dict of them, got {type(froc).__name__}")
    curves = {"FROC": froc} if isinstance(froc, FROC) else dict(froc)
    if not curves:
        raise ValueError("froc must hold at least one curve, got an empty dict")
    for name, curve in curves.items():
        if not isinstance(curve, FROC):
            raise TypeError(f"froc[{name!r}] must be a FROC, got {type(curve).__name__}")
    return curves


def _draw_curve(
    axes: Axes,
    name: str,
    curve: FROC,
    limits: tuple[float, float],
    **style: Any,
) -> None:
    """Steps from the lower limit on: a point to its left, zero included, has been reached there."""
    label = f"{name} (no lesions)" if math.isnan(curve.cpm) else f"{name} (CPM {curve.cpm:.3f})"
    rates = curve.fps_per_scan.numpy()
    first = int(np.searchsorted(rates, limits[0], side="right")) - 1
    heights = curve.sensitivities.numpy()[first:]
    steps = np.append(np.clip(rates[first:], limits[0], None), max(limits[1], rates[-1]))
    heights = np.append(heights, heights[-1])
    axes.plot(steps, heights, drawstyle="steps-post", label=label, **style)
    if curve.interval is not None:
        shown, band = curve.interval.fps_per_scan > 0, curve.interval
        at, low, high = (v[shown].numpy() for v in (band.fps_per_scan, band.low, band.high))
        axes.fill_between(at, low, high, color=style["color"], alpha=0.15, linewidth=0)
    marks = [pair for pair in zip(curve.fp_rates, curve.sensitivity, strict=True) if pair[0] > 0]
    if marks:
        points = {**style, "linestyle": "none"}
        axes.plot(*zip(*marks, strict=True), marker="o", markersize=4, **points)


def _label_froc(axes: Axes, rates: Sequence[float], limits: tuple[float, float]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlim(*limits)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xticks(rates, [_as_fraction(rate) for rate in rates])
    axes.minorticks_off()
    axes.set_xlabel("False positives per scan")
    axes.set_ylabel("Sensitivity")
    axes.grid(alpha=0.3)


def _as_fraction(rate: float) -> str:
    """1/8 rather than 0.125, where the inverse is whole."""
    inverse = 1 / rate
    return f"1/{round(inverse)}" if rate < 1 and inverse == round(inverse) else f"{rate:g}"
