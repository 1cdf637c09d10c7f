"""NRRD and MetaImage, read by SimpleITK in the reader's process."""

from __future__ import annotations

import SimpleITK


def read_file(path: str, io: str) -> SimpleITK.Image:
    """The image of a file, by one of SimpleITK's readers (`io`), not by the one that it guesses."""
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(path)
    reader.SetImageIO(io)
    try:
        return reader.Execute()
    except RuntimeError as error:
        kind = path.rpartition(".")[2].upper()
        raise ValueError(f"{path} must be a readable {kind} file, got: {reason(error)}") from error


def read_grid(path: str, io: str) -> SimpleITK.ImageFileReader:
    """A reader that knows the grid of a file from its header, and nothing of its values."""
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(path)
    reader.SetImageIO(io)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        kind = path.rpartition(".")[2].upper()
        raise ValueError(f"{path} must be a readable {kind} file, got: {reason(error)}") from error
    return reader


def reason(error: Exception) -> str:
    """The last meaningful line of an exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = lines[-1] if lines else ""
    if not line or line.startswith("Reason:"):  # MetaIO: "Reason: Success"
        return "its header or its data is damaged or cut short"
    return line
