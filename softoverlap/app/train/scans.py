"""Scans on the grid and in the intensities that the network works in, and the way back."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from scipy import ndimage
from torch import Tensor

from softoverlap._checks import check_choice, refusal
from softoverlap._types import plain
from softoverlap.images import CaseTable, LoadedCase, Volume, axis_codes, check_one_channel
from softoverlap.lesion import Lesion

SAME_SPACING = 0.01
"""Spacings whose edges differ by no more than this share are the same."""


@dataclass(frozen=True)
class TrainingScan:
    """A scan to train on, as it was read.

    Args:
        name: Its name for messages.
        image: Intensities with their affine.
        lesions: Lesions in voxels of the image, possibly none.

    Raises:
        ValueError: If the scan has channels.

    Examples:
        >>> affine = torch.eye(4, dtype=torch.float64)
        >>> TrainingScan("scan", Volume(torch.zeros(8, 8, 8), affine), []).lesions
        []
    """

    name: str
    image: Volume
    lesions: Sequence[Lesion]

    def __post_init__(self) -> None:
        check_one_channel(self.image, name=self.name)


def check_trainable(table: CaseTable) -> None:
    """Check that a data set has one channel and one class, before its scans are read.

    Args:
        table: What `find_cases` found.

    Raises:
        ValueError: If it has several of one; the message names them.

    Examples:
        >>> from softoverlap.images import CaseTable
        >>> check_trainable(CaseTable((), (), channels=("T1", "T2")))
        Traceback (most recent call last):
        ValueError: data must have one channel and one class for this training, got channels T1, ...
    """
    several = [
        f"{what} {', '.join(names)}"
        for what, names in (("channels", table.channels), ("classes", table.classes))
        if len(names) > 1
    ]
    if several:
        raise refusal(
            "data",
            f"must have one channel and one class for this training, got {' and '.join(several)}: "
            "the bundle lesion_detection is the way that takes them",
        )


def training_scan(case: LoadedCase) -> TrainingScan:
    """A case of a training folder, ready to train on.

    Args:
        case: What `load_case` read.

    Returns:
        The scan with its lesions.

    Raises:
        ValueError: If the case has several channels or classes.

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import find_cases, load_case, write_phantoms
        >>> folder = tempfile.mkdtemp()
        >>> write_phantoms(folder, 1, seed=0)
        >>> training_scan(load_case(find_cases(folder).cases[0])).name
        'phantom-0000'
    """
    if len(case.channels) > 1 or len(case.classes) > 1:
        raise ValueError(
            f"case {case.name} must have one channel and one class, got {len(case.channels)} and "
            f"{len(case.classes)}"
        )
    return TrainingScan(case.name, Volume(case.image, case.affine), case.lesions)


@dataclass(frozen=True)
class Intensity:
    """How intensities are normalised.

    Args:
        method: `"scan"` for each scan's own mean and spread, `"fixed"` for the ones given.
        mean: Mean of the training set; only for `"fixed"`.
        spread: Standard deviation of the training set; only for `"fixed"`.

    Raises:
        ValueError: If the method is unknown, or the spread not above 0.

    Examples:
        >>> Intensity("fixed", mean=10.0, spread=5.0)(torch.tensor([[[0.0, 20.0]]]))
        tensor([[[-2.,  2.]]])
    """

    method: str
    mean: float = 0.0
    spread: float = 1.0

    def __post_init__(self) -> None:
        check_choice("method", self.method, ("scan", "fixed"))
        if not (math.isfinite(self.mean) and 0 < self.spread < math.inf):
            raise ValueError(
                "mean must be finite and spread above 0, "
                f"got mean {self.mean} and spread {self.spread}"
            )

    def __call__(self, data: Shaped[Tensor, "*spatial"]) -> Float[Tensor, "*spatial"]:
        """Intensities with mean 0 and spread 1, float32."""
        mean, spread = (self.mean, self.spread)
        if self.method == "scan":
            mean, spread = robust_moments(data)
        return (plain(data).float() - mean) / spread


def robust_moments(data: Shaped[Tensor, "*spatial"]) -> tuple[float, float]:
    """Mean and standard deviation between the percentiles 0.5 and 99.5; the spread is never 0."""
    values = plain(data).detach().cpu().double().numpy()
    low, high = np.percentile(values, (0.5, 99.5))
    middle = values[(values >= low) & (values <= high)]
    spread = float(middle.std())
    return float(middle.mean()), spread if spread > 0 else 1.0


def fit_intensity(scans: Sequence[TrainingScan], method: str) -> Intensity:
    """The normalisation that a training set asks for."""
    if method == "scan":
        return Intensity("scan")
    moments = np.array([robust_moments(scan.image.data) for scan in scans])
    second = float((moments[:, 0] ** 2 + moments[:, 1] ** 2).mean())
    mean = float(moments[:, 0].mean())
    spread = math.sqrt(max(second - mean**2, 0.0))
    return Intensity("fixed", mean, spread if spread > 0 else 1.0)


def median_spacing(scans: Sequence[TrainingScan]) -> tuple[float, ...]:
    """Median of the voxels' edges, axis by axis, in mm."""
    edges = np.median([scan.image.spacing for scan in scans], axis=0)
    return tuple(round(float(edge), 6) for edge in edges)


