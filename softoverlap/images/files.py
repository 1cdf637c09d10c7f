"""Files that appear whole or not at all, and replace none by mistake."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well.

    The temporary name starts with a dot and keeps the suffix, so that writers which look at the
    suffix work, and readers of the folder pass it by. It is random, since processes of two
    containers that share a folder may have one number. If the block raises, nothing is left.

    Args:
        path: Where the finished file shall be; an existing file is replaced in one step.

    Yields:
        The path to write to.

    Raises:
        FileNotFoundError: If the folder of `path` does not exist.

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
    finally:
        unfinished.unlink(missing_ok=True)


def check_written(written: Iterable[Path], read: Iterable[Path], *, overwrite: bool) -> None:
    """No input is ever replaced, an earlier result only where that is asked for.

    Args:
        written: Files that will be written.
        read: Files that are read.
        overwrite: Whether earlier results may be replaced.

    Raises:
        FileExistsError: If one would be replaced.

    Examples:
        >>> check_written([Path("scan.nii")], [Path("scan.nii")], overwrite=True)
        Traceback (most recent call last):
        FileExistsError: scan.nii is read and must not be replaced by a result
    """
    sources = {path.resolve() for path in read}
    for path in written:
        if path.resolve() in sources:
            raise FileExistsError(f"{path} is read and must not be replaced by a result")
        if path.exists() and not overwrite:
            raise FileExistsError(
                f"{path} must not exist yet: pass `overwrite=True` or choose another output"
            )
