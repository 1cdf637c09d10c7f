"""Which prediction belongs to which truth: one pair, two folders, patterns, or a table."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from softoverlap.cohort.patterns import FilePattern, has_wildcards, read_pattern, split_pattern
from softoverlap.data import IMAGE_SUFFIXES, Unpaired

BOX_SUFFIXES = (".mrk.json", ".json", ".csv")
"""Files of boxes; the longest first."""

_RATER = re.compile(r"(?P<case>.+)_rater(?P<rater>\d+)")


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


@dataclass(frozen=True)
class PairTable:
    """What pairing found.

    Args:
        pairs: Every case, by name; those that cannot be scored say why.
        passed_by: Files that a pattern passed by, by path.

    Examples:
        >>> table = PairTable((ScorePair("a", None, (Path("a.nii"),), "no prediction"),))
        >>> [pair.case for pair in table.unmatched]
        ['a']
    """

    pairs: tuple[ScorePair, ...]
    passed_by: tuple[Unpaired, ...] = ()

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
) -> PairTable:
    """Pair predictions with truths, without opening a file.

    Both are files (one pair), or each is a folder or a pattern such as `pred/{case}_prob.nii.gz`.
    Folders are searched with all folders below. Without a pattern, a case is called as its file
    without suffix; where that name comes twice, as its path below the folder. Truths named
    `CASE_rater1`, `CASE_rater2`, … are raters of one case. Files of boxes (.json) are taken where
    a folder holds no image, or where a pattern names them.

    Args:
        pred: Predictions.
        truth: Truths.
        pred_pattern: Names of the predictions in the folder, with `{case}`: `{case}_pred.nii.gz`;
            with a slash, paths below the folder: `{case}/anat/pred.nii.gz`.
        truth_pattern: The same of the truths, `{rater}` included: `{case}_rater{rater}.nii.gz`.

    Returns:
        Every case; one without partner, or with two files, is there with the reason.

    Raises:
        FileNotFoundError: If a file or a folder does not exist.
        ValueError: If a pattern does not hold `{case}`, or a side has no files at all.

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
    if Path(pred).is_file() and Path(truth).is_file() and not (pred_pattern or truth_pattern):
        return PairTable((ScorePair(file_name(Path(pred)), Path(pred), (Path(truth),)),))
    found = _side(os.fspath(pred), pred_pattern, "PRED", raters=False)
    known = _side(os.fspath(truth), truth_pattern, "TRUTH", raters=True)
    if not known.fixed:
        known.gather_raters({file.name for file in found.files})
    sides = (found.by_case(known), known.by_case(found))
    pairs = [_paired(case, *sides) for case in sorted({*sides[0], *sides[1]})]
    if not any(pair.error is None for pair in pairs):
        raise ValueError(_nothing_matches(sides))
    return PairTable(tuple(pairs), tuple(found.passed_by + known.passed_by))


def read_pairs(table: str | os.PathLike[str]) -> PairTable:
    r"""Read pairs from a CSV table with the columns case, pred and truth.

    Args:
        table: The file. Paths are relative to its folder; several raters' masks are separated by
            `;`. Other columns are passed by.

    Returns:
        Every case, in the order of the table. An empty cell or a case that comes twice is there
        with the reason.

    Raises:
        FileNotFoundError: If there is no such table.
        ValueError: If it is no such table, or has no rows.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "pairs.csv"
        >>> _ = path.write_text("case,pred,truth\na,a.nii,a_1.nii;a_2.nii\nb,,b.nii\n")
        >>> [(pair.case, len(pair.truth), pair.error) for pair in read_pairs(path).pairs]
        [('a', 2, None), ('b', 1, 'no prediction')]
    """
    table = Path(table)
    if not table.is_file():
        raise FileNotFoundError(f"{table} must be a CSV table, found no such file")
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), reader.fieldnames or []
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{table} must be a CSV table in UTF-8, got: {error}") from error
    if not {"case", "pred", "truth"} <= set(columns):
        raise ValueError(
            f"{table} must have the columns case, pred and truth, separated by commas, "
            f"got {', '.join(columns) or 'none'}"
        )
    if not rows:
        raise ValueError(f"{table} must have a row a case, got none")
    counts = Counter((row["case"] or "").strip() for row in rows)
    return PairTable(tuple(_tabled(rows, counts, table.parent)))


def _tabled(rows: list[dict[str, str]], counts: Counter[str], folder: Path) -> Iterator[ScorePair]:
    """A pair for each case; the error of those that cannot be one."""
    seen: set[str] = set()
    for number, row in enumerate(rows, start=2):
        case, pred = (row["case"] or "").strip(), (row["pred"] or "").strip()
        truths = [part.strip() for part in (row["truth"] or "").split(";") if part.strip()]
        if case in seen:
            continue
        seen.add(case)
        error = None if case else f"no case in line {number}"
        if case and counts[case] > 1:
            error = f"{counts[case]} rows of this case in the table"
        error = error or (None if pred else "no prediction") or (None if truths else "no truth")
        truth = tuple(folder / path for path in truths)
        yield ScorePair(case or f"line {number}", folder / pred if pred else None, truth, error)


