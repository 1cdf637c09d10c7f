"""A command goes through a family of damaged files: what it is given, and what it made of them."""

from __future__ import annotations

import csv
import platform
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.fuzz.folders import Folders, case_of
from tests.fuzz.watched import Ended, watched
from tests.support.corpus import FAMILIES, SEED, Damaged

ROOT = Path(__file__).parents[2]
MEBIBYTES = 2048
SECONDS = 600
OPTIONS = ("--max-memory", "1GB", "--read-timeout", "20")
"""What the limits of the commands are set to, so that the figures do not depend on the machine."""


@dataclass(frozen=True)
class Run:
    """How a command went through a family.

    Args:
        family: Name of the kind, which is a family or all files of boxes.
        command: Name of the command.
        files: Damaged files of the family.
        refused: Those that the command refused.
        unnamed: Those that no line names.
        status: Exit status; negative for a signal.
        traceback: Whether a traceback was printed.
        stopped: The limit that was exceeded, or "".
        seconds: Time of the process.
        mebibytes: Most memory of the process and its children.
    """

    family: str
    command: str
    files: int
    refused: int
    unnamed: tuple[str, ...]
    status: int
    traceback: bool
    stopped: str
    seconds: float
    mebibytes: float

    @property
    def holds(self) -> bool:
        """Whether all went as promised."""
        good = self.status in (0, 1, 2) and not self.traceback and not self.stopped
        return good and not self.unnamed

    def line(self) -> str:
        """The run in words."""
        ended = self.stopped or f"status {self.status}"
        wrong = f"; unnamed: {len(self.unnamed)}: {self.unnamed[:5]}" if self.unnamed else ""
        wrong += "; traceback" if self.traceback else ""
        return (
            f"{'ok ' if self.holds else 'BAD'} {self.family} {self.command}: {self.files} files, "
            f"{self.refused} refused, {ended}, {self.seconds:.1f} s, "
            f"{self.mebibytes:.0f} MiB{wrong}"
        )


def run(family: str, command: str, items: Sequence[Damaged], work: Path) -> Run:
    """Write the files, run the command on them, and see what it said of each."""
    shutil.rmtree(work, ignore_errors=True)
    folders = Folders(work, family, items)
    words = [sys.executable, "-m", "softoverlap", command, *folders.arguments(command), *OPTIONS]
    log = work / f"{command}.txt"
    ended = watched(words, log, mebibytes=MEBIBYTES, seconds=SECONDS, cwd=ROOT)
    tables = [path.read_text("utf-8", "backslashreplace") for path in folders.output.rglob("*.csv")]
    return Run(
        family, command, len(items), _refused(command, ended, folders.output),
        tuple(_unnamed(folders.items, "\n".join([ended.text, *tables]))), ended.status,
        "Traceback" in ended.text, ended.stopped, round(ended.seconds, 1), round(ended.mebibytes),
    )  # fmt: skip


_COUNTS = {
    "inspect": (r"(\d+) of \d+ files? cannot be read",),
    "boxes": (r", (\d+) failed;",),
    "convert": (r", (\d+) failed;",),
    "train": (r"(\d+) of \d+ cases? cannot be used", r"(\d+) files? not paired"),
}


def _refused(command: str, ended: Ended, output: Path) -> int:
    """How many files the command says it could not use."""
    if command == "score":
        path = output / "cases.csv"
        if not path.exists():
            return 0
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return sum(bool(row["error"]) for row in csv.DictReader(stream))
    found = [re.search(pattern, ended.text) for pattern in _COUNTS[command]]
    return sum(int(match[1]) for match in found if match)


def _unnamed(items: Sequence[Damaged], text: str) -> Iterator[str]:
    """Files that nothing names, apart from characters that are escaped in print.

    Long names are looked for first, and taken out: a name that begins another's is not named by it.
    """
    said = _letters(text)
    by_letters: dict[str, list[Damaged]] = {}
    for item in items:
        by_letters.setdefault(_letters(case_of(item)), []).append(item)
    for name in sorted(by_letters, key=len, reverse=True):
        if name not in said:
            yield from (ascii(item.name) for item in by_letters[name])
        elif name:
            said = said.replace(name, "|")


def _letters(text: str) -> str:
    """Letters and digits alone, without the escapes of the others."""
    plain = text.encode("ascii", "ignore").decode()
    return re.sub(r"\\[nrt]|\\x..|\\u....|\\ud...|[^A-Za-z0-9]", "", plain)


def figures(runs: Sequence[Run]) -> dict[str, object]:
    """What is stored: the limits, totals, and a record for each family and command."""
    families = {
        family: {
            "files": next(one.files for one in runs if one.family == family),
            "commands": {
                one.command: {k: v for k, v in asdict(one).items() if k not in _KEYS}
                for one in runs
                if one.family == family
            },
        }
        for family in dict.fromkeys(one.family for one in runs)
    }
    return {
        "machine": {"python": platform.python_version(), "device": platform.machine()},
        "seed": SEED,
        "limits": {"mebibytes": MEBIBYTES, "seconds": SECONDS, "options": OPTIONS},
        "files": sum(int(str(families[name]["files"])) for name in families if name in FAMILIES),
        "processes": len(runs),
        "statuses": {str(k): n for k, n in sorted(Counter(one.status for one in runs).items())},
        "worst_seconds": max(one.seconds for one in runs),
        "worst_mebibytes": max(one.mebibytes for one in runs),
        "families": families,
    }


_KEYS = ("family", "command", "files")
