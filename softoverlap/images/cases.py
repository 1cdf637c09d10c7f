"""Cases of a training data set, read: scan, mask, lesions, and what is odd about the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float32, Float64, Int16
from torch import Tensor

from softoverlap.images.alignment import reorient_to
from softoverlap.images.case_truth import truth_of, window_of
from softoverlap.images.geometry import Volume, noted_same_grid
from softoverlap.images.images import noted_image, noted_one_volume
from softoverlap.images.layouts.record import ONE_CLASS, Case
from softoverlap.images.noted import Noted
from softoverlap.lesion import Lesion


@dataclass(frozen=True)
class LoadedCase:
    """A scan with its truth.

    Args:
        name: Name of the case.
        channels: Intensities, shape (C, D, H, W).
        mask: Probabilities that a voxel is of any lesion, shape (D, H, W).
        lesions: Its lesions, possibly none; the label of each is the place of its class in
            `classes`.
        spacing: Edge lengths of a voxel in mm.
        affine: Voxel indices to RAS mm of voxel centres, shape (4, 4).
        notes: What a user should know about the files.
        classes: Names of the classes.
        ignored: Voxels that nobody has labelled, shape (D, H, W), or None if all are labelled.
        raters: Probabilities of each rater, shape (R, D, H, W), or None without raters.

    Examples:
        >>> blank = torch.zeros(8, 8, 4)
        >>> affine = torch.eye(4, dtype=torch.float64)
        >>> case = LoadedCase("sub-01", blank[None], blank, [], (1.0, 1.0, 1.0), affine)
        >>> case.image.shape, case.lesions
        (torch.Size([8, 8, 4]), [])
    """

    name: str
    channels: Float32[Tensor, "channels depth height width"]
    mask: Float32[Tensor, "depth height width"]
    lesions: list[Lesion]
    spacing: tuple[float, ...]
    affine: Float64[Tensor, "4 4"]
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ONE_CLASS
    ignored: Bool[Tensor, "depth height width"] | None = None
    raters: Float32[Tensor, "raters depth height width"] | None = None

    @property
    def image(self) -> Float32[Tensor, "depth height width"]:
        """Intensities of the first channel."""
        return self.channels[0]

    def class_map(self) -> Int16[Tensor, "depth height width"]:
        """0 for no lesion, otherwise 1 + the lesion's label; where lesions overlap, the last's."""
        classes = torch.zeros(self.mask.shape, dtype=torch.int16)
        for lesion in self.lesions:
            there = classes[window_of(lesion)]
            there[lesion.crop > 0] = lesion.label + 1
        return classes


def load_case(case: Case, *, threshold: float = 0.5) -> LoadedCase:
    """Read the files of a case and find its lesions.

    With raters, lesions are where a rater marked one, whatever the mask says; the mask gives the
    probabilities there, or without a mask the raters' mean. With a label map, the lesions of each
    class are the components of its voxels. Of a list of boxes, each box is a lesion, filled by
    its ellipsoid (`Lesion.from_box`). Channels and masks with another axis order than the first
    channel are reoriented without loss. The soft edge of a lesion is every positive voxel that is
    connected to it (`lesions_from_mask` without `halo`). Notes say if the mask and the raters
    disagree, if there are positive voxels but no lesion, and what is odd about the files.

    Args:
        case: The files.
        threshold: Lowest probability inside a lesion, in (0, 1]; see `lesions_from_mask`.

    Returns:
        Channels, mask, lesions, spacing, affine and notes. Spacing and affine are those of the
        first channel, also where the affine of another file differs by up to 0.6 voxels.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If the case has neither mask, raters, label map nor boxes, a file cannot be
            read, a scan has another number of channels than the data set, a channel or a mask is
            not on the scan's grid, a mask has values outside [0, 1], a label map has a label that
            the data set does not name, or a box lies outside the scan. The message names the file.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import find_cases, write_phantoms
        >>> folder = tempfile.mkdtemp()
        >>> write_phantoms(folder, 1, seed=0)
        >>> load_case(find_cases(folder).cases[0]).image.shape
        torch.Size([96, 96, 64])
    """
    scan, notes = _scan(case)
    truth = truth_of(case, scan, threshold)
    return LoadedCase(
        case.name, scan.data, truth.mask, truth.lesions, scan.spacing, scan.affine,
        (*notes, *truth.notes), case.classes, truth.ignored, truth.raters,
    )  # fmt: skip


def _scan(case: Case) -> Noted[Volume]:
    """All channels, shape (C, D, H, W), on the grid of the first file."""
    if case.further:
        return noted_channels(case.images)
    if len(case.channels) < 2:
        one, notes = noted_one_volume(case.image)
        return Volume(one.data[None], one.affine), notes
    scan, notes = noted_image(case.image)
    count = len(scan.data) if scan.data.ndim == 4 else 1
    if count != len(case.channels):
        raise ValueError(
            f"{case.image} must hold {len(case.channels)} channels, {', '.join(case.channels)}, "
            f"got {count}"
        )
    return scan, notes


def noted_channels(paths: Sequence[Path]) -> Noted[Volume]:
    """A scan of which each channel has its own file, and what a user should know of the files.

    Args:
        paths: The files, in the order of the channels.

    Returns:
        All channels, shape (C, D, H, W), on the grid of the first, and notes.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a file cannot be read, or is not on the grid of the first; the message names
            it.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import save_nifti
        >>> path = Path(tempfile.mkdtemp()) / "a_0000.nii.gz"
        >>> save_nifti(path, torch.zeros(4, 4, 4), torch.eye(4))
        >>> noted_channels([path, path])[0].data.shape
        torch.Size([2, 4, 4, 4])
    """
    first, notes = noted_one_volume(paths[0])
    channels = [first.data]
    for path in paths[1:]:
        stored, on_file = noted_one_volume(path)
        channel = reorient_to(stored, first.affine)
        _, on_grid = noted_same_grid(first, channel, names=(str(paths[0]), str(path)))
        channels.append(channel.data)
        notes += (*on_file, *on_grid)
    return Volume(torch.stack(channels), first.affine), notes
