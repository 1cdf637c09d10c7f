"""Pair predictions with truths: two files, two folders, or patterns."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from softoverlap._checks import refusal
from softoverlap.app.cohort.bids import pair_by_entities
from softoverlap.app.cohort.case_names import shown, unlisted
from softoverlap.app.cohort.hints import pattern_hint
from softoverlap.app.cohort.one_file import file_error, is_same_file
from softoverlap.app.cohort.patterns import one_form
from softoverlap.app.cohort.sides import Side, SideFile, cases_of_list, file_name, find_side
from softoverlap.images import Unpaired, is_dicom_folder

NO_PREDICTION, NO_TRUTH = "no prediction", "no truth"
"""The errors of cases of which one side has no file."""


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
        passed_by: Files that do not match a pattern, or that another file stands for, by path.
        hint: Patterns that pair more of the files, in words, or nothing.

    Examples:
        >>> table = PairTable((ScorePair("a", None, (Path("a.nii"),), "no prediction"),))
        >>> [pair.case for pair in table.unmatched]
        ['a']
    """

    pairs: tuple[ScorePair, ...]
    passed_by: tuple[Unpaired, ...] = ()
    hint: str = ""

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
    cases: Iterable[str] | None = None,
) -> PairTable:
    """Pair predictions with truths, without reading an image.

    Both are files (one pair), or each is a folder or a pattern such as `pred/{case}_prob.nii.gz`.
    Folders are searched with all subfolders, but not with the other side where that lies below.
    Without a pattern, the name of a case is its file name without suffix; if that occurs twice, it
    is the path below the folder. `CASE_boxes.json`, as `softoverlap lesions` and `detect` write it,
    is of CASE, and heat maps beside it are skipped. Truths named `CASE_rater1`, `CASE_rater2`, …
    are raters of one case. If no name occurs on both sides, files of BIDS are paired by subject,
    session and run. Folders of DICOM slices are used if there is no other image, files of boxes
    (.json) if there is no image at all or if a pattern names them. A folder that directly contains
    DICOM slices counts as a file. Names that differ only in their Unicode form are one name.
    A side may be one CSV with the boxes of all cases, named in each row: ours, or LUNA16's
    `annotations.csv`; cases without a row there are cases without boxes. Cases that neither side
    names count where `cases` does.

    Args:
        pred: Predictions.
        truth: Truths.
        pred_pattern: Names of the predictions in the folder, with `{case}`: `{case}_pred.nii.gz`;
            with a slash, paths below the folder: `{case}/anat/pred.nii.gz`.
        truth_pattern: The same for the truths, also with `{rater}`: `{case}_rater{rater}.nii.gz`.
        output: Folder for the results. If it is below one of the folders, its contents are skipped.
            If it is one of the folders, or an earlier run wrote there, only results are skipped.
        cases: All cases, such as `read_case_names` gives; others are skipped, and those without a
            row in a CSV are cases without boxes, also if neither side names them. None means those
            of both sides.

    Returns:
        Every case; one without a partner, with two files, with one file for both sides, or with a
        link whose target is missing has an error.

    Raises:
        FileNotFoundError: If a file or a folder does not exist.
        ValueError: If a pattern does not contain `{case}`, a side has no files, no case is on both
            sides, both sides are the same, or `cases` names none of a side.

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
        _check_apart(Path(pred), Path(truth), "file")
        lists = [cases_of_list(Path(side)) for side in (pred, truth)]
        if not all(lists):
            if cases is not None:
                raise refusal(
                    "cases", f"must be left out for one pair of files, got {pred}, {truth}"
                )
            return PairTable((_of_two_files(Path(pred), Path(truth), {*lists[0], *lists[1]}),))
    texts = os.fspath(pred), os.fspath(truth)
    if not (pred_pattern or truth_pattern) and all(map(os.path.isdir, texts)):
        _check_apart(Path(pred), Path(truth), "folder")
    preds = find_side(
        texts[0], pred_pattern, "pred", raters=False, other=texts[1], output=output
    )  # fmt: skip
    truths = find_side(
        texts[1], truth_pattern, "truth", raters=True, other=texts[0], output=output
    )  # fmt: skip
    return _paired_sides(preds, truths, None if cases is None else {*map(one_form, cases)})


def _of_two_files(pred: Path, truth: Path, listed: set[str]) -> ScorePair:
    """One case, of the prediction's name unless a table lists the case of another file."""
    sides = [SideFile(path, file_name(path), "") for path in (pred, truth)]
    Side(sides, fixed=False, passed_by=[]).call_as_cases(set())
    case = next((file.name for file in sides if file.name in listed), file_name(pred))
    return ScorePair(case, pred, (truth,))


