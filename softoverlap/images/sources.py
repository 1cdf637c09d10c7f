"""From files, folders and patterns to a list of files."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from softoverlap._checks import refusal
from softoverlap.images._dicom import is_dicom
from softoverlap.images.images import is_image_name


def find_files(
    sources: Sequence[str | os.PathLike[str]],
    suffixes: Sequence[str],
    what: str,
    *,
    without: Sequence[str] = (),
) -> list[Path]:
    """Named files, and those of folders and patterns with one of the suffixes; each once.

    A named file need not exist: reading it fails later, without stopping the others. A folder with
    DICOM slices and no such files counts as one file.

    Args:
        sources: Files, folders (without subfolders) and patterns such as `"scans/*_flair.nii.gz"`.
        suffixes: Suffixes of files in folders and patterns, in lower or upper case.
        what: The argument of the sources, for messages.
        without: Suffixes to skip.

    Returns:
        Files in the order of the sources, those of one source by name.

    Raises:
        FileNotFoundError: If a folder or a pattern has no such file.

    Examples:
        >>> find_files(["scans/*.nii"], [".nii"], "images")
        Traceback (most recent call last):
        FileNotFoundError: images must be files ending in .nii, found none in scans/*.nii
    """
    files: dict[Path, Path] = {}
    for source in sources:
        for path in _matches(os.fspath(source), tuple(suffixes), tuple(without), what):
            files.setdefault(Path(os.path.realpath(path.parent), path.name), path)
    return list(files.values())


def is_dangling(path: Path) -> bool:
    """Whether it is a link whose target is missing, such as a file that DataLad did not fetch.

    Examples:
        >>> is_dangling(Path("gone.nii"))
        False
    """
    return path.is_symlink() and not path.exists()


def is_dicom_folder(path: Path) -> bool:
    """Whether a folder directly contains DICOM slices, and no other image."""
    if not path.is_dir():
        return False
    files = [file for file in path.iterdir() if file.is_file()]
    return not any(map(is_image_name, files)) and any(map(is_dicom, files))


def check_names(paths: Sequence[Path], name: Callable[[Path], str], what: str) -> None:
    """Check that no two files would share the name of a result.

    Raises:
        ValueError: If two do.

    Examples:
        >>> check_names([Path("a/scan.nii"), Path("b/scan.nii")], lambda path: path.stem, "images")
        Traceback (most recent call last):
        ValueError: images must have different names, got a/scan.nii and b/scan.nii
    """
    seen: dict[str, Path] = {}
    for path in paths:
        other = seen.setdefault(name(path), path)
        if other != path:
            raise refusal(what, f"must have different names, got {other} and {path}")


def _matches(
    source: str, suffixes: tuple[str, ...], without: tuple[str, ...], what: str
) -> list[Path]:
    path = Path(source)
    is_pattern = glob.has_magic(source) and not path.exists()
    if not (path.is_dir() or is_pattern):
        return [path]
    files = path.iterdir() if path.is_dir() else map(Path, glob.glob(source))
    there = (file for file in files if not file.is_dir())  # reading a pipe or a link names it
    fits = [file for file in there if file.name.lower().endswith(suffixes)]
    kept = [f for f in fits if not (f.name.startswith(".") or f.name.lower().endswith(without))]
    if not kept and is_dicom_folder(path):
        return [path]
    if not kept:
        complaint = f"must be files ending in {', '.join(suffixes)}, found none in {source}"
        raise refusal(what, complaint, FileNotFoundError)
    return sorted(kept)
