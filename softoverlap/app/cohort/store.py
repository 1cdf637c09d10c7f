"""The journal of a run: one line for each finished case, so that nothing is computed twice."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from softoverlap import __version__
from softoverlap.app.cohort.names import JOURNAL
from softoverlap.app.cohort.records import CaseFiles, CaseResult, ScoreSettings
from softoverlap.app.cohort.voxels import MEASURES
from softoverlap.app.columns import TABLES
from softoverlap.images import parse_json

try:
    import fcntl
except ImportError:  # not on Windows, where nothing keeps two runs apart
    fcntl = None

FORMAT, VERSION = "softoverlap-scores", 4
_HEAD = {"format": FORMAT, "version": VERSION}
_FIELDS = ("rows", "lesions", "matches", "statistics")
CONTENTS = [
    *(f"{column.name} of {name}" for name, table in TABLES.items() for column in table),
    *map(repr, MEASURES),
]
"""What the results of a case hold: columns, and the measures with their settings."""


@dataclass(frozen=True)
class JournalEntry:
    """A finished case: its key, its result, and the files it was scored from."""

    key: str
    result: CaseResult
    files: CaseFiles

    def is_sound(self) -> bool:
        """Whether the entry has the types that were written."""
        lists = [self.files, *(getattr(self.result, name) for name in _FIELDS)]
        return (
            isinstance(self.key, str)
            and isinstance(self.result.case, str)
            and all(isinstance(rows, list) for rows in lists)
            and all(isinstance(side, list) for side in self.files)
            and all(isinstance(row, dict) for rows in lists[1:] for row in rows)
            and any("case" in row for row in self.result.rows)
            and all("outcomes" in match for match in self.result.matches)
        )


class Journal:
    """Finished cases, appended line by line; the first line holds the settings and the columns.

    Every line is on disk before the next case starts. A line that a crash or a full disk cut off
    is removed, and its case is scored again. The file stays as it is until the first case is
    finished.

    Args:
        folder: Folder of the results; it must exist.
        settings: Settings of the run.
        overwrite: Drop the results of an earlier run, as soon as the first new case is finished.

    Raises:
        ValueError: If the folder's journal has other settings or columns or another version, or is
            not a journal.
        OSError: If it cannot be written, or another run is writing it.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with Journal(folder, ScoreSettings()) as journal:
        ...     journal.append("key", CaseResult("a", [{"case": "a", "soft_dice": 1.0}]))
        >>> with Journal(folder, ScoreSettings()) as journal:
        ...     journal.finished("a", "key").rows
        [{'case': 'a', 'soft_dice': 1.0}]
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        settings: ScoreSettings,
        *,
        overwrite: bool = False,
    ) -> None:
        self.path = Path(folder) / JOURNAL
        self._known: dict[str, JournalEntry] = {}
        self._header = {**_HEAD, "softoverlap": __version__}
        self._header |= {"settings": settings.as_dict(), "contents": CONTENTS}
        # Never unlinked: the lock is on the file, not on its name.
        # Unbuffered: what a full disk refused must not be written later.
        self._file = self.path.open("a+b", buffering=0)
        try:
            _lock(self._file, self.path)
            self._keep = self._read(overwrite=overwrite)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def finished(self, case: str, key: str) -> CaseResult | None:
        """The result of a case that is finished with this key, or None."""
        entry = self._known.get(case)
        return entry.result if entry and entry.key == key else None

    def others(self, cases: Collection[str]) -> list[str]:
        """Cases in the journal that are not among these."""
        return sorted(set(self._known) - set(cases))

    def check_files(self, files: Mapping[str, CaseFiles]) -> None:
        """Refuse cases that were scored from other paths: they belong to another cohort."""
        for case, now in files.items():
            entry = self._known.get(case)
            if entry is None or entry.result.error is not None:
                continue
            for before, paths in zip(entry.files, now, strict=False):
                if before and paths and before != paths:
                    raise ValueError(
                        f"{self.path.parent} must hold results of the same files, got case {case} "
                        f"of {';'.join(before)}, now {';'.join(paths)}: pass `overwrite=True` "
                        "or another `output=`"
                    )

    def append(self, key: str, result: CaseResult, files: CaseFiles | None = None) -> None:
        """Save the result of a case; it replaces an earlier result of that case."""
        entry = JournalEntry(key, result, files or [])
        if self._keep is not None:
            self._file.truncate(self._keep)
            if self._keep == 0:
                self._write(self._header)
            self._keep = None
        self._write({"key": key, "files": entry.files, **asdict(result)})
        self._known[result.case] = entry

    def _write(self, content: dict[str, Any]) -> None:
        """Write a whole line, or nothing."""
        line = json.dumps(content, allow_nan=False).encode() + b"\n"
        start = self._file.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(start)
            raise OSError(error.errno, error.strerror, str(self.path)) from error

    def _read(self, *, overwrite: bool) -> int:
        """Read the finished cases of an earlier run; return how many bytes of the file to keep."""
        self._file.seek(0)
        text = self._file.read()
        if _is_unfinished_header(text):
            return 0
        whole = text[: text.rfind(b"\n") + 1]
        header, *lines = whole.splitlines() or [b""]
        _check_header(_json_object(header), self._header, self.path, overwrite=overwrite)
        if overwrite:
            return 0
        for entry in filter(None, map(_entry, lines)):
            self._known[entry.result.case] = entry
        return len(whole)


