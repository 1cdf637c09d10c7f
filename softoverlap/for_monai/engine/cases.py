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
    CHANNEL_NAME,
    IMAGE_SUFFIXES,
    Case,
    CaseTable,
    Fold,
    check_names,
    find_cases,
    find_files,
    image_name,
    load_case,
    noted_channels,
    noted_image,
    split_of,
    write_splits,
)

PARTS = ("train", "validation", "all")


def lesion_cases(
    folder: str | os.PathLike[str],
    part: str = "all",
    *,
    validation: float | int = 0.2,
    seed: int = 0,
    folds: int | str | os.PathLike[str] | None = None,
    fold: int | None = None,
    table: CaseTable | None = None,
    **layout: str | None,
) -> list[dict[str, Any]]:
    """The cases of a folder as MONAI's data lists hold them.

    A warning says how many files could not be paired, and what is odd about the data set.

    Args:
        folder: A folder with scans and their truth, in any layout of `find_cases`.
        part: `"train"`, `"validation"` or `"all"`; scans of one patient are never split.
        validation: Share of the patients for validation, in [0, 1), where neither `folds`, `fold`
            nor the data set says which (`split_of`); with 0, none, and training has all.
        seed: Seed of that share.
        folds: Number of folds by patient, in place of `validation`; or nnU-Net's
            `splits_final.json`. One in the folder is found by itself.
        fold: The fold to validate on, from 0; by default the first, where there are folds.
        table: What `find_cases` gave of the folder, which is then not searched again.
        layout: The other arguments of `find_cases`: `layout`, `images`, `frame`.

    Returns:
        A dict for each case: `name`, `patient`, and `case`, its files.

    Raises:
        FileNotFoundError: If the folder or the file of splits does not exist.
        ValueError: If there is no scan, an argument is out of range, a patient is in both parts,
            there are too few patients to split, or a layout is given beside a table.

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
    if table is None:
        table = find_cases(folder, **layout)
    elif layout:
        raise refusal("table", f"goes without {', '.join(layout)}: its cases are found")
    _warn_of_oddities(table)
    cases = list(table.cases)
    if part != "all":
        split = split_of(
            table, folder, validation=validation, seed=seed, folds=folds, fold=fold
        ).fold
        chosen = set(split.train if part == "train" else split.validation)
        cases = [case for case in cases if case.name in chosen]
    return [{"name": case.name, "patient": case.patient, "case": case} for case in cases]


def _warn_of_oddities(table: CaseTable) -> None:
    """What the data set says about itself, and which files are of no case."""
    _tell(table.notes)
    if table.unpaired:
        first = table.unpaired[0]
        files = "1 file is" if len(table.unpaired) == 1 else f"{len(table.unpaired)} files are"
        _tell([f"{files} left out; the first is {first.path}: {first.reason}"])


def write_split(
    path: str | os.PathLike[str],
    train: Sequence[Mapping[str, Any]],
    validation: Sequence[Mapping[str, Any]],
) -> None:
    """Keep what a run trained and validated on, as a `splits_final.json` of one fold.

    Args:
        path: The file; its folder is made, and an existing file is replaced.
        train: Cases of `lesion_cases` to train on.
        validation: Those to validate on.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import read_splits
        >>> path = Path(tempfile.mkdtemp()) / "run" / "splits_final.json"
        >>> write_split(path, [{"name": "a"}], [{"name": "b"}])
        >>> read_splits(path)
        [Fold(train=('a',), validation=('b',))]
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    names = (tuple(str(case["name"]) for case in part) for part in (train, validation))
    write_splits(path, [Fold(*names)])


