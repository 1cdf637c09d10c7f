"""Pictures of scans and curves, and the page of a cohort; only this room imports matplotlib."""

from softoverlap.app.report.froc_plot import plot_froc
from softoverlap.app.report.page import Report, write_report
from softoverlap.app.report.plots import plot_case, save_figure

__all__ = ["Report", "plot_case", "plot_froc", "save_figure", "write_report"]
