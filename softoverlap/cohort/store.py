"""The journal of a run: finished cases, a line each, so that nothing that is computed is lost."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from softoverlap.cohort.records import CaseResult, ScoreSettings

try:
    import fcntl
except ImportError:  # not on Windows, where nothing keeps two runs apart
    fcntl = None

JOURNAL = "scores.jsonl"
FORMAT, VERSION = "softoverlap-scores", 1


class Journal:
    """Finished cases, appended line by line; the first line holds the settings.

    Every line is on disk before the next case is taken. A line that a crash or a full disk cut
    off is removed, and its case is scored again.

    Args:
        folder: Folder of the results; it must exist.
        settings: Settings of the run.

    Raises:
        ValueError: If the folder's journal is of other settings, or no journal.
        OSError: If it cannot be written, or another run is writing it.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> with Journal(folder, ScoreSettings()) as journal:
        ...     journal.append("key", CaseResult("a", [{"case": "a", "soft_dice": 1.0}]))
        >>> with Journal(folder, ScoreSettings()) as journal:
        ...     journal.found("a", "key").rows
        [{'case': 'a', 'soft_dice': 1.0}]
    """

    def __init__(self, folder: str | os.PathLike[str], settings: ScoreSettings) -> None:
        self.path = Path(folder) / JOURNAL
        self._known: dict[str, tuple[str, CaseResult]] = {}
        # Without a buffer: what a full disk refused must not be tried again later.
        self._file = self.path.open("a+b", buffering=0)
        try:
            _lock(self._file, self.path)
            self._read(settings.as_dict())
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def found(self, case: str, key: str) -> CaseResult | None:
        """The result of a case that is finished with this key, or None."""
        known, result = self._known.get(case, ("", None))
        return result if known == key else None

    def append(self, key: str, result: CaseResult) -> None:
        """Keep the result of a case; a later one of the same case takes its place."""
        self._write({"key": key, **asdict(result)})
        self._known[result.case] = key, result

    def _write(self, content: dict[str, Any]) -> None:
        """A line, whole or not at all."""
        line = json.dumps(content, allow_nan=False).encode() + b"\n"
        start = self._file.seek(0, os.SEEK_END)
        try:
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(start)
            raise

    def _read(self, settings: dict[str, Any]) -> None:
        """What an earlier run has finished; a new journal begins with its settings."""
        self._file.seek(0)
        text = self._file.read()
        whole = text[: text.rfind(b"\n") + 1]
        lines = whole.splitlines()
        self._file.truncate(len(whole))
        if not lines:
            self._write({"format": FORMAT, "version": VERSION, "settings": settings})
            return
        _check_header(_json_object(lines[0]), settings, self.path)
        for content in map(_json_object, lines[1:]):
            if content:  # a line that a crash of the machine has damaged is scored again
                key = content.pop("key")
                self._known[content["case"]] = key, CaseResult(**content)


def _json_object(line: bytes) -> dict[str, Any]:
    """The object of a line, empty if it is none."""
    try:
        content = json.loads(line)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _check_header(header: dict[str, Any], settings: dict[str, Any], path: Path) -> None:
    if header.get("format") != FORMAT or header.get("version") != VERSION:
        raise ValueError(f"{path} must begin as a journal of version {VERSION}, got another file")
    before = header["settings"]
    changed = [name for name in settings if settings[name] != before.get(name)]
    if changed:
        words = ", ".join(
            f"{name} {before.get(name)!r}, now {settings[name]!r}" for name in changed
        )
        raise ValueError(
            f"{path.parent} must hold results of the same settings, got {words}: pass --overwrite "
            "or another --output"
        )


def _lock(file: IO[bytes], path: Path) -> None:
    """One run at a time; the lock ends with the process. Some network drives have no locks."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BlockingIOError(f"{path.parent} is being written by another run") from error
    except OSError:
        return
