"""Patterns that would have paired files whose names do not match."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from softoverlap.app.cohort.patterns import read_pattern
from softoverlap.app.cohort.sides import Side, file_name

_MODELS, _LOOKED_AT = 4, 400
_PIECES = re.compile(r"[^\W\d_]+|\d+|[\W_]")
_TRUTHS = ("lesion", "seg", "label", "mask", "truth", "gt", "consensus")


class _Reading(NamedTuple):
    """A way to read the names of a side: its pattern, None for names as they are, and its cases."""

    pattern: str | None
    cases: frozenset[str]


def pattern_hint(preds: Side, truths: Side, *, more_than: int) -> str:
    """What to pass so that more cases are on both sides, tried out on the files; or nothing.

    Args:
        preds: The predictions.
        truths: The truths.
        more_than: Number of cases that are on both sides already.

    Returns:
        Words with one pattern or two, or an empty text.
    """
    best: tuple[tuple[float | int, ...], _Reading, _Reading] | None = None
    fewest = min(len(_paths(preds)), len(_paths(truths)), _LOOKED_AT)
    readings = list(_readings(truths))
    for pred in _readings(preds):
        for truth in readings:
            shared = pred.cases & truth.cases
            if not shared or 2 * len(shared) < fewest or _by_chance(pred, truth):
                continue
            worth = _worth(pred, truth, shared)
            if best is None or worth > best[0]:
                best = worth, pred, truth
    if best is None:
        return ""
    sides = list(zip(("pred", "truth"), (preds, truths), best[1:], strict=True))
    read = [_read(side, reading.pattern, _paths(side)) for _, side, reading in sides]
    count = len(read[0] & read[1])
    named = [_argument(n, side, one.pattern) for n, side, one in sides if one.pattern is not None]
    if count <= more_than or not named:
        return ""
    return f"pass {' and '.join(named)}, which pairs {count} case{'s' * (count > 1)}"


def _worth(pred: _Reading, truth: _Reading, shared: frozenset[str]) -> tuple[float | int, ...]:
    """Many pairs, few files left over, no word at the end of all cases, long cases, and so on."""
    ends = {_PIECES.findall(case)[-1] for case in shared}
    repeated = len(shared) > 1 == len(ends) and not min(ends).isdigit()
    length = sum(map(len, shared)) / len(shared)
    given = sum(reading.pattern is not None for reading in (pred, truth))
    words = sum(word in (truth.pattern or "").lower() for word in _TRUTHS)
    short = -sum(len(reading.pattern or "") for reading in (pred, truth))
    left = len(pred.cases ^ truth.cases)
    return len(shared), -left, -repeated, length, -given, words, short


def _by_chance(pred: _Reading, truth: _Reading) -> bool:
    """A single shared word may be `mask`: a case has a digit, or opens both names."""
    shared = pred.cases & truth.cases
    if len(shared) > 1 or any(any(sign.isdigit() for sign in case) for case in shared):
        return False
    return not all((reading.pattern or "{case}").startswith("{case}") for reading in (pred, truth))


def _argument(name: str, side: Side, pattern: str | None) -> str:
    """What to pass for a side: its pattern, or a path with it where it was given as such."""
    if side.by_path:
        return f'`{name}=` "{side.folder / str(pattern)}"'
    return f'`{name}_pattern=` "{pattern}"'


def _paths(side: Side) -> list[Path]:
    return [file.path for file in (*side.files, *side.passed_by)]


def _readings(side: Side) -> Iterator[_Reading]:
    """All ways in which the names of the first files suggest to read those of the side."""
    paths = _paths(side)[:_LOOKED_AT]
    patterns: dict[str | None, None] = {} if side.fixed else {None: None}
    for path in [*paths[: _MODELS - 1], paths[-1]]:
        patterns |= dict.fromkeys(_patterns(path.relative_to(side.folder)))
    for pattern in patterns:
        if cases := _read(side, pattern, paths):
            yield _Reading(pattern, cases)


def _read(side: Side, pattern: str | None, paths: list[Path]) -> frozenset[str]:
    """The cases of a side's files by a pattern, or as they are named; none if two are of one."""
    if pattern is None:
        return frozenset(file.name for file in side.files)
    rule = read_pattern(pattern, name="pattern")
    matches = (rule.match(path, side.folder) for path in paths)
    found = Counter(match["case"] for match in matches if match)
    return frozenset(found) if found and max(found.values()) == 1 else frozenset()


def _patterns(path: Path) -> Iterator[str]:
    """The name with each run of its pieces as the case, and the path with each of its folders."""
    if any(sign in str(path) for sign in "{}*?"):
        return
    stem = file_name(path)
    end = path.name[len(stem) :]
    pieces = _PIECES.findall(stem)
    for first, piece in enumerate(pieces):
        for last in range(first, len(pieces)):
            if piece.isalnum() and pieces[last].isalnum():
                before, after = "".join(pieces[:first]), "".join(pieces[last + 1 :])
                yield f"{before}{{case}}{after}{end}"
    for folder in path.parts[:-1]:
        yield "/".join(part.replace(folder, "{case}") for part in path.parts)
