"""From files, folders and patterns to a list of files."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from softoverlap._checks import refusal
from softoverlap.images._dicom import is_dicom
from softoverlap.images.files import is_dangling, link_fault
from softoverlap.images.images import DATA_SUFFIXES, IMAGE_SUFFIXES, image_name, is_image_name


@dataclass(frozen=True)
class Unpaired:
    """A file that does not belong to a case.

    Args:
        path: The file.
        reason: Why not, in words.

    Examples:
        >>> Unpaired(Path("masks/sub-01.nii.gz"), "no image of case sub-01").reason
        'no image of case sub-01'
    """

    path: Path
    reason: str


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


def left_out(sources: Sequence[str | os.PathLike[str]]) -> list[Unpaired]:
    """What folders among the sources hold that `find_files` takes for no image, by name.

    Args:
        sources: As of `find_files`; files and patterns leave nothing out.

    Returns:
        Files and folders, each with a reason.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("a.nii", "a.json", "b.npz"):
        ...     (folder / name).touch()
        >>> [file.path.name for file in left_out([folder])]
        ['b.npz']
    """
    folders = [Path(source) for source in sources if os.path.isdir(source)]
    entries = [sorted(folder.iterdir()) for folder in folders if not is_dicom_folder(folder)]
    return [file for each in entries for file in unread(each, filter(is_image_name, each))]


def unread(paths: Iterable[Path], images: Iterable[Path]) -> list[Unpaired]:
    """What lies beside images and is neither one nor belongs to one.

    Args:
        paths: Entries of folders.
        images: Images of those folders.

    Returns:
        Those that are not read, each with a reason.

    Examples:
        >>> [file.path.name for file in unread([Path("a.json"), Path("b.npz")], [Path("a.nii")])]
        ['b.npz']
    """
    names: dict[Path, set[str]] = {}
    for path in images:
        names.setdefault(path.parent, set()).add(image_name(path))
    reasons = ((path, _why_unread(path, names.get(path.parent, ()))) for path in paths)
    return [Unpaired(path, reason) for path, reason in reasons if reason is not None]


def _why_unread(path: Path, images: Collection[str]) -> str | None:
    """Why an entry is not read as an image, in words, beside images of these names.

    None for an image, for what belongs to one (its values, a .json of its name), for other folders
    and for hidden files.
    """
    name = path.name.lower()
    if name.startswith("."):
        return None
    if is_dangling(path):
        return link_fault(path)
    if path.is_dir():
        return "a folder" if is_image_name(path) and not is_dicom_folder(path) else None
    if path.exists() and not path.is_file():
        return "a pipe or a device"
    if is_image_name(path):
        return None
    if path.suffix.lower() == ".hdr" and path.stem not in images:
        return f"no {path.stem}.img beside it"
    ours = name.endswith(DATA_SUFFIXES) or (path.suffix == ".json" and path.stem in images)
    return None if ours else f"not a file ending in {', '.join(IMAGE_SUFFIXES)}"


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
    there = (file for file in files if file.is_file() or is_dangling(file))
    fits = [file for file in there if file.name.lower().endswith(suffixes)]
    kept = [f for f in fits if not (f.name.startswith(".") or f.name.lower().endswith(without))]
    if not kept and is_dicom_folder(path):
        return [path]
    if not kept:
        complaint = f"must be files ending in {', '.join(suffixes)}, found none in {source}"
        raise refusal(what, complaint, FileNotFoundError)
    return sorted(kept)