def _paired_sides(preds: Side, truths: Side, cases: Set[str] | None) -> PairTable:
    """Every case of both sides, or that is listed; some have an error."""
    names = [{file.name for file in side.files} for side in (preds, truths)]
    if not preds.fixed:
        preds.call_as_cases(names[1])
    if not truths.fixed:
        truths.call_as_cases(names[0])
        truths.gather_raters({file.name for file in preds.files})
    pair_by_entities(preds, truths)
    sides = (preds.by_case(truths), truths.by_case(preds))
    has_list = preds.is_list or truths.is_list  # the name of a table holds no case
    if cases is not None:
        _check_listed(sides, cases)
    elif not set(sides[0]) & set(sides[1]):
        hint = "" if has_list else pattern_hint(preds, truths, more_than=0)
        raise _nothing_matches(sides, hint)
    passed_by = [*preds.passed_by, *truths.passed_by]
    if cases is not None:
        passed_by += [file for side in sides for file in unlisted(side, cases)]
    if has_list:
        names = [file.name for side in (preds, truths) for file in side.files]
        preds.list_all(cases or names)
        truths.list_all(cases or names)
        sides = (preds.by_case(truths), truths.by_case(preds))
    every = {*sides[0], *sides[1]} if cases is None else cases
    pairs = [_paired(case, *sides) for case in sorted(every)]
    errors = {pair.error for pair in pairs}
    paired = sum(pair.error is None for pair in pairs)
    odd = {NO_PREDICTION, NO_TRUTH} <= errors and not has_list
    hint = pattern_hint(preds, truths, more_than=paired) if odd else ""
    return PairTable(tuple(pairs), tuple(passed_by), hint)


def _check_listed(sides: Sequence[Mapping[str, list[SideFile]]], cases: Set[str]) -> None:
    """A list of cases must name some of each side: else names are of another kind."""
    for name, side in zip(("pred", "truth"), sides, strict=True):
        if not cases & side.keys():
            raise refusal(
                "cases",
                f"must name some cases of `{name}=`, got {shown(sorted(cases))}, and there "
                f"{shown(sorted(side))}",
            )


def _check_apart(pred: Path, truth: Path, what: str) -> None:
    """Both sides must not be one file or one folder, by whatever path."""
    if is_same_file(pred, truth):
        raise refusal("truth", f"must be another {what} than `pred=`, got {pred} and {truth}")


def _is_file(path: str | os.PathLike[str]) -> bool:
    """A file, or the folder of one DICOM series."""
    return Path(path).is_file() or is_dicom_folder(Path(path))


def _paired(
    case: str, preds_by_case: dict[str, list[SideFile]], truths_by_case: dict[str, list[SideFile]]
) -> ScorePair:
    pred_files = preds_by_case.get(case, [])
    truth_files = sorted(truths_by_case.get(case, []), key=_rater_order)
    raters = [_number(truth.rater) for truth in truth_files]
    error = None
    if not pred_files or not truth_files:
        error = NO_PREDICTION if truth_files else NO_TRUTH
    elif len(pred_files) > 1:
        error = f"several predictions: {', '.join(str(file.path) for file in pred_files)}"
    elif len(set(raters)) < len(raters) or (None in raters and len(raters) > 1):
        error = f"several truths: {', '.join(str(file.path) for file in truth_files)}"
        error += "; choose with `truth_pattern=`" if any(raters) else ""
    pred = pred_files[0].path if pred_files else None
    paths = tuple(truth.path for truth in truth_files)
    if pred is not None and paths and error is None:
        error = file_error(pred, paths)
    return ScorePair(case, pred, paths, error)


def _number(rater: str | None) -> int | str | None:
    """`01` is rater 1."""
    return int(rater) if rater and rater.isdigit() else rater


def _rater_order(file: SideFile) -> tuple[int, str]:
    """Sort raters by number, others by name."""
    rater = _number(file.rater)
    return (rater, "") if isinstance(rater, int) else (-1, rater or "")


def _nothing_matches(
    sides: tuple[dict[str, list[SideFile]], dict[str, list[SideFile]]], hint: str
) -> ValueError:
    examples = [", ".join(sorted(side)[:3]) + (", …" if len(side) > 3 else "") for side in sides]
    hint = hint or (
        "say where the case is in their names with `pred_pattern=` and `truth_pattern=`, for "
        'example "{case}_pred.nii.gz"'
    )
    return refusal(
        "truth",
        f"must share at least one case with `pred=`, got predictions of {examples[0]} and truths "
        f"of {examples[1]}; {hint}",
    )
