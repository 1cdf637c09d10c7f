"""How good the found boxes are: FROC and average precision of a set of scans."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from softoverlap.measures import FROC, BoxAP, BoxFROC, Outcomes, Scan


@dataclass(frozen=True, eq=False)
class Evaluation:
    """FROC at IoU 0.1, and average precision at IoU 0.1 and 0.5.

    Args:
        froc: The curve, its readings and the CPM.
        ap10: Average precision at IoU 0.1, NaN without lesions.
        ap50: Average precision at IoU 0.5, NaN without lesions.
        outcomes: What hit what in each scan, at IoU 0.1 and 0.5.

    Examples:
        >>> import torch
        >>> scan = {"box": torch.tensor([[0.0, 4.0]]), "label": torch.tensor([0])}
        >>> evaluate([{**scan, "label_scores": torch.tensor([0.9])}], [scan]).summary["cpm"]
        1.0
    """

    froc: FROC
    ap10: float
    ap50: float
    outcomes: Outcomes

    @property
    def summary(self) -> dict[str, Any]:
        """All numbers by name, in full precision, as JSON holds them: None instead of NaN."""
        readings = zip(self.froc.fp_rates, self.froc.sensitivity, strict=True)
        return {
            "cpm": _or_none(self.froc.cpm),
            "ap@0.1": _or_none(self.ap10),
            "ap@0.5": _or_none(self.ap50),
            "sensitivity": {f"{rate:g}": _or_none(share) for rate, share in readings},
            "scans": self.froc.scans,
            "lesions": self.froc.lesions,
        }


def evaluate(predictions: Sequence[Scan], targets: Sequence[Scan]) -> Evaluation:
    """Judge the boxes found in a set of scans; every lesion counts 1, whatever its existence.

    Args:
        predictions: A dict a scan, as `compute_froc` takes them.
        targets: A dict a scan, in the same order, as of `lesion_target`.

    Returns:
        FROC and average precision.

    Raises:
        ValueError: If there is no scan, or keys or shapes are wrong.

    Examples:
        >>> import torch
        >>> target = {"box": torch.tensor([[0.0, 4.0]]), "label": torch.tensor([0])}
        >>> nothing = {"box": torch.zeros(0, 2), "label": torch.zeros(0), }
        >>> evaluate([{**nothing, "label_scores": torch.zeros(0)}], [target]).ap10
        0.0
    """
    precision = BoxAP(thresholds=(0.1, 0.5))
    outcomes = precision.statistics(predictions, targets)
    ap = precision.details(outcomes).per_threshold
    froc = BoxFROC().details(outcomes)  # at the first threshold
    return Evaluation(froc, ap.get(0.1, math.nan), ap.get(0.5, math.nan), outcomes)


def _or_none(number: float) -> float | None:
    return None if math.isnan(number) else number
