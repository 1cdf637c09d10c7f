"""Probability maps of nnU-Net: `case.npz` of `nnUNetv2_predict --save_probabilities`.

nnU-Net writes three files of a case: `case.npz` with the array `probabilities`, one channel a class
and axes in the order z, y, x; the segmentation, such as `case.nii.gz`; and `case.pkl` with the
scan's properties. The last is a pickle, which can run code as it is read, and is never read: the
segmentation has the same grid and says where it lies.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from softoverlap._checks import refusal
from softoverlap.images._intensities import is_whole
from softoverlap.images.formats.npz import load_npz_array
from softoverlap.images.geometry import Volume
from softoverlap.images.images import IMAGE_SUFFIXES, image_name, load_one_volume
from softoverlap.images.sources import Unpaired, find_files, left_out

MAP_SUFFIX = ".npz"

_ONE = 1e-3  # tolerance for the sum of the classes
_APART = 0.01  # share of a segmentation's foreground that the map may lack


def find_maps(sources: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Masks and probability maps, as `find_files` finds them.

    A segmentation beside an nnU-Net map of its name is left out: it gives the map its grid.

    Raises:
        FileNotFoundError: If a folder or a pattern has no such file.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("a.npz", "a.nii.gz", "a.pkl", "b.nii.gz"):
        ...     (folder / name).touch()
        >>> [path.name for path in find_maps([folder])]
        ['a.npz', 'b.nii.gz']
    """
    paths = find_files(sources, (*IMAGE_SUFFIXES, MAP_SUFFIX), "masks")
    maps = {(path.parent, map_name(path)) for path in paths if is_nnunet_map(path)}
    return [p for p in paths if is_nnunet_map(p) or (p.parent, image_name(p)) not in maps]


def maps_left_out(sources: Sequence[str | os.PathLike[str]]) -> list[Unpaired]:
    """What folders hold that `find_maps` passes by; an nnU-Net map's own .pkl is not told."""
    files = left_out(sources)
    return [file for file in files if not file.path.with_suffix(MAP_SUFFIX).is_file()]


def is_nnunet_map(path: Path) -> bool:
    """Whether a file is a map of nnU-Net, by its suffix."""
    return path.name.lower().endswith(MAP_SUFFIX)


def map_name(path: Path) -> str:
    """The name of a mask or a map without its suffix."""
    return path.name[: -len(MAP_SUFFIX)] if is_nnunet_map(path) else image_name(path)


def grid_file(path: Path) -> Path:
    """The file that says where a mask or a map lies: a mask itself, of a map the segmentation.

    Raises:
        FileNotFoundError: If there is no segmentation beside the map.

    Examples:
        >>> grid_file(Path("case.nii.gz"))
        PosixPath('case.nii.gz')
    """
    if not is_nnunet_map(path):
        return path
    name = map_name(path)
    for suffix in IMAGE_SUFFIXES:
        if (beside := path.with_name(name + suffix)).is_file():
            return beside
    raise FileNotFoundError(
        f"{path} must have the segmentation that nnU-Net writes beside it, such as {name}.nii.gz: "
        "it says where the voxels lie (the .pkl is not read, since a pickle can run code)"
    )


def check_map_is_there(path: Path, values: Tensor) -> None:
    """A mask is no segmentation of nnU-Net whose map is missing, where others have theirs.

    Args:
        path: The mask.
        values: Its values.

    Raises:
        ValueError: If there are maps of nnU-Net in the folder, but none of the mask's name, and it
            holds whole numbers alone.

    Examples:
        >>> check_map_is_there(Path("case.nii.gz"), torch.zeros(2, 2, 2))
    """
    own = path.with_name(map_name(path) + MAP_SUFFIX)
    if not own.exists() and any(map(is_nnunet_map, path.parent.iterdir())) and is_whole(values):
        raise ValueError(
            f"{path} must hold probabilities, or have a map {own.name} beside it, as others of its "
            "folder do, got whole numbers alone: if they are meant, pass `values=`"
        )


