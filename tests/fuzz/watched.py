"""A process that is watched: it ends within its limits of memory and time, or is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_EVERY = 0.05


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Args:
        status: Its exit status; negative if a signal ended it.
        text: All that it printed, standard output first.
        seconds: How long it took.
        mebibytes: The most memory that it and its children held at once.
        stopped: "memory" or "time" if it went beyond a limit and was ended, else "".
    """

    status: int
    text: str
    seconds: float
    mebibytes: float
    stopped: str


def watched(
    command: Sequence[str], log: Path, *, mebibytes: float, seconds: float, cwd: Path | None = None
) -> Ended:
    """Run a command within limits; what it prints goes into `log` and `log` with `.err`."""
    errors, start = log.with_suffix(".err"), time.monotonic()
    most, stopped = 0.0, ""
    with log.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, cwd=cwd,
            start_new_session=True,
        )  # fmt: skip
        try:
            while process.poll() is None:
                most = max(most, _held(process.pid))
                spent = time.monotonic() - start
                stopped = "memory" if most > mebibytes else "time" if spent > seconds else ""
                if stopped:
                    break
                time.sleep(_EVERY)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # its children too
                process.wait()
    text = "".join(path.read_text("utf-8", "backslashreplace") for path in (log, errors))
    return Ended(process.returncode, text, time.monotonic() - start, most, stopped)


def _held(session: int) -> float:
    """Memory of all processes of a session, in MiB."""
    pages = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(folder.name)) == session:
                pages += int((folder / "statm").read_text().split()[1])
        except (OSError, ValueError):  # it has ended meanwhile
            continue
    return pages * _PAGE / (1 << 20)