def scans_to_detect(
    sources: Sequence[str | os.PathLike[str]] | str, channels: int = 1
) -> list[dict[str, Any]]:
    """Scans without truth as MONAI's data lists hold them.

    Args:
        sources: Files, folders, and patterns such as `"scans/*_flair.nii.gz"`.
        channels: Channels of a scan. Of two or more, each may have a file of its own, named as
            nnU-Net does: `sub-01_0000.nii.gz`, `sub-01_0001.nii.gz`.

    Returns:
        A dict for each scan: `name`, and `image`, its file, or the list of its files.

    Raises:
        FileNotFoundError: If a folder or pattern has no scan.
        ValueError: If two scans have one name, or a scan lacks the file of a channel.

    Examples:
        >>> scans_to_detect(["scans/sub-01.nii.gz"])
        [{'name': 'sub-01', 'image': 'scans/sub-01.nii.gz'}]
        >>> files = ["sub-01_0000.nii.gz", "sub-01_0001.nii.gz"]
        >>> scans_to_detect(files, channels=2)
        [{'name': 'sub-01', 'image': ['sub-01_0000.nii.gz', 'sub-01_0001.nii.gz']}]
    """
    sources = [sources] if isinstance(sources, str) else list(sources)
    files = find_files(sources, IMAGE_SUFFIXES, "sources")
    check_names(files, image_name, "sources")
    scans: dict[str, str | list[str]] = {}
    for path in sorted(files, key=image_name) if channels > 1 else files:
        name, of_channel = image_name(path), CHANNEL_NAME.fullmatch(image_name(path))
        if channels > 1 and of_channel:
            scan = scans.setdefault(of_channel["case"], [])
            if not isinstance(scan, list) or int(of_channel["channel"]) != len(scan):
                raise refusal("sources", f"must hold each channel of a scan once, got {path}")
            scan.append(str(path))
        elif name in scans:
            raise refusal("sources", f"must hold each scan once, got {name} again in {path}")
        else:
            scans[name] = str(path)
    for name, scan in scans.items():
        if isinstance(scan, list) and len(scan) != channels:
            raise refusal(
                "sources", f"must hold {channels} channels of {name}, got {', '.join(scan)}"
            )
    return [{"name": name, "image": image} for name, image in scans.items()]


class LoadLesionCased(Transform):
    """Reads a case as strictly as `load_case`: channels, soft mask, raters, classes and lesions.

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
        lesions_key: Key of the lesions, a list of `Lesion`, for `LesionInstancesd`: those of each
            class apart, regions within regions, and boxes of a list as they are.
        unlabelled_key: Key of the voxels that nobody has labelled, or None to refuse cases with
            such voxels, where what follows would take them for background.

    Raises:
        FileNotFoundError: On use, if a file does not exist.
        ValueError: If the threshold is out of range; on use, if a file cannot be read, does not
            fit, or has voxels without label where those are refused; the message names it.

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
        lesions_key: str = "lesions",
        unlabelled_key: str | None = "unlabelled",
    ) -> None:
        check_threshold(threshold=threshold)
        self.case_key, self.image_key, self.threshold = case_key, image_key, float(threshold)
        self.mask_key, self.raters_key, self.classes_key = mask_key, raters_key, classes_key
        self.lesions_key, self.unlabelled_key = lesions_key, unlabelled_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The case with tensors in place of files, channels first; all else stays.

        Args:
            data: A dict of `lesion_cases` or `scans_to_detect`.

        Returns:
            The image, float32, shape (C, *spatial), a `MetaTensor` whose affine leads from voxel
            indices to RAS mm; with truth the mask, shape (1, *spatial), the raters, shape
            (R, *spatial), the classes, int16, shape (1, *spatial), where lesions overlap those of
            the last; the lesions; and the voxels without label, bool, shape (1, *spatial), or None
            if all have one.
        """
        if self.case_key not in data:
            return {**data, self.image_key: _scan(data[self.image_key])}
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
        unlabelled = None
        if loaded.ignored is not None:
            if self.unlabelled_key is None:
                count = int(loaded.ignored.sum())
                raise ValueError(
                    f"{case.image} must have a label for each voxel, got {count} without"
                )
            unlabelled = _meta_tensor(loaded.ignored[None], loaded.affine, case.image)
        known: dict[Hashable, Any] = {self.lesions_key: loaded.lesions}
        if self.unlabelled_key is not None:
            known[self.unlabelled_key] = unlabelled
        return {**others, **tensors, **known}


def _scan(image: str | os.PathLike[str] | Sequence[str]) -> MetaTensor:
    """A scan without truth, from one file or from one a channel."""
    if isinstance(image, (str, os.PathLike)):
        paths = [Path(image)]
        volume, notes = noted_image(paths[0])
    else:
        paths = [Path(path) for path in image]
        volume, notes = noted_channels(paths)
    _tell(notes)
    return _meta_tensor(volume.data.reshape(-1, *volume.grid), volume.affine, paths[0])


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
