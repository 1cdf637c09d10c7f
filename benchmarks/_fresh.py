"""Ours and a peer, each in fresh processes that take turns: time and memory beyond the inputs.

A script lists its cases by name, each a function that makes the inputs and returns what is
measured, and calls `compared` with the pairs that interest it. The same script, called with
`--case NAME`, measures that case alone and prints a line of JSON.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Case = Callable[[], Callable[[], object]]


def case_asked(
    cases: Mapping[str, Case], repeats: int = 5, *, least: float = 0.0, most: float = math.inf
) -> bool:
    """Whether this process is here for one case; if so, that is measured and printed."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--case")
    name = parser.parse_known_args()[0].case
    if name is None:
        return False
    print(json.dumps(measured(cases[name](), repeats, least=least, most=most)))
    return True


def measured(
    run: Callable[[], object], repeats: int, *, least: float = 0.0, most: float = math.inf
) -> dict[str, float]:
    """Median and least seconds of a call, and the memory that one takes beyond what was there.

    That is the high-water mark of the process during a warm call, less what it held before it.
    While memory is measured the allocator gives back at once what is freed, so that what it keeps
    neither counts nor hides what a call needs; while time is, it keeps what a long process does.
    Short calls are repeated until they took `least` seconds in all; long ones end once they took
    `most`, after one call at the earliest.
    """
    _keep_freed_memory(below=1 << 16)
    run()
    before = _restart_high_water()
    run()
    peak = _status("VmHWM") - before
    _keep_freed_memory(below=1 << 25)
    run()
    times: list[float] = []
    while not times or (sum(times) < most and (len(times) < repeats or sum(times) < least)):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return {"seconds": statistics.median(times), "best": min(times), "bytes": peak}


def compared(
    script: str, pairs: Mapping[str, tuple[str, str]], rounds: int = 3, options: Sequence[str] = ()
) -> dict[str, dict[str, object]]:
    """For each pair of cases (ours, the peer's): ratios of `rounds` turns, ours over the peer."""
    figures: dict[str, dict[str, object]] = {}
    for name, sides in pairs.items():
        turns = [[in_process(script, side, options) for side in sides] for _ in range(rounds)]
        ratios = [ours["seconds"] / peer["seconds"] for ours, peer in turns]
        ours, peer = (
            {key: statistics.median(turn[side][key] for turn in turns) for key in turns[0][side]}
            for side in (0, 1)
        )
        figures[name] = {
            "time_over_peer": statistics.median(ratios),
            "time_over_peer_min_max": [min(ratios), max(ratios)],
            "memory_over_peer": ours["bytes"] / max(1.0, peer["bytes"]),
            "ours": ours,
            "peer": {"case": sides[1], **peer},
        }
        print(
            f"{name}: {figures[name]['time_over_peer']:.2f} ({min(ratios):.2f} to "
            f"{max(ratios):.2f}) of the time, {figures[name]['memory_over_peer']:.2f} of the "
            f"memory of {sides[1]}",
            flush=True,
        )
    return figures


def in_process(script: str, case: str, options: Sequence[str] = ()) -> dict[str, float]:
    """One case of a script, measured in a process of its own."""
    command = [sys.executable, str(Path(script).resolve()), "--case", case, *options]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(output.splitlines()[-1])


def _keep_freed_memory(below: int) -> None:
    """Blocks of fewer bytes stay with glibc's allocator when they are freed, others go back."""
    mmap_threshold, trim_threshold = -3, -1  # of malloc.h
    libc = ctypes.CDLL(None)
    libc.mallopt(mmap_threshold, below)
    libc.mallopt(trim_threshold, 2 * below)


def _restart_high_water() -> int:
    """Let Linux forget the high-water mark; the bytes that are resident now."""
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))
