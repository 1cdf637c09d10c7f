"""Scoring a cohort: scans a second in one process, in a pool and on Dask, and the peak memory.

python benchmarks/cohort.py                    all of it
python benchmarks/cohort.py --shape 64 64 60   the memory of a smaller pair, printed alone
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from _measure import store

from softoverlap.app.cohort import (
    DaskRunner,
    ProcessPool,
    ScorePair,
    find_pairs,
    score_case,
    score_cohort,
    serial,
)
from softoverlap.images import save_nifti

LARGE = (512, 512, 600)
SCAN = (128, 128, 64)
SCANS = 96
SPARE_BYTES = 0.8e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3)
    parser.add_argument("--scans", type=int, default=SCANS)
    parser.add_argument("--pair", type=Path, nargs=2, help="score this pair, print the peak")
    options = parser.parse_args()
    if options.pair:
        print(json.dumps(peak_of(*options.pair)))
    elif options.shape:
        print(json.dumps(memory(options.shape)))
    else:
        store("cohort", "cpu", {"speed": speed(options.scans), "memory": memory(LARGE)})


def lesions(shape: Sequence[int], seed: int, count: int = 40) -> torch.Tensor:
    """A mask with soft balls all over it."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(*shape)
    for _ in range(count):
        radius = int(torch.randint(2, 7, (1,), generator=generator))
        centre = [int(torch.randint(radius, n - radius, (1,), generator=generator)) for n in shape]
        window = tuple(slice(c - radius, c + radius + 1) for c in centre)
        grid = torch.meshgrid(*[torch.arange(-radius, radius + 1.0)] * 3, indexing="ij")
        ball = (1.5 - torch.stack(grid).norm(dim=0) / radius).clamp(0, 1)
        mask[window] = torch.maximum(mask[window], ball)
    return mask


def write_pair(folder: Path, case: str, shape: Sequence[int], seed: int) -> None:
    """A truth, and a prediction that is one voxel off and a little less sure."""
    truth = lesions(shape, seed)
    for name, mask in (("truth", truth), ("pred", 0.9 * truth.roll(1, dims=0))):
        (folder / name).mkdir(parents=True, exist_ok=True)
        save_nifti(folder / name / f"{case}.nii.gz", mask, torch.eye(4))


def speed(scans: int) -> dict[str, object]:
    """Seconds of a whole run, and scans a second from the first result to the last."""
    workers = os.cpu_count() or 1
    runners = {
        "serial": serial,
        f"pool_{workers}": ProcessPool(workers),
        f"dask_{workers}": DaskRunner(f"local:{workers}"),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(scans):
            write_pair(folder, f"case-{number:03d}", SCAN, number)
        pairs = find_pairs(folder / "pred", folder / "truth").pairs
        figures = {}
        for label, runner in runners.items():
            begun, times = time.perf_counter(), []
            score_cohort(
                pairs, folder / label, runner=runner,
                progress=lambda _, times=times: times.append(time.perf_counter()),
            )  # fmt: skip
            figures[label] = {
                "seconds": times[-1] - begun,
                "seconds_to_first": times[0] - begun,
                "scans_a_second": (len(times) - 1) / (times[-1] - times[0]),
            }
        return {"scans": scans, "shape": SCAN, "runs": figures}


def memory(shape: Sequence[int]) -> dict[str, object]:
    """Peak memory of scoring one pair in a process of its own, and the bound that it must keep."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pair(folder, "large", shape, 0)
        paths = [str(folder / side / "large.nii.gz") for side in ("pred", "truth")]
        command = [sys.executable, __file__, "--pair", *paths]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    both = 2 * 4 * torch.Size(shape).numel()
    found = json.loads(output.splitlines()[-1])
    return {
        "shape": list(shape),
        "bound_bytes": 2 * both + SPARE_BYTES,
        "volumes_bytes": both,
    } | found


def peak_of(pred: Path, truth: Path) -> dict[str, float]:
    """Score a pair; the highest resident memory of this process (Linux) and the seconds."""
    begun = time.perf_counter()
    row = score_case(ScorePair("large", pred, (truth,))).rows[0]
    seconds = time.perf_counter() - begun
    status = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return {"peak_bytes": 1024 * kilobytes, "seconds": seconds, "soft_dice": row["soft_dice"]}


if __name__ == "__main__":
    main()
