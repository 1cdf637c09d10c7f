"""How much memory and time a file may take: known before anything is allocated."""

from __future__ import annotations

import contextlib
import math
import os
import re
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path

from softoverlap._checks import refusal

READ_TIMEOUT = 60.0
"""Seconds that reading one file may take by default."""

DEFLATE_MOST = 1040
"""Times that deflate can shrink anything."""

MOST_BEHIND = 1 << 24
"""Bytes that may follow the values in a compressed stream; more is no image but a bomb."""

_SHARE = 4
"""By default a file may take a fourth of the memory: a score holds several volumes at a time."""
_LEAST = 1 << 30
_UNKNOWN = 4 << 30  # where the system does not say how much memory there is
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30, "TI": 1 << 40}
_SIZE = re.compile(r"\s*(\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})\s*([KMGT]I?B?|B)\s*", re.IGNORECASE)
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class ReadLimits:
    """What reading one file may take.

    Args:
        timeout: Seconds for formats that are read in a process of their own (NRRD, MetaImage,
            DICOM).
        max_memory: Bytes for the values of one file, as stored and as returned.

    Raises:
        ValueError: If a number is not positive.

    Examples:
        >>> ReadLimits().timeout
        60.0
    """

    timeout: float | int = READ_TIMEOUT
    max_memory: int = field(default_factory=lambda: default_memory())

    def __post_init__(self) -> None:
        if not 0 < self.timeout < math.inf:
            raise refusal("read_timeout", f"must be seconds above 0, got {self.timeout!r}")
        if self.max_memory < 1:
            raise refusal("max_memory", f"must be above 0, got {self.max_memory!r}")


_own: ContextVar[ReadLimits | None] = ContextVar("read_limits", default=None)
"""The limits of the block that a thread or a task is in."""

_of_main: ReadLimits | None = None
"""Those of the main thread's block, for threads that have none of their own."""


def current_limits() -> ReadLimits:
    """The limits that hold now.

    Examples:
        >>> with read_limits(max_memory="8GB"):
        ...     current_limits().max_memory
        8000000000
    """
    return _own.get() or _of_main or ReadLimits()


@contextlib.contextmanager
def read_limits(
    *, read_timeout: float | int | None = None, max_memory: int | str | None = None
) -> Iterator[ReadLimits]:
    """Within the block, all images and files of boxes are read within these limits.

    They hold for the thread that enters the block. Those of the main thread hold for all threads
    that are in no block of their own, such as those of a pool.

    Args:
        read_timeout: Seconds that one file may take; unchanged if None.
        max_memory: Bytes that one file may take, or words such as `"8GB"`; unchanged if None.

    Yields:
        The limits.

    Raises:
        ValueError: If a limit is not positive, or not a size.

    Examples:
        >>> with read_limits(read_timeout=5, max_memory="2 GiB") as limits:
        ...     limits
        ReadLimits(timeout=5, max_memory=2147483648)
    """
    global _of_main
    now, is_main = current_limits(), threading.current_thread() is threading.main_thread()
    limits = ReadLimits(
        now.timeout if read_timeout is None else read_timeout,
        now.max_memory if max_memory is None else memory_size(max_memory),
    )
    before, own = _of_main, _own.set(limits)
    if is_main:
        _of_main = limits
    try:
        yield limits
    finally:
        _own.reset(own)
        if is_main:
            _of_main = before


def memory_size(size: int | str) -> int:
    """A number of bytes from words.

    Args:
        size: Bytes, or text, with a unit: B, kB, MB, GB, TB, KiB, MiB, GiB, TiB.

    Returns:
        Bytes, at least 1.

    Raises:
        ValueError: If it is no such size.

    Examples:
        >>> memory_size("8GB"), memory_size("1.5 GiB"), memory_size("500M")
        (8000000000, 1610612736, 500000000)
    """
    match = _SIZE.fullmatch(f"{size}B" if isinstance(size, int) else size)
    unit = "" if match is None else match[2].upper().removesuffix("B")
    factor = {**_UNITS, **_BINARY}.get(unit)
    bytes_ = 0 if match is None or factor is None else int(Fraction(match[1]) * factor)
    if bytes_ < 1:
        shown = f"{size!r}" if len(str(size)) <= 60 else f"{str(size)[:60]!r}…"
        raise refusal(
            "max_memory", f"must be a size with a unit, such as 8GB or 500MB, got {shown}"
        )
    return bytes_


def check_memory(path: Path | str, needed: int) -> None:
    """A file may be read if it takes no more memory than the limit.

    Raises:
        ValueError: If it takes more. The message has the file, both numbers and the option.

    Examples:
        >>> with read_limits(max_memory="1GB"):
        ...     check_memory("scan.nrrd", 3 * 10**9)
        Traceback (most recent call last):
        ValueError: scan.nrrd needs 3 GB of memory, above the limit of 1 GB: raise it with ...
    """
    limit = current_limits().max_memory
    if needed > limit:
        raise ValueError(
            f"{path} needs {in_words(needed)} of memory, above the limit of {in_words(limit)}: "
            "raise it with `max_memory=`, if the file is what it should be"
        )


def in_words(size: int) -> str:
    """A number of bytes with three digits and a unit.

    Examples:
        >>> in_words(2_700_000_000), in_words(999_600_000), in_words(999)
        ('2.7 GB', '1 GB', '999 bytes')
    """
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= 0.9995 * factor:  # what rounds to 1000 of a unit is 1 of the next
            return f"{size / factor:.3g} {unit}" if size < 999.5 * factor else f"{size:.2e} bytes"
    return f"{size} bytes"


@cache
def default_memory() -> int:
    """A fourth of the memory of this machine, or of its container; at least 1 GiB.

    Examples:
        >>> default_memory() >= 1 << 30
        True
    """
    known = [size for size in (_physical(), *map(_cgroup, _CGROUPS)) if size]
    return max(min(known) // _SHARE, _LEAST) if known else _UNKNOWN


def _physical() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def _cgroup(path: str) -> int | None:
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):  # no such file, or "max"
        return None
