"""The columns of `cases.csv`, `lesions.csv` and `boxes.csv`: names, meanings, where each is shown.

Whoever writes, sums up, prints or draws a column reads its record here. A new column needs a record
here and the code that computes it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

Place = Literal["summary", "chart", "table"]
"""Where a column is seen at once: in the summary (of the page, and as `score` prints it), in the
page's chart of distributions, in the page's tables. All others are one click away."""


@dataclass(frozen=True)
class Column:
    """A column of a table of results.

    Args:
        name: Its name in the file.
        title: Its name in print, without unit.
        meaning: What it is, in a few words that may follow a colon.
        unit: The unit of its numbers, empty where there is none.
        better: Which values are better; empty where none are.
        shown: Where it is seen at once.
        kind: "number" for what has a mean over cases, "index" for numbers that name a row, "text"
            for the rest.
        always: Whether the file has the column even where no row has a value.
        of_masks: Whether it says little where boxes meet masks: the best box falls short of 1.

    Examples:
        >>> column = Column("volume_ml", "Volume", "size of the lesion", "ml", better="higher")
        >>> column.heading
        'Volume (ml)'
        >>> column.explanation
        'size of the lesion; higher is better'
    """

    name: str
    title: str
    meaning: str
    unit: str = ""
    better: Literal["higher", "lower", "near 0", ""] = ""
    shown: Collection[Place] = ()
    kind: Literal["number", "index", "text"] = "number"
    always: bool = False
    of_masks: bool = False

    @property
    def heading(self) -> str:
        """The title with the unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def explanation(self) -> str:
        """The meaning, and which values are good; empty for an unknown column."""
        return f"{self.meaning}; {self.better} is better" if self.better else self.meaning


def find_column(table: Sequence[Column], name: str) -> Column:
    """The record of a column; one that the table does not know has its name alone.

    Examples:
        >>> find_column(CASES, "soft_iou").title, find_column(CASES, "age").title
        ('Soft IoU', 'age')
    """
    return next((column for column in table if column.name == name), Column(name, name, ""))


def shown_in(table: Sequence[Column], place: Place) -> list[str]:
    """Names of the columns that are seen at once there, in order.

    Examples:
        >>> shown_in(LESIONS, "table")[:3]
        ['case', 'label', 'lesion']
    """
    return [column.name for column in table if place in column.shown]


def file_header(table: Sequence[Column], names: Collection[str]) -> list[str]:
    """The head of a file whose rows have these columns; unknown ones come last.

    Examples:
        >>> file_header(CASES, ["age", "soft_dice", "case"])
        ['case', 'error', 'warning', 'soft_dice', 'age']
    """
    known = [column.name for column in table if column.always or column.name in names]
    return [*known, *(name for name in names if name not in known)]


def is_number(table: Sequence[Column], name: str) -> bool:
    """Whether a column holds numbers that have a mean; an unknown one may.

    Examples:
        >>> is_number(CASES, "label"), is_number(CASES, "soft_dice"), is_number(CASES, "age")
        (False, True, True)
    """
    return find_column(table, name).kind == "number"


_SCORE: tuple[Place, ...] = ("summary", "chart", "table")
_FIGURE: tuple[Place, ...] = ("summary", "table")

_CASE = Column("case", "Case", "name of the case", shown=["table"], kind="text", always=True)
_LABEL = Column(
    "label", "Label", "class of the label map, where classes are scored one by one",
    shown=["table"], kind="index",
)  # fmt: skip
_EDGES = tuple(
    Column(
        f"axis{axis}_{end}", f"Axis {axis} {end}", f"{word} edge of the box along axis {axis}",
        "voxels",
    )
    for end, word in (("min", "lower"), ("max", "upper"))
    for axis in range(3)
)  # fmt: skip
_CENTRE = tuple(
    Column(f"centre_axis{axis}", f"Centre {axis}", f"centre of the lesion on axis {axis}", "voxels")
    for axis in range(3)
)

