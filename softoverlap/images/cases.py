"""Cases of a training folder: splitting by patient, and reading."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from softoverlap._checks import check_probabilities, refusal
from softoverlap.images.alignment import reorient_to
from softoverlap.images.folders import Case
from softoverlap.images.geometry import Volume, noted_same_grid
from softoverlap.images.images import noted_one_volume
from softoverlap.images.noted import Noted
from softoverlap.lesion import Lesion
from softoverlap.lesions import lesions_from_mask

MAX_DISAGREEMENT = 0.1
"""Share by which the sizes of a mask and of its raters' mean may differ without a warning."""


@dataclass(frozen=True)
class LoadedCase:
    """A scan with its truth.

    Args:
        name: Name of the case.
        image: Intensities, shape (D, H, W).
        mask: Probabilities, shape (D, H, W).
        lesions: Its lesions, possibly none.
        spacing: Edge lengths of a voxel in mm.
        affine: Voxel indices to RAS mm of voxel centres, shape (4, 4).
        notes: What a user should know about the files.

    Examples:
        >>> blank = torch.zeros(8, 8, 4)
        >>> affine = torch.eye(4, dtype=torch.float64)
        >>> LoadedCase("sub-01", blank, blank, [], (1.0, 1.0, 1.0), affine).lesions
        []
    """

    name: str
    image: Float32[Tensor, "depth height width"]
    mask: Float32[Tensor, "depth height width"]
    lesions: list[Lesion]
    spacing: tuple[float, ...]
    affine: Float64[Tensor, "4 4"]
    notes: tuple[str, ...] = ()


def split_by_patient(
    cases: Sequence[Case], *, fraction: float, seed: int
) -> tuple[list[Case], list[Case]]:
    """Split cases into training and validation so that no patient is in both.

    Args:
        cases: The cases, of at least two patients.
        fraction: Share of the patients for validation, in (0, 1); each side gets at least one
            patient.
        seed: Seed of the draw; the order of the cases does not matter.

    Returns:
        Training and validation cases, by name.

    Raises:
        ValueError: If the fraction is out of range or there are fewer than two patients.

    Examples:
        >>> from softoverlap.images import patient_of
        >>> names = ["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"]
        >>> cases = [Case(n, patient_of(n), Path(n), None, ()) for n in names]
        >>> train, validation = split_by_patient(cases, fraction=0.5, seed=0)
        >>> len(train) + len(validation)
        3
    """
    if not 0 < fraction < 1:
        raise refusal("fraction", f"must lie between 0 and 1, got {fraction!r}")
    patients = sorted({case.patient for case in cases})
    if len(patients) < 2:
        raise ValueError(
            f"cases must be of two patients at least, got {len(cases)} cases of {patients}; "
            "if this is wrong, list the patients in patients.csv"
        )
    count = min(max(round(fraction * len(patients)), 1), len(patients) - 1)
    order = np.random.default_rng(seed).permutation(len(patients))
    chosen = {patients[index] for index in order[:count]}
    ordered = sorted(cases, key=lambda case: case.name)
    train = [case for case in ordered if case.patient not in chosen]
    return train, [case for case in ordered if case.patient in chosen]


def load_case(case: Case, *, threshold: float = 0.5) -> LoadedCase:
    """Read the files of a case and find its lesions.

    With raters, lesions are where a rater marked one, whatever the mask says; the mask gives the
    probabilities there, or without a mask the raters' mean. Masks with another axis order than the
    scan are reoriented without loss. The soft edge of a lesion is every positive voxel that is
    connected to it (`lesions_from_mask` without `halo`). Notes say if the mask and the raters
    disagree, if there are positive voxels but no lesion, and what is odd about the files.

    Args:
        case: The files.
        threshold: Lowest probability inside a lesion, in (0, 1]; see `lesions_from_mask`.

    Returns:
        Scan, mask, lesions, spacing, affine and notes. Spacing and affine are those of the scan,
        also where the mask's affine differs by up to 0.6 voxels.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the case has neither mask nor raters, a file cannot be read, or a mask is not
            on the scan's grid or has values outside [0, 1]. The message names the file.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import find_cases, write_phantoms
        >>> folder = tempfile.mkdtemp()
        >>> write_phantoms(folder, 1, seed=0)
        >>> load_case(find_cases(folder).cases[0]).image.shape
        torch.Size([96, 96, 64])
    """
    image, notes = noted_one_volume(case.image)
    stack = [_probabilities(path, image, case.image) for path in case.raters]
    notes += tuple(note for _, on_rater in stack for note in on_rater)
    raters = torch.stack([rater for rater, _ in stack]) if stack else None
    if case.mask is not None:
        mask, more = _probabilities(case.mask, image, case.image)
        notes += more
    elif raters is not None:
        mask = raters.mean(dim=0)
    else:
        raise ValueError(f"case {case.name} must have a mask or raters, got neither")
    lesions = lesions_from_mask(
        mask, spacing=image.lesion_spacing, raters=raters, threshold=threshold
    )
    doubts = _doubts(case, mask, raters, threshold, has_lesions=bool(lesions))
    notes += tuple(f"case {case.name}: {doubt}" for doubt in doubts)
    return LoadedCase(case.name, image.data, mask, lesions, image.spacing, image.affine, notes)


def _probabilities(path: Path, image: Volume, image_path: Path) -> Noted[Tensor]:
    """A mask on the grid of the scan, its axes flipped and permuted to those of the scan."""
    stored, notes = noted_one_volume(path)
    mask = reorient_to(stored, image.affine)
    _, on_grid = noted_same_grid(image, mask, names=(str(image_path), str(path)))
    check_probabilities(**{str(path): mask.data}, validate=True)
    return mask.data, notes + on_grid


def _doubts(
    case: Case, mask: Tensor, raters: Tensor | None, threshold: float, *, has_lesions: bool
) -> list[str]:
    """What may be a mistake in the files."""
    doubts = []
    peak = float((mask if raters is None else raters).max())
    if not has_lesions and peak > 0:
        doubts.append(
            f"no lesion, although voxels are positive: the highest is {peak:.3g}, below the "
            f"threshold {threshold:g}"
        )
    if case.mask is not None and raters is not None:
        given, mean = float(mask.double().sum()), float(raters.double().mean(dim=0).sum())
        if abs(given - mean) > MAX_DISAGREEMENT * max(given, mean):
            doubts.append(
                f"the mask holds {given:.6g} voxels and the raters' mean {mean:.6g}; lesions are "
                "those of the raters, with the probabilities of the mask"
            )
    return doubts
