"""Patterns of file names with the case and the rater."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from softoverlap._checks import refusal

_TOKENS = re.compile(r"(\{[^{}]*\}|\*\*/|\*|\?)")
_WILDCARDS = {"**/": r"(?:.*/)?", "*": r"[^/]*", "?": r"[^/]"}
_FIELDS = {"{case}": r"(?P<case>[^/]+)", "{rater}": r"(?P<rater>[^/]+)"}


def one_form(name: str) -> str:
    """The name in Unicode's form NFC: macOS may store the same name in another.

    Examples:
        >>> one_form("Zoe\u0308") == "Zo\u00eb"
        True
    """
    return unicodedata.normalize("NFC", name)


@dataclass(frozen=True)
class FilePattern:
    """A pattern of file names.

    Args:
        text: The pattern: `{case}`, `{rater}`, `*` and `?` within a name, `**/` for any folders.
        expression: The same as a regular expression with the groups `case` and, if any, `rater`.

    Examples:
        >>> pattern = read_pattern("{case}_seg.nii.gz", name="truth_pattern")
        >>> pattern.match(Path("data/sub-1/a_1_seg.nii.gz"), Path("data"))["case"]
        'a_1'
    """

    text: str
    expression: re.Pattern[str]

    def match(self, path: Path, folder: Path) -> re.Match[str] | None:
        """Match the name of a file, or its path below the folder if the pattern has a slash."""
        nested = "/" in self.text
        name = path.relative_to(folder).as_posix() if nested else path.name
        return self.expression.fullmatch(one_form(name))


def read_pattern(text: str, *, name: str, rater: bool = False) -> FilePattern:
    """Read a pattern; a placeholder that occurs twice must match the same text both times.

    Args:
        text: The pattern, with `{case}`.
        name: The argument of the pattern, for messages.
        rater: Whether it may contain `{rater}`.

    Returns:
        The pattern.

    Raises:
        ValueError: If it does not contain `{case}`, or contains an unknown placeholder.

    Examples:
        >>> nested = read_pattern("{case}/anat/{case}_T1.nii", name="pred")
        >>> nested.match(Path("sub-1/anat/sub-2_T1.nii"), Path(".")) is None
        True
    """
    known = list(_FIELDS) if rater else ["{case}"]
    parts: list[str] = []
    for token in _TOKENS.split(one_form(text)):
        if token.startswith("{") and token not in known:
            raise refusal(name, f"must hold only {' and '.join(known)} in braces, got {token}")
        if token in _FIELDS and _FIELDS[token] in parts:
            parts.append(f"(?P={token[1:-1]})")
        else:
            parts.append(_FIELDS.get(token) or _WILDCARDS.get(token) or re.escape(token))
    if "{case}" not in text:
        raise refusal(name, f"must say with {{case}} where the case is, got {text!r}")
    return FilePattern(text, re.compile("".join(parts)))


def has_wildcards(text: str) -> bool:
    """Whether it is a pattern, and not the name of an existing file.

    Examples:
        >>> has_wildcards("scans/*.nii"), has_wildcards("scans")
        (True, False)
    """
    return any(sign in text for sign in "*?{") and not Path(text).exists()


def split_pattern(text: str, *, name: str) -> tuple[Path, str]:
    """The folder before the first part with a wildcard, and the pattern below it.

    Without `{case}`, a single `*` stands for the case.

    Args:
        text: A path with wildcards.
        name: The argument of the pattern, for messages.

    Returns:
        The folder and the pattern.

    Raises:
        ValueError: If it does not say where the case is.

    Examples:
        >>> folder, pattern = split_pattern("runs/*/pred.nii.gz", name="pred")
        >>> str(folder), pattern
        ('runs', '{case}/pred.nii.gz')
    """
    parts = Path(text).parts
    first = next(i for i, part in enumerate(parts) if any(sign in part for sign in "*?{"))
    below = "/".join(parts[first:])
    if "{case}" not in below:
        if below.count("*") != 1:
            raise refusal(
                name, f"must say with {{case}} or a single * where the case is, got {text!r}"
            )
        below = below.replace("*", "{case}")
    return Path(*parts[:first]), below
