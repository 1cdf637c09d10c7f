"""The whole path on phantoms: write, train, detect, judge, draw."""

from softoverlap.app.demo.options import DemoOptions
from softoverlap.app.demo.run import DemoResult, run_demo

__all__ = ["DemoOptions", "DemoResult", "run_demo"]
