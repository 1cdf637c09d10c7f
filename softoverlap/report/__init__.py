"""Pictures of scans and curves; the only room that imports matplotlib."""

from softoverlap.report.plots import plot_case, plot_froc, save_figure

__all__ = ["plot_case", "plot_froc", "save_figure"]
