"""Images, values, raters, lesions of masks, phantoms, files of boxes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.frozen.inputs import DTYPES, any_boxes, blobs, uniform
from tests.frozen.names import api

Entries = dict[str, Callable[[], Any]]

_FORMATS = {
    "ours.json": {},
    "monai.json": {"format": "monai", "frame": "RAS"},
    "nndetection.npz": {},
    "table.csv": {},
    "slicer.mrk.json": {},
}


def entries() -> Entries:
    """Everything that reads, aligns, fuses and finds."""
    made: Entries = {
        "align_to/3d": _aligned,
        "load_nifti/3d": partial(_loaded, "load_nifti"),
        "load_image/3d": partial(_loaded, "load_image"),
        "read_boxes/formats": partial(_box_files, False),
        "read_box_files/formats": partial(_box_files, True),
        "read_label_map/3d": _label_map,
        "value_kind/kinds": lambda: {key: api.value_kind(data) for key, data in _values().items()},
        "as_probabilities/kinds": _probabilities,
        "LesionPhantoms/small": _phantoms,
    }
    for name, dtype in DTYPES.items():
        made[f"fuse_raters/{name}"] = partial(_fused, dtype)
        made[f"staple/{name}"] = partial(_staple, dtype)
        for ndim in (2, 3):
            made[f"lesions_from_mask/{ndim}d/{name}"] = partial(_lesions, ndim, dtype)
    return made


def affine(shift: float = 0.0, angle: float = 0.0) -> Tensor:
    """Anisotropic, one axis flipped, perhaps turned about the last axis."""
    turn = torch.tensor(angle).double()
    made = torch.eye(4, dtype=torch.float64)
    made[0, 0] = made[1, 1] = torch.cos(turn)
    made[1, 0], made[0, 1] = torch.sin(turn), -torch.sin(turn)
    made[:3, :3] *= torch.tensor([-0.75, 1.25, 2.5])
    made[:3, 3] = torch.tensor([12.0, -30.5, 71.25]) + shift
    return made


def _aligned() -> dict[str, Any]:
    moving = api.Volume(uniform(1, 7, 8, 6), affine(0.5))
    reference = api.Volume(torch.zeros(9, 8, 7), affine(angle=0.05))
    same = api.Volume(moving.data, affine(1e-3))
    flipped = affine()
    flipped[:3, 3] += flipped[:3, 0] * 6
    flipped[:3, 0] *= -1
    made = {
        "linear": api.align_to(moving, reference, geometry="resample"),
        "nearest": api.align_to(moving, reference, geometry="resample", nearest=True),
        "index": api.align_to(moving, same, geometry="index"),
        "flipped": api.align_to(moving, api.Volume(same.data, flipped), geometry="index"),
    }
    return {
        kind: {
            "data": aligned.volume.data,
            "affine": aligned.volume.affine,
            "displacement": aligned.displacement,
            "warns": bool(aligned.notes),
        }
        for kind, aligned in made.items()
    }


def _loaded(reader: str) -> dict[str, Any]:
    made = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, data in (
            ("soft", uniform(2, 5, 6, 4).float()),
            ("hard", uniform(3, 5, 6, 4) > 0.5),
        ):
            path = Path(folder) / f"{name}.nii.gz"
            api.save_nifti(path, data.to(torch.uint8 if name == "hard" else data.dtype), affine())
            volume = api[reader](path, dtype=torch.float64)
            made[name] = {
                "data": volume.data,
                "affine": volume.affine,
                "spacing": volume.spacing,
                "voxel_mm3": volume.voxel_mm3,
            }
    return made


def _box_files(several: bool) -> dict[str, Any]:
    """Boxes written and read again, with scores and labels."""
    boxes, scores = any_boxes(4, 3, 3), uniform(5, 3)
    made: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, options in _FORMATS.items():
            path = Path(folder) / name
            more = {"labels": torch.tensor([0, 1, 0]), "affine": affine(), "case": "a"}
            api.write_boxes(path, boxes, scores=scores, **more, **options)
            known = {} if name.startswith("ours") else {"affine": more["affine"]}
            if several:
                read = api.read_box_files(path, **options, **known)
                made[name] = {"cases": len(read), "file": next(iter(read.values())).boxes}
                continue
            file = api.read_boxes(path, **options, **known)
            made[name] = {"boxes": file.boxes, "scores": file.scores, "labels": file.labels}
    return made


def _label_map() -> list[Any]:
    labels = torch.zeros(9, 8, 7, dtype=torch.uint8)
    labels[1:4, 2:4, 1:3], labels[6:8, 5:8, 4:5], labels[0, 7, 6] = 2, 5, 5
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.nii.gz"
        api.save_nifti(path, labels, affine())
        path.with_name("found.csv").write_text("value,score,label\n2,0.5,0\n5,0.25,1\n")
        return api.read_label_map(path)


def _values() -> dict[str, Tensor]:
    return {
        "binary": torch.tensor([0, 1, 1, 0]),
        "soft": torch.tensor([0.0, 0.25, 1.0]),
        "percent": torch.tensor([0.0, 12.5, 100.0]),
        "bytes": torch.tensor([0, 17, 255]),
        "labels": torch.tensor([0, 1, 2, 7]),
        "intensities": torch.tensor([-12.5, 100.0, 3071.0]),
        "empty": torch.zeros(3),
    }


def _probabilities() -> dict[str, Any]:
    values = _values()
    return {
        "binary": api.as_probabilities(values["binary"]),
        "soft": api.as_probabilities(values["soft"]),
        "percent": api.as_probabilities(values["percent"], values="percent"),
        "bytes": api.as_probabilities(values["bytes"], values="0-255"),
        "labels": api.as_probabilities(values["labels"], values="labels"),
        "label": api.as_probabilities(values["labels"], label=2),
    }


def _phantoms() -> dict[str, Any]:
    phantoms = api.LesionPhantoms(5, count=2, shape=(32, 28, 20), num_raters=4)
    return {str(n): {**vars(phantoms[n]), "spacing": phantoms[n].spacing} for n in range(2)}


def _panel(dtype: torch.dtype) -> Tensor:
    _, target = blobs(3, seed=9, batch=1)
    noise = uniform(6, 5, *target.shape[2:]) * 0.3
    return (target[0] + noise > torch.linspace(0.2, 0.9, 5)[:, None, None, None]).to(dtype)


def _fused(dtype: torch.dtype) -> dict[str, Any]:
    raters = _panel(dtype)
    made = {
        method: api.fuse_raters(raters, method=method) for method in ("mean", "majority", "staple")
    }
    made["weighted"] = api.fuse_raters(raters, method="weighted", weights=[1.0, 2.0, 0.5, 0.0, 3.0])
    soft = uniform(7, 3, 4, 5).to(dtype)
    made["threshold"] = api.fuse_raters(soft, method="majority", threshold=0.4)
    made["soft"] = api.fuse_raters(soft)
    return made


def _staple(dtype: torch.dtype) -> dict[str, Any]:
    raters = _panel(dtype)
    return {
        "panel": api.staple(raters),
        "one_empty": api.staple(torch.cat([raters, 0 * raters[:1]])),
        "all_empty": api.staple(0 * raters),
    }


def _lesions(ndim: int, dtype: torch.dtype) -> dict[str, Any]:
    _, target = blobs(ndim, seed=3, batch=1)
    mask, spacing = target[0, 0].to(dtype), (1.0, 1.5, 2.0)[:ndim]
    raters = torch.stack([mask > level for level in (0.2, 0.5, 0.9)]).to(dtype)
    call = partial(api.lesions_from_mask, spacing=spacing)
    return {
        "default": call(mask),
        "low": call(mask, threshold=0.6, low=0.2),
        "connectivity": call(mask, connectivity=6 if ndim == 3 else 4, min_mm3=5.0),
        "raters": call(raters.mean(dim=0), raters=raters),
        "empty": call(0 * mask),
        "one_voxel": call(torch.eye(5, dtype=dtype)[:1].expand(*[1] * (ndim - 1), 5)),
    }
