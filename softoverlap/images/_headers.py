"""What the headers of MetaImage and NRRD have in common, and what their values must be.

SimpleITK trusts a header: a negative number of axes or a type that the data do not have ends the
process. What is checked before is refused with a reason; whatever passes is still read in a process
of its own.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softoverlap.images.limits import DEFLATE_MOST, MOST_BEHIND, check_memory

LONGEST_HEADER = 1 << 24


@dataclass(frozen=True)
class Layout:
    """What a header says about its values."""

    dtype: str
    values: int
    compressed: bool
    mm: float = 1.0
    """Millimetres of the header's unit of length."""
    wanted: int = 0
    """Bytes of a value that is returned, which count for the memory too."""

    @property
    def needed(self) -> int:
        """Bytes of the values as stored and as returned."""
        return self.stored + self.values * self.wanted

    @property
    def stored(self) -> int:
        """Bytes of the values in memory."""
        return self.values * np.dtype(self.dtype).itemsize


class DamagedError(ValueError):
    """A header that says what cannot be; the message is the reason."""


_NUMBERS = re.compile(rb"[0-9a-zA-Z+\-.,\s]*")  # zlib's and NRRD's text: also nan, inf, hex
_WHOLE = re.compile(rb"[+-]?\d+\.0*")
_LONGEST_NUMBER = 64
_NO_NUMBERS = "values that are not numbers as text, as its encoding says"


def without_size(path: Path, field: str) -> tuple[str, ...]:
    """The note of a header that does not say how large a voxel is."""
    return (f"{path}: its header has no {field}: voxels of 1 mm are taken",)


def check_there(data: Path) -> None:
    """A header names its data file; pipes and devices may never end."""
    try:
        if data.is_file():
            return
    except (ValueError, OSError):  # a NUL in the name, or too many characters
        pass
    name = data.name if len(data.name) < 256 else f"{data.name[:40]}…"
    raise DamagedError(f"no data file {name!r}, which it names: put it into {data.parent}")


def numbered_files(words: Sequence[str], *, default: tuple[int, int]) -> list[str]:
    """Names of the data files `PATTERN MIN MAX STEP`; none of a pattern that we don't follow."""
    if not re.fullmatch(r"[^%]*%0?\d?d[^%]*", words[0]):
        return []
    first, last, step = (
        whole(word, "data file", least=0, most=1 << 20)
        for word in [*words[1:4], *map(str, (*default, 1)[len(words[1:4]) :])]
    )
    return [words[0] % number for number in range(first, last + 1, max(step, 1))]


def check_length(length: int, layout: Layout, data: Path) -> None:
    if length < layout.stored:
        raise DamagedError(
            f"{data.name} holds {max(length, 0)} bytes of values, and its header asks for "
            f"{layout.stored}: it is cut short, or its sizes or its type are wrong"
        )


def check_inflated(length: int, layout: Layout) -> None:
    if layout.stored > length * DEFLATE_MOST:
        raise DamagedError(
            f"{length} compressed bytes of values, too few for the {layout.stored} that its "
            "header asks for"
        )


def check_stream(
    data: Path, start: int, path: Path, layout: Layout, *,
    length: int | None = None, gzip: bool = False, skipped: int = 0,
) -> None:  # fmt: skip
    """Decompress everything and drop it: SimpleITK does not look at every checksum.

    Args:
        data: The file with the stream.
        start: Where the stream begins in it.
        path: The file of the header, for messages.
        layout: What the stream holds.
        length: Bytes of the stream; by default up to the end of the file.
        gzip: Whether it is gzip with any number of members, and not one of zlib or gzip. What
            follows the last member, such as the zeros of a tape, is left alone, as gzip does.
        skipped: Bytes before the values.
    """
    check_memory(path, layout.needed)  # before the time is spent
    wanted = layout.stored + skipped
    try:
        held, ended = _inflated(blocks(data, start, length), wanted + MOST_BEHIND, gzip=gzip)
    except zlib.error as error:
        raise ValueError(f"{path} must hold whole data, got: {error}") from error
    if not ended and held <= wanted + MOST_BEHIND:
        raise ValueError(f"{path} must hold whole data, got a stream that is cut short")
    if not wanted <= held <= wanted + MOST_BEHIND:
        more = "" if ended else "more than "
        raise ValueError(f"{path} must hold {wanted} bytes of values, got {more}{held}")


