"""Ratios in the stored runs of the benchmarks, whatever shape a script gives its figures.

A figure says what it is by its key: `monai_over_ours`, `crops_over_monai`, `time_over_peer`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

PEERS = {
    "monai": "MONAI",
    "sorted": "a clipper that sorts corners",
    "filling": "filling each box",
    "slicing": "slicing each box out",
    "bare_loop": "a loop over the thresholds",
}
NOT_OURS = ("bare_loop", "monai_loop")  # peers that are compared with each other
_OF_PEER = re.compile(r"(?:(?P<what>.+): )?(?P<peer>\w+)_over_(?P<ours>ours.*)")
_OF_OURS = re.compile(r"(?P<ours>\w+)_over_monai")
_OF_ALL = re.compile(r"(?P<peer>\w+)_over")


@dataclass(frozen=True)
class Ratio:
    """Ours over a peer: time, the spread of its turns, and memory where they are known."""

    what: str
    peer: str
    time: float
    spread: tuple[float, float] | None = None
    memory: float | None = None


def ratios(figures: object, path: tuple[str, ...] = ()) -> Iterator[Ratio]:
    """All ratios of a stored run, in its order; what is compared is said by where it stands."""
    if not isinstance(figures, Mapping):
        return
    if "time_over_peer" in figures:
        yield _of_turns(figures, path)
        return
    for key, value in figures.items():
        found = list(_of_key(key, value, path, _memory(figures)))
        yield from found or ratios(value, (*path, key))


def _of_turns(figures: Mapping[str, Any], path: tuple[str, ...]) -> Ratio:
    """Medians of processes that took turns; a name may say its peer."""
    what, _, peer = ", ".join(path).partition(", against ")
    return Ratio(
        what,
        peer or figures["peer"]["case"],
        figures["time_over_peer"],
        tuple(figures["time_over_peer_min_max"]),
        figures.get("memory_over_peer"),
    )


def _memory(figures: Mapping[str, Any]) -> float | None:
    """Ours over the peer's, where both are said as multiples of the output."""
    both = figures.get("peak_memory_over_output")
    return both and both["ours"] / both["monai"]


def _of_key(key: str, value: Any, path: tuple[str, ...], memory: float | None) -> Iterator[Ratio]:
    """Of a key that says what is divided by what."""
    if match := _OF_PEER.fullmatch(key):
        case = match["ours"].removeprefix("ours").removeprefix(", ")
        what = ", ".join(filter(None, (*path, match["what"], case)))
        both = value if isinstance(value, Mapping) else {"seconds": value}
        memory = 1 / both["peak_memory"] if "peak_memory" in both else memory
        yield Ratio(what or "ours", _peer(match["peer"]), 1 / both["seconds"], memory=memory)
    elif match := _OF_OURS.fullmatch(key):
        yield Ratio(", ".join((*path, match["ours"].replace("_", " "))), PEERS["monai"], value)
    elif (match := _OF_ALL.fullmatch(key)) and isinstance(value, Mapping):
        for ours, times in value.items():
            if ours not in NOT_OURS:
                what = ", ".join((*path, ours.replace("_", " ")))
                yield Ratio(what, _peer(match["peer"]), 1 / times)


def _peer(name: str) -> str:
    return PEERS.get(name, name.replace("_", " "))