CASES = (
    _CASE,
    _LABEL,
    Column(
        "error", "Error", "why the case could not be scored",
        shown=["table"], kind="text", always=True,
    ),
    Column(
        "warning", "Warning", "what was unusual about the files of the case",
        shown=["table"], kind="text", always=True,
    ),
    Column("pred", "Prediction", "file of the prediction", kind="text"),
    Column(
        "truth", "Truth", "file of the truth, or those of the raters, separated by semicolons",
        kind="text",
    ),
    Column(
        "kind", "Kind", "what was compared: masks, boxes, boxes in masks or masks in boxes",
        kind="text",
    ),
    Column(
        "geometry_displacement_voxels", "Grid displacement",
        "how far the grids of prediction and truth lie apart", "voxels", better="lower",
    ),
    Column(
        "soft_dice", "Soft Dice",
        "Dice of the probabilities, 1 where prediction and truth are equal",
        better="higher", shown=_SCORE,
    ),
    Column(
        "soft_iou", "Soft IoU", "intersection over union of the probabilities",
        better="higher", shown=_SCORE,
    ),
    Column(
        "hard_dice", "Hard Dice", "Dice of both masks cut at the threshold",
        better="higher", shown=_SCORE,
    ),
    Column("hard_iou", "Hard IoU", "IoU of both masks cut at the threshold", better="higher"),
    Column(
        "thresholded_dice", "Thresholded Dice",
        "mean Dice of both masks cut at 0.1, 0.2, … 0.9, as in QUBIQ",
        better="higher", shown=["summary"],
    ),
    Column(
        "expected_dice", "Expected Dice",
        "mean Dice of both masks cut at each threshold up to the highest probability",
        better="higher", shown=["summary", "chart"],
    ),
    Column("pred_volume_ml", "Predicted volume", "sum of the predicted probabilities", "ml"),
    Column(
        "truth_volume_ml", "True volume", "sum of the true probabilities", "ml", shown=["table"]
    ),
    Column(
        "volume_bias_ml", "Volume bias", "predicted volume minus true volume", "ml",
        better="near 0", shown=_FIGURE,
    ),
    Column(
        "relative_volume_bias", "Relative volume bias", "volume bias divided by the true volume",
        better="near 0",
    ),
    Column(
        "brier", "Brier score", "mean squared error of the probabilities near lesions",
        better="lower", shown=["summary"],
    ),
    Column(
        "calibration_error", "Calibration error",
        "mean gap between predicted and true probability near lesions",
        better="lower", shown=["summary"],
    ),
    Column("lesions", "True lesions", "number of true lesions that count", shown=["table"]),
    Column(
        "lesions_found", "Lesions found",
        "number of true lesions that were found; between masks one predicted lesion may find "
        "several",
        better="higher", shown=["table"],
    ),
    Column(
        "found_by_centre", "Found by centre",
        "number of true lesions with a box whose centre lies within the larger of the lesion's "
        "radius and 2 mm",
        better="higher", shown=["table"],
    ),
    Column(
        "lesion_recall", "Lesion recall",
        "share of the true lesions that were found",
        better="higher", shown=["summary", "chart"],
    ),
    Column(
        "pred_lesions", "Predicted lesions",
        "number of predicted lesions, or of boxes at or above the operating point's score",
    ),
    Column(
        "false_positives", "False positives",
        "number of predicted lesions, or of boxes at or above the operating point's score, that "
        "hit no true lesion",
        better="lower", shown=["table"],
    ),
    Column(
        "false_positive_ml", "False-positive volume", "volume of the false positives", "ml",
        better="lower",
    ),
    Column(
        "box_iou", "Box IoU of found lesions",
        "mean IoU of the lesions' tight boxes with the boxes that found them",
        better="higher", shown=["summary"],
    ),
    Column(
        "ignored_lesions", "Ignored lesions",
        "number of true lesions that are neither found nor missed",
    ),
    Column(
        "too_large_lesions", "Lesions too large for a box",
        "number of true lesions with an edge above the limit, which are reported apart",
    ),
    Column(
        "too_large_covered", "Covered share of large lesions",
        "share of the volume of lesions too large for a box that the found boxes cover",
        better="higher",
    ),
    Column(
        "lesions_beyond_own_box", "Lesions beyond their own box",
        "number of true lesions that not even their own tight box could hit", better="lower",
    ),
    Column(
        "lesions_below_smallest_anchor", "Lesions below the smallest anchor",
        "number of true lesions too small for any box of the detector's smallest anchor to hit",
        better="lower",
    ),
    Column(
        "lesion_dice", "Dice over true lesions",
        "mean soft Dice over the true lesions, 0 for a missed one; false positives do not count",
        better="higher", shown=_SCORE, of_masks=True,
    ),
    Column(
        "lesionwise_dice", "Dice over true lesions and false positives",
        "sum of the soft Dice of the lesions found, divided by the number of true lesions and "
        "false positives, as lesion-wise Dice in BraTS",
        better="higher", shown=_FIGURE, of_masks=True,
    ),
)  # fmt: skip
"""`cases.csv`: a row for each case and label."""