def _inflated(pieces: Iterable[bytes], most: int, *, gzip: bool) -> tuple[int, bool]:
    """Bytes that a stream holds, up to about `most`, and whether it ends as it should."""
    bits = zlib.MAX_WBITS | (16 if gzip else 32)
    stream, held, rest = zlib.decompressobj(bits), 0, b""
    for piece in pieces:
        rest += piece
        while rest and held <= most:
            if stream.eof:
                if not gzip or rest[:2] not in (b"\x1f", b"\x1f\x8b"):
                    return held, True
                if len(rest) < 2:
                    break
                stream = zlib.decompressobj(bits)
            held += len(stream.decompress(rest, 1 << 24))
            rest = stream.unconsumed_tail or stream.unused_data
    return held, stream.eof


def check_characters(data: Path, start: int, layout: Layout) -> None:
    """Text that can be as many numbers; SimpleITK crashes at other bytes."""
    if data.stat().st_size - start < layout.values:
        raise DamagedError(f"too few characters for {layout.values} numbers")
    for block in blocks(data, start):
        if not _NUMBERS.fullmatch(block):
            raise DamagedError(_NO_NUMBERS)


def check_text(data: Path, start: int, layout: Layout, *, exact: int = 1 << 64) -> None:
    """Numbers as text, which their type can hold: SimpleITK wraps others without a word.

    Whole numbers of more than `exact` are refused: MetaIO reads them as floats.
    """
    check_characters(data, start, layout)
    whole_type = np.dtype(layout.dtype).kind in "iu"
    bounds = np.iinfo(layout.dtype) if whole_type else np.finfo(layout.dtype)
    low, high = max(bounds.min, -exact), min(bounds.max, exact)
    left = layout.values
    for words in _words(blocks(data, start)):
        numbers = [_number(word, whole_type) for word in words[:left]]
        left -= len(numbers)
        if wrong := [n for n in numbers if not low <= n <= high and math.isfinite(n)]:
            raise DamagedError(f"the value {wrong[0]!r:.40}, which {layout.dtype} does not hold")
    if left:
        raise DamagedError(
            f"{layout.values - left} numbers as text, where {layout.values} are needed"
        )


def _words(pieces: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The words of a text; those that are commas alone only part others."""
    rest = b""
    for piece in pieces:
        *words, rest = re.split(rb"\s+", rest + piece)
        yield [word for word in words if word not in (b"", b",")]
        if len(rest) > _LONGEST_NUMBER:
            raise DamagedError(_NO_NUMBERS)
    yield [rest] if rest else []


def _number(word: bytes, whole_type: bool) -> float | int:
    """The number of a word; one with a fraction is none of a whole type."""
    try:
        if len(word) > _LONGEST_NUMBER:
            raise ValueError("no number is so long")
        if not whole_type:
            return float(word)
        return int(word.partition(b".")[0] if _WHOLE.fullmatch(word) else word)
    except ValueError as error:
        shown = word[:40].decode("latin-1")
        kind = "no whole number" if whole_type else "no number"
        raise DamagedError(f"{_NO_NUMBERS}: {shown!r} is {kind}") from error


def blocks(data: Path, start: int, length: int | None = None) -> Iterator[bytes]:
    left = data.stat().st_size if length is None else length
    with data.open("rb") as file:
        file.seek(start)
        while block := file.read(min(1 << 20, left)):
            left -= len(block)
            yield block


def whole(word: str, name: str, *, least: int = 1, most: int = 1 << 40) -> int:
    if not re.fullmatch(r"[+-]?\d{1,13}", word) or not least <= int(word) <= most:
        raise DamagedError(f"{name} {word[:40]}")
    return int(word)


def check_numbers(text: str, name: str, count: int) -> None:
    words: Sequence[str] = text.split()
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise DamagedError(f"{name} {text[:80]}") from error
    if len(numbers) < count or not all(map(math.isfinite, numbers)):
        raise DamagedError(f"{name} {text[:80]}, where {count} finite numbers are needed")
