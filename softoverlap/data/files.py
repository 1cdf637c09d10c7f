"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
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
