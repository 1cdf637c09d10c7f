"""Runs of the bundle on scans of a few voxels."""

from __future__ import annotations

import torch
from monai.bundle import ConfigWorkflow

from softoverlap.bundles import LESION_DETECTION
from softoverlap.images import read_table, write_phantoms

CONFIGS = LESION_DETECTION / "configs"
SHAPE = (32, 32, 24)
TINY = {
    "patch_size": [16, 16, 16],
    "channels": [8, 8],
    "strides": [2, 2],
    "feature_channels": 8,
    "anchor_sizes": [5.0, 8.0],
    "batch_size": 4,
    "patches_per_scan": 2,
    "repeats": 1,
    "workers": 0,
    "tensorboard": False,
    "pictures": 0,
    "seed": 3,
}

TRAINING = ("batch_size", "patches_per_scan", "repeats", "workers", "tensorboard", "pictures")


def tiny_scans(folder, count=4):
    """Phantoms in the layout of a training folder."""
    write_phantoms(folder, count, seed=5, shape=SHAPE, num_raters=3)
    return folder


def files_of(*names):
    return [str(CONFIGS / name) for name in names]


def run_bundle(*names, **settings):
    """The workflow after its run, with these settings on top of the tiny ones."""
    kind = "train" if names[0] == "train.yaml" else "infer"
    override = {**TINY, **settings}
    if kind == "infer":
        for key in TRAINING:
            override.pop(key, None)
    workflow = ConfigWorkflow(
        config_file=files_of(*names), logging_file=False, workflow_type=kind, **override
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


def sides(spatial_shape, n=2):
    """Voxels along each axis, of lengths of the metadata such as `8*n`."""
    return [eval(side, {"n": n}) for side in spatial_shape]


def curve(folder):
    """The rows of the run's table of losses and metrics."""
    return read_table(folder / "curve.csv").rows


def weights_in(path):
    """All weights of a checkpoint behind each other."""
    network = torch.load(path, weights_only=True, map_location="cpu")["network"]
    return torch.cat([weight.flatten() for weight in network.values()])
