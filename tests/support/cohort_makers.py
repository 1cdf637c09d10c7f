"""Small cohorts on disk, and functions that score in ways that go wrong; processes import them."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import torch

from softoverlap.app.cohort import CaseResult, ScorePair, ScoreSettings, find_pairs
from softoverlap.app.cohort.cases import score_safely
from softoverlap.images import save_nifti

SHAPE = (14, 12, 10)
SETTINGS = ScoreSettings()


def masks(seed, shape=SHAPE):
    """A soft truth with two lesions and a prediction that is somewhat like it."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.zeros(shape)
    truth[1:5, 2:5, 2:4] = 0.8
    truth[9:12, 6:10, 5:8] = 0.6
    noise = 0.4 * torch.randn(shape, generator=generator)
    return (truth + noise * (truth > 0)).clamp(0, 1), truth


def write_pair(folder, case, pred, truth, affine=None):
    for name, mask in (("pred", pred), ("truth", truth)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        save_nifti(folder / name / f"{case}.nii.gz", mask, torch.eye(4))
    if affine is not None:
        save_nifti(folder / "pred" / f"{case}.nii.gz", pred, affine)


def write_cohort(folder, count):
    """Good cases, `case-000` on."""
    for number in range(count):
        write_pair(folder, f"case-{number:03d}", *masks(number))
    return folder


def spoil(folder):
    """Bad cases among them; what is said of each."""
    truncated = folder / "pred" / "case-001.nii.gz"
    truncated.write_bytes(truncated.read_bytes()[:200])
    (folder / "pred" / "case-002.nii.gz").write_bytes(b"no image at all")
    (folder / "pred" / "case-003.nii.gz").unlink()
    (folder / "truth" / "case-004.nii.gz").unlink()
    pred, truth = masks(5)
    shift = torch.eye(4)
    shift[0, 3] = 10
    write_pair(folder, "case-005", pred, truth, shift)
    write_pair(folder, "case-006", (3 * truth).round(), truth)
    write_pair(folder, "case-007", pred[:-1], truth)
    write_pair(folder, "case-008", 5 * pred - 2, truth)
    (folder / "truth" / "case-009.nii.gz").write_bytes(b"")
    write_pair(folder, "case-010", 0 * pred, truth)  # empty masks are normal
    write_pair(folder, "case-011", 0 * pred, 0 * truth)
    return {
        "case-001": "must be a readable NIfTI file",
        "case-002": "must be a readable NIfTI file",
        "case-003": "no prediction",
        "case-004": "no truth",
        "case-005": "lies up to 10 voxels from the grid",
        "case-006": "look like labels",
        "case-007": "must have the shape",
        "case-008": "must hold probabilities",
        "case-009": "must be a readable NIfTI file",
    }


def pairs_of(folder):
    return find_pairs(folder / "pred", folder / "truth").pairs


def made_up(count):
    """Cases without files, for scores that do not look."""
    return [ScorePair(f"case-{n:03d}", Path("a"), (Path("b"),)) for n in range(count)]


def easy_score(pair):
    return CaseResult(pair.case, [{"case": pair.case, "soft_dice": 0.5}])


def poison_score(pair):
    """The process that scores the case `poison` is killed, every time."""
    if pair.case == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    return easy_score(pair)


def _recording(pair, folder, pause):
    """Score, and leave the process's id behind."""
    (folder / str(os.getpid())).touch()
    time.sleep(pause)
    return score_safely(pair, SETTINGS)


def large_score(pair, folder):
    """A result that no pipe takes at once, so that its process waits until it is read."""
    folder.mkdir(exist_ok=True)
    (folder / str(os.getpid())).touch()
    return CaseResult(pair.case, [{"case": pair.case, "words": "x" * 8_000_000}])


def lacks_a_module(pair):
    raise ModuleNotFoundError("no module named softoverlap")


class EndsItsProcess:
    """What cannot be sent: reading it ends the process."""

    def __reduce__(self):
        return os._exit, (3,)


def recording_score(folder, pause=0.0):
    folder.mkdir(exist_ok=True)
    return partial(_recording, folder=folder, pause=pause)
