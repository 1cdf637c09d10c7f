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
from softoverlap.soft_box import is_soft

TRUE_POSITIVE, DUPLICATE, FALSE_POSITIVE, IGNORED = 1, 0, -1, 2

_NAMES = {1: "hit", 0: "duplicate", -1: "false positive", 2: "ignored"}

Rows = tuple[Float[Tensor, "boxes _"], Float[Tensor, "lesions _"], Float[Tensor, "scans 2"]]

_OF_BOXES = ("boxes", "labels", "scores", "outcome", "lesion")
_OF_LESIONS = ("lesion_boxes", "lesion_labels", "existence", "sizes", "ignored", "found_by")
_COLUMNS = (*_OF_BOXES, *_OF_LESIONS, "scans")
_OPTIONAL = ("ignored", "found_by")
_DTYPES: dict[str, torch.dtype] = {
    **dict.fromkeys(("outcome", "lesion", "found_by", "scans"), torch.int64),
    "ignored": torch.bool,
}


class BoxOutcome(NamedTuple):
    """What became of one found box.

    Args:
        score: Its score, or None.
        outcome: "hit", "duplicate", "false positive" or "ignored".
        lesion: The lesion that it took or, where boxes share lesions, that it hits best, by its
            number in the scan, or None.
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
        boxes: Found boxes, in voxels, float64, shape (N, 2 * ndim), or (N, 5) or (N, 7) if they
            are oriented, or (N, 4 * ndim) if they are soft.
        labels: Their classes, float64, shape (N,).
        scores: Their scores, NaN for a box without, float64, shape (N,).
        outcome: 1 for a hit, 0 for a duplicate (what it hits is taken), -1 for a false positive,
            2 for a box that does not count, shape (N, sizes, thresholds).
        lesion: The lesion that a box took or, where boxes share lesions, that it hits best, by its
            number in the scan, -1 for none; same shape.
        lesion_boxes: Boxes of the lesions, in voxels, float64, of the same layout.
        lesion_labels: Their classes, float64, shape (M,).
        existence: What each lesion counts: its existence, or 1; float64, shape (M,).
        sizes: Sizes of the lesions, as the size classes measure them, float64, shape (M,).
        scans: How many boxes and how many lesions each scan has, shape (S, 2).
        ignored: Lesions neither hit nor missed, in no denominator, shape (M,); by default none.
        found_by: The box that took a lesion, by its number in the scan, -1 for none, shape
            (M, sizes, thresholds); by default as `lesion` says, which holds one lesion a box.
        thresholds: The lowest scores that hit, NaN where it was no score that decided.
        size_classes: The size classes that follow that of all sizes.
        soft: Whether rows of 8 or 12 numbers are soft boxes, not boxes of four or six axes.

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
    soft: bool = False
    ignored: Bool[Tensor, "lesions"] = field(default=None)  # pyright: ignore[reportAssignmentType]
    found_by: Int[Tensor, "lesions sizes thresholds"] = field(default=None)  # pyright: ignore[reportAssignmentType]

    def __post_init__(self) -> None:
        if self.ignored is None:
            object.__setattr__(self, "ignored", torch.zeros_like(self.existence).bool())
        if self.found_by is None:
            object.__setattr__(self, "found_by", self._takers())
        for names, count in zip((_OF_BOXES, _OF_LESIONS), self.scans.sum(dim=0), strict=True):
            rows = {name: len(getattr(self, name)) for name in names}
            if set(rows.values()) != {int(count)}:
                raise ValueError(f"{', '.join(names)} must have {count} rows, got {rows}")

    @property
    def ndim(self) -> int:
        """Number of the boxes' axes."""
        return self.boxes.shape[1] // (4 if self.soft and is_soft(self.boxes) else 2)

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
        """The row of each box's `lesion` at the first threshold, -1 for none."""
        return _shifted(self.lesion, self._first_lesion)[:, 0, 0]

    @property
    def box_of_lesion(self) -> list[int | None]:
        """The row of the box that took each lesion at the first threshold, None for none."""
        rows = _shifted(self.found_by, self._first_box)[:, 0, 0]
        return [None if row < 0 else row for row in rows.tolist()]

    def found(
        self, worth: Float[Tensor, "lesions"], size: int = 0, threshold: int = 0
    ) -> Float[Tensor, "boxes"]:
        """What each box found: Σ worth of the lesions that it took."""
        rows = _shifted(self.found_by, self._first_box)[:, size, threshold]
        taken = rows >= 0
        return worth.new_zeros(len(self.boxes)).index_add(0, rows[taken], worth[taken])

    @property
    def worth(self) -> Float[Tensor, "lesions"]:
        """What each lesion counts, 0 for one that is ignored."""
        return torch.where(self.ignored, 0.0, self.existence)

    @property
    def false_positive(self) -> Bool[Tensor, "boxes"]:
        """Whether each box is a false positive at the first threshold."""
        return self.outcome[:, 0, 0] == FALSE_POSITIVE

    @property
    def left_out(self) -> Bool[Tensor, "boxes"]:
        """Whether each box does not count at the first threshold."""
        return self.outcome[:, 0, 0] == IGNORED

    def each_box(self) -> Iterator[BoxOutcome]:
        """What became of each box at the first threshold."""
        columns = (self.scores, self.outcome[:, 0, 0], self.lesion[:, 0, 0], self.boxes)
        for score, outcome, lesion, box in zip(*(c.tolist() for c in columns), strict=True):
            known = None if math.isnan(score) else score
            yield BoxOutcome(known, _NAMES[outcome], None if lesion < 0 else lesion, box)

    @property
    def recall_by_scan(self) -> Float[Tensor, "scans"]:
        """The share of its lesions that the boxes of each scan hit, NaN where none counts."""
        counted = (~self.ignored).double()
        found = counted * (self.found_by[:, 0, 0] >= 0)
        hit, lesions = (
            counted.new_zeros(len(self.scans)).index_add(0, self.scan_of_lesion, each)
            for each in (found, counted)
        )
        return torch.where(lesions > 0, hit / lesions.clamp(min=1), math.nan)

    @property
    def _first_lesion(self) -> Int[Tensor, "boxes"]:
        """The row of the first lesion of each box's scan."""
        return (self.scans[:, 1].cumsum(0) - self.scans[:, 1])[self.scan_of_box]

    @property
    def _first_box(self) -> Int[Tensor, "lesions"]:
        """The row of the first box of each lesion's scan."""
        return (self.scans[:, 0].cumsum(0) - self.scans[:, 0])[self.scan_of_lesion]

    def _takers(self) -> Int[Tensor, "lesions sizes thresholds"]:
        """The box that took each lesion, where each took its `lesion` alone."""
        rows = _shifted(self.lesion, self._first_lesion)
        cells = (rows >= 0).nonzero(as_tuple=True)
        first = self.scans[:, 0].cumsum(0) - self.scans[:, 0]
        taken = rows.new_full((len(self.existence), *rows.shape[1:]), -1)
        taken[rows[cells], cells[1], cells[2]] = cells[0] - first[self.scan_of_box[cells[0]]]
        return taken

    @classmethod
    def joined(cls, outcomes: Outcomes | Sequence[Outcomes]) -> Outcomes:
        """Those of all scans together, of the same thresholds, size classes and kind of boxes.

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
        """Parts of one scan as that scan, with some of its boxes and lesions in another order.

        Args:
            boxes: Rows of the boxes that are kept, in the order in which they shall stand.
            lesions: Rows of the lesions that are kept, in the order in which they shall stand.
        """
        columns = {name: getattr(self, name)[list(boxes)] for name in _OF_BOXES}
        columns |= {name: getattr(self, name)[list(lesions)] for name in _OF_LESIONS}
        taken = _shifted(self.lesion, self._first_lesion)[list(boxes)]
        columns["lesion"] = _places(lesions, self.scans[:, 1])[taken]
        taken_by = _shifted(self.found_by, self._first_box)[list(lesions)]
        columns["found_by"] = _places(boxes, self.scans[:, 0])[taken_by]
        return replace(self, scans=torch.tensor([[len(boxes), len(lesions)]]), **columns)

    def rows(self) -> Rows:
        """Numbers of each box, each lesion and each scan, float64, for ranks to gather."""
        boxes = [self.labels, self.scores, *self.boxes.mT]
        boxes += [*self.outcome.flatten(1).mT, *self.lesion.flatten(1).mT]
        lesions = [self.lesion_labels, self.existence, self.sizes, self.ignored.double()]
        lesions += [*self.lesion_boxes.mT, *self.found_by.flatten(1).mT]
        return (
            torch.stack([column.double() for column in boxes], dim=1),
            torch.stack(lesions, dim=1),
            self.scans.double(),
        )

    @classmethod
    def from_rows(
        cls,
        rows: Rows,
        *,
        thresholds: tuple[float, ...],
        size_classes: SizeClasses,
        soft: bool = False,
    ) -> Outcomes:
        """The outcomes of such rows."""
        boxes, lesions, scans = rows
        shape = (1 + len(size_classes.bounds), len(thresholds))
        cells = math.prod(shape)
        coords = max(0, lesions.shape[1] - 4 - cells)
        label, score, box, outcome, taken = boxes.split([1, 1, coords, cells, cells], dim=1)
        values, lesion_boxes, taken_by = lesions.split([4, coords, cells], dim=1)
        return cls(
            boxes=box,
            labels=label[:, 0],
            scores=score[:, 0],
            outcome=outcome.long().unflatten(1, shape),
            lesion=taken.long().unflatten(1, shape),
            lesion_boxes=lesion_boxes,
            lesion_labels=values[:, 0],
            existence=values[:, 1],
            sizes=values[:, 2],
            ignored=values[:, 3].bool(),
            found_by=taken_by.long().unflatten(1, shape),
            scans=scans.long(),
            thresholds=thresholds,
            size_classes=size_classes,
            soft=soft,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as JSON holds it: lists, and None for NaN."""
        return {
            "ndim": self.ndim,
            "columns": self.boxes.shape[1],
            "soft": self.soft,
            "thresholds": _nulled(self.thresholds),
            "size_classes": asdict(self.size_classes),
            **{name: _nulled(getattr(self, name).tolist()) for name in _COLUMNS},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Outcomes:
        """The outcomes of such data, equal to the last digit.

        Older data may lack `ignored`, then no lesion is, `found_by`, then a box took its `lesion`
        alone, `columns`, then boxes are upright, and `soft`, then none are.

        Raises:
            KeyError: If something is missing.
            TypeError: If something is not as it was written.
            ValueError: If the columns do not fit each other.
        """
        levels = tuple(_numbers(values["thresholds"]))
        sizes = SizeClasses.checked(
            *(values["size_classes"][k] for k in ("edges", "spacing", "of"))
        )
        cells = (1 + len(sizes.bounds), len(levels))
        coords = (values.get("columns", 2 * values["ndim"]),)
        inner = {"boxes": coords, "lesion_boxes": coords, "scans": (2,)}
        inner |= {"outcome": cells, "lesion": cells, "found_by": cells}
        columns = {}
        for name in (name for name in _COLUMNS if name in values or name not in _OPTIONAL):
            column = torch.tensor(_numbers(values[name]), dtype=_DTYPES.get(name, torch.float64))
            columns[name] = column.reshape(len(values[name]), *inner.get(name, ()))
        return cls(**columns, thresholds=levels, size_classes=sizes, soft=values.get("soft", False))


def _shifted(numbers: Int[Tensor, "rows *cells"], first: Int[Tensor, "rows"]) -> Tensor:
    """Numbers in a scan as rows of all scans; -1 stays."""
    return torch.where(numbers >= 0, numbers + first[:, None, None], -1)


def _places(kept: Sequence[int], counts: Int[Tensor, "scans"]) -> Int[Tensor, "rows"]:
    """The place of each row among those that are kept, -1 for others and, at the end, for none."""
    places = torch.full((int(counts.sum()) + 1,), -1)
    places[list(kept)] = torch.arange(len(kept))
    return places


def _nulled(values: Sequence[Any]) -> list[Any]:
    """None for NaN, which JSON does not have."""
    return [None if value != value else value for value in values]


def _numbers(values: Sequence[Any]) -> list[Any]:
    return [math.nan if value is None else value for value in values]
