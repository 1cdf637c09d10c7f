"""Volumes as the viewer shows them: files as they are where it can read them, else as NIfTI."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
import torch
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from softoverlap.images import (
    SAME_GRID,
    Volume,
    align_to,
    forms_apart,
    label_to_read,
    load_image,
    load_raters,
    save_nifti,
)

_SHOWN = ("u1", "i1", "u2", "i2", "i4", "f4")
"""Types of voxels that NiiVue reads without loss."""


@dataclass(frozen=True)
class Layer:
    """A volume of a case.

    Args:
        role: image, pred or truth.
        paths: Its file, or one for each rater, whose mean is shown.
        values: How a mask's values are read, as `as_probabilities` has it; None for an image.
        label: The class of a label map to show, or None.
        onto: File whose affine holds in place of the own (geometry `"index"`), or None.
        geometry: How the masks of several raters are brought together, as `align_to` has it.

    Examples:
        >>> Layer("image", (Path("scan.nii.gz"),)).suffix
        '.nii.gz'
    """

    role: str
    paths: tuple[Path, ...]
    values: str | None = None
    label: int | None = None
    onto: Path | None = None
    geometry: str = "strict"

    @property
    def plain(self) -> Path | None:
        """The file, if the viewer can read it and nothing need be done to its values."""
        scaled = self.values not in (None, "auto", "probabilities") or self.label is not None
        path = self.paths[0]
        if scaled or self.onto or len(self.paths) > 1:
            return None
        return path if _is_shown(path) else None

    @property
    def suffix(self) -> str:
        """How the volume's name in the viewer ends."""
        plain = self.paths[0].name.endswith(".nii") and self.plain is not None
        return ".nii" if plain else ".nii.gz"


def nifti_bytes(layer: Layer) -> bytes:
    """The volume as a compressed NIfTI file of float32.

    Args:
        layer: The volume.

    Returns:
        The bytes of a .nii.gz file.

    Raises:
        FileNotFoundError: If a file is gone.
        ValueError: If a file cannot be read. The message names it.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "mask.nii.gz"
        >>> save_nifti(path, torch.ones(4, 3, 2), torch.eye(4))
        >>> nifti_bytes(Layer("pred", (path,), "auto"))[:2].hex()
        '1f8b'
    """
    volume = _image(layer.paths[0]) if layer.values is None else _mask(layer)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.nii.gz"
        save_nifti(path, volume.data.float(), volume.affine)
        return path.read_bytes()


def _image(path: Path) -> Volume:
    """A scan; of several channels the first."""
    volume = load_image(path, validate=False)
    data = volume.data if volume.data.ndim == 3 else volume.data[0]
    return Volume(torch.nan_to_num(data), volume.affine)


def _mask(layer: Layer) -> Volume:
    """Probabilities on the grid of the first file; of several raters their mean."""
    values = layer.values or "auto"
    label = label_to_read(values, layer.label)
    stack = load_raters(layer.paths, geometry=layer.geometry, values=values, label=label)
    mask = Volume(stack.raters.mean(dim=0), stack.affine)
    if layer.onto is None:
        return mask
    return _with_grid_of(mask, layer.onto, name=str(layer.paths[0]))


def _with_grid_of(mask: Volume, path: Path, *, name: str) -> Volume:
    """The mask voxel by voxel on the grid of another file."""
    reference = load_image(path)
    if reference.data.ndim == 4:
        reference = replace(reference, data=reference.data[0])
    return align_to(mask, reference, geometry="index", names=(name, str(path))).volume


def _is_shown(path: Path) -> bool:
    """Whether NiiVue shows the file, and in the place where nibabel puts it; the header tells."""
    if not path.name.endswith((".nii", ".nii.gz")):
        return False
    try:
        image = nibabel.load(path)
    except (OSError, ValueError, EOFError, ImageFileError, HeaderDataError):
        return False
    if not isinstance(image, nibabel.Nifti1Image) or len(image.shape) != 3:
        return False
    dtype = np.dtype(image.get_data_dtype())
    unit = str(image.header.get_xyzt_units()[0])
    return dtype.str[1:] in _SHOWN and unit in ("mm", "unknown") and _one_place(image)


def _one_place(image: nibabel.Nifti1Image) -> bool:
    """Whether the header's two affines agree; readers choose among them by different rules."""
    if not (image.get_sform(coded=True)[1] or image.get_qform(coded=True)[1]):
        return False
    edges = np.linalg.norm(np.asarray(image.affine)[:3, :3], axis=0)
    return bool(forms_apart(image) <= SAME_GRID * edges.min())
