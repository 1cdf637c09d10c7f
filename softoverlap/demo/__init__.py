"""The whole path on phantoms: write, train, detect, judge, draw."""

from softoverlap.demo.options import DemoOptions
from softoverlap.demo.run import DemoResult, run_demo

__all__ = ["DemoOptions", "DemoResult", "run_demo"]
