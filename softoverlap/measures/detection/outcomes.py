"""What hit what: the record that FROC, AP, AR, correlations and tables are read from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from softoverlap.measures.detection.sizes import ANY_SIZE, SizeClasses

TRUE_POSITIVE, DUPLICATE, FALSE_POSITIVE, IGNORED = 1, 0, -1, 2

_NAMES = {1: "hit", 0: "duplicate", -1: "false positive", 2: "ignored"}

Rows = tuple[Float[Tensor, "boxes _"], Float[Tensor, "lesions _"], Float[Tensor, "scans 2"]]

_OF_BOXES = ("boxes", "labels", "scores", "outcome", "lesion")
_OF_LESIONS = ("lesion_boxes", "lesion_labels", "existence", "sizes", "ignored")
_COLUMNS = (*_OF_BOXES, *_OF_LESIONS, "scans")
_DTYPES = dict.fromkeys(("outcome", "lesion", "scans"), torch.int64) | {"ignored": torch.bool}


class BoxOutcome(NamedTuple):
    """What became of one found box.

    Args:
        score: Its score, or None.
        outcome: "hit", "duplicate", "false positive" or "ignored".
        lesion: The lesion that it took, by its number in the scan, or None.
        box: Its edges in voxels, all minima, then all maxima.

    Examples:
        >>> BoxOutcome(0.9, "hit", 0, [0.0, 4.0]).outcome
        'hit'
    """

    score: float | None
    outcome: str
    lesion: int | None
    box: list[float]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What hit what in one scan, or in several that were put together.

    Found boxes stand in the order in which they were given, scan after scan, and so do lesions. A
    box has an outcome for each size class, the first of which holds all sizes, and each threshold.

    Args:
        boxes: Found boxes, in voxels, float64, shape (N, 2 * ndim).
        labels: Their classes, float64, shape (N,).
        scores: Their scores, NaN for a box without, float64, shape (N,).
        outcome: 1 for a hit, 0 for a duplicate (what it hits is taken), -1 for a false positive,
            2 for a box that does not count, shape (N, sizes, thresholds).
        lesion: The lesion that a box took, by its number in the scan, -1 for none; same shape.
        lesion_boxes: Boxes of the lesions, in voxels, float64, shape (M, 2 * ndim).
        lesion_labels: Their classes, float64, shape (M,).
        existence: What each lesion counts: its existence, or 1; float64, shape (M,).
        sizes: Sizes of the lesions, as the size classes measure them, float64, shape (M,).
        scans: How many boxes and how many lesions each scan has, shape (S, 2).
        ignored: Lesions that are neither hit nor missed and are in no denominator, shape (M,); by
            default none.
        thresholds: The lowest scores that hit, NaN where it was no score that decided.
        size_classes: The size classes that follow that of all sizes.

    Raises:
        ValueError: If a column has not as many rows as the scans have boxes or lesions.

    Examples:
        >>> from softoverlap import match_scan
        >>> target = {"box": torch.tensor([[0.0, 4.0]]), "label": torch.zeros(1)}
        >>> outcomes = match_scan({**target, "label_scores": torch.tensor([0.9])}, target)
        >>> again = Outcomes.from_dict(outcomes.as_dict())
        >>> again.outcome.flatten().tolist(), again.scores.tolist() == outcomes.scores.tolist()
        ([1], True)
    """

    boxes: Float[Tensor, "boxes coords"]
    labels: Float[Tensor, "boxes"]
    scores: Float[Tensor, "boxes"]
    outcome: Int[Tensor, "boxes sizes thresholds"]
    lesion: Int[Tensor, "boxes sizes thresholds"]
    lesion_boxes: Float[Tensor, "lesions coords"]
    lesion_labels: Float[Tensor, "lesions"]
    existence: Float[Tensor, "lesions"]
    sizes: Float[Tensor, "lesions"]
    scans: Int[Tensor, "scans 2"]
    thresholds: tuple[float, ...] = (math.nan,)
    size_classes: SizeClasses = ANY_SIZE
    ignored: Bool[Tensor, "lesions"] = field(default=None)  # pyright: ignore[reportAssignmentType]

    def __post_init__(self) -> None:
        if self.ignored is None:
            object.__setattr__(self, "ignored", torch.zeros_like(self.existence).bool())
        for names, count in zip((_OF_BOXES, _OF_LESIONS), self.scans.sum(dim=0), strict=True):
            rows = {name: len(getattr(self, name)) for name in names}
            if set(rows.values()) != {int(count)}:
                raise ValueError(f"{', '.join(names)} must have {count} rows, got {rows}")

    @property
    def ndim(self) -> int:
        """Number of the boxes' axes."""
        return self.boxes.shape[1] // 2

    @property
    def scan_of_box(self) -> Int[Tensor, "boxes"]:
        """Number of each box's scan."""
        return torch.arange(len(self.scans)).repeat_interleave(self.scans[:, 0])

    @property
    def scan_of_lesion(self) -> Int[Tensor, "lesions"]:
        """Number of each lesion's scan."""
        return torch.arange(len(self.scans)).repeat_interleave(self.scans[:, 1])

    @property
    def row_of_lesion(self) -> Int[Tensor, "boxes"]:
        """The row of the lesion that each box took at the first threshold, -1 for none."""
        return _shifted(self.lesion, self._first_lesion)[:, 0, 0]

    @property
    def box_of_lesion(self) -> list[int | None]:
        """The row of the box that took each lesion at the first threshold, None for none."""
        taken = dict(zip(self.row_of_lesion.tolist(), range(len(self.boxes)), strict=True))
        return [taken.get(row) for row in range(len(self.lesion_boxes))]

    @property
    def worth(self) -> Float[Tensor, "lesions"]:
        """What each lesion counts, 0 for one that is ignored."""
        return torch.where(self.ignored, 0.0, self.existence)

    @property
    def false_positive(self) -> Bool[Tensor, "boxes"]:
        """Whether each box is a false positive at the first threshold."""
        return self.outcome[:, 0, 0] == FALSE_POSITIVE

    def each_box(self) -> Iterator[BoxOutcome]:
        """What became of each box at the first threshold."""
        columns = (self.scores, self.outcome[:, 0, 0], self.lesion[:, 0, 0], self.boxes)
        for score, outcome, lesion, box in zip(*(c.tolist() for c in columns), strict=True):
            known = None if math.isnan(score) else score
            yield BoxOutcome(known, _NAMES[outcome], None if lesion < 0 else lesion, box)

    @property
    def recall_by_scan(self) -> Float[Tensor, "scans"]:
        """The share of its lesions that the boxes of each scan hit, NaN where none counts."""
        hits = (self.outcome[:, 0, 0] == TRUE_POSITIVE).double()
        nothing = hits.new_zeros(len(self.scans))
        counts = nothing.index_add(0, self.scan_of_box, hits)
        lesions = nothing.index_add(0, self.scan_of_lesion, (~self.ignored).double())
        return torch.where(lesions > 0, counts / lesions.clamp(min=1), math.nan)

    @property
    def _first_lesion(self) -> Int[Tensor, "boxes"]:
        """The row of the first lesion of each box's scan."""
        return (self.scans[:, 1].cumsum(0) - self.scans[:, 1])[self.scan_of_box]

    @classmethod
    def joined(cls, outcomes: Outcomes | Sequence[Outcomes]) -> Outcomes:
        """Those of all scans together, of the same thresholds and size classes.

        Raises:
            ValueError: If there is no scan, or their boxes differ in the number of axes.
        """
        parts = [outcomes] if isinstance(outcomes, Outcomes) else list(outcomes)
        if not sum(len(part.scans) for part in parts):
            raise ValueError("outcomes must hold at least one scan, got none")
        if len(widths := {part.boxes.shape[1] for part in parts}) > 1:
            raise ValueError(f"outcomes must be of boxes with as many columns, got {widths}")
        joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in _COLUMNS}
        return replace(parts[0], **joined)

    def split(self) -> list[Outcomes]:
        """Those of each scan."""
        counts = self.scans.mT.tolist()
        columns = {
            name: getattr(self, name).split(counts[name in _OF_LESIONS])
            for name in (*_OF_BOXES, *_OF_LESIONS)
        }
        return [
            replace(self, scans=scan[None], **{name: parts[n] for name, parts in columns.items()})
            for n, scan in enumerate(self.scans)
        ]

    def as_one_scan(self, boxes: Sequence[int], lesions: Sequence[int]) -> Outcomes:
        """Parts of one scan as that scan, with its boxes and lesions in another order.

        Args:
            boxes: Rows of the boxes, in the order in which they shall stand.
            lesions: Rows of the lesions, in the order in which they shall stand.
        """
        places = torch.full((len(lesions) + 1,), -1)  # none, -1, is the last and stays -1
        places[list(lesions)] = torch.arange(len(lesions))
        lesion = places[_shifted(self.lesion, self._first_lesion)]
        return replace(
            self,
            **{name: getattr(self, name)[list(boxes)] for name in _OF_BOXES[:-1]},
            lesion=lesion[list(boxes)],
            **{name: getattr(self, name)[list(lesions)] for name in _OF_LESIONS},
            scans=self.scans.sum(dim=0, keepdim=True),
        )

    def rows(self) -> Rows:
        """Numbers of each box, each lesion and each scan, float64, for ranks to gather."""
        boxes = [self.labels, self.scores, *self.boxes.mT]
        boxes += [*self.outcome.flatten(1).mT, *self.lesion.flatten(1).mT]
        lesions = [self.lesion_labels, self.existence, self.sizes, self.ignored.double()]
        lesions += self.lesion_boxes.mT
        return (
            torch.stack([column.double() for column in boxes], dim=1),
            torch.stack(lesions, dim=1),
            self.scans.double(),
        )

    @classmethod
    def from_rows(
        cls, rows: Rows, *, thresholds: tuple[float, ...], size_classes: SizeClasses
    ) -> Outcomes:
        """The outcomes of such rows."""
        boxes, lesions, scans = rows
        shape = (1 + len(size_classes.bounds), len(thresholds))
        cells, coords = math.prod(shape), max(0, lesions.shape[1] - 4)
        label, score, box, outcome, taken = boxes.split([1, 1, coords, cells, cells], dim=1)
        return cls(
            boxes=box,
            labels=label[:, 0],
            scores=score[:, 0],
            outcome=outcome.long().unflatten(1, shape),
            lesion=taken.long().unflatten(1, shape),
            lesion_boxes=lesions[:, 4:],
            lesion_labels=lesions[:, 0],
            existence=lesions[:, 1],
            sizes=lesions[:, 2],
            ignored=lesions[:, 3].bool(),
            scans=scans.long(),
            thresholds=thresholds,
            size_classes=size_classes,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as JSON holds it: lists, and None for NaN."""
        return {
            "ndim": self.ndim,
            "thresholds": _nulled(self.thresholds),
            "size_classes": asdict(self.size_classes),
            **{name: _nulled(getattr(self, name).tolist()) for name in _COLUMNS},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Outcomes:
        """The outcomes of such data, equal to the last digit; none is ignored if it says nothing.

        Raises:
            KeyError: If something is missing.
            TypeError: If something is not as it was written.
            ValueError: If the columns do not fit each other.
        """
        values = {"ignored": [False] * len(values["existence"]), **values}
        thresholds = tuple(_numbers(values["thresholds"]))
        sizes = SizeClasses.checked(
            *(values["size_classes"][k] for k in ("edges", "spacing", "of"))
        )
        cells, coords = (1 + len(sizes.bounds), len(thresholds)), (2 * values["ndim"],)
        inner = {"boxes": coords, "lesion_boxes": coords, "scans": (2,)}
        inner |= {"outcome": cells, "lesion": cells}
        columns = {}
        for name in _COLUMNS:
            column = torch.tensor(_numbers(values[name]), dtype=_DTYPES.get(name, torch.float64))
            columns[name] = column.reshape(len(values[name]), *inner.get(name, ()))
        return cls(**columns, thresholds=thresholds, size_classes=sizes)


def _shifted(lesion: Int[Tensor, "boxes *cells"], first: Int[Tensor, "boxes"]) -> Tensor:
    """Numbers in a scan as rows of all scans; -1 stays."""
    return torch.where(lesion >= 0, lesion + first[:, None, None], -1)


def _nulled(values: Sequence[Any]) -> list[Any]:
    """None for NaN, which JSON does not have."""
    return [None if value != value else value for value in values]


def _numbers(values: Sequence[Any]) -> list[Any]:
    return [math.nan if value is None else value for value in values]