def load_nnunet_map(path: Path, *, label: int | None = None, regions: bool = True) -> Volume:
    """The probabilities of one class, or of all but the background, on the segmentation's grid.

    A map that is turned is refused, as it disagrees with the segmentation; an empty segmentation
    cannot show it.

    Args:
        path: `case.npz`, with the segmentation beside it.
        label: The class by its number in label maps; of regions, which do not add up to 1, the
            number of the region in the order of the channels, from 1. None for all classes but the
            background together, or the only region.
        regions: Whether the label may be that of a region; not where it is a truth's value too.

    Returns:
        Probabilities, float32, shape (D, H, W), with the affine of the segmentation.

    Raises:
        FileNotFoundError: If the map or the segmentation beside it does not exist.
        ValueError: If the file cannot be read, holds other than finite probabilities, lies on
            another grid than the segmentation or disagrees with it, there is no such class, or the
            label is of a region where it may not.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import save_nifti
        >>> folder = Path(tempfile.mkdtemp())
        >>> lesion = torch.zeros(4, 3, 2)
        >>> lesion[1, 1, 1] = 0.9
        >>> save_nifti(folder / "case.nii.gz", (lesion > 0.5).float(), torch.eye(4))
        >>> both = torch.stack([1 - lesion, lesion])
        >>> np.savez(folder / "case.npz", probabilities=both.numpy().transpose(0, 3, 2, 1))
        >>> load_nnunet_map(folder / "case.npz").data[1, 1, 1]
        tensor(0.9000)
    """
    beside = grid_file(path)
    segmentation = load_one_volume(beside)
    stored = load_npz_array(path, "probabilities")
    if stored.ndim != 4 or stored.dtype.kind != "f" or not len(stored):
        raise ValueError(
            f"{path} must hold probabilities of shape (classes, z, y, x), got {stored.dtype} of "
            f"shape {stored.shape}"
        )
    channels = stored.transpose(0, 3, 2, 1)
    if channels.shape[1:] != segmentation.grid:
        raise ValueError(
            f"{path} must have the grid of {beside.name}, {segmentation.grid}, got "
            f"{channels.shape[1:]}"
        )
    if not (np.isfinite(channels).all() and channels.min() >= -_ONE and channels.max() <= 1 + _ONE):
        held = f"values in [{channels.min():g}, {channels.max():g}]"
        raise ValueError(f"{path} must hold probabilities in [0, 1], got {held}")
    classes = len(channels) > 1 and bool((np.abs(channels.sum(axis=0) - 1) < _ONE).all())
    _check_agree(channels, segmentation, classes, (path, beside))
    if label is not None and not (classes or regions):
        raise refusal(
            "label",
            f"must be left out for {path}, whose channels do not add up to 1, as regions do: there "
            "it is a place, in the truth a value. Give truths of the region alone, with "
            "`truth_values=probabilities`",
        )
    chosen = _chosen(channels, classes, label, path)
    values = np.ascontiguousarray(chosen, dtype=np.float32).clip(0, 1)
    return Volume(torch.from_numpy(values), segmentation.affine)


def _check_agree(
    channels: np.ndarray, segmentation: Volume, classes: bool, names: tuple[Path, Path]
) -> None:
    """The map marks what the segmentation marks: else its axes are others."""
    inside = segmentation.data.numpy() > 0
    marked = channels.argmax(axis=0) > 0 if classes else (channels >= 0.5).any(axis=0)
    lacking = int((inside & ~marked).sum())
    if lacking > _APART * inside.sum():
        path, beside = names
        raise ValueError(
            f"{path} must agree with {beside.name}, but of the {int(inside.sum())} voxels that "
            f"this marks it lacks {lacking}: are they of one prediction, and its axes not turned, "
            "as nnU-Net's NibabelIOWithReorient does? Predict with SimpleITKIO or NibabelIO"
        )


def _chosen(channels: np.ndarray, classes: bool, label: int | None, path: Path) -> np.ndarray:
    """The map of one class or region; `classes` says that the first channel is the background."""
    first = 1 if classes else 0
    found = channels[first:]
    if label is None and not classes and len(found) > 1:
        raise ValueError(
            f"{path} holds {len(found)} channels that do not add up to 1, as regions do: name one "
            "of them, from 1, by `label=`"
        )
    if label is None:
        return found.sum(axis=0)
    if not 1 <= label <= len(found):
        raise refusal("label", f"must be one of 1 to {len(found)} in {path}, got {label}")
    return found[label - 1]
