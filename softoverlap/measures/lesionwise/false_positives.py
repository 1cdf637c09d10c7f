"""What a prediction makes up: the count and the volume of its lesions that touch no true one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from softoverlap._checks import check_choice
from softoverlap._units import MM3_PER_ML
from softoverlap.measures.lesionwise.maps import LesionScan
from softoverlap.measures.lesionwise.measure import RaterLesionMeasure

UNITS = ("count", "ml", "mm3")


@dataclass(frozen=True)
class FalsePositiveFigures:
    """False positives of a class, a scan on average.

    Args:
        count: How many a scan.
        volume_ml: Their volume a scan, in ml, NaN where a scan has no known spacing.
        scans: How many scans that is the mean of.

    Examples:
        >>> FalsePositiveFigures(count=1.5, volume_ml=0.2, scans=2).count
        1.5
    """

    count: float
    volume_ml: float
    scans: int


@dataclass(frozen=True, kw_only=True)
class FalsePositives(RaterLesionMeasure):
    """Count or volume of the false positives of a scan, at least 0; lower is better.

    A false positive is a predicted lesion (a component of the voxels at or above the threshold)
    that shares no voxel with a true one; with raters, what one of them marked is none. Its volume
    is soft: Σ probability of all its voxels, halo included, times the voxel's volume; on hard masks
    autoPET's false-positive volume. `details` gives count and volume.

    Args:
        measured_in: "count", or the volume in "ml" or "mm3".

    References:
        Gatidis et al., autoPET, https://doi.org/10.1038/s42256-024-00912-9

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[1.0, 1.0, 0.0, 0.0, 0.0]]])
        >>> pred = torch.tensor([[[0.0, 1.0, 0.0, 0.5, 0.5]]])
        >>> FalsePositives()(pred, target)
        tensor([[1.]], dtype=torch.float64)
        >>> FalsePositives(measured_in="mm3", spacing=2.0)(pred, target)
        tensor([[2.]], dtype=torch.float64)
    """

    measured_in: str = "count"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("measured_in", self.measured_in, UNITS)

    @property
    def width(self) -> int:
        """Count, volume in mm³, and one scan."""
        return 3

    @property
    def in_mm(self) -> bool:
        """Whether volumes matter."""
        return super().in_mm or self.measured_in != "count"

    def count(self, scan: LesionScan) -> Sequence[float]:
        """Count, volume in mm³, and one scan."""
        false = scan.touches().sum(axis=0) == 0
        mm3 = scan.pred.sizes()[false].sum() * scan.voxel_mm3
        return [float(false.sum()), float(mm3), 1.0]

    def score(self, statistics: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape"]:
        """Count or volume a scan."""
        count, mm3, scans = statistics.unbind(-1)
        return {"count": count, "mm3": mm3, "ml": mm3 / MM3_PER_ML}[self.measured_in] / scans

    def details(self, statistics: Float[Tensor, "items 3"]) -> FalsePositiveFigures:
        """Count and volume, a scan on average."""
        count, mm3, scans = statistics.sum(dim=0).tolist()
        return FalsePositiveFigures(count / scans, mm3 / scans / MM3_PER_ML, int(scans))
