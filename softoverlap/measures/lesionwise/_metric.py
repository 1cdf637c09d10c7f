"""What the lesion-wise metrics share: from batches to statistics of each item and class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from monai.data import MetaTensor
from monai.utils.enums import MetricReduction
from torch import Tensor

from softoverlap._checks import check_probabilities, check_tensors
from softoverlap._types import plain
from softoverlap.measures._cumulative import MaskMetric
from softoverlap.measures.lesionwise.maps import LesionRules, LesionScan, lesion_scan
from softoverlap.measures.mask_inputs import MaskInputs, MaskPair, Spacing, voxel_spacing

RaterMasks = Shaped[Tensor, "batch raters marked *spatial"]


class LesionMetric(MaskMetric):
    """Statistics of the lesions of each item and class; a subclass counts them in one scan."""

    def __init__(
        self,
        *,
        inputs: MaskInputs,
        rules: LesionRules,
        spacing: Spacing | None,
        reduction: MetricReduction | str,
        get_not_nans: bool,
        return_with_label: bool | Sequence[str],
        in_mm: bool = True,
        margin: int = 0,
    ) -> None:
        super().__init__(
            inputs=inputs,
            reduction=reduction,
            get_not_nans=get_not_nans,
            return_with_label=return_with_label,
        )
        self.rules, self.spacing, self.in_mm, self.margin = rules, spacing, in_mm, margin

    def _check(self, ndim: int, raters: Tensor | None) -> None:
        """Refuse images of so many axes, or their raters, that this metric cannot count."""

    @abstractmethod
    def _count(self, scan: LesionScan) -> Sequence[float]:
        """The statistics of one item and class."""

    def measure(self, y_pred: Any, y: Any, **kwargs: Any) -> Float[Tensor, "batch classes"]:
        """The scores of a batch, which is not kept."""
        return self._score(self._statistics(y_pred, y, **kwargs))

    def totals(self) -> dict[str, Float[Tensor, "width"]]:
        """The statistics of each class, added up over all items of all ranks."""
        sums = self.statistics().sum(dim=0)
        return dict(zip(self.class_names(len(sums)), sums, strict=True))

    def _statistics(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        y_pred: Tensor,
        y: Tensor,
        *,
        mask: Tensor | None = None,
        raters: Tensor | None = None,
        spacing: Spacing | None = None,
    ) -> Tensor:
        pair = self.inputs.values(y_pred, y, mask=mask)
        self._check(y.ndim - 2, raters)
        told = self.spacing if spacing is None else spacing
        spacings = spacings_of(told, y, y_pred, needed=self.in_mm)
        marks = checked_raters(raters, pair, include_background=self.inputs.include_background)
        found = torch.zeros(*pair.pred.shape[:2], self.width, dtype=torch.float64)
        for item, channel, scan in lesion_scans(pair, self.rules, spacings, marks, self.margin):
            found[item, channel] = torch.tensor(self._count(scan), dtype=torch.float64)
        return found.to(pair.pred.device)


def lesion_scans(
    pair: MaskPair,
    rules: LesionRules,
    spacings: Sequence[tuple[float, ...] | None],
    raters: Tensor | None = None,
    margin: int = 0,
) -> Iterator[tuple[int, int, LesionScan]]:
    """Item, class and lesions, one after the other."""
    for item, spacing in enumerate(spacings):
        for channel in range(pair.pred.shape[1]):
            scan = lesion_scan(
                pair.pred[item, channel],
                pair.truth[item, channel],
                rules=rules,
                spacing=spacing,
                raters=None if raters is None else raters[item, :, channel],
                counted=None if pair.counted is None else pair.counted[item, 0],
                margin=margin,
            )
            yield item, channel, scan


def spacings_of(
    spacing: Spacing | None, y: Tensor, y_pred: Tensor, *, needed: bool
) -> Sequence[tuple[float, ...] | None]:
    """Edges of each item's voxels in mm; None where nobody told and nothing is in mm."""
    if y.ndim > 5:
        raise ValueError(
            "y must have shape (B, C, *spatial) with one to three spatial axes, "
            f"got shape {tuple(y.shape)}"
        )
    known = spacing is not None or isinstance(y, MetaTensor) or isinstance(y_pred, MetaTensor)
    if not known and not needed:
        return [None] * len(y)
    return voxel_spacing(spacing, y, y_pred, items=len(y), ndim=y.ndim - 2)


def checked_raters(
    raters: Tensor | None, pair: MaskPair, *, include_background: bool
) -> RaterMasks | None:
    """Raters' masks (B, R, C, *spatial) of the classes of the pair, zero where nothing counts."""
    if raters is None:
        return None
    check_tensors(raters=raters)
    items, classes, *spatial = pair.truth.shape
    marks = plain(raters).detach()
    if not include_background and marks.ndim > 2 and marks.shape[2] == classes + 1:
        marks = marks[:, :, 1:]
    if (
        marks.ndim != len(spatial) + 3
        or not marks.shape[1]
        or marks[:, 0].shape != pair.truth.shape
    ):
        expected = ", ".join([str(items), "R > 0", str(classes), *map(str, spatial)])
        raise ValueError(f"raters must have shape ({expected}), got {tuple(raters.shape)}")
    marks = marks.to(pair.truth.device)
    if pair.counted is not None:
        marks = marks.masked_fill(~(pair.counted[:, None] > 0), 0)
    check_probabilities(raters=marks, validate=True)
    return marks
