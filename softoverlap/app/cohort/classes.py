"""Whether a case has several classes that its scores do not tell apart."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from softoverlap.app.cohort.records import ScoreSettings

MERGED_WORDS = "classes are not told apart"
"""What stands beside the rule of a hit where a case has several classes and none is chosen."""


def merges_classes(labels: Iterable[Tensor | None], settings: ScoreSettings) -> bool:
    """Whether a side has several labels, and they count as one class.

    Args:
        labels: Of each side the labels of its boxes or of the voxels that have one, or None.
        settings: Which labels are scored one by one, and which are ignored.

    Examples:
        >>> found, true = torch.tensor([1, 1]), torch.tensor([2, 3])
        >>> [
        ...     merges_classes([found, true], one)
        ...     for one in (ScoreSettings(), ScoreSettings(ignore=(3,)))
        ... ]
        [True, False]
    """
    if settings.labels:
        return False
    return any(_has_several(side, settings.ignore) for side in labels if side is not None)


def _has_several(labels: Tensor, ignore: tuple[int, ...]) -> bool:
    if ignore:
        labels = labels[~torch.isin(labels, torch.tensor(ignore).to(labels))]
    return bool(len(labels)) and bool(labels.min() < labels.max())
