"""How good the found boxes are: an operating point, FROC and average precision of some scans."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from softoverlap._size_limit import too_large
from softoverlap.for_monai import lesion_target
from softoverlap.images import LoadedCase
from softoverlap.measures import (
    FROC,
    BoxAP,
    BoxFROC,
    OperatingPoint,
    Outcomes,
    Scan,
    operating_point,
)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """FROC at IoU 0.1, one point of it, and average precision at IoU 0.1 and 0.5.

    Args:
        froc: The curve, its readings and the CPM.
        ap10: Average precision at IoU 0.1, NaN without lesions.
        ap50: Average precision at IoU 0.5, NaN without lesions.
        outcomes: What hit what in each scan, at IoU 0.1.
        point: Sensitivity, precision, F1 and false positives a scan at one score threshold.
        classes: The same of each class by its name, at the same threshold; none of a single one.

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
    point: OperatingPoint
    classes: Mapping[str, Evaluation] = field(default_factory=dict)

    @property
    def summary(self) -> dict[str, Any]:
        """All numbers by name, in full precision, as JSON holds them: None instead of NaN."""
        readings = zip(self.froc.fp_rates, self.froc.sensitivity, strict=True)
        point = {name: _or_none(value) for name, value in asdict(self.point).items()}
        del point["interval"]
        classes = {name: of_class.summary for name, of_class in self.classes.items()}
        return {
            "point": point,
            "cpm": _or_none(self.froc.cpm),
            "ap@0.1": _or_none(self.ap10),
            "ap@0.5": _or_none(self.ap50),
            "sensitivity": {f"{rate:g}": _or_none(share) for rate, share in readings},
            "scans": self.froc.scans,
            "lesions": self.froc.lesions,
            **({"classes": classes} if classes else {}),
        }


def scan_target(case: LoadedCase) -> dict[str, Any]:
    """The target of a scan as `evaluate` takes it.

    Args:
        case: What `load_case` read.

    Returns:
        What `lesion_target` gives; `"spacing"`, the edges of a voxel in mm; and `"ignored"`, True
        for lesions too large for a box (an edge above 32 mm), shape (M,).

    Examples:
        >>> import tempfile
        >>> from softoverlap.images import find_cases, load_case, write_phantoms
        >>> folder = tempfile.mkdtemp()
        >>> write_phantoms(folder, 1, seed=0, shape=(32, 32, 24))
        >>> target = scan_target(load_case(find_cases(folder).cases[0]))
        >>> len(target["spacing"]), len(target["ignored"]) == len(target["boxes"])
        (3, True)
    """
    target, spacing = lesion_target(case.lesions), case.spacing
    return {**target, "spacing": spacing, "ignored": too_large(target["boxes"], spacing)}


def evaluate(
    predictions: Sequence[Scan],
    targets: Sequence[Scan],
    *,
    at: float | int | str | None = "f1",
    class_names: Sequence[str] = (),
) -> Evaluation:
    """Judge the boxes found in a set of scans, as `softoverlap score` does.

    A box hits if its IoU with the lesion's tight box is at least 0.1. In FROC and at the operating
    point a lesion counts by its existence, in average precision each counts 1.

    Args:
        predictions: A dict a scan, as `compute_froc` takes them.
        targets: A dict a scan, in the same order, as of `scan_target` or `lesion_target`.
        at: Where the operating point lies, as `operating_point` takes it: the score threshold that
            was chosen on other scans, or a rule that chooses it on these, which flatters.
        class_names: Names of the classes 0, 1, 2 and so on, each of which is then judged by itself
            as well, where there are several.

    Returns:
        FROC, the operating point and average precision.

    Raises:
        ValueError: If there is no scan, or keys or shapes are wrong.

    Examples:
        >>> import torch
        >>> target = {"box": torch.tensor([[0.0, 4.0]]), "label": torch.tensor([0])}
        >>> nothing = {"box": torch.zeros(0, 2), "label": torch.zeros(0), }
        >>> evaluate([{**nothing, "label_scores": torch.zeros(0)}], [target]).ap10
        0.0
    """
    froc, strict = BoxFROC(), BoxAP(threshold=0.5)
    outcomes = froc.statistics(predictions, targets)
    point = operating_point(outcomes, at)
    several = class_names if len(class_names) > 1 else ()
    classes = {
        name: evaluate(_of_class(predictions, label), _of_class(targets, label), at=point.threshold)
        for label, name in enumerate(several)
    }
    return Evaluation(
        froc.details(outcomes),
        BoxAP().value(outcomes),
        strict.value(strict.statistics(predictions, targets)),
        outcomes,
        point,
        classes,
    )


_A_BOX = ("box", "boxes", "label", "labels", "label_scores", "labels_scores", "ignored")
"""Columns of a scan with a row for each box."""


def _of_class(scans: Sequence[Scan], label: int) -> list[dict[str, Any]]:
    """The boxes and lesions of one class in each scan."""
    return [_rows_of_class(dict(scan), label) for scan in scans]


def _rows_of_class(scan: dict[str, Any], label: int) -> dict[str, Any]:
    own = torch.as_tensor(scan["label"] if "label" in scan else scan["labels"]) == label
    rows: dict[str, Any] = {name: scan[name][own] for name in _A_BOX if name in scan}
    if scan.get("lesions") is not None:
        rows["lesions"] = [scan["lesions"][row] for row in own.nonzero()[:, 0].tolist()]
    return {**scan, **rows}


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
