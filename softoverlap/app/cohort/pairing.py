"""Pair predictions with truths: two files, two folders, patterns, or a table."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from softoverlap._checks import refusal
from softoverlap.app.cohort.csv_rows import read_rows
from softoverlap.app.cohort.sides import SideFile, file_name, find_side
from softoverlap.images import Unpaired, is_dicom_folder


@dataclass(frozen=True)
class ScorePair:
    """The files of one case to score.

    Args:
        case: Name of the case.
        pred: The prediction: a mask or a file of boxes; None if there is none.
        truth: The truth: one mask or file of boxes, or one mask for each rater.
        error: Why the case cannot be scored, in words, or None.

    Examples:
        >>> ScorePair("sub-01", Path("pred/sub-01.nii.gz"), (Path("truth/sub-01.nii.gz"),)).case
        'sub-01'
    """

    case: str
    pred: Path | None
    truth: tuple[Path, ...]
    error: str | None = None

    def absolute(self) -> ScorePair:
        """The same with absolute paths."""
        pred = None if self.pred is None else self.pred.absolute()
        return replace(self, pred=pred, truth=tuple(path.absolute() for path in self.truth))


@dataclass(frozen=True)
class PairTable:
    """The result of pairing.

    Args:
        pairs: Every case, by name; those that cannot be scored have an error.
        passed_by: Files that do not match a pattern, by path.

    Examples:
        >>> table = PairTable((ScorePair("a", None, (Path("a.nii"),), "no prediction"),))
        >>> [pair.case for pair in table.unmatched]
        ['a']
    """

    pairs: tuple[ScorePair, ...]
    passed_by: tuple[Unpaired, ...] = ()

    def __iter__(self) -> Iterator[ScorePair]:
        """All cases, so that the table can be passed to `score_cohort`."""
        return iter(self.pairs)

    @property
    def matched(self) -> tuple[ScorePair, ...]:
        """Cases with a prediction and a truth."""
        return tuple(pair for pair in self.pairs if pair.error is None)

    @property
    def unmatched(self) -> tuple[ScorePair, ...]:
        """Cases that cannot be scored."""
        return tuple(pair for pair in self.pairs if pair.error is not None)


def find_pairs(
    pred: str | os.PathLike[str],
    truth: str | os.PathLike[str],
    *,
    pred_pattern: str | None = None,
    truth_pattern: str | None = None,
    output: str | os.PathLike[str] | None = None,
) -> PairTable:
    """Pair predictions with truths, without reading an image.

    Both are files (one pair), or each is a folder or a pattern such as `pred/{case}_prob.nii.gz`.
    Folders are searched with all subfolders. Without a pattern, the name of a case is its file name
    without suffix; if that occurs twice, it is the path below the folder. Truths named
    `CASE_rater1`, `CASE_rater2`, … are raters of one case. Folders of DICOM slices are used if
    there is no other image, files of boxes (.json) if there is no image at all or if a pattern
    names them. A folder that directly contains DICOM slices counts as a file.

    Args:
        pred: Predictions.
        truth: Truths.
        pred_pattern: Names of the predictions in the folder, with `{case}`: `{case}_pred.nii.gz`;
            with a slash, paths below the folder: `{case}/anat/pred.nii.gz`.
        truth_pattern: The same for the truths, also with `{rater}`: `{case}_rater{rater}.nii.gz`.
        output: Folder for the results. If it is below one of the folders, its contents are skipped.
            If it is one of the folders, or an earlier run wrote there, only results are skipped.

    Returns:
        Every case; one without a partner, or with two files, has an error.

    Raises:
        FileNotFoundError: If a file or a folder does not exist.
        ValueError: If a pattern does not contain `{case}`, or a side has no files.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("pred/a_prob.nii", "truth/a_seg.nii", "truth/b_seg.nii"):
        ...     (folder / name).parent.mkdir(exist_ok=True)
        ...     (folder / name).touch()
        >>> table = find_pairs(
        ...     folder / "pred", folder / "truth", pred_pattern="{case}_prob.nii",
        ...     truth_pattern="{case}_seg.nii",
        ... )
        >>> [(pair.case, pair.error) for pair in table.pairs]
        [('a', None), ('b', 'no prediction')]
    """
    if _is_file(pred) and _is_file(truth) and not (pred_pattern or truth_pattern):
        return PairTable((ScorePair(file_name(Path(pred)), Path(pred), (Path(truth),)),))
    preds = find_side(os.fspath(pred), pred_pattern, "pred", raters=False, output=output)
    truths = find_side(os.fspath(truth), truth_pattern, "truth", raters=True, output=output)
    if not truths.fixed:
        truths.gather_raters({file.name for file in preds.files})
    sides = (preds.by_case(truths), truths.by_case(preds))
    pairs = [_paired(case, *sides) for case in sorted({*sides[0], *sides[1]})]
    if not set(sides[0]) & set(sides[1]):
        raise _nothing_matches(sides)
    return PairTable(tuple(pairs), tuple(preds.passed_by + truths.passed_by))


def _is_file(path: str | os.PathLike[str]) -> bool:
    """A file, or the folder of one DICOM series."""
    return Path(path).is_file() or is_dicom_folder(Path(path))


def read_pairs(table: str | os.PathLike[str]) -> PairTable:
    r"""Read pairs from a CSV table with the columns case, pred and truth.

    Args:
        table: The file. Paths are relative to its folder; masks of several raters are separated by
            `;`. Other columns are ignored.

    Returns:
        Every case, in the order of the table. A case with an empty cell, a missing file or two rows
        has an error.

    Raises:
        FileNotFoundError: If the table does not exist.
        ValueError: If it does not have these columns, or has no rows.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "pairs.csv"
        >>> for name in ("a.nii", "a_1.nii", "a_2.nii", "b.nii"):
        ...     path.with_name(name).touch()
        >>> _ = path.write_text("case,pred,truth\na,a.nii,a_1.nii;a_2.nii\nb,,b.nii\n")
        >>> [(pair.case, len(pair.truth), pair.error) for pair in read_pairs(path).pairs]
        [('a', 2, None), ('b', 1, 'no prediction')]
    """
    table = Path(table)
    rows = read_rows(table, "case", "pred", "truth")
    counts = Counter(row["case"] for row in rows)
    return PairTable(tuple(_tabled(rows, counts, table.parent)))


def _tabled(rows: list[dict[str, str]], counts: Counter[str], folder: Path) -> Iterator[ScorePair]:
    """A pair for each case; some have an error."""
    seen: set[str] = set()
    for number, row in enumerate(rows, start=2):
        case, pred = row["case"], row["pred"]
        truths = [part.strip() for part in row["truth"].split(";") if part.strip()]
        if case in seen:
            continue
        seen.add(case)
        error = None if case else f"no case in line {number}"
        if case and counts[case] > 1:
            error = f"{counts[case]} rows of this case in the table"
        error = error or (None if pred else "no prediction") or (None if truths else "no truth")
        paths = [folder / path for path in (pred, *truths)]
        yield ScorePair(
            case or f"line {number}",
            paths[0] if pred else None,
            tuple(paths[1:]),
            error or _missing(paths),
        )


def _missing(paths: list[Path]) -> str | None:
    """A message that lists the missing files, if any."""
    gone = [str(path) for path in paths if not os.path.exists(path)]
    return f"found no such file: {', '.join(gone)}" if gone else None


def _paired(
    case: str, preds_by_case: dict[str, list[SideFile]], truths_by_case: dict[str, list[SideFile]]
) -> ScorePair:
    pred_files = preds_by_case.get(case, [])
    truth_files = sorted(truths_by_case.get(case, []), key=_rater_order)
    raters = [_number(truth.rater) for truth in truth_files]
    error = None
    if not pred_files or not truth_files:
        error = "no prediction" if truth_files else "no truth"
    elif len(pred_files) > 1:
        error = f"several predictions: {', '.join(str(file.path) for file in pred_files)}"
    elif len(set(raters)) < len(raters) or (None in raters and len(raters) > 1):
        error = f"several truths: {', '.join(str(file.path) for file in truth_files)}"
        error += "; choose with `truth_pattern=`" if any(raters) else ""
    pred = pred_files[0].path if pred_files else None
    return ScorePair(case, pred, tuple(truth.path for truth in truth_files), error)


def _number(rater: str | None) -> int | str | None:
    """`01` is rater 1."""
    return int(rater) if rater and rater.isdigit() else rater


def _rater_order(file: SideFile) -> tuple[int, str]:
    """Sort raters by number, others by name."""
    rater = _number(file.rater)
    return (rater, "") if isinstance(rater, int) else (-1, rater or "")


def _nothing_matches(
    sides: tuple[dict[str, list[SideFile]], dict[str, list[SideFile]]],
) -> ValueError:
    examples = [", ".join(sorted(side)[:3]) + (", …" if len(side) > 3 else "") for side in sides]
    return refusal(
        "truth",
        f"must share at least one case with `pred=`, got predictions of {examples[0]} and truths "
        f"of {examples[1]}; say where the case is in their names with `pred_pattern=` and "
        '`truth_pattern=`, for example "{case}_pred.nii.gz"',
    )
