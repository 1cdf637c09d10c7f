"""Tiny training data sets in the layouts of other tools: two classes, two channels, 12 voxels."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import torch

from softoverlap.images import save_nifti

SHAPE = (12, 10, 8)
CHANNELS = ("T1", "FLAIR")
NAMES = ("pat-1_a", "pat-1_b", "pat-2_a")
LABELS = {"background": 0, "edema": 1, "core": 2}


def label_map():
    """Two lesions of the first class, one of the second."""
    labels = torch.zeros(SHAPE)
    labels[1:3, 1:3, 1:3] = 1
    labels[6:8, 1:3, 1:3] = 1
    labels[8:11, 5:9, 4:7] = 2
    return labels


def scan(channel=0):
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(channel)) + label_map()


def save(path, data, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_nifti(path, data, torch.eye(4) if affine is None else affine)
    return path


def describe(folder, **changes):
    """nnU-Net's `dataset.json`, with some keys changed, or left out where they are None."""
    content = {
        "channel_names": {str(number): name for number, name in enumerate(CHANNELS)},
        "labels": LABELS,
        "numTraining": len(NAMES),
        "file_ending": ".nii.gz",
        **changes,
    }
    text = json.dumps({key: value for key, value in content.items() if value is not None})
    (folder / "dataset.json").write_text(text)


def nnunet(folder, channels=2, voxels=None, **changes):
    """Three cases of two patients."""
    for case in NAMES:
        for channel in range(channels):
            save(folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz", scan(channel))
        save(folder / "labelsTr" / f"{case}.nii.gz", label_map() if voxels is None else voxels)
    describe(folder, **changes)
    return folder


OLD = {
    "channel_names": None,
    "file_ending": None,
    "modality": {"0": "T1", "1": "FLAIR"},
    "labels": {"0": "background", "1": "edema", "2": "core"},
}
"""How version 1 of nnU-Net and the Decathlon say the same."""


def listing(names=NAMES):
    return [
        {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
        for name in names
    ]


def decathlon(folder, **changes):
    """The same three cases, with the channels last."""
    (folder / "imagesTr").mkdir(parents=True)
    values = np.stack([scan(0).numpy(), scan(1).numpy()], axis=-1)
    for case in NAMES:
        path = folder / "imagesTr" / f"{case}.nii.gz"
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)
        save(folder / "labelsTr" / f"{case}.nii.gz", label_map())
    describe(folder, **{**OLD, "training": listing(), **changes})
    return folder


def bids(folder, mask="desc-lesion_mask", kinds=("T1w", "FLAIR")):
    """Two sessions of one subject, one of another."""
    for subject, session in (("01", "1"), ("01", "2"), ("02", "1")):
        start = f"sub-{subject}_ses-{session}"
        room = folder / f"sub-{subject}" / f"ses-{session}" / "anat"
        for channel, kind in enumerate(kinds):
            save(room / f"{start}_{kind}.nii.gz", scan(channel))
        below = folder / "derivatives" / "manual" / f"sub-{subject}" / f"ses-{session}" / "anat"
        values = label_map() if mask.endswith("dseg") else (label_map() > 0).float()
        save(below / f"{start}_{mask}.nii.gz", values)
    (folder / "dataset_description.json").write_text("{}")
    return folder


def box_list(folder, **parts):
    """A list of boxes in RAS, and its scans below `scans`."""
    for entries in parts.values():
        for entry in entries:
            save(folder / "scans" / entry["image"], scan())
    (folder / "list.json").write_text(json.dumps({"frame": "RAS", **parts}))
    return folder


def entry(name, boxes=([4.5, 4.5, 4.5, 4, 4, 2],), labels=(0,)):
    return {"image": f"{name}.nii.gz", "box": [list(box) for box in boxes], "label": list(labels)}
