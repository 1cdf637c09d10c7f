"""All calls whose values are frozen, and the command that writes the values anew:

    python -m tests.frozen.calls --write

A key is `name/variant`; the name is the public one of the time when it was frozen. A value is
written anew only for a change that is wanted: one that a line of CHANGELOG.md names. Run the
command without `--write` to see which values differ.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from tests.frozen import of_cohort, of_data, of_detection, of_losses, of_metrics, of_overlaps
from tests.frozen.store import TOLERANCES, differences, plain, read, write

ROOMS = (of_overlaps, of_losses, of_metrics, of_detection, of_data, of_cohort)
ENTRIES: dict[str, Callable[[], Any]] = {
    key: call for room in ROOMS for key, call in room.entries().items()
}

FLOAT32_INSIDE = (
    "SoftRetinaNetDetector",
    "ThresholdedHausdorffMetric",
    "ThresholdedSurfaceDiceMetric",
    "compute_thresholded_hausdorff",
    "compute_thresholded_surface_dice",
)
"""What goes through float32 on the way, whatever comes in: the detector's boxes, distances."""


def made(key: str) -> Any:
    """What the call gives now, as it would be stored."""
    return plain(ENTRIES[key]())


def changes(key: str, kept: Any) -> list[str]:
    """Where the value differs from the stored one, by more than its type allows."""
    single = "float32" in key or key.split("/")[0] in FLOAT32_INSIDE
    return differences(kept, made(key), TOLERANCES["float32" if single else "float64"])


def main(arguments: list[str]) -> int:
    """Write all values, or show what differs."""
    if arguments == ["--write"]:
        write({key: made(key) for key in ENTRIES})
        return 0
    kept = read()
    told = [f"{key}: {line}" for key in ENTRIES for line in changes(key, kept.get(key))]
    sys.stdout.write("".join(f"{line}\n" for line in told) or "nothing differs\n")
    return int(bool(told))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
