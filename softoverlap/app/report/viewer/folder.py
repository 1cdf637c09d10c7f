"""The viewer as a folder to hand over: it opens by a double click, with the scans inside."""

from __future__ import annotations

import base64
import gzip
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from softoverlap.app.report.viewer.layers import Layer, nifti_bytes
from softoverlap.app.report.viewer.pages import CASES, STATIC, Viewer, page_files
from softoverlap.images import whole_file

MAX_BYTES = 380_000_000
"""A larger volume does not fit in a string of the browser; it can be served."""

_BLOCK = 3 << 20  # a multiple of 3, so that base64 can be written block by block


@dataclass(frozen=True)
class WrittenViewer:
    """What was written.

    Args:
        index: The page to open.
        size: Bytes of the folder.
        failed: Volumes that are not in it, in words.

    Examples:
        >>> WrittenViewer(Path("viewer/index.html"), 10, ()).failed
        ()
    """

    index: Path
    size: int
    failed: tuple[str, ...]


def write_viewer(
    viewer: Viewer,
    output: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> WrittenViewer:
    """Write the viewer with copies of all scans and masks, to be handed over.

    A browser lets no page read files beside it, so that volumes are stored as scripts.

    Args:
        viewer: What to write.
        output: The folder.
        overwrite: Replace an earlier viewer there.
        progress: Called with each volume's name when it is written.

    Returns:
        The page, the size of all, and the volumes that could not be written.

    Raises:
        FileExistsError: If the folder holds anything, unless it is a viewer to overwrite.
        NotADirectoryError: If the folder is a file.

    Examples:
        >>> import tempfile
        >>> written = write_viewer(Viewer((), "nothing"), tempfile.mkdtemp())
        >>> written.index.name, written.failed
        ('index.html', ())
    """
    folder = Path(output)
    _make_room(folder, overwrite=overwrite)
    addresses, failed = {}, {}
    for name, layer in viewer.layers.items():
        try:
            _write_volume(folder / f"{name}.js", name, layer)
            addresses[name] = f"{name}.js"
        except (OSError, ValueError) as error:
            with suppress(OSError):
                (folder / name).parent.rmdir()  # unless another volume of the case is there
            if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
                raise  # a full disk
            failed[name] = str(error)
        if progress is not None:
            progress(name)
    for name, source in page_files().items():
        with whole_file(folder / name) as unfinished:
            unfinished.write_bytes(source.read_bytes())
    with whole_file(folder / CASES) as unfinished:
        unfinished.write_bytes(viewer.listing(addresses, missing=failed))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return WrittenViewer(folder / "index.html", size, tuple(failed.values()))


def _make_room(folder: Path, *, overwrite: bool) -> None:
    """An empty folder; nothing but an earlier viewer is removed."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"the viewer must be a folder, got the file {folder}")
    held = {path.name for path in folder.iterdir()} if folder.exists() else set()
    ours = {*STATIC, CASES, "data"}
    if held - ours or (held and not overwrite):
        other = sorted(held - ours)[:1] or sorted(held)[:1]
        hint = "name another folder" if held - ours else "overwrite it or name another folder"
        raise FileExistsError(f"{folder} must be empty, found {other[0]}: {hint}")
    for name in held:
        shutil.rmtree(folder / name) if name == "data" else (folder / name).unlink()
    folder.mkdir(parents=True, exist_ok=True)


def _write_volume(path: Path, name: str, layer: Layer) -> None:
    """A volume as a script that hands it to the page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as unfinished, unfinished.open("wb") as file:
        file.write(f'softoverlapVolume("{name}", "'.encode())
        length = _write_base64(file, layer)
        file.write(b'");\n')
        if length > MAX_BYTES:
            raise ValueError(
                f"{layer.paths[0]} must be at most {MAX_BYTES / 1e6:g} MB to lie in a page, got "
                f"{length / 1e6:.0f} MB: serve the viewer instead"
            )


def _write_base64(file: IO[bytes], layer: Layer) -> int:
    """The compressed volume; returns its length."""
    plain = layer.plain
    if plain is None or plain.suffix != ".gz":
        content = nifti_bytes(layer) if plain is None else gzip.compress(plain.read_bytes(), 1)
        file.write(base64.b64encode(content))
        return len(content)
    with plain.open("rb") as source:
        while block := source.read(_BLOCK):
            file.write(base64.b64encode(block))
    return plain.stat().st_size
