"""Images in memory and on disk, as SimpleITK writes them, for the tests of every reader."""

from __future__ import annotations

import locale

import numpy as np
import SimpleITK
import torch

SERIES = "1.2.826.0.1.3680043.2.1125.1"


def oblique(*, degrees=(10.0, 20.0, 30.0)):
    """A rotation about all three axes."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        first, second = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def affine(spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), direction=None):
    """Voxel indices to RAS mm."""
    matrix = torch.eye(4, dtype=torch.float64)
    direction = np.eye(3) if direction is None else direction
    matrix[:3, :3] = torch.from_numpy(direction * np.array(spacing))
    matrix[:3, 3] = torch.tensor(origin, dtype=torch.float64)
    return matrix


def itk_image(array, *, spacing=(0.7, 1.3, 2.9), origin=(10.0, -20.0, 30.0), direction=None):
    """An image of an array (z, y, x), in LPS."""
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection((oblique() if direction is None else direction).flatten().tolist())
    return image


def write_dicom(
    folder,
    array,
    *,
    spacing=(0.7, 1.3, 2.5),
    direction=None,
    shift=None,
    skip=(),
    series=SERIES,
    **more,
):
    """A slice a file, in an order of names that is not that of their places.

    `shift` moves slice k by `shift(k)` mm, along the axes of the patient; `more` are other tags.
    """
    folder.mkdir(parents=True, exist_ok=True)
    spacing = (0.7, 1.3, 2.5)
    axes = np.eye(3) if direction is None else direction
    before = locale.setlocale(locale.LC_ALL)  # writing DICOM leaves "C" behind
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in sorted(set(range(len(array))) - set(skip)):
        place = np.array([10.0, -20.0, 30.0]) + axes[:, 2] * spacing[2] * k
        place = place + (0 if shift is None else np.array(shift(k)))
        tags = {
            "0008|0060": "CT",
            "0008|0018": f"{series}.3.{k + 1}",
            "0020|000d": f"{series}.1",
            "0020|000e": f"{series}.2",
            "0020|0032": "\\".join(f"{x:.6f}" for x in place),
            "0020|0037": "\\".join(f"{x:.9f}" for x in (*axes[:, 0], *axes[:, 1])),
            "0020|0013": str(k + 1),
            **more,
        }
        image = SimpleITK.GetImageFromArray(array[k].astype(np.int16))
        image.SetSpacing(spacing[:2])
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{series[-1]}{(7 * k) % 13:02d}.dcm"))
        writer.Execute(image)
    locale.setlocale(locale.LC_ALL, before)
    return folder
