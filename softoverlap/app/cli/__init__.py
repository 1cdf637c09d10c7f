"""The command `softoverlap`: parse, call, print."""

import os

# Before torch is imported: idle threads sleep. Spinning ones make a training step several times
# slower as soon as another program wants the same cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from softoverlap.app.cli import (
    boxes as boxes,
    calibrating as calibrating,
    converting as converting,
    detecting as detecting,
    exporting as exporting,
    finding as finding,
    images as images,
    pages as pages,
    planning as planning,
    scoring as scoring,
    training as training,
)
from softoverlap.app.cli.app import app, main

__all__ = ["app", "main"]
