"""Pictures of scans and curves, and the page of a cohort; only this room imports matplotlib."""

from softoverlap.app.report.boxes_plot import plot_boxes, save_boxes_picture
from softoverlap.app.report.curve_plot import plot_curve, save_curve
from softoverlap.app.report.display import DISPLAY
from softoverlap.app.report.froc_plot import plot_froc
from softoverlap.app.report.page import Report, write_report
from softoverlap.app.report.plan_plot import plot_plan
from softoverlap.app.report.plots import plot_case, save_figure
from softoverlap.app.report.viewer import Viewer, ViewerServer, read_viewer, write_viewer

__all__ = [
    "DISPLAY",
    "Report",
    "Viewer",
    "ViewerServer",
    "plot_boxes",
    "plot_case",
    "plot_curve",
    "plot_froc",
    "plot_plan",
    "read_viewer",
    "save_boxes_picture",
    "save_curve",
    "save_figure",
    "write_report",
    "write_viewer",
]
