"""The pictures of the page of benchmarks; each holds the digest of the figures that it shows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _ratios import ratios
from matplotlib.axes import Axes
from matplotlib.figure import Figure

FIGURES = Path(__file__).with_name("figures")
AXES = {"voxels": "voxels", "boxes": "boxes", "lesions": "lesions", "scans": "scans"}
OURS, LOST = "#0072b2", "#d55e00"


def digest(stored: Mapping[str, Any]) -> str:
    """Of the figures, so that a picture says which it shows."""
    return hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()[:16]


def draw_headlines(stored: Mapping[str, Any]) -> Figure:
    """Time of each case over its peer's, with the spread of the turns."""
    rows = list(ratios(stored))
    figure = Figure(figsize=(8, 0.6 + 0.36 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(rows):
        color = LOST if row.time > 1 else OURS
        axes.plot(row.spread or (row.time, row.time), (place, place), color=color, linewidth=2)
        axes.plot(row.time, place, "o", color=color, markersize=6)
    axes.axvline(1, color="#1a1a1a", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [row.what for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("time as a multiple of the peer's (left of 1: faster)")
    _plain(axes)
    return figure


def draw_growth(stored: Mapping[str, Any]) -> Figure:
    """Time and memory over the size: a row an axis, the same colours on both sides."""
    curves = stored["curves"]
    shown = [axis for axis in AXES if any(curve["axis"] == axis for curve in curves.values())]
    figure = Figure(figsize=(11, 3.1 * len(shown)), layout="constrained")
    for row, axis in zip(figure.subplots(len(shown), 2, squeeze=False), shown, strict=True):
        for name, curve in curves.items():
            if curve["axis"] == axis:
                sizes = [side**3 if axis == "voxels" else side for side in curve["sizes"]]
                row[0].plot(sizes, curve["seconds"], "o-", markersize=3, label=name)
                mebibytes = [count / 2**20 if count > 2**20 else None for count in curve["bytes"]]
                row[1].plot(sizes, mebibytes, "o-", markersize=3)
        row[0].set_ylabel("seconds")
        row[1].set_ylabel("MiB beyond the inputs")
        for panel in row:
            panel.set(xscale="log", yscale="log", xlabel=AXES[axis])
            _plain(panel)
        row[0].legend(fontsize=7, frameon=False)
    return figure


def save(figure: Figure, name: str, stored: Mapping[str, Any]) -> None:
    """As PNG, with the digest of what it shows."""
    figure.savefig(FIGURES / f"{name}.png", dpi=110, metadata={"Comment": digest(stored)})


def _plain(axes: Axes) -> None:
    axes.grid(color="#d9d9d9", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
