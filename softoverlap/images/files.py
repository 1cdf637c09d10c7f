"""Files written completely or not at all, which never replace others by mistake; broken links."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path next to `path`, which replaces it when the block ends without error.

    The temporary name starts with a dot, so that readers of the folder skip it, and keeps the
    suffix, so that writers which use it work. It is random, since processes in two containers that
    share a folder may have the same number. If the block raises, nothing is left.

    Args:
        path: The finished file; an existing one is replaced in one step.

    Yields:
        The path to write to.

    Raises:
        FileNotFoundError: If the folder of `path` does not exist.
        OSError: As the system says, such as that the disk is full; it names `path`.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with whole_file(folder / "note.txt") as unfinished:
        ...     _ = unfinished.write_text("done")
        >>> [file.name for file in folder.iterdir()]
        ['note.txt']
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"the folder of {path} must exist, found no {path.parent}")
    unfinished = path.with_name(f".{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())  # else a crash may leave the name without the content
        os.replace(unfinished, path)
    except OSError as error:
        if error.errno is None or error.filename not in (None, unfinished, str(unfinished)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        unfinished.unlink(missing_ok=True)


def check_written(written: Iterable[Path], read: Iterable[Path], *, overwrite: bool) -> None:
    """Check that no input is replaced, and an earlier result only if `overwrite` allows it.

    Args:
        written: Files to write.
        read: Files to read.
        overwrite: Whether earlier results may be replaced.

    Raises:
        FileExistsError: If a file would be replaced.

    Examples:
        >>> check_written([Path("scan.nii")], [Path("scan.nii")], overwrite=True)
        Traceback (most recent call last):
        FileExistsError: scan.nii is read and must not be replaced by a result
    """
    sources = set(map(os.path.realpath, read))
    for path in written:
        if os.path.realpath(path) in sources:
            raise FileExistsError(f"{path} is read and must not be replaced by a result")
        if path.exists() and not overwrite:
            raise FileExistsError(
                f"{path} must not exist yet: pass `overwrite=True` or choose another output"
            )


def is_dangling(path: Path) -> bool:
    """Whether it is a link whose target is missing, such as a file that DataLad did not fetch.

    Examples:
        >>> is_dangling(Path("gone.nii"))
        False
    """
    return path.is_symlink() and not path.exists()


def link_fault(path: Path) -> str:
    """What is wrong with a link that leads to no file, in words.

    Examples:
        >>> link_fault(Path("gone.nii"))
        'a link whose target is missing'
    """
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "a link that leads to itself"
    return "a link whose target is missing"