def file_name(path: Path) -> str:
    """The name of a file without the suffix of an image or of a file of boxes.

    Examples:
        >>> file_name(Path("scans/sub-01.nii.gz")), file_name(Path("sub-01.mrk.json"))
        ('sub-01', 'sub-01')
    """
    suffixes = sorted((*IMAGE_SUFFIXES, *BOX_SUFFIXES), key=len, reverse=True)
    end = next((end for end in suffixes if path.name.lower().endswith(end)), "")
    return path.name[: len(path.name) - len(end)] if end != path.name else path.name


def is_box_file(path: Path) -> bool:
    """Whether a file holds boxes, by its suffix.

    Examples:
        >>> is_box_file(Path("a_boxes.json")), is_box_file(Path("a.nii.gz"))
        (True, False)
    """
    return path.name.lower().endswith(BOX_SUFFIXES)


@dataclass
class _File:
    """A file, how its case is called, and how if that name comes twice."""

    path: Path
    name: str
    long_name: str
    rater: str | None = None


@dataclass
class _Side:
    """The predictions or the truths; their names are `fixed` if a pattern gave them."""

    files: list[_File]
    fixed: bool
    passed_by: list[Unpaired]

    def gather_raters(self, others: set[str]) -> None:
        """CASE_rater1 is of CASE, unless the other side knows it by its whole name."""
        for file in self.files:
            match = _RATER.fullmatch(file.name)
            if match and file.name not in others:
                file.name, file.rater = match["case"], match["rater"]
                file.long_name = file.long_name.removesuffix(f"_rater{file.rater}")

    def ambiguous(self) -> set[str]:
        """Names that several files share which are not raters of one case."""
        counts = Counter((file.name, file.rater) for file in self.files)
        return set() if self.fixed else {name for (name, _), n in counts.items() if n > 1}

    def by_case(self, other: _Side) -> dict[str, list[_File]]:
        """Files by case, by the long name where the short one is ambiguous on either side."""
        twice = self.ambiguous() | other.ambiguous()
        cases: dict[str, list[_File]] = {}
        for file in self.files:
            case = file.long_name if file.name in twice and not self.fixed else file.name
            cases.setdefault(case, []).append(file)
        return cases


def _side(text: str, pattern: str | None, name: str, *, raters: bool) -> _Side:
    """All files of one side."""
    if has_wildcards(text):
        if pattern is not None:
            raise ValueError(f"{name} must be a folder where --{name.lower()}-pattern is given")
        folder, pattern = split_pattern(text, name=name)
    else:
        folder = Path(text)
    if not folder.is_dir():
        kind = "a folder, as the other side is one," if folder.is_file() else "there,"
        raise FileNotFoundError(f"{name} must be {kind} got {folder}")
    option = f"--{name.lower()}-pattern"
    rule = None if pattern is None else read_pattern(pattern, name=option, rater=raters)
    side = _matching(folder, rule) if rule else _images(folder)
    if not side.files:
        what = f"files like {pattern}" if pattern else "images or files of boxes"
        raise ValueError(f"{name} must hold {what}, found none in {folder}")
    return side


def _matching(folder: Path, rule: FilePattern) -> _Side:
    files, passed_by = [], []
    for path in _walk(folder, lambda _: True):
        match = rule.match(path, folder)
        if match is None:
            passed_by.append(Unpaired(path, f"not like {rule.text}"))
        else:
            files.append(_File(path, match["case"], match["case"], match.groupdict().get("rater")))
    return _Side(files, fixed=True, passed_by=passed_by)


def _images(folder: Path) -> _Side:
    """Images, or where there is none boxes: images often have JSON files beside them."""
    paths = list(_walk(folder, lambda name: name.lower().endswith(IMAGE_SUFFIXES)))
    paths = paths or list(_walk(folder, lambda name: name.lower().endswith(".json")))
    files = []
    for path in paths:
        parent, name = path.relative_to(folder).parent, file_name(path)
        files.append(_File(path, name, (parent / name).as_posix()))
    return _Side(files, fixed=False, passed_by=[])


def _walk(folder: Path, wanted: Callable[[str], bool]) -> Iterator[Path]:
    """Files below the folder in order; names that start with a dot are passed by."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and wanted(path.name) and path.is_file():
            yield path


def _paired(case: str, found: dict[str, list[_File]], known: dict[str, list[_File]]) -> ScorePair:
    preds, truths = found.get(case, []), sorted(known.get(case, []), key=_rater_order)
    raters = [truth.rater for truth in truths]
    error = None
    if not preds or not truths:
        error = "no prediction" if truths else "no truth"
    elif len(preds) > 1:
        error = f"several predictions: {', '.join(str(file.path) for file in preds)}"
    elif len(set(raters)) < len(raters):
        error = f"several truths: {', '.join(str(file.path) for file in truths)}"
    pred = preds[0].path if preds else None
    return ScorePair(case, pred, tuple(truth.path for truth in truths), error)


def _rater_order(file: _File) -> tuple[int, str]:
    """Raters by number, others by name."""
    rater = file.rater or ""
    return (int(rater), "") if rater.isdigit() else (-1, rater)


def _nothing_matches(sides: tuple[dict[str, list[_File]], dict[str, list[_File]]]) -> str:
    examples = [", ".join(sorted(side)[:3]) + (", …" if len(side) > 3 else "") for side in sides]
    return (
        f"PRED and TRUTH must share at least one case, got predictions of {examples[0]} and "
        f"truths of {examples[1]}; name the cases by --pred-pattern and --truth-pattern, "
        'for example "{case}_pred.nii.gz"'
    )
