"""Matplotlib, if it is there, and the colours that all pictures share."""

from __future__ import annotations

from typing import Any

try:
    from matplotlib import rc_context
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import LogFormatter, LogLocator, MaxNLocator, NullFormatter
except ImportError as error:
    raise ImportError(
        "softoverlap.app.report draws with matplotlib, which is not installed: "
        "pip install 'softoverlap[report]'"
    ) from error

Style = dict[Any, Any]
"""Settings for `rc_context`, whose type for the names is a long list."""


class PlainLogFormatter(LogFormatter):
    """0.1 rather than 1e-01."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The label of a tick, empty where the axis is too full for one."""
        return f"{x:g}" if super().__call__(x, pos) else ""


# Okabe and Ito, Color Universal Design, 2008: told apart with every kind of colour vision.
BLUE, ORANGE, SKY, GREEN, VERMILION, PURPLE = (
    "#0072B2",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#D55E00",
    "#CC79A7",
)
CURVES = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
DASHES = ("-", "--", "-.", ":")
TRUTH, FOUND = "#35C48D", ORANGE
"""The colours of what is true and of what was found: on the page, in pictures and in the viewer."""

__all__ = [
    "BLUE",
    "CURVES",
    "DASHES",
    "FOUND",
    "GREEN",
    "ORANGE",
    "PURPLE",
    "SKY",
    "TRUTH",
    "VERMILION",
    "Axes",
    "Figure",
    "FigureCanvasAgg",
    "Line2D",
    "LogLocator",
    "MaxNLocator",
    "NullFormatter",
    "PlainLogFormatter",
    "Rectangle",
    "Style",
    "rc_context",
]