LESIONS = (
    _CASE,
    _LABEL,
    Column(
        "lesion", "Lesion", "number of the true lesion in its case, from 0",
        shown=["table"], kind="index", always=True,
    ),
    Column("volume_mm3", "Lesion volume", "volume of the true lesion", "mm³", shown=["table"]),
    Column(
        "soft_dice", "Soft Dice", "soft Dice with what was found there, 0 if nothing was; of masks",
        better="higher", shown=["table"], of_masks=True,
    ),
    Column(
        "soft_iou", "Soft IoU", "soft IoU with what was found there, 0 if nothing was; of masks",
        better="higher", shown=["table"], of_masks=True,
    ),
    Column(
        "box_iou", "Box IoU",
        "IoU of its tight box with the box that found it, 0 if none did; where a side is boxes",
        better="higher", shown=["table"],
    ),
    Column(
        "detected", "Found",
        "whether the lesion was found; of one that does not count, whether a box hits it or is "
        "centred in it",
        shown=["table"], kind="text",
    ),
    Column(
        "found_by_centre", "Found by centre",
        "whether the centre of a box lies within the larger of the lesion's radius and 2 mm",
        kind="text",
    ),
    Column(
        "not_counted", "Not counted",
        "why the lesion does not count: ignored, or too large for a box", kind="text",
    ),
    Column("score", "Score", "score of what found it"),
    Column("centre_score", "Score by centre", "score of the box that found it by its centre"),
    Column(
        "existence", "Existence", "share of the raters that marked the lesion", shown=["table"]
    ),
    Column("n_pred", "Predictions", "number of predicted lesions or boxes matched to it"),
    Column(
        "pred_volume_mm3", "Predicted volume", "volume of what was found there", "mm³",
        shown=["table"],
    ),
    *_CENTRE,
    *_EDGES,
)  # fmt: skip
"""`lesions.csv`: a row for each true lesion."""

BOXES = (
    _CASE,
    _LABEL,
    Column(
        "box", "Box", "number of the predicted lesion or box in its case, from 0",
        kind="index", always=True,
    ),
    Column(
        "score", "Score", "score of the box; of a predicted lesion, its highest probability",
        always=True,
    ),
    Column(
        "above", "Above", "whether the score is at or above that of the operating point",
        kind="text", always=True,
    ),
    Column(
        "outcome", "Outcome",
        "hit, duplicate (its lesion is taken), false positive, or ignored (on a lesion that does "
        "not count)",
        kind="text", always=True,
    ),
    Column(
        "lesion", "Lesion", "number of the true lesion that it hit, of several the best",
        kind="index", always=True,
    ),
    *_EDGES,
)  # fmt: skip
"""`boxes.csv`: a row for each predicted lesion or box."""

TABLES = {"cases.csv": CASES, "lesions.csv": LESIONS, "boxes.csv": BOXES}

RANKED_BY = ("soft_dice", "lesion_dice", "lesionwise_dice", "lesion_recall")
"""The worst cases have the lowest value of the first of these columns that there is."""
