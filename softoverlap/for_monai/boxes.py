"""Measures of found boxes as metrics of MONAI, which gather their outcomes over ranks."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from softoverlap.for_monai.rows import CumulativeRows
from softoverlap.measures import FROC, AveragePrecision, BoxAP, BoxFROC, BoxMeasure, Outcomes


class OutcomesMetric(CumulativeRows):
    """Any measure of found boxes over the batches of a validation run.

    Call it with lists of predictions and targets, a dict a scan. `aggregate` gives the measure's
    score, which is what MONAI's handlers log; `details` gives all that it says.

    Args:
        measure: `BoxFROC`, `BoxAP`, `BoxAR` or `ScoreExistence`, with their options.

    Raises:
        ValueError: If no scan was seen before `aggregate`, `details` or `outcomes`.

    Examples:
        >>> import torch
        >>> from softoverlap.measures import BoxAR
        >>> metric = OutcomesMetric(BoxAR(thresholds="coco"))
        >>> target = {"box": torch.tensor([[0.0, 4.0]]), "label": torch.tensor([0])}
        >>> _ = metric([{**target, "label_scores": torch.tensor([0.9])}], [target])
        >>> metric.aggregate().item(), metric.details().per_detections[1]
        (1.0, 1.0)
    """

    widths = (None, None, None)

    def __init__(self, measure: BoxMeasure) -> None:
        super().__init__()
        self.measure = measure

    def __call__(self, y_pred: Any, y: Any = None, **kwargs: object) -> Any:
        """Match the boxes of a batch of scans, and keep what came of it.

        Args:
            y_pred: Predictions, a dict a scan, as `compute_froc` takes them.
            y: Targets, a dict a scan.
            kwargs: None; options are given when the metric is made.

        Returns:
            The rows kept, of boxes, of lesions and of scans.

        Raises:
            TypeError: If either is not a list, or another argument is given.
            ValueError: If the scans are not such, or have other axes than those of before.
        """
        if kwargs:
            raise TypeError(
                f"{type(self).__name__} must be called with y_pred and y alone, got "
                f"{sorted(kwargs)} too: options are given when it is made"
            )
        if y is None:
            raise ValueError("y must hold the targets, a dict a scan, got None")
        for name, scans in (("y_pred", y_pred), ("y", y)):
            if not isinstance(scans, Sequence) or isinstance(scans, str):
                raise TypeError(
                    f"{name} must be a list of dicts, one a scan, got {type(scans).__name__}"
                )
        return super().__call__(list(y_pred), list(y))

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: object) -> Tensor:
        raise TypeError(f"y_pred must be a list of dicts, one a scan, got {type(y_pred).__name__}")

    def _compute_list(self, y_pred: Any, y: Any = None, **kwargs: object) -> list[Any]:
        outcomes = self.measure.statistics(y_pred, y)
        rows = list(outcomes.rows())
        columns = rows[0].shape[1]
        before = self._buffers[0][0].shape[1] if self._buffers else columns
        if columns != before:
            an_axis = outcomes.boxes.shape[1] // outcomes.ndim
            raise ValueError(
                f"y must hold boxes of as many axes as before, "
                f"{outcomes.ndim + (before - columns) // an_axis}, got {outcomes.ndim}"
            )
        return rows

    def outcomes(self) -> Outcomes:
        """What hit what in all scans that all ranks have seen."""
        boxes, lesions, scans = self.rows() or [torch.zeros(0, 0)] * 3
        if not len(scans):
            raise ValueError("predictions must hold at least one scan, got none")
        return self.measure.of_rows((boxes, lesions, scans))

    def details(self) -> Any:
        """All that the measure says of these scans."""
        return self.measure.details(self.outcomes())

    def aggregate(self) -> Float[Tensor, ""]:
        """The measure's score, in float64."""
        return self.measure.score(self.outcomes())

    def get_buffer(self) -> Float[Tensor, "scans 1"] | None:
        """The share of its lesions that the boxes of each scan hit, NaN without lesions.

        MONAI's `MetricsSaver` writes it down, a row a scan; the metric itself is of all scans.
        """
        return self.outcomes().recall_by_scan[:, None] if len(self.rows()[-1]) else None


class FROCMetric(OutcomesMetric):
    """`compute_froc` over the batches of a validation run.

    Call it with lists of predictions and targets, a dict a scan. `aggregate` gives the CPM, which
    is what MONAI's handlers log; `details` gives the whole FROC.

    Args:
        options: Those of `compute_froc`, by name, but for `patients`, who belong to the scans.

    Raises:
        TypeError: As in `compute_froc`.
        ValueError: As in `compute_froc`, and if no scan was seen before `aggregate` or `details`.

    Examples:
        >>> import torch
        >>> box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
        >>> label, scores = torch.tensor([0]), torch.tensor([0.9])
        >>> metric = FROCMetric(hit="box_dice", threshold=0.2)
        >>> target = {"box": box, "label": label}
        >>> _ = metric([{**target, "label_scores": scores}], [target])
        >>> metric.aggregate().item()
        1.0
    """

    __signature__ = signature(BoxFROC)  # what editors and `help` show

    def __init__(self, **options: Any) -> None:
        super().__init__(BoxFROC(**_known(FROCMetric, options)))

    def curve(self) -> FROC:
        """The whole FROC of all scans that all ranks have seen."""
        return self.details()


class BoxAPMetric(OutcomesMetric):
    """`compute_average_precision` over the batches of a validation run.

    Call it with lists of predictions and targets, a dict a scan. `aggregate` gives the mean over
    the classes that occur and the thresholds; `details` gives each of them.

    Args:
        options: Those of `compute_average_precision`, by name.

    Raises:
        TypeError: As in `compute_average_precision`.
        ValueError: As in `compute_average_precision`, and if no scan was seen before `aggregate`
            or `details`.

    Examples:
        >>> import torch
        >>> box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
        >>> label, scores = torch.tensor([0]), torch.tensor([0.9])
        >>> metric = BoxAPMetric(thresholds="coco")
        >>> target = {"box": box, "label": label}
        >>> _ = metric([{**target, "label_scores": scores}], [target])
        >>> metric.aggregate().item()
        1.0
    """

    __signature__ = signature(BoxAP)

    def __init__(self, **options: Any) -> None:
        super().__init__(BoxAP(**_known(BoxAPMetric, options)))

    def average_precision(self) -> AveragePrecision:
        """Average precision of each class over all scans that all ranks have seen."""
        return self.details()


def _known(kind: type, options: dict[str, Any]) -> dict[str, Any]:
    """The options, if the signature of the metric has them all."""
    for name in options:
        if name not in signature(kind).parameters:
            raise TypeError(f"{kind.__name__}() got an unexpected keyword argument {name!r}")
    return options
