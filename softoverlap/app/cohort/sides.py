"""The files of one side, predictions or truths, and the names of their cases."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from softoverlap._checks import refusal
from softoverlap.app.cohort.names import JOURNAL, OUTPUTS
from softoverlap.app.cohort.patterns import (
    FilePattern,
    has_wildcards,
    one_form,
    read_pattern,
    split_pattern,
)
from softoverlap.images import (
    IMAGE_SUFFIXES,
    Unpaired,
    image_name,
    is_dangling,
    is_dicom_folder,
    is_image_name,
    link_fault,
    listed_cases,
    unread,
)

BOX_SUFFIXES = (".mrk.json", ".json", ".fcsv", ".acsv", ".csv", ".npz")
"""Suffixes of files of boxes, also of those that are refused with a word on what is read."""

_BOXES, _HEATMAP = "_boxes", "_heatmap"  # as `lesions` and `detect` end the names of their files
_RATER = re.compile(r"(?P<case>.+)_rater(?P<rater>\d+)")


def file_name(path: Path) -> str:
    """The name of a file without the suffix of an image or of a file of boxes.

    Examples:
        >>> file_name(Path("scans/sub-01.nii.gz")), file_name(Path("sub-01.mrk.json"))
        ('sub-01', 'sub-01')
    """
    end = next((end for end in BOX_SUFFIXES if path.name.lower().endswith(end)), "")
    bare = path.name[: -len(end)] if end else image_name(path)
    return bare or path.name


def is_box_file(path: Path) -> bool:
    """Whether a file holds boxes, by its suffix.

    Examples:
        >>> is_box_file(Path("a_boxes.json")), is_box_file(Path("a.nii.gz"))
        (True, False)
    """
    return path.name.lower().endswith(BOX_SUFFIXES)


@dataclass
class SideFile:
    """A file, the name of its case, and a longer name in case the first occurs twice."""

    path: Path
    name: str
    long_name: str
    rater: str | None = None


@dataclass
class Side:
    """The predictions or the truths; names are `fixed` if they come from a pattern."""

    files: list[SideFile]
    fixed: bool
    passed_by: list[Unpaired]
    folder: Path = field(default_factory=Path)
    by_path: bool = False
    is_list: bool = False
    """Whether it is one table with the boxes of all cases."""

    def call_as_cases(self, others: set[str]) -> None:
        """CASE_boxes is of CASE, unless the other side has a case CASE_boxes."""
        for file in self.files:
            if file.name.endswith(_BOXES) and file.name not in others:
                file.name = file.name.removesuffix(_BOXES)
                file.long_name = file.long_name.removesuffix(_BOXES)

    def gather_raters(self, others: set[str]) -> None:
        """CASE_rater1 belongs to CASE, unless the other side has a case CASE_rater1."""
        for file in self.files:
            match = _RATER.fullmatch(file.name)
            if match and file.name not in others:
                file.name, file.rater = match["case"], match["rater"]
                file.long_name = file.long_name.removesuffix(f"_rater{file.rater}")

    def list_all(self, cases: Iterable[str]) -> None:
        """Of these cases, those without a row are cases without boxes."""
        if self.is_list:
            listed = {file.name for file in self.files}
            table = self.files[0].path
            names = (name for name in dict.fromkeys(cases) if name not in listed)
            self.files += [SideFile(table, name, name) for name in names]

    def ambiguous(self) -> set[str]:
        """Names shared by several files that are not raters of one case."""
        counts = Counter((file.name, file.rater) for file in self.files)
        return set() if self.fixed else {name for (name, _), n in counts.items() if n > 1}

    def by_case(self, other: Side) -> dict[str, list[SideFile]]:
        """Files by case, with the long name if the short one is ambiguous on either side."""
        twice = self.ambiguous() | other.ambiguous()
        cases: dict[str, list[SideFile]] = {}
        for file in self.files:
            case = file.long_name if file.name in twice and not self.fixed else file.name
            cases.setdefault(case, []).append(file)
        return cases


def find_side(
    text: str,
    pattern: str | None,
    name: str,
    *,
    raters: bool,
    other: str = "",
    output: str | os.PathLike[str] | None = None,
) -> Side:
    """All files of one side, except results, and except the other side if it is a folder below."""
    by_path = has_wildcards(text)
    if by_path:
        if pattern is not None:
            raise refusal(name, f"must be a folder where `{name}_pattern=` is given, got {text}")
        folder, pattern = split_pattern(text, name=name)
    else:
        folder = Path(text)
    if pattern is None and (cases := cases_of_list(folder)):
        listed = [SideFile(folder, case, case) for case in cases]
        return Side(listed, fixed=True, passed_by=[], folder=folder.parent, is_list=True)
    _check_folder(folder, name)
    rule = None
    if pattern is not None:
        rule = read_pattern(pattern, name=f"{name}_pattern", rater=raters)
    named = rule is None or "/" not in rule.text.removeprefix("**/")  # not by a path on purpose
    files = _files(folder, output, folder_of(other) if named and other else None)
    side = _matching(folder, rule, files) if rule else _images(folder, files)
    side.folder, side.by_path = folder, by_path
    if not side.files:
        expected = f"files that match {pattern}" if pattern else "images or files of boxes"
        known = f"; images end in {', '.join(IMAGE_SUFFIXES)}"
        old = any(path.suffix.lower() in (".fcsv", ".acsv") for path in files)
        cure = "; of 3D Slicer, ROIs are read, saved as .mrk.json" if old else ""
        raise refusal(name, f"must hold {expected}, found none in {folder}{known}{cure}")
    return side


def _check_folder(folder: Path, name: str) -> None:
    complaint = None
    if is_dangling(folder):
        complaint = f"must exist, but {folder} is {link_fault(folder)}"
    elif folder.is_file():
        complaint = f"must be a folder, as the other side is one, got the file {folder}"
    elif not folder.is_dir():
        complaint = f"must exist, found no {folder}"
    if complaint is not None:
        raise refusal(name, complaint, FileNotFoundError)


def cases_of_list(path: Path) -> tuple[str, ...]:
    """The cases that a table of boxes names in each row, none of any other file.

    Raises:
        ValueError: If it is called a table, and is none.

    Examples:
        >>> cases_of_list(Path("a.nii.gz"))
        ()
    """
    is_table = path.name.lower().endswith(".csv") and path.is_file()
    return tuple(map(one_form, listed_cases(path))) if is_table else ()


def folder_of(text: str) -> Path:
    """The folder in which a side is searched.

    Examples:
        >>> str(folder_of("pred/{case}_prob.nii.gz")), str(folder_of("pred"))
        ('pred', 'pred')
    """
    return split_pattern(text, name="pattern")[0] if has_wildcards(text) else Path(text)


def _matching(folder: Path, rule: FilePattern, paths: list[Path]) -> Side:
    files, passed_by = [], []
    for path in paths:
        match = rule.match(path, folder)
        if match is None:
            passed_by.append(Unpaired(path, f"does not match {rule.text}"))
        else:
            files.append(
                SideFile(path, match["case"], match["case"], match.groupdict().get("rater"))
            )
    return Side(files, fixed=True, passed_by=passed_by)


def _images(folder: Path, all_paths: list[Path]) -> Side:
    """Images, or boxes if there are no images, which often come with JSON files."""
    passed_by = _beside_boxes(all_paths)
    left_out = {file.path for file in passed_by}
    all_paths = [path for path in all_paths if path not in left_out]
    paths = [path for path in all_paths if path.name.lower().endswith(IMAGE_SUFFIXES)]
    paths = paths or sorted(filter(_is_series, {path.parent for path in all_paths}))
    paths = paths or [path for path in all_paths if path.name.lower().endswith(_ALONE)]
    paths += [path for path in all_paths if not path.suffix and is_dangling(path)]  # a folder's
    files = []
    for path in paths:
        parent, name = path.relative_to(folder).parent, one_form(file_name(path))
        files.append(SideFile(path, name, one_form((parent / name).as_posix())))
    images, used = list(filter(is_image_name, paths)), set(paths)
    if images:  # where files of boxes are used, nothing else is meant
        passed_by += unread((path for path in all_paths if path not in used), images)
    return Side(files, fixed=False, passed_by=passed_by)


_ALONE = (".json", ".npz", f"{_BOXES}.csv")
"""Files of boxes in a folder without images; other tables list many cases, or are no boxes."""


def _beside_boxes(paths: list[Path]) -> list[Unpaired]:
    """What `detect` writes beside CASE_boxes.json: the same for 3D Slicer, and the heat map."""
    named = {path for path in paths if path.name.endswith((".json", ".npz"))}
    passed_by = []
    for path in paths:
        name = file_name(path)
        boxes = path.with_name(f"{name}.json")
        if name.endswith(_BOXES) and path.name.endswith(".mrk.json") and boxes in named:
            passed_by.append(Unpaired(path, f"{boxes.name} is used"))
        stem = name.removesuffix(_HEATMAP)
        ours = {path.with_name(f"{stem}{_BOXES}{end}") for end in (".json", ".mrk.json")} & named
        if name.endswith(_HEATMAP) and ours:
            passed_by.append(Unpaired(path, f"{min(ours).name} is used"))
    return passed_by


def _is_series(folder: Path) -> bool:
    """A folder of DICOM slices, also of slices that are links to nothing."""
    slices = [path for path in folder.iterdir() if path.name.lower().endswith(".dcm")]
    return is_dicom_folder(folder) or any(map(is_dangling, slices))


def _files(folder: Path, output: str | os.PathLike[str] | None, other: Path | None) -> list[Path]:
    """Files and dangling links below the folder, without results, dot files and the other side."""
    results = None if output is None else _below(folder, Path(output))
    below = None if other is None else _below(folder, other)
    skipped = None if other is None or below in (None, Path()) else os.path.realpath(other)
    paths = sorted(_below_all(folder, skipped))
    runs = {path.parent.relative_to(folder) for path in paths if path.name == JOURNAL}
    if results == Path():
        runs.add(Path())
        results = None
    kept = []
    for path in paths:
        place = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in place.parts)
        ours = place.name in OUTPUTS and place.parent in runs
        ours = ours or (results is not None and place.is_relative_to(results))
        if not (hidden or ours) and not path.is_dir():
            kept.append(path)
    return kept


def _below_all(folder: Path, skipped: str | None) -> Iterator[Path]:
    """All files below, also behind links; a folder reached twice counts once."""
    seen: set[str] = set() if skipped is None else {skipped}
    for name, folders, files in os.walk(folder, followlinks=True):
        if os.path.realpath(name) in seen:
            folders.clear()
            continue
        seen.add(os.path.realpath(name))
        folders.sort()
        yield from (Path(name, file) for file in files)


def _below(folder: Path, output: Path) -> Path | None:
    """Path of the output in the folder: `.` if it is the folder, None if it is elsewhere."""
    inside, outside = (Path(os.path.realpath(path)) for path in (output, folder))
    return inside.relative_to(outside) if inside.is_relative_to(outside) else None
