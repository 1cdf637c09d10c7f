"""How much memory each measure takes on label maps of sixty classes: bytes a voxel, as JSON.

Each measure runs in a process of its own, forked from one that has imported everything and has
measured a small map already.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.metric_makers import METRICS, OF_MASKS, OF_RATERS

EDGE, CLASSES = 80, 60


def labels(edge):
    """A map of layers, and the same a layer of voxels further."""
    places = torch.arange(edge**3)
    maps = [at * CLASSES // edge**3 for at in ((places + edge**2).clamp(max=edge**3 - 1), places)]
    return tuple(each.view(1, 1, edge, edge, edge) for each in maps)


def measured(name, pred, target):
    """The scores of a measure of sixty classes; raters are three of the same map."""
    measure = METRICS[name]().measure
    settings = {"num_classes": CLASSES}
    if name in OF_RATERS:
        pred = pred if name == "RaterOverlap" else pred.expand(-1, 2, -1, -1, -1)
        target = target.expand(-1, 3, -1, -1, -1)
    return type(measure)(**{**vars(measure), **settings})(pred, target)


def peak():
    """The largest memory that this process ever held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def bytes_a_voxel(name, pred, target):
    """What a measure adds to the memory of a forked process."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        measured(name, *labels(8))  # touches what a process shares with its parent
        before = peak()
        measured(name, pred, target)
        os.write(writing, str((peak() - before) / target.numel()).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        return float(pipe.read())


def main():
    torch.set_num_threads(1)
    pair, names = labels(EDGE), sys.argv[1:] or [*OF_MASKS, *OF_RATERS]
    for name in names:
        measured(name, *labels(8))
    sys.stdout.write(json.dumps({name: bytes_a_voxel(name, *pair) for name in names}))


if __name__ == "__main__":
    main()
