"""From a folder of scans to the tensors of a case."""

from __future__ import annotations

import os
import warnings
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import Transform
from torch import Tensor

from softoverlap._checks import check_choice, check_probabilities
from softoverlap.images import (
    IMAGE_SUFFIXES,
    Case,
    Volume,
    check_names,
    check_same_grid,
    find_cases,
    find_files,
    image_name,
    noted_image,
    noted_one_volume,
    reorient_to,
    split_by_patient,
)

PARTS = ("train", "validation", "all")


def lesion_cases(
    folder: str | os.PathLike[str],
    part: str = "all",
    *,
    validation: float | int = 0.2,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """The cases of a folder as MONAI's data lists hold them.

    Args:
        folder: A folder with scans and masks, as `find_cases` reads it.
        part: `"train"`, `"validation"` or `"all"`; scans of one patient are never split.
        validation: Share of the patients for validation, in [0, 1); with 0, none, and training has
            all.
        seed: Seed of the split.

    Returns:
        A dict for each case: `name`, `patient`, `image`, a list of files, and `mask` and `raters`
        where it has them.

    Raises:
        FileNotFoundError: If the folder does not exist.
        ValueError: If it has no scan, `part` is unknown, or there are too few patients to split.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import write_phantoms
        >>> folder = tempfile.mkdtemp()
        >>> write_phantoms(folder, 2, seed=0)
        >>> [case["name"] for case in lesion_cases(folder)]
        ['phantom-0000', 'phantom-0001']
        >>> len(lesion_cases(folder, "train", validation=0.5))
        1
    """
    check_choice("part", part, PARTS)
    cases = list(find_cases(folder).cases)
    if part != "all" and validation > 0:
        split = split_by_patient(cases, fraction=float(validation), seed=seed)
        cases = split[PARTS.index(part)]
    elif part == "validation":
        cases = []
    return [_as_dict(case) for case in cases]


def scans_to_detect(sources: Sequence[str | os.PathLike[str]] | str) -> list[dict[str, Any]]:
    """Scans without truth as MONAI's data lists hold them.

    Args:
        sources: Files, folders, and patterns such as `"scans/*_flair.nii.gz"`.

    Returns:
        A dict for each scan: `name`, and `image`, a list of one file.

    Raises:
        FileNotFoundError: If a folder or pattern has no scan.
        ValueError: If two scans have one name.

    Examples:
        >>> scans_to_detect(["scans/sub-01.nii.gz"])[0]["name"]
        'sub-01'
    """
    sources = [sources] if isinstance(sources, str) else list(sources)
    files = find_files(sources, IMAGE_SUFFIXES, "sources")
    check_names(files, image_name, "sources")
    return [{"name": image_name(path), "image": [str(path)]} for path in files]


def _as_dict(case: Case) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": case.name, "patient": case.patient, "image": [str(case.image)]}
    if case.mask is not None:
        entry["mask"] = str(case.mask)
    if case.raters:
        entry["raters"] = [str(path) for path in case.raters]
    return entry


class LoadLesionCased(Transform):
    """Reads a case: its channels as image, its soft mask, and its raters, all on one grid.

    Files are read as strictly as by `load_case`: the image keeps its axes, other channels, masks
    and raters with another axis order are reoriented to it without loss, grids that lie apart and
    values outside [0, 1] are errors that name the file, and what a user should know is a warning.
    Without a mask, the raters' mean is the soft mask; `FuseRatersd` fuses in other ways. Without
    raters, the mask stands for the only one, so that every case has both.

    Args:
        image_key: Key of the image: a file or a list of files, one or more channels each.
        mask_key: Key of the soft mask's file; a scan without truth has none, and no raters.
        raters_key: Key of the list of the raters' files.

    Raises:
        FileNotFoundError: On use, if a file does not exist.
        ValueError: On use, if a file cannot be read or does not fit; the message names it.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import write_phantoms
        >>> folder = tempfile.mkdtemp()
        >>> write_phantoms(folder, 1, seed=0, shape=(32, 32, 24))
        >>> case = LoadLesionCased()(lesion_cases(folder)[0])
        >>> tuple(case["image"].shape), tuple(case["mask"].shape), len(case["raters"])
        ((1, 32, 32, 24), (1, 32, 32, 24), 5)
    """

    def __init__(
        self, image_key: str = "image", mask_key: str = "mask", raters_key: str = "raters"
    ) -> None:
        self.image_key, self.mask_key, self.raters_key = image_key, mask_key, raters_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The case with tensors in place of files, channels first; all else stays.

        Args:
            data: A dict of `lesion_cases` or `scans_to_detect`.

        Returns:
            The image, float32, shape (C, *spatial), a `MetaTensor` whose affine leads from voxel
            indices to RAS mm; the mask, shape (1, *spatial); the raters, shape (R, *spatial).
        """
        read = dict(data)
        files = _files(data[self.image_key])
        image = _channels(files)
        read[self.image_key] = _meta_tensor(image.data, image, files[0])
        raters = [_mask(path, image, files[0]) for path in _files(data.get(self.raters_key))]
        masks = [_mask(path, image, files[0]) for path in _files(data.get(self.mask_key))]
        if masks or raters:
            mask = masks[0] if masks else torch.stack(raters).mean(dim=0)
            several = torch.stack(raters or [mask])
            read[self.mask_key] = _meta_tensor(mask[None], image, files[0])
            read[self.raters_key] = _meta_tensor(several, image, files[0])
        return read


def _files(entry: Any) -> list[Path]:
    if entry is None:
        return []
    one = isinstance(entry, str | os.PathLike)
    return [Path(entry)] if one else [Path(path) for path in entry]


def _channels(paths: Sequence[Path]) -> Volume:
    """The channels of all files, on the grid of the first."""
    if not paths:
        raise ValueError("data must name the files of the image, got none")
    first = _told(*noted_image(paths[0]))
    parts = [first.data.reshape(-1, *first.grid)]
    for path in paths[1:]:
        other = reorient_to(_told(*noted_image(path)), first.affine)
        check_same_grid(first, other, names=(str(paths[0]), str(path)))
        parts.append(other.data.reshape(-1, *other.grid))
    return Volume(torch.cat(parts), first.affine)


def _mask(path: Path, image: Volume, image_path: Path) -> Float[Tensor, "*spatial"]:
    """Probabilities on the grid of the image."""
    mask = reorient_to(_told(*noted_one_volume(path)), image.affine)
    check_same_grid(image, mask, names=(str(image_path), str(path)))
    check_probabilities(**{str(path): mask.data}, validate=True)
    return mask.data


def _told(volume: Volume, notes: tuple[str, ...]) -> Volume:
    for note in notes:
        warnings.warn(note, stacklevel=4)
    return volume


def _meta_tensor(data: Tensor, image: Volume, path: Path) -> MetaTensor:
    """With what MONAI's own readers say of a file."""
    meta = {
        "filename_or_obj": str(path),
        "original_affine": image.affine.clone(),
        "spatial_shape": torch.tensor(image.grid),
        "original_channel_dim": 0,
        "space": "RAS",
    }
    return MetaTensor(data.float().contiguous(), affine=image.affine.clone(), meta=meta)
