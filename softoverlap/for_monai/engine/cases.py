"""From a folder of scans to the tensors of a case."""

from __future__ import annotations

import os
import warnings
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float64
from monai.data.meta_tensor import MetaTensor
from monai.transforms.transform import Transform
from torch import Tensor

from softoverlap._checks import check_choice, check_threshold, refusal
from softoverlap.images import (
    IMAGE_SUFFIXES,
    Case,
    Fold,
    check_names,
    find_cases,
    find_files,
    folds_by_patient,
    image_name,
    load_case,
    noted_image,
    read_splits,
    split_by_patient,
)

PARTS = ("train", "validation", "all")


def lesion_cases(
    folder: str | os.PathLike[str],
    part: str = "all",
    *,
    validation: float | int = 0.2,
    seed: int = 0,
    folds: int | str | os.PathLike[str] | None = None,
    fold: int = 0,
    **layout: str | None,
) -> list[dict[str, Any]]:
    """The cases of a folder as MONAI's data lists hold them.

    Args:
        folder: A folder with scans and their truth, in any layout of `find_cases`.
        part: `"train"`, `"validation"` or `"all"`; scans of one patient are never split.
        validation: Share of the patients for validation, in [0, 1); with 0, none, and training has
            all.
        seed: Seed of the split.
        folds: Number of folds by patient, in place of `validation`; or nnU-Net's
            `splits_final.json`.
        fold: The fold to validate on, from 0.
        layout: The other arguments of `find_cases`: `layout`, `images`, `frame`.

    Returns:
        A dict for each case: `name`, `patient`, and `case`, its files.

    Raises:
        FileNotFoundError: If the folder or the file of splits does not exist.
        ValueError: If there is no scan, an argument is out of range, or there are too few patients
            to split.

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
    cases = list(find_cases(folder, **layout).cases)
    if part != "all":
        chosen = _names(cases, validation, seed, folds, fold)[PARTS.index(part)]
        cases = [case for case in cases if case.name in chosen]
    return [{"name": case.name, "patient": case.patient, "case": case} for case in cases]


def _names(
    cases: Sequence[Case],
    validation: float | int,
    seed: int,
    folds: int | str | os.PathLike[str] | None,
    fold: int,
) -> tuple[set[str], set[str]]:
    """Names of the cases to train on, and to validate on."""
    if folds is not None:
        drawn = isinstance(folds, int)
        every: list[Fold] = (
            folds_by_patient(cases, folds, seed) if drawn else read_splits(folds, cases)
        )
        if not 0 <= fold < len(every):
            raise refusal("fold", f"must lie in [0, {len(every) - 1}], got {fold}")
        return set(every[fold].train), set(every[fold].validation)
    if validation == 0:
        return {case.name for case in cases}, set()
    train, held_out = split_by_patient(cases, fraction=float(validation), seed=seed)
    return {case.name for case in train}, {case.name for case in held_out}


def scans_to_detect(sources: Sequence[str | os.PathLike[str]] | str) -> list[dict[str, Any]]:
    """Scans without truth as MONAI's data lists hold them.

    Args:
        sources: Files, folders, and patterns such as `"scans/*_flair.nii.gz"`.

    Returns:
        A dict for each scan: `name`, and `image`, its file.

    Raises:
        FileNotFoundError: If a folder or pattern has no scan.
        ValueError: If two scans have one name.

    Examples:
        >>> scans_to_detect(["scans/sub-01.nii.gz"])
        [{'name': 'sub-01', 'image': 'scans/sub-01.nii.gz'}]
    """
    sources = [sources] if isinstance(sources, str) else list(sources)
    files = find_files(sources, IMAGE_SUFFIXES, "sources")
    check_names(files, image_name, "sources")
    return [{"name": image_name(path), "image": str(path)} for path in files]


class LoadLesionCased(Transform):
    """Reads a case as strictly as `load_case`: channels, soft mask, raters and classes on one grid.

    The image keeps its axes; masks and raters with another axis order are reoriented to it without
    loss, and what does not fit is an error that names the file. What a user should know about a
    file is a warning. Without a mask, the raters' mean is the soft mask (`FuseRatersd` fuses in
    other ways); without raters, the mask stands for the only one, so that every case has both.

    Args:
        case_key: Key of the files, as of `lesion_cases`; a scan without truth has none.
        image_key: Key of the image, and of the file of a scan without truth.
        mask_key: Key of the soft mask.
        raters_key: Key of the raters' masks.
        classes_key: Key of the map of classes, 0 for the background and 1 for the first class.
        threshold: Lowest probability inside a lesion, in (0, 1].

    Raises:
        FileNotFoundError: On use, if a file does not exist.
        ValueError: If the threshold is out of range; on use, if a file cannot be read or does not
            fit; the message names it.

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
        self,
        case_key: str = "case",
        image_key: str = "image",
        mask_key: str = "mask",
        raters_key: str = "raters",
        classes_key: str = "classes",
        threshold: float | int = 0.5,
    ) -> None:
        check_threshold(threshold=threshold)
        self.case_key, self.image_key, self.threshold = case_key, image_key, float(threshold)
        self.mask_key, self.raters_key, self.classes_key = mask_key, raters_key, classes_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The case with tensors in place of files, channels first; all else stays.

        Args:
            data: A dict of `lesion_cases` or `scans_to_detect`.

        Returns:
            The image, float32, shape (C, *spatial), a `MetaTensor` whose affine leads from voxel
            indices to RAS mm; with truth the mask, shape (1, *spatial), the raters, shape
            (R, *spatial), and the classes, int16, shape (1, *spatial).
        """
        if self.case_key not in data:
            return {**data, self.image_key: _scan(Path(data[self.image_key]))}
        case: Case = data[self.case_key]
        loaded = load_case(case, threshold=self.threshold)
        _tell(loaded.notes)
        mask = loaded.mask[None]
        parts = {
            self.image_key: loaded.channels,
            self.mask_key: mask,
            self.raters_key: mask if loaded.raters is None else loaded.raters,
            self.classes_key: loaded.class_map()[None],
        }
        others = {key: value for key, value in data.items() if key != self.case_key}
        tensors = {key: _meta_tensor(v, loaded.affine, case.image) for key, v in parts.items()}
        return {**others, **tensors}


def _scan(path: Path) -> MetaTensor:
    volume, notes = noted_image(path)
    _tell(notes)
    return _meta_tensor(volume.data.reshape(-1, *volume.grid), volume.affine, path)


def _tell(notes: Sequence[str]) -> None:
    for note in notes:
        warnings.warn(note, stacklevel=4)


def _meta_tensor(data: Tensor, affine: Float64[Tensor, "4 4"], path: Path) -> MetaTensor:
    """With what MONAI's own readers say of a file."""
    meta = {
        "filename_or_obj": str(path),
        "original_affine": affine.clone(),
        "spatial_shape": torch.tensor(data.shape[1:]),
        "original_channel_dim": 0,
        "space": "RAS",
    }
    return MetaTensor(data.contiguous(), affine=affine.clone(), meta=meta)
