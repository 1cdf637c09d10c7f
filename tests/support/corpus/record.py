"""What is on disk for one damaged file, and the damages that suit any kind of bytes."""

from __future__ import annotations

import os
import random
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MEBIBYTE = 1 << 20
GRID = (12, 10, 8)
"""Voxels of every image of the corpus, unless its damage says otherwise."""

AFFINE = ((1.0, 0.0, 0.0, -5.0), (0.0, 1.2, 0.0, 7.0), (0.0, 0.0, 2.5, 3.0), (0.0, 0.0, 0.0, 1.0))
"""Voxel indices to RAS mm, of every NIfTI file and of all boxes."""


@dataclass(frozen=True)
class Link:
    """A symbolic link to a place, which need not exist."""

    target: str


@dataclass(frozen=True)
class Folder:
    """A folder without a file."""


@dataclass(frozen=True)
class Pipe:
    """A named pipe that nobody writes to: opening it waits for ever."""


Content = bytes | Link | Folder | Pipe


@dataclass(frozen=True)
class Damaged:
    """A damaged file, or a folder of slices, with all that lies beside it.

    Args:
        name: The file or folder that a command is told.
        files: What is on disk, by path below the folder of the corpus.
        refused: Whether a reader must refuse it: whatever it read would be wrong.
    """

    name: str
    files: Mapping[str, Content]
    refused: bool = False

    def write(self, folder: Path) -> Path:
        """Put all files there."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif isinstance(content, Link):
                path.symlink_to(content.target)
            elif isinstance(content, Folder):
                path.mkdir()
            else:
                os.mkfifo(path)
        return folder / self.name


def damaged(what: str, suffix: str, content: Content, **beside: Content) -> Damaged:
    """One file; `beside` holds the content of others with the same name, by suffix."""
    stem = slug(what)
    others = {f"{stem}.{end}": inside for end, inside in beside.items()}
    return Damaged(f"{stem}{suffix}", {f"{stem}{suffix}": content, **others}, is_refused(stem))


_REFUSED = re.compile(
    r".*cut-at-"  # half of a file
    r"|.*key-twice$"
    r"|packed-(cut|without|wrong|not|of-half|of-no-size|of-size-nothing|gigabytes)"
    r"|list-of-(nothing|bytes|files|too-few)"
    r"|series-(one|all)-002800(10|11|30)-(missing|empty|wrong)"  # rows, columns, their distances
    r"|series-stack-(of-one|with-a-gap|with-a-slice-twice|that-leans|in-one-place)"
    r"|.*(declares|holds)-gigabytes|.*(axis|axes)-absurd|.*larger-than-its-file"
)
"""Damages after which whatever is read would be wrong."""


def is_refused(stem: str) -> bool:
    """Whether a reader must refuse the file; of a table cut short, the rows are whole."""
    return bool(_REFUSED.match(stem)) and not stem.startswith("csv")


def slug(words: str) -> str:
    """The words as a name of a file that every program takes."""
    text = re.sub(r"[^a-z0-9]+", "-", words.lower().replace("-", "minus "))
    return text.strip("-")[:60]


def lesion_mask() -> np.ndarray:
    """The mask that every damaged image holds: 0 and 1, two lesions."""
    mask = np.zeros(GRID, np.uint8)
    mask[2:6, 3:7, 2:5] = mask[8:11, 6:9, 5:7] = 1
    return mask


def cut_short(content: bytes, regions: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
    """The first bytes alone: up to each region, to the middle of the data and to the last byte."""
    ends = {**regions, "middle": (max(regions.values()) + len(content)) // 2}
    ends |= {"last byte": len(content) - 1, "first byte": 1, "nothing": 0}
    for region, end in ends.items():
        yield f"cut at {region}", content[:end]


def flipped(
    content: bytes, end: int, rng: random.Random, count: int
) -> Iterator[tuple[str, bytes]]:
    """One to four random bytes of the first `end` ones replaced."""
    for number in range(count):
        changed = bytearray(content)
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(end)] = rng.randrange(256)
        yield f"random {number:02d}", bytes(changed)


def gzip_of_zeros(mebibytes: int) -> bytes:
    """Gzip members of zeros, a thousandth of their size, without ever holding them."""
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    block = 16
    return (packer.compress(bytes(block * MEBIBYTE)) + packer.flush()) * (mebibytes // block)


def deflated_zeros(mebibytes: int, wbits: int, start: bytes = b"") -> tuple[bytes, int]:
    """One stream of `start` and zeros, and the checksum of its content (CRC-32).

    Args:
        mebibytes: Zeros behind `start`.
        wbits: As for `zlib.compressobj`.
        start: What comes first.
    """
    packer = zlib.compressobj(9, wbits=wbits)
    head = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = bytes(MEBIBYTE)
    block = packer.compress(zeros) + packer.flush(
        zlib.Z_FULL_FLUSH
    )  # may stand any number of times
    checksum = zlib.crc32(start)
    for _ in range(mebibytes):
        checksum = zlib.crc32(zeros, checksum)
    return head + block * mebibytes + packer.flush(), checksum
