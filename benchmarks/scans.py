"""Scoring scans: a cohort of brain-sized pairs, one large pair, a haze, and the runners.

python benchmarks/scans.py                     all of it, with a dozen pairs
python benchmarks/scans.py --pairs 1000        the cohort as it is claimed
python benchmarks/scans.py --shape 64 64 60    the memory of one pair, printed alone
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from _measure import store

from softoverlap.app.cohort import (
    DaskRunner,
    ProcessPool,
    ScorePair,
    ScoreSettings,
    find_pairs,
    score_case,
    score_cohort,
    serial,
)
from softoverlap.app.cohort.loading import load_masks
from softoverlap.images import save_nifti

BRAIN = (192, 256, 192)
LARGE = (512, 512, 600)
SMALL = (128, 128, 64)
WORKERS = 2
DIFFERENT = 24  # pairs; more are copies of these
SPARE_BYTES = 0.8e9  # Python, PyTorch and MONAI


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--shape", type=int, nargs=3)
    parser.add_argument("--pair", type=Path, nargs=2, help="score this pair, print the peak")
    options = parser.parse_args()
    if options.pair:
        print(json.dumps(peak_of(*options.pair)))
    elif options.shape:
        print(json.dumps(one_pair(options.shape)))
    else:
        figures = {
            "fast_packages": [name for name in ("cc3d", "edt") if find_spec(name)],
            "cohort": {kind: cohort(kind, options.pairs) for kind in ("uint8", "float32")},
            "runners": runners(),
            "large": one_pair(LARGE),
            "haze": haze(),
        }
        store("scans", "cpu", figures)


def lesions(shape: Sequence[int], seed: int, count: int) -> torch.Tensor:
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


def write_pair(
    folder: Path, case: str, shape: Sequence[int], seed: int, count: int = 40, kind: str = "float32"
) -> None:
    """A truth, and a prediction that is one voxel off and a little less sure."""
    truth = lesions(shape, seed, count)
    for name, mask in (("truth", truth), ("pred", 0.9 * truth.roll(1, dims=0))):
        (folder / name).mkdir(parents=True, exist_ok=True)
        stored = mask >= 0.5 if kind == "uint8" else mask
        save_nifti(folder / name / f"{case}.nii.gz", stored, torch.eye(4))


def cohort(kind: str, count: int) -> dict[str, Any]:
    """Seconds and core-seconds a pair of 20 lesions with two workers, from files to tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(min(count, DIFFERENT)):
            write_pair(folder, f"case-{number:04d}", BRAIN, number, count=20, kind=kind)
        for number, side in itertools.product(range(DIFFERENT, count), ("truth", "pred")):
            place = folder / side / f"case-{number % DIFFERENT:04d}.nii.gz"
            shutil.copy(place, place.with_name(f"case-{number:04d}.nii.gz"))
        pairs = find_pairs(folder / "pred", folder / "truth").pairs
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begun, times = time.perf_counter(), []
        score_cohort(
            pairs, folder / "results", runner=ProcessPool(WORKERS),
            progress=lambda _: times.append(time.perf_counter()),
        )  # fmt: skip
        seconds = time.perf_counter() - begun
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        read, score = read_and_score(pairs[0])
    cores = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    steady = (times[-1] - times[0]) / max(1, len(times) - 1)
    figures = {
        "pairs": count,
        "shape": BRAIN,
        "workers": WORKERS,
        "seconds": seconds,
        "seconds_a_pair": steady,
        "core_seconds_a_pair_with_start": cores / count,
        "read_seconds_alone": read,
        "score_seconds_alone": score,
        "peak_bytes_of_a_worker": 1024 * after.ru_maxrss,
    }
    print(
        f"{count} pairs of {kind}: {seconds:.1f} s, {steady:.3f} s a pair from the first result "
        f"on, {cores / count:.3f} core-seconds a pair; alone {read:.3f} s to read and "
        f"{score:.3f} s to score",
        flush=True,
    )
    return figures