def common_axes(scans: Sequence[TrainingScan]) -> str:
    """Directions of the voxel axes of most scans; a warning names one that differs.

    Nothing is reoriented: the network sees the axes as stored.
    """
    codes = [axis_codes(scan.image.affine) for scan in scans]
    usual = max(codes, key=codes.count)
    others = [scan.name for scan, code in zip(scans, codes, strict=True) if code != usual]
    if others:
        warn_of_axes(others, usual, f"the {len(scans)} training scans")
    return usual


def warn_of_axes(names: Sequence[str], usual: str, whose: str) -> None:
    """Warn about scans with another axis order or direction."""
    warnings.warn(
        f"{len(names)} scans, first {names[0]}, have voxel axes that do not point to {usual} as "
        f"those of {whose}; scans are not reoriented: store all with one axis order",
        stacklevel=3,
    )


def zoom_factor(spacing: Sequence[float], target: Sequence[float]) -> tuple[float, ...]:
    """Old voxels per new voxel on each axis; exactly 1 on all where the spacings are the same."""
    factor = tuple(new / old for old, new in zip(spacing, target, strict=True))
    same = all(abs(ratio - 1) <= SAME_SPACING for ratio in factor)
    return (1.0,) * len(factor) if same else factor


def zoom_size(shape: Sequence[int], factor: Sequence[float]) -> tuple[int, ...]:
    """Voxels of the new grid; its first corner is that of the old one."""
    return tuple(max(1, round(side / f)) for side, f in zip(shape, factor, strict=True))


def zoom(
    data: Float[Tensor, "*spatial"],
    factor: Sequence[float],
    size: Sequence[int],
    *,
    start: Sequence[float] = (0.0, 0.0, 0.0),
    padding: str = "border",
) -> Float[Tensor, "*new"]:
    """Resample linearly onto voxels of `factor` old ones, smoothed first where these are larger.

    `start` is the old coordinate of the new grid's first corner; `padding` says what lies outside,
    `"border"` or `"zeros"`.
    """
    if all(f == 1 for f in factor) and tuple(size) == tuple(data.shape) and not any(start):
        return data
    sigma = [max(0.0, (f - 1) / 2) for f in factor]
    mode = "nearest" if padding == "border" else "constant"
    smooth = torch.from_numpy(ndimage.gaussian_filter(data.cpu().numpy(), sigma, mode=mode))
    lines = [
        2 * ((torch.arange(n, dtype=torch.float64) + 0.5) * f + s) / side - 1
        for n, f, s, side in zip(size, factor, start, data.shape, strict=True)
    ]
    grid = torch.stack(torch.meshgrid(*lines, indexing="ij"), dim=-1).flip(-1).to(data.dtype)
    sampled = F.grid_sample(
        smooth[None, None], grid[None], padding_mode=padding, align_corners=False
    )
    return sampled[0, 0].to(data.device)


def zoom_lesion(lesion: Lesion, factor: Sequence[float]) -> Lesion:
    """The lesion in voxels of the new grid; its volume in mm³ stays."""
    if all(f == 1 for f in factor):
        return lesion
    margin = [max(1, math.ceil(f)) for f in factor]  # smoothing and interpolation spread the edge
    padded = F.pad(lesion.crop.float(), [m for m in reversed(margin) for _ in range(2)])
    offset = [o - m for o, m in zip(lesion.offset.tolist(), margin, strict=True)]
    shape = padded.shape
    first = [math.floor(o / f) for o, f in zip(offset, factor, strict=True)]
    last = [math.ceil((o + n) / f) for o, n, f in zip(offset, shape, factor, strict=True)]
    size = [max(1, b - a) for a, b in zip(first, last, strict=True)]
    start = [a * f - o for a, f, o in zip(first, factor, offset, strict=True)]
    crop = zoom(padded, factor, size, start=start, padding="zeros").clamp(0, 1)
    scale = torch.tensor([*factor, *factor], dtype=torch.float32)
    return replace(
        lesion,
        box=lesion.box.float() / scale,
        crop=crop,
        offset=torch.tensor(first),
        centre=lesion.centre.float() / scale[: len(factor)],
    )
