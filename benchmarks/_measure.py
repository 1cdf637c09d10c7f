"""Shared by the benchmarks: timing side by side, the machine's description, the stored result."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


def arguments(description: str) -> argparse.Namespace:
    """The one option all benchmarks share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    return parser.parse_args()


def seconds(
    candidates: dict[str, Callable[[], object]], device: str, repeats: int = 9
) -> dict[str, float]:
    """Median seconds of each candidate; all take turns, so that a busy machine slows all alike."""
    for run in candidates.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            _wait(device)
            start = time.perf_counter()
            run()
            _wait(device)
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def machine(device: str) -> dict[str, object]:
    """What a reader needs to judge the figures."""
    on_gpu = device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name() if on_gpu else platform.machine(),
        "processor": processor(),
        "cpu_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": version("monai"),
    }


def processor() -> str:
    """The kind of the CPU, as Linux names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def store(name: str, device: str, figures: dict[str, object]) -> None:
    """Write the figures of this run to `benchmarks/results/`, one file a device."""
    suffix = "" if device == "cpu" else f"_{torch.cuda.get_device_name().replace(' ', '_')}"
    path = RESULTS / f"{name}{suffix}.json"
    path.write_text(json.dumps({"machine": machine(device), **figures}, indent=2) + "\n")
    print(f"written to {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def write_block(page: Path, marks: tuple[str, str], block: str) -> None:
    """Write what a stored run says between the marks of a page anew."""
    text = page.read_text(encoding="utf-8")
    head, tail = text.split(marks[0])[0], text.split(marks[1])[1]
    page.write_text(f"{head}{marks[0]}{block}{marks[1]}{tail}", encoding="utf-8")


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