def _is_unfinished_header(text: bytes) -> bool:
    """Whether the file is empty, or a journal whose first line was cut off."""
    head = json.dumps(_HEAD).encode()[:-1]
    return b"\n" not in text and (head.startswith(text) or text.startswith(head))


def _entry(line: bytes) -> JournalEntry | None:
    """A finished case; None if the line is damaged: then the case is scored again."""
    content = _json_object(line)
    try:
        key, files = content.pop("key"), content.pop("files")
        entry = JournalEntry(key, CaseResult(**content), files)
    except (KeyError, TypeError):
        return None
    return entry if entry.is_sound() else None


def _json_object(line: bytes) -> dict[str, Any]:
    """The JSON object in a line, empty if there is none."""
    try:
        content = parse_json(line)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _check_header(
    header: dict[str, Any], expected: dict[str, Any], path: Path, *, overwrite: bool
) -> None:
    """Refuse a file that is no journal, and unless it is overwritten, one of other results."""
    is_journal = header.get("format") == FORMAT and isinstance(header.get("settings"), dict)
    if not is_journal or (header.get("version") != VERSION and not overwrite):
        raise ValueError(
            f"{path} must begin as a journal of version {VERSION}, got another file: remove it or "
            "pass another `output=`"
        )
    if overwrite:
        return
    now = {"softoverlap": expected["softoverlap"], **expected["settings"]}
    before = {"softoverlap": header.get("softoverlap"), **header["settings"]}
    changed = [name for name in now if now[name] != before.get(name)]
    _refuse_changes(
        path, "settings", [f"{name} {before.get(name)!r}, now {now[name]!r}" for name in changed]
    )
    now, before = expected["contents"], header.get("contents") or []
    added = [f"none for {name}" for name in now if name not in before]
    removed = [f"one that is gone, {name}" for name in before if name not in now]
    _refuse_changes(path, "columns and measures", added + removed)


def _refuse_changes(path: Path, what: str, changes: list[str]) -> None:
    """Results that were made in another way must not be mixed with new ones."""
    if changes:
        words = ", ".join(changes[:9]) + (", …" if len(changes) > 9 else "")
        raise ValueError(
            f"{path.parent} must hold results of the same {what}, got {words}: pass "
            "`overwrite=True` or another `output=`"
        )


def _lock(file: IO[bytes], path: Path) -> None:
    """Allow one run at a time; the lock ends with the process. Some network drives have none."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(f"{path.parent} is being written by another run") from error
    except OSError:
        return
