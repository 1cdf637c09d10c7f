"""How much memory one call takes beyond what was there, by Linux's own high-water mark."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

KNOWN = Path("/proc/self/clear_refs").exists()
"""Whether the system tells it."""


def bytes_beyond(run: Callable[[], object]) -> int:
    """The most bytes that were held while it ran, less those held before."""
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def printed_numbers(script: str) -> list[float]:
    """What a script prints, run by a process of its own that finds the tests."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return [float(line) for line in done.stdout.split()]


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))