def read_and_score(pair: ScorePair, turns: int = 5) -> tuple[float, float]:
    """The least seconds that reading takes, and the rest, with one thread in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    reads, alls = [], []
    for _ in range(turns):
        begun = time.perf_counter()
        load_masks(pair.pred, pair.truth, ScoreSettings())
        reads.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        score_case(pair)
        alls.append(time.perf_counter() - begun)
    torch.set_num_threads(threads)
    return min(reads), min(alls) - min(reads)


def runners(scans: int = 96) -> dict[str, object]:
    """Seconds of a whole run, and scans a second from the first result to the last."""
    kinds = {
        "serial": serial,
        f"pool_{WORKERS}": ProcessPool(WORKERS),
        f"dask_{WORKERS}": DaskRunner(f"local:{WORKERS}"),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(scans):
            write_pair(folder, f"case-{number:03d}", SMALL, number)
        pairs = find_pairs(folder / "pred", folder / "truth").pairs
        figures = {}
        for label, runner in kinds.items():
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
            print(f"{label}: {figures[label]['scans_a_second']:.2f} scans a second", flush=True)
        return {"scans": scans, "shape": SMALL, "runs": figures}


def one_pair(shape: Sequence[int]) -> dict[str, object]:
    """Peak memory of scoring one pair in a process of its own, and the bound that it must keep."""
    with tempfile.TemporaryDirectory() as name:
        write_pair(Path(name), "large", shape, 0)
        found = in_process(Path(name), "large")
    both = 2 * 4 * torch.Size(shape).numel()
    print(
        f"a pair of {'×'.join(map(str, shape))}: {found['seconds']:.1f} s, "
        f"{found['peak_bytes'] / both:.2f} times both volumes",
        flush=True,
    )
    return {
        "shape": list(shape),
        "bound_bytes": 2 * both + SPARE_BYTES,
        "volumes_bytes": both,
    } | found


def haze(shape: Sequence[int] = BRAIN) -> dict[str, object]:
    """Volumes of float32 that a prediction takes which is above the halo everywhere."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pair(folder, "haze", shape, 0, count=20)
        hazy = (0.9 * lesions(shape, 0, 20).roll(1, dims=0)).clamp(min=0.05)
        save_nifti(folder / "pred" / "haze.nii.gz", hazy, torch.eye(4))
        found = in_process(folder, "haze")
    volumes = (found["peak_bytes"] - found["start_bytes"]) / (4 * torch.Size(shape).numel())
    print(f"a haze: {found['seconds']:.1f} s, {volumes:.1f} volumes with both masks", flush=True)
    return {"shape": list(shape), "volumes_with_both_masks": volumes} | found


def in_process(folder: Path, case: str) -> dict[str, float]:
    """What `peak_of` finds in a process of its own."""
    paths = [str(folder / side / f"{case}.nii.gz") for side in ("pred", "truth")]
    command = [sys.executable, __file__, "--pair", *paths]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(output.splitlines()[-1])


def peak_of(pred: Path, truth: Path) -> dict[str, float]:
    """Score a pair; resident memory before and at its highest (Linux), and the seconds.

    A small pair comes first, since what is imported for it belongs to no scan.
    """
    with tempfile.TemporaryDirectory() as name:
        write_pair(Path(name), "small", (32, 32, 32), 0, count=2)
        paths = [Path(name) / side / "small.nii.gz" for side in ("pred", "truth")]
        score_case(ScorePair("small", paths[0], (paths[1],)))
    start = status("VmRSS")
    begun = time.perf_counter()
    row = score_case(ScorePair("large", pred, (truth,))).rows[0]
    seconds = time.perf_counter() - begun
    return {
        "start_bytes": start,
        "peak_bytes": status("VmHWM"),
        "seconds": seconds,
        "soft_dice": row["soft_dice"],
    }


def status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


if __name__ == "__main__":
    main()
