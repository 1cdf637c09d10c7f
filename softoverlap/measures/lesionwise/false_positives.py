"""What a prediction makes up: the count and the volume of its lesions that touch no true one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from monai.utils.enums import MetricReduction
from torch import Tensor

from softoverlap._checks import check_choice
from softoverlap._types import Masks, Targets, VoxelWeights
from softoverlap._units import MM3_PER_ML
from softoverlap.measures.lesionwise._metric import LesionMetric, RaterMasks
from softoverlap.measures.lesionwise.maps import LesionRules, LesionScan
from softoverlap.measures.mask_inputs import MaskInputs

MEASURES = ("count", "ml", "mm3")


def compute_false_positives(
    y_pred: Masks,
    y: Targets,
    include_background: bool = True,
    num_classes: int | None = None,
    *,
    measure: str = "count",
    threshold: float = 0.5,
    target_threshold: float | None = None,
    connectivity: int = 26,
    min_mm3: float = 0.0,
    halo: float = 0.01,
    spacing: Sequence[float] | float | None = None,
    raters: RaterMasks | None = None,
    mask: VoxelWeights | None = None,
    ignore_index: int | None = None,
    validate: bool | None = None,
) -> Float[Tensor, "batch classes"]:
    """Count or volume of the false positives of each item and class.

    A false positive is a predicted lesion (a component of the voxels at or above the threshold)
    that shares no voxel with a true one. Its volume is soft: Σ probability of all its voxels, halo
    included, times the voxel's volume; on hard masks autoPET's false-positive volume.

    Args:
        y_pred: Probabilities, shape (B, C, *spatial), or labels (B, 1, *spatial) with
            `num_classes`.
        y: Probabilities of the same shape, or labels (B, 1, *spatial) where there are several
            classes.
        include_background: Whether channel 0 counts.
        num_classes: Number of classes of single-channel labels, background included.
        measure: "count", or the volume in "ml" or "mm3".
        threshold: Lowest probability inside a lesion, in (0, 1].
        target_threshold: The same for the target and the raters; by default `threshold`.
        connectivity: Neighbours of a voxel: 6, 18 or 26 in 3D, 4 or 8 in 2D; 26 means all
            neighbours in any dimension.
        min_mm3: Lesions of either mask of a smaller volume are left out, in mm³, and so are
            predicted ones that touch true ones of a smaller volume only.
        halo: Lowest probability that a lesion's halo keeps, from 0 to the threshold.
        spacing: Edges of a voxel in mm; by default those of the first MetaTensor. Needed only for
            volumes and `min_mm3`.
        raters: Masks of R raters, shape (B, R, C, *spatial): what one of them marked is no false
            positive.
        mask: How much each voxel counts, in [0, 1], shape (B, 1, *spatial); by default all do. It
            scales sums and volumes, and does not move a probability below a threshold.
        ignore_index: Voxels with this label do not count.
        validate: Look at the values too; by default on, also on a GPU.

    Returns:
        Count, or volume in ml or mm³, at least 0, float64, shape (B, C). Lower is better.

    Raises:
        ValueError: If shapes differ, a probability lies outside [0, 1], an argument is out of its
            range, or no spacing is known where volumes matter.

    References:
        Gatidis et al., autoPET, https://doi.org/10.1038/s42256-024-00912-9

    Examples:
        >>> import torch
        >>> target = torch.tensor([[[1.0, 1.0, 0.0, 0.0, 0.0]]])
        >>> pred = torch.tensor([[[0.0, 1.0, 0.0, 0.5, 0.5]]])
        >>> compute_false_positives(pred, target)
        tensor([[1.]], dtype=torch.float64)
        >>> compute_false_positives(pred, target, spacing=2.0, measure="mm3")
        tensor([[2.]], dtype=torch.float64)
    """
    metric = FalsePositiveMetric(
        include_background,
        num_classes=num_classes,
        measure=measure,
        threshold=threshold,
        target_threshold=target_threshold,
        connectivity=connectivity,
        min_mm3=min_mm3,
        halo=halo,
        spacing=spacing,
        ignore_index=ignore_index,
        validate=validate,
    )
    return metric.measure(y_pred, y, mask=mask, raters=raters)


@dataclass(frozen=True)
class FalsePositives:
    """False positives of a class, a scan on average.

    Args:
        count: How many a scan.
        volume_ml: Their volume a scan, in ml, NaN where a scan has no known spacing.
        scans: How many scans that is the mean of.

    Examples:
        >>> FalsePositives(count=1.5, volume_ml=0.2, scans=2).count
        1.5
    """

    count: float
    volume_ml: float
    scans: int


class FalsePositiveMetric(LesionMetric):
    """False positives a scan over a data set; see `compute_false_positives`.

    A call takes `mask`, `raters` and `spacing` too, the latter in place of the one given at the
    start.

    Args:
        include_background: Whether channel 0 counts.
        reduction: One of MONAI's reductions, or "dataset", "image", "class" (see
            `softoverlap.measures.reduction`). All scans count, those without lesions too.
        get_not_nans: Return how many values were counted as well.
        num_classes: Number of classes of single-channel labels, background included.
        return_with_label: Numbers by channel, as `label_0`, ... or by the names given, whenever
            the reduction leaves one score a channel.
        measure: "count", or the volume in "ml" or "mm3": what `aggregate()` gives.
        threshold: Lowest probability inside a lesion, in (0, 1].
        target_threshold: The same for the target and the raters; by default `threshold`.
        connectivity: Neighbours of a voxel: 6, 18 or 26 in 3D, 4 or 8 in 2D; 26 means all
            neighbours in any dimension.
        min_mm3: Lesions of either mask of a smaller volume are left out, in mm³, and so are
            predicted ones that touch true ones of a smaller volume only.
        halo: Lowest probability that a lesion's halo keeps, from 0 to the threshold.
        spacing: Edges of a voxel in mm; by default those of the first MetaTensor. Needed only for
            volumes and `min_mm3`.
        ignore_index: Voxels with this label do not count.
        validate: Look at the values too; by default on, also on a GPU.

    Raises:
        ValueError: If an argument is out of its range; on use, if shapes differ, a probability
            lies outside [0, 1], or no spacing is known where volumes matter.

    References:
        Gatidis et al., autoPET, https://doi.org/10.1038/s42256-024-00912-9

    Examples:
        >>> import torch
        >>> metric = FalsePositiveMetric(spacing=10.0)
        >>> _ = metric(torch.tensor([[[0.0, 1.0]]]), torch.zeros(1, 1, 2))
        >>> metric.aggregate().item(), metric.per_scan()["label_0"]
        (1.0, FalsePositives(count=1.0, volume_ml=0.01, scans=1))
    """

    width = 3

    def __init__(
        self,
        include_background: bool = True,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        get_not_nans: bool = False,
        num_classes: int | None = None,
        return_with_label: bool | Sequence[str] = False,
        *,
        measure: str = "count",
        threshold: float = 0.5,
        target_threshold: float | None = None,
        connectivity: int = 26,
        min_mm3: float = 0.0,
        halo: float = 0.01,
        spacing: Sequence[float] | float | None = None,
        ignore_index: int | None = None,
        validate: bool | None = None,
    ) -> None:
        check_choice("measure", measure, MEASURES)
        super().__init__(
            inputs=MaskInputs(include_background, num_classes, ignore_index, validate),
            rules=LesionRules(threshold, target_threshold, connectivity, halo, min_mm3),
            spacing=spacing,
            reduction=reduction,
            get_not_nans=get_not_nans,
            return_with_label=return_with_label,
            in_mm=min_mm3 > 0 or measure != "count",
        )
        self.measured_in = measure

    def per_scan(self) -> dict[str, FalsePositives]:
        """Count and volume of each class, a scan on average."""
        return {
            name: FalsePositives(count / scans, mm3 / scans / MM3_PER_ML, int(scans))
            for name, (count, mm3, scans) in ((n, t.tolist()) for n, t in self.totals().items())
        }

    def _count(self, scan: LesionScan) -> Sequence[float]:
        false = scan.touches().sum(axis=0) == 0
        mm3 = scan.pred.sizes()[false].sum() * scan.voxel_mm3
        return [float(false.sum()), float(mm3), 1.0]

    def _score(self, statistics: Tensor) -> Tensor:
        count, mm3, scans = statistics.unbind(-1)
        return {"count": count, "mm3": mm3, "ml": mm3 / MM3_PER_ML}[self.measured_in] / scans
