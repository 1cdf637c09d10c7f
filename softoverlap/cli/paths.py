"""Which files a command reads, and which it may write."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path


def find_sources(
    sources: Sequence[str], suffixes: Sequence[str], what: str, *, without: Sequence[str] = ()
) -> list[Path]:
    """Files that are named, and those of folders and patterns with one of the suffixes; each once.

    A file that is named need not exist: it fails by itself, and the others go on.
    """
    found: dict[Path, Path] = {}
    for source in sources:
        for path in _matches(source, tuple(suffixes), tuple(without), what):
            found.setdefault(path.resolve(), path)
    return list(found.values())


def _matches(
    source: str, suffixes: tuple[str, ...], without: tuple[str, ...], what: str
) -> list[Path]:
    path, is_pattern = Path(source), glob.has_magic(source)
    if path.is_file() or not (path.is_dir() or is_pattern):
        return [path]
    files = path.iterdir() if path.is_dir() else map(Path, glob.glob(source))
    fits = [file for file in files if file.is_file() and file.name.lower().endswith(suffixes)]
    kept = [f for f in fits if not (f.name.startswith(".") or f.name.lower().endswith(without))]
    if not kept:
        raise FileNotFoundError(
            f"{what} must be files ending in {' or '.join(suffixes)}, found none in {source}"
        )
    return sorted(kept)


def check_written(written: Iterable[Path], read: Iterable[Path], *, overwrite: bool) -> None:
    """No input is ever replaced, an earlier result only where that is asked for."""
    sources = {path.resolve() for path in read}
    for path in written:
        if path.resolve() in sources:
            raise FileExistsError(f"{path} is read and must not be replaced by a result")
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} must not exist yet: pass --overwrite or another output")


def check_names(paths: Sequence[Path], name: Callable[[Path], str], what: str) -> None:
    """No two files would share the name of a result."""
    seen: dict[str, Path] = {}
    for path in paths:
        other = seen.setdefault(name(path), path)
        if other != path:
            raise ValueError(f"{what} must have names of their own, got {other} and {path}")
