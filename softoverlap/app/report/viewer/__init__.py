"""The viewer: a scored case with its masks and boxes, in a browser, by NiiVue."""

from softoverlap.app.report.viewer.folder import write_viewer
from softoverlap.app.report.viewer.pages import Viewer, read_viewer
from softoverlap.app.report.viewer.server import ViewerServer

__all__ = ["Viewer", "ViewerServer", "read_viewer", "write_viewer"]
